package pipeline

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The plugins that ship say of their cases what stands there.
func TestPluginsKeepTheirCases(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	found, err := filepath.Glob("../../plugins/*/*.wasm")
	if err != nil || len(found) < 7 {
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
	const silence = "../../plugins/log_silence/log_silence.wasm"
	const entropy, risk, above = "../../plugins/label_entropy/label_entropy.wasm", "../../plugins/entity_risk/entity_risk.wasm", "../../abi/testdata/roles/above.wasm"
	const lying = "../wasm/testdata/roles/lying_aggregate.wasm"
	const shell, hostile = "../../plugins/encoded_powershell/encoded_powershell.wasm", "../wasm/testdata/hostile.wasm"
	const asks = "../wasm/testdata/lookup.wasm"
	const passing, writing = "../engine/testdata/recall/passing.wasm", "../engine/testdata/recall/writing.wasm" // v of 11 counts in these times
	const first, third = `{"time":"2026-01-01T00:00:00Z","row":{"k":"a","v":11}`, `{"time":"2026-01-01T00:00:00.032Z","row":{"k":"a","v":11}`
	const other, none = `{"time":"2026-01-01T00:00:00.016Z","row":{"k":"b","v":11}`, `{"time":"2026-01-01T00:00:00Z","row":{"v":11}`
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
		{above, `{"name":"l","config":{"least":3},"row":{"number":4},"pass":true}` + "\n" + `{"name":"m","config":{"least":3},"row":{"number":3}}`, "", ""},
		{above, `{"name":"n","config":{"least":3},"row":{"number":4}}`, ":1: n: one row a call: it passes; want it does not pass", ""},
		{entropy, `{"name":"o","row":{"dns":{"question":{"name":"a.bb"}}},"writes":{"label_entropy":0.0,"label_length":2e0,"label":"bb"}}`, "", ""},
		{entropy, `{"name":"p","row":{"dns":{"question":{"name":"a.bb"}}},"writes":{"label_entropy":0,"label_length":2}}`, `label "bb"; want label_entropy 0, label_length 2, label null`, ""},
		{entropy, `{"name":"q","row":{"dns":{}},"writes":{"entropy":0}}`, "entropy, which it does not write", ""},
		{risk, `{"name":"r","rows":[{"row":{"event":{"risk_score":90}}},{"row":{"event":{"risk_score":10}}}],"result":34}`, ":1: r: one row a call: 35.8; want 34", ""},
		{lying, `{"name":"s","config":{"do":16},"rows":[{"row":{"a":"x"}},{"row":{"a":"y"}}],"result":2}`, ":1: s: two halves merged: it failed: trap: unreachable; want 2", ""},
		{risk, `{"name":"t","row":{},"result":34}`, "", ":1: it says what a plugin of the role aggregate never says"},
		{above, `{"name":"u","row":{},"hits":[{"rule":1}]}`, "", `:1: it says what a plugin of the role filter never says; a case is {"name": ..., "row": {...}, "pass": true}`},
		{risk, `{"name":"v","rows":[{"row":[1]}]}`, "", ":1: the row: "},
		{asks, `{"name":"l","tables":{"mine":{"x":{}}},"row":{"do":8,"key":"x","number":0},"hits":[{"rule":1}]}` + "\n" + `{"name":"m","tables":{"mine":{"y":{}}},"row":{"do":8,"key":"x","number":0}}` + "\n" +
			`{"name":"n","row":{"do":8,"key":"x","number":0}}`, "", ""},
		{asks, `{"name":"o","tables":{"mine":{"x":{}}},"row":{"do":8,"key":"x","number":1},"hits":[{"rule":1}]}`, ":1: o: one row a call: no hit", ""},
		{asks, `{"name":"p","tables":{"min":{}},"row":{"do":8,"key":"x","number":0}}`, "", `:1: the manifest has no table "min"; did you mean "mine"?`},
		{"cases.go", `{}`, "", "it is no WebAssembly module"},
		{silence, `{"name":"l","config":{"after_s":60},"rows":[{"time":"2026-01-01T00:00:00Z","row":{"host":{"name":"a"}}}],"until":"2026-01-01T00:01:00Z","hits":[{"rule":1,"time":"2026-01-01T00:01:01Z"}]}`,
			`:1: l: 1 rows a block, 1 shards: at 2026-01-01T00:01:00Z rule 1 medium {"last":"2026-01-01T00:00:00.000Z","silent_s":60.000}; want at 2026-01-01T00:01:01Z rule 1 medium`, ""},
		{silence, `{"name":"m","config":{"after_s":60},"rows":[{"time":"2026-01-01T00:00:00Z","row":{"host":{"name":"a"}}},{"time":"2026-01-01T00:02:00Z","row":{"host":{"name":"a"}}}],"hits":[{"rule":2,"at":0}]}`,
			`m: 1 rows a block, 1 shards: row 0001 rule 2 informational {"silent_s":120.000}; want row 0000 rule 2 informational`, ""},
		{silence, `{"name":"n","row":{"host":{"name":"a"}},"hits":[{"rule":1}]}`, ":1: n: 1 rows a block, 1 shards: no hit; want rule 1 medium", ""},
		{shell, `{"name":"o","rows":[{"time":"2026-01-01T00:00:00Z","row":{"process":{"command_line":"ls"}}}],"hits":[{"rule":1,"at":0}]}`, ":1: o: 1 rows a block, 1 shards: no hit; want row 0000 rule 1 high", ""},
		{hostile, `{"name":"p","config":{"do":0},"rows":[{"time":"2026-01-01T00:00:00Z","row":{"a":"x"}}]}`, "row 0000 it failed: ", ""},
		{hostile, `{"name":"q","config":{"do":33},"rows":[{"time":"2026-01-01T00:00:00Z","row":{"a":"y"}},{"time":"2026-01-01T00:00:00Z","row":{"a":"y"}}]}`, "q: 7 rows a block, 1 shards: row 0001 rule 1 medium; want no hit", ""},
		{passing, `{"name":"a","rows":[` + first + `},` + other + `,"pass":false},` + third + `,"pass":true}]}`, "", ""},
		{passing, `{"name":"b","rows":[` + first + `},` + other + `,"pass":true},` + third + `}],"until":"end"}`, ":1: b: 1 rows a block, 1 shards: row 0002 it passes; want row 0001 it passes", ""},
		{passing, `{"name":"c","row":{"k":"a","v":11},"pass":true}`, ":1: c: 1 rows a block, 1 shards: no row passes; want it passes", ""},
		{writing, `{"name":"d","rows":[` + first + `,"writes":{"r":1,"x":0,"had":990}},` + other + `,"writes":{"r":1,"x":0,"had":990}},` + third + `,"writes":{"r":2.0,"x":0,"had":990}}]}`, "", ""},
		{writing, `{"name":"e","rows":[` + first + `,"writes":{"r":1,"x":0,"had":990}},` + third + `,"writes":{"r":1,"x":0,"had":990}}]}`, "row 0001 r 2, x 0, had 990; want row 0000 r 1, x 0, had 990, row 0001 r 1", ""},
		{writing, `{"name":"f","rows":[` + none + `,"writes":{"r":192,"x":0,"had":982}}]}`, "", ""},
		{passing, `{"name":"g","rows":[` + first + `}],"pass":true}`, "", ":1: pass and writes stand beside each of its rows"},
		{passing, `{"name":"h","rows":[` + first + `,"writes":{"r":1}}]}`, "", ":1: row 0 says what a plugin of the role filter never says"},
		{above, `{"name":"i","config":{"least":3},"rows":[{"time":"2026-01-01T00:00:00Z","row":{"number":4},"pass":true},{"time":"2026-01-01T00:00:00Z","row":{"number":3}}]}`, "", ""},
		{silence, `{"name":"r","rows":[]}`, "", ":1: it has no row"},
		{silence, `{"name":"r","rows":[{"time":"2026-01-01T00:00:00Z","row":{}}],"row":{}}`, "", ":1: it has row and rows"},
		{silence, `{"name":"r","rows":[{"time":"2026-01-01","row":{}}]}`, "", `:1: the time of row 0: "2026-01-01" is no time such as 2026-01-01T00:00:00Z`},
		{silence, `{"name":"r","rows":[{"time":"2026-01-01T00:00:00Z"}]}`, "", ":1: row 0 has no row"},
		{silence, `{"name":"r","rows":[{"time":"2026-01-01T00:00:00Z","row":[]}]}`, "", ":1: the rows: "},
		{silence, `{"name":"r","row":{},"until":"end"}`, "", ":1: delay and until are for a case with rows"},
		{silence, `{"name":"r","rows":[{"time":"2026-01-01T00:00:00Z","row":{}}],"delay":"-1s"}`, "", `:1: delay is "-1s"; it must be a time`},
		{silence, `{"name":"r","rows":[{"time":"2026-01-01T00:00:00Z","row":{}}],"until":"never"}`, "", `:1: until: "never" is no time such as 2026-01-01T00:00:00Z, or end`},
		{silence, `{"name":"r","rows":[{"time":"2026-01-01T00:00:00Z","row":{}}],"hits":[{"rule":1}]}`, "", ":1: hit 0 must say at, the index of its row from 0, or time"},
		{silence, `{"name":"r","rows":[{"time":"2026-01-01T00:00:00Z","row":{}}],"hits":[{"rule":1,"at":1}]}`, "", ":1: hit 0 is at row 1 of 1"},
		{silence, `{"name":"r","rows":[{"time":"2026-01-01T00:00:00Z","row":{}}],"hits":[{"rule":1,"time":"soon"}]}`, "", `:1: the time of hit 0: "soon" is no time`},
		{silence, `{"name":"r","row":{},"hits":[{"rule":1,"at":0}]}`, "", ":1: hit 0 has at or time"},
		{silence, `{"name":"r","row":{},"config":{"after_s":1}}`, "", ":1: the configuration does not suit the module: "},
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

// A batch all of whose rows are hits with notes has not the room for them at first: each SDK asks for more, and the host calls again.
func TestManyNotes(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	const n, at = 500, "2026-03-02T08:00:00Z"
	type object = map[string]any
	label := "d1b358e6baab485565b9f49028d557d79a8a0e6451e15c705c15f173541b44"
	for name, c := range map[string]struct {
		config object
		row    func(i int) object
		hit    func(i int) object
	}{
		"dns_tunnelling": {object{}, func(i int) object {
			return object{"dns": object{"question": object{"name": label + fmt.Sprintf(".site%d.example", i)}}}
		}, func(i int) object {
			return object{"rule": 1, "at": i, "note": json.RawMessage(fmt.Sprintf(`{"domain":"site%d.example","length":62,"labels":1,"longest_label":62,"entropy":3.78,"digits_percent":69}`, i))}
		}},
		"rare_process": {object{"learn_s": 0}, func(i int) object {
			return object{"host": object{"name": i}, "process": object{"executable": "/usr/bin/\"x\""}}
		}, func(i int) object {
			return object{"rule": 1, "at": i, "note": json.RawMessage(`{"program":"/usr/bin/\"x\"","programs_of_host":1,"writable_place":false}`)}
		}},
		"log_silence": {object{"after_s": 60}, func(i int) object { return object{"host": object{"name": i}} }, func(i int) object {
			return object{"rule": 1, "time": "2026-03-02T08:01:00Z", "note": json.RawMessage(`{"last":"2026-03-02T08:00:00.000Z","silent_s":60.000}`)}
		}},
	} {
		rows, hits := []object{}, []object{}
		for i := range n {
			rows = append(rows, object{"time": at, "row": c.row(i)})
			hits = append(hits, c.hit(i))
		}
		line, err := json.Marshal(object{"name": name, "config": c.config, "rows": rows, "until": "end", "hits": hits})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "cases.jsonl")
		if err := os.WriteFile(path, line, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := CheckPlugin("../../plugins/"+name+"/"+name+".wasm", path)
		if err != nil || r.Cases != 1 || len(r.Failures) > 0 {
			t.Errorf("%s: %v, %.1000s", name, err, strings.Join(r.Failures, "\n"))
		}
	}
}

// The search of the SDK for Rust, at 16 places at a time, finds in random paths what strings.Contains does.
func TestSearchInRust(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	loose := []string{"\\temp\\", "\\appdata\\", "\\downloads\\", "\\users\\public\\", "\\$recycle.bin\\", "/tmp/", "/dev/shm/", "/downloads/"}
	pieces := append([]string{"\\", "/", "te", "Temp", "tmp", "日本", "x", "\\$Recycle", ".bin", "\\TEMP", "DOWN", "loads", "/dev/shm", "0123456789"}, loose...)
	type object = map[string]any
	var rows, hits []object
	found := 0
	for i := range 400 {
		var b strings.Builder
		for range 1 + r.IntN(8) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		path := b.String()
		is := slices.ContainsFunc(loose, func(s string) bool { return strings.Contains(strings.ToLower(path), s) })
		severity := map[bool]string{true: "high", false: "low"}[is]
		if is {
			found++
		}
		note := object{"program": path, "programs_of_host": 1, "writable_place": is} // in the order of the alphabet, as it happens
		rows = append(rows, object{"time": caseTime, "row": object{"host": object{"name": i}, "process": object{"executable": path}}})
		hits = append(hits, object{"rule": 1, "at": i, "severity": severity, "note": note})
	}
	line, err := json.Marshal(object{"name": "search", "config": object{"learn_s": 0}, "rows": rows, "hits": hits})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cases.jsonl")
	if err := os.WriteFile(path, line, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := CheckPlugin("../../plugins/rare_process/rare_process.wasm", path)
	if err != nil || len(c.Failures) > 0 || found < 50 || found > 350 {
		t.Errorf("seed %d: %d found: %v, %.2000s", seed, found, err, strings.Join(c.Failures, "\n"))
	}
}
