package wasm

import "slices"

// rewriteVersion goes into the key of compiled modules; raise it when rewritten bytes change.
const rewriteVersion = 2

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
// others also takes its frame off a second global, and gives it back. The memory gets the limit as its maximum. Exports
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

// code writes all functions, and the helpers.
func (w *rewriter) code() (b []byte) {
	var one []byte
	for i := range w.m.bodies {
		one = w.body(one[:0], &w.m.bodies[i], w.types[w.m.funcs[i]])
		b = append(appendU32(b, uint32(len(one))), one...)
	}
	for _, one := range [][]byte{w.copyHelper(), w.fillHelper()} {
		b = append(appendU32(b, uint32(len(one))), one...)
	}
	return b
}

// region is a stretch of a function that is paid for where it starts.
type region struct {
	cost int64
	fine bool // it has a br_table: its parts pay for themselves
}

// plan walks a function and finds its regions: the function, each loop, and, in fine ones, each straight run.
// w.at[k] is the region that starts behind the k-th instruction, or -1.
func (w *rewriter) plan(b *body) (calls bool) {
	w.regions, w.at = append(w.regions[:0], region{cost: weightEnter}), w.at[:0]
	w.markFine(b)
	fine := make([]bool, len(w.regions))
	for i, g := range w.regions {
		fine[i] = g.fine
	}
	loops := 0                                 // regions of loops, numbered as markFine does
	stack := []struct{ loop, pay int }{{0, 0}} // of a block: the loop around it, and which region pays now
	r := &reader{b: w.m.src, at: b.code, end: b.end}
	for len(stack) > 0 {
		in := r.instr()
		top := &stack[len(stack)-1]
		w.regions[top.pay].cost += in.weight
		start := int32(-1)
		open := func() int { // a new straight run
			w.regions = append(w.regions, region{})
			start = int32(len(w.regions) - 1)
			return int(start)
		}
		switch in.op {
		case opBlock:
			stack = append(stack, *top)
		case opIf:
			next := *top
			if fine[top.loop] {
				next.pay = open()
			}
			stack = append(stack, next)
		case opLoop:
			loops++
			start = int32(loops)
			stack = append(stack, struct{ loop, pay int }{loops, loops})
		case opElse:
			if fine[top.loop] {
				top.pay = open()
			}
		case opEnd:
			if stack = stack[:len(stack)-1]; len(stack) > 0 && fine[stack[len(stack)-1].loop] {
				stack[len(stack)-1].pay = open()
			}
		case opCall, opCallIndirect:
			calls = true
		}
		w.at = append(w.at, start)
	}
	return calls
}

// markFine numbers the loops of a function, from 1, and finds those with a br_table.
func (w *rewriter) markFine(b *body) {
	stack := []int{0}
	r := &reader{b: w.m.src, at: b.code, end: b.end}
	for len(stack) > 0 {
		switch in := r.instr(); in.op {
		case opBlock, opIf:
			stack = append(stack, stack[len(stack)-1])
		case opLoop:
			w.regions = append(w.regions, region{cost: 1})
			stack = append(stack, len(w.regions)-1)
		case opEnd:
			stack = stack[:len(stack)-1]
		case opBrTable:
			w.regions[stack[len(stack)-1]].fine = true
		}
	}
}

