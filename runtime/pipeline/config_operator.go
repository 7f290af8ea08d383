package pipeline

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// operators reads all operators: first what each is and reads, then, in topological order, how it works, since columns of
// sources must be known.
func (d *decoder) operators(n *yaml.Node) {
	m := d.mapping(n, "operators")
	if m == nil {
		return
	}
	if len(m.entries) == 0 {
		d.wrong(n, "operators is empty; name at least one")
	}
	var all []*source
	for _, e := range m.entries {
		e.used = true
		d.name(e.key, "operator name")
		s := &source{name: e.key.Value, key: e.key, op: &engine.Operator{Name: e.key.Value}}
		if d.nodes[s.name] != nil {
			d.wrong(e.key, "%s is a stream already; name the operator otherwise", s.name)
			continue
		}
		d.nodes[s.name] = s
		d.head(s, e.value)
		all = append(all, s)
	}
	if !d.order(all) {
		return // columns cannot be known
	}
	for _, s := range d.ops {
		switch s.kind {
		case "window":
			d.window(s)
		case "join":
			d.join(s)
		case "sequence":
			d.sequence(s)
		case "plugin":
			d.plugin(s)
		case "filter":
			d.filter(s)
		case "first_seen":
			d.firstSeen(s)
		case "enrich":
			d.enrich(s)
		case "risk":
			d.risk(s)
		case "as_of":
			d.enrichAsOf(s)
		}
	}
}

var operatorsLater = []string{"sigma"}

// sourcesMax is how many sources an operator may have: rows carry which one they came by, in a byte.
const sourcesMax = 255

// head finds an operator's kind and sources.
func (d *decoder) head(s *source, n *yaml.Node) {
	m := d.mapping(n, "operator "+s.name)
	if m == nil {
		return
	}
	s.body = m
	window, join, sequence, plugin, filter, seen := m.get("window"), m.get("join"), m.get("sequence"), m.get("plugin"), m.get("filter"), m.get("first_seen")
	enrich, risk := m.get("enrich"), m.get("risk")
	kinds := 0
	for _, x := range []*yaml.Node{window, join, sequence, plugin, filter, seen, enrich, risk} {
		if x != nil {
			kinds++
		}
	}
	from := func(n *yaml.Node) {
		if w := peek(n, "from"); w != nil {
			d.list(w, "from", func(x *yaml.Node) {
				if x.Kind == yaml.ScalarNode && slices.ContainsFunc(s.from, func(o *yaml.Node) bool { return o.Value == x.Value }) {
					d.wrong(x, "%q is there twice in from; keep one", x.Value)
				}
				s.from = append(s.from, x)
			})
		}
	}
	defer func() {
		if len(s.from) > sourcesMax {
			d.wrong(s.key, "operator %s has %d sources; at most %d may be: put filters in between, each of some of them", s.name, len(s.from), sourcesMax)
		}
	}()
	m.later(operatorsLater...)
	s.op.OnReset = d.enum(m.get("on_incompatible_state"), "on_incompatible_state", "refuse", "refuse", "reset") == "reset"
	m.get("alert")
	m.done()
	switch {
	case kinds > 1:
		d.wrong(m.entries[1].key, "operator %s is several things at once; make it an operator each", s.name)
	case window != nil:
		s.kind = "window"
		from(window)
	case plugin != nil:
		s.kind = "plugin"
		from(plugin)
	case filter != nil:
		s.kind = "filter"
		from(filter)
	case seen != nil:
		s.kind = "first_seen"
		from(seen)
	case enrich != nil:
		s.kind = "enrich"
		from(enrich)
		if k := d.keptOf(enrich); k != nil {
			s.kind = "as_of"
			s.from = append(s.from, k.stream)
		}
	case risk != nil:
		s.kind = "risk"
		from(risk)
	case join != nil:
		s.kind = "join"
		for _, side := range []string{"left", "right"} {
			if x := peek(join, side); x != nil {
				s.from = append(s.from, x)
			}
		}
	case sequence != nil:
		s.kind = "sequence"
		s.from = sequenceSources(sequence)
	case !slices.ContainsFunc(operatorsLater, func(k string) bool { return peek(n, k) != nil }):
		d.wrong(s.key, "operator %s needs window, join, sequence, plugin, filter, enrich, first_seen or risk", s.name)
	}
}

