package pipeline

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// sent remembers the actions of late, in memory or, with a path, also in a journal that survives the process. It is how an action that is
// asked for again, with the company of one that failed or after a crash, is not done again.
//
// The journal has a line an event: `try ID`, on disk before the request leaves, then `done ID` or, if it certainly was not done, `none ID`.
// An id whose try has no outcome is of an action of which nobody knows. What is forgotten is the oldest of two generations; the buffer
// sends again what was under way and what was acknowledged in the last second, which is far less.
type sent struct {
	name string // of the output, for the log
	path string

	mu     sync.Mutex
	now    map[string]outcome
	before map[string]outcome
	f      *os.File
}

type outcome uint8

// What is known of an action.
const (
	untried outcome = iota
	tried
	done
)

// sentMax is how many actions a generation has.
const sentMax = 1 << 16

var outcomeWords = map[string]outcome{"try": tried, "done": done, "none": untried}

// open reads the journal. With fresh an old one is moved away first.
func (s *sent) open(fresh bool, log *service.Logger) (err error) {
	s.now, s.before = map[string]outcome{}, map[string]outcome{}
	if s.path == "" {
		return nil
	}
	if err = os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return err
	}
	if s.f, err = os.OpenFile(s.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err = lockFile(s.f); err != nil {
		return fmt.Errorf("another output or process writes this file; give each its own path: %w", err)
	}
	if info, err := s.f.Stat(); err == nil && fresh && info.Size() > 0 {
		log.Infof("%s: starting over: %s is moved to %s.old", s.name, s.path, s.path)
		if err = errors.Join(os.Rename(s.path, s.path+".old"), remove(s.older())); err != nil {
			return err
		}
		s.f.Close()
		return s.open(false, log)
	}
	if err = load(s.older(), s.before); err == nil {
		err = load(s.path, s.now)
	}
	if err == nil { // a last line that was cut off must not run into the next
		_, err = s.f.WriteString("\n")
	}
	return err
}

func (s *sent) older() string { return s.path + ".1" }

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// load reads a generation. A line that is none, as a crash may leave, says nothing.
func load(path string, into map[string]outcome) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		word, id, ok := strings.Cut(lines.Text(), " ")
		if o, known := outcomeWords[word]; ok && known {
			into[id] = o
		}
	}
	return errors.Join(err, lines.Err())
}

// of says what is known of an action.
func (s *sent) of(id string) outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.now[id]; ok {
		return o
	}
	return s.before[id]
}

// try notes, on disk if there is a journal, that a request is about to leave.
func (s *sent) try(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.note("try", id); err != nil || s.f == nil {
		return err
	}
	return s.f.Sync()
}

// end notes what became of it.
func (s *sent) end(id string, o outcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o == done {
		return s.note("done", id)
	}
	return s.note("none", id)
}

func (s *sent) note(word, id string) error {
	if len(s.now) >= sentMax {
		if err := s.turn(); err != nil {
			return err
		}
	}
	s.now[id] = outcomeWords[word]
	if s.f == nil {
		return nil
	}
	_, err := s.f.WriteString(word + " " + id + "\n")
	return err
}

// turn begins another generation.
func (s *sent) turn() (err error) {
	s.before, s.now = s.now, map[string]outcome{}
	if s.f == nil {
		return nil
	}
	next, err := os.OpenFile(s.path+".new", os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = errors.Join(lockFile(next), s.f.Sync(), os.Rename(s.path, s.older()), os.Rename(next.Name(), s.path), syncFolder(filepath.Dir(s.path))); err != nil {
		next.Close()
		return err
	}
	s.f.Close()
	s.f = next
	return nil
}

func (s *sent) close() {
	if s.f != nil {
		s.f.Close()
		s.f = nil
	}
}
