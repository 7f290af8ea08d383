package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
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
input: { file_lines: { paths: [DIR/lanes.jsonl], follow: true } }
buffer:
  detect:
    name: lanes
    state: DIR/state-lanes
    http: ADDRESS
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

// laneRun is what was measured: memory with both sinks up, in the second and the last third of the outage, and until the lane has caught up.
type laneRun struct {
	before, second, last, after laneMemory
	behind                      int           // the most events that the lane up was behind during the outage
	stood                       int           // events that waited in the end of it
	caught                      time.Duration // from the sink's return until its lane was less than a second behind
}

// laneMemory is the most that was seen: anonymous memory in KiB, and what the garbage collector left of the heap, in bytes.
type laneMemory struct{ anonymous, live int64 }

func benchLanes(binary string) error {
	sink := &laneSink{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: sink}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	file, address := path("lanes.yaml"), freePort()
	if err := os.RemoveAll(path("state-lanes")); err != nil {
		return err
	}
	text := strings.NewReplacer("DIR", *dir, "URL", "http://"+l.Addr().String(), "ADDRESS", address).Replace(lanesYAML)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	in, err := os.Create(path("lanes.jsonl"))
	if err != nil {
		return err
	}
	defer os.Remove(in.Name())
	defer in.Close()
	cmd := exec.Command(binary, "run", "--fresh", "--quiet", file)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	say("a sink is down for %s at %d events/s", *downFor, laneRate)
	feed := &laneFeed{sink: sink, w: bufio.NewWriterSize(in, 1<<16), began: time.Now(), pid: cmd.Process.Pid, figures: "http://" + address + "/metrics"}
	ran, err := feed.drive()
	for range 600 { // no more is written; what was must arrive
		if sink.count(0) == feed.written && sink.count(1) == feed.written || err != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if e := cmd.Wait(); err == nil && e != nil {
		err = fmt.Errorf("%w: %s", e, said.Bytes())
	}
	if err != nil {
		return err
	}
	fmt.Println("\n| a sink that is down | is | must be |\n|---|---|---|")
	mib := func(m laneMemory) string { return fmt.Sprintf("%d (%d)", m.anonymous>>10, m.live>>20) }
	fmt.Printf("| events, each a row in both lanes | %d | |\n", feed.written)
	fmt.Printf("| lost in the lane that was down for %s, in the other | %d, %d | 0 |\n", *downFor, feed.written-sink.count(1), feed.written-sink.count(0))
	fmt.Printf("| the other lane was behind by at most, events | %d | |\n", ran.behind)
	fmt.Printf("| anonymous memory (of it the live heap), MiB, at most: before | %s | |\n", mib(ran.before))
	fmt.Printf("| ... in the second third of the outage, in its last, when %d rows waited | %s, %s | flat |\n", ran.stood, mib(ran.second), mib(ran.last))
	fmt.Printf("| ... while it caught up | %s | |\n", mib(ran.after))
	fmt.Printf("| caught up within | %s | <= %s |\n", ran.caught.Round(100*time.Millisecond), *downFor)
	return nil
}

// freePort is an address on which nobody listens.
func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// laneFeed writes events at the rate, and looks at the process that reads them.
type laneFeed struct {
	sink    *laneSink
	w       *bufio.Writer
	began   time.Time
	written int
	line    []byte
	pid     int
	figures string // address
}

// drive has a sink go down twice: the first time for a third of the time, so that what the state keeps in any case is there (the database's tables in
// the making, and their buffers), and then for all of it.
func (f *laneFeed) drive() (ran laneRun, err error) {
	third := *downFor / 3
	caught := func() bool { return f.written-f.sink.count(1) < laneRate }
	phases := []struct {
		down  bool
		lasts time.Duration
		until func() bool // or so long, at most; nil: no
		sees  *laneMemory
	}{
		{false, third / 2, nil, &laneMemory{}}, {true, third, nil, &laneMemory{}}, {false, 5 * *downFor, caught, &laneMemory{}}, {false, third, nil, &ran.before},
		{true, third, nil, &laneMemory{}}, {true, third, nil, &ran.second}, {true, third, nil, &ran.last}, {false, 5 * *downFor, caught, &ran.after},
	}
	for i, p := range phases {
		f.sink.down.Store(p.down)
		began := time.Now()
		err := f.write(func() bool {
			p.sees.see(f)
			if i > 3 && p.down {
				ran.behind = max(ran.behind, f.written-f.sink.count(0))
			}
			return time.Since(began) > p.lasts || p.until != nil && p.until()
		})
		if err != nil {
			return ran, err
		}
		if ran.caught = time.Since(began); p.down {
			ran.stood = f.written - f.sink.count(1)
		}
	}
	return ran, nil
}

// write writes what is due, until it is over, which is asked ten times a second.
func (f *laneFeed) write(over func() bool) error {
	for last := (time.Time{}); ; time.Sleep(time.Millisecond) {
		for ; f.written < int(time.Since(f.began).Seconds()*laneRate); f.written++ {
			f.line = append(f.line[:0], `{"time":"`...)
			f.line = event.AppendTime(f.line, time.Now().UnixMilli())
			f.line = append(f.line, `","n":`...)
			f.line = strconv.AppendInt(f.line, int64(f.written), 10)
			f.line = append(f.line, `,"user":"user17","address":"10.0.0.7","agent":"Mozilla/5.0 (X11; Linux x86_64)","session":"a3f0c1d2","country":"DE"}`+"\n"...)
			if _, err := f.w.Write(f.line); err != nil {
				return err
			}
		}
		if err := f.w.Flush(); err != nil {
			return err
		}
		if time.Since(last) < 100*time.Millisecond {
			continue
		}
		if last = time.Now(); over() {
			return nil
		}
	}
}

// see looks at the process. What the collector leaves of the heap is half of its next goal.
func (m *laneMemory) see(f *laneFeed) {
	m.anonymous = max(m.anonymous, anonymous(f.pid))
	resp, err := http.Get(f.figures)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if goal := nextGC.FindSubmatch(text); goal != nil {
		bytes, _ := strconv.ParseFloat(string(goal[1]), 64)
		m.live = max(m.live, int64(bytes/2))
	}
}

var nextGC = regexp.MustCompile(`(?m)^go_memstats_next_gc_bytes (\S+)$`)
