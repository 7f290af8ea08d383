package engine

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// After a restart partitions are active at their watermarks: while one is announced, those that are announced after it hold
// the stream's watermark already, or their rows would be late where they were not.
func TestPartitionsHoldAfterRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	line := func(sec int) string { return fmt.Sprintf(`{"t":"2026-03-02T08:01:%02dZ","k":"x","v":1}`, sec) }
	files := []file{{"a1", []string{line(40)}}, {"a2", []string{line(30)}}, {"b1", []string{line(40)}}}
	run, store := startRunner(t, runnerSpec(t), dir, Options{Shards: 1})
	for _, f := range files {
		run.Push(&event.Block{Partition: f.path, Meta: map[string]string{"path": f.path}, Mark: event.Announce})
	}
	for _, f := range files {
		n := uint32(len(f.lines[0]))
		run.Push(&event.Block{Partition: f.path, Meta: map[string]string{"path": f.path}, Data: []byte(f.lines[0]), Lines: []event.Line{{Next: int64(n) + 1, End: n}}})
	}
	for run.Stats().Events < 3 {
		time.Sleep(time.Millisecond)
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	store.Close()
	files[1].lines = append(files[1].lines, line(35)) // after 28 s, the watermark of a2, and before 38 s, that of a1
	run, store = startRunner(t, runnerSpec(t), dir, Options{Shards: 1})
	defer store.Close()
	feed(rand.New(rand.NewPCG(1, 1)), run, files)
	drain(t, run, func(t *testing.T, o *Out) {
		if o.Kind == "late" {
			t.Errorf("%s is late for %s by %d ms", o.Payload, o.Operator, o.LateBy)
		}
	})
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
}
