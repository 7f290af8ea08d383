package operator

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// joinPlayer runs a join over keys as the engine does, one row at a time, and keeps records as a disk does.
type joinPlayer struct {
	j      *Join
	fields *event.Fields
	keys   joinKeys
	c      *Context
	w      int64    // the watermark,
	in     [2]int64 // and those of the inputs, if they are told apart
	delay  int64
	n      int // rows that came
	late   int // of them too late
}

// joinKeys is the states of keys, of whatever kind.
type joinKeys interface {
	row(c *Context, in *In)
	fire(c *Context, w int64)
	save(whole bool)
	restart(w int64)
	records() [][]byte
	try(t *testing.T, c *Context, in *In, rec []byte)
}

type joinStates[S any] struct {
	logic   Logic[S]
	spares  func(s *S) bool
	states  map[string]*S
	touched map[string]bool
	disk    map[string][][]byte
}

func newJoinStates[S any](logic Logic[S]) joinKeys {
	k := &joinStates[S]{logic: logic, spares: func(*S) bool { return false }, states: map[string]*S{}, touched: map[string]bool{}, disk: map[string][][]byte{}}
	if x, ok := logic.(Sparing[S]); ok {
		k.spares = x.Spares
	}
	return k
}

func newJoinPlayer(j Join, where string) *joinPlayer {
	fields := &event.Fields{}
	v := fields.Add("v")
	j.Ident = Ident{"script", "join", j.Kind.Form()}
	j.Outputs = []Output{{Name: fields.Add("a"), Side: 0, Field: v}, {Name: fields.Add("b"), Side: 1, Field: v}}
	for _, name := range []string{"key", "matches", "truncated", "window_start", "window_end"} {
		fields.Add(name)
	}
	if j.Kind == AsOf {
		j.Deleted = compiled(fields, "{v: [gone, 9]}")
	}
	if where != "" {
		j.Where, j.Pair = compiled(fields, where), []Output{{Name: fields.Add("lv"), Side: 0, Field: v}, {Name: fields.Add("rv"), Side: 1, Field: v}}
	}
	j.RowsMax, j.MatchesMax = max(j.RowsMax, 1), max(j.MatchesMax, 1)
	j.Init(fields)
	p := &joinPlayer{j: &j, fields: fields, c: &Context{Batch: event.NewBatch(fields, j.Columns), Due: NegInf}, w: NegInf, in: [2]int64{NegInf, NegInf}, delay: Never}
	switch j.Kind {
	case Windowed:
		p.keys = newJoinStates(j.Windows())
	case AsOf:
		p.keys = newJoinStates(j.Versions())
	default:
		p.keys = newJoinStates(j.Logic())
	}
	return p
}

func compiled(fields *event.Fields, condition string) *match.Condition {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(condition), &n); err != nil {
		panic(err)
	}
	c, problems := match.Compile(n.Content[0], func(path string) (event.Field, error) { return fields.Add(path), nil })
	if len(problems) > 0 {
		panic(problems)
	}
	return c
}

// row lets a row come; a key "null" is none.
func (p *joinPlayer) row(side uint8, ts int64, key, v string) {
	b := event.NewBatch(p.fields, []event.Field{p.fields.Add("v")})
	b.AppendRow(cellOf(v))
	in := &In{TS: ts, First: ts, Last: ts, W: p.w, Name: Named(event.ID{byte(p.n >> 8), byte(p.n)}), Batch: b, Input: side, Key: event.AppendKey(nil, cellOf(key))}
	p.n++
	if key == "null" {
		if in.Lone = p.j.Lone(side); !in.Lone {
			return
		}
	}
	p.keys.row(p.c, in)
	if p.delay != Never {
		p.fire(max(p.w, ts-p.delay))
	}
}

func (p *joinPlayer) fire(w int64) {
	p.keys.fire(p.c, w)
	p.w = w
}

func (p *joinPlayer) restart() { p.keys.restart(p.w) }

func (k *joinStates[S]) row(c *Context, in *In) {
	if k.states[string(in.Key)] == nil {
		k.states[string(in.Key)] = new(S)
	}
	k.touched[string(in.Key)] = true
	k.logic.Row(c, k.states[string(in.Key)], in)
}

