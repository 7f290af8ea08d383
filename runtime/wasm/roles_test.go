package wasm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

const roles = "../../abi/testdata/roles/"

// A filter passes the rows that Go says it should, whatever the size of batches, and in fresh instances.
func TestFilter(t *testing.T) {
	m := load(t, file(t, roles+"above.wasm"), Options{})
	r := rand.New(rand.NewPCG(seed, 21))
	for _, n := range []int{1, 7, 8, 9, 4096, 9001} {
		var cells [][]any
		var want []uint32
		for i := range n {
			v := r.IntN(100)
			switch {
			case r.IntN(9) == 0:
				cells = append(cells, []any{nil})
				continue
			case v > 40:
				want = append(want, uint32(i))
			}
			cells = append(cells, []any{v})
		}
		rows, fields := table(m.paths(), cells)
		for _, fresh := range []bool{false, true} {
			p := plugin(t, m, `{"least":40}`, fields)
			p.Fresh = fresh
			hits, poison, judged, err := p.Detect(nil, rows)
			var got []uint32
			for _, h := range hits {
				got = append(got, h.Row)
			}
			if err != nil || len(poison) > 0 || judged != n || !slices.Equal(got, want) {
				t.Fatalf("seed %d: %d rows: %d pass, not %d; %v, %v", seed, n, len(got), len(want), poison, err)
			}
		}
	}
}

// A map writes of each row what Go says it should, also where it has to ask for more room, or for half the rows.
func TestMap(t *testing.T) {
	m := load(t, file(t, roles+"length.wasm"), Options{})
	r := rand.New(rand.NewPCG(seed, 22))
	for _, longest := range []int{10, 300, 3000} {
		var cells [][]any
		var want [][3]string
		for range 5000 {
			text, number := strings.Repeat("é", r.IntN(longest)), r.IntN(2000)-1000
			line, w := []any{text, number}, [3]string{strconv.Itoa(len(text)), strconv.Itoa(2 * number), fmt.Sprint(len(text), ":", text)}
			if r.IntN(8) == 0 {
				line[0], w[0], w[2] = nil, "null", "null"
			}
			if r.IntN(8) == 0 {
				line[1], w[1] = nil, "null"
			}
			cells, want = append(cells, line), append(want, w)
		}
		rows, fields := table(m.paths(), cells)
		p := plugin(t, m, "{}", fields)
		for range 2 { // the second time over what was written the first time
			hits, poison, judged, err := p.Detect(nil, rows)
			if err != nil || len(poison) > 0 || judged != len(rows) || len(hits) != len(rows) {
				t.Fatalf("seed %d, to %d: %d hits, %v, %v", seed, longest, len(hits), poison, err)
			}
			for i, h := range hits {
				for c, w := range want[i] {
					v := p.Wrote(int(h.Rule), c)
					got := string(v.Text)
					if v.Kind == event.Null {
						got = "null"
					}
					if int(h.Row) != i || got != w {
						t.Fatalf("seed %d, row %d, column %d: %.60q, not %.60q", seed, i, c, got, w)
					}
				}
			}
		}
	}
}

// weighted is what the guest of that name keeps of numbers, nil being null.
func weighted(numbers []any) string {
	sum, last, values := 0, 0, 0
	for i, v := range numbers {
		if n, ok := v.(int); ok {
			sum, last = sum+(i+1)*n, n
			values++
		}
	}
	if values == 0 {
		return "null"
	}
	return strconv.Itoa(1000*sum + last)
}

// values finishes states.
func values(t *testing.T, p *Plugin, states [][]byte) []string {
	out := make([]string, len(states))
	p.Finish(states, func(i int, v event.Value) {
		if out[i] = string(v.Text); v.Kind == event.Null {
			out[i] = "null"
		}
	}, func(i int, err error, _ bool) { t.Fatalf("seed %d: state %d: %v", seed, i, err) })
	return out
}

