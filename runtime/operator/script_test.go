package operator

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

var update = flag.Bool("update", false, "write what the scripts say into testdata")

// A script is a window and what happens to it, a line each; what the window says stands indented beneath the line that
// caused it. Times are [-][h:]m:ss[.mmm].
//
//	window hopping size=10s slide=5s offset=0s first     also: step, gap, max_duration, emit_partial, allowed_lateness
//	aggregate count, sum v, collect v 3, top_k v 2, percentile v 0.5
//	having {n|gte: 2}                     aggregates are called as their function, and n is count
//	delay 1s                              the watermark follows the rows, this much behind
//	0:03 k v=1                            a row of key k; null is no key
//	wm 0:12                               the watermark
//	end                                   of the input
//	restart                               every state is saved and loaded
//
// Rows: [window_start, window_end) key aggregates. Revisions are "row#revision", rows being numbered as they appear, and what
// readers get of them in the end is "row in the end".
type script struct {
	ids    map[string]int
	fields *event.Fields
	w      Window
	delay  int64
	having string
	play   *player
}

// player runs a window over keys as the engine does, one row at a time.
type player struct {
	row     func(in *In)
	fire    func(w int64)
	restart func()
	c       *Context
	w       int64 // the watermark
	last    int64 // the latest due time that the end fired
	delay   int64
	batch   *event.Batch
	flushes bool
}

// newPlayer keeps a state and a due time a key.
func newPlayer[S any](logic Logic[S], fields *event.Fields, columns []event.Field) *player {
	states, done := map[string]*S{}, map[string]int64{}
	p := &player{c: &Context{Batch: event.NewBatch(fields, columns), Due: NegInf}, w: NegInf, last: NegInf, flushes: logic.Flushes()}
	p.row = func(in *In) {
		if states[string(in.Key)] == nil {
			states[string(in.Key)] = new(S)
		}
		delete(done, string(in.Key))
		logic.Row(p.c, states[string(in.Key)], in)
	}
	p.fire = func(w int64) {
		for w < PosInf || p.flushes {
			due, by := int64(Never), ""
			for _, key := range slices.Sorted(maps.Keys(states)) {
				if next := logic.Next(states[key]); next < due && done[key] != PosInf {
					due, by = next, key
				}
			}
			if due > w {
				return
			}
			if w == PosInf && due < PosInf {
				p.last = max(p.last, due)
			}
			p.c.Due, p.c.By, p.c.W = due, by, w
			logic.Fire(p.c, states[by], due)
			if p.c.Due, p.c.By = NegInf, ""; due == PosInf {
				done[by] = PosInf
			}
			if logic.Next(states[by]) == Never {
				delete(states, by) // as the engine may
			}
		}
	}
	p.restart = func() {
		clear(done)
		for key, s := range states {
			again := new(S)
			if err := logic.Load(again, logic.Save(nil, s, true)); err != nil {
				panic(err)
			}
			states[key] = again
		}
	}
	return p
}

func (s *script) start() *player {
	if s.play != nil {
		return s.play
	}
	s.fields.Add("window_start")
	s.fields.Add("window_end")
	for _, name := range markNames {
		s.fields.Add(name)
	}
	if s.having != "" {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(s.having), &n); err != nil {
			panic(err)
		}
		c, problems := match.Compile(n.Content[0], func(path string) (event.Field, error) { return s.fields.Add(path), nil })
		if len(problems) > 0 {
			panic(problems)
		}
		s.w.Having = c
	}
	s.w.Ident = Ident{"script", "window", s.w.Kind.Form()}
	s.w.Init(s.fields)
	switch s.w.Kind {
	case Session:
		s.play = newPlayer(s.w.Sessions(), s.fields, s.w.Columns)
	case Counting:
		s.play = newPlayer(s.w.Counts(), s.fields, s.w.Columns)
	default:
		s.play = newPlayer(s.w.Logic(), s.fields, s.w.Columns)
	}
	s.play.delay = s.delay
	return s.play
}

