package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/cli"
)

// door is an input of Benthos's that docs/inputs.md shows, with its detect buffer, as a pipeline of its own in a folder.
type door struct {
	pipeline, rows string
	cmd            *exec.Cmd
	said           bytes.Buffer
}

// doors are what docs/inputs.md shows, by the name of the input.
func doors(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, b := range regexp.MustCompile("(?s)```yaml input (\\w+)\\n(.*?)```").FindAllStringSubmatch(text(t, "docs/inputs.md"), -1) {
		found[b[1]] = b[2]
	}
	return found
}

func openDoor(t *testing.T, binary, name string, stdin io.Reader, change ...string) *door {
	t.Helper()
	dir := t.TempDir()
	d := &door{pipeline: filepath.Join(dir, "pipeline.yaml"), rows: filepath.Join(dir, "rows.jsonl")}
	change = append(change, "./state/"+name, filepath.Join(dir, "state"), "./out/"+name+".jsonl", d.rows)
	if err := os.WriteFile(d.pipeline, []byte(strings.NewReplacer(change...).Replace(doors(t)[name])), 0o644); err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(binary, "run", d.pipeline)
	d.cmd.Stdin, d.cmd.Stderr = stdin, &d.said
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.cmd.Process.Kill(); d.cmd.Wait() })
	return d
}

// until waits for so many rows.
func (d *door) until(t *testing.T, n int) (rows []result) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(d.rows); err == nil {
			if rows = results(t, d.rows); len(rows) >= n {
				return rows
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d rows\n%s", len(rows), n, d.said.String())
		}
	}
}

// stop interrupts it; that it ends within a minute is all that is asked. Early: before it has listened for signals.
func (d *door) stop(t *testing.T) (early bool) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	select {
	case err := <-ended:
		if early = !d.cmd.ProcessState.Exited(); err != nil && !early {
			t.Errorf("%v\n%s", err, d.said.String())
		}
	case <-time.After(time.Minute):
		t.Fatalf("it does not end\n%s", d.said.String())
	}
	return early
}

func freePort(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().String()
	}
	for range 100 { // not one of those that systems give to whoever asks: it has to be free again when the process starts anew
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000)))
		if err == nil {
			l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// dial connects as soon as somebody listens.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Every input that the page shows is clean.
func TestDoorsAreClean(t *testing.T) {
	shown := doors(t)
	for _, name := range []string{"syslog_udp", "syslog_tcp", "syslog_tls", "http", "generate", "stdin"} {
		path := filepath.Join(t.TempDir(), "docs.yaml")
		if err := os.WriteFile(path, []byte(shown[name]), 0o644); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if status := cli.Main([]string{"lint", path}, &out, &out); status != 0 || shown[name] == "" {
			t.Errorf("%s: status %d\n%s", name, status, out.String())
		}
	}
}

// A pipe that stays open ends neither with data in it nor without when it is interrupted: the program does.
func TestStdinIsInterrupted(t *testing.T) {
	binary := build(t)
	open := func(said string) (*door, *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		d := openDoor(t, binary, "stdin", r)
		r.Close()
		io.WriteString(w, said)
		return d, w
	}
	for _, more := range []string{"", "half"} {
		d, w := open("time=2026-03-02T08:00:00Z n=1\n" + more)
		d.until(t, 1)
		d.stop(t)
		w.Close()
	}
	for wait := time.Second; ; wait *= 2 { // until it listens for signals, which it does not say
		d, w := open("")
		time.Sleep(wait)
		early := d.stop(t)
		if w.Close(); !early {
			break
		}
	}
	// Closed, it ends by itself, and the last line counts without a newline.
	d := openDoor(t, binary, "stdin", strings.NewReader("time=2026-03-02T08:00:00Z n=1\ntime=2026-03-02T08:00:01Z n=2"))
	if err := d.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, d.said.String())
	}
	d.until(t, 2)
}

