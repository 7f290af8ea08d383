package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/table"
)

// enrich reads the operator that adds what a table knows: { from, table, on, as }. Its rows are those of its sources with the
// table's columns besides, under the table's name or another prefix, or under the names that `as` gives.
func (d *decoder) enrich(s *source) {
	m := d.mapping(s.body.get("enrich"), "enrich")
	if m == nil {
		return
	}
	o := &engine.Enrich{Ident: operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name, Form: "enrich/1"}}
	m.need("from", "the stream or operator, or a list of them, whose rows it takes")
	d.passOn(s)
	s.events = false
	pass := s.passes
	var read, own []event.Field
	s.passes = func(path string) (event.Field, error) {
		if f, is, err := d.ofTable(own, path); is {
			return f, err
		}
		f, err := pass(path)
		if err == nil {
			read = append(read, f)
		}
		return f, err
	}
	name := m.need("table", "which of tables")
	on := m.need("on", "the field whose value is looked up")
	as := m.get("as")
	m.done()
	k := d.tableOf(name)
	if on != nil {
		o.On = d.column(on, "on", d.fieldOf(s))
	}
	if k == nil || k.source == nil || on == nil {
		s.passes = func(path string) (event.Field, error) { return d.conf.Spec.Fields.Add(path), nil } // anything: what it lacks is not known
		d.alert(s)
		return
	}
	d.keyType(s, k, on)
	o.Table = k.source
	own, o.From = d.addColumns(s, added{k.source.Table().Columns(), func(c string) string { return k.spec.Types[c] }, "table", name.Value}, as)
	s.op.Enrich = o
	s.print = append(s.print, d.enrichPrint(o, s, own))
	d.alert(s)
	s.init = func(*engine.Spec) { d.initEnrich(s, o, read, own) }
}

// ofTable finds the column of a table that a path names in other words: an event must not answer for it. What is within a column
// nobody has.
func (d *decoder) ofTable(own []event.Field, path string) (f event.Field, is bool, err error) {
	name := event.Dotted(path)
	for _, c := range own {
		if x := event.Dotted(d.conf.Spec.Fields.Path(c)); x == name {
			return c, true, nil
		} else if event.Within(name, x) {
			return c, true, fmt.Errorf("%s would be within %s, which is a column of the table; events do not answer for it, and a column has no fields", path, x)
		}
	}
	return 0, false, nil
}

// tableOf finds a table; nil was said.
func (d *decoder) tableOf(n *yaml.Node) *known {
	name := d.text(n, "table")
	if name == "" {
		return nil
	}
	k := d.known[name]
	if k == nil {
		var names []string
		for x := range d.known {
			names = append(names, x)
		}
		d.wrong(n, "there is no table %q%s", name, suggest(name, names))
	}
	return k
}

// keyType complains about a field that no key of the table equals.
func (d *decoder) keyType(s *source, k *known, on *yaml.Node) {
	is := d.typeOf(s)(on.Value)
	want := k.spec.Types[k.spec.Key]
	if k.spec.Match == table.MatchNetworks {
		want = "ip"
	}
	kind := map[string]string{"int": "number", "float": "number", "bool": "bool", "string": "text", "ip": "text", "timestamp": "text"}
	switch {
	case is == "" || want == "" || kind[is] == kind[want]:
	case k.spec.Match == table.MatchNetworks:
		holds := k.spec.Key
		if holds == "" {
			holds = "the table"
		}
		d.wrong(on, "%s is of the type %s, and %s holds networks: it never finds one", on.Value, is, holds)
	default:
		d.wrong(on, "%s is of the type %s, and the key %s of the type %s: it never finds one; change the type in fields of either", on.Value, is, k.spec.Key, want)
	}
}

// added are columns that an operator adds to rows: what they are called, of the table or module that they come from; the type of
// each; and what that is, in messages.
type added struct {
	columns []string
	types   func(column string) string
	what    string
	prefix  string // of their names, unless `as` says otherwise; "": none
}

// addColumns names the columns that the operator adds, all of them or those that `as` names: their fields, and which of the columns
// they are.
func (d *decoder) addColumns(s *source, k added, as *yaml.Node) (own []event.Field, from []int) {
	add := func(at *yaml.Node, name string, column int) {
		faults := len(d.problems)
		d.addColumn(s, &yaml.Node{Kind: yaml.ScalarNode, Value: name, Line: at.Line, Column: at.Column})
		if len(d.problems) > faults {
			return
		}
		s.typed(name, k.types(k.columns[column]))
		own = append(own, d.conf.Spec.Fields.Add(name))
		from = append(from, column)
	}
	written := strings.NewReplacer(`\`, `\\`, `|`, `\|`).Replace
	d.eachColumn(k, written, s.key, as, func(at *yaml.Node, name, column string) { add(at, name, slices.Index(k.columns, column)) })
	return own, from
}

// eachColumn names the columns by `as`: new names, or a prefix, without it the one that they have. written is a column as a path.
func (d *decoder) eachColumn(k added, written func(string) string, at, as *yaml.Node, add func(at *yaml.Node, name, column string)) {
	if as != nil && as.Kind == yaml.MappingNode {
		m := d.mapping(as, "as")
		if len(m.entries) == 0 {
			d.wrong(as, "as is empty; write a prefix, or { new name: column }")
		}
		for _, e := range m.entries {
			if c := d.text(e.value, e.key.Value); c == "" {
				continue
			} else if !slices.Contains(k.columns, c) {
				d.wrong(e.value, "the %s has no column %q%s", k.what, c, suggest(c, k.columns))
			} else {
				add(e.key, e.key.Value, c)
			}
		}
		return
	}
	prefix := k.prefix
	if as != nil {
		if at, prefix = as, d.text(as, "as"); prefix == "" {
			return
		}
	}
	if prefix != "" {
		prefix += "."
	}
	for _, c := range k.columns {
		add(at, prefix+written(c), c)
	}
}

func (d *decoder) enrichPrint(o *engine.Enrich, s *source, own []event.Field) string {
	columns := o.Table.Table().Columns()
	var names []string
	for i, f := range own {
		names = append(names, d.conf.Spec.Fields.Path(f)+": "+columns[o.From[i]])
	}
	slices.Sort(names)
	return fmt.Sprintf("enrich of %s: table %s on %s, %s", s.name, o.Table.Name, d.conf.Spec.Fields.Path(o.On), strings.Join(names, ", "))
}

// initEnrich finds the columns of the operator's rows.
func (d *decoder) initEnrich(s *source, o *engine.Enrich, read, own []event.Field) {
	o.Whole = d.conf.Spec.Fields.Add(event.Whole)
	o.Columns = d.initAdded(s, []event.Field{o.On}, read, own)
}

// initAdded finds the columns of rows that get some: of operators all of theirs, of events the event itself and what somebody reads
// of it, then those that are added, which hide others of their names. named are the fields that the operator looks at.
func (d *decoder) initAdded(s *source, named, read, own []event.Field) (columns []event.Field) {
	d.initPassed(s, append(slices.Clone(named), own...))
	add := func(f event.Field) {
		if !slices.Contains(own, f) && !slices.Contains(columns, f) {
			columns = append(columns, f)
		}
	}
	for _, c := range s.op.Names {
		add(c.Field)
	}
	s.op.Names = d.columns(append(slices.Clone(columns), own...))
	if s.op.Alert != nil { // which shows them
		read = append(slices.Clone(named), read...)
	}
	for _, f := range read {
		add(f)
	}
	return append(columns, own...)
}
