package engine

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// Options tune a Runner. They never change results.
type Options struct {
	Shards    int                              // per operator; default: one a core, at most 8
	BlockRows int                              // rows an engine block; default 4096
	Retries   int                              // of a row that outputs reject while they take others; default 10
	Memory    int64                            // bytes that keys may take; default MemoryDefault
	Removed   string                           // on_removed: "", keep or drop
	Warn      func(format string, args ...any) // what people should know; default: nobody
	Now       func() time.Time
	Committed func(at map[string]int64) // told how far partitions are read, by name, once an epoch that says so is on disk; must not wait

	laneBytes, laneEpochs int // tests: what a lane has in memory, and how many epochs on disk it knows by their places
}

// How often epochs are written: as soon as results wait, but at most every soon; otherwise every often. Results beyond
// outMax bytes that nobody has taken stop the reading.
const (
	soon     = 50 * time.Millisecond
	often    = time.Second
	outMax   = 32 << 20
	epochMax = 16 << 20 // bytes of results
	movedMax = 1 << 17  // rows taken: both bound the memory of an epoch
)

// Runner is the loop around a graph: it takes blocks from inputs, draws rows in order, runs them, commits epochs, and
// gives committed rows to the outputs until they are acknowledged. One goroutine owns graph, intake and epoch; everything
// else is behind mu.
type Runner struct {
	spec   *Spec
	opt    Options
	store  *state.Store
	graph  *Graph
	intake *intake
	spaces spaces

	items   []Item
	faults  []fault
	outs    []*Out // said since the last epoch
	outSize int
	epochs  [2]state.Epoch // one is filled while the other is written
	flushes [2]state.Flush
	turn    int
	epoch   uint64 // the one that is being filled
	memory  memory
	writing bool
	written chan error
	moved   int // rows that were taken since the last epoch
	last    time.Time
	flight  [][]*Out         // of the epoch being written, by lane
	row     []byte           // scratch
	writes  *state.Epoch     // the epoch being written
	after   []func()         // likewise: what to call when it is on disk
	read    map[string]int64 // likewise: the positions in it, if somebody wants to know

	mu      sync.Mutex
	inbox   []*event.Block
	ended   bool // no more blocks: the input is exhausted
	stopped bool // no more blocks: the process stops
	halts   []Halt
	lanes
	stats  Stats
	err    error
	wake   chan struct{} // for the loop
	ready  chan struct{} // for Next
	done   chan struct{}
	quit   bool
	killed bool // tests: end without a commit

	asks      chan chan *Report
	replaces  chan *replacement
	replacing sync.Mutex
	refused   []refusal    // under mu
	turned    atomic.Int64 // when the loop has last turned, ns
	commits   Histogram
	took      time.Duration // by the last commit
	final     *Report       // after the end
}