// peek looks a key up without taking it.
func peek(n *yaml.Node, key string) *yaml.Node {
	if n = resolve(n); n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return resolve(n.Content[i+1])
			}
		}
	}
	return nil
}

// order checks sources and sorts operators topologically, otherwise as in the file; cycles are said where they close.
func (d *decoder) order(all []*source) (ok bool) {
	ok = true
	state := map[*source]int{} // 1: on the way, 2: done
	var path []string
	var visit func(s *source)
	visit = func(s *source) {
		state[s] = 1
		path = append(path, s.name)
		for _, in := range s.from {
			switch x := d.nodes[in.Value]; {
			case in.Kind != yaml.ScalarNode:
				d.wrong(in, "a source must be the name of a stream or operator, not %s", shown(in))
			case x == nil && len(d.conf.Spec.Streams) == 0: // which was said
			case x == nil:
				d.wrong(in, "there is no stream or operator %q%s", in.Value, suggest(in.Value, d.names()))
			case state[x] == 1:
				ok = false
				d.wrong(in, "cycle: %s; an operator cannot read what comes of it", strings.Join(append(slices.Clone(path[slices.Index(path, x.name):]), x.name), " reads "))
			case x.op != nil && state[x] == 0:
				visit(x)
			}
		}
		path = path[:len(path)-1]
		state[s] = 2
		d.ops = append(d.ops, s)
	}
	for _, s := range all {
		if state[s] == 0 {
			visit(s)
		}
	}
	return ok
}

func (d *decoder) names() (names []string) {
	for name := range d.nodes {
		names = append(names, name)
	}
	return names
}

// inputs are the known sources of an operator.
func (d *decoder) inputs(s *source) (in []*source) {
	for _, n := range s.from {
		if x := d.nodes[n.Value]; x != nil && x != s {
			in = append(in, x)
		}
	}
	return in
}

// fieldOf resolves a path that is read from every source of an operator.
func (d *decoder) fieldOf(s *source) func(path string) (event.Field, error) {
	return func(path string) (f event.Field, err error) {
		for _, in := range d.inputs(s) {
			x, e := d.field(in, path)
			if f = x; e != nil {
				err = e
			}
		}
		return f, err
	}
}

// typeOf finds the type that a field has in all sources of an operator, empty if it is not known.
func (d *decoder) typeOf(s *source) func(path string) string {
	types := d.sharedTypes(s)
	return func(path string) string { return types[path] }
}

// resolve is fieldOf for a scalar node.
func (d *decoder) column(n *yaml.Node, what string, resolve func(string) (event.Field, error)) event.Field {
	path := d.text(n, what)
	if path == "" {
		return 0
	}
	f, err := resolve(path)
	if err != nil {
		d.wrong(n, "%v", err)
	}
	return f
}

// keysMost is what max_keys may be.
const keysMost = 1_000_000_000

