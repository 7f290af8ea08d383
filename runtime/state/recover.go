package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Visitor is told what a state holds, in this order, all views: what the last epoch said; the pages, each with the epoch that it
// is as of; the changes of the log in the order of writing (nil: the key is gone), of which those at or before a page's epoch
// are in it already; the outbox rows that nobody acknowledged, by number. Of functions that are nil nothing is read.
type Visitor struct {
	Start  func(r Recovered) error
	Page   func(space, bucket uint32, epoch uint64, data []byte) error
	Record func(epoch uint64, space uint32, key []byte, due int64, rec []byte) error
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
		recs, err := s.records(txn)
		if err != nil {
			return err
		}
		if err := s.consecutive(recs); err != nil {
			return err
		}
		if out = s.last(recs); v.Start != nil {
			if err := v.Start(out); err != nil {
				return err
			}
		}
		if err := s.pages(txn, v, &w); err != nil {
			return err
		}
		if err := s.replay(txn, recs, v); err != nil {
			return err
		}
		for i := range recs {
			if err := s.resend(txn, &recs[i], &out, v); err != nil {
				return err
			}
			pages := recs[i].pages
			if recs[i].epoch <= s.through {
				pages = 0 // orphans deletes them
			}
			s.stale = append(s.stale, staleEpoch{recs[i].epochKey, pages})
		}
		if err := s.orphans(txn, recs, &w); err != nil {
			return err
		}
		last := &record{}
		if len(recs) > 0 {
			last = &recs[len(recs)-1].record
		}
		return s.shelves(txn, last, &w)
	})
	if err == nil {
		err = w.done()
	}
	if err != nil {
		s.failed = fmt.Errorf("state %s: %w", s.opt.Dir, err)
	}
	return out, s.failed
}

func (s *Store) last(recs []savedEpoch) (out Recovered) {
	n := len(recs)
	if n == 0 {
		return out
	}
	last := &recs[n-1]
	s.epoch = last.epoch
	out = Recovered{last.epoch, last.header, last.cursor, last.cursor, last.beyond}
	for i := range recs {
		out.Next = max(out.Next, recs[i].last)
	}
	return out
}

// pages gives each page, and deletes pieces that belong to none.
func (s *Store) pages(txn *badger.Txn, v Visitor, w *writer) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("k"), PrefetchValues: v.Page != nil, PrefetchSize: 100})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Item().Key()
		if len(k) != 9 {
			return errors.New("a key of its pages is damaged")
		}
		at := pieces{binary.BigEndian.Uint32(k[1:]), binary.BigEndian.Uint32(k[5:])}
		err := it.Item().Value(func(b []byte) error {
			ver, data, err := whole(txn, at, b)
			if err != nil {
				return err
			}
			if ver.pieces > 0 {
				s.long[at] = ver
			}
			if v.Page == nil {
				return nil
			}
			return v.Page(at.space, at.bucket, ver.epoch, data)
		})
		if err != nil {
			return err
		}
	}
	lone := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("l")})
	defer lone.Close()
	for lone.Rewind(); lone.Valid(); lone.Next() {
		k := lone.Item().KeyCopy(nil)
		if len(k) != 21 {
			return errors.New("a key of its pages is damaged")
		}
		at := pieces{binary.BigEndian.Uint32(k[1:]), binary.BigEndian.Uint32(k[5:])}
		if ver, ok := s.long[at]; !ok || ver.epoch != be64(k[9:]) || int(binary.BigEndian.Uint32(k[17:])) >= ver.pieces {
			w.del(k)
		}
	}
	return nil
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

// consecutive refuses if an epoch is missing of those that the log must have: a disk has lost it.
func (s *Store) consecutive(recs []savedEpoch) error {
	next := s.through + 1
	for i := range recs {
		if recs[i].epoch <= s.through {
			continue
		}
		if recs[i].epoch != next {
			return fmt.Errorf("epoch %d is missing; %s", next, mend)
		}
		next++
	}
	return nil
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

// replay gives the changes of the epochs that pages may need. While one is applied, the next is read.
func (s *Store) replay(txn *badger.Txn, recs []savedEpoch, v Visitor) error {
	if v.Record == nil {
		return nil
	}
	type read struct {
		epoch uint64
		body  []byte
		err   error
	}
	next, over := make(chan read, 1), make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait() // nothing else may use the transaction meanwhile
	defer close(over)
	wg.Go(func() {
		defer close(next)
		for i := range recs {
			if recs[i].epoch <= s.through {
				continue
			}
			body, err := s.changes(txn, &recs[i])
			select {
			case next <- read{recs[i].epoch, body, err}:
			case <-over:
				return
			}
		}
	})
	for r := range next {
		err := r.err
		if err == nil {
			err = readChanges(r.body, func(space uint32, key []byte, due int64, rec []byte) error {
				return v.Record(r.epoch, space, key, due, rec)
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changes reads the body of an epoch.
func (s *Store) changes(txn *badger.Txn, r *savedEpoch) ([]byte, error) {
	body, err := s.body(txn, 'p', r.epochKey, r.pages)
	if err != nil {
		return nil, err
	}
	if checksum(body) != r.sum {
		return nil, fmt.Errorf("epoch %d is damaged; restore the folder, or start over with --fresh", r.epoch)
	}
	return unpack(body)
}

// readChanges takes the body of an epoch apart.
func readChanges(body []byte, give func(space uint32, key []byte, due int64, rec []byte) error) error {
	d := event.Reader{B: body}
	for len(d.B) > 0 {
		space, key, kind := d.Uint(), d.Bytes(), d.Take(1)
		if d.Bad || space > 1<<32-1 || kind[0] > 1 {
			return errors.New("an epoch's pages are damaged")
		}
		var due int64
		var rec []byte
		if kind[0] == 1 {
			due = d.Int()
			if rec = d.Bytes(); d.Bad {
				return errors.New("an epoch's pages are damaged")
			}
		}
		if err := give(uint32(space), key, due, rec); err != nil {
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
		if seq < out.Cursor || slices.Contains(out.Beyond, seq) || v.Row == nil {
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

// orphans deletes pages of the log that belong to no epoch, or to one that is not needed.
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
