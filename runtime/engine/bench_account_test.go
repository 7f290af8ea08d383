package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// BenchmarkAccounting is what a pipeline's accounts of its operators and plugins cost: CPU with the clocks read over CPU without. One process, one graph and
// the same rows in turn with, without, and without once more, in any order; the second of those over the first is what the machine adds by itself. An
// iteration is one ratio of each, of some milliseconds. The figures are in % above 1: the median, the quartiles, and between what the median is
// in 95 of 100 cases (by ranks, which assume nothing about the machine).
//
//	go test ./runtime/engine -run '^$' -bench Accounting -benchtime 1500x -cpu 1
func BenchmarkAccounting(b *testing.B) {
	for _, rows := range []int{4096, 512, 64, 1} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) { benchAccounting(b, rows) })
	}
}

// accountedRows are those of a window of 20 s, and of a turn.
const accountedRows = 4096

func benchAccounting(b *testing.B, rows int) {
	g, blocks := accounted(b, rows)
	defer g.Close()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range 100 {
		accountedTurn(b, g, blocks, false)
	}
	var with, same []float64
	r := rand.New(rand.NewPCG(1, uint64(rows)))
	for b.Loop() {
		if len(with)%50 == 0 {
			runtime.GC()
		}
		var took [3]float64
		for _, i := range r.Perm(3) {
			took[i] = accountedTurn(b, g, blocks, i > 0)
		}
		with, same = append(with, took[0]/took[1]), append(same, took[2]/took[1])
	}
	n := g.ops[len(g.ops)-1]
	if c := callerOf(n.shards[0]).plugin.Counts; c.Rows == 0 || c.Time == 0 || n.work.time == 0 {
		b.Fatalf("nothing was measured: %+v, %+v", c, n.work)
	}
	slices.Sort(with)
	slices.Sort(same)
	rank := 0.98 / math.Sqrt(float64(len(with)))
	for unit, at := range map[string]float64{"%-median": 0.5, "%-q1": 0.25, "%-q3": 0.75, "%-from": 0.5 - rank, "%-to": 0.5 + rank} {
		b.ReportMetric(above(with, at), unit)
	}
	b.ReportMetric(above(same, 0.5), "%-control")
	b.ReportMetric(0, "ns/op")
}

// accountedTurn runs the rows of a window through the graph, 20 s later each time, and returns the CPU that took, ns.
func accountedTurn(b *testing.B, g *Graph, blocks [][]Item, blind bool) float64 {
	g.meter.blind = blind
	for _, n := range g.ops {
		for _, s := range n.shards {
			if n.spec.Plugin != nil {
				callerOf(s).plugin.Blind = blind
			}
		}
	}
	began := cpu()
	for _, items := range blocks {
		for i := range items {
			items[i].TS += 20_000
		}
		if err := g.Block(items); err != nil {
			b.Fatal(err)
		}
	}
	return float64(cpu() - began)
}

// above is the ratio at a place from 0 to 1 of ascending ratios, in % above 1.
func above(ratios []float64, at float64) float64 {
	return 100 * (ratios[int(max(at, 0)*float64(len(ratios)-1))] - 1)
}

// accounted is a graph of the kinds that a pipeline has, and rows of one window for it in blocks of so many: ten filters, a
// count by address, a plugin that judges the counts, and one that searches two texts of each row.
func accounted(b *testing.B, rows int) (*Graph, [][]Item) {
	f := &event.Fields{}
	ip, user, command := f.Add("ip"), f.Add("user"), f.Add("command")
	ident := func(name, form string) operator.Ident {
		return operator.Ident{Pipeline: "p", Operator: name, Form: form}
	}
	count := &operator.Window{Ident: ident("count", operator.Tumbling.Form()), Size: 20_000, Keys: []event.Field{ip},
		Aggregates: []operator.Aggregate{{Name: f.Add("n"), Func: operator.Count, All: true}}}
	count.Init(f)
	spec := &Spec{Name: "p", Fields: f, Streams: []Stream{{Name: "s"}}}
	for i := range 10 {
		name := fmt.Sprint("user", i)
		spec.Operators = append(spec.Operators, Operator{Name: name, Inputs: []int{0}, Where: condition(b, "{user: "+name+"}", f), Filter: &Filter{Ident: ident(name, "filter/1")}})
	}
	spec.Operators = append(spec.Operators,
		Operator{Name: "count", Inputs: []int{0}, Window: count, Names: names(f, count.Columns)},
		Operator{Name: "judge", Inputs: []int{11}, Plugin: benchPlugin(b, "../../plugins/brute_force/brute_force.wasm", ident("judge", "detect/1"), f.Add("n"), ip)},
		Operator{Name: "search", Inputs: []int{0}, Plugin: benchPlugin(b, "../../bench/rules/helper.wasm", ident("search", "detect/1"), command, user)})
	g := NewGraph(spec, 1)
	g.src[0].add(operator.NegInf)
	r := rand.New(rand.NewPCG(1, 2))
	var blocks [][]Item
	for at := 0; at < accountedRows; at += rows {
		batch := event.NewBatch(f, []event.Field{ip, user, command})
		items := make([]Item, rows)
		for i := range items {
			batch.AppendRow(text("10.0.%d", r.IntN(1_000)), text("user%d", r.IntN(500)), text(`C:\Windows\System32\svchost.exe -k netsvcs -p -s service%d --with --some --more`, r.IntN(100)))
			items[i].Row = Row{TS: int64(at+i) * 20_000 / accountedRows, Batch: batch, Row: int32(i), Name: operator.Named(event.Hash(fmt.Append(nil, at+i)))}
		}
		blocks = append(blocks, items)
	}
	return g, blocks
}

func text(format string, n int) event.Value {
	return event.Value{Kind: event.String, Text: fmt.Appendf(nil, format, n)}
}

// benchPlugin is a module of a file as a plugin.
func benchPlugin(b *testing.B, path string, ident operator.Ident, fields ...event.Field) *Plugin {
	b.Helper()
	if _, err := modules(); err != nil {
		b.Fatal(err)
	}
	code, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	m, err := moduleHost.Load(code, wasm.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return &Plugin{Ident: ident, Module: m, Config: []byte("{}"), Fields: fields, Rules: map[uint32]*Rule{1: {}}}
}
