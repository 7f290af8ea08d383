package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tetratelabs/wazero/api"

	"github.com/seed-98920119/tocsin/abi"
)

// backstop is how long a call may take by the clock, whatever its fuel says.
var backstop = time.Second // longer in tests of fuel: a busy machine is not what they are about

// Fault is which of the host's rules a guest broke.
type Fault string

// The faults.
const (
	Fuel    Fault = "fuel"    // the budget of a call is spent
	Time    Fault = "time"    // the backstop
	Stack   Fault = "stack"   // recursion too deep
	Trapped Fault = "trap"    // unreachable, out of bounds, division by zero ...
	Pointer Fault = "pointer" // a host function was given memory that is not the guest's
	Exited  Fault = "exit"    // proc_exit
	Aborted Fault = "abort"   // env.abort
	Refused Fault = "refused" // the guest said no, with a negative code
	Output  Fault = "output"  // what it returned is not what the contract says
	Counter Fault = "counter" // metric was given a counter that the manifest does not have, or less than 0
)

// Trap is a failed call: nothing of it counts, and the instance is thrown away.
type Trap struct {
	Fault Fault
	Text  string
}

func (t *Trap) Error() string { return string(t.Fault) + ": " + t.Text }

// guest is the host's side of an instance while a call is under way. It is the context of the call, which is how host
// functions find it at no cost.
type guest struct {
	context.Context
	limits   Limits
	seed     [32]byte // of random: pipeline and operator, or module and configuration at init
	log      func(level int, text string)
	rows     []Row         // of the call; nil at init
	access   *access       // to what is remembered; nil: the plugin remembers nothing
	budget   int64         // fuel that is left beyond what the guest has
	deadline time.Duration // by clock
	said     string        // by fail
	last     []byte        // line that it logged in this call: why it panics, perhaps
	lines    int           // logged so far
	row      int64         // the last row that a host function was asked about
	drawn    *rand.ChaCha8
	wasi     *rand.ChaCha8 // random_get
	asks     asks
}

// hostFunc is a host function: the call it is part of, the guest's memory, and the stack of parameters and results.
type hostFunc func(g *guest, m api.Memory, stack []uint64)

func (f hostFunc) goFunc() api.GoModuleFunc {
	return func(ctx context.Context, m api.Module, stack []uint64) { f(ctx.(*guest), m.Memory(), stack) }
}

// trap ends the call.
func (g *guest) trap(f Fault, text string) { panic(&Trap{f, text}) }

// refill grants the next slice of fuel, or ends the call. Being in Go for a moment, it lets the garbage collector work.
func refill(g *guest, _ api.Memory, stack []uint64) {
	g.charge(slice - int64(stack[0])) // what is owed, and the next slice
	stack[0] = slice
	if clock() > g.deadline {
		g.trap(Time, "the call took longer than "+backstop.String())
	}
}

func deep(g *guest, _ api.Memory, _ []uint64) {
	g.trap(Stack, "its functions call one another too deep: more than "+strconv.Itoa(frames>>10)+" KiB of frames")
}

// charge takes fuel off the budget for what the host does.
func (g *guest) charge(units int64) {
	if g.budget -= units; g.budget < 0 {
		g.trap(Fuel, "the call used up its "+strconv.FormatInt(g.limits.FuelPerCall, 10)+" units; raise limits.fuel_per_call, or do less a row")
	}
}

// bytes is a piece of the guest's memory, paid for; a bad pointer ends the call.
func (g *guest) bytes(m api.Memory, at, n uint64) []byte {
	b, ok := m.Read(uint32(at), uint32(n))
	if !ok {
		g.outside(at, n)
	}
	g.charge(100 + int64(len(b)))
	return b
}

// outside ends the call for a bad pointer.
func (g *guest) outside(at, n uint64) {
	g.trap(Pointer, "a host function was given "+strconv.FormatUint(uint64(uint32(n)), 10)+" bytes at "+strconv.FormatUint(uint64(uint32(at)), 10)+", beyond its memory")
}

// step notes the row that a host function is asked about: rows of a call never go back.
func (g *guest) step(row uint64) abi.Code {
	g.charge(100)
	switch r := int64(uint32(row)); {
	case r >= int64(len(g.rows)) || r < g.row:
		return abi.BadRow
	case r > g.row:
		g.row, g.drawn = r, nil
	}
	return abi.OK
}

func code(c abi.Code) uint64 { return uint64(int64(c)) }

// contractFuncs are the host functions of the contract. Those that there are not yet answer so.
var contractFuncs = func() map[string]hostFunc {
	funcs := map[string]hostFunc{"log": logLine, "fail": failText, "now": now, "random": random, "metric": metric, "lookup": lookup}
	maps.Copy(funcs, rememberFuncs)
	for name, t := range importable[abi.ImportModule] {
		if funcs[name] == nil && len(t.results) > 0 {
			funcs[name] = func(g *guest, _ api.Memory, stack []uint64) {
				g.charge(100)
				stack[0] = code(abi.Unsupported)
			}
		}
	}
	return funcs
}()

// Bounds of what a guest says to the log.
const (
	lineMax  = 1024 // bytes of a line
	linesMax = 100  // lines an instance
)

func logLine(g *guest, m api.Memory, stack []uint64) {
	text := g.bytes(m, stack[1], stack[2])
	g.say(int(int32(stack[0])), text)
}

