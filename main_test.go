package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests of this file run the built binary as a user would.

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "tocsin")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// result is what a line of file_rows says about itself.
type result struct {
	Tocsin struct {
		Operator, Kind, Reason string
		ResultID               string `json:"result_id"`
		Revision               int
	} `json:"_tocsin"`
	SourceIP    string `json:"source_ip"`
	WindowStart string `json:"window_start"`
	Attempts    int    `json:"login_attempts"`
	Users       int
	Username    string
	Class       string `json:"attack_classification"`
	Title       string // of alerts, as all that follows
	First       string `json:"first_event_time"`
	Last        string `json:"last_event_time"`
	Row         struct {
		SourceIP string `json:"source_ip"`
	}
	line string
}

func results(t *testing.T, path string) (out []result) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		r := result{line: s.Text()}
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, s.Text())
		}
		out = append(out, r)
	}
	return out
}

// logLine is an event of the sample logs.
type logLine struct {
	LoginTime string `json:"login_time"`
	EventTime string `json:"event_time"`
	SourceIP  string `json:"source_ip"`
	Username  string
	Class     string `json:"attack_classification"`
	at        time.Time
}

// readLog reads a sample log with encoding/json; bad are lines that are no events.
func readLog(t *testing.T, path string) (lines []logLine, bad int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		var l logLine
		if json.Unmarshal([]byte(text), &l) != nil {
			bad++
			continue
		}
		if l.at, err = time.Parse(time.RFC3339Nano, l.LoginTime+l.EventTime); err != nil {
			bad++
			continue
		}
		lines = append(lines, l)
	}
	return lines, bad
}

// expected works the quickstart out from the logs alone: a map of windows, all pairs, and a running maximum for lateness.
// Both logs being of the same ten minutes, no pair is further apart than the hour, and none is late for the join.
// spans are the first and last event of the windows that are rows.
func expected(t *testing.T) (rows, spans []string, lates, bad int) {
	logins, badLogins := readLog(t, "pipelines/data/logins.jsonl")
	ids, badIDs := readLog(t, "pipelines/data/ids.jsonl")
	type window struct {
		ip    string
		start time.Time
	}
	counts, users, times := map[window]int{}, map[window]map[string]bool{}, map[window][]time.Time{}
	newest := time.Time{}
	for _, l := range logins {
		w := window{l.SourceIP, l.at.Truncate(20 * time.Second)}
		if !newest.IsZero() && !w.start.Add(20*time.Second).After(newest.Add(time.Millisecond)) {
			lates++
			continue
		}
		if l.at.After(newest) {
			newest = l.at
		}
		if counts[w]++; users[w] == nil {
			users[w] = map[string]bool{}
		}
		users[w][l.Username] = true
		times[w] = append(times[w], l.at)
	}
	for w, n := range counts {
		if n >= 5 {
			rows = append(rows, fmt.Sprint("suspicious ", w.ip, " ", stamp(w.start), " ", n, " ", len(users[w])))
			spans = append(spans, fmt.Sprint(w.ip, " ", stamp(slices.MinFunc(times[w], time.Time.Compare)), " ", stamp(slices.MaxFunc(times[w], time.Time.Compare))))
		}
	}
	for _, a := range ids {
		for _, l := range logins {
			if d := l.at.Sub(a.at); a.SourceIP == l.SourceIP && d <= time.Hour && d >= -time.Hour {
				rows = append(rows, fmt.Sprint("attacked ", l.SourceIP, " ", l.Username, " ", a.Class))
			}
		}
	}
	slices.Sort(rows)
	slices.Sort(spans)
	return rows, spans, lates, badLogins + badIDs
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// quickstart writes the pipeline with its state and rows in dir, and perhaps other limits.
func quickstart(t *testing.T, dir string) (pipeline, rows string) {
	t.Helper()
	return moved(t, "pipelines/quickstart.yaml", dir)
}

// moved writes a pipeline with its state and rows in dir, and perhaps other changes.
func moved(t *testing.T, path, dir string, change ...string) (pipeline, rows string) {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSuffix(filepath.Base(path), ".yaml")
	rows, pipeline = filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "pipeline.yaml")
	change = append(change, "./state/"+name, filepath.Join(dir, "state"), "./out/"+name+".jsonl", rows, "./out/"+name+".some.jsonl", filepath.Join(dir, "some.jsonl"))
	if err := os.WriteFile(pipeline, []byte(strings.NewReplacer(change...).Replace(string(src))), 0o644); err != nil {
		t.Fatal(err)
	}
	return pipeline, rows
}

