package wasm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/seed-98920119/tocsin/abi"
)

// program makes a module out of decisions: valid, and it ends, because every loop counts down and functions call only those
// before them. It does what programs do to their state: locals, globals, memory, tables, branches of every kind, traps.
type program struct {
	decisions []byte
	out       []byte
	funcs     []functype
	here      functype // of the function being made
	locals    []byte   // their types, parameters first
	labels    [][]byte // what a branch to each carries, outermost first
	counters  int      // of loops, locals behind the others
	depth     int      // of nesting
	loops     int      // around here
	size      int      // instructions so far in this function
	calls     int      // so far
}

const f64 = byte(0x7c)

var numbers = []byte{i32, i64, f64}

// pick is the next decision, below n; when there are none left it is 0, the simplest.
func (p *program) pick(n int) int {
	if len(p.decisions) == 0 {
		return 0
	}
	d := int(p.decisions[0])
	p.decisions = p.decisions[1:]
	return d % n
}

func (p *program) emit(b ...byte) {
	p.out = append(p.out, b...)
	p.size++
}

func (p *program) index(op byte, i int) { p.emit(appendU32([]byte{op}, uint32(i))...) }

// simple says that it is time for something simple.
func (p *program) simple() bool { return p.depth > 6 || p.size > 400 || len(p.decisions) == 0 }

func (p *program) constant(t byte) {
	switch v := int64(int8(p.pick(256))); t {
	case i32:
		p.emit(appendS64([]byte{0x41}, v<<p.pick(25))...)
	case i64:
		p.emit(appendS64([]byte{0x42}, v<<p.pick(57))...)
	case f64:
		p.emit(0x44, 0, 0, 0, 0, 0, 0, byte(p.pick(256)), 0x40)
	}
}

// local is one of type t that programs may set, or -1.
func (p *program) local(t byte) int {
	from := p.pick(len(p.locals) + 1)
	for i := range p.locals {
		if k := (from + i) % len(p.locals); p.locals[k] == t {
			return k
		}
	}
	return -1
}

// address is an expression within memory, nearly always.
func (p *program) address() {
	p.expr(i32)
	if p.pick(40) != 39 {
		p.emit(0x41, 0xff, 0xff, 1, 0x71) // & 32767
	}
}

// expr pushes one value of type t.
func (p *program) expr(t byte) {
	p.depth++
	defer func() { p.depth-- }()
	k := p.pick(16)
	if p.simple() {
		k %= 2
	}
	switch k {
	default:
		p.constant(t)
	case 1, 2:
		if l := p.local(t); l >= 0 {
			p.index(0x20, l)
			return
		}
		p.constant(t)
	case 3, 4:
		p.expr(t)
		p.expr(t)
		ops := map[byte][]byte{i32: {0x6a, 0x6b, 0x6c, 0x6d, 0x70, 0x71, 0x73, 0x74, 0x76, 0x77}, i64: {0x7c, 0x7d, 0x7e, 0x80, 0x83, 0x85, 0x86, 0x88}, f64: {0xa0, 0xa1, 0xa2, 0xa3, 0xa4}}[t]
		p.emit(ops[p.pick(len(ops))])
	case 5:
		p.address()
		p.emit(map[byte]byte{i32: 0x2d, i64: 0x31, f64: 0x2b}[t], 0, byte(p.pick(128))) // load8_u, load8_u, f64.load
	case 6:
		p.convert(t)
	case 7:
		p.emit(opBlock, t)
		p.labels = append(p.labels, []byte{t})
		p.statements()
		p.expr(t)
		p.close()
	case 8:
		p.expr(i32)
		p.emit(opIf, t)
		p.labels = append(p.labels, []byte{t})
		p.expr(t)
		p.emit(opElse)
		p.statements()
		p.expr(t)
		p.close()
	case 9:
		p.call(t)
	case 10:
		p.index(0x23, map[byte]int{i32: 0, i64: 1, f64: 2}[t])
	case 11:
		p.expr(t)
		p.expr(t)
		p.expr(i32)
		p.emit(0x1b)
	case 12: // a branch that may be taken, with the value
		p.expr(t)
		if l := p.label([]byte{t}); l >= 0 {
			p.expr(i32)
			p.index(0x0d, l)
		}
	case 13:
		if t == i32 {
			p.constant(i32)
			p.emit(0x41, 1, 0x71, opMemoryGrow, 0)
			return
		}
		p.constant(t)
	}
}

func (p *program) convert(t byte) {
	from := numbers[p.pick(3)]
	p.expr(from)
	switch {
	case t == i32 && from == i64:
		p.emit(0xa7)
	case t == i32 && from == f64:
		p.emit(0xaa) // traps on what does not fit
	case t == i32:
		p.emit(0x45)
	case t == i64 && from == i32:
		p.emit(0xad)
	case t == i64 && from == f64:
		p.emit(0xfc, 6)
	case t == f64 && from == i32:
		p.emit(0xb7)
	case t == f64 && from == i64:
		p.emit(0xb9)
	}
}

