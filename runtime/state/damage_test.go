package state

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

var damages = flag.Int("damages", 15, "damaged copies of a state")

// history is a store that random epochs are committed to, and what it holds after each.
type history struct {
	s      *Store
	r      *rand.Rand
	now    *model
	after  []*model             // by epoch
	first  map[[2]uint32]uint64 // pages by the epoch of their first change that no page has
	cursor uint64
	next   uint64
}

// pagesEvery is after how many epochs a step writes all pages that changed.
const pagesEvery = 16

func newHistory(s *Store, r *rand.Rand) *history {
	return &history{s: s, r: r, now: newModel(), after: []*model{newModel()}, first: map[[2]uint32]uint64{}}
}

// step commits an epoch of about so many bytes that do not compress, and writes pages now and then.
func (h *history) step(t *testing.T, size int) {
	t.Helper()
	epoch := uint64(len(h.after))
	e := &Epoch{Header: fmt.Append(nil, "header ", epoch)}
	for range 1 + h.r.IntN(5) {
		space, key := uint32(h.r.IntN(2)), fmt.Sprint("key", h.r.IntN(40))
		if at := [2]uint32{space, bucketOf(key)}; h.first[at] == 0 {
			h.first[at] = epoch
		}
		if h.r.IntN(4) == 0 {
			e.Drop(space, []byte(key))
			delete(h.now.recs, name(space, key))
			continue
		}
		rec := make([]byte, 1+h.r.IntN(size/2))
		for i := range rec {
			rec[i] = byte(h.r.Uint32())
		}
		e.Put(space, []byte(key), 7, rec)
		h.now.recs[name(space, key)] = fmt.Sprint(7, string(rec))
	}
	for range h.r.IntN(3) {
		row := fmt.Sprint("row ", h.next)
		e.Send(h.next, []byte(row))
		h.now.rows[h.next] = row
		h.next++
	}
	if h.cursor < h.next && h.r.IntN(2) == 0 {
		delete(h.now.rows, h.cursor)
		h.cursor++
	}
	e.Cursor = h.cursor
	if err := h.s.Commit(e); err != nil {
		t.Fatal(err)
	}
	h.after = append(h.after, h.now.clone())
	f := &Flush{Through: epoch}
	for at, since := range h.first {
		if epoch-since < pagesEvery {
			f.Through = min(f.Through, since-1)
			continue
		}
		f.Put(at[0], at[1], h.now.page(at[0], at[1]))
		f.End()
		delete(h.first, at)
	}
	if err := h.s.Flush(f); err != nil {
		t.Fatal(err)
	}
}

// is says which epoch a store holds, and fails unless it is one of the history, whole.
func (h *history) is(t *testing.T, s *Store, what string) uint64 {
	t.Helper()
	got, rec := recoverModel(t, s)
	if rec.Epoch >= uint64(len(h.after)) || !got.equal(h.after[rec.Epoch]) {
		t.Fatalf("%s: what it holds is not epoch %d", what, rec.Epoch)
	}
	if rec.Epoch > 0 && string(rec.Header) != fmt.Sprint("header ", rec.Epoch) {
		t.Fatalf("%s: header %q of epoch %d", what, rec.Header, rec.Epoch)
	}
	return rec.Epoch
}

// copied is a folder as a kill at this moment would leave it: a copy during which Badger added and removed no file.
func copied(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "state")
	moment := func() string {
		names, err := filepath.Glob(filepath.Join(from, "badger", "*"))
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := os.ReadFile(filepath.Join(from, "badger", badger.ManifestFilename))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(names, manifest)
	}
	for range 1000 {
		before := moment()
		if err := copyFolder(to, from); err == nil && moment() == before {
			return to
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("it never rests")
	return ""
}

// copyFolder copies a state, leaving out what is nothing but room in logs.
func copyFolder(to, from string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		there := filepath.Join(to, strings.TrimPrefix(path, from))
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(there, 0o755))
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		n := info.Size()
		if filepath.Ext(path) == ".vlog" { // what is written is in the tables
			n = min(n, 1<<16)
		}
		data, err := io.ReadAll(io.NewSectionReader(f, 0, n))
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(there, bytes.TrimRight(data, "\x00"), 0o644), os.Truncate(there, info.Size()))
	})
}

