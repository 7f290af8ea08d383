package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A log of which a collector has made a second copy says each event once, also when the copies are cut and reading is stopped in between.
func TestEventsThatComeTwice(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	data, err := os.ReadFile("pipelines/data/signins.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
input: { file_lines: { paths: [%[1]s/log*.jsonl] } }
buffer:
  detect:
    name: twice
    state: %[1]s/state
    streams: { signins: { time: { field: time }, id: content, within: 1d } }
    operators: { all: { filter: { from: signins, where: { "user|exists": true } } } }
output: { file_rows: { path: %[1]s/rows.jsonl } }
`, filepath.ToSlash(dir))
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("p.yaml", []byte(config))
	half := bytes.IndexByte(data[len(data)/2:], '\n') + len(data)/2 + 1
	run := func() string {
		out, err := exec.Command(binary, "run", filepath.Join(dir, "p.yaml")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	write("log1.jsonl", data[:half])
	first := run()
	write("log1.jsonl", data)
	write("log2.jsonl", data[half:])
	second := run()
	n := bytes.Count(data[half:], []byte("\n"))
	if want := fmt.Sprintf("twice   %d events", n); strings.Contains(first, "twice") || !strings.Contains(second, want) {
		t.Errorf("%s\n%s\nwant %q in the second", first, second, want)
	}
	var got, want []string
	rows, err := os.ReadFile(filepath.Join(dir, "rows.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(rows)) {
		row, _, _ := strings.Cut(line, `,"_tocsin"`)
		got = append(got, row+"}")
	}
	for line := range strings.Lines(string(data)) {
		want = append(want, strings.TrimSpace(line))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}