func (d *decoder) window(s *source) {
	m := d.mapping(s.body.get("window"), "window")
	if m == nil {
		return
	}
	resolve := d.fieldOf(s)
	w := &operator.Window{}
	m.need("from", "the stream or operator, or a list of them, whose rows it takes")
	policy := m.get("policy")
	if w.MaxKeys = d.int(m.get("max_keys"), "max_keys", 0, 1, keysMost); w.MaxKeys == 0 && policy != nil {
		d.wrong(m.key("policy"), "policy says what becomes of rows beyond max_keys, which is not there; add it or leave policy out")
	}
	w.KeysLate = d.enum(policy, "policy", "error", "error", "late") == "late"
	d.windowKind(w, m)
	w.First = d.enum(m.get("emit"), "emit", "close", "close", "first") == "first"
	d.windowLateness(w, m)
	w.Ident = operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name, Form: w.Kind.Form()}
	d.list(m.get("key"), "key", func(n *yaml.Node) {
		if f := d.column(n, "key", resolve); n.Value != "" {
			w.Keys = append(w.Keys, f)
			d.addColumn(s, n)
			s.typed(n.Value, d.typeOf(s)(n.Value))
		}
	})
	s.op.Where = d.condition(m.get("where"), resolve, d.typeOf(s))
	s.cols = append(s.cols, "window_start", "window_end")
	s.typed("window_start", "timestamp")
	s.typed("window_end", "timestamp")
	if n := m.need("aggregate", "what is worked out, such as { attempts: count }"); n != nil {
		d.aggregates(s, w, n, resolve)
	}
	s.cols = append(s.cols, w.Marks()...)
	having := m.get("having")
	w.Having = d.condition(having, func(path string) (event.Field, error) { return d.field(s, path) }, s.typeOf)
	switch {
	case w.First && w.Kind == operator.Counting:
		d.wrong(m.get("emit"), "emit: first is for windows of time; a count window says its row when it is full; leave emit out")
	case w.First && w.Overlap() > operator.OverlapMax:
		d.wrong(m.get("emit"), "emit: first counts each window by itself, and %d of them would take a row; at most %d may: let them begin, or grow, less often", w.Overlap(), operator.OverlapMax)
	case w.First && having == nil:
		d.wrong(m.get("emit"), "emit: first needs having: the condition whose first moment it waits for")
	}
	m.done()
	s.op.Window = w
	s.print = append(s.print, d.windowPrint(w, s)...)
	s.init = func(spec *engine.Spec) {
		w.Init(spec.Fields)
		s.op.Names = d.columns(w.Columns)
		d.fillAlert(s)
	}
	d.alert(s)
}

// columnMax is how long a column's name may be, in bytes.
const columnMax = 512

// addColumn adds a column under the name that a node gives.
func (d *decoder) addColumn(s *source, n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || n.Value == "" || len(n.Value) > columnMax || n.Value == "_tocsin" {
		d.wrong(n, "a column's name has 1 to %d characters, and _tocsin is taken; take another name", columnMax)
		return
	}
	if slices.Contains(s.cols, n.Value) || slices.Contains([]string{"window_start", "window_end", "truncated", "approximate", "merged_into"}, n.Value) {
		d.wrong(n, "there is a column %q already; take another name", n.Value)
		return
	}
	s.cols = append(s.cols, n.Value)
}

var functions = map[string]operator.Func{"count": operator.Count, "sum": operator.Sum, "min": operator.Min, "max": operator.Max, "avg": operator.Avg, "count_distinct": operator.Distinct,
	"first": operator.First, "last": operator.Last, "collect": operator.Collect, "top_k": operator.TopK, "percentile": operator.Percentile}

func (d *decoder) aggregates(s *source, w *operator.Window, n *yaml.Node, resolve func(string) (event.Field, error)) {
	m := d.mapping(n, "aggregate")
	if m == nil {
		return
	}
	if len(m.entries) == 0 {
		d.wrong(n, "aggregate is empty; write something like { attempts: count }")
	}
	for _, e := range m.entries {
		d.addColumn(s, e.key)
		a := operator.Aggregate{Name: d.conf.Spec.Fields.Add(e.key.Value)}
		t := "int"
		if e.value.Kind == yaml.ScalarNode {
			if a.All = true; e.value.Value != "count" {
				d.wrong(e.value, "%s must be count, or a function of a field such as { sum: bytes }, not %s", e.key.Value, shown(e.value))
			}
		} else if f := d.mapping(e.value, "the aggregate "+e.key.Value); f == nil {
		} else if n := f.get("plugin"); n != nil {
			t = d.pluginAggregate(s, &a, f, n, e.key.Value)
		} else {
			t = d.function(&a, f, resolve, d.typeOf(s))
		}
		s.typed(e.key.Value, t)
		w.Aggregates = append(w.Aggregates, a)
	}
}

