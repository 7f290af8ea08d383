package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// text reads a file.
func text(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// minutes counts by key and minute, what and distinct values of it.
type minutes map[string]map[string]int

func (m minutes) add(key string, at time.Time, value string) {
	id := key + " " + at.Truncate(time.Minute).Format("15:04")
	if m[id] == nil {
		m[id] = map[string]int{}
	}
	m[id][value]++
}

// suspicious works the pipeline out from the logs with regular expressions and encoding/csv.
func suspicious(t *testing.T) (alerts []string) {
	failed, missed := minutes{}, minutes{}
	for _, m := range regexp.MustCompile(`(?m)^(.{15}) web1 sshd\[\d+\]: Failed password for (?:invalid user )?(\S+) from (\S+) `).FindAllStringSubmatch(text(t, "pipelines/data/auth.log"), -1) {
		at, err := time.Parse(time.Stamp, m[1])
		if err != nil {
			t.Fatal(err)
		}
		failed.add(m[3], at, m[2])
	}
	for id, users := range failed {
		n := 0
		for _, c := range users {
			n += c
		}
		if n >= 10 && len(users) >= 5 {
			alerts = append(alerts, fmt.Sprintf("%d failed logins of %d users from %s", n, len(users), strings.Fields(id)[0]))
		}
	}
	records, err := csv.NewReader(strings.NewReader(strings.ReplaceAll(text(t, "pipelines/data/firewall.csv"), ";", ","))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^(\S+) - - \[(.*?)\] "GET (.*?) HTTP/1.1" (\d+)`).FindAllStringSubmatch(text(t, "pipelines/data/access.log"), -1) {
		at, err := time.Parse("02/Jan/2006:15:04:05 -0700", m[2])
		if err != nil {
			t.Fatal(err)
		}
		if m[4][0] == '4' {
			missed.add(m[1], at, m[3])
		}
		if m[4] == "200" && slices.ContainsFunc(records[1:], func(r []string) bool {
			when, err := time.Parse(time.RFC3339, r[0])
			return err == nil && r[1] == m[1] && r[3] == "deny" && when.Sub(at).Abs() <= 10*time.Minute
		}) {
			alerts = append(alerts, fmt.Sprintf("%s, which the firewall refused, got %s", m[1], m[3]))
		}
	}
	for id, paths := range missed {
		if len(paths) >= 20 {
			alerts = append(alerts, fmt.Sprintf("%s asked for %d pages that are not there", strings.Fields(id)[0], len(paths)))
		}
	}
	slices.Sort(alerts)
	return alerts
}

// The pipeline over logs that are no JSON, against an independent computation.
func TestLogsPipeline(t *testing.T) {
	want := suspicious(t)
	var got, kinds []string
	for _, r := range ran(t, "pipelines/logs.yaml") {
		if r.Tocsin.Kind == "alert" {
			got = append(got, r.Title)
		} else {
			kinds = append(kinds, r.Tocsin.Kind+r.Tocsin.Reason)
		}
	}
	slices.Sort(got)
	slices.Sort(kinds)
	if !slices.Equal(got, want) || len(want) < 4 || kinds[0] != "errornot_syslog" || slices.Contains(kinds[1:], "errornot_syslog") {
		t.Errorf("alerts\n%s\nwant\n%s\nother results %v", strings.Join(got, "\n"), strings.Join(want, "\n"), kinds)
	}
}

const formatsPipeline = `
input: { file_lines: { paths: [LOGS/*] } }
buffer:
  detect:
    name: formats
    state: STATE
    streams:
      table: { match: { path: "*.csv" }, format: csv, time: { field: time }, fields: { n: int } }
      sudo: { match: { path: "*.log", where: { app: sudo } }, format: syslog }
      json: { match: { path: "*.log", where: { kind|exists: true } }, time: { field: time } }
      rest: { match: { path: "*.log" }, format: { regex: { pattern: '^(?P<time>\S+) (?P<word>\w+)$' } }, time: { field: time } }
    operators:
      numbered: { filter: { from: table, where: { n|neq: 4 } } }
      rows: { filter: { from: [sudo, json, rest], where: { raw|neq: none } } }
output: { file_rows: { path: ROWS } }
`

// Lines of several formats in one file, and a header that a later start no longer reads: each event leaves as an object with the
// line beside it, once, and each line that is none says why.
func TestFormatsOverRestarts(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	table := []string{"time,n,who\n", "2026-03-02T08:00:00Z,1,\"a, b\"\n", "2026-03-02T08:00:01Z,x,c\n", "2026-03-02T08:00:02Z,3\n", "2026-03-02T08:00:03Z,4,d\n", "time,n,who\n", "2026-03-02T08:00:04Z,5,e\n"}
	mixed := []string{"Dec 31 23:59:59 h sudo[1]: root\n", "Jan  1 00:00:01 h cron: x\n", `{"kind":"k","time":"2026-03-02T08:00:01Z","a":{"b":1}}` + "\n", "2026-03-02T08:00:02Z hello\n", `{"time":"2026-03-02T08:00:03Z"}` + "\n", "Jan  1 00:00:02 h sudo: y\n"}
	want := []string{
		`row {"a":{"b":1},"kind":"k","time":"2026-03-02T08:00:01Z"}`,
		`row {"app":"sudo","host":"h","message":"root","pid":"1","raw":"Dec 31 23:59:59 h sudo[1]: root","timestamp":"Dec 31 23:59:59"} 2025-12-31T23:59:59Z`,
		`row {"app":"sudo","host":"h","message":"y","raw":"Jan  1 00:00:02 h sudo: y","timestamp":"Jan  1 00:00:02"} 2026-01-01T00:00:02Z`,
		`row {"n":1,"raw":"2026-03-02T08:00:00Z,1,\"a, b\"","time":"2026-03-02T08:00:00Z","who":"a, b"}`,
		`row {"n":"x","raw":"2026-03-02T08:00:01Z,x,c","time":"2026-03-02T08:00:01Z","who":"c"}`,
		`row {"n":5,"raw":"2026-03-02T08:00:04Z,5,e","time":"2026-03-02T08:00:04Z","who":"e"}`,
		`row {"raw":"2026-03-02T08:00:02Z hello","time":"2026-03-02T08:00:02Z","word":"hello"}`,
		"error no_stream Jan  1 00:00:01 h cron: x", `error no_stream {"time":"2026-03-02T08:00:03Z"}`, "error not_csv 2026-03-02T08:00:02Z,3",
	}
	slices.Sort(want)
	for _, parts := range []int{1, 2, 6} {
		folder := mkdir(t, dir, strings.Repeat("i", parts))
		logs := mkdir(t, folder, "logs")
		rows, pipeline := filepath.Join(folder, "rows.jsonl"), filepath.Join(folder, "pipeline.yaml")
		put := func(path, text string) {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if at := time.Date(2026, 1, 1, 0, 10, 0, 0, time.UTC); strings.HasPrefix(path, logs) && os.Chtimes(path, at, at) != nil {
				t.Fatal("no time")
			}
		}
		put(pipeline, strings.NewReplacer("LOGS", logs, "STATE", filepath.Join(folder, "state"), "ROWS", rows).Replace(formatsPipeline))
		for part := 1; part <= parts; part++ {
			put(filepath.Join(logs, "t.csv"), strings.Join(table[:part*len(table)/parts], ""))
			put(filepath.Join(logs, "m.log"), strings.Join(mixed[:part*len(mixed)/parts], ""))
			if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		var got []string
		for _, r := range results(t, rows) {
			got = append(got, formatRow(t, r))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("in %d parts\n%s\nwant\n%s", parts, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// formatRow is a result as the test writes it: with the event's time where the line has none whole.
func formatRow(t *testing.T, r result) string {
	var row map[string]any
	if err := json.Unmarshal([]byte(r.line), &row); err != nil {
		t.Fatal(err)
	}
	at := int64(row["_tocsin"].(map[string]any)["event_time_ms"].(float64))
	if delete(row, "_tocsin"); r.Tocsin.Kind == "error" {
		return fmt.Sprintf("error %s %s", r.Tocsin.Reason, row["raw"])
	}
	text, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	if row["timestamp"] == nil {
		return r.Tocsin.Kind + " " + string(text)
	}
	return fmt.Sprintf("%s %s %s", r.Tocsin.Kind, text, time.UnixMilli(at).UTC().Format(time.RFC3339))
}
