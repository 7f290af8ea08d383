package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/kafka"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// decodedDetect is a `detect` buffer from its YAML.
func decodedDetect(t testing.TB, text string) *Config {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	conf, problems := DecodeDetect(n.Content[0])
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return conf
}

func startEngine(t testing.TB, conf *Config, opt engine.Options) *engine.Runner {
	t.Helper()
	store, err := state.Open(state.Options{Dir: filepath.Join(t.TempDir(), "s"), Pipeline: conf.Spec.Name})
	if err != nil {
		t.Fatal(err)
	}
	run, err := engine.Start(conf.Spec, store, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run.Close()
		store.Close()
	})
	return run
}

// linesBlock is a block of lines of a partition, from line number at on.
func linesBlock(path string, at int, lines []string) *event.Block {
	b := &event.Block{Partition: path, Meta: map[string]string{"path": path}}
	for i, line := range lines {
		from := uint32(len(b.Data))
		b.Data = append(b.Data, line...)
		b.Lines = append(b.Lines, event.Line{Off: int64(at + i), Next: int64(at + i + 1), Start: from, End: uint32(len(b.Data))})
	}
	return b
}

func announced(path string) *event.Block {
	return &event.Block{Partition: path, Meta: map[string]string{"path": path}, Mark: event.Announce}
}

// drained takes rows until the end, and counts them by kind and operator.
func drained(t testing.TB, run *engine.Runner, take func(o *engine.Out)) {
	t.Helper()
	for {
		rows, err := run.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range rows {
			take(o)
		}
		run.Settle(rows, nil)
	}
}

const monitored = `
name: watched
state: s
streams: { s: { match: { path: "*" }, time: { field: t, format: epoch_ms } } }
operators:
  few: { filter: { from: s, where: { user|startswith: s3cret-1 } }, alert: { title: "{user}" } }
  shells: { plugin: { from: s, where: { cmd|exists: true }, module: ../../plugins/encoded_powershell/encoded_powershell.wasm, fields: { process.command_line: cmd } } }
  broken: { plugin: { from: s, module: ../wasm/testdata/hostile.wasm, fields: { a: user }, config: { do: 8 }, on_failure: skip } }
  held: { filter: { from: s, where: { user: s3cret-3 } }, alert: { title: one, suppress: { key: user, for: 1h } } }
`

