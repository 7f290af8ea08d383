package operator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Join is the inner interval join: a left and a right row of one key pair when right.ts+Lower <= left.ts <=
// right.ts+Upper, both bounds inclusive, once, when the later of them arrives. A stored row lives while an admissible
// partner may still come: left while ts-Lower >= W, right while ts+Upper >= W. A late row probes first; if itself dead it
// is not stored, and if it matched nothing it is late.
//
// Columns: those of Outputs, and `truncated`, true when a cap hid partners from the row that came last.
type Join struct {
	Ident        Ident
	On           [2][]event.Field // left, right: equal length
	Lower, Upper int64            // ms
	NullSafe     bool
	Outputs      []Output
	Where        *match.Condition // on the pair; reads the names of Pair
	Pair         []Output         // what Where reads, under the names it uses
	RowsMax      int              // rows kept a key and side
	MatchesMax   int              // pairs a row
	Policy       Policy

	Columns []event.Field // of its rows, set by Init
	keeps   [2][]event.Field
	index   []int16 // Field -> place in Pair
	cells   []event.Value
	log     []addition // rows added since their keys were last saved
	unsaved int        // keys that have some
	arena   []byte
	hits    []int
	now     pairView
}

// Output is a column of a joined row: a field of the left (0) or right (1) row under a name.
type Output struct {
	Name  event.Field
	Side  uint8
	Field event.Field
	place int // in the side's kept cells
}

// Policy says what a full key does with a new row.
type Policy uint8

// KeepNewest drops the oldest stored row, KeepOldest does not store the new one, Stop ends the run with an error.
const (
	KeepNewest Policy = iota
	KeepOldest
	Stop
)

// CapDefault is the default of RowsMax and of MatchesMax.
const CapDefault = 10_000

// JoinState is the stored rows of a key, left and right, and what was added since the last Save: 1 + the place of the last
// addition in the shard's log, 0 for none.
type JoinState struct {
	side  [2]stock
	added int32
}

// addition is a row that was stored, at which watermark, and the key's addition before it, numbered like JoinState.added.
// The log of all keys is one slice, and empty again when the last of them is saved.
type addition struct {
	row  stored
	w    int64
	prev int32
	side uint8
}

// stock is the rows of one side by (ts, arrival); those before head are dead. A cap that dropped a row hides it from
// partners for as long as it would have lived: while the watermark is at most cut.
type stock struct {
	rows   []stored
	head   int
	capped bool
	cut    int64
}

type stored struct {
	ts   int64
	id   event.ID
	data []byte // the kept cells: kind, length, text
}

// Init completes a Join whose exported fields are set.
func (o *Join) Init(fields *event.Fields) {
	o.keeps = [2][]event.Field{}
	for _, x := range slices.Concat(o.Outputs, o.Pair) {
		o.keeps[x.Side] = append(o.keeps[x.Side], x.Field)
	}
	for side := range o.keeps { // by path: what is stored must not depend on how select is written
		slices.SortFunc(o.keeps[side], func(a, b event.Field) int { return strings.Compare(fields.Path(a), fields.Path(b)) })
		o.keeps[side] = slices.Compact(o.keeps[side])
	}
	o.Columns = nil
	for i := range o.Outputs {
		x := &o.Outputs[i]
		x.place = slices.Index(o.keeps[x.Side], x.Field)
		o.Columns = append(o.Columns, x.Name)
	}
	for i := range o.Pair {
		o.Pair[i].place = slices.Index(o.keeps[o.Pair[i].Side], o.Pair[i].Field)
	}
	o.Columns = append(o.Columns, fields.Add("truncated"))
	o.index = make([]int16, fields.Len())
	for i := range o.index {
		o.index[i] = -1
	}
	for i, x := range o.Pair {
		o.index[x.Name] = int16(i)
	}
}

// Keeps returns the fields of a side that stored rows keep.
func (o *Join) Keeps(side int) []event.Field { return o.keeps[side] }

// Logic returns the functions of one shard.
func (o *Join) Logic() Logic[JoinState] {
	c := *o
	c.cells = make([]event.Value, len(c.Columns))
	c.now.o = &c
	return &c
}

// dies returns the last watermark at which a row lives.
func (o *Join) dies(side uint8, ts int64) int64 {
	if side == 0 {
		return ts - o.Lower
	}
	return ts + o.Upper
}

// Row implements Logic.
func (o *Join) Row(c *Context, s *JoinState, in *In) {
	o.trim(s, in.W)
	row := stored{ts: in.TS, id: in.ID, data: o.pack(in)}
	matched := o.probe(c, &s.side[1-in.Input], &row, in)
	if o.dies(in.Input, in.TS) < in.W {
		if !matched {
			c.TooLate(in)
		}
		return
	}
	o.note(s, addition{row, in.W, s.added, in.Input})
	if dropped := o.store(&s.side[in.Input], in.Input, row); dropped {
		c.Counts.RowsCapped++
		if o.Policy == Stop {
			c.Err = fmt.Errorf("join %s: a key has more than %d rows on its %s side and policy is stop; raise max_rows_per_key, narrow within, or choose keep_newest",
				o.Ident.Operator, o.RowsMax, [2]string{"left", "right"}[in.Input])
		}
	}
}

