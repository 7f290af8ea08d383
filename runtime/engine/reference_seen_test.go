package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// Operators whose rows are those of their sources, in the terms of the reference.

func (o *refOp) passes() bool { return o.filter || o.value != "" || o.maps }

// randomPassing makes one operator in three one that passes rows on.
func randomPassing(r *rand.Rand, o refOp) refOp {
	if r.IntN(3) > 0 {
		return o
	}
	p := refOp{name: o.name, filter: true, inputs: o.inputs, key: []string{"v", "v", "n", "a", "s", "k"}[r.IntN(6)], having: r.Int64N(3)}
	if r.IntN(3) == 0 {
		p.filter, p.table = false, randomTable(r)
	} else if r.IntN(2) == 0 {
		p.filter, p.key, p.value = false, []string{"", "k", "k", "v", "n"}[r.IntN(5)], []string{"k", "v", "v", "n", "a"}[r.IntN(5)]
		p.history, p.warmUp = max(0, r.Int64N(30)-5), max(0, r.Int64N(30)-15)
	}
	return p
}

// compilePassing makes the engine's operator of it.
func compilePassing(t testing.TB, x *Operator, o refOp, f *event.Fields) {
	if o.value != "" {
		x.FirstSeen = &operator.FirstSeen{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: "first_seen/1"},
			Values: []event.Field{f.Add(o.value)}, History: o.history, WarmUp: o.warmUp}
		if o.key != "" {
			x.FirstSeen.Keys = []event.Field{f.Add(o.key)}
		}
		x.FirstSeen.Init()
		return
	}
	if o.sifts || o.maps {
		compileRole(t, x, o, f)
		return
	}
	x.Filter = &Filter{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: "filter/1"}}
	x.Where = condition(t, fmt.Sprintf("{%s|gte: %d}", o.key, o.having), f)
}

// columnsShown are the columns of a result: of a row that was passed on any.
func columnsShown(spec *Spec, op int) (cols []event.Field) {
	if o := &spec.Operators[op]; !o.passes() {
		return o.columns()
	}
	for i := range spec.Fields.Len() {
		cols = append(cols, event.Field(i))
	}
	return cols
}

// admit is the filter: numbers, also those in texts, that reach the threshold.
func (n *refNode) admit(pipeline string, p int64, r refRow) []refRow {
	c := r.cells[n.key]
	f, err := strconv.ParseFloat(c.text, 64)
	if c.kind != event.Number && c.kind != event.String || err != nil || f < float64(n.having) {
		return nil
	}
	return []refRow{n.siftedRow(pipeline, p, r)}
}

// siftedRow is a row that passes a filter.
func (n *refNode) siftedRow(pipeline string, p int64, r refRow) refRow {
	return refRow{p: p, ts: r.ts, cells: r.cells, id: event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("filter/1"), r.id[:])}
}

// refSeen is a row that first_seen took: its term, and the watermark that it was judged by.
type refSeen struct {
	term  string
	ts, w int64
}

// news is first_seen: the rows of a term that came before are gone through from the first one on, each time.
func (n *refNode) news(pipeline string, p int64, r refRow, w int64) []refRow {
	var key []byte
	if n.key != "" {
		if key = canonical(r.cells[n.key]); key == nil {
			return nil
		}
	}
	value := canonical(r.cells[n.value])
	if value == nil {
		return nil
	}
	if w == operator.PosInf {
		w = operator.NegInf
	}
	term := fmt.Sprintf("%q %q", key, value)
	var life []refSeen // since the term was last forgotten
	for _, x := range append(n.seen, refSeen{term, r.ts, w}) {
		if x.term == term {
			if n.forgotten(life, x.w) {
				life = nil
			}
			life = append(life, x)
		}
	}
	before := life[:len(life)-1]
	fresh := len(before) == 0 || n.history > 0
	for _, x := range before {
		fresh = fresh && r.ts-x.ts >= n.history
	}
	n.seen = append(n.seen, refSeen{term, r.ts, w})
	if !fresh || n.warmUp > 0 && r.ts < n.seen[0].ts+n.warmUp {
		return nil
	}
	return []refRow{{p: p, ts: r.ts, cells: r.cells, id: event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("first_seen/1"), key, value, r.id[:])}}
}

