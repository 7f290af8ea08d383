package operator

import (
	"fmt"
	"slices"
	"sort"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Join is the interval join: a left and a right row of one key are partners when right.ts+Lower <= left.ts <=
// right.ts+Upper, both bounds inclusive, and Where holds. A stored row lives while a partner may still come: left while
// ts-Lower >= W, right while ts+Upper >= W. A late row looks for partners first; if itself dead it is not stored, and if it
// has none it is late, or comes out as a row that died.
//
// What is said, by Type and Matches:
//   - Inner: each pair once, when the later row arrives. Its time is that of the newer row.
//   - LeftOuter, RightOuter, FullOuter: pairs, and each row of the outer side that died without one, alone, the columns of the
//     other side null: at the first watermark at which no partner can come any more, with its own time.
//   - Semi: each left row once, alone, with its own time, when its first partner is known, whichever came first.
//   - Anti: each left row that died without partner.
//   - Inner or LeftOuter with FirstMatch: of the pairs of each left row only the one that would have been said first.
//   - Inner or LeftOuter with CountMatches: each left row once, when it dies, with the number of its partners, also 0.
//
// Rows alone are never late downstream, if they lived when they came: the output watermark is behind by the larger bound. A
// row without key has no partner: on a side whose rows come out when they die it does so at once; else it is not looked at.
//
// Caps. MatchesMax bounds the pairs that a row says when it comes; partners beyond it do not count, and if they die without
// pair they come out alone, truncated. RowsMax bounds the rows stored a key and side; one that is dropped, and would have come
// out when it died, comes out at once, truncated, as what it was by then.
//
// Columns: those of Outputs; `matches`, with CountMatches; and `truncated`, true when a cap hid partners: from the row that
// came last, or from the row that died.
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
	Type         JoinType
	Matches      Matches

	journal[addition] // rows that came since their keys were last saved

	Columns []event.Field // of its rows, set by Init
	pairs   bool          // every pair is said
	ends    [2]bool       // rows of the side come out when they die, all or those without partner
	counts  [2]bool       // rows of the side must know their partners, also after a restart
	keeps   [2][]event.Field
	index   []int16 // Field -> place in Pair
	cells   []event.Value
	arena   []byte
	row     stored // the one that came
	hits    []int
	number  []byte
	now     pairView
}

// JoinType says which rows a Join says.
type JoinType uint8

// The types, as SQL names them.
const (
	Inner JoinType = iota
	LeftOuter
	RightOuter
	FullOuter
	Semi
	Anti
)

// Matches says how often a left row is said.
type Matches uint8

// AllMatches is each pair, FirstMatch a left row's first one, CountMatches their number.
const (
	AllMatches Matches = iota
	FirstMatch
	CountMatches
)

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

