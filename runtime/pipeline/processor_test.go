package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"
)

// judged runs messages through a processor `detect`.
func judged(t *testing.T, conf string, lines ...string) service.MessageBatch {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	parsed, err := service.NewConfigSpec().Field(service.NewAnyField("")).ParseYAML(conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newProcessor(parsed, service.MockResources())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	var batch service.MessageBatch
	for _, l := range lines {
		m := service.NewMessage([]byte(l))
		m.MetaSetMut("topic", "processes")
		batch = append(batch, m)
	}
	out, err := p.ProcessBatch(context.Background(), batch)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range batch { // which another output may have, too
		if b, _ := m.AsBytes(); string(b) != lines[i] || m.GetError() != nil || meta(m, "detect_rules")+meta(m, "kind") != "" {
			t.Errorf("message %d was changed", i)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out[0]
}

const (
	encoded  = `{"@timestamp":"2026-03-02T08:00:00Z","process":{"command_line":"powershell -enc SQBFAFgASQBFAFgASQBF"},"host":{"name":"web1"}}`
	harmless = `{"@timestamp":"2026-03-02T08:00:01Z","process":{"command_line":"powershell -File a.ps1"}}`
	another  = `{"@timestamp":"2026-03-02T08:00:02Z","login":"x"}`
)

func meta(m *service.Message, key string) string {
	v, _ := m.MetaGet(key)
	return v
}

func TestProcessorAnnotates(t *testing.T) {
	out := judged(t, `
plugins:
  - module: ../../plugins/encoded_powershell/encoded_powershell.wasm
  - module: ../../plugins/encoded_powershell/encoded_powershell.wasm
    rules: { "1": { severity: critical, except: { host.name: web2 } } }
  - module: ../../plugins/encoded_powershell/encoded_powershell.wasm
    where: { host.name: web9 }
`, encoded, harmless, another, "no json")
	if len(out) != 4 {
		t.Fatalf("%d messages", len(out))
	}
	for i, want := range []string{"tocsin.encoded-powershell/1 critical 2", "  ", "  ", "  "} {
		got := fmt.Sprintf("%s %s %s", meta(out[i], "detect_rules"), meta(out[i], "detect_severity"), meta(out[i], "detect_count"))
		if got != want || meta(out[i], "topic") != "processes" {
			t.Errorf("message %d: %q, not %q", i, got, want)
		}
		if err := out[i].GetError(); (err != nil) != (i == 3) || i == 3 && !strings.Contains(err.Error(), "bad_json") {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if b, _ := out[0].AsBytes(); string(b) != encoded {
		t.Errorf("changed to %s", b)
	}
}

func TestProcessorAlerts(t *testing.T) {
	conf := `
on_hit: alert
time: { field: "@timestamp" }
plugins: [ { module: ../../plugins/encoded_powershell/encoded_powershell.wasm } ]
`
	out := judged(t, conf, harmless, encoded, another)
	if len(out) != 1 {
		t.Fatalf("%d messages", len(out))
	}
	var a struct {
		Title, Severity, Time string
		Entities              []struct{ Type, Value string }
		Events                []json.RawMessage
		Row                   map[string]any
	}
	b, _ := out[0].AsBytes()
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if a.Title != "Encoded PowerShell command on web1" || a.Severity != "high" || a.Time != "2026-03-02T08:00:00.000Z" || len(a.Entities) != 2 || len(a.Events) != 1 || string(a.Events[0]) != encoded ||
		a.Row["host.name"] != "web1" || a.Row["rule_id"] != 1.0 {
		t.Errorf("%s", b)
	}
	again := judged(t, conf, encoded)
	if meta(out[0], "kind") != "alert" || meta(out[0], "result_id") == "" || meta(out[0], "result_id") != meta(again[0], "result_id") || meta(out[0], "event_time_ms") != "1772438400000" {
		t.Errorf("%q, %q", meta(out[0], "result_id"), meta(again[0], "result_id"))
	}
	if none := judged(t, conf, harmless); none != nil {
		t.Errorf("%d messages", len(none))
	}
}

func TestProcessorFaults(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for conf, want := range map[string]string{
		"{}":                                "1:1 detect needs plugins",
		"{plugins: [{module: none.wasm}]}":  "no such file",
		"{plugins: [{modul: none.wasm}]}":   `unknown key "modul"`,
		"{on_hit: alert, plugins: []}":      "on_hit: alert needs time",
		"{on_hit: both, plugins: [{}]}":     "on_hit must be annotate or alert",
		"{plugins: [{from: x, module: y}]}": `unknown key "from"`,

		"{plugins: [{module: ../../plugins/label_entropy/label_entropy.wasm}]}": "label_entropy.wasm has the role map; the processor detect takes plugins that detect",
	} {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(conf), &n); err != nil {
			t.Fatal(err)
		}
		_, problems := decodeProcessor(n.Content[0])
		var all []string
		for _, p := range problems {
			all = append(all, fmt.Sprintf("%d:%d %s", p.Line, p.Column, p.Text))
		}
		if !strings.Contains(strings.Join(all, "\n"), want) {
			t.Errorf("%s: %q; want %s", conf, all, want)
		}
	}
	_, found := Check("x.yaml", []byte("input: { stdin: {} }\npipeline:\n  processors:\n    - detect:\n        plugins: [ { module: none.wasm } ]\noutput: { drop: {} }\n"))
	if len(found) != 1 || found[0].Line != 5 || found[0].Column != 30 {
		t.Errorf("%v", found)
	}
}
