package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// lyingModule is a guest of runtime/wasm/testdata/roles: it fails as {"do": N} says.
func lyingModule(t testing.TB, name string) *wasm.Module {
	t.Helper()
	if _, err := modules(); err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("../wasm/testdata/roles/" + name + ".wasm")
	if err != nil {
		t.Fatal(err)
	}
	m, err := moduleHost.Load(code, wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// weighedSpec has a window of the given kind over the plugin weighted.
func weighedSpec(t testing.TB, w operator.Window, config, having string) *Spec {
	s := runnerSpec(t)
	f := s.Fields
	w.Ident, w.Keys = operator.Ident{Pipeline: "p", Operator: "w", Form: w.Kind.Form()}, []event.Field{f.Add("k")}
	w.Aggregates = []operator.Aggregate{{Name: f.Add("we"), Func: operator.Opaque, Provider: &Aggregator{&Plugin{Ident: operator.Ident{Pipeline: "p", Operator: "w.we"},
		Module: roleModule(t, "weighted"), Config: []byte(config), Fields: []event.Field{f.Add("v")}}}}}
	if having != "" {
		w.Having = condition(t, having, f)
	}
	w.Init(f)
	s.Streams = s.Streams[:1]
	s.Operators = []Operator{{Name: "w", Inputs: []int{0}, Window: &w, Leaves: true, Fingerprint: "w", Names: names(f, w.Columns)}}
	return s
}

// Rows and values that a plugin's aggregate fails on are said, whatever the size of blocks: the row with null, and an error row that shows it;
// only the error row if `having` does not hold without the value.
func TestFailingAggregates(t *testing.T) {
	line := func(sec int, k string, v int) string {
		return fmt.Sprintf(`{"t":"2026-01-01T00:00:%02dZ","k":%q,"v":%d}`, sec, k, v)
	}
	files := []file{{"a1", []string{line(0, "a", 60), line(1, "b", 5), line(2, "a", -1), line(3, "a", 50), line(4, "b", 7), line(40, "c", 3), line(50, "c", 1)}}}
	const null = `row w    1767225619999 0 {"k":"a","window_start":"2026-01-01T00:00:00.000Z","window_end":"2026-01-01T00:00:20.000Z","we":null}`
	const poison = `error w a plugin_failed  1767225602000 0 {"error":"plugin_failed","detail":"test.weighted 1.0.0: trap: unreachable","raw":"{\"t\":\"2026-01-01T00:00:02Z\",\"k\":\"a\",\"v\":-1}"}`
	const own = `error w  plugin_failed  1767225619999 0 {"error":"plugin_failed","detail":"we: test.weighted 1.0.0: trap: unreachable","raw":"{\"k\":\"a\",\"window_start\":\"2026-01-01T00:00:00.000Z\",\"window_end\":\"2026-01-01T00:00:20.000Z\",\"we\":null}"}`
	const good = `row w    1767225619999 0 {"k":"b","window_start":"2026-01-01T00:00:00.000Z","window_end":"2026-01-01T00:00:20.000Z","we":19007}`
	const last = `row w    1767225659999 0 {"k":"c","window_start":"2026-01-01T00:00:40.000Z","window_end":"2026-01-01T00:01:00.000Z","we":5001}`
	for having, want := range map[string][]string{"": {null, poison, own, good, last}, "{we|gte: 10000}": {poison, own, good}, "{k: b}": {poison, good}} {
		slices.Sort(want)
		for _, opt := range []Options{{Shards: 1, BlockRows: 4096}, {Shards: 1, BlockRows: 1}, {Shards: 3, BlockRows: 2}} {
			run := undisturbed(t, rand.New(rand.NewPCG(1, 1)), weighedSpec(t, operator.Window{Size: 20_000}, `{"least":0,"most":100}`, having), files, opt)
			var got []string
			for _, id := range run.all {
				got = append(got, run.byID[id])
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s, %+v: got\n%s\nwant\n%s", having, opt, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}

// What plugins keep of keys survives runs that are cut short anywhere, and keys that do not fit into memory.
func TestRestartsOfAggregates(t *testing.T) {
	for _, w := range []operator.Window{{Size: 20_000}, {Kind: operator.Hopping, Size: 30_000, Slide: 7_000}, {Kind: operator.Session, Gap: 5_000}, {Size: 20_000, Lateness: 30_000}} {
		testRestarts(t, func(t testing.TB) *Spec { return weighedSpec(t, w, "{}", "") }, 1)
	}
}

// pluginSpec is a plugin of each role that fails on every row or state, and what to do about it.
func pluginSpec(t testing.TB, role string, on Failure) *Spec {
	s := runnerSpec(t)
	f := s.Fields
	s.Streams = s.Streams[:1]
	do := map[string]string{"filter": `{"do":9}`, "map": `{"do":24}`, "aggregate": `{"do":6}`, "merge": `{"do":16}`, "finish": `{"do":26}`}[role]
	p := &Plugin{Ident: operator.Ident{Pipeline: "p", Operator: "x", Form: "x/1"}, Config: []byte(do), Fields: []event.Field{f.Add("k")}, OnFailure: on, Whole: f.Add(event.Whole)}
	x := Operator{Name: "x", Inputs: []int{0}, Leaves: true, Fingerprint: "x", Names: []alert.Column{{Field: p.Whole}}, Plugin: p}
	switch role {
	case "filter":
		p.Module = lyingModule(t, "lying_filter")
	case "map":
		p.Module, p.Written = lyingModule(t, "lying_map"), []int{0}
		p.Columns = []event.Field{p.Whole, f.Add("f")}
		x.Names = names(f, p.Columns)
	default:
		p.Module, x.Plugin = lyingModule(t, "lying_aggregate"), nil
		w := &operator.Window{Kind: operator.Hopping, Size: 2_000, Slide: 1_000, Ident: operator.Ident{Pipeline: "p", Operator: "x", Form: "hopping/1"}, Keys: p.Fields,
			Aggregates: []operator.Aggregate{{Name: f.Add("n"), Func: operator.Opaque, Provider: &Aggregator{p}}}}
		w.Init(f)
		x.Window, x.Names = w, names(f, w.Columns)
	}
	s.Operators = []Operator{x}
	return s
}

// A plugin that fails and fails is switched off; then its rows, or those of its window, are error rows, or counted, or the pipeline stops.
func TestSwitchedOff(t *testing.T) {
	for _, role := range []string{"filter", "map", "aggregate", "merge", "finish"} {
		for _, on := range []Failure{FailureAlert, FailureSkip, FailureStop} {
			spec := pluginSpec(t, role, on)
			g := newCaseGraph(spec, []refStream{{parts: 1}}, 1, 0)
			b := event.NewBatch(spec.Fields, spec.Streams[0].Reads)
			items := []Item{{Mark: event.Announce}}
			for i := range 200 {
				b.AppendRow(event.Value{Kind: event.String, Text: fmt.Appendf(nil, "k%d", i/2)}, event.Value{}, event.Value{})
				items = append(items, Item{Row: Row{TS: int64(i % 2 * 1000), Name: operator.Named(event.Hash([]byte{byte(i)})), Batch: b, Row: int32(i)}})
			}
			items = append(items, Item{Mark: event.Finished})
			err := g.Block(items)
			if (err != nil) != (on == FailureStop) || err != nil && !strings.Contains(err.Error(), "failed too often, last with") {
				t.Fatalf("%s, %d: %v", role, on, err)
			}
			if on == FailureStop {
				g.Close()
				continue
			}
			count := map[string]int{}
			for _, r := range g.ops[0].said {
				if r.Kind == operator.Failed {
					count[r.Reason]++
				} else {
					count["row"]++
				}
			}
			c := g.Counts()
			off := count["plugin_off"]
			if len(g.notices) != 1 || !strings.Contains(string(g.notices[0].out.Payload), `"rule":{"id":"tocsin.health/plugin"`) {
				t.Errorf("%s, %d: %d alerts say that it is switched off, want 1", role, on, len(g.notices))
			}
			want := map[string]int{"filter": 0, "map": 0, "aggregate": 300, "merge": 300, "finish": 300}[role] // windows: three a key
			if role == "map" && on == FailureSkip {
				want = int(c.Unjudged)
			}
			if count["row"] != want || count["plugin_failed"] != int(c.Poisoned) || c.Poisoned == 0 || c.Unjudged == 0 || (off > 0) != (on == FailureAlert) || on == FailureAlert && off != int(c.Unjudged) {
				t.Errorf("%s, %d: %v, %+v", role, on, count, c)
			}
			g.Close()
		}
	}
}