func (o *Join) note(s *JoinState, a addition) {
	if s.added == 0 {
		o.unsaved++
	}
	o.log = append(o.log, a)
	s.added = int32(len(o.log))
}

// noted forgets the additions of a key.
func (o *Join) noted(s *JoinState) {
	if s.added == 0 {
		return
	}
	s.added = 0
	if o.unsaved--; o.unsaved == 0 {
		clear(o.log)
		o.log = o.log[:0]
	}
}

// probe says the pairs of a new row, by (partner's ts, arrival), and whether there was one.
func (o *Join) probe(c *Context, list *stock, row *stored, in *In) bool {
	from, to := row.ts+o.Lower, row.ts+o.Upper // where the partners of a right row lie
	if in.Input == 0 {
		from, to = row.ts-o.Upper, row.ts-o.Lower
	}
	live := list.rows[list.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].ts >= from })
	o.hits = o.hits[:0]
	cut := list.capped // trim has cleared what is over
	for ; i < len(live) && live[i].ts <= to; i++ {
		if o.Where != nil && !o.Where.Match(o.now.of(row, &live[i], in.Input)) {
			continue
		}
		if len(o.hits) == o.MatchesMax {
			cut = true
			c.Counts.MatchesCapped++
			break
		}
		o.hits = append(o.hits, i)
	}
	for _, i := range o.hits {
		o.say(c, row, &live[i], in.Input, cut)
	}
	return len(o.hits) > 0
}

func (o *Join) say(c *Context, row, partner *stored, side uint8, cut bool) {
	pair := o.now.of(row, partner, side)
	for i := range o.Outputs {
		o.cells[i] = pair.cell(&o.Outputs[i])
	}
	o.cells[len(o.Outputs)] = event.Value{}
	if cut {
		o.cells[len(o.Outputs)] = event.Value{Kind: event.Bool, Text: []byte("true")}
		c.Counts.Truncated++
	}
	c.Emit(max(row.ts, partner.ts), min(row.ts, partner.ts), max(row.ts, partner.ts), o.Ident.ID(pair.row[0].id[:], pair.row[1].id[:]), o.cells)
}

// store puts a row in its place and drops one if the side is full.
func (o *Join) store(s *stock, side uint8, row stored) (dropped bool) {
	if len(s.rows)-s.head < o.RowsMax {
		s.insert(row)
		return false
	}
	gone := row
	if o.Policy == KeepNewest && s.rows[s.head].ts <= row.ts {
		gone = s.rows[s.head]
		s.drop(1)
		s.insert(row)
	}
	s.hide(o.dies(side, gone.ts))
	return true
}

func (s *stock) hide(until int64) {
	if !s.capped || s.cut < until {
		s.capped, s.cut = true, until
	}
}

func (s *stock) insert(row stored) {
	i := len(s.rows)
	for i > s.head && s.rows[i-1].ts > row.ts {
		i--
	}
	s.rows = slices.Insert(s.rows, i, row)
}

// drop forgets the n oldest rows; the slice is closed up when half of it is dead, so that this costs a row a constant.
func (s *stock) drop(n int) {
	clear(s.rows[s.head : s.head+n])
	if s.head += n; s.head*2 >= len(s.rows) {
		live := copy(s.rows, s.rows[s.head:])
		clear(s.rows[live:])
		s.rows, s.head = s.rows[:live], 0
	}
}

func (o *Join) trim(s *JoinState, w int64) {
	for side := range s.side {
		l := &s.side[side]
		n := l.head
		for n < len(l.rows) && o.dies(uint8(side), l.rows[n].ts) < w {
			n++
		}
		if n > l.head {
			l.drop(n - l.head)
		}
		l.capped = l.capped && l.cut >= w
	}
}

// Fire implements Logic: it only cleans.
func (o *Join) Fire(_ *Context, s *JoinState, due int64) { o.trim(s, due) }

// Next implements Logic: the death of a side's newest row, so that a busy key has one timer and not one a row.
func (o *Join) Next(s *JoinState) int64 {
	due := int64(Never)
	for side := range s.side {
		l := &s.side[side]
		if len(l.rows) > l.head {
			due = min(due, o.dies(uint8(side), l.rows[len(l.rows)-1].ts)+1)
		}
		if l.capped {
			due = min(due, l.cut+1)
		}
	}
	return due
}

// Flushes implements Logic: an inner join has nothing to say at the end, and rows appended later may still pair.
func (o *Join) Flushes() bool { return false }

