package wasm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/seed-98920119/tocsin/abi"
)

// Host compiles modules. A process has one: modules of different wazero runtimes do not mix (wazero issue 2511).
type Host struct {
	mu      sync.Mutex // one compilation at a time
	runtime wazero.Runtime
	cache   *cache // nil: none
}

// NewHost makes a host whose compiled modules are kept in the folder, which it makes if it is not there; without a folder
// every start compiles again. A folder that cannot be trusted (cache.go) is an error.
func NewHost(folder string) (*Host, error) {
	ctx := context.Background()
	config := wazero.NewRuntimeConfigCompiler().WithCoreFeatures(api.CoreFeaturesV2).WithDebugInfoEnabled(false).
		WithMemoryLimitPages(memoryMiBMax << 20 / pageSize)
	h := &Host{}
	if folder != "" {
		c, err := openCache(folder)
		if err != nil {
			return nil, err
		}
		h.cache, config = c, config.WithCompilationCache(c.wazero)
	}
	h.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	err := h.link()
	if err != nil {
		h.Close()
	}
	return h, err
}

// link makes the host's modules: the contract's, WASI's, and the one that rewritten modules ask for fuel.
func (h *Host) link() error {
	modules := map[string]map[string]hostFunc{
		abi.ImportModule: contractFuncs,
		wasiModule:       wasiFuncs(),
		envModule:        {"abort": func(g *guest, _ api.Memory, _ []uint64) { g.trap(Aborted, "the module aborted") }},
	}
	for module, funcs := range modules {
		b := h.runtime.NewHostModuleBuilder(module)
		for name, t := range importable[module] {
			b.NewFunctionBuilder().WithGoModuleFunction(funcs[name].goFunc(), t.params, t.results).Export(name)
		}
		if _, err := b.Instantiate(context.Background()); err != nil {
			return err
		}
	}
	_, err := h.runtime.NewHostModuleBuilder(gateModule).
		NewFunctionBuilder().WithGoModuleFunction(hostFunc(refill).goFunc(), []byte{i64}, []byte{i64}).Export("refill").
		NewFunctionBuilder().WithGoModuleFunction(hostFunc(deep).goFunc(), nil, nil).Export("deep").
		Instantiate(context.Background())
	return err
}

// Close frees all modules of the host.
func (h *Host) Close() error {
	err := h.runtime.Close(context.Background())
	if h.cache != nil {
		err = errors.Join(err, h.cache.close())
	}
	return err
}

// Limits are what a module's instances may use. 0 takes what the manifest asks for, up to the default ceiling.
type Limits struct {
	MemoryMiB   int   // of linear memory, at most 1024
	FuelPerCall int64 // units: about a tenth of a nanosecond each
	StateKiB    int   // what a plugin remembers of a key, at most 1024
}

// The ceilings where the configuration names none, and what a manifest that asks for nothing gets.
const (
	memoryCeiling = 64
	memoryDefault = 16
	fuelCeiling   = 2_000_000_000
	fuelDefault   = 200_000_000
	stateCeiling  = 1024
)

// granted is what a module gets: what it asks for, up to the ceiling.
func granted(ask abi.Limits, ceiling Limits) Limits {
	pick := func(ask, otherwise, ceiling, limit int64) int64 {
		if ceiling == 0 {
			ceiling = limit
		}
		if ask == 0 {
			ask = otherwise
		}
		return min(ask, ceiling)
	}
	return Limits{int(pick(int64(ask.MemoryMiB), memoryDefault, int64(ceiling.MemoryMiB), memoryCeiling)),
		pick(ask.FuelPerCall, fuelDefault, ceiling.FuelPerCall, fuelCeiling),
		int(pick(int64(ask.StateKiB), abi.DefaultStateKiB, int64(ceiling.StateKiB), stateCeiling))}
}

// Within says whether the module has the limits that it would get under a ceiling.
func (m *Module) Within(ceiling Limits) bool { return m.Limits == granted(m.Manifest.Limits, ceiling) }