func (g *guest) say(level int, text []byte) {
	g.last = append(g.last[:0], text[:min(len(text), lineMax+1)]...) // made printable when somebody reads it
	if g.lines++; g.log == nil || g.lines > linesMax {
		return
	}
	g.log(level, printable(g.last, lineMax))
	if g.lines == linesMax {
		g.log(level, "(no more of its lines are shown)")
	}
}

func failText(g *guest, m api.Memory, stack []uint64) {
	g.said = printable(g.bytes(m, stack[0], stack[1]), abi.FailTextMax)
}

// printable is text of a guest as people may see it: UTF-8, control bytes escaped, not too long.
func printable(b []byte, most int) string {
	if len(b) > most {
		b = b[:most]
		for len(b) > 0 && !utf8.RuneStart(b[len(b)-1]) {
			b = b[:len(b)-1]
		}
	}
	q := strconv.QuoteToGraphic(string(b))
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// now is the watermark stamped on a row: the guest's only clock.
func now(g *guest, _ api.Memory, stack []uint64) {
	if c := g.step(stack[0]); c != abi.OK {
		stack[0] = code(c)
		return
	}
	stack[0] = uint64(g.rows[g.row].W)
}

// random fills memory with bytes that depend on pipeline, operator, row and how many were drawn for the row, or at init on
// module and configuration.
func random(g *guest, m api.Memory, stack []uint64) {
	if g.rows != nil {
		if c := g.step(stack[0]); c != abi.OK {
			stack[0] = code(c)
			return
		}
	}
	if g.drawn == nil {
		key := g.seed
		if g.rows != nil {
			key = sha256.Sum256(append(key[:], g.rows[g.row].ID[:]...))
		}
		g.drawn = rand.NewChaCha8(key)
	}
	dst := g.bytes(m, stack[1], stack[2])
	_, _ = g.drawn.Read(dst) // never fails
	stack[0] = code(abi.OK)
}

// Error numbers of WASI preview 1.
const (
	errnoBadf  = 8
	errnoNosys = 52
)

// wasiTime is what WASI's clocks always show, ns: Go's runtime does not start at 0.
const wasiTime = 1_000_000_000_000_000_000

// wasiFuncs are inert: no files, no arguments, no environment, a clock that stands still, random bytes that are fixed by the
// module. What is written to standard output and error goes to the log.
func wasiFuncs() map[string]hostFunc {
	answer := func(errno uint64) hostFunc {
		return func(g *guest, _ api.Memory, stack []uint64) {
			g.charge(100)
			stack[0] = errno
		}
	}
	time := func(result int, ns uint64) hostFunc {
		return func(g *guest, m api.Memory, stack []uint64) {
			binary.LittleEndian.PutUint64(g.bytes(m, stack[result], 8), ns)
			stack[0] = 0
		}
	}
	funcs := map[string]hostFunc{}
	for name := range importable[wasiModule] {
		switch {
		case strings.HasPrefix(name, "fd_"), strings.HasPrefix(name, "sock_"):
			funcs[name] = answer(errnoBadf)
		default:
			funcs[name] = answer(errnoNosys)
		}
	}
	for _, name := range []string{"args_get", "environ_get", "sched_yield"} {
		funcs[name] = answer(0)
	}
	for _, name := range []string{"args_sizes_get", "environ_sizes_get"} {
		funcs[name] = func(g *guest, m api.Memory, stack []uint64) {
			clear(g.bytes(m, stack[0], 4))
			clear(g.bytes(m, stack[1], 4))
			stack[0] = 0
		}
	}
	funcs["clock_time_get"] = time(2, wasiTime)
	funcs["clock_res_get"] = time(1, 1)
	funcs["fd_write"] = wasiWrite
	funcs["random_get"] = func(g *guest, m api.Memory, stack []uint64) {
		_, _ = g.wasi.Read(g.bytes(m, stack[0], stack[1]))
		stack[0] = 0
	}
	funcs["proc_exit"] = func(g *guest, _ api.Memory, stack []uint64) {
		g.trap(Exited, "the module left by proc_exit("+strconv.Itoa(int(int32(stack[0])))+")")
	}
	return funcs
}

// wasiWrite takes what a runtime writes to standard output and error, a panic's text for instance, into the log.
func wasiWrite(g *guest, m api.Memory, stack []uint64) {
	if fd := uint32(stack[0]); fd != 1 && fd != 2 {
		stack[0] = errnoBadf
		return
	}
	n := uint32(stack[2])
	if n > 1024 {
		g.trap(Pointer, "fd_write of more than 1024 pieces")
	}
	var text []byte
	written := uint32(0)
	for vec := g.bytes(m, stack[1], uint64(n)*8); len(vec) > 0; vec = vec[8:] {
		piece := g.bytes(m, uint64(binary.LittleEndian.Uint32(vec)), uint64(binary.LittleEndian.Uint32(vec[4:])))
		written += uint32(len(piece))
		text = append(text, piece[:min(len(piece), lineMax)]...)
	}
	binary.LittleEndian.PutUint32(g.bytes(m, stack[3], 4), written)
	if text = []byte(strings.TrimSpace(string(text))); len(text) > 0 {
		g.say(1, text)
	}
	stack[0] = 0
}
