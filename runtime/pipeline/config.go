package pipeline

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/table"
)

// Config is a `detect` buffer, checked and compiled.
type Config struct {
	Spec      *engine.Spec
	State     string // folder, relative to the working directory
	Shards    int    // per operator; 0: one a core
	BlockRows int    // rows an engine block; 0: the default
	Retries   int    // of a rejected row; 0: the default
	Removed   string // on_removed: "", keep or drop
	Memory    int64  // bytes that keys may take; 0: the default
	Tables    []*table.Source
	Warnings  []match.Problem // what is probably not meant, and stops nothing
	node      *yaml.Node      // it was decoded from
	file      string          // that holds it; "": not known
	plugins   []pluginFile    // in the file's order
	HTTP      string          // host:port where /stats, /metrics, /ready and /live are; "": nowhere

	registered []*yaml.Node         // formats that need a schema registry
	shapes     map[string]*rowShape // of the operators whose rows leave
	leaves     []leaving            // what leaves, by operator and kind
}

// DecodeDetect reads the mapping under `buffer.detect`. It finds every problem, sorted by place; the Config is only good
// without any.
func DecodeDetect(n *yaml.Node) (*Config, []match.Problem) {
	d := newDecoder()
	d.conf.node = n
	d.detect(n)
	if len(d.problems) == 0 {
		d.conf.shapes, d.conf.leaves = d.shapes(), d.leaving()
	}
	return d.conf, d.sorted()
}

func newDecoder() *decoder {
	return &decoder{conf: &Config{Spec: &engine.Spec{Fields: &event.Fields{}}}, nodes: map[string]*source{}}
}

// sorted are the problems by place, each once.
func (d *decoder) sorted() []match.Problem {
	slices.SortStableFunc(d.problems, func(a, b match.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(d.problems)
}

// decoder turns nodes into a Spec and collects what is wrong with them.
type decoder struct {
	conf     *Config
	problems []match.Problem
	nodes    map[string]*source // streams and operators by name
	ops      []*source          // operators in the file's order
	reads    map[string][]event.Field
	formats  map[string]*event.Format // by how they are written
	known    map[string]*known        // tables by name
	running  *Config                  // whose modules and tables are used again; nil: none

	after     []func(spec *engine.Spec) // what is done once all operators have their columns
	stateless bool                      // of a processor
}

func (d *decoder) wrong(n *yaml.Node, format string, args ...any) {
	d.problems = append(d.problems, match.Problem{Line: n.Line, Column: n.Column, Text: fmt.Sprintf(format, args...)})
}

// warn says what stops nothing.
func (d *decoder) warn(n *yaml.Node, format string, args ...any) {
	d.conf.Warnings = append(d.conf.Warnings, match.Problem{Line: n.Line, Column: n.Column, Text: fmt.Sprintf(format, args...)})
}

// entry is a key of a mapping with its value.
type entry struct {
	key, value *yaml.Node
	used       bool
}

// mapping is a mapping whose keys are taken one by one; what is left at the end is unknown.
type mapping struct {
	d       *decoder
	node    *yaml.Node
	what    string
	entries []*entry
	known   []string
}

// mapping reads a mapping; what names it in messages. Duplicate keys are wrong, and nil means that it is no mapping.
func (d *decoder) mapping(n *yaml.Node, what string) *mapping {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.wrong(n, "%s must be a mapping of keys to values, not %s", what, shown(n))
		return nil
	}
	m := &mapping{d: d, node: n, what: what}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if slices.ContainsFunc(m.entries, func(e *entry) bool { return e.key.Value == k.Value }) {
			d.wrong(k, "key %q is there twice in %s; keep one", k.Value, what)
			continue
		}
		m.entries = append(m.entries, &entry{key: k, value: resolve(n.Content[i+1])})
	}
	return m
}

func resolve(n *yaml.Node) *yaml.Node {
	for range 16 {
		if n.Kind != yaml.AliasNode {
			break
		}
		n = n.Alias
	}
	return n
}

