package pipeline

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

// Process is what the command line tells the components of this process and learns from them.
var Process process

type process struct {
	// Abort ends the process at once, with a message: what is on disk is as of the last commit. Unset in other distributions.
	Abort func(err error)

	Fresh    atomic.Bool // start over: states are removed, and file_rows moves an old file to PATH.old
	owns     atomic.Bool // the command line is ours, so an end without Stopping is the end of the input
	config   atomic.Pointer[Config]
	stopping atomic.Bool

	mu     sync.Mutex
	buffer *detect
	last   engine.Stats
	report *engine.Report // of the last buffer, once it is closed

	lags lagging
}

// Own says that the command line is ours and what the detect buffer of its stream is to run, checked and in the file's
// order; nil if the stream has none.
func (p *process) Own(c *Config) {
	p.owns.Store(true)
	p.config.Store(c)
}

// Stop is called before Stream.StopWithin: what follows is not the end of the input, even if the input has ended and only
// an output is waited for. The state is kept. It says whether it was called before.
func (p *process) Stop() (again bool) {
	again = p.stopping.Swap(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.buffer != nil {
		p.buffer.runner.End(false)
	}
	return again
}

// abort is called when going on would kill the process in the middle of a write.
func (p *process) abort(err error) {
	fail(err)
	if p.Abort != nil {
		p.Abort(err)
	}
}

// Stopped says whether Stop was called.
func (p *process) Stopped() bool { return p.stopping.Load() }

// Stats are the counts of the running or the last detect buffer.
func (p *process) Stats() engine.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.buffer != nil {
		return p.buffer.runner.Stats()
	}
	return p.last
}

// Report is what the last detect buffer has done, once it is closed; nil before.
func (p *process) Report() *engine.Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report
}

func (p *process) attach(b *detect) {
	p.mu.Lock()
	p.buffer = b
	p.mu.Unlock()
}

func (p *process) closed(b *detect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.buffer == b {
		p.last, p.buffer = b.runner.Stats(), nil
		p.report, _ = b.runner.Report(context.Background())
	}
}

// failure is the first error that no retry mends, found by a component that can only end its stream.
var failure atomic.Pointer[error]

// fail stores the first fatal error; the caller then ends its input or buffer.
func fail(err error) { failure.CompareAndSwap(nil, &err) }

// Failure returns why a stream ended that should not have, or nil: the command line exits with status 1.
func Failure() error {
	if err := failure.Load(); err != nil {
		return *err
	}
	return nil
}
