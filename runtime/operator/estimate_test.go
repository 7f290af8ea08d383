package operator

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// numbers are rows of whole numbers below most, drawn so that small ones are frequent if skewed.
func numbers(r *rand.Rand, n, most int, skewed bool) (rows []kept) {
	for range n {
		v := r.IntN(most)
		if skewed {
			v = int(float64(most) * math.Pow(r.Float64(), 4))
		}
		rows = append(rows, kept{0, event.Number, fmt.Append(nil, v)})
	}
	return rows
}

// grouped takes the rows into accumulators at random, saves and loads some of these, and merges them.
func grouped(t *testing.T, r *rand.Rand, a *Aggregate, rows []kept) accumulator {
	parts := make([][]kept, 1+r.IntN(5))
	for _, k := range rows {
		i := r.IntN(len(parts))
		parts[i] = append(parts[i], k)
	}
	whole := accumulator{}
	for _, part := range parts {
		x, _ := aggregated(a, part)
		if r.IntN(2) == 0 {
			x = reloaded(t, a, &x)
		}
		a.merge(&whole, &x)
		if r.IntN(2) == 0 {
			whole = reloaded(t, a, &whole)
		}
	}
	return whole
}

func reloaded(t *testing.T, a *Aggregate, x *accumulator) (again accumulator) {
	r := event.Reader{B: a.save(nil, x)}
	if a.load(&r, &again); !r.Done() {
		t.Fatalf("function %d: what was saved does not load", a.Func)
	}
	return again
}

func shownBy(a *Aggregate, x *accumulator) string {
	v, _ := a.value(x, nil)
	return string(v.Text)
}

// Up to its limit a count of different values is exact, and beyond it within a few standard errors, the same however rows were
// grouped, merged and saved.
func TestDistinct(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	a := &Aggregate{Func: Distinct}
	for _, n := range []int{1, 100, DistinctMax - 1, DistinctMax, DistinctMax + 1, 15_000, 60_000, 400_000} {
		if n > 100_000 && testing.Short() {
			continue
		}
		var rows []kept
		for i := range n {
			rows = append(rows, kept{0, event.Number, fmt.Append(nil, i)})
		}
		rows = append(rows, rows[:min(n, 3000)]...)
		x, cut := aggregated(a, rows)
		got := x.distinct.count()
		if exact := n <= DistinctMax; cut || x.estimate() == exact || exact && got != int64(n) || math.Abs(float64(got)/float64(n)-1) > 4*0.0081 {
			t.Errorf("%d values: %d, estimate %v", n, got, x.estimate())
		}
		for range 3 {
			r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
			if x := grouped(t, r, a, rows); x.distinct.count() != got {
				t.Errorf("seed %d: %d values: in groups %d, together %d", seed, n, x.distinct.count(), got)
			}
		}
	}
}

// Values of any length are known apart, and take bounded memory.
func TestDistinctLongValues(t *testing.T) {
	long := make([]byte, 10_000)
	var rows []kept
	for i := range 300 {
		long[i*7] = 'x'
		rows = append(rows, kept{0, event.String, slices.Clone(long[:20+30*i])})
	}
	a := &Aggregate{Func: Distinct}
	x, _ := aggregated(a, append(rows, rows...))
	if n := x.distinct.count(); n != 300 {
		t.Errorf("%d of 300 long values", n)
	}
	if n := len(a.save(nil, &x)); n > 300*(knownMax+2) {
		t.Errorf("%d bytes", n)
	}
	if x = reloaded(t, a, &x); x.distinct.count() != 300 {
		t.Error("after loading they are others")
	}
}

// What the sketch says of few values is right too: merged sketches of old states may hold them.
func TestEstimate(t *testing.T) {
	for _, n := range []int{0, 1, 2, 10, 1000, 8000} {
		var d distinct
		d.toSketch()
		for i := range n {
			d.put(fmt.Append(nil, i))
		}
		if got := float64(d.count()); math.Abs(got-float64(n)) > 1+0.03*float64(n) {
			t.Errorf("%d values: %v", n, got)
		}
	}
}

type listed struct {
	Value        any
	Count, Error int64
}

