package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// laneWhere is a condition of a lane, as it is written and as the test understands it. What it reads is the same in all revisions of a row.
type laneWhere struct {
	text  string // "": none
	takes func(o *Out, payload map[string]any) bool
}

var laneWheres = []laneWhere{
	{"", func(*Out, map[string]any) bool { return true }},
	{"{kind: alert}", func(o *Out, _ map[string]any) bool { return o.Kind == "alert" }},
	{"{kind: [late, error]}", func(o *Out, _ map[string]any) bool { return o.Kind == "late" || o.Kind == "error" }},
	{"{kind: row, k: [k1, K2, k3]}", func(o *Out, p map[string]any) bool {
		return o.Kind == "row" && (p["k"] == "k1" || p["k"] == "k2" || p["k"] == "k3")
	}},
	{"[{row.k: k4}, {k: k5, reason: null}]", func(o *Out, p map[string]any) bool {
		row, _ := p["row"].(map[string]any)
		return row["k"] == "k4" || p["k"] == "k5" && o.Reason == ""
	}},
	{"{v|gte: 60}", func(_ *Out, p map[string]any) bool { v, ok := p["v"].(float64); return ok && v >= 60 }},
	{"{late_by_ms|gt: 500, stream|startswith: A}", func(o *Out, _ map[string]any) bool {
		return o.Kind == "late" && o.LateBy > 500 && strings.HasPrefix(o.Stream, "a")
	}},
	{"{a: {operator: [count, hopping]}, b: {kind: error}, condition: not a and not b}", func(o *Out, _ map[string]any) bool {
		return o.Operator != "count" && o.Operator != "hopping" && o.Kind != "error"
	}},
}

// modelLane is a lane, what it has got, and how its output behaves.
type modelLane struct {
	where    laneWhere
	lane     Lane
	blocked  bool // takes rows and never says what became of them
	picky    bool // refuses some rows for good
	got      sink
	errors   map[string]bool     // the rows that error rows of rejections stand for
	refusals map[event.ID]string // of each error row: whose place it takes, and in which lane
}

func (l *modelLane) takes(o *Out) bool {
	p := map[string]any{}
	_ = json.Unmarshal(o.Payload, &p)
	return l.where.takes(o, p)
}

func (l *modelLane) refuses(o *Out) bool { return l.picky && o.Kind != "error" && o.ID[0]%16 == 0 }

// randomLanes draws one to four lanes.
func randomLanes(r *rand.Rand) (all []*modelLane) {
	for i := range 1 + r.IntN(4) {
		l := &modelLane{where: laneWheres[r.IntN(len(laneWheres))], picky: r.IntN(3) == 0, errors: map[string]bool{}, refusals: map[event.ID]string{}}
		l.lane = Lane{Name: fmt.Sprint("lane", i), Flying: 1 + r.IntN(4), Retries: 1000, Block: r.IntN(3) == 0}
		all = append(all, l)
	}
	if n := r.IntN(len(all) + 1); n < len(all) {
		all[n].blocked = true
	}
	return all
}

// laneSpec gives a spec lanes.
func laneSpec(t testing.TB, s *Spec, all []*modelLane) *Spec {
	s.LaneFields = &event.Fields{}
	for _, l := range all {
		if l.where.text != "" {
			l.lane.Where = condition(t, l.where.text, s.LaneFields)
		}
		s.Lanes = append(s.Lanes, l.lane)
	}
	return s
}

