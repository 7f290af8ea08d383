package pipeline

import (
	"maps"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// filter reads the operator that passes on what a condition admits: { from, where }.
func (d *decoder) filter(s *source) {
	m := d.mapping(s.body.get("filter"), "filter")
	if m == nil {
		return
	}
	m.need("from", "the stream or operator, or a list of them, whose rows it passes on")
	d.passOn(s)
	where := m.need("where", "the condition that rows must meet, such as { status: failure }")
	s.op.Where = d.condition(where, s.passes, s.typeOf)
	m.done()
	s.op.Filter = &engine.Filter{Ident: operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name, Form: "filter/1"}}
	s.print = append(s.print, "where of "+s.name+": "+s.op.Where.String())
	d.alert(s)
	s.init = func(*engine.Spec) { d.initPassed(s, nil) }
}

// passOn gives an operator the columns of its sources, because its rows are theirs: whatever readers ask for is asked of the
// sources. It names those that all sources have; of events that is anything.
func (d *decoder) passOn(s *source) {
	s.passes = once(d.fieldOf(s))
	s.events = true
	s.types = d.sharedTypes(s)
	for _, in := range d.inputs(s) {
		s.whole = s.whole || in.whole
		switch {
		case in.events:
		case s.events:
			s.events, s.cols = false, slices.Clone(in.cols)
		default:
			s.cols = slices.DeleteFunc(s.cols, func(c string) bool { return !slices.Contains(in.cols, c) })
		}
	}
	for _, c := range s.cols {
		_, _ = s.passes(c) // streams beside operators must read them too
	}
}

// sharedTypes are the types that fields have in all sources of an operator.
func (d *decoder) sharedTypes(s *source) (types map[string]string) {
	for i, in := range d.inputs(s) {
		if i == 0 {
			types = maps.Clone(in.types)
		}
		maps.DeleteFunc(types, func(path, t string) bool { return in.types[path] != t })
	}
	return types
}

// wholeOf is the event that a row of the source is, if it is one.
func (d *decoder) wholeOf(s *source) event.Field {
	if s.stream != nil {
		_, _ = d.field(s, event.Whole)
	}
	if s.kind == "enrich" || s.kind == "as_of" || s.adds {
		return d.conf.Spec.Fields.Add(event.Whole) // it copies the event anyway
	}
	for _, in := range d.inputs(s) {
		if in.whole {
			d.wholeOf(in)
		}
	}
	return d.conf.Spec.Fields.Add(event.Whole)
}

// once asks for each path once: filters of filters would ask their sources again and again.
func once(resolve func(path string) (event.Field, error)) func(path string) (event.Field, error) {
	type answer struct {
		f   event.Field
		err error
	}
	known := map[string]answer{}
	return func(path string) (event.Field, error) {
		a, ok := known[path]
		if !ok {
			a.f, a.err = resolve(path)
			known[path] = a
		}
		return a.f, a.err
	}
}

// initPassed names the columns of rows that are passed on: of events the event itself, of operators all of theirs. An alert
// shows the fields that its operator names, and has the event beside them.
func (d *decoder) initPassed(s *source, named []event.Field) { d.initRows(s, d.inputs(s), named) }

// initRows is initPassed of rows that are those of some of the sources.
func (d *decoder) initRows(s *source, sources []*source, named []event.Field) {
	whole := alert.Column{Field: d.conf.Spec.Fields.Add(event.Whole)}
	add := func(list []alert.Column, more ...alert.Column) []alert.Column {
		for _, c := range more {
			if !slices.Contains(list, c) {
				list = append(list, c)
			}
		}
		return list
	}
	for _, in := range sources {
		if in.stream != nil {
			s.op.Names = add(s.op.Names, whole)
		} else {
			s.op.Names = add(s.op.Names, in.op.Names...)
		}
	}
	a := s.op.Alert
	if a == nil {
		return
	}
	read := slices.DeleteFunc(s.op.Where.Fields(), func(f event.Field) bool { return f == whole.Field }) // of keywords: it is shown already
	named = slices.Concat(named, read, a.Title.Fields(), a.Description.Fields())
	for _, e := range a.Entities {
		named = append(named, e.Field.Field)
	}
	a.Columns = add(d.columns(named)[:0], d.columns(named)...)
	a.Columns = add(a.Columns, slices.DeleteFunc(slices.Clone(s.op.Names), func(c alert.Column) bool { return c == whole })...)
	if a.Entities == nil {
		a.Entities = alert.Guess(a.Columns)
	}
}