func (k *joinStates[S]) fire(c *Context, w int64) {
	for w < PosInf || k.logic.Flushes() {
		due, by := int64(Never), ""
		for _, key := range slices.Sorted(maps.Keys(k.states)) {
			s := k.states[key]
			if next := k.logic.Next(s); next < due && (w < PosInf || !k.spares(s)) {
				due, by = next, key
			}
		}
		if due > w {
			return
		}
		c.Due, c.By, c.W = due, by, w
		k.touched[by] = true
		k.logic.Fire(c, k.states[by], due)
		c.Due, c.By = NegInf, ""
	}
}

// save writes what an epoch does, and what a consolidation does if that is asked for.
func (k *joinStates[S]) save(whole bool) {
	for key := range k.touched {
		if s := k.states[key]; k.logic.Next(s) == Never {
			k.logic.Clear(s)
			delete(k.disk, key)
		} else {
			k.disk[key] = append(k.disk[key], k.logic.Save(nil, s, false))
		}
	}
	clear(k.touched)
	for key := range k.disk {
		if whole {
			k.disk[key] = [][]byte{k.logic.Save(nil, k.states[key], true)}
		}
	}
}

// restart reads what the last save wrote.
func (k *joinStates[S]) restart(w int64) {
	clear(k.states)
	for key, recs := range k.disk {
		s := new(S)
		for _, rec := range recs {
			if err := k.logic.Load(s, rec); err != nil {
				panic(err)
			}
		}
		for due := k.logic.Next(s); due <= w && (!k.logic.Flushes() || k.spares(s)); due = k.logic.Next(s) {
			k.logic.Fire(&Context{}, s, due)
		}
		k.states[key] = s
	}
}

func (k *joinStates[S]) records() (recs [][]byte) {
	for _, s := range k.states {
		recs = append(recs, k.logic.Save(nil, s, true), k.logic.Save(nil, s, false))
	}
	return recs
}

// try loads any bytes and goes on with them to the end of the input.
func (k *joinStates[S]) try(t *testing.T, c *Context, in *In, rec []byte) {
	loaded(t, k.logic, c, in, rec)
	var s S
	if k.logic.Load(&s, rec) != nil {
		return
	}
	c.W = PosInf
	for due := k.logic.Next(&s); due < Never && k.logic.Flushes() && !k.spares(&s); due = k.logic.Next(&s) {
		k.logic.Fire(c, &s, due)
	}
	c.Out, c.W = c.Out[:0], 0
	c.Batch.Reset()
}

// said returns what was said since the last call, as "left right", with the number of partners and marks.
func (p *joinPlayer) said() (out []string) {
	for _, r := range p.c.Out {
		if r.Kind == Late {
			p.late++
			out = append(out, "late "+string(r.Batch.Value(p.fields.Add("v"), int(r.Row)).Text))
			continue
		}
		text := ""
		for _, f := range p.j.Columns {
			switch v := r.Batch.Value(f, int(r.Row)); {
			case v.Kind == event.Absent:
			case v.Kind == event.Null:
				text += " null"
			case p.fields.Path(f) == "truncated":
				text += " truncated"
			case strings.HasPrefix(p.fields.Path(f), "window_"):
				text += map[string]string{"window_start": " [", "window_end": ", "}[p.fields.Path(f)] + clockText(string(v.Text)) + map[string]string{"window_end": ")"}[p.fields.Path(f)]
			default:
				text += " " + string(v.Text)
			}
		}
		out = append(out, text[1:])
	}
	p.c.Out = p.c.Out[:0]
	p.c.Batch.Reset()
	return out
}

