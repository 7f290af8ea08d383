package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/state"
)

var kills = flag.Int("kills", 20, "kills of the quickstart; half as many of the pipeline with every operator")

// Kill -9 at random moments, then run again: the file of results, deduplicated by result_id, equals that of an
// undisturbed run, and no line is torn.
func TestKilledAtRandomMoments(t *testing.T) { killed(t, "pipelines/quickstart.yaml", *kills) }

// The same with operators of every kind, reading one another.
func TestKilledWithEveryOperator(t *testing.T) { killed(t, "testdata/everything.yaml", (*kills+1)/2) }

// killed runs a pipeline over larger logs, once undisturbed, and again and again with so many kills in all.
func killed(t *testing.T, pipeline string, most int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	binary, dir := build(t), t.TempDir()
	logins, ids := filepath.Join(dir, "logins.jsonl"), filepath.Join(dir, "ids.jsonl")
	larger(t, r, 300_000, logins, ids)
	change := []string{"pipelines/data/logins.jsonl", logins, "pipelines/data/ids.jsonl", ids}
	whole, wholeRows := moved(t, pipeline, mkdir(t, dir, "whole"), change...)
	began := time.Now()
	if out, err := exec.Command(binary, "run", whole).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	took := time.Since(began)
	want := byID(t, wholeRows)
	for kills, folder := 0, 0; kills < most; folder++ {
		there := mkdir(t, dir, fmt.Sprint("torn", folder))
		torn, tornRows := moved(t, pipeline, there, append(change, "    name: everything\n", "    name: everything\n    memory: 16MiB\n")...)
		kills += killedOften(t, r, binary, torn, most-kills, 0, max(1, int(took.Milliseconds()/5)))
		got := byID(t, tornRows)
		some := laneOf(t, filepath.Join(there, "some.jsonl"), want)
		for id, line := range want {
			if got[id] != line {
				t.Fatalf("seed %d, %d kills: %s\nwant %s\n got %s", seed, kills, id, line, got[id])
			}
		}
		if len(got) != len(want) {
			t.Fatalf("seed %d, %d kills: %d results, want %d", seed, kills, len(got), len(want))
		}
		t.Logf("%d results, %d of them in a second lane, %d kills so far", len(got), some, kills)
		if strings.HasSuffix(pipeline, "everything.yaml") {
			paged(t, filepath.Join(there, "state"))
		}
	}
}

// process is a run of a pipeline that a test ends.
type process struct {
	cmd  *exec.Cmd
	said bytes.Buffer
}

func started(t *testing.T, binary, pipeline string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, "run", "--quiet", pipeline)}
	p.cmd.Stderr = &p.said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// end sends SIGTERM, after which it ends with status 0, or SIGKILL, before which it must not have ended by itself.
func (p *process) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("%v\n%s", err, p.said.String())
	}
	if err := p.cmd.Wait(); (err == nil) != (signal == syscall.SIGTERM) || p.cmd.ProcessState.Exited() != (signal == syscall.SIGTERM) {
		t.Fatalf("%v: %v\n%s", signal, err, p.said.String())
	}
}

// killedOften runs a pipeline to its end, with at most so many kills before, each within so many ms of the start, and says how many there were.
func killedOften(t *testing.T, r *rand.Rand, binary, pipeline string, most, from, to int) (n int) {
	t.Helper()
	for {
		p := started(t, binary, pipeline)
		if n < most {
			timer := time.AfterFunc(time.Duration(from+r.IntN(to-from))*time.Millisecond, func() { _ = p.cmd.Process.Kill() })
			defer timer.Stop()
		}
		err := p.cmd.Wait()
		if err == nil {
			return n
		}
		if n++; p.cmd.ProcessState.Exited() { // by itself, which a kill is not
			t.Fatalf("after %d kills: %v\n%s", n-1, err, p.said.String())
		}
	}
}

