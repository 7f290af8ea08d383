package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// signin is an event of the sample log.
type signin struct {
	Time        time.Time
	User        string
	Country     *string
	Result      string
	Interactive bool
	line        string
}

func signins(t *testing.T) (all []signin) {
	t.Helper()
	data, err := os.ReadFile("pipelines/data/signins.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		s := signin{line: text}
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// news works the pipeline out from the log alone: for each successful sign-in every one before it is looked at again.
func news(all []signin) (rows []string, learnt, known int) {
	var before []signin
	for _, s := range all {
		if s.Result != "success" {
			continue
		}
		if strings.HasPrefix(s.User, "svc-") && s.Interactive {
			rows = append(rows, "service_accounts "+s.line)
		}
		if s.Country == nil {
			continue
		}
		fresh := true
		for _, b := range before {
			if b.User == s.User && *b.Country == *s.Country && s.Time.Sub(b.Time) < 21*24*time.Hour {
				fresh = false
			}
		}
		before = append(before, s)
		switch {
		case !fresh:
			known++
		case s.Time.Sub(before[0].Time) < 14*24*time.Hour:
			learnt++
		default:
			rows = append(rows, "new_countries "+s.line)
		}
	}
	slices.Sort(rows)
	return rows, learnt, known
}

// The third pipeline, at once and after a stop in the middle of the log, against an independent computation. Each row is the
// event itself, and so is what its alert shows.
func TestFirstSeen(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	src, err := os.ReadFile("pipelines/first_seen.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := signins(t)
	want, learnt, known := news(all)
	if len(want) < 5 || learnt == 0 || known == 0 {
		t.Fatalf("%d rows, %d learnt, %d known", len(want), learnt, known)
	}
	for _, parts := range []int{1, 2, 7} {
		folder := mkdir(t, dir, strings.Repeat("i", parts))
		pipeline, rows, log := filepath.Join(folder, "pipeline.yaml"), filepath.Join(folder, "rows.jsonl"), filepath.Join(folder, "signins.jsonl")
		text := strings.NewReplacer("./state/first_seen", filepath.Join(folder, "state"), "./out/first_seen.jsonl", rows, "pipelines/data/signins.jsonl", log).Replace(string(src))
		if err := os.WriteFile(pipeline, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for part := range parts {
			grown := ""
			for _, s := range all[:(part+1)*len(all)/parts] {
				grown += s.line + "\n"
			}
			if err := os.WriteFile(log, []byte(grown), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		said := map[string][]string{}
		for _, r := range results(t, rows) {
			line := r.line
			switch r.Tocsin.Kind {
			case "alert":
				var a struct{ Events []json.RawMessage }
				if err := json.Unmarshal([]byte(line), &a); err != nil || len(a.Events) != 1 {
					t.Fatalf("%v: %s", err, line)
				}
				line = string(a.Events[0])
			case "row":
				line = line[:strings.Index(line, `,"_tocsin"`)] + "}"
			}
			said[r.Tocsin.Kind] = append(said[r.Tocsin.Kind], r.Tocsin.Operator+" "+line)
		}
		for _, kind := range []string{"row", "alert"} {
			if slices.Sort(said[kind]); !slices.Equal(said[kind], want) {
				t.Errorf("in %d parts: %ss\n%s\nwant\n%s", parts, kind, strings.Join(said[kind], "\n"), strings.Join(want, "\n"))
			}
		}
		if len(said) != 2 {
			t.Errorf("in %d parts: other results, %v", parts, said)
		}
	}
}
