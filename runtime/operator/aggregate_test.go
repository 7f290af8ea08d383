package operator

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// aggregated takes rows of one field into accumulators, a part of the rows each, and merges them.
func aggregated(a *Aggregate, parts ...[]kept) (x accumulator, cut bool) {
	for i, part := range parts {
		fields := &event.Fields{}
		b := event.NewBatch(fields, []event.Field{fields.Add("v")})
		var y accumulator
		for row, k := range part {
			b.AppendRow(event.Value{Kind: k.kind, Text: k.text})
			cut = a.add(&y, &In{TS: k.ts, Batch: b, Row: int32(row)}) || cut
		}
		if i == 0 {
			x = y
		} else {
			cut = a.merge(&x, &y) || cut
		}
	}
	return x, cut
}

// Rows that were counted apart and merged are as good as rows that were counted together, wherever they were cut.
func TestAggregatesMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	values := []kept{{kind: event.Null}, {kind: event.Number, text: []byte("7")}, {kind: event.Number, text: []byte("-2")}, {kind: event.Number, text: []byte("0.5")}, {kind: event.Number, text: []byte("1e300")},
		{kind: event.Number, text: []byte("9223372036854775807")}, {kind: event.String, text: []byte("12")}, {kind: event.String, text: []byte("a \"b\"")}, {kind: event.Bool, text: []byte("true")},
		{kind: event.Object, text: []byte(`{"a":1}`)}, {kind: event.String, text: []byte(strings.Repeat("x", CollectBytes+1))}}
	for f := Count; f <= Percentile; f++ {
		for range 300 {
			a := &Aggregate{Func: f, Max: 1 + r.IntN(6), P: r.Float64()}
			rows := make([]kept, r.IntN(12))
			for i := range rows {
				rows[i] = values[r.IntN(len(values))]
				if f == Sum || f == Avg {
					rows[i] = values[r.IntN(3)] // of floats the order of adding shows
				}
				rows[i].ts = r.Int64N(9)
			}
			i, j := r.IntN(len(rows)+1), r.IntN(len(rows)+1)
			i, j = min(i, j), max(i, j)
			whole, cut := aggregated(a, rows)
			merged, mergedCut := aggregated(a, rows[:i], rows[i:j], rows[j:])
			want, _ := a.value(&whole, nil)
			got, _ := a.value(&merged, nil)
			if want.Kind != got.Kind || string(want.Text) != string(got.Text) || cut != mergedCut {
				t.Fatalf("function %d of %v, cut at %d and %d: %s (%v), together %s (%v)", f, rows, i, j, got.Text, mergedCut, want.Text, cut)
			}
		}
	}
}

// Of first, last and collect the time decides, and of equal times the arrival.
func TestAggregatesByTime(t *testing.T) {
	row := func(ts int64, text string) kept { return kept{ts, event.String, []byte(text)} }
	rows := []kept{row(5, "a"), row(3, "b"), {1, event.Null, nil}, row(3, "c"), row(9, "d"), row(9, "e"), {10, event.Absent, nil}, row(4, "f")}
	for _, x := range []struct {
		a    Aggregate
		want string
		cut  bool
	}{{Aggregate{Func: First}, "b", false}, {Aggregate{Func: Last}, "e", false}, {Aggregate{Func: Collect, Max: 6}, `["b","c","f","a","d","e"]`, false}, {Aggregate{Func: Collect, Max: 3}, `["b","c","f"]`, true}} {
		acc, cut := aggregated(&x.a, rows)
		if got, _ := x.a.value(&acc, nil); string(got.Text) != x.want || cut != x.cut {
			t.Errorf("function %d: %s (%v), want %s (%v)", x.a.Func, got.Text, cut, x.want, x.cut)
		}
	}
	empty := accumulator{}
	for f, want := range map[Func]string{First: "null ", Last: "null ", Collect: "array []", TopK: "array []", Percentile: "null ", Distinct: "number 0"} {
		if got, _ := (&Aggregate{Func: f}).value(&empty, nil); fmt.Sprint(got.Kind, " ", string(got.Text)) != want {
			t.Errorf("function %d of nothing is %s %s", f, got.Kind, got.Text)
		}
	}
}

