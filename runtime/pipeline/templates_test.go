package pipeline

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/alert"
)

// templatesOf makes the templates of a pipeline, by output and template.
func templatesOf(t *testing.T, text string, o TemplateOptions) []ElasticOutput {
	t.Helper()
	conf, findings := Check("x.yaml", []byte(text))
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	outputs, err := Templates(conf, []byte(text), o)
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

// fieldTypesOf are the fields of a template with their types, as paths.
func fieldTypesOf(t *testing.T, body map[string]any) map[string]string {
	t.Helper()
	out := map[string]string{}
	var walk func(at string, properties map[string]any)
	walk = func(at string, properties map[string]any) {
		for name, v := range properties {
			p := v.(map[string]any)
			if inner, ok := p["properties"].(map[string]any); ok {
				walk(at+name+".", inner)
			} else {
				out[at+name] = p["type"].(string)
			}
		}
	}
	walk("", body["template"].(map[string]any)["mappings"].(map[string]any)["properties"].(map[string]any))
	return out
}

const templatedPipeline = `
input: { file_lines: { paths: [a.jsonl] } }
buffer:
  detect:
    name: shop
    state: ./state/shop
    streams:
      logins: { match: { path: "*logins*" }, time: { field: time }, fields: { ip: ip, port: int, ok: bool, at: timestamp, user.id: int } }
      ids: { match: { path: "*ids*" }, time: { field: time } }
    operators:
      counts:
        window: { from: logins, tumbling: 1m, key: [ip, user.id, host], aggregate: { n: count, bytes: { sum: port }, last: { last: at }, most: { top_k: host }, hosts: { collect: host } }, having: { n|gte: 3 } }
        alert: { title: "{ip}", severity: low }
      both: { join: { left: logins, right: ids, on: host, within: 1m } }
      risky: { risk: { from: counts, by: [ip] } }
      some: { filter: { from: logins, where: { ok: true } } }
output: OUTPUT
`

func TestTemplates(t *testing.T) {
	outputs := templatesOf(t, strings.ReplaceAll(templatedPipeline, "OUTPUT", `{ elasticsearch_bulk: { urls: ["http://a"], index: "x-${! @kind }-${! @operator.or(\"none\").uppercase().lowercase() }" } }`), TemplateOptions{Replicas: -1, Priority: 300})
	if len(outputs) != 1 || len(outputs[0].Notes) != 0 || outputs[0].Name != "1" {
		t.Fatalf("%+v", outputs)
	}
	found := map[string]map[string]string{}
	priorities := map[int]bool{}
	for _, x := range outputs[0].Templates {
		found[x.Body["index_patterns"].([]any)[0].(string)] = fieldTypesOf(t, x.Body)
		priorities[x.Body["priority"].(int)] = true
	}
	if len(priorities) != len(outputs[0].Templates) {
		t.Errorf("%v", priorities)
	}
	counts := map[string]string{"@timestamp": "date", "ip": "ip", "user.id": "long", "host": "keyword", "window_start": "date", "window_end": "date", "n": "long", "bytes": "double", "last": "date",
		"most": "flattened", "hosts": "keyword", "truncated": "boolean", "approximate": "boolean"}
	want := map[string]map[string]string{
		"x-row-counts": counts,
		"x-row-both":   {"@timestamp": "date", "logins.ip": "ip", "logins.port": "long", "logins.ok": "boolean", "logins.at": "date", "logins.user.id": "long", "ids": "flattened", "truncated": "boolean"},
		"x-row-some":   {"@timestamp": "date", "host": "keyword", "ip": "ip", "port": "long", "ok": "boolean", "at": "date", "user.id": "long"},
		"x-row-risky": {"@timestamp": "date", "entity_type": "keyword", "entity": "keyword", "score": "double", "alerts": "long", "rules": "long", "first_time": "date", "last_time": "date",
			"attack": "keyword", "contributions": "flattened", "truncated": "boolean"},
		"x-error-none": {"@timestamp": "date", "error": "keyword", "detail": "text", "source": "keyword", "offset": "long", "raw": "text", "raw_base64": "keyword", "result_id": "keyword"},
	}
	alerts := map[string]string{"@timestamp": "date", "id": "keyword", "rule.id": "keyword", "rule.name": "keyword", "rule.source": "keyword", "rule.version": "keyword", "title": "text", "description": "text",
		"severity": "keyword", "risk_score": "long", "time": "date", "first_event_time": "date", "last_event_time": "date", "count": "long", "suppressed": "long", "entities.type": "keyword",
		"entities.field": "keyword", "entities.role": "keyword", "entities.value": "keyword", "entities.risk_score": "double", "attack": "keyword", "references": "keyword", "false_positives": "keyword",
		"note": "flattened", "events": "object", "truncated": "boolean"}
	for name, typ := range counts {
		if name != "@timestamp" {
			alerts["row."+name] = typ
		}
	}
	want["x-alert-counts"] = alerts
	for pattern, fields := range want {
		if !maps.Equal(found[pattern], fields) {
			for _, f := range slices.Sorted(maps.Keys(fields)) {
				if found[pattern][f] != fields[f] {
					t.Errorf("%s: %s is %q, want %q", pattern, f, found[pattern][f], fields[f])
				}
				delete(found[pattern], f)
			}
			t.Errorf("%s: not wanted: %v", pattern, found[pattern])
		}
	}
	if late := found["x-late-some"]; late["ip"] != "ip" || late["raw"] != "text" || found["x-row-none"] != nil || found["x-alert-some"] != nil || found["x-alert-both"] != nil {
		t.Errorf("%v", slices.Sorted(maps.Keys(found)))
	}
}

// What reaches an output is what its case and those before it say, as far as they speak of kinds and operators.
func TestTemplatesOfCases(t *testing.T) {
	text := strings.ReplaceAll(templatedPipeline, "OUTPUT", `
  switch:
    cases:
      - check: '@kind == "alert"'
        output: { label: siem, elasticsearch_bulk: { urls: ["http://a"], index: "logs-${! now().ts_format(\"2006\") }-${! json(\"severity\") }-alerts", data_stream: true, metadata: true }, processors: [ { ecs: {} } ] }
      - check: meta("operator") == "counts" || errored()
        output: { elasticsearch_bulk: { urls: ["http://a"], index: rows, timestamp: "" } }
      - check: '@operator == "some" && @kind == "row"'
        continue: true
        output: { elasticsearch_bulk: { urls: ["http://a"], index: some } }
      - output: { label: rest, elasticsearch_bulk: { urls: ["http://a"], index: "${! @operator }" } }
`)
	outputs := templatesOf(t, text, TemplateOptions{Replicas: 2, Priority: 10, OpenSearch: true})
	got := map[string][]string{}
	for _, o := range outputs {
		for _, x := range o.Templates {
			got[o.Name] = append(got[o.Name], x.Body["index_patterns"].([]any)[0].(string))
		}
	}
	if len(got) != 4 || !slices.Equal(got["siem"], []string{"logs-*-*-alerts"}) || !slices.Equal(got["2"], []string{"rows"}) || !slices.Equal(got["3"], []string{"some"}) ||
		!slices.Equal(got["rest"], []string{"both", "null", "some", "risky", "counts"}) {
		t.Fatalf("%v", got)
	}
	siem := outputs[0].Templates[0].Body
	fields := fieldTypesOf(t, siem)
	if siem["data_stream"] == nil || outputs[1].Templates[0].Body["data_stream"] != nil {
		t.Error("data streams")
	}
	ecs, err := os.Open("../alert/testdata/ecs.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer ecs.Close()
	n := 0
	for lines := bufio.NewScanner(ecs); lines.Scan(); {
		if c := strings.Split(lines.Text(), "\t"); len(c) > 1 && !strings.HasPrefix(c[0], "#") {
			n++
			typ := map[string]string{"match_only_text": "text", "wildcard": "keyword"}[c[1]]
			if typ == "" {
				typ = c[1]
			}
			if fields[c[0]] != typ {
				t.Errorf("%s is %s, want %s", c[0], fields[c[0]], typ)
			}
		}
	}
	if n < 50 || n != len(alert.ECSTypes()) {
		t.Errorf("%d fields, %d of them known", n, len(alert.ECSTypes()))
	}
	for name, typ := range map[string]string{"tocsin.row.ip": "ip", "tocsin.row.most": "flat_object", "tocsin.severity": "keyword", "_tocsin.event_time_ms": "date", "_tocsin.revision": "long"} {
		if fields[name] != typ {
			t.Errorf("%s is %q, want %s", name, fields[name], typ)
		}
	}
	if rows := fieldTypesOf(t, outputs[1].Templates[0].Body); rows["@timestamp"] != "" || rows["bytes"] != "double" {
		t.Errorf("%v", rows)
	}
	text2, _ := json.Marshal(outputs[1].Templates[0].Body)
	if !strings.Contains(string(text2), `"number_of_replicas":2`) || !strings.Contains(string(text2), `"dynamic":false`) {
		t.Errorf("%s", text2)
	}
	conf, _ := Check("x.yaml", []byte(text))
	for label, fault := range map[string]string{"seim": `the label "seim"; did you mean "siem"?`, "9": `the label "9"`} {
		if _, err := Templates(conf, []byte(text), TemplateOptions{Output: label}); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%v", err)
		}
	}
	if one, err := Templates(conf, []byte(text), TemplateOptions{Output: "4"}); err != nil || len(one) != 1 || one[0].Name != "rest" {
		t.Errorf("%v", err)
	}
}

// Outputs within lanes are found, by templates and by drawings.
func TestTemplatesOfLanes(t *testing.T) {
	text := `
input: { file_lines: { paths: [a.jsonl] } }
buffer:
  detect:
    name: x
    state: ./state/x
    streams: { s: { time: { field: time }, fields: { ip: ip } } }
    operators:
      a: { window: { from: s, tumbling: 1m, key: ip, aggregate: { n: count } } }
    deliver: { search: {}, all: {} }
output:
  lanes:
    search: { elasticsearch_bulk: { urls: ["http://a"], index: one } }
    all: { file_rows: { path: all.jsonl } }
`
	if outputs := templatesOf(t, text, TemplateOptions{Replicas: -1}); len(outputs) != 1 || fieldTypesOf(t, outputs[0].Templates[0].Body)["ip"] != "ip" {
		t.Errorf("%+v", outputs)
	}
	g := graphOf(t, "x.yaml", []byte(text))
	if len(g.Outputs) != 2 || g.Outputs[0].Kind != "elasticsearch_bulk" || g.Outputs[0].When != `@lane == "search"` || g.Outputs[1].Kind != "file_rows" || g.Outputs[1].When != `@lane == "all"` {
		t.Errorf("%+v", g.Outputs)
	}
}

// Columns that do not fit together in one index, and names that may be any index, are said.
func TestTemplateNotes(t *testing.T) {
	text := `
input: { file_lines: { paths: [a.jsonl] } }
buffer:
  detect:
    name: x
    state: ./state/x
    streams: { s: { time: { field: time }, fields: { ip: ip, n: int } } }
    operators:
      a: { window: { from: s, tumbling: 1m, key: n, aggregate: { v: count, ip: { last: n }, m: { top_k: n } } } }
      b: { window: { from: s, tumbling: 1m, key: ip, aggregate: { v: { sum: n }, m: count, "n.more": count } } }
output:
  broker:
    outputs:
      - elasticsearch_bulk: { urls: ["http://a"], index: one }
      - elasticsearch_bulk: { urls: ["http://a"], index: "${! json(\"country\") }" }
`
	outputs := templatesOf(t, text, TemplateOptions{Replicas: -1, Priority: 1})
	want := []string{
		"index one: ip is int in some rows and ip in others: it is a keyword, which takes both; rename one of them",
		"index one: m is json in some rows and int in others: it is kept, and not indexed; rename one of them",
		"index one: n and n.more cannot both be fields of one index: the latter is left out; rename one of them",
	}
	if got := outputs[0].Notes; !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	fields := fieldTypesOf(t, outputs[0].Templates[0].Body)
	if fields["v"] != "double" || fields["ip"] != "keyword" || fields["m"] != "object" || fields["n"] != "long" {
		t.Errorf("%v", fields)
	}
	if got := outputs[1]; len(got.Templates) != 0 || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "may be any index") {
		t.Errorf("%+v", got)
	}
}
