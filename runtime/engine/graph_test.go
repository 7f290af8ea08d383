package engine

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

var (
	firstSeed = flag.Uint64("first", 1, "first seed of the random cases")
	caseCount = flag.Int("cases", 2000, "random cases")
)

const caseName = "case"

// randomOps draws 1 to 5 operators over streams and one another.
func randomOps(r *rand.Rand, streams int) (ops []refOp) {
	for i := range 1 + r.IntN(5) {
		pick := func() int {
			if i > 0 && r.IntN(2) == 0 {
				return streams + r.IntN(i)
			}
			return r.IntN(streams)
		}
		o := refOp{name: fmt.Sprint("op", i), join: r.IntN(2) == 0, inputs: []int{pick()}, key: []string{"k", "k", "k", "v", ""}[r.IntN(5)],
			size: 1 + r.Int64N(20), offset: r.Int64N(9) - 4, having: r.Int64N(4), first: r.IntN(3) == 0,
			nullSafe: r.IntN(4) == 0, rowsMax: 10_000, pairsMax: 10_000}
		o.lower = r.Int64N(12) - 8
		o.upper = o.lower + r.Int64N(8)
		if r.IntN(3) == 0 {
			o.rowsMax, o.policy = 1+r.IntN(4), operator.Policy(r.IntN(2))
		}
		if r.IntN(3) == 0 {
			o.pairsMax = 1 + r.IntN(3)
		}
		randomWindow(r, &o)
		randomJoin(r, &o)
		if o.first {
			o.having = max(o.having, 1)
		}
		if r.IntN(4) == 0 {
			o.join, o.judge, o.having = false, true, max(o.having, 1)
			o.key = []string{"v", "n", "k", "a", "s"}[r.IntN(5)]
			if r.IntN(3) == 0 {
				o.inputs = append(o.inputs, pick())
			}
		} else if o.join {
			other := pick()
			if other == o.inputs[0] {
				other = (other + 1) % (streams + i)
			}
			if other == o.inputs[0] {
				o.join = false // one node is no pair
			} else if o.inputs = append(o.inputs, other); o.key == "" {
				o.key = "k"
			}
		} else if r.IntN(3) == 0 {
			o.inputs = append(o.inputs, pick())
		}
		if r.IntN(3) == 0 && !o.judge {
			o.inputs = o.inputs[:1]
			randomSeq(r, &o, pick)
		} else {
			o = randomPassing(r, o)
			randomRole(r, &o)
		}
		if r.IntN(2) == 0 {
			o.only = randomWhere(r)
		}
		o = randomRecall(r, o)
		o = randomAlerts(r, o, ops, streams)
		ops = append(ops, o)
	}
	return ops
}

// randomWhere draws a condition that a good part of the rows meets, as keys and values are few.
func randomWhere(r *rand.Rand) *refWhere {
	w := &refWhere{field: []string{"k", "k", "v", "n"}[r.IntN(4)], inside: r.IntN(2) == 0}
	for range 1 + r.IntN(4) {
		w.texts = append(w.texts, []string{"a", "B", "c", "D", "1"}[r.IntN(5)])
	}
	for range r.IntN(3) {
		w.numbers = append(w.numbers, r.IntN(4))
	}
	return w
}

