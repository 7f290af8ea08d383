package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/elastic/double"
)

// indexTemplate is what the test reads of a template.
type indexTemplate struct {
	Patterns []string `json:"index_patterns"`
	Template struct {
		Mappings struct {
			Dynamic    any
			Properties map[string]esField
		}
	}
}

// esField is a field of a mapping.
type esField struct {
	Type       string
	Enabled    *bool
	Properties map[string]esField
}

// printed are the templates that tocsin prints of a pipeline, by name.
func printed(t *testing.T, binary, pipeline string, args ...string) map[string]indexTemplate {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"elasticsearch", "templates", pipeline}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	all := map[string]indexTemplate{}
	if err != nil || said.String() != "" || json.Unmarshal(out, &all) != nil {
		t.Fatalf("%v\n%s%s", err, said.String(), out)
	}
	return all
}

// unfit says what of a value a field does not take, and which members no field is for.
func unfit(f esField, v any, at string) (wrong, unknown []string) {
	add := func(a, b []string) { wrong, unknown = append(wrong, a...), append(unknown, b...) }
	switch x := v.(type) {
	case nil:
		return nil, nil
	case []any:
		for _, e := range x {
			add(unfit(f, e, at))
		}
		return wrong, unknown
	case map[string]any:
		if f.Properties == nil {
			if f.Type != "flattened" && f.Type != "object" {
				wrong = append(wrong, fmt.Sprintf("%s is %s and the value an object", at, f.Type))
			}
			return wrong, nil
		}
		for name, e := range x {
			if inner, ok := f.Properties[name]; ok {
				add(unfit(inner, e, at+"."+name))
			} else if e != nil {
				unknown = append(unknown, at+"."+name)
			}
		}
		return wrong, unknown
	}
	text, isText := v.(string)
	number, isNumber := v.(float64)
	_, isBool := v.(bool)
	ok := false
	switch f.Type {
	case "keyword", "text", "match_only_text", "wildcard":
		ok = true
	case "object": // which is not indexed
		ok = f.Enabled != nil && !*f.Enabled
	case "long":
		ok = isNumber && number == float64(int64(number))
	case "double", "float":
		ok = isNumber
	case "boolean":
		ok = isBool
	case "ip":
		_, err := netip.ParseAddr(text)
		ok = isText && err == nil
	case "date":
		_, err := time.Parse(time.RFC3339, text)
		ok = isText && err == nil || isNumber
	}
	if !ok {
		wrong = append(wrong, fmt.Sprintf("%s is %s and the value %v", at, f.Type, v))
	}
	return wrong, unknown
}

// dotted makes the members of a document a tree, as the servers read their names.
func dotted(doc map[string]any) map[string]any {
	out := map[string]any{}
	for name, v := range doc {
		if m, ok := v.(map[string]any); ok {
			v = dotted(m)
		}
		at, parts := out, strings.Split(name, ".")
		for _, p := range parts[:len(parts)-1] {
			next, ok := at[p].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[p] = next
			}
			at = next
		}
		at[parts[len(parts)-1]] = v
	}
	return out
}

// intoElastic writes a pipeline of the examples with another output.
func intoElastic(t *testing.T, file, url, options string) string {
	t.Helper()
	pipeline, _ := moved(t, file, t.TempDir())
	src, err := os.ReadFile(pipeline)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(src), "\noutput:")
	text := before + "\noutput:\n  elasticsearch_bulk: { urls: [\"" + url + "\"], metadata: true, " + options + " }\n"
	if err := os.WriteFile(pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return pipeline
}

// Every document of the examples fits the template of its index, and every column that an operator has is a field of it.
func TestTemplatesFitExamples(t *testing.T) {
	binary := build(t)
	for _, name := range []string{"quickstart", "powershell", "windows", "lateness", "requests", "first_seen", "sequence", "joins", "enrich", "tunnel", "attribution", "risk", "workstations", "siem", "spraying",
		"control", "logs", "elasticsearch"} {
		t.Run(name, func(t *testing.T) {
			s := double.New()
			defer s.Close()
			pipeline := intoElastic(t, "pipelines/"+name+".yaml", s.URL, `index: "t-${! @kind }-${! @operator.or(\"none\") }"`)
			templates := map[string]indexTemplate{}
			for _, x := range printed(t, binary, pipeline) {
				templates[x.Patterns[0]] = x
			}
			if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			graph, err := exec.Command(binary, "graph", "--format", "json", pipeline).Output()
			var g struct {
				Operators []struct {
					Name    string
					Columns []struct{ Name string }
				}
			}
			if err != nil || json.Unmarshal(graph, &g) != nil {
				t.Fatal(err)
			}
			events := map[string]bool{}
			for _, o := range g.Operators {
				for _, c := range o.Columns {
					events[o.Name] = events[o.Name] || c.Name == "*"
				}
			}
			n := 0
			for _, index := range s.Indexes() {
				x, ok := templates[index]
				if !ok {
					t.Errorf("%s has no template", index)
					continue
				}
				parts := strings.SplitN(index, "-", 3)
				for _, d := range s.Docs(index) {
					var doc map[string]any
					if err := json.Unmarshal([]byte(d.Source), &doc); err != nil {
						t.Fatal(err)
					}
					n++
					wrong, unknown := unfit(esField{Properties: x.Template.Mappings.Properties}, dotted(doc), "")
					if parts[1] == "late" || events[parts[2]] {
						unknown = nil // events, of which nobody knows all fields
					}
					if len(wrong)+len(unknown) > 0 {
						t.Fatalf("%s: %v, no fields: %v\n%s", index, wrong, unknown, d.Source)
					}
				}
			}
			if n == 0 {
				t.Error("no documents")
			}
		})
	}
}

