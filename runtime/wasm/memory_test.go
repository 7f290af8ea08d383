package wasm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/seed-98920119/tocsin/abi"
)

// layoutOf is the state of a manifest.
func layoutOf(t testing.TB, slots string) *abi.State {
	t.Helper()
	m, err := abi.ParseManifest([]byte(`{"abi":{"major":1,"minor":0},"name":"a.b","version":"1.0.0","roles":["detect"],"reads":[],"rules":[{"id":1,"title":"t"}],
		"key_by":[],"timers":1024,"state":{"version":1,"slots":[` + slots + `]}}`))
	if err != nil {
		t.Fatal(err)
	}
	return &m.State
}

const someSlots = `{"id":0,"kind":"value","max":4096},{"id":3,"kind":"map","max":2048,"key_max":40,"entries":50,"ttl":"50ms"},{"id":7,"kind":"value","max":512,"ttl":"30ms"}`

// counted is how many bytes count for the key's share, worked out anew.
func (m *Memory) counted() (n int) {
	for i := range m.slots {
		if m.slots[i].value != nil {
			n += 32 + len(m.slots[i].value)
		}
		for _, e := range m.slots[i].entries {
			n += 32 + len(e.pair)
		}
	}
	return n + 32*len(m.timers)
}

// Whatever a guest writes, a key's share is what it may have at most, and all of it as long as it is there; a call that fails leaves
// nothing behind.
func TestShareOfAKey(t *testing.T) {
	r := rand.New(rand.NewPCG(seed, 3))
	layout := layoutOf(t, someSlots)
	const share = 8 << 10
	refused, rolled := 0, 0
	for range 200 {
		var k oneKey
		a := &access{keys: &k, layout: layout, share: share}
		g := &guest{limits: Limits{FuelPerCall: 1 << 40}, access: a, rows: []Row{{Keyed: true}}}
		now := int64(0)
		for range 60 {
			now += r.Int64N(20)
			g.rows[0].TS, g.rows[0].W, g.rows[0].Seen, g.budget = now, now, now, 1<<40
			a.begin(false)
			before := k.Append(nil, layout)
			for range 1 + r.IntN(8) {
				size := k.size
				var c abi.Code
				text := bytes.Repeat([]byte{'x'}, r.IntN(3000))
				key := fmt.Append(nil, r.IntN(60))
				switch r.IntN(8) {
				case 0, 1:
					c = g.put(0, []uint64{0, 7}[r.IntN(2)], text)
				case 2, 3, 4:
					c = g.mapPut(0, 3, key, text[:min(len(text), 2048)])
				case 5:
					c = g.mapDel(0, 3, key)
				case 6:
					c = g.del(0, []uint64{0, 3, 7}[r.IntN(3)])
				case 7:
					c = g.timerSet(0, r.Int64N(100), now+r.Int64N(50))
				}
				if c == abi.Quota {
					refused++
				}
				if n := k.counted(); n != k.size || n > share {
					t.Fatalf("seed %d: %d bytes count, were %d, there are %d, of %d", seed, k.size, size, n, share)
				}
			}
			if well := r.IntN(4) > 0; well {
				a.settle(true)
			} else if a.settle(false); !bytes.Equal(before, k.Append(nil, layout)) {
				t.Fatalf("seed %d: a call that failed left something behind:\n%x\n%x", seed, before, k.Append(nil, layout))
			} else {
				rolled++
			}
			k.Due(nil, now)
		}
	}
	if refused == 0 || rolled == 0 {
		t.Errorf("seed %d: %d refused, %d taken back", seed, refused, rolled)
	}
}

// What no longer is seen gives way to what is written.
func TestShareOfWhatExpired(t *testing.T) {
	var k oneKey
	a := &access{keys: &k, layout: layoutOf(t, someSlots), share: 1000}
	g := &guest{limits: Limits{FuelPerCall: 1 << 40}, budget: 1 << 40, access: a, rows: []Row{{Keyed: true}, {Keyed: true, TS: 29, W: 29, Seen: 29}, {Keyed: true, TS: 30, W: 30, Seen: 30}}}
	a.begin(false)
	big := bytes.Repeat([]byte{'x'}, 500)
	if c := g.put(0, 7, big); c != abi.OK {
		t.Fatal(c)
	}
	if c := g.put(1, 0, big); c != abi.Quota {
		t.Errorf("500 and 500 bytes of 1 000: %v", c)
	}
	if c := g.put(2, 0, big); c != abi.OK {
		t.Errorf("once the first have expired: %v", c)
	}
	if k.value(g, 2) != nil || k.size != 532 {
		t.Errorf("%d bytes", k.size)
	}
}

