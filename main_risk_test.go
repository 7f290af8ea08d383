package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what pipelines/risk.yaml and pipelines/workstations.yaml say into testdata")

// action is an event of the sample logs of pipelines/risk.yaml and pipelines/workstations.yaml.
type action struct {
	Time                                              time.Time
	User, Host, Process, Command, IP, Country, Result string
}

func actions(t *testing.T, path string) (all []action) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var a action
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	slices.SortStableFunc(all, func(a, b action) int { return a.Time.Compare(b.Time) })
	return all
}

// raised is an alert of one of the three rules: what it names, and how many events it shows.
type raised struct {
	rule, user, host string
	score            float64
	time             time.Time
	events           int
}

// threeRules finds the alerts of the three rules, by sorting, counting and trying all pairs.
func threeRules(t *testing.T) (all []raised) {
	vpn, endpoints := actions(t, "pipelines/data/vpn.jsonl"), actions(t, "pipelines/data/endpoints.jsonl")
	packs := regexp.MustCompile(`\.exe a `)
	for _, e := range endpoints {
		if slices.Contains([]string{"mimikatz.exe", "procdump.exe", "rubeus.exe"}, e.Process) {
			all = append(all, raised{"credential_tools", e.User, e.Host, 40, e.Time, 1})
		}
		for _, v := range vpn {
			if d := e.Time.Sub(v.Time); e.User == v.User && d >= 0 && d <= 30*time.Minute && packs.MatchString(e.Command) && v.Result == "success" && v.Country != "DE" {
				all = append(all, raised{"packed_from_abroad", e.User, e.Host, 35, e.Time, 2})
			}
		}
	}
	type window struct {
		user  string
		start time.Time
	}
	failures := map[window]int{}
	for _, v := range vpn {
		if v.Result == "failure" {
			failures[window{v.User, v.Time.Truncate(5 * time.Minute)}]++
		}
	}
	for w, n := range failures {
		if n >= 5 {
			all = append(all, raised{"guessed", w.user, "", 30, w.start.Add(5*time.Minute - time.Millisecond), min(n, 3)})
		}
	}
	slices.SortFunc(all, func(a, b raised) int { return cmp.Or(a.time.Compare(b.time), strings.Compare(a.rule, b.rule)) })
	return all
}

// said is an alert as it is in the end: which rule's, of whom, when, how many it stands for, and how many of these were held.
func said(rule, of string, at time.Time, count, held int, more string) string {
	return fmt.Sprint(rule, " of ", of, " ", stamp(at), " count ", count, " held ", held, more)
}

// inTheEnd are the alerts of the three rules as they are in the end: periods and groups are found by going along the times.
func inTheEnd(all []raised) (list []string) {
	for _, a := range all {
		of := a.user + " " + a.host
		same := slices.DeleteFunc(slices.Clone(all), func(b raised) bool { return b.rule != a.rule || b.user+" "+b.host != of })
		switch a.rule {
		case "packed_from_abroad":
			list = append(list, said(a.rule, of, a.time, 1, 0, " events 2"))
			continue
		case "credential_tools":
			first, n := time.Time{}, 0
			for _, b := range same { // whose period is it
				if first.IsZero() || b.time.Sub(first) >= time.Hour {
					first = b.time
				}
				if first.Equal(a.time) {
					n++
				}
			}
			if n > 0 {
				list = append(list, said(a.rule, of, a.time, n, n-1, " events 1"))
			}
		case "guessed":
			first, last, n, events := time.Time{}, time.Time{}, 0, 0
			for _, b := range same {
				if first.IsZero() || b.time.Sub(last) > 45*time.Minute || b.time.Sub(first) >= 4*time.Hour {
					first = b.time
				}
				if last = b.time; first.Equal(a.time) {
					n, events = n+1, min(events+b.events, 3)
				}
			}
			if n > 0 {
				list = append(list, said(a.rule, of, a.time, n, 0, fmt.Sprint(" events ", events)))
			}
		}
	}
	return list
}

// atRisk are the rows of the risk, from the formula, with a threshold of 100 and a cap of 60, and the alerts that leave of them, of which
// each holds back others for so long.
func atRisk(all []raised, halfLife, hold time.Duration) (rows, alerts []string) {
	left := func(from, to time.Time) float64 {
		return math.Pow(2, -float64(to.Sub(from).Milliseconds())/float64(halfLife.Milliseconds()))
	}
	var rules []string
	entities := map[string][]raised{}
	for _, a := range all {
		if !slices.Contains(rules, a.rule) {
			rules = append(rules, a.rule)
		}
		if a.user != "" {
			entities["user "+a.user] = append(entities["user "+a.user], a)
		}
		if a.host != "" {
			entities["host "+a.host] = append(entities["host "+a.host], a)
		}
	}
	for entity, of := range entities {
		above := false
		var leaves []time.Time
		held := map[time.Time]int{}
		var scores []string
		for i, now := range of {
			parts := func(till int) (sum float64, count int) {
				for _, rule := range rules {
					part := 0.0
					for j, a := range of[:till] { // the cap holds after each alert
						if part *= left(of[max(j-1, 0)].time, a.time); a.rule == rule {
							part = min(part+a.score, 60)
						}
					}
					if till > 0 {
						part *= left(of[till-1].time, now.time)
					}
					if sum += part; part > 0 {
						count++
					}
				}
				return sum, count
			}
			if before, _ := parts(i); before < 100 {
				above = false
			}
			score, count := parts(i + 1)
			if score < 100 || above {
				continue
			}
			above = true
			rows = append(rows, fmt.Sprintf("%s %s %.2f %d of %d rules", entity, stamp(now.time), score, i+1, count))
			if n := len(leaves); n == 0 || now.time.Sub(leaves[n-1]) >= hold {
				leaves, scores = append(leaves, now.time), append(scores, fmt.Sprintf(" score %.2f", score))
			}
			held[leaves[len(leaves)-1]]++
		}
		for i, at := range leaves {
			alerts = append(alerts, said("at_risk", entity, at, held[at], held[at]-1, " events 0"+scores[i]))
		}
	}
	return rows, alerts
}

