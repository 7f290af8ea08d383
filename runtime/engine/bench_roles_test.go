package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// benchKeys are the keys of a tumbling window of 20 s at 50 000 events a second: each has twenty rows in a window.
const benchKeys = 50_000

// benchWindow runs a tumbling window over rows of random keys, blocks of 4096, with its closing.
func benchWindow(b *testing.B, w operator.Window, aggregate func(f *event.Fields) operator.Aggregate) {
	f := &event.Fields{}
	k, v := f.Add("k"), f.Add("v")
	w.Ident, w.Keys = operator.Ident{Pipeline: "p", Operator: "o", Form: w.Kind.Form()}, []event.Field{k}
	w.Aggregates = []operator.Aggregate{aggregate(f)}
	w.Init(f)
	spec := &Spec{Name: "p", Fields: f, Streams: []Stream{{Name: "s"}}, Operators: []Operator{{Name: "o", Inputs: []int{0}, Window: &w}}}
	g := NewGraph(spec, 1)
	defer g.Close()
	g.src[0].add(operator.NegInf)
	r := rand.New(rand.NewPCG(1, 2))
	var blocks [][]Item
	for i := range 64 {
		batch := event.NewBatch(f, []event.Field{k, v})
		var items []Item
		for j := range 4096 {
			batch.AppendRow(event.Value{Kind: event.String, Text: fmt.Appendf(nil, "10.0.%d", r.IntN(benchKeys))}, event.Value{Kind: event.Number, Text: strconv.AppendInt(nil, r.Int64N(100), 10)})
			items = append(items, Item{Row: Row{Batch: batch, Row: int32(j), Name: operator.Named(event.Hash([]byte{byte(i), byte(j), byte(j >> 8)}))}})
		}
		blocks = append(blocks, items)
	}
	n := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		items := blocks[int(n/4096)%len(blocks)]
		for i := range items {
			items[i].TS = n / 50
			n++
		}
		if err := g.Block(items); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
}

// What a row costs in a window by what is worked out: a native sum, and aggregates of plugins with small and large states.
func BenchmarkAggregates(b *testing.B) {
	risk, err := os.ReadFile("../../plugins/entity_risk/entity_risk.wasm")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := modules(); err != nil {
		b.Fatal(err)
	}
	m, err := moduleHost.Load(risk, wasm.Options{})
	if err != nil {
		b.Fatal(err)
	}
	of := func(m *wasm.Module) func(f *event.Fields) operator.Aggregate {
		return func(f *event.Fields) operator.Aggregate {
			p := &Plugin{Ident: operator.Ident{Pipeline: "p", Operator: "o"}, Module: m, Config: []byte("{}"), Fields: []event.Field{f.Add("v")}}
			return operator.Aggregate{Name: f.Add("x"), Func: operator.Opaque, Provider: &Aggregator{p}}
		}
	}
	for name, aggregate := range map[string]func(f *event.Fields) operator.Aggregate{
		"sum": func(f *event.Fields) operator.Aggregate {
			return operator.Aggregate{Name: f.Add("x"), Func: operator.Sum, Field: f.Add("v")}
		},
		"weighted": of(roleModule(b, "weighted")), "risk": of(m),
	} {
		b.Run("tumbling/"+name, func(b *testing.B) { benchWindow(b, operator.Window{Size: 20_000}, aggregate) })
		b.Run("hopping/"+name, func(b *testing.B) {
			benchWindow(b, operator.Window{Kind: operator.Hopping, Size: 20_000, Slide: 5_000}, aggregate)
		})
	}
}
