package wasm

import "errors"

// BreakerState says whether a plugin is given rows.
type BreakerState uint8

// A breaker is Closed as long as all is well. A block of rows that fails too often opens it. Open, it lets no rows through for a number of
// blocks; then it is HalfOpen: the next block with rows is a trial, with less patience. If that goes well it is Closed again, else Open
// for twice as many blocks. Held is what the engine does to one that costs more than it may, for as long as the engine says.
const (
	Closed BreakerState = iota
	HalfOpen
	Open
	Held
)

func (s BreakerState) String() string {
	return [...]string{"closed", "half-open", "open", "held"}[s]
}

// How much failing a block of rows may cost before the breaker opens: failed calls; on trial also budgets of calls that were used up by
// those that failed, since a guest in a loop uses up a whole one each time.
const (
	failuresMax = 64
	trialMax    = 16
	trialFuel   = 2
	coolMax     = 1024 // blocks
)

// breaker is the state of a plugin's breaker. It counts blocks, not time: the same blocks open and close it.
type breaker struct {
	cool    int // blocks to wait when it opens again
	wait    int // blocks until the next trial
	tripped bool
	held    error // why the engine holds it, nil if it does not
}

// lets says whether a block's rows go to the guest, and counts the block.
func (b *breaker) lets() bool {
	if b.held != nil {
		return false
	}
	if b.wait > 0 {
		b.wait--
		return false
	}
	return true
}

// settle notes how a block with rows went.
func (b *breaker) settle(good bool) {
	if good {
		b.cool, b.tripped = 1, false
		return
	}
	b.tripped, b.wait = true, b.cool
	b.cool = min(2*b.cool, coolMax)
}

// State says how the breaker is, between two blocks.
func (b *breaker) State() BreakerState {
	switch {
	case b.held != nil:
		return Held
	case b.wait > 0:
		return Open
	case b.tripped:
		return HalfOpen
	}
	return Closed
}

// Wait is the number of blocks until the next trial.
func (b *breaker) Wait() int { return b.wait }

// Hold gives the guest no rows until it is called with nil; why is what becomes the reason of rows that nobody judges.
func (b *breaker) Hold(why error) { b.held = why }

// Off says whether no row of this block goes to the guest.
func (p *Plugin) Off() bool { return p.off }

// Passes counts rows that the guest is not given because the breaker is open, and says why: what Judge would, but without looking at
// each. Not so if some of them may lack a required field: those it would not have seen anyway.
func (p *Plugin) Passes(rows int) (why error, ok bool) {
	if !p.off || len(p.required) > 0 {
		return nil, false
	}
	p.Counts.Unjudged += int64(rows)
	return p.why(), true
}

// why is why the last rows were not judged.
func (p *Plugin) why() error {
	if p.held != nil {
		return p.held
	}
	return p.last
}

// open says whether this block has failed enough, or at once if the clock ended a call: that is not the row's fault.
func (p *Plugin) open() bool {
	if p.failures == 0 {
		return false
	}
	if t, ok := errors.AsType[*Trap](p.last); ok && t.Fault == Time || p.failures >= failuresMax {
		return true
	}
	return p.tripped && (p.failures >= trialMax || p.burnt >= trialFuel*p.module.Limits.FuelPerCall)
}
