package pipeline

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// collector stands for the engine behind a following input: it takes blocks, commits now and then what it has taken, and forgets the
// rest when it starts again.
type collector struct {
	t         testing.TB
	conf      string
	in        *fileLines
	stop      func()
	lines     []string // committed
	positions map[string]Position

	taken []string // since the last commit
	next  map[string]Position
	after []func()
	marks map[string][]event.Mark
}

func collected(t testing.TB, conf string) *collector {
	c := &collector{t: t, conf: "follow: true\npoll_interval: 10ms\n" + conf, positions: map[string]Position{}}
	c.start()
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *collector) start() {
	parsed, err := fileLinesSpec().ParseYAML(c.conf, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	in, err := newFileLines(parsed, service.MockResources())
	if err != nil {
		c.t.Fatal(err)
	}
	in.link.detect = true
	in.link.opened(maps.Clone(c.positions), nil)
	if err := in.Connect(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.in, c.next, c.taken, c.after, c.marks = in, maps.Clone(c.positions), nil, nil, map[string][]event.Mark{}
	c.stop = func() {
		if err := in.Close(context.Background()); err != nil {
			c.t.Error(err)
		}
	}
}

// restart is a crash: what is not committed is forgotten.
func (c *collector) restart() {
	c.stop()
	c.start()
}

// take takes a block, if one comes within a moment.
func (c *collector) take(wait time.Duration) bool {
	ctx, done := context.WithTimeout(context.Background(), wait)
	defer done()
	batch, _, err := c.in.ReadBatch(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if err != nil {
		c.t.Fatal(err)
	}
	v, _ := batch[0].AsStructured()
	b := v.(*event.Block)
	if !b.Live {
		c.t.Fatalf("%s is not live", b.Partition)
	}
	pos, known := c.next[b.Partition]
	if b.Mark == event.Announce && !known {
		pos.Offset = b.From
	} else if len(c.marks[b.Partition]) == 0 && b.Mark != event.Announce {
		c.t.Fatalf("%s was not announced", b.Partition)
	}
	if b.Mark != event.NoMark {
		c.marks[b.Partition] = append(c.marks[b.Partition], b.Mark)
	}
	for i, l := range b.Lines {
		if l.Off < pos.Offset {
			c.t.Fatalf("%s: line at %d after %d", b.Partition, l.Off, pos.Offset)
		}
		pos.Offset = l.Next
		text := string(b.Line(i))
		if l.Fault != "" {
			text = "!" + l.Fault + " " + text
		}
		c.taken = append(c.taken, text)
	}
	pos.Origin = b.Origin
	c.next[b.Partition] = pos
	if b.Committed != nil {
		c.after = append(c.after, b.Committed)
	}
	b.Release()
	return true
}

func (c *collector) commit() {
	c.positions, c.lines, c.taken = maps.Clone(c.next), append(c.lines, c.taken...), nil
	for _, f := range c.after {
		f()
	}
	c.after = nil
}

// until takes and commits until something holds.
func (c *collector) until(what string, holds func() bool) {
	c.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !holds(); {
		if !c.take(20*time.Millisecond) && time.Now().After(end) {
			c.t.Fatalf("never: %s; there are %d lines, the last %q", what, len(c.lines), c.lines[max(0, len(c.lines)-5):])
		}
		c.commit()
	}
}

// quiet takes what comes for a while.
func (c *collector) quiet() {
	for c.take(100 * time.Millisecond) {
	}
	c.commit()
}

func (c *collector) want(lines ...string) {
	c.t.Helper()
	c.until(fmt.Sprintf("%q", lines), func() bool { return len(c.lines) >= len(lines) })
	if !slices.Equal(c.lines, lines) {
		c.t.Fatalf("got %q, want %q", c.lines, lines)
	}
}

func add(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	t.Chdir(t.TempDir())
	c := collected(t, "paths: [log*]\nquiet_after: 300ms\nmax_line: 100")
	add(t, "log", "1\n2\nhal")
	c.want("1", "2")
	c.quiet()
	c.want("1", "2") // the half waits
	add(t, "log", "f\n")
	c.want("1", "2", "half")
	c.restart()
	add(t, "log", "4\n")
	c.want("1", "2", "half", "4")
	os.Rename("log", "log.1")
	add(t, "log.1", "5\nlast") // its writer has not noticed yet
	add(t, "log", "new\n")
	c.until("both", func() bool { return len(c.lines) == 7 })
	if got := slices.Sorted(slices.Values(c.lines[4:])); !slices.Equal(got, []string{"5", "last", "new"}) {
		t.Fatalf("got %q", c.lines)
	}
	if len(c.marks) != 2 || c.marks["log#0"] == nil || c.marks["log#1"] == nil {
		t.Errorf("partitions %v", c.marks)
	}
	c.lines = nil
	add(t, "log", strings.Repeat("x", 150)) // too long, and in two parts
	c.quiet()
	add(t, "log", "yyy\nshort\n")
	c.want("!line_too_long "+strings.Repeat("x", 150)+"yyy", "short")
	c.lines = nil
	os.Truncate("log", 0)
	add(t, "log", "again\n")
	c.want("again")
	if c.marks["log#2"] == nil {
		t.Errorf("partitions %v", c.marks)
	}
}

// Of a half line that is gone with a truncated file an error row says so.
func TestFollowTruncatedHalf(t *testing.T) {
	t.Chdir(t.TempDir())
	c := collected(t, "paths: [log]")
	add(t, "log", "1\nhal")
	c.want("1")
	c.quiet()
	put(t, "log", "2\n")
	c.want("1", "!truncated hal", "2")
}

// A file that was truncated has grown beyond its old end by the next look: its beginning tells.
func TestFollowTruncatedAndGrown(t *testing.T) {
	t.Chdir(t.TempDir())
	c := collected(t, "paths: [log]")
	add(t, "log", "a1\na2\n")
	c.want("a1", "a2")
	put(t, "log", "b1\nb2\nb3\n")
	c.want("a1", "a2", "b1", "b2", "b3")
	c.stop()
	put(t, "log", "c1\nc2\nc3\nc4\n")
	c.start()
	c.want("a1", "a2", "b1", "b2", "b3", "c1", "c2", "c3", "c4")
}

func TestFollowStartsAtTheEnd(t *testing.T) {
	t.Chdir(t.TempDir())
	add(t, "log", "old\nhal")
	c := collected(t, "paths: [log*]\nstart: end")
	c.quiet()
	c.restart() // the end is that of the first start
	add(t, "log", "f\n")
	add(t, "log2", "new\n")
	c.until("both", func() bool { return len(c.lines) == 2 })
	if got := slices.Sorted(slices.Values(c.lines)); !slices.Equal(got, []string{"half", "new"}) {
		t.Errorf("got %q", got)
	}
	c.stop()
	add(t, "log3", "later\n")
	c.start()
	c.until("log3", func() bool { return len(c.lines) == 3 })
}

// Files that have not changed since the time are skipped, at every start, until they change; then they are read whole.
func TestFileLinesStartAtATime(t *testing.T) {
	t.Chdir(t.TempDir())
	old := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	put(t, "old.log", "old\n")
	put(t, "old.log.gz", gz("older\n"))
	put(t, "new.log", "1\n")
	put(t, "just.log", "just\n")
	age := func() {
		for path, at := range map[string]time.Time{"old.log": old.Add(-time.Millisecond), "old.log.gz": old.Add(-time.Hour), "just.log": old} {
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	age()
	conf := "paths: ['*.log*']\nstart: 2026-01-01T00:00:00Z\n"
	first := readLines(t, openLines(t, conf, nil))
	if len(first) != 2 || textsOf(first["new.log#0"]) != "1" || textsOf(first["just.log#0"]) != "just" {
		t.Errorf("%v", first)
	}
	// What was begun is gone on with, however old it is.
	os.Chtimes("new.log", old.Add(-time.Hour), old.Add(-time.Hour))
	if again := readLines(t, openLines(t, conf, positionsOf(first))); len(again) != 2 {
		t.Errorf("%v", again)
	}
	if none := readLines(t, openLines(t, "paths: [old.log]\nstart: 2026-01-01T00:00:00Z", nil)); len(none) != 0 {
		t.Errorf("%v", none)
	}
	c := collected(t, conf+"quiet_after: 0s")
	c.until("two", func() bool { return len(c.lines) == 1 })
	c.quiet()
	c.restart()
	c.quiet()
	c.want("just")
	add(t, "old.log", "grown\n")
	c.want("just", "old", "grown")
}

// A file that is deleted is read to its end, and one of the same name is another.
func TestFollowDeleted(t *testing.T) {
	t.Chdir(t.TempDir())
	c := collected(t, "paths: [log]\nquiet_after: 200ms")
	f, err := os.Create("log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString("1\n")
	c.want("1")
	os.Remove("log")
	f.WriteString("2\n3")
	c.want("1", "2", "3")
	add(t, "log", "4\n")
	c.want("1", "2", "3", "4")
	if c.marks["log#1"] == nil {
		t.Errorf("%v", c.marks)
	}
}

func TestFollowCompressed(t *testing.T) {
	t.Chdir(t.TempDir())
	c := collected(t, "paths: [log*]\nquiet_after: 100ms\non_finished: move\nmove_to: done/old")
	add(t, "log", "live\n")
	put(t, "log.gz", gz("1\n2\n"))
	c.until("all", func() bool { return len(c.lines) == 3 })
	c.until("moved", func() bool { _, err := os.Stat("done/old/log.gz"); return err == nil })
	put(t, "log.gz", gz("3\n"))
	c.until("moved again", func() bool { _, err := os.Stat("done/old/log.gz.1"); return err == nil })
	put(t, "log.2.gz", gz("x\n")[:10])
	c.until("the damage", func() bool { return strings.HasPrefix(c.lines[len(c.lines)-1], "!truncated") })
	c.quiet()
	if _, err := os.Stat("log.2.gz"); err != nil || len(c.lines) != 5 {
		t.Errorf("%v: %q", err, c.lines)
	}
	if _, err := os.Stat("log"); err != nil {
		t.Error("a file that may grow is gone")
	}
}

// Without follow a file is deleted when its lines are committed, unless it has grown.
func TestOnFinished(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"a", "b"} {
		put(t, name, "1\n")
	}
	put(t, "c.gz", gz("1\n")[:9])
	in := openLines(t, "paths: [a, b, c.gz]\non_finished: delete", nil)
	var committed []func()
	for b := nextBlock(t, in); b != nil; b = nextBlock(t, in) {
		if b.Committed != nil {
			committed = append(committed, b.Committed)
		}
		b.Release()
	}
	add(t, "b", "2\n")
	if _, err := os.Stat("a"); err != nil {
		t.Fatal("a is gone before the commit")
	}
	for _, f := range committed {
		f()
	}
	left, _ := filepath.Glob("*")
	if !slices.Equal(left, []string{"b", "c.gz"}) {
		t.Errorf("left are %v", left)
	}
}

var tortures = flag.Int("tortures", 1, "how many times as long logs are tortured; from 2 on also 10 000 of them that are followed at once")

// tortured is a log whose writer does what writers do.
type tortured struct {
	path    string
	n       int // lines written
	rotated int
	half    string // the line that has begun
}

// form is how the lines of tortured logs are written and read.
type form struct {
	conf   string
	more   string // what else a line has: a second line
	encode func(string) string
}

var forms = map[string]form{
	"lines":   {encode: func(s string) string { return s }},
	"records": {conf: "\nmultiline: { start: '^f', flush_after: 50ms }", more: "\n\tgoes on", encode: func(s string) string { return s }},
	"utf-16":  {conf: "\nencoding: utf-16be", encode: func(s string) string { return string(encodeUTF16(s, true)) }},
}

// Lines of many files come exactly once, while they are written, rotated, truncated and deleted and the reader starts again at
// random, as a multiset for each file against what was written. Copies and truncations and deletions wait until everything before
// is committed: what is gone before anybody has read it, nobody can read.
func TestFollowTorture(t *testing.T) {
	for name, f := range forms {
		t.Run("3 files of "+name, func(t *testing.T) { torture(t, 3, 250**tortures, f) })
	}
	t.Run("1000", func(t *testing.T) { torture(t, 1000, 600**tortures, forms["lines"]) })
	if *tortures > 1 {
		t.Run("10000", func(t *testing.T) { torture(t, 10_000, 60**tortures, forms["records"]) })
	}
}

func torture(t *testing.T, files, steps int, form form) {
	t.Chdir(t.TempDir())
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 7))
	logs := make([]*tortured, files)
	want, written := map[string]int{}, 0
	put := func(x *tortured, path string, whole bool) {
		line := fmt.Sprintf("%s line %d %s", x.path, x.n, strings.Repeat("z", rnd.IntN(40)))
		x.n++
		if !whole {
			x.half = line
			add(t, path, form.encode(line))
			return
		}
		want[line+form.more]++
		written++
		add(t, path, form.encode(line+form.more+"\n"))
	}
	end := func(x *tortured) {
		if x.half != "" {
			want[x.half+form.more]++
			written++
			add(t, x.path, form.encode(form.more+"\n"))
			x.half = ""
		}
	}
	for i := range logs {
		logs[i] = &tortured{path: fmt.Sprintf("f%d.log", i)}
		put(logs[i], logs[i].path, true)
	}
	c := collected(t, "paths: ['f*.log*']\nquiet_after: 500ms"+form.conf)
	all := func() {
		t.Helper()
		c.until(fmt.Sprintf("%d lines", written), func() bool { return len(c.lines) >= written })
	}
	for range steps {
		x := logs[rnd.IntN(min(files, 20))]
		switch rnd.IntN(20) {
		case 0: // renamed; the writer may still write to it; a half line stays one
			to := fmt.Sprintf("%s.%d", x.path, x.rotated)
			if x.half != "" {
				all() // what is first seen under the new name may still grow, so its half line would wait
			}
			if os.Rename(x.path, to) == nil {
				x.rotated++
				if x.half != "" {
					want[x.half]++
					written++
				} else if rnd.IntN(2) == 0 {
					put(x, to, true)
				}
				x.half = ""
			}
			put(x, x.path, true)
		case 1: // copied and truncated
			end(x)
			all()
			if err := os.Truncate(x.path, 0); err != nil {
				t.Fatal(err)
			}
			for range 1 + rnd.IntN(5) {
				put(x, x.path, true)
			}
		case 2: // deleted
			end(x)
			all()
			os.Remove(x.path)
			put(x, x.path, true)
		case 3:
			c.restart()
		case 4, 5:
			if x.half == "" {
				put(x, x.path, false)
			}
		default:
			end(x)
			for range rnd.IntN(4) {
				put(x, x.path, true)
			}
		}
		for range rnd.IntN(6) {
			c.take(time.Duration(rnd.IntN(3)+1) * time.Millisecond)
		}
		if rnd.IntN(3) == 0 {
			c.commit()
		}
	}
	for _, x := range logs {
		end(x)
	}
	all()
	c.quiet()
	wantLines(t, c.lines, want)
}

// wantLines compares lines as a multiset.
func wantLines(t *testing.T, lines []string, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, line := range lines {
		got[line]++
	}
	for line, n := range want {
		if got[line] != n {
			t.Errorf("%d times %q, want %d", got[line], line, n)
		}
	}
	for line := range got {
		if want[line] == 0 {
			t.Errorf("not written: %q", line)
		}
	}
}

// Ten thousand files in a bounded run that is broken off again and again: each line once, with no more files open than may be.
func TestFileLinesTenThousand(t *testing.T) {
	t.Chdir(t.TempDir())
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 8))
	want := map[string]int{}
	for i := range 10_000 {
		var text bytes.Buffer
		for n := range 1 + rnd.IntN(3) {
			line := fmt.Sprintf("file %d line %d", i, n)
			want[line]++
			text.WriteString(line + "\n")
		}
		if rnd.IntN(1000) == 0 {
			for n := range 3000 {
				line := fmt.Sprintf("file %d further line %d", i, n)
				want[line]++
				text.WriteString(line + "\n")
			}
		}
		put(t, fmt.Sprintf("%d.log", i), text.String())
	}
	var lines []string
	positions := map[string]Position{}
	for run := 0; ; run++ {
		in := openLines(t, "paths: ['*.log']", positions)
		next, taken, ended := maps.Clone(positions), []string(nil), false
		for n := 12_000 + rnd.IntN(8_000); n > 0 || run == 3; n-- {
			b := nextBlock(t, in)
			if b == nil {
				ended = true
				break
			}
			pos := next[b.Partition]
			for i, l := range b.Lines {
				taken, pos.Offset = append(taken, string(b.Line(i))), l.Next
			}
			pos.Origin = b.Origin
			next[b.Partition] = pos
			if len(in.slots) > openLimit {
				t.Fatalf("%d files are open", len(in.slots))
			}
			b.Release()
			if rnd.IntN(3000) == 0 { // a commit
				positions, lines, taken = maps.Clone(next), append(lines, taken...), nil
			}
		}
		if err := in.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ended {
			lines = append(lines, taken...)
			break
		}
	}
	wantLines(t, lines, want)
}
