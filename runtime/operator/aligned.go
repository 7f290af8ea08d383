package operator

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// aligned is the windows that lie on a grid: tumbling, hopping and cumulate. On each point of the grid of ends one window
// ends, so an end names a window.
//
// Windows that overlap share slices: a row is added to one slice, and a window is merged from its slices when it closes,
// so that a row costs the same however many windows it belongs to. Where Having is looked at with each row (First) there
// is nothing to share: each window is a pane of its own, until it has said its row. A tumbling window is one slice, and
// neither needs to be merged.
type aligned struct {
	Window
	slice  int64 // length of a slice
	step   int64 // from one window's end to the next
	period int64 // from the start of one window to the next later one
	shared bool  // panes are slices, not windows
	view   windowView
}

// WindowState is a key's panes, by end.
type WindowState struct {
	open []openPane
	done int64 // unless open is empty: windows that end here or before are over
}

type openPane struct {
	end int64
	pane
}

// Logic returns the functions of one shard of a tumbling, hopping or cumulate window; shards share nothing that they write.
func (o *Window) Logic() Logic[WindowState] {
	a := &aligned{Window: *o, slice: o.Slice(), step: o.Size, period: o.Size}
	switch o.Kind {
	case Hopping:
		a.step, a.period = o.Slide, o.Slide
	case Cumulate:
		a.step = o.Slide
	}
	a.shared = a.slice < a.Size && !o.First
	a.view = newView(&a.Window)
	return a
}

// floor returns the last point at or before ts of the grid at offset, step apart.
func floor(ts, offset, step int64) int64 {
	m := (ts - offset) % step
	if m < 0 {
		m += step
	}
	return ts - m
}

// Start returns the start of the tumbling window that ts falls into.
func (o *Window) Start(ts int64) int64 { return floor(ts, o.Offset, o.Size) }

// nextEnd returns the first end of a window after t.
func (o *aligned) nextEnd(t int64) int64 { return floor(t, o.Offset+o.Size, o.step) + o.step }

// lastEnd returns the end of the last window that covers ts.
func (o *aligned) lastEnd(ts int64) int64 { return floor(ts, o.Offset, o.period) + o.Size }

// start returns the start of the window that ends at end.
func (o *aligned) start(end int64) int64 {
	if o.Kind == Cumulate {
		return o.Start(end - 1)
	}
	return end - o.Size
}

// Row implements Logic. Nearly always the row goes into the newest pane, which is open: what is due by in.W has fired.
func (o *aligned) Row(c *Context, s *WindowState, in *In) {
	if n := len(s.open) - 1; n >= 0 && !o.First && in.TS < s.open[n].end && in.TS >= s.open[n].end-o.slice {
		s.done = max(s.done, in.W)
		o.add(&s.open[n].pane, in)
		return
	}
	last := o.lastEnd(in.TS)
	switch {
	case last <= in.W:
		c.TooLate(in)
	case o.First:
		o.each(c, s, in, last)
	default:
		if len(s.open) == 0 {
			s.done = in.W
		}
		s.done = max(s.done, in.W)
		o.add(o.at(s, floor(in.TS, o.Offset, o.slice)+o.slice), in)
	}
}

// each adds the row to each of its windows that is open; those in which Having turns true say so, by end.
func (o *aligned) each(c *Context, s *WindowState, in *In, last int64) {
	for end := o.nextEnd(max(in.TS, in.W)); end <= last; end += o.step {
		p := o.at(s, end)
		if p.said {
			continue
		}
		if o.add(p, in); o.view.of(p, o.start(end), end, in.Key).holds() {
			o.view.sayBounds(c)
			p.silence()
		}
	}
}

// at finds or opens a pane.
func (o *aligned) at(s *WindowState, end int64) *pane {
	i := len(s.open)
	for i > 0 && s.open[i-1].end > end {
		i--
	}
	if i > 0 && s.open[i-1].end == end {
		return &s.open[i-1].pane
	}
	s.open = slices.Insert(s.open, i, openPane{end, o.newPane()})
	return &s.open[i].pane
}

// Fire implements Logic: the window that ends at due closes.
func (o *aligned) Fire(c *Context, s *WindowState, due int64) {
	if o.shared {
		o.fireShared(c, s, due)
		return
	}
	if !o.First {
		o.close(c, &s.open[0].pane, due)
	}
	s.open = slices.Delete(s.open, 0, 1)
}

func (o *aligned) close(c *Context, p *pane, end int64) {
	if o.view.of(p, o.start(end), end, []byte(c.By)).holds() {
		o.view.sayBounds(c)
	}
}

// fireShared closes the window that ends at due and forgets the slices that no later one has.
func (o *aligned) fireShared(c *Context, s *WindowState, due int64) {
	n := 0
	for n < len(s.open) && s.open[n].end <= due {
		n++
	}
	p := &s.open[0].pane
	if n > 1 {
		whole := o.newPane()
		for i := range s.open[:n] {
			o.merge(&whole, &s.open[i].pane)
		}
		p = &whole
	}
	o.close(c, p, due)
	over := 0
	for over < n && o.lastEnd(s.open[over].end-1) <= due {
		over++
	}
	s.open = slices.Delete(s.open, 0, over)
	s.done = due
}

// Next implements Logic: the oldest window that is not over and has a row; its slice, if they are shared, is the oldest.
func (o *aligned) Next(s *WindowState) int64 {
	switch {
	case len(s.open) == 0:
		return Never
	case o.shared:
		return o.nextEnd(max(s.open[0].end-1, s.done))
	}
	return s.open[0].end
}

// Flushes implements Logic.
func (o *aligned) Flushes() bool { return true }

// Whole implements Whole.
func (o *aligned) Whole() {}

// Clear implements Logic.
func (o *aligned) Clear(s *WindowState) { s.open = s.open[:0] }

// Save implements Logic. A record is the whole state: windows are small.
func (o *aligned) Save(dst []byte, s *WindowState, _ bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s.open)))
	if o.shared {
		dst = binary.AppendVarint(dst, s.done)
	}
	for i := range s.open {
		dst = binary.AppendVarint(dst, s.open[i].end)
		dst = o.savePane(dst, &s.open[i].pane, s.open[i].end)
	}
	return dst
}

var errWindow = errors.New("window state is damaged")

// Load implements Logic.
func (o *aligned) Load(s *WindowState, rec []byte) error {
	r := event.Reader{B: rec}
	s.open = s.open[:0]
	n := r.Uint()
	if o.shared {
		s.done = r.Int()
	}
	for ; n > 0 && !r.Bad; n-- {
		end := r.Int()
		if len(s.open) > 0 && end <= s.open[len(s.open)-1].end {
			r.Bad = true
		}
		s.open = append(s.open, openPane{end, o.loadPane(&r, end)})
	}
	if !r.Done() {
		s.open = nil
		return errWindow
	}
	return nil
}
