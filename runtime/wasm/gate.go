package wasm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/abi"
)

// FileMax is the largest module, bytes.
const FileMax = 16 << 20

// Caps of the gate. Real guests stay well below them (Go's standard library: 2 281 functions, bodies of 51 KB, 549 levels,
// br_table of 1 144, tables of 6 377; a JavaScript engine: 254 targets). How long compiling may take is in census.go.
const (
	functionMax = 50_000
	typeMax     = 10_000
	importMax   = 256
	paramMax    = 64 // parameters, and results, of a type
	localMax    = 1000
	bodyMax     = 256 << 10
	nestingMax  = 2048
	brTableMax  = 8192
	tableMax    = 64 << 10
	globalMax   = 1000
	exportMax   = 1000
	segmentMax  = 100_000
	passiveMax  = 1 << 20 // bytes of a passive data segment: memory.init copies it in one go
	nameMax     = 4096
	pageSize    = 64 << 10

	memoryMiBMax = 1024 // that anybody may grant
)

// Cap is how near a module comes to one of the gate's caps.
type Cap struct {
	Name       string
	Value, Max int
}

// functype is a function type: value types of parameters and results.
type functype struct{ params, results []byte }

func (t functype) equal(o functype) bool {
	return bytes.Equal(t.params, o.params) && bytes.Equal(t.results, o.results)
}

