package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// watchedYAML follows a file; its module and threshold may be replaced.
const watchedYAML = `
input:
  file_lines: { paths: ["%[1]s/in.jsonl"], follow: true }
buffer:
  detect:
    name: watched
    state: %[1]s/state
    http: 127.0.0.1:0
    streams: { logins: { match: { path: "*" }, time: { field: t } } }
    operators:
      many:
        plugin: { from: logins, module: %[2]s/brute_force.wasm, fields: { login_attempts: n }, config: { threshold: %[3]d } }
output:
  file_rows: { path: "%[1]s/out.jsonl" }
`

// A run that follows a file says over HTTP that it lives and what it has done; on SIGHUP it takes what its file says of plugins anew,
// and keeps what it has if the module is broken, with an alert about that; at the end it says what rules cost.
func TestWatchedRun(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	in, file := filepath.Join(dir, "in.jsonl"), filepath.Join(dir, "p.yaml")
	module, err := os.ReadFile("plugins/brute_force/brute_force.wasm")
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "brute_force.wasm"), string(module))
	write(file, fmt.Sprintf(watchedYAML, dir, dir, 10))
	write(in, "")
	sent := 0
	send := func(n int, count int) {
		t.Helper()
		f, err := os.OpenFile(in, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range count {
			fmt.Fprintf(f, `{"t":"%s","n":%d}`+"\n", time.Unix(1_772_000_000+int64(sent), 0).UTC().Format(time.RFC3339), n)
			sent++
		}
	}
	cmd := exec.Command(binary, "run", file)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	lines := make(chan string, 1000)
	go func() {
		for s := bufio.NewScanner(said); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
	}()
	var base string
	select {
	case line := <-lines:
		if m := regexp.MustCompile(`http://[\d.:]+/`).FindString(line); m != "" {
			base = m
			break
		}
		t.Fatalf("it says %q", line)
	case <-time.After(time.Minute):
		t.Fatal("it says nothing")
	}
	ask := func(path string) (int, string) {
		resp, err := http.Get(base + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	wait := func(what string, done func() bool) {
		t.Helper()
		for range 3000 {
			if done() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		_, stats := ask("stats")
		t.Fatalf("%s does not come: %s", what, stats)
	}
	metric := func(line string) func() bool {
		return func() bool {
			_, text := ask("metrics")
			return strings.Contains(text, "\n"+line+"\n")
		}
	}
	const labels = `{operator="many",pipeline="watched",plugin="tocsin.brute-force"}`
	wait("ready", func() bool { code, _ := ask("ready"); return code == 200 })
	if code, body := ask("live"); code != 200 {
		t.Errorf("/live: %d %s", code, body)
	}
	send(12, 100)
	wait("the first rows", metric(`tocsin_rule_hits_total{operator="many",pipeline="watched",rule="tocsin.brute-force/1"} 100`))

	write(file, fmt.Sprintf(watchedYAML, dir, dir, 15))
	_ = cmd.Process.Signal(syscall.SIGHUP)
	wait("the new threshold", metric("tocsin_plugin_replacements_total"+labels+" 1"))
	send(12, 50)
	send(16, 50)
	wait("the next rows", metric(`tocsin_records_total{pipeline="watched"} 200`))

	write(filepath.Join(dir, "brute_force.wasm"), "broken")
	_ = cmd.Process.Signal(syscall.SIGHUP)
	wait("the refusal", metric("tocsin_plugin_refused_replacements_total"+labels+" 1"))
	send(16, 10)
	wait("the last rows", metric(`tocsin_rule_hits_total{operator="many",pipeline="watched",rule="tocsin.brute-force/1"} 160`))
	wait("the last row in the output", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "out.jsonl"))
		return bytes.Count(b, []byte(`"kind":"row"`)) == 160
	})
	_ = cmd.Process.Signal(os.Interrupt)
	var all []string
	for line := range lines {
		all = append(all, line)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, strings.Join(all, "\n"))
	}
	rows, health := 0, 0
	for _, r := range results(t, filepath.Join(dir, "out.jsonl")) {
		switch {
		case r.Tocsin.Kind == "row":
			rows++
		case strings.Contains(r.line, `"rule":{"id":"tocsin.health/reload"`):
			health++
		}
	}
	if rows != 160 || health != 1 {
		t.Errorf("%d rows, %d alerts about the module", rows, health)
	}
	end := strings.Join(all, "\n")
	if !strings.Contains(end, "the plugin stays as it was") || !regexp.MustCompile(`\n  many +\d+ +[\d.]+% +210 +210 +160 +0`).MatchString(end) {
		t.Errorf("it says\n%s", end)
	}
}

func TestBadHTTP(t *testing.T) {
	binary := build(t)
	for flag, want := range map[string]string{"--http=nowhere": "http must be host:port", "--http": "needs an address", "--http=192.0.2.1:1": "choose another address"} {
		out, err := exec.Command(binary, "run", "pipelines/quickstart.yaml", flag).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s", flag, err, out)
		}
	}
}

// With --log json whatever is said is a JSON object a line, and what goes wrong has its level and its pipeline; nobody listens unasked.
func TestStructuredLog(t *testing.T) {
	binary := build(t)
	pipeline, _ := moved(t, "pipelines/quickstart.yaml", t.TempDir())
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(broken, []byte("input: { file_lines: { paths: [nowhere.jsonl] } }\noutput: { drop: {} }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	levels := map[string]int{}
	for _, path := range []string{pipeline, broken} {
		cmd := exec.Command(binary, "run", "--log", "json", path)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		_ = cmd.Run()
		for _, line := range strings.Split(strings.TrimSpace(errs.String()), "\n") {
			var m struct{ Time, Level, Msg, Pipeline string }
			if err := json.Unmarshal([]byte(line), &m); err != nil || m.Time == "" || m.Msg == "" {
				t.Errorf("%v: %s", err, line)
			}
			if levels[m.Level]++; m.Level == "ERROR" && m.Pipeline != "" {
				levels["of "+m.Pipeline]++
			}
			if strings.Contains(m.Msg, "Listening") || strings.Contains(line, "0.0.0.0") {
				t.Errorf("it listens: %s", line)
			}
		}
	}
	if levels["INFO"] < 3 || levels["ERROR"] == 0 || levels["of broken"] == 0 {
		t.Errorf("%v", levels)
	}
}
