package wasm

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/abi"
)

// hostile is the module of testdata/hostile.wat with at most so much memory.
func hostile(t testing.TB, memoryMiB int) *Module {
	return load(t, file(t, "testdata/hostile.wasm"), Options{Ceiling: Limits{MemoryMiB: memoryMiB}})
}

func do(n int) string { return fmt.Sprintf(`{"do":%d}`, n) }

// What a guest may do while it judges rows: the fault, the text, and that a good plugin beside it is not touched.
func TestHostileCalls(t *testing.T) {
	defer func(was time.Duration) { backstop = was }(backstop)
	backstop = time.Minute
	m := hostile(t, 4)
	rows, fields := table([]string{"a"}, [][]any{{"one"}, {"two"}, {"three"}})
	good := plugin(t, m, do(0), fields)
	for _, c := range []struct {
		do    int
		fault Fault
		text  string
	}{
		{1, Fuel, "used up its 20000000 units"},
		{2, Fuel, "used up"},
		{3, Stack, "too deep"},
		{4, Stack, "too deep"},
		{5, Fuel, "used up"},
		{6, Fuel, "used up"},
		{7, Fuel, "used up"},
		{8, Trapped, "unreachable"},
		{9, Trapped, "out of bounds"},
		{10, Trapped, "divide by zero"},
		{11, Exited, "proc_exit(0)"},
		{12, Trapped, "out of bounds"},
		{13, Output, "out_len is 2147483647"},
		{14, Output, "out_rows is 1000000000"},
		{15, Output, "hit 0 is for row 1 of 1"},
		{16, Output, "does not come after"},
		{17, Output, "severity 9"},
		{18, Output, "rule 3, which its manifest does not have"},
		{19, Output, "the note of hit 0 is at"},
		{20, Output, "is not UTF-8"},
		{21, Output, "hit 0 is for row 5000 of 1"},
		{23, Pointer, "64 bytes at 4294967288"},
		{24, Output, "larger than a batch"},
		{25, Refused, "-70 (the plugin's own) because"},
		{26, Output, "out_flags is 1"},
		{28, Fuel, "used up"},
		{29, Pointer, "67108864 bytes at 0"},
		{32, Output, "deeper than 8"},
	} {
		p := plugin(t, m, do(c.do), fields)
		hits, poison, judged, _ := p.Detect(nil, rows)
		if len(hits) > 0 || judged < len(rows) && c.fault != Time || len(poison) != judged {
			t.Errorf("do %d: %v, %v, %d", c.do, hits, poison, judged)
			continue
		}
		var trap *Trap
		if !errors.As(poison[0].Err, &trap) || trap.Fault != c.fault || !strings.Contains(trap.Text, c.text) {
			t.Errorf("do %d: %v; want %s: %s", c.do, poison[0].Err, c.fault, c.text)
		}
		if hits, poison, judged, err := good.Detect(nil, rows); len(hits) != 3 || len(poison) > 0 || judged != 3 || err != nil {
			t.Fatalf("after do %d, the good one: %v, %v, %d, %v", c.do, hits, poison, judged, err)
		}
	}
}

// What a guest may do when it starts.
func TestHostileStarts(t *testing.T) {
	m := hostile(t, 4)
	for n, want := range map[int]string{
		100: "tocsin_init: fuel: ", 101: "tocsin_init: trap: unreachable", 102: "exit: the module left by proc_exit(3)", 103: "refused: tocsin_init answered -64 (the plugin's own) because",
		104: "stack: ",
	} {
		if err := m.Check([]byte(do(n))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("do %d: %v; want %s", n, err, want)
		}
	}
	for _, n := range []int{105, 106, 205} { // a guest may grow as it starts, and put its arena further down each time
		if err := m.Check([]byte(do(n))); err != nil {
			t.Errorf("do %d: %v", n, err)
		}
	}
	rows, fields := table([]string{"a"}, [][]any{{strings.Repeat("y", 40_000)}}) // more than the arena that init was given
	for n, want := range map[int]string{200: "larger than a batch", 201: "not a multiple of 16", 202: "beyond its memory", 203: "beyond its memory", 204: "beyond its memory"} {
		_, poison, judged, _ := plugin(t, m, do(n), fields).Detect(nil, rows)
		if judged != 1 || len(poison) != 1 || !strings.Contains(poison[0].Err.Error(), want) {
			t.Errorf("do %d: %v; want %s", n, poison, want)
		}
	}
}

// Guests may be wrong and still be let go on: log lines are made printable, codes tell them what they did, notes are compact.
func TestTolerated(t *testing.T) {
	m := hostile(t, 4)
	rows, fields := table([]string{"a"}, [][]any{{"one"}})
	var logged []string
	for _, n := range []int{22, 30, 31} {
		p := NewPlugin(m, []byte(do(n)), fields, Identity{Log: func(_ int, text string) { logged = append(logged, text) }})
		hits, poison, _, err := p.Detect(nil, rows)
		if err != nil || len(poison) > 0 || len(hits) != 1 {
			t.Errorf("do %d: %v, %v, %v", n, hits, poison, err)
		} else if n == 31 && string(hits[0].Note) != `{"deep":[1,2,{"x":"a } b"}]}` {
			t.Errorf("the note is %s", hits[0].Note)
		}
		p.Close()
	}
	if len(logged) != 1 || logged[0] != `\x1b[31mred\a\xff and more` {
		t.Errorf("logged %q", logged)
	}
}

