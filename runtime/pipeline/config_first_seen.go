package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// firstSeen reads the operator that says what is new to a key: { from, key, value, history, warm_up, where }. Without a key a
// value is new to everybody, without history once and for all. Its rows are those of its sources, with their columns.
func (d *decoder) firstSeen(s *source) {
	m := d.mapping(s.body.get("first_seen"), "first_seen")
	if m == nil {
		return
	}
	o := &operator.FirstSeen{Ident: operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name, Form: "first_seen/1"}}
	m.need("from", "the stream or operator, or a list of them, whose rows it takes")
	d.passOn(s)
	fields := func(n *yaml.Node, what string) (out []event.Field) {
		d.list(n, what, func(x *yaml.Node) { out = append(out, d.column(x, what, s.passes)) })
		return out
	}
	o.Keys = fields(m.get("key"), "key")
	o.Values = fields(m.need("value", "the field that may bring something new, such as country"), "value")
	s.op.Where = d.condition(m.get("where"), s.passes, s.typeOf)
	o.History = d.span(m.get("history"), "history", 0, time.Millisecond)
	warmUp := m.get("warm_up")
	o.WarmUp = d.span(warmUp, "warm_up", 0, 0)
	if o.History > 0 && o.WarmUp > o.History {
		d.wrong(warmUp, "warm_up is longer than history: what it learns first is forgotten before it ends; make it at most history")
	}
	m.done()
	o.Init()
	s.op.FirstSeen = o
	s.print = append(s.print, d.firstSeenPrint(o, s)...)
	d.alert(s)
	s.init = func(*engine.Spec) { d.initPassed(s, slices.Concat(o.Keys, o.Values)) }
}

// firstSeenPrint leaves the warm-up out: it decides what is said and not what is remembered.
func (d *decoder) firstSeenPrint(o *operator.FirstSeen, s *source) []string {
	paths := func(fields []event.Field) string {
		var out []string
		for _, f := range fields {
			out = append(out, d.conf.Spec.Fields.Path(f))
		}
		return strings.Join(out, ", ")
	}
	return []string{"first_seen key: " + paths(o.Keys), "value: " + paths(o.Values),
		fmt.Sprintf("history: %s", time.Duration(o.History)*time.Millisecond), "where: " + s.op.Where.String()}
}
