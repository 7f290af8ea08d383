package pipeline

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

// Run is one pipeline of this process: what the command line tells its components, and learns from them. In other distributions each
// stream has one that nobody asks.
type Run struct {
	Fresh bool // start over: states are removed, and file_rows moves an old file to PATH.old
	// Abort ends the process at once, with a message: what is on disk is as of the last commit. Unset in other distributions.
	Abort func(err error)

	owns     bool // the command line is ours, so an end without Stop is the end of the input
	config   atomic.Pointer[Config]
	stopping atomic.Bool
	failure  atomic.Pointer[error]

	mu     sync.Mutex
	buffer *detect
	last   engine.Stats
	report *engine.Report // of the last buffer, once it is closed

	lags lagging
}

// NewRun returns the run of a stream of this command line: c is what its detect buffer is to run, checked and in the file's order;
// nil if it has none.
func NewRun(c *Config) *Run {
	r := &Run{owns: true}
	r.config.Store(c)
	return r
}

// Attach makes the run that of a stream, before the stream is started.
func (r *Run) Attach(s *service.Stream) { linkOf(s.Resources()).run = r }

// Stop is called before Stream.StopWithin: what follows is not the end of the input, even if the input has ended and only
// an output is waited for. The state is kept. It says whether it was called before.
func (r *Run) Stop() (again bool) {
	again = r.stopping.Swap(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buffer != nil {
		r.buffer.runner.End(false)
	}
	return again
}

// Stopped says whether Stop was called.
func (r *Run) Stopped() bool { return r.stopping.Load() }

// exhausted says whether an end of the input is one, and not a signal or a failure: the state is kept after those.
func (r *Run) exhausted() bool { return !r.Stopped() && r.owns && r.Failure() == nil }

// Stats are the counts of the running or the last detect buffer.
func (r *Run) Stats() engine.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buffer != nil {
		return r.buffer.runner.Stats()
	}
	return r.last
}

// Report is what the last detect buffer has done, once it is closed; nil before.
func (r *Run) Report() *engine.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report
}

func (r *Run) attach(b *detect) {
	r.mu.Lock()
	r.buffer = b
	r.mu.Unlock()
}

func (r *Run) closed(b *detect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buffer == b {
		r.last, r.buffer = b.runner.Stats(), nil
		r.report, _ = b.runner.Report(context.Background())
	}
}

// runner is the running engine, nil if there is none.
func (r *Run) runner() *engine.Runner {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buffer == nil {
		return nil
	}
	return r.buffer.runner
}

// fail stores the first error that no retry mends, found by a component that can only end its stream, and then does.
func (r *Run) fail(err error) { r.failure.CompareAndSwap(nil, &err) }

// Failure returns why the stream ended that should not have, or nil: the command line exits with status 1.
func (r *Run) Failure() error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// abort is called when going on would kill the process in the middle of a write.
func (r *Run) abort(err error) {
	r.fail(err)
	if r.Abort != nil {
		r.Abort(err)
	}
}

// WantsServer says whether a pipeline uses the HTTP server that Benthos would open for every stream, on all of the machine's addresses:
// it configures one under `http`, or has a component http_server without an address of its own.
func WantsServer(src []byte) bool {
	var root yaml.Node
	if err := yaml.Unmarshal(src, &root); err != nil || len(root.Content) == 0 {
		return false
	}
	return peek(root.Content[0], "http") != nil || sharesServer(root.Content[0], 0)
}

func sharesServer(n *yaml.Node, depth int) bool {
	if n = resolve(n); depth > nestedMax {
		return false
	}
	for i, x := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if x.Value == "http_server" && (peek(n.Content[i+1], "address") == nil || peek(n.Content[i+1], "address").Value == "") {
				return true
			}
			continue
		}
		if sharesServer(x, depth+1) {
			return true
		}
	}
	return false
}
