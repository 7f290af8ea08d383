package state

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Due says whether it is time to consolidate.
func (s *Store) Due() bool { return s.epoch-s.through >= ConsolidateEvery }

// Consolidation collects the whole records of all keys that changed since the last one, between two epochs.
type Consolidation struct {
	names  [][]byte
	values [][]byte
	size   int
}

// Put sets a key's whole record.
func (c *Consolidation) Put(space uint32, key []byte, save func(dst []byte) []byte) {
	name := entryName(space, key)
	var value []byte
	if len(key) > nameMax {
		value = event.AppendBytes(value, key)
	} else {
		value = append(value, 0)
	}
	c.add(name, save(value))
}

// Drop says that a key is gone. It is only needed for keys that had an entry, and harmless for others.
func (c *Consolidation) Drop(space uint32, key []byte) { c.add(entryName(space, key), nil) }

func (c *Consolidation) add(name, value []byte) {
	c.names, c.values = append(c.names, name), append(c.values, value)
	c.size += len(name) + len(value)
}

func entryName(space uint32, key []byte) []byte {
	name := binary.BigEndian.AppendUint32(make([]byte, 0, 6+min(len(key), nameMax)), space)
	if len(key) > nameMax {
		h := sha256.Sum256(key)
		return append(append(name, 0xff, 0xff), h[:]...)
	}
	name = binary.BigEndian.AppendUint16(name, uint16(len(key)))
	return append(name, key...)
}

// Consolidate writes the entries as of the last committed epoch, then the mark that makes them count, then deletes what
// they replace. Like Commit, it leaves the store unusable if it fails.
func (s *Store) Consolidate(c *Consolidation) error {
	if s.failed == nil {
		if err := s.consolidate(c); err != nil {
			s.failed = fmt.Errorf("state %s: consolidation: %w", s.opt.Dir, err)
		}
	}
	return s.failed
}

func (s *Store) consolidate(c *Consolidation) error {
	if err := s.room(); err != nil {
		return err
	}
	w, clean := writer{s: s}, writer{s: s}
	var tombs [][]byte // deleted last: what they hide must be gone before
	for i, name := range c.names {
		old, had := s.live[string(name)]
		switch value := c.values[i]; {
		case value != nil:
			s.live[string(name)] = version{s.epoch, w.chunks(name, s.epoch, value)}
		case !had:
			continue
		default:
			w.set(entryKey(name, s.epoch, 0), []byte{})
			tombs = append(tombs, entryKey(name, s.epoch, 0))
			delete(s.live, string(name))
		}
		if had {
			clean.forget(name, old)
		}
	}
	w.flush() // all of them before the mark
	w.set([]byte("c"), put64(nil, s.epoch))
	if err := w.done(); err != nil {
		return err
	}
	s.through = s.epoch
	s.forget(&clean)
	for _, key := range tombs {
		clean.del(key)
	}
	return clean.done()
}

// forget deletes pages and records that the entries replace; a record stays while its outbox is not drained, and the last
// one always.
func (s *Store) forget(w *writer) {
	waiting := map[epochKey]bool{}
	for _, o := range s.pending {
		waiting[o.epochKey] = true
	}
	keep := s.stale[:0]
	for _, e := range s.stale {
		for i := range e.pages {
			w.del(pageKey('p', e.epochKey, i))
		}
		if e.pages = 0; waiting[e.epochKey] || e.epoch == s.epoch {
			keep = append(keep, e)
			continue
		}
		w.del(pageKey('e', e.epochKey, -1))
	}
	s.stale = keep
}

// chunks sets an entry's value in pieces and returns their number.
func (w *writer) chunks(name []byte, epoch uint64, value []byte) int {
	for i := 0; ; i++ {
		n := min(len(value), pageMax)
		w.set(entryKey(name, epoch, i), value[:n])
		if value = value[n:]; len(value) == 0 {
			return i + 1
		}
	}
}

// forget deletes a version of an entry.
func (w *writer) forget(name []byte, v version) {
	for i := range v.chunks {
		w.del(entryKey(name, v.epoch, i))
	}
}