// While there are few different values a top_k is exact, however they come; beyond, no count is too high, none too low by more than
// it says, nothing more frequent than that is missing, and what it says is at most a five-hundredth of the rows.
func TestTopK(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	wrong := 0
	for n := range 40 {
		most := 20 + r.IntN(TopExact-20)
		if n%2 > 0 {
			most = 2_000 + r.IntN(30_000)
		}
		rows := numbers(r, 20_000, most, r.IntN(4) > 0)
		exact := map[string]int64{}
		for _, k := range rows {
			exact[string(k.text)]++
		}
		a := &Aggregate{Func: TopK, Max: 1 + r.IntN(30)}
		x := grouped(t, r, a, rows)
		var list []listed
		if err := json.Unmarshal([]byte(shownBy(a, &x)), &list); err != nil {
			t.Fatal(err)
		}
		if few := len(exact) <= TopExact; few != !x.estimate() || x.top.lost > int64(len(rows))/500 || len(list) != min(a.Max, len(exact)) && few {
			t.Fatalf("seed %d: %d different values of %d rows: error %d, %d listed", seed, len(exact), len(rows), x.top.lost, len(list))
		}
		least := int64(0)
		for i, l := range list {
			key := fmt.Sprint(l.Value)
			if n := exact[key]; l.Count > n || l.Count+l.Error < n || l.Error != x.top.lost || i > 0 && l.Count > list[i-1].Count {
				t.Fatalf("seed %d: %s came %d times: %+v", seed, key, n, l)
			}
			delete(exact, key)
			least = l.Count
		}
		for key, n := range exact {
			if len(list) == a.Max && n > least+x.top.lost || len(list) < a.Max && n > x.top.lost {
				t.Fatalf("seed %d: %s came %d times and is not listed beside %+v", seed, key, n, list)
			}
		}
		if x.estimate() {
			wrong++
		}
	}
	if wrong < 10 {
		t.Errorf("%d of 40 were estimates", wrong)
	}
}

// A top_k holds as many bytes of values as it may: long values crowd it, and too long ones are left out.
func TestTopKBytes(t *testing.T) {
	a := &Aggregate{Func: TopK, Max: 3}
	var rows []kept
	for i := range 2_000 {
		text := fmt.Appendf(make([]byte, 0, 1000), "%0900d", i%200)
		if i%2 == 0 {
			text = []byte("often")
		}
		rows = append(rows, kept{0, event.String, text})
	}
	x, cut := aggregated(a, rows)
	var list []listed
	if err := json.Unmarshal([]byte(shownBy(a, &x)), &list); err != nil || list[0].Value != "often" || list[0].Count+list[0].Error < 1000 || cut || !x.estimate() || x.top.bytes > TopBytes {
		t.Errorf("%+v, %d bytes, %v", list, x.top.bytes, err)
	}
	if _, cut := aggregated(a, []kept{{0, event.String, make([]byte, TopValue)}}); !cut {
		t.Error("a value may be too long")
	}
}

// A percentile is within 1 % of the number at its place, of any sign and size, and the same however rows were grouped.
func TestPercentile(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		n := 1 + r.IntN(2000)
		scale, negative := math.Pow(10, 24*r.Float64()-12), r.IntN(3)
		var rows []kept
		var all []float64
		for range n {
			v := scale * math.Exp(8*r.NormFloat64()/(1+float64(r.IntN(8))))
			if negative == 1 && r.IntN(2) == 0 {
				v = -v
			}
			if r.IntN(10) == 0 {
				v = 0
			}
			all = append(all, v)
			rows = append(rows, kept{0, event.Number, fmt.Append(nil, v)})
		}
		slices.Sort(all)
		a := &Aggregate{Func: Percentile, P: []float64{0, 0.01, 0.5, 0.95, 0.999, 1}[r.IntN(6)]}
		whole, cut := aggregated(a, rows)
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		parted := grouped(t, r, a, rows)
		var got float64
		if err := json.Unmarshal([]byte(shownBy(a, &whole)), &got); err != nil {
			t.Fatal(err)
		}
		want := all[int(a.P*float64(n-1))]
		if math.Abs(got-want) > 0.01*math.Abs(want)*(1+1e-9) || cut {
			t.Fatalf("seed %d: %v of %d numbers is %v, want %v (%v)", seed, a.P, n, got, want, cut)
		}
		if shownBy(a, &parted) != shownBy(a, &whole) {
			t.Fatalf("seed %d: in groups %s, together %s", seed, shownBy(a, &parted), shownBy(a, &whole))
		}
		if p := a.P; (p == 0 || p == 1) && got != want {
			t.Fatalf("seed %d: the least and greatest are exact: %v, want %v", seed, got, want)
		}
	}
}

// Numbers of sizes further apart than the bins reach: the small ones lose their accuracy, the row is marked, and neither depends on
// their order.
func TestPercentileLimit(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	var rows []kept
	for i := range 400 {
		text := fmt.Sprintf("%de%d", 1+i%9, i%200-100)
		if i%3 == 0 {
			text = "-" + text
		}
		rows = append(rows, kept{0, event.Number, []byte(text)})
	}
	a := &Aggregate{Func: Percentile, P: 0.9}
	whole, cut := aggregated(a, rows)
	q := whole.quantiles
	if !cut || len(q.above) > binsMax || len(q.below) > binsMax || q.above[len(q.above)-1].index-q.above[0].index >= binsMax {
		t.Fatalf("cut %v, %d and %d bins", cut, len(q.below), len(q.above))
	}
	for range 20 {
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		x := grouped(t, r, a, rows)
		if _, cut := aggregated(a, rows); !cut || !slices.Equal(x.quantiles.above, q.above) || !slices.Equal(x.quantiles.below, q.below) {
			t.Fatalf("seed %d: other bins in another order, or not marked", seed)
		}
	}
}
