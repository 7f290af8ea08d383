package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Windows of every kind that take late rows, with many of these, and operators that read what becomes of their rows: as the reference
// says, whatever the blocks and shards. No row that was in time for the windows may be late for their readers.
func TestLateness(t *testing.T) {
	t.Logf("first seed %d", *firstSeed)
	revised, merged, first := map[operator.WindowKind]int{}, 0, 0
	for seed := *firstSeed; seed < *firstSeed+uint64(*caseCount/4); seed++ {
		r := rand.New(rand.NewPCG(seed, 2))
		streams := []refStream{{delay: r.Int64N(4), parts: 1}}
		o := refOp{name: "late", inputs: []int{0}, key: "k", size: 1 + r.Int64N(20), offset: r.Int64N(9) - 4, having: r.Int64N(3)}
		for o.lateness == 0 {
			o.refWindow = refWindow{}
			randomWindow(r, &o)
		}
		if o.kind == operator.Session { // so that there are some that become one
			o.gap, o.longest, o.lateness = 3+r.Int64N(5), max(o.longest, 10)*r.Int64N(2), o.lateness+20
			o.having = min(o.having, 1)
		}
		if o.first = r.IntN(5) == 0; o.first {
			o.having = max(o.having, 1)
		}
		reader := refOp{name: "reader", inputs: []int{1}, key: "k", size: 1 + r.Int64N(20)}
		ops := []refOp{o, reader}
		evs := []refEvent{{mark: event.Announce}}
		now, tardy := int64(0), 2*(o.lateness+o.size)
		if r.IntN(2) == 0 {
			tardy = o.lateness + 1
		}
		for i := range 20 + r.IntN(60) {
			now += r.Int64N(6)
			row := refRow{ts: now, id: event.EventID([8]byte{}, int64(i)), cells: map[string]refCell{"k": randomKey(r, 2), "v": {event.Number, string(rune('0' + r.IntN(5)))}}}
			if r.IntN(2) == 0 {
				row.ts -= r.Int64N(tardy)
			}
			evs = append(evs, refEvent{row: row})
		}
		if r.IntN(3) > 0 {
			evs = append(evs, refEvent{mark: event.Finished})
		}
		want := reference(caseName, streams, ops, evs, 1<<30)
		for _, x := range want[0] {
			switch {
			case x.rev > 0:
				revised[o.kind]++
			case o.first && !x.late:
				first++
			}
			if x.cells["merged_into"].text != "" {
				merged++
			}
		}
		for _, x := range want[1] {
			if x.late {
				t.Fatalf("seed %d: %s is late for the reader", seed, x)
			}
		}
		blocksAgree(t, r, seed, streams, ops, evs, want)
	}
	t.Logf("revisions by kind: %v; %d sessions went into others; %d rows of emit: first", revised, merged, first)
	if len(revised) != 4 || merged < *caseCount/200 || first == 0 {
		t.Error("the cases do not cover revisions of every kind, sessions that merge and emit: first")
	}
}

// latenessSpec is runnerSpec's streams with windows that take late rows, and one that reads what becomes of theirs.
func latenessSpec(t testing.TB) *Spec {
	s := runnerSpec(t)
	f := s.Fields
	k, v, n := f.Add("k"), f.Add("v"), f.Add("n")
	f.Add("merged_into")
	s.Operators = nil
	add := func(name string, inputs []int, w operator.Window) {
		w.Ident = operator.Ident{Pipeline: "p", Operator: name, Form: w.Kind.Form()}
		w.Keys = []event.Field{k}
		w.Aggregates = []operator.Aggregate{{Name: n, Func: operator.Count, All: true}, {Name: f.Add("s"), Func: operator.Sum, Field: v}, {Name: f.Add("top"), Func: operator.TopK, Field: v, Max: 3},
			{Name: f.Add("p"), Func: operator.Percentile, Field: v, P: 0.9}}
		w.Init(f)
		s.Operators = append(s.Operators, Operator{Name: name, Inputs: inputs, Window: &w, Leaves: true, Fingerprint: name, Names: names(f, w.Columns)})
	}
	for i := range s.Streams {
		s.Streams[i].Delay = 100
	}
	add("tumbling", []int{0, 1}, operator.Window{Size: 5_000, Lateness: 6_000})
	add("hopping", []int{0, 1}, operator.Window{Kind: operator.Hopping, Size: 5_000, Slide: 2_000, Lateness: 6_000, Having: condition(t, "{n|gte: 3}", f)})
	add("session", []int{0, 1}, operator.Window{Kind: operator.Session, Gap: 700, Lateness: 6_000})
	add("early", []int{0, 1}, operator.Window{Size: 5_000, Lateness: 6_000, First: true, Having: condition(t, "{n|gte: 3}", f)})
	add("of_tumbling", []int{2}, operator.Window{Size: 20_000})
	return s
}

// Runs with revisions may be cut short anywhere: of each row the last revision arrives, and never an older one after a newer.
func TestRestartsWithLateness(t *testing.T) { testRestarts(t, latenessSpec, 2) }

// Files that grew after their end: what was said then stays as it was said, and what is appended makes other rows, late ones, or
// further revisions of none.
func TestFilesThatGrowWithLateness(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	files := randomFiles(r)
	short := slices.Clone(files)
	for i := range short {
		short[i].lines = short[i].lines[:len(short[i].lines)/2]
	}
	dir := filepath.Join(t.TempDir(), "s")
	out := &sink{}
	var before map[string]string
	for _, input := range [][]file{short, files} {
		before = maps.Clone(out.byID)
		run, store := startRunner(t, latenessSpec(t), dir, Options{Shards: 2, BlockRows: 50})
		go feed(rand.New(rand.NewPCG(7, 7)), run, input)
		drain(t, run, out.take)
		if err := run.Close(); err != nil {
			t.Fatal(err)
		}
		store.Close()
	}
	for id, text := range before {
		if out.byID[id] != text {
			t.Errorf("%s became %s", text, out.byID[id])
		}
	}
	if len(before) == 0 || len(out.byID) < 3*len(before)/2 {
		t.Errorf("%d rows of half of the files, %d of all", len(before), len(out.byID))
	}
}

