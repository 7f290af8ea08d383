package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// Report is what a run is doing and has done since it started, at one moment between two blocks.
type Report struct {
	Pipeline  string
	At        time.Time
	Position  int64 // of the last item
	Stats     Stats
	Blocks    int64         // that went through the graph
	Busy      time.Duration // that they took
	Searching time.Duration // of that, searching rows for the literals of all conditions at once
	Streams   []StreamReport
	Operators []OperatorReport
	Errors    map[string]int64 // error rows by reason
	Commits   Histogram        // from the hand-over of an epoch to its end, disk included
	Keys      KeyMemory
	Outbox    OutboxReport
	Halts     []Halt
	Lanes     []LaneReport // none without `deliver`
	Untaken   int64        // rows that no lane took
}

// Halt is a partition of which nothing more is taken in this run, before the record at a position, since it does not fit its stream; a run
// that comes to its end has failed by it.
type Halt struct {
	Partition string
	Position  int64
	Why       string
}

func (h Halt) Error() string {
	return fmt.Sprintf("%s stops at position %d: %s; correct `fields` or the schema and start again; everything else goes on", h.Partition, h.Position, h.Why)
}

// StreamReport is a stream. Its watermark is ms, operator.NegInf before any row, operator.PosInf after the end.
type StreamReport struct {
	Name       string
	Watermark  int64
	Status     string // active, idle or finished
	Partitions int
	Events     int64
	Repeated   int64 // of them: had come before, by their ids, and were dropped
}

// OperatorReport is what an operator has done. Time is by the clock, on the one goroutine that blocks go through.
type OperatorReport struct {
	Name, Kind string
	Seen       int64 // rows of its sources
	Taken      int64 // rows that its conditions, and the patterns of its plugin, let through
	Out        int64 // rows for its readers
	Alerts     int64
	Late       int64
	Keys       int // in use, not packed
	Time       time.Duration
	Plugin     *PluginReport
}

// PluginReport is what a plugin has done and how it is.
type PluginReport struct {
	Name, Version, Digest string
	Counts                wasm.Counts
	Rules                 []RuleReport
	State                 wasm.BreakerState // the worst of its shards
	Reason                string            // why it is not closed: a fault, or cpu
	Generation, Refused   int64             // times that another took its place, and that one was refused
	Openings              int64             // times that it was switched off, and said so
	Wait                  int               // blocks until it is tried again, while it is open
	Until                 time.Time         // when it is tried again, while it is held
}

// RuleReport is how often a rule has hit, but for what the pipeline excepts.
type RuleReport struct {
	ID   uint32
	Name string
	Hits int64
}

// KeyMemory is what keys take, in bytes: those in use, packed changes, what is known of pages, and the pages that are on disk.
type KeyMemory struct{ Hot, Packed, Known, Stored int64 }

// OutboxReport is the committed rows that no output has acknowledged.
type OutboxReport struct{ Rows, Bytes, Sent int64 }

// LaneReport is a lane: rows that wait, in memory or on disk, and their bytes, rows that its output has and has not acknowledged, and what
// it has done in this run.
type LaneReport struct {
	Name                            string
	Rows, Bytes, Flying             int64
	Sent, Alerts, Rejected, Refused int64
	LastError                       string    // of its output; "": none in this run
	LastAt                          time.Time // when that was
}

// report is under mu.
func (b *outbox) report() LaneReport {
	l := LaneReport{Name: b.name, Rows: b.waits() - int64(b.flying), Bytes: int64(b.size) + b.bytes, Flying: int64(b.flying),
		Sent: b.sent, Alerts: b.alerts, Rejected: b.rejected, Refused: b.refused, LastError: b.lastError}
	if b.lastAt > 0 {
		l.LastAt = time.UnixMilli(b.lastAt)
	}
	return l
}

// ErrNoReport is Report's error of a run whose loop does not answer in time: it works on a long block, or waits for a disk.
var ErrNoReport = errors.New("the run does not answer: it works on a long block, or waits for its disk")

// Report asks the loop for a report. After the end it is the last one.
func (r *Runner) Report(ctx context.Context) (*Report, error) {
	answer := make(chan *Report, 1)
	select {
	case r.asks <- answer:
	case <-r.done:
		return r.final, nil
	case <-ctx.Done():
		return nil, ErrNoReport
	}
	signal(r.wake)
	select {
	case rep := <-answer:
		return rep, nil
	case <-r.done:
		return r.final, nil
	case <-ctx.Done():
		return nil, ErrNoReport
	}
}

// asked answers who asks for a report.
func (r *Runner) asked() {
	r.turned.Store(r.opt.Now().UnixNano())
	for {
		select {
		case answer := <-r.asks:
			answer <- r.report()
		default:
			return
		}
	}
}

// Turned is when the loop has last turned, or now if it has ended. It does so at least every second, or after each block.
func (r *Runner) Turned() time.Time {
	select {
	case <-r.done:
		return r.opt.Now()
	default:
		return time.Unix(0, r.turned.Load())
	}
}