// randomJoins draws joins of every type, with and without caps and a condition.
func randomJoins(r *rand.Rand, n int) (Join, string) {
	j := Join{RowsMax: 100, MatchesMax: 100}
	switch j.Kind = JoinKind(max(r.IntN(6)-2, 0)); j.Kind {
	case Interval:
		j.Lower = r.Int64N(40) - 30
		j.Upper = j.Lower + r.Int64N(40)
	case Regular:
		j.TTL = r.Int64N(40)
		j.Lower, j.Upper = -j.TTL, j.TTL
	case Windowed:
		j.Window = &Window{Kind: WindowKind(r.IntN(3)), Slide: 1 + r.Int64N(30)}
		if j.Window.Size = j.Window.Slide * (1 + r.Int64N(3)); j.Window.Kind == Hopping {
			j.Window.Size += r.Int64N(10)
		}
	case AsOf:
		if n %= 2; r.IntN(2) == 0 {
			j.TTL = r.Int64N(60)
		}
	}
	switch n %= 10; {
	case n < 6:
		j.Type = JoinType(n)
	default:
		j.Type, j.Matches = JoinType(n%2), FirstMatch+Matches(n/2%2)
	}
	if r.IntN(2) == 0 {
		j.RowsMax, j.MatchesMax, j.Policy = 1+r.IntN(4), 1+r.IntN(3), Policy(r.IntN(2))
	}
	if r.IntN(3) == 0 {
		return j, "{lv|gte: 3, rv|lte: 7}"
	}
	return j, ""
}

// A join that is stopped and goes on from what was saved, added records or whole ones, says what one in memory says: about
// rows that had met somebody, that had died, that caps dropped, and that the end of the input let out.
func TestJoinsGoOn(t *testing.T) {
	const seed = 5
	r := rand.New(rand.NewPCG(seed, 1))
	rows := 0
	for n := range 1500 {
		j, where := randomJoins(r, n)
		calm, stopped := newJoinPlayer(j, where), newJoinPlayer(j, where)
		var log []string
		both := func(what string, do func(p *joinPlayer)) {
			log = append(log, what)
			do(calm)
			do(stopped)
			a, b := calm.said(), stopped.said()
			if rows += len(a); !slices.Equal(a, b) {
				t.Fatalf("seed %d, case %d, %s join, type %d, matches %d:\n%s\nstopped, it says\n%s\nand else\n%s", seed, n, j.Kind, j.Type, j.Matches, strings.Join(log, "\n"), strings.Join(b, "\n"), strings.Join(a, "\n"))
			}
		}
		w := int64(0)
		for range 120 {
			side, ts, key, v := uint8(r.IntN(2)), w+r.Int64N(60)-25, []string{"a", "a", "b", "null"}[r.IntN(4)], strconv.Itoa(r.IntN(10))
			both(fmt.Sprint(side, ts, key, v), func(p *joinPlayer) { p.row(side, ts, key, v) })
			if r.IntN(2) == 0 {
				w += r.Int64N(12)
				both(fmt.Sprint("wm ", w), func(p *joinPlayer) { p.fire(w) })
			}
			if r.IntN(50) == 0 {
				both("end", func(p *joinPlayer) { p.fire(PosInf); p.w = w })
				stopped.keys.save(false) // only another run goes on after the end
				stopped.restart()
			}
			if k := r.IntN(8); k < 3 {
				log = append(log, fmt.Sprint("save ", k))
				if stopped.keys.save(k == 0); k < 2 {
					stopped.restart()
				}
			}
		}
		both("end", func(p *joinPlayer) { p.fire(PosInf) })
	}
	if rows < 20_000 {
		t.Errorf("%d rows", rows)
	}
}

