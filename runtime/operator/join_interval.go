package operator

import "sort"

// intervalJoin is the Join of kinds Interval and Regular: rows meet when the later one arrives.
type intervalJoin struct{ Join }

// dies returns the last watermark at which a row lives.
func (o *intervalJoin) dies(side uint8, ts int64) int64 {
	if side == 0 {
		return ts - o.Lower
	}
	return ts + o.Upper
}

// Row implements Logic.
func (o *intervalJoin) Row(c *Context, s *JoinState, in *In) {
	row := &o.row
	*row = stored{ts: in.TS, id: in.Name.ID()}
	row.data, o.arena = packCells(o.arena, o.keeps[in.Input], in)
	if in.Lone {
		o.end(c, in.Input, row)
		return
	}
	o.trim(c, s, in.W)
	o.probe(c, &s.side[1-in.Input], row, in.Input)
	dead := o.dies(in.Input, in.TS) < in.W
	if !dead || row.n > 0 && o.counts[1-in.Input] { // those that it met must know it after a restart
		o.note(&s.added, addition{*row, in.W, s.added, in.Input})
	}
	switch {
	case !dead:
		o.keep(c, s, row, in.Input)
	case o.pending(in.Input, row):
		o.end(c, in.Input, row)
	case row.n == 0:
		c.TooLate(in)
	}
}

// keep stores a row, within the cap.
func (o *intervalJoin) keep(c *Context, s *JoinState, row *stored, side uint8) {
	if dropped := o.store(c, &s.side[side], side, row); dropped {
		o.capped(c, side)
	}
}

// probe lets a new row meet its partners, by (partner's ts, arrival). C is nil when a state is loaded: what was said was said.
func (o *intervalJoin) probe(c *Context, list *stock, row *stored, side uint8) {
	from, to := row.ts+o.Lower, row.ts+o.Upper // where the partners of a right row lie
	if side == 0 {
		from, to = row.ts-o.Upper, row.ts-o.Lower
	}
	if o.Kind == Regular {
		from, to = NegInf, PosInf
	}
	live := list.rows[list.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].ts >= from })
	o.hits = o.hits[:0]
	full := false
	for ; i < len(live) && live[i].ts <= to; i++ {
		if o.Where != nil && !o.Where.Match(o.now.of(row, &live[i], side)) {
			continue
		}
		if o.pairs && len(o.hits) == o.MatchesMax {
			if full = true; !o.counts[1-side] {
				break
			}
			live[i].hid = true
			continue
		}
		if o.hits = append(o.hits, i); side == 0 && !o.pairs && o.Matches != CountMatches {
			break // one is enough, and partners do not count
		}
	}
	row.hid = list.capped // trim has cleared what is over
	if full && c != nil {
		c.Counts.MatchesCapped++
	}
	for _, i := range o.hits {
		o.meet(c, row, &live[i], side, list.capped || full)
	}
}

// meet says two partners, if that is to be said.
func (o *intervalJoin) meet(c *Context, row, partner *stored, side uint8, cut bool) {
	left, right := row, partner
	if side == 1 {
		left, right = right, left
	}
	switch {
	case c == nil:
	case o.pairs || o.Matches == FirstMatch && left.n == 0:
		o.say(c, left, right, cut)
	case o.Type == Semi && left.n == 0:
		o.say(c, left, nil, cut)
	}
	left.met()
	right.met()
}

// end says a row alone: it died, or will have no other chance.
func (o *intervalJoin) end(c *Context, side uint8, r *stored) {
	switch {
	case c == nil:
	case side == 0:
		o.say(c, r, nil, r.hid)
	default:
		o.say(c, nil, r, r.hid)
	}
}

// store puts a row in its place and drops one if the side is full.
func (o *intervalJoin) store(c *Context, s *stock, side uint8, row *stored) (dropped bool) {
	gone, dropped := o.admit(s, row)
	if dropped {
		if s.hide(o.dies(side, gone.ts)); o.pending(side, &gone) {
			o.lose(c, side, gone)
		}
	}
	return dropped
}

// lose says a row that a cap dropped: nobody knows which partners would have come.
func (o *intervalJoin) lose(c *Context, side uint8, gone stored) {
	gone.hid = true
	o.end(c, side, &gone)
}

// trim forgets what is dead at w. What has something to say then says it; the engine fires that before.
func (o *intervalJoin) trim(c *Context, s *JoinState, w int64) {
	for side := range s.side {
		l := &s.side[side]
		n := l.head
		for n < len(l.rows) && o.dies(uint8(side), l.rows[n].ts) < w {
			if o.pending(uint8(side), &l.rows[n]) {
				o.end(c, uint8(side), &l.rows[n])
			}
			n++
		}
		if n > l.head {
			l.drop(n - l.head)
		}
		l.capped = l.capped && l.cut >= w
	}
}

// Fire implements Logic.
func (o *intervalJoin) Fire(c *Context, s *JoinState, due int64) {
	if c.W == PosInf {
		o.finish(c, s, due)
		return
	}
	s.moved, s.fired = true, due
	o.trim(c, s, due)
}

// finish says what is due at the end of the input. Only that is gone; the others may meet what is appended later.
func (o *intervalJoin) finish(c *Context, s *JoinState, due int64) {
	for side := range s.side {
		l := &s.side[side]
		for l.wait = max(l.wait, l.head); l.wait < len(l.rows) && o.dies(uint8(side), l.rows[l.wait].ts) < due; l.wait++ {
			if r := &l.rows[l.wait]; o.pending(uint8(side), r) {
				o.end(c, uint8(side), r)
				r.gone = true
			}
		}
	}
	if o.due(s) == Never {
		s.ended = true
		s.remove(func(_ uint8, r *stored) bool { return r.gone })
	}
}

// due returns the moment after the death of the first row that will have something to say, or Never.
func (o *intervalJoin) due(s *JoinState) int64 {
	due := int64(Never)
	for side := range s.side {
		l := &s.side[side]
		if !o.ends[side] {
			continue
		}
		l.wait = max(l.wait, l.head)
		for l.wait < len(l.rows) && !o.pending(uint8(side), &l.rows[l.wait]) {
			l.wait++
		}
		if l.wait < len(l.rows) {
			due = min(due, o.dies(uint8(side), l.rows[l.wait].ts)+1)
		}
	}
	return due
}

// Next implements Logic: the next moment that says something, else the death of a side's newest row, so that a busy key has
// one timer and not one a row.
func (o *intervalJoin) Next(s *JoinState) int64 {
	due := o.due(s)
	if due != Never {
		return due
	}
	for side := range s.side {
		l := &s.side[side]
		if len(l.rows) > l.head {
			due = min(due, o.dies(uint8(side), l.rows[len(l.rows)-1].ts)+1)
		}
		if l.capped {
			due = min(due, l.cut+1)
		}
	}
	return due
}

// Flushes implements Logic: rows that come out when they die do so at the end.
func (o *intervalJoin) Flushes() bool { return o.ends[0] || o.ends[1] }

// Spares implements Sparing: rows that say nothing alone may meet what is appended later.
func (o *intervalJoin) Spares(s *JoinState) bool { return o.due(s) == Never }

// Lasts implements Lasting.
func (o *intervalJoin) Lasts() {}

// Clear implements Logic.
func (o *intervalJoin) Clear(s *JoinState) {
	o.noted(&s.added)
	s.moved, s.ended = false, false
	for side := range s.side {
		s.side[side].empty()
	}
}
