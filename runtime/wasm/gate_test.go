package wasm

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/abi"
)

// Modules by hand: sections of bytes.

func section(id byte, body ...byte) []byte {
	return append(appendU32([]byte{id}, uint32(len(body))), body...)
}

func file0(sections ...[]byte) []byte {
	return append(slices.Clone(magic), slices.Concat(sections...)...)
}

// function is a code section of one function with declarations of locals and instructions.
func function(code ...byte) []byte {
	return section(10, append(appendU32([]byte{1}, uint32(len(code))), code...)...)
}

var (
	voidType = section(1, 1, 0x60, 0, 0)
	oneFunc  = section(3, 1, 0)
	many     = []byte{0xf0, 0xff, 0xff, 0xff, 0x0f} // 2^32 - 16
)

// Modules that ask for more than anybody has, in few bytes: each is refused before anything is allocated for it.
func TestBombs(t *testing.T) {
	deepBlocks := append(append([]byte{0}, bytes.Repeat([]byte{opBlock, 0x40}, 20_000)...), bytes.Repeat([]byte{opEnd}, 20_001)...)
	table := append([]byte{0, opBlock, 0x40, 0x41, 0, opBrTable}, appendU32(nil, 160_000)...)
	table = append(append(table, make([]byte, 160_001)...), opEnd, opEnd)
	loops := []byte{1, 0xe8, 0x07, i64} // 1000 locals
	for range 4000 {
		loops = append(loops, opLoop, 0x40, 0x20, 1, 0xa7, 0x0d, 0, 0x42, 1, 0x21, 1, opEnd)
	}
	loops = append(loops, opEnd)
	for name, c := range map[string]struct {
		code []byte
		want string
	}{
		"empty":             {nil, "no WebAssembly module"},
		"garbage":           {[]byte("not wasm at all"), "no WebAssembly module"},
		"component":         {[]byte{0, 'a', 's', 'm', 0x0d, 0, 1, 0}, "no WebAssembly module"},
		"only a header":     {magic, "it needs exactly one memory"},
		"locals":            {file0(voidType, oneFunc, function(append(append([]byte{1}, many...), i64, opEnd)...)), "more than 1000 locals"},
		"many declarations": {file0(voidType, oneFunc, function(append([]byte{2}, append(append([]byte{0xff, 7, i64}, many...), i64, opEnd)...)...)), "more than 1000 locals"},
		"custom section":    {append(append(slices.Clone(magic), 0), append(many, 1, 'x')...), "it needs 4294967280 bytes"},
		"table":             {file0(section(4, 1, 0x70, 0, 0x80, 0x80, 0x80, 0x40)), "a table of 134217728"},
		"tables":            {file0(section(4, 2, 0x70, 0, 1, 0x70, 0, 1)), "2 tables; at most 1"},
		"memory":            {file0(section(5, 1, 0, 0x80, 0x80, 4)), "a memory of 65536"},
		"memories":          {file0(section(5, 2, 0, 1, 0, 1)), "2 memories; at most 1"},
		"shared memory":     {file0(section(5, 1, 3, 1, 1)), "must not be shared"},
		"64-bit memory":     {file0(section(5, 1, 4, 1)), "64-bit"},
		"types":             {file0(section(1, many...)), "4294967280 types"},
		"imports":           {file0(section(2, many...)), "4294967280 imports"},
		"functions":         {file0(voidType, section(3, many...)), "4294967280 functions"},
		"globals":           {file0(section(6, many...)), "4294967280 globals"},
		"exports":           {file0(section(7, many...)), "4294967280 exports"},
		"elements":          {file0(section(9, many...)), "4294967280 element segments"},
		"bodies":            {file0(section(10, many...)), "4294967280 function bodies"},
		"data":              {file0(section(11, many...)), "4294967280 data segments"},
		"results":           {file0(section(1, append([]byte{1, 0x60, 0}, many...)...)), "4294967280 parameters or results"},
		"br_table":          {file0(voidType, oneFunc, function(table...)), "160000 targets of br_table; at most 8192"},
		"nesting":           {file0(voidType, oneFunc, function(deepBlocks...)), "nested deeper than 2048"},
		"loops x locals":    {file0(voidType, oneFunc, function(loops...)), "compiling it may take"},
		"start":             {file0(voidType, oneFunc, section(8, 0)), "a start function is refused"},
		"table.grow":        {file0(voidType, oneFunc, section(4, 1, 0x70, 0, 1), function(0, 0xd0, 0x70, 0x41, 1, 0xfc, 15, 0, 0x1a, opEnd)), "table.grow is refused"},
		"tail call":         {file0(voidType, oneFunc, function(0, 0x12, 0, opEnd)), "not part of WebAssembly 2.0"},
		"atomic":            {file0(voidType, oneFunc, function(0, 0xfe, 0x10, 2, 0, opEnd)), "not part of WebAssembly 2.0"},
		"exceptions":        {file0(voidType, oneFunc, function(0, 0x06, 0x40, opEnd, opEnd)), "not part of WebAssembly 2.0"},
		"far prefix":        {file0(voidType, oneFunc, function(0, 0xfd, 0x80, 0x02, opEnd)), "not part of WebAssembly 2.0"},
		"no end":            {file0(voidType, oneFunc, function(0, opBlock, 0x40, opEnd)), "it ends too early"},
		"past the end":      {file0(voidType, oneFunc, function(0, opEnd, opEnd)), "1 bytes behind its end"},
		"order":             {file0(section(5, 1, 0, 1), voidType), "out of order"},
		"twice":             {file0(voidType, voidType), "twice there"},
		"unknown section":   {file0(section(13, 0)), "unknown"},
		"long number":       {file0(section(1, 0x80, 0x80, 0x80, 0x80, 0x10)), "more than 32 bits"},
		"passive segment":   {file0(section(5, 1, 0, 1), section(11, append(appendU32([]byte{1, 1}, 2<<20), make([]byte, 2<<20)...)...)), "a passive data segment of 2097152 bytes"},
		"imported memory":   {file0(section(2, append(appendName(appendName([]byte{1}, "env"), "memory"), 2, 0, 1)...)), "modules bring their own memory"},
		"unknown module":    {file0(voidType, section(2, append(appendName(appendName([]byte{1}, "evil"), "x"), 0, 0)...)), "it imports evil.x; a module may import from env, tocsin_v1, wasi_snapshot_preview1"},
		"gate's own":        {file0(voidType, section(2, append(appendName(appendName([]byte{1}, gateModule), "deep"), 0, 0)...)), "it imports tocsin:gate.deep"},
		"unknown import":    {file0(voidType, section(2, append(appendName(appendName([]byte{1}, abi.ImportModule), "x"), 0, 0)...)), "it imports tocsin_v1.x, which there is not"},
		"wrong signature":   {file0(voidType, section(2, append(appendName(appendName([]byte{1}, abi.ImportModule), "log"), 0, 0)...)), "with the type () -> (); it has (i32, i32, i32) -> ()"},
		"reserved export":   {file0(section(5, 1, 0, 1), section(7, append(appendName([]byte{1}, exportFuel), 2, 0)...)), "names that begin with tocsin: are the host's"},
		"two exports":       {file0(section(5, 1, 0, 1), section(7, append(append(appendName([]byte{2}, "a"), 2, 0), append(appendName(nil, "a"), 2, 0)...)...)), `it exports "a" twice`},
		"no exports":        {file0(section(5, 1, 0, 1)), "it does not export memory"},
		"two manifests": {file0(section(0, append(appendName(nil, abi.ManifestSection), '{', '}')...), section(0, append(appendName(nil, abi.ManifestSection), '{', '}')...)),
			"tocsin.manifest.v1 is there twice"},
		"offset":           {file0(section(5, 1, 0, 1), section(11, 1, 0, 0x23, 0, opEnd, 0)), "a constant expression must be one constant"},
		"memory of memory": {file0(voidType, oneFunc, function(0, 0x3f, 1, opEnd)), "one memory, number 0"},
	} {
		_, err := pass(c.code)
		var said *GateError
		if !errors.As(err, &said) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}

// A module cut short anywhere is refused, and says where.
func TestTruncated(t *testing.T) {
	for _, path := range modulesHere(t) {
		code := file(t, path)
		step := max(len(code)/3000, 1)
		for n := 0; n < len(code); n += step {
			if _, err := Inspect(code[:n]); err == nil && code[n] != 0 { // else only names are cut off, which nobody needs
				t.Fatalf("%s: %d of %d bytes are let through", path, n, len(code))
			}
		}
	}
}

// A module with bytes changed is refused, or compiles or not, and never takes the process along.
func TestMutated(t *testing.T) {
	r := rand.New(rand.NewPCG(seed, 3))
	code := file(t, "testdata/hostile.wasm")
	passed := 0
	for range 3000 {
		bad := slices.Clone(code)
		for range 1 + r.IntN(3) {
			bad[8+r.IntN(len(bad)-8)] = byte(r.Uint32())
		}
		m, err := host.Load(bad, Options{})
		if err != nil {
			continue
		}
		passed++
		_ = m.Check([]byte(do(0)))
		m.Close()
	}
	if passed == 0 {
		t.Errorf("seed %d: none passed", seed)
	}
}

// modulesHere are all modules of the repository.
func modulesHere(t testing.TB) []string {
	var all []string
	for _, glob := range []string{"testdata/*.wasm", "../../plugins/*/*.wasm", "../../abi/testdata/*.wasm", "../../abi/testdata/guests/*/*.wasm", "../../abi/testdata/roles/*.wasm"} {
		found, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 3 {
		t.Fatalf("only %v", all)
	}
	return all
}

// Fuel changes no result: the same rows through a plain and a rewritten module.
func TestFuelChangesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(seed, 4))
	hit := 0 // modules that the rows hit
	for _, path := range modulesHere(t) {
		code := file(t, path)
		plain, fuel := load(t, code, Options{Plain: true}), load(t, code, Options{})
		var cells [][]any
		for range 3000 {
			line := make([]any, len(plain.Manifest.Reads))
			for k := range line {
				switch r.IntN(3) {
				case 0:
					line[k] = r.IntN(3000)
				case 1:
					line[k] = "powershell -enc SQBFAFgASQBFAFgASQBFAFgA"
				}
			}
			if line[0] == nil {
				line[0] = 9
			}
			cells = append(cells, line)
		}
		rows, fields := table(plain.paths(), cells)
		if plain.Manifest.Role() == abi.RoleAggregate {
			var states [2][]byte
			for i, m := range []*Module{plain, fuel} {
				states[i] = make([]byte, m.Manifest.Aggregate.StateSize)
				plugin(t, m, "{}", fields).Update([][]byte{states[i]}, make([]uint32, len(rows)), rows, func(row int, err error, _ bool) { t.Errorf("seed %d: %s: row %d: %v", seed, path, row, err) })
			}
			if !bytes.Equal(states[0], states[1]) || len(bytes.Trim(states[0], "\x00")) == 0 {
				t.Errorf("seed %d: %s: %x and %x", seed, path, states[0], states[1])
			}
			continue
		}
		if plain.Manifest.Keyed {
			continue // it remembers, and here is nothing that keeps it
		}
		a, _, _, errA := plugin(t, plain, "{}", fields).Detect(nil, rows)
		b, _, _, errB := plugin(t, fuel, "{}", fields).Detect(nil, rows)
		if errA != nil || errB != nil || !slices.EqualFunc(a, b, func(x, y abi.Hit) bool {
			return x.Row == y.Row && x.Rule == y.Rule && x.Severity == y.Severity && bytes.Equal(x.Note, y.Note)
		}) {
			t.Errorf("seed %d: %s: %d and %d hits, %v, %v", seed, path, len(a), len(b), errA, errB)
		}
		if len(a) > 0 {
			hit++
		}
	}
	if hit < 8 {
		t.Errorf("seed %d: the rows hit only %d modules", seed, hit)
	}
}

