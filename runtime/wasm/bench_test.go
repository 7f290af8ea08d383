package wasm

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// commands are rows of two text columns as TOCSIN's table of guests has them: about 80 and 7 bytes, one in twenty hits.
func commands(n int) (cells [][]any) {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"powershell.exe", "-nop", "-w", "hidden", `C:\Windows\System32\cmd.exe`, "/c", "whoami", "net", "user", "/domain", "svchost.exe", "-k", "netsvcs", "-exec", "bypass", "日本"}
	for range n {
		var b strings.Builder
		for b.Len() < 40+r.IntN(80) {
			b.WriteString(words[r.IntN(len(words))] + " ")
		}
		if r.IntN(20) == 0 {
			b.WriteString("-enc SQBFAFgASQBFAFgASQBFAFgA")
		}
		cells = append(cells, []any{b.String(), `C:\Windows\System32\svchost.exe`, "host", "user"})
	}
	return cells
}

func benchmarkDetect(b *testing.B, path string, rows int, opt Options) {
	m := load(b, file(b, path), opt)
	given, fields := table(m.paths(), commands(rows))
	p := plugin(b, m, "{}", fields)
	hits, _, _, err := p.Detect(nil, given)
	if err != nil {
		b.Fatal(err)
	}
	before := p.Counts
	b.ReportAllocs()
	for b.Loop() {
		hits, _, _, _ = p.Detect(hits[:0], given)
	}
	calls := float64(p.Counts.Rows - before.Rows)
	if calls > 0 {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/calls, "ns/row")
		b.ReportMetric(float64(p.Counts.Fuel-before.Fuel)/calls, "fuel/row")
	}
}

const powershell = "../../plugins/encoded_powershell/encoded_powershell.wasm"

func BenchmarkPowershell4096(b *testing.B) { benchmarkDetect(b, powershell, 4096, Options{}) }
func BenchmarkPowershell4096Plain(b *testing.B) {
	benchmarkDetect(b, powershell, 4096, Options{Plain: true})
}
func BenchmarkPowershell1(b *testing.B) { benchmarkDetect(b, powershell, 1, Options{}) }

// BenchmarkCall is a call of the guest and nothing else.
func BenchmarkCall(b *testing.B) {
	m := load(b, file(b, "testdata/hostile.wasm"), Options{})
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

// BenchmarkLoadCold is the gate, the rewriter and the compiler.
func BenchmarkLoadCold(b *testing.B) {
	code := file(b, powershell)
	for b.Loop() {
		m, err := host.Load(code, Options{})
		if err != nil {
			b.Fatal(err)
		}
		m.Close()
	}
}

// BenchmarkLoadWarm is a load from the cache by a host that is new, as after a start.
func BenchmarkLoadWarm(b *testing.B) {
	code, dir := file(b, powershell), b.TempDir()+"/cache"
	for b.Loop() {
		h, err := NewHost(dir)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.Load(code, Options{}); err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
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
