package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Visitor is told what a state holds, all views: first records of keys in the order of writing (an entry's whole record
// first, then those of later epochs; nil: the key is gone), then the outbox rows that nobody acknowledged, by number.
type Visitor struct {
	Record func(space uint32, key, rec []byte) error
	Row    func(seq uint64, row []byte) error
}

// Recovered is what the last epoch said. Epoch is 0 if there was none.
type Recovered struct {
	Epoch  uint64
	Header []byte
	Next   uint64 // the first outbox number never used
	Cursor uint64
	Beyond []uint64
}

// Recover reads everything, once, before the first Commit.
func (s *Store) Recover(v Visitor) (Recovered, error) {
	var out Recovered
	w := writer{s: s}
	err := s.db.View(func(txn *badger.Txn) error {
		mark, err := get(txn, []byte("c"))
		if err != nil {
			return err
		}
		if len(mark) == 8 {
			s.through = be64(mark)
		}
		if err := s.entries(txn, v, &w); err != nil {
			return err
		}
		recs, err := s.records(txn)
		if err != nil {
			return err
		}
		for i := range recs {
			if err := s.replay(txn, &recs[i], v); err != nil {
				return err
			}
		}
		if n := len(recs); n > 0 {
			last := &recs[n-1]
			s.epoch = last.epoch
			out = Recovered{last.epoch, last.header, 0, last.cursor, last.beyond}
		}
		for i := range recs {
			out.Next = max(out.Next, recs[i].last, out.Cursor)
			if err := s.resend(txn, &recs[i], &out, v); err != nil {
				return err
			}
			pages := recs[i].pages
			if recs[i].epoch <= s.through {
				pages = 0 // orphans deletes them
			}
			s.stale = append(s.stale, staleEpoch{recs[i].epochKey, pages})
		}
		return s.orphans(txn, recs, &w)
	})
	if err == nil {
		err = w.done()
	}
	if err != nil {
		s.failed = fmt.Errorf("state %s: %w", s.opt.Dir, err)
	}
	return out, s.failed
}

// entries gives each key's newest whole version, and deletes the versions that do not count.
func (s *Store) entries(txn *badger.Txn, v Visitor, w *writer) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("k"), PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	var name, value []byte
	var at version
	give := func() error {
		if name == nil {
			return nil
		}
		if len(value) == 0 { // gone; what is left of it goes too
			w.forget(name, at)
			return nil
		}
		s.live[string(name)] = at
		space, key, rec, err := splitEntry(name, value)
		if err != nil {
			return err
		}
		return v.Record(space, key, rec)
	}
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Item().KeyCopy(nil)
		if len(k) < 11 {
			return errors.New("a key of its entries is damaged")
		}
		n, ver := k[1:len(k)-10], be64(k[len(k)-10:])
		if ver > s.through { // of a consolidation that did not end
			w.del(k)
			continue
		}
		val, err := it.Item().ValueCopy(nil)
		if err != nil {
			return err
		}
		switch {
		case string(n) != string(name):
			if err := give(); err != nil {
				return err
			}
			name, at, value = n, version{ver, 1}, val
		case ver != at.epoch:
			w.forget(name, at)
			at, value = version{ver, 1}, val
		default:
			at.chunks++
			value = append(value, val...)
		}
	}
	return give()
}

type savedEpoch struct {
	epochKey
	record
}

