package engine

import (
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Joins of windows and as-of joins by their definitions: a window is the list of its rows, all of which meet when it closes; of
// versions none is ever forgotten, and the one that was valid is looked for among all of them.

func randomPairing(r *rand.Rand, o *refOp) {
	switch o.pairing {
	case operator.Regular:
		o.upper = r.Int64N(12)
		o.lower = -o.upper
	case operator.Windowed:
		o.lower, o.upper = 0, 0
		if o.kind > operator.Cumulate {
			o.kind = operator.Hopping
		}
	case operator.AsOf:
		o.lower, o.upper = 0, 0
		o.typ %= operator.RightOuter
		o.deleted = r.IntN(2) == 0
		if r.IntN(3) == 0 {
			o.ttl = r.Int64N(20)
		}
		o.bare = o.typ == operator.LeftOuter && o.deleted == (o.ttl > 0) // as enrich has it
	}
}

// fillPairing gives the engine's join what the case's has.
func fillPairing(t testing.TB, j *operator.Join, o refOp, f *event.Fields) {
	j.TTL = o.ttl
	switch o.pairing {
	case operator.Regular:
		j.TTL = o.upper
	case operator.Windowed:
		j.Window = &operator.Window{Size: o.size, Offset: o.offset}
		o.fill(j.Window)
	}
	if o.deleted {
		j.Deleted = condition(t, "{v: 0}", f)
	}
	if j.Bare = o.bare; o.bare {
		j.Cut = &operator.Output{Field: f.Add("truncated")}
	}
}

// refPane is a window of a join with the rows of one key that it took.
type refPane struct {
	key        string
	lone       bool
	start, end int64
	rows       [2][]refTaken
	lost       [2]bool // a cap dropped rows
	closed     bool
}

// panes are the windows of a join that cover a time and are open at w, by end.
func (n *refNode) panes(key string, lone bool, ts, w int64) (in []*refPane) {
	add := func(start, end int64) {
		if start > ts || end <= ts || end <= w {
			return
		}
		i := slices.IndexFunc(n.pane, func(x *refPane) bool { return x.key == key && x.start == start && x.end == end })
		if i < 0 {
			i = len(n.pane)
			n.pane = append(n.pane, &refPane{key: key, lone: lone, start: start, end: end})
		}
		in = append(in, n.pane[i])
	}
	step := n.size
	if n.kind == operator.Hopping {
		step = n.slide
	}
	for k := ts/step - 1000; k < ts/step+1000; k++ {
		switch n.kind {
		case operator.Tumbling:
			add(n.offset+k*n.size, n.offset+k*n.size+n.size)
		case operator.Hopping:
			add(n.offset+k*n.slide, n.offset+k*n.slide+n.size)
		case operator.Cumulate:
			for end := n.slide; end <= n.size; end += n.slide {
				add(n.offset+k*n.size, n.offset+k*n.size+end)
			}
		}
	}
	slices.SortFunc(in, func(a, b *refPane) int { return cmp.Compare(a.end, b.end) })
	return in
}

// takePair puts a row into the windows of a join; what a cap drops may come out alone.
func (n *refNode) takePair(pipeline string, p int64, r refRow, key string, side int, w int64, lone bool) (out []refRow) {
	if lone && !n.outer(side) {
		return nil
	}
	if lone {
		key = "lone " + key
	}
	in := n.panes(key, lone, r.ts, w)
	if len(in) == 0 {
		r.p, r.late = p, true
		return []refRow{r}
	}
	n.came++
	self := refTaken{refRow: r, key: key, side: side, arrival: n.came}
	kept := map[int]refTaken{}
	for _, x := range n.pane {
		for _, t := range x.rows[side] {
			if x.key == key && x.end > w {
				kept[t.arrival] = t
			}
		}
	}
	gone := self
	if len(kept) >= n.rowsMax && n.policy == operator.KeepNewest {
		for _, t := range kept {
			if t.ts < gone.ts || t.ts == gone.ts && t.arrival < gone.arrival {
				gone = t
			}
		}
	}
	for _, x := range in {
		if len(kept) < n.rowsMax || gone.arrival != self.arrival {
			x.rows[side] = append(x.rows[side], self)
		}
	}
	if len(kept) < n.rowsMax {
		return nil
	}
	for _, x := range n.panes(key, lone, gone.ts, w) {
		x.rows[side] = slices.DeleteFunc(x.rows[side], func(t refTaken) bool { return t.arrival == gone.arrival })
		x.lost[side] = !lone
		if met := n.metIn(x, gone, side); n.waits(side, met) {
			out = append(out, n.inPane(x, n.alone(pipeline, p, gone.refRow, side, refMet{met: met, hid: !lone}), pipeline, side, gone.id[:]))
		}
	}
	return out
}

func (n *refNode) metIn(x *refPane, t refTaken, side int) (met int) {
	for _, other := range x.rows[1-side] {
		if l, r := t.refRow, other.refRow; !x.lone && (side == 0 && n.partners(l, r) || side == 1 && n.partners(r, l)) {
			met++
		}
	}
	return met
}

// inPane gives what a join says its window: time and id.
func (n *refNode) inPane(x *refPane, row refRow, pipeline string, side int, ids ...[]byte) refRow {
	bounds := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(x.start)), uint64(x.end))
	if len(ids) == 1 && side == 0 {
		ids = append(ids, nil)
	} else if len(ids) == 1 {
		ids = [][]byte{nil, ids[0]}
	}
	row.ts = x.end - 1
	row.id = event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("window/1"), ids[0], ids[1], bounds)
	return row
}

