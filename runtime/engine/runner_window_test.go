package engine

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// windowsSpec is runnerSpec's stream with a window of each kind, and one over the rows of another.
func windowsSpec(t testing.TB) *Spec {
	s := runnerSpec(t)
	f := s.Fields
	k, v, n := f.Add("k"), f.Add("v"), f.Add("n")
	s.Operators = nil
	add := func(name string, inputs []int, w operator.Window) {
		w.Ident = operator.Ident{Pipeline: "p", Operator: name, Form: w.Kind.Form()}
		w.Keys = []event.Field{k}
		w.Aggregates = []operator.Aggregate{{Name: n, Func: operator.Count, All: true}, {Name: f.Add("s"), Func: operator.Sum, Field: v}, {Name: f.Add("d"), Func: operator.Distinct, Field: v},
			{Name: f.Add("fi"), Func: operator.First, Field: v}, {Name: f.Add("la"), Func: operator.Last, Field: v}, {Name: f.Add("co"), Func: operator.Collect, Field: v, Max: 3}}
		w.Init(f)
		s.Operators = append(s.Operators, Operator{Name: name, Inputs: inputs, Window: &w, Leaves: true, Fingerprint: name, Names: names(f, w.Columns)})
	}
	add("hopping", []int{0, 1}, operator.Window{Kind: operator.Hopping, Size: 25_000, Slide: 10_000})
	add("cumulate", []int{0}, operator.Window{Kind: operator.Cumulate, Size: 30_000, Slide: 10_000})
	add("session", []int{0, 1}, operator.Window{Kind: operator.Session, Gap: 4_000})
	add("bounded", []int{0, 1}, operator.Window{Kind: operator.Session, Gap: 9_000, MaxDuration: 30_000})
	add("early", []int{0, 1}, operator.Window{Kind: operator.Hopping, Size: 30_000, Slide: 10_000, First: true, Having: condition(t, "{n|gte: 4}", f)})
	add("count", []int{0, 1}, operator.Window{Kind: operator.Counting, Size: 7, Slide: 3})
	add("partial", []int{0, 1}, operator.Window{Kind: operator.Counting, Size: 5, Slide: 5, Partial: true})
	add("of_hopping", []int{2}, operator.Window{Kind: operator.Counting, Size: 4, Slide: 2, Partial: true})
	return s
}

// Runs with windows of every kind may be cut short anywhere.
func TestRestartsOfWindows(t *testing.T) { testRestarts(t, windowsSpec, 2) }

// A file that grew after its end: count windows go on where they were, and their ordinals too; nothing is said twice; of
// windows of time only what had ended is late.
func TestFilesThatGrow(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	files := randomFiles(r)
	short := slices.Clone(files)
	for i := range short {
		short[i].lines = short[i].lines[:len(short[i].lines)/2]
	}
	dir := filepath.Join(t.TempDir(), "s")
	out, said := &sink{}, []map[string]int{}
	for _, input := range [][]file{short, files} {
		run, store := startRunner(t, windowsSpec(t), dir, Options{Shards: 2, BlockRows: 50})
		feed(r, run, input)
		count := map[string]int{}
		drain(t, run, func(t *testing.T, o *Out) {
			out.take(t, o)
			count[o.Kind+" "+o.Operator]++
		})
		if err := run.Close(); err != nil {
			t.Fatal(err)
		}
		store.Close()
		said = append(said, count)
	}
	if len(out.all) != len(out.byID) {
		t.Errorf("%d rows with %d ids", len(out.all), len(out.byID))
	}
	whole := undisturbed(t, r, windowsSpec(t), files, Options{})
	of := func(s *sink, name string) (n int) {
		for _, text := range s.byID {
			if strings.HasPrefix(text, "row "+name+" ") {
				n++
			}
		}
		return n
	}
	if a, b := of(out, "count"), of(whole, "count"); a != b || a == 0 {
		t.Errorf("%d count windows in two runs, %d in one", a, b)
	}
	for _, name := range []string{"hopping", "cumulate", "session", "bounded", "early", "partial", "of_hopping"} {
		if said[1]["row "+name] == 0 {
			t.Errorf("nothing of %s in the second run", name)
		}
		if late := said[1]["late "+name]; late > 400 || strings.HasPrefix(name, "partial") && late > 0 {
			t.Errorf("%d late rows of %s", late, name)
		}
	}
	t.Log(fmt.Sprint(said))
}

// Rows that come although their input had ended: too late for windows that the end has said, and counted by those that it
// does not concern.
func TestRowsAfterTheEnd(t *testing.T) {
	streams := []refStream{{parts: 1}}
	ops := []refOp{{name: "partial", inputs: []int{0}, key: "k", size: 3, refWindow: refWindow{kind: operator.Counting, slide: 3, partial: true}},
		{name: "count", inputs: []int{0}, key: "k", size: 3, refWindow: refWindow{kind: operator.Counting, slide: 3}},
		{name: "session", inputs: []int{0}, key: "k", refWindow: refWindow{kind: operator.Session, gap: 5}}}
	row := func(i int) refEvent {
		cells := map[string]refCell{"k": {event.String, "a"}, "v": {event.Number, "1"}}
		return refEvent{row: refRow{ts: int64(i), id: event.EventID([8]byte{}, int64(i)), cells: cells}}
	}
	evs := []refEvent{{mark: event.Announce}, row(1), row(2), {mark: event.Finished}, {mark: event.Announce}, row(3), row(4), {mark: event.Finished}, row(5), row(6)}
	want := [][]string{{"row", "late", "late", "late", "late"}, {"row", "row"}, {"row", "late", "late", "late", "late"}}
	for _, block := range []int{1, 3, 10} {
		spec := compileCase(t, streams, ops)
		g := newCaseGraph(spec, streams, 2, 0)
		got := make([][]string, len(ops))
		for items := itemsOf(spec, evs); len(items) > 0; items = items[min(block, len(items)):] {
			if err := g.Block(items[:min(block, len(items))]); err != nil {
				t.Fatal(err)
			}
			for i, n := range g.ops {
				for _, r := range n.results() {
					got[i] = append(got[i], [...]string{"row", "late"}[r.Kind])
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("blocks of %d: %v, want %v", block, got, want)
		}
	}
}