// Caps hide nothing without a word: a row that is dropped and would have come out alone does so, truncated; so does one whose
// partners were beyond the cap of pairs, when it dies.
func TestJoinCapsSayWhatTheyDrop(t *testing.T) {
	for _, x := range []struct {
		j    Join
		want string // of four left rows at 0, 1, 2, 3, a right one at 3, one at 50, and the end
	}{
		{Join{Type: LeftOuter, RowsMax: 2}, "l0 null truncated, l1 null truncated, l2 r3 truncated, l3 r3 truncated"},
		{Join{Type: LeftOuter, RowsMax: 2, Policy: KeepOldest}, "l2 null truncated, l3 null truncated, l0 r3 truncated, l1 r3 truncated"},
		{Join{Type: FullOuter, RowsMax: 9, MatchesMax: 2}, "l0 r3 truncated, l1 r3 truncated, l2 null truncated, l3 null truncated, null r50"},
		{Join{Type: Anti, RowsMax: 2}, "l0 null truncated, l1 null truncated"},
		{Join{Type: Semi, RowsMax: 2}, "l2 null truncated, l3 null truncated"},
		{Join{Type: LeftOuter, Matches: CountMatches, RowsMax: 2}, "l0 null 0 truncated, l1 null 0 truncated, l2 null 1, l3 null 1"},
		{Join{Type: LeftOuter, Matches: FirstMatch, RowsMax: 3}, "l0 null truncated, l1 r3 truncated, l2 r3 truncated, l3 r3 truncated"},
	} {
		if x.j.Lower, x.j.Upper = -10, 10; x.j.MatchesMax == 0 {
			x.j.MatchesMax = 9
		}
		p := newJoinPlayer(x.j, "")
		for i := range int64(4) {
			p.row(0, i, "k", fmt.Sprint("l", i))
		}
		p.row(1, 3, "k", "r3")
		p.row(1, 50, "k", "r50")
		p.fire(60)
		p.fire(PosInf)
		if got := strings.Join(p.said(), ", "); got != x.want {
			t.Errorf("%+v:\n got %s\nwant %s", x.j, got, x.want)
		}
	}
}

// When rows come out: a left row at the first watermark that no partner can follow, a late one at once, one without key at
// once, a semi row with its first partner.
func TestJoinMoments(t *testing.T) {
	type moment struct{ do, want string }
	for _, x := range []struct {
		name string
		j    Join
		play []moment
	}{
		{"left", Join{Type: LeftOuter}, []moment{{"l 100 k l100", ""}, {"l 100 null x", "x null"}, {"r 100 null x", ""}, {"wm 120", ""}, {"wm 121", "l100 null"},
			{"l 100 k late", "late null"}, {"r 70 k late", "late late"}, {"r 116 k r116", ""}, {"l 100 k last", "last r116"}, {"end", ""}}},
		{"right", Join{Type: RightOuter}, []moment{{"r 100 k r100", ""}, {"r 1 null x", "null x"}, {"wm 105", ""}, {"wm 106", "null r100"}, {"r 90 k late", "null late"}, {"l 80 k late", "late late"}}},
		{"anti", Join{Type: Anti}, []moment{{"l 100 k l100", ""}, {"l 101 k l101", ""}, {"r 95 k r95", ""}, {"wm 130", "l101 null"}, {"l 1 null x", "x null"}, {"l 90 k late", "late null"}}},
		{"semi", Join{Type: Semi}, []moment{{"l 100 k l100", ""}, {"r 110 k r110", "l100 null"}, {"r 111 k r111", ""}, {"l 112 k l112", "l112 null"}, {"wm 180", ""}, {"l 90 k late", "late late"}, {"l 90 null x", ""}, {"end", ""}}},
		{"first", Join{Matches: FirstMatch}, []moment{{"r 110 k r110", ""}, {"r 105 k r105", ""}, {"l 100 k l100", "l100 r105"}, {"l 118 k l118", ""}, {"r 112 k r112", ""}, {"end", ""}}},
		{"count", Join{Matches: CountMatches}, []moment{{"r 110 k r110", ""}, {"l 100 k l100", ""}, {"r 120 k r120", ""}, {"r 121 k r121", ""}, {"l 50 k l50", ""}, {"wm 121", "l50 null 0, l100 null 2"},
			{"l 100 k late", "late null 1"}, {"l 1 null x", "x null 0"}, {"l 110 k last", ""}, {"end", "last null 2"}}},
	} {
		x.j.Lower, x.j.Upper, x.j.RowsMax, x.j.MatchesMax = -20, 5, 9, 9 // a right row from 5 before to 20 after the left one
		p := newJoinPlayer(x.j, "")
		for _, m := range x.play {
			p.do(m.do)
			if got := strings.Join(p.said(), ", "); got != m.want {
				t.Errorf("%s, %s: %q, want %q", x.name, m.do, got, m.want)
			}
		}
	}
}

