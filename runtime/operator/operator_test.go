package operator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// A tumbling window from outside: rows go in, a window closes, one row comes out.
func ExampleWindow() {
	fields := &event.Fields{}
	ip, n := fields.Add("source_ip"), fields.Add("attempts")
	fields.Add("window_start")
	fields.Add("window_end")
	w := &Window{Ident: Ident{"example", "attempts", "tumbling/1"}, Size: 20_000, Keys: []event.Field{ip}, Aggregates: []Aggregate{{Name: n, Func: Count, All: true}}}
	w.Init(fields)
	logic := w.Logic()

	rows := event.NewBatch(fields, []event.Field{ip})
	c := &Context{Batch: event.NewBatch(fields, w.Columns), Due: NegInf}
	var s WindowState
	for i, ts := range []int64{1_000, 19_999, 20_000} {
		rows.AppendRow(event.Value{Kind: event.String, Text: []byte("10.0.0.1")})
		logic.Row(c, &s, &In{TS: ts, W: NegInf, Batch: rows, Row: int32(i), Key: event.AppendKey(nil, rows.Value(ip, i))})
	}
	c.By = string(event.AppendKey(nil, rows.Value(ip, 0)))
	logic.Fire(c, &s, logic.Next(&s))
	for _, f := range w.Columns {
		fmt.Printf("%s=%s\n", fields.Path(f), c.Batch.Value(f, 0).Text)
	}
	// Output:
	// source_ip=10.0.0.1
	// window_start=1970-01-01T00:00:00.000Z
	// window_end=1970-01-01T00:00:20.000Z
	// attempts=2
}

func TestStartFloors(t *testing.T) {
	for _, x := range []struct{ ts, size, offset, want int64 }{{0, 20, 0, 0}, {19, 20, 0, 0}, {20, 20, 0, 20}, {-1, 20, 0, -20}, {-20, 20, 0, -20}, {7, 5, 3, 3}, {2, 5, 3, -2}, {0, 5, -1, -1}} {
		if got := (&Window{Size: x.size, Offset: x.offset}).Start(x.ts); got != x.want {
			t.Errorf("%+v: got %d", x, got)
		}
	}
}

// Sums are exact as long as they are integers that fit int64, and float64 after.
func TestAggregates(t *testing.T) {
	for _, x := range []struct {
		f      Func
		values []string
		want   string
	}{
		{Sum, []string{"1", "2", "3"}, "6"}, {Sum, []string{"9007199254740993", "1"}, "9007199254740994"},
		{Sum, []string{"9223372036854775807", "1"}, "9.223372036854776e+18"}, {Sum, []string{"0.5", "1"}, "1.5"}, {Sum, nil, "0"},
		{Avg, []string{"1", "2"}, "1.5"}, {Avg, nil, ""}, {Min, []string{"3", "-1", "10"}, "-1"}, {Max, []string{"3", "-1", "10"}, "10"},
		{Max, []string{"9007199254740993", "9007199254740992"}, "9007199254740993"}, {Distinct, []string{"1", "1.0", "2"}, "2"}, {Count, []string{"1", "1"}, "2"},
	} {
		fields := &event.Fields{}
		v := fields.Add("v")
		b := event.NewBatch(fields, []event.Field{v})
		a := Aggregate{Func: x.f, Field: v}
		var acc accumulator
		for i, text := range x.values {
			b.AppendRow(event.Value{Kind: event.Number, Text: []byte(text)})
			a.add(&acc, &In{Batch: b, Row: int32(i)})
		}
		if got, _ := a.value(&acc, nil); string(got.Text) != x.want {
			t.Errorf("%d of %v: got %q, want %q", x.f, x.values, got.Text, x.want)
		}
		var again accumulator
		r := event.Reader{B: a.save(nil, &acc)}
		if a.load(&r, &again); !r.Done() {
			t.Errorf("%d of %v: what was saved does not load", x.f, x.values)
		}
		if got, _ := a.value(&again, nil); string(got.Text) != x.want {
			t.Errorf("%d of %v: loaded, it is %q", x.f, x.values, got.Text)
		}
	}
}

func testJoin() (*Join, *event.Fields) {
	fields := &event.Fields{}
	k, v := fields.Add("k"), fields.Add("v")
	j := &Join{On: [2][]event.Field{{k}, {k}}, Lower: -100, Upper: 100, RowsMax: 5, MatchesMax: 5,
		Outputs: []Output{{Name: fields.Add("a"), Side: 0, Field: v}, {Name: fields.Add("b"), Side: 1, Field: v}}}
	fields.Add("truncated")
	j.Init(fields)
	return j, fields
}

