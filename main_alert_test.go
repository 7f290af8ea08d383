package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// alertsOf runs operators over a stream `in` of lines and returns the newest revision of each alert, by operator and title.
func alertsOf(t *testing.T, lines []string, operators string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	log, rows, pipeline := filepath.Join(dir, "in.jsonl"), filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "p.yaml")
	text := fmt.Sprintf("input: { file_lines: { paths: [%s] } }\nbuffer:\n  detect:\n    name: alerts\n    state: %s\n    streams: { in: { time: { field: t, format: epoch_s } } }\n    operators:\n%s\noutput: { file_rows: { path: %s } }\n",
		log, filepath.Join(dir, "state"), operators, rows)
	for path, data := range map[string]string{log: strings.Join(lines, "\n") + "\n", pipeline: text} {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(build(t), "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := map[string]string{}
	for _, line := range byID(t, rows) {
		var r struct {
			Title  string
			Tocsin struct {
				Operator, Kind string
				Revision       int
			} `json:"_tocsin"`
			Severity          string
			RiskScore         int `json:"risk_score"`
			Count, Suppressed int
			Events            []json.RawMessage
			Truncated         bool
			Row               map[string]json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Tocsin.Kind == "row" && strings.Contains(line, "events") {
			t.Errorf("the events are in the row: %s", line)
		}
		if r.Tocsin.Kind != "alert" {
			continue
		}
		var shown []string
		for _, e := range r.Events {
			var x struct{ N json.Number }
			if err := json.Unmarshal(e, &x); err != nil || !slices.Contains(lines, string(e)) {
				t.Fatalf("%v: %s is no event, in %s", err, e, line)
			}
			shown = append(shown, string(x.N))
		}
		more := ""
		if r.Truncated {
			more = " and more"
		}
		found[r.Tocsin.Operator+" "+r.Title] = fmt.Sprintf("%s %d, %d of %d held, events %s%s, row of %d", r.Severity, r.RiskScore, r.Suppressed, r.Count, strings.Join(shown, " "), more, len(r.Row))
	}
	return found
}

// The alerts of windows, joins and sequences show the events that they are asked for and no others; those of filters and plugins theirs.
func TestEventsOfAlerts(t *testing.T) {
	var lines []string
	for i, kind := range []string{"a", "b", "a", "a", "b", "c", "a"} {
		lines = append(lines, fmt.Sprintf(`{"t":%d,"n":%d,"kind":"%s","key":"x","user":"u%d"}`, 1_772_000_000+10*i, i, kind, i%2))
	}
	got := alertsOf(t, lines, `
      counts: { window: { from: in, tumbling: 100s, key: key, aggregate: { m: count, some: { collect: n, max: 20 } } }, alert: { title: "{m}", events: 3 } }
      all: { window: { from: in, tumbling: 100s, key: key, aggregate: { m: count } }, alert: { title: "{m}", events: 7 } }
      none: { window: { from: in, tumbling: 100s, key: key, aggregate: { m: count } }, alert: { title: "{m}" } }
      early: { window: { from: in, hopping: { size: 60s, slide: 30s }, key: key, aggregate: { m: count }, having: { m|gte: 3 }, emit: first }, alert: { title: "{window_start}", events: 2 } }
      stays: { window: { from: bs, session: { gap: 20s }, key: key, aggregate: { m: count } }, alert: { title: "{m} at {window_start}", events: 2 } }
      bs: { filter: { from: in, where: { kind: b } }, alert: { title: "{n}" } }
      as: { filter: { from: in, where: { kind: a } } }
      pairs: { join: { left: bs, right: as, on: key, within: 10s, select: { b: bs.n, a: as.n } }, alert: { title: "{b} {a}", events: 2 } }
      lone: { join: { left: bs, right: as, on: key, within: 15s, type: semi, select: { b: bs.n } }, alert: { title: "{b}", events: 2 } }
      first: { join: { left: bs, right: as, on: key, within: 10s, select: { b: bs.n, a: as.n } }, alert: { title: "{b} {a}", events: 1 } }
      steps:
        sequence: { by: key, within: 1m, steps: [ { from: in, as: one, where: { kind: b } }, { from: in, as: two, where: { kind: a } }, { from: in, as: three, where: { kind: b } } ], select: { from: one.n, to: three.n } }
        alert: { title: "{from} to {to}", events: 3 }
      two_steps:
        sequence: { by: key, within: 1m, steps: [ { from: in, as: one, where: { kind: b } }, { from: in, as: two, where: { kind: a } }, { from: in, as: three, where: { kind: b } } ], select: { from: one.n, to: three.n } }
        alert: { title: "{from} to {to}", events: 2 }
      grouped: { filter: { from: in, where: { kind: a } }, alert: { title: "{n}", events: 3, group: { key: key, gap: 20s } } }`)
	want := map[string]string{
		"counts 7": "medium 50, 0 of 1 held, events 0 1 2 and more, row of 5", "all 7": "medium 50, 0 of 1 held, events 0 1 2 3 4 5 6, row of 4", "none 7": "medium 50, 0 of 1 held, events , row of 4",
		"early 2026-02-25T06:13:00.000Z": "medium 50, 0 of 1 held, events 0 1 and more, row of 4", "early 2026-02-25T06:13:30.000Z": "medium 50, 0 of 1 held, events 1 2 and more, row of 4",
		"early 2026-02-25T06:14:00.000Z":      "medium 50, 0 of 1 held, events 4 5 and more, row of 4",
		"stays 1 at 2026-02-25T06:13:30.000Z": "medium 50, 0 of 1 held, events 1, row of 4", "stays 1 at 2026-02-25T06:14:00.000Z": "medium 50, 0 of 1 held, events 4, row of 4",
		"bs 1": "medium 50, 0 of 1 held, events 1, row of 2", "bs 4": "medium 50, 0 of 1 held, events 4, row of 2",
		"pairs 1 0": "medium 50, 0 of 1 held, events 1 0, row of 2", "pairs 1 2": "medium 50, 0 of 1 held, events 1 2, row of 2", "pairs 4 3": "medium 50, 0 of 1 held, events 4 3, row of 2",
		"lone 1": "medium 50, 0 of 1 held, events 1, row of 1", "lone 4": "medium 50, 0 of 1 held, events 4, row of 1",
		"first 1 0": "medium 50, 0 of 1 held, events 1 and more, row of 2", "first 1 2": "medium 50, 0 of 1 held, events 1 and more, row of 2", "first 4 3": "medium 50, 0 of 1 held, events 4 and more, row of 2",
		"steps 1 to 4": "medium 50, 0 of 1 held, events 1 2 4, row of 2", "two_steps 1 to 4": "medium 50, 0 of 1 held, events 1 2 and more, row of 2",
		"grouped 0": "medium 50, 0 of 3 held, events 0 2 3, row of 2", "grouped 6": "medium 50, 0 of 1 held, events 6, row of 2",
	}
	sameMap(t, got, want)
}

// Rules of plugins are held each by itself; what is more severe says so at once, and its score goes up with it.
func TestHeldAlertsOfPlugins(t *testing.T) {
	var lines []string
	for i, n := range []int{5, 6, 25, 5, 120} {
		lines = append(lines, fmt.Sprintf(`{"t":%d,"n":%d,"login_attempts":%d,"source_ip":"10.0.0.%d"}`, 1_772_000_000+10*i, i, n, 1+i/4))
	}
	got := alertsOf(t, lines, `
      held: { plugin: { from: in, module: plugins/brute_force/brute_force.wasm, config: { threshold: 5 }, suppress: { key: source_ip, for: 1h } } }
      rule: { plugin: { from: in, module: plugins/brute_force/brute_force.wasm, config: { threshold: 5 }, suppress: { for: 1s }, rules: { "1": { group: { gap: 1h, key: source_ip }, events: 2 } } } }`)
	for title, text := range got {
		delete(got, title)
		operator, rest, _ := strings.Cut(title, " ")
		address := "10.0.0.1"
		if strings.Contains(rest, "10.0.0.2") {
			address = "10.0.0.2"
		}
		text, _, _ = strings.Cut(text, ", row")
		got[operator+" "+address] = text
	}
	sameMap(t, got, map[string]string{
		"held 10.0.0.1": "high 75, 3 of 4 held, events 0 and more", "held 10.0.0.2": "critical 95, 0 of 1 held, events 4",
		"rule 10.0.0.1": "high 75, 0 of 4 held, events 0 1 and more", "rule 10.0.0.2": "critical 95, 0 of 1 held, events 4"})
}

func sameMap(t *testing.T, got, want map[string]string) {
	t.Helper()
	for key := range want {
		if got[key] != want[key] {
			t.Errorf("%s: %q, not %q", key, got[key], want[key])
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s: %q is more than expected", key, got[key])
		}
	}
}

// A risk by a field, by roles and by types; an alert that names an entity twice counts once for it. Windows that are revised raise their
// alert in the end, when they may be held.
func TestWhoseRisk(t *testing.T) {
	var lines []string
	for i := range 6 {
		lines = append(lines, fmt.Sprintf(`{"t":%d,"n":%d,"user":"u%d","src":"10.0.0.%d","dst":"10.0.0.1","team":"t%d"}`, 1_772_000_000+10*i, i, i%2, 1+i%3, i/3))
	}
	lines = append(lines, `{"t":1772000025,"n":6,"user":"u0","src":"10.0.0.9","dst":"10.0.0.8","team":"t0"}`, `{"t":1772009999,"n":7,"user":"u0","src":"10.0.0.9","dst":"10.0.0.8","team":"t9"}`)
	got := alertsOf(t, lines, `
      hits:
        filter: { from: in, where: { n|lt: 7 } }
        alert: { title: "{n}", risk_score: 40, entities: [ { field: user, type: user }, { field: src, type: ip, role: source }, { field: dst, type: ip, role: target } ], suppress: { for: 1h } }
      by_field: { risk: { from: hits, field: team, type: host, threshold: 100, half_life: 3650d }, alert: { title: "{entity_type} {entity} {score} {alerts}" } }
      by_role: { risk: { from: hits, by: ip, roles: source, threshold: 70, half_life: 3650d }, alert: { title: "{entity_type} {entity} {score} {alerts}" } }
      by_type: { risk: { from: hits, by: [ip], threshold: 160, half_life: 3650d, again_after: 10s }, alert: { title: "{entity_type} {entity} {score} {alerts}", risk_score: 1 } }
      anew: { risk: { from: hits, by: user, threshold: 80, half_life: 3650d, reset: true }, alert: { title: "{entity_type} {entity} {score} {alerts}" } }
      revised:
        window: { from: in, tumbling: 30s, allowed_lateness: 1m, key: user, aggregate: { m: count }, having: { m|gte: 2 } }
        alert: { title: "{user} {m}", suppress: { key: user, for: 10m } }`)
	shown := map[string]string{}
	for title, text := range got {
		score := strings.Fields(text)[1]
		if _, held, _ := strings.Cut(text, ", "); strings.HasPrefix(title, "revised") {
			score = strings.Split(held, ",")[0]
		}
		if !strings.HasPrefix(title, "hits") {
			shown[title] = strings.TrimSuffix(score, ",")
		}
	}
	sameMap(t, shown, map[string]string{
		"by_field host t0 120 3": "100", "by_field host t1 120 3": "100",
		"by_role ip 10.0.0.1 80 2": "80", "by_role ip 10.0.0.2 80 2": "80", "by_role ip 10.0.0.3 80 2": "80",
		"by_type ip 10.0.0.1 200 5": "1", "by_type ip 10.0.0.1 240 6": "1",
		"anew user u0 120 3": "100", "anew user u1 120 3": "100",
		"revised u0 2": "0 of 1 held", "revised u1 2": "0 of 1 held",
	})
}
