package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/bench/gen"
)

// State larger than memory, and how long a start takes that finds much of it.

// largeLimit is what the heap of these may take; memory is 256MiB.
const largeLimit = "580MiB"

// The data: windows of a day see every key of distinct once, and one of 2000 five times.
var (
	distinct = gen.Distinct{Seed: 1, Keys: 20_000_000, Heavy: 2_000, Span: 15 * time.Hour}
	again    = gen.Distinct{Seed: 1, Keys: 10_000_000, Again: 2, Span: 15 * time.Hour}
)

func largeYAML(name, file, memory, operator string) string {
	return `
input: { file_lines: { paths: [DIR/EMPTY` + file + `.jsonl] } }
buffer:
  detect:
    name: ` + name + `
    state: DIR/state-` + name + `
    memory: ` + memory + `
    streams: { events: { match: { path: "*" }, time: { field: t } } }
    operators:
      rule: ` + operator + `
output: { file_rows: { path: DIR/` + name + `-rows.jsonl } }
`
}

const countDistinct = `{ window: { from: events, tumbling: 1d, key: key, aggregate: { n: count }, having: { n|gte: 5 } } }`

func benchLarge(binary string) error {
	say("generating %d and %d events of ever new keys", distinct.Events(), again.Events())
	for name, g := range map[string]gen.Distinct{"distinct": distinct, "again": again} {
		if err := writeTo(name+".jsonl", g.Write); err != nil {
			return err
		}
	}
	if err := writeTo("count.jsonl", gen.Logins{Seed: *seed, Events: *events}.Write); err != nil {
		return err
	}
	rows := []*row{
		handWritten("floor", "how fast this machine is today"),
		pipelineRow(binary, "first_seen_10M", again.Events(), largeLimit, largeYAML("first_seen_10M", "again", "256MiB",
			"{ first_seen: { from: events, value: key, history: 30d } }\n      new: { window: { from: rule, tumbling: 1d, aggregate: { n: count } } }")),
		pipelineRow(binary, "count_20M", distinct.Events(), largeLimit, largeYAML("count_20M", "distinct", "256MiB", countDistinct)),
	}
	for _, r := range rows {
		say("%s: minutes", r.name)
		if err := r.measure(); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	table(rows)
	if n := rows[2].out; n != distinct.HeavyKeys() {
		return fmt.Errorf("count_20M said %d rows, and %d keys come five times", n, distinct.HeavyKeys())
	}
	return restarts(binary)
}

// writeTo writes a file of the benchmark, and an empty one beside it.
func writeTo(name string, write func(io.Writer) error) error {
	f, err := os.Create(path(name))
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Sync(), f.Close(), os.WriteFile(path("empty-"+name), nil, 0o644))
}

// restarts kills a count with five million keys and times the next starts, until they read on.
func restarts(binary string) error {
	file := path("restart.yaml")
	text := strings.NewReplacer("DIR", *dir, "EMPTY", "").Replace(largeYAML("restart", "distinct", "512MiB", countDistinct))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	data, err := filepath.Abs(path("distinct.jsonl"))
	if err != nil {
		return err
	}
	const lines, lineBytes = 5_000_000, 55
	fmt.Println("\n| start with 5 M keys, until it reads on | ms | must be |\n|---|---|---|")
	for i := range 4 {
		args, until := []string{"run", "--quiet", file}, int64(0)
		if i == 0 {
			args, until = []string{"run", "--quiet", "--fresh", file}, lines*lineBytes
		}
		cmd := exec.Command(binary, args...)
		var out bytes.Buffer
		cmd.Stderr = &out
		began := time.Now()
		if err := cmd.Start(); err != nil {
			return err
		}
		for readUpTo(cmd.Process.Pid, data) <= until {
			if time.Sleep(20 * time.Millisecond); time.Since(began) > 5*time.Minute {
				_ = cmd.Process.Kill()
				return fmt.Errorf("it does not read: %s", out.Bytes())
			}
		}
		took := time.Since(began)
		if err := cmd.Process.Kill(); err != nil {
			return err
		}
		_ = cmd.Wait()
		if i > 0 {
			fmt.Printf("| start %d after a kill | %d | <= 2000 |\n", i, took.Milliseconds())
		}
	}
	return nil
}

// readUpTo is how far a process has read a file, where the system tells.
func readUpTo(pid int, file string) (pos int64) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil && to == file {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, filepath.Base(name)))
			_, _ = fmt.Sscanf(string(b), "pos: %d", &pos)
		}
	}
	return pos
}
