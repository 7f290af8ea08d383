package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Limits of a risk.
const (
	riskMost          = 1_000_000 // threshold and cap_per_rule
	riskThreshold     = 100
	riskHalfLife      = 24 * time.Hour
	riskContributions = 20
)

// risk reads the operator that adds up the scores of alerts by entity.
func (d *decoder) risk(s *source) {
	m := d.mapping(s.body.get("risk"), "risk")
	if m == nil {
		return
	}
	o := &operator.Risk{Ident: operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name, Form: "risk/1"}}
	m.need("from", "the operators whose alerts count")
	for _, n := range s.from {
		if in := d.nodes[n.Value]; in != nil && in != s {
			d.raisesAlerts(n, in)
		}
	}
	by := d.riskBy(s, m)
	o.HalfLife = d.span(m.get("half_life"), "half_life", riskHalfLife, time.Millisecond)
	threshold, most := m.get("threshold"), m.get("cap_per_rule")
	o.Threshold = float64(d.int(threshold, "threshold", riskThreshold, 1, riskMost))
	o.RuleMax = float64(d.int(most, "cap_per_rule", 0, 1, riskMost))
	again := m.get("again_after")
	o.Again = d.span(again, "again_after", 0, time.Millisecond)
	if o.Reset = d.bool(m.get("reset"), "reset"); o.Reset && again != nil {
		d.wrong(again, "with reset the score begins at nothing after each row, so it never stays above the threshold; leave again_after out")
	}
	o.Keep = d.int(m.get("contributions"), "contributions", riskContributions, 1, eventsMax)
	m.done()
	if len(d.riskRules(s)) == 1 && o.RuleMax > 0 && o.RuleMax < o.Threshold {
		d.wrong(most, "all alerts here are of one rule, which may hold %g: the threshold, %g, is never reached; make it at least that", o.RuleMax, o.Threshold)
	}
	s.cols = slices.Clone(operator.RiskColumns)
	for column, t := range map[string]string{"entity_type": "string", "score": "float", "alerts": "int", "rules": "int", "first_time": "timestamp", "last_time": "timestamp", "contributions": "json", "truncated": "bool"} {
		s.typed(column, t)
	}
	s.op.Risk, s.op.RiskBy = o, by
	s.print = append(s.print, fmt.Sprintf("risk: half_life %s", time.Duration(o.HalfLife)*time.Millisecond),
		fmt.Sprintf("by: %s of roles %s, field %s as %s", strings.Join(by.Types, ", "), strings.Join(by.Roles, ", "), d.conf.Spec.Fields.Path(by.Field), by.Type))
	s.init = func(spec *engine.Spec) {
		o.Init(spec.Fields)
		s.op.Names = d.columns(o.Columns)
		if a := s.op.Alert; a != nil {
			if a.Entities == nil {
				a.Entities = []alert.Entity{{Field: s.op.Names[1], Type: "other", Risk: &alert.EntityRisk{Type: o.Columns[0], Score: o.Score()}}}
			}
			a.Columns = s.op.Names
		}
	}
	d.alert(s)
	d.after = append(d.after, func(*engine.Spec) { d.riskNames(s, m.get("by"), by) })
}

// raisesAlerts says that a source of a risk must have alerts.
func (d *decoder) raisesAlerts(n *yaml.Node, in *source) {
	switch {
	case in.stream != nil:
		d.wrong(n, "risk adds up alerts, and %s is a stream; name operators that have an alert", in.name)
	case in.kind == "risk":
		d.wrong(n, "%s is a risk itself, whose alerts stand for those of others: they would count twice", in.name)
	case in.kind != "plugin" && in.body != nil && in.body.get("alert") == nil:
		d.wrong(n, "%s has no alert whose risk_score could count; give it one", in.name)
	}
}

// riskBy reads which entities count.
func (d *decoder) riskBy(s *source, m *mapping) *engine.RiskBy {
	by := &engine.RiskBy{}
	types, field := m.get("by"), m.get("field")
	d.list(types, "by", func(n *yaml.Node) {
		if !slices.Contains(alert.EntityTypes, n.Value) {
			d.wrong(n, "by is types of entities, and %s is none%s", shown(n), suggest(n.Value, alert.EntityTypes))
		}
		by.Types = append(by.Types, n.Value)
	})
	roles, typ := m.get("roles"), m.get("type")
	by.Roles = d.texts(roles, "roles")
	if field == nil {
		if typ != nil {
			d.wrong(m.key("type"), "type goes with field: which type its values are of; by says which types of entities count")
		}
		return by
	}
	if types != nil || roles != nil {
		d.wrong(field, "field says whose risk it is, instead of the entities of alerts; leave by and roles out")
	}
	by.Field = d.column(field, "field", d.fieldOf(s))
	by.Type = d.enum(typ, "type", "other", alert.EntityTypes...)
	return by
}

// riskRules are the alerts that count, as far as they are known.
func (d *decoder) riskRules(s *source) (rules []*alert.Template) {
	for _, in := range d.inputs(s) {
		if in.op != nil && in.op.Alert != nil {
			rules = append(rules, in.op.Alert)
		}
		if in.op != nil && in.op.Plugin != nil {
			for _, r := range in.op.Plugin.Rules {
				rules = append(rules, r.Alert)
			}
		}
	}
	return rules
}

// riskNames says if no alert names an entity that counts.
func (d *decoder) riskNames(s *source, n *yaml.Node, by *engine.RiskBy) {
	if by.Type != "" {
		return
	}
	for _, t := range d.riskRules(s) {
		for i := range t.Entities {
			if by.Takes(&t.Entities[i]) {
				return
			}
		}
	}
	if n == nil {
		n = s.key
	}
	d.wrong(n, "no alert that %s reads names an entity that counts; give them entities, or say field", s.name)
}
