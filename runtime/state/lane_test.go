package state

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// laneOf makes a state whose lane 7 has got a row in each of some epochs, of which none is delivered.
func laneOf(t *testing.T, dir string, epochs int) {
	s := open(t, dir)
	recoverModel(t, s)
	for seq := range uint64(epochs) {
		var e Epoch
		e.Lane(7).Send(seq, fmt.Append(nil, "row ", seq))
		if err := s.Commit(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// However many epochs wait, a start knows few by their places, and how many there are.
func TestDeepLane(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	laneOf(t, dir, 3*shelfMax)
	s := open(t, dir)
	defer s.Close()
	got, err := s.Recover(Visitor{})
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := s.Waiting(7); n != 3*shelfMax || len(s.lanes[7].first) != shelfMax || len(s.Stored(7, 10)) != 10 {
		t.Errorf("%d epochs, %d places", n, len(s.lanes[7].first))
	}
	for l := (&Lane{ID: 7}); l.Cursor < 3*shelfMax; l.Cursor += 100 {
		e := &Epoch{lanes: []*Lane{l}}
		if err := s.Commit(e); err != nil {
			t.Fatal(err)
		}
		if n, bytes := s.Waiting(7); n != int64(3*shelfMax-l.Cursor) || bytes == 0 || len(s.lanes[7].first) > shelfMax || len(s.keys(t, "q")) != int(n) {
			t.Fatalf("below %d of epoch %d: %d epochs, %d bytes, %d pages", l.Cursor, got.Epoch, n, bytes, len(s.keys(t, "q")))
		}
	}
}

// A state whose records say nothing of lanes, as those of before did, is looked through, and nothing of it lost.
func TestLanesThatNoRecordHas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	laneOf(t, dir, 5)
	s := open(t, dir)
	s.edit(t, pageKey('e', epochKey{5, 1}, -1), func(b []byte) []byte {
		r, err := readRecord(b)
		if err != nil || !r.laned || len(r.lanes) != 1 {
			t.Fatalf("%v %+v", err, r)
		}
		r.laned, r.lanes = false, nil
		return r.append(nil)
	})
	s.places = 2
	recoverModel(t, s)
	if n, _ := s.Waiting(7); n != 5 {
		t.Errorf("%d epochs", n)
	}
	var e Epoch
	e.Lane(7).Send(5, []byte("another"))
	if err := s.Commit(&e); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, dir)
	defer s.Close()
	if _, err := s.Recover(Visitor{}); err != nil {
		t.Fatal(err)
	}
	if n, bytes := s.Waiting(7); n != 6 || bytes != 5*5+7 {
		t.Errorf("%d epochs, %d bytes", n, bytes)
	}
}

// Rows of a lane that a disk has lost are missed: at the start, or when their turn comes.
func TestLaneThatLostRows(t *testing.T) {
	for lost, when := range map[uint64]string{1: "start", 2: "turn", 3: "turn"} {
		dir := filepath.Join(t.TempDir(), "s")
		laneOf(t, dir, 3)
		s := open(t, dir)
		at := s.keys(t, "q")[lost-1]
		if err := s.db.Update(func(txn *badger.Txn) error { return txn.Delete(at) }); err != nil {
			t.Fatal(err)
		}
		s.places = 1
		_, err := s.Recover(Visitor{})
		if when == "turn" && err == nil {
			e := &Epoch{}
			e.Lane(7).Cursor = 3
			err = s.Commit(e)
		} else if when == "turn" {
			t.Error(err)
		}
		if err == nil || !strings.Contains(err.Error(), "rows that wait in lane 7 are missing; "+mend) {
			t.Errorf("%s: %v", when, err)
		}
		s.Close()
	}
}

func (s *Store) keys(t *testing.T, prefix string) (keys [][]byte) {
	err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefix)})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			keys = append(keys, it.Item().KeyCopy(nil))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (s *Store) edit(t *testing.T, key []byte, with func(b []byte) []byte) {
	err := s.db.Update(func(txn *badger.Txn) error {
		b, err := get(txn, key)
		if err != nil {
			return err
		}
		return txn.Set(key, with(b))
	})
	if err != nil {
		t.Fatal(err)
	}
}
