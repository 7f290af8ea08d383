package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// specFiles loads what OpenLineage publishes from the extracts in testdata, if it is of the version that is asked for.
type specFiles struct{ dir string }

func (s specFiles) Load(url string) (any, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, filepath.Base(url)))
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err == nil && doc.(map[string]any)["$id"] != url {
		err = fmt.Errorf("the extract is of %v", doc.(map[string]any)["$id"])
	}
	return doc, err
}

// Every example is a JobEvent by the published schemas, each facet by the one that it names, and lineage is of datasets that are there.
func TestOpenLineage(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c.UseLoader(specFiles{filepath.Join(wd, "testdata/openlineage")})
	t.Chdir("../..")
	judge := func(url string, doc any) error {
		s, err := c.Compile(url)
		if err != nil {
			return err
		}
		return s.Validate(doc)
	}
	files, err := filepath.Glob("pipelines/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	facets, columns := 0, 0
	for _, file := range append(files, "testdata/everything.yaml") {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		conf, findings := Check(file, src)
		if conf == nil || len(findings) > 0 {
			continue // of another kind
		}
		g := graphOf(t, file, src)
		text := g.OpenLineage(time.Unix(1_772_000_000, 5_000_000))
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil || strings.Count(text, "\n") != 1 || !strings.Contains(text, `"eventTime":"2026-02-25T06:13:20.005Z"`) {
			t.Fatalf("%s: %v: %s", file, err, text)
		}
		event := doc.(map[string]any)
		if err := judge(event["schemaURL"].(string), doc); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		known := map[string]bool{}
		for _, of := range []string{"inputs", "outputs"} {
			for _, x := range event[of].([]any) {
				set := x.(map[string]any)
				known[set["name"].(string)] = of == "inputs"
				all, _ := set["facets"].(map[string]any)
				for name, f := range all {
					facets++
					if err := judge(f.(map[string]any)["_schemaURL"].(string), f); err != nil {
						t.Errorf("%s, %s of %s: %v", file, name, set["name"], err)
					}
				}
				if lineage, ok := all["columnLineage"].(map[string]any); ok {
					for _, column := range lineage["fields"].(map[string]any) {
						for _, from := range column.(map[string]any)["inputFields"].([]any) {
							columns++
							if name := from.(map[string]any)["name"].(string); !known[name] {
								t.Errorf("%s: %s comes from %s, which is no input", file, set["name"], name)
							}
						}
					}
				}
			}
		}
		for kind, why := range map[string]error{"START": nil, "FAIL": errors.New("the disk is \"full\"\n")} {
			run, err := jsonschema.UnmarshalJSON(strings.NewReader(g.RunEvent(kind, "6ba7b810-9dad-41d1-80b4-00c04fd430c8", time.Unix(1_772_000_000, 0), why)))
			if err != nil {
				t.Fatal(err)
			}
			r := run.(map[string]any)
			if err := judge(r["schemaURL"].(string), run); err != nil || !strings.HasSuffix(r["schemaURL"].(string), "/RunEvent") || r["eventType"] != kind {
				t.Errorf("%s: %v: %v", file, err, r)
			}
			facets, _ := r["run"].(map[string]any)["facets"].(map[string]any)
			if m, _ := facets["errorMessage"].(map[string]any); (m != nil) != (why != nil) || why != nil && (m["message"] != why.Error() || m["programmingLanguage"] != "GO") {
				t.Errorf("%s: %v", file, facets)
			}
			r["run"].(map[string]any)["runId"] = "no uuid"
			if judge(r["schemaURL"].(string), run) == nil {
				t.Error("a run without a UUID is none")
			}
		}
		delete(event["job"].(map[string]any), "name")
		if judge(event["schemaURL"].(string), doc) == nil {
			t.Error("a job without name is none")
		}
	}
	if facets < 50 || columns < 50 {
		t.Errorf("%d facets and %d columns prove little", facets, columns)
	}
}

// What a reader of lineage learns of a count: what it is made of, and what decides about it.
func TestOpenLineageOfACount(t *testing.T) {
	g := graphOf(t, "x.yaml", []byte(`
input: { file_lines: { paths: [logs/a.jsonl] } }
buffer:
  detect:
    name: p
    state: ./s
    streams: { a: { match: { path: "*a*" }, time: { field: t } } }
    operators: { n: { window: { from: a, tumbling: 1m, key: user, where: { status: failure }, aggregate: { most: { max: bytes } } } } }
output: { console: {} }
`))
	var e struct {
		Inputs, Outputs []struct {
			Name   string
			Facets struct {
				Symlinks struct{ Identifiers []struct{ Name string } }
				Schema   struct{ Fields []struct{ Name string } }
				Lineage  struct {
					Fields  map[string]struct{ InputFields []lineageField }
					Dataset []lineageField
				} `json:"columnLineage"`
			}
		}
	}
	if err := json.Unmarshal([]byte(g.OpenLineage(time.Now())), &e); err != nil || len(e.Inputs) != 1 || len(e.Outputs) != 1 {
		t.Fatalf("%v, %+v", err, e)
	}
	in, out := e.Inputs[0], e.Outputs[0]
	var rows []string
	for _, f := range out.Facets.Lineage.Dataset {
		rows = append(rows, f.Name+"/"+f.Field+"/"+f.Transformations[0]["type"])
	}
	most := out.Facets.Lineage.Fields["most"].InputFields
	if in.Name != "p.a" || in.Facets.Symlinks.Identifiers[0].Name != "logs/a.jsonl" || out.Name != "p.n" || out.Facets.Schema.Fields[0].Name != "user" ||
		len(most) != 1 || most[0].Field != "bytes" || most[0].Name != "p.a" || most[0].Transformations[0]["type"] != "DIRECT" || strings.Join(rows, " ") != "p.a/status/INDIRECT p.a/t/INDIRECT p.a/user/INDIRECT" {
		t.Errorf("%+v\n%q", e, rows)
	}
}