// forgotten says whether the watermark is history past every row's time and arrival.
func (n *refNode) forgotten(life []refSeen, w int64) bool {
	for _, x := range life {
		if n.history == 0 || x.ts+n.history > w || x.w != operator.NegInf && x.w+n.history > w {
			return false
		}
	}
	return true
}

// canonical is a cell as ids have it, nil for none: the cases have only whole numbers.
func canonical(c refCell) []byte {
	if c.kind == event.Absent || c.kind == event.Null {
		return nil
	}
	if f, err := strconv.ParseFloat(c.text, 64); c.kind == event.Number && err == nil {
		c.text = strconv.FormatInt(int64(f), 10)
	}
	return event.AppendKey(nil, event.Value{Kind: c.kind, Text: []byte(c.text)})
}

// cut is what a graph stands at between two blocks, beside what the state has.
type cut struct {
	items int // taken
	said  []int
	p     int64
	marks Marks
	src   []source
	in    [][]mark
	w     []mark
}

func cutOf(g *Graph, items int, got [][]refRow) (c cut) {
	c.items, c.p, c.marks = items, g.p, g.Marks()
	for _, rows := range got {
		c.said = append(c.said, len(rows))
	}
	for _, s := range g.src {
		x := *s
		x.parts = slices.Clone(s.parts)
		c.src = append(c.src, x)
	}
	for _, n := range g.ops {
		c.in, c.w = append(c.in, slices.Clone(n.in)), append(c.w, n.w)
	}
	return c
}

