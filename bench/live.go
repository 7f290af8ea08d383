package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/pipeline"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// What live input costs: how long an event takes to its alert, and what commits take of a core.

const (
	alertRate  = 20_000  // events/s of the first figure
	commitRate = 100_000 // of the second
	addresses  = 50_000
	probeEvery = 10 * time.Millisecond // an attack, of which one alert must come
	probeSize  = 5                     // events of an attack
)

// liveYAML counts by address, and says a row the moment that an attack is complete, over lines on standard input.
const liveYAML = `
input: { stdin: { scanner: { lines: {} } } }
buffer:
  detect:
    name: live
    state: DIR/state-live
    streams: { logins: { time: { field: login_time } } }
    operators:
      logins_by_address: # every login changes a key that the next commit writes
        window: { from: logins, tumbling: 20s, key: source_ip, aggregate: { n: count, users: { count_distinct: username } }, having: { n|gte: 100000 } }
      attack:
        window: { from: logins, tumbling: 1m, key: source_ip, where: { status: failure }, aggregate: { n: count }, having: { n|gte: 5 }, emit: first }
        alert: { title: "{n} failures from {source_ip}", severity: medium }
output: { stdout: {} }
`

// liveFile writes the pipeline, and removes the state of an earlier run.
func liveFile() (string, error) {
	file := path("live.yaml")
	if err := os.RemoveAll(path("state-live")); err != nil {
		return "", err
	}
	return file, os.WriteFile(file, []byte(strings.ReplaceAll(liveYAML, "DIR", *dir)), 0o644)
}

// benchLive prints both figures: the least of -runs, since whoever shares the machine only adds to them.
func benchLive(binary string) error {
	var half, most, commits []float64
	n := 0
	for i := range *runs {
		say("run %d of %d: live input", i+1, *runs)
		switch p50, p99, attacks, err := alertLatency(binary); {
		case err == nil:
			half, most, n = append(half, p50), append(most, p99), attacks
		case !errors.Is(err, errBusy):
			return err
		}
		switch share, err := commitShare(); {
		case err == nil:
			commits = append(commits, share)
		case !errors.Is(err, errBusy):
			return err
		}
	}
	least := func(list []float64) string {
		if len(list) == 0 {
			return "the rate was not reached"
		}
		return fmt.Sprintf("%.1f", slices.Min(list))
	}
	fmt.Println("\n| live input | is | must be |\n|---|---|---|")
	fmt.Printf("| event to alert at %d events/s, commits synced: half of %d within, ms | %s | |\n| ... 99 of 100 within, ms | %s | <= 100 |\n", alertRate, n, least(half), least(most))
	fmt.Printf("| commits at %d events/s, %% of one core | %s | <= 15 |\n", commitRate, least(commits))
	return nil
}

// errBusy says that events could not be made or taken at the rate of a figure.
var errBusy = errors.New("the rate was not reached")

// busy is the exit status that says so.
const busy = 3

// login is one line.
func login(dst []byte, at time.Time, address, status string) []byte {
	dst = append(dst, `{"login_time":"`...)
	dst = event.AppendTime(dst, at.UnixMilli())
	dst = append(dst, `","username":"user17","status":"`+status+`","source_ip":"`...)
	dst = append(dst, address...)
	return append(dst, `","user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","session_id":"a3f0c1d2","country":"DE"}`+"\n"...)
}

func background(r *rand.Rand) (address, status string) {
	n := r.IntN(addresses)
	status = "success"
	if n%50 == 0 {
		status = "failure"
	}
	return fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255), status
}

var probe = regexp.MustCompile(`"source_ip":"probe-(\d+)"`)

// alertLatency feeds the built binary on standard input at a steady rate, attacks among it, and returns within how many ms their
// rows were on its standard output: from the write of the event that completes an attack to the read of the line.
func alertLatency(binary string) (p50, p99 float64, n int, err error) {
	file, err := liveFile()
	if err != nil {
		return 0, 0, 0, err
	}
	cmd := exec.Command(binary, "run", "--fresh", "--quiet", file)
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, 0, 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, 0, err
	}
	var mu sync.Mutex
	var sent []time.Time
	seen := map[int]time.Time{}
	read := make(chan bool)
	go func() {
		defer close(read)
		s := bufio.NewScanner(out)
		for s.Scan() {
			now := time.Now()
			if m := probe.FindSubmatch(s.Bytes()); m != nil {
				i, _ := strconv.Atoi(string(m[1]))
				mu.Lock()
				if _, ok := seen[i]; !ok {
					seen[i] = now
				}
				mu.Unlock()
			}
		}
	}()
	err = feedLive(in, func() { mu.Lock(); sent = append(sent, time.Now()); mu.Unlock() })
	in.Close()
	<-read
	if e := cmd.Wait(); e != nil {
		err = fmt.Errorf("%w: %s", e, said.Bytes())
	}
	if err != nil {
		return 0, 0, 0, err
	}
	var ms []float64
	for i, at := range sent[len(sent)/5:] { // the first fifth warms up
		got, ok := seen[len(sent)/5+i]
		if !ok {
			return 0, 0, 0, fmt.Errorf("no alert came of attack %d of %d", len(sent)/5+i, len(sent))
		}
		ms = append(ms, float64(got.Sub(at).Microseconds())/1000)
	}
	slices.Sort(ms)
	return ms[len(ms)/2], ms[len(ms)*99/100], len(ms), nil
}

