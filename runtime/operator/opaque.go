package operator

import (
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Provider is an aggregate function of somebody else, a plugin's: what it keeps of rows are bytes that only it can read.
type Provider interface {
	Fields() []event.Field // what it reads
	StateSize() int        // bytes of a state, at least 1; a state of no rows is zeros
	Open() Function        // one a shard
}

// Function is a Provider's function at work, for one goroutine. A call costs much more than a row, so each takes many states at
// once. What failed has changed no state, and is said by its place.
type Function interface {
	// Update takes rows into states, in their order: row i goes into states[groups[i]]. Groups are numbered as they appear.
	Update(states [][]byte, groups []uint32, rows []*In, failed func(row int, f Failure))
	// Merge takes src[i], whose rows came later, into dst[i].
	Merge(dst, src [][]byte, failed func(pair int, f Failure))
	// Finish says the values of states; texts are good until value returns.
	Finish(states [][]byte, value func(i int, v event.Value), failed func(i int, f Failure))
	// Settle ends a block and adds what happened in it; an error ends the pipeline.
	Settle(c *Counts) error
	Close()
}

// Failure is why a function did not do something: the Reason of an error row, empty if there is to be none, and what to
// tell people.
type Failure struct{ Reason, Why string }

// Settling is a Logic that puts work off within a block: Settle does what is left of it. What it says belongs to earlier rows and
// stands out of order.
type Settling interface {
	Settle(c *Context)
	Close()
}

// opaque is the state of an Opaque aggregate.
type opaque struct {
	state []byte   // nil: no rows
	parts [][]byte // states of later rows that are to be merged into it, others' memory; empty between two rows of the key
	group uint32   // one more than its place in the pile; 0: no rows wait for it
	lost  *Failure // a merge failed: nobody knows its value any more

	done   bool // what Finish said of the state as it is:
	value  event.Value
	failed *Failure
}

// pile is a Function with rows that wait for it: those of a block, or until a state of theirs is asked for.
type pile struct {
	Function
	size   int
	most   int // rows
	states []*opaque
	groups []uint32
	rows   []*In
	zero   []byte   // the state of no rows
	bytes  [][]byte // scratch
	others [][]byte
	index  int
	fails  *[]failedRow
}

// failedRow is a row that an aggregate did not take.
type failedRow struct {
	in        *In
	aggregate int
	Failure
}

// Bounds of what waits: rows of a call, and bytes of their states.
const (
	pileRows  = 4096
	pileBytes = 4 << 20
)

// open gives this shard's copy of the window its functions.
func (o *Window) open() {
	if !slices.ContainsFunc(o.Aggregates, func(a Aggregate) bool { return a.Func == Opaque }) {
		return
	}
	o.Aggregates = slices.Clone(o.Aggregates)
	fails := new([]failedRow)
	for i := range o.Aggregates {
		if a := &o.Aggregates[i]; a.Func == Opaque {
			n := a.Provider.StateSize()
			a.pile = &pile{Function: a.Provider.Open(), size: n, zero: make([]byte, n), most: max(1, min(pileRows, pileBytes/n)), index: i, fails: fails}
			o.piles = append(o.piles, a.pile)
		}
	}
}

// Settle implements Settling: rows that an aggregate failed on are error rows, each once.
func (o *Window) Settle(c *Context) {
	if len(o.piles) == 0 {
		return
	}
	for _, p := range o.piles {
		p.flush()
		if err := p.Function.Settle(&c.Counts); err != nil && c.Err == nil {
			c.Err = err
		}
	}
	fails := o.piles[0].fails
	slices.SortStableFunc(*fails, func(a, b failedRow) int {
		if a.in.Idx != b.in.Idx {
			return int(a.in.Idx) - int(b.in.Idx)
		}
		return a.aggregate - b.aggregate
	})
	last := int32(-1)
	for _, x := range *fails {
		if in := x.in; in.Idx != last {
			last = in.Idx
			c.Out = append(c.Out, Result{P: in.P, Due: NegInf, TS: in.TS, First: in.TS, Last: in.TS, ID: in.ID, Batch: in.Batch, Row: in.Row, Idx: in.Idx, Input: in.Input,
				Kind: Failed, Reason: x.Reason, Why: x.Why})
		}
	}
	*fails = (*fails)[:0]
}

// Close gives back what functions hold.
func (o *Window) Close() {
	for _, p := range o.piles {
		p.Function.Close()
	}
}

// add lets a row wait for its state. in stays as it is until the end of the block.
func (p *pile) add(x *accumulator, in *In) {
	if x.opaque == nil {
		x.opaque = &opaque{}
	}
	o := x.opaque
	if o.lost != nil {
		return
	}
	if len(o.parts) > 0 {
		p.resolve(o)
	}
	if o.state == nil {
		o.state = make([]byte, p.size)
	}
	if o.group == 0 {
		p.states = append(p.states, o)
		o.group = uint32(len(p.states))
	}
	o.done = false
	p.groups, p.rows = append(p.groups, o.group-1), append(p.rows, in)
	if len(p.rows) == p.most {
		p.flush()
	}
}

// flush gives the rows that wait to the function.
func (p *pile) flush() {
	if len(p.rows) == 0 {
		return
	}
	p.bytes = p.bytes[:0]
	for _, o := range p.states {
		p.bytes = append(p.bytes, o.state)
		o.group = 0
	}
	p.Update(p.bytes, p.groups, p.rows, func(row int, f Failure) {
		if f.Reason != "" {
			*p.fails = append(*p.fails, failedRow{p.rows[row], p.index, f})
		}
	})
	clear(p.states)
	clear(p.rows)
	p.states, p.groups, p.rows = p.states[:0], p.groups[:0], p.rows[:0]
}

// merge notes that the rows of y belong to x, behind its own; y's state must not change until x is asked for.
func (p *pile) merge(x, y *accumulator) {
	if y.opaque == nil {
		return
	}
	if x.opaque == nil {
		x.opaque = &opaque{}
	}
	a, b := x.opaque, y.opaque
	if a.group > 0 || b.group > 0 {
		p.flush()
	}
	a.done = false
	if a.lost == nil {
		a.lost = b.lost
	}
	if b.state != nil {
		a.parts = append(a.parts, b.state)
	}
	a.parts = append(a.parts, b.parts...)
}

// resolve merges the parts of a state: neighbours, all pairs in one call, until one is left. So the earlier of two always comes
// first, and the number of calls is the logarithm of that of the parts.
func (p *pile) resolve(o *opaque) {
	list := o.parts
	if o.state != nil {
		list = append([][]byte{o.state}, list...)
	}
	own := o.state != nil // whether the first of list is ours to change
	for first := true; len(list) > 1 && o.lost == nil; first = false {
		p.bytes, p.others = p.bytes[:0], p.others[:0]
		next := list[:0]
		for i := 0; i < len(list); i += 2 {
			if i+1 < len(list) {
				if first && (i > 0 || !own) {
					list[i] = slices.Clone(list[i])
				}
				p.bytes, p.others = append(p.bytes, list[i]), append(p.others, list[i+1])
			}
			next = append(next, list[i])
		}
		p.Merge(p.bytes, p.others, func(_ int, f Failure) { o.lost = &f })
		list, own = next, true
	}
	switch {
	case o.lost != nil:
		o.state = nil
	case len(list) > 0 && !own:
		o.state = slices.Clone(list[0])
	case len(list) > 0:
		o.state = list[0]
	}
	o.parts = nil
}

// finish sees to it that the values of states are known.
func (p *pile) finish(all ...*opaque) {
	var asked []*opaque
	for _, o := range all {
		if o == nil || o.done {
			continue
		}
		if o.group > 0 {
			p.flush()
		}
		if len(o.parts) > 0 {
			p.resolve(o)
		}
		o.done, o.failed, o.value = true, o.lost, event.Value{Kind: event.Null}
		if o.lost == nil {
			asked = append(asked, o)
		}
	}
	for len(asked) > 0 {
		n := min(len(asked), p.most)
		p.bytes = p.bytes[:0]
		for _, o := range asked[:n] {
			if o.state == nil {
				p.bytes = append(p.bytes, p.zero)
			} else {
				p.bytes = append(p.bytes, o.state)
			}
		}
		p.Finish(p.bytes, func(i int, v event.Value) {
			asked[i].value = event.Value{Kind: v.Kind, Text: append([]byte(nil), v.Text...)}
		}, func(i int, f Failure) { asked[i].failed = &f })
		asked = asked[n:]
	}
}

// valueOf is the aggregate's cell: null if the function failed.
func (p *pile) valueOf(x *accumulator) event.Value {
	if x.opaque == nil {
		x.opaque = &opaque{}
	}
	p.finish(x.opaque)
	return x.opaque.value
}

// What a record says of an opaque state, and then its bytes.
const (
	opaqueNone = iota
	opaqueKept
	opaqueLost
)

func (p *pile) save(dst []byte, x *accumulator) []byte {
	o := x.opaque
	if o == nil {
		return append(dst, opaqueNone)
	}
	if o.group > 0 {
		p.flush()
	}
	if len(o.parts) > 0 {
		p.resolve(o)
	}
	switch {
	case o.lost != nil:
		dst = event.AppendBytes(append(dst, opaqueLost), []byte(o.lost.Reason))
		return event.AppendBytes(dst, []byte(o.lost.Why))
	case o.state == nil:
		return append(dst, opaqueNone)
	}
	return append(append(dst, opaqueKept), o.state...)
}

func (p *pile) load(r *event.Reader, x *accumulator) {
	switch r.Byte() {
	case opaqueNone:
	case opaqueKept:
		x.opaque = &opaque{state: slices.Clone(r.Take(uint64(p.size)))}
	case opaqueLost:
		x.opaque = &opaque{lost: &Failure{string(r.Bytes()), string(r.Bytes())}}
	default:
		r.Bad = true
	}
}

// failed is the first aggregate of a pane whose function has failed, and why; nil if there is none. Only what was asked for counts.
func (o *Window) failed(p *pane) (name string, f *Failure) {
	if len(o.piles) == 0 {
		return "", nil
	}
	for i := range p.acc {
		if x := p.acc[i].opaque; x != nil && x.done && x.failed != nil && x.failed.Reason != "" {
			return o.names[i], x.failed
		}
	}
	return "", nil
}
