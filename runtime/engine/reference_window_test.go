package engine

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
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
}

func randomWindow(r *rand.Rand, o *refOp) {
	if o.kind = operator.WindowKind(r.IntN(6) % 5); o.kind == operator.Tumbling {
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
	w.Ident.Form = []string{"tumbling/1", "hopping/1", "cumulate/1", "session/1", "count/1"}[o.kind]
}

// refOpen is a window with its rows, in the order of their arrival.
type refOpen struct {
	key        string
	start, end int64
	rows       []refTaken
	said       bool
}

func (n *refNode) windowed(pipeline string, p int64, r refRow, key string, w int64) (out []refRow) {
	n.came++
	t := refTaken{refRow: r, key: key, arrival: n.came}
	var in []*refOpen
	switch {
	case n.kind == operator.Counting:
		return n.counted(pipeline, p, t)
	case n.kind == operator.Session && n.longest == 0:
		in = n.connected(t, w)
	case n.kind == operator.Session:
		in = n.joined(t, w)
	default:
		in = n.covering(t, w)
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
		case o.end > now:
			rest = append(rest, o)
		case !n.first && int64(len(o.rows)) >= n.having:
			add(o.end, 0, n.timed(pipeline, p, o))
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

func (n *refNode) timed(pipeline string, p int64, o *refOpen) refRow {
	part := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(o.start)), uint64(o.end))
	return n.rowOf(pipeline, p, o.end-1, o.rows, n.kind.String()+"/1", part)
}

func (n *refNode) numbered(pipeline string, p int64, rows []refTaken, ordinal int64) refRow {
	rows = rows[:min(n.size, int64(len(rows)))]
	newest := rows[0].ts
	for _, t := range rows {
		newest = max(newest, t.ts)
	}
	return n.rowOf(pipeline, p, newest, rows, "count/1", binary.BigEndian.AppendUint64(nil, uint64(ordinal)))
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
	cells["co"] = refCell{event.Array, fmt.Sprintf("[%s]", strings.Join(texts[:min(len(texts), 3)], ","))}
}