// ran is what a pipeline says, run once in a folder of its own.
func ran(t *testing.T, path string) []result {
	t.Helper()
	pipeline, rows := moved(t, path, t.TempDir())
	if out, err := exec.Command(build(t), "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return results(t, rows)
}

// The two commands of the README: the quickstart, and the same again, against an independent computation.
func TestQuickstart(t *testing.T) {
	binary := build(t)
	pipeline, rows := quickstart(t, t.TempDir())
	run := func(args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		cmd := exec.Command(binary, append([]string{"run"}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, errs.String())
		}
		return out.String(), errs.String()
	}
	stdout, stderr := run(pipeline)
	want, wantSpans, lates, bad := expected(t)
	var got, spans []string
	var gotLate, gotBad, alerts int
	for _, r := range results(t, rows) {
		switch {
		case r.Tocsin.Kind == "alert":
			if alerts++; r.Tocsin.Operator == "suspicious_logins" {
				if !strings.Contains(r.line, `"name":"login_attempts login attempts from source_ip"`) {
					t.Errorf("the rule's name is not the same for all alerts: %s", r.line)
				}
				spans = append(spans, fmt.Sprint(r.Row.SourceIP, " ", r.First, " ", r.Last))
			}
		case r.Tocsin.Kind == "late":
			gotLate++
		case r.Tocsin.Kind == "error":
			gotBad++
		case r.Tocsin.Operator == "suspicious_logins":
			got = append(got, fmt.Sprint("suspicious ", r.SourceIP, " ", r.WindowStart, " ", r.Attempts, " ", r.Users))
		default:
			got = append(got, fmt.Sprint("attacked ", r.SourceIP, " ", r.Username, " ", r.Class))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("got %d rows\n%s\nwant %d\n%s", len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
	if slices.Sort(spans); !slices.Equal(spans, wantSpans) || len(spans) == 0 {
		t.Errorf("alerts are about\n%s\nwant\n%s", strings.Join(spans, "\n"), strings.Join(wantSpans, "\n"))
	}
	if gotLate != lates || gotBad != bad || alerts != len(want) {
		t.Errorf("%d late, %d errors, %d alerts; want %d, %d, %d", gotLate, gotBad, alerts, lates, bad, len(want))
	}
	if n := strings.Count(stdout, "\n"); n != len(want) || !strings.Contains(stdout, "HIGH   Login from attacking address") {
		t.Errorf("%d lines on the terminal, want %d:\n%s", n, len(want), stdout)
	}
	if s := fmt.Sprintf("%d rows, %d alerts, %d late, %d errors", len(want), len(want), lates, bad); !strings.Contains(stderr, s) {
		t.Errorf("the summary does not say %q:\n%s", s, stderr)
	}
	before := results(t, rows)
	stdout, stderr = run(pipeline)
	if after := results(t, rows); stdout != "" || len(after) != len(before) || !strings.Contains(stderr, "nothing new") || !strings.Contains(stderr, "--fresh") {
		t.Errorf("the second run said %q and %q, and left %d rows of %d", stdout, stderr, len(after), len(before))
	}
	if run("--fresh", pipeline); len(results(t, rows)) != len(before) || len(results(t, rows+".old")) != len(before) {
		t.Error("--fresh does not start over")
	}
}

// The second pipeline: what its module says of process events, against an expression.
func TestPowershell(t *testing.T) {
	data, err := os.ReadFile("pipelines/data/processes.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	encoded := regexp.MustCompile(`(?i)(powershell|pwsh).* -(e|ec|enc|encodedcommand) [A-Za-z0-9+/=]{16}`)
	want, innocent := map[string]int{}, 0
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var e struct{ Computer, CommandLine string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case !encoded.MatchString(e.CommandLine):
		case strings.HasPrefix(e.Computer, "DEPLOY-"):
			innocent++
		default:
			want["Encoded PowerShell command on "+e.Computer]++
		}
	}
	got := map[string]int{}
	for _, r := range ran(t, "pipelines/powershell.yaml") {
		if r.Tocsin.Kind == "alert" {
			got[r.Title]++
		}
	}
	if !maps.Equal(got, want) || len(want) < 3 || innocent == 0 {
		t.Errorf("alerts %v, want %v; %d innocent", got, want, innocent)
	}
}