// Init completes a Join whose exported fields are set.
func (o *Join) Init(fields *event.Fields) {
	o.pairs = o.Matches == AllMatches && o.Type != Semi && o.Type != Anti
	o.ends[0] = o.Type == LeftOuter || o.Type == FullOuter || o.Type == Anti || o.Matches == CountMatches
	o.ends[1] = o.Type == RightOuter || o.Type == FullOuter
	o.counts = [2]bool{o.ends[0] || !o.pairs, o.ends[1]}
	o.keeps = [2][]event.Field{}
	for _, x := range slices.Concat(o.Outputs, o.Pair) {
		o.keeps[x.Side] = append(o.keeps[x.Side], x.Field)
	}
	for side := range o.keeps { // by path: what is stored must not depend on how select is written
		o.keeps[side] = sortedByPath(fields, o.keeps[side])
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
	if o.Matches == CountMatches {
		o.Columns = append(o.Columns, fields.Add("matches"))
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

// Lone says whether rows of a side come out although they have no key and so no partner.
func (o *Join) Lone(side uint8) bool { return o.ends[side] }

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
	row := &o.row
	*row = stored{ts: in.TS, id: in.ID}
	row.data, o.arena = packCells(o.arena, o.keeps[in.Input], in)
	if in.Lone {
		o.end(c, in.Input, row)
		return
	}
	o.trim(c, s, in.W)
	o.probe(c, &s.side[1-in.Input], row, in.Input)
	dead := o.dies(in.Input, in.TS) < in.W
	if !dead || row.n > 0 && o.counts[1-in.Input] { // those that it met must know it after a restart
		o.note(&s.added, addition{*row, in.W, s.added, in.Input})
	}
	switch {
	case !dead:
		o.keep(c, s, row, in.Input)
	case o.pending(in.Input, row):
		o.end(c, in.Input, row)
	case row.n == 0:
		c.TooLate(in)
	}
}

// keep stores a row, within the cap.
func (o *Join) keep(c *Context, s *JoinState, row *stored, side uint8) {
	if dropped := o.store(c, &s.side[side], side, row); dropped {
		c.Counts.RowsCapped++
		if o.Policy == Stop {
			c.Err = fmt.Errorf("join %s: a key has more than %d rows on its %s side and policy is stop; raise max_rows_per_key, narrow within, or choose keep_newest",
				o.Ident.Operator, o.RowsMax, [2]string{"left", "right"}[side])
		}
	}
}

// probe lets a new row meet its partners, by (partner's ts, arrival). C is nil when a state is loaded: what was said was said.
func (o *Join) probe(c *Context, list *stock, row *stored, side uint8) {
	from, to := row.ts+o.Lower, row.ts+o.Upper // where the partners of a right row lie
	if side == 0 {
		from, to = row.ts-o.Upper, row.ts-o.Lower
	}
	live := list.rows[list.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].ts >= from })
	o.hits = o.hits[:0]
	full := false
	for ; i < len(live) && live[i].ts <= to; i++ {
		if o.Where != nil && !o.Where.Match(o.now.of(row, &live[i], side)) {
			continue
		}
		if o.pairs && len(o.hits) == o.MatchesMax {
			if full = true; !o.counts[1-side] {
				break
			}
			live[i].hid = true
			continue
		}
		if o.hits = append(o.hits, i); side == 0 && !o.pairs && o.Matches != CountMatches {
			break // one is enough, and partners do not count
		}
	}
	row.hid = list.capped // trim has cleared what is over
	if full && c != nil {
		c.Counts.MatchesCapped++
	}
	for _, i := range o.hits {
		o.meet(c, row, &live[i], side, list.capped || full)
	}
}

// meet says two partners, if that is to be said.
func (o *Join) meet(c *Context, row, partner *stored, side uint8, cut bool) {
	left, right := row, partner
	if side == 1 {
		left, right = right, left
	}
	switch {
	case c == nil:
	case o.pairs || o.Matches == FirstMatch && left.n == 0:
		o.say(c, left, right, cut)
	case o.Type == Semi && left.n == 0:
		o.say(c, left, nil, cut)
	}
	left.met()
	right.met()
}

// pending says whether a row of a side comes out when it dies, if no partner comes.
func (o *Join) pending(side uint8, r *stored) bool {
	return o.ends[side] && !r.gone && (r.n == 0 || o.Matches == CountMatches)
}

// end says a row alone: it died, or will have no other chance.
func (o *Join) end(c *Context, side uint8, r *stored) {
	switch {
	case c == nil:
	case side == 0:
		o.say(c, r, nil, r.hid)
	default:
		o.say(c, nil, r, r.hid)
	}
}

// say says a row of the operator: a pair, or one side alone and the other nil.
func (o *Join) say(c *Context, left, right *stored, cut bool) {
	o.now.row = [2]*stored{left, right}
	for i := range o.Outputs {
		o.cells[i] = o.now.cell(&o.Outputs[i])
	}
	if o.Matches == CountMatches {
		o.number = strconv.AppendUint(o.number[:0], uint64(left.n), 10)
		o.cells[len(o.Outputs)] = event.Value{Kind: event.Number, Text: o.number}
	}
	o.cells[len(o.cells)-1] = event.Value{}
	if cut {
		o.cells[len(o.cells)-1] = event.Value{Kind: event.Bool, Text: []byte("true")}
		c.Counts.Truncated++
	}
	switch {
	case right == nil:
		c.Emit(left.ts, left.ts, left.ts, o.Ident.ID(left.id[:], nil), o.cells)
	case left == nil:
		c.Emit(right.ts, right.ts, right.ts, o.Ident.ID(nil, right.id[:]), o.cells)
	default:
		from, to := min(left.ts, right.ts), max(left.ts, right.ts)
		c.Emit(to, from, to, o.Ident.ID(left.id[:], right.id[:]), o.cells)
	}
}