// Poison rows are found by halving, and nothing else is lost; how many calls that takes is bounded; a fresh instance a call
// says the same.
func TestPoison(t *testing.T) {
	m := hostile(t, 4)
	for _, bad := range [][]int{{0}, {999}, {500}, {3, 4, 700}, {}} {
		var cells [][]any
		for i := range 1000 {
			text := "fine"
			if slices.Contains(bad, i) {
				text = "xxx"
			}
			cells = append(cells, []any{text})
		}
		rows, fields := table([]string{"a"}, cells)
		for _, fresh := range []bool{false, true} {
			p := plugin(t, m, do(0), fields)
			p.Fresh = fresh
			hits, poison, judged, err := p.Detect(nil, rows)
			var at []int
			for _, x := range poison {
				at = append(at, x.Row)
			}
			slices.Sort(at)
			if err != nil || judged != 1000 || !slices.Equal(at, bad) || len(hits) != 1000-len(bad) {
				t.Errorf("bad %v: %d hits, poison %v, %d judged, %v", bad, len(hits), at, judged, err)
			}
			if p.Counts.Failures > int64(12*len(bad)) {
				t.Errorf("bad %v: %d calls failed", bad, p.Counts.Failures)
			}
		}
	}
}

// A plugin that fails and fails is switched off for blocks, ever more of them, and comes back when it is well.
func TestBreaker(t *testing.T) {
	m := hostile(t, 4)
	bad, fields := table([]string{"a"}, slices.Repeat([][]any{{"x"}}, 1000))
	fine, _ := table([]string{"a"}, slices.Repeat([][]any{{"y"}}, 1000))
	p := plugin(t, m, do(0), fields)
	_, poison, judged, why := p.Detect(nil, bad)
	if judged > 64 || len(poison) != judged || why == nil || p.Counts.Failures != failuresMax {
		t.Fatalf("%d judged, %d poison, %d failures, %v", judged, len(poison), p.Counts.Failures, why)
	}
	off := 0
	for range 3 {
		if _, _, judged, why := p.Detect(nil, bad); judged == 0 && why != nil {
			off++
		}
	}
	if off != 2 { // one block, then a try that fails, then two of which this sees one
		t.Errorf("off for %d of 3 blocks", off)
	}
	for range 3 {
		_, _, judged, _ = p.Detect(nil, fine)
	}
	if judged != 1000 {
		t.Errorf("it did not come back: %d judged", judged)
	}
}

// A guest whose memory grows, by a page a call, by a little a call for a million calls, or at once to the limit, is replaced
// before it fails, and no row is lost.
func TestLeak(t *testing.T) {
	m := hostile(t, 4)
	rows, fields := table([]string{"a"}, [][]any{{"one"}})
	for n, calls := range map[int]int{27: 1000, 34: 1_000_000, 36: 100} {
		p := plugin(t, m, do(n), fields)
		var hits []abi.Hit
		for i := range calls {
			said, poison, _, err := p.Detect(hits[:0], rows)
			if hits = said; len(hits) != 1 || len(poison) > 0 || err != nil {
				t.Fatalf("do %d, call %d: %v, %v, %v", n, i, hits, poison, err)
			}
			if p.in != nil && p.in.memory.Size() > uint32(m.Limits.MemoryMiB)<<20 {
				t.Fatalf("do %d: %d bytes of memory", n, p.in.memory.Size())
			}
		}
		if p.Counts.Failures > 0 {
			t.Errorf("do %d: %d failures", n, p.Counts.Failures)
		}
	}
}

// Guests on many workers, each as deep in calls as it may be, have stacks of a few MB and not of a hundred.
func TestDeepStacks(t *testing.T) {
	m := hostile(t, 4)
	rows, fields := table([]string{"a"}, [][]any{{"one"}})
	const workers = 16
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var plugins [workers]*Plugin // their stacks live as long as they do
	var all sync.WaitGroup
	for i := range workers {
		plugins[i] = plugin(t, m, do(35), fields)
		all.Go(func() {
			if hits, poison, _, err := plugins[i].Detect(nil, rows); len(hits) != 1 || len(poison) > 0 || err != nil {
				t.Errorf("%v, %v, %v", hits, poison, err)
			}
		})
	}
	all.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used < workers<<18 || used > workers<<22 {
		t.Errorf("%d workers have %d MB", workers, used>>20)
	}
	runtime.KeepAlive(plugins)
}

