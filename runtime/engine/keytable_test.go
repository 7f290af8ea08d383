package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestKeyTable compares the table with a map, over keys of all lengths that come, go and come again in the slots that others left.
func TestKeyTable(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		var table keyTable
		want, views := map[string]int32{}, map[string]string{}
		var free []int32
		next, most := int32(0), 1+r.IntN(3000)
		key := func() string {
			k := fmt.Sprint(r.IntN(2 * most))
			if n := r.IntN(200); n == 0 {
				k += string(make([]byte, r.IntN(3*chunkBytes)))
			} else if n < 20 {
				k += string(make([]byte, r.IntN(100)))
			}
			return k
		}
		for range 20_000 {
			k := key()
			ref, ok := table.find([]byte(k))
			if at, in := want[k]; ok != in || ok && ref != at {
				t.Fatalf("%.20q: slot %d, %v; want %d, %v", k, ref, ok, at, in)
			}
			switch {
			case ok && r.IntN(3) > 0:
				table.remove(ref)
				delete(want, k)
				free = append(free, ref)
			case !ok && len(want) < most:
				if n := len(free); n > 0 {
					ref, free = free[n-1], free[:n-1]
				} else {
					ref, next = next, next+1
				}
				table.add([]byte(k), ref)
				want[k] = ref
				if r.IntN(100) == 0 {
					views[k] = table.text(ref)
				}
			}
		}
		live := int64(0)
		for k, at := range want {
			live += int64(len(k))
			if ref, ok := table.find([]byte(k)); !ok || ref != at || table.text(ref) != k {
				t.Fatalf("%.20q: slot %d, %v; want %d", k, ref, ok, at)
			}
		}
		for k, view := range views {
			if view != k {
				t.Fatalf("a view of %.20q has become %.20q", k, view)
			}
		}
		if table.n != len(want) || table.live != live {
			t.Fatalf("%d keys of %d bytes, want %d of %d", table.n, table.live, len(want), live)
		}
		for _, k := range slices.Collect(maps.Keys(want)) {
			table.remove(want[k])
		}
		if n := slices.IndexFunc(table.words, func(w uint64) bool { return w != 0 }); n >= 0 || table.live != 0 || table.bytes > chunkBytes {
			t.Fatalf("an empty table has a word at %d, %d bytes, %d of chunks", n, table.live, table.bytes)
		}
	}
}