func get(t *testing.T, m *Monitor, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(m).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// scraped parses what Prometheus would get: the sum of each family's values that have the labels, by name.
func scraped(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func sumOf(f *dto.MetricFamily, labels ...string) (sum float64, series int) {
	for _, m := range f.GetMetric() {
		fits := true
		for i := 0; i < len(labels); i += 2 {
			found := false
			for _, l := range m.Label {
				found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
			}
			fits = fits && found
		}
		if fits {
			series++
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum, series
}

// What /metrics and /stats say is what went in and came out, under names as Prometheus wants them; before there is a run, and when its
// input has ended, it is not ready.
func TestMonitor(t *testing.T) {
	conf := decodedDetect(t, monitored)
	var run *engine.Runner
	m := &Monitor{runner: func() *engine.Runner { return run }, fails: func() error { return nil }, lags: func() []kafka.Lag { return []kafka.Lag{{Topic: "logins", Partition: 3, Records: 41}} },
		detect: true, now: time.Now}
	for path, want := range map[string]int{"/ready": 503, "/live": 200, "/stats": 503, "/metrics": 200, "/other": 404} {
		if code, body := get(t, m, path); code != want {
			t.Errorf("before: %s answers %d %s", path, code, body)
		}
	}
	run = startEngine(t, conf, engine.Options{Shards: 2, BlockRows: 100})
	if code, body := get(t, m, "/ready"); code != 200 {
		t.Errorf("/ready answers %d %s", code, body)
	}
	const lines = 2000
	var all []string
	few, shells, bad := 0.0, 0.0, 0.0
	for i := range lines {
		line := fmt.Sprintf(`{"t":%d,"user":"s3cret-%d"}`, 1_772_000_000_000+i, i%10)
		if i%10 == 1 {
			few++
		}
		switch i % 50 {
		case 7:
			line = fmt.Sprintf(`{"t":%d,"user":"s3cret-2","cmd":"powershell -enc SQBFAFgASQBFAFgASQBFAFgA"}`, 1_772_000_000_000+i)
			shells++
		case 8:
			line, bad = `{"broken`, bad+1
		}
		all = append(all, line)
	}
	run.Push(announced("f"))
	run.Push(linesBlock("f", 0, all))
	got := map[string]float64{}
	run.Push(&event.Block{Partition: "f", Meta: map[string]string{"path": "f"}, Mark: event.Finished})
	run.End(true)
	revisions := int64(0)
	drained(t, run, func(o *engine.Out) {
		got[o.Kind+" "+o.Operator]++
		if o.Operator == "held" {
			revisions = max(revisions, o.Revision)
		}
	})
	if code, body := get(t, m, "/ready"); code != 503 {
		t.Errorf("after the end /ready answers %d %s", code, body)
	}
	_, text := get(t, m, "/metrics")
	f := scraped(t, text)
	check := func(want float64, name string, labels ...string) {
		t.Helper()
		if v, n := sumOf(f["tocsin_"+name], labels...); v != want || n != 1 {
			t.Errorf("%s%v is %v (%d series), not %v", name, labels, v, n, want)
		}
	}
	rows := lines - bad
	check(lines, "records_total")
	check(rows, "stream_records_total", "stream", "s")
	check(bad, "errors_total", "reason", "not_json")
	check(few, "operator_rows_total", "operator", "few", "kind", "filter")
	check(got["alert few"], "operator_alerts_total", "operator", "few")
	// The first alert, and at the end its revision; an epoch that has both sends the newest alone.
	check(2, "operator_alerts_total", "operator", "held")
	if sent := got["alert held"]; revisions != 1 || sent < 1 || sent > 2 {
		t.Errorf("%v alerts were sent, to revision %d", sent, revisions)
	}
	check(rows, "operator_source_rows_total", "operator", "shells")
	check(shells, "operator_taken_rows_total", "operator", "shells")
	check(shells, "rule_hits_total", "rule", "tocsin.encoded-powershell/1")
	check(shells, "plugin_rows_total", "operator", "shells", "plugin", "tocsin.encoded-powershell")
	check(41, "kafka_lag_records", "topic", "logins", "partition", "3")
	poisoned, _ := sumOf(f["tocsin_plugin_poisoned_rows_total"], "operator", "broken")
	unjudged, _ := sumOf(f["tocsin_plugin_unjudged_rows_total"], "operator", "broken")
	if judged, _ := sumOf(f["tocsin_plugin_rows_total"], "operator", "broken"); poisoned+unjudged != rows || judged != poisoned || poisoned != got["error broken"] {
		t.Errorf("%v rows: %v poisoned, %v unjudged, %v judged, %v said", rows, poisoned, unjudged, judged, got["error broken"])
	}
	if traps, n := sumOf(f["tocsin_plugin_failures_total"], "operator", "broken"); traps == 0 || n != 1 {
		t.Errorf("%v failures of %d kinds", traps, n)
	}
	if off, _ := sumOf(f["tocsin_plugin_off"], "operator", "broken"); off != 1 {
		t.Error("the broken plugin is not off")
	}
	check(1, "plugin_openings_total", "operator", "broken")
	check(0, "plugin_openings_total", "operator", "shells")
	if commits, _ := sumOf(f["tocsin_commit_seconds"]); commits == 0 {
		t.Error("no commits")
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "tocsin_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if err != nil {
		t.Error(err)
	}
	code, stats := get(t, m, "/stats")
	var doc statsDoc
	if err := json.Unmarshal([]byte(stats), &doc); err != nil || code != 200 || doc.Records != lines || doc.Operators[2].Plugin == nil || doc.Outbox.Rows != 0 || len(doc.Top) != 5 {
		t.Errorf("%v: %s", err, stats)
	}
	if strings.Contains(text+stats, "s3cret") {
		t.Error("a row shows")
	}
	if _, top := get(t, m, "/stats?top"); strings.Count(top, "\n") != 6 {
		t.Errorf("top: %s", top)
	}
}

// A partition whose records have come to another schema is in all answers, with the reason.
func TestMonitorStopped(t *testing.T) {
	run := startEngine(t, decodedDetect(t, `
name: stopped
state: unused
streams: { s: { format: avro, time: { field: t, format: epoch_ms }, fields: { n: int } } }
operators: { all: { filter: { from: s, where: { n|gte: 0 } } } }
`), engine.Options{})
	m := &Monitor{runner: func() *engine.Runner { return run }, fails: func() error { return nil }, lags: func() []kafka.Lag { return nil }, detect: true, now: time.Now}
	run.Push(announced("logins/0"))
	b := linesBlock("logins/0", 7, []string{"\x00\x00\x00\x00\x01\x02\x04", "\x00\x00\x00\x00\x02\x02\x02x"})
	b.Live = true
	b.Schemas = func(id uint32) (*event.Schema, error) {
		kind := map[uint32]string{1: "long", 2: "string"}[id]
		return event.NewSchema(int(id), event.KindAvro, `{"type":"record","name":"R","fields":[{"name":"t","type":"long"},{"name":"n","type":"`+kind+`"}]}`, nil), nil
	}
	if code, body := get(t, m, "/ready"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	run.Push(b)
	for len(run.Halts()) == 0 {
		time.Sleep(time.Millisecond)
	}
	const why = "schema 2 does not fit the stream: field n is declared to be of type int, and is string there"
	if code, body := get(t, m, "/ready"); code != 503 || !strings.HasPrefix(body, "partitions that have stopped: 1; logins/0 stops at position 8: "+why) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := get(t, m, "/live"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	_, text := get(t, m, "/metrics")
	if v, n := sumOf(scraped(t, text)["tocsin_stopped_partitions"]); v != 1 || n != 1 {
		t.Errorf("%v, %d series", v, n)
	}
	_, stats := get(t, m, "/stats")
	var doc statsDoc
	if err := json.Unmarshal([]byte(stats), &doc); err != nil || doc.Ready || len(doc.Stopped) != 1 || doc.Stopped[0] != (haltDoc{"logins/0", 8, why}) {
		t.Errorf("%v: %s", err, stats)
	}
}

// A loop that does not turn is not alive; one without anything to do turns.
func TestLive(t *testing.T) {
	var run *engine.Runner
	clock := time.Now
	m := &Monitor{runner: func() *engine.Runner { return run }, fails: func() error { return nil }, lags: func() []kafka.Lag { return nil }, now: func() time.Time { return clock() }}
	run = startEngine(t, decodedDetect(t, monitored), engine.Options{})
	if code, body := get(t, m, "/live"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	clock = func() time.Time { return run.Turned().Add(turnsWithin + time.Hour) }
	if code, body := get(t, m, "/live"); code != 503 || !strings.Contains(body, "has not gone on for 1h1m") {
		t.Errorf("%d %s", code, body)
	}
	m.fails = func() error { return errors.New("password=x") }
	if code, body := get(t, m, "/ready"); code != 503 || strings.Contains(body, "password") {
		t.Errorf("%d %s", code, body)
	}
}

// However many operators, rules and partitions there are, there are at most so many series, and nothing is lost from their sums.
func TestSeriesAreBounded(t *testing.T) {
	rep := &engine.Report{Pipeline: "p", At: time.Now(), Errors: map[string]int64{"bad_json": 1}, Streams: []engine.StreamReport{{Name: "s", Watermark: 5000}}}
	const n = 3 * seriesMax
	var lags []kafka.Lag
	for i := range n {
		o := engine.OperatorReport{Name: fmt.Sprint("o", i), Kind: "plugin", Seen: 2, Time: time.Second, Plugin: &engine.PluginReport{Name: "p", Rules: []engine.RuleReport{{ID: 1, Name: "p/1", Hits: 3}}}}
		o.Plugin.Counts.Faults[0] = 1
		rep.Operators = append(rep.Operators, o)
		lags = append(lags, kafka.Lag{Topic: "t", Partition: int32(i), Records: 1})
	}
	m := &Monitor{runner: func() *engine.Runner { return nil }, fails: func() error { return nil }, lags: func() []kafka.Lag { return lags }, now: time.Now, last: rep}
	_, text := get(t, m, "/metrics")
	f := scraped(t, text)
	for name, want := range map[string]float64{"operator_source_rows_total": 2 * n, "rule_hits_total": 3 * n, "kafka_lag_records": n, "plugin_failures_total": n} {
		if v, series := sumOf(f["tocsin_"+name]); v != want || series != seriesMax+1 {
			t.Errorf("%s: %v in %d series", name, v, series)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}

// Every metric is in the documentation, with its labels and what it means.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/watching.md")
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`fqName: "(\w+)", help: "([^"]+)", constLabels: \{\}, variableLabels: \{([\w,]*)\}`)
	for _, d := range everyOne {
		m := form.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%s", d)
		}
		labels := ""
		if m[3] != "" {
			labels = "`" + strings.ReplaceAll(m[3], ",", "`, `") + "`"
		}
		if line := fmt.Sprintf("| `%s` | %s | %s |", m[1], labels, m[2]); !strings.Contains(string(doc), line) {
			t.Errorf("docs/watching.md lacks %s", line)
		}
	}
}