// body writes one function. Behind its locals come two of ours: an i64 for fuel, an i32 for lengths.
func (w *rewriter) body(dst []byte, b *body, t functype) []byte {
	m := w.m
	calls := w.plan(b)
	r := &reader{b: m.src, at: b.from, end: b.end}
	n := r.u32()
	dst = append(appendU32(dst, n+2), m.src[r.at:b.code]...)
	left, length := uint32(b.locals), uint32(b.locals)+1
	dst = append(dst, 1, i64, 1, i32)
	dst = w.charge(dst, w.regions[0].cost, left)
	if calls {
		dst = w.enter(dst, b.frame, t)
	}
	r.at = b.code
	nesting := uint32(0)
	for k := range w.at {
		in := r.instr()
		switch in.op {
		case opBlock, opLoop, opIf:
			nesting++
		case opEnd:
			nesting--
		}
		last := k == len(w.at)-1
		switch {
		case in.op == opCall || in.op == opRefFunc:
			dst = appendU32(append(dst, byte(in.op)), w.function(in.arg))
		case in.op == opReturn && calls:
			dst = appendU32(append(dst, opBr), nesting)
		case in.op == opMemoryCopy:
			dst = appendU32(append(dst, opCall), w.copy)
		case in.op == opMemoryFill:
			dst = appendU32(append(dst, opCall), w.fill)
		case last && calls:
			dst = w.leave(append(dst, opEnd), b.frame)
		default:
			if weight := dynamic(in.op); weight > 0 {
				dst = w.chargeBy(dst, weight, left, length)
			}
			dst = append(dst, m.src[in.off:in.end]...)
		}
		if g := w.at[k]; g >= 0 {
			dst = w.charge(dst, w.regions[g].cost, left)
		}
	}
	return dst
}

// dynamic is the weight of one of what an instruction's last operand counts, 0 for most.
func dynamic(op uint32) int64 {
	switch op {
	case opMemoryGrow:
		return weightPage
	case opMemoryInit:
		return weightByte
	case opTableInit, opTableCopy, opTableFill:
		return weightEntry
	}
	return 0
}

// charge takes cost off the fuel; when that is spent, the host is asked for more.
func (w *rewriter) charge(dst []byte, cost int64, left uint32) []byte {
	if cost == 0 {
		return dst
	}
	dst = appendU32(append(dst, 0x23), w.fuel)
	dst = append(appendS64(append(dst, 0x42), cost), 0x7d) // i64.const, i64.sub
	return w.settle(dst, left)
}

// chargeBy takes weight times the top of the stack off the fuel, and leaves the stack as it was.
func (w *rewriter) chargeBy(dst []byte, weight int64, left, length uint32) []byte {
	dst = appendU32(append(dst, 0x21), length) // local.set
	dst = appendU32(append(dst, 0x23), w.fuel)
	dst = append(appendU32(append(dst, 0x20), length), 0xad)       // local.get, i64.extend_i32_u
	dst = append(appendS64(append(dst, 0x42), weight), 0x7e, 0x7d) // i64.mul, i64.sub
	return appendU32(append(w.settle(dst, left), 0x20), length)
}

// settle stores the fuel that is on the stack: if (fuel < 0) fuel = refill(fuel).
func (w *rewriter) settle(dst []byte, left uint32) []byte {
	dst = appendU32(append(dst, 0x22), left)                        // local.tee
	dst = appendU32(append(dst, 0x24), w.fuel)                      // global.set
	dst = append(appendU32(append(dst, 0x20), left), 0x42, 0, 0x53) // local.get, i64.const 0, i64.lt_s
	dst = appendU32(append(dst, opIf, 0x40, 0x20), left)            // if, local.get
	dst = appendU32(append(dst, opCall), w.refill)                  // call
	return append(appendU32(append(dst, 0x24), w.fuel), opEnd)      // global.set, end
}

// enter takes a frame off what is left of the stack and opens the block that the function's body becomes: a branch to the
// function's label goes to its end, and a return is such a branch.
func (w *rewriter) enter(dst []byte, frame int, t functype) []byte {
	dst = appendU32(append(dst, 0x23), w.depth)
	dst = append(appendS64(append(dst, 0x41), int64(frame)), 0x6b) // i32.const, i32.sub
	dst = appendU32(append(dst, 0x24), w.depth)
	dst = append(appendU32(append(dst, 0x23), w.depth), 0x41, 0, 0x48) // i32.const 0, i32.lt_s
	dst = append(appendU32(append(dst, opIf, 0x40, opCall), w.deep), opEnd)
	dst = append(dst, opBlock)
	switch len(t.results) {
	case 0:
		return append(dst, 0x40)
	case 1:
		return append(dst, t.results[0])
	}
	return appendS64(dst, int64(w.typ(functype{nil, t.results})))
}

