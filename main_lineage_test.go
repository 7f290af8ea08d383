package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type runEvent struct {
	EventType string
	Run       struct {
		RunID  string `json:"runId"`
		Facets struct {
			ErrorMessage struct{ Message string } `json:"errorMessage"`
		}
	}
	Job     struct{ Name string }
	Outputs []struct{ Name string }
}

// Runs that end, fail and are stopped say so, to a file and to a collector; one that refuses holds nothing up.
func TestRunsTellTheirLineage(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("a.jsonl", `{"t":"2026-01-01T00:00:00Z","k":"x"}`+"\n")
	pipe := func(name, input, more string) string {
		return write(name+".yaml", fmt.Sprintf(`
input: { file_lines: { paths: [%[1]s/a.jsonl]%[3]s } }
buffer:
  detect:
    name: %[2]s
    state: %[1]s/%[2]s
    streams: { a: { time: { field: t }, fields: { k: string } } }
    operators: { all: { filter: { from: a, where: { k|exists: true } } } }
output: { %[4]s }
`, filepath.ToSlash(dir), name, input, more))
	}
	read := func(text string) (all []runEvent) {
		for line := range strings.Lines(text) {
			var e runEvent
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			all = append(all, e)
		}
		return all
	}
	kinds := func(all []runEvent, job string) string {
		var out []string
		for _, e := range all {
			if e.Job.Name != job || e.Run.RunID != all[0].Run.RunID || len(e.Outputs) != 1 || e.Outputs[0].Name != job+".all" {
				t.Errorf("%+v of %s, run %s", e, job, all[0].Run.RunID)
			}
			out = append(out, e.EventType)
		}
		return strings.Join(out, " ")
	}
	events := filepath.Join(dir, "events.jsonl")
	file := func() []runEvent {
		b, err := os.ReadFile(events)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(events); err != nil {
			t.Fatal(err)
		}
		return read(string(b))
	}
	good := pipe("good", "", "drop: {}")
	if out, err := exec.Command(binary, "run", "--openlineage", events, good).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := kinds(file(), "good"); got != "START COMPLETE" {
		t.Error(got)
	}
	write("bad", "a state is a folder")
	bad := pipe("bad", "", "drop: {}")
	if out, err := exec.Command(binary, "run", "--openlineage", events, bad).CombinedOutput(); err == nil {
		t.Errorf("it should fail: %s", out)
	}
	if all := file(); kinds(all, "bad") != "START FAIL" || all[1].Run.Facets.ErrorMessage.Message == "" {
		t.Errorf("%+v", all)
	}
	follow := pipe("follow", ", follow: true", "drop: {}")
	cmd := exec.Command(binary, "run", "--openlineage", events, follow)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(readAll(events), "START") {
		time.Sleep(5 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := kinds(file(), "follow"); got != "START ABORT" {
		t.Error(got)
	}
	var mu sync.Mutex
	var bodies strings.Builder
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		bodies.Write(b)
		mu.Unlock()
		w.WriteHeader(http.StatusTeapot)
	}))
	defer server.Close()
	out, err := exec.Command(binary, "run", "--fresh", "--openlineage", server.URL+"/api/v1/lineage", good).CombinedOutput()
	if err != nil || strings.Count(string(out), "warning: --openlineage: the collector answers 418") != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if got := kinds(read(bodies.String()), "good"); got != "START COMPLETE" {
		t.Error(got)
	}
	for _, to := range []string{filepath.Join(dir, "none", "x"), "ftp://host/x", "http://"} {
		if out, err := exec.Command(binary, "run", "--openlineage", to, good).CombinedOutput(); err == nil || !strings.Contains(string(out), "--openlineage") {
			t.Errorf("%s: %v: %s", to, err, out)
		}
	}
}
