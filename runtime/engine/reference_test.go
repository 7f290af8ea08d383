package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// The definition of SEMANTICS as code that a person can check: one position at a time, every operator once a position, in
// topological order, everything scanned, nothing remembered that could be worked out again. It shares no code with the
// engine but the types of values and ids.

// refRow is a row with its cells by name.
type refRow struct {
	p, ts int64
	id    event.ID
	cells map[string]refCell
	late  bool
	only  string // "outputs" or "readers", if it is for one of them alone
	rev   int64  // of rows for outputs
}

type refCell struct {
	kind event.Kind
	text string
}

func (r refRow) String() string {
	names := make([]string, 0, len(r.cells))
	for n := range r.cells {
		names = append(names, n)
	}
	slices.Sort(names)
	var b strings.Builder
	fmt.Fprintf(&b, "p%d ts%d late=%v %s %s %d", r.p, r.ts, r.late, r.id, r.only, r.rev)
	for _, n := range names {
		fmt.Fprintf(&b, " %s=%v:%s", n, r.cells[n].kind, r.cells[n].text)
	}
	return b.String()
}

// refEvent is what the sequencer sees.
type refEvent struct {
	stream, part int
	mark         event.Mark
	row          refRow
}

// refOp describes an operator in the test's own words.
type refOp struct {
	name     string
	join     bool
	seq      *refSeq    // a sequence
	recall   *refRecall // of a plugin: one that remembers
	judge    bool       // a plugin: hits rows whose field key is at least having
	filter   bool       // passes on rows whose field key is at least having
	table    []refEntry // enrich: what is known of key
	value    string     // first_seen: of key, within history, after warmUp
	history  int64
	warmUp   int64
	damp     *refHold // alerts held back or grouped, by key
	risk     *refRisk
	only     *refWhere
	inputs   []int
	key      string // one field; "" groups everything
	size     int64
	offset   int64
	having   int64 // n >= having; 0: no condition
	first    bool
	lower    int64
	upper    int64
	ttl      int64 // of as-of joins; 0: none
	deleted  bool  // of as-of joins: right rows with v = 0 end a version
	bare     bool  // of as-of joins: a left row alone lacks b, and is truncated if it was already
	nullSafe bool
	rowsMax  int
	pairsMax int
	policy   operator.Policy
	refJoin
	refWindow
	refRoles
}

// refWhere is a condition on an operator's rows: a field is one of some texts and numbers.
type refWhere struct {
	field   string
	texts   []string
	numbers []int
	inside  bool // of a plugin: its module says so, not the pipeline
}

func (w *refWhere) text() string {
	var values []string
	for _, t := range w.texts {
		values = append(values, strconv.Quote(t))
	}
	for _, n := range w.numbers {
		values = append(values, strconv.Itoa(n))
	}
	return fmt.Sprintf("{%s: [%s]}", w.field, strings.Join(values, ", "))
}

func (w *refWhere) takes(r refRow) bool {
	c := r.cells[w.field]
	if c.kind != event.String && c.kind != event.Number {
		return false
	}
	f, err := strconv.ParseFloat(c.text, 64)
	return slices.ContainsFunc(w.texts, func(t string) bool { return strings.EqualFold(t, c.text) }) ||
		err == nil && slices.ContainsFunc(w.numbers, func(n int) bool { return float64(n) == f })
}

type refStream struct {
	delay  int64
	strict bool
	parts  int
}

type refMark struct {
	w  int64
	st status
}

func refCombine(xs []refMark) refMark {
	var act, idl []int64
	seen := 0
	for _, x := range xs {
		switch x.st {
		case active:
			act = append(act, x.w)
		case idle:
			idl = append(idl, x.w)
		case unknown:
			continue
		}
		seen++
	}
	switch {
	case len(act) > 0:
		return refMark{slices.Min(act), active}
	case len(idl) > 0:
		return refMark{slices.Max(idl), idle}
	case seen > 0:
		return refMark{operator.PosInf, finished}
	}
	return refMark{operator.NegInf, active}
}

