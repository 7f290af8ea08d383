package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var eventNumber = regexp.MustCompile(`"[nab]":\[?"(\d)"(?:,"(\d)")?`)

// eventNumbers gives the numbers of events that a row has in n, a and b.
func eventNumbers(line string) string {
	var out []string
	for _, m := range eventNumber.FindAllStringSubmatch(line, -1) {
		for _, n := range m[1:] {
			if n != "" {
				out = append(out, n)
			}
		}
	}
	return strings.Join(out, " ")
}

// Sigma's modifiers and keywords in the places of a pipeline that take conditions: a stream, a filter, a step, a window and
// behind a filter. Each row names the operator and the events that it stands for.
func TestConditions(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	log, rows, pipeline := filepath.Join(dir, "log.jsonl"), filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "pipeline.yaml")
	const events = `
{"t":"2026-01-01T00:00:01Z","n":"1","src":"10.1.2.3","cmd":"powershell -enc SQBFAFgAIAAoAA==","user":"eve","owner":"EVE"}
{"t":"2026-01-01T00:00:02Z","n":"2","src":"203.0.113.9","cmd":"powershell /enc SQBFAFgAIAAoAA==","user":"eve","owner":"bob"}
{"t":"2026-01-01T00:00:03Z","n":"3","src":"fd00::7","cmd":"C:\\tools\\Mimikatz.exe","user":"bob","owner":"bob"}
{"t":"2026-01-01T00:00:04Z","n":"4","src":"203.0.113.9","deep":[{"text":"tools\\MIMIKATZ"}],"user":"bob"}
{"t":"2026-01-01T00:00:05Z","n":"5","src":"203.0.113.9","cmd":"noise mimikatz","user":"bob"}
`
	const text = `
input:
  file_lines: { paths: [LOG] }
buffer:
  detect:
    name: conditions
    state: DIR/state
    streams:
      log: { match: { path: "*", where: { noise: [noise], condition: not noise } }, time: { field: t } }
    operators:
      encoded: { filter: { from: log, where: { cmd|windash|contains: " -enc ", cmd|wide|base64offset|contains: IEX } } }
      outside: { filter: { from: encoded, where: { src|cidr|neq: [10.0.0.0/8, "fd00::/8"], cmd|re|i: ^POWERSHELL } } }
      words: { filter: { from: log, where: ['tools\mimikatz'] } }
      words_outside: { filter: { from: words, where: { "|all": [MIMIKATZ, "203."] } } }
      own: { filter: { from: log, where: { user|fieldref: owner } } }
      counted: { window: { from: log, tumbling: 1h, where: [mimikatz], aggregate: { n: { collect: n } } } }
      pairs:
        sequence: { by: user, within: 1m, steps: [{ from: log, where: [.exe] }, { from: log, as: then, where: [mimikatz] }], select: { a: log.n, b: then.n } }
    outputs: [encoded, words]
output:
  file_rows: { path: DIR/rows.jsonl }
`
	for path, content := range map[string]string{log: strings.TrimPrefix(events, "\n"), pipeline: strings.NewReplacer("LOG", log, "DIR", dir).Replace(text)} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []string
	for _, r := range results(t, rows) {
		if r.Tocsin.Kind == "error" { // the fifth event, which no stream takes
			got = append(got, r.Tocsin.Reason)
			continue
		}
		got = append(got, r.Tocsin.Operator+" "+eventNumbers(r.line))
	}
	want := []string{"counted 3 4", "encoded 1", "encoded 2", "no_stream", "outside 2", "own 1", "own 3", "pairs 3 4", "words 3", "words 4", "words_outside 4"}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
