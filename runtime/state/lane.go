package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// Lane is what an epoch says of one lane of the outbox. Unlike the rows of Send, those of a lane need not fit into memory: they are read
// again by Rows, an epoch at a time, and their pages go as soon as the lane has delivered them, whatever other lanes have. Their keys say
// all that has to be known before they are read, so that no epoch's record stays for their sake.
type Lane struct {
	ID     uint32
	Cursor uint64 // all rows with numbers below are delivered
	At     Stored // where the rows are, once the epoch is committed; nothing if there are none

	rows, packed []byte
	n, bytes     int
	last         uint64
}

// Stored is where the rows are that an epoch gave to a lane.
type Stored struct {
	epochKey
	End   uint64 // one past the number of the last of them
	Bytes int64  // of them, before they were packed
	pages int
}

// Lane is a lane of the outbox in this epoch.
func (e *Epoch) Lane(id uint32) *Lane {
	for _, l := range e.lanes {
		if l.ID == id {
			return l
		}
	}
	l := &Lane{ID: id}
	e.lanes = append(e.lanes, l)
	return l
}

// Send puts a row into the lane under a number; numbers only grow.
func (l *Lane) Send(seq uint64, row []byte) {
	l.rows = binary.AppendUvarint(l.rows, seq)
	l.rows = binary.AppendUvarint(l.rows, uint64(len(row)))
	l.rows = append(l.rows, row...)
	l.last, l.n, l.bytes = seq, l.n+1, l.bytes+len(row)
}

func (l *Lane) reset() { *l = Lane{ID: l.ID, rows: l.rows[:0], packed: l.packed} }

// laneHead is what stands before a lane's first page: the number of pages, and the CRC-32C of all of them.
const laneHead = 8

// lane writes the rows of a lane.
func (w *writer) lane(id epochKey, l *Lane) {
	if l.n == 0 {
		return
	}
	l.packed = pack(l.packed, l.rows)
	l.At = Stored{id, l.last + 1, int64(l.bytes), pagesOf(l.packed)}
	head := binary.BigEndian.AppendUint32(nil, uint32(l.At.pages))
	head = binary.BigEndian.AppendUint32(head, checksum(l.packed))
	for i, body := 0, l.packed; len(body) > 0; i++ {
		n := min(len(body), pageMax)
		page := body[:n:n]
		if i == 0 {
			page = append(head, page...)
		}
		w.set(laneKey(l.ID, l.At, i), page)
		body = body[n:]
	}
}

// laneKey orders pages as they were written.
func laneKey(lane uint32, at Stored, page int) []byte {
	k := binary.BigEndian.AppendUint32(append(make([]byte, 0, 41), 'q'), lane)
	k = put64(put64(put64(put64(k, at.epoch), at.run), at.End), uint64(at.Bytes))
	return binary.BigEndian.AppendUint32(k, uint32(page))
}

// delivered deletes the pages of a lane that hold no row from its cursor on.
func (s *Store) delivered(l *Lane, del func(key []byte)) {
	list := s.lanes[l.ID]
	for ; len(list) > 0 && list[0].End <= l.Cursor; list = list[1:] {
		for i := range list[0].pages {
			del(laneKey(l.ID, list[0], i))
		}
	}
	if s.lanes[l.ID] = list; len(list) == 0 {
		delete(s.lanes, l.ID)
	}
}

// stored finds what is on disk of each lane, and deletes pages of epochs that never happened: those after the last one, whose number
// another epoch will have.
func (s *Store) stored(txn *badger.Txn, recs []savedEpoch, w *writer) error {
	run := map[uint64]uint64{}
	for i := range recs {
		run[recs[i].epoch] = recs[i].run
	}
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("q")})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Item().KeyCopy(nil)
		if len(k) != 41 {
			return errors.New("a key of its outbox is damaged")
		}
		lane, page := binary.BigEndian.Uint32(k[1:]), int(binary.BigEndian.Uint32(k[37:]))
		at := Stored{epochKey{be64(k[5:]), be64(k[13:])}, be64(k[21:]), int64(be64(k[29:])), page + 1}
		if r, known := run[at.epoch]; known && r != at.run || !known && at.epoch > s.through {
			w.del(k)
			continue
		}
		list := s.lanes[lane]
		if n := len(list); page > 0 && n > 0 && list[n-1].epochKey == at.epochKey && list[n-1].pages == page {
			list[n-1].pages++
			continue
		} else if page > 0 {
			return fmt.Errorf("page %d of lane %d of epoch %d is missing; %s", page-1, lane, at.epoch, mend)
		}
		s.lanes[lane] = append(list, at)
	}
	return nil
}

// Stored says where the rows of a lane are, in order; the first may have been delivered in part. Call it between Recover and the first
// Commit.
func (s *Store) Stored(lane uint32) []Stored { return append([]Stored{}, s.lanes[lane]...) }

// Rows gives the rows that an epoch gave to a lane, views, by number. It may be called while another goroutine commits, for rows that
// were not delivered.
func (s *Store) Rows(lane uint32, at Stored, give func(seq uint64, row []byte) error) error {
	var body []byte
	err := s.db.View(func(txn *badger.Txn) error {
		for i := range at.pages {
			p, err := get(txn, laneKey(lane, at, i))
			if err != nil {
				return err
			}
			if p == nil {
				return fmt.Errorf("page %d of what epoch %d said is missing; %s", i, at.epoch, mend)
			}
			body = append(body, p...)
		}
		return nil
	})
	if err == nil {
		if len(body) < laneHead || binary.BigEndian.Uint32(body) != uint32(at.pages) || checksum(body[laneHead:]) != binary.BigEndian.Uint32(body[4:]) {
			err = fmt.Errorf("the outbox of epoch %d is damaged; %s", at.epoch, mend)
		} else if body, err = unpack(body[laneHead:]); err == nil {
			err = readRows(body, give)
		}
	}
	if err != nil {
		return fmt.Errorf("state %s: %w", s.opt.Dir, err)
	}
	return nil
}
