package wasm

// immediates is what follows an opcode.
type immediates uint8

const (
	refused immediates = iota
	nothing
	blockType
	labels // br_table
	index  // label, local, global, table, function: a u32
	twoIndices
	indexMemory // an index, then memory 0
	twoMemories
	memArg
	memArgLane
	reserved // a zero byte
	const32
	const64
	float32s // 4 bytes
	float64s // 8 bytes
	bytes16
	lane
	types // select with types
	heapType
	prefixed
)

// opcode is what the gate knows of an instruction: what follows it and what it costs, in units of fuel. A unit is about
// what an addition costs; loads count for a line of memory that is not in the cache now and then.
type opcode struct {
	imm    immediates
	weight uint8
	effect int8 // on the height of the operand stack; of calls and blocks, see census.go
	access bool // of memory
}

// Opcodes that the census or the rewriter looks at.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opMemoryGrow   = 0x40
	opRefFunc      = 0xd2

	opMemoryInit = 0xfc00 + 8
	opMemoryCopy = 0xfc00 + 10
	opMemoryFill = 0xfc00 + 11
	opTableInit  = 0xfc00 + 12
	opTableCopy  = 0xfc00 + 14
	opTableGrow  = 0xfc00 + 15
	opTableFill  = 0xfc00 + 17
)

// plain, misc and simd are the instructions of WebAssembly 2.0 (core specification, section 5.4), by opcode.
var plain, misc, simd = plainOps(), miscOps(), simdOps()

func fill(t *[256]opcode, from, to int, imm immediates, weight uint8) {
	for i := from; i <= to; i++ {
		t[i] = opcode{imm: imm, weight: weight}
	}
}

// effects notes what instructions do to the height of the operand stack.
func effects(t *[256]opcode, effect int8, ops ...[2]int) {
	for _, r := range ops {
		for i := r[0]; i <= r[1]; i++ {
			t[i].effect = effect
		}
	}
}

func accesses(t *[256]opcode, from, to int) {
	for i := from; i <= to; i++ {
		t[i].access = true
	}
}

func plainOps() (t [256]opcode) {
	fill(&t, 0x00, 0x01, nothing, 0)
	fill(&t, opBlock, opBlock, blockType, 0)
	fill(&t, opLoop, opIf, blockType, 1)
	fill(&t, opElse, opElse, nothing, 0)
	fill(&t, opEnd, opEnd, nothing, 0)
	fill(&t, 0x0c, 0x0d, index, 1)
	fill(&t, opBrTable, opBrTable, labels, 5)
	fill(&t, opReturn, opReturn, nothing, 1)
	fill(&t, opCall, opCall, index, 10)
	fill(&t, opCallIndirect, opCallIndirect, twoIndices, 15)
	fill(&t, 0x1a, 0x1b, nothing, 1)
	fill(&t, 0x1c, 0x1c, types, 1)
	fill(&t, 0x20, 0x24, index, 1)
	fill(&t, 0x25, 0x26, index, 4)
	fill(&t, 0x28, 0x35, memArg, 4) // loads
	fill(&t, 0x36, 0x3e, memArg, 2) // stores
	fill(&t, 0x3f, 0x40, reserved, 2)
	fill(&t, 0x41, 0x41, const32, 1)
	fill(&t, 0x42, 0x42, const64, 1)
	fill(&t, 0x43, 0x43, float32s, 1)
	fill(&t, 0x44, 0x44, float64s, 1)
	fill(&t, 0x45, 0xc4, nothing, 1)
	fill(&t, 0x6d, 0x70, nothing, 20) // i32 div, rem
	fill(&t, 0x7f, 0x82, nothing, 20) // i64 div, rem
	fill(&t, 0x8d, 0x90, nothing, 4)  // f32 ceil, floor, trunc, nearest
	fill(&t, 0x91, 0x91, nothing, 20) // f32 sqrt
	fill(&t, 0x95, 0x95, nothing, 20) // f32 div
	fill(&t, 0x9b, 0x9e, nothing, 4)
	fill(&t, 0x9f, 0x9f, nothing, 20)
	fill(&t, 0xa3, 0xa3, nothing, 20)
	fill(&t, 0xa8, 0xb1, nothing, 4) // conversions
	fill(&t, 0xd0, 0xd0, heapType, 1)
	fill(&t, 0xd1, 0xd1, nothing, 1)
	fill(&t, opRefFunc, opRefFunc, index, 5)
	fill(&t, 0xfc, 0xfd, prefixed, 0)
	effects(&t, 1, [2]int{0x20, 0x20}, [2]int{0x23, 0x23}, [2]int{0x3f, 0x3f}, [2]int{0x41, 0x44}, [2]int{0xd0, 0xd0}, [2]int{opRefFunc, opRefFunc})
	effects(&t, -1, [2]int{0x0d, opBrTable}, [2]int{opCallIndirect, opCallIndirect}, [2]int{0x1a, 0x1a}, [2]int{0x21, 0x21}, [2]int{0x24, 0x24},
		[2]int{0x46, 0x4f}, [2]int{0x51, 0x66}, [2]int{0x6a, 0x78}, [2]int{0x7c, 0x8a}, [2]int{0x92, 0x98}, [2]int{0xa0, 0xa6})
	effects(&t, -2, [2]int{0x1b, 0x1c}, [2]int{0x26, 0x26}, [2]int{0x36, 0x3e})
	accesses(&t, 0x28, 0x3e)
	return t
}

