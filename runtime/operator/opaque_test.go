package operator

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// listing is a Provider whose states are the v of their rows in order, as text of 64 bytes. A row with v = bad fails, and so do
// merges that join an x before a y, and values of more than so many letters.
type listing struct {
	v       event.Field
	longest int
	calls   int
	rows    int // of the largest call
}

func (l *listing) Fields() []event.Field  { return []event.Field{l.v} }
func (l *listing) StateSize() int         { return 64 }
func (l *listing) Open() Function         { return l }
func (l *listing) Settle(c *Counts) error { return nil }
func (l *listing) Close()                 {}

func text(state []byte) string { return strings.TrimRight(string(state), "\x00") }

func (l *listing) Update(states [][]byte, groups []uint32, rows []*In, failed func(row int, f Failure)) {
	l.calls++
	l.rows = max(l.rows, len(rows))
	for i, in := range rows {
		v := string(in.Value(l.v).Text)
		if v == "bad" {
			failed(i, Failure{"plugin_failed", "it is bad"})
			continue
		}
		s := states[groups[i]]
		copy(s[len(text(s)):], v)
	}
}

func (l *listing) Merge(dst, src [][]byte, failed func(pair int, f Failure)) {
	l.calls++
	for i := range dst {
		if strings.HasSuffix(text(dst[i]), "x") && strings.HasPrefix(text(src[i]), "y") {
			failed(i, Failure{"plugin_failed", "x before y"})
			continue
		}
		copy(dst[i][len(text(dst[i])):], text(src[i]))
	}
}

func (l *listing) Finish(states [][]byte, value func(i int, v event.Value), failed func(i int, f Failure)) {
	l.calls++
	for i, s := range states {
		if t := text(s); l.longest > 0 && len(t) > l.longest {
			failed(i, Failure{"plugin_failed", "it is too long"})
		} else {
			value(i, event.Value{Kind: event.String, Text: []byte(t)})
		}
	}
}

// opaqueWindow is a window with a listing in it, and a batch for its rows.
func opaqueWindow(w Window, l *listing) (*Window, *Context, func(v string) *In) {
	f := &event.Fields{}
	l.v = f.Add("v")
	w.Aggregates = []Aggregate{{Name: f.Add("list"), Func: Opaque, Provider: l}}
	w.Ident = Ident{"p", "o", w.Kind.Form()}
	w.Init(f)
	rows := event.NewBatch(f, []event.Field{l.v})
	idx := int32(-1)
	return &w, &Context{Batch: event.NewBatch(f, w.Columns), Due: NegInf}, func(v string) *In {
		rows.AppendRow(event.Value{Kind: event.String, Text: []byte(v)})
		idx++
		return &In{Batch: rows, Row: int32(rows.Rows - 1), Idx: idx, P: int64(idx), W: NegInf}
	}
}

// opaqueSaid is what the results of a context say: the list, and what failed.
func opaqueSaid(c *Context) (all []string) {
	for _, r := range c.Out {
		switch {
		case r.Kind == Failed && r.Own:
			all = append(all, "own "+r.Why)
		case r.Kind == Failed:
			all = append(all, fmt.Sprintf("row %d %s: %s", r.Idx, r.Reason, r.Why))
		default:
			v := r.Batch.Cols[2].Data
			ends := r.Batch.Cols[2].Ends
			t := string(v[ends[r.Row]:ends[r.Row+1]])
			if r.Batch.Cols[2].Kinds[r.Row] == event.Null {
				t = "null"
			}
			all = append(all, t)
		}
	}
	return all
}

// Rows wait until somebody asks: a block of rows is one call, and so are the values at the end, however the windows are made.
func TestOpaqueWaits(t *testing.T) {
	for _, w := range []Window{{Kind: Tumbling, Size: 100}, {Kind: Hopping, Size: 100, Slide: 10}} {
		l := &listing{}
		o, c, row := opaqueWindow(w, l)
		logic := o.Logic()
		states := make([]WindowState, 50)
		for k := range 500 {
			in := row(string(rune('a' + k%7)))
			in.TS = int64(k / 50)
			logic.Row(c, &states[k%50], in)
		}
		if l.calls != 0 {
			t.Fatalf("%s: %d calls before anybody asked", w.Kind, l.calls)
		}
		logic.(Settling).Settle(c)
		if l.calls != 1 || l.rows != 500 || len(c.Out) > 0 {
			t.Fatalf("%s: %d calls for the block, of %d rows at most", w.Kind, l.calls, l.rows)
		}
	}
}