// ECS and OCSF documents fit, too.
func TestTemplatesFitECS(t *testing.T)  { fitForms(t, "ecs", "tocsin.row") }
func TestTemplatesFitOCSF(t *testing.T) { fitForms(t, "ocsf", "evidences.data") }

// fitForms runs pipelines with a processor that gives alerts another form, in which rows stand below a path.
func fitForms(t *testing.T, form, rows string) {
	binary := build(t)
	s := double.New()
	defer s.Close()
	n, fields := 0, 0
	for _, name := range []string{"siem", "risk", "workstations"} {
		pipeline := intoElastic(t, "pipelines/"+name+".yaml", s.URL, `index: "`+name+`-${! @kind }"`)
		src, err := os.ReadFile(pipeline)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pipeline, append(src, "  processors: [ { "+form+": {} } ]\n"...), 0o644); err != nil {
			t.Fatal(err)
		}
		x := printed(t, binary, pipeline)["tocsin."+name+"-alert"]
		top, under, _ := strings.Cut(rows, ".")
		fields += len(x.Template.Mappings.Properties[top].Properties[under].Properties)
		if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, d := range s.Docs(name + "-alert") {
			var doc map[string]any
			if err := json.Unmarshal([]byte(d.Source), &doc); err != nil {
				t.Fatal(err)
			}
			n++
			wrong, unknown := unfit(esField{Properties: x.Template.Mappings.Properties}, dotted(doc), "")
			unknown = slices.DeleteFunc(unknown, func(f string) bool { return strings.HasPrefix(f, "."+rows+".") && name != "siem" }) // rows that are events, with fields that nobody reads
			if len(wrong)+len(unknown) > 0 {
				t.Fatalf("%s: %v, no fields: %v\n%s", name, wrong, unknown, d.Source)
			}
		}
	}
	if n < 5 || fields < 20 {
		t.Errorf("%d alerts, %d fields", n, fields)
	}
}

