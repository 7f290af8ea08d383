package cli

import (
	"bytes"
	"strings"
	"testing"
)

func TestPluginInspect(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
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
		{[]string{"inspekt"}, wrong, nil, "There is inspect"},
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
