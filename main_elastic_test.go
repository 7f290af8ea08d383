package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/elastic/double"
)

// onElastic writes the example with its state in dir and its cluster.
func onElastic(t *testing.T, dir, url string, change ...string) (pipeline string) {
	t.Helper()
	pipeline, _ = moved(t, "pipelines/elasticsearch.yaml", dir, append([]string{"${ELASTICSEARCH:http://127.0.0.1:19200}", url}, change...)...)
	return pipeline
}

// elasticDoc is what a document of the example says.
type elasticDoc struct {
	Timestamp string `json:"@timestamp"`
	result
}

// compareElastic compares the documents of the example, by index and id, with the logs alone.
func compareElastic(t *testing.T, docs map[string]map[string]string) {
	t.Helper()
	rows, _, lates, bad := expected(t)
	var got []string
	kinds := map[string]int{}
	for index, all := range docs {
		for id, source := range all {
			var d elasticDoc
			if err := json.Unmarshal([]byte(source), &d); err != nil || d.Tocsin.ResultID != id || index != "tocsin-"+d.Tocsin.Kind {
				t.Fatalf("%v: %s/%s: %s", err, index, id, source)
			}
			kinds[d.Tocsin.Kind]++
			if d.Tocsin.Kind != "error" && len(d.Timestamp) != len("2026-03-02T08:00:19.999Z") {
				t.Errorf("no time: %s", source)
			}
			switch {
			case d.Tocsin.Kind != "row":
			case d.Tocsin.Operator == "login_attempts":
				got = append(got, fmt.Sprint("suspicious ", d.SourceIP, " ", d.WindowStart, " ", d.Attempts, " ", d.Users))
			default:
				got = append(got, fmt.Sprint("attacked ", d.SourceIP, " ", d.Username, " ", d.Class))
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, rows) || len(rows) == 0 {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(rows, "\n"))
	}
	attacked := 0
	for _, r := range rows {
		if strings.HasPrefix(r, "attacked") {
			attacked++
		}
	}
	if kinds["late"] != lates || kinds["error"] != bad || kinds["alert"] != attacked || attacked == 0 {
		t.Errorf("%v, want %d late, %d errors, %d alerts", kinds, lates, bad, attacked)
	}
}

// The example into a cluster where nothing goes wrong: what is there is what the logs say, and running it again adds nothing.
func TestElastic(t *testing.T) {
	s := double.New()
	defer s.Close()
	binary, pipeline := build(t), onElastic(t, t.TempDir(), s.URL)
	for _, args := range [][]string{{"run", pipeline}, {"run", pipeline}, {"run", "--fresh", pipeline}} {
		if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	docs := map[string]map[string]string{}
	for _, index := range s.Indexes() {
		docs[index] = map[string]string{}
		for id, d := range s.Docs(index) {
			if docs[index][id] = d.Source; d.Writes != 1 || d.Version != 1 {
				t.Errorf("%s/%s: %+v", index, id, d)
			}
		}
	}
	compareElastic(t, docs)
}

// elasticWanted runs the example into a file and gives its documents by index and id.
func elasticWanted(t *testing.T, binary, dir string, change ...string) map[string]map[string]double.Stored {
	t.Helper()
	pipeline, rows := onElastic(t, dir, "", change...), filepath.Join(dir, "rows.jsonl")
	src, err := os.ReadFile(pipeline)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(src), "\noutput:")
	if err := os.WriteFile(pipeline, []byte(before+"\noutput:\n  file_rows: { path: "+rows+" }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := map[string]map[string]double.Stored{}
	for _, r := range results(t, rows) {
		index := "tocsin-" + r.Tocsin.Kind
		if want[index] == nil {
			want[index] = map[string]double.Stored{}
		}
		columns, _, _ := strings.Cut(r.line, `,"_tocsin":`)
		want[index][r.Tocsin.ResultID] = double.Stored{Version: int64(r.Tocsin.Revision) + 1, Source: columns}
	}
	return want
}

// Kill -9 at random moments, into a cluster with storms of 429, parts that fail, resets and lost answers: every document is there in the
// end, written once.
func TestKilledOnElastic(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s := double.New()
	defer s.Close()
	faults := rand.New(rand.NewPCG(seed, 2)) // used under the double's lock
	s.Fault = func(int) (f double.Fault) {
		switch faults.IntN(12) {
		case 0:
			f.Status = []int{429, 500, 503}[faults.IntN(3)]
		case 1:
			f.Reset = true
		case 2:
			f.Lost = true
		case 3:
			f.Item = func(int) int { return []int{0, 429, 503}[faults.IntN(3)] }
		}
		return f
	}
	binary, dir := build(t), t.TempDir()
	logins, ids := filepath.Join(dir, "logins.jsonl"), filepath.Join(dir, "ids.jsonl")
	larger(t, r, 300_000, logins, ids)
	change := []string{"pipelines/data/logins.jsonl", logins, "pipelines/data/ids.jsonl", ids, "login_attempts|gte: 5", "login_attempts|gte: 2"}
	want := elasticWanted(t, binary, mkdir(t, dir, "whole"), change...)
	pipeline := onElastic(t, mkdir(t, dir, "torn"), s.URL, append([]string{"    metadata: true", "    retry_for: 1s"}, change...)...)
	n := killedOften(t, r, binary, pipeline, *kills/2, 100, 700)
	all := 0
	for index, docs := range want {
		all += len(docs)
		if wrong := s.Once(index, docs); len(wrong) > 0 {
			t.Errorf("seed %d: %s: %d wrong, such as\n%s", seed, index, len(wrong), strings.Join(wrong[:min(len(wrong), 5)], "\n"))
		}
	}
	if got := s.Indexes(); len(got) != len(want) {
		t.Errorf("seed %d: %v", seed, got)
	}
	requests, _ := s.Requests()
	t.Logf("%d documents, %d requests, %d kills", all, requests, n)
}

// A cluster that is too old, or does not let us in, ends the run with the reason; nothing is lost, and the next start goes on.
func TestElasticRefusesToRun(t *testing.T) {
	s := double.New()
	defer s.Close()
	s.Version, s.Distribution = "1.3.20", "opensearch"
	binary, pipeline := build(t), onElastic(t, t.TempDir(), s.URL)
	out, err := exec.Command(binary, "run", pipeline).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "tocsin run: elasticsearch_bulk: ") || !strings.Contains(string(out), "is opensearch 1.3.20; this output needs") {
		t.Errorf("%v\n%s", err, out)
	}
	s.Version = "2.19.0"
	if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	docs := map[string]map[string]string{}
	for _, index := range s.Indexes() {
		docs[index] = map[string]string{}
		for id, d := range s.Docs(index) {
			docs[index][id] = d.Source
		}
	}
	compareElastic(t, docs)
}

// mixed is a folder with a.jsonl: 3 000 events, of which 29 have a text where the others have a number.
func mixed(t *testing.T) (dir string) {
	t.Helper()
	dir, log := t.TempDir(), ""
	for i := range 3000 {
		ip := fmt.Sprint(i)
		if i > 0 && i%100 == 0 {
			ip = `"10.0.0.1"`
		}
		log += fmt.Sprintf(`{"time":%d,"ip":%s}`+"\n", 1772438400000+i, ip)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.jsonl"), []byte(log), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// conflicting runs a pipeline over 3 000 events of which 29 have a text where the index has numbers, and returns what it said.
func conflicting(t *testing.T, binary, url string) (said string) {
	t.Helper()
	dir := mixed(t)
	pipeline := filepath.Join(dir, "pipeline.yaml")
	text := `
input: { file_lines: { paths: [DIR/a.jsonl] } }
buffer:
  detect:
    name: conflict
    state: DIR/state
    streams: { s: { time: { field: time, format: epoch_ms } } }
    operators: { all: { filter: { from: s, where: { time|exists: true } } } }
output:
  elasticsearch_bulk: { urls: ["URL"], index: "x-${! @kind }" }
`
	if err := os.WriteFile(pipeline, []byte(strings.NewReplacer("DIR", dir, "URL", url).Replace(text)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "run", pipeline).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// wantRefused compares the documents of such a run.
func wantRefused(t *testing.T, rows, errs map[string]double.Stored, detail, said string) {
	t.Helper()
	if len(rows) != 3000-29 {
		t.Errorf("%d rows", len(rows))
	}
	for id, d := range errs {
		var e struct{ Error, Detail, Raw string }
		if err := json.Unmarshal([]byte(d.Source), &e); err != nil || e.Error != "rejected" || !strings.Contains(e.Detail, detail) || !strings.Contains(e.Raw, `"ip":"10.0.0.1"}`) {
			t.Errorf("%v: %s: %s", err, id, d.Source)
		}
	}
	if len(errs) != 29 {
		t.Errorf("%d errors", len(errs))
	}
	if strings.Count(said, "rows not taken") != 1 || !strings.Contains(said, "  refused 29 rows") {
		t.Errorf("said\n%s", said)
	}
}

// A row that does not fit the mapping becomes an error row with the reason, in an index of its own; the others are there.
func TestElasticMappingErrors(t *testing.T) {
	s := double.New()
	defer s.Close()
	said := conflicting(t, build(t), s.URL)
	wantRefused(t, s.Docs("x-row"), s.Docs("x-error"), "failed to parse field [ip] of type [number]", said)
}
