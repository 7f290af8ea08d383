package engine

import (
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// idler knows which live partitions are silent. Its clock stops while outputs hold the engine back, since what is silent then
// may only not have been read; records that wait keep a partition active for the same reason.
type idler struct {
	clock time.Duration
	at    time.Time // when the clock was last looked at
	live  []*partition
	since map[int32]time.Duration // streams all of whose partitions are idle: since when
}

// tick lets the clock run on to now, or only notes the time if the engine was held back. What is longer than the engine sleeps was
// a pause of the process, or of the machine: nobody could be heard in it, and all partitions would be silent at once after it.
func (in *intake) tick(now time.Time, held bool) {
	c := &in.idler
	if d := now.Sub(c.at); !held && !c.at.IsZero() && d > 0 {
		c.clock += min(d, max(2*in.due(), stepLeast))
	}
	c.at = now
}

// stepLeast is how far the clock runs in one step at least, if so much time has passed: a block and a commit may take as long.
const stepLeast = 100 * time.Millisecond

// idle says which live partitions have become idle, and moves streams that are idle as a whole on with the wall clock. Both take
// a place in the recorded order, as rows do.
func (in *intake) idle(items []Item) []Item {
	c := &in.idler
	for _, p := range c.live {
		if p.done || p.halted || p.waiting > 0 {
			continue
		}
		for i, m := range p.members {
			if limit := in.spec.Streams[m.stream].Idle; limit > 0 && !p.idle[i] && c.clock-p.heard >= limit {
				p.idle[i] = true
				items = append(items, Item{Stream: m.stream, Part: m.part, Mark: event.Idle})
			}
		}
	}
	for i := range in.spec.Streams {
		items = in.follow(int32(i), items)
	}
	return items
}

// follow moves an idle stream's watermark on with the wall clock, if it is to.
func (in *intake) follow(stream int32, items []Item) []Item {
	c, s, f := &in.idler, &in.spec.Streams[stream], in.spec.Streams[stream].Follow
	src := in.graph.src[stream]
	if f.After <= 0 {
		return items
	}
	if src.cur.st != idle {
		delete(c.since, stream)
		return items
	}
	since, ok := c.since[stream]
	if !ok {
		if c.since == nil {
			c.since = map[int32]time.Duration{}
		}
		c.since[stream] = c.clock
		return items
	}
	if c.clock-since < f.After {
		return items
	}
	to := in.now().UnixMilli() - s.Delay
	if step := f.Step.Milliseconds(); to-to%step > src.cur.w {
		items = append(items, Item{Stream: stream, Mark: event.Clock, Row: Row{TS: to - to%step}})
	}
	return items
}

// due is how long the engine may sleep before idle has something to say.
func (in *intake) due() time.Duration {
	least := often
	for i := range in.spec.Streams {
		s := &in.spec.Streams[i]
		if len(in.idler.live) > 0 && s.Idle > 0 {
			least = min(least, s.Idle/4)
		}
		if len(in.idler.live) > 0 && s.Follow.After > 0 {
			least = min(least, s.Follow.After/4, s.Follow.Step)
		}
	}
	return max(least, 5*time.Millisecond)
}
