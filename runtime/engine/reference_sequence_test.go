package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Sequences for the reference: all rows of a key that were on time are sorted, and each first row is followed through them by
// itself, again at every watermark. Nothing is a state machine over several matches, and nothing is remembered but what was
// taken, what a full key dropped, and how far results were said.

// refSeq is a sequence in the test's own words.
type refSeq struct {
	within int64
	steps  []refStep
	until  *refStep
	most   int // open matches, rows that wait
}

// refStep takes the rows of an input whose field is at least least, or exactly that; an empty field takes all.
type refStep struct {
	input   int
	missing bool
	field   string
	least   int64
	exact   bool
}

func (s *refStep) fits(t *refTaken) bool {
	if s == nil || s.input != t.side {
		return false
	}
	f, err := strconv.ParseFloat(t.cells[s.field].text, 64)
	return s.field == "" || err == nil && f >= float64(s.least) && (!s.exact || f == float64(s.least))
}

// randomSeq draws a sequence over the inputs of o, and perhaps over more.
func randomSeq(r *rand.Rand, o *refOp, pick func() int) {
	o.key, o.join = []string{"k", "k", "k", "v"}[r.IntN(4)], false
	if other := pick(); r.IntN(3) > 0 && other != o.inputs[0] {
		o.inputs = append(o.inputs, other)
	}
	step := func() refStep {
		return refStep{input: r.IntN(len(o.inputs)), field: []string{"", "v", "v", "n", "a"}[r.IntN(5)], least: r.Int64N(4), exact: r.IntN(3) == 0}
	}
	q := &refSeq{within: r.Int64N(20), most: 10_000}
	for range 2 + r.IntN(2) {
		s := step()
		s.missing = len(q.steps) > 0 && r.IntN(3) == 0
		q.steps = append(q.steps, s)
	}
	if r.IntN(3) == 0 {
		s := step()
		q.until = &s
	}
	if r.IntN(3) == 0 {
		q.most = 1 + r.IntN(3)
	}
	o.seq = q
}

// last is the step of the last row: a result has k and v of the first row, as k and a, and v of the last one.
func (q *refSeq) last() int {
	last := 0
	for i, s := range q.steps {
		if !s.missing {
			last = i
		}
	}
	return last
}

func (q *refSeq) absence() bool { return q.steps[len(q.steps)-1].missing }

func compileSequence(t testing.TB, f *event.Fields, o refOp) *operator.Sequence {
	form := "sequence/1"
	if o.seq.absence() {
		form = "absence/1"
	}
	compile := func(s refStep) operator.Step {
		out := operator.Step{Input: uint8(s.input), Missing: s.missing}
		if s.field != "" {
			modifier := "|gte"
			if s.exact {
				modifier = ""
			}
			out.Where = condition(t, fmt.Sprintf("{%s%s: %d}", s.field, modifier, s.least), f)
		}
		return out
	}
	q := &operator.Sequence{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: form}, By: []event.Field{f.Add(o.key)}, Within: o.seq.within, MatchesMax: o.seq.most,
		Outputs: []operator.StepField{{Name: f.Add("k"), Step: 0, Field: f.Add("k")}, {Name: f.Add("a"), Step: 0, Field: f.Add("v")}, {Name: f.Add("v"), Step: o.seq.last(), Field: f.Add("v")}}}
	for _, s := range o.seq.steps {
		q.Steps = append(q.Steps, compile(s))
	}
	if o.seq.until != nil {
		u := compile(*o.seq.until)
		q.Until = &u
	}
	q.Init(f)
	return q
}

// sequence is one position of a sequence: its rows, then what is due in (before, now].
func (n *refNode) sequence(pipeline string, p int64, at [][]refRow, before, now int64) (out []refRow) {
	for side, x := range n.inputs {
		for _, r := range at[x] {
			t := refTaken{refRow: r, side: side}
			key, ok := n.keyOf(r)
			if c := r.cells[n.key]; !ok || c.kind <= event.Null || !n.concerns(&t) {
				continue
			}
			if r.ts < before {
				r.p, r.late = p, true
				out = append(out, r)
				continue
			}
			t.key = key
			n.took = append(n.took, t)
			n.full(key, before)
		}
	}
	if now > before {
		out = append(out, n.said(pipeline, p, before, now)...)
	}
	return out
}

func (n *refNode) concerns(t *refTaken) bool {
	return n.seq.until.fits(t) || slices.ContainsFunc(n.seq.steps, func(s refStep) bool { return s.fits(t) })
}

// full drops the oldest of the rows that wait, if they are too many.
func (n *refNode) full(key string, w int64) {
	var waiting []*refTaken
	for i := range n.took {
		if t := &n.took[i]; t.key == key && !t.gone && t.ts >= w {
			waiting = append(waiting, t)
		}
	}
	if len(waiting) <= n.seq.most {
		return
	}
	slices.SortStableFunc(waiting, inEventOrder)
	waiting[0].gone = true
	n.cut = append(n.cut, refCut{key: key, until: waiting[0].ts + n.seq.within})
}

