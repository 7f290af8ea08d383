package engine

import (
	"fmt"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// BenchmarkMeter is what telling operators' time apart costs: 50 filters that each let a row in 50 through, so that every one of them is
// busy in every block.
func BenchmarkMeter(b *testing.B) {
	for _, rows := range []int{4096, 64} {
		for name, blind := range map[string]bool{"on": false, "off": true} {
			b.Run(fmt.Sprintf("%d rows/%s", rows, name), func(b *testing.B) { benchMeter(b, rows, blind) })
		}
	}
}

func benchMeter(b *testing.B, rows int, blind bool) {
	const filters = 50
	f := &event.Fields{}
	spec := &Spec{Name: "b", Fields: f, Streams: []Stream{{Name: "s"}}}
	for i := range filters {
		spec.Operators = append(spec.Operators, Operator{Name: fmt.Sprint(i), Inputs: []int{0}, Where: condition(b, fmt.Sprintf("{user: user%d}", i), f),
			Filter: &Filter{Ident: operator.Ident{Pipeline: "b", Operator: fmt.Sprint(i), Form: "filter/1"}}})
	}
	g := NewGraph(spec, 1)
	g.meter.blind = blind
	g.src[0].add(operator.NegInf)
	batch := event.NewBatch(f, []event.Field{f.Add("user")})
	items := make([]Item, rows)
	for i := range items {
		batch.AppendRow(event.Value{Kind: event.String, Text: fmt.Appendf(nil, "user%d", i%filters)})
		items[i].Row = Row{TS: int64(i), Batch: batch, Row: int32(i)}
	}
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
