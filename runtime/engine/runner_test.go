package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// file is a bounded partition as an input would read it.
type file struct {
	path  string
	lines []string
}

// runnerSpec counts by k in windows of 20 s and joins a with b within 30 s.
func runnerSpec(t testing.TB) *Spec {
	f := &event.Fields{}
	k, ts, v := f.Add("k"), f.Add("t"), f.Add("v")
	n := f.Add("n")
	for _, name := range []string{"window_start", "window_end", "truncated", "a", "b"} {
		f.Add(name)
	}
	format, err := event.NewTimeFormat("", "")
	if err != nil {
		t.Fatal(err)
	}
	stream := func(name string) Stream {
		return Stream{Name: name, Match: []Pattern{{"path", []string{name + "*"}}}, Time: Time{Field: ts, Format: format}, Delay: 2000, Reads: []event.Field{k, ts, v}}
	}
	s := &Spec{Name: "p", Fields: f, Streams: []Stream{stream("a"), stream("b")}}
	w := &operator.Window{Ident: operator.Ident{Pipeline: "p", Operator: "count", Form: "tumbling/1"}, Size: 20_000, Keys: []event.Field{k},
		Aggregates: []operator.Aggregate{{Name: n, Func: operator.Count, All: true}}, Having: condition(t, "{n|gte: 2}", f)}
	w.Init(f)
	j := &operator.Join{Ident: operator.Ident{Pipeline: "p", Operator: "pairs", Form: "interval/1"}, On: [2][]event.Field{{k}, {k}}, Lower: -30_000, Upper: 30_000,
		Outputs: []operator.Output{{Name: f.Add("a"), Side: 0, Field: v}, {Name: f.Add("b"), Side: 1, Field: v}}, RowsMax: 50, MatchesMax: 50}
	j.Init(f)
	s.Operators = []Operator{
		{Name: "count", Inputs: []int{0, 1}, Window: w, Leaves: true, Fingerprint: "count: 1", Names: names(f, w.Columns)},
		{Name: "pairs", Inputs: []int{0, 1}, Join: j, Leaves: true, Fingerprint: "pairs: 1", Names: names(f, j.Columns)},
	}
	s.Operators = append(s.Operators, runnerSequences(t, f)...)
	return s
}

func names(f *event.Fields, cols []event.Field) (out []alert.Column) {
	for _, c := range cols {
		out = append(out, alert.Column{Name: f.Path(c), Field: c})
	}
	return alert.Own(out)
}

// randomFiles draws two or three files of a few hundred lines, with disorder, late rows and lines that are no events.
func randomFiles(r *rand.Rand) (files []file) {
	for _, path := range []string{"a1", "a2", "b1"} {
		f := file{path: path}
		now := int64(1_772_000_000_000)
		for range 200 + r.IntN(300) {
			now += r.Int64N(900)
			ts := now - r.Int64N(3000)
			line := fmt.Sprintf(`{"t":"%s","k":"k%d","v":%d}`, event.AppendTime(nil, ts), r.IntN(12), r.IntN(100))
			switch r.IntN(60) {
			case 0:
				line = line[:len(line)-r.IntN(20)-1]
			case 1:
				line = `{"k":"no time"}`
			}
			f.lines = append(f.lines, line)
		}
		files = append(files, f)
	}
	return files
}

// feed pushes what an input would, from the positions on; blocks are cut at random, and come one after the other, so that runs
// which are cut short are cut within the files.
func feed(r *rand.Rand, run *Runner, files []file) {
	at := run.Positions()
	for _, f := range files {
		run.Push(&event.Block{Partition: f.path, Meta: map[string]string{"path": f.path}, Mark: event.Announce})
	}
	order := r.Perm(len(files))
	for _, i := range order {
		f := files[i]
		b := &event.Block{Partition: f.path, Meta: map[string]string{"path": f.path}}
		off := int64(0)
		for _, line := range f.lines {
			next := off + int64(len(line)) + 1
			if off >= at[f.path].Offset {
				start := uint32(len(b.Data))
				b.Data = append(b.Data, line...)
				b.Lines = append(b.Lines, event.Line{Off: off, Next: next, Start: start, End: uint32(len(b.Data))})
			}
			if off = next; r.IntN(40) == 0 {
				run.Push(b)
				time.Sleep(2 * time.Millisecond)
				b = &event.Block{Partition: f.path, Meta: b.Meta}
			}
		}
		run.Push(b)
		run.Push(&event.Block{Partition: f.path, Meta: b.Meta, Mark: event.Finished})
	}
	run.End(true)
}

