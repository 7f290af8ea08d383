package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Of pipelines/lanes.yaml the lane of alerts has those that follow from the logs, and the other lane, whose rows come in blocks, all that
// there is: the same alerts, the attempts in each window, and what is late or no event.
func TestLanesOfThePipeline(t *testing.T) {
	logins, bad := readLog(t, "pipelines/data/logins.jsonl")
	ids, _ := readLog(t, "pipelines/data/ids.jsonl")
	var want []string
	for _, a := range ids {
		for _, l := range logins {
			if a.SourceIP == l.SourceIP && a.at.Sub(l.at).Abs() <= time.Hour { // both logs are of the same ten minutes
				want = append(want, fmt.Sprintf("%s logged in from %s, which attacks", l.Username, l.SourceIP))
			}
		}
	}
	dir := t.TempDir()
	alerts := filepath.Join(dir, "alerts.jsonl")
	pipeline, rows := moved(t, "pipelines/lanes.yaml", dir, "./out/lanes.alerts.jsonl", alerts)
	if out, err := exec.Command(build(t), "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got, twice []string
	for _, r := range results(t, alerts) {
		if r.Tocsin.Kind != "alert" || !strings.Contains(r.line, `"lane":"siem"`) {
			t.Errorf("in the lane of alerts: %s", r.line)
		}
		got = append(got, r.Title)
	}
	attempts, kinds := 0, map[string]int{}
	for _, r := range results(t, rows) {
		if kinds[r.Tocsin.Kind]++; r.Tocsin.Kind == "alert" {
			twice = append(twice, r.Title)
		}
		attempts += r.Attempts
		if !strings.Contains(r.line, `"lane":"lake"`) {
			t.Errorf("in the lane of everything: %s", r.line)
		}
	}
	for _, list := range [][]string{want, got, twice} {
		slices.Sort(list)
	}
	if len(want) < 10 || !slices.Equal(got, want) || !slices.Equal(twice, want) {
		t.Errorf("got\n%s\nand\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(twice, "\n"), strings.Join(want, "\n"))
	}
	if kinds["error"] != bad || attempts+kinds["late"] != len(logins) || kinds["row"] == 0 {
		t.Errorf("%d attempts and %v of %d logins, %d bad lines", attempts, kinds, len(logins), bad)
	}
}
