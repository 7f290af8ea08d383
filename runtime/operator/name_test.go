package operator

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// The ids of rows that were passed on, however often and by how many ways, are those that Ident.ID makes at each step.
func TestNames(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	type passer struct {
		ident Ident
		namer *Namer
		rows  []Name
		ids   []event.ID
	}
	var all []*passer
	for i := range 40 {
		p := &passer{ident: Ident{Pipeline: strings.Repeat("p", i*10), Operator: fmt.Sprint("o", i), Form: "filter/1"}}
		var ways []*Namer
		take := func(name Name, id event.ID) {
			p.rows, p.ids = append(p.rows, name), append(p.ids, p.ident.ID(id[:]))
		}
		for k := range 3 {
			id := event.ID{byte(i), byte(k)}
			take(Named(id), id)
		}
		for _, x := range all[max(0, i-3):] { // the ways double at each
			if r.IntN(4) > 0 {
				ways = append(ways, x.namer.Ways()...)
				for k := range x.rows {
					take(x.rows[k], x.ids[k])
				}
			}
		}
		for len(p.rows) > 200 {
			k := r.IntN(len(p.rows))
			p.rows[k], p.ids[k] = p.rows[len(p.rows)-1], p.ids[len(p.rows)-1]
			p.rows, p.ids = p.rows[:len(p.rows)-1], p.ids[:len(p.rows)-1]
		}
		if p.namer = p.ident.Namer(ways...); len(p.namer.Ways()) > namersMost {
			t.Fatalf("seed %d: operator %d names by %d ways", seed, i, len(p.namer.Ways()))
		}
		for k := range p.rows {
			p.rows[k] = p.namer.Name(p.rows[k])
			if got := p.rows[k].ID(); got != p.ids[k] {
				t.Fatalf("seed %d: operator %d, row %d: %s, want %s", seed, i, k, got, p.ids[k])
			}
		}
		all = append(all, p)
	}
}

func BenchmarkIDs(b *testing.B) {
	n := Ident{Pipeline: "enrich", Operator: "known_machines", Form: "enrich/1"}
	id := event.ID{1}
	b.Run("Ident", func(b *testing.B) {
		for range b.N {
			_ = n.ID(id[:])
		}
	})
	b.Run("Name", func(b *testing.B) {
		m := n.Namer()
		for range b.N {
			_ = m.Name(Named(id)).ID()
		}
	})
	b.Run("unasked", func(b *testing.B) {
		m := n.Namer()
		for range b.N {
			_ = m.Name(Named(id))
		}
	})
}
