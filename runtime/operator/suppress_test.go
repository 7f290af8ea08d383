package operator

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// A state is its record, and any bytes are a state or an error.
func FuzzLoadAlerts(f *testing.F) {
	s := newAlertScript(strings.Fields("group gap=1m span=1h events=3"))
	logic := (&Suppress{Gap: 60_000, Span: 3_600_000, Events: 3, Fields: s.cells[:1]}).Logic(s.reader())
	hold := (&Suppress{For: 60_000, Events: 3, Fields: s.cells[:1]}).Logic(s.reader())
	for _, l := range []Logic[AlertState]{logic, hold} {
		var state AlertState
		b := event.NewBatch(s.fields, s.cells)
		for i := range 5 {
			b.AppendRow(cellOf("a"), cellOf(strconv.Itoa(i)), cellOf(strconv.Itoa(i)), event.Value{}, event.Value{})
			ts := int64(1_772_000_000_000 + 50_000*i)
			l.Row(&Context{Batch: event.NewBatch(s.fields, s.cells[:1]), Due: NegInf}, &state, &In{TS: ts, First: ts, Last: ts + 1, W: ts - 5, Batch: b, Row: int32(i), Name: Named(event.ID{byte(i)})})
		}
		rec := l.Save(nil, &state, true)
		f.Add(rec, l == hold)
		var again AlertState
		if err := l.Load(&again, rec); err != nil || !reflect.DeepEqual(again, state) {
			f.Fatalf("%+v became %+v, %v", state, again, err)
		}
	}
	f.Fuzz(func(t *testing.T, rec []byte, holds bool) {
		l := logic
		if holds {
			l = hold
		}
		var state, again AlertState
		if l.Load(&state, rec) != nil {
			if len(state.open) > 0 {
				t.Fatalf("damaged, it is %+v", state)
			}
			return
		}
		if err := l.Load(&again, l.Save(nil, &state, true)); err != nil || len(again.open) != len(state.open) || l.Next(&again) != l.Next(&state) {
			t.Fatalf("%+v became %+v, %v", state, again, err)
		}
		c := &Context{Batch: event.NewBatch(s.fields, s.cells[:1])}
		for due := l.Next(&state); due < Never; due = l.Next(&state) {
			n := len(state.open)
			if l.Fire(c, &state, due); l.Next(&state) <= due && len(state.open) == n {
				t.Fatalf("it is due at %d for ever: %+v", due, state)
			}
		}
	})
}

// riskCase is a Risk and random alerts of an entity.
type riskCase struct {
	o      *Risk
	script *alertScript
	alerts []Raised
	times  []int64
}

func newRiskCase(r *rand.Rand) *riskCase {
	x := &riskCase{script: newAlertScript([]string{"risk"}), o: &Risk{Ident: Ident{"p", "o", "risk/1"}, HalfLife: 1 + r.Int64N(1000), Threshold: 1e9, Keep: 1 + r.IntN(5)}}
	x.o.Init(x.script.fields)
	at := 1_772_000_000_000 + r.Int64N(1000)
	for i := range 1 + r.IntN(40) {
		at += r.Int64N(x.o.HalfLife) - x.o.HalfLife/4
		x.times = append(x.times, at)
		x.alerts = append(x.alerts, Raised{ID: event.ID{byte(i)}, Rule: strconv.Itoa(r.IntN(4)), Score: 1 + r.IntN(100)})
	}
	return x
}

// play gives the alerts in an order to a state.
func (x *riskCase) play(order []int) (s RiskState) {
	now := 0
	l := x.o.Logic(func(*In) Raised { return x.alerts[now] })
	for _, now = range order {
		l.Row(&Context{Due: NegInf}, &s, &In{TS: x.times[now], First: x.times[now], Last: x.times[now], W: NegInf, Name: Named(x.alerts[now].ID)})
	}
	return s
}