// Clear implements Logic.
func (o *Join) Clear(s *JoinState) {
	o.noted(s)
	for side := range s.side {
		l := &s.side[side]
		*l = stock{rows: l.rows[:0]}
		if cap(l.rows) > 64 {
			l.rows = nil
		}
	}
}

// pack copies the cells that stored rows keep. Rows die about in the order in which they came, so they share chunks.
func (o *Join) pack(in *In) []byte {
	size := 0
	for _, f := range o.keeps[in.Input] {
		size += 1 + binary.MaxVarintLen32 + len(in.Value(f).Text)
	}
	if cap(o.arena)-len(o.arena) < size {
		o.arena = make([]byte, 0, max(size, 32<<10))
	}
	from := len(o.arena)
	for _, f := range o.keeps[in.Input] {
		v := in.Value(f)
		o.arena = append(o.arena, byte(v.Kind))
		o.arena = event.AppendBytes(o.arena, v.Text)
	}
	return o.arena[from:len(o.arena):len(o.arena)]
}

// pairView shows two stored rows as one, left first.
type pairView struct {
	o   *Join
	row [2]*stored
}

func (v *pairView) of(row, partner *stored, side uint8) *pairView {
	v.row[side], v.row[1-side] = row, partner
	return v
}

// Value makes the view a match.Row.
func (v *pairView) Value(f event.Field) event.Value {
	if int(f) >= len(v.o.index) || v.o.index[f] < 0 {
		return event.Value{}
	}
	return v.cell(&v.o.Pair[v.o.index[f]])
}

func (v *pairView) cell(x *Output) event.Value {
	r := event.Reader{B: v.row[x.Side].data}
	for range x.place {
		r.Byte()
		r.Bytes()
	}
	return event.Value{Kind: event.Kind(r.Byte()), Text: r.Bytes()}
}

// The two records of a JoinState.
const (
	recordAdded byte = iota
	recordWhole
)

// Save implements Logic.
func (o *Join) Save(dst []byte, s *JoinState, whole bool) []byte {
	if !whole {
		return o.saveAdded(append(dst, recordAdded), s)
	}
	dst = append(dst, recordWhole)
	for side := range s.side {
		l := &s.side[side]
		dst = append(dst, bits(l.capped, false))
		dst = binary.AppendVarint(dst, l.cut)
		dst = binary.AppendUvarint(dst, uint64(len(l.rows)-l.head))
		for i := l.head; i < len(l.rows); i++ {
			dst = appendStored(dst, &l.rows[i])
		}
	}
	return dst
}

// saveAdded writes additions in their order: side, how far the watermark was behind, the row.
func (o *Join) saveAdded(dst []byte, s *JoinState) []byte {
	o.hits = o.hits[:0]
	for i := s.added; i > 0; i = o.log[i-1].prev {
		o.hits = append(o.hits, int(i-1))
	}
	for _, i := range slices.Backward(o.hits) {
		a := &o.log[i]
		dst = binary.AppendVarint(append(dst, a.side), a.row.ts-a.w)
		dst = appendStored(dst, &a.row)
	}
	o.noted(s)
	return dst
}

func appendStored(dst []byte, r *stored) []byte {
	dst = binary.AppendVarint(dst, r.ts)
	dst = append(dst, r.id[:]...)
	return event.AppendBytes(dst, r.data)
}

// Load implements Logic. Added rows are stored again as they were then, each judged by its own watermark.
func (o *Join) Load(s *JoinState, rec []byte) error {
	r := event.Reader{B: rec}
	switch r.Byte() {
	case recordAdded:
		for len(r.B) > 0 && !r.Bad {
			side, ahead := r.Byte()&1, r.Int()
			row := o.loadStored(&r, side)
			if !r.Bad {
				o.trim(s, row.ts-ahead)
				o.store(&s.side[side], side, row)
			}
		}
	case recordWhole:
		*s = JoinState{}
		for side := range s.side {
			l := &s.side[side]
			l.capped, _ = readBits(&r)
			l.cut = r.Int()
			for n := r.Uint(); n > 0 && !r.Bad; n-- {
				row := o.loadStored(&r, uint8(side))
				if len(l.rows) > 0 && l.rows[len(l.rows)-1].ts > row.ts {
					r.Bad = true
				}
				l.rows = append(l.rows, row)
			}
		}
	default:
		r.Bad = true
	}
	if r.Bad || len(r.B) > 0 {
		*s = JoinState{}
		return errors.New("join state is damaged")
	}
	return nil
}

func (o *Join) loadStored(r *event.Reader, side uint8) stored {
	row := stored{ts: r.Int()}
	copy(row.id[:], r.Take(16))
	row.data = slices.Clone(r.Bytes())
	cells := event.Reader{B: row.data}
	for range o.keeps[side] {
		if event.Kind(cells.Byte()) > event.Array {
			r.Bad = true
		}
		cells.Bytes()
	}
	if cells.Bad || len(cells.B) > 0 {
		r.Bad = true
	}
	return row
}
