//go:build unix

package engine

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/table"
)

// An operator costs the look-up, and a copy of what is passed on. ns of CPU a row, since the clock tells of others on the machine.
// passed is a filter that admits all: what any operator takes for passing a row on, the rest is what the look-up and the copy take.
func BenchmarkEnrich(b *testing.B) {
	f := &event.Fields{}
	k, a, v, whole := f.Add("k"), f.Add("a"), f.Add("v"), f.Add(event.Whole)
	b.Run("passed", func(b *testing.B) {
		benchPass(b, f, []event.Field{k, v}, Operator{Name: "o", Inputs: []int{0}, Filter: &Filter{}}, func(int) string { return fmt.Sprint("host-", 1000) })
	})
	for _, kind := range []string{"exact", "cidr"} {
		for _, rows := range []int{1000, 1_000_000} {
			b.Run(fmt.Sprint(kind, "/", rows), func(b *testing.B) {
				key := func(i int) string { // of cidr an address in a network of 20 to 27 bits
					if x := uint32(i) * 2_654_435_761; kind == "cidr" {
						return fmt.Sprintf("%d.%d.%d.%d", x>>24, x>>16&255, x>>8&255, x&255)
					}
					return fmt.Sprint("host-", i)
				}
				var text strings.Builder
				text.WriteString("id,x\n")
				seen := map[string]bool{}
				for i := range rows {
					id := key(i)
					if kind == "cidr" {
						id = netip.PrefixFrom(netip.MustParseAddr(id), 20+i%8).Masked().String()
					}
					if !seen[id] {
						fmt.Fprintf(&text, "%s,tier-%d\n", id, i%5)
					}
					seen[id] = true
				}
				path := filepath.Join(b.TempDir(), "t.csv")
				if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
					b.Fatal(err)
				}
				src, err := table.NewSource("t", table.Spec{Path: path, Format: "csv", Key: "id", Match: map[string]table.Match{"cidr": table.MatchNetworks}[kind]})
				if err != nil {
					b.Fatal(err)
				}
				o := Operator{Name: "o", Inputs: []int{0}, Enrich: &Enrich{Table: src, On: k, Whole: whole, Columns: []event.Field{k, v, a}, From: []int{1}}}
				r := rand.New(rand.NewPCG(1, 1))
				benchPass(b, f, []event.Field{k, v}, o, func(int) string { return key(r.IntN(rows)) })
			})
		}
	}
}

// benchPass gives an operator rows of the two columns, a key and a number, in blocks of 4096.
func benchPass(b *testing.B, f *event.Fields, columns []event.Field, o Operator, key func(i int) string) {
	g := NewGraph(&Spec{Fields: f, Streams: []Stream{{}}, Operators: []Operator{o}}, 1)
	g.src[0].add(operator.NegInf)
	in := event.NewBatch(f, columns)
	var items []Item
	for i := range 4096 * 16 {
		in.AppendRow(event.Value{Kind: event.String, Text: []byte(key(i))}, event.Value{Kind: event.Number, Text: []byte("12")})
		items = append(items, Item{Row: Row{TS: int64(i), Batch: in, Row: int32(i)}})
	}
	runtime.GC()
	b.ResetTimer()
	began, done := cpu(), 0
	for ; done < b.N; done += 4096 {
		at := done % len(items)
		if err := g.Block(items[at : at+4096]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu()-began)/float64(done), "cpu-ns/row")
}

// cpu is the CPU that the process has taken, ns.
func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}
