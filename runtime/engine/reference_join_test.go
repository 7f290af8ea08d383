package engine

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Joins without windows and versions (reference_pairs_test.go), as code that a person can check: every stored row knows how
// many partners it met, and all are scanned.

// refJoin says which rows a join says.
type refJoin struct {
	pairing operator.JoinKind
	typ     operator.JoinType
	matches operator.Matches
	where   bool // pairs whose left v is at least 1 and right v at most 2
}

// refMet is what became of a stored row.
type refMet struct {
	met  int
	hid  bool // a cap may have hidden a partner
	said bool // it came out when it died
}

func randomJoin(r *rand.Rand, o *refOp) {
	o.pairing = operator.JoinKind(max(r.IntN(6)-2, 0))
	if r.IntN(3) > 0 {
		o.typ = operator.JoinType(r.IntN(6))
	}
	if !o.join {
		o.pairing = operator.Interval
	}
	randomPairing(r, o)
	if o.typ <= operator.LeftOuter && o.pairing != operator.AsOf {
		o.matches = operator.Matches(max(r.IntN(5)-2, 0))
	}
	o.where = r.IntN(4) == 0
}

func compileJoin(t testing.TB, o refOp, f *event.Fields, keys []event.Field) *operator.Join {
	out := func(name string, side uint8, field string) operator.Output {
		return operator.Output{Name: f.Add(name), Side: side, Field: f.Add(field)}
	}
	j := &operator.Join{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: o.pairing.Form()}, Kind: o.pairing, On: [2][]event.Field{keys, keys},
		Lower: o.lower, Upper: o.upper, NullSafe: o.nullSafe, RowsMax: o.rowsMax, MatchesMax: o.pairsMax, Policy: o.policy, Type: o.typ, Matches: o.matches,
		Outputs: []operator.Output{out("k", 0, "k"), out("a", 0, "v"), out("b", 1, "v")}}
	if o.where {
		j.Where = condition(t, "{lv|gte: 1, rv|lte: 2}", f)
		j.Pair = []operator.Output{out("lv", 0, "v"), out("rv", 1, "v")}
	}
	fillPairing(t, j, o, f)
	j.Init(f)
	return j
}

// outer says whether rows of a side come out when they die, though perhaps only those that met nobody.
func (n *refNode) outer(side int) bool {
	switch {
	case !n.join:
		return false
	case side == 0:
		return n.typ == operator.LeftOuter || n.typ == operator.FullOuter || n.typ == operator.Anti || n.matches == operator.CountMatches
	}
	return n.typ == operator.RightOuter || n.typ == operator.FullOuter
}

func (n *refNode) waits(side, met int) bool {
	return n.outer(side) && (met == 0 || n.matches == operator.CountMatches)
}

func (n *refNode) pairsAll() bool {
	return n.typ <= operator.FullOuter && n.matches == operator.AllMatches
}

// lone is a row without a key: nobody is its partner.
func (n *refNode) lone(pipeline string, p int64, r refRow, side int) []refRow {
	if !n.outer(side) {
		return nil
	}
	return []refRow{n.alone(pipeline, p, r, side, refMet{})}
}

func (n *refNode) dies(side int, ts int64) int64 {
	if side == 0 {
		return ts - n.lower
	}
	return ts + n.upper
}

// alive lists the stored rows of a key and side that live at w, by (ts, arrival).
func (n *refNode) alive(key string, side int, w int64) (rows []*refTaken) {
	for i := range n.took {
		if t := &n.took[i]; t.key == key && t.side == side && !t.gone && n.dies(side, t.ts) >= w {
			rows = append(rows, t)
		}
	}
	slices.SortStableFunc(rows, func(a, b *refTaken) int { return cmp.Compare(a.ts, b.ts) })
	return rows
}

func (n *refNode) partners(l, r refRow) bool {
	if n.pairing == operator.Interval && (l.ts < r.ts+n.lower || l.ts > r.ts+n.upper) {
		return false
	}
	a, errA := strconv.ParseFloat(l.cells["v"].text, 64)
	b, errB := strconv.ParseFloat(r.cells["v"].text, 64)
	return !n.where || errA == nil && errB == nil && a >= 1 && b <= 2
}

func (n *refNode) pair(pipeline string, p int64, r refRow, key string, side int, w int64) (out []refRow) {
	hidden := false
	for _, c := range n.cut {
		hidden = hidden || c.key == key && c.side == 1-side && c.until >= w
	}
	self := &refTaken{refRow: r, key: key, side: side, refMet: refMet{hid: hidden}}
	var hits []*refTaken
	for _, t := range n.alive(key, 1-side, w) {
		if side == 0 && n.partners(r, t.refRow) || side == 1 && n.partners(t.refRow, r) {
			hits = append(hits, t)
		}
	}
	if n.pairsAll() && len(hits) > n.pairsMax {
		for _, t := range hits[n.pairsMax:] {
			t.hid = true
		}
		hits, hidden = hits[:n.pairsMax], true
	}
	for _, t := range hits {
		l, rt := self, t
		if side == 1 {
			l, rt = t, self
		}
		switch {
		case n.pairsAll() || n.matches == operator.FirstMatch && l.met == 0:
			out = append(out, n.paired(pipeline, p, l.refRow, rt.refRow, hidden))
		case n.typ == operator.Semi && l.met == 0:
			out = append(out, n.alone(pipeline, p, l.refRow, 0, refMet{hid: hidden}))
		}
		l.met++
		rt.met++
	}
	if n.dies(side, r.ts) < w {
		if n.waits(side, self.met) {
			out = append(out, n.alone(pipeline, p, r, side, self.refMet))
		} else if len(hits) == 0 {
			r.p, r.late = p, true
			out = append(out, r)
		}
		return out
	}
	n.took = append(n.took, *self)
	if rows := n.alive(key, side, w); len(rows) > n.rowsMax {
		gone := rows[0]
		if n.policy == operator.KeepOldest {
			gone = &n.took[len(n.took)-1]
		}
		gone.gone = true
		n.cut = append(n.cut, refCut{key, side, n.dies(side, gone.ts)})
		if gone.hid = true; n.waits(side, gone.met) {
			out = append(out, n.alone(pipeline, p, gone.refRow, side, gone.refMet))
		}
	}
	return out
}

