package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/s2"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Epoch is what changed since the last commit. Fill it, Commit it, Reset it; its memory is used again.
type Epoch struct {
	// Header is what the writer wants to read back with the state: watermarks, counters.
	Header []byte
	// Acked says which outbox rows were acknowledged: all numbers below Cursor, and those in Beyond.
	Cursor uint64
	Beyond []uint64

	body  []byte // changes
	rows  []byte // outbox
	lanes []*Lane

	packed, packedRows []byte // as they are written
	last               uint64 // number of the last outbox row
	n, changes         int
}

// Put adds a record of a key. A record that is the key's whole state says when it is due next; due is Never if it is not.
func (e *Epoch) Put(space uint32, key []byte, due int64, rec []byte) {
	e.change(space, key, 1)
	e.body = binary.AppendVarint(e.body, due)
	e.body = event.AppendBytes(e.body, rec)
	e.changes++
}

// Drop says that a key is gone.
func (e *Epoch) Drop(space uint32, key []byte) {
	e.change(space, key, 0)
	e.changes++
}

func (e *Epoch) change(space uint32, key []byte, kind byte) {
	e.body = binary.AppendUvarint(e.body, uint64(space))
	e.body = event.AppendBytes(e.body, key)
	e.body = append(e.body, kind)
}

// Changes is the number of records collected.
func (e *Epoch) Changes() int { return e.changes }

// Send puts a row into the outbox under a number; numbers only grow.
func (e *Epoch) Send(seq uint64, row []byte) {
	e.rows = binary.AppendUvarint(e.rows, seq)
	e.rows = event.AppendBytes(e.rows, row)
	e.last = seq
	e.n++
}

// Reset empties the epoch.
func (e *Epoch) Reset() {
	e.Header, e.Beyond = e.Header[:0], e.Beyond[:0]
	e.body, e.rows, e.n = e.body[:0], e.rows[:0], 0
	e.changes = 0
	for _, l := range e.lanes {
		l.reset()
	}
}

