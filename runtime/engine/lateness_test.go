package engine

import (
	"math/rand/v2"
	"testing"

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
		if o.first = r.IntN(5) == 0; o.first {
			o.having = max(o.having, 1)
		}
		reader := refOp{name: "reader", inputs: []int{1}, key: "k", size: 1 + r.Int64N(20)}
		ops := []refOp{o, reader}
		evs := []refEvent{{mark: event.Announce}}
		now := int64(0)
		for i := range 20 + r.IntN(60) {
			now += r.Int64N(6)
			row := refRow{ts: now, id: event.EventID([8]byte{}, int64(i)), cells: map[string]refCell{"k": randomKey(r, 2), "v": {event.Number, string(rune('0' + r.IntN(5)))}}}
			if r.IntN(2) == 0 {
				row.ts -= r.Int64N(2 * (o.lateness + o.size))
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
	if len(revised) != 4 || merged == 0 || first == 0 {
		t.Error("the cases do not cover revisions of every kind, sessions that merge and emit: first")
	}
}
