package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const followPipeline = `
input: { file_lines: { paths: ["LOGS/*.log*"], follow: true, poll_interval: 20ms, quiet_after: 300ms } }
buffer:
  detect:
    name: follow
    state: STATE
    streams:
      events: { match: { path: "*.log*" }, format: logfmt, time: { field: time } }
    operators:
      rows: { filter: { from: events, where: { n|gte: 0 } } }
output: { file_rows: { path: ROWS } }
`

// A log that grows and is renamed while the binary is killed again and again: each line is one result, with one
// id.
func TestFollowedWhileKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	binary, dir := build(t), t.TempDir()
	logs, rows, pipeline := mkdir(t, dir, "logs"), filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "pipeline.yaml")
	text := strings.NewReplacer("LOGS", logs, "STATE", filepath.Join(dir, "state"), "ROWS", rows).Replace(followPipeline)
	if err := os.WriteFile(pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	path, n := filepath.Join(logs, "a.log"), 0
	write := func() {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "time=2026-03-02T08:00:%02dZ n=%d\n", n%60, n)
		f.Close()
		n++
	}
	write()
	var said bytes.Buffer
	begin := func() *exec.Cmd {
		cmd := exec.Command(binary, "run", "--quiet", pipeline)
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	for range 6 {
		cmd := begin()
		for range 5 + rnd.IntN(30) {
			time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
			if write(); rnd.IntN(15) == 0 {
				if err := os.Rename(path, fmt.Sprintf("%s.%d", path, n)); err != nil {
					t.Fatal(err)
				}
				write()
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("it ended by itself: %v\n%s", err, said.String())
		}
		write() // while nobody looks
	}
	cmd := begin()
	ids := map[string]string{} // n -> id
	count := func() int {
		clear(ids)
		for _, line := range strings.SplitAfter(readAll(rows), "\n") {
			if _, rest, ok := strings.Cut(line, `"n":"`); ok && strings.HasSuffix(line, "\n") {
				key, _, _ := strings.Cut(rest, `"`)
				_, id, _ := strings.Cut(line, `"result_id":"`)
				if id, _, _ = strings.Cut(id, `"`); ids[key] != "" && ids[key] != id {
					t.Fatalf("line %s has two ids: it was read twice", key)
				}
				ids[key] = id
			}
		}
		return len(ids)
	}
	for end := time.Now().Add(time.Minute); count() < n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d lines\n%s", len(ids), n, said.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	if count() != n {
		t.Errorf("%d lines, want %d", len(ids), n)
	}
}

// readAll is what a file has, or nothing yet.
func readAll(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}
