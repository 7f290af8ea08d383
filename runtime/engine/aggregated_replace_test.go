package engine

import (
	"fmt"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// A value that the old module has said already is asked of the new one, as it would be if the key had been packed meanwhile.
func TestValuesAreAskedAgain(t *testing.T) {
	for _, replaces := range []bool{false, true} {
		spec := weighedSpec(t, operator.Window{Size: 20_000, Lateness: 30_000}, `{"most":100}`, "")
		g := newCaseGraph(spec, []refStream{{parts: 1}}, 2, 0)
		b := event.NewBatch(spec.Fields, spec.Streams[0].Reads)
		row := func(ts int64, v int) Item {
			b.AppendRow(event.Value{Kind: event.String, Text: []byte("a")}, event.Value{}, event.Value{Kind: event.Number, Text: fmt.Append(nil, v)})
			return Item{Row: Row{TS: ts, Batch: b, Row: int32(b.Rows - 1), Name: operator.Named(event.ID{byte(ts / 1000)})}}
		}
		var last string
		block := func(items ...Item) {
			if err := g.Block(items); err != nil {
				t.Fatal(err)
			}
			for _, r := range g.ops[0].results() {
				if r.Kind == operator.Final {
					last = fmt.Sprint(r.Batch.Value(spec.Operators[0].Window.Aggregates[0].Name, int(r.Row)))
				}
			}
		}
		block(Item{Mark: event.Announce}, row(1000, 60), row(2000, 50), row(25_000, 1))
		want := fmt.Sprint(event.Value{Kind: event.Null})
		if replaces {
			next := spec.Operators[0]
			w := *next.Window
			w.Aggregates = []operator.Aggregate{w.Aggregates[0]}
			p := *w.Aggregates[0].Provider.(*Aggregator).Plugin
			p.Config = []byte(`{"most":1000}`)
			w.Aggregates[0].Provider, next.Window = &Aggregator{&p}, &w
			x, err := g.replacement(&next, 0)
			if err != nil {
				t.Fatal(err)
			}
			old := g.replace(x).old
			if len(old) != 2 || spec.Operators[0].PluginAt(0) != &p {
				t.Errorf("%d were replaced", len(old))
			}
			for _, p := range old {
				p.Close()
			}
			want = fmt.Sprint(event.Value{Kind: event.Number, Text: []byte("160050")})
		}
		block(row(60_000, 1))
		if last != want {
			t.Errorf("replaced %v: %s, want %s", replaces, last, want)
		}
		g.Close()
	}
}
