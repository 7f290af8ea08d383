package wasm

import (
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/abi"
)

var guestsBuilt = flag.String("guests", "", "a folder of guests that abi/testdata/guests/build.sh has built; also runs those that are not committed")

const guests = "../../abi/testdata/guests/"

// The same rule in other languages, each from the contract alone: what it says is what strings.Contains says, whatever the
// size of batches, and in fresh instances.
func TestGuests(t *testing.T) {
	modules := map[string]func(t testing.TB) []byte{"go": buildGo}
	for _, name := range []string{"rust", "zig", "as"} {
		modules[name] = func(t testing.TB) []byte { return file(t, guests+name+"/"+name+".wasm") }
	}
	modules["js"] = func(t testing.TB) []byte {
		t.Skip("1 MB, not committed: abi/testdata/guests/build.sh OUT js, then -guests OUT")
		return nil
	}
	if *guestsBuilt != "" {
		built, err := filepath.Glob(filepath.Join(*guestsBuilt, "*.wasm"))
		if err != nil || len(built) == 0 {
			t.Fatalf("no modules in %s: %v", *guestsBuilt, err)
		}
		for _, path := range built {
			modules[strings.TrimSuffix(filepath.Base(path), ".wasm")] = func(t testing.TB) []byte { return file(t, path) }
		}
	}
	for name, code := range modules {
		t.Run(name, func(t *testing.T) { contains(t, load(t, code(t), Options{})) })
	}
}

// contains runs the rule on made-up command lines.
func contains(t *testing.T, m *Module) {
	r := rand.New(rand.NewPCG(seed, 8))
	pieces := []string{"-enc", "-en", "c", "-", "e", " ", "powershell", "日本", "\x00", "-e-enc", "nc -"}
	var cells [][]any
	var want []uint32
	for i := range 6000 {
		var b strings.Builder
		for range r.IntN(12) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		if r.IntN(50) == 0 {
			cells = append(cells, []any{nil, "root"})
			continue
		}
		if strings.Contains(b.String(), "-enc") {
			want = append(want, uint32(i))
		}
		cells = append(cells, []any{b.String(), "root"})
	}
	rows, fields := table(m.paths(), cells)
	for _, way := range []struct {
		size  int
		fresh bool
	}{{abi.RowsMax, false}, {37, false}, {1, false}, {1500, true}} {
		p := plugin(t, m, "{}", fields)
		p.Fresh = way.fresh
		var got []uint32
		for at := 0; at < len(rows); at += way.size {
			hits, poison, judged, err := p.Detect(nil, rows[at:min(at+way.size, len(rows))])
			if err != nil || len(poison) > 0 || judged != min(way.size, len(rows)-at) {
				t.Fatalf("seed %d: %v, %v, %d judged", seed, err, poison, judged)
			}
			for _, h := range hits {
				if h.Rule != 1 || h.Note != nil {
					t.Fatalf("seed %d: %+v", seed, h)
				}
				got = append(got, uint32(at)+h.Row)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("seed %d: %d rows a call: %d hits, not %d", seed, way.size, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("seed %d: %d rows a call: hit %d is row %d, not %d", seed, way.size, i, got[i], want[i])
			}
		}
	}
}

// buildGo builds the guest in Go with the toolchain that runs the test, and packs it.
func buildGo(t testing.TB) []byte {
	out := filepath.Join(t.TempDir(), "go.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, ".")
	cmd.Dir, cmd.Env = guests+"go", append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	code, err := Pack(file(t, out), file(t, guests+"manifest.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// Packing gives a module a manifest, in place of one that is there, a start function as an export, and a script.
func TestPack(t *testing.T) {
	manifest := file(t, guests+"manifest.json")
	again, err := Pack(file(t, guests+"zig/zig.wasm"), manifest, nil)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, load(t, again, Options{}))
	for name, c := range map[string]struct {
		code, manifest, script []byte
		want                   string
	}{
		"no module":       {[]byte("x"), manifest, nil, "it is no WebAssembly module"},
		"cut short":       {again[:len(again)-5], manifest, nil, "it needs"},
		"no manifest":     {again, []byte("{"), nil, "manifest"},
		"no slot":         {again, manifest, []byte("x"), "it exports no constant tocsin_script"},
		"a long script":   {again, manifest, make([]byte, scriptMax+1), "at most 65536"},
		"not for a start": {file0(voidType, oneFunc, section(8, 0), function(0, opEnd)), manifest, nil, "it has a start function"},
	} {
		if _, err := Pack(c.code, c.manifest, c.script); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
	// a module whose start function would trap, and whose rule is read from the slot
	code := withStart(t)
	packed, err := Pack(code, manifest, []byte{7})
	if err != nil {
		t.Fatal(err)
	}
	in, err := load(t, packed, Options{}).Instantiate([]byte("{}"), Identity{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	b, _ := in.memory.Read(64, 8)
	if string(b) != "\x01\x00\x00\x00\x07\x00\x00\x05" { // length, text; what _initialize stored
		t.Errorf("the slot holds %x", b)
	}
}

// withStart is a module with a start function that stores 5 behind the slot at 64.
func withStart(t *testing.T) []byte {
	sections, err := split(whole([]byte{0, 0x41, 0, 0x41, 5, 0x3a, 0, 71, opEnd}))
	if err != nil {
		t.Fatal(err)
	}
	if err := sections.get(7).appendEntry(append(appendName(nil, scriptSlot), 3, 0)); err != nil {
		t.Fatal(err)
	}
	out := append([]byte{}, magic...)
	for _, s := range sections {
		if s.id == 7 {
			out = append(out, section(6, 1, i32, 0, 0x41, 0xc0, 0, opEnd)...)
		}
		if s.id == 10 {
			out = append(out, section(8, 0)...)
		}
		out = append(out, section(s.id, s.body...)...)
		if s.id == 10 {
			out = append(out, section(11, 1, 0, 0x41, 0, opEnd, 1, 'x')...)
		}
	}
	return out
}