// Files of a killed store, with tables, logs and a manifest, are cut off or garbled at random. Opening either says what is damaged, or
// what is there is an epoch that was committed, whole. Badger alone passes over damaged tables, deletes those that a manifest
// without its end no longer names, and panics on lengths that are garbage.
func TestDamagedFiles(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	defer func() { s.Close() }()
	recoverModel(t, s)
	h := newHistory(s, r)
	var last, refused, older, whole int
	for n := range *damages {
		for range 1 + r.IntN(12) {
			h.step(t, 400_000)
		}
		if r.IntN(8) == 0 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s = open(t, dir); h.is(t, s, "reopened") != uint64(len(h.after)-1) {
				t.Fatal("reopened: an epoch is lost")
			}
			h.s = s
		}
		to := copied(t, dir)
		files, err := filepath.Glob(filepath.Join(to, "badger", []string{"*", "*.mem", "MANIFEST", "*.sst"}[r.IntN(4)]))
		if err != nil {
			t.Fatal(err)
		}
		what := "nothing"
		if n%10 > 0 && len(files) > 0 {
			what = damage(t, r, files[r.IntN(len(files))])
		}
		got, err := Open(Options{Dir: to, Pipeline: "p"})
		var rec Recovered
		if err == nil {
			var m *model
			if m, rec, err = readModel(t, got); err == nil && (rec.Epoch >= uint64(len(h.after)) || !m.equal(h.after[rec.Epoch])) {
				t.Fatalf("seed %d: %s: what is there is not epoch %d", seed, what, rec.Epoch)
			}
			got.Close()
		}
		last = len(h.after) - 1
		switch {
		case err != nil && (what == "nothing" || !strings.Contains(err.Error(), "restore")):
			t.Fatalf("seed %d: %s: %v", seed, what, err)
		case err != nil:
			refused++
		case rec.Epoch == uint64(last):
			whole++
		case what == "nothing":
			t.Fatalf("seed %d: epoch %d of %d after a kill", seed, rec.Epoch, last)
		default:
			older++
		}
		os.RemoveAll(to)
	}
	t.Logf("%d epochs; %d refused, %d an older epoch, %d the last", last, refused, older, whole)
}

// damage cuts a file off at a random place, or garbles some bytes: anywhere among those that are not zero, or near their end.
func damage(t *testing.T, r *rand.Rand, path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := len(data)
	data = bytes.TrimRight(data, "\x00")
	used := len(data)
	back := used
	if r.IntN(2) == 0 {
		back = min(used, 3000)
	}
	at := used - r.IntN(back+1)
	what := fmt.Sprintf("%s cut off at %d of %d", filepath.Base(path), at, used)
	if r.IntN(2) == 0 {
		data, size = data[:at], at
	} else {
		n := 1 + r.IntN(200)
		what = fmt.Sprintf("%s garbled at %d of %d, %d bytes", filepath.Base(path), at, used, n)
		for i := range n {
			if at+i == len(data) {
				data = append(data, 0)
			}
			data[at+i] = byte(r.Uint32())
		}
	}
	if err := errors.Join(os.WriteFile(path, data, 0o644), os.Truncate(path, int64(max(size, len(data))))); err != nil {
		t.Fatal(err)
	}
	return what
}

// A manifest that names a table which Badger removed, because it could not sync the manifest, is taken back to what is there.
func TestManifestNamesWhatWasRemoved(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	defer s.Close()
	recoverModel(t, s)
	h := newHistory(s, r)
	// Before the second table is made, keep the log that it is made from.
	for len(tablesIn(t, dir)) < 1 {
		h.step(t, 400_000)
	}
	before := copied(t, dir)
	epochs := len(h.after) - 1
	made := tablesIn(t, dir)
	for len(tablesIn(t, dir)) < 2 {
		h.step(t, 400_000)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "badger", badger.ManifestFilename))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(before, "badger", badger.ManifestFilename), manifest, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Open(Options{Dir: before, Pipeline: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if n := h.is(t, got, "mended"); n != uint64(epochs) {
		t.Errorf("epoch %d, want %d", n, epochs)
	}
	got.Close()
	// The same without the log: the table was lost otherwise.
	lost := copied(t, dir)
	for _, name := range tablesIn(t, lost) {
		if name != made[0] {
			os.Remove(filepath.Join(lost, "badger", name))
		}
	}
	if _, err := Open(Options{Dir: lost, Pipeline: "p"}); err == nil || !strings.Contains(err.Error(), "restore a backup") {
		t.Errorf("a lost table: %v", err)
	}
}

func tablesIn(t *testing.T, dir string) (names []string) {
	paths, err := filepath.Glob(filepath.Join(dir, "badger", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

// What reading a database before Badger does costs.
func BenchmarkIntact(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "state")
	s, err := Open(Options{Dir: dir, Pipeline: "p"})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Recover(Visitor{}); err != nil {
		b.Fatal(err)
	}
	r, size := rand.New(rand.NewPCG(1, 1)), 0
	for range 100 {
		e := &Epoch{}
		rec := make([]byte, 1<<20)
		for i := range rec {
			rec[i] = byte(r.Uint32())
		}
		e.Put(1, fmt.Append(nil, "key", size), 7, rec)
		if err := s.Commit(e); err != nil {
			b.Fatal(err)
		}
		size += len(rec)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		if err := intact(filepath.Join(dir, "badger")); err != nil {
			b.Fatal(err)
		}
	}
}
