package wasm

// How the functions of a rewritten module pay. plan finds what is paid for at once: the function where it begins, each loop
// where it begins anew, and in an interpreter's loop each straight run. body writes the function with these charges; a charge is
// a subtraction from a global and a test of its sign. What the host must be asked for stands apart: behind an if, or, in loops,
// outside of the loop (label).

// code writes all functions, and the helpers.
func (w *rewriter) code() []byte {
	var one []byte
	b := make([]byte, 0, 2*len(w.m.src))
	for i := range w.m.bodies {
		one = w.body(one[:0], &w.m.bodies[i], w.types[w.m.funcs[i]])
		b = append(appendU32(b, uint32(len(one))), one...)
	}
	for _, one := range [][]byte{w.copyHelper(), w.fillHelper()} {
		b = append(appendU32(b, uint32(len(one))), one...)
	}
	return b
}

// region is a stretch of a function that is paid for where it starts: the function itself, a loop, or a straight run of
// instructions in one of these.
type region struct {
	cost int64
	of   int  // of a run: the loop around it, or the function
	fine bool // of loops and the function: it has a br_table, so its runs pay for themselves
}

// plan walks a function and finds its regions. w.at[k] is the region that starts behind the k-th instruction, or -1. It says
// whether the function calls others.
func (w *rewriter) plan(b *body) (calls bool) {
	w.regions, w.at = append(w.regions[:0], region{cost: weightEnter}), w.at[:0]
	start := int32(-1)
	open := func(g region) int {
		w.regions = append(w.regions, g)
		start = int32(len(w.regions) - 1)
		return int(start)
	}
	type block struct{ loop, pay int } // of a block: the loop around it, and which region pays now
	stack := []block{{0, 0}}
	r := &reader{b: w.m.src, at: b.code, end: b.end}
	for len(stack) > 0 {
		in := r.instr()
		top := &stack[len(stack)-1]
		w.regions[top.pay].cost += in.weight
		start = -1
		switch in.op {
		case opBlock:
			stack = append(stack, *top)
		case opIf:
			stack = append(stack, block{top.loop, open(region{of: top.loop})})
		case opLoop:
			g := open(region{cost: 1})
			w.regions[g].of = g
			stack = append(stack, block{g, g})
		case opElse:
			top.pay = open(region{of: top.loop})
		case opEnd:
			if stack = stack[:len(stack)-1]; len(stack) > 0 {
				top := &stack[len(stack)-1]
				top.pay = open(region{of: top.loop})
			}
		case opBrTable:
			w.regions[top.loop].fine = true
		case opCall, opCallIndirect:
			calls = true
		}
		w.at = append(w.at, start)
	}
	for i, g := range w.regions { // runs elsewhere are paid for with the loop or function
		if g.of != i && !w.regions[g.of].fine {
			w.regions[g.of].cost += g.cost
			w.regions[i].cost = 0
		}
	}
	return calls
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
	w.labels = append(w.labels[:0], label{})
	for _, g := range w.at {
		in := r.instr()
		switch {
		case in.op == opLoop && w.mayWrap(in, w.regions[g]):
			dst = w.openLoop(dst, m.src[in.off+1:in.end], w.regions[g].cost, left)
			continue
		case in.op == opBlock || in.op == opLoop || in.op == opIf:
			w.push(0)
			dst = append(dst, m.src[in.off:in.end]...)
		case in.op == opEnd:
			dst = w.end(dst, left)
			if len(w.labels) == 0 && calls {
				dst = w.leave(dst, b.frame)
			}
		case in.op == opCall || in.op == opRefFunc:
			dst = appendU32(append(dst, byte(in.op)), w.function(in.arg))
		case in.op == opBr || in.op == opBr+1:
			dst = appendU32(append(dst, byte(in.op)), w.target(in.arg))
		case in.op == opBrTable:
			dst = w.branches(dst, in)
		case in.op == opReturn && calls:
			dst = appendU32(append(dst, opBr), w.target(uint32(len(w.labels)-1)))
		case in.op == opMemoryCopy:
			dst = appendU32(append(dst, opCall), w.copy)
		case in.op == opMemoryFill:
			dst = appendU32(append(dst, opCall), w.fill)
		default:
			if weight := dynamic(in.op); weight > 0 {
				dst = w.chargeBy(dst, weight, left, length)
			}
			dst = append(dst, m.src[in.off:in.end]...)
		}
		if g >= 0 {
			dst = w.charge(dst, w.regions[g].cost, left)
		}
	}
	return dst
}

