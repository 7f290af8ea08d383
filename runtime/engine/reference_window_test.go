package engine

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// The windows that are not tumbling, by their definitions: a window is the list of its rows, and what is said is worked out
// from all of them each time.

// refWindow is what a refOp says of such windows; its zero value is a tumbling window.
type refWindow struct {
	kind    operator.WindowKind
	slide   int64 // or step
	gap     int64
	longest int64 // max_duration; 0: none
	partial bool

	lateness int64
	maxKeys  int
}

func randomWindow(r *rand.Rand, o *refOp) {
	o.kind = operator.WindowKind(r.IntN(6) % 5)
	if r.IntN(3) == 0 && o.kind != operator.Counting {
		o.lateness = 1 + r.Int64N(25)
	}
	if r.IntN(3) == 0 {
		o.maxKeys = 1 + r.IntN(4)
	}
	if o.kind == operator.Tumbling {
		return
	}
	o.slide = 1 + r.Int64N(o.size)
	o.gap = 1 + r.Int64N(5)
	o.partial = r.IntN(2) == 0
	switch {
	case o.kind == operator.Cumulate:
		o.size = o.slide * (1 + r.Int64N(5))
	case o.kind == operator.Session && r.IntN(2) == 0:
		o.longest = o.gap + r.Int64N(8)
	case o.kind == operator.Counting:
		o.size = 1 + r.Int64N(6)
		o.slide = 1 + r.Int64N(o.size)
		o.first = false
	}
}

// fill gives the engine's window the shape of the case's.
func (o *refWindow) fill(w *operator.Window) {
	w.Kind, w.Slide, w.Gap, w.MaxDuration, w.Partial = o.kind, o.slide, o.gap, o.longest, o.partial
	w.Lateness = o.lateness
	w.MaxKeys, w.KeysLate = o.maxKeys, o.maxKeys%2 == 0
	w.Ident.Form = []string{"tumbling/1", "hopping/1", "cumulate/1", "session/1", "count/1"}[o.kind]
}

// refOpen is a window with its rows, in the order of their arrival.
type refOpen struct {
	key        string
	start, end int64
	rows       []refTaken
	order      []int // of a session: its rows by arrival, as plugins see them
	said       bool

	closed  bool   // with lateness, as all that follows
	row     refRow // as it was first said
	place   int    // among those that have said one; 0: not yet
	revised int64  // the number of its next revision
}

func (n *refNode) windowed(pipeline string, p int64, r refRow, key string, w int64) (out []refRow) {
	n.came++
	t := refTaken{refRow: r, key: key, arrival: n.came}
	var in []*refOpen
	before, over := slices.Clone(n.open), w
	if w != operator.NegInf {
		over -= n.lateness // windows that end by then take nothing
	}
	switch {
	case n.kind == operator.Counting:
		return n.counted(pipeline, p, t)
	case n.kind == operator.Session && n.longest == 0:
		in = n.connected(t, over)
	case n.kind == operator.Session:
		in = n.joined(t, over)
	default:
		in = n.covering(t, over)
	}
	if n.kind == operator.Session && len(in) > 0 {
		n.ordered(in[0], before, t)
	}
	if n.lateness > 0 && !n.first {
		for _, o := range in {
			if n.kind == operator.Session {
				out = append(out, n.became(pipeline, p, o, before)...)
			}
			if o.closed = o.end <= w; o.closed {
				out = append(out, n.tells(pipeline, p, o)...)
			}
		}
	}
	for _, o := range in {
		if n.first && !o.said && int64(len(o.rows)) >= n.having {
			o.said = true
			n.done["said "+r.id.String()] = true
			out = append(out, n.timed(pipeline, p, o))
		}
	}
	if len(in) == 0 {
		r.p, r.late = p, true
		return []refRow{r}
	}
	return out
}

// noRoom says whether the key holds nothing and as many as there may be do: those with a row in a window that is not over.
func (n *refNode) noRoom(key string, w int64) bool {
	held := map[string]bool{}
	for _, t := range n.took {
		if n.kind == operator.Counting || t.start+n.size > w {
			held[t.key] = true
		}
	}
	for _, o := range n.open {
		held[o.key] = true
	}
	return !held[key] && len(held) >= n.maxKeys
}

