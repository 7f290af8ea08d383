package engine

import (
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// Filter passes on the rows that the operator's Where admits: every one once, in arrival order, late or not. Its rows are
// those of its sources, where they are: nothing is copied, and an event stays an event. It keeps nothing.
type Filter struct{ Ident operator.Ident }

// passing is the shard of an operator that says every row that it is given, once: a filter, whose Where has admitted them already, or
// what an enrichment begins with.
type passing struct {
	memoryless
	namer *operator.Namer
	rows  []Row
}

func (k *passing) reset()                      { k.rows = k.rows[:0] }
func (k *passing) push(*operator.In)           {} // rows come by pass
func (k *passing) run([]step, int64) error     { return nil }
func (k *passing) results() []operator.Result  { return nil } // they are rows
func (k *passing) counts() (c operator.Counts) { return c }
func (k *passing) close()                      {}
func (k *passing) passed() *passing            { return k }

// pass takes a row.
func (k *passing) pass(r *Row) {
	k.rows = append(k.rows, *r)
	k.rows[len(k.rows)-1].Name = k.namer.Name(r.Name)
}

// passes says whether the shards are passing.
func (n *node) passes() bool { return n.spec.Filter != nil || n.spec.Enrich != nil }

func (n *node) passed(shard int) *passing {
	return n.shards[shard].(interface{ passed() *passing }).passed()
}

// passOn is distribute for passing shards: neither times nor keys matter.
func (n *node) passOn(g *Graph, cur []int) (rows int) {
	k := n.passed(0)
	for {
		_, r := n.nextRow(g, cur)
		if r == nil {
			return rows
		}
		if n.admits != nil {
			if n.row = (operator.In{Batch: r.Batch, Row: r.Row}); !n.admits.Match(&n.row) {
				continue
			}
		}
		if len(n.shards) > 1 && rows%stretch == 0 {
			k = n.passed(rows / stretch % len(n.shards))
		}
		k.pass(r)
		rows++
	}
}

// through puts in order what passing shards said: rows were dealt out in stretches.
func (n *node) through() {
	n.said, n.whole = n.said[:0], n.passed(0).rows
	if len(n.whole) >= stretch && len(n.shards) > 1 {
		n.joined = n.joined[:0]
		for i := 0; ; i++ {
			rows := n.passed(i % len(n.shards)).rows
			at := i / len(n.shards) * stretch
			if at >= len(rows) {
				break
			}
			n.joined = append(n.joined, rows[at:min(at+stretch, len(rows))]...)
		}
		n.whole = n.joined
	}
	if n.spec.Leaves {
		n.left += int64(len(n.whole))
	}
}

// results are what the operator said in the block, in order.
func (n *node) results() []operator.Result {
	if len(n.said) == 0 {
		for i, r := range n.whole {
			n.said = append(n.said, operator.Result{P: r.P, Due: operator.NegInf, TS: r.TS, First: r.First, Last: r.Last, Name: r.Name, Batch: r.Batch, Row: r.Row, Idx: int32(i), Kind: operator.Data})
		}
	}
	return n.said
}

// memoryless is the part of a shard that keeps and fires, for operators that do not.
type memoryless struct{}

func (memoryless) top() int64                                             { return operator.NegInf }
func (memoryless) attach([2]uint64, uint64, func(uint32) ([]byte, error)) {}
func (memoryless) adopt(uint32, uint64, []byte) error                     { return nil }
func (memoryless) replay(uint64, []byte, int64, []byte) error             { return nil }
func (memoryless) loaded(int64) error                                     { return nil }
func (memoryless) save(uint32, *state.Epoch, uint64)                      {}
func (memoryless) flush(uint32, *state.Flush, func(*cold) bool) error     { return nil }
func (memoryless) grow(uint32, *state.Flush) error                        { return nil }
func (memoryless) chill(int64) error                                      { return nil }
func (memoryless) landed()                                                {}
func (memoryless) usage() (int64, *cold)                                  { return 0, nil }
func (memoryless) live() int                                              { return 0 }
