package operator

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Kept cells: what an operator stores of a row, a kind, a length and a text for each field of a list.

// sortedByPath returns the fields in the order of their paths, each once.
func sortedByPath(fields *event.Fields, list []event.Field) []event.Field {
	slices.SortFunc(list, func(a, b event.Field) int { return strings.Compare(fields.Path(a), fields.Path(b)) })
	return slices.Compact(list)
}

// packCells copies the cells of a list of fields into the arena. Rows are forgotten about in the order in which they came, so
// they share chunks.
func packCells(arena []byte, list []event.Field, in *In) (data, rest []byte) {
	size := 0
	for _, f := range list {
		size += 1 + binary.MaxVarintLen32 + len(in.Value(f).Text)
	}
	if cap(arena)-len(arena) < size {
		arena = make([]byte, 0, max(size, 32<<10))
	}
	from := len(arena)
	for _, f := range list {
		v := in.Value(f)
		arena = event.AppendBytes(append(arena, byte(v.Kind)), v.Text)
	}
	return arena[from:len(arena):len(arena)], arena
}

// cellAt returns the cell at a place of the list.
func cellAt(data []byte, place int) event.Value {
	r := event.Reader{B: data}
	for range place {
		r.Byte()
		r.Bytes()
	}
	return event.Value{Kind: event.Kind(r.Byte()), Text: r.Bytes()}
}

// goodCells says whether data is n cells.
func goodCells(data []byte, n int) bool {
	r := event.Reader{B: data}
	for range n {
		if event.Kind(r.Byte()) > event.Array {
			return false
		}
		r.Bytes()
	}
	return r.Done()
}
