package wasm

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

var seed = rand.Uint64()

// host is shared: a process has one.
var host = func() *Host {
	h, err := NewHost("")
	if err != nil {
		panic(err)
	}
	return h
}()

func load(t testing.TB, code []byte, opt Options) *Module {
	t.Helper()
	m, err := host.Load(code, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func file(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// table makes rows of cells; nil is a missing one, strings are texts, all else JSON.
func table(paths []string, cells [][]any) (rows []Row, fields []event.Field) {
	var names event.Fields
	for _, p := range paths {
		fields = append(fields, names.Add(p))
	}
	b := event.NewBatch(&names, fields)
	for i, line := range cells {
		values := make([]event.Value, len(fields))
		for k, c := range line {
			switch c := c.(type) {
			case nil:
			case string:
				values[k] = event.Value{Kind: event.String, Text: []byte(c)}
			default:
				values[k] = event.Value{Kind: event.Number, Text: fmt.Append(nil, c)}
			}
		}
		b.AppendRow(values...)
		rows = append(rows, Row{Batch: b, Row: int32(i), ID: event.Hash([]byte(strconv.Itoa(i))), W: int64(i)})
	}
	return rows, fields
}

func (m *Module) paths() (paths []string) {
	for _, r := range m.Manifest.Reads {
		paths = append(paths, r.Path)
	}
	return paths
}

func plugin(t testing.TB, m *Module, config string, fields []event.Field) *Plugin {
	t.Helper()
	p := NewPlugin(m, []byte(config), fields, Identity{Pipeline: "test", Operator: "op"})
	t.Cleanup(p.Close)
	return p
}

func TestBruteForce(t *testing.T) {
	m := load(t, file(t, "../../plugins/brute_force/brute_force.wasm"), Options{})
	r := rand.New(rand.NewPCG(seed, 1))
	var cells [][]any
	want := map[uint32]uint16{}
	for i := range 9000 {
		n := r.IntN(150)
		if i%10 == 0 {
			cells = append(cells, []any{nil, "10.0.0.1"})
			continue
		}
		switch {
		case n >= 140:
			want[uint32(i)] = 5
		case n >= 28:
			want[uint32(i)] = 4
		case n >= 7:
			want[uint32(i)] = 3
		}
		cells = append(cells, []any{n, "10.0.0.1"})
	}
	rows, fields := table(m.paths(), cells)
	p := plugin(t, m, `{"threshold": 7}`, fields)
	hits, poison, judged, err := p.Detect(nil, rows)
	if err != nil || len(poison) > 0 || judged != len(rows) {
		t.Fatalf("seed %d: %v, %v, %d", seed, err, poison, judged)
	}
	for _, h := range hits {
		if want[h.Row] != h.Severity || h.Rule != 1 {
			t.Fatalf("seed %d: row %d (%v): %+v, not severity %d", seed, h.Row, cells[h.Row], h, want[h.Row])
		}
	}
	if len(hits) != len(want) || p.Counts.Skipped != 900 {
		t.Fatalf("seed %d: %d hits, not %d; %+v", seed, len(hits), len(want), p.Counts)
	}
}

func TestEncodedPowershell(t *testing.T) {
	m := load(t, file(t, "../../plugins/encoded_powershell/encoded_powershell.wasm"), Options{})
	shell := regexp.MustCompile(`(?i)powershell|pwsh`)
	exe := regexp.MustCompile(`(?i)(powershell|pwsh)\.exe$`)
	param := regexp.MustCompile(`(?i)-(e|ec|en|enc|enco|encod|encode|encoded|encodedc|encodedco|encodedcom|encodedcomm|encodedcomma|encodedcomman|encodedcommand)[ \t"']+[A-Za-z0-9+/=]{16}`)
	r := rand.New(rand.NewPCG(seed, 2))
	words := []string{"powershell.exe", "PowerShell", "pwsh", "cmd.exe", "-nop", "-w", "hidden", "-e", "-E", "-ec", "-eNc", "-encodedcommand", "-EncodedCommandX", "-encodedc",
		"-exec", "bypass", "日本", base64.StdEncoding.EncodeToString([]byte("whoami /all /priv")), "SQBFAFg", "-", "--e", "\"", "\t"}
	var cells [][]any
	hits := 0
	for range 5000 {
		var line bytes.Buffer
		for range r.IntN(9) {
			line.WriteString(words[r.IntN(len(words))])
			if r.IntN(8) > 0 {
				line.WriteByte(' ')
			}
		}
		image := []string{"", `C:\Windows\System32\cmd.exe`, `C:\x\PowerShell.EXE`}[r.IntN(3)]
		cells = append(cells, []any{line.String(), image})
	}
	rows, fields := table(m.paths(), cells)
	said, poison, judged, err := plugin(t, m, "{}", fields).Detect(nil, rows)
	if err != nil || len(poison) > 0 || judged != len(rows) {
		t.Fatalf("seed %d: %v, %v, %d", seed, err, poison, judged)
	}
	at := map[uint32]bool{}
	for _, h := range said {
		at[h.Row] = true
	}
	for i, c := range cells {
		line, image := c[0].(string), c[1].(string)
		want := (shell.MatchString(line) || exe.MatchString(image)) && param.MatchString(line)
		if want {
			hits++
		}
		if at[uint32(i)] != want {
			t.Errorf("seed %d: %q (%s): %v, not %v", seed, line, image, at[uint32(i)], want)
		}
	}
	if hits < 50 {
		t.Errorf("seed %d: only %d lines hit", seed, hits)
	}
}

// A module that was written by hand from abi/README.md, in WebAssembly text.
func TestByHand(t *testing.T) {
	m := load(t, file(t, "../../abi/testdata/by_hand.wasm"), Options{})
	r := rand.New(rand.NewPCG(seed, 5))
	var cells [][]any
	var want []uint32
	for i := range 10_000 {
		n := r.IntN(2000)
		if n > 1000 {
			want = append(want, uint32(i))
		}
		cells = append(cells, []any{n})
	}
	rows, fields := table(m.paths(), cells)
	hits, poison, _, err := plugin(t, m, "{}", fields).Detect(nil, rows)
	if err != nil || len(poison) > 0 || len(hits) != len(want) {
		t.Fatalf("seed %d: %d hits, not %d; %v, %v", seed, len(hits), len(want), poison, err)
	}
	for i, h := range hits {
		if h.Row != want[i] || h.Rule != 1 || h.Severity != 0 || h.Note != nil {
			t.Fatalf("seed %d: hit %d is %+v, not row %d", seed, i, h, want[i])
		}
	}
}
