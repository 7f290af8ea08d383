package engine

import (
	"errors"
	"time"
)

// A plugin with limits.cpu may take so much of one core over any span of the clock. One that takes more is switched off for a while: the
// span, then twice as long each time, until it keeps within its share for a whole span. This goes by the clock, and so which rows it
// judges depends on how fast everything is: only those who ask for it have it.

// pauseMax is how long one may be switched off at a time.
const pauseMax = time.Hour

// slots is how finely the span slides.
const slots = 10

var errBudget = errors.New("it took more CPU than limits.cpu allows")

// budget is the state of such a plugin: closed (until zero, trial false), open (now before until), or on trial.
type budget struct {
	share float64 // of a core
	span  time.Duration
	used  [slots]time.Duration
	slot  int64 // since the epoch, of which used[slot%slots] is
	total time.Duration
	pause time.Duration // of the next time
	until time.Time     // while it is switched off
	trial time.Time     // when it was let through again; zero: it has proved itself
}

// spend notes what the plugin has taken in all until now, and says whether it is to be held.
func (b *budget) spend(now time.Time, total time.Duration) (held bool) {
	took := total - b.total
	b.total = total
	if !b.until.IsZero() {
		if now.Before(b.until) {
			return true
		}
		b.until, b.trial, b.used = time.Time{}, now, [slots]time.Duration{}
	}
	b.slide(now)
	b.used[b.slot%slots] += took
	var sum time.Duration
	for _, u := range b.used {
		sum += u
	}
	switch {
	case sum.Seconds() > b.share*b.span.Seconds():
		if b.pause = min(2*b.pause, pauseMax); b.trial.IsZero() {
			b.pause = b.span
		}
		b.until = now.Add(b.pause)
		return true
	case !b.trial.IsZero() && now.Sub(b.trial) >= b.span:
		b.trial = time.Time{}
	}
	return false
}

// slide forgets what is older than the span.
func (b *budget) slide(now time.Time) {
	slot := now.UnixNano() / max(int64(b.span)/slots, 1)
	for range min(max(slot-b.slot, 0), slots) {
		b.slot++
		b.used[b.slot%slots] = 0
	}
	b.slot = max(b.slot, slot)
}

// budgets holds plugins that have taken too much, and lets go those whose pause is over. Between two blocks.
func (g *Graph) budgets(now time.Time) {
	for _, n := range g.ops {
		b := n.budget
		if b == nil {
			continue
		}
		var why error
		if b.spend(now, n.took()) {
			why = errBudget
		}
		for _, s := range n.shards {
			callerOf(s).plugin.Hold(why)
		}
	}
}

// newBudget is the budget of a plugin that has one, else nil.
func newBudget(p *Plugin) *budget {
	if p == nil || p.CPU == 0 {
		return nil
	}
	return &budget{share: p.CPU, span: p.CPUSpan}
}
