package operator

// Dated is a Logic that knows how old what it keeps is: Oldest is the earliest event time in a state, ms, or Never.
type Dated[S any] interface {
	Oldest(s *S) int64
}

// Oldest implements Dated: where the oldest slice or window begins that a row fell into.
func (o *aligned) Oldest(s *WindowState) int64 {
	open := s.open()
	switch {
	case len(open) == 0:
		return Never
	case o.shared:
		return open[0].end - o.slice
	}
	return open[0].end - o.Size
}

// Oldest implements Dated.
func (o *sessions) Oldest(s *SessionState) int64 {
	if len(s.open) == 0 {
		return Never
	}
	return s.open[0].start
}

// Oldest implements Dated.
func (o *counts) Oldest(s *CountState) int64 {
	t := int64(Never)
	for i := range s.slices {
		if s.slices[i].oldest < PosInf {
			t = min(t, s.slices[i].oldest)
		}
	}
	return t
}

// Oldest implements Dated.
func (o *intervalJoin) Oldest(s *JoinState) int64 { return min(s.side[0].oldest(), s.side[1].oldest()) }

// Oldest implements Dated.
func (o *windowJoin) Oldest(s *WindowJoinState) int64 {
	return min(s.side[0].oldest(), s.side[1].oldest())
}

// Oldest implements Dated.
func (o *asOfJoin) Oldest(s *AsOfState) int64 { return min(s.waiting.oldest(), s.versions.oldest()) }

// oldest is the time of the first row that lives, or Never.
func (s *stock) oldest() int64 {
	if len(s.rows) == s.head {
		return Never
	}
	return s.rows[s.head].ts
}

// Oldest implements Dated.
func (o *Sequence) Oldest(s *SequenceState) int64 {
	t := int64(Never)
	for _, r := range s.waiting {
		t = min(t, r.ts)
	}
	for i := range s.open {
		t = min(t, s.open[i].first.ts)
	}
	return t
}

// Oldest implements Dated: of a value that is known for ever no time is kept.
func (o *FirstSeen) Oldest(s *SeenState) int64 {
	if !s.known || o.History == 0 {
		return Never
	}
	return s.newest
}