// line runs a line and returns what was said.
func (s *script) line(text string) (said []string) {
	words := strings.Fields(text)
	switch words[0] {
	case "window":
		s.window(words[1:])
		return nil
	case "aggregate":
		for _, a := range strings.Split(strings.TrimPrefix(text, "aggregate"), ",") {
			s.aggregate(strings.Fields(a))
		}
		return nil
	case "having":
		s.having = strings.TrimPrefix(text, "having")
		return nil
	case "delay":
		s.delay = length(words[1])
		return nil
	}
	p := s.start()
	from := len(p.c.Out)
	switch words[0] {
	case "wm":
		p.w = max(p.w, clock(words[1]))
	case "end":
		p.w = PosInf
	case "restart":
		if p.w == PosInf {
			p.w = p.last
		}
		p.restart()
		return nil
	default:
		s.row(words)
	}
	p.fire(p.w)
	for _, r := range p.c.Out[from:] {
		said = append(said, s.shown(&r))
	}
	return said
}

func (s *script) window(words []string) {
	for k := Tumbling; k <= Counting; k++ {
		if k.String() == words[0] {
			s.w.Kind = k
		}
	}
	for _, word := range words[1:] {
		name, v, _ := strings.Cut(word, "=")
		to := map[string]*int64{"size": &s.w.Size, "slide": &s.w.Slide, "step": &s.w.Slide, "offset": &s.w.Offset, "gap": &s.w.Gap, "max_duration": &s.w.MaxDuration, "allowed_lateness": &s.w.Lateness}[name]
		switch {
		case name == "first":
			s.w.First = true
		case name == "emit_partial":
			s.w.Partial = true
		case s.w.Kind == Counting:
			*to, _ = strconv.ParseInt(v, 10, 64)
		default:
			*to = length(v)
		}
	}
	s.w.Keys = []event.Field{s.fields.Add("key")}
}

func (s *script) aggregate(words []string) {
	a := Aggregate{All: len(words) == 1, Func: Func(slices.Index([]string{"count", "sum", "min", "max", "avg", "count_distinct", "first", "last", "collect", "top_k", "percentile"}, words[0])), Max: CollectDefault}
	name := strings.Join(words[:min(len(words), 2)], "_")
	if a.All {
		name = "n"
	} else {
		a.Field = s.fields.Add(words[1])
	}
	if len(words) == 3 {
		a.Max, _ = strconv.Atoi(words[2])
		a.P, _ = strconv.ParseFloat(words[2], 64)
	}
	a.Name = s.fields.Add(name)
	s.w.Aggregates = append(s.w.Aggregates, a)
}

// row makes a row of a line "time key field=value ...".
func (s *script) row(words []string) {
	p := s.play
	fields, cells := []event.Field{s.fields.Add("key")}, []event.Value{cellOf(words[1])}
	for _, word := range words[2:] {
		name, v, _ := strings.Cut(word, "=")
		fields, cells = append(fields, s.fields.Add(name)), append(cells, cellOf(v))
	}
	b := event.NewBatch(s.fields, fields)
	b.AppendRow(cells...)
	ts := clock(words[0])
	in := &In{TS: ts, First: ts, Last: ts, W: p.w, Batch: b, Key: event.AppendKey(nil, cells[0])}
	p.row(in)
	if p.delay != Never {
		p.w = max(p.w, ts-p.delay)
	}
}

func cellOf(text string) event.Value {
	v := event.Value{Kind: event.String, Text: []byte(text)}
	if text == "null" {
		return event.Value{Kind: event.Null}
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		v.Kind = event.Number
	}
	return v
}

func (s *script) shown(r *Result) string {
	if r.Kind == Late {
		return "late"
	}
	cell := func(i int) string {
		v := r.Batch.Value(s.w.Columns[i], int(r.Row))
		if v.Missing() {
			return "null"
		}
		return string(v.Text)
	}
	text := fmt.Sprintf("[%s, %s) %s", clockText(cell(1)), clockText(cell(2)), cell(0))
	for i := 3; i < len(s.w.Columns); i++ {
		switch name := s.fields.Path(s.w.Columns[i]); {
		case !slices.Contains(markNames[:], name):
			text += " " + name + "=" + cell(i)
		case cell(i) == "true":
			text += " truncated"
		case name == "merged_into" && cell(i) != "null":
			text += fmt.Sprint(" merged into ", s.number(cell(i)))
		case cell(i) != "null":
			text += " " + name + "=" + cell(i)
		}
	}
	switch r.Kind {
	case Revised:
		text += fmt.Sprintf(" %d#%d", s.number(r.Name.ID().String()), r.Revision)
	case Final:
		text += fmt.Sprintf(" %d in the end", s.number(r.Name.ID().String()))
	}
	if s.w.Kind == Counting {
		text += " at " + span(r.TS)
	} else if end := clock(clockText(cell(2))); r.TS != end-1 {
		text += " at the wrong time " + span(r.TS)
	}
	return text
}

