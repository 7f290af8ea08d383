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
//	                                      q lane epoch run end bytes page   piece of what it gave to a lane of the outbox
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
	pageMax = 15 << 10  // bytes a page: less than a block of a table, since a builder keeps three times the length of one that is more
	txnMax  = 768 << 10 // bytes a transaction, below Badger's limit for the memtables used here
	rowsMax = 5_000     // entries a transaction, likewise
)

// Options say which state to open.
type Options struct {
	Dir      string
	Pipeline string
	Fresh    bool                             // remove what is there first
	Free     func(dir string) (uint64, error) // bytes free; nil: ask the file system
	// Full is told, from a goroutine of its own, that the disk filled up while Badger may be writing to it. Badger dies of a full
	// disk, so whoever is told ends the process. nil: nobody looks between epochs.
	Full func(err error)

	reading bool // nothing of ours is written: Look
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
	lanes   map[uint32]*shelf  // what is on disk of each lane
	places  int                // epochs that a shelf knows by their places
	stale   []staleEpoch       // whose records are on disk
	long    map[pieces]version // pages that have pieces
	packed  []byte             // scratch
	failed  error
	hook    func() error // tests: called before each transaction
	log     watch
	unsure  bool          // a transaction failed in Badger
	server  *server       // answers `tocsin state`, if Serve was called
	copied  string        // the temporary folder of a copy, to be removed
	running bool          // the copy is of a state that another process uses
	stop    chan struct{} // ends the look at the disk
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
	Format    int    `json:"format"`
	Pipeline  string `json:"pipeline"`
	Restoring bool   `json:"restoring,omitempty"` // `state restore` has not ended
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
	s := newStore(opt)
	if err := s.open(); err != nil {
		s.Close()
		return nil, fmt.Errorf("state %s: %w", abs, err)
	}
	return s, nil
}

func newStore(opt Options) *Store {
	return &Store{opt: opt, long: map[pieces]version{}, lanes: map[uint32]*shelf{}, places: shelfMax, log: watch{broken: make(chan struct{})}, stop: make(chan struct{})}
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
	if err := s.openBadger(false); err != nil {
		return err
	}
	if s.opt.Full != nil {
		go s.look(s.stop)
	}
	return s.raise()
}

// openBadger opens the database, after it has looked for damage that Badger passes over or dies of.
func (s *Store) openBadger(readOnly bool) error {
	folder := filepath.Join(s.opt.Dir, "badger")
	if !readOnly {
		if err := unmade(folder); err != nil {
			return err
		}
	}
	if err := intact(folder); err != nil {
		return fmt.Errorf("is damaged: %w; %s", err, mend)
	}
	opts := badger.DefaultOptions(folder).
		WithSyncWrites(true).WithDetectConflicts(false).WithMetricsEnabled(false).WithCompression(options.None).
		WithMemTableSize(6 << 20).WithBaseTableSize(4 << 20).WithBaseLevelSize(256 << 20).WithLevelSizeMultiplier(4).WithNumMemtables(2).WithBlockCacheSize(16 << 20).WithIndexCacheSize(16 << 20).
		WithValueThreshold(512 << 10).WithBlockSize(16 << 10).WithValueLogFileSize(64 << 20).WithNumCompactors(2).WithNumLevelZeroTables(12).WithNumLevelZeroTablesStall(24).
		WithLogger(&s.log).WithReadOnly(readOnly)
	// A table is built in memory, in a piece of twice BaseTableSize, and with 3 MiB for its index, however small it is: larger tables
	// are fewer. Badger keeps eight such pieces and more. One that a memtable with its last transaction does not fit into grows to
	// three times its size and stays so, hence the memtable's size. Two levels below the first, up to 1 GiB, write pages, which come
	// in no order, a third less often than three do.
	opts.TableSizeMultiplier = 1
	if s.opt.reading { // what is only looked at is not tidied up
		opts = opts.WithNumCompactors(0).WithNumLevelZeroTables(1 << 20).WithNumLevelZeroTablesStall(1 << 21)
	}
	opened := make(chan *badger.DB, 1)
	err := s.log.guard(func() error {
		db, err := badger.Open(opts)
		opened <- db
		return err
	})
	if err == nil {
		s.db, err = <-opened, s.log.heard()
	}
	if err != nil {
		return fmt.Errorf("cannot be opened: %w; if its disk is full or fails, see to that first; %s", err, mend)
	}
	return nil
}

// mend is the next step when a state is damaged.
const mend = "if it is damaged, restore a backup with `tocsin state restore`, or start over with --fresh (what is kept there is then lost)"

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
	path := filepath.Join(s.opt.Dir, markerName)
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
		if json.Unmarshal(data, &m) != nil {
			m = marker{}
		} else if s.opt.Fresh {
			m.Format, m.Restoring = Format, false
		}
		if err := m.fits(s.opt.Pipeline); err != nil || !s.opt.Fresh {
			return err
		}
		if err := os.RemoveAll(filepath.Join(s.opt.Dir, "badger")); err != nil {
			return fmt.Errorf("cannot be removed: %w", err)
		}
	}
	data, _ = json.Marshal(marker{Format: Format, Pipeline: s.opt.Pipeline})
	data = append(data, '\n')
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err != nil {
		return fmt.Errorf("is not writable: %w; choose another folder with `state:`", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot be written: %w; see to its disk, then start again", err)
	}
	return nil
}

// room refuses to go on when the disk is nearly full.
func (s *Store) room() error {
	free, err := s.opt.Free(s.opt.Dir)
	if err == nil && free < FreeMin {
		return noRoom(free)
	}
	return nil
}

func noRoom(free uint64) error {
	return fmt.Errorf("only %d MiB are free on its disk, and %d MiB must be; make room or move the state, then start again: nothing committed is lost",
		free>>20, int64(FreeMin)>>20)
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

// Close gives the state back. It does not commit. After Badger or its disk failed it leaves the database as a kill would: closing
// writes what is in memory, which may never end, or kill the process on a full disk.
func (s *Store) Close() error {
	var err error
	if s.server != nil {
		s.server.close()
		s.server = nil
	}
	if s.stop != nil {
		close(s.stop)
		s.stop = nil
	}
	if s.db != nil {
		if free, freeErr := s.opt.Free(s.opt.Dir); !s.unsure && s.log.heard() == nil && (freeErr != nil || free >= closeMin) {
			err = s.log.guard(s.db.Close)
		}
		s.db = nil
	}
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
	if s.copied != "" {
		err = errors.Join(err, os.RemoveAll(s.copied))
	}
	return err
}

// closeMin is how much room closing the database may take, in bytes: its memtables become tables.
const closeMin = 64 << 20

// update runs a transaction; one that is only looked at takes none.
func (s *Store) update(fn func(txn *badger.Txn) error) error {
	if s.opt.reading {
		return nil
	}
	if s.hook != nil {
		if err := s.hook(); err != nil {
			return err
		}
	}
	if err := s.log.guard(func() error { return s.db.Update(fn) }); err != nil {
		s.unsure = true
		return fmt.Errorf("cannot be written: %w; see to its disk, then start again: nothing committed is lost", err)
	}
	return nil
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