// store puts a row in its place and drops one if the side is full.
func (o *Join) store(c *Context, s *stock, side uint8, row *stored) (dropped bool) {
	if len(s.rows)-s.head < o.RowsMax {
		s.insert(row)
		return false
	}
	gone := *row
	if o.Policy == KeepNewest && s.rows[s.head].ts <= row.ts {
		gone = s.rows[s.head]
		s.drop(1)
		s.insert(row)
	}
	s.hide(o.dies(side, gone.ts))
	if o.pending(side, &gone) {
		o.lose(c, side, gone)
	}
	return true
}

// lose says a row that a cap dropped: nobody knows which partners would have come.
func (o *Join) lose(c *Context, side uint8, gone stored) {
	gone.hid = true
	o.end(c, side, &gone)
}

// trim forgets what is dead at w. What has something to say then says it; the engine fires that before.
func (o *Join) trim(c *Context, s *JoinState, w int64) {
	for side := range s.side {
		l := &s.side[side]
		n := l.head
		for n < len(l.rows) && o.dies(uint8(side), l.rows[n].ts) < w {
			if o.pending(uint8(side), &l.rows[n]) {
				o.end(c, uint8(side), &l.rows[n])
			}
			n++
		}
		if n > l.head {
			l.drop(n - l.head)
		}
		l.capped = l.capped && l.cut >= w
	}
}

// Fire implements Logic.
func (o *Join) Fire(c *Context, s *JoinState, due int64) {
	if c.W == PosInf {
		o.finish(c, s, due)
		return
	}
	s.moved, s.fired = true, due
	o.trim(c, s, due)
}

// finish says what is due at the end of the input. Only that is gone; the others may meet what is appended later.
func (o *Join) finish(c *Context, s *JoinState, due int64) {
	for side := range s.side {
		l := &s.side[side]
		for l.wait = max(l.wait, l.head); l.wait < len(l.rows) && o.dies(uint8(side), l.rows[l.wait].ts) < due; l.wait++ {
			if r := &l.rows[l.wait]; o.pending(uint8(side), r) {
				o.end(c, uint8(side), r)
				r.gone = true
			}
		}
	}
	if o.due(s) == Never {
		s.ended = true
		s.remove(func(_ uint8, r *stored) bool { return r.gone })
	}
}

// due returns the moment after the death of the first row that will have something to say, or Never.
func (o *Join) due(s *JoinState) int64 {
	due := int64(Never)
	for side := range s.side {
		l := &s.side[side]
		if !o.ends[side] {
			continue
		}
		l.wait = max(l.wait, l.head)
		for l.wait < len(l.rows) && !o.pending(uint8(side), &l.rows[l.wait]) {
			l.wait++
		}
		if l.wait < len(l.rows) {
			due = min(due, o.dies(uint8(side), l.rows[l.wait].ts)+1)
		}
	}
	return due
}

// Next implements Logic: the next moment that says something, else the death of a side's newest row, so that a busy key has
// one timer and not one a row.
func (o *Join) Next(s *JoinState) int64 {
	due := o.due(s)
	if due != Never {
		return due
	}
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

// Flushes implements Logic: rows that come out when they die do so at the end.
func (o *Join) Flushes() bool { return o.ends[0] || o.ends[1] }

// Spares implements Sparing: rows that say nothing alone may meet what is appended later.
func (o *Join) Spares(s *JoinState) bool { return o.due(s) == Never }

// Lasts implements Lasting.
func (o *Join) Lasts() {}

// Clear implements Logic.
func (o *Join) Clear(s *JoinState) {
	o.noted(&s.added)
	s.moved, s.ended = false, false
	for side := range s.side {
		l := &s.side[side]
		*l = stock{rows: l.rows[:0]}
		if cap(l.rows) > 64 {
			l.rows = nil
		}
	}
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
	if v.row[x.Side] == nil {
		return event.Value{Kind: event.Null}
	}
	return cellAt(v.row[x.Side].data, x.place)
}
