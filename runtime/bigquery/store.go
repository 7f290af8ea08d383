package bigquery

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// store is what Exact keeps on disk: of each table the stream, its next offset, and the rows of a request that may be under way, and which rows
// of late are in their tables. Without a path it only remembers rows.
//
// It is a log of lines, written before a request leaves and after its answer:
//
//	stream TABLE STREAM          a new stream
//	try TABLE OFFSET ID ID ...   a request is about to leave; on disk before it does
//	done TABLE                   its rows are in the table
//	none TABLE                   they are not
//	some TABLE ID ID ...         these are
//
// When a generation has rowsKept rows the file becomes PATH.1 and another begins with where each table stands, so what is known is what both
// files say. A line without an end, as a crash may leave, was not on disk before its request left, so there was none.
type store struct {
	path string
	disk Disk

	mu     sync.Mutex
	f      *os.File
	torn   bool // a write failed: the next line must not run into what is left of it
	tables map[string]*position
	now    map[string]bool // rows in their tables
	before map[string]bool
	most   int // rows of a generation
}

// position is where a table's stream stands; pending are the rows of a request at next of which nobody knows yet.
type position struct {
	stream  string
	next    int64
	pending []string
}

// Disk is what a system does to files in its own way: Lock takes the only lock on a file, SyncFolder makes the names in a folder durable.
type Disk struct {
	Lock       func(f *os.File) error
	SyncFolder func(path string) error
}

// rowsKept is how many rows a generation has. What comes again is what was under way, or was acknowledged in the last second or so.
const rowsKept = 1 << 18

// Which rows of a request are in the table.
func all(string) bool     { return true }
func nothing(string) bool { return false }

// openStore reads what a store has. With fresh an old one is moved away first.
func openStore(path string, fresh bool, disk Disk) (*store, error) {
	s := &store{path: path, disk: disk, tables: map[string]*position{}, now: map[string]bool{}, before: map[string]bool{}, most: rowsKept}
	if path == "" {
		return s, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.f, err = os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err = s.disk.Lock(s.f); err != nil {
		s.f.Close()
		return nil, fmt.Errorf("%s: another output or process writes this file; give each its own path: %w", path, err)
	}
	if info, err := s.f.Stat(); err == nil && fresh && info.Size() > 0 {
		err = errors.Join(os.Rename(path, path+".old"), remove(s.older()))
		s.f.Close()
		if err != nil {
			return nil, err
		}
		return openStore(path, false, disk)
	}
	if err = s.load(s.older()); err == nil {
		s.before, s.now = s.now, map[string]bool{}
		err = s.load(path)
	}
	s.torn = true
	if err = errors.Join(err, s.disk.SyncFolder(filepath.Dir(path))); err != nil {
		s.f.Close()
		return nil, err
	}
	return s, nil
}

func (s *store) older() string { return s.path + ".1" }

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// load reads a generation on top of the one before.
func (s *store) load(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return err
		}
		s.replay(strings.Split(string(line), " "))
		text = rest
	}
}

// replay takes a line. One that is none says nothing.
func (s *store) replay(words []string) {
	if len(words) < 2 {
		return
	}
	t := s.tables[words[1]]
	switch {
	case words[0] == "stream" && len(words) == 3:
		s.tables[words[1]] = &position{stream: unword.Replace(words[2])}
	case t == nil:
	case words[0] == "try" && len(words) > 2:
		if at, err := strconv.ParseInt(words[2], 10, 64); err == nil {
			t.next, t.pending = at, words[3:]
		}
	case words[0] == "done":
		s.conclude(t, all)
	case words[0] == "none":
		s.conclude(t, nothing)
	case words[0] == "some":
		there := map[string]bool{}
		for _, id := range words[2:] {
			there[id] = true
		}
		s.conclude(t, func(id string) bool { return there[id] })
	}
}

