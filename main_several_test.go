package main

import (
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
	"sync"
	"syscall"
	"testing"
	"time"
)

// Pipelines that run beside each other in one process say what each says alone, and are named apart.
func TestSeveralPipelines(t *testing.T) {
	binary := build(t)
	var paths, rows []string
	for _, path := range []string{"pipelines/quickstart.yaml", "pipelines/windows.yaml", "pipelines/first_seen.yaml"} {
		p, r := moved(t, path, t.TempDir())
		paths, rows = append(paths, p), append(rows, r)
	}
	out, err := exec.Command(binary, append([]string{"run"}, paths...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, path := range []string{"pipelines/quickstart.yaml", "pipelines/windows.yaml", "pipelines/first_seen.yaml"} {
		want := map[string]string{}
		for _, r := range ran(t, path) {
			want[r.Tocsin.ResultID] = r.line
		}
		got := byID(t, rows[i])
		for id, line := range want {
			if got[id] != line {
				t.Errorf("%s: %s\nwant %s\n got %s", path, id, line, got[id])
			}
		}
		if len(got) != len(want) || len(want) == 0 {
			t.Errorf("%s: %d results, %d alone", path, len(got), len(want))
		}
		if name := strings.TrimSuffix(filepath.Base(path), ".yaml"); !strings.Contains(string(out), "\n"+name+":\n") {
			t.Errorf("nothing is said of %s in\n%s", name, out)
		}
	}
	if out, err := exec.Command(binary, "run", paths[0], paths[0]).CombinedOutput(); err == nil || !strings.Contains(string(out), "are both called quickstart") {
		t.Errorf("the same twice: %v\n%s", err, out)
	}
}

// waiting is a pipeline that waits for more lines of a file.
func waiting(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name+".yaml")
	text := strings.NewReplacer("DIR", dir, "NAME", name).Replace(`
input: { file_lines: { paths: [DIR/NAME.jsonl], follow: true } }
buffer:
  detect:
    name: NAME
    state: DIR/state-NAME
    streams: { events: { match: { path: "*" }, time: { field: t } } }
    operators: { each: { filter: { from: events, where: { k|exists: true } } } }
output: { file_rows: { path: DIR/NAME-rows.jsonl } }
`)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".jsonl"), []byte(`{"t":"2026-03-01T00:00:00Z","k":1}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// One address tells of all pipelines; a pipeline that fails for good stops the others, which commit, and the process says which it was;
// a signal stops all.
func TestSeveralPipelinesEnd(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	one, two := waiting(t, dir, "one"), waiting(t, dir, "two")
	cmd := exec.Command(binary, "run", "--http", "127.0.0.1:0", one, two)
	errs := &sayings{}
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	address := ""
	until(t, errs, func() bool {
		m := regexp.MustCompile(`http://(\S+)/stats`).FindStringSubmatch(errs.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	})
	asked := func(path string) string {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	until(t, errs, func() bool {
		var all struct {
			Pipelines []struct {
				Pipeline string
				Records  int
			}
		}
		_ = json.Unmarshal([]byte(asked("/stats")), &all)
		return fmt.Sprint(all.Pipelines) == "[{one 1} {two 1}]" && asked("/ready") == "ok\n"
	})
	for name, path := range map[string]string{`{"pipeline":"two",`: "/stats?pipeline=two", `tocsin_records_total{pipeline="one"} 1`: "/metrics", `no pipeline "three"`: "/stats?pipeline=three"} {
		if got := asked(path); !strings.Contains(got, name) {
			t.Errorf("%s: no %s in %s", path, name, got)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	if err := os.WriteFile(filepath.Join(dir, "state-two", "TOCSIN"), []byte("not this"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "one.jsonl"), []byte(strings.Repeat(`{"t":"2026-03-01T00:00:00Z","k":1}`+"\n", 3)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "run", one, two).CombinedOutput()
	if status := exitStatus(err); status != 1 || !strings.Contains(string(out), "tocsin run: two: state ") {
		t.Errorf("status %d\n%s", status, out)
	}
}

func exitStatus(err error) int {
	if x, ok := err.(*exec.ExitError); ok {
		return x.ExitCode()
	}
	return -1
}

// until waits for a condition, for at most a minute.
func until(t *testing.T, errs fmt.Stringer, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come; it says\n%s", errs)
		}
	}
}

// sayings is what a process has said so far.
type sayings struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sayings) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *sayings) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
