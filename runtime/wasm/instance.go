package wasm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/seed-98920119/tocsin/abi"
)

// Instance is one guest: its memory, its arena. For one goroutine at a time. After a failed call it must be closed.
type Instance struct {
	module  *Module
	mod     api.Module
	memory  api.Memory
	process api.Function
	timer   api.Function // nil: it has no timers
	migrate api.Function // nil: it brings no state up to date
	grow    api.Function
	read    answerReader            // of tocsin_process, by role
	mapped  *writings               // of a map: where what it wrote goes
	exports map[string]api.Function // of an aggregate, once called
	fuel    api.MutableGlobal
	guest   guest
	stack   [2]uint64
	arena   uint32
	size    uint32 // of the arena
	born    uint32 // bytes of memory after init
	stale   bool   // its memory has grown so far that a fresh one is better
	good    bool   // it has started, and no call has failed
	spent   int64  // fuel of the last call
}

// Identity is what random bytes of an instance depend on beside the row, where its log lines go, and what it may look up.
type Identity struct {
	Pipeline, Operator string
	Log                func(level int, text string)
	Lookup             Lookup // nil: no table is granted
}

// Instantiate makes an instance: _initialize, the arena, tocsin_init with the configuration, JSON that CheckConfig found good.
func (m *Module) Instantiate(config []byte, id Identity) (*Instance, error) {
	in := &Instance{module: m}
	g := &in.guest
	digest := m.Digest
	*g = guest{Context: context.Background(), limits: m.Limits, log: id.Log, wasi: rand.NewChaCha8(digest), seed: sha256.Sum256(append(digest[:], config...))}
	g.asks = newAsks(m.Manifest, id.Lookup)
	ctx := experimental.WithMemoryAllocator(g.Context, experimental.MemoryAllocatorFunc(allocate))
	mod, err := m.host.runtime.InstantiateModule(ctx, m.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, &Trap{Trapped, "it could not be instantiated: " + firstLine(err)}
	}
	in.mod, in.memory = mod, mod.Memory()
	in.timer, in.migrate = mod.ExportedFunction(abi.ExportTimer), mod.ExportedFunction(abi.ExportMigrate)
	in.process, in.grow = mod.ExportedFunction(abi.ExportProcess), mod.ExportedFunction(abi.ExportArena)
	in.read = in.reader()
	if !m.plain {
		in.fuel = mod.ExportedGlobal(exportFuel).(api.MutableGlobal)
	}
	if err := in.init(config); err != nil {
		in.Close()
		return nil, err
	}
	g.seed = sha256.Sum256([]byte(id.Pipeline + "\x00" + id.Operator))
	g.drawn, in.born, in.good = nil, in.memory.Size(), true
	return in, nil
}

// Check starts an instance and throws it away: a module that cannot start with the configuration says so at once.
func (m *Module) Check(config []byte) error {
	in, err := m.Instantiate(config, Identity{})
	if err == nil {
		in.Close()
	}
	return err
}

func (in *Instance) init(config []byte) error {
	if f := in.mod.ExportedFunction(abi.ExportStart); f != nil {
		if err := in.call(f); err != nil {
			return fmt.Errorf("%s: %w", abi.ExportStart, err)
		}
	}
	header := abi.AppendInit(nil, config)
	ok, err := in.room(len(header))
	if err != nil {
		return err
	}
	if !ok {
		return &Trap{Output, fmt.Sprintf("%s refused %d bytes for the configuration", abi.ExportArena, len(header))}
	}
	in.memory.Write(in.arena, header)
	if err := in.call(in.mod.ExportedFunction(abi.ExportInit), uint64(in.arena), uint64(len(header))); err != nil {
		return fmt.Errorf("%s: %w", abi.ExportInit, err)
	}
	return in.answered(abi.ExportInit)
}

// answered turns a negative answer of the last call into a trap.
func (in *Instance) answered(what string) error {
	if c := abi.Code(int32(in.stack[0])); c < 0 {
		return &Trap{Refused, strings.TrimSpace(fmt.Sprintf("%s answered %s %s", what, c, in.guest.said))}
	}
	return nil
}

// call runs a function of the guest with the budget of a call; its result is in.stack[0].
func (in *Instance) call(f api.Function, args ...uint64) error {
	g := &in.guest
	g.said, g.last, g.row, g.drawn = "", g.last[:0], 0, nil
	g.deadline = clock() + backstop
	clear(g.asks.counted)
	in.stack[0], in.stack[1] = 0, 0
	copy(in.stack[:], args)
	g.budget = g.limits.FuelPerCall - slice
	if in.fuel != nil {
		in.fuel.Set(uint64(slice + min(g.budget, 0)))
		g.budget = max(g.budget, 0)
	}
	err := f.CallWithStack(g, in.stack[:])
	in.spent = g.limits.FuelPerCall - g.budget
	if in.fuel != nil {
		in.spent -= int64(in.fuel.Get())
	}
	t := trapOf(err)
	if t == nil {
		return nil
	}
	in.good = false
	if len(g.last) > 0 {
		t.Text += "; it had said: " + printable(g.last, lineMax)
	}
	return t
}

// trapOf turns an error of wazero into a Trap.
func trapOf(err error) *Trap {
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*Trap](err); ok {
		return t
	}
	text := firstLine(err)
	if strings.Contains(text, "stack overflow") {
		return &Trap{Stack, text}
	}
	return &Trap{Trapped, text}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimPrefix(line, "wasm error: ")
}

// room sees to it that the arena has n bytes: false if the guest refuses.
func (in *Instance) room(n int) (bool, error) {
	if n <= int(in.size) {
		return true, nil
	}
	want := uint32(1) << bits.Len32(uint32(max(n, 16<<10)-1)) // so that it is seldom asked
	if err := in.call(in.grow, uint64(want)); err != nil {
		return false, fmt.Errorf("%s: %w", abi.ExportArena, err)
	}
	at := uint32(in.stack[0])
	if at == 0 {
		return false, nil
	}
	if at%abi.ArenaAlign != 0 || uint64(at)+uint64(want) > uint64(in.memory.Size()) {
		return false, &Trap{Output, fmt.Sprintf("%s(%d) answered %d: not a multiple of %d, or beyond its memory of %d bytes", abi.ExportArena, want, at, abi.ArenaAlign, in.memory.Size())}
	}
	in.arena, in.size = at, want
	return true, nil
}

// view is the arena as it is now: memory moves its view when it grows.
func (in *Instance) view() []byte {
	b, _ := in.memory.Read(in.arena, in.size)
	return b
}

// worn says whether the guest's memory has grown close to its limit, so that a fresh instance should take its place.
func (in *Instance) worn() bool {
	size := in.memory.Size()
	return size > in.born && uint64(size) > uint64(in.module.Limits.MemoryMiB)<<20/4*3
}

// Close throws the instance away. One that has not failed is told before; what it makes of that changes nothing.
func (in *Instance) Close() {
	if in.good {
		if f := in.mod.ExportedFunction(abi.ExportClose); f != nil {
			_ = in.call(f)
		}
	}
	if in.mod != nil {
		_ = in.mod.Close(context.Background())
	}
}
