package operator

import (
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Window groups rows by key and by window, and says a row a window: its aggregates, if Having holds over them. The kinds:
//
//	Tumbling  [start, start+Size), start = ts - floormod(ts-Offset, Size)
//	Hopping   every [start, start+Size) that covers ts, start-Offset being a multiple of Slide, which need not divide Size
//	Cumulate  every [start, start+k*Slide) that covers ts, k = 1 to Size/Slide, start as of Tumbling
//	Session   [ts, ts+Gap), merged with those that it touches (session.go)
//	Counting  Size rows of a key in the order of arrival, a window every Slide rows (count.go)
//
// Windows of time close when the watermark reaches their end, and then say their row; with First they say it the moment
// Having turns true. The row's time is its window's last millisecond. A row goes into each window whose end the watermark
// has not reached, and is late if there is none.
//
// With Lateness a window takes rows until the watermark is Lateness past its end. Its row, said when it closes, is then the
// first of several: each row that it takes after that revises it, for the outputs alone. Readers get the last state, once,
// when nothing can be added any more; for them the watermark is Lateness behind. A revision over which Having no longer holds
// is not said, and the one before it stands. With First nothing is revised: Lateness only gives windows more time to say
// their row, which readers get at once.
//
// Columns: the key fields, window_start, window_end, the aggregates in their order, and those of Marks.
type Window struct {
	Ident       Ident
	Kind        WindowKind
	Size        int64 // ms, at least 1; of Counting rows
	Slide       int64 // the same, of Hopping, Cumulate and Counting: from 1 to Size
	Offset      int64 // ms, of Tumbling, Hopping and Cumulate
	Gap         int64 // ms, at least 1, of Session
	MaxDuration int64 // ms, at least Gap: no session gets longer; 0: as long as it likes
	Partial     bool  // Counting: the end of a bounded input says the windows that are not full
	Keys        []event.Field
	Aggregates  []Aggregate
	Having      *match.Condition
	First       bool  // not of Counting
	Lateness    int64 // ms, not of Counting
	MaxKeys     int   // keys that hold something at one time, at least 1; 0: as many as come
	KeysLate    bool  // rows of further keys are late rows, not errors

	Columns []event.Field // of its rows, set by Init
	index   []int16       // Field -> column
	plain   bool          // counts of all rows only: no accumulators needed
	marks   [3]int        // columns of Marks, or -1: truncated, approximate, merged_into
	names   []string      // of the aggregates
	piles   []*pile       // of a shard's copy: of its Opaque aggregates
	judges  bool          // of such a copy: Having looks at one of them
}

// WindowKind is a kind of window. The zero WindowKind is Tumbling.
type WindowKind uint8

// The kinds of windows.
const (
	Tumbling WindowKind = iota
	Hopping
	Cumulate
	Session
	Counting
)

// String is the kind's name in YAML, and in ids before "/1".
func (k WindowKind) String() string {
	return [...]string{"tumbling", "hopping", "cumulate", "session", "count"}[k]
}

// Form is the form of the ids of a kind's rows.
func (k WindowKind) Form() string { return k.String() + "/1" }

// Limits of windows that overlap: how many slices one may be made of (its Size by Slice), and how many may cover a row if
// each is counted by itself (First).
const (
	SlicesMax  = 10_000
	OverlapMax = 1_000
)

// Overlap is how many windows may cover a row.
func (o *Window) Overlap() int64 {
	if o.Slide == 0 {
		return 1
	}
	return (o.Size + o.Slide - 1) / o.Slide
}

// Slice is the length of the longest stretches that lie in a window wholly or not at all: what arrives is counted once a
// slice, however many windows it belongs to.
func (o *Window) Slice() int64 {
	if o.Kind == Tumbling {
		return o.Size
	}
	a, b := o.Size, o.Slide
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Init completes a Window whose exported fields are set. The names that Columns and Having use are added to fields.
func (o *Window) Init(fields *event.Fields) {
	o.Columns = append(slices.Clone(o.Keys), fields.Add("window_start"), fields.Add("window_end"))
	o.plain = true
	for _, a := range o.Aggregates {
		o.Columns = append(o.Columns, a.Name)
		o.plain = o.plain && a.Func == Count && a.All && a.Where == nil
	}
	o.marks = [3]int{-1, -1, -1}
	for _, name := range o.Marks() {
		o.marks[slices.Index(markNames[:], name)] = len(o.Columns)
		o.Columns = append(o.Columns, fields.Add(name))
	}
	for _, a := range o.Aggregates {
		o.names = append(o.names, fields.Path(a.Name))
	}
	o.index = make([]int16, fields.Len())
	for i := range o.index {
		o.index[i] = -1
	}
	for i, f := range o.Columns {
		o.index[f] = int16(i)
	}
}

var markNames = [3]string{"truncated", "approximate", "merged_into"}

// Marks are the columns that say something about a row, and that it has if they apply: truncated (true), if an aggregate left
// something out; approximate, a list of the aggregates that have become estimates; merged_into, the id of the row that goes
// on for a session that has said its own. Those that never apply are not there.
func (o *Window) Marks() (names []string) {
	if slices.ContainsFunc(o.Aggregates, func(a Aggregate) bool { return a.Func.limited() && !a.Aside }) {
		names = append(names, markNames[0])
	}
	if slices.ContainsFunc(o.Aggregates, func(a Aggregate) bool { return a.Func.estimates() }) {
		names = append(names, markNames[1])
	}
	if o.Kind == Session && o.Revises() {
		names = append(names, markNames[2])
	}
	return names
}

// Revises says whether a window's row may be said more than once.
func (o *Window) Revises() bool { return o.Lateness > 0 && !o.First }

// gone is what windows are over by: those that end at or before it take no rows any more at watermark w.
func (o *Window) gone(w int64) int64 {
	if w < NegInf+o.Lateness {
		return NegInf
	}
	return w - o.Lateness
}

// pane is rows that are counted together: a window, or a slice that several windows share.
type pane struct {
	rows        int64
	first, last int64 // times of the first and last event behind its rows
	said, cut   bool
	acc         []accumulator // one an aggregate, or none if plain
}

func (o *Window) newPane() pane {
	p := pane{first: PosInf, last: NegInf}
	if !o.plain {
		p.acc = make([]accumulator, len(o.Aggregates))
	}
	return p
}

// add takes a row into a pane.
func (o *Window) add(p *pane, in *In) {
	p.rows++
	p.first, p.last = min(p.first, in.First), max(p.last, in.Last)
	for i := range p.acc {
		if o.Aggregates[i].add(&p.acc[i], in) {
			p.cut = true
		}
	}
}

// merge takes the rows of q into p; where times are equal, those of q arrived later.
func (o *Window) merge(p, q *pane) {
	p.rows += q.rows
	p.first, p.last = min(p.first, q.first), max(p.last, q.last)
	p.cut = p.cut || q.cut
	for i := range p.acc {
		if o.Aggregates[i].merge(&p.acc[i], &q.acc[i]) {
			p.cut = true
		}
	}
}

// silence ends a pane that has said its row: nothing that it could still count will be asked for.
func (p *pane) silence() { p.said, p.acc = true, nil }

func (o *Window) savePane(dst []byte, p *pane, at int64) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.rows))
	dst = binary.AppendVarint(dst, p.first-at)
	dst = binary.AppendVarint(dst, p.last-p.first)
	dst = append(dst, bits(p.said, p.cut))
	for i := range p.acc {
		dst = o.Aggregates[i].save(dst, &p.acc[i])
	}
	return dst
}