func (t functype) String() string {
	list := func(types []byte) string {
		var names []string
		for _, c := range types {
			names = append(names, map[byte]string{0x7f: "i32", 0x7e: "i64", 0x7d: "f32", 0x7c: "f64", 0x7b: "v128", 0x70: "funcref", 0x6f: "externref"}[c])
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return list(t.params) + " -> " + list(t.results)
}

// Import is a function that a module imports.
type Import struct {
	Module, Name string
	typ          uint32
	at           int
}

// export is something that a module exports: kind 0 function, 1 table, 2 memory, 3 global.
type export struct {
	name  string
	kind  byte
	index uint32
	at    int
}

// element is an element segment, up to the function indices in it, which the rewriter shifts.
type element struct {
	flags   uint32
	raw     []byte // table, offset and kind, as they stand
	indices []uint32
	exprs   [][]byte // constant expressions, if not indices
}

// body is a function: its declarations of locals and its instructions, offsets in the file.
type body struct {
	from, code, end int
	locals          int // parameters included
	frame           int // estimated bytes of stack
}

// module is a module that passed the gate, taken apart.
type module struct {
	src      []byte
	types    []functype
	imports  []Import
	funcs    []uint32 // types of the functions defined
	bodies   []body
	table    []byte // section as it stands
	memory   bool
	minPages uint32
	maxPages uint32 // or noMax
	globals  [][]byte
	exports  []export
	elements []element
	segments int // declared by the data count section, or noSegments
	counted  []byte
	data     []byte // section as it stands
	manifest []byte
	custom   int // bytes in custom sections
	caps     []Cap
	effort   time.Duration // estimated, of compiling
}

const (
	noMax      = 1 << 31
	noSegments = -1
)

var magic = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

var errNoModule = &GateError{0, "it is no WebAssembly module of version 1: it must begin with the bytes 00 61 73 6d 01 00 00 00"}

// The sections in the order in which they must stand; custom ones stand anywhere.
var sectionOrder = []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11}

// pass lets a module through or says why not: strictly decoded, every count and size within its cap, imports and exports
// as the contract has them. What the instructions do with their operands is for the compiler's validation.
func pass(src []byte) (*module, error) {
	if len(src) > FileMax {
		return nil, &GateError{0, fmt.Sprintf("the file has %d bytes; at most %d", len(src), FileMax)}
	}
	if !bytes.HasPrefix(src, magic) {
		return nil, errNoModule
	}
	m := &module{src: src, segments: noSegments, maxPages: noMax}
	r := &reader{b: src, at: len(magic), end: len(src)}
	last := -1
	for !r.done() {
		at := r.at
		id := r.byte()
		size := r.u32()
		from := r.at
		if r.take(size); r.err != nil {
			break
		}
		s := &reader{b: src, at: from, end: r.at}
		if order := slices.Index(sectionOrder, id); id != 0 && order <= last {
			r.fail(at, "section %d is unknown, twice there, or out of order", id)
		} else if id != 0 {
			last = order
		}
		if r.err == nil {
			m.section(id, s)
			if s.err == nil && s.at != s.end {
				s.fail(s.at, "section %d has %d bytes too many", id, s.end-s.at)
			}
			r.err = s.err
		}
	}
	if r.err == nil {
		m.whole(r)
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

func (m *module) section(id byte, r *reader) {
	switch id {
	case 0:
		m.customSection(r)
	case 1:
		m.typeSection(r)
	case 2:
		m.importSection(r)
	case 3:
		for n := r.count("functions", 1, functionMax); n > 0 && r.err == nil; n-- {
			m.funcs = append(m.funcs, m.typeIndex(r))
		}
	case 4:
		m.tableSection(r)
	case 5:
		m.memorySection(r)
	case 6:
		m.globalSection(r)
	case 7:
		m.exportSection(r)
	case 8:
		r.fail(r.at, "a start function is refused; export it as %s", abi.ExportStart)
	case 9:
		m.elementSection(r)
	case 10:
		m.codeSection(r)
	case 11:
		m.dataSection(r)
	case 12:
		from := r.at
		m.segments = r.count("data segments", 0, segmentMax)
		m.counted = r.b[from:r.at]
	}
}

func (m *module) customSection(r *reader) {
	at := r.at
	name := r.name()
	m.custom += r.end - at
	if name == abi.ManifestSection && r.err == nil {
		if m.manifest != nil {
			r.fail(at, "the section %s is there twice", name)
		}
		m.manifest = r.b[r.at:r.end:r.end]
	}
	r.at = r.end
}

func (m *module) typeSection(r *reader) {
	for n := r.count("types", 3, typeMax); n > 0 && r.err == nil; n-- {
		if at := r.at; r.byte() != 0x60 {
			r.fail(at, "no function type")
		}
		var t functype
		for _, list := range []*[]byte{&t.params, &t.results} {
			for k := r.count("parameters or results", 1, paramMax); k > 0; k-- {
				*list = append(*list, r.valueType())
			}
		}
		m.types = append(m.types, t)
	}
}

func (m *module) typeIndex(r *reader) uint32 {
	at := r.at
	i := r.u32()
	if int64(i) >= int64(len(m.types)) {
		r.fail(at, "there is no type %d", i)
		return 0
	}
	return i
}

func (m *module) importSection(r *reader) {
	for n := r.count("imports", 4, importMax); n > 0 && r.err == nil; n-- {
		at := r.at
		imp := Import{Module: r.name(), Name: r.name(), at: at}
		if kind := r.byte(); kind != 0 && r.err == nil {
			r.fail(at, "it imports %s, which is no function; modules bring their own memory, tables and globals", printable([]byte(imp.Module+"."+imp.Name), 200))
			return
		}
		imp.typ = m.typeIndex(r)
		if r.err != nil {
			return
		}
		if said := checkImport(imp.Module, imp.Name, m.types[imp.typ]); said != "" {
			r.fail(at, "%s", said)
		}
		m.imports = append(m.imports, imp)
	}
}

// limits reads the bounds of a table or memory.
func (r *reader) limits(what string, most uint32) (low, high uint32) {
	at := r.at
	flags := r.byte()
	if flags > 1 {
		r.fail(at, "a %s must not be shared or have 64-bit addresses", what)
		return 0, 0
	}
	low, high = r.u32(), noMax
	if flags == 1 {
		high = r.u32()
	}
	if low > most || high < low {
		r.fail(at, "a %s of %d to %d; at most %d", what, low, high, most)
	}
	return low, high
}

func (m *module) tableSection(r *reader) {
	from := r.at
	if n := r.count("tables", 3, 1); n == 1 {
		at := r.at
		if !isReference(r.byte()) {
			r.fail(at, "a table must hold references")
		}
		low, _ := r.limits("table", tableMax)
		m.cap("table entries", int(low), tableMax)
	}
	m.table = r.b[from:r.at]
}

func (m *module) memorySection(r *reader) {
	at := r.at
	if n := r.count("memories", 2, 1); n == 1 {
		m.memory = true
		m.minPages, m.maxPages = r.limits("memory", memoryMiBMax<<20/pageSize)
	} else {
		r.fail(at, "it needs exactly one memory of its own")
	}
}

func (m *module) globalSection(r *reader) {
	n := r.count("globals", 4, globalMax)
	m.cap("globals", n, globalMax)
	for ; n > 0 && r.err == nil; n-- {
		from := r.at
		r.valueType()
		if at := r.at; r.byte() > 1 {
			r.fail(at, "a global is mutable (1) or not (0)")
		}
		r.constant()
		m.globals = append(m.globals, r.b[from:r.at])
	}
}

// constant reads a constant expression: one constant or reference. There are no imported globals to take it from.
func (r *reader) constant() {
	at := r.at
	switch in := r.instr(); {
	case in.op >= 0x41 && in.op <= 0x44, in.op == 0xd0, in.op == opRefFunc, in.op == 0xfd00|12:
	default:
		r.fail(at, "a constant expression must be one constant")
	}
	if at := r.at; r.byte() != opEnd {
		r.fail(at, "a constant expression must be one constant")
	}
}

func (m *module) exportSection(r *reader) {
	n := r.count("exports", 3, exportMax)
	m.cap("exports", n, exportMax)
	seen := map[string]bool{}
	for ; n > 0 && r.err == nil; n-- {
		x := export{at: r.at, name: r.name(), kind: r.byte(), index: r.u32()}
		switch {
		case r.err != nil:
		case seen[x.name]:
			r.fail(x.at, "it exports %q twice", x.name)
		case strings.HasPrefix(x.name, reservedPrefix):
			r.fail(x.at, "it exports %q; names that begin with %s are the host's", x.name, reservedPrefix)
		case x.kind > 3:
			r.fail(x.at, "the export %q is of kind %d", x.name, x.kind)
		}
		seen[x.name] = true
		m.exports = append(m.exports, x)
	}
}

func (m *module) elementSection(r *reader) {
	for n := r.count("element segments", 2, segmentMax); n > 0 && r.err == nil; n-- {
		at := r.at
		e := element{flags: r.u32()}
		if e.flags > 7 {
			r.fail(at, "no element segment")
			return
		}
		from := r.at
		if e.flags&1 == 0 { // active
			if e.flags&2 != 0 {
				r.u32() // table
			}
			r.constant()
		}
		if e.flags&3 != 0 {
			r.byte() // kind or type
		}
		e.raw = r.b[from:r.at]
		for k := r.count("elements", 1, tableMax); k > 0 && r.err == nil; k-- {
			from := r.at
			if e.flags&4 == 0 {
				e.indices = append(e.indices, r.u32())
			} else {
				r.constant()
				e.exprs = append(e.exprs, r.b[from:r.at])
			}
		}
		m.elements = append(m.elements, e)
	}
}

func (m *module) dataSection(r *reader) {
	from := r.at
	n := r.count("data segments", 2, segmentMax)
	if m.segments != noSegments && n != m.segments {
		r.fail(from, "%d data segments; the data count section says %d", n, m.segments)
	}
	for ; n > 0 && r.err == nil; n-- {
		at := r.at
		flags := r.u32()
		switch flags {
		case 0:
			r.constant()
		case 1:
		default:
			r.fail(at, "no data segment of memory 0")
		}
		if b := r.take(r.u32()); flags == 1 && len(b) > passiveMax {
			r.fail(at, "a passive data segment of %d bytes; at most %d", len(b), passiveMax)
		}
	}
	m.data = r.b[from:r.at]
}

func (m *module) codeSection(r *reader) {
	n := r.count("function bodies", 3, functionMax)
	if n != len(m.funcs) {
		r.fail(r.at, "%d function bodies for %d functions", n, len(m.funcs))
		return
	}
	var c census
	for i := 0; i < n && r.err == nil; i++ {
		at := r.at
		size := r.u32()
		if size > bodyMax {
			r.fail(at, "function %d has %d bytes; at most %d", i, size, bodyMax)
			return
		}
		from := r.at
		if r.take(size); r.err != nil {
			return
		}
		f := &reader{b: r.b, at: from, end: r.at}
		b := body{from: from, end: f.end}
		m.locals(f, &b, m.types[m.funcs[i]].params)
		b.code = f.at
		c.body(f, m, &b)
		if f.err != nil {
			r.err = &GateError{f.err.Offset, fmt.Sprintf("function %d: %s", i, f.err.Text)}
			return
		}
		m.bodies = append(m.bodies, b)
	}
	if c.total > moduleEffort {
		r.fail(r.at, "compiling it may take %v; at most %v", c.total.Round(time.Millisecond), moduleEffort)
	}
	m.effort = c.total
	m.caps = append(m.caps, Cap{"functions", n, functionMax}, Cap{"largest body, bytes", c.size, bodyMax}, Cap{"nesting", c.nesting, nestingMax},
		Cap{"locals of a function", c.locals, localMax}, Cap{"br_table targets", c.targets, brTableMax},
		Cap{"compiling a function, ms at most", int(c.worst.Milliseconds()), int(functionEffort.Milliseconds())},
		Cap{"compiling all, ms at most", int(c.total.Milliseconds()), int(moduleEffort.Milliseconds())})
}

// locals reads the declarations of locals; parameters count too.
func (m *module) locals(r *reader, b *body, params []byte) {
	b.frame = 64
	for _, t := range params {
		b.frame += width(t)
	}
	b.locals = len(params)
	for n := r.count("declarations of locals", 2, localMax); n > 0 && r.err == nil; n-- {
		at := r.at
		k := r.u32()
		if b.locals += int(min(k, localMax+1)); b.locals > localMax {
			r.fail(at, "more than %d locals", localMax)
			return
		}
		b.frame += int(k) * width(r.valueType())
	}
	b.frame += (b.end - r.at) / 8 // what is on the operand stack grows with the code
}

func width(t byte) int {
	if t == 0x7b {
		return 16
	}
	return 8
}

func (m *module) cap(name string, value, most int) { m.caps = append(m.caps, Cap{name, value, most}) }

// whole checks what sections promise one another, and the exports of the contract.
func (m *module) whole(r *reader) {
	at := r.end
	if len(m.bodies) != len(m.funcs) {
		r.fail(at, "%d function bodies for %d functions", len(m.bodies), len(m.funcs))
	}
	if !m.memory {
		r.fail(at, "it needs exactly one memory of its own")
	}
	if m.segments > 0 && m.data == nil {
		r.fail(at, "the data count section says %d, and there is no data", m.segments)
	}
	for _, x := range contract {
		i := slices.IndexFunc(m.exports, func(e export) bool { return e.name == x.name })
		switch {
		case i < 0 && x.required:
			r.fail(at, "it does not export %s", x.name)
		case i >= 0:
			m.checkExport(r, m.exports[i], x.typ)
		}
	}
	if m.manifest == nil {
		r.fail(at, "it has no custom section %s: its manifest", abi.ManifestSection)
	}
}

// promise is an export of the contract.
type promise struct {
	name     string
	required bool
	typ      functype
}

// contract are the exports that the host calls.
var contract = []promise{
	{abi.ExportMemory, true, functype{}},
	{abi.ExportArena, true, functype{[]byte{0x7f}, []byte{0x7f}}},
	{abi.ExportInit, true, functype{[]byte{0x7f, 0x7f}, []byte{0x7f}}},
	{abi.ExportProcess, false, functype{[]byte{0x7f}, []byte{0x7f}}}, // by role (roles.go), with the next three
	{abi.ExportUpdate, false, functype{[]byte{0x7f}, []byte{0x7f}}},
	{abi.ExportMerge, false, functype{[]byte{0x7f}, []byte{0x7f}}},
	{abi.ExportFinish, false, functype{[]byte{0x7f}, []byte{0x7f}}},
	{abi.ExportMigrate, false, functype{[]byte{0x7f}, []byte{0x7f}}},
	{abi.ExportTimer, false, functype{[]byte{0x7f}, []byte{0x7f}}},
	{abi.ExportClose, false, functype{}},
	{abi.ExportStart, false, functype{}},
}

func (m *module) checkExport(r *reader, e export, want functype) {
	if e.name == abi.ExportMemory {
		if e.kind != 2 || e.index != 0 {
			r.fail(e.at, "the export %s must be its memory", e.name)
		}
		return
	}
	if e.kind != 0 {
		r.fail(e.at, "the export %s must be a function", e.name)
		return
	}
	var typ uint32
	switch i := int64(e.index) - int64(len(m.imports)); {
	case i < 0:
		typ = m.imports[e.index].typ
	case i < int64(len(m.funcs)):
		typ = m.funcs[i]
	default:
		r.fail(e.at, "the export %s is function %d of %d", e.name, e.index, len(m.imports)+len(m.funcs))
		return
	}
	if !m.types[typ].equal(want) {
		r.fail(e.at, "the export %s has the type %s; it must have %s", e.name, m.types[typ], want)
	}
}
