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

	"google.golang.org/grpc/codes"

	"github.com/seed-98920119/tocsin/runtime/bigquery/double"
)

// onBigquery writes the example with its state in dir and its double.
func onBigquery(t *testing.T, dir string, s *double.Server, change ...string) (pipeline string) {
	t.Helper()
	pipeline, _ = moved(t, "pipelines/bigquery.yaml", dir, append(change, "${BIGQUERY:https://bigquery.googleapis.com}", s.URL,
		"${BIGQUERY_STORAGE:bigquerystorage.googleapis.com:443}", s.Storage)...)
	return pipeline
}

// bigqueryRows are the rows of all tables of the example.
func bigqueryRows(s *double.Server) (all []double.Row) {
	for _, name := range s.Tables() {
		all = append(all, s.Rows(name)...)
	}
	return all
}

// The example into tables that are not there: what they have then is what the logs say, by each way of writing, and running it again adds nothing.
func TestBigquery(t *testing.T) {
	binary := build(t)
	for _, write := range []string{"exactly_once", "storage", "insert_all"} {
		s := double.New()
		defer s.Close()
		change := []string{"    write: exactly_once\n", "    write: " + write + "\n"}
		if write != "exactly_once" {
			change = append(change, "    offsets: ./state/bigquery.offsets\n", "")
		}
		pipeline := onBigquery(t, t.TempDir(), s, change...)
		for range 2 {
			if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", write, err, out)
			}
		}
		compareBigquery(t, bigqueryRows(s))
		if columns, partition, clustering := s.Columns("my-project.tocsin.login_attempts_row"); partition != "DAY event_time" || !slices.Equal(clustering, []string{"source_ip"}) ||
			!slices.Contains(columns, "login_attempts INTEGER") || !slices.Contains(columns, "window_start TIMESTAMP") {
			t.Errorf("%s: %v, %s, %v", write, columns, partition, clustering)
		}
	}
}

