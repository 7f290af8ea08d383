package state

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// model is what a store must hold: the parts of each key, in pages of four keys a space and in the log, unsent rows, and those of lanes, by
// lane and number.
type model struct {
	recs         map[string]string
	rows         map[uint64]string
	lanes        map[[2]uint64]string
	next, cursor [3]uint64 // of lanes
}

func newModel() *model {
	return &model{recs: map[string]string{}, rows: map[uint64]string{}, lanes: map[[2]uint64]string{}}
}

func (m *model) clone() *model {
	return &model{maps.Clone(m.recs), maps.Clone(m.rows), maps.Clone(m.lanes), m.next, m.cursor}
}

func name(space uint32, key string) string { return fmt.Sprint(space, " ", key) }

// bucketOf deals the keys out.
func bucketOf(key string) uint32 { return uint32(key[len(key)-1]) % 3 }

// page is what a page of the model holds: keys and values, by key.
func (m *model) page(space, bucket uint32) []byte {
	var b []byte
	for _, n := range slices.Sorted(maps.Keys(m.recs)) {
		var of uint32
		var key string
		fmt.Sscan(n, &of, &key)
		if of == space && bucketOf(key) == bucket {
			b = event.AppendBytes(event.AppendBytes(b, []byte(key)), []byte(m.recs[n]))
		}
	}
	return b
}

