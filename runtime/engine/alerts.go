package engine

import (
	"encoding/json"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// What rows are as alerts: for those that leave, those that Suppress holds or groups, and those that Risk adds up. A Suppress is a
// node of its own behind the operator whose alerts it says; it reads that operator's rows, and nothing reads it.

// raises is the operator whose alerts a node's input brings; nil for a stream.
func (s *Spec) raises(input int) *Operator {
	if input < len(s.Streams) {
		return nil
	}
	return &s.Operators[input-len(s.Streams)]
}

// template finds the alert of a row of the operator, nil for none.
func (o *Operator) template(r alert.Row) *alert.Template {
	switch {
	case o == nil:
		return nil
	case !o.Plugin.Detects():
		return o.Alert
	}
	id, _ := r.Value(o.Plugin.RuleID).Int()
	if rule := o.Plugin.Rules[uint32(id)]; rule != nil {
		return rule.Alert
	}
	return nil
}

// templates are the alerts that the operator may raise.
func (o *Operator) templates() (list []*alert.Template) {
	if o.Alert != nil {
		list = append(list, o.Alert)
	}
	if o.Plugin != nil {
		for _, r := range o.Plugin.Rules {
			list = append(list, r.Alert)
		}
	}
	return list
}

// facts are what a row of the operator says as an alert, but for its events.
func (g *Graph) facts(o *Operator, r *operator.Result) (x alert.Facts) {
	x = alert.Facts{ID: g.alertID(o, r.Name.ID()), TS: r.TS, First: r.First, Last: r.Last}
	row := cells{r}
	switch {
	case o.Plugin.Detects():
		x.Severity = string(row.Value(o.Plugin.Severity).Text)
		if v := row.Value(o.Plugin.Note); v.Kind == event.Object {
			x.Note = v.Text
		}
	case o.Risk != nil:
		score, _ := row.Value(o.Risk.Score()).Float()
		x.Score = int(min(score, 100))
		_ = json.Unmarshal(row.Value(o.Risk.Attack()).Text, &x.Attack) // it is what Risk wrote
	}
	return x
}

// alertID is the id of the alert of a row.
func (g *Graph) alertID(o *Operator, row event.ID) event.ID {
	return g.id(o.Name, "alert", "1", row[:])
}

// events calls add with each event behind a row of the operator: the one that it is or carries, or those that its alert asked for.
func (o *Operator) events(batch *event.Batch, row int32, add func(event []byte)) {
	if b := eventOf(batch, row); b != nil {
		add(b)
		return
	}
	for _, f := range o.Evidence {
		switch v := batch.Value(f, int(row)); v.Kind {
		case event.Object:
			add(v.Text)
		case event.Array:
			event.Elements(v.Text, add)
		}
	}
	if o.Evidence != nil {
		return
	}
	for _, c := range o.Names {
		if v := batch.Value(c.Field, int(row)); c.Name == "" && v.Kind == event.Object {
			add(v.Text)
			return
		}
	}
}

// shownEvents fills in the events of an alert that stands for one row.
func (o *Operator) shownEvents(x *alert.Facts, most int, r *operator.Result) {
	n := 0
	o.events(r.Batch, r.Row, func(b []byte) {
		if n++; b[0] != '{' || most > 0 && n > most || len(x.Events) > 0 && len(x.Events)+len(b) > operator.EventsBytes {
			x.Truncated = true
			return
		}
		if len(x.Events) > 0 {
			x.Events = append(x.Events, ',')
		}
		x.Events = append(x.Events, b...)
	})
}

// alerted appends the alert that a row is, if it is one that leaves.
func (g *Graph) alerted(outs []*Out, o *Operator, r *operator.Result) []*Out {
	by := o
	if o.Suppress != nil {
		by = g.spec.raises(o.Inputs[0])
	}
	t := by.template(cells{r})
	if t == nil || t.Held && o.Suppress == nil {
		return outs
	}
	x := g.facts(by, r)
	if s := r.Gathered; s != nil {
		x.Count, x.Suppressed, x.Events, x.Truncated = s.Count, s.Suppressed, s.Events, s.Truncated
		x.Severity = worse(x.Severity, s.Level)
	} else {
		by.shownEvents(&x, t.Events, r)
	}
	return append(outs, &Out{Kind: "alert", Operator: by.Name, ID: x.ID, Revision: r.Revision, TS: r.TS, Open: r.Kind == operator.Revised, Payload: t.Append(nil, x, cells{r})})
}

// worse is the severity of a level, if it is higher; levels are places among alert.Severities, from 1, and 0 says nothing.
func worse(severity string, level uint8) string {
	if level == 0 || slices.Index(alert.Severities, severity)+1 >= int(level) {
		return severity
	}
	return alert.Severities[level-1]
}

// reader is how a Suppress reads the alerts of its input.
func (s *Spec) reader(o *Operator) operator.AlertReader {
	by := s.raises(o.Inputs[0])
	return operator.AlertReader{
		Level: func(in *operator.In) uint8 {
			if by == nil || !by.Plugin.Detects() {
				return 0 // it is the same for all
			}
			return uint8(slices.Index(alert.Severities, string(in.Value(by.Plugin.Severity).Text)) + 1)
		},
		Events: func(in *operator.In, add func([]byte)) {
			if by != nil {
				by.events(in.Batch, in.Row, add)
			} else if b := eventOf(in.Batch, in.Row); b != nil {
				add(b)
			}
		},
	}
}

// raised is how a shard of a Risk reads the alerts of its inputs. It remembers the last: a row comes once for each entity.
func (g *Graph) raised(o *Operator) func(in *operator.In) operator.Raised {
	var a operator.Raised
	var of operator.Name
	p, input := int64(-1), uint8(0)
	return func(in *operator.In) operator.Raised {
		if in.P == p && in.Name == of && in.Input == input {
			return a
		}
		p, of, input = in.P, in.Name, in.Input
		by := g.spec.raises(o.Inputs[in.Input])
		t := by.template(in)
		if t == nil {
			a = operator.Raised{}
			return a
		}
		a = operator.Raised{ID: g.alertID(by, in.Name.ID()), Rule: t.Rule.ID, Title: t.Title.Fill(nil, in), Attack: t.Attack}
		severity := ""
		if by.Plugin.Detects() {
			severity = string(in.Value(by.Plugin.Severity).Text)
		}
		a.Score = t.Score(severity)
		return a
	}
}

// RiskBy says which entities of alerts count: those of the types and roles, all if there is none, or one field, of a type.
type RiskBy struct {
	Types, Roles []string
	Field        event.Field
	Type         string // of Field; "": by types
}

// Takes says whether an entity of an alert counts.
func (b *RiskBy) Takes(e *alert.Entity) bool {
	return (b.Types == nil || slices.Contains(b.Types, e.Type)) && (b.Roles == nil || slices.Contains(b.Roles, e.Role))
}

// named calls use for each entity that counts in an input row, each once, with its key, which is good until use returns.
func (n *node) named(g *Graph, in *operator.In, use func(key []byte)) {
	b, from := n.spec.RiskBy, 0
	n.key, n.ends = n.key[:0], n.ends[:0]
	add := func(typ string, v event.Value) {
		if v.Missing() {
			return
		}
		n.key = event.AppendKey(n.key, event.Value{Kind: event.String, Text: []byte(typ)})
		n.key = event.AppendKey(n.key, v)
		key, start := n.key[from:], 0
		for _, end := range n.ends {
			if string(n.key[start:end]) == string(key) {
				n.key = n.key[:from]
				return
			}
			start = end
		}
		from = len(n.key)
		n.ends = append(n.ends, from)
	}
	if b.Type != "" {
		add(b.Type, in.Value(b.Field))
	} else if t := g.spec.raises(n.spec.Inputs[in.Input]).template(in); t != nil {
		for i := range t.Entities {
			if e := &t.Entities[i]; b.Takes(e) {
				add(e.Type, in.Value(e.Field.Field))
			}
		}
	}
	start := 0
	for _, end := range n.ends {
		use(n.key[start:end:end])
		start = end
	}
}
