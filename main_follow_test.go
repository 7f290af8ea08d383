package main

import (
	"fmt"
	"math/rand/v2"
	"os"
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
    state: KEPT
    streams:
      events: { match: { path: "*.log*" }, format: logfmt, time: { field: time } }
    operators:
      rows: { filter: { from: events, where: { n|gte: 0 } } }
output: { file_rows: { path: ROWS } }
`

// A log that grows and is renamed while the binary is killed again and again: each line is one result, with one
// id.
func TestFollowedWhileKilled(t *testing.T) {
	ids := map[string]string{} // n -> id
	count := func(rows string) int {
		clear(ids)
		for _, line := range strings.SplitAfter(rows, "\n") {
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
	rows, n := grownWhile(t, followPipeline, syscall.SIGKILL, func(n int) string { return fmt.Sprintf("time=2026-03-02T08:00:%02dZ n=%d", n%60, n) }, count)
	if count(rows) != n {
		t.Errorf("%d lines, want %d", len(ids), n)
	}
}

// grownWhile writes lines to a log, which is renamed now and then, while a pipeline with LOGS, KEPT and ROWS in it is ended by a signal and
// started again, until count says that there are rows of all lines; then it is stopped. It returns the rows and how many lines there are.
func grownWhile(t *testing.T, text string, signal syscall.Signal, line func(n int) string, count func(rows string) int) (string, int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	binary, dir := build(t), t.TempDir()
	logs, rows, pipeline := mkdir(t, dir, "logs"), filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "pipeline.yaml")
	text = strings.NewReplacer("LOGS", logs, "KEPT", filepath.Join(dir, "kept"), "ROWS", rows).Replace(text)
	if err := os.WriteFile(pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	path, n := filepath.Join(logs, "a.log"), 0
	write := func() {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(f, line(n))
		f.Close()
		n++
	}
	await := func(p *process, done func() bool) {
		for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d of %d lines\n%s", count(readAll(rows)), n, p.said.String())
			}
		}
	}
	write()
	for range 6 {
		before := count(readAll(rows))
		p := started(t, binary, pipeline)
		await(p, func() bool { return count(readAll(rows)) > before }) // a signal before it listens would end it
		for range 5 + rnd.IntN(80) {
			time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
			if write(); rnd.IntN(15) == 0 {
				if err := os.Rename(path, fmt.Sprintf("%s.%d", path, n)); err != nil {
					t.Fatal(err)
				}
				write()
			}
		}
		p.end(t, signal)
		write() // while nobody looks
	}
	p := started(t, binary, pipeline)
	await(p, func() bool { return count(readAll(rows)) >= n })
	p.end(t, syscall.SIGTERM)
	if said := p.said.String(); strings.Contains(said, "the state is kept") != strings.Contains(text, "state:") {
		t.Errorf("it says of its state: %s", said)
	}
	return readAll(rows), n
}

// readAll is what a file has, or nothing yet.
func readAll(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}
