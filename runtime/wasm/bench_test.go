package wasm

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/abi"
)

// `go run ./bench -only plugins` runs these and sets them beside the figures that they must reach.

const benchRules = "../../bench/rules/"

// commands are rows of a command line of about 80 bytes and a user of about 7; one in twenty hits the benchmark's rule.
func commands(n int) (cells [][]any) {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"powershell.exe", "-nop", "-w", "hidden", `C:\Windows\System32\cmd.exe`, "/c", "whoami", "net", "user", "/domain", "svchost.exe", "-k", "netsvcs", "-exec", "bypass", "日本"}
	users := []string{"root", "alice", "www-data", "chen.wei", "svc-backup"}
	for range n {
		var b strings.Builder
		for b.Len() < 40+r.IntN(80) {
			b.WriteString(words[r.IntN(len(words))] + " ")
		}
		if r.IntN(20) == 0 {
			b.WriteString("-enc SQBFAFgASQBFAFgASQBFAFgA")
		}
		cells = append(cells, []any{b.String(), users[r.IntN(len(users))]})
	}
	return cells
}

func perRow(b *testing.B, rows int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
}

// BenchmarkNative is the benchmark's rule in Go on the same rows.
func BenchmarkNative(b *testing.B) {
	rows, fields := table([]string{"command", "user"}, commands(abi.RowsMax))
	enc, user999 := []byte("-enc"), []byte("user999")
	var hits []abi.Hit
	b.ReportAllocs()
	for b.Loop() {
		hits = hits[:0]
		for i, r := range rows {
			command, user := r.Batch.Value(fields[0], int(r.Row)), r.Batch.Value(fields[1], int(r.Row))
			if bytes.Contains(command.Text, enc) || bytes.Contains(user.Text, user999) {
				hits = append(hits, abi.Hit{Row: uint32(i), Rule: 1})
			}
		}
	}
	if len(hits) < len(rows)/40 {
		b.Fatalf("%d hits", len(hits))
	}
	perRow(b, len(rows))
}

func benchmarkRule(b *testing.B, name string, n int, opt Options) {
	m := load(b, file(b, benchRules+name+".wasm"), opt)
	rows, fields := table(m.paths(), commands(n))
	p := plugin(b, m, "{}", fields)
	hits, _, _, err := p.Detect(nil, rows)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		hits, _, _, _ = p.Detect(hits[:0], rows)
	}
	if n == abi.RowsMax && name != "idle" && len(hits) < n/40 || p.Counts.Failures > 0 {
		b.Fatalf("%d hits, %+v", len(hits), p.Counts)
	}
	perRow(b, n)
	b.ReportMetric(float64(p.Counts.Fuel)/float64(p.Counts.Rows), "fuel/row")
}

func BenchmarkHelper(b *testing.B) { benchmarkRule(b, "helper", abi.RowsMax, Options{}) }
func BenchmarkHelperPlain(b *testing.B) {
	benchmarkRule(b, "helper", abi.RowsMax, Options{Plain: true})
}
func BenchmarkByteLoop(b *testing.B) { benchmarkRule(b, "byte_loop", abi.RowsMax, Options{}) }
func BenchmarkByteLoopPlain(b *testing.B) {
	benchmarkRule(b, "byte_loop", abi.RowsMax, Options{Plain: true})
}
func BenchmarkWordLoop(b *testing.B) { benchmarkRule(b, "word_loop", abi.RowsMax, Options{}) }
func BenchmarkWordLoopPlain(b *testing.B) {
	benchmarkRule(b, "word_loop", abi.RowsMax, Options{Plain: true})
}
func BenchmarkIdle4096(b *testing.B) { benchmarkRule(b, "idle", abi.RowsMax, Options{}) }
func BenchmarkOneRow(b *testing.B)   { benchmarkRule(b, "helper", 1, Options{}) }

// BenchmarkEmptyCall is the way into a guest and back, fuel and all, and nothing else.
func BenchmarkEmptyCall(b *testing.B) {
	m := load(b, file(b, benchRules+"idle.wasm"), Options{})
	in, err := m.Instantiate([]byte("{}"), Identity{})
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := in.call(in.grow, 16); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkLoad loads a module, as after a start, with compiled code in the cache or not. Making the host, which a process
// does once, is not counted.
func benchmarkLoad(b *testing.B, code []byte, warm bool) {
	dir := filepath.Join(b.TempDir(), "cache")
	if warm {
		loadOnce(b, code, dir)
	}
	for b.Loop() {
		b.StopTimer()
		folder := dir
		if !warm {
			folder = filepath.Join(b.TempDir(), "cache")
		}
		h, err := NewHost(folder)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := h.Load(code, Options{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		h.Close()
		b.StartTimer()
	}
}

func loadOnce(b *testing.B, code []byte, dir string) {
	h, err := NewHost(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	if _, err := h.Load(code, Options{}); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkLoadCold(b *testing.B)   { benchmarkLoad(b, file(b, benchRules+"helper.wasm"), false) }
func BenchmarkLoadWarm(b *testing.B)   { benchmarkLoad(b, file(b, benchRules+"helper.wasm"), true) }
func BenchmarkLoadGoCold(b *testing.B) { benchmarkLoad(b, buildGo(b), false) }
func BenchmarkLoadGoWarm(b *testing.B) { benchmarkLoad(b, buildGo(b), true) }

// BenchmarkPause collects garbage while guests do the worst that the gate lets through: the longest that the world had to
// stop, waiting for it included.
func BenchmarkPause(b *testing.B) {
	m := hostile(b, 64)
	m.Limits.FuelPerCall = 3_000_000_000
	var longest []float64
	for b.Loop() {
		for _, n := range worst {
			longest = append(longest, longestPause(m, n))
		}
	}
	b.ReportMetric(slices.Max(longest), "pause-ns")
}

// BenchmarkSlowest compiles, of each shape that is slow to compile, the largest function that the gate lets through.
func BenchmarkSlowest(b *testing.B) {
	for name, f := range shapes {
		b.Run(name, func(b *testing.B) {
			code, _ := slowest(f, 100)
			for b.Loop() {
				m, err := host.Load(code, Options{})
				if err != nil {
					b.Fatal(err)
				}
				m.Close()
			}
		})
	}
}
