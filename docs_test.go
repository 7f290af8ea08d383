package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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

// example is one of a page of the reference: the sentence before it, and the YAML.
var example = regexp.MustCompile("(?m)^(.+)\n\n```yaml\n((?s:.*?))```")

// So are the examples of the reference, those that are no whole pipelines put into one; and what runs as it is says something.
func TestReferenceExamples(t *testing.T) {
	pages, err := filepath.Glob("docs/reference/*.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KAFKA_PASSWORD", "x")
	binary, ran := build(t), 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := example.FindAllStringSubmatch(string(text), -1)
		if len(found) != strings.Count(string(text), "```yaml") {
			t.Errorf("%s has %d examples", page, len(found))
		}
		for _, e := range found {
			dir := t.TempDir()
			path := filepath.Join(dir, "example.yaml")
			if err := os.WriteFile(path, []byte(whole(e[2])), 0o644); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if status := cli.Main([]string{"lint", path}, &out, &out); status != 0 {
				t.Errorf("%s: %s: status %d\n%s", page, e[1], status, out.String())
			} else if strings.Contains(e[1], "Runs as it is") {
				ran++
				runExample(t, binary, dir, page+": "+e[1])
			}
		}
	}
	if ran < 8 {
		t.Errorf("%d examples ran", ran)
	}
}

// whole puts what is missing around an example.
func whole(example string) string {
	const buffer = "buffer: { detect: { name: example, state: ./state/example, streams: { logins: { time: { field: time } } }, operators: { all: { filter: { from: logins, where: { a|exists: true } } } } } }\n"
	if !strings.Contains(example, "input:") {
		example = "input: { file_lines: { paths: [a.jsonl] } }\n" + buffer + example
	}
	if !strings.Contains(example, "output:") {
		example += buffer + "output: { console: {} }\n"
	}
	return example
}

// runExample runs a pipeline in a folder that has what the repository has.
func runExample(t *testing.T, binary, dir, what string) {
	t.Helper()
	for _, name := range []string{"pipelines", "plugins"} {
		from, err := filepath.Abs(name)
		if err == nil {
			err = os.Symlink(from, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(binary, "run", "example.yaml")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	err := cmd.Run()
	files, _ := filepath.Glob(filepath.Join(dir, "out", "*"))
	for _, file := range files {
		text, readErr := os.ReadFile(file)
		if readErr != nil {
			t.Fatal(readErr)
		}
		out.Write(text)
	}
	if err != nil || out.Len() == 0 || strings.Contains(errs.String(), " 0 rows, 0 alerts") {
		t.Errorf("%s: %v, and it said %d bytes\n%s", what, err, out.Len(), errs.String())
	}
}

// So are the lanes that it shows, with their outputs.
func TestDocsLanesAreClean(t *testing.T) {
	text, err := os.ReadFile("docs/pipelines.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) string {
		m := regexp.MustCompile("(?s)```yaml " + kind + "\n(.*?)```").FindStringSubmatch(string(text))
		if m == nil {
			t.Fatalf("no block %s", kind)
		}
		return m[1]
	}
	path := filepath.Join(t.TempDir(), "docs.yaml")
	pipeline := `input: { file_lines: { paths: [a.jsonl] } }
buffer:
  detect:
    name: docs
    state: ./state/docs
    streams: { logins: { time: { field: time } } }
    operators:
      failures: { filter: { from: logins, where: { status: failure } }, alert: { title: "{username}" } }
` + block("deliver") + block("lanes")
	if err := os.WriteFile(path, []byte(pipeline), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if status := cli.Main([]string{"lint", path}, &out, &out); status != 0 || strings.Contains(out.String(), "warning") {
		t.Errorf("status %d\n%s", status, out.String())
	}
}

// So is what docs/article.md shows: its pipeline, and what it takes from files, which are those lines, of a pipeline that lint lets through.
func TestDocsArticleIsClean(t *testing.T) {
	b, err := os.ReadFile("docs/article.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	clean := func(path, what string) {
		t.Helper()
		var out bytes.Buffer
		if status := cli.Main([]string{"lint", path}, &out, &out); status != 0 || strings.Contains(out.String(), "warning") {
			t.Errorf("%s: status %d\n%s", what, status, out.String())
		}
	}
	whole := regexp.MustCompile("(?s)```yaml pipeline\n(.*?)```").FindAllStringSubmatch(text, -1)
	for _, m := range whole {
		path := filepath.Join(t.TempDir(), "docs.yaml")
		if err := os.WriteFile(path, []byte(m[1]), 0o644); err != nil {
			t.Fatal(err)
		}
		clean(path, "the pipeline")
	}
	t.Setenv("FIREWALL_SECRET", "x")
	t.Setenv("MAIL_PASSWORD", "x")
	taken := regexp.MustCompile("\\]\\(\\.\\./([^)#]+)#L(\\d+)-L(\\d+)\\)[^\n]*:\n\n```yaml\n((?s:.*?))```").FindAllStringSubmatch(text, -1)
	for _, m := range taken {
		file, err := os.ReadFile(m[1])
		if err != nil {
			t.Fatal(err)
		}
		at := strings.Index(string(file), m[4])
		if at < 0 {
			t.Errorf("%s has no such lines:\n%s", m[1], m[4])
			continue
		}
		from := 1 + strings.Count(string(file[:at]), "\n")
		to := from + strings.Count(m[4], "\n") - 1
		if m[2] != strconv.Itoa(from) || m[3] != strconv.Itoa(to) {
			t.Errorf("lines %s to %s of %s are now %d to %d", m[2], m[3], m[1], from, to)
		}
		clean(m[1], m[1])
	}
	if all := strings.Count(text, "```yaml"); len(whole) != 1 || len(taken) != all-1 || all < 6 {
		t.Errorf("of %d blocks %d are taken from files", all, len(taken))
	}
	// The lines of the table begin and end a part.
	parts := regexp.MustCompile(`lines (\d+ to \d+)\]\(\.\./([^)#]+)#L(\d+)-L(\d+)\)`).FindAllStringSubmatch(text, -1)
	if len(parts) != strings.Count(text, "#L") {
		t.Errorf("%d of %d links to lines say which", len(parts), strings.Count(text, "#L"))
	}
	for _, m := range parts {
		if m[1] != m[3]+" to "+m[4] {
			t.Errorf("lines %s of %s are linked as %s to %s", m[1], m[2], m[3], m[4])
		}
		m = m[1:]
		file, err := os.ReadFile(m[1])
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(file), "\n")
		from, _ := strconv.Atoi(m[2])
		to, _ := strconv.Atoi(m[3])
		if from < 1 || to < from || to >= len(lines) || strings.TrimSpace(lines[from-1]) == "" || to+1 < len(lines) && indent(lines[to]) > indent(lines[from-1]) {
			t.Errorf("lines %d to %d of %s are no part of it", from, to, m[1])
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join("docs", m[1])); err != nil {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
}

// indent is how far a line stands from the left.
func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