func (s *Store) records(txn *badger.Txn) (recs []savedEpoch, err error) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("e"), PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Item().Key()
		if len(k) != 17 {
			return nil, errors.New("a key of its epochs is damaged")
		}
		id := epochKey{be64(k[1:]), be64(k[9:])}
		err := it.Item().Value(func(b []byte) error {
			r, err := readRecord(b)
			recs = append(recs, savedEpoch{id, r})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return recs, nil
}

func (s *Store) body(txn *badger.Txn, kind byte, id epochKey, pages int) (body []byte, err error) {
	for i := range pages {
		p, err := get(txn, pageKey(kind, id, i))
		if err != nil {
			return nil, err
		}
		if p == nil {
			return nil, fmt.Errorf("page %d of epoch %d is missing; restore the folder, or start over with --fresh", i, id.epoch)
		}
		body = append(body, p...)
	}
	return body, nil
}

// replay gives the changes of an epoch that no consolidation has covered.
func (s *Store) replay(txn *badger.Txn, r *savedEpoch, v Visitor) error {
	if r.epoch <= s.through {
		return nil
	}
	body, err := s.body(txn, 'p', r.epochKey, r.pages)
	if err != nil {
		return err
	}
	if checksum(body) != r.sum {
		return fmt.Errorf("epoch %d is damaged; restore the folder, or start over with --fresh", r.epoch)
	}
	if body, err = unpack(body); err != nil {
		return err
	}
	return readChanges(body, v.Record)
}

// readChanges takes the body of an epoch apart.
func readChanges(body []byte, give func(space uint32, key, rec []byte) error) error {
	d := event.Reader{B: body}
	for len(d.B) > 0 {
		space, key, kind := d.Uint(), d.Bytes(), d.Take(1)
		if d.Bad || space > 1<<32-1 || kind[0] > 1 {
			return errors.New("an epoch's pages are damaged")
		}
		var rec []byte
		if kind[0] == 1 {
			if rec = d.Bytes(); d.Bad {
				return errors.New("an epoch's pages are damaged")
			}
		}
		if err := give(uint32(space), key, rec); err != nil {
			return err
		}
	}
	return nil
}

// resend gives the rows of an epoch's outbox that were not acknowledged.
func (s *Store) resend(txn *badger.Txn, r *savedEpoch, out *Recovered, v Visitor) error {
	if r.last <= out.Cursor {
		return nil
	}
	body, err := s.body(txn, 'o', r.epochKey, r.rowPages)
	if err != nil {
		return err
	}
	if checksum(body) != r.rowSum {
		return fmt.Errorf("the outbox of epoch %d is damaged; restore the folder, or start over with --fresh", r.epoch)
	}
	if body, err = unpack(body); err != nil {
		return err
	}
	s.pending = append(s.pending, outbox{r.epochKey, r.rowPages, r.last})
	return readRows(body, func(seq uint64, row []byte) error {
		if seq < out.Cursor || slices.Contains(out.Beyond, seq) {
			return nil
		}
		return v.Row(seq, row)
	})
}

func readRows(body []byte, give func(seq uint64, row []byte) error) error {
	d := event.Reader{B: body}
	for len(d.B) > 0 {
		seq, row := d.Uint(), d.Bytes()
		if d.Bad {
			return errors.New("an epoch's outbox is damaged")
		}
		if err := give(seq, row); err != nil {
			return err
		}
	}
	return nil
}

// orphans deletes pages that belong to no epoch, or to one that is consolidated.
func (s *Store) orphans(txn *badger.Txn, recs []savedEpoch, w *writer) error {
	known := map[epochKey]bool{}
	for i := range recs {
		known[recs[i].epochKey] = true
	}
	wanted := map[epochKey]bool{}
	for _, o := range s.pending {
		wanted[o.epochKey] = true
	}
	for _, kind := range []string{"p", "o"} {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(kind)})
		for it.Rewind(); it.Valid(); it.Next() {
			k := it.Item().KeyCopy(nil)
			if len(k) != 21 {
				it.Close()
				return errors.New("a key of its pages is damaged")
			}
			id := epochKey{be64(k[1:]), be64(k[9:])}
			if !known[id] || kind == "p" && id.epoch <= s.through || kind == "o" && !wanted[id] {
				w.del(k)
			}
		}
		it.Close()
	}
	return nil
}

// The name of an entry: space, length, key. A key beyond nameMax is named by its hash and stands in the value.
const nameMax = 1024

// splitEntry takes an entry apart: the value is the key's length and bytes if the name has only its hash, else 0; then the
// record.
func splitEntry(name, value []byte) (space uint32, key, rec []byte, err error) {
	d := event.Reader{B: value}
	if key = d.Bytes(); len(key) == 0 && len(name) >= 6 {
		key = name[6:]
	}
	if d.Bad || len(name) < 6 {
		return 0, nil, nil, errors.New("an entry is damaged; restore the folder, or start over with --fresh")
	}
	return binary.BigEndian.Uint32(name), key, d.B, nil
}

func entryKey(name []byte, version uint64, chunk int) []byte {
	k := append(make([]byte, 0, len(name)+11), 'k')
	k = put64(append(k, name...), version)
	return binary.BigEndian.AppendUint16(k, uint16(chunk))
}
