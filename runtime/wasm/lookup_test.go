package wasm

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/abi"
)

// mine grants the first table of the guest, which has one key.
func mine(table int, key []byte) ([]byte, abi.Code) {
	switch {
	case table != 0:
		return nil, abi.Denied
	case string(key) != "known":
		return nil, abi.NotFound
	}
	return []byte(`{"owner":"ann"}`), abi.OK
}

// What a guest is told for each way of asking; a bad pointer ends the call whether the key is known or not.
func TestLookup(t *testing.T) {
	m := load(t, file(t, "testdata/lookup.wasm"), Options{})
	const all = -1 // 2^32 - 1
	rows, fields := table(m.paths(), [][]any{{99, "", 0}})
	first := plugin(t, m, "{}", fields)
	first.Detect(nil, rows)
	end := int(first.in.memory.Size())
	for _, c := range []struct {
		do     int
		key    string
		number int
		want   string // in the log, or of the fault
		fault  Fault
	}{
		{0, "known", 0, `15 {"owner":"ann"}`, ""},
		{0, "unknown", 0, "-1 ", ""},
		{0, "", 0, "-1 ", ""},
		{0, "known", 1, "-4 ", ""}, // not granted
		{0, "known", 2, "-2 ", ""}, // the manifest has no such table
		{0, "known", all, "-2 ", ""},
		{1, "known", 0, "15 ", ""}, // room for nothing: the length
		{1, "known", 5, `15 {"own`, ""},
		{1, "known", 15, `15 {"owner":"ann"}`, ""},
		{2, "known", end - 8, "-1 ", ""}, // the last bytes of its memory
		{2, "known", end - 7, "beyond its memory", Pointer},
		{2, "known", all, "8 bytes at 4294967295", Pointer},
		{3, "known", all, "4294967295 bytes at", Pointer},
		{3, "known", end, "bytes at", Pointer},
		{4, "known", end - 8, "15 ...............", ""},
		{4, "known", end - 7, "beyond its memory", Pointer},
		{4, "unknown", end - 7, "beyond its memory", Pointer},
		{5, "known", 0, "4294967295 bytes at", Pointer},
		{6, "known", 0, "4294967295 bytes at 4294967280", Pointer},
		{7, "known", 0, "15 ...............", ""},
		{10, "", 2, "the counter 2, which its manifest does not have", Counter},
		{10, "", all, "the counter 4294967295", Counter},
		{11, "", -1, "less than 0", Counter},
		{13, "known", 0, "used up its 2000000 units", Fuel}, // asking costs
	} {
		var logged []string
		rows, fields := table(m.paths(), [][]any{{c.do, c.key, c.number}})
		p := NewPlugin(m, []byte("{}"), fields, Identity{Lookup: mine, Log: func(_ int, text string) { logged = append(logged, text) }})
		hits, poison, _, _ := p.Detect(nil, rows)
		var trap *Trap
		switch {
		case c.fault == "" && (len(hits) != 1 || !slices.Equal(logged, []string{c.want})):
			t.Errorf("do %d, %q, %d: %q, %v; want %q", c.do, c.key, c.number, logged, poison, c.want)
		case c.fault != "" && (len(poison) != 1 || !errors.As(poison[0].Err, &trap) || trap.Fault != c.fault || !strings.Contains(trap.Text, c.want)):
			t.Errorf("do %d, %q, %d: %q, %v; want %s: %s", c.do, c.key, c.number, logged, poison, c.fault, c.want)
		}
		p.Close()
	}
}

// Whoever grants nothing, and knows of no tables, has guests told so.
func TestNothingGranted(t *testing.T) {
	m := load(t, file(t, "testdata/lookup.wasm"), Options{})
	rows, fields := table(m.paths(), [][]any{{0, "known", 0}, {0, "known", 1}, {0, "known", 2}})
	var logged []string
	p := NewPlugin(m, []byte("{}"), fields, Identity{Log: func(_ int, text string) { logged = append(logged, text) }})
	defer p.Close()
	if hits, _, _, _ := p.Detect(nil, rows); len(hits) != 3 || !slices.Equal(logged, []string{"-4 ", "-4 ", "-2 "}) {
		t.Errorf("%v, %q", hits, logged)
	}
}

// What a guest counts in a call that fails is forgotten, whatever becomes of its rows in other calls.
func TestMetrics(t *testing.T) {
	m := load(t, file(t, "testdata/lookup.wasm"), Options{})
	cells := [][]any{{10, "", 0}, {10, "", 1}, {12, "", 0}, {10, "", 0}, {11, "", 7}, {11, "", 0}}
	rows, fields := table(m.paths(), cells)
	for _, fresh := range []bool{false, true} {
		p := plugin(t, m, "{}", fields)
		p.Fresh = fresh
		for round := range int64(3) {
			if _, poison, judged, err := p.Detect(nil, rows); len(poison) != 1 || poison[0].Row != 2 || judged != len(rows) {
				t.Fatalf("%v, %d, %v", poison, judged, err)
			}
			if want := []int64{10 * (round + 1), 12 * (round + 1)}; !slices.Equal(p.Counts.Metrics, want) {
				t.Errorf("counted %v, want %v", p.Counts.Metrics, want)
			}
		}
	}
	rows, fields = table(m.paths(), [][]any{{11, "", math.MaxInt64 - 1}, {11, "", 3}})
	p := plugin(t, m, "{}", fields)
	for range 2 {
		p.Detect(nil, rows)
	}
	if p.Counts.Metrics[1] != math.MaxInt64 {
		t.Errorf("counted %v", p.Counts.Metrics)
	}
}

// What a look-up costs a guest, the table apart.
func BenchmarkLookup(b *testing.B) {
	m := load(b, file(b, "testdata/lookup.wasm"), Options{Ceiling: Limits{FuelPerCall: 1e12}})
	for name, do := range map[string]int{"asked": 1, "not asked": 99} {
		var cells [][]any
		for range 256 {
			cells = append(cells, []any{do, "known", 15})
		}
		rows, fields := table(m.paths(), cells)
		b.Run(name, func(b *testing.B) {
			p := NewPlugin(m, []byte("{}"), fields, Identity{Lookup: mine})
			defer p.Close()
			var hits []abi.Hit
			for i := 0; i < b.N; i += len(rows) {
				if hits, _, _, _ = p.Detect(hits[:0], rows); len(hits) != len(rows) {
					b.Fatal("not judged")
				}
			}
		})
	}
}
