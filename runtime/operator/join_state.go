package operator

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sort"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// What is kept of a Join. A record of what came since the last one (recordAdded) holds the rows, each with the watermark
// before it. If rows must know their partners it begins with the last due time that fired, and says whether the end of the
// input did; each row of such a side brings what it had met when it came, loading it lets it meet those that were there again,
// without saying anything, and a row that was dead when it came is among them if it met somebody. A whole record (recordWhole)
// holds the rows, with what they met.

// JoinState is the stored rows of a key, left and right, and what was added since the last Save: 1 + the place of the last
// addition in the shard's log, 0 for none.
type JoinState struct {
	side  [2]stock
	added int32
	moved bool // something fired since the last Save, at last what was due at fired
	ended bool // since then the input ended, and what was pending came out
	fired int64
}

// addition is a row that came, at which watermark, and the key's addition before it, numbered like JoinState.added.
// The log of all keys is one slice, and empty again when the last of them is saved.
type addition struct {
	row  stored
	w    int64
	prev int32
	side uint8
}

// stock is the rows of one side by (ts, arrival); those before head are dead, and none before wait is pending. A cap that
// dropped a row hides it from partners for as long as it would have lived: while the watermark is at most cut.
type stock struct {
	rows       []stored
	head, wait int
	capped     bool
	cut        int64
}

type stored struct {
	ts   int64
	id   event.ID
	data []byte // the kept cells: kind, length, text
	n    uint32 // partners met
	hid  bool   // a cap may have hidden one
	gone bool   // it came out at the end of the input; of a right row of AsOf: nothing is valid after it
}

// met counts a partner.
func (r *stored) met() {
	if r.n < math.MaxUint32 {
		r.n++
	}
}

func (s *stock) hide(until int64) {
	if !s.capped || s.cut < until {
		s.capped, s.cut = true, until
	}
}

func (s *stock) insert(row *stored) {
	i := len(s.rows)
	for i > s.head && s.rows[i-1].ts > row.ts {
		i--
	}
	s.rows = slices.Insert(s.rows, i, *row)
	s.wait = min(s.wait, i)
}

// between returns the rows of [start, end).
func (s *stock) between(start, end int64) []stored {
	live := s.rows[s.head:]
	at := func(ts int64) int { return sort.Search(len(live), func(i int) bool { return live[i].ts >= ts }) }
	return live[at(start):at(end)]
}

// empty makes the stock as if it had never been; it keeps a little memory.
func (s *stock) empty() {
	*s = stock{rows: s.rows[:0]}
	if cap(s.rows) > 64 {
		s.rows = nil
	}
}

// drop forgets the n oldest rows; the slice is closed up when half of it is dead, so that this costs a row a constant.
func (s *stock) drop(n int) {
	clear(s.rows[s.head : s.head+n])
	if s.head += n; s.head*2 >= len(s.rows) {
		live := copy(s.rows, s.rows[s.head:])
		clear(s.rows[live:])
		s.wait = max(s.wait-s.head, 0)
		s.rows, s.head = s.rows[:live], 0
	}
}

// remove forgets rows wherever they stand.
func (s *JoinState) remove(which func(side uint8, r *stored) bool) {
	for side := range s.side {
		l := &s.side[side]
		live := slices.DeleteFunc(l.rows[l.head:], func(r stored) bool { return which(uint8(side), &r) })
		l.rows, l.wait = l.rows[:l.head+len(live)], l.head
	}
}

// The two records of a JoinState.
const (
	recordAdded byte = iota
	recordWhole
)

// Save implements Logic.
func (o *intervalJoin) Save(dst []byte, s *JoinState, whole bool) []byte {
	if !whole {
		return o.saveAdded(append(dst, recordAdded), s)
	}
	dst = append(dst, recordWhole)
	for side := range s.side {
		l := &s.side[side]
		dst = append(dst, bits(l.capped, false))
		dst = binary.AppendVarint(dst, l.cut)
		dst = o.appendRows(dst, l, uint8(side))
	}
	return dst
}

func (o *Join) appendRows(dst []byte, l *stock, side uint8) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(l.rows)-l.head))
	for i := l.head; i < len(l.rows); i++ {
		dst = o.appendStored(dst, &l.rows[i], side)
	}
	return dst
}