// Module is a module that passed the gate and was compiled. It is shared; instances are not.
type Module struct {
	Manifest *abi.Manifest
	Digest   [32]byte // SHA-256 of the file
	Size     int      // bytes of the file
	Imports  []Import
	Caps     []Cap
	Limits   Limits
	host     *Host
	compiled wazero.CompiledModule
	schema   *schema
	plain    bool
}

// Options are how a module is loaded.
type Options struct {
	Ceiling Limits
	// Plain leaves fuel out, for benchmarks that measure what it costs: such a module is not contained.
	Plain bool
}

// Inspect takes a module apart without compiling it: the gate and the manifest.
func Inspect(code []byte) (*Module, error) {
	m, err := pass(code)
	if err != nil {
		return nil, err
	}
	return inspect(m)
}

func inspect(m *module) (*Module, error) {
	manifest, err := abi.ParseManifest(m.manifest)
	if err != nil {
		return nil, err
	}
	if err := m.plays(manifest); err != nil {
		return nil, err
	}
	s, err := compileSchema(manifest.Schema)
	if err != nil {
		return nil, err
	}
	caps := append([]Cap{{"file, bytes", len(m.src), FileMax}, {"memory at the start, pages", int(m.minPages), memoryMiBMax << 20 / pageSize}}, m.caps...)
	return &Module{Manifest: manifest, Digest: sha256.Sum256(m.src), Size: len(m.src), Imports: m.imports, Caps: caps, schema: s}, nil
}

// Load lets a module through the gate, rewrites it so that it asks for fuel, and compiles it or takes it from the cache.
func (h *Host) Load(code []byte, opt Options) (*Module, error) {
	m, err := pass(code)
	if err != nil {
		return nil, err
	}
	out, err := inspect(m)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(m.exports, func(e export) bool { return e.name == name })
	}
	if out.Manifest.State.Timers > 0 && !has(abi.ExportTimer) {
		return nil, fmt.Errorf("its manifest has timers, but the module does not export %s", abi.ExportTimer)
	}
	if out.Manifest.State.Migrates > 0 && !has(abi.ExportMigrate) {
		return nil, fmt.Errorf("its manifest has migrates_from, but the module does not export %s", abi.ExportMigrate)
	}
	out.Limits = granted(out.Manifest.Limits, opt.Ceiling)
	pages := uint32(out.Limits.MemoryMiB << 20 / pageSize)
	if m.minPages > pages {
		return nil, fmt.Errorf("it needs %d pages of memory (%d KiB) to begin with, and may have %d MiB; raise limits.memory_mib", m.minPages, m.minPages*64, out.Limits.MemoryMiB)
	}
	if out.plain = opt.Plain; opt.Plain {
		code = bare(code)
	} else {
		code = rewrite(m, pages)
	}
	out.host = h
	out.compiled, err = h.compile(code)
	return out, err
}

// compile turns bytes that passed the gate into machine code. It is the seam for a child process that can be killed.
func (h *Host) compile(code []byte) (wazero.CompiledModule, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cache == nil {
		return h.runtime.CompileModule(context.Background(), code)
	}
	key := sha256.Sum256(append([]byte{rewriteVersion}, code...))
	h.cache.stage(key)
	c, err := h.runtime.CompileModule(context.Background(), code)
	if _, ok := errors.AsType[*fs.PathError](err); ok { // it could not be kept: wazero has compiled it, and has it in memory
		return h.runtime.CompileModule(context.Background(), code)
	}
	if err == nil {
		h.cache.keep(key)
	}
	return c, err
}

// Close frees the module's machine code. Its instances must be closed.
func (m *Module) Close() error { return m.compiled.Close(context.Background()) }

// memory is a guest's linear memory: its maximum reserved at once, so that growing copies nothing.
type memory struct{ b, all []byte }

func allocate(_, most uint64) experimental.LinearMemory {
	all, err := reserve(int(most))
	if err != nil {
		return nil
	}
	return &memory{all: all}
}

func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	m.b = m.all[:size:len(m.all)]
	return m.b
}

func (m *memory) Free() {
	release(m.all)
	m.all, m.b = nil, nil
}
