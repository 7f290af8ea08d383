package wasm

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

func do(n int) string { return fmt.Sprintf(`{"do":%d}`, n) }

// What a guest may do while it judges rows: the fault, the text, and that a good plugin beside it is not touched.
func TestHostileCalls(t *testing.T) {
	m := load(t, file(t, "testdata/hostile.wasm"), Options{})
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
	m := load(t, file(t, "testdata/hostile.wasm"), Options{})
	for n, want := range map[int]string{
		100: "tocsin_init: fuel: ", 101: "tocsin_init: trap: unreachable", 102: "exit: the module left by proc_exit(3)", 103: "refused: tocsin_init answered -64 (the plugin's own) because",
		104: "stack: ",
	} {
		if err := m.Check([]byte(do(n))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("do %d: %v; want %s", n, err, want)
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
	m := load(t, file(t, "testdata/hostile.wasm"), Options{})
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
	m := load(t, file(t, "testdata/hostile.wasm"), Options{})
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
	m := load(t, file(t, "testdata/hostile.wasm"), Options{})
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

// A guest whose memory grows a page a call is replaced before it reaches its limit, and no row is lost.
func TestLeak(t *testing.T) {
	m := load(t, file(t, "testdata/hostile.wasm"), Options{})
	rows, fields := table([]string{"a"}, [][]any{{"one"}})
	p := plugin(t, m, do(27), fields)
	for i := range 1000 {
		if hits, poison, _, err := p.Detect(nil, rows); len(hits) != 1 || len(poison) > 0 || err != nil {
			t.Fatalf("call %d: %v, %v, %v", i, hits, poison, err)
		}
		if p.in != nil && p.in.memory.Size() > uint32(m.Limits.MemoryMiB)<<20 {
			t.Fatalf("%d bytes of memory", p.in.memory.Size())
		}
	}
	if p.Counts.Failures > 0 {
		t.Errorf("%d failures", p.Counts.Failures)
	}
}

// While guests do the worst that the gate lets through, the garbage collector gets its turn.
func TestCollectorIsNotHeldUp(t *testing.T) {
	m := load(t, file(t, "testdata/hostile.wasm"), Options{Ceiling: Limits{FuelPerCall: 20_000_000}})
	rows, fields := table([]string{"a"}, [][]any{{"one"}})
	for _, n := range []int{1, 2, 5, 6, 7, 28} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			p := NewPlugin(m, []byte(do(n)), fields, Identity{})
			defer p.Close()
			p.Detect(nil, rows)
		}()
		collected := 0
		for working := true; working; {
			runtime.GC()
			collected++
			select {
			case <-done:
				working = false
			default:
			}
		}
		var s debug.GCStats
		debug.ReadGCStats(&s)
		longest := slices.Max(s.Pause[:min(collected, len(s.Pause))])
		t.Logf("do %d: %d collections, the longest pause %v", n, collected, longest)
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
	m := load(t, file(t, "testdata/hostile.wasm"), Options{})
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
