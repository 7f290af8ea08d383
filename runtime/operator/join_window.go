package operator

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// windowJoin is the Join of kind Windowed: left and right rows of one key are partners if a window has both and Where holds,
// in each such window anew. A row goes into each window whose end the watermark has not reached, and is late if there is none.
//
// Everything is said when a window closes: the left rows by (ts, arrival), each with its partners by (ts, arrival), or alone,
// or with their number; then the right rows that come out alone. FirstMatch is the first of this order. A row without key has
// no partner, and comes out alone at the close like others. The time of what is said is the window's last millisecond, like
// that of a window's row, since its readers' watermark may be there already.
//
// Caps. MatchesMax bounds the pairs of a left row, and closeMax those of a key and window; partners beyond them come out alone,
// truncated, if rows of their side do. RowsMax bounds the rows stored a key and side; a row that is dropped, would come out
// alone, and has no partner by then does so at once, truncated, in each of its windows that is open. The rows of a window are
// marked if their partners may have been dropped.
//
// Columns: as those of other joins, and window_start and window_end before truncated.
type windowJoin struct {
	Join
	grid
	slice int64
	said  int     // pairs of the window that closes
	cut   [2]bool // of the window that closes: rows of the side were dropped
	times [2][]byte
}

// closeMax is the number of pairs that a key may say in one window: they are all said at one moment.
const closeMax = 100_000

// WindowJoinState is the rows of a key that are in open windows.
type WindowJoinState struct {
	side  [2]stock
	lost  [2][]int64 // the starts of the slices that caps dropped rows from
	added int32      // as of a JoinState
	done  int64      // unless it is empty: windows that end here or before are over
	lone  bool       // its rows lack a field of the key
}

// Windows returns the functions of one shard of a Windowed join.
func (o *Join) Windows() Logic[WindowJoinState] {
	w := &windowJoin{Join: *o, grid: o.Window.grid(), slice: o.Window.Slice()}
	w.work()
	return w
}

func (s *WindowJoinState) empty() bool { return s.first() == Never }

// first is the time of the oldest row, stored or lost, or Never.
func (s *WindowJoinState) first() int64 {
	first := int64(Never)
	for side := range s.side {
		if l := &s.side[side]; len(l.rows) > l.head {
			first = min(first, l.rows[l.head].ts)
		}
		if len(s.lost[side]) > 0 {
			first = min(first, s.lost[side][0])
		}
	}
	return first
}

// Row implements Logic.
func (o *windowJoin) Row(c *Context, s *WindowJoinState, in *In) {
	if o.lastEnd(in.TS) <= in.W {
		c.TooLate(in)
		return
	}
	row := &o.row
	*row = stored{ts: in.TS, id: in.Name.ID()}
	row.data, o.arena = packCells(o.arena, o.keeps[in.Input], in)
	s.lone = in.Lone
	o.note(&s.added, addition{*row, in.W, s.added, in.Input})
	o.take(c, s, row, in.Input, in.W)
}

// take stores a row that came at watermark w, within the cap. C is nil when a state is loaded: what was said was said.
func (o *windowJoin) take(c *Context, s *WindowJoinState, row *stored, side uint8, w int64) {
	if s.empty() {
		s.done = w
	}
	o.over(s, max(s.done, w))
	gone, dropped := o.admit(&s.side[side], row)
	if !dropped {
		return
	}
	if !s.lone { // it has no partners to hide from
		s.lose(side, floor(gone.ts, o.offset, o.slice))
	}
	if c != nil {
		o.capped(c, side)
		o.sayLost(c, s, side, &gone)
	}
}

func (s *WindowJoinState) lose(side uint8, slice int64) {
	if i, there := slices.BinarySearch(s.lost[side], slice); !there {
		s.lost[side] = slices.Insert(s.lost[side], i, slice)
	}
}