// label is a block that a branch with these values may go to, counted from within, or -1.
func (p *program) label(values []byte) int {
	from := p.pick(len(p.labels))
	for i := range p.labels {
		if k := (from + i) % len(p.labels); bytes.Equal(p.labels[k], values) {
			return len(p.labels) - 1 - k
		}
	}
	return -1
}

func (p *program) close() {
	p.labels = p.labels[:len(p.labels)-1]
	p.emit(opEnd)
}

// call calls a function that was made before, directly or through the table, and leaves one value of type t.
func (p *program) call(t byte) {
	if p.calls++; p.calls > 12 || len(p.funcs) == 0 {
		p.constant(t)
		return
	}
	i := p.pick(len(p.funcs))
	f := p.funcs[i]
	for _, x := range f.params {
		p.expr(x)
	}
	if p.pick(3) == 2 {
		p.expr(i32) // any: most calls of another type trap
		if p.pick(4) != 3 {
			p.emit(0x1a, 0x41, byte(i))
		}
		p.emit(append(appendU32([]byte{opCallIndirect}, uint32(i+baseTypes)), 0)...)
	} else {
		p.index(opCall, i+3)
	}
	for range f.results {
		p.emit(0x1a)
	}
	p.constant(t)
}

func (p *program) statements() {
	for range p.pick(4) {
		p.statement()
	}
}

func (p *program) statement() {
	p.depth++
	defer func() { p.depth-- }()
	k := p.pick(18)
	if p.simple() {
		k = 0
	}
	t := numbers[p.pick(3)]
	switch k {
	default:
		if l := p.local(t); l >= 0 {
			p.expr(t)
			p.index(byte(0x21), l)
		}
	case 1:
		p.expr(t)
		p.index(0x24, map[byte]int{i32: 0, i64: 1, f64: 2}[t])
	case 2, 3:
		p.address()
		p.expr(t)
		p.emit(map[byte]byte{i32: 0x36, i64: 0x37, f64: 0x39}[t], 0, byte(p.pick(128)))
	case 4:
		p.emit(opBlock, 0x40)
		p.labels = append(p.labels, nil)
		p.statements()
		p.close()
	case 5, 6:
		p.loop()
	case 7:
		p.expr(i32)
		p.emit(opIf, 0x40)
		p.labels = append(p.labels, nil)
		p.statements()
		if p.pick(2) == 1 {
			p.emit(opElse)
			p.statements()
		}
		p.close()
	case 8:
		if l := p.label(nil); l >= 0 {
			p.index(opBr, l)
		}
	case 9:
		if l := p.label(nil); l >= 0 {
			p.expr(i32)
			p.index(0x0d, l)
		}
	case 10:
		p.table()
	case 11:
		for _, x := range p.here.results {
			p.expr(x)
		}
		p.emit(opReturn)
	case 12, 13:
		p.bulk()
	case 14:
		p.tables()
	case 15:
		p.call(t)
		p.emit(0x1a)
	case 16:
		if p.pick(8) == 7 {
			p.emit(opUnreachable)
		}
	}
}

// loop counts down a local of its own.
func (p *program) loop() {
	if p.loops > 1 || p.counters >= countersMax {
		return
	}
	p.loops++
	c := len(p.locals) + p.counters
	p.counters++
	p.emit(0x41, byte(1+p.pick(3)))
	p.index(0x21, c)
	p.emit(opBlock, 0x40, opLoop, 0x40)
	p.labels = append(p.labels, nil, nil)
	p.index(0x20, c)
	p.emit(0x45, 0x0d, 1)
	p.index(0x20, c)
	p.emit(0x41, 1, 0x6b)
	p.index(0x21, c)
	p.statements()
	p.statements()
	p.expr(i32)
	p.emit(0x0d, 0)
	p.close()
	p.close()
	p.loops--
}

func (p *program) table() {
	first := p.label(nil)
	if first < 0 {
		return
	}
	p.expr(i32)
	p.emit(0x41, 7, 0x71) // & 7
	n := p.pick(5)
	p.emit(opBrTable, byte(n))
	for range n {
		p.out = appendU32(p.out, uint32(p.label(nil)))
	}
	p.out = appendU32(p.out, uint32(first))
}