// number is a row's number.
func (s *script) number(id string) int {
	if s.ids[id] == 0 {
		s.ids[id] = len(s.ids) + 1
	}
	return s.ids[id]
}

// clock reads [-][h:]m:ss[.mmm] as ms.
func clock(text string) (ms int64) {
	rest, neg := strings.CutPrefix(text, "-")
	rest, milli, _ := strings.Cut(rest, ".")
	parts := strings.Split(rest, ":")
	if len(parts) < 2 || len(milli) != 0 && len(milli) != 3 {
		panic("no time: " + text)
	}
	for _, p := range parts {
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil {
			panic(err)
		}
		ms = ms*60 + n*1000
	}
	n, _ := strconv.ParseInt("0"+milli, 10, 64)
	if ms += n; neg {
		return -ms
	}
	return ms
}

// length reads 5s, 10m, 24h and 3ms.
func length(text string) int64 {
	for _, unit := range []struct {
		name string
		ms   int64
	}{{"ms", 1}, {"s", 1000}, {"m", 60_000}, {"h", 3_600_000}} {
		if n, ok := strings.CutSuffix(text, unit.name); ok {
			if v, err := strconv.ParseInt(n, 10, 64); err == nil {
				return v * unit.ms
			}
		}
	}
	panic("no length: " + text)
}

// span writes a time as clock reads it.
func span(ms int64) string {
	sign := ""
	if ms < 0 {
		sign, ms = "-", -ms
	}
	text := fmt.Sprintf("%d:%02d", ms/60_000, ms/1000%60)
	if ms >= 3_600_000 {
		text = fmt.Sprintf("%d:%02d:%02d", ms/3_600_000, ms/60_000%60, ms/1000%60)
	}
	if ms%1000 > 0 {
		text += fmt.Sprintf(".%03d", ms%1000)
	}
	return sign + text
}

var zoneless, _ = event.NewTimeFormat("", "")

func clockText(stamp string) string {
	ms, err := zoneless.Millis(event.Value{Kind: event.String, Text: []byte(stamp)})
	if err != nil {
		return stamp
	}
	return span(ms)
}

// Each script in testdata says what stands beneath its lines; -update writes it there, and a person reads the difference.
func TestScripts(t *testing.T) { scripts(t, "testdata/*.txt", 1, playScript) }

// scripts plays each script of a folder, of which there are at least so many, and compares it with what it says, or writes that.
func scripts(t *testing.T, glob string, least int, play func(script string) string) {
	files, err := filepath.Glob(glob)
	if err != nil || len(files) < least {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(string(src))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(src) {
				t.Errorf("%s says\n%s", file, got)
			}
		})
	}
}

// playScript returns the script with what it says; a line "window" begins anew.
func playScript(src string) string {
	var out strings.Builder
	s := &script{}
	for _, line := range strings.Split(strings.TrimSuffix(src, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		if strings.HasPrefix(line, "window ") {
			s = &script{fields: &event.Fields{}, ids: map[string]int{}}
			for _, name := range []string{"key", "v", "w"} {
				s.fields.Add(name)
			}
		}
		if line != "" && line[0] != '#' {
			for _, x := range s.line(line) {
				out.WriteString("  " + x + "\n")
			}
		}
	}
	return out.String()
}

// What other engines expect on their own tests: testdata/engines/windows.txt holds scripts with lines "expect" for a row and
// "late" for late rows, which stand for what was said since the last of them, in any order.
func TestOtherEngines(t *testing.T) {
	src, err := os.ReadFile("testdata/engines/windows.txt")
	if err != nil {
		t.Fatal(err)
	}
	var s *script
	var name string
	var want, got []string
	cases, rows := 0, 0
	check := func() {
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		rows += len(want)
		want, got = nil, nil
	}
	for _, line := range strings.Split(string(src)+"\ncase", "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "" || word[0] == '#':
			continue
		case word == "case":
			check()
			name, s = rest, &script{fields: &event.Fields{}, ids: map[string]int{}}
			cases++
		case word == "expect":
			want = append(want, rest)
		case word == "late":
			want = append(want, "late")
		default:
			if len(want) > 0 {
				check()
			}
			got = append(got, s.line(line)...)
		}
	}
	if cases < 7 || rows < 40 {
		t.Errorf("%d cases with %d rows", cases, rows)
	}
}