// Start recovers what the store has and begins to run.
func Start(spec *Spec, store *state.Store, opt Options) (*Runner, error) {
	if opt.Shards <= 0 {
		opt.Shards = min(runtime.GOMAXPROCS(0), 8)
	}
	if opt.BlockRows <= 0 {
		opt.BlockRows = 4096
	}
	if opt.Retries <= 0 {
		opt.Retries = 10
	}
	if opt.Memory <= 0 {
		opt.Memory = MemoryDefault
	}
	if opt.Warn == nil {
		opt.Warn = func(string, ...any) {}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	r := &Runner{spec: spec, opt: opt, store: store, graph: NewGraph(spec, opt.Shards), written: make(chan error, 1),
		wake: make(chan struct{}, 1), ready: make(chan struct{}, 1), done: make(chan struct{}), asks: make(chan chan *Report, 16), replaces: make(chan *replacement, 1)}
	r.graph.warn = opt.Warn
	r.turned.Store(opt.Now().UnixNano())
	r.memory = memory{budget: opt.Memory, epochs: flushEpochs}
	r.intake = newIntake(spec, r.graph, opt.Now)
	r.newBoxes()
	if err := r.recover(); err != nil {
		return nil, err
	}
	r.intake.start(runtime.GOMAXPROCS(0))
	go r.loop()
	return r, nil
}

// Push gives a block to the engine, which releases it when its rows are taken. It never blocks: inputs keep within their
// credit.
func (r *Runner) Push(b *event.Block) {
	r.mu.Lock()
	r.inbox = append(r.inbox, b)
	r.mu.Unlock()
	signal(r.wake)
}

// End says that no more blocks come. If exhausted, everything fires, outputs are drained and Next returns io.EOF;
// otherwise the state is kept as it is after what was taken.
func (r *Runner) End(exhausted bool) {
	r.mu.Lock()
	r.ended, r.stopped = r.ended || exhausted, r.stopped || !exhausted
	r.mu.Unlock()
	signal(r.wake)
	signal(r.ready)
}

// Next waits for committed rows and returns some of one lane, in order, which the caller acknowledges or rejects by Settle. After the
// end it returns io.EOF, or the error that ended the run.
func (r *Runner) Next(ctx context.Context) ([]*Out, error) {
	for {
		r.mu.Lock()
		over, err := r.quit || r.stopped, r.err
		var rows []*Out
		var wait time.Duration
		if !over {
			rows, wait = r.take(r.opt.Now())
		}
		r.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case len(rows) > 0:
			return rows, nil
		case over:
			return nil, io.EOF
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-r.ready:
		case <-timer:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Settle tells what became of rows that Next returned, all of them: nil, they are with the output; else they are sent again, how an Account says.
func (r *Runner) Settle(rows []*Out, err error) {
	r.mu.Lock()
	b := r.boxes[rows[0].Lane]
	if err == nil {
		b.accept(rows)
	} else if said := b.reject(rows, err, r.opt.Now()); said != "" {
		r.mu.Unlock()
		r.opt.Warn("%s rejected %s: %v; sent again %s", b.output(), rowsOf(len(rows)), err, said)
		r.mu.Lock()
	}
	r.mu.Unlock()
	signal(r.wake)
	signal(r.ready)
}

// Stats returns the counts of this run so far.
func (r *Runner) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	for _, b := range r.boxes {
		s.Sent, s.Rejected, s.Refused = s.Sent+b.sent, s.Rejected+b.rejected, s.Refused+b.refused
		if r.router == nil {
			s.Alerts = b.alerts
		}
		s.Waiting += b.waits() - int64(b.flying)
	}
	return s
}

// Close stops at the next cut, commits, and waits for it. The error is the one that ended the run, if one did.
func (r *Runner) Close() error {
	r.End(false)
	<-r.done
	return r.err
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// loop runs until the input is exhausted and everything is acknowledged, or until it is told to stop.
func (r *Runner) loop() {
	err := r.work()
	if r.writing {
		err = errors.Join(err, r.wrote(<-r.written))
	}
	r.intake.close()
	r.graph.Close()
	r.mu.Lock()
	r.err, r.quit = err, true
	r.mu.Unlock()
	r.final = r.report()
	signal(r.ready)
	close(r.done)
}

func (r *Runner) work() error {
	flushed := false
	for {
		r.asked()
		r.replace()
		r.refusals()
		drew, err := r.advance()
		if err != nil {
			return err
		}
		r.mu.Lock()
		ended, stopped, empty, settled := r.ended, r.stopped, len(r.inbox) == 0, r.settled()
		r.mu.Unlock()
		if stopped {
			return r.finish()
		}
		atEnd := ended && empty && !drew && r.intake.finished()
		if atEnd && !flushed {
			for _, b := range r.intake.endLive() {
				r.intake.push(b)
				atEnd = false
			}
			flushed = true
		}
		if err := r.commitDue(drew, atEnd || settled); err != nil {
			return err
		}
		if atEnd && !r.writing && r.moved == 0 && r.empty() {
			return errors.Join(append([]error{r.finish()}, r.halted()...)...)
		}
		if !drew && empty {
			if err := r.wait(); err != nil {
				return err
			}
		}
	}
}

// advance takes the inbox and runs one block of what can be drawn.
func (r *Runner) advance() (drew bool, err error) {
	if err := r.refill(); err != nil {
		return false, err
	}
	r.mu.Lock()
	inbox, full := r.inbox, r.full()
	r.inbox = nil
	r.mu.Unlock()
	for _, b := range inbox {
		r.intake.push(b)
	}
	r.moved += r.intake.begun
	r.intake.begun = 0
	r.intake.tick(r.opt.Now(), full)
	if full || r.stop() {
		return false, nil
	}
	r.items, r.faults = r.intake.draw(r.items[:0], r.faults[:0], r.opt.BlockRows)
	for _, err := range r.intake.halts {
		r.opt.Warn("%v", err)
	}
	if len(r.intake.halts) > 0 {
		r.mu.Lock()
		r.halts = append(r.halts, r.intake.halts...)
		r.mu.Unlock()
		r.intake.halts = r.intake.halts[:0]
	}
	if len(r.items) == 0 {
		r.intake.recycle()
		return false, nil
	}
	if err := r.graph.Block(r.items); err != nil {
		return false, err
	}
	r.graph.budgets(r.opt.Now())
	from := len(r.outs)
	r.outs = r.graph.leaving(r.outs, r.items, r.faults)
	r.outs = r.outs[:from+len(r.routed(r.outs[from:]))]
	for _, o := range r.outs[from:] {
		r.outSize += len(o.Payload) + 200
	}
	r.moved += len(r.items) + len(r.faults)
	r.intake.recycle()
	r.mu.Lock()
	r.stats = r.total()
	r.mu.Unlock()
	return true, nil
}

func (r *Runner) stop() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped
}

// commitDue begins an epoch if one is due and none is being written.
func (r *Runner) commitDue(drew, now bool) error {
	select {
	case err := <-r.written:
		if err := r.wrote(err); err != nil {
			return err
		}
	default:
	}
	if r.writing && r.moved > 2*movedMax { // what changes stays in memory until it is logged
		if err := r.wrote(<-r.written); err != nil {
			return err
		}
	}
	if r.writing {
		return nil
	}
	age := r.opt.Now().Sub(r.last)
	switch {
	case r.moved > 0 && (len(r.outs) > 0 && age >= soon || len(r.intake.await) > 0 && !drew || age >= often || r.outSize > epochMax || r.moved > movedMax):
	case (r.moved > 0 || r.dirty()) && (now && !drew || age >= often):
	case r.behind && (!drew || age >= soon):
	default:
		return nil
	}
	return r.begin()
}

// begin cuts an epoch and hands it to the writer.
func (r *Runner) begin() error {
	e, f := &r.epochs[r.turn], &r.flushes[r.turn]
	r.turn = 1 - r.turn
	e.Reset()
	f.Reset()
	r.flight, r.writes = r.deal(e), e
	if err := r.save(e, f); err != nil {
		return err
	}
	r.outs, r.outSize, r.moved, r.behind = nil, 0, 0, false
	r.after, r.intake.await = r.intake.await, nil
	r.writing, r.last = true, r.opt.Now()
	go func() {
		began := clock()
		err := r.store.Commit(e)
		if err == nil {
			err = r.store.Flush(f)
		}
		r.took = clock() - began
		r.written <- err
		signal(r.wake)
	}()
	return nil
}

// wrote releases what waited for an epoch: first the inputs, then the rows.
func (r *Runner) wrote(err error) error {
	r.writing = false
	if err != nil {
		return err
	}
	r.commits.add(r.took)
	r.graph.landed()
	for _, f := range r.after {
		f()
	}
	if len(r.read) > 0 {
		r.opt.Committed(r.read)
		r.read = nil
	}
	r.land()
	r.flight, r.after, r.writes = nil, nil, nil
	signal(r.ready)
	return nil
}

// wait sleeps until something happens, or an epoch is due.
func (r *Runner) wait() error {
	due := often
	if len(r.outs) > 0 || r.behind {
		due = soon
	}
	t := time.NewTimer(min(max(due-r.opt.Now().Sub(r.last), time.Millisecond), r.intake.due()))
	defer t.Stop()
	select {
	case err := <-r.written:
		return r.wrote(err)
	case <-r.wake:
	case <-t.C:
	}
	return nil
}

// finish commits what there is, acknowledgements above all, and ends.
func (r *Runner) finish() error {
	if r.writing {
		if err := r.wrote(<-r.written); err != nil {
			return err
		}
	}
	if (r.moved > 0 || r.dirty()) && !r.killed {
		if err := r.begin(); err != nil {
			return err
		}
		return r.wrote(<-r.written)
	}
	return nil
}

// total gathers the counts of intake and graph.
func (r *Runner) total() Stats {
	s := r.intake.stats
	for _, n := range r.graph.ops {
		s.Rows += n.left
		s.Alerts += n.work.alerts
		s.Revised += n.revised
		s.Late += n.late
		s.Errors += n.failed
	}
	c := r.graph.Counts()
	s.Counts = c
	s.Errors += c.Poisoned
	return s
}