// feedLive writes alertRate events a second for *live, what is due every millisecond; completes is called before each write
// of an event that completes an attack.
func feedLive(w io.Writer, completes func()) error {
	r := rand.New(rand.NewPCG(*seed, 20))
	began := time.Now()
	written, probes := 0, 0
	var buf []byte
	for {
		took := time.Since(began)
		if took >= *live {
			if float64(probes) < 0.9*live.Seconds()/probeEvery.Seconds() { // writes were held up
				return errBusy
			}
			return nil
		}
		buf = buf[:0]
		for ; written < int(took.Seconds()*alertRate); written++ {
			address, status := background(r)
			buf = login(buf, time.Now(), address, status)
		}
		attacks := took >= time.Duration(probes)*probeEvery
		if attacks {
			for range probeSize {
				buf = login(buf, time.Now(), fmt.Sprint("probe-", probes), "failure")
			}
			probes, written = probes+1, written+probeSize
			completes()
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// commitShare runs the same rules with blocks pushed at commitRate, in a process of its own, and returns what commits took of a core,
// in percent: the samples of a CPU profile whose stack goes through the cutting of an epoch, its writing, or Badger. Where only half of the
// rate or more was reached it is scaled up, which is more than it would be, since epochs are as many.
func commitShare() (float64, error) {
	file, err := liveFile()
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, "-live", live.String(), "-dir", *dir, "-seed", fmt.Sprint(*seed), "-loop", "commits", file)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() == busy {
		return 0, errBusy
	}
	var ran struct{ Seconds, Rate float64 }
	if err == nil {
		err = json.Unmarshal(out, &ran)
	}
	if err != nil {
		return 0, err
	}
	text, err := exec.Command("go", "tool", "pprof", "-top", "-nodecount=1000000", "-nodefraction=0", "-edgefraction=0", "-unit=ms",
		`-focus=Runner\)\.begin|tocsin/runtime/state\.|dgraph-io/badger`, self, path("commit.pprof")).Output()
	if err != nil {
		return 0, err
	}
	m := accounted.FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("go tool pprof says no total:\n%s", text)
	}
	ms, err := strconv.ParseFloat(string(m[1]), 64)
	return ms / 10 / ran.Seconds * max(commitRate/ran.Rate, 1), err
}

var accounted = regexp.MustCompile(`nodes accounting for ([\d.]+)ms`)

// runCommits pushes blocks of a live partition into an engine for *live and writes a CPU profile.
func runCommits(file string) {
	src, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	var root struct{ Buffer struct{ Detect yaml.Node } }
	if err := yaml.Unmarshal(src, &root); err != nil {
		log.Fatal(err)
	}
	conf, problems := pipeline.DecodeDetect(&root.Buffer.Detect)
	if len(problems) > 0 {
		log.Fatal(problems)
	}
	store, err := state.Open(state.Options{Dir: conf.State, Pipeline: conf.Spec.Name, Fresh: true})
	if err != nil {
		log.Fatal(err)
	}
	run, err := engine.Start(conf.Spec, store, engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	taken := make(chan int)
	go func() { // the output: takes everything at once
		n := 0
		for {
			rows, err := run.Next(context.Background())
			if err != nil {
				taken <- n
				return
			}
			n += len(rows)
			run.Settle(rows, nil)
		}
	}()
	f, err := os.Create(path("commit.pprof"))
	if err != nil {
		log.Fatal(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		log.Fatal(err)
	}
	began := time.Now()
	pushLive(run)
	took := time.Since(began)
	pprof.StopCPUProfile()
	n := run.Stats().Events
	if err := run.Close(); err != nil {
		log.Fatal(err)
	}
	rows := <-taken
	if err := store.Close(); err != nil {
		log.Fatal(err)
	}
	rate := float64(n) / took.Seconds()
	if rate < 0.5*commitRate || rows == 0 {
		say("%.0f events/s were taken, and %d rows came", rate, rows)
		os.Exit(busy)
	}
	fmt.Printf("{\"seconds\": %f, \"rate\": %f}\n", took.Seconds(), rate)
}

// pushLive pushes what is due every 5 ms, an attack in each.
func pushLive(run *engine.Runner) {
	r := rand.New(rand.NewPCG(*seed, 21))
	began := time.Now()
	off, pushed := int64(0), 0
	for n := 0; ; n++ {
		took := time.Since(began)
		if took >= *live {
			return
		}
		b := &event.Block{Partition: "live", Meta: map[string]string{}, Live: true}
		add := func(address, status string) {
			from := uint32(len(b.Data))
			b.Data = login(b.Data, time.Now(), address, status)
			b.Lines = append(b.Lines, event.Line{Off: off, Next: off + 1, Start: from, End: uint32(len(b.Data) - 1)})
			off++
			pushed++
		}
		for range probeSize {
			add(fmt.Sprint("probe-", n), "failure")
		}
		for pushed < int(took.Seconds()*commitRate) {
			add(background(r))
		}
		run.Push(b)
		time.Sleep(5 * time.Millisecond)
	}
}
