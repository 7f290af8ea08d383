package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	prom "github.com/prometheus/common/model"
	"github.com/twmb/franz-go/pkg/kgo"
	"gopkg.in/yaml.v3"
)

const monitoredYAML = `
input: { kafka_records: { seed_brokers: ["BROKER"], topics: [logins] } }
buffer:
  detect:
    name: monitored
    state: DIR/state
    http: 127.0.0.1:0
    streams: { logins: { time: { field: t }, watermark: { idle_timeout: 100ms } } }
    operators:
      many: { plugin: { from: logins, module: plugins/brute_force/brute_force.wasm, fields: { login_attempts: n } } }
output: { file_rows: { path: DIR/out.jsonl } }
`

// exposed is what a metric is: counter, gauge or histogram, and its labels.
type exposed struct {
	kind   string
	labels map[string]bool
}

// exposedMetrics runs a pipeline with an input, a rule and an error of each kind, and reads its /metrics, by the names that queries use.
func exposedMetrics(t *testing.T) map[string]exposed {
	t.Helper()
	binary, dir, broker := build(t), t.TempDir(), fakeBroker(t)
	client := kafkaClient(t, broker, "logins")
	for _, v := range []string{`{"t":"2026-03-02T08:00:00Z","n":50}`, `{"t":"2026-03-02T08:00:01Z","n":1}`, `no event`} {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "logins", Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer("BROKER", broker, "DIR", dir).Replace(monitoredYAML)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", file)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	base := ""
	lines := bufio.NewScanner(said)
	for base == "" && lines.Scan() {
		base = regexp.MustCompile(`http://[\d.:]+/`).FindString(lines.Text())
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	page := ""
	for end := time.Now().Add(time.Minute); !strings.Contains(page, "\ntocsin_sent_rows_total{pipeline=\"monitored\"} 3\n") || !strings.Contains(page, "tocsin_kafka_lag_records{") || !strings.Contains(page, "tocsin_stream_watermark_delay_seconds{"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no rows:\n%s", page)
		}
		if resp, err := http.Get(base + "metrics"); err == nil {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			page = string(b)
		}
	}
	parser := expfmt.NewTextParser(prom.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]exposed{}
	for name, f := range families {
		x := exposed{strings.ToLower(f.GetType().String()), map[string]bool{"instance": true, "job": true}} // which Prometheus adds
		for _, m := range f.Metric {
			for _, l := range m.Label {
				x.labels[l.GetName()] = true
			}
		}
		if x.kind != "histogram" {
			out[name] = x
			continue
		}
		x.labels["le"] = true
		out[name+"_bucket"] = exposed{"counter", x.labels}
		out[name+"_count"], out[name+"_sum"] = out[name+"_bucket"], out[name+"_bucket"]
	}
	out["up"] = exposed{"gauge", map[string]bool{"instance": true, "job": true}}
	return out
}

// The words of queries that are no metrics: functions of a counter over time, of a gauge over time, others, and those before a list of labels.
var (
	ofCounters = []string{"rate", "increase"}
	ofGauges   = []string{"deriv", "changes"}
	functions  = []string{"sum", "max", "topk", "histogram_quantile", "vector", "label_values"}
	beforeList = []string{"by"}
	joins      = []string{"and", "or"}
)

var queryToken = regexp.MustCompile(`[A-Za-z_:][A-Za-z0-9_:]*|"(?:[^"\\]|\\.)*"|\$\{?\w+\}?|\d+(?:\.\d+)?(?:e\d+)?[smhd]?|=~|!~|!=|==|>=|<=|[-+*/<>=(){}\[\],]|\S`)

// checkQuery says what is wrong with a query: names and labels that are not exposed, functions that do not suit, brackets without end. It gives the
// metrics that it reads, and the labels that its result has been reduced to, nil for all.
func checkQuery(query string, known map[string]exposed) (wrong, metrics []string, labels map[string]bool) {
	tokens := queryToken.FindAllString(query, -1)
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	var open []string
	var lists [][]string
	last := ""
	for i := 0; i < len(tokens); i++ {
		switch tok := tokens[i]; {
		case strings.Contains("({[", tok):
			open = append(open, tok)
		case strings.Contains(")}]", tok):
			if len(open) == 0 || map[string]string{"(": ")", "{": "}", "[": "]"}[open[len(open)-1]] != tok {
				say("a %s too many", tok)
				return wrong, metrics, labels
			}
			open = open[:len(open)-1]
		case len(open) > 0 && open[len(open)-1] == "{": // a label, an operator, a text
			if regexp.MustCompile(`^[A-Za-z_]\w*$`).MatchString(tok) && !known[last].labels[tok] {
				say("%s has no label %s", last, tok)
			}
		case !regexp.MustCompile(`^[A-Za-z_:][A-Za-z0-9_:]*$`).MatchString(tok):
		case slices.Contains(beforeList, tok):
			var list []string
			for i += 2; i < len(tokens) && tokens[i] != ")"; i++ {
				if tokens[i] != "," {
					list = append(list, tokens[i])
				}
			}
			lists = append(lists, list)
		case slices.Contains(joins, tok):
		case at(i+1) == "(" || slices.Contains(beforeList, at(i+1)):
			kind := ""
			switch {
			case slices.Contains(ofCounters, tok):
				kind = "counter"
			case slices.Contains(ofGauges, tok):
				kind = "gauge"
			case !slices.Contains(functions, tok):
				say("the test knows no function %s", tok)
			}
			if kind != "" && known[at(i+2)].kind != kind {
				say("%s of %s, which is a %s", tok, at(i+2), known[at(i+2)].kind)
			}
			if kind != "" && !strings.Contains(strings.Join(tokens[i:], ""), "[") {
				say("%s without a span", tok)
			}
		default:
			if last = tok; known[tok].kind == "" {
				if len(metrics) > 0 && known[metrics[len(metrics)-1]].labels[tok] && strings.HasPrefix(query, "label_values(") {
					continue
				}
				say("there is no metric %s", tok)
			}
			metrics = append(metrics, tok)
		}
	}
	if len(open) > 0 {
		say("%s is never closed", open[len(open)-1])
	}
	if len(metrics) == 0 {
		say("it reads nothing")
	}
	for _, list := range lists {
		labels = map[string]bool{}
		for _, l := range list {
			labels[l] = true
			if !slices.ContainsFunc(metrics, func(m string) bool { return known[m].labels[l] }) {
				say("none of %v has a label %s", metrics, l)
			}
		}
	}
	if labels == nil && len(metrics) > 0 && !regexp.MustCompile(`^(sum|max)\(`).MatchString(query) {
		labels = known[metrics[0]].labels
	}
	return wrong, metrics, labels
}

// A query that is wrong is found.
func TestCheckQuery(t *testing.T) {
	l := map[string]bool{"a": true}
	known := map[string]exposed{"n_total": {"counter", l}, "g": {"gauge", l}}
	for query, want := range map[string]string{
		`sum by (a) (rate(n_total{a="x"}[5m])) / sum(g)`: "",
		`n_totals > 0`:                  "there is no metric n_totals",
		`sum by (b) (g)`:                "none of [g] has a label b",
		`g{b=~"x"}`:                     "g has no label b",
		`rate(g[5m])`:                   "rate of g, which is a gauge",
		`deriv(n_total[5m])`:            "deriv of n_total, which is a counter",
		`rate(n_total)`:                 "rate without a span",
		`sum(g`:                         "( is never closed",
		`sum(g))`:                       "a ) too many",
		`median(g)`:                     "the test knows no function median",
		`1 + 2`:                         "it reads nothing",
		`label_values(g, a)`:            "",
		`label_values(g, c)`:            "there is no metric c",
		`g > 5 and n_total{a="x{"} > 1`: "",
	} {
		wrong, _, _ := checkQuery(query, known)
		if strings.Join(wrong, "; ") != want {
			t.Errorf("%s: %q, want %q", query, wrong, want)
		}
	}
}

// Every metric and label that Grafana's dashboard and Prometheus' rules speak of is one that a run exposes.
func TestMonitoring(t *testing.T) {
	known := exposedMetrics(t)
	legend := regexp.MustCompile(`\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}`)
	judge := func(what, query string, texts ...string) {
		t.Helper()
		query = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h").Replace(query)
		wrong, _, labels := checkQuery(query, known)
		for _, w := range wrong {
			t.Errorf("%s: %s: %s", what, query, w)
		}
		for _, text := range texts {
			for _, m := range legend.FindAllStringSubmatch(text, -1) {
				if !labels[m[1]] {
					t.Errorf("%s: %q speaks of %s, which %s does not have", what, text, m[1], query)
				}
			}
		}
	}
	var dash struct {
		UID        string
		Templating struct {
			List []struct {
				Name, Type, Definition string
				Query                  any
			}
		}
		Panels []struct {
			ID          int
			Type, Title string
			Datasource  struct{ Type, UID string }
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, LegendFormat, RefID string }
		}
	}
	if err := json.Unmarshal([]byte(text(t, "monitoring/grafana.json")), &dash); err != nil {
		t.Fatal(err)
	}
	ids, cells, queries := map[int]bool{}, map[[2]int]string{}, 0
	for _, p := range dash.Panels {
		if ids[p.ID] || p.Type != "row" && (p.Datasource.UID != "${datasource}" || p.Datasource.Type != "prometheus" || len(p.Targets) == 0) {
			t.Errorf("%+v", p)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if was := cells[[2]int{x, y}]; was != "" || x >= 24 {
					t.Fatalf("%s lies over %s, or out of the grid", p.Title, was)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		for _, q := range p.Targets {
			queries++
			judge("panel "+p.Title, q.Expr, q.LegendFormat)
		}
	}
	if len(dash.Templating.List) != 3 || dash.Templating.List[0].Name != "datasource" || dash.Templating.List[0].Type != "datasource" || dash.Templating.List[0].Query != "prometheus" || queries < 20 {
		t.Errorf("%+v, %d queries", dash.Templating, queries)
	}
	for _, v := range dash.Templating.List[1:] {
		judge("variable "+v.Name, v.Definition)
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(text(t, "monitoring/prometheus_rules.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&rules); err != nil || len(rules.Groups) != 1 {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range rules.Groups[0].Rules {
		if names[r.Alert] || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%+v", r)
		}
		if _, err := prom.ParseDuration(r.For); r.For != "" && err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
		names[r.Alert] = true
		judge("rule "+r.Alert, r.Expr, strings.ReplaceAll(r.Annotations["summary"], "{{ $value }}", ""))
	}
	if len(names) < 10 {
		t.Errorf("%v", names)
	}
}
