package engine

import (
	"cmp"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Origin is a field of a stream's events. The field that is the event itself stands for all of it.
type Origin struct {
	Stream int // of Spec.Streams
	Field  event.Field
}

// Lineage answers where columns come from. Node numbers are those of Spec: streams, then operators.
type Lineage struct {
	spec  *Spec
	whole event.Field
	known map[asked][]Origin
}

// asked is a column of a node, or with field decides what decides its rows.
type asked struct {
	node  int
	field event.Field
}

// decides is no field.
const decides = event.Field(-1)

// NewLineage makes the lineage of a pipeline.
func NewLineage(spec *Spec) *Lineage {
	return &Lineage{spec, spec.Fields.Add(event.Whole), map[asked][]Origin{}}
}

// Column are the fields that a column's values are made of, sorted, each once; none for what is counted or marked.
func (l *Lineage) Column(node int, f event.Field) []Origin {
	return l.once(asked{node, f}, func() []Origin {
		if node < len(l.spec.Streams) {
			return []Origin{{node, f}}
		}
		return l.operator(l.op(node), f)
	})
}

// Rows are the fields that decide which rows a node says: of conditions, keys, patterns, and the times of events, its own and those
// of what it reads.
func (l *Lineage) Rows(node int) []Origin {
	return l.once(asked{node, decides}, func() (list []Origin) {
		if node < len(l.spec.Streams) {
			s := &l.spec.Streams[node]
			for _, f := range append(s.Where.Fields(), s.Time.Field) {
				list = append(list, Origin{node, f})
			}
			return list
		}
		o := l.op(node)
		for _, in := range o.Inputs {
			list = append(list, l.Rows(in)...)
		}
		return append(append(list, l.all(o, o.Where)...), l.operatorRows(o)...)
	})
}

func (l *Lineage) op(node int) *Operator { return &l.spec.Operators[node-len(l.spec.Streams)] }

// once works an answer out once: operators of operators would ask their sources again and again.
func (l *Lineage) once(p asked, work func() []Origin) []Origin {
	list, ok := l.known[p]
	if !ok {
		list = work()
		slices.SortFunc(list, func(a, b Origin) int { return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Field, b.Field)) })
		list = slices.Compact(list)
		l.known[p] = list
	}
	return slices.Clone(list)
}

// fields are the origins of fields in every source of an operator.
func (l *Lineage) fields(o *Operator, fields ...event.Field) (list []Origin) {
	for _, in := range o.Inputs {
		for _, f := range fields {
			list = append(list, l.Column(in, f)...)
		}
	}
	return list
}

func (l *Lineage) all(o *Operator, c *match.Condition) []Origin { return l.fields(o, c.Fields()...) }

// times are the times of events behind an operator.
func (l *Lineage) times(o *Operator) (list []Origin) {
	for _, in := range o.Inputs {
		if in < len(l.spec.Streams) {
			list = append(list, Origin{in, l.spec.Streams[in].Time.Field})
		} else {
			list = append(list, l.times(l.op(in))...)
		}
	}
	return list
}

// isTime says whether a column is one of the two that windows give their rows.
func (l *Lineage) isTime(f event.Field) bool {
	path := l.spec.Fields.Path(f)
	return path == "window_start" || path == "window_end"
}

// operator is where a column of an operator comes from. One that passes rows on has the columns of its sources.
func (l *Lineage) operator(o *Operator, f event.Field) (list []Origin) {
	switch {
	case o.Window != nil:
		return l.window(o, f)
	case o.Join != nil:
		for _, x := range o.Join.Outputs {
			if x.Name == f {
				list = append(list, l.Column(o.Inputs[x.Side], x.Field)...)
			}
		}
		if list == nil && o.Join.Window != nil && l.isTime(f) {
			return l.times(o)
		}
		return list
	case o.Sequence != nil:
		for _, x := range o.Sequence.Outputs {
			if x.Name == f {
				list = append(list, l.Column(o.Inputs[o.Sequence.Steps[x.Step].Input], x.Field)...)
			}
		}
		return list
	case o.Plugin.gives(f):
		return append(l.fields(o, o.Plugin.Fields...), l.all(o, o.Plugin.unread())...)
	case o.Risk != nil:
		return l.risk(o, f)
	case o.Enrich != nil && slices.Contains(o.Enrich.own(), f):
		return l.fields(o, o.Enrich.On)
	}
	return l.fields(o, f)
}