// An aggregate over random groups, in calls of any size, whose states are merged in any way that keeps their order.
func TestAggregate(t *testing.T) {
	m := load(t, file(t, roles+"weighted.wasm"), Options{})
	r := rand.New(rand.NewPCG(seed, 23))
	for range 30 {
		groups, parts := 1+r.IntN(500), 1+r.IntN(6)
		all := make([][]any, groups)
		var merged [][]byte
		p := plugin(t, m, "{}", []event.Field{0})
		p.Fresh = r.IntN(2) == 0
		for part := range parts {
			var states [][]byte
			var cells [][]any
			var of []uint32
			place := map[int]uint32{}
			order := []int{}
			for range r.IntN(5000) {
				g := r.IntN(groups)
				if _, ok := place[g]; !ok {
					place[g] = uint32(len(order))
					order = append(order, g)
					states = append(states, make([]byte, 40))
				}
				var v any
				if r.IntN(7) > 0 {
					v = r.IntN(50) - 20
				}
				all[g] = append(all[g], v)
				cells, of = append(cells, []any{v}), append(of, place[g])
			}
			rows, _ := table(m.paths(), cells)
			p.Update(states, of, rows, func(row int, err error, _ bool) { t.Fatalf("seed %d: row %d: %v", seed, row, err) })
			if part == 0 {
				for range groups {
					merged = append(merged, make([]byte, 40))
				}
			}
			var dst, src [][]byte
			for i, g := range order {
				dst, src = append(dst, merged[g]), append(src, states[i])
			}
			p.Merge(dst, src, func(i int, err error, _ bool) { t.Fatalf("seed %d: pair %d: %v", seed, i, err) })
		}
		for g, got := range values(t, p, merged) {
			if want := weighted(all[g]); got != want {
				t.Fatalf("seed %d: group %d of %d: %s, not %s", seed, g, groups, got, want)
			}
		}
	}
}

// Rows that an aggregate fails on alone are found by halving, and leave their states as they were; so do values.
func TestAggregatePoison(t *testing.T) {
	m := load(t, file(t, roles+"weighted.wasm"), Options{})
	r := rand.New(rand.NewPCG(seed, 24))
	for range 20 {
		states := [][]byte{make([]byte, 40), make([]byte, 40), make([]byte, 40)}
		all := make([][]any, len(states))
		var cells [][]any
		var of []uint32
		var want, got []int
		for i := range 1 + r.IntN(300) {
			g, v := r.IntN(len(states)), r.IntN(40)
			if v == 0 && len(want) < 5 {
				want = append(want, i)
				v = -5
			} else {
				all[g] = append(all[g], v)
			}
			cells, of = append(cells, []any{v}), append(of, uint32(g))
		}
		rows, fields := table(m.paths(), cells)
		p := plugin(t, m, `{"least":0,"most":2000}`, fields)
		p.Update(states, of, rows, func(row int, err error, off bool) {
			if got = append(got, row); off || !strings.Contains(err.Error(), "unreachable") {
				t.Errorf("row %d: %v, %v", row, err, off)
			}
		})
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: rows %v failed, not %v", seed, got, want)
		}
		failed := map[int]bool{}
		text := make([]string, len(states))
		p.Finish(states, func(i int, v event.Value) {
			if text[i] = string(v.Text); v.Kind == event.Null {
				text[i] = "null"
			}
		}, func(i int, _ error, _ bool) { failed[i] = true })
		for g := range states {
			sum := 0
			for _, v := range all[g] {
				sum += v.(int)
			}
			if failed[g] != (sum > 2000) || sum <= 2000 && text[g] != weighted(all[g]) {
				t.Fatalf("seed %d: group %d (sum %d): failed %v, %s, not %s", seed, g, sum, failed[g], text[g], weighted(all[g]))
			}
		}
	}
}

// An aggregate that fails and fails is switched off for blocks, and comes back.
func TestAggregateBreaker(t *testing.T) {
	m := load(t, file(t, roles+"weighted.wasm"), Options{})
	bad, fields := table(m.paths(), slices.Repeat([][]any{{-1}}, 1000))
	fine, _ := table(m.paths(), slices.Repeat([][]any{{1}}, 1000))
	p := plugin(t, m, `{"least":0}`, fields)
	state := [][]byte{make([]byte, 40)}
	of := make([]uint32, 1000)
	block := func(rows []Row) (poison, off int) {
		p.Update(state, of, rows, func(_ int, err error, skipped bool) {
			if poison++; skipped {
				poison--
				off++
			}
		})
		p.Settle()
		return poison, off
	}
	if poison, off := block(bad); poison == 0 || poison > 64 || poison+off != 1000 || p.Counts.Failures != failuresMax {
		t.Fatalf("%d poison, %d off, %d failures", poison, off, p.Counts.Failures)
	}
	for i, want := range []int{1000, 0, 0} { // one block off, then it is well
		if poison, off := block(fine); poison > 0 || off != want {
			t.Errorf("block %d: %d poison, %d off, not %d", i, poison, off, want)
		}
	}
	if got := values(t, p, state)[0]; got != weighted(slices.Repeat([]any{1}, 2000)) {
		t.Errorf("the value is %s", got)
	}
}