// killedLive kills a pipeline that does not end so many times, each within so many ms of the start; disturb does what it likes before.
func killedLive(t *testing.T, r *rand.Rand, binary, pipeline string, kills, from, to int, disturb func(r *rand.Rand)) {
	t.Helper()
	for range kills {
		p := started(t, binary, pipeline)
		time.Sleep(time.Duration(from+r.IntN(to-from)) * time.Millisecond)
		if r.IntN(2) == 0 {
			disturb(r)
		}
		p.end(t, syscall.SIGKILL)
	}
}

// laneOf checks the second lane of testdata/everything.yaml, if the pipeline has one: it has got those of its rows that the first has got,
// as they are there.
func laneOf(t *testing.T, path string, want map[string]string) (rows int) {
	if _, err := os.Stat(path); err != nil {
		return 0
	}
	got := byID(t, path)
	for id, line := range want {
		meta := line[strings.LastIndex(line, `"_tocsin":`):]
		takes := strings.Contains(meta, `"kind":"row"`) || strings.Contains(meta, `"kind":"alert"`)
		takes = takes && slices.ContainsFunc([]string{"at_risk", "bursts", "hops", "late", "visits"}, func(name string) bool { return strings.Contains(meta, `"operator":"`+name+`"`) })
		line = strings.Replace(line, `"lane":"all"`, `"lane":"some"`, 1)
		switch {
		case takes && got[id] != line:
			t.Fatalf("in the second lane: %s\nwant %s\n got %s", id, line, got[id])
		case takes:
			rows++
		}
	}
	if rows != len(got) || rows == 0 {
		t.Fatalf("the second lane has %d rows, want %d", len(got), rows)
	}
	return rows
}

// paged checks that memory was short: that keys were written as pages.
func paged(t *testing.T, dir string) {
	s, err := state.Open(state.Options{Dir: dir, Pipeline: "everything"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pages := 0
	_, err = s.Recover(state.Visitor{Page: func(uint32, uint32, uint64, []byte) error {
		pages++
		return nil
	}})
	if err != nil || pages == 0 {
		t.Errorf("%d pages, %v", pages, err)
	}
}

func mkdir(t *testing.T, dir, name string) string {
	path := filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// byID is each row as it was said, of those that were revised the last revision, which none before may follow.
func byID(t *testing.T, path string) map[string]string {
	out, revision := map[string]string{}, map[string]int{}
	for _, r := range results(t, path) {
		id, n := r.Tocsin.ResultID, r.Tocsin.Revision
		if was, ok := out[id]; ok && (was != r.line) != (n > revision[id]) || n < revision[id] {
			t.Fatalf("%s says\n%s\nand\n%s", id, was, r.line)
		}
		out[id], revision[id] = r.line, n
	}
	return out
}

// larger writes logs of so many logins; 300 000 take the binary a second or two.
func larger(t *testing.T, r *rand.Rand, lines int, logins, ids string) {
	var a, b bytes.Buffer
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	for i := range lines {
		at := start.Add(time.Duration(i)*20*time.Millisecond - time.Duration(r.IntN(3000)/2990*60)*time.Second)
		fmt.Fprintf(&a, `{"login_time":"%s","source_ip":"10.0.%d.%d","username":"u%d"}`+"\n", at.Format("2006-01-02T15:04:05.000Z"), r.IntN(30), r.IntN(250), r.IntN(50))
		if i%200 == 0 {
			fmt.Fprintf(&b, `{"event_time":"%s","source_ip":"10.%d.%d.%d","severity":"high","attack_classification":"scan"}`+"\n", at.Format("2006-01-02T15:04:05.000Z"), r.IntN(20), r.IntN(60), r.IntN(250))
		}
		if r.IntN(20_000) == 0 {
			a.WriteString("{torn\n")
		}
	}
	for path, data := range map[string][]byte{logins: a.Bytes(), ids: b.Bytes()} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