// hasAll checks that a lane has got all that it takes of what an undisturbed run said, and nothing else.
func (l *modelLane) hasAll(t *testing.T, want *sink, where string) {
	t.Helper()
	rows := 0
	for id, o := range want.last {
		if !l.takes(o) {
			continue
		}
		if rows++; l.got.byID[id] != want.byID[id] || l.got.newest[id] != o.Revision {
			t.Errorf("%s: revision %d %q, want %d %s", where, l.got.newest[id], l.got.byID[id], o.Revision, want.byID[id])
		}
	}
	if len(l.got.byID) != rows {
		t.Errorf("%s: %d rows, want %d", where, len(l.got.byID), rows)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// settle takes rows for a lane's output, which rejects some of them now and then.
func (l *modelLane) settle(t *testing.T, r *rand.Rand, run *Runner, rows []*Out) {
	if r.IntN(15) == 0 {
		run.Settle(rows, errors.New("no"))
		return
	}
	account := &Account{Err: errors.New("not all"), Of: map[event.ID]Verdict{}}
	for _, o := range rows {
		if l.refuses(o) {
			account.Of[o.ID] = Verdict{Refused: true, Why: "so"}
		}
	}
	if len(account.Of) > 0 { // of a batch with some that it refuses it takes none
		run.Settle(rows, account)
		return
	}
	for _, o := range rows {
		if o.Reason == "rejected" {
			var p struct {
				ID   string `json:"result_id"`
				Lane string
			}
			if err := json.Unmarshal(o.Payload, &p); err != nil {
				t.Fatal(err)
			}
			if was := l.refusals[o.ID]; was != "" && was != p.ID+p.Lane || p.Lane == "" {
				t.Fatalf("%s stands for %s and for %s, refused by %q", o.ID, was, p.ID, p.Lane)
			}
			l.refusals[o.ID], l.errors[p.ID] = p.ID+p.Lane, true
			continue
		}
		l.got.take(t, o)
	}
	if r.IntN(30) > 0 {
		run.Settle(rows, nil)
	} else {
		run.Settle(rows, errors.New("taken, and nobody was told"))
	}
}

// Random lanes over operators of all kinds, with outputs that reject, refuse and stand still, and runs that are stopped and killed anywhere:
// in the end each lane has got the last revision of each row that it takes and does not refuse, and none before after it. For what it refuses
// the lanes that take error rows have one.
func TestLanes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	spilled, refused := 0, 0
	specs := []func(t testing.TB) *Spec{runnerSpec, alertsSpec, latenessSpec, alertsSpec}
	for round := 0; round < len(specs) || round < 40 && (spilled == 0 || refused == 0); round++ { // until both were there, which chance decides
		specOf := specs[round%len(specs)]
		files, all := randomFiles(r), randomLanes(r)
		if round == 0 { // so that some are refused for sure
			all[0].picky, all[0].where = true, laneWheres[0]
		}
		last := undisturbed(t, r, specOf(t), files, Options{Shards: 1}).last
		dir := filepath.Join(t.TempDir(), "s")
		for starts, over := 0, false; !over; starts++ {
			memory := 1 + r.IntN(30_000)
			run, store := startRunner(t, laneSpec(t, specOf(t), all), dir, Options{Shards: 1 + r.IntN(3), BlockRows: 1 + r.IntN(64), laneBytes: memory, laneEpochs: 1 + r.IntN(4)})
			go feed(rand.New(rand.NewPCG(r.Uint64(), 1)), run, files)
			left := 1 + r.IntN(200)
			if starts >= 4 {
				left = 1 << 30
				for _, l := range all {
					l.blocked = false
				}
			}
			for left > 0 {
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond) // another start gives what was never settled
				if left > 1<<20 {
					ctx, cancel = context.WithCancel(context.Background())
				}
				rows, err := run.Next(ctx)
				cancel()
				if over = errors.Is(err, io.EOF); over || errors.Is(err, context.DeadlineExceeded) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				left -= len(rows)
				l := all[rows[0].Lane]
				for _, o := range rows {
					if o.Lane != rows[0].Lane || o.Reason != "rejected" && !l.takes(o) {
						t.Fatalf("seed %d: %q got %+v", seed, l.where.text, o)
					}
					if fence := run.boxes[o.Lane].fenceNow(run); o.Seq >= fence {
						t.Fatalf("seed %d: row %d leaves, and no epoch on disk has a fence behind it but %d", seed, o.Seq, fence)
					}
				}
				if !l.blocked {
					l.settle(t, r, run, rows)
				}
			}
			for _, b := range run.boxes {
				spilled += len(b.storedNow(run))
				refused += int(b.refused)
			}
			if over || r.IntN(2) == 0 {
				if err := run.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				run.kill()
			}
			store.Close()
		}
		for i, l := range all {
			want := map[string]*Out{}
			for id, o := range last {
				if l.takes(o) && !l.refuses(o) {
					want[id] = o
				}
			}
			for id, o := range want {
				if n, ok := l.got.newest[id]; !ok || n != o.Revision {
					t.Fatalf("seed %d, round %d, lane %d %q: revision %d of %s, %v; want %d: %s", seed, round, i, l.where.text, n, id, ok, o.Revision, o.Payload)
				}
			}
			if len(l.got.newest) != len(want) {
				t.Fatalf("seed %d, round %d, lane %d %q: %d rows, want %d", seed, round, i, l.where.text, len(l.got.newest), len(want))
			}
			refusedAll(t, seed, all, i, last)
		}
	}
	if spilled == 0 || refused == 0 {
		t.Errorf("%d epochs were left on disk, %d rows refused: the cases do not cover both", spilled, refused)
	}
}

