package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// collecting connects a file_lines without a detect buffer.
func collecting(t *testing.T, conf string) *fileLines {
	t.Helper()
	parsed, err := fileLinesSpec().ParseYAML(conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := newFileLines(parsed, service.MockResources())
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Connect(t.Context()); err != nil {
		t.Fatal(in.link.run.Failure())
	}
	return in
}

// taken is a batch that waits for its acknowledgement.
type taken struct {
	lines []string // position and text
	ack   service.AckFunc
}

// nextTaken reads a batch; false: there is none for now, or none any more.
func nextTaken(t *testing.T, in *fileLines, wait time.Duration) (b taken, ok bool) {
	t.Helper()
	ctx, done := context.WithTimeout(context.Background(), wait)
	defer done()
	batch, ack, err := in.ReadBatch(ctx)
	if errors.Is(err, service.ErrEndOfInput) || errors.Is(err, context.DeadlineExceeded) {
		return b, false
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range batch {
		text, _ := m.AsBytes()
		at, _ := m.MetaGet("position")
		b.lines = append(b.lines, at+" "+string(text))
	}
	b.ack = ack
	return b, true
}

// Acknowledgements come in any order, some never, and runs end with or without a word: no line is lost, none comes again behind one
// that was acknowledged in order before a run that ended well, and all come once if all ends well.
func TestPositions(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 5))
	for round := range 20 {
		t.Chdir(t.TempDir())
		want := map[string]int{}
		files := 1 + rnd.IntN(4)
		for f := range files {
			var text strings.Builder
			for i := range 3000 + rnd.IntN(9000) {
				line := fmt.Sprintf("file %d line %d %s", f, i, strings.Repeat("x", rnd.IntN(90)))
				want[fmt.Sprintf("%d.log#0@%d %s", f, text.Len(), line)]++
				text.WriteString(line + "\n")
			}
			put(t, fmt.Sprintf("%d.log", f), text.String())
		}
		got, crashed := map[string]int{}, false
		for run := 0; ; run++ {
			in := collecting(t, "paths: ['*.log']\npositions: state/p.json")
			var waiting []taken
			ended := false
			take := func(i int) {
				for _, l := range waiting[i].lines {
					got[l]++
				}
				if err := waiting[i].ack(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				waiting = slices.Delete(waiting, i, i+1)
			}
			for n := rnd.IntN(30); n > 0 || run > 12; n-- {
				wait := 10 * time.Second
				if len(waiting) > 0 {
					wait = 20 * time.Millisecond // the end comes when all is acknowledged
				}
				b, ok := nextTaken(t, in, wait)
				if !ok && len(waiting) == 0 {
					ended = true
					break
				} else if !ok {
					take(0)
					continue
				}
				waiting = append(waiting, b)
				for rnd.IntN(3) > 0 && len(waiting) > 0 {
					take(rnd.IntN(min(len(waiting), 5)))
				}
			}
			crash := round%2 == 0 && rnd.IntN(2) == 0 && run < 12
			if !crash { // as Benthos does, which waits for outputs
				for len(waiting) > 0 {
					take(0)
				}
			} else if crashed = true; rnd.IntN(2) == 0 {
				if err := in.kept.write(); err != nil { // the ticker's turn
					t.Fatal(err)
				}
			}
			if crash {
				in.kept.changed = false // nobody writes any more
			}
			if err := in.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if ended && !crash {
				break
			}
		}
		for line, n := range want {
			if got[line] < n || got[line] > n && !crashed {
				t.Fatalf("seed %d, round %d: %d times %q", seed, round, got[line], line)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("seed %d, round %d: %d different lines, want %d", seed, round, len(got), len(want))
		}
	}
}

// A nacked batch comes again, and holds the position back until it is taken.
func TestPositionsNack(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "a.log", strings.Repeat("line\n", 10_000))
	in := collecting(t, "paths: [a.log]\npositions: p.json")
	first, _ := nextTaken(t, in, time.Second)
	second, _ := nextTaken(t, in, time.Second)
	first.ack(t.Context(), errors.New("no"))
	second.ack(t.Context(), nil)
	if at := in.kept.positions()["a.log#0"].Offset; at != 0 {
		t.Errorf("position %d before the first batch", at)
	}
	again, _ := nextTaken(t, in, time.Second)
	if !slices.Equal(again.lines, first.lines) {
		t.Error("it did not come again")
	}
	again.ack(t.Context(), nil)
	if at := in.kept.positions()["a.log#0"].Offset; at != int64(5*(len(first.lines)+len(second.lines))) {
		t.Errorf("position %d after both", at)
	}
	if err := in.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Followed logs, `start: end` and on_finished: a file goes when what was read of it is acknowledged and on disk.
func TestPositionsFollow(t *testing.T) {
	t.Chdir(t.TempDir())
	conf := "paths: ['*.log', '*.gz']\nfollow: true\npoll_interval: 10ms\nquiet_after: 0s\nstart: end\non_finished: delete\npositions: p.json"
	add(t, "a.log", "old\n")
	in := collecting(t, conf)
	if _, ok := nextTaken(t, in, 50*time.Millisecond); ok {
		t.Error("what is old comes")
	}
	in.Close(t.Context())
	add(t, "a.log", "new\n")
	in = collecting(t, conf)
	b, _ := nextTaken(t, in, 5*time.Second)
	if !slices.Equal(b.lines, []string{"a.log#0@4 new"}) {
		t.Errorf("%q", b.lines)
	}
	b.ack(t.Context(), nil)
	put(t, "b.gz", gz("1\n"))
	b, _ = nextTaken(t, in, 5*time.Second)
	if _, ok := nextTaken(t, in, 50*time.Millisecond); ok || len(b.lines) != 1 {
		t.Errorf("%q", b.lines)
	}
	in.kept.write()
	if _, err := os.Stat("b.gz"); err != nil {
		t.Error("it is gone before the acknowledgement")
	}
	b.ack(t.Context(), nil)
	in.kept.write()
	if _, err := os.Stat("b.gz"); err == nil {
		t.Error("it is still there")
	}
	if at := in.kept.positions(); len(at) != 1 || at["a.log#0"].Offset != 8 {
		t.Errorf("%v", at)
	}
	if err := in.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// What is wrong with the file of positions ends the input with the reason.
func TestPositionsBroken(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "a.log", "x\n")
	open := func(prepare func()) string {
		os.Remove("p.json")
		prepare()
		conf, err := fileLinesSpec().ParseYAML("paths: [a.log]\npositions: p.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		in, err := newFileLines(conf, service.MockResources())
		if err != nil {
			t.Fatal(err)
		}
		err = in.Connect(t.Context())
		in.Close(t.Context())
		if !errors.Is(err, service.ErrEndOfInput) {
			t.Errorf("got %v", err)
		}
		return fmt.Sprint(in.link.run.Failure())
	}
	abs, _ := filepath.Abs("p.json")
	for text, want := range map[string]string{
		"{":                                 abs + ": it is damaged",
		`{"version":2}`:                     "version 2",
		`{"version":1,"files":[{}]}`:        "it is damaged",
		`{"version":1,"files":[{"file":5}]`: "it is damaged",
	} {
		if got := open(func() { put(t, "p.json", text) }); !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
	os.Remove("p.json")
	first := collecting(t, "paths: [a.log]\npositions: p.json")
	defer first.Close(t.Context())
	if got := open(func() {}); !strings.Contains(got, "another input or process keeps its positions here") {
		t.Error(got)
	}
}
