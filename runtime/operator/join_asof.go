package operator

import (
	"encoding/binary"
	"errors"
	"slices"
	"sort"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// asOfJoin is the Join of kind AsOf, Inner or LeftOuter: right rows are versions of their key, and a left row takes the one that
// was valid at its time, the newest with ts <= left.ts; of equal times the one that arrived last. Nothing is valid before the
// first version, after one that Deleted marks, and later than TTL after a version, if there is a TTL. Where decides afterwards:
// if it does not hold, the left row has no partner, and no older version is tried.
//
// A left row waits until the watermark is past its time: by then every version of that time has come. It is late if the
// watermark is past it when it comes. A version that comes late still counts for what comes after it, unless a newer one is
// valid at the watermark already: then nobody will ask for it, and it is late. For the same reason older versions than that one
// are forgotten. A left row without key takes nothing, and says so at once (LeftOuter).
//
// Caps. RowsMax bounds the left rows of a key that wait, and its versions. A left row that is dropped takes what is valid by
// then, truncated. What might have taken a version that was dropped is truncated.
//
// The end of the input answers what waits, and forgets no version.
//
// Columns: those of Outputs, and truncated.
type asOfJoin struct{ Join }

// AsOfState is a key's left rows that wait and its versions.
type AsOfState struct {
	waiting, versions stock
	capped            bool  // versions were dropped,
	from, to          int64 // the first and last of them at these times
	added             int32 // as of a JoinState, as are the next
	moved, ended      bool
	fired             int64
}

// Versions returns the functions of one shard of an AsOf join.
func (o *Join) Versions() Logic[AsOfState] {
	a := &asOfJoin{*o}
	a.work()
	return a
}

// Row implements Logic.
func (o *asOfJoin) Row(c *Context, s *AsOfState, in *In) {
	row := &o.row
	*row = stored{ts: in.TS, id: in.Name.ID()}
	data, rest := packCells(o.arena, o.keeps[in.Input], in)
	if row.data, o.arena = data, rest; in.Input == 1 { // a version may stay for ever: it must not hold a chunk of others
		row.data, o.arena = slices.Clone(data), rest[:len(rest)-len(data)]
		row.gone = o.Deleted != nil && o.Deleted.Match(in)
	}
	if in.Lone {
		o.say(c, row, nil, false)
		return
	}
	if in.W == PosInf || o.late(s, in) {
		c.TooLate(in)
		return
	}
	o.note(&s.added, addition{*row, in.W, s.added, in.Input})
	o.take(c, s, row, in.Input, in.W)
}

// late says whether a left row cannot be answered any more, or nobody will ask for a version.
func (o *asOfJoin) late(s *AsOfState, in *In) bool {
	if in.TS >= in.W {
		return false
	}
	if in.Input == 0 || o.expired(in.TS, in.W) {
		return true
	}
	newest := s.versions.upTo(in.W)
	return newest != nil && newest.ts > in.TS
}

// expired says whether a version of a time is good for no left row that may come at watermark w.
func (o *asOfJoin) expired(ts, w int64) bool { return o.TTL > 0 && ts+o.TTL < w }

// upTo returns the newest row with ts <= t, or nil.
func (s *stock) upTo(t int64) *stored {
	live := s.rows[s.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].ts > t })
	if i == 0 {
		return nil
	}
	return &live[i-1]
}

// take stores a row that came at watermark w, within the cap. C is nil when a state is loaded: what was said was said.
func (o *asOfJoin) take(c *Context, s *AsOfState, row *stored, side uint8, w int64) {
	o.forget(s, w)
	s.answered(w)
	list := &s.waiting
	if side == 1 {
		if list = &s.versions; row.ts <= w && list.upTo(w) != nil {
			list.drop(1) // which the row replaces
		}
	}
	gone, dropped := o.admit(list, row)
	if !dropped {
		return
	}
	if side == 1 {
		if !s.capped {
			s.capped, s.from, s.to = true, gone.ts, gone.ts
		}
		s.from, s.to = min(s.from, gone.ts), max(s.to, gone.ts)
	}
	if c != nil {
		if o.capped(c, side); side == 0 {
			o.answer(c, s, &gone, true)
		}
	}
}

// forget drops the versions that nobody will ask for at watermark w: those that a newer one has replaced by then, and those
// that are not good any more.
func (o *asOfJoin) forget(s *AsOfState, w int64) {
	l := &s.versions
	n := 0
	for live := l.rows[l.head:]; n < len(live) && (n+1 < len(live) && live[n+1].ts <= w || o.expired(live[n].ts, w)); {
		n++
	}
	if n > 0 {
		l.drop(n)
	}
	if s.capped { // until no left row can take what was dropped
		newest := l.upTo(w)
		s.capped = !o.expired(s.to, w) && (newest == nil || newest.ts <= s.to)
	}
}

// answered drops the left rows of before due.
func (s *AsOfState) answered(due int64) {
	l := &s.waiting
	n := 0
	for live := l.rows[l.head:]; n < len(live) && live[n].ts < due; {
		n++
	}
	if n > 0 {
		l.drop(n)
	}
}

