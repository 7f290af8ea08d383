package wasm

import (
	"bytes"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/abi"
)

// A shape makes a function of type () -> () that is slow to compile: n of something, over k values that live.
type shape func(n, k int) []byte

func repeat(n int, f func(i int) []byte) (b []byte) {
	for i := range n {
		b = append(b, f(i)...)
	}
	return b
}

func with(op byte, i int) []byte { return appendU32([]byte{op}, uint32(i)) }
func localGet(i int) []byte      { return with(0x20, i) }
func localSet(i int) []byte      { return with(0x21, i) }

var (
	unknown = []byte{0x41, 0, 0x28, 2, 0} // i32.const 0, i32.load: a value that no pass can know
	cat     = slices.Concat[[]byte]
)

func locals(k int) []byte { return append(appendU32([]byte{1}, uint32(k)), i64) }

// add is local[i] += local[i * 7 + 1].
func addLocals(i, k int) []byte {
	return cat(localGet(i%k), localGet((i*7+1)%k), []byte{0x7c}, localSet(i%k))
}

func pushed(k int, code []byte) []byte {
	return cat([]byte{0}, bytes.Repeat(unknown, k), code, bytes.Repeat([]byte{0x1a}, k), []byte{opEnd})
}

var shapes = map[string]shape{
	"loops": func(n, k int) []byte {
		return cat(locals(k), repeat(n, func(i int) []byte {
			return cat([]byte{opLoop, 0x40}, addLocals(i, k), localGet((i+3)%k), []byte{0xa7, 0x0d, 0, opEnd})
		}), []byte{opEnd})
	},
	"nested loops": func(n, k int) []byte {
		return cat(locals(k), repeat(n, func(i int) []byte { return cat([]byte{opLoop, 0x40}, addLocals(i, k)) }),
			repeat(n, func(i int) []byte { return cat(localGet(i%k), []byte{0xa7, 0x0d, 0, opEnd}) }), []byte{opEnd})
	},
	"blocks": func(n, k int) []byte {
		return cat(locals(k), repeat(n, func(i int) []byte {
			return cat([]byte{opBlock, 0x40}, localGet((i+3)%k), []byte{0xa7, 0x0d, 0}, addLocals(i, k), []byte{opEnd})
		}), []byte{opEnd})
	},
	"ifs": func(n, k int) []byte {
		return cat(locals(k), repeat(n, func(i int) []byte {
			return cat(localGet((i+3)%k), []byte{0xa7, opIf, 0x40}, addLocals(i, k), []byte{opElse}, addLocals(i*3+1, k), []byte{opEnd})
		}), []byte{opEnd})
	},
	"operands across blocks": func(n, k int) []byte {
		return pushed(k, bytes.Repeat(cat([]byte{opBlock, 0x40}, unknown, []byte{0x0d, 0, opEnd}), n))
	},
	"operands across loops": func(n, k int) []byte {
		return pushed(k, bytes.Repeat(cat([]byte{opLoop, 0x40}, unknown, []byte{0x0d, 0, opEnd}), n))
	},
	"operands across calls": func(n, k int) []byte { return pushed(k, bytes.Repeat([]byte{opCall, 0}, n)) },
	"parameters of blocks": func(n, k int) []byte {
		return pushed(64, bytes.Repeat(cat([]byte{opBlock, 4}, unknown, []byte{0x0d, 0, 0x41, 1, 0x6a, opEnd}), n))
	},
	"parameters of nested loops": func(n, k int) []byte {
		return pushed(64, cat(bytes.Repeat(cat([]byte{opLoop, 4}, unknown, []byte{0x0d, 0, 0x41, 1, 0x6a}), n),
			bytes.Repeat(cat(unknown, []byte{0x0d, 0, opEnd}), n)))
	},
	"br_table": func(n, k int) []byte {
		n = min(n, brTableMax)
		return pushed(64, cat([]byte{opBlock, 4}, unknown, with(opBrTable, n), make([]byte, n+1), []byte{opEnd}))
	},
	"interpreter": func(n, k int) []byte { // a loop around a br_table whose targets are blocks
		n = min(n, nestingMax-8)
		return cat(locals(k), []byte{opLoop, 0x40}, bytes.Repeat([]byte{opBlock, 0x40}, n), unknown, with(opBrTable, n-1),
			repeat(n, func(i int) []byte { return appendU32(nil, uint32(i)) }),
			repeat(n, func(i int) []byte { return cat([]byte{opEnd}, addLocals(i, k), with(opBr, n-1-i)) }), []byte{opEnd, opEnd})
	},
	"straight": func(n, k int) []byte {
		return pushed(k, repeat(n, func(i int) []byte { return cat(unknown, []byte{0x1a}) }))
	},
}

