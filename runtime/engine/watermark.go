package engine

import (
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// status of a partition, of a stream, of an operator's input: idleness and the end pass downstream.
type status uint8

const (
	active status = iota
	idle
	finished
	unknown
)

// mark is a watermark: every row with ts < w has arrived.
type mark struct {
	w  int64
	st status
}

// step is a change of a watermark at a position; a block's list of them is the watermark as a function of the position.
type step struct {
	p int64
	mark
}

// combine is the one rule for many inputs: any active -> the least of the active; else any idle -> the greatest of the
// idle; else the end. Nothing announced: active at -inf.
func combine(n int, at func(i int) mark) mark {
	best := mark{operator.NegInf, unknown}
	for i := range n {
		x := at(i)
		switch {
		case x.st < best.st:
			best = x
		case x.st == best.st && x.st == active:
			best.w = min(best.w, x.w)
		case x.st == best.st && x.st == idle:
			best.w = max(best.w, x.w)
		}
	}
	switch best.st {
	case unknown:
		best.st = active
	case finished:
		best.w = operator.PosInf
	}
	return best
}

// advance is combine with memory: a watermark never goes back.
func (m mark) advance(x mark) mark { return mark{max(m.w, x.w), x.st} }

// floor is the mark at the last whole multiple of a step; step 0 leaves it alone.
func (m mark) floor(step int64) mark {
	if step > 0 && m.w != operator.NegInf && m.w != operator.PosInf {
		if over := m.w % step; over < 0 {
			m.w -= over + step
		} else {
			m.w -= over
		}
	}
	return m
}

// minus gives an operator's output watermark from its own.
func (m mark) minus(hold int64) mark {
	if m.w != operator.NegInf && m.w != operator.PosInf {
		m.w -= hold
	}
	return m
}

// finite remembers the last watermark that is not the end, which is never stored.
func finite(old, w int64) int64 {
	if w == operator.PosInf {
		return old
	}
	return w
}

// source is the watermark of a stream over its partitions.
type source struct {
	spec   *Stream
	parts  []mark
	seen   int // partitions that were announced
	cur    mark
	stored int64 // the last finite cur.w
	rows   int64 // since the start
}

func newSource(s *Stream) *source {
	return &source{spec: s, cur: mark{operator.NegInf, active}, stored: operator.NegInf}
}

// add makes room for a partition that is known but not announced; w is its stored watermark or -inf.
func (s *source) add(w int64) (part int) {
	s.parts = append(s.parts, mark{w, unknown})
	return len(s.parts) - 1
}

// resume makes a partition that the last run knew active, at its stored watermark.
func (s *source) resume(part int) {
	s.parts[part].st = active
	s.seen++
}

// row moves the partition's watermark by one row and says whether the stream's changed.
func (s *source) row(part int32, ts int64) bool {
	p := &s.parts[part]
	old := *p
	if old.st == unknown {
		s.seen++
	}
	*p = mark{max(old.w, s.after(ts)), active}
	if *p == old || old.st == active && old.w > s.cur.w {
		return false // not the one that holds the minimum
	}
	return s.recompute()
}

// after is the watermark that a row of time ts stands for.
func (s *source) after(ts int64) int64 {
	w := ts - s.spec.Delay
	if s.spec.Strict {
		w++
	}
	return w
}

// mark changes a partition's status and says whether the stream's watermark or status changed.
func (s *source) mark(part int32, m event.Mark) bool {
	if s.parts[part].st == unknown {
		s.seen++
	}
	switch m {
	case event.Announce, event.CaughtUp:
		s.parts[part].st = active
	case event.Idle:
		s.parts[part].st = idle
	case event.Finished, event.Revoked:
		s.parts[part].st = finished
	}
	return s.recompute()
}

// clock moves idle partitions on to w and says whether the stream's watermark changed.
func (s *source) clock(w int64) bool {
	for i := range s.parts {
		if p := &s.parts[i]; p.st == idle {
			p.w = max(p.w, w)
		}
	}
	return s.recompute()
}

func (s *source) recompute() bool {
	before := s.cur
	next := combine(len(s.parts), func(i int) mark { return s.parts[i] })
	if s.seen < s.spec.Least && next.st != finished {
		next = mark{operator.NegInf, active}
	}
	s.cur = s.cur.advance(next)
	s.stored = finite(s.stored, s.cur.w)
	return s.cur != before
}
