package abi

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// ManifestMax is the largest manifest, in bytes.
const ManifestMax = 64 << 10

// Manifest is what a module says about itself, checked.
type Manifest struct {
	Minor       int
	Name        string
	Version     string
	Title       string
	Description string
	License     string
	Roles       []Role
	Reads       []Read
	Patterns    []Pattern
	When        *When // nil: every row reaches the module
	Limits      Limits
	Keyed       bool  // it has key_by: what it remembers, and its timers, belong to a key
	KeyBy       []int // places in Reads
	State       State
	Wants       []Want
	Rules       []Rule
	Writes      []Write         // columns of a map, the one of an aggregate
	Aggregate   *Aggregate      // of the role aggregate
	Metrics     []string        // counters, by id
	Tables      []string        // that it looks up, by id
	Schema      json.RawMessage // of the configuration, a JSON Schema; nil if the module takes none
}

// Read is a field that the module reads; its column has the index of its place in Reads.
type Read struct {
	Path     string
	Type     Type
	Required bool // rows without it are not delivered
	MaxLen   int  // bytes that the guest gets of it, 0 for no bound
}

// Limits are what the module asks for; the operator's configuration is the ceiling. 0 is the host's default.
type Limits struct {
	MemoryMiB   int
	FuelPerCall int64
	StateKiB    int // a key
}

// Rule is one thing that the module detects.
type Rule struct {
	ID             uint32
	Title          string // {path} is filled from the row
	Description    string
	Severity       string
	RiskScore      int // 0 to 100; -1: by severity
	Attack         []string
	Entities       []Entity
	FalsePositives []string
	References     []string
}

// Entity is a field that names somebody or something.
type Entity struct{ Field, Type, Role string }

// Caps of a manifest's lists and texts.
const (
	readsMax  = 256
	rulesMax  = 1024
	listMax   = 64
	textMax   = 8192
	maxLenMax = 1 << 20
	memoryMax = 1024
	fuelMax   = 1e12

	metricsMax = 64
	tablesMax  = 16
)

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$`)
	versionForm = regexp.MustCompile(`^\d{1,9}\.\d{1,9}\.\d{1,9}([-+][0-9A-Za-z.+-]{1,64})?$`)
	metricForm  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	tableForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,127}$`)
	attackForm  = regexp.MustCompile(`^T\d{4}(\.\d{3})?$`)
	entityTypes = []string{"ip", "user", "host", "hash", "domain", "url", "email", "file", "process", "other"}
)

