package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// What a sink that is down costs: the rows of its lane wait on disk, those of the other lane go on.

// laneRate is in events/s, each of which is a row in both lanes.
const laneRate = 20_000

const lanesYAML = `
input: { stdin: { scanner: { lines: {} } } }
buffer:
  detect:
    name: lanes
    state: DIR/state-lanes
    streams: { events: { time: { field: time } } }
    operators:
      all: { filter: { from: events, where: { n|gte: 0 } } }
    deliver:
      up: { block: true }
      down: { block: true }
output:
  lanes:
    up: { http_client: { url: URL/up, verb: POST, retries: 0 } }
    down: { http_client: { url: URL/down, verb: POST, retries: 0 } }
`

// laneSink is the server of both lanes: which events it has got, and whether the lane down is.
type laneSink struct {
	down atomic.Bool
	mu   sync.Mutex
	seen [2][]bool
	got  [2]int // different ones
}

var numberOf = regexp.MustCompile(`"n":(\d+)`)

func (s *laneSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	lane := 0
	if r.URL.Path == "/down" {
		if lane = 1; s.down.Load() || err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range numberOf.FindAllSubmatch(body, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		for len(s.seen[lane]) <= n {
			s.seen[lane] = append(s.seen[lane], false)
		}
		if !s.seen[lane][n] {
			s.seen[lane][n] = true
			s.got[lane]++
		}
	}
}

// count is how many different events a lane has got.
func (s *laneSink) count(lane int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[lane]
}

// laneRun is what was measured.
type laneRun struct {
	written      int
	before, down int64         // the most anonymous memory, KiB
	behind       int           // the most events that the lane up was behind meanwhile
	caught       time.Duration // from the sink's return until its lane was less than a second behind
}

func benchLanes(binary string) error {
	sink := &laneSink{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: sink}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	file := path("lanes.yaml")
	if err := os.RemoveAll(path("state-lanes")); err != nil {
		return err
	}
	text := strings.NewReplacer("DIR", *dir, "URL", "http://"+l.Addr().String()).Replace(lanesYAML)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(binary, "run", "--fresh", "--quiet", file)
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	say("a sink is down for %s at %d events/s", *downFor, laneRate)
	ran, err := sink.drive(cmd.Process.Pid, in)
	in.Close()
	if e := cmd.Wait(); err == nil && e != nil {
		err = fmt.Errorf("%w: %s", e, said.Bytes())
	}
	if err != nil {
		return err
	}
	fmt.Println("\n| a sink that is down | is | must be |\n|---|---|---|")
	fmt.Printf("| events, each a row in both lanes | %d | |\n", ran.written)
	fmt.Printf("| lost in the lane that was down for %s, in the other | %d, %d | 0 |\n", *downFor, ran.written-sink.count(1), ran.written-sink.count(0))
	fmt.Printf("| the other lane was behind by at most, events | %d | |\n", ran.behind)
	fmt.Printf("| most anonymous memory before, and then, MiB | %d, %d | flat |\n", ran.before>>10, ran.down>>10)
	fmt.Printf("| caught up within | %s | <= %s |\n", ran.caught.Round(100*time.Millisecond), *downFor)
	return nil
}

// drive writes events at the rate: for a third of the time with both sinks, then with one, then with both until the lane has caught up.
func (s *laneSink) drive(pid int, in io.Writer) (ran laneRun, err error) {
	began, back := time.Now(), time.Time{}
	w := bufio.NewWriterSize(in, 1<<16)
	var line []byte
	for last := (time.Time{}); ; time.Sleep(time.Millisecond) {
		took := time.Since(began)
		for ; ran.written < int(took.Seconds()*laneRate); ran.written++ {
			line = append(line[:0], `{"time":"`...)
			line = event.AppendTime(line, time.Now().UnixMilli())
			line = append(line, `","n":`...)
			line = strconv.AppendInt(line, int64(ran.written), 10)
			line = append(line, `,"user":"user17","address":"10.0.0.7","agent":"Mozilla/5.0 (X11; Linux x86_64)","session":"a3f0c1d2","country":"DE"}`+"\n"...)
			if _, err := w.Write(line); err != nil {
				return ran, err
			}
		}
		if err := w.Flush(); err != nil {
			return ran, err
		}
		s.down.Store(took > *downFor/3 && took < *downFor*4/3)
		if time.Since(last) < 100*time.Millisecond {
			continue
		}
		last = time.Now()
		memory := anonymous(pid)
		switch {
		case took <= *downFor/3:
			ran.before = max(ran.before, memory)
		default:
			ran.down, ran.behind = max(ran.down, memory), max(ran.behind, ran.written-s.count(0))
		}
		if took < *downFor*4/3 {
			continue
		}
		if back.IsZero() {
			back = time.Now()
		}
		ran.caught = time.Since(back)
		if ran.written-s.count(1) < laneRate || ran.caught > 5**downFor {
			return ran, nil
		}
	}
}
