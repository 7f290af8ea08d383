package wasm

import "time"

// census measures function bodies: what the caps are about, and how long the compiler may take over them.
//
// Some of the compiler's passes grow with products (measured on wazero v1.12.0, on functions made to be slow; `go test
// ./runtime/wasm -bench Slowest`):
//
//   - the basic blocks squared, where it looks for loops: each edge walks up the tree of dominators
//   - blocks x live values (locals, operand stack), in liveness and in the arguments of joins
//   - blocks x accesses of memory: what is known to be in bounds is copied from block to block
//   - nesting of loops squared x live values, where it removes arguments that are not needed
//
// So 3 KB of code may take 5 s, and 120 KB 4 GB of memory. What the gate lets through takes half its estimate at most, and
// less than 1 GB; Go's runtime is estimated at 2.5 s, of which it takes 0.9.
type census struct {
	size, nesting, locals, targets int
	worst, total                   time.Duration
	frames                         []frame // scratch
}

// Bounds of the estimated time of compiling: of a function, of all. The estimate is a bound, seldom a good guess.
const (
	functionEffort = 2 * time.Second
	moduleEffort   = 20 * time.Second
)

// tally is what the census counts in one function.
type tally struct {
	blocks   int // basic blocks, with those in which loops pay for themselves
	runs     int // straight runs of instructions
	loops    int // deepest nesting of loops
	accesses int // of memory
	height   int // of the operand stack, at most
	table    bool
}

// effort is how long the compiler may take over a function of so many bytes and locals.
func (t tally) effort(bytes, locals int) time.Duration {
	blocks, live := int64(t.blocks), int64(locals+t.height)
	if t.table && t.loops > 0 {
		blocks += 2 * int64(t.runs) // each pays for itself
	}
	ns := 500*int64(bytes) + 9*blocks*blocks + 200*blocks*live + 20*blocks*int64(t.accesses) + 120*int64(t.loops*t.loops)*live
	return time.Duration(ns)
}

// frame is a block that is open: the operand stack's height at its start, and whether what comes is out of reach, which the
// compiler skips.
type frame struct {
	loop            bool
	dead, skipped   bool // from here on; from its start on
	base            int
	params, results int
}

// walk follows a function's instructions.
type walk struct {
	m      *module
	tally  tally
	frames []frame
	loops  int // open now
	height int
}

func (w *walk) step(in instr) {
	top := &w.frames[len(w.frames)-1]
	switch in.op {
	case opBlock, opLoop, opIf:
		w.open(in, top.dead)
		return
	case opElse:
		w.tally.runs++
		w.height, top.dead = top.base+top.params, top.skipped
		return
	case opEnd:
		w.close(top)
		return
	case opBr, opBr + 1:
		w.tally.blocks++
	case opBrTable:
		w.tally.blocks += in.end - in.off - 1 // a target has a byte at least
		w.tally.table = true
	case opCall:
		w.height += w.m.callEffect(in.arg)
	case opCallIndirect:
		w.height += w.m.typeEffect(in.arg)
	}
	if in.access {
		w.tally.accesses++
	}
	w.height += int(in.effect)
	if !top.dead {
		w.tally.height = max(w.tally.height, w.height)
	}
	top.dead = top.dead || in.op == opUnreachable || in.op == opBr || in.op == opBrTable || in.op == opReturn
}

func (w *walk) open(in instr, dead bool) {
	f := frame{loop: in.op == opLoop, dead: dead, skipped: dead}
	f.params, f.results = w.m.blockArity(in.arg)
	w.tally.blocks++
	w.tally.runs++ // behind its end
	switch in.op {
	case opIf:
		w.tally.runs++
		w.height--
		w.tally.blocks += 2
	case opLoop:
		w.tally.blocks += 5 // it pays for itself
		w.loops++
		w.tally.loops = max(w.tally.loops, w.loops)
	}
	f.base = w.height - f.params
	w.frames = append(w.frames, f)
}

func (w *walk) close(top *frame) {
	if top.loop {
		w.loops--
	}
	w.height = top.base + top.results
	w.frames = w.frames[:len(w.frames)-1]
}

// body looks at a function: its instructions all known, blocks closed, the last end at the end.
func (c *census) body(r *reader, m *module, b *body) {
	w := walk{m: m, frames: append(c.frames[:0], frame{})}
	for len(w.frames) > 0 && r.err == nil {
		in := r.instr()
		w.step(in)
		if in.op == opBrTable {
			c.targets = max(c.targets, in.end-in.off-1)
		}
		if c.nesting = max(c.nesting, len(w.frames)); len(w.frames) > nestingMax {
			r.fail(in.off, "blocks are nested deeper than %d", nestingMax)
		}
	}
	c.frames = w.frames
	if r.err == nil && r.at != r.end {
		r.fail(r.at, "there are %d bytes behind its end", r.end-r.at)
	}
	size, t := b.end-b.from, w.tally
	effort := t.effort(size, b.locals)
	if effort > functionEffort {
		r.fail(b.code, "compiling it may take %v (%d basic blocks, %d live values, %d accesses of memory, loops %d deep); at most %v: make smaller functions of it",
			effort.Round(time.Millisecond), t.blocks, b.locals+t.height, t.accesses, t.loops, functionEffort)
	}
	c.size, c.locals, c.worst = max(c.size, size), max(c.locals, b.locals), max(c.worst, effort)
	c.total += effort
}

// blockArity is how many parameters and results a block of that type has.
func (m *module) blockArity(arg uint32) (params, results int) {
	switch {
	case arg == blockEmpty:
		return 0, 0
	case arg == blockOne:
		return 0, 1
	case int64(arg)-blockTypes < int64(len(m.types)):
		t := m.types[arg-blockTypes]
		return len(t.params), len(t.results)
	}
	return 0, 0 // the compiler's validation refuses it
}

// callEffect is by how much a call of a function changes the operand stack's height.
func (m *module) callEffect(f uint32) int {
	if n := uint32(len(m.imports)); f < n {
		return m.typeEffect(m.imports[f].typ)
	} else if f-n < uint32(len(m.funcs)) {
		return m.typeEffect(m.funcs[f-n])
	}
	return 0
}

func (m *module) typeEffect(t uint32) int {
	if int64(t) >= int64(len(m.types)) {
		return 0
	}
	return len(m.types[t].results) - len(m.types[t].params)
}
