package wasm

import (
	"errors"
	"time"
)

// Costs are what the calls of a plugin took. Time is by the clock, on the goroutine that made the calls: from the rows to what the guest
// said of them, new instances included. It is more than the CPU where more goroutines run than there are cores; a thread's own
// CPU time would cost a system call, which is more than many a call of a guest.
type Costs struct {
	Time       time.Duration
	Instances  int64  // that were made
	MemoryPeak int64  // bytes of the largest linear memory that one of them had
	StateBytes int64  // what is kept for it, in memory and on disk; 0 for a plugin that keeps nothing; whoever keeps it says so
	Faults     Faults // failed calls by what they broke
}

// Faults counts failed calls, in the order of FaultNames.
type Faults [len(FaultNames)]int64

// FaultNames are all faults that a call may end with.
var FaultNames = [...]Fault{Fuel, Time, Stack, Trapped, Pointer, Exited, Aborted, Refused, Output}

// count counts a failed call.
func (f *Faults) count(err error) {
	t, ok := errors.AsType[*Trap](err)
	for i, name := range FaultNames {
		if ok && t.Fault == name {
			f[i]++
		}
	}
}

// add adds what another worker did.
func (c *Costs) add(o *Costs) {
	c.Time += o.Time
	c.Instances += o.Instances
	c.MemoryPeak = max(c.MemoryPeak, o.MemoryPeak)
	c.StateBytes += o.StateBytes
	for i, n := range o.Faults {
		c.Faults[i] += n
	}
}

// Add adds what another worker did for the same operator.
func (c *Counts) Add(o *Counts) {
	c.Calls += o.Calls
	c.Rows += o.Rows
	c.Hits += o.Hits
	c.Fuel += o.Fuel
	c.Failures += o.Failures
	c.Poisoned += o.Poisoned
	c.Skipped += o.Skipped
	c.Unjudged += o.Unjudged
	c.Nulled += o.Nulled
	c.Fired += o.Fired
	c.Refused += o.Refused
	c.Dropped += o.Dropped
	for i, n := range o.Metrics { // of a plugin that took another's place they are as its own manifest names them
		if i == len(c.Metrics) {
			c.Metrics = append(c.Metrics, 0)
		}
		c.Metrics[i] = sum(c.Metrics[i], n)
	}
	c.Costs.add(&o.Costs)
}

// Of calls with few rows one in sampled is measured, and stands for those before it: two readings of the clock would be a fifth of one.
const (
	sampled  = 16
	fewRows  = 64
	firstFew = 16 // calls that are all measured
)

// measure is when a call with so many rows begins, or 0 if it is not measured.
func (p *Plugin) measure(rows int) time.Duration {
	if p.Blind {
		return 0
	}
	if rows < fewRows && p.Counts.Calls >= firstFew && p.in != nil && p.passed < sampled-1 {
		p.passed++
		return 0
	}
	return clock()
}

// measured notes what a call took that began at from.
func (p *Plugin) measured(from time.Duration, rows int) {
	if from == 0 {
		return
	}
	took := clock() - from
	if rows < fewRows && p.Counts.Instances == p.met {
		took *= time.Duration(p.passed + 1)
		p.passed = 0
	}
	p.met = p.Counts.Instances
	p.Counts.Time += took
	if p.in != nil {
		p.Counts.MemoryPeak = max(p.Counts.MemoryPeak, int64(p.in.memory.Size()))
	}
}

// clock is the time since the process began. It cannot be set back, and reading it costs half of what time.Now does, which reads two
// clocks.
func clock() time.Duration { return time.Since(began) }

var began = time.Now()
