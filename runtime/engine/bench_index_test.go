package engine

import (
	"fmt"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// BenchmarkFilters is what an event costs in filters that admit nothing, with an index and without, in blocks of many and of few rows.
func BenchmarkFilters(b *testing.B) {
	for _, filters := range []int{1, 2, 8, 1000} {
		for _, rows := range []int{4096, 64} {
			for _, least := range []int{1, 1 << 20} {
				if least > 1 && filters > 8 {
					continue
				}
				b.Run(fmt.Sprintf("%d filters, %d rows, index %v", filters, rows, least == 1), func(b *testing.B) { benchFilters(b, filters, rows, least) })
			}
		}
	}
}

func benchFilters(b *testing.B, filters, rows, least int) {
	f := &event.Fields{}
	spec := &Spec{Name: "b", Fields: f, Streams: []Stream{{Name: "s"}}}
	for i := range filters {
		spec.Operators = append(spec.Operators, Operator{Name: fmt.Sprint(i), Inputs: []int{0}, Where: condition(b, fmt.Sprintf("{user: user%d, agent|contains: agent%d}", i, i), f),
			Filter: &Filter{Ident: operator.Ident{Pipeline: "b", Operator: fmt.Sprint(i), Form: "filter/1"}}})
	}
	g := NewGraph(spec, 1)
	g.index(least, 1)
	g.src[0].add(operator.NegInf)
	batch := event.NewBatch(f, []event.Field{f.Add("user"), f.Add("agent")})
	items := make([]Item, rows)
	for i := range items {
		batch.AppendRow(event.Value{Kind: event.String, Text: fmt.Appendf(nil, "person%d", i)}, event.Value{Kind: event.String, Text: []byte("Mozilla/5.0 (Windows NT 10.0; Win64)")})
		items[i].Row = Row{TS: int64(i), Batch: batch, Row: int32(i)}
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range items {
			items[i].TS++
		}
		if err := g.Block(items); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/event")
}
