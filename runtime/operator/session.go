package operator

import (
	"encoding/binary"
	"slices"
	"sort"

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
// A session is known by its bounds when it first says its row. With First it may grow after that, but has said its row; so
// has one that it merges with.
//
// With Lateness a session that has closed may grow too, and may be open again by it: then it says its next revision when it
// closes again. If sessions merge that have said rows, the one that did so first goes on, and the others say a last revision,
// as they were, with the id of that one in merged_into, whether Having holds or not.
type sessions struct {
	Window
	view  windowView
	parts []int // scratch
}

// SessionState is a key's sessions, by start and therefore by end: two that touch are longer than MaxDuration together.
type SessionState struct {
	open []session
	rows int64 // with Lateness: how many sessions have said their row
}

type session struct {
	start, end int64
	closed     bool // with Lateness: the watermark has reached its end
	row        sessionRow
	pane
}

// sessionRow is a session's row, if it has said it: its bounds then, its place among those of the key, and how many revisions
// there were.
type sessionRow struct{ start, end, place, revisions int64 }

// Sessions returns the functions of one shard of a session window.
func (o *Window) Sessions() Logic[SessionState] {
	a := &sessions{Window: *o}
	a.open()
	a.view = newView(&a.Window)
	return a
}

// Row implements Logic.
func (o *sessions) Row(c *Context, s *SessionState, in *In) {
	x := o.join(c, s, in)
	if x == nil {
		if in.TS+o.Gap <= o.gone(in.W) {
			c.TooLate(in)
			return
		}
		x = o.insert(s, session{start: in.TS, end: in.TS + o.Gap, pane: o.newPane()})
	}
	if x.said {
		return
	}
	o.add(&x.pane, in)
	if o.First && o.view.of(&x.pane, x.start, x.end, in.Key).holds(c) {
		o.view.sayBounds(c)
		x.silence()
	}
	if o.Revises() {
		if x.closed = x.end <= in.W; x.closed {
			o.tell(c, s, x, in.Key)
		}
	}
}

// tell says what the session is so far: its row, or a revision of it.
func (o *sessions) tell(c *Context, s *SessionState, x *session, key []byte) {
	if !o.view.of(&x.pane, x.start, x.end, key).holds(c) {
		return
	}
	if x.row.revisions == 0 {
		s.rows++
		x.row = sessionRow{start: x.start, end: x.end, place: s.rows}
	}
	o.emit(c, x)
}

// emit says the next revision of what the view shows.
func (o *sessions) emit(c *Context, x *session) {
	o.view.emit(c, Revised, x.row.revisions, x.end-1, o.view.id(x.row.start, x.row.end))
	x.row.revisions++
}

// join makes one session of the row's window and those that it merges with, oldest first, or returns nil if there is none.
// What it returns is not over: the sessions of the state are not, and merging ends none earlier.
func (o *sessions) join(c *Context, s *SessionState, in *In) *session {
	start, end := in.TS, in.TS+o.Gap
	o.parts = o.parts[:0]
	for i := 0; i < len(s.open) && s.open[i].start <= end; i++ {
		x := &s.open[i]
		if x.end < start || !o.fits(min(start, x.start), max(end, x.end)) {
			continue
		}
		start, end = min(start, x.start), max(end, x.end)
		o.parts = append(o.parts, i)
	}
	if len(o.parts) == 0 {
		return nil
	}
	row := o.goesOn(c, s, in.Key)
	x := s.open[o.parts[0]]
	for _, i := range o.parts[1:] {
		o.unite(&x.pane, &s.open[i].pane)
	}
	for _, i := range slices.Backward(o.parts) {
		s.open = slices.Delete(s.open, i, i+1)
	}
	x.start, x.end, x.row = start, end, row
	return o.insert(s, x)
}

// goesOn is the row of the session that o.parts become: the first that one of them has said. The others say where they went.
func (o *sessions) goesOn(c *Context, s *SessionState, key []byte) (row sessionRow) {
	for _, i := range o.parts {
		if x := &s.open[i]; x.row.revisions > 0 && (row.revisions == 0 || x.row.place < row.place) {
			row = x.row
		}
	}
	for _, i := range o.parts {
		if x := &s.open[i]; x.row.revisions > 0 && x.row.place != row.place {
			o.view.of(&x.pane, x.start, x.end, key)
			o.view.into = o.view.id(row.start, row.end).String()
			o.emit(c, x)
		}
	}
	return row
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

// Fire implements Logic: the oldest session is over, or, with Lateness, the oldest that is open closes, or both.
func (o *sessions) Fire(c *Context, s *SessionState, due int64) {
	x := &s.open[0]
	if !o.Revises() {
		if !o.First && o.view.of(&x.pane, x.start, x.end, []byte(c.By)).holds(c) {
			o.view.sayBounds(c)
		}
		s.open = slices.Delete(s.open, 0, 1)
		return
	}
	if x.closed && x.end+o.Lateness == due {
		if x.row.revisions > 0 && o.view.of(&x.pane, x.start, x.end, []byte(c.By)).holds(nil) {
			o.view.emit(c, Final, 0, x.end-1, o.view.id(x.row.start, x.row.end))
		}
		s.open = slices.Delete(s.open, 0, 1)
	}
	if i := s.firstOpen(); i < len(s.open) && s.open[i].end == due {
		s.open[i].closed = true
		o.tell(c, s, &s.open[i], []byte(c.By))
	}
}

// Prepare implements Preparing.
func (o *sessions) Prepare(s *SessionState, key string, _ int64) {
	if len(s.open) > 0 {
		x := &s.open[0]
		o.prepare(o.view.of(&x.pane, x.start, x.end, []byte(key)))
	}
}

// firstOpen is the first session that has not closed: closed ones come first, since they end earlier.
func (s *SessionState) firstOpen() int {
	return sort.Search(len(s.open), func(i int) bool { return !s.open[i].closed })
}

// Next implements Logic.
func (o *sessions) Next(s *SessionState) int64 {
	if len(s.open) == 0 {
		return Never
	}
	if !o.Revises() || s.open[0].closed {
		due := s.open[0].end + o.Lateness
		if i := s.firstOpen(); o.Revises() && i < len(s.open) {
			due = min(due, s.open[i].end)
		}
		return due
	}
	return s.open[0].end
}

// Flushes implements Logic.
func (o *sessions) Flushes() bool { return true }

// Whole implements Whole.
func (o *sessions) Whole() {}

// Clear implements Logic.
func (o *sessions) Clear(s *SessionState) { s.open, s.rows = s.open[:0], 0 }

// Save implements Logic. A record is the whole state.
func (o *sessions) Save(dst []byte, s *SessionState, _ bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s.open)))
	if o.Revises() {
		dst = binary.AppendUvarint(dst, uint64(s.rows))
	}
	for i := range s.open {
		x := &s.open[i]
		dst = binary.AppendVarint(dst, x.start)
		dst = binary.AppendVarint(dst, x.end)
		dst = o.savePane(dst, &x.pane, x.start)
		if o.Revises() {
			dst = x.saveRow(dst)
		}
	}
	return dst
}