// Windows of many slices are merged in the order of time, and their slices stay as they were; the number of calls is that of
// rounds in which neighbours become one.
func TestOpaqueSlices(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		l := &listing{}
		n := 1 + r.Int64N(30)
		o, c, row := opaqueWindow(Window{Kind: Hopping, Size: n, Slide: 1}, l)
		logic := o.Logic()
		var s WindowState
		var rows []*In
		for range 1 + r.IntN(40) {
			in := row(string(rune('a' + r.IntN(20))))
			in.TS = r.Int64N(30)
			rows = append(rows, in)
			if logic.Row(c, &s, in); r.IntN(20) == 0 {
				logic.(Settling).Settle(c)
			}
		}
		slices.SortStableFunc(rows, func(a, b *In) int { return compare(a.TS, b.TS) })
		for due := logic.Next(&s); due < Never; due = logic.Next(&s) {
			want, parts := "", map[int64]bool{}
			for _, in := range rows {
				if in.TS >= due-n && in.TS < due {
					want += string(in.Value(l.v).Text)
					parts[in.TS] = true
				}
			}
			before := len(c.Out)
			if l.calls = 0; r.IntN(4) == 0 {
				var again WindowState
				if err := logic.Load(&again, logic.Save(nil, &s, true)); err != nil {
					t.Fatal(err)
				}
				s = again
			}
			logic.Fire(c, &s, due)
			rounds := 0
			for left := len(parts); left > 1; left = (left + 1) / 2 {
				rounds++
			}
			if got := opaqueSaid(c)[before:]; !slices.Equal(got, []string{want}) || l.calls > rounds+2 {
				t.Fatalf("seed %d: until %d of size %d: %q, not %q, in %d calls of %d parts", seed, due, n, got, want, l.calls, len(parts))
			}
		}
	}
}

// A merge that fails leaves no value, which is an error row when the window is said, also after a restart; rows that failed are error rows
// at their places, once for all aggregates.
func TestOpaqueFailures(t *testing.T) {
	l := &listing{longest: 5}
	o, c, row := opaqueWindow(Window{Kind: Session, Gap: 10}, l)
	o.Aggregates = append(o.Aggregates, o.Aggregates[0])
	logic := o.Sessions()
	var s SessionState
	at := func(v string, ts int64) {
		in := row(v)
		in.TS = ts
		logic.Row(c, &s, in)
	}
	at("x", 0)
	at("y", 15)
	at("bad", 2)
	at("m", 8) // makes one session of two
	var again SessionState
	if err := logic.Load(&again, logic.Save(nil, &s, true)); err != nil {
		t.Fatal(err)
	}
	logic.Fire(c, &again, logic.Next(&again))
	at2 := func(v string, ts int64) {
		in := row(v)
		in.TS = ts
		logic.Row(c, &again, in)
	}
	at2("toolong", 100)
	logic.Fire(c, &again, logic.Next(&again))
	logic.(Settling).Settle(c)
	want := []string{"null", "own list: x before y", "null", "own list: it is too long", "row 2 plugin_failed: it is bad"}
	if got := opaqueSaid(c); !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// A window that is no row because an aggregate failed is an error row; one that is none anyway is not.
func TestOpaqueHaving(t *testing.T) {
	for having, want := range map[string][]string{"{list: a}": {"own list: it is too long"}, "{window_start: x}": nil, "{list: null}": {"null", "own list: it is too long"}} {
		l := &listing{longest: 1}
		o, c, row := opaqueWindow(Window{Kind: Tumbling, Size: 10}, l)
		s := script{fields: &event.Fields{}, having: having}
		s.fields.Add("v")
		s.fields.Add("list")
		s.w = Window{Kind: Tumbling, Size: 10, Aggregates: o.Aggregates}
		s.start()
		o.Having = s.w.Having
		o.index = s.w.index
		logic := o.Logic()
		var state WindowState
		logic.Row(c, &state, row("ab"))
		logic.Fire(c, &state, 10)
		if got := opaqueSaid(c); !slices.Equal(got, want) {
			t.Errorf("%s: %q, not %q", having, got, want)
		}
	}
}

// Records of windows with states of others: any bytes end in a state or an error.
func FuzzOpaqueLoad(f *testing.F) {
	o, c, row := opaqueWindow(Window{Kind: Hopping, Size: 10, Slide: 3}, &listing{})
	logic := o.Logic()
	var s WindowState
	for i := range 5 {
		in := row("abc")
		in.TS = int64(i * 2)
		logic.Row(c, &s, in)
	}
	f.Add(logic.Save(nil, &s, true))
	f.Add(append(binary.AppendUvarint(nil, 1), opaqueLost, 0, 0))
	f.Fuzz(func(t *testing.T, rec []byte) {
		var s WindowState
		if logic.Load(&s, rec) != nil {
			return
		}
		again := logic.Save(nil, &s, true)
		var twice WindowState
		if err := logic.Load(&twice, again); err != nil {
			t.Fatalf("%x became %x: %v", rec, again, err)
		}
	})
}