// Added records, one after the other, make the state that a whole record makes.
func TestJoinSavesAddedRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	j, fields := testJoin()
	logic := j.Logic()
	v := fields.Add("v")
	rows := event.NewBatch(fields, []event.Field{v})
	c := &Context{Batch: event.NewBatch(fields, j.Columns), Due: NegInf}
	var s, replayed JoinState
	w := int64(0)
	for i := range 500 {
		rows.AppendRow(event.Value{Kind: event.Number, Text: fmt.Append(nil, i)})
		w += r.Int64N(20)
		logic.Row(c, &s, &In{TS: w + r.Int64N(60) - 10, W: w, Name: Named(event.ID{byte(i), byte(i >> 8)}), Batch: rows, Row: int32(i), Input: uint8(r.IntN(2))})
		if i%7 == 0 {
			if err := logic.Load(&replayed, logic.Save(nil, &s, false)); err != nil {
				t.Fatal(err)
			}
			logic.(*intervalJoin).trim(nil, &replayed, w)
			if a, b := string(logic.Save(nil, &s, true)), string(logic.Save(nil, &replayed, true)); a != b {
				t.Fatalf("row %d: replayed, the state is another", i)
			}
		}
	}
}

// A full key drops its oldest row, or refuses the new one, or stops the run; the first two say how many, and a row that
// may miss a partner because of it is marked until what was dropped would have died.
func TestJoinPolicies(t *testing.T) {
	for _, x := range []struct {
		policy Policy
		pairs  []string // of the right row that comes after seven left ones, of which five fit
		stops  bool
	}{{KeepNewest, []string{"2", "3", "4", "5", "6"}, false}, {KeepOldest, []string{"0", "1", "2", "3", "4"}, false}, {Stop, nil, true}} {
		j, fields := testJoin()
		j.Policy = x.policy
		logic := j.Logic()
		v := fields.Add("v")
		rows := event.NewBatch(fields, []event.Field{v})
		c := &Context{Batch: event.NewBatch(fields, j.Columns), Due: NegInf}
		var s JoinState
		for i := range 8 {
			rows.AppendRow(event.Value{Kind: event.Number, Text: fmt.Append(nil, i)})
			logic.Row(c, &s, &In{TS: int64(i), W: NegInf, Name: Named(event.ID{byte(i)}), Batch: rows, Row: int32(i), Input: uint8(i / 7)})
			if (c.Err != nil) != (x.stops && i >= 5) {
				t.Fatalf("policy %d, row %d: %v", x.policy, i, c.Err)
			}
			if c.Err != nil {
				break
			}
		}
		if x.stops {
			continue
		}
		var got []string
		for i := range c.Batch.Rows {
			got = append(got, string(c.Batch.Value(j.Columns[0], i).Text))
			if string(c.Batch.Value(fields.Add("truncated"), i).Text) != "true" {
				t.Errorf("policy %d: pair %d is not marked", x.policy, i)
			}
		}
		if !slices.Equal(got, x.pairs) || c.Counts.RowsCapped != 2 {
			t.Errorf("policy %d: pairs with %v, %d rows capped", x.policy, got, c.Counts.RowsCapped)
		}
	}
}

// Load takes any bytes.
func FuzzLoad(f *testing.F) {
	j, fields := testJoin()
	w := &Window{Size: 10, Keys: []event.Field{fields.Add("k")}, Aggregates: []Aggregate{{Name: fields.Add("a"), Func: Min}, {Name: fields.Add("b"), Func: Distinct}, {Name: fields.Add("c"), Func: Avg}}}
	fields.Add("window_start")
	fields.Add("window_end")
	w.Init(fields)
	f.Add([]byte{1, 20, 2, 1, 3, 0})
	f.Add([]byte{recordAdded, 0, 2, 4})
	f.Add([]byte{recordWhole, 0, 0, 0, 0, 0, 0})
	jl, wl := j.Logic(), w.Logic()
	f.Fuzz(func(t *testing.T, b []byte) {
		var js JoinState
		if jl.Load(&js, b) == nil {
			_ = jl.Save(nil, &js, true)
			_ = jl.Next(&js)
		}
		var ws WindowState
		if wl.Load(&ws, b) == nil {
			_ = wl.Save(nil, &ws, true)
			_ = wl.Next(&ws)
		}
	})
}