// compareBigquery compares the tables of the example with the logs alone.
func compareBigquery(t *testing.T, all []double.Row) {
	t.Helper()
	rows, _, lates, bad := expected(t)
	var got []string
	kinds := map[string]int{}
	for _, r := range all {
		kind := r["kind"].(string)
		kinds[kind]++
		if at, ok := r["event_time"].(int64); kind != "error" && (!ok || time.UnixMicro(at).UTC().Format(time.DateOnly) != "2026-03-02") {
			t.Errorf("no time: %v", r)
		}
		switch {
		case kind != "row":
		case r["operator"] == "login_attempts":
			got = append(got, fmt.Sprint("suspicious ", r["source_ip"], " ", stamp(time.UnixMicro(r["window_start"].(int64))), " ", r["login_attempts"], " ", r["users"]))
		default:
			got = append(got, fmt.Sprint("attacked ", r["source_ip"], " ", r["username"], " ", r["attack_classification"]))
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

// bigqueryWanted runs the example into a file and gives the ids of its rows by table.
func bigqueryWanted(t *testing.T, binary, dir string, s *double.Server, change ...string) map[string]map[string]bool {
	t.Helper()
	pipeline, rows := onBigquery(t, dir, s, change...), filepath.Join(dir, "rows.jsonl")
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
	want := map[string]map[string]bool{}
	for _, r := range results(t, rows) {
		operator := r.Tocsin.Operator
		if operator == "" {
			operator = "lines"
		}
		table := "my-project.tocsin." + operator + "_" + r.Tocsin.Kind
		if want[table] == nil {
			want[table] = map[string]bool{}
		}
		want[table][fmt.Sprintf("%s.%d", r.Tocsin.ResultID, r.Tocsin.Revision)] = true
	}
	return want
}

// windowsOf works the windows of the larger logs out from the lines alone: attempts and users of an address in 20 s, two or more.
func windowsOf(t *testing.T, logins string) (rows []string) {
	t.Helper()
	text, err := os.ReadFile(logins)
	if err != nil {
		t.Fatal(err)
	}
	type window struct {
		ip    string
		start time.Time
	}
	counts, users := map[window]int{}, map[window]map[string]bool{}
	newest := time.Time{}
	for _, line := range strings.Split(string(text), "\n") {
		var l struct {
			At   time.Time `json:"login_time"`
			IP   string    `json:"source_ip"`
			User string    `json:"username"`
		}
		if json.Unmarshal([]byte(line), &l) != nil {
			continue
		}
		w := window{l.IP, l.At.Truncate(20 * time.Second)}
		if !newest.IsZero() && !w.start.Add(20*time.Second).After(newest.Add(time.Millisecond)) { // it was closed
			continue
		}
		if l.At.After(newest) {
			newest = l.At
		}
		if counts[w]++; users[w] == nil {
			users[w] = map[string]bool{}
		}
		users[w][l.User] = true
	}
	for w, n := range counts {
		if n >= 2 {
			rows = append(rows, fmt.Sprint(w.ip, " ", stamp(w.start), " ", n, " ", len(users[w])))
		}
	}
	slices.Sort(rows)
	return rows
}

// Kill -9 at random moments, into a BigQuery with storms of 429, quotas, resets, lost answers, streams that end and expire, and tables that are known late:
// in the end every row is there once, none twice, as the lines alone say.
func TestKilledOnBigquery(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s := double.New()
	defer s.Close()
	s.Lag = 2
	faults := rand.New(rand.NewPCG(seed, 2)) // used under the double's lock
	s.Fault = func(c double.Call) (f double.Fault) {
		f.Stays = faults.IntN(2) == 0
		switch faults.IntN(14) {
		case 0:
			f.Status, f.Reason, f.Code = 403, []string{"rateLimitExceeded", "quotaExceeded"}[faults.IntN(2)], uint32(codes.ResourceExhausted)
		case 1:
			f.Status, f.Code = []int{429, 500, 503}[faults.IntN(3)], uint32(codes.Internal)
		case 2:
			f.Reset = true
		case 3:
			f.Lost = true
		case 4:
			f.Gone = c.Name == "append"
		case 5:
			f.Expire = c.Name == "append" || c.Name == "finalize"
		}
		return f
	}
	binary, dir := build(t), t.TempDir()
	logins, ids := filepath.Join(dir, "logins.jsonl"), filepath.Join(dir, "ids.jsonl")
	larger(t, r, 100_000, logins, ids)
	change := []string{"pipelines/data/logins.jsonl", logins, "pipelines/data/ids.jsonl", ids, "login_attempts|gte: 5", "login_attempts|gte: 2", "    create: true", "    create: true\n    retry_for: 1s",
		"{ count: 2000, period: 200ms }", "{ count: 700, period: 50ms }"}
	want := bigqueryWanted(t, binary, mkdir(t, dir, "whole"), s, change...)
	pipeline := onBigquery(t, mkdir(t, dir, "torn"), s, change...)
	n := killedOften(t, r, binary, pipeline, (*kills+2)/3, 100, 900)
	all := 0
	for table, ids := range want {
		all += len(ids)
		if wrong := s.Once(table, ids); len(wrong) > 0 {
			t.Errorf("seed %d: %s: %d wrong, such as\n%s", seed, table, len(wrong), strings.Join(wrong[:min(len(wrong), 5)], "\n"))
		}
	}
	if got := s.Tables(); len(got) != len(want) {
		t.Errorf("seed %d: %v", seed, got)
	}
	var got []string
	for _, r := range s.Rows("my-project.tocsin.login_attempts_row") {
		got = append(got, fmt.Sprint(r["source_ip"], " ", stamp(time.UnixMicro(r["window_start"].(int64))), " ", r["login_attempts"], " ", r["users"]))
	}
	slices.Sort(got)
	if windows := windowsOf(t, logins); !slices.Equal(got, windows) || len(windows) < 1000 {
		t.Errorf("seed %d: %d windows, want %d", seed, len(got), len(windows))
	}
	t.Logf("%d rows, %d appends, %d streams, %d queries, %d kills", all, s.Calls("append"), s.Streams(), s.Calls("query"), n)
}

// A row that does not fit its table becomes an error row with the reason, in a table of its own; the others are there.
func TestBigqueryMisfits(t *testing.T) {
	binary := build(t)
	for _, write := range []string{"storage", "insert_all"} {
		s := double.New()
		defer s.Close()
		s.AddDataset("proj-a.d")
		s.AddTable("proj-a.d.x_row", "result_id STRING REQUIRED", "revision INTEGER REQUIRED", "ip INTEGER", "n INTEGER", "window_start TIMESTAMP", "window_end TIMESTAMP")
		dir := mixed(t)
		pipeline := filepath.Join(dir, "pipeline.yaml")
		text := `
input: { file_lines: { paths: [DIR/a.jsonl] } }
buffer:
  detect:
    name: misfits
    state: DIR/state
    streams: { s: { time: { field: time, format: epoch_ms }, watermark: { strict: true } } }
    operators: { all: { window: { from: s, tumbling: 1ms, key: ip, aggregate: { n: count } } } }
output:
  bigquery_rows: { project: proj-a, dataset: d, table: "x_${! @kind }", create: true, write: WRITE, endpoint: "URL", grpc_endpoint: "STORAGE" }
`
		if err := os.WriteFile(pipeline, []byte(strings.NewReplacer("DIR", dir, "URL", s.URL, "STORAGE", s.Storage, "WRITE", write).Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(binary, "run", pipeline).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		errs := s.Rows("proj-a.d.x_error")
		for _, r := range errs {
			payload, _ := r["payload"].(string)
			var e struct{ Error, Detail, Raw string }
			if err := json.Unmarshal([]byte(payload), &e); err != nil || e.Error != "rejected" || !strings.Contains(e.Detail, `column ip is INTEGER in the table, and "10.0.0.1" in the row`) || !strings.Contains(e.Raw, `"ip":"10.0.0.1"`) {
				t.Errorf("%s: %v: %v", write, err, r)
			}
		}
		if n := len(s.Rows("proj-a.d.x_row")); n != 3000-29 || len(errs) != 29 || !strings.Contains(string(out), "  refused 29 rows") {
			t.Errorf("%s: %d rows, %d errors\n%s", write, n, len(errs), out)
		}
	}
}

// A table that is not there and may not be made ends the run with what to do; nothing is lost, and the next start goes on.
func TestBigqueryRefusesToRun(t *testing.T) {
	s := double.New()
	defer s.Close()
	binary, dir := build(t), t.TempDir()
	pipeline := onBigquery(t, dir, s, `    table: ${! @operator.or("lines") }_${! @kind }`, "    table: all", "    create: true\n    cluster_by: [source_ip]\n", "")
	out, err := exec.Command(binary, "run", pipeline).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "tocsin run: bigquery_rows: my-project.tocsin.all: HTTP 404 notFound: Not found: Table my-project.tocsin.all; make the table and its dataset, or set `create: true`") {
		t.Errorf("%v\n%s", err, out)
	}
	pipeline = onBigquery(t, dir, s, `    table: ${! @operator.or("lines") }_${! @kind }`, "    table: all")
	if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	compareBigquery(t, bigqueryRows(s))
}