func (x *session) saveRow(dst []byte) []byte {
	dst = append(dst, bits(x.closed, false))
	dst = binary.AppendUvarint(dst, uint64(x.row.revisions))
	if x.row.revisions == 0 {
		return dst
	}
	dst = binary.AppendVarint(binary.AppendVarint(dst, x.row.start), x.row.end)
	return binary.AppendUvarint(dst, uint64(x.row.place))
}

// loadRow reads what saveRow wrote; rows is how many sessions have said theirs.
func (x *session) loadRow(r *event.Reader, rows int64) {
	x.closed, _ = readBits(r)
	if x.row.revisions = int64(r.Uint()); x.row.revisions == 0 {
		return
	}
	x.row.start, x.row.end, x.row.place = r.Int(), r.Int(), int64(r.Uint())
	if x.row.revisions < 0 || x.row.place <= 0 || x.row.place > rows {
		r.Bad = true
	}
}

// Load implements Logic.
func (o *sessions) Load(s *SessionState, rec []byte) error {
	r := event.Reader{B: rec}
	s.open, s.rows = s.open[:0], 0
	n := r.Uint()
	if o.Revises() {
		s.rows = int64(r.Uint())
	}
	for ; n > 0 && !r.Bad; n-- {
		x := session{start: r.Int(), end: r.Int()}
		x.pane = o.loadPane(&r, x.start)
		if o.Revises() {
			x.loadRow(&r, s.rows)
		}
		if last := len(s.open) - 1; x.end <= x.start || last >= 0 && (x.start <= s.open[last].start || x.end <= s.open[last].end || x.closed && !s.open[last].closed) {
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