// sayLost says a row that a cap dropped alone, in each window in which it would come out and has no partner so far.
func (o *windowJoin) sayLost(c *Context, s *WindowJoinState, side uint8, gone *stored) {
	if !o.ends[side] {
		return
	}
	for end, last := o.nextEnd(max(gone.ts, s.done)), o.lastEnd(gone.ts); end <= last; end += o.step {
		gone.n, gone.hid = 0, !s.lone
		for i, others := 0, s.partners(1-side, o.start(end), end); i < len(others); i++ {
			if o.Where == nil || o.Where.Match(o.now.of(gone, &others[i], side)) {
				if gone.met(); o.Matches != CountMatches {
					break
				}
			}
		}
		if o.pending(side, gone) {
			o.alone(c, gone, side, gone.hid, end)
		}
	}
}

// partners are the rows of a side in a window, unless there can be none.
func (s *WindowJoinState) partners(side uint8, start, end int64) []stored {
	if s.lone {
		return nil
	}
	return s.side[side].between(start, end)
}

// over forgets what no window has that ends after done.
func (o *windowJoin) over(s *WindowJoinState, done int64) {
	s.done = done
	for side := range s.side {
		l, n := &s.side[side], 0
		for l.head+n < len(l.rows) && o.lastEnd(l.rows[l.head+n].ts) <= done {
			n++
		}
		if n > 0 {
			l.drop(n)
		}
		n = 0
		for n < len(s.lost[side]) && o.lastEnd(s.lost[side][n]) <= done {
			n++
		}
		s.lost[side] = slices.Delete(s.lost[side], 0, n)
	}
}

// Fire implements Logic: the window that ends at due closes.
func (o *windowJoin) Fire(c *Context, s *WindowJoinState, due int64) {
	start := o.start(due)
	left, right := s.side[0].between(start, due), s.side[1].between(start, due)
	for i := range right {
		right[i].n, right[i].hid = 0, false
	}
	for side := range o.cut {
		i, _ := slices.BinarySearch(s.lost[side], start)
		o.cut[side] = i < len(s.lost[side]) && s.lost[side][i] < due
	}
	o.said = 0
	partners := s.partners(1, start, due)
	for i := range left {
		o.sayLeft(c, &left[i], partners, due)
	}
	for i := range right {
		if r := &right[i]; o.pending(1, r) {
			o.alone(c, r, 1, r.hid || o.cut[0], due)
		}
	}
	o.over(s, due)
}

// sayLeft lets a left row meet its partners and says what there is to say of it.
func (o *windowJoin) sayLeft(c *Context, l *stored, right []stored, end int64) {
	l.n, l.hid = 0, o.cut[1]
	if o.meetAll(l, right) {
		l.hid = true
		c.Counts.MatchesCapped++
	}
	for _, i := range o.hits {
		o.pair(c, l, &right[i], l.hid || o.cut[0], end)
	}
	if o.Type == Semi && l.n > 0 || o.pending(0, l) {
		o.alone(c, l, 0, l.hid, end)
	}
}

// meetAll finds a left row's partners: those that are said as pairs are in hits. Full says that there are more than caps allow.
func (o *windowJoin) meetAll(l *stored, right []stored) (full bool) {
	o.hits = o.hits[:0]
	most := min(o.MatchesMax, closeMax-o.said)
	for i := range right {
		r := &right[i]
		if o.Where != nil && !o.Where.Match(o.now.of(l, r, 0)) {
			continue
		}
		if o.pairs && len(o.hits) == most {
			if full = true; !o.ends[1] {
				break
			}
			r.hid = true
			continue
		}
		l.met()
		r.met()
		if o.pairs || o.Matches == FirstMatch {
			o.hits = append(o.hits, i)
		}
		if !o.pairs && o.Matches != CountMatches {
			break
		}
	}
	o.said += len(o.hits)
	return full
}

func (o *windowJoin) pair(c *Context, l, r *stored, cut bool, end int64) {
	o.fill(c, l, r, cut)
	o.emit(c, min(l.ts, r.ts), max(l.ts, r.ts), end, l.id[:], r.id[:])
}

