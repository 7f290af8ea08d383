package engine

import (
	"strconv"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// A map can be replaced between two blocks by one that writes the same columns.
func TestMapsAreReplaced(t *testing.T) {
	spec := &Spec{Name: "p", Fields: &event.Fields{}, Streams: []Stream{{Name: "s"}}}
	f := spec.Fields
	k, v, said := f.Add("k"), f.Add("v"), f.Add("said")
	of := func(field event.Field) *Plugin {
		return &Plugin{Ident: operator.Ident{Pipeline: "p", Operator: "o", Form: "map/1"}, Module: roleModule(t, "length"), Config: []byte("{}"), Fields: []event.Field{field, v}, Columns: []event.Field{said}, Written: []int{2}}
	}
	spec.Operators = []Operator{{Name: "o", Inputs: []int{0}, Plugin: of(k), Names: names(f, []event.Field{said}), Fingerprint: "plugin"}}
	g := NewGraph(spec, 2)
	defer g.Close()
	g.src[0].add(operator.NegInf)
	b := event.NewBatch(f, []event.Field{k, v})
	b.AppendRow(event.Value{Kind: event.String, Text: []byte("text")}, event.Value{Kind: event.Number, Text: []byte("17")})
	for _, want := range []string{"4:text", "2:17"} {
		if err := g.Block([]Item{{Row: Row{Batch: b}}}); err != nil {
			t.Fatal(err)
		}
		r := g.ops[0].said[0]
		if got := string(r.Batch.Value(said, int(r.Row)).Text); got != want {
			t.Errorf("%s, not %s", got, want)
		}
		next := spec.Operators[0]
		next.Plugin = of(v)
		x, err := g.replacement(&next, Own)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range g.replace(x).old {
			p.Close()
		}
	}
}

// One that remembers goes on with what the one before it has kept, on every shard.
func TestMapsThatRememberAreReplaced(t *testing.T) {
	spec := movedSpec(t, "first_map")
	g := NewGraph(spec, 2)
	defer g.Close()
	g.src[0].add(operator.NegInf)
	f := spec.Fields
	b := event.NewBatch(f, []event.Field{f.Add("k")})
	var items []Item
	for i := range 8 {
		b.AppendRow(event.Value{Kind: event.String, Text: []byte{byte('a' + i)}})
		items = append(items, Item{Row: Row{Batch: b, Row: int32(i)}})
	}
	for want := 1; want < 4; want++ {
		if err := g.Block(items); err != nil {
			t.Fatal(err)
		}
		for i := range g.ops[0].said {
			r := &g.ops[0].said[i]
			if got := string(r.Batch.Value(f.Add("rule_id"), int(r.Row)).Text); got != strconv.Itoa(want) {
				t.Errorf("row %d: %s, not %d", i, got, want)
			}
		}
		if len(g.ops[0].said) != len(items) {
			t.Errorf("%d rows of %d", len(g.ops[0].said), len(items))
		}
		x, err := g.replacement(&movedSpec(t, "first_map").Operators[0], Own)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range g.replace(x).old {
			p.Close()
		}
	}
}