// fenceNow is the fence of the last epoch on disk.
func (b *outbox) fenceNow(r *Runner) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return b.fence
}

// storedNow is what of a lane is on disk alone.
func (b *outbox) storedNow(r *Runner) []state.Stored {
	r.mu.Lock()
	defer r.mu.Unlock()
	return b.stored
}

// refusedAll checks that each row that a lane refuses stands in the lanes that take its error row, or in itself.
func refusedAll(t *testing.T, seed uint64, all []*modelLane, i int, last map[string]*Out) {
	for id, o := range last {
		if l := all[i]; !l.takes(o) || !l.refuses(o) {
			continue
		}
		e := &Out{Kind: "error", Operator: o.Operator, Stream: o.Stream, Reason: "rejected", Payload: []byte("{}")}
		somebody := false
		for j, other := range all {
			if !other.takes(e) {
				continue
			}
			somebody = true
			if !other.errors[id] {
				t.Fatalf("seed %d: lane %d refused %s, and lane %d %q has no error row", seed, i, id, j, other.where.text)
			}
		}
		if !somebody && !all[i].errors[id] {
			t.Fatalf("seed %d: lane %d refused %s, and has no error row", seed, i, id)
		}
	}
}

// A lane whose output stands still for the whole run holds no other, and takes no more memory than it may; what it has not taken waits on
// disk, and the next run gives it all.
func TestBlockedLane(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	files := randomFiles(r)
	last := undisturbed(t, r, alertsSpec(t), files, Options{Shards: 1}).last
	all := []*modelLane{{where: laneWheres[0], lane: Lane{Name: "dead", Flying: 2}, errors: map[string]bool{}, refusals: map[event.ID]string{}}, {where: laneWheres[0], lane: Lane{Name: "lively"}, errors: map[string]bool{}, refusals: map[event.ID]string{}}}
	dir := filepath.Join(t.TempDir(), "s")
	const memory = 20_000
	run, store := startRunner(t, laneSpec(t, alertsSpec(t), all), dir, Options{Shards: 2, BlockRows: 16, laneBytes: memory, laneEpochs: 3})
	go feed(r, run, files)
	most, held := 0, 0
	done := func() bool {
		for id, o := range last {
			if n, ok := all[1].got.newest[id]; !ok || n != o.Revision {
				return false
			}
		}
		return true
	}
	for !done() {
		rows, err := run.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		run.mu.Lock()
		most = max(most, run.boxes[0].size)
		if n := len(run.boxes[0].stored); n > 3 {
			t.Fatalf("seed %d: %d epochs are known by their places", seed, n)
		}
		run.mu.Unlock()
		if rows[0].Lane == 0 {
			held += len(rows)
			continue
		}
		for _, o := range rows {
			all[1].got.take(t, o)
		}
		run.Settle(rows, nil)
	}
	rep, err := run.Report(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if held == 0 || held > 2*takeMax || most > memory+epochMax || len(rep.Lanes) != 2 || rep.Lanes[0].Rows == 0 || rep.Lanes[0].Flying != int64(held) || rep.Lanes[1].Rows != 0 {
		t.Errorf("%d rows were given to an output that stands still, %d bytes in memory, %+v", held, most, rep.Lanes)
	}
	run.kill()
	store.Close()
	run, store = startRunner(t, laneSpec(t, alertsSpec(t), all), dir, Options{laneBytes: memory, laneEpochs: 3})
	go feed(r, run, files)
	drain(t, run, func(t *testing.T, o *Out) { all[o.Lane].got.take(t, o) })
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	store.Close()
	for id, o := range last {
		if n, ok := all[0].got.newest[id]; !ok || n != o.Revision {
			t.Fatalf("seed %d: revision %d of %s, %v; want %d", seed, n, id, ok, o.Revision)
		}
	}
}

// Lanes of a state and of a pipeline: rows of the one lane go to lanes that are new, a lane that is renamed keeps its own, a new one begins
// empty, and rows of one that is gone refuse the start.
func TestLanesThatChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	r := rand.New(rand.NewPCG(2, 2))
	files := randomFiles(r)
	last := undisturbed(t, r, runnerSpec(t), files, Options{Shards: 1}).last
	start := func(lanes ...Lane) (*Runner, *state.Store, error) {
		spec := runnerSpec(t)
		spec.LaneFields, spec.Lanes = &event.Fields{}, lanes
		store, err := state.Open(state.Options{Dir: dir, Pipeline: "p"})
		if err != nil {
			t.Fatal(err)
		}
		run, err := Start(spec, store, Options{Shards: 1, laneBytes: 4000, laneEpochs: 1})
		if err != nil {
			store.Close()
		}
		return run, store, err
	}
	// All is said by one lane, and nothing acknowledged.
	run, store, err := start()
	if err != nil {
		t.Fatal(err)
	}
	feed(r, run, files)
	for waiting := int64(0); waiting < int64(len(last)); {
		rep, err := run.Report(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		waiting = rep.Outbox.Rows + rep.Outbox.Sent
	}
	if _, err := run.Next(context.Background()); err != nil { // all of it is on disk once some leaves
		t.Fatal(err)
	}
	run.kill()
	store.Close()
	// Two lanes, of which one takes late rows and errors; neither delivers.
	fields := &event.Fields{}
	odd := Lane{Name: "odd", Where: condition(t, "{kind: [late, error]}", fields)}
	run, store, err = start(odd, Lane{Name: "all"})
	if err != nil {
		t.Fatal(err)
	}
	for committed := false; !committed; {
		rep, err := run.Report(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		committed = rep.Commits.Total() > 0 && rep.Lanes[1].Rows+rep.Lanes[1].Flying == int64(len(last))
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	store.Close()
	for _, lanes := range [][]Lane{nil, {{Name: "other"}}} {
		if _, _, err := start(lanes...); err == nil || !strings.Contains(err.Error(), "rows wait in lane odd, which the pipeline does not have; put it back, say `was: odd`") {
			t.Fatalf("%v", err)
		}
	}
	// One is renamed, and a third is new.
	run, store, err = start(Lane{Name: "strange", Was: "odd"}, Lane{Name: "new"}, Lane{Name: "all"})
	if err != nil {
		t.Fatal(err)
	}
	feed(r, run, files)
	var got [3]sink
	drain(t, run, func(t *testing.T, o *Out) { got[o.Lane].take(t, o) })
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	store.Close()
	odds := 0
	for id, o := range last {
		if _, ok := got[2].byID[id]; !ok {
			t.Errorf("lane all has lost %s", o.Payload)
		}
		if o.Kind == "late" || o.Kind == "error" {
			if odds++; got[0].byID[id] == "" {
				t.Errorf("lane strange has lost %s", o.Payload)
			}
		}
	}
	if odds == 0 || len(got[0].byID) != odds || len(got[1].byID) != 0 || len(got[2].byID) != len(last) {
		t.Errorf("%d, %d and %d rows, want %d, 0 and %d", len(got[0].byID), len(got[1].byID), len(got[2].byID), odds, len(last))
	}
	// Nothing waits any more: all lanes may go.
	if run, store, err = start(); err != nil {
		t.Fatal(err)
	}
	run.kill()
	store.Close()
}

// laneOnDisk makes a state whose lane x has got a row in each of some epochs: of the ids, in the revisions. Rows below the fence may have left.
func laneOnDisk(t *testing.T, dir string, fence int, ids []byte, revisions []int64) {
	store, err := state.Open(state.Options{Dir: dir, Pipeline: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Recover(state.Visitor{}); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		deep := byte(0)
		if len(ids) > 256 { // of which no two are the same
			deep = byte(i >> 8)
		}
		o := Out{Kind: "row", Operator: "count", ID: event.ID{id, deep}, Revision: revisions[i], Payload: []byte("{}")}
		e := &state.Epoch{Header: (&header{nextLane: 2, lanes: []keptLane{{name: "x", id: 1, next: uint64(i) + 1, fence: uint64(min(i+1, fence))}}}).append(nil)}
		e.Lane(1).Send(uint64(i), o.append(nil))
		if err := store.Commit(e); err != nil {
			t.Fatal(err)
		}
	}
}

// A run that ended without saying so may have sent a revision whose row waits on disk in an older one too, epochs before: that one does not
// follow it. It has not sent what is beyond the fence.
func TestRevisionsOnDisk(t *testing.T) {
	for fence, want := range map[int]string{6: "[3:0 2:5 1:2]", 5: "[3:0 1:1 2:5 1:2]", 4: "[2:4 3:0 1:1 2:5 1:2]", 3: "[1:0 2:4 3:0 1:1 2:5 1:2]"} {
		dir := filepath.Join(t.TempDir(), "s")
		laneOnDisk(t, dir, fence, []byte{1, 2, 3, 1, 2, 1}, []int64{0, 4, 0, 1, 5, 2})
		for _, want := range []string{want, "[]"} { // again, after all is delivered
			var got []string
			run, store := startRunner(t, laneSpec(t, runnerSpec(t), []*modelLane{{lane: Lane{Name: "x", Flying: 1}}}), dir, Options{laneBytes: 1, laneEpochs: 2})
			run.End(true)
			drain(t, run, func(_ *testing.T, o *Out) { got = append(got, fmt.Sprint(o.ID[0], ":", o.Revision)) })
			if err := run.Close(); err != nil {
				t.Fatal(err)
			}
			store.Close()
			if fmt.Sprint(got) != want {
				t.Errorf("with the fence at %d: sent %v, want %s", fence, got, want)
			}
		}
	}
}

// A start with a deep outbox reads what the run before may have sent, and no more, and knows few epochs by their places; then all of it arrives.
func TestDeepLane(t *testing.T) {
	const rows, fence = 3 * diskMax, 40
	dir := filepath.Join(t.TempDir(), "s")
	ids, revisions := make([]byte, rows), make([]int64, rows)
	for i := range ids {
		ids[i], revisions[i] = byte(i), 1
	}
	laneOnDisk(t, dir, fence, ids, revisions)
	store, err := state.Open(state.Options{Dir: dir, Pipeline: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	spec := laneSpec(t, runnerSpec(t), []*modelLane{{lane: Lane{Name: "x"}}})
	r := &Runner{spec: spec, store: store, graph: NewGraph(spec, 1), opt: Options{Memory: MemoryDefault, Warn: func(string, ...any) {}}}
	r.intake = newIntake(spec, r.graph, time.Now)
	r.newBoxes()
	if err := r.recover(); err != nil {
		t.Fatal(err)
	}
	if b := r.boxes[0]; len(b.newest) != fence || b.epochs != rows || len(b.stored) != diskMax || b.bytes == 0 || b.waits() != rows || b.size != 0 {
		t.Errorf("%d rows are known, %d epochs, %d of them by their places, %d bytes, %d rows wait, %d bytes in memory", len(b.newest), b.epochs, len(b.stored), b.bytes, b.waits(), b.size)
	}
	store.Close()
	run, store := startRunner(t, spec, dir, Options{})
	run.End(true)
	got := 0
	drain(t, run, func(_ *testing.T, o *Out) {
		if int(o.Seq) != got {
			t.Fatalf("row %d after %d", o.Seq, got)
		}
		if fence := run.boxes[0].fenceNow(run); o.Seq >= fence {
			t.Fatalf("row %d leaves, and the last epoch on disk says so of those below %d", o.Seq, fence)
		}
		got++
	})
	if err := run.Close(); err != nil || got != rows {
		t.Errorf("%v: %d rows, want %d", err, got, rows)
	}
	store.Close()
}

// A lane never gets the number of one that is gone, also when there was none in between.
func TestLaneNumbers(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir := filepath.Join(t.TempDir(), "s")
	var numbers []uint32
	for _, names := range [][]string{{"a", "b"}, nil, {"c"}, nil, nil, {"d", "a"}} {
		var all []*modelLane
		for _, name := range names {
			all = append(all, &modelLane{lane: Lane{Name: name, Flying: 1}})
		}
		run, store := startRunner(t, laneSpec(t, runnerSpec(t), all), dir, Options{})
		if len(names) > 0 {
			for _, b := range run.boxes {
				numbers = append(numbers, b.id)
			}
		}
		go feed(r, run, randomFiles(r))
		drain(t, run, func(*testing.T, *Out) {})
		if err := run.Close(); err != nil {
			t.Fatal(err)
		}
		store.Close()
	}
	if fmt.Sprint(numbers) != "[1 2 3 4 5]" {
		t.Errorf("numbers %v", numbers)
	}
}

// An output that is down for ten minutes is not asked for each row by itself, and asked again at most downMax after it is back. If then it takes no
// batch that has one of the bad rows, as the first ones of each, it gets all others, and these become error rows.
func TestLaneThatIsDown(t *testing.T) {
	const rows, bad = 10_000, 3
	b := &outbox{spills: true, retries: 3, credit: 16}
	for seq := range uint64(rows) {
		b.add([]*Out{{Seq: seq, ID: event.ID{byte(seq), byte(seq >> 8)}, Payload: []byte("{}")}})
	}
	b.next = rows
	began := time.Unix(0, 0)
	now, asked := began, 0
	for now.Sub(began) < 10*time.Minute {
		taken, wait := b.take(now)
		if now = now.Add(wait); len(taken) == 0 {
			continue
		}
		b.reject(taken, errors.New("down"), now)
		if now.Sub(began) > 9*time.Minute {
			asked++
		}
	}
	if most := 250 * int(time.Minute/downMax); asked > most || len(b.again) > 250 || b.resting < flyingMax {
		t.Errorf("in a minute it was asked %d times, %d rows wait in %d batches", asked, b.resting, len(b.again))
	}
	back, first := now, time.Time{}
	got, failed := map[uint64]bool{}, map[uint64]bool{}
	for b.cursor < rows {
		if now.Sub(back) > 2*time.Minute {
			t.Fatalf("it has %d rows and %d error rows, and does not go on", len(got), len(failed))
		}
		taken, wait := b.take(now)
		if len(taken) == 0 { // others go on coming, without which no row is worn out
			now = now.Add(min(wait, time.Second))
			b.add([]*Out{{Seq: b.next, Payload: []byte("{}")}})
			b.next++
			continue
		}
		if first.IsZero() {
			first = now
		}
		switch {
		case taken[0].Kind == "error":
			failed[taken[0].Seq] = true
		case slices.ContainsFunc(taken, func(o *Out) bool { return o.Seq < rows && o.Seq%takeMax < bad }):
			b.reject(taken, errors.New("a bad row"), now)
			continue
		default:
			for _, o := range taken {
				if o.Seq < rows {
					got[o.Seq] = true
				}
			}
		}
		b.accept(taken)
	}
	want := (rows + takeMax - 1) / takeMax * bad
	if first.Sub(back) > downMax || now.Sub(back) > time.Minute || len(failed) != want || len(got) != rows-want {
		t.Errorf("asked again after %s; after %s it had %d rows and %d error rows, want %d and %d", first.Sub(back), now.Sub(back), len(got), len(failed), rows-want, want)
	}
}

// Numbers that are delivered out of order are few runs, whatever their order, and say the same as a set.
func TestRuns(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		b, n := &outbox{}, 1+r.IntN(60)
		set, cursor := map[uint64]bool{}, uint64(0)
		for _, seq := range r.Perm(n) {
			b.mark(uint64(seq))
			for set[uint64(seq)] = true; set[cursor]; cursor++ {
			}
			k := keptLane{name: "x", id: 3, next: uint64(n), cursor: b.cursor, fence: r.Uint64N(uint64(n) + 1), beyond: b.beyond, lastError: "no", rejected: 4}
			rd := event.Reader{B: k.append(nil)}
			again := readLane(&rd, true)
			if !rd.Done() || again.cursor != cursor || again.fence != k.fence || !slices.Equal(again.beyond, b.beyond) || again.lastError != "no" || again.waits() != int64(n-len(set)) {
				t.Fatalf("seed %d: %+v became %+v", seed, k, again)
			}
			for i := range uint64(n) {
				if from := r.Uint64N(uint64(n) + 1); from >= cursor && again.beyond.all(from, i) != all(set, from, i) {
					t.Fatalf("seed %d: all from %d to %d of %v: %v", seed, from, i, again.beyond, again.beyond.all(from, i))
				}
				if i >= cursor && again.beyond.has(i) != set[i] {
					t.Fatalf("seed %d: %d of %v, want %v", seed, i, again.beyond, set)
				}
			}
		}
		if b.cursor != uint64(n) || len(b.beyond) > 0 {
			t.Fatalf("seed %d: %d %v", seed, b.cursor, b.beyond)
		}
	}
}

// A lane of a state of before lanes had fences may have sent all of its rows.
func TestUnfencedLane(t *testing.T) {
	b := event.AppendBytes(nil, []byte("x"))
	b = append(b, 3, 9, 4, 1, 2, 1) // id, next, cursor; one run, from 6 up to 7
	b = event.AppendBytes(append(b, 0, 0, 0, 0), []byte("no"))
	r := event.Reader{B: b}
	if k := readLane(&r, false); !r.Done() || k.fence != 9 || k.id != 3 || k.cursor != 4 || !slices.Equal(k.beyond, runs{{6, 7}}) || k.lastError != "no" {
		t.Errorf("%+v", k)
	}
}

func all(set map[uint64]bool, from, till uint64) bool {
	for ; from < till; from++ {
		if !set[from] {
			return false
		}
	}
	return true
}