// sink collects what leaves, and what was said of it.
type sink struct {
	all     []string
	byID    map[string]string // of each id the newest revision
	newest  map[string]int64
	last    map[string]*Out
	revised int // times that a newer revision came
}

func (s *sink) take(t *testing.T, o *Out) {
	text := fmt.Sprint(o.Kind, " ", o.Operator, " ", o.Stream, " ", o.Reason, " ", o.Position, " ", o.TS, " ", o.LateBy, " ", string(o.Payload))
	id := o.ID.String()
	if was, ok := s.byID[id]; ok && (was != text) != (o.Revision > s.newest[id]) || o.Revision < s.newest[id] {
		t.Fatalf("id %s said %s (revision %d) and %s (revision %d)", id, was, s.newest[id], text, o.Revision)
	} else if ok && was != text {
		s.revised++
	}
	if s.byID == nil {
		s.byID, s.newest, s.last = map[string]string{}, map[string]int64{}, map[string]*Out{}
	}
	s.byID[id], s.newest[id], s.last[id] = text, o.Revision, o
	s.all = append(s.all, id)
}

func startRunner(t *testing.T, spec *Spec, dir string, opt Options) (*Runner, *state.Store) {
	t.Helper()
	store, err := state.Open(state.Options{Dir: dir, Pipeline: spec.Name})
	if err != nil {
		t.Fatal(err)
	}
	run, err := Start(spec, store, opt)
	if err != nil {
		t.Fatal(err)
	}
	return run, store
}

// drain takes what a runner says until its input has ended, and acknowledges it.
func drain(t *testing.T, run *Runner, take func(t *testing.T, o *Out)) {
	t.Helper()
	for {
		rows, err := run.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range rows {
			take(t, o)
		}
		run.Settle(rows, nil)
	}
}