// covering are the hopping or cumulate windows that the row goes into, by end.
func (n *refNode) covering(t refTaken, w int64) (in []*refOpen) {
	add := func(start, end int64) {
		if start > t.ts || end <= t.ts || end <= w {
			return
		}
		i := slices.IndexFunc(n.open, func(o *refOpen) bool { return o.key == t.key && o.start == start && o.end == end })
		if i < 0 {
			i = len(n.open)
			n.open = append(n.open, &refOpen{key: t.key, start: start, end: end})
		}
		n.open[i].rows = append(n.open[i].rows, t)
		in = append(in, n.open[i])
	}
	if n.kind == operator.Tumbling {
		for k := t.ts/n.size - 1000; k < t.ts/n.size+1000; k++ {
			add(n.offset+k*n.size, n.offset+k*n.size+n.size)
		}
		return in
	}
	if n.kind == operator.Hopping {
		for k := t.ts/n.slide - 1000; k < t.ts/n.slide+1000; k++ {
			add(n.offset+k*n.slide, n.offset+k*n.slide+n.size)
		}
		return in
	}
	for k := t.ts/n.size - 1000; k < t.ts/n.size+1000; k++ {
		for end := n.slide; end <= n.size; end += n.slide {
			add(n.offset+k*n.size, n.offset+k*n.size+end)
		}
	}
	return in
}

// connected is the session that the row is in: of all rows that no closed session has, those that are connected with it by
// steps of at most the gap.
func (n *refNode) connected(t refTaken, w int64) []*refOpen {
	live := []refTaken{t}
	var others []*refOpen
	for _, o := range n.open {
		if o.key == t.key {
			live = append(live, o.rows...)
		} else {
			others = append(others, o)
		}
	}
	slices.SortFunc(live, func(a, b refTaken) int { return cmp.Compare(a.ts, b.ts) })
	var mine *refOpen
	var all []*refOpen
	for i, x := range live {
		if i == 0 || x.ts-live[i-1].ts > n.gap {
			all = append(all, &refOpen{key: t.key, start: x.ts})
		}
		o := all[len(all)-1]
		for _, was := range n.open { // of what it is made of, if that is all that it is
			if was.key == t.key && was.rows[0].arrival == x.arrival {
				o.closed, o.row, o.place, o.revised, o.order = was.closed, was.row, was.place, was.revised, was.order
			}
		}
		o.rows = append(o.rows, x)
		o.end = x.ts + n.gap
		o.said = o.said || n.done["said "+x.id.String()]
		if x.arrival == t.arrival {
			mine = o
		}
	}
	if mine.end <= w {
		return nil
	}
	for _, o := range all {
		slices.SortFunc(o.rows, func(a, b refTaken) int { return cmp.Compare(a.arrival, b.arrival) })
	}
	n.open = append(others, all...)
	return []*refOpen{mine}
}

// joined is the session that the row is in where sessions are bounded.
func (n *refNode) joined(t refTaken, w int64) []*refOpen {
	mine := &refOpen{key: t.key, start: t.ts, end: t.ts + n.gap, rows: []refTaken{t}}
	slices.SortStableFunc(n.open, func(a, b *refOpen) int { return cmp.Compare(a.start, b.start) })
	var rest []*refOpen
	for _, o := range n.open {
		start, end := min(o.start, mine.start), max(o.end, mine.end)
		if o.key != t.key || o.start > mine.end || mine.start > o.end || end-start > n.longest {
			rest = append(rest, o)
			continue
		}
		mine.start, mine.end, mine.said = start, end, mine.said || o.said
		mine.rows = append(mine.rows, o.rows...)
	}
	if mine.end <= w {
		return nil
	}
	slices.SortFunc(mine.rows, func(a, b refTaken) int { return cmp.Compare(a.arrival, b.arrival) })
	n.open = append(rest, mine)
	return []*refOpen{mine}
}