// The score is the sum of what is left of each alert, whatever the order in which they came; and so are the alerts that are shown.
func TestRiskIsASum(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for n := range 2000 {
		x := newRiskCase(r)
		newest := slices.Max(x.times)
		want := 0.0
		for i, a := range x.alerts {
			want += float64(a.Score) * math.Pow(2, -float64(newest-x.times[i])/float64(x.o.HalfLife))
		}
		inOrder := make([]int, len(x.alerts))
		for i := range inOrder {
			inOrder[i] = i
		}
		var shown []contribution
		for round := range 4 {
			s := x.play(inOrder)
			if got := s.score(); math.Abs(got-want) > 4*riskLeast+1e-9*want || s.at != newest { // parts below riskLeast are gone
				t.Fatalf("seed %d, case %d, order %v: %v at %d, want %v at %d", seed, n, inOrder, got, s.at, want, newest)
			}
			kept := slices.DeleteFunc(slices.Clone(s.kept), func(k contribution) bool {
				return float64(k.score)*math.Exp2(-float64(newest-k.ts)/float64(x.o.HalfLife)) < riskLeast
			})
			if round == 0 {
				shown = kept
			} else if !reflect.DeepEqual(shown, kept) {
				t.Fatalf("seed %d, case %d, order %v: %v are shown, not %v", seed, n, inOrder, kept, shown)
			}
			r.Shuffle(len(inOrder), func(i, j int) { inOrder[i], inOrder[j] = inOrder[j], inOrder[i] })
		}
	}
}

// Whether what is over was cleaned up never shows.
func TestForgettingRiskNeverShows(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	forgotten := 0
	for range 500 {
		x := newRiskCase(r)
		x.o.HalfLife, x.o.Threshold = 1+r.Int64N(5), 30+r.Float64()
		var rows [2][]Result
		for clean := range 2 {
			now, w := 0, int64(NegInf)
			l := x.o.Logic(func(*In) Raised { return x.alerts[now] })
			c := &Context{Due: NegInf, Batch: event.NewBatch(x.script.fields, x.o.Columns)}
			var s RiskState
			steps := rand.New(rand.NewPCG(seed, uint64(len(x.alerts))))
			for now = range x.alerts {
				if clean == 1 && l.Next(&s) <= w {
					l.Fire(c, &s, l.Next(&s))
					forgotten++
				}
				key := event.AppendKey(event.AppendKey(nil, cellOf("user")), cellOf("anna"))
				l.Row(c, &s, &In{TS: x.times[now], First: x.times[now], Last: x.times[now], W: w, Name: Named(x.alerts[now].ID), Key: key})
				w = max(w, x.times[now]+steps.Int64N(200))
			}
			rows[clean] = c.Out
			for i := range rows[clean] {
				rows[clean][i].Batch = nil
			}
		}
		if !reflect.DeepEqual(rows[0], rows[1]) {
			t.Fatalf("seed %d: %v, cleaned up %v", seed, rows[0], rows[1])
		}
	}
	if forgotten == 0 {
		t.Error("nothing was forgotten")
	}
}

// Load takes any bytes.
func FuzzLoadRisk(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5 {
		x := newRiskCase(r)
		order := r.Perm(len(x.alerts))
		s := x.play(order)
		s.above, s.saidAt = true, s.at-5
		l := x.o.Logic(nil)
		rec := l.Save(nil, &s, true)
		f.Add(rec)
		var again RiskState
		if err := l.Load(&again, rec); err != nil || !bytes.Equal(l.Save(nil, &again, true), rec) || again.score() != s.score() || l.Next(&again) != l.Next(&s) {
			f.Fatalf("%+v became %+v, %v", s, again, err)
		}
	}
	fields := &event.Fields{}
	o := &Risk{HalfLife: 1000, Threshold: 10, Keep: 3}
	o.Init(fields)
	l := o.Logic(func(*In) Raised { return Raised{Score: 5, Rule: "x"} })
	f.Fuzz(func(t *testing.T, rec []byte) {
		var s, again RiskState
		if l.Load(&s, rec) != nil {
			if !reflect.DeepEqual(s, RiskState{}) {
				t.Fatalf("damaged, it is %+v", s)
			}
			return
		}
		if err := l.Load(&again, l.Save(nil, &s, true)); err != nil || l.Next(&again) != l.Next(&s) {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
		l.Row(&Context{Due: NegInf, Batch: event.NewBatch(fields, o.Columns)}, &s, &In{TS: s.at, W: NegInf})
	})
}

// A long title is cut at a character.
func TestCutText(t *testing.T) {
	for text, want := range map[string]string{"": "", "short": "short", "12345678": "12345678", "123456789": "12345678…", "1234567é": "1234567…", "ééééé": "éééé…"} {
		if got := string(cutText([]byte(text), 8)); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
