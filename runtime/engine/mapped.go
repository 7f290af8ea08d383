package engine

import (
	"errors"
	"slices"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// Plugins that say which rows pass, and plugins that add columns to rows. Both see every row once, in arrival order, late or
// not. Neither has timers: one that fires has no row that could pass or get columns.

func (p *Plugin) role() abi.Role {
	if p == nil || p.Module == nil {
		return ""
	}
	return p.Module.Manifest.Role()
}

// Detects says whether the plugin's rows are hits of rules. A nil Plugin has no rows.
func (p *Plugin) Detects() bool { return p != nil && !p.filters() && !p.maps() }

func (p *Plugin) filters() bool { return p.role() == abi.RoleFilter }
func (p *Plugin) maps() bool    { return p.role() == abi.RoleMap }

// written are the columns that a map writes.
func (p *Plugin) written() []event.Field { return p.Columns[len(p.Columns)-len(p.Written):] }

// gives says whether a column of the plugin's rows is its own.
func (p *Plugin) gives(f event.Field) bool {
	switch {
	case p.maps():
		return slices.Contains(p.written(), f)
	case p.Detects():
		return f == p.RuleID || f == p.Severity || f == p.Note
	}
	return false
}

// unread is the condition by which a map does not see a row and its columns are null; of other roles it decides about rows.
func (p *Plugin) unread() *match.Condition {
	if p.maps() {
		return p.When
	}
	return nil
}

// mapped is a filter or a map on its share of the rows.
type mapped struct {
	memoryless
	caller
	namer *operator.Namer
	at    []int32       // of those that are given: their places among the rows
	place []int32       // of each row: of a map its place in what was written; or one of these
	why   map[int]error // of poison
}

// What becomes of a row that has no place in what was written.
const (
	unseen   = -1 - iota // the module did not want to see it, or lacks a field: it does not pass, or passes with nulls
	poisoned             // the module failed on it
	unjudged             // it came while the breaker was open
)

func newMapped(spec *Plugin, out *event.Batch, namer *operator.Namer) *mapped {
	k := &mapped{namer: namer}
	k.begin(spec, out)
	return k
}

func (k *mapped) run([]step, int64) error {
	k.plugin.Begin()
	defer k.plugin.End()
	return k.judge(k.rows, nil, operator.NegInf)
}

// judge implements judging; a map does not see the rows that it does not want to.
func (k *mapped) judge(rows []operator.In, _ []wasm.Timer, seen int64) error {
	k.given, k.at, k.place, k.why = k.given[:0], k.at[:0], k.place[:0], nil
	unread := k.spec.unread()
	for i := range rows {
		k.place = append(k.place, unseen)
		if unread == nil || unread.Match(&rows[i]) {
			k.at = append(k.at, int32(i))
			k.give(&rows[i], seen)
		}
	}
	hits, poison, judged, why := k.plugin.Judge(k.hits[:0], k.given)
	k.hits = hits
	for _, h := range hits {
		k.place[k.at[h.Row]] = int32(h.Rule)
	}
	for _, x := range poison {
		if k.why == nil {
			k.why = map[int]error{}
		}
		k.place[k.at[x.Row]], k.why[int(k.at[x.Row])] = poisoned, x.Err
	}
	for _, i := range k.at[judged:] {
		k.place[i] = unjudged
	}
	if judged < len(k.given) {
		if err := k.off(&rows[k.at[judged]], len(k.given)-judged, why); err != nil {
			return err
		}
	}
	k.total.Poisoned += int64(len(poison))
	for i := range rows {
		k.row(&rows[i], i, why)
	}
	return nil
}

// row says what becomes of a row, the i-th that is judged.
func (k *mapped) row(in *operator.In, i int, off error) {
	place := k.place[i]
	skipped := place == unseen || place == unjudged && k.spec.OnFailure == FailureSkip
	switch {
	case place == poisoned:
		k.fail(in, "plugin_failed", k.why[i])
	case skipped && k.spec.filters():
	case place == unjudged && !skipped:
		k.fail(in, "plugin_off", off)
	case k.spec.filters():
		k.said = append(k.said, in.Passed(k.namer.Name(in.Name)))
	default:
		k.pass(in, place)
	}
}

// pass says the input row with what was written of it, nothing if there is no place.
func (k *mapped) pass(in *operator.In, place int32) {
	k.cells = k.cells[:0]
	for _, f := range k.spec.Columns[:len(k.spec.Columns)-len(k.spec.Written)] {
		v := in.Value(f)
		if f == k.spec.Whole {
			if b := in.Batch.Event(in.Row); b != nil {
				v = event.Value{Kind: event.Object, Text: b}
			}
		}
		k.cells = append(k.cells, v)
	}
	for _, c := range k.spec.Written {
		v := event.Value{Kind: event.Null}
		if place >= 0 {
			v = k.plugin.Wrote(int(place), c)
		}
		k.cells = append(k.cells, v)
	}
	k.out.AppendRow(k.cells...)
	r := in.Passed(k.namer.Name(in.Name))
	r.Batch, r.Row = k.out, int32(k.out.Rows-1)
	k.said = append(k.said, r)
}

// failureText is what an error row says of a call that failed.
func failureText(m *wasm.Module, why error) string {
	text := "it was switched off"
	if why != nil {
		text = why.Error()
	}
	if t, ok := errors.AsType[*wasm.Trap](why); ok {
		text = t.Error()
	}
	return m.Manifest.String() + ": " + text
}