// whole is a module around a function of type () -> (), number 0, that satisfies the contract.
func whole(code []byte) []byte {
	many := bytes.Repeat([]byte{i32}, 64)
	export := func(name string, kind, index byte) []byte { return append(appendName(nil, name), kind, index) }
	body := func(code ...byte) []byte { return append(appendU32(nil, uint32(len(code))), code...) }
	manifest := `{"abi":{"major":1,"minor":0},"name":"test.slow","version":"1.0.0","roles":["detect"],"reads":[],"rules":[{"id":1,"title":"one"}]}`
	return file0(
		section(1, cat([]byte{5, 0x60, 0, 0, 0x60, 1, i32, 1, i32, 0x60, 2, i32, i32, 1, i32, 0x60, 1, i64, 1, i64, 0x60, 64}, many, []byte{64}, many)...),
		section(3, 4, 0, 1, 2, 1), section(5, 1, 0, 1),
		section(7, cat([]byte{4}, export(abi.ExportMemory, 2, 0), export(abi.ExportArena, 0, 1), export(abi.ExportInit, 0, 2), export(abi.ExportProcess, 0, 3))...),
		section(10, cat([]byte{4}, body(code...), body(0, 0x41, 0x80, 8, opEnd), body(0, 0x41, 0, opEnd), body(0, 0x41, 0, opEnd))...),
		section(0, append(appendName(nil, abi.ManifestSection), manifest...)...))
}

// slowest is the largest module of a shape that the gate lets through.
func slowest(f shape, k int) (code []byte, n int) {
	n = sort.Search(100_000, func(n int) bool {
		_, err := pass(whole(f(n+1, k)))
		return err != nil
	})
	return whole(f(n, k)), n
}

// Whatever the shape, the largest function that the gate lets through compiles in bounded memory; BenchmarkSlowest says in
// what time.
func TestSlowFunctions(t *testing.T) {
	for name, f := range shapes {
		k := 100
		switch name {
		case "blocks", "nested loops", "operands across blocks":
			k = 900
		}
		code, n := slowest(f, k)
		if n == 0 {
			t.Errorf("%s: nothing is let through", name)
			continue
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := host.Load(code, Options{})
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Errorf("%s, %d of %d values: %v", name, n, k, err)
			continue
		}
		m.Close()
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<30 {
			t.Errorf("%s, %d of %d values: %d MB", name, n, k, used>>20)
		}
	}
}

// Many functions that are each just small enough are too much together.
func TestSlowModule(t *testing.T) {
	code, _ := slowest(shapes["loops"], 8)
	m, err := pass(code)
	if err != nil {
		t.Fatal(err)
	}
	one := m.src[m.bodies[0].from:m.bodies[0].end]
	one = append(appendU32(nil, uint32(len(one))), one...)
	_, err = pass(file0(voidType, section(3, append([]byte{20}, make([]byte, 20)...)...), section(10, cat([]byte{20}, bytes.Repeat(one, 20))...)))
	if err == nil || !strings.Contains(err.Error(), "compiling it may take") {
		t.Errorf("20 slow functions: %v", err)
	}
}

// The height of the operand stack is what a module of every kind of instruction says it is: an instruction whose effect was
// wrong would show here.
func TestOperandHeight(t *testing.T) {
	for name, c := range map[string]struct {
		code []byte
		want int
	}{
		"two":             {[]byte{0x41, 1, 0x41, 2, 0x6a, 0x1a, opEnd}, 2},
		"dead code":       {[]byte{0x00, 0x41, 1, 0x41, 2, 0x41, 3, 0x1a, 0x1a, 0x1a, opEnd}, 0},
		"block's result":  {[]byte{opBlock, 0x7f, 0x41, 1, opEnd, 0x1a, opEnd}, 1},
		"if":              {[]byte{0x41, 1, opIf, 0x7f, 0x41, 1, 0x41, 1, 0x6a, opElse, 0x41, 1, opEnd, 0x1a, opEnd}, 2},
		"behind a branch": {[]byte{opBlock, 0x40, opBr, 0, 0x41, 1, 0x41, 1, opBlock, 0x40, 0x41, 1, opEnd, opEnd, 0x41, 1, 0x1a, opEnd}, 1},
		"store":           {[]byte{0x41, 1, 0x41, 1, 0x36, 2, 0, 0x41, 1, 0x41, 1, 0x41, 1, 0xfc, 10, 0, 0, 0x41, 1, 0x1a, opEnd}, 3},
	} {
		w := walk{m: &module{}, frames: []frame{{}}}
		r := &reader{b: c.code, end: len(c.code)}
		for len(w.frames) > 0 && r.err == nil {
			w.step(r.instr())
		}
		if r.err != nil || w.tally.height != c.want || w.height != 0 {
			t.Errorf("%s: %d, %d left, %v; want %d", name, w.tally.height, w.height, r.err, c.want)
		}
	}
	// real functions of () end at height 0, of results at theirs: one wrong effect in a table would show
	for _, path := range modulesHere(t) {
		m, err := pass(file(t, path))
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range m.bodies {
			w := walk{m: m, frames: []frame{{}}}
			r := &reader{b: m.src, at: b.code, end: b.end}
			for len(w.frames) > 1 || !r.done() && r.b[r.at] != opEnd {
				w.step(r.instr())
			}
			if want := len(m.types[m.funcs[i]].results); !w.frames[0].dead && w.height != want {
				t.Errorf("%s: function %d ends at height %d, not %d", path, i, w.height, want)
			}
		}
	}
}
