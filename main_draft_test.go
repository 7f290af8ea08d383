package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Who has a log and nothing else has an alert from it after two commands: of every log among the examples a pipeline is drafted,
// which has no fault, reads the lines that the sample's tally says it reads, and finds its highest count.
func TestDraft(t *testing.T) {
	binary := build(t)
	for _, log := range []string{"auth.log", "access.log", "firewall.csv", "logins.jsonl", "ids.jsonl", "requests.jsonl", "signins.jsonl", "attempts.jsonl", "firewall.jsonl", "queries.jsonl", "flows.jsonl", "vpn.jsonl"} {
		path, err := filepath.Abs(filepath.Join("pipelines", "data", log))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		said, err := in(dir, binary, "draft", "--out", "mine.yaml", path)
		if err != nil || strings.Contains(said, ".yaml:") { // which is where a fault would be
			t.Errorf("%s: %v\n%s", log, err, said)
			continue
		}
		m := regexp.MustCompile(`; (\d+) of (\d+) lines;`).FindStringSubmatch(said)
		if m == nil {
			t.Errorf("%s: it says %s", log, said)
			continue
		}
		if out, err := in(dir, binary, "run", "--quiet", "mine.yaml"); err != nil {
			t.Errorf("%s: %v\n%s", log, err, out)
			continue
		}
		alerts, unreadable, most := 0, 0, 0
		for _, r := range results(t, filepath.Join(dir, "out", "mine.jsonl")) {
			switch r.Tocsin.Kind {
			case "alert":
				alerts++
				n, _, _ := strings.Cut(r.Title, " ")
				if c, err := strconv.Atoi(n); err == nil {
					most = max(most, c)
				}
			case "error":
				unreadable++
			}
		}
		read, _ := strconv.Atoi(m[1])
		all, _ := strconv.Atoi(m[2])
		if alerts == 0 || unreadable != all-read {
			t.Errorf("%s: %d alerts, %d unreadable lines, of %s", log, alerts, unreadable, m[0])
		}
		if log == "auth.log" && most != failuresIn(t) {
			t.Errorf("%s: the highest count is %d, want %d", log, most, failuresIn(t))
		}
	}
	if said, err := in(t.TempDir(), binary, "draft", "nowhere.log"); err == nil || !strings.Contains(said, "nowhere.log") {
		t.Errorf("a log that is not there: %v, %s", err, said)
	}
}

// failuresIn is the most failures of an address in a minute of the syslog.
func failuresIn(t *testing.T) (most int) {
	failed := map[string]int{}
	for _, m := range regexp.MustCompile(`(?mi)^(.{12}):\d\d .*(?:failed|invalid).* (\d+\.\d+\.\d+\.\d+)`).FindAllStringSubmatch(text(t, "pipelines/data/auth.log"), -1) {
		if _, err := time.Parse("Jan _2 15:04", m[1]); err != nil {
			t.Fatal(err)
		}
		failed[m[1]+m[2]]++
		most = max(most, failed[m[1]+m[2]])
	}
	return most
}

// in runs a command in a folder.
func in(dir, binary string, args ...string) (said string, err error) {
	cmd := exec.Command(binary, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}