// Whatever comes, is taken, acknowledged and rejected in any order: at most one revision of a row is in flight, none follows a newer
// one, what is taken is the newest that there was, in the end the newest of each arrives, and every row is acknowledged.
func TestOutboxOfRevisions(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	left := 0
	for range 300 {
		b := &outbox{retries: 3}
		var flying [][]*Out
		newest, said := map[event.ID]int64{}, map[event.ID]int64{}
		inFlight := map[event.ID]bool{}
		now := time.Unix(0, 0)
		add := func() {
			o := &Out{Kind: "row", ID: event.ID{byte(r.IntN(4))}, Open: true, Payload: []byte("{}"), Seq: b.next}
			if r.IntN(5) == 0 {
				o.ID, o.Open = event.ID{9, byte(b.next), byte(b.next >> 8)}, false
			} else if n, ok := newest[o.ID]; ok {
				o.Revision = n + 1
			}
			newest[o.ID] = o.Revision
			b.next++
			b.add([]*Out{o})
		}
		take := func() bool {
			rows, wait := b.take(now)
			now = now.Add(wait)
			for _, o := range rows {
				was, ok := said[o.ID]
				if o.Kind == "error" { // in the place of one that was said
					continue
				}
				if inFlight[o.ID] || ok && o.Revision < was || o.Revision != newest[o.ID] {
					t.Fatalf("seed %d: %+v of %d, in flight %v, after %d", seed, o, newest[o.ID], inFlight[o.ID], was)
				}
				inFlight[o.ID], said[o.ID] = true, o.Revision
			}
			if len(rows) > 0 {
				flying = append(flying, rows)
			}
			return len(rows) > 0 || wait > 0
		}
		settle := func(failing int) {
			if len(flying) == 0 {
				return
			}
			i := r.IntN(len(flying))
			rows := flying[i]
			flying = append(flying[:i:i], flying[i+1:]...)
			for _, o := range rows {
				inFlight[o.ID] = false
			}
			if r.IntN(10) < failing {
				b.reject(rows, rejection(r, rows), now)
			} else {
				b.accept(rows)
			}
		}
		for range 200 {
			[]func(){add, add, func() { take() }, func() { settle(3) }}[r.IntN(4)]()
		}
		for take() || len(flying) > 0 {
			settle(0)
		}
		for id, n := range newest {
			if said[id] != n {
				t.Fatalf("seed %d: of %s revision %d was said, %d is the last", seed, id, said[id], n)
			}
		}
		if b.cursor != b.next || len(b.beyond) > 0 || b.flying != 0 || b.size != 0 || len(b.open) > 0 || len(b.tries) > 0 || b.resting != 0 || !b.settled {
			t.Fatalf("seed %d: something is left: %+v", seed, b)
		}
		left += int(b.next) - int(b.sent)
	}
	if left == 0 {
		t.Error("no revision took the place of another")
	}
}

// A revision that no output took is replaced when the next start finds a newer one, also if its operator no longer takes late rows.
func TestRecoveredRevisions(t *testing.T) {
	for _, revises := range []bool{true, false} {
		spec := latenessSpec(t)
		if !revises {
			spec.Operators[0].Window.Lateness = 0
		}
		row := func(seq uint64, revision int64) *Out {
			return &Out{Kind: "row", Operator: "tumbling", ID: event.ID{7}, Seq: seq, Revision: revision}
		}
		rows := []*Out{row(0, 0), {Kind: "late", Operator: "tumbling", ID: event.ID{8}, Seq: 1}, row(2, 1)}
		spec.reopen(rows)
		b := &outbox{next: 3}
		b.add(rows)
		got, _ := b.take(time.Time{})
		if len(got) != 2 || got[0].Revision != 1 || got[1].Kind != "late" || got[1].Open || b.cursor != 1 {
			t.Errorf("revises %v: %+v, cursor %d", revises, got, b.cursor)
		}
	}
}

// What is said anew within an epoch is written once.
func TestNewestOfAnEpoch(t *testing.T) {
	row := func(id byte, revision int64, open bool) *Out {
		return &Out{ID: event.ID{id}, Revision: revision, Open: open}
	}
	var got []string
	for _, o := range newest([]*Out{row(1, 0, true), row(2, 0, false), row(1, 1, true), row(3, 4, true), row(1, 2, true)}) {
		got = append(got, fmt.Sprint(o.ID[0], ":", o.Revision))
	}
	if fmt.Sprint(got) != "[1:2 2:0 3:4]" {
		t.Error(got)
	}
}

// Rows that come again and again are told apart by their revision, and counted as one.
func TestRevisionsAreCounted(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	files := randomFiles(r)
	run, store := startRunner(t, latenessSpec(t), filepath.Join(t.TempDir(), "s"), Options{Shards: 2})
	defer store.Close()
	go feed(r, run, files)
	out := &sink{}
	drain(t, run, out.take)
	stats := run.Stats()
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	rows, revisions := int64(0), int64(0)
	for id, text := range out.byID {
		if text[:3] == "row" {
			rows++
			revisions += out.newest[id]
		}
	}
	if stats.Rows != rows || stats.Revised != revisions || revisions == 0 {
		t.Errorf("%d rows and %d revisions, counted %d and %d", rows, revisions, stats.Rows, stats.Revised)
	}
}
