package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/table"
)

// Enrichment in the terms of the reference.

// refEntry is a row of a table: its key, and the columns a and s, which rows get.
type refEntry struct{ key, a, s refCell }

// randomTable draws entries for some of the keys and values that rows have.
func randomTable(r *rand.Rand) (all []refEntry) {
	all = []refEntry{{key: refCell{event.String, "nobody"}}}
	for _, k := range []refCell{{event.String, "a"}, {event.String, "b"}, {event.String, "c"}, {event.String, "1"}, {event.Number, "1"}, {event.Number, "2"}, {event.Number, "0"}} {
		e := refEntry{key: k, a: refCell{event.Number, strconv.Itoa(r.IntN(4))}, s: refCell{event.String, string(rune('a' + r.IntN(3)))}}
		switch r.IntN(5) {
		case 0:
			continue
		case 1:
			e.a = refCell{event.Null, ""}
		case 2:
			e.s = refCell{event.Absent, ""}
		}
		all = append(all, e)
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func (c refCell) json() string {
	if c.kind == event.String {
		return strconv.Quote(c.text)
	}
	return c.text
}

// tableOf makes a table of entries, by way of a file.
func tableOf(t testing.TB, entries []refEntry) *table.Source {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(`{"id":` + e.key.json())
		if e.a.kind == event.Null {
			b.WriteString(`,"x":null`)
		} else if e.a.kind != event.Absent {
			b.WriteString(`,"x":` + e.a.json())
		}
		if e.s.kind != event.Absent {
			b.WriteString(`,"y":` + e.s.json())
		}
		b.WriteString("}\n")
	}
	path := filepath.Join(t.TempDir(), "table.jsonl")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := table.NewSource("table", table.Spec{Path: path, Format: "jsonl", Key: "id", Types: map[string]string{"y": "string", "x": "int"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func compileTable(t testing.TB, x *Operator, o refOp, f *event.Fields) {
	s := tableOf(t, o.table)
	x.Enrich = &Enrich{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: "enrich/1"}, Table: s, On: f.Add(o.key), Whole: f.Add(event.Whole)}
	for _, name := range []string{"x", "y"} {
		x.Enrich.From = append(x.Enrich.From, slices.Index(s.Table().Columns(), name))
	}
}

// finishTables names the columns of enriched rows, which are all there are, once they are known.
func finishTables(spec *Spec) {
	own := []event.Field{spec.Fields.Add("a"), spec.Fields.Add("s")}
	for i := range spec.Operators {
		if e := spec.Operators[i].Enrich; e != nil {
			for f := range event.Field(spec.Fields.Len()) {
				if !slices.Contains(own, f) {
					e.Columns = append(e.Columns, f)
				}
			}
			e.Columns = append(e.Columns, own...)
		}
	}
}

// enrich gives a row the columns a and s of the entry whose key is its cell.
func (n *refNode) enrich(pipeline string, p int64, r refRow) []refRow {
	out := refRow{p: p, ts: r.ts, cells: map[string]refCell{}, id: event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("enrich/1"), r.id[:])}
	for name, c := range r.cells {
		if name != "a" && name != "s" {
			out.cells[name] = c
		}
	}
	for _, e := range n.table {
		if key := canonical(r.cells[n.key]); key != nil && string(canonical(e.key)) == string(key) {
			out.cells["a"], out.cells["s"] = e.a, e.s
		}
	}
	return []refRow{out}
}

// What comes out of an event is the event with the table's columns, late or not; they are the table's also where the event has
// such fields of its own. Behind it they are columns like others.
func TestEnrichedEvents(t *testing.T) {
	spec := func(t testing.TB) *Spec {
		s := runnerSpec(t)
		f := s.Fields
		src := tableOf(t, []refEntry{{refCell{event.String, "k1"}, refCell{event.Number, "7"}, refCell{event.String, "dc"}}, {refCell{event.String, "k2"}, refCell{event.Number, "3"}, refCell{}}})
		whole, tier, zone := f.Add(event.Whole), f.Add("asset.tier"), f.Add("asset.zone")
		k := f.Add("k")
		e := Operator{Name: "known", Inputs: []int{0}, Leaves: true, Fingerprint: "enrich", Names: names(f, []event.Field{whole, tier, zone}),
			Enrich: &Enrich{Ident: operator.Ident{Pipeline: "p", Operator: "known", Form: "enrich/1"}, Table: src, On: k, Whole: whole, Columns: []event.Field{whole, k, f.Add("v"), tier, zone}, From: []int{1, 2}}}
		high := Operator{Name: "high", Inputs: []int{1}, Where: condition(t, "{asset.tier|gte: 5}", f), Leaves: true, Fingerprint: "filter", Names: e.Names,
			Filter: &Filter{Ident: operator.Ident{Pipeline: "p", Operator: "high", Form: "filter/1"}}}
		count := s.Operators[0]
		count.Inputs = []int{1}
		s.Streams, s.Operators = s.Streams[:1], []Operator{e, high, count}
		return s
	}
	described := spec(t)
	l := NewLineage(described)
	if f, got := described.Fields, l.Column(2, described.Fields.Add("asset.tier")); len(got) != 1 || f.Path(got[0].Field) != "k" || described.Operators[0].Kind() != "enrich" {
		t.Errorf("the tier comes from %v", got)
	}
	files := []file{{"a1", []string{`{"t":"2026-01-01T00:00:00Z","k":"k1","v":70}`, `{"t":"2026-01-01T00:01:00Z","k":"k2","asset.zone":"mine","v":49}`,
		` {"t":"2026-01-01T00:00:00Z","k":"k1","asset.tier":1,"asset":{"tier":2,"id":[3]},"v":1} `, `{"t":"2026-01-01T00:01:00Z","k":"k3","asset.tier":9,"\u0061sset":{"zone":"dc"},"v":2}`}}}
	got := undisturbed(t, rand.New(rand.NewPCG(1, 1)), spec(t), files, Options{})
	var rows []string
	for _, id := range got.all {
		rows = append(rows, got.byID[id])
	}
	slices.Sort(rows)
	const late = `{"t":"2026-01-01T00:00:00Z","k":"k1","asset":{"id":[3]},"v":1,"asset.tier":7,"asset.zone":"dc"}`
	for _, want := range []string{
		`{"t":"2026-01-01T00:00:00Z","k":"k1","v":70,"asset.tier":7,"asset.zone":"dc"}`, late,
		`{"t":"2026-01-01T00:01:00Z","k":"k2","v":49,"asset.tier":3}`, `{"t":"2026-01-01T00:01:00Z","k":"k3","asset":{},"v":2}`,
	} {
		for _, op := range []string{"known", "high"} {
			found := slices.ContainsFunc(rows, func(r string) bool { return strings.HasPrefix(r, "row "+op+" ") && strings.HasSuffix(r, " "+want) })
			if found != (op == "known" || strings.Contains(want, `tier":7`)) {
				t.Errorf("%s of %s: %v", want, op, found)
			}
		}
	}
	if !slices.ContainsFunc(rows, func(r string) bool {
		return strings.HasPrefix(r, "late count known ") && strings.HasSuffix(r, " "+late)
	}) {
		t.Errorf("no late row is %s", late)
	}
	if t.Failed() {
		t.Log(strings.Join(rows, "\n"))
	}
}

// A block sees one table, whatever happens to the file meanwhile; the next one sees the new one.
func TestTablesChangeBetweenBlocks(t *testing.T) {
	f := &event.Fields{}
	k, a := f.Add("k"), f.Add("a")
	path := filepath.Join(t.TempDir(), "t.csv")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("id,x\nk,old\n")
	src, err := table.NewSource("t", table.Spec{Path: path, Format: "csv", Key: "id"})
	if err != nil {
		t.Fatal(err)
	}
	op := func(name string) Operator {
		return Operator{Name: name, Inputs: []int{0}, Enrich: &Enrich{Ident: operator.Ident{Operator: name}, Table: src, On: k, Columns: []event.Field{k, a}, From: []int{1}}}
	}
	g := NewGraph(&Spec{Fields: f, Streams: []Stream{{}}, Operators: []Operator{op("one"), op("two")}}, 2)
	g.src[0].add(operator.NegInf)
	g.alone = 0
	b := event.NewBatch(f, []event.Field{k})
	var items []Item
	for i := range 600 {
		b.AppendRow(event.Value{Kind: event.String, Text: []byte("k")})
		items = append(items, Item{Row: Row{TS: int64(i), Batch: b, Row: int32(i)}})
	}
	for _, step := range []struct{ file, want string }{{"", "old"}, {"id,x\nk,new\n", "new"}, {"id,x\nk\n", "new"}, {"x,id\nagain,k\n", "again"}} {
		if step.file != "" {
			write(step.file)
			if err := src.Reload(); (err != nil) != strings.HasSuffix(step.file, "\nk\n") {
				t.Fatal(err)
			}
		}
		if err := g.Block(items); err != nil {
			t.Fatal(err)
		}
		for _, n := range g.ops {
			if len(n.results()) != len(items) {
				t.Fatalf("%d rows", len(n.said))
			}
			for i := range n.results() {
				if v := n.said[i].Batch.Value(a, int(n.said[i].Row)); string(v.Text) != step.want {
					t.Fatalf("%s: row %d says %s, want %s", n.spec.Name, i, v.Text, step.want)
				}
			}
		}
	}
}

// An enrichment from a stream, over pairs of which some are truncated: a row has the version of its time or lacks the columns, and is
// truncated if it was so already.
func TestEnrichedFromStreams(t *testing.T) {
	known, unknown, cut := 0, 0, 0
	for seed := *firstSeed; seed < *firstSeed+uint64(min(*caseCount, 100)); seed++ {
		r := rand.New(rand.NewPCG(seed, 3))
		streams := []refStream{{delay: r.Int64N(9), parts: 1 + r.IntN(2)}, {delay: r.Int64N(4), parts: 1}, {delay: r.Int64N(9), parts: 1}}
		pairs := refOp{name: "pairs", join: true, inputs: []int{0, 1}, key: "k", lower: -4, upper: 4, rowsMax: 1 + r.IntN(2), pairsMax: 1 + r.IntN(2)}
		versions := refOp{name: "versions", join: true, inputs: []int{3, 2}, key: "k", rowsMax: 10_000, pairsMax: 10_000, deleted: r.IntN(2) == 0, ttl: r.Int64N(2) * r.Int64N(40), bare: true}
		versions.pairing, versions.typ = operator.AsOf, operator.LeftOuter
		ops := []refOp{pairs, versions}
		evs := randomEvents(r, streams)
		want := reference(caseName, streams, ops, evs, 20_000)
		spec := compileCase(t, streams, ops)
		for _, how := range []struct{ block, shards int }{{1, 1}, {7, 2}, {4096, 4}} {
			got := runCase(t, spec, streams, evs, how.block, how.shards)
			for i := range want {
				compareCase(t, seed, fmt.Sprintf("blocks of %d, %d shards", how.block, how.shards), i, want[i], got[i])
			}
		}
		for _, x := range want[1] {
			if x.cells["truncated"].kind == event.Bool {
				cut++
			}
			if x.late {
			} else if x.cells["b"].kind == event.Absent {
				unknown++
			} else {
				known++
			}
		}
	}
	if t.Logf("%d known, %d unknown, %d truncated", known, unknown, cut); known == 0 || unknown == 0 || cut == 0 {
		t.Error("the cases do not cover them")
	}
}
