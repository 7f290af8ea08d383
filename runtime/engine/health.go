package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// A plugin that is switched off judges nothing, which somebody must be told: an alert says so, once each time, among the rows and by the
// outputs like any other. Its id is made of the pipeline, the operator and the position from which on rows are not judged.

// trip is the first row that a plugin which was switched off did not judge.
type trip struct {
	p, ts int64
	why   error
}

// The rules of alerts about Tocsin itself.
const (
	healthPlugin = "tocsin.health/plugin" // a plugin was switched off
	healthReload = "tocsin.health/reload" // a module or configuration could not take the place of the one that runs
)

// notice is such an alert on its way.
type notice struct {
	p   int64
	out *Out
}

// healthCells are the columns of a notice's row.
type healthCells []event.Value

func (c healthCells) Value(f event.Field) event.Value {
	if int(f) < len(c) {
		return c[f]
	}
	return event.Value{}
}

// health looks after a block whether the operator's plugin was switched off in it, or is well again.
func (g *Graph) health(n *node) {
	var first *trip
	off, stays := false, n.budget != nil && !n.budget.trial.IsZero()
	for _, s := range n.shards {
		k := callerOf(s)
		if k.trip != nil && (first == nil || k.trip.p < first.p) {
			first = k.trip
		}
		switch k.plugin.State() {
		case wasm.Closed:
		case wasm.HalfOpen:
			stays = true
		default:
			off = true
		}
	}
	switch {
	case first != nil && !n.off:
		n.off = true
		n.openings++
		n.why = first.why
		g.notices = append(g.notices, notice{first.p, g.switchedOff(n.spec.Name, n.spec.Plugin, first)})
		g.tell("operator %s: the plugin %s is switched off: %v; rows that come meanwhile %s", n.spec.Name, n.spec.Plugin.Module.Manifest, first.why, n.spec.Plugin.OnFailure)
	case n.off && !off && !stays:
		n.off = false
		g.tell("operator %s: the plugin %s judges rows again", n.spec.Name, n.spec.Plugin.Module.Manifest)
	}
}

// aggregatesHealth is health for the plugins of a window's aggregates.
func (g *Graph) aggregatesHealth(n *node) {
	all := n.aggregated()
	for _, place := range slices.Sorted(maps.Keys(all)) {
		var first *trip
		closed := true
		for _, k := range all[place] {
			if t := k.trip; t != nil {
				if t.p == unplaced {
					t.p = g.p
				}
				if first == nil || t.p < first.p {
					first = t
				}
				k.trip = nil
			}
			closed = closed && k.plugin.State() == wasm.Closed
		}
		p := all[place][0].spec.Plugin
		switch name := n.spec.pluginName(place); {
		case first != nil && !n.offs[place]:
			if n.offs == nil {
				n.offs = map[int]bool{}
			}
			n.offs[place] = true
			g.notices = append(g.notices, notice{first.p, g.switchedOff(name, p, first)})
			g.tell("aggregate %s: the plugin %s is switched off: %v; rows that come meanwhile %s", name, p.Module.Manifest, first.why, p.OnFailure)
		case n.offs[place] && closed:
			delete(n.offs, place)
			g.tell("aggregate %s: the plugin %s works again", name, p.Module.Manifest)
		}
	}
}

// tell says something to the log.
func (g *Graph) tell(format string, args ...any) {
	if g.warn != nil {
		g.warn(format, args...)
	}
}

func (f Failure) String() string {
	return [...]string{FailureAlert: "are error rows (plugin_off)", FailureStop: "stop the pipeline", FailureSkip: "are skipped, and counted"}[f]
}

func (g *Graph) switchedOff(name string, p *Plugin, t *trip) *Out {
	return g.notice(healthPlugin, "A plugin was switched off", name, t.p, t.ts,
		fmt.Sprintf("Plugin %s of operator %s was switched off: %s", p.Module.Manifest.Name, name, reasonOf(t.why)),
		"It does not judge rows until it is tried again; rows that come meanwhile "+p.OnFailure.String()+".",
		[]string{p.Module.Manifest.Name, p.Module.Manifest.Version, reasonOf(t.why), t.why.Error()}, binary.AppendVarint(nil, t.p))
}

// reasonOf is why a plugin is off in a word or two, and without anything that the guest said.
func reasonOf(why error) string {
	if t, ok := errors.AsType[*wasm.Trap](why); ok {
		return string(t.Fault)
	}
	if why == errBudget {
		return "cpu"
	}
	return "failure"
}

// notice makes the alert of a health rule. cells are plugin, version, reason and detail; id is what tells this one from others of its kind.
func (g *Graph) notice(rule, name, op string, p, ts int64, title, description string, cells []string, id []byte) *Out {
	names := []string{"operator", "plugin", "version", "reason", "detail", "position"}
	row := healthCells{{Kind: event.String, Text: []byte(op)}}
	for _, c := range cells {
		row = append(row, event.Value{Kind: event.String, Text: []byte(c)})
	}
	row = append(row, event.Value{Kind: event.Number, Text: strconv.AppendInt(nil, p, 10)})
	t := &alert.Template{Rule: alert.Rule{ID: rule, Name: name, Source: g.spec.Name}, Title: literal(title), Description: literal(description), Severity: "high", RiskScore: alert.Scores["high"]}
	for i, c := range names {
		t.Columns = append(t.Columns, alert.Column{Name: c, Field: event.Field(i)})
	}
	t.Entities = []alert.Entity{{Field: t.Columns[0], Type: "other", Role: "operator"}, {Field: t.Columns[1], Type: "other", Role: "plugin"}}
	x := alert.Facts{ID: g.id(op, "alert", "1", []byte(rule), id), TS: ts, First: ts, Last: ts}
	return &Out{Kind: "alert", Operator: op, ID: x.ID, TS: ts, Payload: t.Append(nil, x, row)}
}

// literal is a text without holes.
func literal(s string) alert.Text {
	t, _ := alert.ParseText(strings.NewReplacer("{", "{{", "}", "}}").Replace(s), nil)
	return t
}