// function reads an aggregate with its field, and returns the type of its column.
func (d *decoder) function(a *operator.Aggregate, m *mapping, resolve func(string) (event.Field, error), typeOf func(string) string) string {
	found, t := 0, ""
	for _, name := range []string{"collect", "count", "sum", "min", "max", "avg", "count_distinct", "first", "last", "top_k", "percentile"} {
		n := m.get(name)
		if n == nil {
			continue
		}
		if name == "max" && a.Func == operator.Collect { // its limit, and no function
			a.Max = d.int(n, "max", operator.CollectDefault, 1, operator.CollectMax)
			continue
		}
		found++
		a.Func = functions[name]
		if a.All = name == "count" && n.Value == "*"; !a.All {
			a.Field = d.column(n, name, resolve)
			t = d.aggregateType(n, name, a.Func, typeOf(n.Value))
		} else {
			t = "int"
		}
		switch a.Func {
		case operator.Collect:
			a.Max = operator.CollectDefault
		case operator.TopK:
			a.Max = d.int(m.get("k"), "k", operator.TopDefault, 1, operator.TopMax)
		case operator.Percentile:
			a.P = d.portion(m.need("p", "which percentile, as a part of 1: 0.95"), "p")
		}
	}
	a.Where = d.condition(m.get("where"), resolve, typeOf)
	m.done()
	if found != 1 && len(m.entries) > 0 && m.entries[0].used {
		d.wrong(m.node, "%s needs exactly one function: count, sum, min, max, avg, count_distinct, first, last, collect, top_k, percentile or plugin", m.what)
	}
	return t
}

// aggregateType is the type of an aggregate over a field of a type; one that takes nothing of it is wrong.
func (d *decoder) aggregateType(n *yaml.Node, name string, f operator.Func, of string) string {
	text := of == "timestamp" || of == "ip"
	switch f {
	case operator.Count, operator.Distinct:
		return "int"
	case operator.Sum, operator.Avg, operator.Percentile:
		if text || of == "bool" {
			d.wrong(n, "%s takes numbers, and %s is of the type %s; count, count_distinct, first and last take any", name, n.Value, of)
		}
		return "float"
	case operator.Min, operator.Max:
		if of == "bool" {
			d.wrong(n, "%s takes numbers and texts, and %s is of the type bool; count, count_distinct, first and last take any", name, n.Value)
		}
	case operator.Collect:
		return ""
	case operator.TopK:
		return "json"
	}
	return of
}

// portion reads a number from 0 to 1.
func (d *decoder) portion(n *yaml.Node, what string) (v float64) {
	switch {
	case n == nil:
	case n.Tag != "!!float" && n.Tag != "!!int" || n.Decode(&v) != nil:
		d.wrong(n, "%s must be a number from 0 to 1, not %s", what, shown(n))
	case v > 1 && v <= 100:
		d.wrong(n, "%s must be a number from 0 to 1, not %s; write %g", what, n.Value, v/100)
	case !(v >= 0 && v <= 1):
		d.wrong(n, "%s must be a number from 0 to 1, not %s", what, n.Value)
	}
	return v
}

func (d *decoder) windowPrint(w *operator.Window, s *source) []string {
	var keys []string
	for _, f := range w.Keys {
		keys = append(keys, d.conf.Spec.Fields.Path(f))
	}
	lines := append(kindPrint(w), "key: "+strings.Join(keys, ", "), "where: "+s.op.Where.String())
	for _, a := range w.Aggregates {
		if a.Func == operator.Opaque {
			lines = append(lines, d.opaquePrint(&a))
			continue
		}
		field := "*"
		if !a.All {
			field = d.conf.Spec.Fields.Path(a.Field)
		}
		if a.Func == operator.Collect {
			field += fmt.Sprintf(", at most %d,", a.Max)
		}
		lines = append(lines, fmt.Sprintf("aggregate %s: %d %s where %s", d.conf.Spec.Fields.Path(a.Name), a.Func, field, a.Where.String()))
	}
	if w.First {
		lines = append(lines, "emit: first, having "+w.Having.String())
	}
	return lines
}

// fingerprint is everything that shapes the operator's state, a line each, with the times of the streams it reads.
func (s *source) fingerprint(d *decoder) string {
	if s.memory != nil {
		return strings.Join(d.sourcePrint(s, slices.Clone(s.memory)), "\n")
	}
	if s.kind == "plugin" && (len(s.print) == 0 || !s.op.Plugin.Detects()) || s.kind == "filter" || s.kind == "enrich" {
		return s.kind // it keeps nothing: another module, condition or table may take its place
	}
	if s.kind == "risk" {
		return strings.Join(s.print, "\n") // alerts of more or fewer operators may count
	}
	return strings.Join(d.sourcePrint(s, slices.Clone(s.print)), "\n")
}

