package engine

import (
	"fmt"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// What an alert costs that is held back, grouped (one revision in 100 s), or added to a user's and a host's risk: among 10 000 users
// and 1 000 hosts, beside a filter that every event passes (none).
func BenchmarkAlerts(b *testing.B) {
	for _, kind := range []string{"none", "suppress", "group", "risk"} {
		b.Run(kind, func(b *testing.B) { benchmarkAlerts(b, kind) })
	}
}

func benchmarkAlerts(b *testing.B, kind string) {
	f := &event.Fields{}
	user, host := f.Add("user"), f.Add("host")
	title, err := alert.ParseText("{user} on {host}", func(name string) (event.Field, error) { return f.Add(name), nil })
	if err != nil {
		b.Fatal(err)
	}
	columns := names(f, []event.Field{user, host})
	hits := Operator{Name: "hits", Inputs: []int{0}, Filter: &Filter{Ident: operator.Ident{Pipeline: "p", Operator: "hits", Form: "filter/1"}},
		Alert: &alert.Template{Rule: alert.Rule{ID: "hits"}, Title: title, Severity: "low", RiskScore: 1, Held: true, Columns: columns,
			Entities: []alert.Entity{{Field: columns[0], Type: "user"}, {Field: columns[1], Type: "host"}}}}
	x := Operator{Name: "x", Inputs: []int{1}}
	switch kind {
	case "suppress":
		x.Suppress = &operator.Suppress{Keys: []event.Field{user}, For: 3_600_000, Events: 1}
	case "group":
		x.Suppress = &operator.Suppress{Keys: []event.Field{user}, Gap: 600_000, Span: 3_600_000, Every: 100_000, Events: 10}
	case "risk":
		x.Risk, x.RiskBy = &operator.Risk{HalfLife: 86_400_000, Threshold: 1e6, RuleMax: 1e5, Keep: 20}, &RiskBy{}
		x.Risk.Init(f)
	}
	spec := &Spec{Name: "p", Fields: f, Streams: []Stream{{Name: "s"}}, Operators: []Operator{hits}}
	if kind != "none" {
		if x.Suppress != nil {
			x.Suppress.Init(f, []event.Field{user, host})
		}
		spec.Operators = append(spec.Operators, x)
	}
	g := NewGraph(spec, 1)
	g.src[0].add(operator.NegInf)
	batch := event.NewBatch(f, []event.Field{user, host})
	var items []Item
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		batch.Reset()
		items = items[:0]
		for range 4096 {
			v := n * 7919
			batch.AppendRow(event.Value{Kind: event.String, Text: fmt.Appendf(nil, "user%d", v%10_000)}, event.Value{Kind: event.String, Text: fmt.Appendf(nil, "host%d.example.org", v%1_000)})
			items = append(items, Item{Row: Row{TS: int64(n), Name: operator.Named(event.ID{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}), Batch: batch, Row: int32(batch.Rows - 1)}})
			n++
		}
		if err := g.Block(items); err != nil {
			b.Fatal(err)
		}
	}
}