// counted says the count window that the row makes full.
func (n *refNode) counted(pipeline string, p int64, t refTaken) []refRow {
	n.took = append(n.took, t)
	rows := n.rowsIn(0, t.key)
	full := int64(len(rows))
	for k := int64(0); k*n.slide+n.size <= full; k++ {
		if k*n.slide+n.size == full && n.size >= n.having {
			return []refRow{n.numbered(pipeline, p, rows[k*n.slide:], k)}
		}
	}
	return nil
}

// closes is what is due by now in windows that are not tumbling.
func (n *refNode) closes(pipeline string, p, now int64) (out []refRow) {
	type due struct {
		end     int64
		bytes   string
		ordinal int64
		row     refRow
	}
	var dues []due
	add := func(end, ordinal int64, row refRow) {
		bytes := ""
		if n.key != "" {
			c := row.cells[n.key]
			bytes = string(event.AppendKey(nil, event.Value{Kind: c.kind, Text: []byte(c.text)}))
		}
		dues = append(dues, due{end, bytes, ordinal, row})
	}
	var rest []*refOpen
	for _, o := range n.open {
		switch {
		case o.end+n.lateness > now:
			rest = append(rest, o)
		case !n.first && int64(len(o.rows)) >= n.having:
			add(o.end+n.lateness, 0, n.timed(pipeline, p, o))
		}
	}
	n.open = rest
	if n.kind == operator.Counting && n.partial && now == operator.PosInf {
		for i, t := range n.took {
			rows := n.rowsIn(0, t.key)
			if slices.IndexFunc(n.took, func(x refTaken) bool { return x.key == t.key }) < i {
				continue // each key once
			}
			for k := int64(0); k*n.slide < int64(len(rows)); k++ {
				if left := rows[k*n.slide:]; int64(len(left)) < n.size && int64(len(left)) >= n.having {
					add(0, k, n.numbered(pipeline, p, left, k))
				}
			}
		}
	}
	slices.SortFunc(dues, func(a, b due) int {
		return cmp.Or(cmp.Compare(a.end, b.end), strings.Compare(a.bytes, b.bytes), cmp.Compare(a.ordinal, b.ordinal))
	})
	for _, d := range dues {
		out = append(out, d.row)
	}
	return out
}

// tells says a window's row as it is now, if it is one: for outputs, as the next revision.
func (n *refNode) tells(pipeline string, p int64, o *refOpen) []refRow {
	if int64(len(o.rows)) < n.having {
		return nil
	}
	r := n.timed(pipeline, p, o)
	if o.place == 0 {
		n.told++
		o.place, o.row = n.told, r
	}
	r.id, r.only, r.rev = o.row.id, "outputs", o.revised
	o.revised++
	return []refRow{r}
}

// became decides whose row goes on in the session that has just got a row: of those that are in it now, that of the one
// that said its row first. The others say so.
func (n *refNode) became(pipeline string, p int64, o *refOpen, before []*refOpen) (out []refRow) {
	var parts []*refOpen
	for _, was := range before {
		if was.place > 0 && slices.ContainsFunc(o.rows, func(t refTaken) bool { return t.arrival == was.rows[0].arrival }) {
			parts = append(parts, was)
		}
	}
	o.place = 0
	if len(parts) == 0 {
		return nil
	}
	first := slices.MinFunc(parts, func(a, b *refOpen) int { return cmp.Compare(a.place, b.place) })
	o.place, o.row, o.revised = first.place, first.row, first.revised
	slices.SortFunc(parts, func(a, b *refOpen) int { return cmp.Compare(a.start, b.start) })
	for _, was := range parts {
		if was != first {
			r := n.timed(pipeline, p, was)
			r.id, r.only, r.rev = was.row.id, "outputs", was.revised
			r.cells["merged_into"] = refCell{event.String, first.row.id.String()}
			out = append(out, r)
		}
	}
	return out
}

