package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/bigquery/double"
)

var emulator = flag.Bool("emulator", false, "also with BigQuery's emulator, which servers/bigquery.sh starts, and the first time builds")

// emulated is the emulator, of which a test asks what is in tables.
type emulated struct{ rest, storage string }

// query runs a statement and gives its rows by the types of their columns, as the double has them. What is refused is an error.
func (e *emulated) query(sql string) (rows []double.Row, err error) {
	sql = ofTheDataset.ReplaceAllString(sql, "`tocsin`.tocsin.$1") // the emulator wants the project too
	body, _ := json.Marshal(map[string]any{"query": sql, "useLegacySql": false})
	res, err := http.Post(e.rest+"/bigquery/v2/projects/tocsin/queries", "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var a struct {
		Schema struct {
			Fields []struct{ Name, Type string }
		}
		Rows []struct {
			F []struct{ V any }
		}
		Error struct{ Message string }
	}
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %v: %s", res.Status, err, a.Error.Message)
	}
	for _, r := range a.Rows {
		row := double.Row{}
		for i, c := range r.F {
			row[a.Schema.Fields[i].Name] = valueOf(a.Schema.Fields[i].Type, c.V)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

var ofTheDataset = regexp.MustCompile(`\btocsin\.(\w+)`)

// valueOf is a value of an answer; times are in us.
func valueOf(typ string, v any) any {
	text, ok := v.(string)
	if !ok {
		return v
	}
	switch typ {
	case "INTEGER":
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case "TIMESTAMP":
		if n, err := strconv.ParseInt(strings.Replace(text, ".", "", 1), 10, 64); err == nil && len(text) > 7 && text[len(text)-7] == '.' {
			return n
		}
	case "FLOAT":
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return n
		}
	case "BOOLEAN":
		return text == "true"
	}
	return v
}

// columns are a table's, in the form in which the double says them.
func (e *emulated) columns(t *testing.T, table string) (columns []string) {
	res, err := http.Get(e.rest + "/bigquery/v2/projects/tocsin/datasets/tocsin/tables/" + table)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var a struct {
		Schema struct {
			Fields []struct{ Name, Type, Mode string }
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Schema.Fields {
		columns = append(columns, strings.TrimSuffix(f.Name+" "+f.Type+" "+f.Mode, " NULLABLE"))
		columns[len(columns)-1] = strings.TrimSpace(columns[len(columns)-1])
	}
	return columns
}

// exampleTables are those of pipelines/bigquery.yaml.
var exampleTables = []string{"login_attempts_row", "login_attempts_late", "attacked_logins_row", "attacked_logins_alert", "lines_error"}

// fill runs the example into the emulator, a table at a time: it locks its database when several are made and written at once.
func (e *emulated) fill(t *testing.T, binary, write string, change ...string) {
	t.Helper()
	for _, table := range exampleTables {
		e.fillOne(t, binary, write, table, change...)
	}
}

func (e *emulated) fillOne(t *testing.T, binary, write, table string, change ...string) {
	t.Helper()
	if out, err := exec.Command(binary, "run", e.pipeline(t, write, table, change...)).CombinedOutput(); err != nil {
		t.Fatalf("%s, %s: %v\n%s", write, table, err, out)
	}
}

// pipeline is the example with one table alone.
func (e *emulated) pipeline(t *testing.T, write, table string, change ...string) string {
	t.Helper()
	change = append(change, "    write: exactly_once\n", "    write: "+write+"\n", "${BIGQUERY_PROJECT:my-project}", "tocsin",
		"${BIGQUERY:https://bigquery.googleapis.com}", e.rest, "${BIGQUERY_STORAGE:bigquerystorage.googleapis.com:443}", e.storage)
	if write != "exactly_once" {
		change = append(change, "    offsets: ./state/bigquery.offsets\n", "")
	}
	dir := t.TempDir()
	pipeline, _ := moved(t, "pipelines/bigquery.yaml", dir, append(change, "./state/bigquery.offsets", filepath.Join(dir, "offsets"))...)
	src, err := os.ReadFile(pipeline)
	if err != nil {
		t.Fatal(err)
	}
	before, output, _ := strings.Cut(string(src), "\noutput:\n")
	output = "        " + strings.ReplaceAll(strings.TrimSpace(output), "\n", "\n        ")
	text := before + "\noutput:\n  switch:\n    cases:\n    - check: '@operator.or(\"lines\") + \"_\" + @kind == \"" + table + "\"'\n      output:\n" + output + "\n    - output: { drop: {} }\n"
	if err := os.WriteFile(pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return pipeline
}

// rows are those of all tables of the example.
func (e *emulated) rows(t *testing.T) (all []double.Row) {
	t.Helper()
	for _, table := range exampleTables {
		rows, err := e.query("SELECT * FROM tocsin." + table)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rows...)
	}
	return all
}

// onEmulator starts the emulator anew.
func onEmulator(t *testing.T) *emulated {
	if !*emulator {
		t.Skip("needs BigQuery's emulator, which is long to build: make bigquery-emulator")
	}
	on := *integration
	*integration = true
	defer func() { *integration = on }()
	address, _ := realServer(t, "bigquery", "19450")
	rest, storage, _ := strings.Cut(address, " ")
	return &emulated{rest, storage}
}

// The example into the emulator, by each way of writing: datasets and tables are made from the types of rows, with the columns that the double has
// too, and what is read back is what the logs say.
func TestEmulator(t *testing.T) {
	binary := build(t)
	for _, write := range []string{"storage", "insert_all", "exactly_once"} {
		t.Run(write, func(t *testing.T) {
			e := onEmulator(t)
			s := double.New()
			defer s.Close()
			if out, err := exec.Command(binary, "run", onBigquery(t, t.TempDir(), s)).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			e.fill(t, binary, write)
			compareBigquery(t, e.rows(t))
			for _, table := range exampleTables {
				want, _, _ := s.Columns("my-project.tocsin." + table)
				if got := e.columns(t, table); !slices.Equal(got, want) || len(want) == 0 {
					t.Errorf("%s: %v, want %v", table, got, want)
				}
			}
		})
	}
}

// A table without a column gets it when rows have it. The emulator takes the change, with all other columns as they were, and does not do it: rows with the column
// have to wait, so the run is ended.
func TestEmulatorWidens(t *testing.T) {
	binary, e := build(t), onEmulator(t)
	e.fillOne(t, binary, "insert_all", "login_attempts_row", ", users: { count_distinct: username }", "", "name: bigquery", "name: narrow")
	narrow := e.columns(t, "login_attempts_row")
	if slices.ContainsFunc(narrow, func(c string) bool { return strings.HasPrefix(c, "users ") }) || !slices.Contains(narrow, "login_attempts INTEGER") {
		t.Errorf("%v", narrow)
	}
	p := started(t, binary, e.pipeline(t, "insert_all", "login_attempts_row"))
	wide := narrow
	for range 600 {
		if wide = e.columns(t, "login_attempts_row"); len(wide) > len(narrow) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.end(t, syscall.SIGKILL)
	if len(wide) <= len(narrow) || !slices.Equal(wide[:len(narrow)], narrow) || !slices.Contains(wide[len(narrow):], "users INTEGER") {
		t.Errorf("%v, which were %v", wide, narrow)
	}
}

// Every statement of pipelines/article/bigquery is what GoogleSQL takes, and says what the logs say; but the emulator knows no models, so of those only the
// queries that they learn from are run.
func TestEmulatorSQL(t *testing.T) {
	binary, e := build(t), onEmulator(t)
	e.fill(t, binary, "insert_all")
	ran, models := 0, 0
	answers := map[string][]double.Row{}
	for _, file := range []string{"newest", "dashboards", "train", "apply"} {
		for _, s := range statements(t, file) {
			text, ok := s, true
			if strings.Contains(s, "MODEL ") {
				if text, ok = learnt(s); !ok {
					models++
					continue
				}
			}
			ran++
			clocks := []string{"2026-03-02 09:00:00+00", "2026-03-12 00:00:00+00"} // an hour and ten days after the logs
			if strings.HasPrefix(text, "CREATE") {
				clocks = clocks[:1] // the emulator replaces nothing
			}
			for _, now := range clocks {
				rows, err := e.query(strings.ReplaceAll(text, "CURRENT_TIMESTAMP()", "TIMESTAMP '"+now+"'"))
				if err != nil {
					t.Errorf("%s.sql: %v\n%s", file, err, text)
				}
				if k := fmt.Sprint(file, " ", ran); len(rows) > len(answers[k]) {
					answers[k] = rows
				}
			}
		}
	}
	if ran != 14 || models != 4 {
		t.Errorf("%d statements were run, %d have models", ran, models)
	}
	attempts, alerts := map[string]int64{}, 0
	want, _, _, _ := expected(t)
	for _, r := range want {
		if f := strings.Fields(r); f[0] == "suspicious" {
			n, _ := strconv.ParseInt(f[3], 10, 64)
			attempts[f[1]] += n
		} else {
			alerts++
		}
	}
	got := map[string]int64{}
	for _, r := range answers["dashboards 6"] {
		got[r["source_ip"].(string)] = r["attempts"].(int64)
	}
	if !maps.Equal(got, attempts) || len(got) == 0 {
		t.Errorf("attempts by address: %v, want %v", got, attempts)
	}
	if r := answers["dashboards 7"]; len(r) != 1 || r[0]["alerts"] != int64(alerts) {
		t.Errorf("alerts: %v, want %d", r, alerts)
	}
	if r := answers["train 11"]; len(r) != len(attempts) {
		t.Errorf("rows to learn from: %v, want one of each of %v", r, attempts)
	}
}

// statements are those of a file of pipelines/article/bigquery.
func statements(t *testing.T, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile("pipelines/article/bigquery/" + file + ".sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Split(regexp.MustCompile(`--.*`).ReplaceAllString(string(text), ""), ";") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// learnt is the query of a model that is made.
func learnt(statement string) (query string, ok bool) {
	if !strings.HasPrefix(statement, "CREATE OR REPLACE MODEL") {
		return "", false
	}
	_, query, ok = strings.Cut(statement, ") AS\nSELECT")
	return "SELECT" + query, ok
}
