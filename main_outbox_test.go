package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// waitingLanes is what `tocsin outbox --json` says.
type waitingLanes struct {
	Running bool
	Lanes   []struct {
		Lane, Oldest          string
		Rows, Bytes, Rejected int
		Refused, Dropped      int
		LastError             string `json:"last_error"`
	}
}

// A lane whose server is down keeps its rows and holds nobody: the other lane gets all of its own. What waits is listed while it runs and
// after it was stopped; it is dropped with a reason, and recorded, a row or the whole lane; and what was not dropped arrives when the server
// is there again, at once if that is asked for.
func TestOutbox(t *testing.T) {
	var down atomic.Bool
	var taken atomic.Int64
	down.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		taken.Add(1)
	}))
	defer server.Close()
	binary, dir := build(t), t.TempDir()
	pipeline, rows := moved(t, "pipelines/lanes.yaml", dir, "file_rows: { path: ./out/lanes.alerts.jsonl }", fmt.Sprintf("http_client: { url: %q, verb: POST, retries: 0 }", server.URL),
		"    name: lanes\n", "    name: lanes\n    http: 127.0.0.1:0\n")
	tocsin := func(status int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		cmd := exec.Command(binary, args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() < 0 || cmd.ProcessState.ExitCode() != status {
			t.Fatalf("tocsin %s: %v\n%s", strings.Join(args, " "), err, out.String())
		}
		return out.String()
	}
	listed := func() (w waitingLanes) {
		t.Helper()
		if err := json.Unmarshal([]byte(tocsin(0, "outbox", "--json", pipeline)), &w); err != nil || len(w.Lanes) != 2 || w.Lanes[0].Lane != "siem" || w.Lanes[1].Lane != "lake" {
			t.Fatalf("%v: %+v", err, w)
		}
		return w
	}
	begin := func() (cmd *exec.Cmd, address string) {
		t.Helper()
		cmd = exec.Command(binary, "run", pipeline)
		said, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		s := bufio.NewScanner(said)
		for address == "" && s.Scan() {
			if m := regexp.MustCompile(`http://([\d.:]+)/`).FindStringSubmatch(s.Text()); m != nil {
				address = m[1]
			}
		}
		go func() { _, _ = io.Copy(io.Discard, said) }()
		return cmd, address
	}
	cmd, address := begin()
	waiting := 0
	isDown := func() bool {
		var doc struct {
			Lanes []struct {
				Lane     string
				Rows     int
				Sent     int    `json:"sent_rows"`
				Done     int    `json:"acknowledged_rows"`
				Rejected int    `json:"rejected_rows"`
				Error    string `json:"last_error"`
			}
		}
		if err := json.Unmarshal(fetch(t, "http://"+address+"/stats"), &doc); err != nil || len(doc.Lanes) != 2 {
			return false
		}
		siem, lake := doc.Lanes[0], doc.Lanes[1]
		waiting = siem.Rows + siem.Sent
		return siem.Done == 0 && siem.Rejected > 0 && siem.Error != "" && lake.Done > 500 && lake.Rows+lake.Sent == 0
	}
	waitFor(t, isDown)
	if got := len(results(t, rows)); waiting < 20 || got < 500 {
		t.Fatalf("%d rows wait, %d are in the other lane", waiting, got)
	}
	if text := string(fetch(t, "http://"+address+"/metrics")); !regexp.MustCompile(`tocsin_lane_rejected_rows_total\{lane="siem",pipeline="lanes"\} [1-9]`).MatchString(text) {
		t.Error("no metric of rejections")
	}
	if w := listed(); !w.Running || w.Lanes[0].Rows != waiting {
		t.Errorf("while it runs: %+v, want %d", w, waiting)
	}
	if said := tocsin(1, "outbox", "drop", "--lane", "siem", "--reason", "x", pipeline); !strings.Contains(said, "is in use by another process") {
		t.Error(said)
	}
	if said := tocsin(0, "outbox", "retry", "--http", address, "--lane", "siem", pipeline); !strings.Contains(said, "rejected rows are sent again now") {
		t.Error(said)
	}
	if said := tocsin(1, "outbox", "retry", "--http", address, "--lane", "seim", pipeline); !strings.Contains(said, `there is no lane "seim"; there is siem, lake`) {
		t.Error(said)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	w := listed()
	if w.Running || w.Lanes[0].Rows != waiting || w.Lanes[0].Bytes == 0 || w.Lanes[0].Rejected == 0 || w.Lanes[0].LastError == "" || !strings.HasPrefix(w.Lanes[0].Oldest, "2026-03-02T08:0") || w.Lanes[1].Rows != 0 {
		t.Fatalf("after it was stopped: %+v, want %d", w, waiting)
	}
	if said := tocsin(0, "outbox", pipeline); !strings.Contains(said, fmt.Sprintf("lane      siem: %d rows", waiting)) || !strings.Contains(said, "last error 20") {
		t.Error(said)
	}
	if said := tocsin(0, "state", pipeline); !strings.Contains(said, fmt.Sprintf("waiting   %d rows", waiting)) {
		t.Error(said)
	}
	if said := tocsin(0, "outbox", "retry", pipeline); !strings.Contains(said, "the next `tocsin run` sends at once what waits") {
		t.Error(said)
	}
	// One row is dropped; another cannot be, nor one of a lane that there is not, nor without a reason.
	var id string
	for _, r := range results(t, rows) {
		if r.Tocsin.Kind == "alert" {
			id = r.Tocsin.ResultID
		}
	}
	tocsin(0, "outbox", "drop", "--id", id, "--reason", "a test \"x\"", pipeline)
	for _, args := range [][]string{{"--id", id, "--reason", "again"}, {"--lane", "seim", "--reason", "again"}} {
		if said := tocsin(1, append(append([]string{"outbox", "drop"}, args...), pipeline)...); !strings.Contains(said, "no row with the id "+id+" waits") && !strings.Contains(said, `the state has no lane "seim"; it has siem, lake`) {
			t.Error(said)
		}
	}
	tocsin(2, "outbox", "drop", "--lane", "siem", pipeline)
	tocsin(2, "outbox", "drop", "--reason", "x", pipeline)
	if w := listed(); w.Lanes[0].Rows != waiting-1 || w.Lanes[0].Dropped != 1 {
		t.Fatalf("after a row was dropped: %+v", w)
	}
	if got := dropped(t, filepath.Join(dir, "state", "dropped.jsonl")); len(got) != 1 || got[0].Reason != "a test \"x\"" || got[0].Row.Tocsin.ResultID != id || got[0].Dropped == "" {
		t.Fatalf("%+v", got)
	}
	// The server is back: all others arrive, once each, and the run ends.
	down.Store(false)
	cmd, _ = begin()
	if err := cmd.Wait(); err != nil || int(taken.Load()) != waiting-1 {
		t.Fatalf("%v: %d requests, want %d", err, taken.Load(), waiting-1)
	}
	if w := listed(); w.Lanes[0].Rows != 0 || w.Lanes[0].Dropped != 1 {
		t.Errorf("%+v", w)
	}
	// Over again with a server that is down for good: the whole lane is dropped, and the next run ends.
	down.Store(true)
	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	cmd, address = begin()
	waitFor(t, isDown)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if said := tocsin(0, "outbox", "drop", "--lane", "siem", "--reason", "gone", pipeline); !strings.HasPrefix(said, fmt.Sprintf("%d rows dropped", waiting)) {
		t.Error(said)
	}
	tocsin(0, "run", pipeline)
	if got := dropped(t, filepath.Join(dir, "state", "dropped.jsonl")); len(got) != waiting || int(taken.Load()) != waiting-1 {
		t.Errorf("%d rows are recorded, %d requests", len(got), taken.Load())
	}
}

// fetch gets what an address answers; nothing if it does not.
func fetch(t *testing.T, address string) []byte {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return b
}

// waitFor waits for what must come.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 6000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it does not come")
}

// droppedRow is a line of dropped.jsonl.
type droppedRow struct {
	Dropped, Reason string
	Row             result
}

func dropped(t *testing.T, path string) (all []droppedRow) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		var d droppedRow
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, d)
	}
	return all
}