// record is what an epoch's record says.
type record struct {
	pages, rowPages int
	sum, rowSum     uint32 // CRC-32C of the bodies
	last            uint64 // outbox rows end before this number; 0: none
	cursor          uint64
	beyond          []uint64
	header          []byte
	laned           bool // it says something of lanes
	lanes           []laneRecord
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Commit writes the epoch, synced. After an error its outcome is unknown and the store refuses everything else: exit, and
// let the next start find out.
func (s *Store) Commit(e *Epoch) error {
	if s.failed == nil {
		s.failed = s.commit(e)
	}
	return s.failed
}

func (s *Store) commit(e *Epoch) error {
	if err := s.room(); err != nil {
		return fmt.Errorf("state %s: %w", s.opt.Dir, err)
	}
	id := epochKey{s.epoch + 1, s.run}
	e.packed, e.packedRows = pack(e.packed, e.body), pack(e.packedRows, e.rows)
	r := record{pages: pagesOf(e.packed), rowPages: pagesOf(e.packedRows), sum: checksum(e.packed), rowSum: checksum(e.packedRows), cursor: e.Cursor, beyond: e.Beyond, header: e.Header}
	if e.n > 0 {
		r.last = e.last + 1
	}
	w := writer{s: s}
	w.pages('p', id, e.packed)
	w.pages('o', id, e.packedRows)
	for _, l := range e.lanes {
		w.lane(id, l)
	}
	gone, err := s.settle(e, &r)
	if err != nil {
		return fmt.Errorf("state %s: %w", s.opt.Dir, err)
	}
	w.set(pageKey('e', id, -1), r.append(nil))
	s.drained(e.Cursor, w.del)
	for _, key := range gone {
		w.del(key)
	}
	if err := w.done(); err != nil {
		return fmt.Errorf("state %s: commit of epoch %d: %w", s.opt.Dir, id.epoch, err)
	}
	s.epoch = id.epoch
	if r.last > 0 {
		s.pending = append(s.pending, outbox{id, r.rowPages, r.last})
	}
	s.stale = append(s.stale, staleEpoch{id, r.pages})
	return nil
}

// settle brings the shelves of the lanes to where they are after the epoch, and has its record say so. It returns the keys of pages that go.
func (s *Store) settle(e *Epoch, r *record) (gone [][]byte, err error) {
	for _, l := range e.lanes {
		keys, err := s.delivered(l)
		if err != nil {
			return nil, err
		}
		if gone = append(gone, keys...); l.n > 0 {
			s.shelf(l.ID).put(l.At, s.places)
		}
	}
	r.laned = len(s.lanes) > 0
	for _, id := range slices.Sorted(maps.Keys(s.lanes)) {
		if x := s.lanes[id]; x.epochs > 0 {
			r.lanes = append(r.lanes, laneRecord{id, x.first[0].epochKey, x.epochs, x.bytes})
		}
	}
	return gone, nil
}

// drained deletes the outbox pages of epochs whose rows are all acknowledged.
func (s *Store) drained(cursor uint64, del func(key []byte)) {
	n := 0
	for ; n < len(s.pending) && s.pending[n].end <= cursor; n++ {
		for i := range s.pending[n].pages {
			del(pageKey('o', s.pending[n].epochKey, i))
		}
	}
	s.pending = slices.Delete(s.pending, 0, n)
}

// pack compresses a body: what Badger writes it writes twice, and keys, times and ids repeat.
func pack(dst, body []byte) []byte {
	if len(body) == 0 {
		return dst[:0]
	}
	return s2.Encode(dst[:cap(dst)], body)
}

// bodyMax bounds what a damaged length can make unpack ask for.
const bodyMax = 1 << 30

func unpack(packed []byte) ([]byte, error) {
	if len(packed) == 0 {
		return nil, nil
	}
	if n, err := s2.DecodedLen(packed); err != nil || n > bodyMax {
		return nil, errors.New("an epoch's pages are damaged")
	}
	return s2.Decode(nil, packed)
}

// writer cuts what is written into transactions that Badger takes, in order; the last one ends with the last thing set.
type writer struct {
	s     *Store
	ops   []op
	bytes int
	err   error
}

type op struct{ key, value []byte } // nil value: delete

func (w *writer) set(key, value []byte) { w.add(op{key, value}, len(key)+len(value)) }
func (w *writer) del(key []byte)        { w.add(op{key, nil}, len(key)) }

func (w *writer) add(o op, n int) {
	if w.bytes+n > txnMax || len(w.ops) >= rowsMax {
		w.flush()
	}
	w.ops = append(w.ops, o)
	w.bytes += n + 64
}

func (w *writer) flush() {
	if w.err == nil && len(w.ops) > 0 {
		w.err = w.s.update(func(txn *badger.Txn) error {
			for _, o := range w.ops {
				var err error
				if o.value == nil {
					err = txn.Delete(o.key)
				} else {
					err = txn.Set(o.key, o.value)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	w.ops, w.bytes = w.ops[:0], 0
}

func (w *writer) done() error {
	w.flush()
	return w.err
}

func (w *writer) pages(kind byte, id epochKey, body []byte) {
	for i := 0; len(body) > 0; i++ {
		n := min(len(body), pageMax)
		w.set(pageKey(kind, id, i), body[:n])
		body = body[n:]
	}
}

func pagesOf(body []byte) int { return (len(body) + pageMax - 1) / pageMax }

// pageKey is kind, epoch, run and, if page is not negative, the page.
func pageKey(kind byte, id epochKey, page int) []byte {
	k := put64(put64(append(make([]byte, 0, 21), kind), id.epoch), id.run)
	if page >= 0 {
		k = binary.BigEndian.AppendUint32(k, uint32(page))
	}
	return k
}

func (r *record) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(r.pages))
	dst = binary.AppendUvarint(dst, uint64(r.rowPages))
	dst = binary.BigEndian.AppendUint32(dst, r.sum)
	dst = binary.BigEndian.AppendUint32(dst, r.rowSum)
	dst = binary.AppendUvarint(dst, r.last)
	dst = binary.AppendUvarint(dst, r.cursor)
	dst = binary.AppendUvarint(dst, uint64(len(r.beyond)))
	for _, n := range r.beyond {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = event.AppendBytes(dst, r.header)
	if r.laned {
		dst = binary.AppendUvarint(dst, uint64(len(r.lanes)))
	}
	for _, l := range r.lanes {
		for _, n := range []uint64{uint64(l.id), l.first.epoch, l.first.run, uint64(l.epochs), uint64(l.bytes)} {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	return binary.BigEndian.AppendUint32(dst, checksum(dst))
}

func readRecord(b []byte) (r record, err error) {
	if len(b) < 4 || checksum(b[:len(b)-4]) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return r, errors.New("an epoch's record is damaged")
	}
	d := event.Reader{B: b[:len(b)-4]}
	r.pages, r.rowPages = int(d.Uint()), int(d.Uint())
	if sums := d.Take(8); sums != nil {
		r.sum, r.rowSum = binary.BigEndian.Uint32(sums), binary.BigEndian.Uint32(sums[4:])
	}
	r.last, r.cursor = d.Uint(), d.Uint()
	for n := d.Uint(); n > 0 && !d.Bad; n-- {
		r.beyond = append(r.beyond, d.Uint())
	}
	r.header = slices.Clone(d.Bytes())
	if r.laned = len(d.B) > 0; r.laned {
		for n := d.Uint(); n > 0 && !d.Bad; n-- {
			r.lanes = append(r.lanes, laneRecord{uint32(d.Uint()), epochKey{d.Uint(), d.Uint()}, int64(d.Uint()), int64(d.Uint())})
		}
	}
	if d.Bad || len(d.B) > 0 {
		return r, errors.New("an epoch's record is damaged")
	}
	return r, nil
}

func put64(dst []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(dst, v) }
func be64(b []byte) uint64              { return binary.BigEndian.Uint64(b) }