// leave gives the frame back and ends the function.
func (w *rewriter) leave(dst []byte, frame int) []byte {
	dst = appendU32(append(dst, 0x23), w.depth)
	dst = append(appendS64(append(dst, 0x41), int64(frame)), 0x6a) // i32.const, i32.add
	return append(appendU32(append(dst, 0x24), w.depth), opEnd)
}

// Locals of the helpers: the three operands, then an i64.
const helperFuel = 3

// bounds traps, by a load from where no memory is, unless the address in a local plus the length in local 2 lies within it.
func bounds(dst []byte, address byte) []byte {
	return append(dst, 0x20, address, 0xad, 0x20, 2, 0xad, 0x7c, // address + length, i64
		0x3f, 0, 0xad, 0x42, 16, 0x86, 0x56, // memory.size << 16, i64.gt_u
		opIf, 0x40, 0x41, 0x7f, 0x28, 2, 0, 0x1a, opEnd)
}

// more is a loop around step while local 2, the length, is above a chunk; each turn pays for a chunk.
func (w *rewriter) more(dst, step []byte) []byte {
	dst = append(dst, opBlock, 0x40, opLoop, 0x40)
	dst = append(appendS64(append(dst, 0x20, 2, 0x41), chunk), 0x4d, 0x0d, 1) // i32.le_u, br_if
	dst = w.charge(dst, chunk*weightByte, helperFuel)
	dst = append(dst, step...)
	return append(dst, opBr, 0, opEnd, opEnd)
}

// add is local[i] += chunk, or -= with the opcode of i32.sub.
func add(dst []byte, local, op byte) []byte {
	return append(appendS64(append(dst, 0x20, local, 0x41), chunk), op, 0x21, local)
}

// rest pays for what is left and does it with the instruction.
func (w *rewriter) rest(dst []byte, op ...byte) []byte {
	dst = appendU32(append(dst, 0x23), w.fuel)
	dst = append(dst, 0x20, 2, 0xad, 0x42, 10, 0x7c, 0x7d) // fuel - (length + 10)
	dst = w.settle(dst, helperFuel)
	return append(append(append(dst, 0x20, 0, 0x20, 1, 0x20, 2), op...), opEnd)
}

// copyHelper is memory.copy in chunks, from the end if the destination overlaps the source from above.
func (w *rewriter) copyHelper() []byte {
	var up, down []byte
	up = append(append(up, 0x20, 0, 0x20, 1), appendS64([]byte{0x41}, chunk)...)
	up = add(add(add(append(up, 0xfc, 10, 0, 0), 0, 0x6a), 1, 0x6a), 2, 0x6b)
	down = add(down, 2, 0x6b)
	down = append(down, 0x20, 0, 0x20, 2, 0x6a, 0x20, 1, 0x20, 2, 0x6a)
	down = append(append(down, appendS64([]byte{0x41}, chunk)...), 0xfc, 10, 0, 0)
	b := bounds(bounds([]byte{1, 1, i64}, 0), 1)
	b = append(b, 0x20, 0, 0x20, 1, 0x4d, opIf, 0x40) // destination <= source
	b = append(w.more(b, up), opElse)
	b = append(w.more(b, down), opEnd)
	return w.rest(b, 0xfc, 10, 0, 0)
}

// fillHelper is memory.fill in chunks.
func (w *rewriter) fillHelper() []byte {
	step := append([]byte{0x20, 0, 0x20, 1}, appendS64([]byte{0x41}, chunk)...)
	step = add(add(append(step, 0xfc, 11, 0), 0, 0x6a), 2, 0x6b)
	b := w.more(bounds([]byte{1, 1, i64}, 0), step)
	return w.rest(b, 0xfc, 11, 0)
}