// Three rules, what is held of their alerts, and the risk that they add up to, against an independent computation; OCSF and ECS against
// files.
func TestRisk(t *testing.T) {
	all := threeRules(t)
	rows, alerts := atRisk(all, 6*time.Hour, 2*time.Hour)
	alerts = append(alerts, inTheEnd(all)...)
	dir := t.TempDir()
	ocsf, ecs := filepath.Join(dir, "ocsf.jsonl"), filepath.Join(dir, "ecs.jsonl")
	pipeline, out := moved(t, "pipelines/risk.yaml", dir, "./out/risk.ocsf.jsonl", ocsf, "./out/risk.ecs.jsonl", ecs)
	if said, err := exec.Command(build(t), "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	gotRows, gotAlerts, byRule := raisedRows(t, out)
	sameLists(t, gotRows, rows)
	sameLists(t, gotAlerts, alerts)
	for _, a := range all { // readers get all rows, held or not
		byRule[a.rule]--
	}
	if len(rows) < 3 || len(alerts) < 20 || byRule["credential_tools"] != 0 || byRule["guessed"] != 0 || byRule["packed_from_abroad"] != 0 {
		t.Errorf("%d rows, %d alerts; rows beyond those expected: %v", len(rows), len(alerts), byRule)
	}
	sameAlerts(t, ocsf, "testdata/risk.ocsf.jsonl", len(alerts))
	sameAlerts(t, ecs, "testdata/risk.ecs.jsonl", len(alerts))
}

// raisedRows reads what came out: the rows of at_risk, the alerts as said has them, and how many rows each other operator said.
func raisedRows(t *testing.T, path string) (risks, alerts []string, byRule map[string]int) {
	t.Helper()
	byRule = map[string]int{}
	for _, line := range byID(t, path) {
		var r struct {
			Type   string `json:"entity_type"`
			Entity string
			Score  float64
			Alerts int
			Rules  int
			Shown  []json.RawMessage `json:"contributions"`
			Time   time.Time
			Rule   struct{ ID string }
			Count  int
			Held   int `json:"suppressed"`
			Events []json.RawMessage
			Attack []string
			Row    struct {
				User, Host string
				Type       string `json:"entity_type"`
				Entity     string
				Score      float64
			}
			Tocsin struct {
				Operator, Kind string
				TS             int64 `json:"event_time_ms"`
			} `json:"_tocsin"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Tocsin.Kind == "row" && r.Tocsin.Operator == "at_risk":
			risks = append(risks, fmt.Sprintf("%s %s %s %.2f %d of %d rules", r.Type, r.Entity, stamp(time.UnixMilli(r.Tocsin.TS)), r.Score, r.Alerts, r.Rules))
			if len(r.Shown) != min(r.Alerts, 5) || len(r.Attack) < 3 {
				t.Errorf("%s", line)
			}
		case r.Tocsin.Kind == "row":
			byRule[r.Tocsin.Operator]++
		case r.Tocsin.Kind == "alert" && r.Rule.ID == "at_risk":
			alerts = append(alerts, said(r.Rule.ID, r.Row.Type+" "+r.Row.Entity, r.Time, r.Count, r.Held, fmt.Sprintf(" events %d score %.2f", len(r.Events), r.Row.Score)))
		case r.Tocsin.Kind == "alert":
			alerts = append(alerts, said(r.Rule.ID, r.Row.User+" "+r.Row.Host, r.Time, r.Count, r.Held, fmt.Sprint(" events ", len(r.Events))))
		default:
			t.Errorf("%s", line)
		}
	}
	return risks, alerts, byRule
}

// sameLists compares lists whose order does not matter.
func sameLists(t *testing.T, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// sameAlerts compares the newest revision of each alert with a file, in the order of ids: which older ones an output saw depends on
// how fast it was.
func sameAlerts(t *testing.T, got, file string, most int) {
	t.Helper()
	newest := byID(t, got)
	var lines []string
	for _, line := range newest {
		if strings.Contains(line, `"kind":"alert"`) && strings.Contains(line, `"_tocsin":{`) {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	text := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != text || len(lines) != most {
		t.Errorf("%s: %v, %d lines, %d expected; as it is now:\n%s", file, err, len(lines), most, text)
	}
}
