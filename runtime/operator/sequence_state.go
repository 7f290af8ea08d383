package operator

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// What is kept of a Sequence. A record of what came since the last one (recordAdded) holds the rows, each with the watermark
// before it, and the last due time that fired: loading it runs them again, without saying anything. A whole record
// (recordWhole) holds the rows that wait, a table of the rows of matches, since matches share rows, and the matches.

// Save implements Logic.
func (o *Sequence) Save(dst []byte, s *SequenceState, whole bool) []byte {
	if whole {
		return o.saveWhole(append(dst, recordWhole), s)
	}
	dst = o.saveAdded(append(dst, recordAdded), s)
	if dst = append(dst, bits(s.moved, false)); s.moved {
		dst = binary.AppendVarint(dst, s.fired)
	}
	s.moved = false
	return dst
}

func (o *Sequence) saveAdded(dst []byte, s *SequenceState) []byte {
	o.order = o.order[:0]
	for i := s.added; i > 0; i = o.log[i-1].prev {
		o.order = append(o.order, int(i-1))
	}
	dst = binary.AppendUvarint(dst, uint64(len(o.order)))
	for _, i := range slices.Backward(o.order) {
		a := &o.log[i]
		dst = appendStepRow(binary.AppendVarint(dst, a.row.ts-a.w), a.row)
	}
	o.noted(&s.added)
	return dst
}

func (o *Sequence) saveWhole(dst []byte, s *SequenceState) []byte {
	if dst = append(dst, bits(s.capped, false)); s.capped {
		dst = binary.AppendVarint(dst, s.cut)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.waiting)))
	for _, r := range s.waiting {
		dst = appendStepRow(dst, r)
	}
	o.rows = o.rows[:0]
	clear(o.places)
	for i := range s.open {
		o.place(s.open[i].first)
		for _, r := range s.open[i].rest {
			o.place(r)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(o.rows)))
	for _, r := range o.rows {
		dst = appendStepRow(dst, r)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.open)))
	for i := range s.open {
		m := &s.open[i]
		dst = binary.AppendUvarint(dst, uint64(len(m.rest)))
		dst = binary.AppendUvarint(dst, o.places[m.first])
		for _, r := range m.rest {
			dst = binary.AppendUvarint(dst, o.places[r])
		}
	}
	return dst
}

// place gives a row of a match its place in the table.
func (o *Sequence) place(r *stepRow) {
	if _, ok := o.places[r]; !ok {
		o.places[r] = uint64(len(o.rows))
		o.rows = append(o.rows, r)
	}
}

func appendStepRow(dst []byte, r *stepRow) []byte {
	dst = binary.AppendVarint(dst, r.ts)
	dst = binary.AppendVarint(dst, r.ts-r.first)
	dst = binary.AppendVarint(dst, r.last-r.ts)
	dst = append(dst, r.input)
	dst = binary.AppendUvarint(dst, uint64(r.fits))
	dst = append(dst, r.id[:]...)
	return event.AppendBytes(dst, r.data)
}

// Load implements Logic.
func (o *Sequence) Load(s *SequenceState, rec []byte) error {
	r := event.Reader{B: rec}
	switch r.Byte() {
	case recordAdded:
		o.loadAdded(&r, s)
	case recordWhole:
		*s = SequenceState{}
		o.loadWhole(&r, s)
	default:
		r.Bad = true
	}
	s.moved = false
	if !r.Done() {
		*s = SequenceState{}
		return errors.New("sequence state is damaged")
	}
	return nil
}

func (o *Sequence) loadAdded(r *event.Reader, s *SequenceState) {
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		ahead := r.Int()
		if row := o.loadStepRow(r); !r.Bad {
			o.replay(s, row.ts-ahead)
			o.wait(s, row)
		}
	}
	if moved, _ := readBits(r); moved {
		if due := r.Int(); !r.Bad {
			o.replay(s, due)
		}
	}
}

// replay fires what is due by w, silently.
func (o *Sequence) replay(s *SequenceState, w int64) {
	for due := o.Next(s); due <= w; due = o.Next(s) {
		o.Fire(nil, s, due)
	}
}

func (o *Sequence) loadWhole(r *event.Reader, s *SequenceState) {
	if s.capped, _ = readBits(r); s.capped {
		if s.cut = r.Int(); !goodTime(s.cut) {
			r.Bad = true
		}
	}
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		row := o.loadStepRow(r)
		if k := len(s.waiting); k > 0 && s.waiting[k-1].compare(row) > 0 {
			r.Bad = true
		}
		s.waiting = append(s.waiting, row)
	}
	var table []*stepRow
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		table = append(table, o.loadStepRow(r))
	}
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		m := o.loadChain(r, table)
		if k := len(s.open); k > 0 && !r.Bad && (s.open[k-1].stage() < m.stage() || s.open[k-1].first.ts > m.first.ts) {
			r.Bad = true
		}
		s.open = append(s.open, m)
	}
}

// loadChain reads a match, whose rows must fit its steps.
func (o *Sequence) loadChain(r *event.Reader, table []*stepRow) (m chain) {
	rest := r.Uint()
	if rest > uint64(len(o.stages)-2) {
		r.Bad = true
	}
	for i := uint64(0); i <= rest && !r.Bad; i++ {
		at := r.Uint()
		switch {
		case at >= uint64(len(table)) || table[at].fits&o.stages[i].moves == 0:
			r.Bad = true
		case i == 0:
			m.first = table[at]
		default:
			m.rest = append(m.rest, table[at])
		}
	}
	return m
}

func (o *Sequence) loadStepRow(r *event.Reader) *stepRow {
	row := &stepRow{ts: r.Int()}
	row.first = row.ts - r.Int()
	row.last = row.ts + r.Int()
	row.input = r.Byte()
	fits := r.Uint()
	copy(row.id[:], r.Take(16))
	row.data = slices.Clone(r.Bytes())
	if int(row.input) >= len(o.may) || fits == 0 || fits&^uint64(o.may[row.input]) != 0 || !goodTime(row.ts) {
		r.Bad = true
		return row
	}
	row.fits = uint32(fits)
	cells := 0
	if row.fits&o.filled != 0 {
		cells = len(o.keeps[row.input])
	}
	if !goodCells(row.data, cells) {
		r.Bad = true
	}
	return row
}

// goodTime says whether a time can be one: spans added to it do not overflow.
func goodTime(ts int64) bool { return ts > -1<<55 && ts < 1<<55 }
