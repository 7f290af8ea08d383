package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lineage is what the test reads of `tocsin graph --format json`.
type lineage struct {
	Operators []struct {
		Name    string
		Output  bool
		Columns []struct {
			Name string
			From []origin
		}
		Rows []origin
	}
}

type origin struct{ Stream, Field string }

// reaches says whether a field of a stream is among origins, by itself or in the whole event.
func reaches(from []origin, stream, field string) bool {
	return slices.Contains(from, origin{stream, field}) || slices.Contains(from, origin{stream, "*"})
}

// spoilt runs a pipeline over logs of which one field has other values, the same for the same ones, and returns the rows of
// each operator.
func spoilt(t *testing.T, binary, stream, field string) map[string][]map[string]json.RawMessage {
	t.Helper()
	dir := t.TempDir()
	var change []string
	for _, name := range []string{"logins", "ids"} {
		path := "pipelines/data/" + name + ".jsonl"
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		after := string(text)
		if name == stream {
			if after = strings.ReplaceAll(after, `"`+field+`":"`, `"`+field+`":"z`); after == string(text) {
				t.Fatalf("%s has no texts %s", name, field)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name+".jsonl"), []byte(after), 0o644); err != nil {
			t.Fatal(err)
		}
		change = append(change, path, filepath.Join(dir, name+".jsonl"))
	}
	pipeline, rows := moved(t, "testdata/everything.yaml", dir, change...)
	if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out := map[string][]map[string]json.RawMessage{}
	said := results(t, rows)
	newest := map[string]int{} // of a row's revisions the last one alone is always the same
	for _, r := range said {
		newest[r.Tocsin.ResultID] = max(newest[r.Tocsin.ResultID], r.Tocsin.Revision)
	}
	for _, r := range said {
		if r.Tocsin.Kind != "row" || r.Tocsin.Revision < newest[r.Tocsin.ResultID] {
			continue
		}
		var row map[string]json.RawMessage
		if err := json.Unmarshal([]byte(r.line), &row); err != nil {
			t.Fatal(err)
		}
		out[r.Tocsin.Operator] = append(out[r.Tocsin.Operator], row)
	}
	return out
}

// only are the rows with some of their columns, sorted.
func only(rows []map[string]json.RawMessage, columns map[string]bool) (list []string) {
	for _, r := range rows {
		var cells []string
		for _, name := range slices.Sorted(maps.Keys(r)) {
			if columns[name] {
				cells = append(cells, name+"="+string(r[name]))
			}
		}
		list = append(list, strings.Join(cells, " "))
	}
	slices.Sort(list)
	return list
}

// What the graph says of columns is true: a field whose values become others changes no column that does not come from it, of operators
// whose rows it does not decide; and it changes those that do.
func TestLineageHolds(t *testing.T) {
	binary := build(t)
	text, err := exec.Command(binary, "graph", "--format", "json", "testdata/everything.yaml").Output()
	if err != nil {
		t.Fatal(err)
	}
	var g lineage
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	before := spoilt(t, binary, "", "")
	same, changed := 0, 0
	for _, f := range []origin{{"logins", "username"}, {"logins", "user_agent"}, {"ids", "signature"}, {"ids", "attack_classification"}} {
		after := spoilt(t, binary, f.Stream, f.Field)
		for _, o := range g.Operators {
			if !o.Output || reaches(o.Rows, f.Stream, f.Field) {
				continue
			}
			untouched, touched := map[string]bool{}, map[string]bool{}
			for _, c := range o.Columns {
				if c.Name == "*" {
					continue // which columns it is, no list says
				}
				untouched[c.Name] = !reaches(c.From, f.Stream, f.Field)
				touched[c.Name] = !untouched[c.Name]
			}
			if !slices.Equal(only(before[o.Name], untouched), only(after[o.Name], untouched)) {
				t.Errorf("%v changes columns of %s that do not come from it", f, o.Name)
			}
			same++
			if slices.Contains(slices.Collect(maps.Values(touched)), true) && !slices.Equal(only(before[o.Name], touched), only(after[o.Name], touched)) {
				changed++
			}
		}
	}
	if same < 40 || changed < 8 {
		t.Errorf("%s", fmt.Sprint(same, " operators were compared, and of ", changed, " columns changed: that proves little"))
	}
}
