package engine

import (
	"fmt"
	"os"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// What a row of a plugin costs that gets and puts a value of one of 50 000 keys, beside one that does nothing.
func BenchmarkRemember(b *testing.B) {
	if _, err := modules(); err != nil {
		b.Fatal(err)
	}
	for _, x := range []struct{ name, module string }{{"idle", "idle"}, {"state", "counter"}} {
		b.Run(x.name, func(b *testing.B) {
			code, err := os.ReadFile("../../bench/rules/" + x.module + ".wasm")
			if err != nil {
				b.Fatal(err)
			}
			m, err := moduleHost.Load(code, wasm.Options{})
			if err != nil {
				b.Fatal(err)
			}
			benchmarkRemember(b, m)
		})
	}
}

func benchmarkRemember(b *testing.B, m *wasm.Module) {
	f := &event.Fields{}
	key := f.Add("key")
	p := &Plugin{Ident: operator.Ident{Pipeline: "p", Operator: "o", Form: "detect/1"}, Module: m, Config: []byte("{}"), Rules: map[uint32]*Rule{1: {Alert: &alert.Template{Severity: "low"}}}}
	for range m.Manifest.Reads {
		p.Fields = append(p.Fields, key)
	}
	spec := &Spec{Name: "p", Fields: f, Streams: []Stream{{Name: "s"}}, Operators: []Operator{{Name: "o", Inputs: []int{0}, Plugin: p}}}
	g := NewGraph(spec, 1)
	defer g.Close()
	g.src[0].add(operator.NegInf)
	g.attach([2]uint64{1, 2}, 1, []uint32{0}, nil)
	var blocks [12][]Item // together 49 152 keys, in no order
	for i := range blocks {
		batch := event.NewBatch(f, []event.Field{key})
		for k := range 4096 {
			n := (i*4096 + k) * 7919 % (len(blocks) * 4096)
			batch.AppendRow(event.Value{Kind: event.String, Text: fmt.Appendf(nil, "10.0.%d.%d", n/200, n%200)})
			blocks[i] = append(blocks[i], Item{Row: Row{Batch: batch, Row: int32(k)}})
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		items := blocks[n/4096%len(blocks)]
		for i := range items {
			items[i].TS = int64(n)
			n++
		}
		if err := g.Block(items); err != nil {
			b.Fatal(err)
		}
	}
}