// bulk moves memory: mostly little, sometimes more than a chunk, or past the end.
func (p *program) bulk() {
	length := func() {
		p.expr(i32)
		mask := []int64{255, 255, 4095, 131071}[p.pick(4)]
		p.emit(append(appendS64([]byte{0x41}, mask), 0x71)...)
	}
	p.address()
	switch p.pick(4) {
	default:
		p.expr(i32)
		length()
		p.emit(0xfc, 11, 0)
	case 1:
		p.address()
		length()
		p.emit(0xfc, 10, 0, 0)
	case 2:
		p.emit(0x41, byte(p.pick(12)), 0x41, byte(p.pick(12)), 0xfc, 8, 0, 0)
	case 3:
		p.emit(0x1a, 0xfc, 9, 0) // data.drop
	}
}

func (p *program) tables() {
	small := func() { p.emit(0x41, byte(p.pick(8))) }
	small()
	switch p.pick(6) {
	default:
		small()
		small()
		p.emit(0xfc, 14, 0, 0) // table.copy
	case 1:
		p.emit(opRefFunc, byte(p.pick(3)))
		small()
		p.emit(0xfc, 17, 0) // table.fill
	case 2:
		small()
		small()
		p.emit(0xfc, 12, 1, 0) // table.init
	case 3:
		p.emit(opRefFunc, byte(p.pick(3)), 0x26, 0) // table.set
	case 4:
		p.emit(0x25, 0, 0xd1, 0x1a) // table.get, ref.is_null, drop
	case 5:
		p.emit(0x1a, 0xfc, 13, 1) // elem.drop
	}
}

const (
	baseTypes   = 4 // (i32) -> (i32), (i32, i32) -> (i32), refill's, () -> ()
	countersMax = 30
)

// function makes one function's body.
func (p *program) function(t functype) []byte {
	p.here, p.labels, p.counters, p.size, p.calls, p.out = t, [][]byte{t.results}, 0, 0, 0, nil
	p.locals = append(bytes.Clone(t.params), i32, i32, i64, f64)
	p.statements()
	p.statements()
	for _, x := range t.results {
		p.expr(x)
	}
	p.emit(opEnd)
	head := append(cat([]byte{4, 2, i32, 1, i64, 1, f64}, []byte{countersMax, i32}), p.out...)
	return append(appendU32(nil, uint32(len(head))), head...)
}

// makeProgram makes a module. Functions 0 to 2 are the arena, init and one that ends it; 3 and on are made; the last but one
// is tocsin_process: it calls the last of those made, then stores the globals.
func makeProgram(decisions []byte) []byte {
	p := &program{decisions: decisions}
	types := cat([]byte{0x60, 1, i32, 1, i32}, []byte{0x60, 2, i32, i32, 1, i32}, []byte{0x60, 1, i64, 1, i64}, []byte{0x60, 0, 0})
	funcs := []byte{0, 1, 3}
	simple := func(code ...byte) []byte { return append(appendU32(nil, uint32(len(code))), code...) }
	bodies := cat(simple(0, 0x41, 0, opEnd), simple(0, 0x41, 0, opEnd), simple(0, opEnd))
	n := 1 + p.pick(4)
	for range n {
		var t functype
		for len(t.params) < 3*len(p.funcs) { // types differ, or a call through the table might reach the caller, and never end
			t.params = append(t.params, i32)
		}
		for range p.pick(3) {
			t.params = append(t.params, numbers[p.pick(3)])
		}
		for range p.pick(3) {
			t.results = append(t.results, numbers[p.pick(3)])
		}
		bodies = append(bodies, p.function(t)...)
		types = append(types, 0x60)
		types = append(appendU32(types, uint32(len(t.params))), t.params...)
		types = append(appendU32(types, uint32(len(t.results))), t.results...)
		funcs = append(funcs, byte(baseTypes+len(p.funcs)))
		p.funcs = append(p.funcs, t)
	}
	p.out = []byte{0}
	last := p.funcs[n-1]
	for _, t := range last.params {
		if t == i32 {
			p.index(0x20, 0)
		} else {
			p.constant(t)
		}
	}
	p.index(opCall, 2+n)
	for range last.results {
		p.emit(0x1a)
	}
	p.emit(0x41, 0, 0x23, 0, 0x36, 0, 0, 0x41, 8, 0x23, 1, 0x37, 0, 0, 0x41, 16, 0x23, 2, 0x39, 0, 0, 0x23, 0, opEnd)
	bodies = append(bodies, simple(p.out...)...)
	funcs = append(funcs, 0)
	export := func(name string, kind, index byte) []byte { return append(appendName(nil, name), kind, index) }
	manifest := `{"abi":{"major":1,"minor":0},"name":"test.program","version":"1.0.0","roles":["detect"],"reads":[],"rules":[{"id":1,"title":"one"}]}`
	elements := cat([]byte{2, 0, 0x41, 0, opEnd, byte(n)}, seq(3, n), []byte{1, 0, byte(n)}, seq(3, n)) // active at 0, and passive
	return file0(
		section(1, append([]byte{byte(baseTypes + n)}, types...)...), section(3, append([]byte{byte(len(funcs))}, funcs...)...),
		section(4, 1, 0x70, 0, 8), section(5, 1, 1, 1, 3),
		section(6, 4, i32, 1, 0x41, 7, opEnd, i64, 1, 0x42, 9, opEnd, f64, 1, 0x44, 0, 0, 0, 0, 0, 0, 0, 0x40, opEnd, 0x70, 0, opRefFunc, 2, opEnd),
		section(7, cat([]byte{4}, export(abi.ExportMemory, 2, 0), export(abi.ExportArena, 0, 0), export(abi.ExportInit, 0, 1), export(abi.ExportProcess, 0, byte(3+n)))...),
		section(9, elements...), section(12, 2),
		section(10, append([]byte{byte(len(funcs))}, bodies...)...),
		section(11, 2, 1, 6, 'p', 'a', 's', 's', 'i', 'v', 0, 0x41, 32, opEnd, 3, 'a', 'c', 't'),
		section(0, append(appendName(nil, abi.ManifestSection), manifest...)...))
}

