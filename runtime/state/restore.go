package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Restored says what a Restore did.
type Restored struct {
	BackupInfo
	Aside string // where the state went that was there, or ""
}

// Restore makes opt.Dir the state that a backup holds. If there is a state already it refuses, or, with force, moves that into a
// folder inside opt.Dir, which may be a disk of its own. The backup is read to its end before anything is touched, and what was there
// comes back if loading fails. progress is told bytes and what there is of them; nil: nobody.
func Restore(opt Options, file string, force bool, progress func(done, all uint64)) (Restored, error) {
	r := restore{opt: opt, file: file, force: force, progress: progress}
	err := r.run()
	if r.lock != nil {
		r.lock.Close()
	}
	if err != nil {
		return r.out, fmt.Errorf("restore %s: %w", file, err)
	}
	return r.out, nil
}

type restore struct {
	opt      Options
	file     string
	force    bool
	progress func(done, all uint64)
	out      Restored
	lock     *os.File
	was      []byte // the marker that was there
}

func (r *restore) run() (err error) {
	if r.opt.Free == nil {
		r.opt.Free = diskFree
	}
	if r.opt.Dir, err = filepath.Abs(r.opt.Dir); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	if err := r.claim(); err != nil {
		return fmt.Errorf("state %s: %w", r.opt.Dir, err)
	}
	if err = r.load(); err != nil {
		return errors.Join(err, r.undo())
	}
	return r.mark(marker{Format: r.out.Format, Pipeline: r.out.Pipeline})
}

// check reads the whole backup.
func (r *restore) check() error {
	f, err := os.Open(r.file)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer f.Close()
	if r.out.BackupInfo, err = readBackup(f, func([]byte, []byte) error { return nil }); err != nil {
		return err
	}
	if r.out.Pipeline != r.opt.Pipeline {
		return fmt.Errorf("it is of pipeline %q, not %q; restore it with that one", r.out.Pipeline, r.opt.Pipeline)
	}
	return nil
}

func (r *restore) badger() string { return filepath.Join(r.opt.Dir, "badger") }

// claim locks the folder, marks it as half restored, and moves aside what is there. In this order a kill leaves a folder that no run
// takes for a whole state.
func (r *restore) claim() error {
	if err := os.MkdirAll(r.opt.Dir, 0o755); err != nil {
		return err
	}
	need := FreeMin + 2*r.out.Bytes
	if free, err := r.opt.Free(r.opt.Dir); err == nil && free < need {
		return fmt.Errorf("only %d MiB are free on its disk, and %d MiB must be; make room first", free>>20, need>>20)
	}
	path := filepath.Join(r.opt.Dir, markerName)
	m, err := readMarker(path)
	there := err == nil
	if names, _ := os.ReadDir(r.opt.Dir); !there && len(names) > 0 {
		return errors.New("the folder is not empty and is no Tocsin state; choose an empty or new folder with `state:`")
	}
	if r.lock, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return fmt.Errorf("is not writable: %w; choose another folder with `state:` or mend its permissions", err)
	}
	if lockFile(r.lock) != nil {
		return errors.New("is in use by another process; stop that one first")
	}
	switch {
	case !there:
		return r.mark(marker{Format: r.out.Format, Pipeline: r.out.Pipeline, Restoring: true})
	case !r.force:
		return errors.New("there is a state already; add --force to move it aside")
	case m.Restoring:
		return os.RemoveAll(r.badger())
	}
	return r.moveAside(path)
}

func (r *restore) moveAside(path string) (err error) {
	if r.was, err = os.ReadFile(path); err != nil {
		return err
	}
	for n := 1; ; n++ {
		r.out.Aside = filepath.Join(r.opt.Dir, fmt.Sprint("old.", n))
		if err = os.Mkdir(r.out.Aside, 0o755); !errors.Is(err, os.ErrExist) {
			break
		}
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(r.out.Aside, markerName), r.was, 0o644)
	}
	if err == nil {
		err = r.mark(marker{Format: r.out.Format, Pipeline: r.out.Pipeline, Restoring: true})
	}
	if err == nil {
		err = os.Rename(r.badger(), filepath.Join(r.out.Aside, "badger"))
	}
	if err != nil {
		return errors.Join(err, r.undo())
	}
	return errors.Join(syncFolder(r.out.Aside), syncFolder(r.opt.Dir))
}

// load fills the database from the backup.
func (r *restore) load() error {
	f, err := os.Open(r.file)
	if err != nil {
		return err
	}
	defer f.Close()
	s := newStore(r.opt)
	_, err = s.fill(io.Reader(f), func(done uint64) {
		if r.progress != nil {
			r.progress(done, r.out.Bytes)
		}
	})
	return errors.Join(err, s.Close())
}

// undo puts back what was there.
func (r *restore) undo() error {
	if r.was == nil {
		return errors.Join(os.RemoveAll(r.badger()), os.Remove(filepath.Join(r.opt.Dir, markerName)))
	}
	aside := filepath.Join(r.out.Aside, "badger")
	if _, err := os.Stat(aside); err == nil {
		if err := errors.Join(os.RemoveAll(r.badger()), os.Rename(aside, r.badger())); err != nil {
			return fmt.Errorf("and what was there is in %s: %w", r.out.Aside, err)
		}
	}
	return errors.Join(r.write(r.was), os.RemoveAll(r.out.Aside))
}

func (r *restore) mark(m marker) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return r.write(append(data, '\n'))
}

// write replaces the marker in place: it is what is locked.
func (r *restore) write(data []byte) error {
	if _, err := r.lock.WriteAt(data, 0); err != nil {
		return err
	}
	return errors.Join(r.lock.Truncate(int64(len(data))), r.lock.Sync(), syncFolder(r.opt.Dir))
}
