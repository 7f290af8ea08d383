package engine

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
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

// What Committed is told is what is on disk, and an empty block is enough to remember partitions without records.
func TestCommittedTellsPositions(t *testing.T) {
	dir, told := t.TempDir(), map[string]int64{}
	run, store := startRunner(t, runnerSpec(t), dir, Options{Committed: func(at map[string]int64) {
		for name, next := range at {
			if next < told[name] {
				t.Errorf("%s goes back from %d to %d", name, told[name], next)
			}
			told[name] = next
		}
	}})
	for i := range int64(50) {
		for _, name := range []string{"a1", "b1"} {
			line := []byte(fmt.Sprintf(`{"t":"%s","k":"x","v":1}`, event.AppendTime(nil, 1_772_000_000_000+i*1000)))
			run.Push(&event.Block{Partition: name, Meta: map[string]string{"path": name}, Live: true, Data: line,
				Lines: []event.Line{{Off: 7 * i, Next: 7*i + 7, End: uint32(len(line))}}})
		}
	}
	meta := map[string]string{"path": "a2"}
	run.Push(&event.Block{Partition: "a2", Meta: meta, Live: true, Mark: event.Announce, Origin: []byte("where it began")})
	run.Push(&event.Block{Partition: "a2", Meta: meta, Live: true})
	for run.Stats().Events < 100 {
		time.Sleep(time.Millisecond)
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	run, store = startRunner(t, runnerSpec(t), dir, Options{})
	defer store.Close()
	defer run.Close()
	at := run.Positions()
	for _, name := range []string{"a1", "b1"} {
		if at[name].Offset != told[name] || told[name] == 0 {
			t.Errorf("%s: %d on disk, told %d", name, at[name].Offset, told[name])
		}
	}
	if _, ok := told["a2"]; ok || string(at["a2"].Origin) != "where it began" {
		t.Errorf("a2: told %v, kept %q", ok, at["a2"].Origin)
	}
}

// Somebody who waits for an epoch does not wait for the clock, which stands still here: it is written as soon as nothing else is there to be
// taken.
func TestAwaitedEpochsDoNotWait(t *testing.T) {
	began := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	run, store := startRunner(t, runnerSpec(t), t.TempDir(), Options{Now: func() time.Time { return began }})
	defer store.Close()
	defer run.Close()
	for i := range int64(20) {
		line := []byte(fmt.Sprintf(`{"t":"%s","k":"x","v":1}`, event.AppendTime(nil, began.UnixMilli()+i)))
		written := make(chan struct{})
		run.Push(&event.Block{Partition: "a1", Meta: map[string]string{"path": "a1"}, Live: true, Data: line,
			Lines: []event.Line{{Off: i, Next: i + 1, End: uint32(len(line))}}, Committed: func() { close(written) }})
		select {
		case <-written:
		case <-time.After(time.Minute):
			t.Fatalf("block %d waits for the clock", i)
		}
	}
}

// Random graphs, half of them with lanes, may be cut short anywhere as well.
func TestRestartsOfRandomGraphs(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	format, err := event.NewTimeFormat("", "")
	if err != nil {
		t.Fatal(err)
	}
	for n := range max(4, *caseCount/100) {
		var ops []refOp
		for ops == nil || slices.ContainsFunc(ops, func(o refOp) bool { return o.damp != nil }) { // a model's alerts are said beside what is held of them
			ops = randomOps(r, 2)
		}
		for i := range ops {
			o := &ops[i]
			o.rowsMax, o.pairsMax = min(o.rowsMax, 10), min(o.pairsMax, 10)
			if o.seq == nil { // a pipeline cannot read the same twice, which would say the same twice
				o.inputs = slices.Compact(slices.Sorted(slices.Values(o.inputs)))
			}
		}
		specOf := func(t testing.TB) *Spec {
			s := compileCase(t, []refStream{{delay: 20}, {delay: 20}}, ops)
			for i := range s.Streams {
				x := &s.Streams[i]
				x.Name = []string{"a", "b"}[i]
				x.Match, x.Time = []Pattern{{"path", []string{x.Name + "*"}}}, Time{Field: s.Fields.Add("t"), Format: format}
				x.Reads = append(x.Reads, x.Time.Field)
			}
			for i := range s.Operators {
				s.Operators[i].Names = names(s.Fields, s.Operators[i].columns())
			}
			return s
		}
		testRestart(t, seed, r, specOf, shortFiles(r), n%2 == 0)
	}
}

// shortFiles draws files for the operators of random cases, whose windows are a few ms: keys and values are few, and some rows late.
func shortFiles(r *rand.Rand) (files []file) {
	for _, path := range []string{"a1", "a2", "b1"} {
		f, now := file{path: path}, int64(1_772_000_000_000)
		for range 40 + r.IntN(60) {
			now += r.Int64N(5)
			ts := now - r.Int64N(15)
			if r.IntN(20) == 0 {
				ts -= 60
			}
			f.lines = append(f.lines, fmt.Sprintf(`{"t":"%s","k":"%c","v":%d}`, event.AppendTime(nil, ts), 'a'+r.IntN(6), r.IntN(5)-1))
		}
		files = append(files, f)
	}
	return files
}
