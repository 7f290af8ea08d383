package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// Look opens a state to Recover from it and nothing else; the state stays as it is. If a process uses it, that process is asked for a
// copy, as of its last commit, which lies in a temporary folder until Close: reading it here costs that process no memory, and no
// commit waits.
func Look(opt Options) (*Store, error) {
	lock, err := claimToRead(&opt)
	if err == nil && lock != nil {
		return lookAt(opt, lock)
	}
	var s *Store
	if err == nil {
		s, err = receive(opt)
	}
	if err != nil {
		return nil, fmt.Errorf("state %s: %w", opt.Dir, err)
	}
	return s, nil
}

// Running says whether the state that is looked at is used by another process.
func (s *Store) Running() bool { return s.running }

// claimToRead makes opt.Dir absolute and locks a state without changing it; no lock and no error: a process uses it.
func claimToRead(opt *Options) (lock *os.File, err error) {
	if opt.Free == nil {
		opt.Free = diskFree
	}
	if opt.Dir, err = filepath.Abs(opt.Dir); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(opt.Dir, markerName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("there is none; the pipeline has not run yet, or from another working directory")
	}
	if err != nil {
		return nil, err
	}
	if lockFile(f) != nil {
		f.Close()
		return nil, nil
	}
	m, err := readMarker(f.Name())
	if err == nil {
		err = m.fits(opt.Pipeline)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lookAt(opt Options, lock *os.File) (*Store, error) {
	opt.reading = true
	s := newStore(opt)
	s.lock = lock
	err := s.openToRead()
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("state %s: %w", opt.Dir, err)
	}
	return s, nil
}

// openToRead opens the database without writing, if it was closed; after a kill Badger first has to turn its logs into tables.
func (s *Store) openToRead() error {
	logs, err := filepath.Glob(filepath.Join(s.opt.Dir, "badger", "*.mem"))
	if err != nil {
		return err
	}
	if len(logs) == 0 {
		return s.openBadger(true)
	}
	if free, err := s.opt.Free(s.opt.Dir); err == nil && free < closeMin {
		return fmt.Errorf("only %d MiB are free on its disk, and %d MiB must be to read what a kill left; make room, or move the folder to another disk", free>>20, closeMin>>20)
	}
	return s.openBadger(false)
}

// receive asks the process that uses a state for a copy.
func receive(opt Options) (*Store, error) {
	from, err := ask(opt.Dir)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	folder, err := os.MkdirTemp("", "tocsin-state-")
	if err != nil {
		return nil, err
	}
	opt.Dir = folder
	to := newStore(opt)
	to.copied = folder
	info, err := to.fill(from, nil)
	switch {
	case errors.Is(err, errNoBackup) || errors.Is(err, errTornBackup):
		err = errCutOff
	case err != nil:
		err = fmt.Errorf("the copy of what a running process keeps: %w; it goes to the folder that TMPDIR names", err)
	default:
		err = (&marker{Format: info.Format, Pipeline: info.Pipeline}).fits(opt.Pipeline)
	}
	if err != nil {
		to.Close()
		return nil, err
	}
	to.opt.reading, to.running = true, true
	return to, nil
}

// fill opens an empty database and loads a backup into it.
func (s *Store) fill(from io.Reader, progress func(bytes uint64)) (info BackupInfo, err error) {
	if err := s.room(); err != nil {
		return info, err
	}
	if err := os.MkdirAll(s.opt.Dir, 0o755); err != nil {
		return info, err
	}
	if err := s.openBadger(false); err != nil {
		return info, err
	}
	txn, done := s.db.NewTransaction(true), uint64(0)
	defer func() { txn.Discard() }()
	commit := func() error {
		if err := s.room(); err != nil {
			return err
		}
		if err := s.log.guard(txn.Commit); err != nil {
			s.unsure = true
			return err
		}
		txn = s.db.NewTransaction(true)
		if progress != nil {
			progress(done)
		}
		return nil
	}
	info, err = readBackup(from, func(key, value []byte) error {
		key, value = slices.Clone(key), append([]byte{}, value...)
		err := txn.Set(key, value)
		if errors.Is(err, badger.ErrTxnTooBig) {
			if err = commit(); err == nil {
				err = txn.Set(key, value)
			}
		}
		done += uint64(len(key) + len(value))
		return err
	})
	if err == nil {
		err = commit()
	}
	return info, err
}

// markerName is the file that says whose a state is.
const markerName = "TOCSIN"

func readMarker(path string) (m marker, err error) {
	data, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(data, &m) != nil {
		m = marker{}
	}
	return m, err
}

// fits says why a state cannot be used by this binary for a pipeline.
func (m *marker) fits(pipeline string) error {
	switch {
	case m.Restoring:
		return errors.New("holds half of a restore that was interrupted; restore it again with `tocsin state restore --force`, or start over with --fresh")
	case m.Format != Format:
		return fmt.Errorf("has format %d, this binary reads format %d; use the binary that wrote it, or start over with --fresh (what is kept there is then lost)", m.Format, Format)
	case m.Pipeline != pipeline:
		return fmt.Errorf("belongs to pipeline %q, not %q; give this one another `state:` folder, or its old name back", m.Pipeline, pipeline)
	}
	return nil
}

// copyReader is a backup on its way, from a socket or made here.
type copyReader struct {
	io.Reader
	close func() error
	err   chan error // of the maker
}

func (c *copyReader) Close() error { return c.close() }

// failure is why the maker stopped, once everything was read.
func (c *copyReader) failure() error {
	select {
	case err := <-c.err:
		return err
	default:
		return nil
	}
}

// openCopy begins to read the backup of a state, which may be in use.
func openCopy(opt *Options) (*copyReader, error) {
	lock, err := claimToRead(opt)
	if err != nil {
		return nil, fmt.Errorf("state %s: %w", opt.Dir, err)
	}
	if lock == nil {
		from, err := ask(opt.Dir)
		if err != nil {
			return nil, fmt.Errorf("state %s: %w", opt.Dir, err)
		}
		return &copyReader{from, from.Close, nil}, nil
	}
	s, err := lookAt(*opt, lock)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	made := make(chan error, 1)
	go func() {
		err := s.writeBackup(w)
		if err != nil {
			made <- err
		}
		w.CloseWithError(errors.Join(err, s.Close()))
	}()
	return &copyReader{r, r.Close, made}, nil
}

// InUse says whether a process uses the state.
func InUse(opt Options) (bool, error) {
	lock, err := claimToRead(&opt)
	if err != nil {
		return false, fmt.Errorf("state %s: %w", opt.Dir, err)
	}
	if lock == nil {
		return true, nil
	}
	return false, lock.Close()
}