// settles is what is due by now in windows whose rows may be revised: some close, and of some readers get what they are in the
// end.
func (n *refNode) settles(pipeline string, p, now int64) (out []refRow) {
	for {
		var next *refOpen
		var due int64
		bytes := func(o *refOpen) string { return n.canonical(o) }
		for _, o := range n.open {
			d := o.end
			if o.closed {
				d += n.lateness
			}
			if d <= now && (next == nil || cmp.Or(cmp.Compare(d, due), strings.Compare(bytes(o), bytes(next)), cmp.Compare(o.end, next.end)) < 0) {
				next, due = o, d
			}
		}
		switch {
		case next == nil:
			return out
		case !next.closed:
			next.closed = true
			out = append(out, n.tells(pipeline, p, next)...)
			continue
		case next.place > 0 && int64(len(next.rows)) >= n.having:
			r := n.timed(pipeline, p, next)
			r.id, r.only = next.row.id, "readers"
			out = append(out, r)
		}
		n.open = slices.DeleteFunc(n.open, func(o *refOpen) bool { return o == next })
	}
}

func (n *refNode) canonical(o *refOpen) string {
	if n.key == "" {
		return ""
	}
	c := o.rows[0].cells[n.key]
	return string(event.AppendKey(nil, event.Value{Kind: c.kind, Text: []byte(c.text)}))
}

func (n *refNode) timed(pipeline string, p int64, o *refOpen) refRow {
	part := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(o.start)), uint64(o.end))
	return n.rowOf(pipeline, p, o.end-1, o.rows, n.weighedOrder(o), n.kind.String()+"/1", part)
}

func (n *refNode) numbered(pipeline string, p int64, rows []refTaken, ordinal int64) refRow {
	rows = rows[:min(n.size, int64(len(rows)))]
	newest := rows[0].ts
	for _, t := range rows {
		newest = max(newest, t.ts)
	}
	return n.rowOf(pipeline, p, newest, rows, rows, "count/1", binary.BigEndian.AppendUint64(nil, uint64(ordinal)))
}

// lists adds first, last and collect (at most 3) of v to the cells of a window's row.
func (n *refNode) lists(rows []refTaken, cells map[string]refCell) {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b refTaken) int { return cmp.Compare(a.ts, b.ts) })
	cells["fi"], cells["la"] = refCell{event.Null, ""}, refCell{event.Null, ""}
	var texts []string
	for _, t := range rows {
		c := t.cells["v"]
		if c.kind != event.Number {
			continue
		}
		if cells["la"] = c; len(texts) == 0 {
			cells["fi"] = c
		}
		texts = append(texts, c.text)
	}
	if len(texts) > 3 {
		cells["truncated"] = refCell{event.Bool, "true"}
	}
	n.ranks(rows, cells)
	cells["co"] = refCell{event.Array, fmt.Sprintf("[%s]", strings.Join(texts[:min(len(texts), 3)], ","))}
}

// refPart is the percentile that windows of the cases have.
const refPart = 0.75

// ranks adds top_k (at most 2) and the percentile of v, which is exact here: the engine's may be 1 % away.
func (n *refNode) ranks(rows []refTaken, cells map[string]refCell) {
	var all []int
	count := map[int]int{}
	for _, t := range rows {
		if c := t.cells["v"]; c.kind == event.Number {
			v, _ := strconv.Atoi(c.text)
			all = append(all, v)
			count[v]++
		}
	}
	slices.Sort(all)
	cells["pc"] = refCell{event.Null, ""}
	if len(all) > 0 {
		cells["pc"] = refCell{event.Number, strconv.Itoa(all[int(refPart*float64(len(all)-1))])}
	}
	values := slices.Sorted(maps.Keys(count))
	slices.SortStableFunc(values, func(a, b int) int { return cmp.Compare(count[b], count[a]) })
	var texts []string
	for _, v := range values[:min(2, len(values))] {
		texts = append(texts, fmt.Sprintf(`{"value":%d,"count":%d}`, v, count[v]))
	}
	cells["to"] = refCell{event.Array, fmt.Sprintf("[%s]", strings.Join(texts, ","))}
}

// near gives a percentile that is within 1 % of what it should be the text of that.
func near(want, got refRow) {
	a, b := want.cells["pc"], got.cells["pc"]
	x, errX := strconv.ParseFloat(a.text, 64)
	y, errY := strconv.ParseFloat(b.text, 64)
	if a.kind == event.Number && b.kind == event.Number && errX == nil && errY == nil && math.Abs(x-y) <= 0.01*math.Abs(x)*(1+1e-9) {
		got.cells["pc"] = a
	}
}
