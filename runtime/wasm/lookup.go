package wasm

import (
	"math"
	"strconv"

	"github.com/tetratelabs/wazero/api"

	"github.com/seed-98920119/tocsin/abi"
)

// Lookup finds a key in one of the tables that a manifest declares, by its place in the list: the row, a JSON object that is good until
// the next call; abi.NotFound; or abi.Denied if the table was not granted.
type Lookup func(table int, key []byte) (row []byte, c abi.Code)

// Grant lets the plugin look up tables from now on.
func (p *Plugin) Grant(l Lookup) {
	if p.id.Lookup = l; p.in != nil {
		p.in.guest.asks.lookup = l
	}
}

// asks is what a guest may ask for beside its rows, and what it counts.
type asks struct {
	lookup  Lookup
	tables  int
	counted []int64 // in this call, by counter
}

func newAsks(m *abi.Manifest, l Lookup) asks {
	return asks{lookup: l, tables: len(m.Tables), counted: make([]int64, len(m.Metrics))}
}

// count adds what a good call has counted.
func (a *asks) count(total []int64) {
	for i, n := range a.counted {
		total[i] = sum(total[i], n)
	}
}

// sum is that of two numbers of at least 0, or the largest there is.
func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// lookup copies what a table says of a key: (table, kptr, klen, dst, cap) -> i64. Pointers are looked at before the table, so that
// what it says decides about no fault.
func lookup(g *guest, m api.Memory, stack []uint64) {
	table := uint32(stack[0])
	key := g.bytes(m, stack[1], stack[2])
	var dst []byte
	if room := uint32(stack[4]); room > 0 {
		var ok bool
		if dst, ok = m.Read(uint32(stack[3]), room); !ok {
			g.outside(stack[3], stack[4])
		}
	}
	switch {
	case int64(table) >= int64(g.asks.tables):
		stack[0] = code(abi.Invalid)
		return
	case g.asks.lookup == nil || g.rows == nil: // at init and close there are no rows, so there is no version of a table either
		stack[0] = code(abi.Denied)
		return
	}
	row, c := g.asks.lookup(int(table), key)
	if c != abi.OK {
		stack[0] = code(c)
		return
	}
	n := copy(dst, row)
	g.charge(int64(n))
	stack[0] = uint64(len(row))
}

// metric counts: (id, delta).
func metric(g *guest, _ api.Memory, stack []uint64) {
	g.charge(100)
	id, delta := uint32(stack[0]), int64(stack[1])
	switch {
	case int64(id) >= int64(len(g.asks.counted)):
		g.trap(Counter, "metric was given the counter "+strconv.FormatUint(uint64(id), 10)+", which its manifest does not have")
	case delta < 0:
		g.trap(Counter, "metric was given less than 0: a counter only grows")
	default:
		g.asks.counted[id] = sum(g.asks.counted[id], delta)
	}
}
