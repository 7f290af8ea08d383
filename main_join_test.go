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
	"time"
)

// presence is a line of the logs of pipelines/joins.yaml.
type presence struct {
	Time                              time.Time
	User, Holder, Kind, Host, Malware string
}

func readPresence(t *testing.T, path string) (lines []presence) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var l presence
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

// doorsOf counts the doors that the user of a logon opened within some time before and after it.
func doorsOf(l presence, badges []presence, before, after time.Duration) (n int) {
	for _, b := range badges {
		if b.Holder == l.User && !b.Time.Before(l.Time.Add(-before)) && !b.Time.After(l.Time.Add(after)) {
			n++
		}
	}
	return n
}

// joined works the pipeline out from the logs alone: every logon is held against every badge and detection.
func joined(logons, badges, malware []presence) (rows []string, counts map[string]int) {
	counts = map[string]int{}
	add := func(operator, format string, args ...any) {
		counts[operator]++
		rows = append(rows, operator+" "+fmt.Sprintf(format, args...))
	}
	for _, l := range logons {
		switch l.Kind {
		case "console":
			if doorsOf(l, badges, 12*time.Hour, 5*time.Minute) == 0 {
				add("nobody_came_in", "%s logged on at %s, and did not come in", l.User, l.Host)
			}
			add("doors", "%s %s %d", l.User, stamp(l.Time), doorsOf(l, badges, 2*time.Hour, 2*time.Hour))
		case "vpn":
			if doorsOf(l, badges, time.Hour, time.Hour) > 0 {
				add("in_two_places", "%s is in the building, and uses the VPN", l.User)
			}
		}
	}
	for _, m := range malware {
		found := false
		for _, l := range logons {
			if since := m.Time.Sub(l.Time); l.Kind == "console" && l.Host == m.Host && since >= 0 && since <= 4*time.Hour {
				add("who_was_there", "%s %s %s %s", m.Host, m.Malware, l.User, stamp(l.Time))
				found = true
			}
		}
		if !found {
			add("who_was_there", "%s %s null null", m.Host, m.Malware)
		}
	}
	return rows, counts
}

// The pipeline of joins: what has no counterpart, what has one, what has how many, and rows with theirs, if there are any.
func TestJoinPipeline(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	src, err := os.ReadFile("pipelines/joins.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pipeline, rows := filepath.Join(dir, "pipeline.yaml"), filepath.Join(dir, "rows.jsonl")
	text := strings.NewReplacer("./state/joins", filepath.Join(dir, "state"), "./out/joins.jsonl", rows).Replace(string(src))
	if err := os.WriteFile(pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, counts := joined(readPresence(t, "pipelines/data/logons.jsonl"), readPresence(t, "pipelines/data/badges.jsonl"), readPresence(t, "pipelines/data/malware.jsonl"))
	var got []string
	for _, r := range results(t, rows) {
		var x map[string]any
		if err := json.Unmarshal([]byte(r.line), &x); err != nil {
			t.Fatal(err)
		}
		cell := func(name string) string {
			if v, ok := x[name]; ok && v != nil {
				return fmt.Sprint(v)
			}
			return "null"
		}
		switch {
		case r.Tocsin.Kind == "row" && r.Tocsin.Operator == "doors":
			got = append(got, "doors "+cell("user")+" "+cell("time")+" "+cell("matches"))
		case r.Tocsin.Kind == "row" && r.Tocsin.Operator == "who_was_there":
			got = append(got, "who_was_there "+cell("host")+" "+cell("malware")+" "+cell("user")+" "+cell("since"))
		case r.Tocsin.Kind == "alert":
			got = append(got, r.Tocsin.Operator+" "+r.Title)
		case r.Tocsin.Kind != "row":
			t.Errorf("%s", r.line)
		}
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) || counts["nobody_came_in"] < 2 || counts["in_two_places"] < 1 || counts["doors"] < 50 {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	t.Log(counts)
}
