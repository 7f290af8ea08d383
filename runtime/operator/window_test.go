package operator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// randomScript draws a window of any kind and rows for it; restarts are marked by lines of their own.
func randomScript(r *rand.Rand) (lines []string) {
	kind := []string{"tumbling size=7s", "tumbling size=7s first", "hopping size=10s slide=4s", "hopping size=10s slide=4s first", "hopping size=6s slide=1s offset=500ms",
		"cumulate size=12s step=3s", "cumulate size=12s step=3s first", "session gap=3s", "session gap=3s first", "session gap=3s max_duration=7s", "session gap=3s max_duration=7s first",
		"count size=5 slide=5", "count size=6 slide=4", "count size=4 slide=1 emit_partial"}[r.IntN(14)]
	if !strings.HasPrefix(kind, "count") && r.IntN(2) == 0 {
		kind += fmt.Sprintf(" allowed_lateness=%dms", 500*(1+r.IntN(16)))
	}
	lines = append(lines, "window "+kind, "aggregate count, sum v, min v, max v, avg v, count_distinct v, first v, last v, collect v 4, top_k v 3, percentile v 0.9")
	if r.IntN(3) == 0 {
		lines[1] = "aggregate count" // no accumulators
	}
	if strings.Contains(kind, "first") {
		lines = append(lines, "having {n|gte: 3}")
	}
	lines = append(lines, fmt.Sprintf("delay %ds", r.IntN(9)))
	now := int64(0)
	for range 60 + r.IntN(60) {
		now += r.Int64N(1500)
		line := fmt.Sprintf("%s %c", span(now-r.Int64N(9000)), 'a'+r.IntN(3))
		if v := r.IntN(8); v > 0 {
			line += fmt.Sprint(" v=", []string{"1", "2", "2.5", "text", "-3", "9223372036854775807", "1e400"}[v-1])
		}
		lines = append(lines, line)
		if r.IntN(8) == 0 {
			lines = append(lines, "restart")
		}
	}
	return append(lines, "end")
}

// A state that was saved and loaded goes on as if nothing had been, for every kind of window.
func TestWindowsGoOn(t *testing.T) {
	const seed = 11
	r := rand.New(rand.NewPCG(seed, 1))
	said, revised, merged := map[string]int{}, 0, 0
	for n := range 600 {
		lines := randomScript(r)
		undisturbed := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l == "restart" })
		want := playScript(strings.Join(undisturbed, "\n"))
		got := strings.ReplaceAll(playScript(strings.Join(lines, "\n")), "restart\n", "")
		if got != want {
			t.Fatalf("seed %d, script %d: with restarts it says\n%s\nand without\n%s", seed, n, got, want)
		}
		said[strings.Fields(lines[0])[1]] += strings.Count(want, "\n  [")
		revised += strings.Count(want, "#1\n")
		merged += strings.Count(want, " merged into ")
	}
	if revised == 0 || merged == 0 {
		t.Errorf("%d rows were revised, %d merged", revised, merged)
	}
	if len(said) != 5 || slices.Contains([]int{said["tumbling"], said["hopping"], said["cumulate"], said["session"], said["count"]}, 0) {
		t.Errorf("rows by kind: %v", said)
	}
}

// Of rows that were made of events, a window knows the first and last of these.
func TestWindowsKnowTheirEvents(t *testing.T) {
	for _, kind := range []WindowKind{Tumbling, Hopping, Cumulate, Session, Counting} {
		fields := &event.Fields{}
		n := fields.Add("n")
		w := &Window{Kind: kind, Size: 2, Slide: 1, Gap: 2, Aggregates: []Aggregate{{Name: n, Func: Count, All: true}}}
		w.Init(fields)
		var p *player
		switch kind {
		case Session:
			p = newPlayer(w.Sessions(), fields, w.Columns)
		case Counting:
			p = newPlayer(w.Counts(), fields, w.Columns)
		default:
			p = newPlayer(w.Logic(), fields, w.Columns)
		}
		b := event.NewBatch(fields, nil)
		p.row(&In{TS: 100, First: 40, Last: 100, W: NegInf, Batch: b})
		p.restart()
		p.row(&In{TS: 101, First: 70, Last: 130, W: NegInf, Batch: b})
		p.fire(PosInf)
		if i := slices.IndexFunc(p.c.Out, func(r Result) bool { return r.First == 40 && r.Last == 130 }); i < 0 {
			t.Errorf("%v: no row of the events from 40 to 130: %+v", kind, p.c.Out)
		}
	}
}

