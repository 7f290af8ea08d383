package table

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Source has the newest table of a file.
type Source struct {
	Name  string
	Every time.Duration // how often to see whether the file has changed; 0: never
	spec  Spec
	table atomic.Pointer[Table]

	mu   sync.Mutex
	file os.FileInfo // as it was when it was read last, well or not
}

// NewSource reads a table.
func NewSource(name string, spec Spec) (*Source, error) {
	s := &Source{Name: name, spec: spec}
	s.file, _ = os.Stat(spec.Path)
	t, err := Read(spec)
	if err != nil {
		return nil, err
	}
	s.spec.Columns = slices.Clone(t.columns)
	s.table.Store(t)
	return s, nil
}

// Table is the newest one.
func (s *Source) Table() *Table { return s.table.Load() }

// Changed says whether the file is another than the one that was read last, or has another length or time.
func (s *Source) Changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	is, err := os.Stat(s.spec.Path)
	was := s.file
	if err != nil || was == nil {
		return (err != nil) != (was == nil)
	}
	return !os.SameFile(is, was) || is.Size() != was.Size() || !is.ModTime().Equal(was.ModTime())
}

// Reload reads the file again, with the columns that it had, and puts its table in the place of the old one, which stays if there
// is an error.
func (s *Source) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, _ = os.Stat(s.spec.Path)
	t, err := Read(s.spec)
	if err == nil {
		s.table.Store(t)
	}
	return err
}