func TestSyslogDoors(t *testing.T) {
	binary := build(t)
	now := time.Now().UTC() // a time without year is of the year that is nearest
	lines := []string{"<34>1 " + now.Format(time.RFC3339) + " host sshd 4711 - - Failed password for root", "<13>" + now.Format(time.Stamp) + " host sudo[7]: no entry"}
	check := func(d *door) {
		rows := d.until(t, 2)
		for i, app := range []string{"sshd", "sudo"} {
			var row struct{ App, Raw string }
			if err := json.Unmarshal([]byte(rows[i].line), &row); err != nil || row.App != app || row.Raw != lines[i] {
				t.Errorf("%v: %s", err, rows[i].line)
			}
		}
		d.stop(t)
	}
	t.Run("udp", func(t *testing.T) {
		addr := freePort(t, "udp")
		d := openDoor(t, binary, "syslog_udp", nil, "0.0.0.0:5514", addr)
		c, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) { // until it listens
			if _, err := c.Write([]byte(lines[0])); err == nil && len(readAll(d.rows)) > 0 {
				break
			}
		}
		c.Write([]byte(strings.Repeat("x", 60_000)))
		c.Write([]byte(lines[1]))
		seen := map[string]int{}
		for end := time.Now().Add(time.Minute); seen["sudo"] == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			clear(seen)
			for _, r := range results(t, d.rows) {
				var row struct{ App, Raw string }
				if err := json.Unmarshal([]byte(r.line), &row); err != nil {
					t.Fatal(err)
				}
				if seen[row.App]++; r.Tocsin.Kind == "row" && !slices.Contains(lines, row.Raw) {
					t.Errorf("%s", r.line)
				}
			}
		}
		if seen["sshd"] == 0 || seen["sudo"] != 1 || seen[""] != 1 {
			t.Errorf("rows %v\n%s", seen, d.said.String())
		}
		d.stop(t)
	})
	t.Run("tcp", func(t *testing.T) {
		addr := freePort(t, "tcp")
		d := openDoor(t, binary, "syslog_tcp", nil, "0.0.0.0:5514", addr)
		c := dial(t, addr)
		defer c.Close() // it stays open meanwhile
		for _, l := range lines {
			fmt.Fprintln(c, l)
		}
		check(d)
	})
	t.Run("tls", func(t *testing.T) {
		addr := freePort(t, "tcp")
		d := openDoor(t, binary, "syslog_tls", nil, "0.0.0.0:6514", addr)
		dial(t, addr).Close()
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, l := range lines {
			fmt.Fprintln(c, l)
		}
		check(d)
	})
}

func TestGenerateDoor(t *testing.T) {
	d := openDoor(t, build(t), "generate", nil, "interval: 100ms", "interval: 1ms")
	if err := d.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, d.said.String())
	}
	if !strings.Contains(d.said.String(), "50 events, ") {
		t.Errorf("%s", d.said.String())
	}
}

// A client that waits for its answer gets it when its events are on disk, and does not wait for the next second.
func TestHTTPDoorAnswersAtOnce(t *testing.T) {
	addr := freePort(t, "tcp")
	d := openDoor(t, build(t), "http", nil, "0.0.0.0:4196", addr)
	dial(t, addr).Close()
	began := time.Now()
	const requests = 30
	for i := range requests {
		body := fmt.Sprintf(`{"time":"2026-03-02T08:00:%02dZ","n":%d}`+"\n"+`{"time":"2026-03-02T08:00:%02dZ","n":%d}`, i, 2*i, i, 2*i+1)
		answer, err := http.Post("http://"+addr+"/events", "application/x-ndjson", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("status %d\n%s", answer.StatusCode, d.said.String())
		}
	}
	took := time.Since(began)
	t.Logf("%v an answer", took/requests)
	d.cmd.Process.Kill() // what was answered is kept
	d.cmd.Wait()
	d.cmd = exec.Command(d.cmd.Path, "run", d.pipeline)
	d.cmd.Stderr = &d.said
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dial(t, addr).Close()    // it listens
	ids := map[string]bool{} // what had left and was not acknowledged leaves again
	for lines := 2 * requests; len(ids) < 2*requests; lines++ {
		for _, r := range d.until(t, lines) {
			ids[r.Tocsin.ResultID] = true
		}
	}
	if len(ids) != 2*requests {
		t.Errorf("%d rows", len(ids))
	}
	d.stop(t)
}