// refNode is an operator's state: every row it ever took.
type refNode struct {
	*refOp
	w     int64
	out   refMark
	took  []refTaken
	done  map[string]bool // windows that closed, or said their row
	cut   []refCut
	open  []*refOpen         // windows that are not tumbling
	pane  []*refPane         // windows of joins
	lost  map[string]refLost // of a key's versions
	came  int                // rows that came into them
	told  int                // of those, how many have said a row that may be revised
	seen  []refSeen
	minds refMinds
}

type refTaken struct {
	refRow
	key   string
	start int64
	side  int
	gone  bool // dropped by a cap

	arrival int
	refMet
}

type refCut struct {
	key   string
	side  int
	until int64
}

// reference returns every result of every operator, in order; nil if there are more than limit.
func reference(name string, streams []refStream, ops []refOp, evs []refEvent, limit int) [][]refRow {
	parts := make([][]refMark, len(streams))
	for i, s := range streams {
		for range s.parts {
			parts[i] = append(parts[i], refMark{operator.NegInf, unknown})
		}
	}
	wm := make([]refMark, len(streams)+len(ops))
	for i := range wm {
		wm[i] = refMark{operator.NegInf, active}
	}
	nodes := make([]refNode, len(ops))
	all := make([][]refRow, len(ops))
	for i := range ops {
		if h := ops[i].damp; h != nil {
			h.open = nil
		}
		if k := ops[i].risk; k != nil {
			k.of, k.keys = nil, map[string]*refRiskKey{}
			for _, in := range ops[i].inputs {
				k.of = append(k.of, &ops[in-len(streams)])
			}
		}
		nodes[i] = refNode{refOp: &ops[i], w: operator.NegInf, done: map[string]bool{}, lost: map[string]refLost{}, minds: refMinds{map[string]*refMind{}, operator.NegInf}}
	}
	for i, e := range evs {
		p := int64(i + 1)
		at := make([][]refRow, len(wm))
		part := &parts[e.stream][e.part]
		switch e.mark {
		case event.Announce:
			part.st = active
		case event.Idle:
			part.st = idle
		case event.Finished:
			part.st = finished
		default:
			row := e.row
			row.p = p
			at[e.stream] = []refRow{row}
			w := row.ts - streams[e.stream].delay
			if streams[e.stream].strict {
				w++
			}
			*part = refMark{max(part.w, w), active}
		}
		for s := range streams {
			c := refCombine(parts[s])
			wm[s] = refMark{max(wm[s].w, c.w), c.st}
		}
		for j := range nodes {
			n := &nodes[j]
			var ins []refMark
			for _, x := range n.inputs {
				ins = append(ins, wm[x])
			}
			c := refCombine(ins)
			if n.recall != nil && n.recall.timers && c.w != operator.NegInf && c.w != operator.PosInf {
				c.w -= mod(c.w, refPace)
			}
			before, now := n.w, max(n.w, c.w)
			rows := n.step(name, p, at, before, now)
			n.w = now
			hold := int64(0)
			if n.join {
				hold = max(n.upper, -n.lower, 0)
			} else if n.windows() {
				hold = n.lateness
			}
			wm[len(streams)+j] = refMark{now, c.st}
			if now != operator.NegInf && now != operator.PosInf {
				wm[len(streams)+j].w -= hold
			}
			for _, r := range rows {
				if !r.late && r.only != "outputs" {
					r.only = ""
					at[len(streams)+j] = append(at[len(streams)+j], r)
				}
			}
			all[j] = append(all[j], rows...)
			if limit -= len(rows); limit < 0 {
				return nil
			}
		}
	}
	return all
}

// step is one position of one operator: its rows, then what is due.
func (n *refNode) step(pipeline string, p int64, at [][]refRow, before, now int64) (out []refRow) {
	if n.only != nil && !(n.maps && n.only.inside) {
		at = slices.Clone(at)
		for i := range at {
			at[i] = slices.DeleteFunc(slices.Clone(at[i]), func(r refRow) bool { return !n.only.takes(r) })
		}
	}
	if n.seq != nil {
		return n.sequence(pipeline, p, at, before, now)
	}
	for side, x := range n.inputs {
		for _, r := range at[x] {
			out = append(out, n.row(pipeline, p, r, side, before)...)
		}
	}
	if n.damp != nil {
		return append(out, n.release(p, now)...)
	}
	if n.join && n.pairing == operator.Windowed && now > before {
		out = append(out, n.closePairs(pipeline, p, now)...)
	} else if n.join && n.pairing == operator.AsOf && now > before {
		out = append(out, n.ask(pipeline, p, now)...)
	} else if n.join && now > before {
		out = append(out, n.die(pipeline, p, now)...)
	} else if n.recall != nil && n.recall.timers && now > before {
		out = append(out, n.recallDue(pipeline, p, now)...)
	} else if n.windows() && now > before {
		out = append(out, n.close(pipeline, p, now)...)
	}
	return out
}