func seq(from, n int) (b []byte) {
	for i := range n {
		b = append(b, byte(from+i))
	}
	return b
}

// result is what a program did: what each call answered or how it trapped, and its memory.
type result struct {
	calls  []string
	memory []byte
	spent  []int64
}

// runProgram calls tocsin_process a few times, until a trap.
func runProgram(t *testing.T, code []byte) (out result) {
	t.Helper()
	compiled, err := host.runtime.CompileModule(t.Context(), code)
	if err != nil {
		t.Fatalf("the compiler refuses it: %v\n%x", err, code)
	}
	defer compiled.Close(t.Context())
	g := &guest{Context: t.Context(), limits: Limits{FuelPerCall: 1 << 40}}
	ctx := experimental.WithMemoryAllocator(g.Context, experimental.MemoryAllocatorFunc(allocate))
	mod, err := host.runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		t.Fatalf("it does not start: %v\n%x", err, code)
	}
	defer mod.Close(t.Context())
	in := &Instance{module: &Module{}, mod: mod, memory: mod.Memory(), guest: *g}
	fuel, _ := mod.ExportedGlobal(exportFuel).(api.MutableGlobal)
	in.fuel = fuel
	for i := range 3 {
		err := in.call(mod.ExportedFunction(abi.ExportProcess), uint64(i))
		out.spent = append(out.spent, in.spent)
		if err != nil {
			out.calls = append(out.calls, err.Error())
			break
		}
		out.calls = append(out.calls, fmt.Sprint(int32(in.stack[0])))
		if d := mod.ExportedGlobal(exportDepth); d != nil && int32(d.Get()) != frames {
			t.Fatalf("after a call %d bytes of stack are left, not %d\n%x", int32(d.Get()), frames, code)
		}
	}
	b, _ := in.memory.Read(0, in.memory.Size())
	out.memory = bytes.Clone(b)
	return out
}

// agree runs a program as it is and rewritten: the same answers, traps and memory, and the same fuel each time.
func agree(t *testing.T, code []byte) (trapped bool) {
	t.Helper()
	m, err := pass(code)
	if err != nil {
		t.Fatalf("the gate refuses it: %v\n%x", err, code)
	}
	plain, fuel, again := runProgram(t, code), runProgram(t, rewrite(m, 3)), runProgram(t, rewrite(m, 3))
	if fmt.Sprint(plain.calls) != fmt.Sprint(fuel.calls) || !bytes.Equal(plain.memory, fuel.memory) {
		t.Fatalf("plain %v, rewritten %v; memory the same: %v\n%x", plain.calls, fuel.calls, bytes.Equal(plain.memory, fuel.memory), code)
	}
	if fmt.Sprint(fuel.spent) != fmt.Sprint(again.spent) || fuel.spent[0] < 10 {
		t.Fatalf("fuel %v, then %v\n%x", fuel.spent, again.spent, code)
	}
	return len(plain.calls) < 3
}

// Programs that were made up do the same with fuel as without.
func TestProgramsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(seed, 6))
	traps, n := 0, 400
	for range n {
		decisions := make([]byte, r.IntN(3000))
		for i := range decisions {
			decisions[i] = byte(r.Uint32())
		}
		if agree(t, makeProgram(decisions)) {
			traps++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if traps == 0 || traps == n {
		t.Errorf("seed %d: %d of %d programs trapped", seed, traps, n)
	}
}

// The rewriter on programs that the fuzzer decides.
func FuzzRewrite(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 7))
	for n := range 20 {
		decisions := make([]byte, n*100)
		for i := range decisions {
			decisions[i] = byte(r.Uint32())
		}
		f.Add(decisions)
	}
	f.Fuzz(func(t *testing.T, decisions []byte) {
		if len(decisions) > 10_000 {
			return
		}
		agree(t, makeProgram(decisions))
	})
}
