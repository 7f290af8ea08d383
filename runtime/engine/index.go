package engine

import (
	"sync"

	"github.com/seed-98920119/tocsin/runtime/match"
)

// indexFrom is the number of conditions on the rows of one node from which on an index costs less than each by itself
// (BenchmarkFilters).
const indexFrom = 2

// index finds which rows of a node may be for which of its readers. What it finds they still judge by themselves: the index
// changes what a row costs, and never what becomes of it.
type index struct {
	readers []reader // by condition of the set
	pickers []picker // one a shard, each for a stretch of the rows
}

// reader is an input of an operator.
type reader struct {
	node  *node
	input int
}

type picker struct {
	finder *match.Finder
	row    batchRow
	picks  []pick
}

type pick struct{ row, condition int32 }

// wants returns the condition that the rows of an input must meet to matter to the operator; nil if all do.
func (o *Operator) wants(input int) *match.Condition {
	if o.Sequence == nil {
		return o.admits()
	}
	var fits []*match.Condition
	for _, s := range o.Sequence.Steps {
		if int(s.Input) == input {
			fits = append(fits, s.Where)
		}
	}
	if s := o.Sequence.Until; s != nil && int(s.Input) == input {
		fits = append(fits, s.Where)
	}
	return match.All(o.Where, match.Any(fits...))
}

// admits is the condition on all input rows: the pipeline's, and that of a plugin's manifest, unless every row is passed on.
func (o *Operator) admits() *match.Condition {
	if o.Plugin == nil || o.Plugin.maps() {
		return o.Where
	}
	return match.All(o.Where, o.Plugin.When)
}

// index makes the indices of all nodes with at least so many conditions that an index helps.
func (g *Graph) index(least, shards int) {
	g.indices = make([]*index, len(g.lanes))
	for x, all := range g.readers() {
		g.useIndex(x, newIndex(all, least, shards, func(r reader) *match.Condition { return r.node.spec.wants(r.input) }))
	}
}

// readers are those of each node.
func (g *Graph) readers() [][]reader {
	readers := make([][]reader, len(g.lanes))
	for _, n := range g.ops {
		for k, x := range n.spec.Inputs {
			readers[x] = append(readers[x], reader{n, k})
		}
	}
	return readers
}

// newIndex makes the index of a node, if its readers have enough conditions; it changes nothing.
func newIndex(all []reader, least, shards int, wants func(r reader) *match.Condition) (out indexed) {
	out.all = all
	var conditions []*match.Condition
	for _, r := range all {
		conditions = append(conditions, wants(r))
	}
	set := match.NewSet(conditions)
	always := map[int32]bool{}
	for _, i := range set.Always() {
		always[i] = true
	}
	if len(all)-len(always) < least {
		return out
	}
	for i, r := range all {
		if !always[int32(i)] {
			out.picked = append(out.picked, r)
		}
	}
	out.ix = &index{readers: all}
	for range shards {
		out.ix.pickers = append(out.ix.pickers, picker{finder: set.Finder()})
	}
	return out
}

// useIndex lets the readers of node x go by an index, or by none.
func (g *Graph) useIndex(x int, in indexed) {
	for _, r := range in.all {
		r.node.picked[r.input], r.node.rows[r.input] = false, nil
	}
	for _, r := range in.picked {
		r.node.picked[r.input] = true
	}
	g.indices[x] = in.ix
}

// pick gives the readers of node x the rows of the block that may be theirs.
func (g *Graph) pick(x int) {
	ix, rows := g.indices[x], g.lanes[x].rows
	if ix == nil {
		return
	}
	if len(rows) > 0 {
		g.meter.begin()
		defer func() { g.meter.indexed += g.meter.end() }()
	}
	for _, r := range ix.readers {
		r.node.rows[r.input] = r.node.rows[r.input][:0]
	}
	pickers := ix.pickers
	if len(rows) < g.alone || len(pickers) == 1 {
		pickers = pickers[:1]
		pickers[0].find(rows, 0, len(rows))
	} else {
		together(pickers, rows)
	}
	for i := range pickers {
		for _, p := range pickers[i].picks {
			r := ix.readers[p.condition]
			r.node.rows[r.input] = append(r.node.rows[r.input], p.row)
		}
	}
}

// together lets each picker go through a stretch of the rows.
func together(pickers []picker, rows []Row) {
	var wg sync.WaitGroup
	for i := range pickers {
		from, to := i*len(rows)/len(pickers), (i+1)*len(rows)/len(pickers)
		wg.Go(func() { pickers[i].find(rows, from, to) })
	}
	wg.Wait()
}

func (p *picker) find(rows []Row, from, to int) {
	p.picks = p.picks[:0]
	for i := from; i < to; i++ {
		p.row = batchRow{rows[i].Batch, int(rows[i].Row)}
		for _, c := range p.finder.Find(&p.row) {
			p.picks = append(p.picks, pick{int32(i), c})
		}
	}
}

// head is the next row of an input, cur being how many were taken; nil after the last.
func (n *node) head(lanes []lane, input, cur int) *Row {
	rows := lanes[n.spec.Inputs[input]].rows
	if n.picked[input] {
		if cur == len(n.rows[input]) {
			return nil
		}
		return &rows[n.rows[input][cur]]
	}
	if cur == len(rows) {
		return nil
	}
	return &rows[cur]
}
