package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/bench/gen"
)

// misbehaving are five plugins that do what they should not, each in its own way: hostile.wasm under a number. All are fast to fail but
// the one that grows its memory, which never fails: it has a budget.
var misbehaving = []struct{ name, do, limits string }{
	{"loops", "1", ""},
	{"traps", "8", ""},
	{"grows", "36", ", limits: { memory_mib: 16, cpu: 1%, cpu_span: 5s }"},
	{"storms", "7", ""},
	{"lies", "14", ""},
}

const honest = 45 // plugins beside them

// calm is what a run of many plugins is like.
type calm struct {
	cpu    float64 // ns an event, of the process
	honest float64 // ns a row, of the calls of honest plugins
	first  int64   // KiB of anonymous memory: the most in the second third of the run
	last   int64   // and in the last
	pause  float64 // ms, the longest of the garbage collector
	off    string  // which are switched off at the end, why, and how often they were
}

// benchMisbehave runs 45 honest plugins alone, and with five beside them that misbehave.
func benchMisbehave() error {
	n := 10_000_000
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "events" {
			n = *events
		}
	})
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	binary := filepath.Join(*dir, "tocsin")
	say("building tocsin")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %s", out)
	}
	say("generating %d logins, seed %d", n, *seed)
	f, err := os.Create(path("count.jsonl"))
	if err == nil {
		err = gen.Logins{Seed: *seed, Events: n}.Write(f)
	}
	if err == nil {
		err = cmp.Or(f.Sync(), f.Close())
	}
	if err != nil {
		return err
	}
	var alone, beside calm
	for i := range *runs {
		for _, bad := range []bool{false, true} {
			say("run %d of %d, misbehaving ones: %v", i+1, *runs, bad)
			c, err := runCalm(binary, n, bad)
			if err != nil {
				return err
			}
			if best := map[bool]*calm{false: &alone, true: &beside}[bad]; best.cpu == 0 || c.cpu < best.cpu {
				*best = c
			}
		}
	}
	fmt.Printf("\n| %d events, %d plugins | alone | with %d that misbehave | must be |\n|---|---|---|---|\n", n, honest, len(misbehaving))
	fmt.Printf("| CPU ns an event | %.0f | %.0f | <= 1.1 x (is %.2f x) |\n", alone.cpu, beside.cpu, beside.cpu/alone.cpu)
	fmt.Printf("| of it honest plugins, ns a row and plugin | %.1f | %.1f | <= 1.1 x (is %.2f x) |\n", alone.honest, beside.honest, beside.honest/alone.honest)
	fmt.Printf("| memory MB, second and last third | %d, %d | %d, %d | flat |\n", alone.first>>10, alone.last>>10, beside.first>>10, beside.last>>10)
	fmt.Printf("| longest pause of the collector, ms | %.2f | %.2f | <= 5 |\n\n%s\n", alone.pause, beside.pause, beside.off)
	return nil
}

func misbehaveYAML(bad bool) string {
	var ops strings.Builder
	for i := range honest {
		fmt.Fprintf(&ops, "      honest_%d: { plugin: { from: logins, module: bench/rules/helper.wasm, fields: { command: user_agent, user: username }, rules: { \"1\": { enabled: false } } } }\n", i)
	}
	for i := 0; bad && i < len(misbehaving); i++ {
		m := misbehaving[i]
		fmt.Fprintf(&ops, "      %s: { plugin: { from: logins, module: runtime/wasm/testdata/hostile.wasm, fields: { a: username }, config: { do: %s }, rules: { \"1\": { enabled: false }, \"2\": { enabled: false } }, on_failure: skip%s } }\n", m.name, m.do, m.limits)
	}
	return strings.NewReplacer("DIR", *dir, "EMPTY", "").Replace(operatorsYAML("misbehave", ops.String()))
}

var figuresAt = regexp.MustCompile(`http://[\d.:]+/`)

// runCalm runs the pipeline and asks it all the while how it is.
func runCalm(binary string, n int, bad bool) (c calm, err error) {
	file := path("misbehave.yaml")
	if err := os.WriteFile(file, []byte(misbehaveYAML(bad)), 0o644); err != nil {
		return c, err
	}
	cmd := exec.Command(binary, "run", "--fresh", "--http", "127.0.0.1:0", file)
	cmd.Env = append(os.Environ(), "GOMEMLIMIT=500MiB", "GOMAXPROCS="+strconv.Itoa(*procs))
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return c, err
	}
	lines := bufio.NewScanner(said)
	base := ""
	for base == "" && lines.Scan() {
		base = figuresAt.FindString(lines.Text())
	}
	over := make(chan struct{})
	go func() {
		for lines.Scan() {
		}
		close(over)
	}()
	var memory []int64
	for done := false; !done; {
		select {
		case <-over:
			done = true
		case <-time.After(100 * time.Millisecond):
			memory = append(memory, anonymous(cmd.Process.Pid))
			c.ask(base)
		}
	}
	if err := cmd.Wait(); err != nil {
		return c, fmt.Errorf("the run: %w", err)
	}
	for i, m := range memory {
		switch {
		case i >= 2*len(memory)/3:
			c.last = max(c.last, m)
		case i >= len(memory)/3:
			c.first = max(c.first, m)
		}
	}
	c.cpu = float64((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Nanoseconds()) / float64(n)
	return c, nil
}

// ask keeps the newest figures of a run, and the longest pause.
func (c *calm) ask(base string) {
	var stats struct {
		Operators []struct {
			Name   string
			Plugin struct {
				Rows    int64
				Busy    int64 `json:"busy_ns"`
				Breaker struct {
					State, Reason string
					Openings      int
				}
			}
		}
	}
	resp, err := http.Get(base + "stats")
	if err != nil {
		return
	}
	err = json.NewDecoder(resp.Body).Decode(&stats)
	resp.Body.Close()
	if err != nil {
		return
	}
	var busy, rows int64
	var off []string
	for _, o := range stats.Operators {
		if strings.HasPrefix(o.Name, "honest_") {
			busy, rows = busy+o.Plugin.Busy, rows+o.Plugin.Rows
			continue
		}
		off = append(off, fmt.Sprintf("%s: %s (%s), switched off %d times; its calls took %.2f s in all", o.Name, o.Plugin.Breaker.State, o.Plugin.Breaker.Reason, o.Plugin.Breaker.Openings, float64(o.Plugin.Busy)/1e9))
	}
	c.honest, c.off = float64(busy)/float64(max(rows, 1)), strings.Join(off, "\n")
	if resp, err = http.Get(base + "metrics"); err != nil {
		return
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), `go_gc_duration_seconds{quantile="1"} `); ok {
			if x, err := strconv.ParseFloat(v, 64); err == nil {
				c.pause = max(c.pause, 1000*x)
			}
		}
	}
}