// Taking says why the run takes no more events, nil if it takes some.
func (r *Runner) Taking() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return r.err
	case r.stopped:
		return errors.New("it is being stopped")
	case r.ended || r.quit:
		return errors.New("the input has ended")
	}
	return nil
}

// Halts are the partitions that have stopped so far, in the order in which they did.
func (r *Runner) Halts() []Halt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.halts)
}

// halted are the same as errors.
func (r *Runner) halted() (out []error) {
	for _, h := range r.Halts() {
		out = append(out, h)
	}
	return out
}

// report is made by the loop, which owns everything in it.
func (r *Runner) report() *Report {
	g := r.graph
	u := g.usage()
	rep := &Report{Pipeline: r.spec.Name, At: r.opt.Now(), Position: g.p, Stats: r.Stats(), Blocks: g.meter.blocks, Busy: g.meter.total, Searching: g.meter.indexed,
		Errors: maps.Clone(map[string]int64(g.errors)), Commits: r.commits, Keys: KeyMemory{u.hot, u.tails, u.rest, u.stored}, Halts: r.Halts()}
	r.mu.Lock()
	for _, b := range r.boxes {
		l := b.report()
		rep.Outbox.Rows, rep.Outbox.Bytes, rep.Outbox.Sent = rep.Outbox.Rows+l.Rows, rep.Outbox.Bytes+l.Bytes, rep.Outbox.Sent+l.Flying
		if r.router != nil {
			rep.Lanes = append(rep.Lanes, l)
		}
	}
	r.mu.Unlock()
	rep.Untaken = r.untook
	for _, s := range g.src {
		rep.Streams = append(rep.Streams, StreamReport{s.spec.Name, s.cur.w, s.cur.st.String(), s.seen, s.rows, 0})
	}
	for i, n := range g.ops {
		rep.Operators = append(rep.Operators, OperatorReport{Name: n.spec.Name, Kind: n.spec.Kind(), Seen: n.work.seen, Taken: n.work.taken, Out: n.work.out, Alerts: n.work.alerts,
			Late: n.late, Keys: g.Keys(i), Time: n.work.time, Plugin: n.plugin()})
		rep.Operators = append(rep.Operators, n.aggregates()...)
		if n.spec.once() {
			for _, s := range n.shards {
				rep.Streams[n.spec.Inputs[0]].Repeated += s.counts().Repeated
			}
		}
	}
	return rep
}

func (s status) String() string {
	return [...]string{active: "active", idle: "idle", finished: "finished", unknown: "active"}[s]
}

// aggregates reports the plugins of a window's aggregates, as if they were operators that take the window's rows.
func (n *node) aggregates() (all []OperatorReport) {
	shards := n.aggregated()
	for _, i := range slices.Sorted(maps.Keys(shards)) {
		p := n.spec.PluginAt(i)
		rep := &PluginReport{Name: p.Module.Manifest.Name, Version: p.Module.Manifest.Version, Digest: "sha256:" + hex.EncodeToString(p.Module.Digest[:]),
			Generation: n.swap(i).done, Refused: n.swap(i).refused}
		for _, k := range shards[i] {
			rep.Counts.Add(&k.past)
			rep.Counts.Add(&k.plugin.Counts)
			if s := k.plugin.State(); s > rep.State {
				rep.State, rep.Reason = s, reasonOf(k.why)
			}
			rep.Wait = max(rep.Wait, k.plugin.Wait())
			rep.Openings += k.openings
		}
		all = append(all, OperatorReport{Name: p.Ident.Operator, Kind: "aggregate", Seen: n.work.taken, Taken: rep.Counts.Rows, Time: rep.Counts.Time, Plugin: rep})
	}
	return all
}

// plugin gathers what the instances of an operator's module did; nil if it has none.
func (n *node) plugin() *PluginReport {
	p := n.spec.Plugin
	if p == nil {
		return nil
	}
	rep := &PluginReport{Name: p.Module.Manifest.Name, Version: p.Module.Manifest.Version, Digest: "sha256:" + hex.EncodeToString(p.Module.Digest[:])}
	hits := map[uint32]int64{}
	for _, s := range n.shards {
		k := callerOf(s)
		rep.Counts.Add(&k.past)
		rep.Counts.Add(&k.plugin.Counts)
		rep.State = max(rep.State, k.plugin.State())
		rep.Wait = max(rep.Wait, k.plugin.Wait())
		for id, c := range k.ruled {
			hits[id] += c
		}
		if hot, c := s.usage(); c != nil {
			rep.Counts.StateBytes += hot + c.tails + c.stored
		}
	}
	rep.Openings, rep.Generation, rep.Refused = n.openings, n.swap(Own).done, n.swap(Own).refused
	if rep.State == wasm.Closed && n.off { // on trial
		rep.State = wasm.HalfOpen
	}
	if rep.State != wasm.Closed {
		rep.Reason = reasonOf(n.why)
	}
	if n.budget != nil {
		rep.Until = n.budget.until
	}
	for _, id := range slices.Sorted(maps.Keys(p.Rules)) {
		rep.Rules = append(rep.Rules, RuleReport{id, fmt.Sprintf("%s/%d", p.Module.Manifest.Name, id), hits[id]})
	}
	return rep
}