func inEventOrder(a, b *refTaken) int {
	return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.side, b.side), bytes.Compare(a.id[:], b.id[:]))
}

// refMatch is what becomes of a first row: where it ends in the order of the key's rows, and the rows if it is said.
type refMatch struct {
	first int
	end   int // the row that completes or ends it; the number of rows up to the deadline if none does
	said  bool
	rows  []*refTaken
}

// said are the results of all keys whose due time is in (before, now].
func (n *refNode) said(pipeline string, p, before, now int64) []refRow {
	type result struct {
		due   int64
		bytes string
		row   refRow
	}
	var results []result
	byKey := map[string][]*refTaken{}
	for i := range n.took {
		if t := &n.took[i]; !t.gone && t.ts < now {
			byKey[t.key] = append(byKey[t.key], t)
		}
	}
	for key, rows := range byKey {
		slices.SortStableFunc(rows, inEventOrder)
		c := rows[0].cells[n.key]
		canonical := event.AppendKey(nil, event.Value{Kind: c.kind, Text: []byte(c.text)})
		n.follow(key, rows, now, func(m *refMatch, ts int64, hidden bool) {
			if ts+1 > before && ts+1 <= now {
				results = append(results, result{ts + 1, string(canonical), n.sequenceRow(pipeline, p, ts, m, canonical, hidden)})
			}
		})
	}
	slices.SortStableFunc(results, func(a, b result) int { return cmp.Or(cmp.Compare(a.due, b.due), strings.Compare(a.bytes, b.bytes)) })
	var out []refRow
	for _, r := range results {
		out = append(out, r.row)
	}
	return out
}

// follow works out all matches of a key and says them in order: those that a row completes with the row, absences after the
// rows of their deadline.
func (n *refNode) follow(key string, rows []*refTaken, now int64, say func(m *refMatch, ts int64, hidden bool)) {
	type cut struct {
		row   int
		until int64
	}
	var matches []*refMatch
	var cuts []cut
	for i, t := range rows {
		if !n.seq.steps[0].fits(t) {
			continue
		}
		var open []*refMatch
		for _, m := range matches {
			if m.end > i {
				open = append(open, m)
			}
		}
		if len(open) >= n.seq.most {
			open[0].end, open[0].said = i, false
			cuts = append(cuts, cut{i, rows[open[0].first].ts + n.seq.within})
		}
		matches = append(matches, n.walk(rows, i))
	}
	hidden := func(before int, ts int64) bool {
		return slices.ContainsFunc(n.cut, func(c refCut) bool { return c.key == key && c.until >= ts }) ||
			slices.ContainsFunc(cuts, func(c cut) bool { return c.row < before && c.until >= ts })
	}
	for i := 0; i <= len(rows); i++ { // row by row, after what is due before it
		for _, m := range matches {
			deadline := rows[m.first].ts + n.seq.within
			switch {
			case !m.said || m.end != i:
			case !n.seq.absence():
				say(m, rows[i].ts, hidden(i, rows[i].ts))
			case deadline < now:
				say(m, deadline, hidden(i, deadline))
			}
		}
	}
}

// walk follows the match that a row opens.
func (n *refNode) walk(rows []*refTaken, first int) *refMatch {
	m := &refMatch{first: first, rows: []*refTaken{rows[first]}}
	next := 1 // of the steps
	for i := first + 1; ; i++ {
		want := next // the next step that a row makes
		for want < len(n.seq.steps) && n.seq.steps[want].missing {
			want++
		}
		m.end = i
		if i == len(rows) || rows[i].ts > rows[first].ts+n.seq.within {
			m.said = want == len(n.seq.steps)
			return m
		}
		if want < len(n.seq.steps) && n.seq.steps[want].fits(rows[i]) {
			m.rows = append(m.rows, rows[i])
			if next = want + 1; next == len(n.seq.steps) {
				m.said = true
				return m
			}
		} else if slices.ContainsFunc(n.seq.steps[next:want], func(s refStep) bool { return s.fits(rows[i]) }) {
			return m
		}
		if n.seq.until.fits(rows[i]) {
			return m
		}
	}
}

func (n *refNode) sequenceRow(pipeline string, p, ts int64, m *refMatch, canonical []byte, hidden bool) refRow {
	first, last := m.rows[0], m.rows[len(m.rows)-1]
	parts := [][]byte{[]byte(pipeline), []byte(n.name), []byte("row")}
	if n.seq.absence() {
		parts = append(parts, []byte("absence/1"), canonical, first.id[:], binary.BigEndian.AppendUint64(nil, uint64(ts+1)))
	} else {
		parts = append(parts, []byte("sequence/1"))
		for _, r := range m.rows {
			parts = append(parts, r.id[:])
		}
	}
	cells := map[string]refCell{"k": first.cells["k"], "a": first.cells["v"], "v": last.cells["v"]}
	if hidden {
		cells["truncated"] = refCell{event.Bool, "true"}
	}
	return refRow{p: p, ts: ts, id: event.Hash(parts...), cells: cells}
}
