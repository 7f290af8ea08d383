package operator

import (
	"strings"
	"testing"
)

// A Namer's ids are those of Ident.ID.
func TestNamer(t *testing.T) {
	for _, name := range []string{"", "p", strings.Repeat("long", 50)} {
		n := Ident{Pipeline: name, Operator: "o" + name, Form: "enrich/1"}
		made := n.Namer()
		for _, part := range []string{"", "0123456789abcdef", strings.Repeat("x", 300), "0123456789abcdef"} {
			if got, want := made.ID([]byte(part)), n.ID([]byte(part)); got != want {
				t.Errorf("%q, %q: %s, want %s", name, part, got, want)
			}
		}
	}
}

func BenchmarkIDs(b *testing.B) {
	n := Ident{Pipeline: "enrich", Operator: "known_machines", Form: "enrich/1"}
	id := make([]byte, 16)
	b.Run("Ident", func(b *testing.B) {
		for range b.N {
			_ = n.ID(id)
		}
	})
	b.Run("Namer", func(b *testing.B) {
		m := n.Namer()
		for range b.N {
			_ = m.ID(id)
		}
	})
}