// ParseManifest reads a manifest: strict JSON whose unknown keys begin with x-. The error is a *ManifestError.
func ParseManifest(src []byte) (*Manifest, error) {
	if len(src) > ManifestMax {
		return nil, locate(src, 0, "the manifest has %d bytes; at most %d", len(src), ManifestMax)
	}
	root, err := parseJSON(src)
	if err != nil {
		return nil, err
	}
	r := &reader{src: src}
	m := r.manifest(root)
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

// reader takes nodes apart and keeps the first fault.
type reader struct {
	src []byte
	err error
}

func (r *reader) wrong(off int, format string, args ...any) {
	if r.err == nil {
		r.err = locate(r.src, off, format, args...)
	}
}

func (r *reader) manifest(n *node) *Manifest {
	m := &Manifest{}
	if !r.object(n, "the manifest") {
		return m
	}
	r.abi(m, r.need(n, "abi", `{"major":1,"minor":0}`))
	if x := r.need(n, "name", "such as acme.encoded-powershell"); x != nil {
		if m.Name = r.text(x, "name", 128); !nameForm.MatchString(m.Name) {
			r.wrong(x.off, "name must be lower-case letters, digits, dots, - and _, and begin and end with a letter or digit; it is %q", m.Name)
		}
	}
	if x := r.need(n, "version", "such as 1.0.0"); x != nil {
		if m.Version = r.text(x, "version", 128); !versionForm.MatchString(m.Version) {
			r.wrong(x.off, "version must be three numbers, such as 1.0.0; it is %q", m.Version)
		}
	}
	m.Title = r.text(n.get("title"), "title", 256)
	m.Description = r.text(n.get("description"), "description", textMax)
	m.License = r.text(n.get("license"), "license", 256)
	r.roles(m, r.need(n, "roles", `["detect"]`))
	r.each(r.need(n, "reads", "the fields that the module reads"), "reads", readsMax, func(x *node) { r.read(m, x) })
	patterns := n.get("patterns")
	r.patterns(m, patterns)
	r.when(m, patterns, n.get("when"))
	r.limits(m, n.get("limits"))
	r.memory(m, n)
	r.want(m, n.get("wants"))
	m.Metrics = r.names(n.get("metrics"), "metrics", metricsMax, metricForm, "lower-case letters, digits and _, at most 64, and begin with a letter")
	m.Tables = r.names(n.get("tables"), "tables", tablesMax, tableForm, "letters, digits, _ and -, at most 128, and begin with a letter")
	r.each(n.get("rules"), "rules", rulesMax, func(x *node) { r.rule(m, x) })
	r.titles(m, n)
	r.role(m, n)
	if x := n.get("config_schema"); x != nil && r.object(x, "config_schema") {
		m.Schema = x.text(r.src)
		x.each(func(*node) {})
	}
	r.later(n)
	r.done(n, "the manifest")
	return m
}

// later are keys whose meaning the contract has and this version does not serve: empty is the same as absent.
func (r *reader) later(n *node) {
	for _, name := range []string{"capabilities", "accepts"} {
		if x := n.get(name); x != nil && x.value != nil && (x.value != json.Delim('[') || len(x.items) > 0) {
			r.wrong(x.off, "%s is not served by this version of the host", name)
		}
	}
}

func (r *reader) abi(m *Manifest, n *node) {
	if n == nil || !r.object(n, "abi") {
		return
	}
	major := r.int(r.need(n, "major", "1"), "major", 0, 1<<30)
	m.Minor = int(r.int(r.need(n, "minor", "0"), "minor", 0, 1<<30))
	r.done(n, "abi")
	if r.err == nil && (major != Major || m.Minor > Minor) {
		r.wrong(n.off, "the module speaks version %d.%d of the contract; this host serves %d.0 to %d.%d", major, m.Minor, Major, Major, Minor)
	}
}

func (r *reader) read(m *Manifest, n *node) {
	if !r.object(n, "an entry of reads") {
		return
	}
	var f Read
	if x := r.need(n, "path", "such as process.command_line"); x != nil {
		if f.Path = r.text(x, "path", 512); f.Path == "" || strings.ContainsAny(f.Path, "\x00\n\r") {
			r.wrong(x.off, "path must be the path of a field; it is %q", f.Path)
		}
		if slices.ContainsFunc(m.Reads, func(o Read) bool { return o.Path == f.Path }) {
			r.wrong(x.off, "%s is read twice", f.Path)
		}
	}
	f.Type = r.columnType(n)
	f.Required = r.bool(n.get("required"), "required")
	if x := n.get("max_len"); x != nil {
		if f.MaxLen = int(r.int(x, "max_len", 1, maxLenMax)); f.Type != UTF8 {
			r.wrong(x.off, "max_len is for utf8; %s is %s", f.Path, f.Type)
		}
	}
	r.done(n, "an entry of reads")
	m.Reads = append(m.Reads, f)
}

func (r *reader) limits(m *Manifest, n *node) {
	if n == nil || !r.object(n, "limits") {
		return
	}
	if x := n.get("memory_mib"); x != nil {
		m.Limits.MemoryMiB = int(r.int(x, "memory_mib", 1, memoryMax))
	}
	if x := n.get("fuel_per_call"); x != nil {
		m.Limits.FuelPerCall = r.int(x, "fuel_per_call", 1, fuelMax)
	}
	if x := n.get("state_kib"); x != nil {
		m.Limits.StateKiB = int(r.int(x, "state_kib", 1, stateMax))
	}
	r.done(n, "limits")
}

func (r *reader) rule(m *Manifest, n *node) {
	if !r.object(n, "a rule") {
		return
	}
	u := Rule{RiskScore: -1, Severity: "medium"}
	if x := r.need(n, "id", "a number from 1"); x != nil {
		u.ID = uint32(r.int(x, "id", 1, 1<<31))
		if slices.ContainsFunc(m.Rules, func(o Rule) bool { return o.ID == u.ID }) {
			r.wrong(x.off, "rule %d is there twice", u.ID)
		}
	}
	u.Title = r.text(r.need(n, "title", "a sentence for people"), "title", 512)
	u.Description = r.text(n.get("description"), "description", textMax)
	if x := n.get("severity"); x != nil {
		if u.Severity = r.text(x, "severity", 32); u.Severity == "" || !slices.Contains(Severities[1:], u.Severity) {
			r.wrong(x.off, "severity must be one of %s; it is %q", strings.Join(Severities[1:], ", "), u.Severity)
		}
	}
	if x := n.get("risk_score"); x != nil {
		u.RiskScore = int(r.int(x, "risk_score", 0, 100))
	}
	r.each(n.get("attack"), "attack", listMax, func(x *node) {
		if v := r.text(x, "attack", 16); attackForm.MatchString(v) {
			u.Attack = append(u.Attack, v)
		} else {
			r.wrong(x.off, "attack must be a technique such as T1059 or T1059.001; it is %q", v)
		}
	})
	r.each(n.get("entities"), "entities", listMax, func(x *node) { r.entity(m, &u, x) })
	u.FalsePositives = r.texts(n.get("false_positives"), "false_positives")
	u.References = r.texts(n.get("references"), "references")
	r.done(n, "a rule")
	m.Rules = append(m.Rules, u)
}

func (r *reader) entity(m *Manifest, u *Rule, n *node) {
	if !r.object(n, "an entity") {
		return
	}
	var e Entity
	if x := r.need(n, "field", "a path of reads"); x != nil {
		if e.Field = r.text(x, "field", 512); !slices.ContainsFunc(m.Reads, func(f Read) bool { return f.Path == e.Field }) {
			r.wrong(x.off, "the entity's field %q is not in reads", e.Field)
		}
	}
	if x := r.need(n, "type", strings.Join(entityTypes, ", ")); x != nil {
		if e.Type = r.text(x, "type", 32); !slices.Contains(entityTypes, e.Type) {
			r.wrong(x.off, "the entity's type must be one of %s; it is %q", strings.Join(entityTypes, ", "), e.Type)
		}
	}
	e.Role = r.text(n.get("role"), "role", 64)
	r.done(n, "an entity")
	u.Entities = append(u.Entities, e)
}

// titles checks the {path} in texts of rules: each a path of reads. Rules may stand before reads in the file.
func (r *reader) titles(m *Manifest, n *node) {
	for i, u := range m.Rules {
		for _, text := range []string{u.Title, u.Description} {
			for _, path := range Holes(text) {
				if !slices.ContainsFunc(m.Reads, func(f Read) bool { return f.Path == path }) {
					r.wrong(n.get("rules").items[i].off, "the text of rule %d names {%s}, which is not in reads; write {{ for a brace", u.ID, path)
				}
			}
		}
	}
}

// Holes returns the paths in braces of a text of a rule; {{ is a brace.
func Holes(text string) (paths []string) {
	text = strings.ReplaceAll(text, "{{", "")
	for {
		_, rest, ok := strings.Cut(text, "{")
		if !ok {
			return paths
		}
		path, rest, _ := strings.Cut(rest, "}")
		paths, text = append(paths, path), rest
	}
}

// The smallest parts. Each takes nil for what is absent.

func (r *reader) object(n *node, what string) bool {
	if n.value != json.Delim('{') {
		r.wrong(n.off, "%s must be an object", what)
		return false
	}
	return true
}

func (n *node) get(name string) *node {
	for i := range n.keys {
		if n.keys[i].name == name {
			n.keys[i].used = true
			return n.keys[i].value
		}
	}
	return nil
}

func (r *reader) need(n *node, name, hint string) *node {
	x := n.get(name)
	if x == nil {
		r.wrong(n.off, "%s is missing: %s", name, hint)
	}
	return x
}

// done complains about keys that nobody took.
func (r *reader) done(n *node, what string) {
	for _, k := range n.keys {
		if !k.used && !strings.HasPrefix(k.name, "x-") {
			r.wrong(k.off, "unknown key %q in %s; keys of your own begin with x-", k.name, what)
		}
	}
}

func (n *node) each(one func(x *node)) {
	for _, x := range n.items {
		one(x)
	}
}

func (r *reader) each(n *node, what string, most int, one func(x *node)) {
	switch {
	case n == nil:
	case n.value != json.Delim('['):
		r.wrong(n.off, "%s must be a list", what)
	case len(n.items) > most:
		r.wrong(n.off, "%s has %d entries; at most %d", what, len(n.items), most)
	default:
		n.each(one)
	}
}

func (r *reader) text(n *node, what string, most int) string {
	if n == nil {
		return ""
	}
	s, ok := n.value.(string)
	switch {
	case !ok:
		r.wrong(n.off, "%s must be a text", what)
	case len(s) > most:
		r.wrong(n.off, "%s has %d bytes; at most %d", what, len(s), most)
	case strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }):
		r.wrong(n.off, "%s has control characters", what)
	}
	return s
}

