package operator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// First seen from outside: the countries that a user logs in from, each new again after a day.
func ExampleFirstSeen() {
	fields := &event.Fields{}
	user, country := fields.Add("user"), fields.Add("country")
	o := &FirstSeen{Ident: Ident{"example", "countries", "first_seen/1"}, Keys: []event.Field{user}, Values: []event.Field{country}, History: 24 * 3_600_000}
	o.Init()
	logic := o.Logic()

	rows := event.NewBatch(fields, []event.Field{user, country})
	c := &Context{Due: NegInf}
	states := map[string]*SeenState{} // the engine's part: a state for each user and country
	for i, hour := range []int64{0, 1, 24, 49} {
		rows.AppendRow(event.Value{Kind: event.String, Text: []byte("chen")}, event.Value{Kind: event.String, Text: []byte("NL")})
		var key []byte
		for _, f := range o.Terms() {
			key = event.AppendKey(key, rows.Value(f, i))
		}
		if states[string(key)] == nil {
			states[string(key)] = &SeenState{}
		}
		logic.Row(c, states[string(key)], &In{TS: hour * 3_600_000, W: NegInf, Batch: rows, Row: int32(i), Key: key})
	}
	for _, r := range c.Out {
		fmt.Println("new in hour", r.TS/3_600_000, "is row", r.Row)
	}
	// Output:
	// new in hour 0 is row 0
	// new in hour 49 is row 3
}

type seenRow struct{ ts, w int64 }

// seenTimes says which rows of one value are new; forget is called before each row.
func seenTimes(o *FirstSeen, rows []seenRow, forget func(s *SeenState, w int64)) (fresh []int) {
	logic := o.Logic()
	c := &Context{Due: NegInf}
	var s SeenState
	for i, x := range rows {
		forget(&s, x.w)
		logic.Row(c, &s, &In{TS: x.ts, W: x.w, Idx: int32(i), Key: event.AppendKey(nil, event.Value{Kind: event.String, Text: []byte("x")})})
	}
	for _, r := range c.Out {
		fresh = append(fresh, int(r.Idx))
	}
	return fresh
}

// Whether what is due has been cleaned up never shows; and to rows on time forgetting does not show either: they are new
// if their time is History after the newest before, whenever that was.
func TestForgettingNeverShows(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for n := range 2000 {
		o := &FirstSeen{History: 1 + r.Int64N(20)}
		late := int64(n%2) * 30
		var rows []seenRow
		w := int64(0)
		for range 30 {
			w += max(0, r.Int64N(12)-4)
			rows = append(rows, seenRow{w + r.Int64N(10) - r.Int64N(late+1), w})
		}
		kept := seenTimes(o, rows, func(*SeenState, int64) {})
		cleaned := seenTimes(o, rows, func(s *SeenState, w int64) {
			if o.Next(s) <= w {
				o.Fire(nil, s, o.Next(s))
			}
		})
		if !slices.Equal(kept, cleaned) {
			t.Fatalf("history %d, %v: new are %v, cleaned up %v", o.History, rows, kept, cleaned)
		}
		if late > 0 {
			continue
		}
		var want []int
		newest := int64(NegInf)
		for i, x := range rows {
			if newest == NegInf || x.ts-newest >= o.History {
				want = append(want, i)
			}
			newest = max(newest, x.ts)
		}
		if !slices.Equal(kept, want) {
			t.Fatalf("history %d, %v: new are %v, want %v", o.History, rows, kept, want)
		}
	}
}

// Rows in the order of arrival, and which of them are new.
func TestFirstSeenLateRows(t *testing.T) {
	const history = 100
	for _, x := range []struct {
		name    string
		history int64
		rows    []seenRow
		want    []int
	}{
		{"at history it is new, before it is not", history, []seenRow{{0, NegInf}, {99, NegInf}, {199, NegInf}, {298, NegInf}}, []int{0, 2}},
		{"older than what is known is not new", history, []seenRow{{0, 0}, {-500, 0}, {99, 0}}, []int{0}},
		{"a flood of late rows is new once", history, []seenRow{{0, 1000}, {1, 1000}, {0, 1099}, {2, 1150}}, []int{0}},
		{"a late row after its value was forgotten is new", history, []seenRow{{0, 0}, {50, 100}}, []int{0, 1}},
		{"for ever is for ever", 0, []seenRow{{0, 0}, {1e15, 1e15}, {-1e15, 1e15}}, []int{0}},
		{"the end forgets nothing", history, []seenRow{{0, 0}, {99, PosInf}, {150, PosInf}, {250, PosInf}}, []int{0, 3}},
	} {
		if got := seenTimes(&FirstSeen{History: x.history}, x.rows, func(*SeenState, int64) {}); !slices.Equal(got, x.want) {
			t.Errorf("%s: new are %v, want %v", x.name, got, x.want)
		}
	}
}

// What the warm-up brings is known after it.
func TestFirstSeenLearns(t *testing.T) {
	o := &FirstSeen{}
	c := &Context{Due: NegInf}
	var s SeenState
	for i, silent := range []bool{true, true, false} {
		if o.Row(c, &s, &In{TS: int64(i), W: NegInf, Silent: silent}); len(c.Out) > 0 {
			t.Fatalf("row %d is said", i)
		}
	}
}

// A state is its record, a few bytes.
func TestSeenStateRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	c := &Context{Due: NegInf}
	for range 1000 {
		o := &FirstSeen{History: r.Int64N(3) * 86_400_000}
		var s, again SeenState
		w := 1_772_000_000_000 + r.Int64N(1e9)
		for range 1 + r.IntN(5) {
			w += r.Int64N(1e8)
			o.Row(c, &s, &In{TS: w + r.Int64N(1e9) - r.Int64N(1e9), W: w, Silent: true})
		}
		rec := o.Save(nil, &s, r.IntN(2) == 0)
		if err := o.Load(&again, rec); err != nil || again != s || len(rec) > 12 {
			t.Fatalf("%+v became %+v by %d bytes, %v", s, again, len(rec), err)
		}
	}
}

// Load takes any bytes.
func FuzzLoadSeen(f *testing.F) {
	f.Add([]byte{1}, int64(0))
	f.Add([]byte{2, 3}, int64(100))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}, int64(1))
	f.Fuzz(func(t *testing.T, b []byte, history int64) {
		o := &FirstSeen{History: max(0, history%(4000*86_400_000))}
		var s, again SeenState
		if o.Load(&s, b) != nil {
			if s != (SeenState{}) {
				t.Fatalf("damaged, it is %+v", s)
			}
			return
		}
		if due := o.Next(&s); due == Never || o.History > 0 && due < s.newest+o.History {
			t.Fatalf("%+v is due at %d", s, due)
		}
		if err := o.Load(&again, o.Save(nil, &s, true)); err != nil || again != s {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	})
}