// resumed is a new graph that goes on at a cut, from what the state has.
func resumed(t *testing.T, spec *Spec, shards int, store *state.Store, spaces []uint32, c cut, mem *counted) *Graph {
	g := NewGraph(spec, shards)
	_, err := store.Recover(state.Visitor{
		Start: func(r state.Recovered) error {
			g.attach([2]uint64{1, 2}, r.Epoch+1, spaces, func(space, bucket uint32) ([]byte, error) {
				mem.read++
				return store.Page(space, bucket)
			})
			tiny(g)
			mem.share(g, mem.budget/2, 1)
			return nil
		},
		Page: func(space, bucket uint32, epoch uint64, page []byte) error {
			return g.adopt(slices.Index(spaces, space), bucket, epoch, page)
		},
		Record: func(epoch uint64, space uint32, key []byte, due int64, rec []byte) error {
			return g.replay(slices.Index(spaces, space), epoch, key, due, rec)
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Resume(c.marks); err != nil {
		t.Fatal(err)
	}
	g.p = c.p
	for i := range c.src {
		x := c.src[i]
		x.parts = slices.Clone(x.parts)
		g.src[i] = &x
	}
	for i, n := range g.ops {
		n.in, n.w = slices.Clone(c.in[i]), c.w[i]
	}
	return g
}

// counted is a memory that knows how many pages were read.
type counted struct {
	memory
	read int
}

// tiny makes pages so small that a few keys split them, and memory so short that none stays.
func tiny(g *Graph) {
	_ = g.each(func(_ int, s shard) error {
		if _, c := s.usage(); c != nil {
			c.goal = 40
		}
		return nil
	})
}

// What every operator keeps goes through the store and back at any cut, into any number of shards, with or without
// consolidation: the results are those of one row at a time without a restart.
func TestStateIsKept(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	restarts, passed, pages, read := 0, 0, 0, 0
	for n := 0; n < max(*caseCount/10, 25) || passed == 0 && n < 500; {
		streams := []refStream{{r.Int64N(9), false, 1 + r.IntN(3)}, {r.Int64N(9), r.IntN(2) == 0, 1}}
		ops := randomOps(r, len(streams))
		evs := randomEvents(r, streams)
		want := reference(caseName, streams, ops, evs, 2000)
		if want == nil {
			continue
		}
		n++
		spec := compileCase(t, streams, ops)
		items := itemsOf(spec, evs)
		opt := state.Options{Dir: filepath.Join(t.TempDir(), "s"), Pipeline: caseName}
		open := func() *state.Store {
			s, err := state.Open(opt)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		var spaces []uint32
		for i := range ops {
			spaces = append(spaces, uint32(i+1))
		}
		got := make([][]refRow, len(ops))
		mem := &counted{memory: memory{budget: []int64{1, 5_000, 1 << 30}[r.IntN(3)], epochs: 1 + r.IntN(8)}}
		store, at := open(), 0
		g := resumed(t, spec, 1+r.IntN(3), store, spaces, cutOf(newCaseGraph(spec, streams, 1, 0), 0, got), mem)
		last := cutOf(g, 0, got)
		epoch := uint64(1)
		for at < len(items) {
			size := min(1+r.IntN(20), len(items)-at)
			if err := g.Block(items[at : at+size]); err != nil {
				t.Fatal(err)
			}
			at += size
			for i, node := range g.ops {
				for j := range node.results() {
					got[i] = append(got[i], shown(spec, i, &node.said[j]))
				}
			}
			if r.IntN(3) > 0 {
				var e state.Epoch
				var f state.Flush
				g.save(spaces, &e, epoch)
				if err := mem.balance(g, spaces, epoch, e.Changes(), &f); err != nil {
					t.Fatal(err)
				}
				pages += f.Pages()
				if err := store.Commit(&e); err != nil {
					t.Fatal(err)
				}
				if err := store.Flush(&f); err != nil {
					t.Fatal(err)
				}
				g.landed()
				epoch++
				last = cutOf(g, at, got)
			}
			if r.IntN(8) == 0 { // what was done since the last epoch is lost
				g.Close()
				if err := store.Close(); err != nil {
					t.Fatal(err)
				}
				store = open()
				mem.changes = nil
				g, at = resumed(t, spec, 1+r.IntN(4), store, spaces, last, mem), last.items
				for i := range got {
					got[i] = got[i][:last.said[i]]
				}
				restarts++
			}
		}
		g.Close()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		read += mem.read
		for i := range want {
			compareCase(t, seed, fmt.Sprint("case ", n), i, want[i], got[i])
			if ops[i].value != "" {
				passed += len(want[i])
			}
		}
	}
	t.Logf("%d restarts, %d pages written, %d read, %d rows of first_seen", restarts, pages, read, passed)
	if restarts == 0 || passed == 0 || pages == 0 || read == 0 {
		t.Error("the cases do not cover restarts and first_seen")
	}
}

// seenSpec says what is new, at once and after a warm-up, for ever and within a minute, and counts it.
func seenSpec(t testing.TB) *Spec {
	s := runnerSpec(t)
	f := s.Fields
	seen := func(name string, o operator.FirstSeen) Operator {
		o.Ident = operator.Ident{Pipeline: "p", Operator: name, Form: "first_seen/1"}
		o.Init()
		return Operator{Name: name, Inputs: []int{0, 1}, FirstSeen: &o, Leaves: true, Fingerprint: name, Names: []alert.Column{{Field: f.Add(event.Whole)}}}
	}
	k, v := f.Add("k"), f.Add("v")
	again := seen("again", operator.FirstSeen{Values: []event.Field{k}, History: 9_000})
	again.Where = condition(t, "{v|lt: 40}", f)
	count := s.Operators[0]
	count.Inputs = []int{2}
	s.Operators = []Operator{
		seen("pairs", operator.FirstSeen{Keys: []event.Field{k}, Values: []event.Field{v}, WarmUp: 60_000}), again,
		seen("late", operator.FirstSeen{Values: []event.Field{v}, History: 60_000, WarmUp: 90_000}), count,
	}
	return s
}

// Runs that are cut short keep what was seen and when the warm-up began.
func TestRestartsOfFirstSeen(t *testing.T) { testRestarts(t, seenSpec, 2) }

// A file that grows between runs says what it would have said at once: the end of the input forgets nothing, and the warm-up
// began with the first row of all.
func TestFirstSeenGoesOn(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	specOf := func() *Spec {
		s := seenSpec(t)
		s.Streams, s.Operators = s.Streams[:1], s.Operators[:3]
		for i := range s.Operators {
			s.Operators[i].Inputs = []int{0}
		}
		return s
	}
	whole := randomFiles(r)[0]
	want := undisturbed(t, r, specOf(), []file{whole}, Options{})
	got, dir := &sink{}, filepath.Join(t.TempDir(), "s")
	for n := 0; n < len(whole.lines); {
		n = min(n+1+r.IntN(100), len(whole.lines))
		run, store := startRunner(t, specOf(), dir, Options{Shards: 1 + r.IntN(3)})
		feed(r, run, []file{{whole.path, whole.lines[:n]}})
		drain(t, run, got.take)
		if err := errors.Join(run.Close(), store.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got.all, want.all) || len(want.all) == 0 {
		t.Errorf("seed %d: %d rows, want %d", seed, len(got.all), len(want.all))
	}
}
