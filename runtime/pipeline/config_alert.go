package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// What of an alert is worked out over time or kept beside its row: suppress, group, events.

// evidencePath begins the paths of columns that hold events for alerts. They are nobody's to read.
const evidencePath = "\x00events"

// Limits of alerts.
const (
	eventsMax  = 100 // events that an alert may show
	groupShows = 10  // and that one of a group shows, if nothing is said
	spanOfOne  = 24 * time.Hour
)

// dampens reads suppress and group of an alert, or of a rule of a plugin; part names the operator that this makes, behind a slash.
func (d *decoder) dampens(s *source, suppress, group *yaml.Node, t *alert.Template, part string, resolve func(string) (event.Field, error)) {
	n, what := suppress, "suppress"
	switch {
	case suppress != nil && group != nil:
		d.wrong(group, "suppress holds alerts back, group has them in one that grows; choose one of them")
		return
	case group != nil:
		n, what = group, "group"
	case suppress == nil:
		return
	}
	if d.stateless {
		d.wrong(n, "%s remembers alerts, and this processor remembers nothing; it is for the buffer detect", what)
		return
	}
	m := d.mapping(n, what)
	if m == nil {
		return
	}
	o := &operator.Suppress{Events: max(t.Events, 1)}
	key := m.get("key")
	d.list(key, "key", func(x *yaml.Node) { o.Keys = append(o.Keys, d.column(x, "key", resolve)) })
	if suppress != nil {
		o.For = d.span(m.need("for", "how long further alerts of the key are held, such as 1h"), "for", 0, time.Millisecond)
	} else {
		d.group(o, m, t)
	}
	m.done()
	t.Held = true
	d.after = append(d.after, func(spec *engine.Spec) { d.dampened(spec, s, o, t, n, part) })
}

// group reads how far apart alerts of a group may be.
func (d *decoder) group(o *operator.Suppress, m *mapping, t *alert.Template) {
	o.Gap = d.span(m.need("gap", "how far apart in time alerts of one group may be, such as 15m"), "gap", 0, time.Millisecond)
	span := m.get("max_span")
	o.Span = d.span(span, "max_span", max(spanOfOne, time.Duration(o.Gap)*time.Millisecond), time.Millisecond)
	o.Every = d.span(m.get("every"), "every", 0, 0)
	if o.Gap > o.Span && o.Span > 0 {
		d.wrong(span, "max_span is shorter than gap: no group could have a pause as long as that; make it at least gap")
	}
	if t.Events == 0 {
		o.Events = groupShows
	}
}

// dampened adds the operator that says the alerts, once entities and columns are known.
func (d *decoder) dampened(spec *engine.Spec, s *source, o *operator.Suppress, t *alert.Template, n *yaml.Node, part string) {
	if o.Keys == nil {
		for _, e := range t.Entities {
			if !slices.Contains(o.Keys, e.Field.Field) {
				o.Keys = append(o.Keys, e.Field.Field)
			}
			if e.Risk != nil {
				o.Keys = append(o.Keys, e.Risk.Type)
			}
		}
		if o.Keys == nil {
			d.wrong(n, "the alert names no entity that tells its alerts apart; say key: [...], or entities")
			return
		}
	}
	x := engine.Operator{Name: s.name + "/" + part, Suppress: o, Leaves: true}
	for i := range spec.Operators {
		if spec.Operators[i].Name == s.name {
			x.Inputs = []int{len(spec.Streams) + i}
		}
	}
	reads := slices.Concat(o.Keys, t.Fields())
	if p := s.op.Plugin; p != nil {
		reads = append(reads, p.RuleID, p.Severity, p.Note)
		rule := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
			{Kind: yaml.ScalarNode, Tag: "!!str", Value: "rule_id"}, {Kind: yaml.ScalarNode, Tag: "!!int", Value: part}}}
		x.Where = d.condition(rule, func(path string) (event.Field, error) { return spec.Fields.Add(path), nil }, s.typeOf)
	}
	if r := s.op.Risk; r != nil {
		reads = append(reads, r.Score(), r.Attack())
	}
	o.Init(spec.Fields, reads)
	paths := func(fields []event.Field) string {
		var out []string
		for _, f := range fields {
			out = append(out, spec.Fields.Path(f))
		}
		return strings.Join(out, ", ")
	}
	x.Fingerprint = fmt.Sprintf("alerts held: %v\nkey: %s\nof: %s", o.For > 0, paths(o.Keys), paths(o.Fields))
	spec.Operators = append(spec.Operators, x)
}