// conclude takes what is known of a request.
func (s *store) conclude(t *position, there func(id string) bool) {
	n := 0
	for _, id := range t.pending {
		if there(id) {
			s.now[id] = true
			n++
		}
	}
	if n == len(t.pending) {
		t.next += int64(n)
	}
	t.pending = nil
}

// position is where a table's stream stands; without a stream there is none yet.
func (s *store) position(table string) position {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tables[word(table)]; t != nil {
		return *t
	}
	return position{}
}

// has says whether a row is in its table, as far as is remembered.
func (s *store) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now[id] || s.before[id]
}

// word is a name as one word of a line.
func word(name string) string {
	return strings.NewReplacer("%", "%25", " ", "%20", "\n", "%0A").Replace(name)
}

var unword = strings.NewReplacer("%20", " ", "%0A", "\n", "%25", "%")

// begin notes a new stream.
func (s *store) begin(table, stream string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.note("stream", word(table), word(stream)); err != nil {
		return err
	}
	s.tables[word(table)] = &position{stream: stream}
	return nil
}

// try notes, on disk, that rows are about to be sent at the table's next offset.
func (s *store) try(table string, ids []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.now) >= s.most {
		if err := s.turn(); err != nil {
			return err
		}
	}
	t := s.tables[word(table)]
	if err := s.note(append([]string{"try", word(table), strconv.FormatInt(t.next, 10)}, ids...)...); err != nil {
		return err
	}
	t.pending = ids
	if s.f == nil {
		return nil
	}
	return s.f.Sync()
}

// settle notes which rows of the table's last request are there.
func (s *store) settle(table string, there func(id string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[word(table)]
	words := []string{"some", word(table)}
	for _, id := range t.pending {
		if there(id) {
			words = append(words, id)
		}
	}
	switch len(words) - 2 {
	case len(t.pending):
		words = []string{"done", word(table)}
	case 0:
		words = []string{"none", word(table)}
	}
	if err := s.note(words...); err != nil {
		return err
	}
	s.conclude(t, there)
	return nil
}

// remember notes rows that are in their tables, in memory alone.
func (s *store) remember(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.now) >= s.most {
		s.before, s.now = s.now, map[string]bool{}
	}
	s.now[id] = true
}

func (s *store) note(words ...string) error {
	if s.f == nil {
		return nil
	}
	line := strings.Join(words, " ") + "\n"
	if s.torn {
		line = "\n" + line
	}
	_, err := s.f.WriteString(line)
	s.torn = err != nil
	return err
}

// turn begins another generation, which says where each table stands before it takes the place of the last one.
func (s *store) turn() (err error) {
	if s.f == nil {
		s.before, s.now = s.now, map[string]bool{}
		return nil
	}
	next, err := os.OpenFile(s.path+".new", os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = next.WriteString(s.standing()); err == nil {
		err = errors.Join(s.disk.Lock(next), next.Sync(), s.f.Sync())
	}
	if err == nil {
		if err = os.Rename(s.path, s.older()); errors.Is(err, os.ErrNotExist) { // a turn that failed halfway
			err = nil
		}
	}
	if err == nil {
		err = errors.Join(os.Rename(next.Name(), s.path), s.disk.SyncFolder(filepath.Dir(s.path)))
	}
	if err != nil {
		next.Close()
		return err
	}
	s.f.Close()
	s.f, s.torn = next, false
	s.before, s.now = s.now, map[string]bool{}
	return nil
}

// standing are the lines of where each table stands.
func (s *store) standing() string {
	var b strings.Builder
	for table, t := range s.tables {
		fmt.Fprintf(&b, "stream %s %s\ntry %s %d", table, word(t.stream), table, t.next)
		for _, id := range t.pending {
			b.WriteString(" " + id)
		}
		if b.WriteByte('\n'); len(t.pending) == 0 {
			fmt.Fprintf(&b, "none %s\n", table)
		}
	}
	return b.String()
}

func (s *store) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		s.f.Close()
		s.f = nil
	}
}