// A sum that leaves int64 becomes a float.
func TestSumsThatOverflow(t *testing.T) {
	most := []kept{{0, event.Number, []byte("9223372036854775807")}}
	for _, parts := range [][][]kept{{slices.Concat(most, most)}, {most, most}, {most, most, nil}} {
		s := &Aggregate{Func: Sum}
		acc, _ := aggregated(s, parts...)
		if got, _ := s.value(&acc, nil); string(got.Text) != "1.8446744073709552e+19" {
			t.Errorf("the sum is %s", got.Text)
		}
	}
}

// Numbers are what they are by math/big, however long and however written: the least, the greatest, how many different ones, and
// the sum of integers, while it fits int64.
func TestAggregatesAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 11))
	spellings := []string{"0", "-0", "-0.0", "0e9", "1", "1.0", "10e-1", "9007199254740992", "9007199254740993", "9007199254740993.0", "9007199254740993.5", "-9007199254740993",
		"9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "1e300", "1e308", "10e307", "1e400", "1e401", "-1e400", "1e-400", "0.1", "0.10", "0.1000000000000000055511151231257827"}
	cell := func(a *Aggregate, rows []kept) event.Value {
		acc, _ := aggregated(a, rows)
		v, _ := a.value(&acc, nil)
		return v
	}
	rat := func(s []byte) *big.Rat {
		x, ok := new(big.Rat).SetString(string(s))
		if !ok {
			t.Fatalf("%s is no number", s)
		}
		return x
	}
	for range 2000 {
		var rows []kept
		var texts []string
		different := map[string]bool{}
		var low, high *big.Rat
		sum, scale, whole, beyond := new(big.Rat), 0.0, true, false
		for range 1 + r.IntN(6) {
			text := []byte(spellings[r.IntN(len(spellings))])
			rows, texts = append(rows, kept{kind: event.Number, text: text}), append(texts, string(text))
			x := rat(text)
			if different[x.String()] = true; low == nil || x.Cmp(low) < 0 {
				low = x
			}
			if high == nil || x.Cmp(high) > 0 {
				high = x
			}
			f, _ := x.Float64()
			scale += math.Abs(f)
			beyond = beyond || math.IsInf(f, 0)
			_, err := strconv.ParseInt(string(text), 10, 64)
			sum.Add(sum, x)
			whole = whole && err == nil && sum.IsInt() && sum.Num().IsInt64()
		}
		for f, want := range map[Func]*big.Rat{Min: low, Max: high, Distinct: new(big.Rat).SetInt64(int64(len(different)))} {
			if got := cell(&Aggregate{Func: f}, rows); rat(got.Text).Cmp(want) != 0 {
				t.Fatalf("function %d of %v: %s, want %s", f, texts, got.Text, want)
			}
		}
		got := cell(&Aggregate{Func: Sum}, rows)
		switch about, _ := sum.Float64(); {
		case beyond || math.IsInf(about, 0):
			if got.Kind != event.Null {
				t.Fatalf("the sum of %v is %s, and no float64 can hold it", texts, got.Text)
			}
		case whole && rat(got.Text).Cmp(sum) != 0:
			t.Fatalf("the sum of %v is %s, want %s", texts, got.Text, sum.Num())
		case got.Kind == event.Number:
			if f, _ := rat(got.Text).Float64(); math.Abs(f-about) > 1e-12*scale {
				t.Fatalf("the sum of %v is %s, want about %g", texts, got.Text, about)
			}
		default:
			t.Fatalf("the sum of %v is %s", texts, got.Kind)
		}
	}
}