// evidence has an operator keep the events that its alerts show.
func (d *decoder) evidence(s *source, n *yaml.Node, most int) {
	if n == nil || most == 0 {
		return
	}
	if s.kind == "risk" {
		d.wrong(n, "a risk's alert shows the alerts that led to it, in contributions; leave events out")
		return
	}
	whole, has, some := d.conf.Spec.Fields.Add(event.Whole), map[*source]bool{}, false
	for _, in := range d.inputs(s) {
		has[in] = d.hasEvents(in)
		some = some || has[in]
	}
	if !some {
		d.wrong(n, "events are those of streams, and no row that %s reads is one: ask for them in the alert of an operator that reads a stream", s.name)
		return
	}
	name := func(i int) event.Field {
		f := d.conf.Spec.Fields.Add(fmt.Sprint(evidencePath, i))
		s.op.Evidence = append(s.op.Evidence, f)
		return f
	}
	switch {
	case s.op.Window != nil:
		s.op.Window.Aggregates = append(s.op.Window.Aggregates, operator.Aggregate{Name: name(0), Func: operator.Collect, Field: whole, Max: most + 1, Aside: true})
	case s.op.Join != nil:
		j := s.op.Join
		for side, in := range d.inputs(s) {
			if has[in] && (side == 0 || j.Type != operator.Semi && j.Type != operator.Anti && j.Matches != operator.CountMatches) {
				j.Outputs = append(j.Outputs, operator.Output{Name: name(side), Side: uint8(side), Field: whole})
			}
		}
	case s.op.Sequence != nil:
		q := s.op.Sequence
		for i, step := range q.Steps {
			if !step.Missing && has[d.nodes[s.from[step.Input].Value]] && len(s.op.Evidence) <= most {
				q.Outputs = append(q.Outputs, operator.StepField{Name: name(i), Step: i, Field: whole})
			}
		}
	default:
		return // its rows have their event anyway
	}
	s.print = append(s.print, fmt.Sprintf("events: %d", most))
}

// hasEvents says whether rows of a source are events or carry them, and has streams read them whole.
func (d *decoder) hasEvents(s *source) (has bool) {
	switch s.kind {
	case "": // a stream
		d.wholeOf(s)
		return true
	case "enrich":
		return s.whole
	case "filter", "first_seen", "plugin":
		for _, in := range d.inputs(s) { // a plugin carries those of streams
			has = (s.kind == "plugin" && in.stream != nil || d.hasEvents(in)) || has
		}
	}
	return has
}

// attack reads the techniques of an alert. One that ATT&CK's table does not have, and that is not newer than it, is wrong.
func (d *decoder) attack(n *yaml.Node) (ids []string) {
	d.list(n, "attack", func(n *yaml.Node) {
		v := d.text(n, "attack")
		switch status, near := alert.CheckTechnique(v); {
		case v != "" && !attackForm.MatchString(v):
			d.wrong(n, "attack %q must be a technique such as T1078 or T1110.001", v)
		case v != "" && status == alert.NoTechnique:
			d.wrong(n, "ATT&CK %s has no technique %s: it never was, or was retired%s", alert.AttackVersion, v, meant(near))
		case v != "" && status == alert.NewTechnique:
			d.warn(n, "ATT&CK %s has no technique %s yet; alerts show it without name and tactics%s", alert.AttackVersion, v, meant(near))
		}
		ids = append(ids, v)
	})
	return ids
}

func meant(near alert.Technique) string {
	if near.ID == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s (%s)?", near.ID, near.Name)
}

// warnAttack says which techniques of a module's rules ATT&CK's table does not have: it is the module's author who can change that.
func (d *decoder) warnAttack(path *yaml.Node, rule string, ids []string) {
	for _, id := range ids {
		if status, near := alert.CheckTechnique(id); status != alert.KnownTechnique {
			d.warn(path, "rule %s names the technique %s, which ATT&CK %s does not have; alerts show it without name and tactics%s", rule, id, alert.AttackVersion, meant(near))
		}
	}
}