func undisturbed(t *testing.T, r *rand.Rand, spec *Spec, files []file, opt Options) *sink {
	run, store := startRunner(t, spec, filepath.Join(t.TempDir(), "s"), opt)
	defer store.Close()
	feed(r, run, files)
	out := &sink{}
	drain(t, run, out.take)
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// Runs that are cut short anywhere, with rows sent and not acknowledged, rejected, and reordered, say in the end what an
// undisturbed run says: nothing lost, nothing else, and the same order of first appearance. With lanes, as half of them have, each lane gets
// what it takes of that.
func TestRestarts(t *testing.T) { testRestarts(t, runnerSpec, 4) }

func testRestarts(t *testing.T, specOf func(t testing.TB) *Spec, rounds int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	half := r.IntN(2)
	for round := range rounds {
		files := randomFiles(r)
		testRestart(t, seed, r, specOf, files, round%2 == half)
	}
}

// testRestart does it with one set of files, and with lanes if it is routed.
func testRestart(t *testing.T, seed uint64, r *rand.Rand, specOf func(t testing.TB) *Spec, files []file, routed bool) {
	want := undisturbed(t, r, specOf(t), files, Options{Shards: 1, BlockRows: 4096})
	revises := slices.ContainsFunc(specOf(t).Operators, func(o Operator) bool { return o.Suppress != nil || o.Window != nil && o.Window.Revises() }) // then the outbox may leave some out
	if len(want.all) != len(want.byID) && !revises {
		t.Fatalf("an undisturbed run said %d rows with %d ids", len(want.all), len(want.byID))
	}
	for _, opt := range []Options{{Shards: 2, BlockRows: 7, Memory: 1}, {Shards: 4, BlockRows: 1, Memory: 20_000}} {
		got := undisturbed(t, r, specOf(t), files, opt)
		if !slices.Equal(got.all, want.all) && !revises || !maps.Equal(got.byID, want.byID) || !maps.Equal(got.newest, want.newest) {
			t.Fatalf("seed %d: %+v says other rows, or in another order", seed, opt)
		}
	}
	lanes := []*modelLane{{where: laneWheres[0]}} // the one that there is without lanes
	spec := specOf
	if routed {
		lanes = randomLanes(r)
		spec = func(t testing.TB) *Spec { return laneSpec(t, specOf(t), lanes) }
	}
	dir := filepath.Join(t.TempDir(), "s")
	starts := 0
	for over := false; !over; starts++ {
		run, store := startRunner(t, spec(t), dir, Options{Shards: 1 + r.IntN(3), BlockRows: 1 + r.IntN(64), Retries: 1000, Memory: []int64{0, 1, 20_000}[r.IntN(3)], laneBytes: 1 + r.IntN(30_000)})
		go feed(rand.New(rand.NewPCG(r.Uint64(), 1)), run, files)
		left := 1 + r.IntN(120)
		if starts > 30 {
			left = 1 << 30
		}
		for left > 0 {
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			rows, err := run.Next(ctx)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				break // waits for a row that was never settled: only the next start sends it
			}
			if errors.Is(err, io.EOF) {
				over = true
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			left -= len(rows)
			if r.IntN(6) == 0 {
				run.Settle(rows, errors.New("no"))
				continue
			}
			for _, o := range rows {
				lanes[rows[0].Lane].got.take(t, o)
			}
			if r.IntN(12) > 0 {
				run.Settle(rows, nil)
			}
		}
		if !over && r.IntN(2) == 0 { // a stop that commits
			if err := run.Close(); err != nil {
				t.Fatal(err)
			}
		} else if !over { // as good as a kill: nothing is committed any more
			run.kill()
		}
		store.Close()
	}
	for i, l := range lanes {
		l.hasAll(t, want, fmt.Sprintf("seed %d, %d starts, lane %d %q", seed, starts, i, l.where.text))
	}
}

// kill ends the loop without a commit.
func (r *Runner) kill() {
	r.mu.Lock()
	r.killed = true
	r.mu.Unlock()
	r.End(false)
	<-r.done
}

func TestRefusesOtherPipeline(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	files := []file{{"a1", []string{`{"t":"2026-01-01T00:00:00Z","k":"x","v":1}`}}}
	spec := runnerSpec(t)
	run, store := startRunner(t, spec, dir, Options{})
	feed(rand.New(rand.NewPCG(1, 1)), run, files)
	for {
		rows, err := run.Next(context.Background())
		if err != nil {
			break
		}
		run.Settle(rows, nil)
	}
	run.Close()
	store.Close()
	refuses := func(change func(s *Spec), opt Options, want string) {
		t.Helper()
		spec := runnerSpec(t)
		change(spec)
		store, err := state.Open(state.Options{Dir: dir, Pipeline: "p"})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		run, err := Start(spec, store, opt)
		if err == nil {
			run.kill()
		}
		switch {
		case want == "" && err != nil:
			t.Error(err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refuses(func(s *Spec) { s.Operators[0].Fingerprint = "count: 2" }, Options{}, "operator count has changed: it was count: 1, it is now count: 2")
	refuses(func(s *Spec) { s.Operators[0].Fingerprint = "count: 2"; s.Operators[0].OnReset = true }, Options{}, "")
	refuses(func(s *Spec) { s.Operators = s.Operators[:1] }, Options{}, "holds operator pairs, which the pipeline does not have")
	refuses(func(s *Spec) { s.Operators = s.Operators[:1] }, Options{Removed: "keep"}, "")
	refuses(func(s *Spec) { s.Operators = s.Operators[:1] }, Options{Removed: "drop"}, "")
}

// The decoders of what an epoch keeps take any bytes.
func FuzzRecords(f *testing.F) {
	o := Out{Kind: "row", Operator: "x", Payload: []byte("{}")}
	f.Add(o.append(nil))
	f.Add([]byte{headerVersion, 1, 1, 1, 'a', 0, 0, 2, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := readOut(1, b); err == nil {
			if again, err := readOut(1, o.append(nil)); err != nil || string(again.Payload) != string(o.Payload) || again.Kind != o.Kind {
				t.Fatalf("%+v became %+v, %v", o, again, err)
			}
		}
		_, _ = readHeader(b)
		if h, recs, err := readPage(b); err == nil && checkRecords(h.keys, recs) == nil {
			c := newCold()
			_ = c.adopt(0, 1, b)
		}
		spec := &Spec{Fields: &event.Fields{}}
		_ = newIntake(spec, NewGraph(spec, 1), time.Now).load("p", 1, b)
	})
}
