package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlugin(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	packed, wrongCases := filepath.Join(t.TempDir(), "packed.wasm"), filepath.Join(t.TempDir(), "cases.jsonl")
	if err := os.WriteFile(wrongCases, []byte(`{"name":"a","row":{"login_attempts":1},"hits":[{"rule":1,"severity":"high"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		out    []string
		err    string
	}{
		{[]string{"inspect", "../../plugins/brute_force/brute_force.wasm"}, done, []string{"tocsin.brute-force 1.0.0", "sha256:", "reads      login_attempts (i64, required)",
			"rule       1 medium: {login_attempts} login attempts from {source_ip}  T1110", "imports    nothing", "200 000 000 units of fuel a call", "ns, ", "units of fuel, "}, ""},
		{[]string{"inspect", "--config", `{"threshold": 0}`, "../../plugins/brute_force/brute_force.wasm"}, failed, nil, "the configuration does not suit it: "},
		{[]string{"inspect", "--config", `{"do":8}`, "../wasm/testdata/hostile.wasm"}, failed, []string{"imports    tocsin_v1.log"}, "trap: unreachable"},
		{[]string{"inspect", "--config", `{`, "../wasm/testdata/hostile.wasm"}, wrong, nil, "--config is not JSON"},
		{[]string{"inspect", "plugin.go"}, wrong, nil, "plugin.go: byte 0: it is no WebAssembly module"},
		{[]string{"inspect", "nothing.wasm"}, wrong, nil, "no such file"},
		{[]string{"inspect", "."}, wrong, nil, "is no file"},
		{[]string{"inspect"}, wrong, nil, "which module?"},
		{[]string{"test", "../../plugins/brute_force/brute_force.wasm"}, done, []string{"brute_force.wasm: 10 of 10 cases pass, in each of 4 ways"}, ""},
		{[]string{"test", "--cases", wrongCases, "../../plugins/brute_force/brute_force.wasm"}, failed, []string{"one row a call: no hit; want rule 1 high", "0 of 1 cases pass"}, ""},
		{[]string{"test", "../wasm/testdata/hostile.wasm"}, wrong, nil, "cases.jsonl: no such file"},
		{[]string{"test", "--case", "x"}, wrong, nil, "flag provided but not defined"},
		{[]string{"pack", "-o", packed, "--manifest", "../../abi/testdata/guests/manifest.json", "../../abi/testdata/guests/as/as.wasm"}, done, nil, ""},
		{[]string{"inspect", packed}, done, []string{"example.enc 1.0.0"}, ""},
		{[]string{"pack", "-o", packed, "--manifest", "plugin.go", "../../abi/testdata/guests/as/as.wasm"}, wrong, nil, "manifest"},
		{[]string{"pack", "../../abi/testdata/guests/as/as.wasm"}, wrong, nil, "it needs -o OUT.wasm and --manifest FILE"},
		{[]string{"pack", "-o", packed, "--manifest", "x", "a.wasm", "b.wasm"}, wrong, nil, "which module?"},
		{[]string{"inspekt"}, wrong, nil, "There are inspect, test, pack and new"},
	} {
		var out, err bytes.Buffer
		if status := Main(append([]string{"plugin"}, c.args...), &out, &err); status != c.status || !strings.Contains(err.String(), c.err) {
			t.Errorf("%v: status %d, %s", c.args, status, err.String())
		}
		for _, want := range c.out {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v: no %q in\n%s", c.args, want, out.String())
			}
		}
	}
}