func shown(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	case n.Tag == "!!str":
		return "the text " + strconv.Quote(n.Value)
	}
	return n.Value
}

// get takes a key, nil if it is not there.
func (m *mapping) get(name string) *yaml.Node {
	m.known = append(m.known, name)
	for _, e := range m.entries {
		if e.key.Value == name {
			e.used = true
			return e.value
		}
	}
	return nil
}

// need is get for a key that must be there.
func (m *mapping) need(name, hint string) *yaml.Node {
	n := m.get(name)
	if n == nil {
		m.d.wrong(m.node, "%s needs %s: %s", m.what, name, hint)
	}
	return n
}

// later are keys that the documentation knows and this version does not.
func (m *mapping) later(names ...string) {
	for _, name := range names {
		if m.get(name) != nil {
			m.d.wrong(m.key(name), "%s is not in this version yet; leave it out", name)
		}
	}
}

func (m *mapping) key(name string) *yaml.Node {
	for _, e := range m.entries {
		if e.key.Value == name {
			return e.key
		}
	}
	return m.node
}

// done complains about every key that nobody took.
func (m *mapping) done() {
	for _, e := range m.entries {
		if !e.used {
			m.d.wrong(e.key, "unknown key %q in %s%s", e.key.Value, m.what, suggest(e.key.Value, m.known))
		}
	}
}

// suggest names what was perhaps meant, or what there is.
func suggest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if n := distance(name, k); n < least {
			best, least = k, n
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	if len(known) == 0 {
		return ""
	}
	list := slices.Sorted(slices.Values(known))
	return "; there is " + strings.Join(slices.Compact(list), ", ")
}

// distance is the number of letters to insert, delete, replace or swap with a neighbour.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			n := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				n = min(n, rows[i-2][j-2]+1)
			}
			rows[i][j] = n
		}
	}
	return rows[len(a)][len(b)]
}

// Scalars. Each complains about a wrong type and gives the zero value for nil.

func (d *decoder) text(n *yaml.Node, what string) string {
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		d.wrong(n, "%s must be a text, not %s", what, shown(n))
		return ""
	}
	if n.Value == "" {
		d.wrong(n, "%s is empty", what)
	}
	return n.Value
}

func (d *decoder) enum(n *yaml.Node, what, otherwise string, values ...string) string {
	if n == nil {
		return otherwise
	}
	if n.Kind != yaml.ScalarNode || !slices.Contains(values, n.Value) {
		d.wrong(n, "%s must be %s, not %s", what, strings.Join(values, " or "), shown(n))
		return otherwise
	}
	return n.Value
}

func (d *decoder) bool(n *yaml.Node, what string) (v bool) {
	if n != nil && (n.Tag != "!!bool" || n.Decode(&v) != nil) {
		d.wrong(n, "%s must be true or false, not %s", what, shown(n))
	}
	return v
}

func (d *decoder) int(n *yaml.Node, what string, otherwise, low, high int) int {
	if n == nil {
		return otherwise
	}
	var v int
	if n.Tag != "!!int" || n.Decode(&v) != nil || v < low || v > high {
		d.wrong(n, "%s must be a whole number from %d to %d, not %s", what, low, high, shown(n))
		return otherwise
	}
	return v
}

const day = 24 * time.Hour

// spanMax is the longest duration anybody may ask for.
const spanMax = 3650 * day

// spanForm is the form of a duration, however long.
var spanForm = regexp.MustCompile(`^-?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h|d))+$`)

var daysPart = regexp.MustCompile(`^(-?)(\d{1,5})d(.*)$`)

