package operator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// sequenceCase runs one key: steps such as "A !B C" name what rows fit, each by a letter, and U is until.
type sequenceCase struct {
	o      *Sequence
	steps  string
	fields *event.Fields
	rows   *event.Batch
	logic  Logic[SequenceState]
	c      *Context
	s      SequenceState
	w      int64
	n      int
}

func newSequenceCase(steps string, within int64, most int) *sequenceCase {
	x := &sequenceCase{fields: &event.Fields{}, w: NegInf}
	v := x.fields.Add("v")
	o := &Sequence{Ident: Ident{"p", "o", "sequence/1"}, By: []event.Field{x.fields.Add("k")}, Within: within, MatchesMax: most, Until: &Step{}}
	for i, text := range strings.Fields(steps) {
		letter, missing := strings.CutPrefix(text, "!")
		x.steps += letter
		o.Steps = append(o.Steps, Step{Missing: missing})
		if !missing {
			o.Outputs = append(o.Outputs, StepField{Name: x.fields.Add(fmt.Sprint("step", i)), Step: i, Field: v})
		}
	}
	x.fields.Add("truncated")
	o.Init(x.fields)
	x.o, x.logic = o, o.Logic()
	x.rows = event.NewBatch(x.fields, []event.Field{v})
	x.c = &Context{Batch: event.NewBatch(x.fields, o.Columns), Due: NegInf}
	return x
}

// row takes a row such as AB5: it fits A and B, and its time is 5.
func (x *sequenceCase) row(text string) {
	digits := strings.IndexAny(text, "-0123456789")
	ts, err := strconv.ParseInt(text[digits:], 10, 64)
	if err != nil {
		panic(err)
	}
	x.rows.AppendRow(event.Value{Kind: event.String, Text: []byte(text)})
	in := &In{TS: ts, First: ts, Last: ts, W: x.w, Batch: x.rows, Row: int32(x.n), Name: Named(event.EventID([8]byte{}, int64(x.n)))}
	for _, letter := range text[:digits] {
		if letter == 'U' {
			in.Fits |= fitsUntil
		} else {
			in.Fits |= 1 << strings.IndexRune(x.steps, letter)
		}
	}
	x.n++
	x.c.Due = NegInf
	x.logic.Row(x.c, &x.s, in)
}

// play takes rows and, as W5, watermarks.
func (x *sequenceCase) play(text string) {
	for _, word := range strings.Fields(text) {
		if w, ok := strings.CutPrefix(word, "W"); ok {
			to, _ := strconv.ParseInt(w, 10, 64)
			x.advance(to)
			continue
		}
		x.row(word)
	}
}

// advance moves the watermark and fires what is due.
func (x *sequenceCase) advance(w int64) {
	x.w = w
	for due := x.logic.Next(&x.s); due <= w; due = x.logic.Next(&x.s) {
		x.c.Due, x.c.By = due, "key"
		x.logic.Fire(x.c, &x.s, due)
	}
}

// said are the results: the rows, the time, a star if truncated.
func (x *sequenceCase) said() (out []string) {
	for _, r := range x.c.Out {
		if r.Kind == Late {
			out = append(out, fmt.Sprintf("late:%s", x.rows.Value(x.fields.Add("v"), int(r.Row)).Text))
			continue
		}
		var rows []string
		for _, f := range x.o.Columns[:len(x.o.Columns)-1] {
			rows = append(rows, string(r.Batch.Value(f, int(r.Row)).Text))
		}
		star := ""
		if r.Batch.Value(x.fields.Add("truncated"), int(r.Row)).Kind == event.Bool {
			star = "*"
		}
		out = append(out, fmt.Sprintf("%s@%d%s", strings.Join(rows, "-"), r.TS, star))
	}
	return out
}

// A sequence of two rows, from outside: a row waits until the watermark has passed it, then runs in event order.
func ExampleSequence() {
	x := newSequenceCase("A B", 30_000, CapDefault)
	x.row("B12000") // the second, which arrives first
	x.row("A10000")
	fmt.Println(x.said())
	x.advance(12_001)
	fmt.Println(x.said())
	// Output:
	// []
	// [A10000-B12000@12000]
}

