// Package state keeps what a pipeline must not forget in Badger, and is the only package that knows Badger.
//
// The promise: after a crash at any moment Recover gives exactly the state, positions and unsent rows of the last epoch
// whose Commit returned nil, or of one that was being committed at that moment, whole; never part of one.
//
// An epoch is everything that changed since the last one, as one body of bytes cut into pages of at most 256 KiB, written
// in as many synced transactions as it takes; its record, with page counts and a checksum, comes in the last transaction.
// An epoch without a record never happened. Every open raises the run's number, which is part of a page's key, so that the
// pages of an unfinished epoch are never taken for its successor's. Epochs are the log.
//
// Beside the log stand pages of state: the keys of a bucket, whole, each page as of an epoch of its own. A change in the log
// counts for a page if it is of a later epoch. So pages are written one by one, whenever there is a reason to, and the log is
// forgotten up to the last epoch that no page needs any more (Flush).
//
//	dir/TOCSIN                            format and pipeline, JSON; locked while a process uses the state
//	dir/badger                            r                         number of the run
//	                                      c                         epoch up to which the log is not needed
//	                                      e epoch run               record of an epoch
//	                                      p epoch run page          piece of its changes
//	                                      o epoch run page          piece of its outbox
//	                                      k space bucket            a page of state, with the epoch that it is as of
//	                                      l space bucket epoch n    piece n of a long one
//
// Read Store, then Epoch, pages.go, and recover.go. Costs: an epoch of 0.4 MB takes about 2 ms, 2 MB 10 ms, most of it
// waiting; reading a page of 4 KB 3 us.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Format is the version of the layout on disk.
const Format = 2

// FreeMin is how much room the disk of a state must have, in bytes: Badger writes through mmap, and dies of a full disk.
const FreeMin = 256 << 20

const (
	pageMax = 256 << 10 // bytes a page
	txnMax  = 768 << 10 // bytes a transaction, below Badger's limit for the memtables used here
	rowsMax = 5_000     // entries a transaction, likewise
)

// Options say which state to open.
type Options struct {
	Dir      string
	Pipeline string
	Fresh    bool                             // remove what is there first
	Free     func(dir string) (uint64, error) // bytes free; nil: ask the file system
}

// Store is an open state. Its methods are called from one goroutine at a time.
type Store struct {
	opt     Options
	db      *badger.DB
	lock    *os.File
	run     uint64
	epoch   uint64 // the last one written
	through uint64 // the log is not needed up to here
	pending []outbox
	stale   []staleEpoch       // whose records are on disk
	long    map[pieces]version // pages that have pieces
	packed  []byte             // scratch
	failed  error
	hook    func() error // tests: called before each transaction
}

type epochKey struct{ epoch, run uint64 }

// staleEpoch is an epoch whose record and pages are still there.
type staleEpoch struct {
	epochKey
	pages int
}

// outbox is an epoch whose outbox rows are not all acknowledged.
type outbox struct {
	epochKey
	pages int
	end   uint64 // one past its last row's number
}

type marker struct {
	Format   int    `json:"format"`
	Pipeline string `json:"pipeline"`
}