func (o *Window) loadPane(r *event.Reader, at int64) pane {
	p := o.newPane()
	p.rows = int64(r.Uint())
	p.first = at + r.Int()
	p.last = p.first + r.Int()
	if p.said, p.cut = readBits(r); p.said {
		p.acc = nil
		r.Bad = r.Bad || !o.First
	}
	for i := range p.acc {
		o.Aggregates[i].load(r, &p.acc[i])
	}
	return p
}

// windowView shows a window as a row, cell by cell: Having usually looks at one.
type windowView struct {
	o          *Window
	p          *pane
	start, end int64
	key        []byte
	into       string // merged_into
	part       []byte // what its id has instead of the bounds; empty: these
	scratch    [][]byte
	cells      []event.Value
}

func newView(o *Window) windowView {
	return windowView{o: o, scratch: make([][]byte, len(o.Columns)), cells: make([]event.Value, len(o.Columns))}
}

func (v *windowView) of(p *pane, start, end int64, key []byte) *windowView {
	v.p, v.start, v.end, v.key, v.into, v.part = p, start, end, key, "", v.part[:0]
	return v
}

// holds says whether the window becomes a row. One that does not since an aggregate has failed is an error row; a nil Context says
// none.
func (v *windowView) holds(c *Context) bool {
	if v.o.Having.Match(v) {
		return true
	}
	if name, f := v.o.failed(v.p); f != nil && c != nil {
		id := v.id(v.start, v.end)
		if len(v.part) > 0 {
			id = v.o.Ident.ID(v.key, v.part)
		}
		c.Batch.AppendRow(v.row()...)
		v.fail(c, v.end-1, id, name, f)
	}
	return false
}

