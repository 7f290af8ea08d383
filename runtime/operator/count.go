package operator

import (
	"encoding/binary"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// counts is the count window of a key: of its rows in the order of arrival, each Size in a row, beginning with every
// Slide-th. There is no watermark in it: no row is late, a window says its row when its last one comes, and what is not
// full waits as long as the state lives, so the key should be a field of few values. With Partial the end of a bounded
// input says what is not full, and the next rows begin anew.
//
// window_start and window_end are the oldest and the newest time in the window, and the newest is the row's time: rows may
// be disordered, so windows may overlap in time, and a row may be late for whoever reads it. A window is known by its key
// and ordinal.
//
// Windows that overlap share slices, as in aligned.go.
type counts struct {
	Window
	slice int64
	view  windowView
}

// CountState is the oldest window of a key that is not full: its ordinal, and the slices since its start.
type CountState struct {
	ordinal, rows int64
	slices        []countPane
}

type countPane struct {
	oldest, newest int64
	pane
}

// Counts returns the functions of one shard of a count window.
func (o *Window) Counts() Logic[CountState] {
	a := &counts{Window: *o, slice: o.Slice()}
	a.open()
	a.view = newView(&a.Window)
	return a
}

func (o *counts) newSlice() countPane { return countPane{PosInf, NegInf, o.newPane()} }

// Row implements Logic. After the end has said what was not full, a row comes too late.
func (o *counts) Row(c *Context, s *CountState, in *In) {
	if o.Partial && in.W >= PosInf {
		c.TooLate(in)
		return
	}
	if s.rows%o.slice == 0 {
		s.slices = append(s.slices, o.newSlice())
	}
	p := &s.slices[len(s.slices)-1]
	o.add(&p.pane, in)
	p.oldest, p.newest = min(p.oldest, in.TS), max(p.newest, in.TS)
	if s.rows++; s.rows == o.Size {
		o.close(c, s, in.Key)
	}
}

// close says the oldest window, full or not, and goes on to the next.
func (o *counts) close(c *Context, s *CountState, key []byte) {
	p := &s.slices[0]
	if len(s.slices) > 1 {
		whole := o.newSlice()
		for i := range s.slices {
			q := &s.slices[i]
			o.merge(&whole.pane, &q.pane)
			whole.oldest, whole.newest = min(whole.oldest, q.oldest), max(whole.newest, q.newest)
		}
		p = &whole
	}
	o.view.of(&p.pane, p.oldest, p.newest, key)
	o.view.part = binary.BigEndian.AppendUint64(o.view.part, uint64(s.ordinal))
	if o.view.holds(c) {
		o.view.say(c, p.newest, o.view.part)
	}
	s.ordinal++
	s.rows = max(s.rows-o.Slide, 0)
	s.slices = slices.Delete(s.slices, 0, min(int(o.Slide/o.slice), len(s.slices)))
}

// Fire implements Logic: the input has ended.
func (o *counts) Fire(c *Context, s *CountState, _ int64) {
	for o.Partial && s.rows > 0 {
		o.close(c, s, []byte(c.By))
	}
}

// Next implements Logic: it waits for the end of the input, for ever, since the ordinals go on after it.
func (o *counts) Next(s *CountState) int64 {
	if s.rows == 0 && s.ordinal == 0 {
		return Never
	}
	return PosInf
}

// Flushes implements Logic.
func (o *counts) Flushes() bool { return o.Partial }

// Whole implements Whole.
func (o *counts) Whole() {}

// Clear implements Logic.
func (o *counts) Clear(s *CountState) { *s = CountState{slices: s.slices[:0]} }

// Save implements Logic. A record is the whole state.
func (o *counts) Save(dst []byte, s *CountState, _ bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(s.ordinal))
	dst = binary.AppendUvarint(dst, uint64(s.rows))
	for i := range s.slices {
		p := &s.slices[i]
		dst = binary.AppendVarint(dst, p.oldest)
		dst = binary.AppendVarint(dst, p.newest)
		dst = o.savePane(dst, &p.pane, p.oldest)
	}
	return dst
}

// Load implements Logic.
func (o *counts) Load(s *CountState, rec []byte) error {
	r := event.Reader{B: rec}
	*s = CountState{ordinal: int64(r.Uint()), rows: int64(r.Uint()), slices: s.slices[:0]}
	if s.ordinal < 0 || s.rows < 0 || s.rows >= o.Size {
		r.Bad = true
	}
	for at := int64(0); at < s.rows && !r.Bad; at += o.slice {
		p := countPane{oldest: r.Int(), newest: r.Int()}
		p.pane = o.loadPane(&r, p.oldest)
		s.slices = append(s.slices, p)
	}
	if !r.Done() {
		*s = CountState{}
		return errWindow
	}
	return nil
}
