package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/kafka"
	"github.com/seed-98920119/tocsin/runtime/match"
)

var update = flag.Bool("update", false, "rewrite what tests compare with: docs/kafka.md, docs/outputs.md, testdata/graph")

// kafkaViews are the specs as Benthos knows them.
func kafkaViews(t *testing.T) (views []service.TemplateDataPlugin) {
	t.Helper()
	in, ok := service.GlobalEnvironment().GetInputConfig("kafka_records")
	out, ok2 := service.GlobalEnvironment().GetOutputConfig("kafka_rows")
	if !ok || !ok2 {
		t.Fatal("not registered")
	}
	for _, v := range []*service.ConfigView{in, out} {
		d, err := v.TemplateData()
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, d)
	}
	return views
}

// docs/kafka.md is what the specs say; -update writes it.
func TestKafkaPage(t *testing.T) { wantPage(t, "kafka.md", "Kafka", "KafkaPage", kafkaViews(t)) }

// wantPage compares a page of the documentation with what the specs say.
func wantPage(t *testing.T, name, title, test string, views []service.TemplateDataPlugin) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n<!-- Written by `go test ./runtime/pipeline -run %s -update` from the components' own specs. -->\n", title, test)
	for _, v := range views {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s\n\n| field | | default |\n|---|---|---|\n", v.Name, v.Summary, v.Description)
		for _, f := range v.Fields {
			text := strings.ReplaceAll(strings.TrimSpace(f.Description), "\n", " ")
			if options := options(f); len(options) > 0 {
				text += " One of `" + strings.Join(options, "`, `") + "`."
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.FullName, text, code(f.DefaultMarshalled))
		}
		for _, e := range v.Examples {
			fmt.Fprintf(&b, "\n%s:\n\n```yaml\n%s\n```\n", e.Title, strings.TrimSpace(e.Config))
		}
	}
	page := "../../docs/" + name
	if *update {
		if err := os.WriteFile(page, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Equal(text, b.Bytes()) {
		t.Errorf("docs/%s is not what the specs say: run go test ./runtime/pipeline -run %s -update (%v)", name, test, err)
	}
}

func options(f service.TemplateDataPluginField) []string {
	all := slices.Clone(f.Options)
	for _, o := range f.AnnotatedOptions {
		all = append(all, o[0])
	}
	return all
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.Trim(s, `"`) + "`"
}

// The spec, which Benthos's linter and the page go by, and the decoder, which lint and run go by, know the same fields.
func TestKafkaFields(t *testing.T) {
	decoders := map[string]func(n *yaml.Node) []match.Problem{
		"kafka_records": func(n *yaml.Node) []match.Problem { _, p := decodeKafkaRecords(n); return p },
		"kafka_rows":    func(n *yaml.Node) []match.Problem { _, p := decodeKafkaRows(n); return p },
	}
	for _, v := range kafkaViews(t) {
		var spec []string
		for _, f := range v.Fields {
			spec = append(spec, f.FullName)
		}
		known := func(mapping string) string {
			var n yaml.Node
			if err := yaml.Unmarshal([]byte(mapping), &n); err != nil {
				t.Fatal(err)
			}
			for _, p := range decoders[v.Name](n.Content[0]) {
				if _, list, ok := strings.Cut(p.Text, "; there is "); ok {
					return list
				}
			}
			t.Fatalf("%s: no list of keys", mapping)
			return ""
		}
		got := strings.Split(known("{ zzzzzzzz: 1 }"), ", ")
		for _, part := range []string{"tls", "sasl", "schema_registry", "schema_registry.tls"} {
			open := strings.ReplaceAll(part, ".", ": { ")
			for _, name := range strings.Split(known("{ "+open+": { zzzzzzzz: 1 "+strings.Repeat("} ", strings.Count(open, "{"))+"} }"), ", ") {
				got = append(got, part+"."+name)
			}
		}
		for _, hidden := range []string{"sasl.password", "sasl.token"} { // named only to be refused
			got = slices.DeleteFunc(got, func(s string) bool { return s == hidden })
		}
		slices.Sort(got)
		slices.Sort(spec)
		if !slices.Equal(got, spec) {
			t.Errorf("%s\nthe decoder knows %v\nthe spec %v", v.Name, got, spec)
		}
	}
}

// Examples of the specs pass lint, within a pipeline.
func TestKafkaExamplesAreClean(t *testing.T) {
	const buffer = `
buffer:
  detect:
    name: example
    state: ./state/example
    streams: { logins: { match: { topic: logins }, time: { field: _timestamp, format: epoch_ms } } }
    operators: { n: { window: { from: logins, tumbling: 20s, key: [_key, _headers.host], aggregate: { n: count } } } }
`
	t.Setenv("KAFKA_PASSWORD", "x")
	for _, v := range kafkaViews(t) {
		if len(v.Examples) == 0 {
			t.Errorf("%s has no example", v.Name)
		}
		for _, e := range v.Examples {
			text := e.Config + buffer + "output:\n  file_rows: { path: ./out/example.jsonl }\n"
			if v.Type == "output" {
				text = "input:\n  file_lines: { paths: [x] }\n" + buffer + e.Config
			}
			if _, found := Check("example.yaml", []byte(text)); len(found) > 0 {
				t.Errorf("%s\n%v", text, found)
			}
		}
	}
}

// What Benthos parses is what the decoder reads from the file.
func TestKafkaConfig(t *testing.T) {
	const text = `
seed_brokers: [a:9092, "b:9093"]
topics: [logins, ids]
partitions: [0, 3]
start: 2026-03-02T08:00:00Z
until: end
on_lost: latest
consumer_group: g
max_record: 2KiB
tls: { enabled: true, ca_file: ca.pem, server_name: kafka }
sasl: { mechanism: SCRAM-SHA-512, username: u, password_env: KAFKA_PASSWORD }
`
	parsed, err := kafkaRecordsSpec().ParseYAML(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := newKafkaRecords(parsed, service.MockResources())
	if err != nil {
		t.Fatal(err)
	}
	got := in.conf
	got.Log = kafka.Log{}
	want := kafka.Input{Cluster: kafka.Cluster{Seeds: []string{"a:9092", "b:9093"}, TLS: &kafka.TLS{CAFile: "ca.pem", ServerName: "kafka"},
		SASL: &kafka.SASL{Mechanism: "SCRAM-SHA-512", User: "u", Secret: kafka.Secret{Env: "KAFKA_PASSWORD"}}},
		Topics: []string{"logins", "ids"}, Share: kafka.Share{List: []int32{0, 3}}, Start: kafka.Start(time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC).UnixMilli()),
		UntilEnd: true, Lost: "latest", Group: "g", RecordMax: 2048}
	if a, b := shownJSON(t, got), shownJSON(t, want); a != b {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	parsed, err = kafkaRecordsSpec().ParseYAML("seed_brokers: [a:9092]\ntopics: [logins]\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if in, err = newKafkaRecords(parsed, service.MockResources()); err != nil {
		t.Fatal(err)
	}
	if c := in.conf; c.TLS != nil || c.SASL != nil || c.Start != kafka.Earliest || c.UntilEnd || c.Lost != "stop" || c.Group != "" || c.RecordMax != 1<<20 || c.Share.N != 0 || c.Share.List != nil {
		t.Errorf("%+v", c)
	}
}

func shownJSON(t *testing.T, in kafka.Input) string {
	t.Helper()
	b, err := json.Marshal(struct {
		kafka.Input
		Log any
	}{Input: in})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The record of a row: metadata as headers, the result id or a column as key.
func TestKafkaRowsRecord(t *testing.T) {
	for _, c := range []struct{ key, payload, want string }{
		{"", `{"ip":"10.0.0.1"}`, "ID"},
		{"ip", `{"ip":"10.0.0.\u0031","n":7}`, "10.0.0.1"},
		{"n", `{"ip":"10.0.0.1","n":7}`, "7"},
		{"n", `{"n":null}`, "ID"},
		{"missing", `{"n":7}`, "ID"},
		{"n", `not json`, "ID"},
		{"n", `{"n":""}`, ""},
	} {
		o := &kafkaRows{conf: kafkaRowsConfig{key: c.key}}
		msg := service.NewMessage([]byte(c.payload))
		for _, kv := range [][2]string{{"result_id", "ID"}, {"operator", "o"}, {"kind", "row"}, {"revision", "0"}, {"event_time_ms", "5"}, {"of_benthos", "x"}} {
			msg.MetaSetMut(kv[0], kv[1])
		}
		r, err := o.row(msg)
		var headers []string
		for _, h := range r.Headers {
			headers = append(headers, h.Name+"="+string(h.Value))
		}
		if err != nil || string(r.Key) != c.want || r.Key == nil || string(r.Value) != c.payload || strings.Join(headers, " ") != "operator=o kind=row result_id=ID revision=0 event_time_ms=5" {
			t.Errorf("%+v: key %q, headers %v, %v", c, r.Key, headers, err)
		}
	}
}

// Without a detect buffer the input says that it needs one, and what no retry mends ends the process.
func TestKafkaWithoutDetect(t *testing.T) {
	parsed, err := kafkaRecordsSpec().ParseYAML("seed_brokers: [a:9092]\ntopics: [logins]\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := newKafkaRecords(parsed, service.MockResources())
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Connect(context.Background()); !errors.Is(err, service.ErrEndOfInput) || in.link.run.Failure() == nil || !strings.Contains(in.link.run.Failure().Error(), "needs a `detect` buffer") {
		t.Errorf("%v, %v", err, in.link.run.Failure())
	}
	if err := in.Close(context.Background()); err != nil {
		t.Error(err)
	}
}