func (l *Lineage) window(o *Operator, f event.Field) []Origin {
	w := o.Window
	if slices.Contains(w.Keys, f) {
		return l.fields(o, f)
	}
	for _, a := range w.Aggregates {
		switch {
		case a.Name != f:
		case a.All:
			return l.all(o, a.Where)
		case a.Func == operator.Opaque:
			return append(l.fields(o, a.Provider.Fields()...), l.all(o, a.Where)...)
		default:
			return append(l.fields(o, a.Field), l.all(o, a.Where)...)
		}
	}
	if l.isTime(f) {
		return l.times(o)
	}
	return nil
}

// risk is where a column of a risk comes from: what is counted comes from no field.
func (l *Lineage) risk(o *Operator, f event.Field) (list []Origin) {
	switch l.spec.Fields.Path(f) {
	case "entity":
		return l.entities(o)
	case "first_time", "last_time":
		return l.times(o)
	case "contributions":
		for _, in := range o.Inputs {
			for _, t := range l.op(in).templates() {
				for _, x := range t.Title.Fields() {
					list = append(list, l.Column(in, x)...)
				}
			}
		}
		return append(list, l.times(o)...)
	}
	return nil
}

// entities are the fields that name those whose risk it is.
func (l *Lineage) entities(o *Operator) (list []Origin) {
	if o.RiskBy.Type != "" {
		return l.fields(o, o.RiskBy.Field)
	}
	for _, in := range o.Inputs {
		for _, t := range l.op(in).templates() {
			for i := range t.Entities {
				if e := &t.Entities[i]; o.RiskBy.Takes(e) {
					list = append(list, l.Column(in, e.Field.Field)...)
				}
			}
		}
	}
	return list
}

// operatorRows are the fields by which an operator itself decides, beside its condition on what it reads.
func (l *Lineage) operatorRows(o *Operator) (list []Origin) {
	switch {
	case o.Window != nil:
		list = l.fields(o, o.Window.Keys...)
		for _, f := range o.Window.Having.Fields() {
			list = append(list, l.window(o, f)...)
		}
	case o.Join != nil:
		for side, on := range o.Join.On {
			for _, f := range on {
				list = append(list, l.Column(o.Inputs[side], f)...)
			}
		}
		for _, x := range o.Join.Pair {
			list = append(list, l.Column(o.Inputs[x.Side], x.Field)...)
		}
		for _, f := range o.Join.Deleted.Fields() {
			list = append(list, l.Column(o.Inputs[1], f)...)
		}
	case o.Sequence != nil:
		list = l.fields(o, o.Sequence.By...)
		steps := o.Sequence.Steps
		if o.Sequence.Until != nil {
			steps = append(slices.Clone(steps), *o.Sequence.Until)
		}
		for _, x := range steps {
			for _, f := range x.Where.Fields() {
				list = append(list, l.Column(o.Inputs[x.Input], f)...)
			}
		}
	case o.once():
		if id := l.spec.Streams[o.Inputs[0]].ID; id.ByField {
			list = l.fields(o, id.Field)
		}
	case o.FirstSeen != nil:
		list = l.fields(o, o.FirstSeen.Terms()...)
	case o.Risk != nil:
		list = l.entities(o)
	case o.Suppress != nil:
		list = l.fields(o, o.Suppress.Keys...)
	case o.Plugin.maps():
	case o.Plugin != nil:
		list = append(l.fields(o, o.Plugin.Fields...), l.all(o, o.Plugin.When)...)
		for _, r := range o.Plugin.Rules {
			list = append(list, l.all(o, r.Except)...)
		}
	}
	return list
}