// manyNames adds a name section that promises 2^32 - 1 names of locals: wazero would make room for them.
func manyNames(code []byte) []byte {
	local := []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1, 'x'}
	return append(slices.Clone(code), section(0, append(append(appendName(nil, "name"), 2, byte(len(local))), local...)...)...)
}

// What a custom section says is nobody's business but the manifest's.
func TestNames(t *testing.T) {
	code := manyNames(file(t, "../../abi/testdata/by_hand.wasm"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	load(t, code, Options{})
	load(t, code, Options{Plain: true})
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 100<<20 {
		t.Errorf("%d MB", (after.TotalAlloc-before.TotalAlloc)>>20)
	}
}

// The gate and the rewriter on any bytes: refused, or rewritten to a module that the compiler takes if it takes the original.
func FuzzGate(f *testing.F) {
	for _, path := range modulesHere(f) {
		f.Add(file(f, path))
	}
	f.Add(manyNames(file(f, "../../abi/testdata/by_hand.wasm")))
	f.Fuzz(func(t *testing.T, code []byte) {
		m, err := pass(code)
		if err != nil || m.effort > functionEffort { // what takes long is for TestSlowFunctions
			return
		}
		plain, err := host.runtime.CompileModule(t.Context(), bare(code))
		if err != nil {
			return
		}
		plain.Close(t.Context())
		fuel, err := host.runtime.CompileModule(t.Context(), rewrite(m, max(m.minPages, 64)))
		if err != nil {
			t.Fatalf("the compiler takes it, and not what it was rewritten to: %v", err)
		}
		fuel.Close(t.Context())
	})
}

// replaced is a module with another section in place of one, or none.
func replaced(t *testing.T, code []byte, id byte, body []byte) []byte {
	t.Helper()
	sections, err := split(code)
	if err != nil {
		t.Fatal(err)
	}
	sections = slices.DeleteFunc(sections, func(s rawSection) bool { return s.id == id })
	if body != nil {
		at := slices.IndexFunc(sections, func(s rawSection) bool {
			return s.id == 0 || slices.Index(sectionOrder, s.id) > slices.Index(sectionOrder, id)
		})
		sections = slices.Insert(sections, at, rawSection{id, body})
	}
	return sections.join()
}

// Exports that are missing, of another kind or type, or of functions that there are not; and a data segment out of bounds, which
// shows when the module starts.
func TestExports(t *testing.T) {
	good := whole([]byte{0, opEnd}) // functions: 0 () -> (), 1 (i32) -> i32, 2 (i32, i32) -> i32, 3 as 1
	export := func(name string, kind, index byte) []byte { return append(appendName(nil, name), kind, index) }
	memory, arena, start, process := export(abi.ExportMemory, 2, 0), export(abi.ExportArena, 0, 1), export(abi.ExportInit, 0, 2), export(abi.ExportProcess, 0, 3)
	for name, c := range map[string]struct {
		code []byte
		want string
	}{
		"no memory":           {replaced(t, good, 7, cat([]byte{3}, arena, start, process)), "it does not export memory"},
		"no process":          {replaced(t, good, 7, cat([]byte{3}, memory, arena, start)), "it does not export tocsin_process"},
		"memory is a func":    {replaced(t, good, 7, cat([]byte{4}, export(abi.ExportMemory, 0, 0), arena, start, process)), "the export memory must be its memory"},
		"process is a memory": {replaced(t, good, 7, cat([]byte{4}, memory, arena, start, export(abi.ExportProcess, 2, 0))), "the export tocsin_process must be a function"},
		"another type":        {replaced(t, good, 7, cat([]byte{4}, memory, arena, start, export(abi.ExportProcess, 0, 2))), "has the type (i32, i32) -> (i32); it must have (i32) -> (i32)"},
		"not there":           {replaced(t, good, 7, cat([]byte{4}, memory, arena, start, export(abi.ExportProcess, 0, 99))), "is function 99 of 4"},
		"start with results":  {replaced(t, good, 7, cat([]byte{5}, memory, arena, start, process, export(abi.ExportStart, 0, 3))), "the export _initialize has the type"},
		"no manifest":         {replaced(t, good, 0, nil), "it has no custom section tocsin.manifest.v1"},
		"bodies":              {replaced(t, good, 10, []byte{1, 2, 0, opEnd}), "1 function bodies for 4 functions"},
		"no code":             {replaced(t, good, 10, nil), "0 function bodies for 4 functions"},
	} {
		if _, err := host.Load(c.code, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
	beyond := replaced(t, good, 11, []byte{1, 0, 0x41, 0xff, 0xff, 3, opEnd, 2, 'a', 'b'}) // at 65 535
	if err := load(t, beyond, Options{}).Check([]byte("{}")); err == nil || !strings.Contains(err.Error(), "out of bounds") {
		t.Errorf("a data segment beyond memory: %v", err)
	}
}