// randomEvents draws a recorded order: partitions with disorder, late rows, ties, null and odd keys; announced late,
// silent, idle, finished.
func randomEvents(r *rand.Rand, streams []refStream) (evs []refEvent) {
	type part struct{ stream, part int }
	var parts []part
	for i, s := range streams {
		for p := range s.parts {
			parts = append(parts, part{i, p})
		}
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	say := func(p part, m event.Mark) { evs = append(evs, refEvent{stream: p.stream, part: p.part, mark: m}) }
	up, early := 0, r.IntN(3) > 0
	silent := r.IntN(4) == 0
	low := 0
	tardy := 25 // one of so many rows is late
	if r.IntN(4) == 0 {
		tardy = 3
	}
	now, spread, keys := r.Int64N(60)-30, 1+r.Int64N(12), 1+r.IntN(6)
	now += []int64{0, 0, 1_772_438_400_000, -62_167_219_200_000, 253_402_300_799_999}[r.IntN(5)] // about the first and last of all times, too
	for range 10 + r.IntN(150) {
		for up < len(parts) && (up == 0 || early || r.IntN(20) == 0) {
			say(parts[up], event.Announce)
			up++
		}
		n := up
		if silent && n > 1 {
			n-- // the last one announced never speaks
		}
		p := parts[r.IntN(n)]
		if r.IntN(3) > 0 {
			now += r.Int64N(3)
		}
		if r.IntN(60) == 0 {
			now += 30
		}
		row := refRow{ts: now - r.Int64N(spread), cells: map[string]refCell{"k": randomKey(r, keys), "v": {event.Number, strconv.Itoa(r.IntN(5) - 1)}}}
		if r.IntN(tardy) == 0 {
			row.ts -= r.Int64N(40)
		}
		if r.IntN(15) == 0 {
			delete(row.cells, "v")
		}
		if low < 3 && r.IntN(40) == 0 { // few: a plugin that fails too often is switched off
			low++
			row.cells["v"] = refCell{event.Number, "-9"}
		}
		row.id = event.EventID([8]byte{byte(p.stream), byte(p.part)}, int64(len(evs)))
		evs = append(evs, refEvent{stream: p.stream, part: p.part, row: row})
		if r.IntN(25) == 0 {
			say(parts[r.IntN(up)], event.Idle)
		}
	}
	if r.IntN(5) > 0 {
		for _, p := range parts[:up] {
			say(p, event.Finished)
		}
	}
	return evs
}

func randomKey(r *rand.Rand, keys int) refCell {
	switch r.IntN(14) {
	case 0:
		return refCell{event.Null, ""}
	case 1:
		return refCell{event.Absent, ""}
	case 2:
		return refCell{event.String, "1"}
	case 3:
		return refCell{event.Number, []string{"1", "1.0", "10e-1"}[r.IntN(3)]}
	}
	return refCell{event.String, string(rune('a' + r.IntN(keys)))}
}

// compileCase makes the engine's Spec of a case.
func compileCase(t testing.TB, streams []refStream, ops []refOp) *Spec {
	f := &event.Fields{}
	spec := &Spec{Name: caseName, Fields: f}
	for _, name := range []string{"k", "v", "n", "s", "d", "lo", "hi", "fi", "la", "co", "a", "b", "lv", "rv", "matches", "said", "we", "window_start", "window_end", "truncated", "approximate", "merged_into"} {
		f.Add(name)
	}
	for i, s := range streams {
		spec.Streams = append(spec.Streams, Stream{Name: fmt.Sprint("s", i), Delay: s.delay, Strict: s.strict, Reads: []event.Field{f.Add("k"), f.Add("v")}})
	}
	for _, o := range ops {
		x := Operator{Name: o.name, Inputs: o.inputs, Leaves: true, Fingerprint: fmt.Sprint(o)}
		var keys []event.Field
		if o.key != "" {
			keys = []event.Field{f.Add(o.key)}
		}
		if o.judge && o.recall != nil {
			x.Plugin = compileRecall(t, spec, o)
		} else if o.judge {
			x.Plugin = judge(t, spec, o)
		} else if o.seq != nil {
			x.Sequence = compileSequence(t, f, o)
		} else if o.passes() {
			compilePassing(t, &x, o, f)
		} else if o.table != nil {
			compileTable(t, &x, o, f)
		} else if o.damp != nil || o.risk != nil {
			compileAlerts(&x, o, f)
		} else if o.join {
			x.Join = compileJoin(t, o, f, keys)
		} else {
			v := f.Add("v")
			x.Window = &operator.Window{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: "tumbling/1"}, Size: o.size, Offset: o.offset, Keys: keys, First: o.first,
				Aggregates: []operator.Aggregate{{Name: f.Add("n"), Func: operator.Count, All: true}, {Name: f.Add("s"), Func: operator.Sum, Field: v},
					{Name: f.Add("d"), Func: operator.Distinct, Field: v}, {Name: f.Add("lo"), Func: operator.Min, Field: v}, {Name: f.Add("hi"), Func: operator.Max, Field: v},
					{Name: f.Add("fi"), Func: operator.First, Field: v}, {Name: f.Add("la"), Func: operator.Last, Field: v}, {Name: f.Add("co"), Func: operator.Collect, Field: v, Max: 3},
					{Name: f.Add("to"), Func: operator.TopK, Field: v, Max: 2}, {Name: f.Add("pc"), Func: operator.Percentile, Field: v, P: refPart}}}
			o.weighs(t, x.Window, f)
			o.fill(x.Window)
			if o.having > 0 {
				x.Window.Having = condition(t, fmt.Sprintf("{n|gte: %d}", o.having), f)
			}
			x.Window.Init(f)
		}
		if o.only != nil {
			c := condition(t, o.only.text(), f)
			if x.Plugin != nil && o.only.inside {
				x.Plugin.When = c
			} else {
				x.Where = match.All(x.Where, c)
			}
		}
		if x.Alert = caseAlert(t, o, f); x.Plugin != nil && !o.sifts && !o.maps {
			for _, rule := range x.Plugin.Rules {
				rule.Alert = x.Alert
			}
			x.Alert = nil
		}
		spec.Operators = append(spec.Operators, x)
	}
	finishTables(spec)
	finishMaps(spec)
	return spec
}