func TestSequences(t *testing.T) {
	for _, x := range []struct{ steps, rows, want string }{
		// order and span
		{"A B", "A0 B5", "A0-B5@5"},
		{"A B", "B5 A0", "A0-B5@5"},
		{"A B", "B0 A5", ""},
		{"A B", "A0 B10", "A0-B10@10"},
		{"A B", "A0 B11", ""},
		{"A B C", "A0 B2 C10 C3", "A0-B2-C3@3"},
		{"A B", "A-7 B-3", "A-7-B-3@-3"},
		{"A B", "A0 W5 B4 B5", "late:B4 A0-B5@5"},
		{"A B", "A0 W5 B5 W6 B5", "A0-B5@5 late:B5"},
		// every first row opens a match, the next fitting row completes them all
		{"A B", "A0 A1 B5 B6", "A0-B5@5 A1-B5@5"},
		{"A B C", "A0 A1 B2 A3 B4 C5", "A0-B2-C5@5 A1-B2-C5@5 A3-B4-C5@5"},
		{"A B C", "A0 B1 A2 C3 B4 C5", "A0-B1-C3@3 A2-B4-C5@5"},
		// a row that fits several steps completes before it opens, and moves a match once
		{"A B", "AB0 AB1 AB2", "AB0-AB1@1 AB1-AB2@2"},
		{"A B C", "ABC0 ABC1 ABC2 ABC3", "ABC0-ABC1-ABC2@2 ABC1-ABC2-ABC3@3"},
		{"A B C", "A0 BC1 BC2", "A0-BC1-BC2@2"},
		// ties: by input, then by id, which here is the order of arrival
		{"A B", "A5 B5", "A5-B5@5"},
		{"A B", "B5 A5", ""},
		// a missing step between two
		{"A !B C", "A0 C5", "A0-C5@5"},
		{"A !B C", "A0 B3 C5", ""},
		{"A !B C", "A0 B3 A4 C5", "A4-C5@5"},
		{"A !B C", "B0 A1 C5 B6", "A1-C5@5"},
		{"A !B C", "A0 BC5", "A0-BC5@5"},
		// an absence
		{"A !B", "A0", "A0@10"},
		{"A !B", "A0 B10", ""},
		{"A !B", "A0 B11", "A0@10"},
		{"A !B", "A0 A4 B12", "A0@10"},
		{"A !B", "A0 W10 B10", ""},
		{"A !B", "A0 W11 B11", "A0@10"},
		{"A B !C", "A0 B3", "A0-B3@10"},
		{"A B !C", "A0 B3 C4", ""},
		{"A B !C", "A0 C2 B3", "A0-B3@10"},
		{"A B !C", "A0 B10", "A0-B10@10"},
		{"A B !C", "A0 B11", ""},
		{"A !B !C", "A0 A1 C11", "A0@10"},
		// the deadline comes after the rows of its time
		{"A !B", "A0 A10 B20", "A0@10"},
		// until ends all open matches, after what its row completes and before what it opens
		{"A B", "A0 U3 B5", ""},
		{"A B", "A0 U3 A4 B5", "A4-B5@5"},
		{"A B", "A0 BU3 B5", "A0-BU3@3"},
		{"A B", "A0 AU3 B5", "AU3-B5@5"},
		{"A B C", "A0 BU3 C5", ""},
		{"A !B", "A0 U10", ""},
		{"A !B", "A0 U11", "A0@10"},
	} {
		c := newSequenceCase(x.steps, 10, CapDefault)
		c.play(x.rows)
		c.advance(PosInf)
		if got := strings.Join(c.said(), " "); got != x.want {
			t.Errorf("%s of %s: got %q, want %q", x.steps, x.rows, got, x.want)
		}
		if c.logic.Next(&c.s) != Never {
			t.Errorf("%s of %s: something is left", x.steps, x.rows)
		}
	}
}

// A full key drops its oldest match or row that waits, says how many, and marks what it says until that would have ended.
func TestSequenceCaps(t *testing.T) {
	for _, x := range []struct {
		steps, rows, want string
		waiting, open     int64
	}{
		{"A B", "A0 W1 A1 W2 A2 W3 B5", "A1-B5@5* A2-B5@5*", 0, 1},
		{"A B", "A0 W1 A1 W2 A2 W3 U4 W5 A9 W10 B10 W11 A11 W12 B12", "A9-B10@10* A11-B12@12", 0, 1},
		{"A B", "A0 A1 B2 W9", "A1-B2@2*", 1, 0},
		{"A B", "A3 B4 A0 W9", "A3-B4@4*", 1, 0},
		{"A !B", "A0 W1 A1 W2 A2 W3", "A1@11 A2@12", 0, 1},
		{"A !B", "A0 W1 B2 A12 A13", "A0@10* A12@22 A13@23", 1, 0},
	} {
		c := newSequenceCase(x.steps, 10, 2)
		c.play(x.rows)
		c.advance(PosInf)
		got := strings.Join(c.said(), " ")
		if n := c.c.Counts; got != x.want || n.RowsCapped != x.waiting || n.MatchesCapped != x.open || n.Truncated != int64(strings.Count(x.want, "*")) {
			t.Errorf("%s of %s: got %q, %+v; want %q, %d waiting and %d open dropped", x.steps, x.rows, got, n, x.want, x.waiting, x.open)
		}
	}
}