// span reads a duration in ms: 20s, 1h30m, 2d, at least low and at most spanMax.
func (d *decoder) span(n *yaml.Node, what string, otherwise, low time.Duration) int64 {
	if n == nil {
		return otherwise.Milliseconds()
	}
	if n.Kind == yaml.ScalarNode && (n.Tag == "!!int" || n.Tag == "!!float") && n.Value != "0" {
		d.wrong(n, "%s needs a unit: write %ss, %sm or %sh", what, n.Value, n.Value, n.Value)
		return 0
	}
	v, err := parseSpan(n)
	switch {
	case err != nil && spanForm.MatchString(n.Value):
		d.wrong(n, "%s must be from %s to %dd, and %s is beyond any duration", what, spanText(low), spanMax/day, n.Value)
	case err != nil:
		d.wrong(n, "%s must be a duration such as 500ms, 20s, 1h30m or 2d, not %s", what, shown(n))
	case v%time.Millisecond != 0:
		d.wrong(n, "%s must be whole milliseconds, not %s", what, n.Value)
	case v < low || v > spanMax:
		d.wrong(n, "%s must be from %s to %dd, not %s", what, spanText(low), spanMax/day, n.Value)
	default:
		return v.Milliseconds()
	}
	return 0
}

func spanText(v time.Duration) string {
	if v <= -spanMax {
		return fmt.Sprintf("-%dd", spanMax/day)
	}
	return v.String()
}

func parseSpan(n *yaml.Node) (time.Duration, error) {
	if n.Kind != yaml.ScalarNode {
		return 0, fmt.Errorf("no scalar")
	}
	m := daysPart.FindStringSubmatch(n.Value)
	if m == nil {
		return time.ParseDuration(n.Value)
	}
	days, _ := strconv.Atoi(m[2])
	v := time.Duration(days) * day
	if m[3] != "" {
		rest, err := time.ParseDuration(m[3])
		if err != nil || rest < 0 || v > math.MaxInt64-rest {
			return 0, fmt.Errorf("no duration")
		}
		v += rest
	}
	if m[1] != "" {
		v = -v
	}
	return v, nil
}

// list reads a value or a list of them, each by one.
func (d *decoder) list(n *yaml.Node, what string, one func(n *yaml.Node)) {
	switch {
	case n == nil:
	case n.Kind != yaml.SequenceNode:
		one(n)
	case len(n.Content) == 0:
		d.wrong(n, "%s is an empty list", what)
	default:
		for _, x := range n.Content {
			one(resolve(x))
		}
	}
}

func (d *decoder) texts(n *yaml.Node, what string) (out []string) {
	d.list(n, what, func(x *yaml.Node) { out = append(out, d.text(x, what)) })
	return out
}

var nameForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,127}$`)

func (d *decoder) name(n *yaml.Node, what string) string {
	v := d.text(n, what)
	if v != "" && !nameForm.MatchString(v) {
		d.wrong(n, "%s %q must be letters, digits, _ and -, at most 128, and begin with a letter", what, v)
	}
	return v
}

// detect is the top: streams first, then what operators say, then, sources being known, how they work.
func (d *decoder) detect(n *yaml.Node) {
	m := d.mapping(n, "detect")
	if m == nil {
		return
	}
	c := d.conf
	c.Spec.Name = d.name(m.need("name", "a name for this pipeline; results carry it in their ids"), "name")
	c.State = d.text(m.need("state", "a folder for what must not be forgotten, such as ./state/NAME"), "state")
	c.Shards = d.int(m.get("shards"), "shards", 0, 1, 64)
	c.BlockRows = d.int(m.get("block_rows"), "block_rows", 0, 1, 65_536)
	c.Retries = d.int(m.get("retries"), "retries", 0, 1, 1_000_000)
	c.Memory = d.size(m.get("memory"), "memory", memoryLeast, memoryMost)
	c.Removed = d.enum(m.get("on_removed"), "on_removed", "", "keep", "drop")
	c.Spec.LateCount = d.enum(m.get("late"), "late", "rows", "rows", "count") == "count"
	c.HTTP = d.address(m.get("http"), "http")
	outputs := m.get("outputs")
	streams := m.need("streams", "what arrives, by name")
	operators := m.need("operators", "what is worked out, by name")
	tables := m.get("tables")
	deliver := m.get("deliver")
	m.later("id")
	m.done()
	d.tables(tables)
	if streams != nil {
		d.streams(streams)
	}
	if operators != nil {
		d.operators(operators)
	}
	d.outputs(outputs)
	d.deliver(deliver)
	d.keptStreams()
	if n := c.Spec.Fields.Len(); n > fieldsMax {
		d.wrong(m.node, "detect reads and makes %d fields; at most %d may be", n, fieldsMax)
	}
	d.finish()
}

// What `memory` may be.
const (
	memoryLeast = 16 << 20
	memoryMost  = 1 << 40
)

// size reads a number of bytes, 0 if it is not there.
func (d *decoder) size(n *yaml.Node, what string, least, most int64) int64 {
	if n == nil {
		return 0
	}
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, "%s must be a size like 512MiB, not %s", what, shown(n))
		return 0
	}
	size, err := parseSize(what, n.Value, least, most)
	if err != nil {
		d.wrong(n, "%v", err)
	}
	return size
}

// fieldsMax is how many fields a pipeline may have.
const fieldsMax = 10_000

// outputs marks the operators whose rows leave: those that are named, alert, or that nobody reads. A risk adds alerts up, and takes them from nobody.
func (d *decoder) outputs(n *yaml.Node) {
	named := map[string]bool{}
	d.list(n, "outputs", func(x *yaml.Node) {
		name := d.text(x, "outputs")
		s := d.nodes[name]
		if name != "" && (s == nil || s.op == nil) {
			d.wrong(x, "outputs names %q, which is no operator%s", name, suggest(name, d.operatorNames()))
		}
		named[name] = true
	})
	read := map[string]bool{}
	for _, o := range d.ops {
		for _, in := range o.from {
			read[in.Value] = read[in.Value] || o.kind != "risk"
		}
	}
	for _, o := range d.ops {
		o.op.Leaves = named[o.name] || !read[o.name] || o.op.Alert != nil
	}
}

func (d *decoder) operatorNames() (names []string) {
	for _, o := range d.ops {
		names = append(names, o.name)
	}
	return names
}

// finish gives every node its number, fills in what depends on all fields being known, and makes the fingerprints.
func (d *decoder) finish() {
	spec := d.conf.Spec
	if len(d.problems) > 0 {
		return
	}
	for _, name := range []string{"window_start", "window_end", "truncated", "approximate", "merged_into", "matches"} {
		spec.Fields.Add(name)
	}
	at := map[string]int{}
	for i := range spec.Streams {
		s := &spec.Streams[i]
		at[s.Name] = i
		s.Reads = append(slices.Clone(d.reads[s.Name]), s.Time.Field)
		s.Reads = append(s.Reads, s.Where.Fields()...)
		if s.ID.ByField {
			s.Reads = append(s.Reads, s.ID.Field)
		}
		slices.Sort(s.Reads)
		s.Reads = slices.Compact(s.Reads)
	}
	for i := range spec.Streams {
		if s := &spec.Streams[i]; s.ID.Within > 0 {
			o := spec.Once(i)
			o.Fingerprint = s.Name + " " + d.nodes[s.Name].id
			at[s.Name] = len(spec.Streams) + len(spec.Operators)
			spec.Operators = append(spec.Operators, o)
		}
	}
	for _, o := range d.ops {
		at[o.name] = len(spec.Streams) + len(spec.Operators)
		for _, in := range o.from {
			o.op.Inputs = append(o.op.Inputs, at[in.Value])
		}
		o.init(spec)
		o.op.Fingerprint = o.fingerprint(d)
		spec.Operators = append(spec.Operators, *o.op)
	}
	for _, f := range d.after {
		f(spec)
	}
	for i := range spec.Operators { // now that nobody takes columns of others any more
		ownNames(&spec.Operators[i])
	}
}

// ownNames sees to it that nothing in a row is called like one of its columns.
func ownNames(o *engine.Operator) {
	o.Names = alert.Own(o.Names)
	if o.Alert != nil {
		o.Alert.Columns = alert.Own(o.Alert.Columns)
	}
	if o.Plugin != nil {
		for _, r := range o.Plugin.Rules {
			r.Alert.Columns = alert.Own(r.Alert.Columns)
		}
	}
}
