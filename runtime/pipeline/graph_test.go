package pipeline

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func graphOf(t *testing.T, file string, src []byte) *Graph {
	t.Helper()
	conf, findings := Check(file, src)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	g, err := NewGraph(conf, src)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Two examples in all three forms are what testdata/graph holds.
func TestGraphs(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Chdir("../..")
	for _, name := range []string{"quickstart", "siem"} {
		src, err := os.ReadFile("pipelines/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		g := graphOf(t, name, src)
		text, err := json.MarshalIndent(g, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		for ext, got := range map[string]string{"mmd": g.Mermaid(), "dot": g.DOT(), "json": string(text) + "\n"} {
			file := "runtime/pipeline/testdata/graph/" + name + "." + ext
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(file); err != nil || string(want) != got {
				t.Errorf("%s: %v; got\n%s", file, err, got)
			}
		}
	}
}

// Components are found wherever others hold them; texts of a pipeline never become syntax of a drawing.
func TestGraphComponents(t *testing.T) {
	g := graphOf(t, "x.yaml", []byte(`
input:
  broker:
    inputs:
      - label: web
        file_lines: { paths: [web.jsonl] }
      - file_lines: { paths: ["*.log"] }
      - read_until: { check: 'false', input: { stdin: {} } }
buffer:
  detect:
    name: drawn
    state: ./state/drawn
    streams:
      auth: { match: { path: "auth*" }, time: { field: t } }
      web: { match: { path: "web*" }, time: { field: t } }
    operators:
      a: { filter: { from: [auth, web], where: { x: 1 } }, alert: { title: t } }
pipeline:
  processors:
    - label: formed
      ecs: {}
    - mapping: root = this
output:
  switch:
    cases:
      - check: meta("kind") == "alert" && "</svg>" != "a|b"
        output:
          fallback:
            - file_rows: { path: 'a"b;c.jsonl' }
            - drop: {}
      - output:
          retry: { output: { file_rows: { path: x }, processors: [ { ocsf: {} } ] } }
`))
	text, err := json.Marshal([]any{g.Inputs, g.Streams, g.Processors, g.Outputs})
	if err != nil {
		t.Fatal(err)
	}
	when := `"meta(\"kind\") == \"alert\" \u0026\u0026 \"\u003c/svg\u003e\" != \"a|b\""`
	want := `[[{"kind":"file_lines","label":"web","at":["web.jsonl"]},{"kind":"file_lines","at":["*.log"]},{"kind":"stdin"}],[{"name":"auth","inputs":[1,2]},{"name":"web","inputs":[0,1,2]}],` +
		`["ecs","mapping"],[{"kind":"file_rows","at":["a\"b;c.jsonl"],"when":` + when + `},{"kind":"drop","when":` + when + `},{"kind":"file_rows","at":["x"],"processors":["ocsf"]}]]`
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	for _, part := range []string{`out0[\"file_rows<br/>a#34;b#59;c.jsonl"\]`, `results -->|"meta(#34;kind#34;) == #34;alert#34; #38;#38; #34;#60;/svg#62;#34; != #34;a#124;b#34;"| out1`, `results(("results<br/>ecs<br/>mapping"))`} {
		if !strings.Contains(g.Mermaid(), part) {
			t.Errorf("%s is not in\n%s", part, g.Mermaid())
		}
	}
	if part := `out0 [shape=parallelogram, label="file_rows\na\"b;c.jsonl"];`; !strings.Contains(g.DOT(), part) {
		t.Errorf("%s is not in\n%s", part, g.DOT())
	}
}
