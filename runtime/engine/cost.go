package engine

import (
	"time"

	"github.com/seed-98920119/tocsin/runtime/operator"
)

// What operators cost is measured a block at a time: two readings of a clock (25 ns each) for an operator that has something to do, one if
// the one before it had. So the work of a block is told apart by operator at the price of some hundred nanoseconds. Of blocks with few
// rows one in measuredOf is measured, and stands for those before it.
const (
	fewItems   = 512
	measuredOf = 8
	firstOnes  = 64 // blocks that are all measured
)

// work is what an operator has done since the start.
type work struct {
	seen, taken, out, alerts int64 // rows of its sources, those that its conditions let through, its own, and alerts of them
	time                     time.Duration
}

// meter reads the clock around operators.
type meter struct {
	blind  bool          // benchmarks: reads no clock
	now    bool          // at is as of now
	weight time.Duration // how many blocks this one stands for; 0: it is not measured
	passed time.Duration // blocks with few rows since one was measured
	at     time.Duration

	blocks         int64
	total, indexed time.Duration // of blocks, and of searching rows for the literals of conditions in them
}

// start is called before a block of so many items, and stop after it.
func (m *meter) start(items int) (began time.Duration) {
	m.blocks++
	m.now, m.weight = false, 1
	switch {
	case m.blind:
		m.weight = 0
	case items >= fewItems || m.blocks <= firstOnes:
	case m.passed < measuredOf-1:
		m.passed++
		m.weight = 0
	default:
		m.weight, m.passed = m.passed+1, 0
	}
	m.begin()
	return m.at
}

func (m *meter) stop(began time.Duration) {
	m.end()
	m.total += (m.at - began) * m.weight
}

// begin is called before something is measured.
func (m *meter) begin() {
	if !m.now && m.weight > 0 {
		m.at, m.now = clock(), true
	}
}

// end returns the time since begin, or since the last end that came right before it.
func (m *meter) end() (took time.Duration) {
	if m.weight == 0 {
		return 0
	}
	was := m.at
	m.at = clock()
	return (m.at - was) * m.weight
}

// skip says that time goes by that belongs to nobody.
func (m *meter) skip() { m.now = false }

// clock is the time since the process began, by a clock that cannot be set.
func clock() time.Duration { return time.Since(processBegan) }

var processBegan = time.Now()

// busy counts the rows of the block that its sources have, and says whether the operator has anything to do in it.
func (n *node) busy(lanes []lane) bool {
	busy := len(n.steps) > 0 && !n.spec.stateless()
	for k, x := range n.spec.Inputs {
		n.work.seen += int64(len(lanes[x].rows))
		busy = busy || n.head(lanes, k, 0) != nil
	}
	return busy
}

// reasons counts what became an error or late row, by reason. Reasons are words of this program, so there are few.
type reasons map[string]int64

func (r reasons) add(kind, reason string) {
	if kind == "error" {
		r[reason]++
	}
}

// count notes what an operator's result became on its way out.
func (g *Graph) count(n *node, r *operator.Result, outs int) {
	switch {
	case r.Kind == operator.Failed:
		g.errors.add("error", r.Reason)
	case outs == 2:
		n.work.alerts++
	case outs == 1 && n.spec.Suppress != nil: // those of the operator before it
		g.ops[n.spec.Inputs[0]-len(g.src)].work.alerts++
	}
}

// BucketsOf are the upper ends of a Histogram's buckets.
var BucketsOf = [...]time.Duration{time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 10 * time.Second}

// Histogram counts durations by bucket; the last is of those beyond all.
type Histogram struct {
	Counts [len(BucketsOf) + 1]int64
	Sum    time.Duration
}

func (h *Histogram) add(d time.Duration) {
	i := 0
	for i < len(BucketsOf) && d > BucketsOf[i] {
		i++
	}
	h.Counts[i]++
	h.Sum += d
}

// Total is the number of durations.
func (h *Histogram) Total() (n int64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}
