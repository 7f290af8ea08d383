package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

func TestMain(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yaml")
	if err := os.WriteFile(broken, []byte("input: { file_lines: { paths: [x] } }\nbuffer:\n  detect:\n    name: p\n    streems: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain.yaml")
	if err := os.WriteFile(plain, []byte("input: { stdin: {} }\noutput: { drop: {} }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.yaml")
	if err := os.WriteFile(newer, []byte("input: { file_lines: { paths: [x] } }\nbuffer:\n  detect:\n    name: p\n    state: s\n    streams: { a: { time: { field: t } } }\n    operators:\n"+
		"      o: { filter: { from: a, where: { b: 1 } }, alert: { title: x, attack: T9999 } }\noutput: { drop: {} }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		args     string
		code     int
		out, err string // what must be in them; empty: nothing at all
	}{
		{"", done, "tocsin <command>", ""},
		{"--help", done, "Exit status", ""},
		{"help run", done, "--fresh", ""},
		{"--version", done, "tocsin ", ""},
		{"rnu p.yaml", wrong, "", `did you mean "run"?`},
		{"frobnicate", wrong, "", "there is no command"},
		{"run", wrong, "", "which pipeline?"},
		{"run --frsh p.yaml", wrong, "", "there is no flag --frsh"},
		{"run " + plain + " " + plain, wrong, "", "are both called plain; give one another name"},
		{"run " + plain + " " + broken, wrong, "", "broken.yaml:5:5: "},
		{"run " + plain + " " + dir + "/none.yaml", wrong, "", dir + "/none.yaml: no such file"},
		{"run p.yaml --cpuprofile", wrong, "", "--cpuprofile needs a file"},
		{"run " + dir + "/none.yaml", wrong, "", dir + "/none.yaml: no such file"},
		{"run " + broken, wrong, "", "broken.yaml:5:5: "},
		{"lint " + broken, wrong, "", "broken.yaml:5:5: "},
		{"lint", wrong, "", "which pipeline"},
		{"lint " + newer, done, "", "newer.yaml:8:77: warning: ATT&CK "},
		{"help graph", done, "--format mermaid|dot|json|openlineage", ""},
		{"graph", wrong, "", "which pipeline"},
		{"graph --format svg p.yaml", wrong, "", "must be mermaid, dot, json or openlineage, not svg"},
		{"graph " + broken, wrong, "", "broken.yaml:5:5: "},
		{"graph " + plain, wrong, "", "has no buffer `detect`"},
		{"graph ../../pipelines/siem.yaml", done, "flowchart LR", ""},
		{"graph --format openlineage ../../pipelines/siem.yaml", done, `"schemaURL":"https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/JobEvent"`, ""},
	} {
		var out, err bytes.Buffer
		code := Main(strings.Fields(x.args), &out, &err)
		if code != x.code || !strings.Contains(out.String(), x.out) || !strings.Contains(err.String(), x.err) || x.out == "" && out.Len() > 0 || x.err == "" && err.Len() > 0 {
			t.Errorf("tocsin %s: status %d\n%s%s", x.args, code, &out, &err)
		}
	}
}

func TestParseRun(t *testing.T) {
	got, err := parseRun(strings.Fields("--quiet --cpuprofile=a p.yaml --memprofile b --fresh"))
	if want := (runFlags{fresh: true, quiet: true, cpu: "a", mem: "b", paths: []string{"p.yaml"}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567", -1000: "-1 000", -999: "-999"} {
		if got := count(n); got != want {
			t.Errorf("%d: got %q", n, got)
		}
	}
}

// Progress is one line that is written over, and gone before anything else is said.
func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := progress{w: &b, on: true}
	p.say(engine.Stats{})
	p.clear()
	if b.Len() > 0 {
		t.Errorf("said %q of nothing", &b)
	}
	p.say(engine.Stats{Events: 1500, Alerts: 2})
	p.say(engine.Stats{Events: 4000, Alerts: 3, Waiting: 5})
	p.clear()
	want := "\r\x1b[K1 500 events, 1 500/s, 2 alerts\r\x1b[K4 000 events, 2 500/s, 3 alerts, 5 rows wait for an output\r\x1b[K"
	if b.String() != want {
		t.Errorf("got %q", &b)
	}
}

func TestSummary(t *testing.T) {
	var b bytes.Buffer
	e := env{out: &b, err: &b}
	e.counts(engine.Stats{Events: 2000, Rows: 10, Alerts: 4, Late: 3, Errors: 2, Resent: 1, Dropped: 7, Counts: engine.Counts{RowsCapped: 5, Poisoned: 9, Unjudged: 1, Incomplete: 1234}, InvalidUTF8: 6, Duplicates: 8}, "/s", 2*time.Second)
	for _, want := range []string{"2 000 events, 10 rows, 4 alerts, 3 late, 2 errors", "1 rows of the last run", "7 events without a time", "5 rows hit a cap", "failed on 9 rows, and 1 came", "1 234 rows lack a field",
		"6 lines that were not UTF-8, 8 keys that stood twice", "took    2.00s, 1 000 events/s", "state   /s"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	b.Reset()
	if e.counts(engine.Stats{Events: 1}, "/s", time.Second); strings.Count(b.String(), "\n") != 3 {
		t.Errorf("more is said than there is:\n%s", &b)
	}
}