// answer says a left row with the version that was valid at its time.
func (o *asOfJoin) answer(c *Context, s *AsOfState, l *stored, cut bool) {
	v := s.versions.upTo(l.ts)
	if s.capped && l.ts >= s.from && !o.expired(s.to, l.ts) && (v == nil || v.ts <= s.to) {
		cut = true
	}
	if v != nil && (v.gone || o.expired(v.ts, l.ts) || o.Where != nil && !o.Where.Match(o.now.of(l, v, 0))) {
		v = nil
	}
	if v != nil || o.ends[0] {
		o.say(c, l, v, cut)
	}
}

// Fire implements Logic: the left rows of the moment before due are answered, and versions that were replaced by due are
// forgotten, but not at the end of the input: left rows of earlier times may be appended.
func (o *asOfJoin) Fire(c *Context, s *AsOfState, due int64) {
	for live := s.waiting.rows[s.waiting.head:]; len(live) > 0 && live[0].ts < due; live = live[1:] {
		o.answer(c, s, &live[0], false)
	}
	s.answered(due)
	if c.W == PosInf {
		s.ended = true
		return
	}
	s.moved, s.fired = true, due
	o.forget(s, due)
}

// Next implements Logic: the moment after the oldest left row that waits, else the one at which a version is forgotten; of
// several versions all but the last, so that a busy key has one timer. The last one waits for the next.
func (o *asOfJoin) Next(s *AsOfState) int64 {
	if l := &s.waiting; len(l.rows) > l.head {
		return l.rows[l.head].ts + 1
	}
	l := &s.versions
	switch n := len(l.rows) - l.head; {
	case n == 0 && !s.capped:
		return Never
	case n > 1:
		return l.rows[len(l.rows)-1].ts
	case o.TTL == 0:
		return PosInf
	case n == 1:
		return l.rows[l.head].ts + o.TTL + 1
	}
	return s.to + o.TTL + 1
}

// Flushes implements Logic.
func (o *asOfJoin) Flushes() bool { return true }

// Spares implements Sparing: versions may be asked for by what is appended later.
func (o *asOfJoin) Spares(s *AsOfState) bool { return len(s.waiting.rows) == s.waiting.head }

// Lasts implements Lasting.
func (o *asOfJoin) Lasts() {}

// Clear implements Logic.
func (o *asOfJoin) Clear(s *AsOfState) {
	o.noted(&s.added)
	s.waiting.empty()
	s.versions.empty()
	*s = AsOfState{waiting: s.waiting, versions: s.versions}
}

// Save implements Logic. A record of what came since the last one begins with whether the end of the input answered what waited,
// and the last due time that fired, if one did; then come the rows. A whole record is what was dropped, both sides, and which
// versions end one.
func (o *asOfJoin) Save(dst []byte, s *AsOfState, whole bool) []byte {
	if !whole {
		if dst = append(dst, recordAdded, bits(s.moved, s.ended)); s.moved {
			dst = binary.AppendVarint(dst, s.fired)
		}
		s.moved, s.ended = false, false
		dst = o.appendAdditions(dst, s.added)
		o.noted(&s.added)
		return dst
	}
	if dst = append(dst, recordWhole, bits(s.capped, false)); s.capped {
		dst = binary.AppendVarint(binary.AppendVarint(dst, s.from), s.to)
	}
	dst = o.appendRows(dst, &s.waiting, 0)
	l := &s.versions
	dst = o.appendRows(dst, l, 1)
	for i := l.head; i < len(l.rows); i++ {
		dst = append(dst, bits(l.rows[i].gone, false))
	}
	return dst
}

// Load implements Logic. Added rows are stored again as they were then, each at its own watermark.
func (o *asOfJoin) Load(s *AsOfState, rec []byte) error {
	r := event.Reader{B: rec}
	switch r.Byte() {
	case recordAdded:
		o.loadAdded(&r, s)
	case recordWhole:
		*s = AsOfState{}
		o.loadWhole(&r, s)
	default:
		r.Bad = true
	}
	if !r.Done() {
		*s = AsOfState{}
		return errors.New("join state is damaged")
	}
	return nil
}

func (o *asOfJoin) loadAdded(r *event.Reader, s *AsOfState) {
	var fired int64
	moved, ended := readBits(r)
	if moved {
		if fired = r.Int(); !goodTime(fired) {
			r.Bad = true
		}
	}
	for len(r.B) > 0 && !r.Bad {
		right, deleted := readBits(r)
		side, ahead := bits(right, false), r.Int()
		row := o.loadStored(r, side)
		if row.gone = deleted; !r.Bad {
			o.take(nil, s, &row, side, row.ts-ahead)
		}
	}
	if moved && !r.Bad {
		s.answered(fired)
		o.forget(s, fired)
	}
	if ended {
		s.waiting.empty()
	}
}

func (o *asOfJoin) loadWhole(r *event.Reader, s *AsOfState) {
	if s.capped, _ = readBits(r); s.capped {
		if s.from, s.to = r.Int(), r.Int(); !goodTime(s.from) || !goodTime(s.to) {
			r.Bad = true
		}
	}
	o.loadRows(r, &s.waiting, 0)
	o.loadRows(r, &s.versions, 1)
	for i := range s.versions.rows {
		s.versions.rows[i].gone, _ = readBits(r)
	}
}
