package wasm

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// oneKey is what is remembered where there is one key.
type oneKey struct{ Memory }

func (k *oneKey) Look(*Row) *Memory { return &k.Memory }
func (k *oneKey) Open(*Row) *Memory { return &k.Memory }
func (k *oneKey) Settle()           {}

// caller is a module whose tocsin_process calls one imported function with what stands at address 64: 8 bytes an argument.
func caller(module, name string, t functype) []byte {
	code := []byte{0}
	for i, p := range t.params {
		load := byte(0x28) // i32.load
		if p == i64 {
			load = 0x29
		}
		code = append(code, 0x41, 0xc0, 0, load, 0, byte(8*i))
	}
	code = append(code, opCall, 0)
	if len(t.results) > 0 {
		code = append(code, 0x1a)
	}
	code = append(code, 0x41, 0, opEnd)
	types := cat([]byte{3, 0x60, 1, i32, 1, i32, 0x60, 2, i32, i32, 1, i32, 0x60}, append(appendU32(nil, uint32(len(t.params))), t.params...), append(appendU32(nil, uint32(len(t.results))), t.results...))
	export := func(name string, kind, index byte) []byte { return append(appendName(nil, name), kind, index) }
	body := func(code ...byte) []byte { return append(appendU32(nil, uint32(len(code))), code...) }
	manifest := `{"abi":{"major":1,"minor":0},"name":"test.caller","version":"1.0.0","roles":["detect"],"reads":[],"key_by":[],"timers":2,"state":{"version":1,"slots":[{"id":0,"kind":"value","max":64},{"id":1,"kind":"map","max":64,"entries":2},{"id":8,"kind":"value","max":65536}]},"rules":[{"id":1,"title":"one"}]}`
	return file0(section(1, types...), section(2, append(appendName(appendName([]byte{1}, module), name), 0, 2)...), section(3, 3, 0, 1, 0), section(5, 1, 0, 1),
		section(7, cat([]byte{5}, export(abi.ExportTimer, 0, 3), export(abi.ExportMemory, 2, 0), export(abi.ExportArena, 0, 1), export(abi.ExportInit, 0, 2), export(abi.ExportProcess, 0, 3))...),
		section(10, cat([]byte{3}, body(0, 0x41, 0x80, 8, opEnd), body(0, 0x41, 0, opEnd), body(code...))...),
		section(0, append(appendName(nil, abi.ManifestSection), manifest...)...))
}

// Whatever a guest hands to a host function, pointers of every kind, overlapping, rows that are not there, it gets an answer or
// loses the call; the process and the host go on.
func TestHostCallsTakeAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(seed, 9))
	const size = 64 << 10
	interesting := []uint64{0, 1, 8, 64, 100, 1024, size - 1, size, size + 1, size - 8, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1<<32 - 8, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	batch := event.NewBatch(&event.Fields{}, nil)
	batch.AppendRow()
	rows := []Row{{Batch: batch, W: 5, Seen: 5, Keyed: true}}
	var kept oneKey
	traps, answers := map[Fault]int{}, 0
	for module, names := range importable {
		for name, typ := range names {
			m := load(t, caller(module, name, typ), Options{Ceiling: Limits{FuelPerCall: 50_000}})
			var in *Instance
			for range 150 {
				if in == nil {
					var err error
					if in, err = m.Instantiate([]byte("{}"), Identity{Log: func(int, string) {}}); err != nil {
						t.Fatal(err)
					}
				}
				args := make([]uint64, len(typ.params))
				for i := range args {
					args[i] = interesting[r.IntN(len(interesting))]
					in.memory.WriteUint64Le(uint32(64+8*i), args[i])
				}
				a := &access{keys: &kept, layout: &m.Manifest.State, share: 64 << 10}
				a.begin(false)
				before := kept.Append(nil, a.layout)
				in.guest.rows, in.guest.access = rows, a
				err := in.call(in.process, uint64(in.arena))
				in.guest.rows = nil
				a.settle(err == nil)
				if after := kept.Append(nil, a.layout); err != nil && !bytes.Equal(before, after) {
					t.Fatalf("seed %d: %s.%s(%x): %v, and %x has become %x", seed, module, name, args, err, before, after)
				}
				if err == nil {
					answers++
					continue
				}
				var trap *Trap
				if !errors.As(err, &trap) || trap.Fault == Trapped || trap.Fault == Output {
					t.Fatalf("seed %d: %s.%s(%x): %v", seed, module, name, args, err)
				}
				traps[trap.Fault]++
				in.Close()
				in = nil
			}
			if in != nil {
				in.Close()
			}
		}
	}
	for _, f := range []Fault{Pointer, Fuel, Exited, Aborted} {
		if traps[f] == 0 {
			t.Errorf("seed %d: no %s among %v", seed, f, traps)
		}
	}
	if answers == 0 {
		t.Errorf("seed %d: no call was answered", seed)
	}
}
