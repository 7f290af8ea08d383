package engine

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// What a row of first_seen costs when every second one brings a new value, and what a value takes in memory.
func BenchmarkFirstSeen(b *testing.B) {
	f := &event.Fields{}
	user, host := f.Add("user"), f.Add("host")
	o := &operator.FirstSeen{Ident: operator.Ident{Pipeline: "p", Operator: "o", Form: "first_seen/1"}, Keys: []event.Field{user}, Values: []event.Field{host}, History: 30 * 86_400_000}
	o.Init()
	spec := &Spec{Name: "p", Fields: f, Streams: []Stream{{Name: "s"}}, Operators: []Operator{{Name: "o", Inputs: []int{0}, FirstSeen: o}}}
	g := NewGraph(spec, 1)
	g.src[0].add(operator.NegInf)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ReportAllocs()
	b.ResetTimer()
	batch := event.NewBatch(f, []event.Field{user, host})
	var items []Item
	for n := 0; n < b.N; {
		batch.Reset()
		items = items[:0]
		for range 4096 {
			v := n / 2
			batch.AppendRow(event.Value{Kind: event.String, Text: fmt.Appendf(nil, "user%d", v%10_000)}, event.Value{Kind: event.String, Text: fmt.Appendf(nil, "host%d.example.org", v)})
			items = append(items, Item{Row: Row{TS: int64(n), Batch: batch, Row: int32(batch.Rows - 1)}})
			n++
		}
		if err := g.Block(items); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(g.Keys(0)), "B/value")
}