// Open opens or creates a state. It refuses, saying the next step, if another process uses it, it is not writable, the
// disk is nearly full, or it is of another format or another pipeline.
func Open(opt Options) (*Store, error) {
	if opt.Free == nil {
		opt.Free = diskFree
	}
	abs, err := filepath.Abs(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("state %s: %w", opt.Dir, err)
	}
	opt.Dir = abs
	s := &Store{opt: opt, long: map[pieces]version{}}
	if err := s.open(); err != nil {
		s.Close()
		return nil, fmt.Errorf("state %s: %w", abs, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := os.MkdirAll(s.opt.Dir, 0o755); err != nil {
		return fmt.Errorf("cannot be created: %w; choose another folder with `state:` or mend its permissions", err)
	}
	if err := s.room(); err != nil {
		return err
	}
	if err := s.claim(); err != nil {
		return err
	}
	folder := filepath.Join(s.opt.Dir, "badger")
	if err := unmade(folder); err != nil {
		return err
	}
	opts := badger.DefaultOptions(folder).
		WithSyncWrites(true).WithDetectConflicts(false).WithMetricsEnabled(false).WithCompression(options.None).
		WithMemTableSize(6 << 20).WithBaseTableSize(2 << 20).WithNumMemtables(2).WithBlockCacheSize(16 << 20).WithIndexCacheSize(16 << 20).
		WithValueThreshold(512 << 10).WithBlockSize(16 << 10).WithValueLogFileSize(64 << 20).WithNumCompactors(2).WithNumLevelZeroTables(12).WithNumLevelZeroTablesStall(24).
		WithLogger(nil)
	opts.TableSizeMultiplier = 1 // every table is built in memory
	db, err := badger.Open(opts)
	if err != nil {
		return fmt.Errorf("cannot be opened: %w; if it is damaged, start over with --fresh (what is kept there is then lost)", err)
	}
	s.db = db
	return s.raise()
}

// unmade removes logs of Badger that have no byte: a process was killed between making the file and giving it its size. Nothing is in
// them, and Badger refuses to open them.
func unmade(folder string) error {
	files, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	for _, f := range files {
		kind := filepath.Ext(f.Name())
		if info, err := f.Info(); err != nil || kind != ".mem" && kind != ".vlog" || info.Size() > 0 || !info.Mode().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(folder, f.Name())); err != nil {
			return fmt.Errorf("an empty log of a killed run is in the way: %w", err)
		}
	}
	return nil
}

// claim locks the marker and checks what it says, or writes it.
func (s *Store) claim() error {
	path := filepath.Join(s.opt.Dir, "TOCSIN")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if names, _ := os.ReadDir(s.opt.Dir); len(names) > 0 {
			return errors.New("the folder is not empty and is no Tocsin state; choose an empty or new folder with `state:`")
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("is not writable: %w; choose another folder with `state:` or mend its permissions", err)
	}
	s.lock = f
	if err := lockFile(f); err != nil {
		return errors.New("is in use by another process; stop that one, or give this pipeline a `state:` folder of its own")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		var m marker
		switch err := json.Unmarshal(data, &m); {
		case err != nil || m.Format != Format && !s.opt.Fresh:
			return fmt.Errorf("has format %d, this binary reads format %d; use the binary that wrote it, or start over with --fresh (what is kept there is then lost)", m.Format, Format)
		case m.Pipeline != s.opt.Pipeline:
			return fmt.Errorf("belongs to pipeline %q, not %q; give this one another `state:` folder, or its old name back", m.Pipeline, s.opt.Pipeline)
		case !s.opt.Fresh:
			return nil
		}
		if err := os.RemoveAll(filepath.Join(s.opt.Dir, "badger")); err != nil {
			return fmt.Errorf("cannot be removed: %w", err)
		}
	}
	data, _ = json.Marshal(marker{Format, s.opt.Pipeline})
	data = append(data, '\n')
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err != nil {
		return fmt.Errorf("is not writable: %w; choose another folder with `state:`", err)
	}
	return f.Sync()
}

// room refuses to go on when the disk is nearly full.
func (s *Store) room() error {
	free, err := s.opt.Free(s.opt.Dir)
	if err == nil && free < FreeMin {
		return fmt.Errorf("only %d MiB are free on its disk, and %d MiB must be; make room or move the state, then start again: nothing committed is lost",
			free>>20, int64(FreeMin)>>20)
	}
	return nil
}

// raise takes the next run number.
func (s *Store) raise() error {
	return s.update(func(txn *badger.Txn) error {
		v, err := get(txn, []byte("r"))
		if err != nil {
			return err
		}
		if len(v) == 8 {
			s.run = be64(v)
		}
		s.run++
		return txn.Set([]byte("r"), put64(nil, s.run))
	})
}

// Dir is the absolute path of the state.
func (s *Store) Dir() string { return s.opt.Dir }

// Close gives the state back. It does not commit.
func (s *Store) Close() error {
	var err error
	if s.db != nil {
		err = s.db.Close()
		s.db = nil
	}
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
	return err
}

func (s *Store) update(fn func(txn *badger.Txn) error) error {
	if s.hook != nil {
		if err := s.hook(); err != nil {
			return err
		}
	}
	return s.db.Update(fn)
}

func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}
