package main

import (
	"bytes"
	"encoding/json"
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

const collectPipeline = `
input: { file_lines: { paths: ["LOGS/*.log*"], follow: true, poll_interval: 20ms, quiet_after: 300ms, positions: POSITIONS } }
pipeline:
  threads: 1
  processors:
    - parse: { format: logfmt, fields: { n: int } }
output: { file_rows: { path: ROWS } }
`

// Logs are collected without a detect buffer while the binary is killed again and again: each line is there. Stopped and started instead,
// each is there once.
func TestCollectedWhileKilled(t *testing.T) {
	t.Run("killed", func(t *testing.T) { collectedWhile(t, syscall.SIGKILL) })
	t.Run("stopped", func(t *testing.T) { collectedWhile(t, syscall.SIGTERM) })
}

func collectedWhile(t *testing.T, signal syscall.Signal) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	binary, dir := build(t), t.TempDir()
	logs, rows, pipeline := mkdir(t, dir, "logs"), filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "pipeline.yaml")
	text := strings.NewReplacer("LOGS", logs, "POSITIONS", filepath.Join(dir, "p.json"), "ROWS", rows).Replace(collectPipeline)
	if err := os.WriteFile(pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	path, n := filepath.Join(logs, "a.log"), 0
	write := func() {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "n=%d\n", n)
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
	end := func(cmd *exec.Cmd, signal syscall.Signal) {
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); (err == nil) != (signal == syscall.SIGTERM) || cmd.ProcessState.Exited() != (signal == syscall.SIGTERM) {
			t.Fatalf("%v\n%s", err, said.String())
		}
	}
	lines := func() (times map[int]int) {
		times = map[int]int{}
		for _, line := range strings.SplitAfter(readAll(rows), "\n") {
			var row struct{ N *int }
			if strings.HasSuffix(line, "\n") {
				if err := json.Unmarshal([]byte(line), &row); err != nil || row.N == nil {
					t.Fatalf("%v: %s", err, line)
				}
				times[*row.N]++
			}
		}
		return times
	}
	for range 6 {
		cmd := begin()
		for end := time.Now().Add(time.Minute); len(lines()) == 0 && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond) // a signal before it listens would end it
		}
		for range 5 + rnd.IntN(80) {
			time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
			if write(); rnd.IntN(15) == 0 {
				if err := os.Rename(path, fmt.Sprintf("%s.%d", path, n)); err != nil {
					t.Fatal(err)
				}
				write()
			}
		}
		end(cmd, signal)
		write()
	}
	cmd := begin()
	for end := time.Now().Add(time.Minute); len(lines()) < n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d lines\n%s", len(lines()), n, said.String())
		}
	}
	end(cmd, syscall.SIGTERM)
	got, again := lines(), 0
	for i := range n {
		if got[i] == 0 || got[i] > 1 && signal == syscall.SIGTERM {
			t.Errorf("line %d is there %d times", i, got[i])
		}
		again += max(got[i]-1, 0)
	}
	t.Logf("%d lines, %d again", n, again)
}
