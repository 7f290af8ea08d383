package wasm

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// benchmarkRole gives 4 096 rows to a filter or a map.
func benchmarkRole(b *testing.B, path, config string, cells func(r *rand.Rand) []any) {
	m := load(b, file(b, path), Options{})
	r := rand.New(rand.NewPCG(1, 2))
	var all [][]any
	for range abi.RowsMax {
		all = append(all, cells(r))
	}
	rows, fields := table(m.paths(), all)
	p := plugin(b, m, config, fields)
	hits, _, _, err := p.Detect(nil, rows)
	if err != nil || len(hits) == 0 {
		b.Fatal(len(hits), err)
	}
	b.ReportAllocs()
	for b.Loop() {
		hits, _, _, _ = p.Detect(hits[:0], rows)
	}
	if p.Counts.Failures > 0 {
		b.Fatalf("%+v", p.Counts)
	}
	perRow(b, len(rows))
	b.ReportMetric(float64(p.Counts.Fuel)/float64(p.Counts.Rows), "fuel/row")
}

// BenchmarkFilter compares a number; half of the rows pass.
func BenchmarkFilter(b *testing.B) {
	benchmarkRole(b, roles+"above.wasm", `{"least":50}`, func(r *rand.Rand) []any { return []any{r.IntN(100)} })
}

// BenchmarkMap writes a number, a double and a text of some twenty bytes.
func BenchmarkMap(b *testing.B) {
	benchmarkRole(b, roles+"length.wasm", "{}", func(r *rand.Rand) []any { return []any{strings.Repeat("x", 10+r.IntN(20)), r.IntN(100)} })
}

// BenchmarkEntropy is the map of plugins/label_entropy on names of two labels.
func BenchmarkEntropy(b *testing.B) {
	benchmarkRole(b, "../../plugins/label_entropy/label_entropy.wasm", "{}", func(r *rand.Rand) []any { return []any{strings.Repeat("ab", 4+r.IntN(4)) + ".example.com"} })
}

// benchmarkAggregate takes 4 096 rows into so many states.
func benchmarkAggregate(b *testing.B, path string, states int) {
	m := load(b, file(b, path), Options{})
	r := rand.New(rand.NewPCG(1, 2))
	var cells [][]any
	var groups []uint32
	for i := range abi.RowsMax {
		cells, groups = append(cells, []any{r.IntN(100)}), append(groups, uint32(i%states))
	}
	rows, fields := table(m.paths(), cells)
	p := plugin(b, m, "{}", fields)
	var all [][]byte
	for range states {
		all = append(all, make([]byte, m.Manifest.Aggregate.StateSize))
	}
	failed := func(_ int, err error, _ bool) { b.Fatal(err) }
	b.ReportAllocs()
	for b.Loop() {
		p.Update(all, groups, rows, failed)
	}
	perRow(b, len(rows))
}

// BenchmarkUpdate takes rows into states of 40 bytes, BenchmarkUpdateLarge into states of 400, four rows a state.
func BenchmarkUpdate(b *testing.B) { benchmarkAggregate(b, roles+"weighted.wasm", 1024) }
func BenchmarkUpdateLarge(b *testing.B) {
	benchmarkAggregate(b, "../../plugins/entity_risk/entity_risk.wasm", 1024)
}

// BenchmarkFinish asks for the values of 4 096 states.
func BenchmarkFinish(b *testing.B) {
	m := load(b, file(b, roles+"weighted.wasm"), Options{})
	p := plugin(b, m, "{}", []event.Field{0})
	var all [][]byte
	for range abi.RowsMax {
		all = append(all, make([]byte, m.Manifest.Aggregate.StateSize))
	}
	failed := func(_ int, err error, _ bool) { b.Fatal(err) }
	b.ReportAllocs()
	for b.Loop() {
		p.Finish(all, func(int, event.Value) {}, failed)
	}
	perRow(b, len(all))
}
