package wasm

import "slices"

// rewriteVersion goes into the key of compiled modules; raise it when rewritten bytes change.
const rewriteVersion = 3

// Limits of a guest at work.
const (
	// Slice is the fuel after which a guest calls the host, which may then collect garbage, look at the clock, or end it.
	slice = 100_000
	// frames is the native stack of a guest, estimated bytes.
	frames = 1 << 20
	// chunk is the most that memory.copy and memory.fill move without asking for fuel, bytes.
	chunk = 64 << 10

	weightByte  = 1 // memory.copy, fill, init
	weightEntry = 8 // table.copy, fill, init
	weightPage  = 20_000
	weightEnter = 5 // a function
)

// rewriter makes of a module that passed the gate one that asks for fuel:
//
// every function and every loop takes what its instructions weigh off a global, and when that is spent calls the host
// (tocsin:gate.refill), which grants the next slice or ends the call. Inside a loop that has a br_table, an interpreter's,
// every straight run of instructions pays for itself instead. Bulk instructions pay for their bytes. A function that calls
// others also takes its frame off a second global, and gives it back; how is in fuel.go. The memory gets the limit as its maximum. Exports
// that the host does not call and custom sections are left out.
//
// Two imports come behind the module's own, so that indices of its functions move by two; two helper functions, two
// globals come last.
type rewriter struct {
	m       *module
	pages   uint32 // maximum of the memory
	types   []functype
	refill  uint32 // function indices
	deep    uint32
	copy    uint32
	fill    uint32
	fuel    uint32 // globals
	depth   uint32
	out     []byte
	regions []region
	at      []int32 // scratch of a function: which region starts at which instruction
	labels  []label // blocks that are open, the function's own first
}

const added = 2 // imports

// rewrite returns the module's instrumented bytes, with at most so many pages of memory.
func rewrite(m *module, pages uint32) []byte {
	w := &rewriter{m: m, pages: pages, types: slices.Clone(m.types)}
	imports := uint32(len(m.imports))
	w.refill, w.deep = imports, imports+1
	w.copy = imports + added + uint32(len(m.funcs))
	w.fill = w.copy + 1
	w.fuel = uint32(len(m.globals))
	w.depth = w.fuel + 1
	return w.module()
}

// typ finds or adds a function type.
func (w *rewriter) typ(t functype) uint32 {
	if i := slices.IndexFunc(w.types, t.equal); i >= 0 {
		return uint32(i)
	}
	w.types = append(w.types, t)
	return uint32(len(w.types) - 1)
}

var i32, i64 = byte(0x7f), byte(0x7e)

func (w *rewriter) module() []byte {
	m := w.m
	bulk := w.typ(functype{[]byte{i32, i32, i32}, nil})
	refill, deep := w.typ(functype{[]byte{i64}, []byte{i64}}), w.typ(functype{})
	code := w.code() // may add types
	w.out = append(make([]byte, 0, len(m.src)+len(m.src)/2+1024), magic...)
	w.section(1, len(w.types), w.typeSection())
	w.section(2, len(m.imports)+added, w.importSection(refill, deep))
	var b []byte
	for _, t := range m.funcs {
		b = appendU32(b, t)
	}
	w.section(3, len(m.funcs)+2, appendU32(appendU32(b, bulk), bulk))
	w.raw(4, m.table)
	w.section(5, 1, appendU32(appendU32([]byte{1}, m.minPages), min(m.maxPages, w.pages)))
	w.section(6, len(m.globals)+2, w.globalSection())
	w.exports()
	if len(m.elements) > 0 {
		w.section(9, len(m.elements), w.elementSection())
	}
	w.raw(12, m.counted)
	w.section(10, len(m.funcs)+2, code)
	w.raw(11, m.data)
	return w.out
}

// section writes a section that is a vector of n entries.
func (w *rewriter) section(id byte, n int, entries []byte) {
	w.raw(id, append(appendU32(nil, uint32(n)), entries...))
}

func (w *rewriter) raw(id byte, b []byte) {
	if b != nil {
		w.out = append(w.out, id)
		w.out = append(appendU32(w.out, uint32(len(b))), b...)
	}
}

func (w *rewriter) typeSection() (b []byte) {
	for _, t := range w.types {
		b = append(b, 0x60)
		b = append(appendU32(b, uint32(len(t.params))), t.params...)
		b = append(appendU32(b, uint32(len(t.results))), t.results...)
	}
	return b
}

func (w *rewriter) importSection(refill, deep uint32) (b []byte) {
	add := func(module, name string, typ uint32) {
		b = appendU32(append(appendName(appendName(b, module), name), 0), typ)
	}
	for _, x := range w.m.imports {
		add(x.Module, x.Name, x.typ)
	}
	add(gateModule, "refill", refill)
	add(gateModule, "deep", deep)
	return b
}

func (w *rewriter) globalSection() (b []byte) {
	for _, g := range w.m.globals {
		typ, init := g[:2], g[2:]
		b = w.constant(append(b, typ...), init)
	}
	b = append(b, i64, 1, 0x42, 0, opEnd)
	b = append(b, i32, 1, 0x41)
	return append(appendS64(b, frames), opEnd)
}

// constant copies a constant expression; functions have moved.
func (w *rewriter) constant(dst, expr []byte) []byte {
	if expr[0] != opRefFunc {
		return append(dst, expr...)
	}
	r := &reader{b: expr, at: 1, end: len(expr)}
	return append(appendU32(append(dst, opRefFunc), w.function(r.u32())), opEnd)
}

// function is where a function of the module is now.
func (w *rewriter) function(i uint32) uint32 {
	if i < uint32(len(w.m.imports)) {
		return i
	}
	return i + added
}

func (w *rewriter) exports() {
	var b []byte
	n := 0
	for _, x := range w.m.exports {
		if !slices.ContainsFunc(contract, func(c promise) bool { return c.name == x.name }) {
			continue
		}
		if x.kind == 0 {
			x.index = w.function(x.index)
		}
		b = appendU32(append(appendName(b, x.name), x.kind), x.index)
		n++
	}
	b = appendU32(append(appendName(b, exportFuel), 3), w.fuel)
	b = appendU32(append(appendName(b, exportDepth), 3), w.depth)
	w.section(7, n+2, b)
}

func (w *rewriter) elementSection() (b []byte) {
	for _, e := range w.m.elements {
		b = append(appendU32(b, e.flags), e.raw...)
		b = appendU32(b, uint32(len(e.indices)+len(e.exprs)))
		for _, i := range e.indices {
			b = appendU32(b, w.function(i))
		}
		for _, x := range e.exprs {
			b = w.constant(b, x)
		}
	}
	return b
}
