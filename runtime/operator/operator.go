// Package operator holds what the runtime works out over time, one file an operator: an operator is three pure functions on
// the state of one key (what a row does, what a due time does, when the next time is due) and two that save and load it.
//
// An operator owns no goroutine, no wall clock, no timer and no storage. The engine calls it as if rows came one at a time
// (blocks and shards never show), keeps its timers from Next alone, and writes what Save returns into the epoch.
//
// Read Logic first, then window.go with aligned.go, session.go, count.go and aggregate.go, then join.go, first_seen.go and sequence.go.
package operator

import (
	"math"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// The ends of event time, in epoch milliseconds, and the due time of nothing.
const (
	NegInf = math.MinInt64
	PosInf = math.MaxInt64 - 1
	Never  = math.MaxInt64
)

// Logic is an operator over keys whose state is an S; the zero S is a key that was never seen. All times are epoch
// milliseconds of event time. A key whose Next is Never is empty: the engine may drop it and start again from the zero S.
type Logic[S any] interface {
	// Row takes one row, judged by in.W, the watermark before the row's position.
	Row(c *Context, s *S, in *In)
	// Fire does everything that is due at exactly due; c.W is the watermark of the position it fires at.
	Fire(c *Context, s *S, due int64)
	// Next returns the earliest due time of the state, or Never. PosInf waits for the end of the input, and may stay after it.
	Next(s *S) int64
	// Flushes says whether the end of the input makes it say something; if not, its state outlives the end.
	Flushes() bool
	// Clear makes an empty state the zero state; it may keep its memory.
	Clear(s *S)
	// Save appends a record of the state: all of it if whole, else at least what changed since the last Save.
	Save(dst []byte, s *S, whole bool) []byte
	// Load applies a record of Save, in the order of saving. Records come from disk: any bytes end in a state or an error.
	Load(s *S, rec []byte) error
}

// Sparing is a Logic that flushes, but not every state: one that Spares says is spared has nothing to say at the end of the
// input, and outlives it. Those whose Next is PosInf are among them: they wait for nothing.
type Sparing[S any] interface {
	Spares(s *S) bool
}

// Lasting is a Logic whose watermark the end of the input leaves alone: what is appended later goes on where it was.
type Lasting interface {
	Lasts()
}

// Whole is a Logic whose every record is the whole state, and of which nothing is left when a key is dropped that has nothing due
// any more: a record tells all about its key, and one that came due with no later one says that the key is over.
type Whole interface {
	Whole()
}

// Replacing is a Logic whose every record is the whole state.
type Replacing interface {
	Replaces()
}

// In is a row as an operator sees it: where it stands in the order of everything (P), when it happened (TS), the operator's
// watermark before P (W), the times of the first and last event behind it, its place in the operator's input (Idx), which
// input it came by, and its key.
type In struct {
	P, TS, W    int64
	First, Last int64
	Name        Name
	Batch       *event.Batch
	Row, Idx    int32
	Input       uint8
	Fits        uint32 // of a Sequence: the steps that the row fits
	Silent      bool   // first_seen: it only learns from the row
	Lone        bool   // it lacks a field of the key: of a Join it has no partner, of a plugin it has no state
	Key         []byte // canonical (event.AppendKey), valid during the block
}

// Passed is the row itself as a result, under a name of its own: nothing is copied.
func (in *In) Passed(name Name) Result {
	return Result{P: in.P, Due: NegInf, TS: in.TS, First: in.First, Last: in.Last, Name: name, Batch: in.Batch, Row: in.Row, Idx: in.Idx, Kind: Data}
}

// Value returns a cell of the row; In is a match.Row.
func (in *In) Value(f event.Field) event.Value { return in.Batch.Value(f, int(in.Row)) }

// What a result is.
const (
	Data    = iota // a row for readers and outputs
	Late           // an input row that came too late, for the outputs alone
	Failed         // an input row that a plugin could not judge, likewise
	Revised        // a row as it is so far, for the outputs alone; others may follow under its id
	Final          // what became of such a row in the end, for readers alone
)

// Result is what an operator said, with its place: by position; then what rows caused, by Idx; then what fired, by due
// time, firing key and Idx.
type Result struct {
	P, Due, TS int64
	// First and Last are the times of the first and last event behind a row, ms.
	First, Last int64
	By          string
	Name        Name
	Batch       *event.Batch
	Row, Idx    int32
	Kind        uint8
	Input       uint8 // of Late and Failed: which input the row came by
	Own         bool  // of Failed: it is no input row, but one of the operator's that lacks something
	LateBy      int64
	Reason, Why string // of Failed; of Late, if it is another than that
	Revision    int64  // of Revised: 0 for the first one of its id, then one more each

	Gathered *Gathered // of Suppress
}

// Context is what an operator may see and do at one moment. Results collect in Out, their cells in Batch.
type Context struct {
	P, W, Due int64
	By        string // the key that fires
	Idx       int32
	Batch     *event.Batch
	Out       []Result
	Counts    Counts
	Err       error // set by an operator that must not go on; the engine stops
}

// Counts are the caps that were hit, in rows.
type Counts struct {
	RowsCapped, MatchesCapped, Truncated int64

	Suppressed int64 // alerts that were held back
	Repeated   int64 // events that had come before

	Crowded   int64 // rows of a new key that came when there were max_keys already, and writes of plugins
	Estimated int64 // rows with an aggregate that has become an estimate

	Poisoned   int64 // rows that a plugin failed on
	Unjudged   int64 // rows that came while a plugin was switched off after too many failures
	TooLate    int64 // timers that a plugin set after the end of the input
	Incomplete int64 // rows that lack a field that a plugin requires: it did not see them
}

// Add adds the counts of o.
func (c *Counts) Add(o Counts) {
	c.RowsCapped += o.RowsCapped
	c.MatchesCapped += o.MatchesCapped
	c.Truncated += o.Truncated
	c.Suppressed += o.Suppressed
	c.Repeated += o.Repeated
	c.Estimated += o.Estimated
	c.Crowded += o.Crowded
	c.Poisoned += o.Poisoned
	c.Unjudged += o.Unjudged
	c.Incomplete += o.Incomplete
	c.TooLate += o.TooLate
}

// Emit says a row of the given cells, in the order of the operator's columns, made of events from first to last.
func (c *Context) Emit(ts, first, last int64, id event.ID, cells []event.Value) {
	c.Batch.AppendRow(cells...)
	c.add(Result{TS: ts, First: first, Last: last, Name: Named(id), Batch: c.Batch, Row: int32(c.Batch.Rows - 1), Kind: Data})
}

// EmitAs is Emit for a row that may be said more than once: as a Revised one or the Final one.
func (c *Context) EmitAs(kind uint8, revision, ts, first, last int64, id event.ID, cells []event.Value) {
	c.Emit(ts, first, last, id, cells)
	r := &c.Out[len(c.Out)-1]
	r.Kind, r.Revision = kind, revision
}

// Pass says the input row itself, under an id of its own.
func (c *Context) Pass(in *In, id event.ID) { c.Out = append(c.Out, in.Passed(Named(id))) }

// TooLate says that the row came too late for this operator.
func (c *Context) TooLate(in *In) {
	c.add(Result{TS: in.TS, Name: in.Name, Batch: in.Batch, Row: in.Row, First: in.TS, Last: in.TS, Kind: Late, Input: in.Input, LateBy: in.W - in.TS})
}

// TurnAway refuses a row because there are too many keys: as a row that failed, or as a late one.
func (c *Context) TurnAway(in *In, late bool, why string) {
	c.Counts.Crowded++
	r := Result{TS: in.TS, Name: in.Name, Batch: in.Batch, Row: in.Row, First: in.TS, Last: in.TS, Input: in.Input, Reason: "max_keys", Why: why}
	if r.Kind = Failed; late {
		r.Kind = Late
	}
	c.add(r)
}

func (c *Context) add(r Result) {
	r.P, r.Due, r.By, r.Idx = c.P, c.Due, c.By, c.Idx
	c.Out = append(c.Out, r)
	if c.Due != NegInf {
		c.Idx++
	}
}
