package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// `tocsin state` says how far the logs were read, and how many addresses the join keeps: all, since the logs are shorter than its hour.
func TestState(t *testing.T) {
	binary := build(t)
	pipeline, _ := quickstart(t, t.TempDir())
	run := func(args ...string) (stdout, stderr string, status int) {
		var out, errs bytes.Buffer
		cmd := exec.Command(binary, args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		return out.String(), errs.String(), cmd.ProcessState.ExitCode()
	}
	if _, said, status := run("state", pipeline); status != 1 || !strings.Contains(said, "there is none; the pipeline has not run yet") {
		t.Errorf("before any run: status %d, %s", status, said)
	}
	if _, said, status := run("run", "--quiet", pipeline); status != 0 {
		t.Fatal(said)
	}
	stdout, said, status := run("state", "--top", "2", pipeline)
	if status != 0 {
		t.Fatal(said)
	}
	addresses := map[string]bool{}
	for _, name := range []string{"logins", "ids"} {
		path := "pipelines/data/" + name + ".jsonl"
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%s#0, read up to %d", path, info.Size()); !strings.Contains(strings.ReplaceAll(stdout, " ", ""), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
		lines, _ := readLog(t, path)
		for _, l := range lines {
			addresses[l.SourceIP] = true
		}
	}
	for _, want := range []string{fmt.Sprintf("attacked_logins, watermark 2026-03-02T08:09:59.963Z, %d keys", len(addresses)), `bytes  "203.0.113.66"`,
		"login_attempts, watermark 2026-03-02T08:10:00.000Z, 0 keys", "waiting   0 rows"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if n := strings.Count(stdout, " bytes  "); n != 2 {
		t.Errorf("%d keys are shown, not 2:\n%s", n, stdout)
	}
	for args, want := range map[string]string{"": "which pipeline?", "--top -1 x": "which pipeline?", "nothing.yaml": "no such file"} {
		if _, said, status := run(append([]string{"state"}, strings.Fields(args)...)...); status != 2 || !strings.Contains(said, want) {
			t.Errorf("state %s: status %d, %s", args, status, said)
		}
	}
}