// closePairs says what the windows that end by now have to say, by (end, key).
func (n *refNode) closePairs(pipeline string, p, now int64) (out []refRow) {
	var due []*refPane
	for _, x := range n.pane {
		if x.end <= now && !x.closed && len(x.rows[0])+len(x.rows[1]) > 0 {
			due = append(due, x)
		}
		x.closed = x.closed || x.end <= now
	}
	slices.SortFunc(due, func(a, b *refPane) int {
		return cmp.Or(cmp.Compare(a.end, b.end), strings.Compare(n.keyBytes(a.any()), n.keyBytes(b.any())))
	})
	for _, x := range due {
		out = append(out, n.closePane(pipeline, p, x)...)
	}
	return out
}

func (x *refPane) any() refRow {
	if len(x.rows[0]) > 0 {
		return x.rows[0][0].refRow
	}
	return x.rows[1][0].refRow
}

// keyBytes is a row's key as the engine orders it.
func (n *refNode) keyBytes(r refRow) string {
	c := r.cells[n.key]
	if f, err := strconv.ParseFloat(c.text, 64); c.kind == event.Number && err == nil {
		c.text = strconv.FormatInt(int64(f), 10)
	}
	return string(event.AppendKey(nil, event.Value{Kind: c.kind, Text: []byte(c.text)}))
}

func (n *refNode) closePane(pipeline string, p int64, x *refPane) (out []refRow) {
	for side := range x.rows {
		slices.SortFunc(x.rows[side], func(a, b refTaken) int {
			return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.arrival, b.arrival))
		})
	}
	met, hid := map[int]int{}, map[int]bool{}
	for _, l := range x.rows[0] {
		var hits []refTaken
		for _, r := range x.rows[1] {
			if !x.lone && n.partners(l.refRow, r.refRow) {
				hits = append(hits, r)
			}
		}
		cut := x.lost[1]
		if n.pairsAll() && len(hits) > n.pairsMax {
			for _, r := range hits[n.pairsMax:] {
				hid[r.arrival] = true
			}
			cut, hits = true, hits[:n.pairsMax]
		}
		for i, r := range hits {
			if met[r.arrival]++; n.pairsAll() || n.matches == operator.FirstMatch && i == 0 {
				out = append(out, n.inPane(x, n.paired(pipeline, p, l.refRow, r.refRow, cut || x.lost[0]), pipeline, 0, l.id[:], r.id[:]))
			}
		}
		if n.typ == operator.Semi && len(hits) > 0 || n.waits(0, len(hits)) {
			out = append(out, n.inPane(x, n.alone(pipeline, p, l.refRow, 0, refMet{met: len(hits), hid: cut}), pipeline, 0, l.id[:]))
		}
	}
	for _, r := range x.rows[1] {
		if n.waits(1, met[r.arrival]) {
			out = append(out, n.inPane(x, n.alone(pipeline, p, r.refRow, 1, refMet{hid: hid[r.arrival] || x.lost[0]}), pipeline, 1, r.id[:]))
		}
	}
	return out
}