// label is a block that is open. A loop that is wrapped has become three:
//
//	block exit
//	  loop
//	    block need
//	      fuel -= cost; br_if need (fuel < 0)
//	      ... its instructions
//	      br exit
//	    end
//	    fuel = refill(fuel) + cost
//	    br loop
//	  end
//	end
//
// so that the call of the host stands apart from what turns often: within the loop it would cost tight ones half of their speed,
// since the compiler keeps nothing in registers across it.
type label struct {
	cost  int64 // of a wrapped loop, 0 for others
	wraps int   // wrapped loops up to this one
}

func (w *rewriter) push(cost int64) {
	l := label{cost: cost}
	if n := len(w.labels); n > 0 {
		l.wraps = w.labels[n-1].wraps
	}
	if cost > 0 {
		l.wraps++
	}
	w.labels = append(w.labels, l)
}

// mayWrap says whether a loop pays as a whole, and takes no parameters, which would have to be there when it begins again.
func (w *rewriter) mayWrap(in instr, g region) bool {
	params, _ := w.m.blockArity(in.arg)
	return !g.fine && params == 0
}

func (w *rewriter) openLoop(dst, blockType []byte, cost int64, left uint32) []byte {
	w.push(cost)
	dst = append(append(dst, opBlock), blockType...)
	dst = append(append(dst, opLoop), blockType...)
	dst = append(dst, opBlock, 0x40)
	return append(w.take(dst, cost, left), 0x0d, 0) // br_if need
}

// end closes a block.
func (w *rewriter) end(dst []byte, left uint32) []byte {
	l := w.labels[len(w.labels)-1]
	w.labels = w.labels[:len(w.labels)-1]
	if l.cost == 0 {
		return append(dst, opEnd)
	}
	dst = append(dst, opBr, 2, opEnd)
	dst = appendU32(append(appendU32(append(dst, 0x20), left), opCall), w.refill) // local.get, call
	dst = append(appendS64(append(dst, 0x42), l.cost), 0x7c)                      // i64.const, i64.add
	return append(appendU32(append(dst, 0x24), w.fuel), opBr, 0, opEnd, opEnd)    // global.set
}

// target is where a branch goes now.
func (w *rewriter) target(depth uint32) uint32 {
	top := len(w.labels) - 1
	to := int64(top) - int64(depth)
	if to < 0 {
		return depth + 4*nestingMax // there is none, and there must be none
	}
	depth += 2 * uint32(w.labels[top].wraps-w.labels[to].wraps)
	if w.labels[to].cost > 0 {
		depth++ // past need
	}
	return depth
}

// branches is a br_table.
func (w *rewriter) branches(dst []byte, in instr) []byte {
	r := &reader{b: w.m.src, at: in.off + 1, end: in.end}
	n := r.u32()
	dst = appendU32(append(dst, opBrTable), n)
	for range n + 1 {
		dst = appendU32(dst, w.target(r.u32()))
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
	return w.ask(w.take(dst, cost, left), left)
}

// take takes cost off the fuel, and leaves on the stack whether it is spent.
func (w *rewriter) take(dst []byte, cost int64, left uint32) []byte {
	dst = appendU32(append(dst, 0x23), w.fuel)
	dst = append(appendS64(append(dst, 0x42), cost), 0x7d) // i64.const, i64.sub
	return w.store(dst, left)
}

// chargeBy takes weight times the top of the stack off the fuel, and leaves the stack as it was.
func (w *rewriter) chargeBy(dst []byte, weight int64, left, length uint32) []byte {
	dst = appendU32(append(dst, 0x21), length) // local.set
	dst = appendU32(append(dst, 0x23), w.fuel)
	dst = append(appendU32(append(dst, 0x20), length), 0xad)       // local.get, i64.extend_i32_u
	dst = append(appendS64(append(dst, 0x42), weight), 0x7e, 0x7d) // i64.mul, i64.sub
	return appendU32(append(w.ask(w.store(dst, left), left), 0x20), length)
}

// store stores the fuel that is on the stack, also in a local, and leaves there whether it is spent.
func (w *rewriter) store(dst []byte, left uint32) []byte {
	dst = appendU32(append(dst, 0x22), left)                         // local.tee
	dst = appendU32(append(dst, 0x24), w.fuel)                       // global.set
	return append(appendU32(append(dst, 0x20), left), 0x42, 0, 0x53) // local.get, i64.const 0, i64.lt_s
}

// ask asks for more if the fuel is spent: if (spent) fuel = refill(fuel).
func (w *rewriter) ask(dst []byte, left uint32) []byte {
	dst = appendU32(append(dst, opIf, 0x40, 0x20), left)       // if, local.get
	dst = appendU32(append(dst, opCall), w.refill)             // call
	return append(appendU32(append(dst, 0x24), w.fuel), opEnd) // global.set, end
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
	dst = w.ask(w.store(dst, helperFuel), helperFuel)
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