// windows says whether the operator is a window.
func (o *refOp) windows() bool {
	return !o.join && !o.judge && !o.passes() && o.table == nil && o.seq == nil && o.damp == nil && o.risk == nil
}

func (n *refNode) keyOf(r refRow) (string, bool) {
	if n.key == "" {
		return "", true
	}
	c := r.cells[n.key]
	switch c.kind {
	case event.Absent, event.Null:
		return "null", !n.join || n.nullSafe
	case event.Number:
		f, _ := strconv.ParseFloat(c.text, 64)
		return fmt.Sprint("number ", f+0), true
	}
	return fmt.Sprint(c.kind, " ", c.text), true
}

func (n *refNode) row(pipeline string, p int64, r refRow, side int, w int64) []refRow {
	if n.recall != nil {
		return n.recallRow(pipeline, p, r, w)
	}
	if n.judge {
		return n.hit(pipeline, p, r)
	}
	if n.maps {
		return n.mapping(pipeline, p, r)
	}
	if n.filter {
		return n.admit(pipeline, p, r)
	}
	if n.table != nil {
		return n.enrich(pipeline, p, r)
	}
	if n.value != "" {
		return n.news(pipeline, p, r, w)
	}
	if n.damp != nil {
		return n.hold(p, r, w)
	}
	if n.risk != nil {
		return n.addRisk(pipeline, p, r, side, w)
	}
	key, ok := n.keyOf(r)
	if n.join && n.pairing == operator.Windowed {
		return n.takePair(pipeline, p, r, key, side, w, !ok)
	}
	if !ok {
		return n.lone(pipeline, p, r, side)
	}
	if n.join && n.pairing == operator.AsOf {
		return n.version(pipeline, p, r, key, side, w)
	}
	if n.join {
		return n.pair(pipeline, p, r, key, side, w)
	}
	if n.maxKeys > 0 && n.noRoom(key, w) {
		r.p, r.late = p, true
		return []refRow{r}
	}
	out := n.taken(pipeline, p, r, key, w)
	if n.fails(r) && !slices.ContainsFunc(out, func(x refRow) bool { return x.late }) {
		r.p, r.late = p, true
		out = append(out, r)
	}
	return out
}

// taken is what a row does to its windows.
func (n *refNode) taken(pipeline string, p int64, r refRow, key string, w int64) []refRow {
	if n.kind != operator.Tumbling || n.lateness > 0 {
		return n.windowed(pipeline, p, r, key, w)
	}
	start := n.offset + r.ts/n.size*n.size // one of them, from where to search
	for start > r.ts {
		start -= n.size
	}
	for start+n.size <= r.ts {
		start += n.size
	}
	if start+n.size <= w {
		r.p, r.late = p, true
		return []refRow{r}
	}
	n.took = append(n.took, refTaken{refRow: r, key: key, start: start})
	id := fmt.Sprint(start, " ", key)
	if n.first && !n.done[id] && n.holds(start, key) {
		n.done[id] = true
		return []refRow{n.window(pipeline, p, start, key)}
	}
	return nil
}

// hit is the rule brute_force: whole numbers, also those in texts, that reach the threshold.
func (n *refNode) hit(pipeline string, p int64, r refRow) []refRow {
	c := r.cells[n.key]
	f, err := strconv.ParseFloat(c.text, 64)
	if c.kind != event.Number && c.kind != event.String || err != nil || f != float64(int64(f)) || int64(f) < n.having {
		return nil
	}
	severity := "medium"
	if int64(f) >= 20*n.having {
		severity = "critical"
	} else if int64(f) >= 4*n.having {
		severity = "high"
	}
	out := refRow{p: p, ts: r.ts, cells: map[string]refCell{"rule_id": {event.Number, "1"}, "severity": {event.String, severity}, "note": {event.Null, ""}}}
	for _, name := range []string{"k", "v", "n", "a"} {
		out.cells[name] = r.cells[name]
	}
	out.id = event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("detect/1"), r.id[:], []byte{0, 0, 0, 1})
	return []refRow{out}
}