var modules = sync.OnceValues(func() (*wasm.Module, error) {
	code, err := os.ReadFile("../../plugins/brute_force/brute_force.wasm")
	if err != nil {
		return nil, err
	}
	if moduleHost, err = wasm.NewHost(""); err != nil {
		return nil, err
	}
	return moduleHost.Load(code, wasm.Options{})
})

// moduleHost is the host of all modules of the tests: a process has one.
var moduleHost *wasm.Host

// judge is the rule brute_force on a field of the case.
func judge(t testing.TB, spec *Spec, o refOp) *Plugin {
	m, err := modules()
	if err != nil {
		t.Fatal(err)
	}
	f := spec.Fields
	p := &Plugin{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: "detect/1"}, Module: m, Config: fmt.Appendf(nil, `{"threshold":%d}`, o.having),
		Fields: []event.Field{f.Add(o.key), f.Add("k")}, Rules: map[uint32]*Rule{1: {Alert: &alert.Template{Severity: "medium"}}},
		Whole: f.Add(event.Whole), RuleID: f.Add("rule_id"), Severity: f.Add("severity"), Note: f.Add("note")}
	p.Columns = []event.Field{f.Add("k"), f.Add("v"), f.Add("n"), f.Add("a"), p.RuleID, p.Severity, p.Note}
	return p
}