// version takes a row of an as-of join: a left row waits, a right one is a version for ever.
func (n *refNode) version(pipeline string, p int64, r refRow, key string, side int, w int64) (out []refRow) {
	late := r.ts < w
	if side == 1 && late && !n.stale(r.ts, w) {
		v := n.valid(key, w)
		late = v != nil && v.ts > r.ts
	}
	if late {
		r.p, r.late = p, true
		return []refRow{r}
	}
	n.came++
	n.took = append(n.took, refTaken{refRow: r, key: key, side: side, arrival: n.came})
	var kept []*refTaken
	for i := range n.took {
		if t := &n.took[i]; t.key == key && t.side == side && !t.gone && !t.said && (side == 0 && t.ts >= w || side == 1 && n.useful(t, w)) {
			kept = append(kept, t)
		}
	}
	if len(kept) <= n.rowsMax {
		return nil
	}
	slices.SortFunc(kept, func(a, b *refTaken) int { return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.arrival, b.arrival)) })
	gone := kept[0]
	if n.policy == operator.KeepOldest {
		gone = &n.took[len(n.took)-1]
	}
	if side == 1 {
		n.dropVersion(gone, w)
		return nil
	}
	gone.gone = true
	return n.asked(pipeline, p, *gone, true)
}

// dropVersion notes between which times versions were dropped, as long as that can matter.
func (n *refNode) dropVersion(gone *refTaken, w int64) {
	lost := refLost{from: gone.ts, to: gone.ts}
	if was, ok := n.lost[gone.key]; ok {
		v := n.valid(gone.key, w)
		if v != nil && v.arrival == n.came {
			v = n.validBut(gone.key, w, n.came) // the row that dropped one does not count yet
		}
		if !n.stale(was.to, w) && (v == nil || v.ts <= was.to) {
			lost = refLost{min(was.from, gone.ts), max(was.to, gone.ts)}
		}
	}
	n.lost[gone.key] = lost
	var dead []*refTaken // what a newer version has replaced does not come back when a cap drops that
	for i := range n.took {
		if t := &n.took[i]; t.key == gone.key && t.side == 1 && !n.useful(t, w) {
			dead = append(dead, t)
		}
	}
	for _, t := range append(dead, gone) {
		t.gone = true
	}
}

// refLost is the times of the first and last version that a cap dropped.
type refLost struct{ from, to int64 }

func (n *refNode) stale(ts, w int64) bool { return n.ttl > 0 && ts+n.ttl < w }

// valid is the newest version at a time, whatever it says.
func (n *refNode) valid(key string, ts int64) *refTaken { return n.validBut(key, ts, -1) }

func (n *refNode) validBut(key string, ts int64, arrival int) (v *refTaken) {
	for i := range n.took {
		t := &n.took[i]
		if t.key == key && t.side == 1 && !t.gone && t.arrival != arrival && t.ts <= ts && !n.stale(t.ts, ts) && (v == nil || t.ts >= v.ts) {
			v = t
		}
	}
	return v
}

// useful says whether a version may be asked for by left rows that come at w.
func (n *refNode) useful(t *refTaken, w int64) bool {
	v := n.valid(t.key, w)
	return !n.stale(t.ts, w) && (v == nil || t.ts > v.ts || t == v || t.ts == v.ts && t.arrival > v.arrival)
}

// asked is what a left row has to say.
func (n *refNode) asked(pipeline string, p int64, l refTaken, cut bool) []refRow {
	v := n.valid(l.key, l.ts)
	if lost, ok := n.lost[l.key]; ok && l.ts >= lost.from && (v == nil || v.ts <= lost.to) && !n.stale(lost.to, l.ts) {
		cut = true
	}
	cut = cut || n.bare && l.cells["truncated"].kind == event.Bool
	c := refCell{}
	if v != nil {
		c = v.cells["v"]
	}
	switch {
	case v != nil && !(n.deleted && c.kind == event.Number && c.text == "0") && n.partners(l.refRow, v.refRow):
		return []refRow{n.paired(pipeline, p, l.refRow, v.refRow, cut)}
	case n.typ == operator.LeftOuter:
		return []refRow{n.alone(pipeline, p, l.refRow, 0, refMet{hid: cut})}
	}
	return nil
}

// ask answers the left rows that the watermark has passed, by (time, key, arrival).
func (n *refNode) ask(pipeline string, p, now int64) (out []refRow) {
	var due []*refTaken
	for i := range n.took {
		if t := &n.took[i]; t.side == 0 && !t.gone && !t.said && t.ts < now {
			due = append(due, t)
		}
	}
	slices.SortFunc(due, func(a, b *refTaken) int {
		return cmp.Or(cmp.Compare(a.ts, b.ts), strings.Compare(n.keyBytes(a.refRow), n.keyBytes(b.refRow)), cmp.Compare(a.arrival, b.arrival))
	})
	for _, t := range due {
		t.said = true
		out = append(out, n.asked(pipeline, p, *t, false)...)
	}
	return out
}