func (n *refNode) rowsIn(start int64, key string) (rows []refTaken) {
	for _, t := range n.took {
		if t.start == start && t.key == key {
			rows = append(rows, t)
		}
	}
	return rows
}

func (n *refNode) holds(start int64, key string) bool {
	return int64(len(n.rowsIn(start, key))) >= n.having
}

func (n *refNode) window(pipeline string, p, start int64, key string) refRow {
	bounds := fmt.Appendf(nil, "%s", []byte{})
	for _, t := range []int64{start, start + n.size} {
		for i := 7; i >= 0; i-- {
			bounds = append(bounds, byte(uint64(t)>>(8*i)))
		}
	}
	rows := n.rowsIn(start, key)
	return n.rowOf(pipeline, p, start+n.size-1, rows, rows, "tumbling/1", bounds)
}

// rowOf is the row of a window of the given rows, in the order of arrival and as plugins see them, its id made of the key and a part.
func (n *refNode) rowOf(pipeline string, p, ts int64, rows, seen []refTaken, form string, part []byte) refRow {
	sum, values := int64(0), map[string]bool{}
	var least, most *int64
	for _, t := range rows {
		c := t.cells["v"]
		if c.kind != event.Number {
			continue
		}
		v, _ := strconv.ParseInt(c.text, 10, 64)
		sum += v
		values[c.text] = true
		if least == nil || v < *least {
			least = &v
		}
		if most == nil || v > *most {
			most = &v
		}
	}
	num := func(v int64) refCell { return refCell{event.Number, strconv.FormatInt(v, 10)} }
	cells := map[string]refCell{"n": num(int64(len(rows))), "s": num(sum), "d": num(int64(len(values))),
		"lo": {event.Null, ""}, "hi": {event.Null, ""}}
	if least != nil {
		cells["lo"], cells["hi"] = num(*least), num(*most)
	}
	var canonical []byte
	if n.key != "" {
		c := rows[0].cells[n.key]
		if f, err := strconv.ParseFloat(c.text, 64); c.kind == event.Number && err == nil {
			c.text = strconv.FormatInt(int64(f), 10)
		}
		if c.kind == event.Absent {
			c.kind = event.Null
		}
		cells[n.key] = c
		canonical = event.AppendKey(nil, event.Value{Kind: c.kind, Text: []byte(c.text)})
	}
	n.lists(rows, cells)
	if n.weigh > 0 {
		cells["we"] = n.weighed(seen)
	}
	id := event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte(form), canonical, part)
	return refRow{p: p, ts: ts, id: id, cells: cells}
}

func (n *refNode) close(pipeline string, p, now int64) (out []refRow) {
	if n.lateness > 0 && !n.first {
		return n.settles(pipeline, p, now)
	}
	if n.kind != operator.Tumbling || n.lateness > 0 {
		return n.closes(pipeline, p, now)
	}
	type due struct {
		end   int64
		bytes string
		start int64
		key   string
	}
	var dues []due
	for _, t := range n.took {
		id := fmt.Sprint(t.start, " ", t.key)
		if t.start+n.size <= now && !n.done["closed "+id] {
			n.done["closed "+id] = true
			if !n.first && n.holds(t.start, t.key) {
				row := n.window(pipeline, p, t.start, t.key)
				var bytes []byte
				if n.key != "" {
					c := row.cells[n.key]
					bytes = event.AppendKey(nil, event.Value{Kind: c.kind, Text: []byte(c.text)})
				}
				dues = append(dues, due{t.start + n.size, string(bytes), t.start, t.key})
			}
		}
	}
	slices.SortFunc(dues, func(a, b due) int { return cmp.Or(cmp.Compare(a.end, b.end), strings.Compare(a.bytes, b.bytes)) })
	for _, d := range dues {
		out = append(out, n.window(pipeline, p, d.start, d.key))
	}
	return out
}