func (r *reader) texts(n *node, what string) (out []string) {
	r.each(n, what, listMax, func(x *node) { out = append(out, r.text(x, what, textMax)) })
	return out
}

// names reads a list of different names of a form.
func (r *reader) names(n *node, what string, most int, form *regexp.Regexp, said string) (out []string) {
	r.each(n, what, most, func(x *node) {
		switch name := r.text(x, "a name of "+what, 256); {
		case !form.MatchString(name):
			r.wrong(x.off, "a name of %s must be %s; it is %q", what, said, name)
		case slices.Contains(out, name):
			r.wrong(x.off, "%s is in %s twice", name, what)
		default:
			out = append(out, name)
		}
	})
	return out
}

func (r *reader) bool(n *node, what string) bool {
	if n == nil {
		return false
	}
	v, ok := n.value.(bool)
	if !ok {
		r.wrong(n.off, "%s must be true or false", what)
	}
	return v
}

func (r *reader) int(n *node, what string, low, high int64) int64 {
	if n == nil {
		return low
	}
	if v, ok := n.value.(json.Number); ok {
		if i, err := v.Int64(); err == nil && i >= low && i <= high {
			return i
		}
	}
	r.wrong(n.off, "%s must be a whole number from %d to %d", what, low, high)
	return low
}

// Rule returns a rule by its id, nil if the module has none.
func (m *Manifest) Rule(id uint32) *Rule {
	for i := range m.Rules {
		if m.Rules[i].ID == id {
			return &m.Rules[i]
		}
	}
	return nil
}

// String names the module and its version.
func (m *Manifest) String() string { return fmt.Sprintf("%s %s", m.Name, m.Version) }