// What a result is made of: the events behind its rows, and an id of the rows' ids, or of key, first id and due time.
func TestSequenceResult(t *testing.T) {
	for steps, want := range map[string]event.ID{
		"A B !C": Ident{"p", "o", "sequence/1"}.ID([]byte("key"), make([]byte, 16), []byte{0, 0, 0, 0, 0, 0, 0, 11}),
		"A B":    Ident{"p", "o", "sequence/1"}.ID(make([]byte, 16), append(make([]byte, 15), 1)),
	} {
		c := newSequenceCase(steps, 10, CapDefault)
		in := &In{TS: 0, First: -5, Last: 2, W: NegInf, Batch: c.rows, Fits: 1}
		c.rows.AppendRow(event.Value{})
		c.logic.Row(c.c, &c.s, in)
		in.TS, in.First, in.Last, in.Fits, in.Name = 4, -1, 3, 2, Named(event.ID{15: 1})
		c.logic.Row(c.c, &c.s, in)
		c.advance(PosInf)
		if r := c.c.Out[0]; len(c.c.Out) != 1 || r.First != -5 || r.Last != 3 || r.Name != Named(want) {
			t.Errorf("%s: %+v", steps, c.c.Out)
		}
	}
}

// At the end of the input open matches are spared: only rows that wait and absences say something.
func TestSequenceSpares(t *testing.T) {
	for _, x := range []struct {
		steps, rows string
		spared      bool
	}{{"A B", "A0 W1", true}, {"A B", "A0 W1 B1", false}, {"A !B", "A0 W1", false}, {"A B !C", "A0 W1", true}, {"A B !C", "A0 B1 W2", false}} {
		c := newSequenceCase(x.steps, 10, CapDefault)
		c.play(x.rows)
		if got := c.logic.(Sparing[SequenceState]).Spares(&c.s); got != x.spared {
			t.Errorf("%s after %s: %v", x.steps, x.rows, got)
		}
	}
}

// A key that is saved and loaded at random moments, from added records and from whole ones, says what one says that is not.
func TestSequenceSaves(t *testing.T) {
	results := 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		steps, most := []string{"A B", "A !B", "A !B C", "A B !C", "A B C D"}[r.IntN(5)], []int{3, CapDefault}[r.IntN(2)]
		x, torn := newSequenceCase(steps, 40, most), newSequenceCase(steps, 40, most)
		var recs [][]byte
		w := int64(-100)
		for range 300 {
			row := fmt.Sprint(randomLetters(r, x.steps), w+r.Int64N(20))
			x.row(row)
			torn.row(row)
			w += r.Int64N(6)
			x.advance(w)
			torn.advance(w)
			if r.IntN(5) > 0 {
				continue
			}
			recs = append(recs, torn.logic.Save(nil, &torn.s, false))
			if r.IntN(5) == 0 {
				recs = [][]byte{torn.logic.Save(nil, &torn.s, true)}
			}
			if r.IntN(3) == 0 {
				torn.restart(t, recs)
			}
		}
		x.advance(PosInf)
		torn.advance(PosInf)
		if got, want := torn.said(), x.said(); !slices.Equal(got, want) {
			t.Fatalf("seed %d: got %v, want %v", seed, got, want)
		}
		results += len(x.said())
	}
	if results < 1000 {
		t.Errorf("only %d results", results)
	}
}

func randomLetters(r *rand.Rand, letters string) (text string) {
	for _, letter := range letters {
		if r.IntN(3) == 0 {
			text += string(letter)
		}
	}
	if r.IntN(12) == 0 || text == "" {
		text += "U"
	}
	return text
}

func (x *sequenceCase) restart(t *testing.T, recs [][]byte) {
	t.Helper()
	whole := x.logic.Save(nil, &x.s, true)
	x.logic, x.s = x.o.Logic(), SequenceState{}
	for _, rec := range recs {
		if err := x.logic.Load(&x.s, rec); err != nil {
			t.Fatal(err)
		}
	}
	if string(x.logic.Save(nil, &x.s, true)) != string(whole) {
		t.Fatal("loaded, the state is another")
	}
}

// Load takes any bytes, and what it makes of them can go on.
func FuzzSequenceLoad(f *testing.F) {
	x := newSequenceCase("A !B C !D", 10, 3)
	for _, row := range []string{"A0", "C3", "A4", "B7", "U9"} {
		x.row(row)
		x.advance(4)
	}
	f.Add(x.logic.Save(nil, &x.s, true), x.logic.Save(nil, &x.s, false))
	f.Add([]byte{recordWhole, 1, 40, 0, 0, 0}, []byte{recordAdded, 0, 1, 40})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x := newSequenceCase("A !B C !D", 10, 3)
		for _, rec := range [][]byte{a, b} {
			if x.logic.Load(&x.s, rec) == nil {
				_ = x.logic.Save(nil, &x.s, true)
			}
		}
		x.row("AC5")
		x.advance(PosInf)
		if x.logic.Next(&x.s) != Never {
			t.Fatal("something is left after the end")
		}
		if slices.Contains(x.said(), "") {
			t.Fatal("an empty result")
		}
	})
}
