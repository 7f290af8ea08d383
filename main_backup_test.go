package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// trial is a pipeline with its logs and what an undisturbed run says.
type trial struct {
	t        *testing.T
	r        *rand.Rand
	binary   string
	dir      string
	pipeline string
	change   []string
	want     map[string]string
	took     time.Duration
}

func newTrial(t *testing.T, pipeline string, lines int) *trial {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	x := &trial{t: t, r: rand.New(rand.NewPCG(seed, 1)), binary: build(t), dir: t.TempDir(), pipeline: pipeline}
	logins, ids := filepath.Join(x.dir, "logins.jsonl"), filepath.Join(x.dir, "ids.jsonl")
	larger(t, x.r, lines, logins, ids)
	x.change = []string{"pipelines/data/logins.jsonl", logins, "pipelines/data/ids.jsonl", ids}
	whole, rows := moved(t, pipeline, mkdir(t, x.dir, "whole"), x.change...)
	began := time.Now()
	if out, err := exec.Command(x.binary, "run", whole).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	x.took, x.want = time.Since(began), byID(t, rows)
	return x
}

// same compares rows by id and content with the undisturbed run.
func (x *trial) same(rows, what string) {
	x.t.Helper()
	x.equal(byID(x.t, rows), what)
}

// sameAgain is same after the state went back: rows that were revised since are said in their earlier revisions once more.
func (x *trial) sameAgain(rows, what string) {
	x.t.Helper()
	got, revision, said := map[string]string{}, map[string]int{}, map[string]string{}
	for _, r := range results(x.t, rows) {
		id, n := r.Tocsin.ResultID, r.Tocsin.Revision
		as := fmt.Sprint(id, ".", n)
		if was, ok := said[as]; ok && was != r.line {
			x.t.Fatalf("%s: %s says\n%s\nand\n%s", what, as, was, r.line)
		}
		said[as] = r.line
		if _, ok := got[id]; !ok || n >= revision[id] {
			got[id], revision[id] = r.line, n
		}
	}
	x.equal(got, what)
}

func (x *trial) equal(got map[string]string, what string) {
	x.t.Helper()
	for id, line := range x.want {
		if got[id] != line {
			x.t.Fatalf("%s: %s\nwant %s\n got %s", what, id, line, got[id])
		}
	}
	if len(got) != len(x.want) {
		x.t.Fatalf("%s: %d results, want %d", what, len(got), len(x.want))
	}
}

func (x *trial) run(args ...string) (stdout, stderr string, status int) {
	return command(x.binary, args...)
}

func command(binary string, args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Backups of a pipeline that runs, taken at random moments: each restores, and the pipeline goes on from there to the results of
// an undisturbed run, by id and content.
func TestBackupWhileRunning(t *testing.T) {
	x := newTrial(t, "testdata/everything.yaml", 150_000)
	for n, good := 0, 0; good < 2; n++ {
		dir := mkdir(t, x.dir, fmt.Sprint("backup", n))
		pipeline, rows := moved(t, x.pipeline, dir, x.change...)
		file := filepath.Join(dir, "state.backup")
		run := exec.Command(x.binary, "run", "--quiet", pipeline)
		var said bytes.Buffer
		run.Stderr = &said
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(x.r.Int64N(int64(x.took / 2))))
		taken, _, status := "", "", 1
		for i := 0; status != 0 && i < 20; i++ { // until its state is there
			_, taken, status = x.run("state", "backup", pipeline, file)
		}
		described, errs, seen := x.run("state", "--top", "1", pipeline)
		time.Sleep(time.Duration(x.r.Int64N(int64(x.took / 10))))
		if err := run.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := run.Wait(); err == nil || run.ProcessState.Exited() {
			t.Logf("over before the kill: %s", said.String())
			continue
		}
		if status != 0 || seen != 0 || !strings.Contains(described, "in use by a running pipeline") {
			t.Fatalf("backup: status %d, %s\nstate: status %d, %s%s", status, taken, seen, errs, described)
		}
		good++
		if _, errs, status := x.run("state", "restore", pipeline, file); status != 1 || !strings.Contains(errs, "add --force") {
			t.Fatalf("restore over a state: status %d, %s", status, errs)
		}
		_, errs, status = x.run("state", "restore", "--force", pipeline, file)
		if status != 0 || !strings.Contains(errs, filepath.Join("state", "old.1")) {
			t.Fatalf("restore: status %d, %s", status, errs)
		}
		if _, err := os.Stat(filepath.Join(dir, "state", "old.1", "badger", "MANIFEST")); err != nil {
			t.Fatal(err)
		}
		if _, errs, status := x.run("run", "--quiet", pipeline); status != 0 {
			t.Fatalf("after the restore: %s", errs)
		}
		x.sameAgain(rows, "after the restore of "+taken)
		t.Log(strings.TrimSpace(taken))
	}
}

