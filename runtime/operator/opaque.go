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

// Preparing is a Logic to which a state costs less together with others: before states fire at due, it is told of all of them, and then
// that these were all. That changes what firing them costs and nothing else.
type Preparing[S any] interface {
	Prepares() bool // whether there is anything to prepare at all
	Prepare(s *S, key string, due int64)
	Prepared()
}

// opaque is the state of an Opaque aggregate.
type opaque struct {
	state []byte   // nil: no rows
	parts [][]byte // states of later rows that are to be merged into it, others' memory; empty between two rows of the key
	group uint32   // one more than its place in the pile; 0: no rows wait for it
	lost  *Failure // a merge failed: nobody knows its value any more

	done   uint32 // the pile's age when Finish said the value of the state as it is, 0: it has not; and whether somebody wanted to know:
	asked  bool
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
	zero   []byte // the state of no rows
	age    uint32 // one more each time that another function takes this one's place
	index  int
	fails  *[]failedRow

	bytes, others        [][]byte // scratch
	owners, asked, parts []*opaque
	ahead                []*opaque // whose values will be asked for
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
	having := o.Having.Fields()
	for i := range o.Aggregates {
		if a := &o.Aggregates[i]; a.Func == Opaque {
			n := a.Provider.StateSize()
			a.pile = &pile{Function: a.Provider.Open(), size: n, zero: make([]byte, n), age: 1, most: max(1, min(pileRows, pileBytes/n)), index: i, fails: fails}
			o.piles = append(o.piles, a.pile)
			o.judges = o.judges || slices.Contains(having, a.Name)
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
			c.Out = append(c.Out, Result{P: in.P, Due: NegInf, TS: in.TS, First: in.TS, Last: in.TS, Name: in.Name, Batch: in.Batch, Row: in.Row, Idx: in.Idx, Input: in.Input,
				Kind: Failed, Reason: x.Reason, Why: x.Why})
		}
	}
	*fails = (*fails)[:0]
}

// Functions are those of Opaque aggregates, by their places among the aggregates; nil elsewhere.
func (o *Window) Functions() []Function {
	all := make([]Function, len(o.Aggregates))
	for _, p := range o.piles {
		all[p.index] = p.Function
	}
	return all
}

// Renew says that the function of an aggregate has become another one, which reads the same states: values are asked for again.
func (o *Window) Renew(aggregate int) { o.Aggregates[aggregate].pile.age++ }

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
	o.done = 0
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
	a.done = 0
	if a.lost == nil {
		a.lost = b.lost
	}
	if b.state != nil {
		a.parts = append(a.parts, b.state)
	}
	a.parts = append(a.parts, b.parts...)
}

// resolve merges the parts of states: neighbours, all pairs of all states in one call, until one part is left of each. So the
// earlier of two always comes first, and the number of calls is the logarithm of that of the parts.
func (p *pile) resolve(all ...*opaque) {
	for _, o := range all {
		if o.state != nil {
			o.parts = slices.Insert(o.parts, 0, o.state)
		} else if len(o.parts) > 0 {
			o.parts[0] = slices.Clone(o.parts[0])
		}
		for i := 2; i+1 < len(o.parts); i += 2 {
			o.parts[i] = slices.Clone(o.parts[i]) // what something is merged into is ours
		}
	}
	for p.round(all) {
	}
	for _, o := range all {
		if o.state = nil; o.lost == nil && len(o.parts) > 0 {
			o.state = o.parts[0]
		}
		o.parts = nil
	}
}

// round merges each second part into the one before it, and says whether there was one.
func (p *pile) round(all []*opaque) bool {
	p.bytes, p.others, p.owners = p.bytes[:0], p.others[:0], p.owners[:0]
	for _, o := range all {
		if o.lost != nil {
			continue
		}
		left := o.parts[:0]
		for i, part := range o.parts {
			if i%2 == 1 {
				p.others = append(p.others, part)
				continue
			}
			if left = append(left, part); i+1 < len(o.parts) {
				p.bytes, p.owners = append(p.bytes, part), append(p.owners, o)
			}
		}
		o.parts = left
	}
	for from := 0; from < len(p.bytes); from += p.most {
		to := min(from+p.most, len(p.bytes))
		p.Merge(p.bytes[from:to], p.others[from:to], func(i int, f Failure) {
			if o := p.owners[from+i]; o.lost == nil {
				o.lost = &f
			}
		})
	}
	return len(p.bytes) > 0
}

// finish sees to it that the values of states are known.
func (p *pile) finish(all ...*opaque) {
	asked, parts := p.asked[:0], p.parts[:0]
	for _, o := range all {
		if o.done == p.age {
			continue
		}
		if o.group > 0 {
			p.flush()
		}
		if len(o.parts) > 0 {
			parts = append(parts, o)
		}
		asked = append(asked, o)
	}
	p.asked, p.parts = asked, parts
	if len(parts) > 0 {
		p.resolve(parts...)
	}
	for _, o := range asked {
		o.done, o.asked, o.failed, o.value = p.age, false, o.lost, event.Value{Kind: event.Null}
	}
	asked = slices.DeleteFunc(asked, func(o *opaque) bool { return o.lost != nil })
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
	x.opaque.asked = true
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

// prepare notes that the values of the window that v shows will be asked for, if it becomes a row.
func (o *Window) prepare(v *windowView) {
	p := v.p
	if !o.judges && !o.Having.Match(v) {
		return
	}
	for i, a := range o.Aggregates {
		if a.Func != Opaque || i >= len(p.acc) {
			continue
		}
		if p.acc[i].opaque == nil {
			p.acc[i].opaque = &opaque{}
		}
		a.pile.ahead = append(a.pile.ahead, p.acc[i].opaque)
	}
}

// Prepares implements Preparing.
func (o *Window) Prepares() bool { return len(o.piles) > 0 && !o.First }

// Prepared implements Preparing.
func (o *Window) Prepared() {
	for _, p := range o.piles {
		p.finish(p.ahead...)
		clear(p.ahead)
		p.ahead = p.ahead[:0]
	}
}

// failed is the first aggregate of a pane whose function has failed, and why; nil if there is none. Only what was asked for counts.
func (o *Window) failed(p *pane) (name string, f *Failure) {
	if len(o.piles) == 0 {
		return "", nil
	}
	for i := range p.acc {
		if x := p.acc[i].opaque; x != nil && x.done == o.Aggregates[i].pile.age && x.asked && x.failed != nil && x.failed.Reason != "" {
			return o.names[i], x.failed
		}
	}
	return "", nil
}