// What the command says: what is new, what has changed, what it cannot do.
func TestTemplatesCommand(t *testing.T) {
	s := double.New()
	defer s.Close()
	binary, dir := build(t), t.TempDir()
	pipeline := onElastic(t, dir, s.URL, "    metadata: true", "    metadata: true\n    auth: { token_env: ELASTIC_TOKEN }")
	run := func(args ...string) (string, int) {
		cmd := exec.Command(binary, append([]string{"elasticsearch"}, args...)...)
		cmd.Env = append(os.Environ(), "ELASTIC_TOKEN=hush-hush")
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), "hush") {
			t.Errorf("the secret is shown:\n%s", out)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	want := func(text string, status int, args ...string) {
		t.Helper()
		if out, got := run(args...); got != status || !strings.Contains(out, text) {
			t.Errorf("%q: %d, want %q\n%s", args, got, text, out)
		}
	}
	s.Authorization = "Bearer hush-hush"
	s.Mappings = map[string]string{"tocsin-row": `{"mappings":{"properties":{"source_ip":{"type":"text"}}}}`}
	want("tocsin.tocsin-row: new\n  index tocsin-row: ", 0, "templates", pipeline, "--install")
	want("source_ip is text, not ip; 19 fields are not in its mapping", 0, "templates", "--install", pipeline)
	want("tocsin.tocsin-alert: unchanged\n", 0, "templates", "--install", pipeline)
	want("tocsin.tocsin-alert: changed\n  template.settings.index.auto_expand_replicas: 0-1 -> none\n  template.settings.index.number_of_replicas: none -> 1\n", 0, "templates", "--install", "--replicas", "1", pipeline)
	if names := fmt.Sprint(len(s.Templates)); names != "4" || !strings.Contains(s.Templates["tocsin.tocsin-row"], `"source_ip":{"type":"ip"}`) {
		t.Errorf("%v", s.Templates)
	}
	s.Distribution, s.Version = "opensearch", "2.19.0"
	want("note.type: flattened -> flat_object", 0, "templates", "--install", pipeline)
	want(`{`+"\n"+`  "_meta"`, 0, "templates", "--only", "tocsin.tocsin-row", pipeline)
	want("there is no template x; there are tocsin.tocsin-alert, ", 2, "templates", "--only", "x", pipeline)
	want("which pipeline?", 2, "templates")
	want("there is templates", 2, "template", pipeline)
	want("--print or --install?", 2, "templates", "--print", "--install", pipeline)
	want("--server must be elasticsearch or opensearch, not solr", 2, "templates", "--server", "solr", pipeline)
	want("--replicas must be from 0 to 100", 2, "templates", "--replicas", "1000", pipeline)
	want("it has no output elasticsearch_bulk", 2, "templates", "pipelines/quickstart.yaml")
	want(`it has no output elasticsearch_bulk with the label "x"`, 2, "templates", "--output", "x", pipeline)
	s.Templates["tocsin.tocsin-row"] = `{"index_patterns":["mine"]}`
	want("a template tocsin.tocsin-row is there that is not of tocsin; rename it, or replace it with --force", 1, "templates", "--install", pipeline)
	want("tocsin.tocsin-row: changed", 0, "templates", "--install", "--force", pipeline)
	s.Authorization = "Bearer other"
	want("does not let us in: HTTP 401: security_exception: unable to authenticate; correct `auth`", 1, "templates", "--install", pipeline)
	s.Authorization, s.Version, s.Distribution = "", "7.17.0", ""
	want("needs Elasticsearch 8 or OpenSearch 2 or newer", 1, "templates", "--install", pipeline)
	s.Close()
	want("connection refused", 1, "templates", "--install", pipeline)
	broken := filepath.Join(dir, "broken.yaml")
	if err := os.WriteFile(broken, []byte("output: { elasticsearch_bulk: { urls: [a], index: b } }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want("broken.yaml:1:40: urls must be a URL", 2, "templates", broken)
}

// A real OpenSearch or Elasticsearch takes the templates, says that they are there, and uses them: addresses are found by network, and times are drawn.
func TestIntegrationTemplates(t *testing.T) { realIndexes(t, "19630", templated) }

func templated(t *testing.T, name, url string, server func(verb string) string) {
	binary := build(t)
	for _, stream := range []string{"false", "true"} {
		pipeline := onElastic(t, t.TempDir(), url, "    metadata: true", "    metadata: true\n    data_stream: "+stream)
		templates := func() string {
			out, err := exec.Command(binary, "elasticsearch", "templates", "--install", pipeline).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return string(out)
		}
		state := map[string]string{"false": "new", "true": "changed"}[stream]
		if said := templates(); strings.Count(said, state) < 4 {
			t.Errorf("%s", said)
		}
		if said := templates(); said != "tocsin.tocsin-row: unchanged\ntocsin.tocsin-late: unchanged\ntocsin.tocsin-alert: unchanged\ntocsin.tocsin-error: unchanged\n" {
			t.Errorf("%s", said)
		}
		if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if said := templates(); strings.Contains(said, "index ") { // those that are there have the types
			t.Errorf("%s", said)
		}
		asks(t, "POST", url+"/tocsin-*/_refresh", "")
		var got struct {
			Hits         struct{ Total struct{ Value int } }
			Aggregations struct {
				Over struct {
					Buckets []struct {
						Count int `json:"doc_count"`
					}
				}
				Who struct{ Buckets []struct{ Key string } }
			}
		}
		answer := asks(t, "POST", url+"/tocsin-row,tocsin-alert/_search", `{"query":{"bool":{"should":[{"term":{"source_ip":"203.0.113.0/24"}},{"term":{"row.source_ip":"203.0.113.0/24"}}]}},
			"aggs":{"over":{"date_histogram":{"field":"@timestamp","fixed_interval":"1m","min_doc_count":1}},"who":{"terms":{"field":"source_ip","size":1000}}}}`)
		if err := json.Unmarshal(answer, &got); err != nil {
			t.Fatal(err)
		}
		want := 0 // by the documents themselves
		addresses := map[string]bool{}
		for index, docs := range searched(t, url, "tocsin-*") {
			for _, d := range docs {
				var doc struct {
					IP  string `json:"source_ip"`
					Row struct {
						IP string `json:"source_ip"`
					}
				}
				if err := json.Unmarshal([]byte(d.Source), &doc); err != nil {
					t.Fatal(err)
				}
				row, alert := strings.Contains(index, "tocsin-row"), strings.Contains(index, "tocsin-alert")
				if row && strings.HasPrefix(doc.IP, "203.0.113.") {
					want++
					addresses[doc.IP] = true
				}
				if alert && strings.HasPrefix(doc.Row.IP, "203.0.113.") {
					want++
				}
			}
		}
		drawn := 0
		for _, b := range got.Aggregations.Over.Buckets {
			drawn += b.Count
		}
		if got.Hits.Total.Value != want || drawn != want || want == 0 || len(got.Aggregations.Who.Buckets) != len(addresses) || len(got.Aggregations.Over.Buckets) < 3 {
			t.Errorf("%d documents, want %d of %d addresses\n%s", got.Hits.Total.Value, want, len(addresses), answer)
		}
		if stream == "false" {
			asks(t, "DELETE", url+"/tocsin-*", "")
		}
	}
}
