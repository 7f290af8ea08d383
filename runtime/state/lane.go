package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// Lane is what an epoch says of one lane of the outbox. Unlike the rows of Send, those of a lane need not fit into memory: they are read
// again by Rows, an epoch at a time, and their pages go as soon as the lane has delivered them, whatever other lanes have. Their keys say
// all that has to be known before they are read, so that no epoch's record stays for their sake; the last one says where the first are, and how much there is.
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

func (l *Lane) reset() { *l = Lane{ID: l.ID, rows: spared(l.rows), packed: spared(l.packed)} }

// spareMax is how much of a buffer is kept for the next epoch, in bytes. There are four a lane, and one epoch of many rows would make all of them large
// for good.
const spareMax = 1 << 20

func spared(b []byte) []byte {
	if cap(b) > spareMax {
		return nil
	}
	return b[:0]
}

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

// shelf is what the store knows of the rows of a lane that are on disk: where the first are, of all of them only how many epochs they are of and how
// long they are. So what waits takes no memory, and a start does not read its way through it.
type shelf struct {
	first  []Stored // in order
	epochs int64    // of first and of all that follow
	bytes  int64
}

// shelfMax is how many epochs of a lane the store knows by their places.
const shelfMax = 256

// put notes what an epoch gave to the lane; most is how many are known by their places.
func (x *shelf) put(at Stored, most int) {
	if int64(len(x.first)) == x.epochs && len(x.first) < most {
		x.first = append(x.first, at)
	}
	x.epochs, x.bytes = x.epochs+1, x.bytes+at.Bytes
}

func (s *Store) shelf(lane uint32) *shelf {
	x := s.lanes[lane]
	if x == nil {
		x = &shelf{}
		s.lanes[lane] = x
	}
	return x
}

// delivered takes what holds no row from the lane's cursor on off its shelf, and returns the keys of its pages.
func (s *Store) delivered(l *Lane) (gone [][]byte, err error) {
	x := s.lanes[l.ID]
	for x != nil && x.epochs > 0 {
		at := x.first[0]
		if at.End > l.Cursor {
			break
		}
		for i := range at.pages {
			gone = append(gone, laneKey(l.ID, at, i))
		}
		x.first, x.epochs, x.bytes = x.first[1:], x.epochs-1, x.bytes-at.Bytes
		if len(x.first) == 0 && x.epochs > 0 {
			if x.first, err = s.following(l.ID, at, s.epoch, s.places); err != nil {
				return nil, err
			}
		}
	}
	return gone, nil
}

// following says where rows of a lane are, in order: of at most so many epochs, behind a place, through an epoch.
func (s *Store) following(lane uint32, after Stored, through uint64, most int) (list []Stored, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: laneKey(lane, Stored{}, 0)[:5]})
		defer it.Close()
		for it.Seek(laneKey(lane, after, 1<<32-1)); it.Valid(); it.Next() {
			_, at, err := readLaneKey(it.Item().Key())
			if err != nil {
				return err
			}
			if at.epoch > through || !at.again(list) && len(list) == most {
				break
			}
			if list, err = at.onto(list, lane); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("rows that wait in lane %d are missing; %s", lane, mend)
	}
	return list, err
}

// before says whether an epoch is a later one.
func (e epochKey) before(o epochKey) bool {
	return e.epoch < o.epoch || e.epoch == o.epoch && e.run < o.run
}

// again says whether a page is of what the last of a list is.
func (at Stored) again(list []Stored) bool {
	return len(list) > 0 && list[len(list)-1].epochKey == at.epochKey
}

// onto adds a page to a list. Of a key that was read, pages is the page's number and one.
func (at Stored) onto(list []Stored, lane uint32) ([]Stored, error) {
	switch n := len(list); {
	case at.again(list) && list[n-1].pages == at.pages-1:
		list[n-1].pages++
	case at.again(list) || at.pages > 1:
		return nil, fmt.Errorf("page %d of lane %d of epoch %d is missing; %s", at.pages-2, lane, at.epoch, mend)
	default:
		list = append(list, at)
	}
	return list, nil
}

func readLaneKey(k []byte) (lane uint32, at Stored, err error) {
	if len(k) != 41 {
		return 0, at, errors.New("a key of its outbox is damaged")
	}
	return binary.BigEndian.Uint32(k[1:]), Stored{epochKey{be64(k[5:]), be64(k[13:])}, be64(k[21:]), int64(be64(k[29:])), int(binary.BigEndian.Uint32(k[37:])) + 1}, nil
}

// laneRecord is what an epoch's record says of a lane in which rows wait: where the first are, and what a shelf has of all.
type laneRecord struct {
	id            uint32
	first         epochKey
	epochs, bytes int64
}

// shelves finds the first rows that wait in each lane. It deletes pages that a crash has left: of rows that were delivered, and of epochs that never
// happened, whose number another epoch will have. A state of before records had lanes is looked through from one end to the other.
func (s *Store) shelves(txn *badger.Txn, last *record, w *writer) error {
	records := map[uint32]laneRecord{}
	for _, l := range last.lanes {
		records[l.id] = l
	}
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("q")})
	defer it.Close()
	for it.Rewind(); it.Valid(); {
		lane, at, err := readLaneKey(it.Item().Key())
		if err != nil {
			return err
		}
		l, waits := records[lane]
		x := s.shelf(lane)
		if at.epoch > s.epoch || last.laned && (!waits || at.before(l.first)) {
			w.del(it.Item().KeyCopy(nil))
			it.Next()
			continue
		}
		if last.laned && !at.again(x.first) && len(x.first) == s.places {
			it.Seek(laneKey(lane, Stored{epochKey: epochKey{epoch: s.epoch + 1}}, 0))
			continue
		}
		if x.first, err = at.onto(x.first, lane); err != nil {
			return err
		}
		it.Next()
	}
	for lane, x := range s.lanes {
		if last.laned {
			x.epochs, x.bytes = records[lane].epochs, records[lane].bytes
			continue
		}
		x.epochs = int64(len(x.first))
		for _, at := range x.first {
			x.bytes += at.Bytes
		}
	}
	for _, l := range last.lanes {
		if x := s.shelf(l.id); len(x.first) == 0 || x.first[0].epochKey != l.first {
			return fmt.Errorf("rows that wait in lane %d are missing; %s", l.id, mend)
		}
	}
	return nil
}

// Waiting is what of a lane is on disk: of so many epochs, and so many bytes of rows before they were packed. The first epoch may have been
// delivered in part. Call it between Recover and the first Commit.
func (s *Store) Waiting(lane uint32) (epochs, bytes int64) {
	if x := s.lanes[lane]; x != nil {
		return x.epochs, x.bytes
	}
	return 0, 0
}

// Stored says where the first rows of a lane are, in order: of at most so many epochs. Call it between Recover and the first Commit.
func (s *Store) Stored(lane uint32, most int) []Stored {
	if x := s.lanes[lane]; x != nil {
		return slices.Clone(x.first[:min(len(x.first), most)])
	}
	return nil
}

// Following says where those rows of a lane are that stand behind some, in order: of at most so many epochs, through an epoch that is committed. It is
// an error if there are none. It may be called while another goroutine commits, but not an epoch that delivers them.
func (s *Store) Following(lane uint32, after Stored, through uint64, most int) ([]Stored, error) {
	list, err := s.following(lane, after, through, most)
	if err != nil {
		err = fmt.Errorf("state %s: %w", s.opt.Dir, err)
	}
	return list, err
}

// Epoch is the number of the epoch that gave the rows to the lane.
func (at Stored) Epoch() uint64 { return at.epoch }

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