func condition(t testing.TB, text string, f *event.Fields) *match.Condition {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	c, problems := match.Compile(n.Content[0], func(path string) (event.Field, error) { return f.Add(path), nil })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

// itemsOf makes the engine's items of a recorded order.
func itemsOf(spec *Spec, evs []refEvent) []Item {
	cols := []event.Field{spec.Fields.Add("k"), spec.Fields.Add("v")}
	b := event.NewBatch(spec.Fields, cols)
	var items []Item
	for _, e := range evs {
		x := Item{Stream: int32(e.stream), Part: int32(e.part), Mark: e.mark}
		if e.mark == event.NoMark {
			k, v := e.row.cells["k"], e.row.cells["v"]
			b.AppendRow(event.Value{Kind: k.kind, Text: []byte(k.text)}, event.Value{Kind: v.kind, Text: []byte(v.text)})
			x.Row = Row{TS: e.row.ts, Name: operator.Named(e.row.id), Batch: b, Row: int32(b.Rows - 1)}
		}
		items = append(items, x)
	}
	return items
}

func newCaseGraph(spec *Spec, streams []refStream, shards int, alone int) *Graph {
	g := NewGraph(spec, shards)
	g.alone = alone
	for i, s := range streams {
		for range s.parts {
			g.src[i].add(operator.NegInf)
		}
	}
	return g
}

// indexed is how many inputs of the operator an index looks through.
func (n *node) indexed() (inputs int) {
	for _, p := range n.picked {
		if p {
			inputs++
		}
	}
	return inputs
}

// shown is a result as the reference writes it.
func shown(spec *Spec, op int, r *operator.Result) refRow {
	out := refRow{p: r.P, ts: r.TS, id: r.Name.ID(), late: r.Kind == operator.Late || r.Kind == operator.Failed, cells: map[string]refCell{}}
	cols := columnsShown(spec, op)
	if out.late {
		return out
	}
	switch r.Kind {
	case operator.Revised:
		out.only, out.rev = "outputs", r.Revision
	case operator.Final:
		out.only = "readers"
	}
	for _, f := range cols {
		name := spec.Fields.Path(f)
		if name == "window_start" || name == "window_end" || name == "first_time" || name == "last_time" {
			continue // checked through the id and the time
		}
		if v := r.Batch.Value(f, int(r.Row)); v.Kind != event.Absent {
			out.cells[name] = refCell{v.Kind, string(v.Text)}
		}
	}
	if g := r.Gathered; g != nil {
		out.cells["(gathered)"] = refCell{event.String, fmt.Sprint(g.Count, " ", g.Suppressed, " ", g.Level)}
	}
	return out
}

func compareCase(t *testing.T, seed uint64, how string, op int, want []refRow, got []refRow) {
	for i := range max(len(want), len(got)) {
		var a, b string
		if i < len(want) {
			w := want[i]
			if w.late {
				w.cells = nil
			}
			for name, c := range w.cells {
				if c.kind == event.Absent {
					delete(w.cells, name)
				}
			}
			a = w.String()
		}
		if i < len(got) {
			if i < len(want) {
				near(want[i], got[i])
				nearScore(want[i], got[i])
			}
			b = got[i].String()
		}
		if a != b {
			t.Fatalf("seed %d, %s, operator %d, result %d:\nwant %s\n got %s", seed, how, op, i, a, b)
		}
	}
}

// A block is indistinguishable from one row at a time, whatever its size and however many shards there are.
func TestBlocksAreInvisible(t *testing.T) {
	var sifted, mapped, weighed, poison, keptSifted, keptMapped int
	var held, grouped, risks, recalled, fired, rows, lates, pairs, hits, seqs, passed, known, cut, indexed, revised, settled, refused int
	kinds, joins := map[operator.WindowKind]int{}, map[refJoin]int{}
	seed := *firstSeed
	t.Logf("first seed %d", seed)
	for done := 0; done < *caseCount; seed++ {
		r := rand.New(rand.NewPCG(seed, 1))
		var streams []refStream
		for range 1 + r.IntN(2) {
			streams = append(streams, refStream{r.Int64N(9), r.IntN(4) == 0, 1 + r.IntN(3)})
		}
		ops := randomOps(r, len(streams))
		evs := randomEvents(r, streams)
		want := reference(caseName, streams, ops, evs, 2000)
		if want == nil {
			continue
		}
		done++
		for i := range want {
			for _, x := range want[i] {
				switch {
				case x.late:
					lates++
				case ops[i].recall != nil && ops[i].sifts:
					keptSifted++
				case ops[i].recall != nil && ops[i].maps:
					keptMapped++
				case ops[i].recall != nil:
					recalled++
					if x.cells["rule_id"].text == "2" {
						fired++
					}
				case ops[i].judge:
					hits++
				case ops[i].damp != nil && ops[i].damp.forMS > 0:
					held += int(min(x.rev, 1))
				case ops[i].damp != nil:
					grouped += int(min(x.rev, 1))
				case ops[i].risk != nil:
					risks++
				case ops[i].seq != nil:
					seqs++
				case ops[i].passes():
					passed++
				case ops[i].table != nil:
					if x.cells["a"].kind != event.Absent {
						known++
					}
				case ops[i].join:
					pairs++
					joins[ops[i].refJoin]++
				default:
					rows++
					kinds[ops[i].kind]++
				}
				switch o := &ops[i]; {
				case x.late && o.weigh == weighPoison && o.fails(x):
					poison++
				case x.late:
				case o.sifts:
					sifted++
				case o.maps:
					mapped++
				case o.weigh > 0 && x.cells["we"].kind == event.Number:
					weighed++
				}
				if x.cells["truncated"].kind == event.Bool {
					cut++
				}
				if x.rev > 0 {
					revised++
				}
				if x.only == "readers" {
					settled++
				}
			}
		}
		for i := range ops {
			if o := &ops[i]; o.maxKeys > 0 && o.windows() {
				refused++
			}
		}
		indexed += blocksAgree(t, r, seed, streams, ops, evs, want)
	}
	t.Logf("%d rows of plugins that remember, %d of timers, %d of filters, %d of maps", recalled, fired, keptSifted, keptMapped)
	t.Logf("%d revisions, %d rows for readers in the end; %d windows with max_keys", revised, settled, refused)
	t.Logf("plugins: %d rows passed a filter, %d got columns, %d rows of windows with an aggregate, %d poison rows", sifted, mapped, weighed, poison)
	t.Logf("seeds to %d: %d windows, %d pairs of %d joins (%d marked truncated), %d hits of plugins, %d sequences, %d rows passed on, %d that a table knew, %d late rows; %d inputs behind an index; windows by kind: %v, rows of joins by type, matches, where: %v",
		seed-1, rows, pairs, len(joins), cut, hits, seqs, passed, known, lates, indexed, kinds, joins)
	if *caseCount >= 1000 && (sifted == 0 || mapped == 0 || weighed == 0 || poison == 0 || keptSifted == 0 || keptMapped == 0) {
		t.Error("the cases do not cover plugins of every role, and rows that they fail on")
	}
	t.Logf("%d revisions of suppressed alerts, %d of grouped ones, %d rows of risks", held, grouped, risks)
	if held == 0 || grouped == 0 || risks == 0 || len(kinds) < 5 || *caseCount >= 2000 && len(joins) < 50 || passed == 0 || known == 0 || hits == 0 || indexed == 0 || seqs == 0 || pairs == 0 || lates == 0 || cut == 0 || revised == 0 || settled == 0 || refused == 0 || recalled == 0 || fired == 0 {
		t.Error("the cases do not cover windows of every kind, joins of every type, pairs, hits, sequences, rows passed on, tables, late rows, caps, revisions and indices")
	}
}

// blocksAgree runs a case in blocks of several sizes over several shards and compares with what the reference says.
func blocksAgree(t *testing.T, r *rand.Rand, seed uint64, streams []refStream, ops []refOp, evs []refEvent, want [][]refRow) (indexed int) {
	spec := compileCase(t, streams, ops)
	for _, block := range []int{1, 7, 4096} {
		for _, shards := range []int{1, 2, 4} {
			freshRoles(r, spec)
			g := newCaseGraph(spec, streams, shards, 256*r.IntN(2))
			g.index([]int{1, 2, 1000}[r.IntN(3)], shards)
			for _, n := range g.ops {
				indexed += n.indexed()
			}
			items := itemsOf(spec, evs)
			got := make([][]refRow, len(ops))
			for len(items) > 0 {
				n := min(block, len(items))
				if err := g.Block(items[:n]); err != nil {
					t.Fatal(err)
				}
				items = items[n:]
				for i, node := range g.ops {
					for j := range node.results() {
						got[i] = append(got[i], shown(spec, i, &node.said[j]))
					}
				}
			}
			g.Close()
			for i := range want {
				compareCase(t, seed, fmt.Sprintf("blocks of %d, %d shards", block, shards), i, want[i], got[i])
			}
		}
	}
	return indexed
}
