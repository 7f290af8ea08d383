package engine

import (
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// Filter passes on the rows that the operator's Where admits: every one once, in arrival order, late or not. Its rows are
// those of its sources, where they are: nothing is copied, and an event stays an event. It keeps nothing.
type Filter struct{ Ident operator.Ident }

// filtered is a filter on its share of the rows, which Where has admitted already.
type filtered struct {
	memoryless
	spec  *Filter
	namer *operator.Namer
	rows  []operator.In
	said  []operator.Result
}

func (k *filtered) reset()               { k.rows, k.said = k.rows[:0], k.said[:0] }
func (k *filtered) push(in *operator.In) { k.rows = append(k.rows, *in) }

func (k *filtered) run([]step, int64) error {
	for i := range k.rows {
		in := &k.rows[i]
		k.said = append(k.said, in.Passed(k.namer.ID(in.ID[:])))
	}
	return nil
}

func (k *filtered) results() []operator.Result  { return k.said }
func (k *filtered) counts() (c operator.Counts) { return c }
func (k *filtered) close()                      {}

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
