package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The plugins that ship say of their cases what stands there.
func TestPluginsKeepTheirCases(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	found, err := filepath.Glob("../../plugins/*/*.wasm")
	if err != nil || len(found) < 2 {
		t.Fatalf("%v, %v", found, err)
	}
	for _, path := range found {
		r, err := CheckPlugin(path, "")
		if err != nil || len(r.Failures) > 0 || r.Cases < 5 {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
}

// A case that does not hold, a plugin that remembers, and files that are no cases are told where they stand.
func TestCases(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	const shell, hostile = "../../plugins/encoded_powershell/encoded_powershell.wasm", "../wasm/testdata/hostile.wasm"
	for _, c := range []struct {
		module, cases, failure, err string
	}{
		{shell, `{"name":"a","row":{"process":{"command_line":"ls"}},"hits":[{"rule":1}]}`, ":1: a: one row a call: no hit; want rule 1 high", ""},
		{shell, "\n" + `{"name":"b","row":{"process":{"command_line":"powershell -enc AAAAAAAAAAAAAAAAAAAA"}}}`, ":2: b: one row a call: rule 1 high; want no hit", ""},
		{shell, `{"name":"c","row":{"process":{"command_line":"powershell -enc AAAAAAAAAAAAAAAAAAAA"}},"hits":[{"rule":1,"severity":"low"}]}`, "rule 1 high; want rule 1 low", ""},
		{hostile, `{"name":"d","config":{"do":0},"row":{"a":"x"}}`, "it failed: trap: unreachable; want no hit", ""},
		{hostile, `{"name":"e","config":{"do":31},"row":{"a":"y"},"hits":[{"rule":1,"severity":"low","note":{"deep":[1, 2,{"x":"a } b"}]}}]}`, "", ""},
		{hostile, strings.Repeat(`{"name":"f","config":{"do":33},"row":{"a":"y"}}`+"\n", 2), ":2: f: seven rows a call: rule 1 medium; want no hit", ""},
		{shell, `{"name":"g","row":{"process":{"command_line":1}},"hit":[]}`, "", `:1: json: unknown field "hit"`},
		{shell, `{"name":"h"}`, "", ":1: it has no row"},
		{shell, `{"name":"i","row":[1]}`, "", ":1: the row: "},
		{shell, `{"name":"j","row":{}} {}`, "", "more than one case"},
		{shell, `{"name":"k","row":{},"config":{"x":1}}`, "", "the configuration does not suit the module"},
		{shell, "", "", "has no cases"},
		{shell, `{`, "", ":1: unexpected EOF"},
		{"cases.go", `{}`, "", "it is no WebAssembly module"},
	} {
		path := filepath.Join(t.TempDir(), "cases.jsonl")
		if err := os.WriteFile(path, []byte(c.cases), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := CheckPlugin(c.module, path)
		failures := strings.Join(r.Failures, "\n")
		if (c.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v; want %q", c.cases, err, c.err)
		}
		if (c.failure == "") != (failures == "") || !strings.Contains(failures, c.failure) {
			t.Errorf("%s: %q; want %q", c.cases, failures, c.failure)
		}
	}
}