func (o *windowJoin) alone(c *Context, r *stored, side uint8, cut bool, end int64) {
	if side == 0 {
		o.fill(c, r, nil, cut)
		o.emit(c, r.ts, r.ts, end, r.id[:], nil)
		return
	}
	o.fill(c, nil, r, cut)
	o.emit(c, r.ts, r.ts, end, nil, r.id[:])
}

// emit says the row whose other cells are set, of events from first to last. The window is part of its id.
func (o *windowJoin) emit(c *Context, first, last, end int64, left, right []byte) {
	var bounds [16]byte
	for i, t := range [2]int64{o.start(end), end} {
		binary.BigEndian.PutUint64(bounds[8*i:], uint64(t))
		o.times[i] = event.AppendTime(o.times[i][:0], t)
		o.cells[len(o.cells)-3+i] = event.Value{Kind: event.String, Text: o.times[i]}
	}
	c.Emit(end-1, first, last, o.Ident.ID(left, right, bounds[:]), o.cells)
}

// Next implements Logic: the oldest window that is not over and has a row, or had one that was dropped.
func (o *windowJoin) Next(s *WindowJoinState) int64 {
	first := s.first()
	if first == Never {
		return Never
	}
	return o.nextEnd(max(first, s.done))
}

// Flushes implements Logic.
func (o *windowJoin) Flushes() bool { return true }

// Spares and Lasts are for joins whose rows wait for one another; windows end with the input.

// Clear implements Logic.
func (o *windowJoin) Clear(s *WindowJoinState) {
	o.noted(&s.added)
	for side := range s.side {
		s.side[side].empty()
	}
	*s = WindowJoinState{side: s.side}
}

// Save implements Logic. Both records begin with whether rows lack a field of the key, and which windows are over. Then come
// the rows that came since the last record, as of other joins; or of each side all: slices that lost rows, and rows.
func (o *windowJoin) Save(dst []byte, s *WindowJoinState, whole bool) []byte {
	kind := recordAdded
	if whole {
		kind = recordWhole
	}
	dst = binary.AppendVarint(append(dst, kind, bits(s.lone, false)), s.done)
	if !whole {
		dst = o.appendAdditions(dst, s.added)
		o.noted(&s.added)
		return dst
	}
	for side := range s.side {
		dst = binary.AppendUvarint(dst, uint64(len(s.lost[side])))
		for _, slice := range s.lost[side] {
			dst = binary.AppendVarint(dst, slice)
		}
		dst = o.appendRows(dst, &s.side[side], uint8(side))
	}
	return dst
}

// Load implements Logic.
func (o *windowJoin) Load(s *WindowJoinState, rec []byte) error {
	r := event.Reader{B: rec}
	kind := r.Byte()
	if kind == recordWhole {
		*s = WindowJoinState{}
	}
	s.lone, _ = readBits(&r)
	done := r.Int()
	switch {
	case done != NegInf && !goodTime(done):
		r.Bad = true
	case kind == recordAdded:
		for len(r.B) > 0 && !r.Bad {
			side, ahead := r.Byte()&1, r.Int()
			if row := o.loadStored(&r, side); !r.Bad {
				o.take(nil, s, &row, side, row.ts-ahead)
			}
		}
		o.over(s, done)
	case kind == recordWhole:
		for side := range s.side {
			s.lost[side] = o.loadLost(&r)
			o.loadRows(&r, &s.side[side], uint8(side))
		}
		o.over(s, done)
	default:
		r.Bad = true
	}
	if !r.Done() {
		*s = WindowJoinState{}
		return errors.New("join state is damaged")
	}
	return nil
}

func (o *windowJoin) loadLost(r *event.Reader) (lost []int64) {
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		slice := r.Int()
		if !goodTime(slice) || len(lost) > 0 && lost[len(lost)-1] >= slice {
			r.Bad = true
		}
		lost = append(lost, slice)
	}
	return lost
}
