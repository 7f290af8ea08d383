package operator

import (
	"encoding/binary"
	"errors"
	"slices"
	"sort"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// aligned is the windows that lie on a grid: tumbling, hopping and cumulate. On each point of the grid of ends one window
// ends, so an end names a window.
//
// Windows that overlap share slices: a row is added to one slice, and a window is merged from its slices when it closes,
// so that a row costs the same however many windows it belongs to. Where Having is looked at with each row (First) there
// is nothing to share: each window is a pane of its own, until it has said its row. A tumbling window is one slice, and
// neither needs to be merged. Slices stay as long as a window that has them takes rows.
type aligned struct {
	Window
	grid
	slice  int64 // length of a slice
	shared bool  // panes are slices, not windows, or are kept after their window has closed
	view   windowView
}

// grid is where windows begin and end.
type grid struct {
	kind   WindowKind
	size   int64
	offset int64
	step   int64 // from one window's end to the next
	period int64 // from the start of one window to the next later one
}

func (o *Window) grid() grid {
	g := grid{kind: o.Kind, size: o.Size, offset: o.Offset, step: o.Size, period: o.Size}
	switch o.Kind {
	case Hopping:
		g.step, g.period = o.Slide, o.Slide
	case Cumulate:
		g.step = o.Slide
	}
	return g
}

// WindowState is a key's panes, by end. That of a key with one pane, as most have, is in one piece: it costs no allocation, and
// the garbage collector nothing to follow.
type WindowState struct {
	one  [1]openPane // the pane of a key that has one, unless there were more
	lone bool
	many []openPane // of others
	done int64      // unless there is no pane: what was due by then has happened
	more *windowMore
}

// windowMore is what few states have.
type windowMore struct {
	told  []told
	ready *pane // while it is due: the window that closes, if it had to be merged (Prepare)
}

// told is a window that has said its row, and may revise it.
type told struct{ end, revisions int64 }

type openPane struct {
	end int64
	pane
}

// open is the panes, by end.
func (s *WindowState) open() []openPane {
	if s.lone {
		return s.one[:]
	}
	return s.many
}

// insert adds a pane at place i. Where keys have several, as with slices, they are together from the first on.
func (s *WindowState) insert(i int, x openPane, several bool) *pane {
	if s.many == nil && !s.lone && !several {
		s.one[0], s.lone = x, true
		return &s.one[0].pane
	}
	if s.lone {
		s.many = append(s.many, s.one[0])
		s.one[0], s.lone = openPane{}, false
	}
	s.many = slices.Insert(s.many, i, x)
	return &s.many[i].pane
}

// drop forgets the first n panes.
func (s *WindowState) drop(n int) {
	switch {
	case n == 0:
	case s.lone:
		s.one[0], s.lone = openPane{}, false
	default:
		s.many = slices.Delete(s.many, 0, n)
	}
}

func (s *WindowState) rest() *windowMore {
	if s.more == nil {
		s.more = &windowMore{}
	}
	return s.more
}

// Logic returns the functions of one shard of a tumbling, hopping or cumulate window; shards share nothing that they write.
func (o *Window) Logic() Logic[WindowState] {
	a := &aligned{Window: *o, grid: o.grid(), slice: o.Slice()}
	a.open()
	a.shared = (a.slice < a.Size || a.Lateness > 0) && !o.First
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
func (g *grid) nextEnd(t int64) int64 { return floor(t, g.offset+g.size, g.step) + g.step }

// lastEnd returns the end of the last window that covers ts.
func (g *grid) lastEnd(ts int64) int64 { return floor(ts, g.offset, g.period) + g.size }

// start returns the start of the window that ends at end.
func (g *grid) start(end int64) int64 {
	if g.kind == Cumulate {
		return floor(end-1, g.offset, g.size)
	}
	return end - g.size
}

// Row implements Logic. Nearly always the row goes into the newest pane, which is open: what is due by in.W has fired.
func (o *aligned) Row(c *Context, s *WindowState, in *In) {
	open := s.open()
	if n := len(open) - 1; n >= 0 && !o.First && in.TS < open[n].end && in.TS >= open[n].end-o.slice && (o.Lateness == 0 || in.W < o.nextEnd(in.TS)) {
		s.done = max(s.done, in.W)
		o.add(&open[n].pane, in)
		return
	}
	last := o.lastEnd(in.TS)
	switch {
	case last <= o.gone(in.W):
		c.TooLate(in)
	case o.First:
		o.each(c, s, in, last)
	default:
		if len(open) == 0 {
			s.done = in.W
		}
		s.done = max(s.done, in.W)
		o.add(o.at(s, floor(in.TS, o.Offset, o.slice)+o.slice), in)
		o.revise(c, s, in, last)
	}
}

// revise says the row of each window that has closed and took the row, by end.
func (o *aligned) revise(c *Context, s *WindowState, in *In, last int64) {
	if o.Lateness == 0 || in.W <= in.TS {
		return
	}
	for end := o.nextEnd(max(in.TS, o.gone(in.W))); end <= min(last, in.W); end += o.step {
		o.tell(c, s, o.whole(s, end), end, in.Key)
	}
}

// tell says what the window p that ends at end, nil if it has no rows, is so far: its row, or a revision of it.
func (o *aligned) tell(c *Context, s *WindowState, p *pane, end int64, key []byte) {
	if p == nil || !o.view.of(p, o.start(end), end, key).holds(c) {
		return
	}
	i, ok := s.find(end)
	if !ok {
		s.rest().told = slices.Insert(s.rest().told, i, told{end, 0})
	}
	x := &s.more.told[i]
	o.view.emit(c, Revised, x.revisions, end-1, o.view.id(o.start(end), end))
	x.revisions++
}

func (s *WindowState) told() []told {
	if s.more == nil {
		return nil
	}
	return s.more.told
}

func (s *WindowState) find(end int64) (int, bool) {
	return slices.BinarySearchFunc(s.told(), end, func(x told, end int64) int { return compare(x.end, end) })
}

// settle gives readers what has become of the window that ends at end.
func (o *aligned) settle(c *Context, s *WindowState, end int64) {
	i, ok := s.find(end)
	if !ok {
		return
	}
	s.more.told = slices.Delete(s.more.told, i, i+1)
	if p := o.whole(s, end); p != nil && o.view.of(p, o.start(end), end, []byte(c.By)).holds(nil) {
		o.view.emit(c, Final, 0, end-1, o.view.id(o.start(end), end))
	}
}

// Prepare implements Preparing: of the window that closes at due.
func (o *aligned) Prepare(s *WindowState, key string, due int64) {
	open := s.open()
	if len(open) == 0 || s.more != nil && s.more.ready != nil {
		return
	}
	if !o.shared {
		o.prepare(o.view.of(&open[0].pane, o.start(due), due, []byte(key)))
	} else if o.nextEnd(due-1) == due {
		if p := o.whole(s, due); p != nil {
			if !s.lone { // else it is at hand
				s.rest().ready = p
			}
			o.prepare(o.view.of(p, o.start(due), due, []byte(key)))
		}
	}
}

// closing is the window that ends at due, which may have been prepared.
func (o *aligned) closing(s *WindowState, due int64) (p *pane) {
	if s.more != nil {
		p, s.more.ready = s.more.ready, nil
	}
	if p == nil {
		p = o.whole(s, due)
	}
	return p
}

// whole is the window that ends at end: its slice, or one merged from its slices; nil if it has none.
func (o *aligned) whole(s *WindowState, end int64) *pane {
	open, i, j := s.open(), s.after(o.start(end)), s.after(end)
	if i >= j {
		return nil
	}
	if j == i+1 {
		return &open[i].pane
	}
	whole := o.newPane()
	for ; i < j; i++ {
		o.merge(&whole, &open[i].pane)
	}
	return &whole
}

// after is the first pane that ends after t.
func (s *WindowState) after(t int64) int {
	open := s.open()
	return sort.Search(len(open), func(i int) bool { return open[i].end > t })
}

// each adds the row to each of its windows that is open; those in which Having turns true say so, by end.
func (o *aligned) each(c *Context, s *WindowState, in *In, last int64) {
	for end := o.nextEnd(max(in.TS, o.gone(in.W))); end <= last; end += o.step {
		p := o.at(s, end)
		if p.said {
			continue
		}
		if o.add(p, in); o.view.of(p, o.start(end), end, in.Key).holds(c) {
			o.view.sayBounds(c)
			p.silence()
		}
	}
}

// at finds or opens a pane.
func (o *aligned) at(s *WindowState, end int64) *pane {
	open := s.open()
	i := len(open)
	for i > 0 && open[i-1].end > end {
		i--
	}
	if i > 0 && open[i-1].end == end {
		return &open[i-1].pane
	}
	return s.insert(i, openPane{end, o.newPane()}, o.shared)
}

// Fire implements Logic: the window that ends at due closes.
func (o *aligned) Fire(c *Context, s *WindowState, due int64) {
	if o.shared {
		o.fireShared(c, s, due)
		return
	}
	if !o.First {
		o.close(c, &s.open()[0].pane, due)
	}
	s.drop(1)
}

func (o *aligned) close(c *Context, p *pane, end int64) {
	if o.view.of(p, o.start(end), end, []byte(c.By)).holds(c) {
		o.view.sayBounds(c)
	}
}

// fireShared closes the window that ends at due, and settles the one that takes no more rows from then on; slices that no
// window needs any more are forgotten.
func (o *aligned) fireShared(c *Context, s *WindowState, due int64) {
	over := due - o.Lateness
	switch {
	case o.Lateness == 0:
		if p := o.closing(s, due); p != nil {
			o.close(c, p, due)
		}
	default:
		if o.nextEnd(over-1) == over {
			o.settle(c, s, over)
		}
		if o.nextEnd(due-1) == due {
			o.tell(c, s, o.closing(s, due), due, []byte(c.By))
		}
	}
	open, n := s.open(), 0
	for n < len(open) && o.lastEnd(open[n].end-1) <= over {
		n++
	}
	s.drop(n)
	s.done = due
}

// Next implements Logic: the end of the oldest window that is not over and has a row; its slice, if they are shared, is the
// oldest. With Lateness the oldest window takes rows after its end, and the next to close may be a later one.
func (o *aligned) Next(s *WindowState) int64 {
	open := s.open()
	switch {
	case len(open) == 0:
		return Never
	case !o.shared:
		return open[0].end + o.Lateness
	case o.Lateness == 0:
		return o.nextEnd(max(open[0].end-1, s.done))
	}
	due := o.nextEnd(max(open[0].end-1, o.gone(s.done))) + o.Lateness
	if i := sort.Search(len(open), func(i int) bool { return o.lastEnd(open[i].end-1) > s.done }); i < len(open) {
		due = min(due, o.nextEnd(max(open[i].end-1, s.done)))
	}
	return due
}

// Flushes implements Logic.
func (o *aligned) Flushes() bool { return true }

// Whole implements Whole.
func (o *aligned) Whole() {}

// Clear implements Logic.
func (o *aligned) Clear(s *WindowState) {
	s.one[0], s.lone, s.many = openPane{}, false, s.many[:0]
	if s.more != nil {
		s.more.told = s.more.told[:0]
	}
}

// Save implements Logic. A record is the whole state: windows are small.
func (o *aligned) Save(dst []byte, s *WindowState, _ bool) []byte {
	open := s.open()
	dst = binary.AppendUvarint(dst, uint64(len(open)))
	if o.shared {
		dst = binary.AppendVarint(dst, s.done)
	}
	for i := range open {
		dst = binary.AppendVarint(dst, open[i].end)
		dst = o.savePane(dst, &open[i].pane, open[i].end)
	}
	if !o.Revises() {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.told())))
	for _, x := range s.told() {
		dst = binary.AppendUvarint(binary.AppendVarint(dst, x.end), uint64(x.revisions))
	}
	return dst
}

var errWindow = errors.New("window state is damaged")

// Load implements Logic.
func (o *aligned) Load(s *WindowState, rec []byte) error {
	r := event.Reader{B: rec}
	o.Clear(s)
	n := r.Uint()
	if o.shared {
		s.done = r.Int()
	}
	for ; n > 0 && !r.Bad; n-- {
		end, open := r.Int(), s.open()
		if len(open) > 0 && end <= open[len(open)-1].end {
			r.Bad = true
		}
		s.insert(len(open), openPane{end, o.loadPane(&r, end)}, o.shared)
	}
	if o.Revises() {
		for n := r.Uint(); n > 0 && !r.Bad; n-- {
			x := told{r.Int(), int64(r.Uint())}
			m := s.rest()
			if last := len(m.told) - 1; x.revisions <= 0 || last >= 0 && x.end <= m.told[last].end {
				r.Bad = true
			}
			m.told = append(m.told, x)
		}
	}
	if !r.Done() {
		*s = WindowState{}
		return errWindow
	}
	return nil
}
