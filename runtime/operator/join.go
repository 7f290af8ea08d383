package operator

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Join pairs rows of two inputs that share a key. Its kinds, and what follows here is of the first two; join_window.go and
// join_asof.go are the others:
//
//   - Interval: a left and a right row of one key are partners when right.ts+Lower <= left.ts <= right.ts+Upper, both bounds
//     inclusive, and Where holds. A stored row lives while a partner may still come: left while ts-Lower >= W, right while
//     ts+Upper >= W. A late row looks for partners first; if itself dead it is not stored, and if it has none it is late, or
//     comes out as a row that died.
//   - Regular: the same, but partners may be any time apart. A row lives while ts+TTL >= W, and -Lower and Upper are TTL.
//   - Windowed: rows in the same window are partners, and are said when it closes.
//   - AsOf: a left row and the right row that was the newest at its time. With Bare it is the look-up in a table that a stream keeps.
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
	Kind         JoinKind
	Lower, Upper int64            // ms, of Interval and Regular; else 0
	TTL          int64            // ms, of Regular; of AsOf how long a right row is good for, 0: until a newer one comes
	Window       *Window          // of Windowed: Kind, Size, Slide and Offset of Tumbling, Hopping or Cumulate
	Deleted      *match.Condition // of AsOf, on right rows: nothing is valid any more
	NullSafe     bool
	Outputs      []Output
	Where        *match.Condition // on the pair; reads the names of Pair
	Pair         []Output         // what Where reads, under the names it uses
	RowsMax      int              // rows kept a key and side
	MatchesMax   int              // pairs a row
	Policy       Policy
	Type         JoinType
	Matches      Matches
	Bare         bool    // a row alone lacks the columns of the other side, which otherwise are null
	Cut          *Output // a field of the left row that may say that the row is truncated; nil for none

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

// JoinKind says which rows a Join takes for partners. The zero JoinKind is Interval.
type JoinKind uint8

// The kinds of joins.
const (
	Interval JoinKind = iota
	Regular
	Windowed
	AsOf
)

// String is the kind's name in ids, before "/1".
func (k JoinKind) String() string { return [...]string{"interval", "ttl", "window", "as_of"}[k] }

// Form is the form of the ids of a kind's rows.
func (k JoinKind) Form() string { return k.String() + "/1" }

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
	o.counts = [2]bool{}
	if o.Kind <= Regular {
		o.counts = [2]bool{o.ends[0] || !o.pairs, o.ends[1]}
	}
	o.keeps = [2][]event.Field{}
	all := slices.Concat(o.Outputs, o.Pair)
	if o.Cut != nil {
		all = append(all, *o.Cut)
	}
	for _, x := range all {
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
	if o.Cut != nil {
		o.Cut.place = slices.Index(o.keeps[0], o.Cut.Field)
	}
	if o.Matches == CountMatches {
		o.Columns = append(o.Columns, fields.Add("matches"))
	}
	if o.Kind == Windowed {
		o.Columns = append(o.Columns, fields.Add("window_start"), fields.Add("window_end"))
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

// Logic returns the functions of one shard of an Interval or Regular join.
func (o *Join) Logic() Logic[JoinState] {
	j := &intervalJoin{*o}
	j.work()
	return j
}

// work makes what a shard's own copy writes into.
func (o *Join) work() {
	o.cells = make([]event.Value, len(o.Columns))
	o.now.o = o
}

// capped says that a key is full on a side.
func (o *Join) capped(c *Context, side uint8) {
	c.Counts.RowsCapped++
	if o.Policy == Stop {
		c.Err = fmt.Errorf("join %s: a key has more than %d rows on its %s side and policy is stop; raise max_rows_per_key, %s, or choose keep_newest",
			o.Ident.Operator, o.RowsMax, [2]string{"left", "right"}[side], [...]string{"narrow within", "shorten ttl", "take shorter windows", "lower the watermark's delay"}[o.Kind])
	}
}

// pending says whether a row of a side comes out when it dies, if no partner comes.
func (o *Join) pending(side uint8, r *stored) bool {
	return o.ends[side] && !r.gone && (r.n == 0 || o.Matches == CountMatches)
}

// say says a row of the operator: a pair, or one side alone and the other nil.
func (o *Join) say(c *Context, left, right *stored, cut bool) {
	o.fill(c, left, right, cut)
	switch {
	case right == nil:
		c.Emit(left.ts, left.ts, left.ts, o.Ident.ID(left.id[:], nil), o.cells)
	case left == nil:
		c.Emit(right.ts, right.ts, right.ts, o.Ident.ID(nil, right.id[:]), o.cells)
	default:
		from, to := min(left.ts, right.ts), max(left.ts, right.ts)
		if o.Bare { // what was known is not what happened
			from = left.ts
		}
		c.Emit(to, from, to, o.Ident.ID(left.id[:], right.id[:]), o.cells)
	}
}

// fill sets the cells of a row: a pair, or one side alone and the other nil.
func (o *Join) fill(c *Context, left, right *stored, cut bool) {
	o.now.row = [2]*stored{left, right}
	for i := range o.Outputs {
		o.cells[i] = o.now.cell(&o.Outputs[i])
	}
	if o.Matches == CountMatches {
		o.number = strconv.AppendUint(o.number[:0], uint64(left.n), 10)
		o.cells[len(o.Outputs)] = event.Value{Kind: event.Number, Text: o.number}
	}
	o.cells[len(o.cells)-1] = event.Value{}
	if o.Cut != nil && left != nil {
		o.cells[len(o.cells)-1] = o.now.cell(o.Cut)
	}
	if cut {
		o.cells[len(o.cells)-1] = event.Value{Kind: event.Bool, Text: []byte("true")}
		c.Counts.Truncated++
	}
}

// admit puts a row in its place; if the side is full it drops one, which may be the row itself.
func (o *Join) admit(s *stock, row *stored) (gone stored, dropped bool) {
	if len(s.rows)-s.head < o.RowsMax {
		s.insert(row)
		return stored{}, false
	}
	gone = *row
	if o.Policy == KeepNewest && s.rows[s.head].ts <= row.ts {
		gone = s.rows[s.head]
		s.drop(1)
		s.insert(row)
	}
	return gone, true
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
	if v.row[x.Side] == nil && v.o.Bare {
		return event.Value{}
	}
	if v.row[x.Side] == nil {
		return event.Value{Kind: event.Null}
	}
	return cellAt(v.row[x.Side].data, x.place)
}