// A row costs the same however many windows it is in; only their closing does not.
func BenchmarkWindowRow(b *testing.B) {
	for _, x := range []struct {
		name string
		w    Window
	}{{"tumbling", Window{Size: 60_000}}, {"tumbling late", Window{Size: 60_000, Lateness: 600_000}}, {"hopping 6", Window{Kind: Hopping, Size: 60_000, Slide: 10_000}}, {"hopping 600", Window{Kind: Hopping, Size: 6_000_000, Slide: 10_000}}} {
		b.Run(x.name, func(b *testing.B) {
			fields := &event.Fields{}
			x.w.Aggregates = []Aggregate{{Name: fields.Add("n"), Func: Count, All: true}}
			x.w.Init(fields)
			logic := x.w.Logic()
			c := &Context{Batch: event.NewBatch(fields, x.w.Columns), Due: NegInf}
			in := &In{W: NegInf, Batch: event.NewBatch(fields, nil)}
			var s WindowState
			for i := range b.N {
				in.TS = int64(i) % 60_000
				in.First, in.Last = in.TS, in.TS
				logic.Row(c, &s, in)
				_ = logic.Next(&s)
			}
		})
	}
}

// Load takes any bytes, and what it takes can go on.
func FuzzLoadWindow(f *testing.F) {
	fields := &event.Fields{}
	v := fields.Add("v")
	var aggregates []Aggregate
	for fn := Count; fn <= Percentile; fn++ {
		aggregates = append(aggregates, Aggregate{Name: fields.Add(fmt.Sprint("a", fn)), Func: fn, Field: v, Max: 3, P: 0.5})
	}
	rows := event.NewBatch(fields, []event.Field{v})
	rows.AppendRow(event.Value{Kind: event.Number, Text: []byte("7")})
	in := &In{TS: 100, First: 100, Last: 100, W: 50, Batch: rows}
	window := func(w Window) *Window {
		w.Aggregates = aggregates
		w.Init(fields)
		return &w
	}
	aligned := []*Window{window(Window{Size: 20}), window(Window{Kind: Hopping, Size: 20, Slide: 8}), window(Window{Kind: Cumulate, Size: 20, Slide: 5}), window(Window{Kind: Hopping, Size: 20, Slide: 5, First: true}),
		window(Window{Size: 20, Lateness: 30}), window(Window{Kind: Cumulate, Size: 20, Slide: 5, Lateness: 7}), window(Window{Size: 20, Lateness: 30, First: true})}
	session, count := window(Window{Kind: Session, Gap: 10, MaxDuration: 30}), window(Window{Kind: Counting, Size: 4, Slide: 2})
	late := window(Window{Kind: Session, Gap: 10, Lateness: 40})
	c := &Context{Batch: event.NewBatch(fields, late.Columns), Due: NegInf}
	for _, w := range aligned {
		seedOf(f, w.Logic(), c, in)
	}
	seedOf(f, session.Sessions(), c, in)
	seedOf(f, late.Sessions(), c, in)
	seedOf(f, count.Counts(), c, in)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, w := range aligned {
			loaded(t, w.Logic(), c, in, b)
		}
		loaded(t, session.Sessions(), c, in, b)
		loaded(t, late.Sessions(), c, in, b)
		loaded(t, count.Counts(), c, in, b)
	})
}

func seedOf[S any](f *testing.F, logic Logic[S], c *Context, in *In) {
	var s S
	logic.Row(c, &s, in)
	f.Add(logic.Save(nil, &s, true))
}

// loaded goes on with what was loaded: what is saved loads again, and rows and firings end.
func loaded[S any](t *testing.T, logic Logic[S], c *Context, in *In, b []byte) {
	var s, again S
	if logic.Load(&s, b) != nil {
		if logic.Next(&s) != Never {
			t.Fatal("a damaged state waits for something")
		}
		return
	}
	if err := logic.Load(&again, logic.Save(nil, &s, true)); err != nil {
		t.Fatalf("what was saved does not load: %v", err)
	}
	if logic.Next(&s) != logic.Next(&again) {
		t.Fatalf("due %d became %d", logic.Next(&s), logic.Next(&again))
	}
	logic.Row(c, &s, in)
	for range 100 {
		if due := logic.Next(&s); due < PosInf {
			logic.Fire(c, &s, due)
		}
	}
	c.Out = c.Out[:0]
	c.Batch.Reset()
}
