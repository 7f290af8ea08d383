package engine

import (
	"github.com/seed-98920119/tocsin/runtime/state"
)

// MemoryDefault is the memory that the keys of a pipeline may take, in bytes, if it does not say.
const MemoryDefault = 512 << 20

// A change is in the log until its bucket's page is written anew: so many epochs later at the latest, or so many changes, and more if
// there are pages of so many bytes for each. A start reads pages and log, about 3 million changes a second.
const (
	flushEpochs  = 1024
	flushChanges = 1 << 19
	flushBytes   = 256
)

// allowMin is what pages of a shard may take at least.
const allowMin = 64 << 10

// memory divides what the keys of all operators may take. Keys in use are fast and large; packed ones take a fifth; pages that are
// on disk can be dropped.
type memory struct {
	budget  int64
	epochs  int   // how long a change stays in the log; flushEpochs but for tests
	changes []int // in the latest epochs, from the oldest
}

// balance is called after an epoch was saved: it packs keys that are not used, and makes pages of what was changed long ago, or
// takes too much room. What it costs grows with what was changed.
func (m *memory) balance(g *Graph, spaces []uint32, epoch uint64, changes int, f *state.Flush) error {
	err := g.each(func(op int, s shard) error { return s.grow(spaces[op], f) }) // before there is much to split
	if err != nil {
		return err
	}
	u := g.usage()
	oldest := m.due(epoch, changes, flushChanges+int(u.stored/flushBytes))
	if u.hot+u.tails+u.rest > m.budget*3/4 {
		want := m.budget / 8
		err := g.each(func(_ int, s shard) error {
			mine, _ := s.usage()
			return s.chill(int64(float64(mine) * float64(want) / float64(max(u.hot, 1))))
		})
		if err != nil {
			return err
		}
		u = g.usage()
	}
	shrink := min(1, float64(m.budget)*0.3/float64(max(u.tails, 1)))
	err = g.each(func(op int, s shard) error {
		_, c := s.usage()
		if c == nil {
			return nil
		}
		most, left := c.tails, max(64, len(c.queue)/16)
		if u.tails > m.budget*3/8 {
			most = int64(float64(most) * shrink)
		}
		return s.flush(spaces[op], f, func(c *cold) bool {
			x, ok := c.oldest()
			left--
			return !ok || c.tails <= most && (x.epoch > oldest || left < 0)
		})
	})
	if err != nil {
		return err
	}
	u = g.usage()
	m.share(g, max(m.budget-u.hot-u.tails-u.rest, m.budget/8), u.stored)
	f.Through = g.through(epoch)
	return nil
}

// share gives each shard its part of the memory that pages may take.
func (m *memory) share(g *Graph, room, stored int64) {
	_ = g.each(func(_ int, s shard) error {
		if _, c := s.usage(); c != nil {
			c.allow = max(int64(float64(room)*float64(c.stored)/float64(max(stored, 1))), min(allowMin, m.budget))
			c.evict(c.allow)
		}
		return nil
	})
}

// due returns the epoch whose changes, and all before it, should be in pages, so that at most so many are in the log alone.
func (m *memory) due(epoch uint64, changes, most int) uint64 {
	m.changes = append(m.changes, changes)
	sum := 0
	for i := len(m.changes) - 1; i >= 0; i-- {
		if sum += m.changes[i]; sum > most || len(m.changes)-i > m.epochs {
			m.changes = m.changes[i:]
			return epoch - uint64(len(m.changes)) + 1
		}
	}
	return 0
}

// usage is what keys take, in bytes: those in use, packed changes, pages on disk, and what knows of them.
type usage struct{ hot, tails, stored, rest int64 }

func (g *Graph) usage() (u usage) {
	_ = g.each(func(_ int, s shard) error {
		hot, c := s.usage()
		if u.hot += hot; c != nil {
			u.tails += c.tails
			u.stored += c.stored
			u.rest += c.rest
		}
		return nil
	})
	return u
}

// through is the last epoch whose changes are all in pages.
func (g *Graph) through(epoch uint64) uint64 {
	_ = g.each(func(_ int, s shard) error {
		if _, c := s.usage(); c != nil {
			if x, ok := c.oldest(); ok {
				epoch = min(epoch, x.epoch-1)
			}
		}
		return nil
	})
	return epoch
}

func (g *Graph) each(do func(op int, s shard) error) error {
	for i, n := range g.ops {
		for _, s := range n.shards {
			if err := do(i, s); err != nil {
				return err
			}
		}
	}
	return nil
}
