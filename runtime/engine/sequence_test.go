package engine

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Sequences alone, with few keys, so that rows do meet, ties between inputs and partitions matter, and caps are hit: what
// TestBlocksAreInvisible draws now and then, in every case.
func TestSequencesOfFewKeys(t *testing.T) {
	var rows, absences, cut, tied int
	for seed := *firstSeed; seed < *firstSeed+uint64(*caseCount/4); seed++ {
		r := rand.New(rand.NewPCG(seed, 2))
		streams := []refStream{{r.Int64N(9), r.IntN(4) == 0, 1 + r.IntN(2)}, {r.Int64N(4), false, 1}}
		var ops []refOp
		for i := range 1 + r.IntN(3) {
			order := r.Perm(2 + i)
			o := refOp{name: fmt.Sprint("op", i), inputs: order[:1]}
			next := 0
			randomSeq(r, &o, func() int { next++; return order[next%len(order)] })
			ops = append(ops, o)
		}
		evs := randomEvents(r, streams)
		at := map[int64]bool{}
		for i := range evs {
			if c, ok := evs[i].row.cells["k"]; ok && c.kind == event.String {
				evs[i].row.cells["k"] = refCell{event.String, string(c.text[0] & 'a')}
			}
			if evs[i].mark == event.NoMark {
				if at[evs[i].row.ts] {
					tied++
				}
				at[evs[i].row.ts] = true
			}
		}
		want := reference(caseName, streams, ops, evs, 20_000)
		spec := compileCase(t, streams, ops)
		for _, how := range []struct{ block, shards int }{{1, 1}, {1, 4}, {7, 2}, {4096, 1}, {4096, 2}, {4096, 4}} {
			got := runCase(t, spec, streams, evs, how.block, how.shards)
			for i := range want {
				compareCase(t, seed, fmt.Sprintf("blocks of %d, %d shards", how.block, how.shards), i, want[i], got[i])
			}
		}
		for i := range want {
			for _, x := range want[i] {
				switch {
				case x.late:
				case ops[i].seq.absence():
					absences++
				default:
					rows++
				}
				if x.cells["truncated"].kind == event.Bool {
					cut++
				}
			}
		}
	}
	t.Logf("%d sequences, %d absences, %d of both marked truncated, %d rows of equal times", rows, absences, cut, tied)
	if rows == 0 || absences == 0 || cut == 0 || tied == 0 {
		t.Error("the cases do not cover sequences, absences, caps and ties")
	}
}

func runCase(t *testing.T, spec *Spec, streams []refStream, evs []refEvent, block, shards int) [][]refRow {
	g := newCaseGraph(spec, streams, shards, 0)
	defer g.Close()
	got := make([][]refRow, len(spec.Operators))
	for items := range slices.Chunk(itemsOf(spec, evs), block) {
		if err := g.Block(items); err != nil {
			t.Fatal(err)
		}
		for i, node := range g.ops {
			for j := range node.results() {
				got[i] = append(got[i], shown(spec, i, &node.said[j]))
			}
		}
	}
	return got
}

// runnerSequences are the sequences of runnerSpec: a row of a, then one of b without another of a between, until a large
// value; and a row of b without one of a.
func runnerSequences(t testing.TB, f *event.Fields) (ops []Operator) {
	k, v := f.Add("k"), f.Add("v")
	where := func(text string) operator.Step { return operator.Step{Where: condition(t, text, f)} }
	other := operator.Step{Input: 1}
	until := where("{v|gte: 95}")
	for _, q := range []*operator.Sequence{
		{Ident: operator.Ident{Pipeline: "p", Operator: "follows", Form: "sequence/1"}, Within: 40_000, Until: &until, MatchesMax: 20,
			Steps:   []operator.Step{where("{v|lt: 60}"), {Where: condition(t, "{v|gte: 80}", f), Missing: true}, other},
			Outputs: []operator.StepField{{Name: f.Add("a"), Step: 0, Field: v}, {Name: f.Add("b"), Step: 2, Field: v}}},
		{Ident: operator.Ident{Pipeline: "p", Operator: "absent", Form: "absence/1"}, Within: 5_000, MatchesMax: 4,
			Steps:   []operator.Step{other, {Missing: true}},
			Outputs: []operator.StepField{{Name: f.Add("b"), Step: 0, Field: v}}},
	} {
		q.By = []event.Field{k}
		q.Init(f)
		ops = append(ops, Operator{Name: q.Ident.Operator, Inputs: []int{0, 1}, Sequence: q, Leaves: true, Fingerprint: q.Ident.Operator, Names: names(f, q.Columns)})
	}
	return ops
}

// The end of a bounded input says the absences that are open; a match that waits for a row goes on when a file has grown, and
// a row that is too late for what was said is late.
func TestSequencesOutliveTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	line := func(sec, v int) string { return fmt.Sprintf(`{"t":"2026-03-02T08:00:%02dZ","k":"x","v":%d}`, sec, v) }
	a, b := file{"a1", []string{line(1, 10)}}, file{"b1", []string{line(0, 30)}}
	run := func(want ...string) {
		t.Helper()
		spec := runnerSpec(t)
		spec.Operators = slices.DeleteFunc(spec.Operators, func(o Operator) bool { return o.Sequence == nil })
		run, store := startRunner(t, spec, dir, Options{Shards: 1})
		defer store.Close()
		feed(rand.New(rand.NewPCG(1, 1)), run, []file{a, b})
		var got []string
		drain(t, run, func(_ *testing.T, o *Out) {
			got = append(got, fmt.Sprint(o.Kind, " ", o.Operator, " ", o.TS%60_000, " ", string(o.Payload)))
		})
		if err := run.Close(); err != nil {
			t.Fatal(err)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	run() // the row of a answers that of b in time
	b.lines = append(b.lines, line(5, 20))
	run(`row absent 10000 {"b":20}`, `row follows 5000 {"a":10,"b":20}`)
	b.lines = append(b.lines, line(9, 40), line(30, 50))
	a.lines = append(a.lines, line(31, 50))
	run(`late absent 9000 {"t":"2026-03-02T08:00:09Z","k":"x","v":40}`)
}