// fail says the row that stands last in the batch as an error row: an aggregate of it has failed. Its id is made of that of the window's
// row and how many rows that has: each state of a window is another fault.
func (v *windowView) fail(c *Context, ts int64, id event.ID, name string, f *Failure) {
	var rows [8]byte
	binary.BigEndian.PutUint64(rows[:], uint64(v.p.rows))
	id = v.o.Ident.ID(id[:], rows[:])
	c.add(Result{TS: ts, Name: Named(id), Batch: c.Batch, Row: int32(c.Batch.Rows - 1), First: v.p.first, Last: v.p.last, Kind: Failed, Own: true, Reason: f.Reason, Why: name + ": " + f.Why})
}

// say emits the window's row, its id made of the key and a further part.
func (v *windowView) say(c *Context, ts int64, part []byte) {
	v.emit(c, Data, 0, ts, v.o.Ident.ID(v.key, part))
}

// sayBounds is say for windows that their bounds identify.
func (v *windowView) sayBounds(c *Context) { v.emit(c, Data, 0, v.end-1, v.id(v.start, v.end)) }

// id is the id of a window's row that was first said with these bounds.
func (v *windowView) id(start, end int64) event.ID {
	var bounds [16]byte
	binary.BigEndian.PutUint64(bounds[:], uint64(start))
	binary.BigEndian.PutUint64(bounds[8:], uint64(end))
	return v.o.Ident.ID(v.key, bounds[:])
}

// emit says the row; of one that is revised its last state counts.
func (v *windowView) emit(c *Context, kind uint8, revision, ts int64, id event.ID) {
	if kind != Revised {
		v.count(&c.Counts)
	}
	c.EmitAs(kind, revision, ts, v.p.first, v.p.last, id, v.row())
	if name, f := v.o.failed(v.p); f != nil && kind != Final {
		v.fail(c, ts, id, name, f)
	}
}

// row is the window's row.
func (v *windowView) row() []event.Value {
	for i := range v.cells {
		v.cells[i] = v.cell(i)
	}
	return v.cells
}

func (v *windowView) count(c *Counts) {
	if v.p.cut {
		c.Truncated++
	}
	if slices.ContainsFunc(v.p.acc, func(x accumulator) bool { return x.estimate() }) {
		c.Estimated++
	}
}

// Value makes the view a match.Row.
func (v *windowView) Value(f event.Field) event.Value {
	if int(f) >= len(v.o.index) || v.o.index[f] < 0 {
		return event.Value{}
	}
	return v.cell(int(v.o.index[f]))
}

func (v *windowView) cell(i int) event.Value {
	o, n := v.o, len(v.o.Keys)
	buf := v.scratch[i][:0]
	kind := event.String
	switch {
	case i < n:
		rest := v.key
		var x event.Value
		for range i + 1 {
			x, rest, _ = event.ReadKey(rest)
		}
		return x
	case i == n:
		buf = event.AppendTime(buf, v.start)
	case i == n+1:
		buf = event.AppendTime(buf, v.end)
	case i-n-2 < len(o.Aggregates):
		if o.plain {
			kind, buf = event.Number, strconv.AppendInt(buf, v.p.rows, 10)
			break
		}
		var x event.Value
		x, buf = o.Aggregates[i-n-2].value(&v.p.acc[i-n-2], buf)
		v.scratch[i] = buf
		return x
	case i == o.marks[0] && v.p.cut:
		kind, buf = event.Bool, append(buf, "true"...)
	case i == o.marks[1]:
		kind, buf = event.Array, v.estimates(buf)
	case i == o.marks[2] && v.into != "":
		buf = append(buf, v.into...)
	default:
		return event.Value{}
	}
	if v.scratch[i] = buf; len(buf) == 0 {
		return event.Value{}
	}
	return event.Value{Kind: kind, Text: buf}
}

// estimates lists the aggregates that have become estimates, or nothing.
func (v *windowView) estimates(buf []byte) []byte {
	for i := range v.p.acc {
		if !v.p.acc[i].estimate() {
			continue
		}
		if len(buf) == 0 {
			buf = append(buf, '[')
		} else {
			buf = append(buf, ',')
		}
		buf = event.AppendJSONString(buf, []byte(v.o.names[i]))
	}
	if len(buf) > 0 {
		buf = append(buf, ']')
	}
	return buf
}
