package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/table"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// lookups runs rows of (do, key, number) through the guest of the look-ups, over two shards, and returns what it said of a block: each
// line once, sorted.
func lookups(t *testing.T, remembers bool, tables ...*table.Source) func(rows ...[3]string) []string {
	t.Helper()
	code, err := os.ReadFile("../wasm/testdata/lookup.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return lookupsOf(t, code, remembers, tables...)
}

func lookupsOf(t *testing.T, code []byte, remembers bool, tables ...*table.Source) func(rows ...[3]string) []string {
	t.Helper()
	if at := bytes.Index(code, []byte(`"x-room"`)); remembers {
		end := at + bytes.IndexByte(code[at:], '\n') // the section keeps its length
		copy(code[at:], fmt.Sprintf(`%-*s`, end-at, `"key_by":["key"],"state":{"version":1,"slots":[{"id":0,"kind":"value","max":8}]},`))
	}
	host, err := wasm.NewHost("")
	if err != nil {
		t.Fatal(err)
	}
	m, err := host.Load(code, wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Manifest.Keyed != remembers {
		t.Fatal("the manifest has no room for what is written there")
	}
	var mu sync.Mutex
	var said []string
	f := &event.Fields{}
	p := &Plugin{Ident: operator.Ident{Pipeline: "p", Operator: "o", Form: "detect/1"}, Module: m, Config: []byte("{}"), Fields: []event.Field{f.Add("do"), f.Add("key"), f.Add("number")}, Tables: tables,
		Rules: map[uint32]*Rule{1: {Alert: &alert.Template{}}}, Whole: f.Add(event.Whole), RuleID: f.Add("rule_id"), Severity: f.Add("severity"), Note: f.Add("note"), Fresh: true,
		Log: func(_ int, text string) {
			mu.Lock()
			defer mu.Unlock()
			if text[0] != '(' { // a line too many
				said = append(said, text)
			}
		}}
	g := NewGraph(&Spec{Fields: f, Streams: []Stream{{}}, Operators: []Operator{{Name: "o", Inputs: []int{0}, Plugin: p}}}, 2)
	g.src[0].add(operator.NegInf)
	g.alone = 0
	t.Cleanup(func() {
		g.Close()
		m.Close()
		host.Close()
	})
	return func(rows ...[3]string) []string {
		t.Helper()
		said = nil
		b := event.NewBatch(f, p.Fields)
		var items []Item
		for i, r := range rows {
			b.AppendRow(event.Value{Kind: event.Number, Text: []byte(r[0])}, event.Value{Kind: event.String, Text: []byte(r[1])}, event.Value{Kind: event.Number, Text: []byte(r[2])})
			items = append(items, Item{Row: Row{TS: int64(i), Batch: b, Row: int32(i)}})
		}
		if err := g.Block(items); err != nil {
			t.Fatal(err)
		}
		if n := len(g.ops[0].said); n != len(rows) {
			t.Fatalf("%d results of %d rows", n, len(rows))
		}
		slices.Sort(said)
		return slices.Compact(said)
	}
}

// answer is what the guest says of a row that it found, or of none.
func answer(row string) string {
	if row == "" {
		return "-1 "
	}
	return fmt.Sprintf("%d %s", len(row), row)
}

func sourceOf(t *testing.T, name, text string, spec table.Spec) (*table.Source, string) {
	t.Helper()
	spec.Path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(spec.Path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := table.NewSource(name, spec)
	if err != nil {
		t.Fatal(err)
	}
	return s, spec.Path
}

// What a plugin is told of a key, by the kind of its table.
func TestPluginsLookUp(t *testing.T) {
	exact, _ := sourceOf(t, "a.jsonl", `{"id":"ann","tier":3,"x":{"y":1}}`+"\n"+`{"id":443,"tier":null}`+"\n"+`{"id":true}`+"\n"+`{"id":"7","tier":"text"}`+"\n"+`{"id":7}`+"\n", table.Spec{Format: "jsonl", Key: "id"})
	nets, _ := sourceOf(t, "n.csv", "cidr,list\n10.0.0.0/8,ten\n10.1.0.0/16,one\n", table.Spec{Format: "csv", Key: "cidr", Match: table.MatchNetworks})
	ask := lookups(t, false, exact, nets)
	for _, c := range []struct{ table, key, want string }{
		{"0", "ann", `{"id":"ann","tier":3,"x":{"y":1}}`}, {"0", "Ann", ""}, {"0", "", ""}, {"0", "443", `{"id":443,"tier":null}`},
		{"0", "443.0", `{"id":443,"tier":null}`}, {"0", "true", `{"id":true}`}, {"0", "7", `{"id":"7","tier":"text"}`}, {"0", "7e0", `{"id":7}`}, {"0", "7 ", ""}, {"0", "07", ""},
		{"1", "10.2.3.4", `{"cidr":"10.0.0.0/8","list":"ten"}`}, {"1", "::ffff:10.1.0.1", `{"cidr":"10.1.0.0/16","list":"one"}`}, {"1", "11.0.0.0", ""}, {"1", "ann", ""},
	} {
		if got := ask([3]string{"0", c.key, c.table}); !slices.Equal(got, []string{answer(c.want)}) {
			t.Errorf("%s, %q: %q, want %s", c.table, c.key, got, c.want)
		}
	}
	if got := lookups(t, false, nil, nets)([3]string{"0", "ann", "0"}, [3]string{"0", "10.0.0.1", "1"}, [3]string{"0", "x", "2"}); !slices.Equal(got, []string{"-2 ", "-4 ", answer(`{"cidr":"10.0.0.0/8","list":"ten"}`)}) {
		t.Errorf("%q", got)
	}
}

// A filter is told as well. The guest's answer is no filter's, so that each row is one that it failed on, but it has asked.
func TestFiltersLookUp(t *testing.T) {
	src, _ := sourceOf(t, "a.csv", "id,x\nk,old\n", table.Spec{Format: "csv", Key: "id"})
	code, err := os.ReadFile("../wasm/testdata/lookup.wasm")
	if err != nil {
		t.Fatal(err)
	}
	code = bytes.Replace(bytes.Replace(code, []byte(`["detect"]`), []byte(`["filter"]`), 1), []byte(`"rules"`), []byte(`"x-rls"`), 1)
	for _, remembers := range []bool{false, true} {
		if got := lookupsOf(t, bytes.Clone(code), remembers, src, nil)([3]string{"0", "k", "0"}); !slices.Equal(got, []string{answer(`{"id":"k","x":"old"}`)}) {
			t.Errorf("remembers %v: %q", remembers, got)
		}
	}
}

// All rows of a block see one version of a table, on every shard; the next block the newest that could be read.
func TestPluginsSeeOneVersion(t *testing.T) {
	for _, remembers := range []bool{false, true} {
		t.Run(fmt.Sprint("remembers ", remembers), func(t *testing.T) { seesOneVersion(t, remembers) })
	}
}

func seesOneVersion(t *testing.T, remembers bool) {
	src, path := sourceOf(t, "a.csv", "id,x\nk,old\n", table.Spec{Format: "csv", Key: "id"})
	ask := lookups(t, remembers, src, nil)
	var rows [][3]string
	for range 3 * stretch {
		rows = append(rows, [3]string{"0", "k", "0"})
	}
	for _, step := range []struct{ file, want string }{{"", "old"}, {"id,x\nk,new\n", "new"}, {"id,x\nk\n", "new"}, {"x,id\nlast,k\n", "last"}} {
		if step.file != "" {
			if err := os.WriteFile(path, []byte(step.file), 0o644); err != nil {
				t.Fatal(err)
			}
			_ = src.Reload()
		}
		if got := ask(rows...); !slices.Equal(got, []string{answer(`{"id":"k","x":"` + step.want + `"}`)}) {
			t.Errorf("%q, want %s", got, step.want)
		}
	}
}
