package state

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// watch is Badger's log, the only place where Badger says what goes wrong in goroutines of its own: flushing and compacting.
// Badger goes on trying for ever there, while commits wait without a word, and may append to a manifest that ends in half a
// record. So who says such a thing is kept waiting, and whoever waits for Badger is told: the process ends.
type watch struct {
	mu     sync.Mutex
	err    error
	broken chan struct{} // closed when Badger cannot go on
}

// grave is how messages begin after which Badger must not go on.
var grave = []string{"writeRequests:", "error flushing memtable", "While running doCompact", "[Compactor: %d] LOG Compact FAILED"}

// Errorf is part of Badger's logger.
func (w *watch) Errorf(format string, args ...any) { w.hear(format, args) }

// Warningf is part of Badger's logger.
func (w *watch) Warningf(format string, args ...any) { w.hear(format, args) }

// Infof is part of Badger's logger.
func (w *watch) Infof(string, ...any) {}

// Debugf is part of Badger's logger.
func (w *watch) Debugf(string, ...any) {}

func (w *watch) hear(format string, args []any) {
	for _, g := range grave {
		if strings.HasPrefix(format, g) {
			w.fail(fmt.Errorf("Badger says: "+strings.TrimSpace(format), args...))
			select {} // it may not try again
		}
	}
	if strings.HasPrefix(format, "Ignoring table") { // and nobody would miss what was in it
		w.mu.Lock()
		w.err = fmt.Errorf("the table %v is damaged", args...)
		w.mu.Unlock()
	}
}

func (w *watch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.broken:
	default:
		w.err = err
		close(w.broken)
	}
}

// heard is what went wrong so far, or nil.
func (w *watch) heard() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// guard waits for something that Badger does, but not for what Badger will never end.
func (w *watch) guard(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-w.broken:
		return w.heard()
	}
}

// How often the disk is looked at while the state is open, and how much may be missing then, in bytes: Badger may be in the
// middle of a compaction, which the look before each epoch knows nothing of.
const (
	lookEvery = 20 * time.Millisecond
	fullMin   = FreeMin / 2
)

// look tells Full when the disk is about to be full.
func (s *Store) look(stop <-chan struct{}) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if free, err := s.opt.Free(s.opt.Dir); err == nil && free < fullMin {
			s.opt.Full(fmt.Errorf("state %s: %w", s.opt.Dir, noRoom(free)))
			return
		}
	}
}