// saveAdded writes additions in their order: side, how far the watermark was behind, the row.
func (o *intervalJoin) saveAdded(dst []byte, s *JoinState) []byte {
	if o.remembers() {
		if dst = append(dst, bits(s.moved, s.ended)); s.moved {
			dst = binary.AppendVarint(dst, s.fired)
		}
	}
	s.moved, s.ended = false, false
	dst = o.appendAdditions(dst, s.added)
	o.noted(&s.added)
	return dst
}

// appendAdditions writes the rows that came to a key, each behind its side and how far the watermark was behind.
func (o *Join) appendAdditions(dst []byte, added int32) []byte {
	o.hits = o.hits[:0]
	for i := added; i > 0; i = o.log[i-1].prev {
		o.hits = append(o.hits, int(i-1))
	}
	for _, i := range slices.Backward(o.hits) {
		a := &o.log[i]
		dst = binary.AppendVarint(append(dst, bits(a.side == 1, a.row.gone)), a.row.ts-a.w)
		dst = o.appendStored(dst, &a.row, a.side)
	}
	return dst
}

// remembers says whether rows of a side must know their partners.
func (o *Join) remembers() bool { return o.counts[0] || o.counts[1] }

func (o *Join) appendStored(dst []byte, r *stored, side uint8) []byte {
	dst = binary.AppendVarint(dst, r.ts)
	dst = append(dst, r.id[:]...)
	dst = event.AppendBytes(dst, r.data)
	if !o.counts[side] {
		return dst
	}
	met := uint64(r.n) << 1
	if r.hid {
		met |= 1
	}
	return binary.AppendUvarint(dst, met)
}

// Load implements Logic. Added rows are stored again as they were then, each judged by its own watermark.
func (o *intervalJoin) Load(s *JoinState, rec []byte) error {
	r := event.Reader{B: rec}
	switch r.Byte() {
	case recordAdded:
		o.loadAdded(&r, s)
	case recordWhole:
		*s = JoinState{}
		for side := range s.side {
			o.loadStock(&r, &s.side[side], uint8(side))
		}
	default:
		r.Bad = true
	}
	if !r.Done() {
		*s = JoinState{}
		return errors.New("join state is damaged")
	}
	return nil
}

func (o *intervalJoin) loadAdded(r *event.Reader, s *JoinState) {
	var moved, ended bool
	var fired int64
	if o.remembers() {
		if moved, ended = readBits(r); moved {
			fired = r.Int()
		}
	}
	for len(r.B) > 0 && !r.Bad {
		side, ahead := r.Byte()&1, r.Int()
		if row := o.loadStored(r, side); !r.Bad {
			o.replay(s, row, row.ts-ahead, side)
		}
	}
	if moved {
		o.trim(nil, s, fired)
	}
	if ended {
		s.remove(o.pending)
	}
}

// replay does what a row did when it came at watermark w, silently.
func (o *intervalJoin) replay(s *JoinState, row stored, w int64, side uint8) {
	o.trim(nil, s, w)
	if o.counts[1-side] {
		o.row = row
		o.probe(nil, &s.side[1-side], &o.row, side)
	}
	if o.dies(side, row.ts) >= w {
		o.store(nil, &s.side[side], side, &row)
	}
}

func (o *intervalJoin) loadStock(r *event.Reader, l *stock, side uint8) {
	l.capped, _ = readBits(r)
	if l.cut = r.Int(); l.capped && !goodTime(l.cut/2) {
		r.Bad = true
	}
	o.loadRows(r, l, side)
}

func (o *Join) loadRows(r *event.Reader, l *stock, side uint8) {
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		row := o.loadStored(r, side)
		if len(l.rows) > 0 && l.rows[len(l.rows)-1].ts > row.ts {
			r.Bad = true
		}
		l.rows = append(l.rows, row)
	}
}

func (o *Join) loadStored(r *event.Reader, side uint8) stored {
	row := stored{ts: r.Int()}
	copy(row.id[:], r.Take(16))
	row.data = slices.Clone(r.Bytes())
	if o.counts[side] {
		met := r.Uint()
		if row.n, row.hid = uint32(met>>1), met&1 != 0; met>>1 > math.MaxUint32 {
			r.Bad = true
		}
	}
	if !goodTime(row.ts) || !goodCells(row.data, len(o.keeps[side])) {
		r.Bad = true
	}
	return row
}
