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
	entries []entry
	buf     []byte // the chunk that names and values are copied to
}

type entry struct {
	name, value []byte
	gone        bool
}

// consolidationChunk is how much memory a Consolidation takes at a time.
const consolidationChunk = 256 << 10

// Put sets a key's whole record. Key and record are copied.
func (c *Consolidation) Put(space uint32, key, rec []byte) {
	x := entry{name: c.name(space, key)}
	c.room(1 + binary.MaxVarintLen32 + len(key) + len(rec))
	from := len(c.buf)
	if len(key) > nameMax {
		c.buf = event.AppendBytes(c.buf, key)
	} else {
		c.buf = append(c.buf, 0)
	}
	c.buf = append(c.buf, rec...)
	x.value = c.buf[from:len(c.buf):len(c.buf)]
	c.entries = append(c.entries, x)
}

// Drop says that a key is gone. It is only needed for keys that had an entry, and harmless for others.
func (c *Consolidation) Drop(space uint32, key []byte) {
	c.entries = append(c.entries, entry{name: c.name(space, key), gone: true})
}

func (c *Consolidation) room(n int) {
	if cap(c.buf)-len(c.buf) < n {
		c.buf = make([]byte, 0, max(n, consolidationChunk))
	}
}

func (c *Consolidation) name(space uint32, key []byte) []byte {
	c.room(6 + max(min(len(key), nameMax), sha256.Size))
	from := len(c.buf)
	c.buf = binary.BigEndian.AppendUint32(c.buf, space)
	if len(key) > nameMax {
		h := sha256.Sum256(key)
		c.buf = append(append(c.buf, 0xff, 0xff), h[:]...)
	} else {
		c.buf = append(binary.BigEndian.AppendUint16(c.buf, uint16(len(key))), key...)
	}
	return c.buf[from:len(c.buf):len(c.buf)]
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
	for _, x := range c.entries {
		old, had := s.live[string(x.name)]
		switch {
		case !x.gone:
			s.live[string(x.name)] = version{s.epoch, w.chunks(x.name, s.epoch, x.value)}
		case !had:
			continue
		default:
			w.set(entryKey(x.name, s.epoch, 0), []byte{})
			tombs = append(tombs, entryKey(x.name, s.epoch, 0))
			delete(s.live, string(x.name))
		}
		if had {
			clean.forget(x.name, old)
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