// A backup of a state that nobody uses goes into another folder, and holds the same; a damaged one is refused and touches nothing.
func TestBackupAndRestore(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	pipeline, rows := quickstart(t, dir)
	run := func(want int, text string, args ...string) string {
		t.Helper()
		stdout, errs, status := command(binary, args...)
		if status != want || !strings.Contains(errs, text) {
			t.Fatalf("%v: status %d, %s", args, status, errs)
		}
		return stdout
	}
	file := filepath.Join(dir, "backup")
	run(1, "there is none; the pipeline has not run yet", "state", "backup", pipeline, file)
	run(0, "", "run", pipeline)
	before := run(0, "", "state", "--json", pipeline)
	run(0, "as of epoch", "state", "backup", pipeline, file)
	run(0, "as of epoch", "state", "backup", pipeline, file) // in place of the first
	run(1, "something else than a backup", "state", "backup", pipeline, rows)
	run(2, "which pipeline, and which file?", "state", "backup", pipeline)

	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := quickstart(t, mkdir(t, dir, "other"))
	state := filepath.Join(dir, "other", "state")
	bad := filepath.Join(dir, "bad")
	for n := range 40 {
		damaged := bytes.Clone(whole)
		if at := n * len(whole) / 40; n%2 == 0 {
			damaged = damaged[:at]
		} else {
			damaged[at] ^= 0x10
		}
		if err := os.WriteFile(bad, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, errs, status := command(binary, "state", "restore", other, bad); status != 1 || !strings.Contains(errs, "restore "+bad) {
			t.Fatalf("damage %d: status %d, %s", n, status, errs)
		}
		if _, err := os.Stat(state); err == nil {
			t.Fatalf("damage %d: a state was made", n)
		}
	}
	src, _ := os.ReadFile(other)
	stranger := filepath.Join(dir, "stranger.yaml")
	os.WriteFile(stranger, bytes.Replace(src, []byte("name: quickstart"), []byte("name: stranger"), 1), 0o644)
	run(1, `it is of pipeline "quickstart", not "stranger"`, "state", "restore", stranger, file)
	run(0, "the next run goes on from there", "state", "restore", other, file)
	after := run(0, "", "state", "--json", other)
	if got := strings.ReplaceAll(after, state, filepath.Join(dir, "state")); got != before {
		t.Errorf("restored\n%s\nof\n%s", got, before)
	}
	run(0, "nothing new", "run", other)
}

// The JSON form says what the text says; --operator and --key choose.
func TestStateChoices(t *testing.T) {
	binary := build(t)
	pipeline, _ := quickstart(t, t.TempDir())
	if _, errs, status := command(binary, "run", "--quiet", pipeline); status != 0 {
		t.Fatal(errs)
	}
	stdout, errs, status := command(binary, "state", "--json", "--operator", "attacked_logins", "--key", "203.0.113", pipeline)
	var got struct {
		Epoch     int
		Running   bool
		Sources   []struct{ Offset int64 }
		Operators []struct {
			Name, Oldest string
			Bytes, Keys  int
			Largest      []struct {
				Key    []string
				Bytes  int
				Oldest string
			}
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != 0 {
		t.Fatalf("%v: %s%s", err, stdout, errs)
	}
	oldest := map[string]string{}
	first := ""
	for _, name := range []string{"logins", "ids"} {
		lines, _ := readLog(t, "pipelines/data/"+name+".jsonl")
		for _, l := range lines {
			at := stamp(l.at)
			if was := oldest[l.SourceIP]; was == "" || at < was {
				oldest[l.SourceIP] = at
			}
			if first == "" || at < first {
				first = at
			}
		}
	}
	maps.DeleteFunc(oldest, func(ip, _ string) bool { return !strings.HasPrefix(ip, "203.0.113") })
	if len(got.Operators) != 1 || got.Running || got.Epoch == 0 || len(got.Sources) != 2 || got.Operators[0].Keys != len(oldest) || got.Operators[0].Oldest != first {
		t.Fatalf("want %d keys, oldest %s:\n%s", len(oldest), first, stdout)
	}
	for _, k := range got.Operators[0].Largest {
		if len(k.Key) != 1 || k.Oldest != oldest[k.Key[0]] || k.Bytes == 0 {
			t.Errorf("%v, want %v", k, oldest)
		}
	}
	if _, errs, status := command(binary, "state", "--operator", "nobody", pipeline); status != 2 || !strings.Contains(errs, "it holds login_attempts") {
		t.Errorf("status %d, %s", status, errs)
	}
}