func recoverModel(t *testing.T, s *Store) (*model, Recovered) {
	t.Helper()
	m, got, err := readModel(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return m, got
}

func readModel(t *testing.T, s *Store) (*model, Recovered, error) {
	t.Helper()
	m := newModel()
	asOf := map[[2]uint32]uint64{}
	got, err := s.Recover(Visitor{
		Page: func(space, bucket uint32, epoch uint64, data []byte) error {
			asOf[[2]uint32{space, bucket}] = epoch
			for r := (event.Reader{B: data}); len(r.B) > 0; {
				m.recs[name(space, string(r.Bytes()))] = string(r.Bytes())
			}
			again, err := s.Page(space, bucket)
			if string(again) != string(data) {
				t.Errorf("page %d of space %d is read otherwise", bucket, space)
			}
			return err
		},
		Record: func(epoch uint64, space uint32, key []byte, due int64, rec []byte) error {
			if epoch <= asOf[[2]uint32{space, bucketOf(string(key))}] {
				return nil
			}
			if rec == nil {
				delete(m.recs, name(space, string(key)))
			} else {
				m.recs[name(space, string(key))] = fmt.Sprint(due, string(rec))
			}
			return nil
		},
		Row: func(seq uint64, row []byte) error { m.rows[seq] = string(row); return nil },
	})
	pages := 0
	for lane := range uint32(3) {
		epochs, bytes := s.Waiting(lane)
		list := s.Stored(lane, 2)
		for len(list) > 0 && int64(len(list)) < epochs && err == nil {
			var more []Stored
			more, err = s.Following(lane, list[len(list)-1], got.Epoch, 1+len(list)%3)
			list = append(list, more...)
		}
		for _, at := range list {
			size := int64(0)
			bytes, epochs, pages = bytes-at.Bytes, epochs-1, pages+at.pages
			err = errors.Join(err, s.Rows(lane, at, func(seq uint64, row []byte) error {
				m.lanes[[2]uint64{uint64(lane), seq}] = string(row)
				if size += int64(len(row)); seq >= at.End {
					t.Errorf("row %d of rows that end before %d", seq, at.End)
				}
				return nil
			}))
			if size != at.Bytes {
				t.Errorf("%d bytes of rows, want %d", at.Bytes, size)
			}
		}
		if err == nil && (epochs != 0 || bytes != 0) {
			t.Errorf("lane %d: %d epochs and %d bytes are not found", lane, epochs, bytes)
		}
	}
	if there := len(s.keys(t, "q")); err == nil && !s.opt.reading && there != pages && s.lanes[7] == nil {
		t.Errorf("%d pages of lanes are on disk, %d are known", there, pages)
	}
	return m, got, err
}

// send gives each lane some rows, of which one may be long, and delivers some.
func (m *model) send(r *rand.Rand, e *Epoch) {
	for lane := uint64(1); lane < 3; lane++ {
		l := e.Lane(uint32(lane))
		for range r.IntN(3) {
			text := fmt.Sprint("row ", m.next[lane])
			if r.IntN(12) == 0 { // pages, transactions
				b := make([]byte, r.IntN(1<<20))
				for i := range b {
					b[i] = byte(r.Uint32())
				}
				text = string(b)
			}
			l.Send(m.next[lane], []byte(text))
			m.lanes[[2]uint64{lane, m.next[lane]}] = text
			m.next[lane]++
		}
		if r.IntN(12) == 0 || lane == 1 && r.IntN(2) == 0 { // the other stands still for longer
			m.cursor[lane] += r.Uint64N(m.next[lane] - m.cursor[lane] + 1)
		}
		l.Cursor = m.cursor[lane]
	}
	maps.DeleteFunc(m.lanes, func(at [2]uint64, _ string) bool { return at[1] < m.cursor[at[0]] })
}

// equal says whether a store holds what it must; pages hold what lanes have delivered until all of them is.
func (m *model) equal(o *model) bool {
	lanes := maps.Clone(m.lanes)
	maps.DeleteFunc(lanes, func(at [2]uint64, _ string) bool { return at[1] < o.cursor[at[0]] })
	return maps.Equal(m.rows, o.rows) && maps.Equal(m.recs, o.recs) && maps.Equal(lanes, o.lanes)
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, Pipeline: "p"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var errCrash = errors.New("crash")

// Whatever transaction a crash falls into, what is recovered is the last epoch that was committed, or the one that was
// being committed, whole. Random epochs with large and small records, pages written now and then, outbox rows and acknowledgements.
func TestCrashesAtEveryTransaction(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir := filepath.Join(t.TempDir(), "state")
	want, maybe := newModel(), newModel()
	epoch, cursor, next, crashes, resumed := uint64(0), uint64(0), uint64(0), 0, 0
	first := map[[2]uint32]uint64{} // pages by the epoch of their first change
	for range 40 {
		s := open(t, dir)
		s.places = 1 + r.IntN(4)
		got, rec := recoverModel(t, s)
		switch {
		case got.equal(want):
		case got.equal(maybe):
			want = maybe
			resumed++
		default:
			t.Fatalf("seed %d: epoch %d: recovered %d records and %d rows, want %d and %d, or %d and %d", seed, rec.Epoch,
				len(got.recs), len(got.rows), len(want.recs), len(want.rows), len(maybe.recs), len(maybe.rows))
		}
		if rec.Epoch < epoch {
			t.Fatalf("seed %d: epoch %d after %d", seed, rec.Epoch, epoch)
		}
		epoch, cursor, next = rec.Epoch, rec.Cursor, rec.Next
		beyond := map[uint64]bool{}
		for _, seq := range rec.Beyond {
			beyond[seq] = true
		}
		for space := range uint32(2) { // of pages that were not written for sure nothing is known
			for bucket := range uint32(3) {
				first[[2]uint32{space, bucket}] = s.through + 1
			}
		}
		left := r.IntN(30)
		s.hook = func() error {
			if left--; left < 0 {
				return errCrash
			}
			return nil
		}
		for {
			e := &Epoch{Header: fmt.Append(nil, "header ", epoch+1)}
			maybe = want.clone()
			for range r.IntN(6) {
				key := fmt.Sprint("key", r.IntN(12))
				space := uint32(r.IntN(2))
				at := [2]uint32{space, bucketOf(key)}
				if first[at] == 0 {
					first[at] = epoch + 1
				}
				if r.IntN(3) == 0 {
					e.Drop(space, []byte(key))
					delete(maybe.recs, name(space, key))
					continue
				}
				part := fmt.Sprint(r.IntN(1000))
				if r.IntN(25) == 0 {
					part = strings.Repeat(part, r.IntN(1<<20)) // pages, transactions
				}
				due := r.Int64() - r.Int64()
				e.Put(space, []byte(key), due, []byte(part))
				maybe.recs[name(space, key)] = fmt.Sprint(due, part)
			}
			for range r.IntN(3) {
				e.Send(next, fmt.Append(nil, "row ", next))
				maybe.rows[next] = fmt.Sprint("row ", next)
				next++
			}
			if cursor < next {
				cursor += r.Uint64N(next - cursor + 1)
			}
			for seq := range maybe.rows { // acknowledged: below the cursor, or beyond it and said in every epoch until it passes
				if seq >= cursor && r.IntN(8) == 0 {
					beyond[seq] = true
				}
				if seq < cursor || beyond[seq] {
					delete(maybe.rows, seq)
				}
			}
			for seq := range beyond {
				if seq >= cursor {
					e.Beyond = append(e.Beyond, seq)
				}
			}
			e.Cursor = cursor
			maybe.send(r, e)
			err := s.Commit(e)
			if err == nil {
				want = maybe.clone()
				epoch++
				f := &Flush{Through: epoch}
				for at, since := range first {
					if r.IntN(4) == 0 {
						f.Put(at[0], at[1], want.page(at[0], at[1]))
						if first[at] = 0; r.IntN(2) == 0 {
							f.End()
						}
					} else if since > 0 {
						f.Through = min(f.Through, since-1)
					}
				}
				f.End()
				err = s.Flush(f)
			}
			if err != nil {
				crashes++
				break
			}
		}
		s.hook = nil
		s.db.Close() // as a kill would leave it, but for what Badger itself recovers
		s.lock.Close()
	}
	t.Logf("%d crashes, %d of them after the epoch was on disk", crashes, resumed)
}

// A process that is killed between making one of Badger's logs and giving it its size leaves an empty file, which must not be
// in the way of the next start.
func TestKilledBeforeALogHasItsSize(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := open(t, dir)
	recoverModel(t, s)
	var e Epoch
	e.Send(1, []byte("row"))
	if err := s.Commit(&e); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		if err := os.WriteFile(filepath.Join(dir, "badger", name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir)
	defer s.Close()
	if m, _ := recoverModel(t, s); m.rows[1] != "row" {
		t.Errorf("rows %v", m.rows)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	s := open(t, mine)
	refuses := func(opt Options, want string) {
		t.Helper()
		if _, err := Open(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refuses(Options{Dir: mine, Pipeline: "p"}, "in use by another process")
	s.Close()
	refuses(Options{Dir: mine, Pipeline: "other"}, `belongs to pipeline "p", not "other"`)
	refuses(Options{Dir: mine, Pipeline: "p", Free: func(string) (uint64, error) { return FreeMin - 1, nil }}, "MiB are free")
	os.WriteFile(filepath.Join(mine, "TOCSIN"), []byte(`{"format":7,"pipeline":"p"}`), 0o644)
	refuses(Options{Dir: mine, Pipeline: "p"}, "this binary reads format 2")
	os.WriteFile(filepath.Join(dir, "photo.jpg"), nil, 0o644)
	refuses(Options{Dir: dir, Pipeline: "p"}, "not empty and is no Tocsin state")
	file := filepath.Join(dir, "photo.jpg")
	refuses(Options{Dir: filepath.Join(file, "x"), Pipeline: "p"}, "cannot be created")
}

func TestFullDiskStopsBeforeBadger(t *testing.T) {
	free := uint64(FreeMin)
	s, err := Open(Options{Dir: filepath.Join(t.TempDir(), "s"), Pipeline: "p", Free: func(string) (uint64, error) { return free, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	recoverModel(t, s)
	free--
	if err := s.Commit(&Epoch{}); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("got %v", err)
	}
}

func TestFreshRemoves(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := open(t, dir)
	recoverModel(t, s)
	e := &Epoch{}
	e.Put(1, []byte("k"), 5, []byte("v"))
	if err := s.Commit(e); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.WriteFile(filepath.Join(dir, "TOCSIN"), []byte(`{"format":1,"pipeline":"p"}          `), 0o644); err != nil { // of an older binary
		t.Fatal(err)
	}
	s, err := Open(Options{Dir: dir, Pipeline: "p", Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if m, got := recoverModel(t, s); len(m.recs) > 0 || got.Epoch != 0 {
		t.Errorf("%v left at epoch %d", m.recs, got.Epoch)
	}
}

// The decoders of what is on disk take any bytes.
func FuzzDecoders(f *testing.F) {
	f.Add((&record{pages: 1, header: []byte("h"), beyond: []uint64{3}}).append(nil))
	var e Epoch
	e.Put(1, []byte("k"), -5, []byte("rec"))
	e.Drop(2, []byte("gone"))
	e.Send(7, []byte("row"))
	f.Add(e.body)
	f.Add(e.rows)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := readRecord(b); err == nil && string(r.append(nil)) != string(b) {
			if _, err := readRecord(r.append(nil)); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = unpack(b)
		_ = readChanges(b, func(uint32, []byte, int64, []byte) error { return nil })
		_ = readRows(b, func(uint64, []byte) error { return nil })
		_, _, _ = readHead(b)
	})
}