// Bad slots, rows without a key, too many timers: each has its code.
func TestStateCodes(t *testing.T) {
	var k oneKey
	a := &access{keys: &k, layout: layoutOf(t, someSlots), share: 1 << 20}
	g := &guest{limits: Limits{FuelPerCall: 1 << 40}, budget: 1 << 40, access: a, rows: []Row{{Keyed: true}, {}, {Keyed: true, TS: 5, W: endOfTime, Seen: 5}}}
	a.begin(false)
	check := func(what string, got, want abi.Code) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("a slot that there is not", g.put(0, 1, nil), abi.Invalid)
	check("slot 2^32-1", g.put(0, 1<<32-1, nil), abi.Invalid)
	check("a value in a map", g.put(0, 3, nil), abi.Invalid)
	check("an entry in a value", g.mapPut(0, 0, []byte("a"), nil), abi.Invalid)
	check("a key of no bytes", g.mapPut(0, 3, nil, nil), abi.Invalid)
	check("a key too long", g.mapPut(0, 3, bytes.Repeat([]byte{'k'}, 41), nil), abi.Quota)
	check("a value too long", g.put(0, 0, make([]byte, 4097)), abi.Quota)
	check("a new key", g.mapPut(0, 3, []byte("a"), nil), 1)
	check("and again", g.mapPut(0, 3, []byte("a"), []byte("b")), abi.OK)
	for i := range 1_000_000 {
		if c := g.timerSet(0, int64(i), 10); c != abi.OK {
			check("too many timers", c, abi.Quota)
			if i != 1024 {
				t.Errorf("the timer %d was refused", i)
			}
			break
		}
	}
	check("another time for one of them", g.timerSet(0, 5, -1<<63), abi.OK)
	check("which is due at once", abi.Code(k.timers[0].Due), 1)
	check("a time that there is not", g.timerSet(0, 5, endOfTime), abi.Invalid)
	a.firing = true
	check("not after the one that fired", g.timerSet(0, 5, 0), abi.Invalid)
	a.firing = false
	check("a row without a key", g.put(1, 0, nil), abi.BadRow)
	check("of a slot that there is not", g.put(1, 1, nil), abi.BadRow)
	check("back", g.put(0, 0, nil), abi.BadRow)
	check("a timer after the end", g.timerSet(2, 99, 50), abi.OK)
	if a.dropped != 1 {
		t.Errorf("%d timers dropped", a.dropped)
	}
}

// Records come from disk: any bytes end in an error or a state that writes itself down again.
func FuzzLoadMemory(f *testing.F) {
	layout := layoutOf(f, someSlots)
	var k oneKey
	a := &access{keys: &k, layout: layout, share: 1 << 20}
	g := &guest{limits: Limits{FuelPerCall: 1 << 40}, budget: 1 << 40, access: a, rows: []Row{{Keyed: true, TS: 77}}}
	a.begin(false)
	g.put(0, 0, []byte("value"))
	g.put(0, 7, nil)
	g.mapPut(0, 3, []byte("b"), []byte("c"))
	g.mapPut(0, 3, []byte("a"), nil)
	g.timerSet(0, -3, 99)
	f.Add(k.Append(nil, layout))
	f.Add([]byte{recordMap, 3, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, rec []byte) {
		var m, n Memory
		if m.Load(rec, layout) != nil {
			return
		}
		again := m.Append(nil, layout)
		if len(again) == 0 {
			return // nothing is there
		}
		if err := n.Load(again, layout); err != nil || !bytes.Equal(again, n.Append(nil, layout)) || m.size != n.size || m.size != m.counted() || m.Next() != n.Next() {
			t.Errorf("%x became %x, %v", rec, again, err)
		}
	})
}
