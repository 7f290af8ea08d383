package operator

import (
	"encoding/binary"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// sessions is the session window of a key: a row is [ts, ts+Gap), and sessions that overlap or touch are one, from the
// first row to Gap after the last. A row is merged first and judged then: it is late if the session that it would make or
// join has ended by the watermark.
//
// With MaxDuration a merge that would make a session longer does not happen; a row that fits into none opens one of its
// own. So a conversation that never pauses is cut into sessions, each at most that long, which may overlap by less than
// Gap; a row that two could take goes to the older one.
//
// A session is known by its bounds when it says its row. With First it may grow after that, but has said its row; so has
// one that it merges with.
type sessions struct {
	Window
	view windowView
}

// SessionState is a key's sessions, by start and therefore by end: two that touch are longer than MaxDuration together.
type SessionState struct{ open []session }

type session struct {
	start, end int64
	pane
}

// Sessions returns the functions of one shard of a session window.
func (o *Window) Sessions() Logic[SessionState] {
	a := &sessions{Window: *o}
	a.view = newView(&a.Window)
	return a
}

// Row implements Logic.
func (o *sessions) Row(c *Context, s *SessionState, in *In) {
	x := o.join(s, in)
	if x == nil {
		if in.TS+o.Gap <= in.W {
			c.TooLate(in)
			return
		}
		x = o.insert(s, session{in.TS, in.TS + o.Gap, o.newPane()})
	}
	if x.said {
		return
	}
	o.add(&x.pane, in)
	if o.First && o.view.of(&x.pane, x.start, x.end, in.Key).holds() {
		o.view.sayBounds(c)
		x.silence()
	}
}

// join makes one session of the row's window and those that it merges with, oldest first, or returns nil if there is none.
// What it returns has not ended: the sessions of the state have not, and merging ends none earlier.
func (o *sessions) join(s *SessionState, in *In) *session {
	start, end := in.TS, in.TS+o.Gap
	at := -1
	for i := 0; i < len(s.open) && s.open[i].start <= end; i++ {
		x := &s.open[i]
		if x.end < start || !o.fits(min(start, x.start), max(end, x.end)) {
			continue
		}
		if start, end = min(start, x.start), max(end, x.end); at < 0 {
			at = i
			continue
		}
		o.unite(&s.open[at].pane, &x.pane)
		s.open = slices.Delete(s.open, i, i+1)
		i--
	}
	if at < 0 {
		return nil
	}
	x := s.open[at]
	x.start, x.end = start, end
	s.open = slices.Delete(s.open, at, at+1)
	return o.insert(s, x)
}

func (o *sessions) fits(start, end int64) bool {
	return o.MaxDuration == 0 || end-start <= o.MaxDuration
}

// unite merges a pane with a later one.
func (o *sessions) unite(p, q *pane) {
	if p.said || q.said {
		p.silence()
		return
	}
	o.merge(p, q)
}

func (o *sessions) insert(s *SessionState, x session) *session {
	i := len(s.open)
	for i > 0 && s.open[i-1].start > x.start {
		i--
	}
	s.open = slices.Insert(s.open, i, x)
	return &s.open[i]
}

// Fire implements Logic: the oldest session ends.
func (o *sessions) Fire(c *Context, s *SessionState, _ int64) {
	if x := &s.open[0]; !o.First && o.view.of(&x.pane, x.start, x.end, []byte(c.By)).holds() {
		o.view.sayBounds(c)
	}
	s.open = slices.Delete(s.open, 0, 1)
}

// Next implements Logic.
func (o *sessions) Next(s *SessionState) int64 {
	if len(s.open) == 0 {
		return Never
	}
	return s.open[0].end
}

// Flushes implements Logic.
func (o *sessions) Flushes() bool { return true }

// Whole implements Whole.
func (o *sessions) Whole() {}

// Clear implements Logic.
func (o *sessions) Clear(s *SessionState) { s.open = s.open[:0] }

// Save implements Logic. A record is the whole state.
func (o *sessions) Save(dst []byte, s *SessionState, _ bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s.open)))
	for i := range s.open {
		x := &s.open[i]
		dst = binary.AppendVarint(dst, x.start)
		dst = binary.AppendVarint(dst, x.end)
		dst = o.savePane(dst, &x.pane, x.start)
	}
	return dst
}

// Load implements Logic.
func (o *sessions) Load(s *SessionState, rec []byte) error {
	r := event.Reader{B: rec}
	s.open = s.open[:0]
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		x := session{start: r.Int(), end: r.Int()}
		x.pane = o.loadPane(&r, x.start)
		if last := len(s.open) - 1; x.end <= x.start || last >= 0 && (x.start <= s.open[last].start || x.end <= s.open[last].end) {
			r.Bad = true
		}
		s.open = append(s.open, x)
	}
	if !r.Done() {
		s.open = nil
		return errWindow
	}
	return nil
}
