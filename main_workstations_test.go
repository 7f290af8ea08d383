package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// machine is a row of pipelines/data/workstations.csv.
type machine struct{ owner, department, criticality string }

func machines(t *testing.T) map[string]machine {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text(t, "pipelines/data/workstations.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	byHost := map[string]machine{}
	for _, row := range rows[1:] {
		byHost[row[0]] = machine{row[1], row[2], row[3]}
	}
	return byHost
}

// What pipelines/workstations.yaml calls suspicious, in expressions; a dash may be any that a command takes for one.
var (
	anyTool   = regexp.MustCompile(`(?i)^(mimikatz|rubeus)\.exe$`)
	anyModule = regexp.MustCompile(`(?i)sekurlsa::|lsadump::|kerberoast`)
	anyDump   = regexp.MustCompile(`(?i)^procdump.* [-/\x{2013}\x{2014}\x{2015}]ma `)
	anyPacked = regexp.MustCompile(`(?i) a (.* )?[-/\x{2013}\x{2014}\x{2015}]hp`)
)

func suspiciousCommand(e action, m machine) bool {
	ours := m.department == "web operations" && strings.HasPrefix(e.Host, "SRV-") && strings.HasSuffix(e.Command, "w3wp.exe")
	return !ours && (anyTool.MatchString(e.Process) || anyModule.MatchString(e.Command) || anyDump.MatchString(e.Command) || anyPacked.MatchString(e.Command))
}

const (
	newProgram = "tocsin.rare-process/1"
	silent     = "tocsin.log-silence/1"
	back       = "tocsin.log-silence/2"
)

// onWorkstations finds the alerts of the three rules, in the order in which the risk sees them. Each is looked for in the whole log.
func onWorkstations(log []action, byHost map[string]machine) (all []raised) {
	of := func(host string, since, before time.Time) []action {
		return slices.DeleteFunc(slices.Clone(log), func(e action) bool {
			return e.Host != host || e.Time.Before(since) || !e.Time.Before(before)
		})
	}
	for _, e := range log {
		if suspiciousCommand(e, byHost[e.Host]) {
			all = append(all, raised{"suspicious_commands", e.User, e.Host, 40, e.Time, 1})
		}
	}
	ever := log[len(log)-1].Time.Add(time.Hour)
	for _, e := range log {
		first, earlier := of(e.Host, time.Time{}, ever)[0].Time, of(e.Host, time.Time{}, e.Time)
		ran := slices.ContainsFunc(earlier, func(b action) bool { return b.Process == e.Process })
		if !ran && e.Time.Sub(first) >= 4*time.Hour && byHost[e.Host].department != "development" {
			all = append(all, raised{newProgram, e.User, e.Host, 25, e.Time, 1})
		}
	}
	const after = 10 * time.Hour
	for i, e := range log {
		if byHost[e.Host].criticality != "3" {
			continue
		}
		next := of(e.Host, e.Time.Add(1), ever)
		if len(next) == 0 { // the log ends
			all = append(all, raised{silent, "", e.Host, 45, e.Time.Add(after), 0})
			continue
		}
		if next[0].Time.Sub(e.Time) < after {
			continue
		}
		if slices.ContainsFunc(log[i:], func(b action) bool { // of any machine, so that it is known before this one is back
			return b.Time.Before(next[0].Time) && !b.Time.Add(-10*time.Second).Truncate(time.Second).Before(e.Time.Add(after))
		}) {
			all = append(all, raised{silent, "", e.Host, 45, e.Time.Add(after), 0})
		}
		all = append(all, raised{back, "", e.Host, 5, next[0].Time, 1})
	}
	slices.SortStableFunc(all, func(a, b raised) int { return a.time.Compare(b.time) })
	return all
}

// held are the alerts of a rule that leave, when each holds back those of its key for so long.
func held(all []raised, rule string, hold time.Duration, key func(raised) string) (list []string) {
	periods := map[string][]raised{} // the first of each
	counts := map[raised]int{}
	for _, a := range all {
		if a.rule != rule {
			continue
		}
		k := key(a)
		if n := len(periods[k]); n == 0 || a.time.Sub(periods[k][n-1].time) >= hold {
			periods[k] = append(periods[k], a)
		}
		counts[periods[k][len(periods[k])-1]]++
	}
	for a, n := range counts {
		list = append(list, said(rule, a.user+" "+a.host, a.time, n, n-1, fmt.Sprint(" events ", a.events)))
	}
	return list
}

// Events that know their machine, a condition as Sigma has it, a rule in Rust that remembers, one in Go that waits, and the risk that they
// add up to, against an independent computation; OCSF and ECS against files.
func TestWorkstations(t *testing.T) {
	log, byHost := actions(t, "pipelines/data/endpoints.jsonl"), machines(t)
	all := onWorkstations(log, byHost)
	rows, alerts := atRisk(all, 12*time.Hour, 2*time.Hour)
	risks := len(alerts)
	alerts = append(alerts, held(all, "suspicious_commands", time.Hour, func(a raised) string { return a.user + " " + a.host })...)
	alerts = append(alerts, held(all, newProgram, 4*time.Hour, func(a raised) string { return a.host })...)
	want := map[string]int{}
	for _, a := range all {
		want[map[string]string{newProgram: "new_programs", silent: "silent_machines", back: "silent_machines"}[a.rule]]++
		if a.rule == silent || a.rule == back {
			alerts = append(alerts, said(a.rule, " "+a.host, a.time, 1, 0, fmt.Sprint(" events ", a.events)))
		}
	}
	dir := t.TempDir()
	ocsf, ecs := filepath.Join(dir, "ocsf.jsonl"), filepath.Join(dir, "ecs.jsonl")
	pipeline, out := moved(t, "pipelines/workstations.yaml", dir, "./out/workstations.ocsf.jsonl", ocsf, "./out/workstations.ecs.jsonl", ecs)
	if said, err := exec.Command(build(t), "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	gotRows, gotAlerts, byRule := raisedRows(t, out)
	sameLists(t, gotRows, rows)
	sameLists(t, gotAlerts, alerts)
	if want["suspicious_commands"] = want[""]; byRule["suspicious_commands"] < 5 || byRule["new_programs"] < 20 || byRule["silent_machines"] < 3 || len(rows) < 3 || risks < 3 {
		t.Errorf("rows %v, %d of the risk, %d alerts of it: too few to see anything", byRule, len(rows), risks)
	}
	for _, rule := range []string{"suspicious_commands", "new_programs", "silent_machines"} {
		if byRule[rule] != want[rule] {
			t.Errorf("%d rows of %s, want %d", byRule[rule], rule, want[rule])
		}
	}
	enriched(t, out, byHost)
	sameAlerts(t, ocsf, "testdata/workstations.ocsf.jsonl", len(alerts))
	sameAlerts(t, ecs, "testdata/workstations.ecs.jsonl", len(alerts))
}

// enriched looks at the columns of the table in rows of events, and at titles that are made of them.
func enriched(t *testing.T, path string, byHost map[string]machine) {
	t.Helper()
	titles := 0
	for _, r := range results(t, path) {
		var x struct {
			User, Host, Process, Command string
			Owner                        string      `json:"machine.owner"`
			Department                   string      `json:"machine.department"`
			Criticality                  json.Number `json:"machine.criticality"`
			Row                          struct{ User, Host, Process string }
		}
		if err := json.Unmarshal([]byte(r.line), &x); err != nil {
			t.Fatal(err)
		}
		m := byHost[x.Host]
		switch {
		case r.Tocsin.Kind == "row" && x.Command != "" && (m.owner == "" || m != machine{x.Owner, x.Department, x.Criticality.String()}):
			t.Errorf("not %+v: %s", m, r.line)
		case r.Tocsin.Kind == "alert" && r.Tocsin.Operator == "suspicious_commands":
			m = byHost[x.Row.Host]
			titles++
			if want := fmt.Sprintf("%s ran %s on %s, a machine of %s (%s)", x.Row.User, x.Row.Process, x.Row.Host, m.owner, m.department); r.Title != want {
				t.Errorf("%s, want %s", r.Title, want)
			}
		}
	}
	if titles < 5 {
		t.Errorf("%d titles", titles)
	}
}