// A guest that spends all but a little of its budget, each time, is slow and does nothing wrong.
func TestJustUnderBudget(t *testing.T) {
	m := hostile(t, 4)
	rows, fields := table([]string{"a"}, [][]any{{"one"}})
	p := plugin(t, m, do(37), fields)
	for range 20 {
		if hits, poison, _, err := p.Detect(nil, rows); len(hits) != 1 || len(poison) > 0 || err != nil {
			t.Fatalf("%v, %v, %v", hits, poison, err)
		}
	}
	if spent := p.Counts.Fuel / p.Counts.Calls; spent < m.Limits.FuelPerCall/2 || p.wait > 0 {
		t.Errorf("it spends %d of %d a call", spent, m.Limits.FuelPerCall)
	}
}

// worst is what a guest may do that keeps the garbage collector waiting, if anything does: loops, calls, bulk instructions,
// host calls, growing, and pointers chased through 56 MB.
var worst = []int{1, 2, 5, 6, 7, 28, 38}

// longestPause calls a guest until its fuel or time is spent, collects garbage all the while, and returns the longest that the world
// had to stop, ns, waiting for it included.
func longestPause(m *Module, n int) (longest float64) {
	rows, fields := table([]string{"a"}, [][]any{{"one"}})
	before := pauses()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := NewPlugin(m, []byte(do(n)), fields, Identity{})
		defer p.Close()
		p.Detect(nil, rows)
	}()
	for working := true; working; {
		runtime.GC()
		select {
		case <-done:
			working = false
		default:
		}
	}
	after := pauses()
	for i, c := range after.Counts {
		if c > before.Counts[i] {
			longest = after.Buckets[i+1] * 1e9
		}
	}
	return longest
}

// pauses is the runtime's histogram of the times that it stopped the world to collect garbage.
func pauses() *metrics.Float64Histogram {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	h := sample[0].Value.Float64Histogram()
	return &metrics.Float64Histogram{Counts: slices.Clone(h.Counts), Buckets: h.Buckets}
}

// While guests do the worst that the gate lets through, the garbage collector gets its turn: collections begin and end within one
// call. Were a guest to hold one up, it would end with the call at the earliest.
func TestCollectorIsNotHeldUp(t *testing.T) {
	m := hostile(t, 64)
	m.Limits.FuelPerCall = 3_000_000_000
	rows, fields := table([]string{"a"}, [][]any{{"one"}})
	for _, n := range worst {
		var began, ended atomic.Int64 // calls
		var stop atomic.Bool
		var guest sync.WaitGroup
		guest.Go(func() {
			for !stop.Load() {
				p := NewPlugin(m, []byte(do(n)), fields, Identity{})
				began.Add(1)
				p.Detect(nil, rows)
				ended.Add(1)
				p.Close()
			}
		})
		within, tries := 0, 0
		for ; within < 3 && tries < 1000; tries++ {
			call := began.Load()
			if ended.Load() == call {
				time.Sleep(time.Millisecond)
				continue
			}
			runtime.GC()
			if began.Load() == call && ended.Load() < call {
				within++
			}
		}
		stop.Store(true)
		guest.Wait()
		if within < 3 {
			t.Errorf("do %d: %d of %d collections ended while the call went on", n, within, tries)
		}
	}
}

// The budget is the same however long the call waits, and a call ends by the clock when fuel is plenty.
func TestBackstop(t *testing.T) {
	code := file(t, "testdata/hostile.wasm")
	m := load(t, code, Options{})
	m.Limits.FuelPerCall = fuelMaxTest
	rows, fields := table([]string{"a"}, [][]any{{"one"}, {"two"}})
	p := plugin(t, m, do(1), fields)
	start := time.Now()
	_, poison, judged, why := p.Detect(nil, rows)
	var trap *Trap
	if judged != 0 || len(poison) > 0 || !errors.As(why, &trap) || trap.Fault != Time {
		t.Fatalf("%v, %d, %v after %v", poison, judged, why, time.Since(start))
	}
	if p.wait == 0 {
		t.Error("the breaker is not open")
	}
}

const fuelMaxTest = 1 << 50

// A thousand instances come and go: what they had is given back.
func TestInstancesAreGivenBack(t *testing.T) {
	m := hostile(t, 4)
	if err := m.Check([]byte(do(105))); err != nil {
		t.Fatal(err)
	}
	before := mapped(t)
	for range 1000 {
		if err := m.Check([]byte(do(105))); err != nil {
			t.Fatal(err)
		}
	}
	if after := mapped(t); after > before+512<<20 {
		t.Errorf("%d MB are mapped, %d before", after>>20, before>>20)
	}
}

// A thousand modules are loaded, used and closed: nothing of them stays mapped.
func TestLoadUnload(t *testing.T) {
	code := file(t, "testdata/hostile.wasm")
	cycle := func() {
		m, err := host.Load(code, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Check([]byte(do(0))); err != nil {
			t.Fatal(err)
		}
		m.Close()
	}
	cycle()
	before := mapped(t)
	for range 1000 {
		cycle()
	}
	if after := mapped(t); after > before+256<<20 {
		t.Errorf("%d MB are mapped, %d before", after>>20, before>>20)
	}
}