// die says the rows that died at now and have something to say, by (due, key, side, ts, arrival).
func (n *refNode) die(pipeline string, p, now int64) (out []refRow) {
	type due struct {
		at  int64
		key string
		row *refTaken
	}
	var dues []due
	for i := range n.took {
		t := &n.took[i]
		if t.said || t.gone || !n.waits(t.side, t.met) || n.dies(t.side, t.ts) >= now {
			continue
		}
		t.said = true
		key := t.cells[n.key]
		if f, err := strconv.ParseFloat(key.text, 64); key.kind == event.Number && err == nil {
			key.text = strconv.FormatInt(int64(f), 10)
		}
		dues = append(dues, due{n.dies(t.side, t.ts), string(event.AppendKey(nil, event.Value{Kind: key.kind, Text: []byte(key.text)})), t})
	}
	slices.SortStableFunc(dues, func(a, b due) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.key, b.key), cmp.Compare(a.row.side, b.row.side))
	})
	for _, d := range dues {
		out = append(out, n.alone(pipeline, p, d.row.refRow, d.row.side, d.row.refMet))
	}
	return out
}

func (n *refNode) paired(pipeline string, p int64, l, r refRow, hidden bool) refRow {
	cells := map[string]refCell{"k": l.cells["k"], "a": l.cells["v"], "b": r.cells["v"]}
	return n.result(pipeline, p, max(l.ts, r.ts), cells, hidden, l.id[:], r.id[:])
}

func (n *refNode) alone(pipeline string, p int64, r refRow, side int, was refMet) refRow {
	null := refCell{kind: event.Null}
	if side == 1 {
		return n.result(pipeline, p, r.ts, map[string]refCell{"k": null, "a": null, "b": r.cells["v"]}, was.hid, nil, r.id[:])
	}
	if n.bare {
		null, was.hid = refCell{}, was.hid || r.cells["truncated"].kind == event.Bool
	}
	cells := map[string]refCell{"k": r.cells["k"], "a": r.cells["v"], "b": null}
	if n.matches == operator.CountMatches {
		cells["matches"] = refCell{event.Number, strconv.Itoa(was.met)}
	}
	return n.result(pipeline, p, r.ts, cells, was.hid, r.id[:], nil)
}

func (n *refNode) result(pipeline string, p, ts int64, cells map[string]refCell, hidden bool, left, right []byte) refRow {
	if hidden {
		cells["truncated"] = refCell{event.Bool, "true"}
	}
	return refRow{p: p, ts: ts, cells: cells, id: event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte(n.pairing.Form()), left, right)}
}

// What a join says is not late for who reads it, though it waited: the output watermark is behind, or the time is the window's
// last millisecond. Nor is a row without a key. Windows of a millisecond are the most impatient readers.
func TestRowsOfJoinsAreOnTime(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 1))
	streams := []refStream{{delay: 6, parts: 1}, {delay: 6, parts: 1}}
	alone := 0
	for n := range 600 {
		ops := []refOp{{name: "join", join: true, inputs: []int{0, 1}, key: "k", size: 5, lower: r.Int64N(30) - 20, rowsMax: 10_000, pairsMax: 10_000}, {name: "window", inputs: []int{2}, size: 1}}
		ops[0].upper, ops[0].slide, ops[0].kind = ops[0].lower+r.Int64N(25), 2, operator.WindowKind(n%2)
		if ops[0].typ = operator.JoinType(n % 6); n%6 < 2 && n%4 > 1 {
			ops[0].matches = operator.FirstMatch + operator.Matches(n/12%2)
		}
		if ops[0].pairing = operator.JoinKind(n / 150); ops[0].pairing == operator.AsOf {
			ops[0].matches = operator.AllMatches
		}
		randomPairing(r, &ops[0])
		evs := []refEvent{{stream: 0, mark: event.Announce}, {stream: 1, mark: event.Announce}}
		for now := int64(0); now < 200; now += r.Int64N(5) {
			row := refRow{ts: now - r.Int64N(7), cells: map[string]refCell{"k": randomKey(r, 3), "v": {event.Number, "1"}}}
			row.id = event.EventID([8]byte{1}, int64(len(evs)))
			evs = append(evs, refEvent{stream: r.IntN(2), row: row})
		}
		spec := compileCase(t, streams, ops)
		g := newCaseGraph(spec, streams, 2, 0)
		for _, x := range append(itemsOf(spec, evs), itemsOf(spec, []refEvent{{stream: 0, mark: event.Finished}, {stream: 1, mark: event.Finished}})...) {
			if err := g.Block([]Item{x}); err != nil {
				t.Fatal(err)
			}
			for op := range g.ops {
				for i := range g.ops[op].results() {
					switch row := shown(spec, op, &g.ops[op].said[i]); {
					case op == 1 && row.late:
						t.Fatalf("case %d, %s join, type %d, matches %d: late downstream: %v", n, ops[0].pairing, ops[0].typ, ops[0].matches, row)
					case op == 0 && row.cells["b"].kind == event.Null, op == 0 && row.cells["a"].kind == event.Null:
						alone++
					}
				}
			}
		}
	}
	if alone < 5000 {
		t.Errorf("%d rows came out alone", alone)
	}
}
