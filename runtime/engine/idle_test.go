package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// clocked is an intake and a graph under a clock that the test turns.
type clocked struct {
	t   *testing.T
	now time.Time
	in  *intake
	g   *Graph
	off map[string]int64
}

func newClocked(t *testing.T, change func(s *Stream)) *clocked {
	spec := runnerSpec(t)
	change(&spec.Streams[0])
	c := &clocked{t: t, now: time.UnixMilli(1_772_000_000_000), g: NewGraph(spec, 1), off: map[string]int64{}}
	c.in = newIntake(spec, c.g, func() time.Time { return c.now })
	c.in.start(1)
	t.Cleanup(c.in.close)
	return c
}

// row brings a row of a live partition of stream a, so many seconds after the clock's start.
func (c *clocked) row(partition string, seconds int64) {
	text := fmt.Sprintf(`{"t":"%s","k":"x","v":1}`, event.AppendTime(nil, 1_772_000_000_000+seconds*1000))
	off := c.off[partition]
	c.off[partition]++
	c.in.push(&event.Block{Partition: partition, Meta: map[string]string{"path": partition}, Live: true, Data: []byte(text),
		Lines: []event.Line{{Off: off, Next: off + 1, End: uint32(len(text))}}})
}

// after lets time pass, a second at a time, and returns the watermark of stream a, in seconds after the clock's start, and
// whether it is idle.
func (c *clocked) after(d time.Duration, held bool) (w int64, isIdle bool) {
	c.t.Helper()
	for end := c.now.Add(d); ; c.now = c.now.Add(time.Second) {
		c.in.tick(c.now, held)
		if !held {
			if items, _ := c.in.draw(nil, nil, 100); len(items) > 0 {
				if err := c.g.Block(items); err != nil {
					c.t.Fatal(err)
				}
			}
			c.in.recycle()
		}
		if !c.now.Before(end) {
			break
		}
	}
	m := c.g.src[0].cur
	if m.w == operator.NegInf {
		return operator.NegInf, m.st == idle
	}
	return (m.w - 1_772_000_000_000) / 1000, m.st == idle
}

func (c *clocked) want(what string, d time.Duration, held bool, w int64, isIdle bool) {
	c.t.Helper()
	if gotW, gotIdle := c.after(d, held); gotW != w || gotIdle != isIdle {
		c.t.Errorf("%s: the watermark is %d, idle %v; want %d, %v", what, gotW, gotIdle, w, isIdle)
	}
}

// A live partition without records no longer holds the watermark back, but not while the engine itself is held back; what it
// brings later may be late, and the watermark does not go back.
func TestIdlePartitions(t *testing.T) {
	c := newClocked(t, func(s *Stream) { s.Idle = 10 * time.Second })
	c.row("a1", 100)
	c.row("a2", 50)
	c.want("both speak", 0, false, 48, false)
	c.want("half the time", 5*time.Second, false, 48, false)
	c.row("a1", 200)
	c.want("a1 goes on", 4*time.Second, false, 48, false)
	c.want("a2 is silent", 2*time.Second, false, 198, false)
	c.want("the engine is held back", time.Minute, true, 198, false)
	c.want("and goes on", time.Second, false, 198, false)
	c.want("a1 is silent, too", 10*time.Second, false, 198, true)
	c.row("a2", 60)
	c.want("a2 comes back", 0, false, 198, false)
	c.row("a2", 300)
	c.want("and catches up", 0, false, 298, false)
	c.want("all are silent", 11*time.Second, false, 298, true)
}

// A process that was stopped for a while, or whose machine slept, has heard nobody, and finds nobody silent for that: what was written
// meanwhile is not late.
func TestPausesAreNoSilence(t *testing.T) {
	c := newClocked(t, func(s *Stream) { s.Idle = 10 * time.Second })
	c.row("a1", 100)
	c.row("a2", 50)
	c.want("both speak", 5*time.Second, false, 48, false)
	c.now = c.now.Add(time.Hour)
	c.want("the machine wakes up", 0, false, 48, false)
	c.row("a1", 3700)
	c.want("a1 is read first", time.Second, false, 48, false)
	c.row("a2", 3650)
	c.want("then a2", 0, false, 3648, false)
	c.want("both are silent", 12*time.Second, false, 3698, true)
}

// An empty block says that there may be records which could not be read: the partition is not silent.
func TestEmptyBlocksKeepPartitionsActive(t *testing.T) {
	c := newClocked(t, func(s *Stream) { s.Idle = 10 * time.Second })
	c.row("a1", 100)
	c.row("a2", 50)
	c.want("both speak", 9*time.Second, false, 48, false)
	c.row("a1", 200)
	c.in.push(&event.Block{Partition: "a2", Meta: map[string]string{"path": "a2"}, Live: true})
	c.want("a2 cannot be read", 9*time.Second, false, 48, false)
	c.row("a1", 201)
	c.want("and is silent now", 2*time.Second, false, 199, false)
}

// Without idle_timeout a partition that says nothing holds the watermark for ever.
func TestNeverIdle(t *testing.T) {
	c := newClocked(t, func(*Stream) {})
	c.row("a1", 100)
	c.row("a2", 50)
	c.want("an hour", time.Hour, false, 48, false)
}

// min_partitions holds the watermark until so many partitions have come.
func TestMinPartitions(t *testing.T) {
	c := newClocked(t, func(s *Stream) { s.Least, s.Idle = 2, 10*time.Second })
	c.row("a1", 100)
	c.want("one", 20*time.Second, false, operator.NegInf, false)
	c.row("a2", 50)
	c.want("two, of which one is idle", 0, false, 48, false)
	c.row("a1", 101)
	c.want("both speak", 0, false, 48, false)
}

// advance_when_idle lets a stream that has gone silent follow the wall clock, so that its last windows close.
func TestAdvanceWhenIdle(t *testing.T) {
	c := newClocked(t, func(s *Stream) {
		s.Idle, s.Follow = 10*time.Second, Follow{After: 20 * time.Second, Step: 5 * time.Second}
	})
	c.row("a1", 0)
	c.want("a row", 0, false, -2, false)
	c.want("idle", 10*time.Second, false, -2, true)
	c.want("not yet", 19*time.Second, false, -2, true)
	c.want("now less the delay, in steps", time.Second, false, 25, true)
	c.want("the next step", 3*time.Second, false, 30, true)
	c.row("a1", 20)
	c.want("a late row", 0, false, 30, false)
	c.want("idle again, and not at once", 30*time.Second, false, 30, true)
	c.want("and on", time.Second, false, 60, true)
}

// A partition that was announced and has never said anything does not hold the watermark for ever.
func TestAnnouncedAndSilent(t *testing.T) {
	c := newClocked(t, func(s *Stream) { s.Idle = 10 * time.Second })
	c.in.push(&event.Block{Partition: "a2", Meta: map[string]string{"path": "a2"}, Live: true, Mark: event.Announce})
	c.want("only announced", 3*time.Second, false, operator.NegInf, false)
	c.row("a1", 100)
	c.want("a1 speaks", 9*time.Second, false, operator.NegInf, false)
	c.row("a1", 101)
	c.want("a2 has been silent long enough", 2*time.Second, false, 99, false)
}
