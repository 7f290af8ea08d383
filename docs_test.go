package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/cli"
)

// What docs/pipelines.md shows is what lint lets through: the whole pipeline, and every operator put into it.
func TestDocsAreClean(t *testing.T) {
	text, err := os.ReadFile("docs/pipelines.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml (pipeline|operators)\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	var pipeline, operators string
	kinds := map[string]bool{}
	for _, b := range blocks {
		if b[1] == "pipeline" {
			pipeline = b[2]
			continue
		}
		for _, line := range strings.SplitAfter(b[2], "\n") {
			if line != "" {
				operators += "      " + line
			}
			if m := regexp.MustCompile(`^  (\w+):`).FindStringSubmatch(line); m != nil {
				kinds[m[1]] = true
			}
		}
	}
	at := strings.Index(pipeline, "      failures:")
	path := filepath.Join(t.TempDir(), "docs.yaml")
	if err := os.WriteFile(path, []byte(pipeline[:at]+operators+pipeline[at:]), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if status := cli.Main([]string{"lint", path}, &out, &out); status != 0 {
		t.Errorf("status %d\n%s", status, out.String())
	}
	for _, kind := range []string{"filter", "window", "join", "sequence", "first_seen", "enrich", "plugin", "risk", "alert"} {
		if !kinds[kind] {
			t.Errorf("%s is not shown", kind)
		}
	}
}

// So is every pipeline around detect that it shows.
func TestDocsPipelinesAreClean(t *testing.T) {
	text, err := os.ReadFile("docs/pipelines.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml collect\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	for _, b := range blocks {
		path := filepath.Join(t.TempDir(), "docs.yaml")
		if err := os.WriteFile(path, []byte(b[1]), 0o644); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if status := cli.Main([]string{"lint", path}, &out, &out); status != 0 {
			t.Errorf("status %d\n%s\n%s", status, out.String(), b[1])
		}
	}
	if len(blocks) < 1 {
		t.Error("none is shown")
	}
}

// So is every output that it shows.
func TestDocsOutputsAreClean(t *testing.T) {
	text, err := os.ReadFile("docs/pipelines.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml output\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	for _, b := range blocks {
		path := filepath.Join(t.TempDir(), "docs.yaml")
		if err := os.WriteFile(path, []byte("input: { file_lines: { paths: [a.jsonl] } }\n"+b[1]), 0o644); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if status := cli.Main([]string{"lint", path}, &out, &out); status != 0 {
			t.Errorf("status %d\n%s\n%s", status, out.String(), b[1])
		}
	}
	if len(blocks) < 2 {
		t.Errorf("%d outputs are shown", len(blocks))
	}
}
