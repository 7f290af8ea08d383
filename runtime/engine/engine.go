// Package engine runs a graph of streams and operators over blocks of rows, in lock step, exactly as if rows came one at a
// time, and commits what it did in epochs.
//
// The promises. Blocks and shards never show: results are a function of the recorded order of rows and marks alone
// (position by position: an operator's rows, then its watermark, then what is due). What was committed is never said
// differently after a crash. Nothing leaves before its epoch is on disk.
//
// Read spec.go (the graph), engine.go (a block's way through it), keyed.go (a shard), watermark.go; then intake.go (how
// rows get their order), runner.go (the commit loop) and outbox.go (how results leave).
//
// Costs, an event of a tumbling count: sequencer 10 ns, shard 80 ns, epochs 10 to 100 ns; no allocation once warm.
package engine

import (
	"fmt"
	"slices"
	"sync"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
	"github.com/seed-98920119/tocsin/runtime/table"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// Row is a row on its way: of a stream, or said by an operator.
type Row struct {
	P, TS       int64
	First, Last int64 // times of the first and last event behind it; of events their own
	Name        operator.Name
	Batch       *event.Batch
	Row         int32
}

// Item is one thing that takes a position: a row of a stream's partition, or a mark on it. Items without a stream take a
// position and move nothing: events that are no rows.
type Item struct {
	Stream, Part int32 // Stream: -1 for none; Part: index in the stream's partitions
	Mark         event.Mark
	Same         bool // shares the position of the item before it: a mark on a partition of several streams
	Row
}

// lane is what a node gives its readers in a block.
type lane struct {
	rows  []Row
	steps []step
	own   []step // of steps that are not those of the operator
}

// Graph is the running form of a Spec, without storage or clock.
type Graph struct {
	spec  *Spec
	p     int64
	src   []*source
	ops   []*node
	lanes []lane

	indices []*index // by node; nil: its readers look at every row

	used   []tableUse
	newest map[*table.Source]*table.Table // for a moment

	seed  [2]uint64 // of the hash of keys
	alone int       // an operator with fewer rows in a block runs its shards one after the other

	meter   meter
	errors  reasons
	notices []notice // alerts about plugins that were switched off in the block
	warn    func(format string, args ...any)
}

// node is an operator at work.
type node struct {
	spec    *Operator
	admits  *match.Condition // on input rows
	shards  []shard
	in      []mark    // of each input, as far as the block was walked
	picked  []bool    // by input: rows has those of the block that may be taken, otherwise it is all of them
	rows    [][]int32 // places in the input's lane
	w       mark      // the operator's own, after the block
	stored  int64     // the last finite w.w, with what the end fired
	steps   []step    // of w in the block: those of the only input, or own
	own     []step
	cur     []int             // cursors of merges
	said    []operator.Result // of a shard, if no other said something, or merged
	merged  []operator.Result
	whole   []Row       // of passing shards, whose said is made of them when somebody asks: results
	joined  []Row       // the memory of whole, if it is of many shards
	row     operator.In // the row that is being dealt out, and its key
	key     []byte
	ends    []int           // scratch: of keys in it
	late    int64           // rows that came too late
	failed  int64           // rows that a window refused
	left    int64           // rows said that leave
	revised int64           // revisions of them
	began   int64           // first_seen: the time of its first row, or -inf
	pace    int64           // the step in which w moves, ms; 0: as the inputs do
	keyer   *wasm.Keyer     // of a plugin that remembers
	namer   *operator.Namer // of an operator that passes rows on
	work    work

	opaque bool         // plugins are among its window's
	offs   map[int]bool // those that are switched off, by their places

	off      bool // its plugin is switched off, or on trial after that
	openings int64
	swaps    map[int]*swaps // of its plugin (Own), and of those of its aggregates by their places
	why      error          // it was switched off last
	budget   *budget
}

// NewGraph makes a graph whose operators are split over shards by key. Shards never change results.
func NewGraph(spec *Spec, shards int) *Graph {
	g := &Graph{spec: spec, alone: 256, errors: reasons{}, newest: map[*table.Source]*table.Table{}, lanes: make([]lane, len(spec.Streams)+len(spec.Operators))}
	for i := range spec.Streams {
		g.src = append(g.src, newSource(&spec.Streams[i]))
	}
	for i := range spec.Operators {
		o := &spec.Operators[i]
		n := &node{spec: o, admits: o.admits(), picked: make([]bool, len(o.Inputs)), rows: make([][]int32, len(o.Inputs)), w: mark{operator.NegInf, active}, stored: operator.NegInf, began: operator.NegInf, budget: newBudget(o.Plugin), cur: make([]int, max(len(o.Inputs), shards))}
		for range o.Inputs {
			n.in = append(n.in, mark{operator.NegInf, active})
		}
		n.namer = g.namer(o)
		n.opaque = o.Window != nil && len(o.Plugins()) > 0
		for range shards {
			s := g.newShard(o, n.namer)
			g.uses(s)
			n.shards = append(n.shards, s)
		}
		if n.pace = o.pace(); o.Plugin != nil && o.Plugin.remembers() {
			n.keyer = wasm.NewKeyer(o.Plugin.Module.Manifest, o.Plugin.Fields)
		}
		n.limitKeys()
		g.ops = append(g.ops, n)
	}
	g.index(indexFrom, shards)
	return g
}

// namer names the rows that an operator passes on, nil if it makes rows of its own.
func (g *Graph) namer(o *Operator) *operator.Namer {
	var ident operator.Ident
	switch {
	case o.Filter != nil:
		ident = o.Filter.Ident
	case o.Enrich != nil:
		ident = o.Enrich.Ident
	case o.Plugin != nil && !o.Plugin.Detects():
		ident = o.Plugin.Ident
	default:
		return nil
	}
	var ways []*operator.Namer
	for _, x := range o.Inputs {
		if x -= len(g.spec.Streams); x >= 0 && g.ops[x].namer != nil {
			ways = append(ways, g.ops[x].namer.Ways()...)
		}
	}
	return ident.Namer(ways...)
}

func (g *Graph) newShard(o *Operator, namer *operator.Namer) shard {
	out := event.NewBatch(g.spec.Fields, o.columns())
	switch {
	case o.Join != nil && o.Join.Kind == operator.Windowed:
		return newKeyed(o.Join.Windows(), out)
	case o.Join != nil && o.Join.Kind == operator.AsOf:
		return newKeyed(o.Join.Versions(), out)
	case o.Join != nil:
		return newKeyed(o.Join.Logic(), out)
	case o.Sequence != nil:
		return newKeyed(o.Sequence.Logic(), out)
	case o.Plugin != nil && o.Plugin.remembers():
		return newRemembering(o.Plugin, g.spec.Fields, out, namer)
	case o.Plugin.Detects():
		return newPlugged(o.Plugin, out)
	case o.Plugin != nil:
		return newMapped(o.Plugin, out, namer)
	case o.Filter != nil:
		return &passing{namer: namer}
	case o.Enrich != nil:
		return &enriched{spec: o.Enrich, out: out, passing: passing{namer: namer}}
	case o.FirstSeen != nil:
		return newKeyed(o.FirstSeen.Logic(), out)
	case o.Risk != nil:
		return newKeyed(o.Risk.Logic(g.raised(o)), out)
	case o.Suppress != nil:
		return newKeyed(o.Suppress.Logic(g.spec.reader(o)), out)
	}
	switch o.Window.Kind {
	case operator.Session:
		return newKeyed(o.Window.Sessions(), out)
	case operator.Counting:
		return newKeyed(o.Window.Counts(), out)
	}
	return newKeyed(o.Window.Logic(), out)
}

// Block takes a block's items through the graph. What it leaves in the lanes and in said is good until the next call.
func (g *Graph) Block(items []Item) error {
	g.notices = g.notices[:0]
	began := g.meter.start(len(items))
	g.sequence(items)
	g.tables()
	for i := range g.src {
		g.pick(i)
	}
	for i, n := range g.ops {
		before := n.w.w
		n.watermark(g.lanes)
		busy := n.busy(g.lanes)
		if busy {
			g.meter.begin()
		}
		rows := n.distribute(g, before)
		n.work.taken += int64(rows)
		if err := n.run(rows, rows < g.alone); err != nil {
			return fmt.Errorf("operator %s: %w", n.spec.Name, err)
		}
		switch {
		case n.spec.Plugin != nil:
			g.health(n)
		case n.opaque:
			g.aggregatesHealth(n)
		}
		n.gather(&g.lanes[len(g.src)+i])
		if busy {
			n.work.time += g.meter.end()
		} else {
			g.meter.skip()
		}
		g.pick(len(g.src) + i)
	}
	g.meter.stop(began)
	return nil
}

// sequence gives each item its position and moves the watermarks of the streams.
func (g *Graph) sequence(items []Item) {
	for i := range g.src {
		l := &g.lanes[i]
		l.rows, l.steps = l.rows[:0], l.steps[:0]
	}
	for i := range items {
		x := &items[i]
		if !x.Same {
			g.p++
		}
		if x.P = g.p; x.Stream < 0 {
			continue
		}
		l, s := &g.lanes[x.Stream], g.src[x.Stream]
		var moved bool
		if x.Mark == event.Clock {
			moved = s.clock(x.TS)
		} else if x.Mark == event.NoMark {
			x.First, x.Last = x.TS, x.TS
			l.rows = append(l.rows, x.Row)
			s.rows++
			moved = s.row(x.Part, x.TS)
		} else {
			moved = s.mark(x.Part, x.Mark)
		}
		if moved {
			l.steps = append(l.steps, step{g.p, s.cur})
		}
	}
}

// watermark derives the operator's watermark from its inputs.
func (n *node) watermark(lanes []lane) {
	if len(n.in) == 1 && n.in[0] == n.w && n.pace == 0 {
		n.follow(lanes[n.spec.Inputs[0]].steps)
	} else {
		n.combine(lanes)
	}
}

// follow takes over the steps of an only input, from which the operator's watermark differs only after a restart: there may
// be thousands of operators, and a step a row.
func (n *node) follow(steps []step) {
	n.steps = steps
	n.stored = finite(n.stored, n.w.w)
	for i := len(steps) - 1; i >= 0; i-- {
		if w := steps[i].w; w != operator.PosInf {
			n.stored = w
			break
		}
	}
	if len(steps) > 0 {
		n.w = steps[len(steps)-1].mark
		n.in[0] = n.w
	}
}

// combine goes through the inputs step by step.
func (n *node) combine(lanes []lane) {
	n.own = n.own[:0]
	cur := n.cur[:len(n.in)]
	clear(cur)
	for {
		p := int64(operator.Never)
		for k, x := range n.spec.Inputs {
			if l := lanes[x].steps; cur[k] < len(l) {
				p = min(p, l[cur[k]].p)
			}
		}
		if p == operator.Never {
			n.stored, n.steps = finite(n.stored, n.w.w), n.own
			return
		}
		for k, x := range n.spec.Inputs {
			if l := lanes[x].steps; cur[k] < len(l) && l[cur[k]].p == p {
				n.in[k] = l[cur[k]].mark
				cur[k]++
			}
		}
		n.stored = finite(n.stored, n.w.w)
		if w := n.w.advance(combine(len(n.in), func(i int) mark { return n.in[i] }).floor(n.pace)); w != n.w {
			n.w = w
			n.own = append(n.own, step{p, w})
		}
	}
}

// distribute merges the inputs by (position, input), stamps each row with the watermark before its position, and deals the
// rows out by key.
func (n *node) distribute(g *Graph, w int64) (rows int) {
	for _, s := range n.shards {
		s.reset()
	}
	cur := n.cur[:len(n.in)]
	clear(cur)
	if n.passes() {
		return n.passOn(g, cur)
	}
	at := 0
	for {
		src, r := n.nextRow(g, cur)
		if r == nil {
			return rows
		}
		if to := before(n.steps, at, r.P); to > at {
			at, w = to, n.steps[to-1].w
		}
		in := &n.row
		*in = operator.In{P: r.P, TS: r.TS, W: w, First: r.First, Last: r.Last, Name: r.Name, Batch: r.Batch, Row: r.Row, Idx: int32(rows), Input: uint8(src)}
		if n.admits != nil && !n.admits.Match(in) {
			continue
		}
		if n.spec.Risk != nil {
			n.named(g, in, func(key []byte) {
				in.Key, in.Idx = key, int32(rows)
				n.shards[n.shardOf(g, in, rows)].push(in)
				rows++
			})
			continue
		}
		if !n.keyOf(in) {
			continue
		}
		if q := n.spec.Sequence; q != nil {
			if in.Fits = q.Fits(in); in.Fits == 0 {
				continue
			}
		}
		if n.spec.FirstSeen != nil && !n.spec.FirstSeen.Once {
			in.Silent = n.learns(in.TS)
		}
		n.shards[n.shardOf(g, in, rows)].push(in)
		rows++
	}
}

// nextRow is the first row of the inputs behind the cursors, and of which of them; nil at the end.
func (n *node) nextRow(g *Graph, cur []int) (src int, r *Row) {
	for k := range cur {
		if x := n.head(g.lanes, k, cur[k]); x != nil && (r == nil || x.P < r.P) {
			src, r = k, x
		}
	}
	if r != nil {
		cur[src]++
	}
	return src, r
}

// shardOf is the shard of a row, the so-manieth of the block.
func (n *node) shardOf(g *Graph, in *operator.In, row int) int {
	switch {
	case len(n.shards) == 1:
		return 0
	case n.spec.stateless(): // stretches of rows stay together
		return row / stretch % len(n.shards)
	}
	return rootOf(hashKey(g.seed, in.Key)) % len(n.shards)
}

// before returns the end of the steps, from at on, that lie before position p. Rows may be near one another or far apart: it
// goes on in strides that double, and then halves the last.
func before(steps []step, at int, p int64) int {
	stride := 1
	for at+stride <= len(steps) && steps[at+stride-1].p < p {
		at += stride
		stride *= 2
	}
	to := min(at+stride, len(steps))
	for at < to {
		if middle := (at + to) / 2; steps[middle].p < p {
			at = middle + 1
		} else {
			to = middle
		}
	}
	return at
}

// learns notes the time of the operator's first row, and says whether a row belongs to the warm-up after it.
func (n *node) learns(ts int64) bool {
	if n.began == operator.NegInf {
		n.began = ts
	}
	return n.spec.FirstSeen.WarmUp > 0 && ts-n.began < n.spec.FirstSeen.WarmUp // without, an older row is no way past the rule
}

// keyOf sets the row's key and says whether the operator takes it: windows group missing keys with themselves, joins and
// sequences never match them, though joins may say them alone, and to first_seen they are nothing.
func (n *node) keyOf(in *operator.In) bool {
	n.key = n.key[:0]
	if n.keyer != nil {
		key, ok := n.keyer.Append(n.key, in.Value)
		if in.Lone = !ok; in.Lone {
			key = key[:0]
		}
		n.key, in.Key = key, key
		return true
	}
	if n.spec.once() {
		id := in.Name.ID()
		n.key = append(n.key, id[:]...)
		in.Key = n.key
		return true
	}
	in.Lone = n.spec.Suppress != nil && len(n.spec.Suppress.Keys) > 0
	for _, f := range n.spec.keys(int(in.Input)) {
		v := in.Value(f)
		if !v.Missing() && n.spec.Suppress != nil {
			in.Lone = false
		}
		if v.Missing() && n.spec.skipsNull() {
			if in.Lone = n.spec.lone(in.Input); !in.Lone {
				return false
			}
		}
		n.key = event.AppendKey(n.key, v)
	}
	in.Key = n.key
	return true
}

func (n *node) run(rows int, alone bool) error {
	if n.crowded(rows) {
		return n.asOne()
	}
	if len(n.shards) == 1 || alone {
		for _, s := range n.shards {
			if err := s.run(n.steps, n.w.w); err != nil {
				return err
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	errs := make([]error, len(n.shards))
	for i, s := range n.shards {
		wg.Go(func() { errs[i] = s.run(n.steps, n.w.w) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// gather merges what the shards said, each already in order, and derives the output watermark.
func (n *node) gather(l *lane) {
	if n.passes() {
		n.through()
		l.rows = n.whole
	} else {
		n.merge()
		l.rows = slices.Grow(l.rows[:0], len(n.said))
	}
	for i := range n.said {
		r := &n.said[i]
		n.tally(r)
		if r.Kind != operator.Data && r.Kind != operator.Final {
			continue
		}
		l.rows = append(l.rows, Row{r.P, r.TS, r.First, r.Last, r.Name, r.Batch, r.Row})
	}
	n.work.out += int64(len(l.rows))
	if hold := n.spec.hold(); hold == 0 {
		l.steps = n.steps
	} else {
		l.steps = l.own[:0]
		for _, s := range n.steps {
			l.steps = append(l.steps, step{s.p, s.minus(hold)})
		}
		l.own = l.steps
	}
	for _, s := range n.shards {
		n.stored = max(n.stored, s.top())
	}
}

// merge puts in order what the shards said.
func (n *node) merge() {
	n.said, n.merged = nil, n.merged[:0]
	speak := 0
	for _, s := range n.shards {
		if out := s.results(); len(out) > 0 {
			n.said, speak = out, speak+1
		}
	}
	if speak < 2 {
		return
	}
	heads := n.cur[:len(n.shards)]
	clear(heads)
	for {
		var least *operator.Result
		from := -1
		for i, s := range n.shards {
			if out := s.results(); heads[i] < len(out) && (least == nil || place(out[heads[i]], *least) < 0) {
				least, from = &out[heads[i]], i
			}
		}
		if least == nil {
			n.said = n.merged
			return
		}
		heads[from]++
		n.merged = append(n.merged, *least)
	}
}

// tally counts what was said.
func (n *node) tally(r *operator.Result) {
	switch {
	case r.Kind == operator.Late:
		n.late++
	case r.Kind == operator.Failed && r.Reason == "max_keys":
		n.failed++
	case n.spec.Suppress != nil: // its rows are no rows
	case !n.spec.Leaves || r.Kind == operator.Failed || r.Kind == operator.Final:
	case r.Revision > 0:
		n.revised++
	default:
		n.left++
	}
}

// Close gives back what plugins hold. The graph must not be used after it.
func (g *Graph) Close() {
	for _, n := range g.ops {
		for _, s := range n.shards {
			s.close()
		}
	}
}

// attach gives the graph a place for what it remembers: the seed by which keys are dealt out, the epoch that is filled first, and
// how pages are read.
func (g *Graph) attach(seed [2]uint64, epoch uint64, spaces []uint32, fetch func(space, bucket uint32) ([]byte, error)) {
	g.seed = seed
	_ = g.each(func(op int, s shard) error {
		s.attach(seed, epoch, func(bucket uint32) ([]byte, error) { return fetch(spaces[op], bucket) })
		return nil
	})
}

// save logs what changed since the last epoch; spaces names each operator's place in the state. Only between two blocks: a
// consistent cut.
func (g *Graph) save(spaces []uint32, e *state.Epoch, epoch uint64) {
	_ = g.each(func(op int, s shard) error {
		s.save(spaces[op], e, epoch)
		return nil
	})
}

// landed says that the pages of the last flush are on disk.
func (g *Graph) landed() {
	_ = g.each(func(_ int, s shard) error {
		s.landed()
		return nil
	})
}

// adopt gives operator op a page at recovery.
func (g *Graph) adopt(op int, bucket uint32, epoch uint64, page []byte) error {
	n := g.ops[op]
	if err := n.shards[rootIn(bucket)%len(n.shards)].adopt(bucket, epoch, page); err != nil {
		return fmt.Errorf("operator %s: %w", n.spec.Name, err)
	}
	return nil
}

// replay applies a record of the log to operator op; nil: the key is gone.
func (g *Graph) replay(op int, epoch uint64, key []byte, due int64, rec []byte) error {
	n := g.ops[op]
	if err := n.shards[rootOf(hashKey(g.seed, key))%len(n.shards)].replay(epoch, key, due, rec); err != nil {
		return fmt.Errorf("operator %s: %w", n.spec.Name, err)
	}
	return nil
}

// Marks are what an epoch keeps of streams and operators as wholes, in the order of the Spec: their watermarks, and the times
// of operators' first rows, where that matters, or -inf.
type Marks struct{ Streams, Operators, Began []int64 }

// Marks returns the last finite watermarks, and the first rows.
func (g *Graph) Marks() (m Marks) {
	for _, s := range g.src {
		m.Streams = append(m.Streams, s.stored)
	}
	for _, n := range g.ops {
		m.Operators = append(m.Operators, n.stored)
		m.Began = append(m.Began, n.began)
	}
	return m
}

// Resume ends a recovery: watermarks are set to what the epoch kept, and keys wait for what they wait for. Everything is
// active again: what was finished says so again.
func (g *Graph) Resume(m Marks) error {
	for i, s := range g.src {
		s.cur = mark{m.Streams[i], active}
		s.stored = m.Streams[i]
	}
	for i, n := range g.ops {
		n.w = mark{m.Operators[i], active}
		n.stored, n.began = m.Operators[i], m.Began[i]
		for k, x := range n.spec.Inputs {
			if x < len(g.src) {
				n.in[k] = g.src[x].cur
			} else {
				n.in[k] = g.ops[x-len(g.src)].w.minus(g.ops[x-len(g.src)].spec.hold())
			}
		}
		for _, s := range n.shards {
			if err := s.loaded(n.w.w); err != nil {
				return fmt.Errorf("operator %s: %w", n.spec.Name, err)
			}
		}
	}
	return nil
}

// Keys is the number of keys of operator op that are in use.
func (g *Graph) Keys(op int) (keys int) {
	for _, s := range g.ops[op].shards {
		keys += s.live()
	}
	return keys
}

// Counts sums the caps that operators hit.
func (g *Graph) Counts() (c operator.Counts) {
	for _, n := range g.ops {
		for _, s := range n.shards {
			c.Add(s.counts())
		}
	}
	return c
}