// sourcePrint appends the lines of what the operator reads, each once. Filters and tables keep nothing, but shape what their readers keep.
func (d *decoder) sourcePrint(s *source, lines []string) []string {
	for _, in := range d.inputs(s) {
		if slices.Contains(lines, "source: "+in.name) {
			continue
		}
		lines = append(lines, "source: "+in.name)
		if in.stream != nil {
			lines = append(lines, in.print...)
			lines = append(lines, fmt.Sprintf("watermark of %s: delay %dms, strict %v", in.name, in.stream.Delay, in.stream.Strict))
		}
		if in.kind == "filter" || in.kind == "enrich" || in.kind == "plugin" && !in.op.Plugin.Detects() {
			lines = d.sourcePrint(in, append(lines, in.print...))
		}
	}
	return lines
}

// columns gives columns their names in payloads.
func (d *decoder) columns(fields []event.Field) (out []alert.Column) {
	for _, f := range fields {
		if strings.HasPrefix(d.conf.Spec.Fields.Path(f), evidencePath) {
			continue
		}
		out = append(out, alert.Column{Name: strings.NewReplacer(`\.`, ".", `\|`, "|", `\\`, `\`).Replace(d.conf.Spec.Fields.Path(f)), Field: f})
	}
	return out
}

var attackForm = regexp.MustCompile(`^T\d{4}(\.\d{3})?$`)

// alert reads the alert of an operator whose columns are known.
func (d *decoder) alert(s *source) {
	n := s.body.get("alert")
	if n == nil {
		return
	}
	m := d.mapping(n, "alert")
	if m == nil {
		return
	}
	t := &alert.Template{Rule: alert.Rule{ID: s.name, Name: s.name, Source: "pipeline", Version: "1"}}
	resolve := func(path string) (event.Field, error) { return d.field(s, path) }
	text := func(n *yaml.Node, what string) (out alert.Text) {
		out, err := alert.ParseText(d.text(n, what), resolve)
		if err != nil {
			d.wrong(n, "%v", err)
		}
		return out
	}
	if n := m.need("title", "a sentence for people; {field} is filled from the row"); n != nil {
		t.Title = text(n, "title")
	}
	if n := m.get("description"); n != nil {
		t.Description = text(n, "description")
	}
	t.Severity = d.enum(m.get("severity"), "severity", "medium", alert.Severities...)
	score := alert.Scores[t.Severity]
	if s.kind == "risk" {
		score = -1 // the entity's own
	}
	t.RiskScore = d.int(m.get("risk_score"), "risk_score", score, 0, 100)
	t.Attack = d.attack(m.get("attack"))
	t.References = d.texts(m.get("references"), "references")
	d.list(m.get("entities"), "entities", func(n *yaml.Node) { d.entity(t, n, resolve) })
	events := m.get("events")
	t.Events = d.int(events, "events", 0, 1, eventsMax)
	d.evidence(s, events, t.Events)
	suppress, group := m.get("suppress"), m.get("group")
	m.done()
	d.dampens(s, suppress, group, t, "alerts", resolve)
	s.op.Alert = t
}

func (d *decoder) entity(t *alert.Template, n *yaml.Node, resolve func(string) (event.Field, error)) {
	m := d.mapping(n, "an entity")
	if m == nil {
		return
	}
	var e alert.Entity
	if f := m.need("field", "the column that names it"); f != nil {
		e.Field = alert.Column{Name: f.Value, Field: d.column(f, "field", resolve)}
	}
	e.Type = d.enum(m.need("type", strings.Join(alert.EntityTypes, ", ")), "type", "other", alert.EntityTypes...)
	e.Role = d.text(m.get("role"), "role")
	m.done()
	t.Entities = append(t.Entities, e)
}

func (d *decoder) fillAlert(s *source) {
	if a := s.op.Alert; a != nil {
		a.Columns = s.op.Names
		if a.Entities == nil {
			a.Entities = alert.Guess(s.op.Names)
		}
	}
}
