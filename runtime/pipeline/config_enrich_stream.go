package pipeline

import (
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// keptOf is the table of a stream that an enrich names, nil if it names another one.
func (d *decoder) keptOf(enrich *yaml.Node) *known {
	if n := peek(enrich, "table"); n != nil {
		if k := d.known[n.Value]; k != nil && k.stream != nil {
			return k
		}
	}
	return nil
}

// enrichAsOf reads an enrich whose table a stream keeps: an as-of join of type left, whose rows are those of the source with the columns
// of the version of their time.
func (d *decoder) enrichAsOf(s *source) {
	m := d.mapping(s.body.get("enrich"), "enrich")
	k := d.keptOf(m.node)
	from := m.need("from", "the stream or operator whose rows it takes")
	name := m.get("table")
	on := m.need("on", "the field whose value is looked up")
	as := m.get("as")
	m.done()
	sources := d.inputs(s)
	switch {
	case from == nil || on == nil || len(sources) < len(s.from): // was said
	case len(sources) != 2:
		d.wrong(from, "rows wait for the watermark of a table that a stream keeps, so they are those of one source; name a filter that reads them all")
	case sources[0] == sources[1]:
		d.wrong(from, "%s is the source of the table %s; a row is not looked up among the rows that it is one of", from.Value, name.Value)
	default:
		d.asOfRows(s, k, [2]*source{sources[0], sources[1]}, name, on, as)
		return
	}
	s.passes = func(path string) (event.Field, error) { return d.conf.Spec.Fields.Add(path), nil } // anything: what it lacks is not known
	d.alert(s)
}

func (d *decoder) asOfRows(s *source, k *known, sides [2]*source, name, on, as *yaml.Node) {
	left, right := sides[0], sides[1]
	j := &operator.Join{Kind: operator.AsOf, Type: operator.LeftOuter, Bare: true, TTL: k.ttl, RowsMax: operator.CapDefault, MatchesMax: operator.CapDefault}
	j.Ident = operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name, Form: j.Kind.Form()}
	j.On[0] = []event.Field{d.column(on, "on", func(path string) (event.Field, error) { return d.field(left, path) })}
	j.On[1] = []event.Field{d.column(k.key, "key", func(path string) (event.Field, error) { return d.field(right, path) })}
	if t, u := left.types[on.Value], right.types[k.key.Value]; !sameKey(t, u) {
		d.wrong(on, "%s is of the type %s, and the key %s of the type %s: it never finds one; change the type in fields of either", on.Value, t, k.key.Value, u)
	}
	s.whole = left.whole
	if !left.events {
		s.cols = slices.Clone(left.cols)
	}
	for path, t := range left.types {
		s.typed(path, t)
	}
	pass := func(path string) (event.Field, error) {
		f, err := d.field(left, path)
		if err == nil && !slices.ContainsFunc(j.Outputs, func(o operator.Output) bool { return o.Name == f }) {
			j.Outputs = append(j.Outputs, operator.Output{Name: f, Field: f})
		}
		return f, err
	}
	if left.whole {
		whole := d.wholeOf(left)
		j.Outputs = append(j.Outputs, operator.Output{Name: whole, Field: whole})
	}
	for _, c := range left.cols {
		if c == "truncated" { // the operator has one of its own, which says the same of its rows
			f, _ := d.field(left, c)
			j.Cut = &operator.Output{Field: f}
		} else {
			_, _ = pass(c)
		}
	}
	var own []event.Field
	d.eachColumn(added{columns: k.columns, what: "table", prefix: name.Value}, func(path string) string { return path }, s.key, as, func(at *yaml.Node, name, column string) {
		faults := len(d.problems)
		d.addColumn(s, &yaml.Node{Kind: yaml.ScalarNode, Value: name, Line: at.Line, Column: at.Column})
		if len(d.problems) > faults {
			return
		}
		s.typed(name, right.types[column])
		f := d.conf.Spec.Fields.Add(name)
		from, err := d.field(right, column)
		if err != nil {
			d.wrong(k.stream, "%v", err)
		}
		j.Outputs, own = append(j.Outputs, operator.Output{Name: f, Side: 1, Field: from}), append(own, f)
	})
	if !slices.Contains(s.cols, "truncated") {
		s.cols = append(s.cols, "truncated")
	}
	s.typed("truncated", "bool")
	s.passes = once(func(path string) (event.Field, error) {
		if f, is, err := d.ofTable(own, path); is {
			return f, err
		}
		return pass(path)
	})
	j.Deleted = d.condition(k.deleted, func(path string) (event.Field, error) { return d.field(right, path) }, right.typeOf)
	s.op.Join = j
	d.alert(s)
	s.init = func(spec *engine.Spec) { d.initAsOf(s, j, left, own) }
}

// initAsOf completes the join once everybody has asked for what they read of its rows, and names its columns.
func (d *decoder) initAsOf(s *source, j *operator.Join, left *source, own []event.Field) {
	j.Init(d.conf.Spec.Fields)
	d.initRows(s, []*source{left}, append([]event.Field{j.On[0][0]}, own...))
	own = append(slices.Clone(own), d.conf.Spec.Fields.Add("truncated"))
	var shown []event.Field
	for _, c := range s.op.Names {
		if !slices.Contains(own, c.Field) {
			shown = append(shown, c.Field)
		}
	}
	s.op.Names = d.columns(append(shown, own...))
	s.print = append(s.print, d.joinPrint(j)...)
}

// keptStreams complains about tables whose stream there is not, also if nobody looks anything up in them.
func (d *decoder) keptStreams() {
	for _, k := range d.known {
		if k.stream != nil && k.stream.Value != "" && d.nodes[k.stream.Value] == nil {
			d.wrong(k.stream, "there is no stream or operator %q%s", k.stream.Value, suggest(k.stream.Value, d.names()))
		}
	}
}