// do plays a line: "l 100 key value" and "r ..." are rows, "wm 100" the watermark, "wm l 100" that of an input,
// "restart" and "end".
func (p *joinPlayer) do(line string) {
	words := strings.Fields(line)
	num := func(i int) int64 {
		n, err := strconv.ParseInt(words[i], 10, 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	switch words[0] {
	case "l", "r":
		p.row(uint8(strings.Index("lr", words[0])), num(1), words[2], words[3])
	case "wm":
		if i := strings.Index("lr", words[1]); i >= 0 {
			p.in[i] = max(p.in[i], num(2))
		} else {
			p.in = [2]int64{max(p.w, num(1)), max(p.w, num(1))}
		}
		p.fire(max(p.w, min(p.in[0], p.in[1])))
	case "delay":
		p.delay = num(1)
	case "restart":
		p.keys.save(false)
		p.restart()
	case "end":
		p.fire(PosInf)
	default:
		panic(line)
	}
}

// What other engines expect of joins on their own tests; "expect" is a row said since the last of them, "nothing" none,
// in any order.
func TestOtherEnginesJoins(t *testing.T) {
	src, err := os.ReadFile("testdata/engines/joins.txt")
	if err != nil {
		t.Fatal(err)
	}
	var p *joinPlayer
	var name string
	var want []string
	cases, rows, open := 0, 0, false
	check := func() {
		if !open {
			return
		}
		got := slices.DeleteFunc(p.said(), func(s string) bool { return strings.HasPrefix(s, "late ") }) // others drop them without a word
		for i := range got {
			got[i], _, _ = strings.Cut(got[i], " [") // the windows' bounds
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		rows += len(want)
		want, open = nil, false
	}
	for _, line := range strings.Split(string(src)+"\ncase", "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "" || word[0] == '#':
		case word == "case":
			check()
			name, p = rest, nil
			cases++
		case word == "join":
			p = newJoinPlayer(joinOf(rest), "")
		case word == "expect" || word == "nothing":
			if open = true; word == "expect" {
				want = append(want, rest)
			}
		case word == "late":
			check()
			if rest != strconv.Itoa(p.late) {
				t.Errorf("%s: %d late rows, want %s", name, p.late, rest)
			}
		default:
			check()
			p.do(line)
		}
	}
	if cases < 14 || rows < 50 {
		t.Errorf("%d cases with %d rows", cases, rows)
	}
}

// joinOf reads "left lower=-5 upper=9", "inner tumbling=5000" and "inner as_of".
func joinOf(text string) Join {
	j := Join{RowsMax: CapDefault, MatchesMax: CapDefault}
	for _, word := range strings.Fields(text) {
		name, v, _ := strings.Cut(word, "=")
		n, _ := strconv.ParseInt(v, 10, 64)
		switch name {
		case "lower":
			j.Lower = n
		case "upper":
			j.Upper = n
		case "tumbling":
			j.Kind, j.Window = Windowed, &Window{Size: n}
		case "as_of":
			j.Kind = AsOf
		default:
			j.Type = JoinType(slices.Index([]string{"inner", "left", "right", "full", "semi", "anti"}, name))
		}
	}
	return j
}

// Load takes any bytes, and what it takes can go on, whatever the join's type.
func FuzzLoadJoin(f *testing.F) {
	r := rand.New(rand.NewPCG(6, 6))
	var all []*joinPlayer
	for n := range 40 {
		j, _ := randomJoins(r, n)
		p := newJoinPlayer(j, "")
		for i := range int64(8) {
			p.row(uint8(i%2), i*10, "k", "1")
		}
		p.fire(30)
		for _, rec := range p.keys.records() {
			f.Add(rec)
		}
		all = append(all, p)
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		for _, p := range all {
			b := event.NewBatch(p.fields, nil)
			b.AppendRow()
			p.keys.try(t, p.c, &In{TS: 100, First: 100, Last: 100, W: 50, Batch: b}, rec)
		}
	})
}