func miscOps() (t [256]opcode) {
	fill(&t, 0, 7, nothing, 4)       // saturating conversions
	fill(&t, 8, 8, indexMemory, 10)  // memory.init: segment, memory
	fill(&t, 9, 9, index, 4)         // data.drop
	fill(&t, 10, 10, twoMemories, 1) // memory.copy
	fill(&t, 11, 11, reserved, 1)    // memory.fill
	fill(&t, 12, 12, twoIndices, 10)
	fill(&t, 13, 13, index, 4) // elem.drop
	fill(&t, 14, 14, twoIndices, 10)
	fill(&t, 16, 16, index, 2) // table.size; 15 is table.grow
	fill(&t, 17, 17, index, 10)
	effects(&t, 1, [2]int{16, 16})
	effects(&t, -3, [2]int{8, 8}, [2]int{10, 12}, [2]int{14, 14}, [2]int{17, 17})
	return t
}

func simdOps() (t [256]opcode) {
	fill(&t, 0, 10, memArg, 5)
	fill(&t, 11, 11, memArg, 3) // v128.store
	fill(&t, 12, 13, bytes16, 1)
	fill(&t, 14, 20, nothing, 2)
	fill(&t, 21, 34, lane, 2)
	fill(&t, 35, 83, nothing, 2)
	fill(&t, 84, 91, memArgLane, 5)
	fill(&t, 92, 93, memArg, 5)
	fill(&t, 94, 255, nothing, 3)
	for _, op := range []int{0xe3, 0xe7, 0xef, 0xf3} { // sqrt, div
		fill(&t, op, op, nothing, 40)
	}
	effects(&t, 1, [2]int{12, 12})
	effects(&t, -1, [2]int{13, 14}, [2]int{35, 76}, [2]int{78, 81}, [2]int{84, 87}, [2]int{101, 102}, [2]int{107, 115}, [2]int{118, 121}, [2]int{123, 123},
		[2]int{130, 130}, [2]int{133, 134}, [2]int{139, 147}, [2]int{149, 159}, [2]int{171, 191}, [2]int{203, 223}, [2]int{228, 235}, [2]int{240, 247})
	for _, op := range []int{23, 26, 28, 30, 32, 34} { // replace_lane
		effects(&t, -1, [2]int{op, op})
	}
	effects(&t, -2, [2]int{11, 11}, [2]int{82, 82}, [2]int{88, 91})
	accesses(&t, 0, 11)
	accesses(&t, 84, 93)
	return t
}

// instr is one instruction: its opcode (the prefix in the second byte), its bytes [off, end), what is known of it, and its
// immediate where it has one index; of blocks the type: blockEmpty, blockOne, or blockTypes and the type's index.
type instr struct {
	op       uint32
	off, end int
	weight   int64
	effect   int8
	access   bool
	arg      uint32
}

const (
	blockEmpty = 0
	blockOne   = 1 // one result
	blockTypes = 2
)

// instr reads one instruction.
func (r *reader) instr() (in instr) {
	in.off = r.at
	in.op = uint32(r.byte())
	o := plain[in.op]
	if o.imm == prefixed {
		sub := r.u32()
		table := &misc
		if in.op == 0xfd {
			table = &simd
		}
		if sub > 255 {
			r.fail(in.off, "the instruction %#x %d is not part of WebAssembly 2.0", in.op, sub)
			return in
		}
		o = table[sub]
		in.op = in.op<<8 | sub
	}
	in.weight, in.effect, in.access = int64(o.weight), o.effect, o.access
	r.immediate(&in, o.imm)
	in.end = r.at
	return in
}

func (r *reader) immediate(in *instr, imm immediates) {
	switch imm {
	case refused:
		if in.op == opTableGrow {
			r.fail(in.off, "table.grow is refused: tables keep their size")
			return
		}
		r.fail(in.off, "the instruction %#x is not part of WebAssembly 2.0", in.op)
	case blockType:
		in.arg = r.blockType()
	case labels:
		for n := r.count("targets of br_table", 1, brTableMax); n >= 0; n-- {
			r.u32()
		}
	case index:
		in.arg = r.u32()
	case twoIndices:
		in.arg = r.u32()
		r.u32()
	case memArg, memArgLane:
		r.u32()
		r.u32()
		if imm == memArgLane {
			r.byte()
		}
	case indexMemory:
		in.arg = r.u32()
		r.memory(in)
	case twoMemories:
		r.memory(in)
		r.memory(in)
	case reserved:
		r.memory(in)
	case const32:
		r.s64(32)
	case const64:
		r.s64(64)
	case float32s:
		r.take(4)
	case float64s:
		r.take(8)
	case bytes16:
		r.take(16)
	case lane:
		r.byte()
	case types:
		for n := r.count("types of select", 1, 1); n > 0; n-- {
			r.valueType()
		}
	case heapType:
		if at := r.at; !isReference(r.byte()) {
			r.fail(at, "no reference type")
		}
	}
}

// memory is the number of the one memory, in one byte.
func (r *reader) memory(in *instr) {
	if r.byte() != 0 {
		r.fail(in.off, "there is one memory, number 0")
	}
}

// blockType is empty, a value type, or a type's index as a signed number of 33 bits.
func (r *reader) blockType() uint32 {
	if !r.done() && (r.b[r.at] == 0x40 || isValue(r.b[r.at])) {
		r.at++
		if r.b[r.at-1] == 0x40 {
			return blockEmpty
		}
		return blockOne
	}
	at := r.at
	i := r.s64(33)
	if i < 0 || i >= typeMax {
		r.fail(at, "no block type")
		return blockEmpty
	}
	return blockTypes + uint32(i)
}

func isReference(c byte) bool { return c == 0x70 || c == 0x6f }

func isValue(c byte) bool { return c >= 0x7b && c <= 0x7f || isReference(c) }

func (r *reader) valueType() byte {
	at := r.at
	c := r.byte()
	if !isValue(c) {
		r.fail(at, "%#x is no value type", c)
	}
	return c
}
