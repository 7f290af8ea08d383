package operator

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// A script of alerts: what happens, a line each, and what is said of it indented beneath. Times are as in the scripts of windows.
//
//	suppress for=1m events=1                     group gap=1m span=1h every=0s events=10
//	0:00 a level=2 event=1                       an alert of key a; null is no key
//	risk half_life=1m threshold=100 cap=50 again=1h reset keep=20
//	0:00 user/anna r1 60                         an alert of rule r1 with a score, which names an entity
//	wm 1:00                                      the watermark
//	end                                          of the input
//	restart                                      every state is saved and loaded
//
// What is said is named by the time of its first alert, and of alerts by their revision.
type alertScript struct {
	fields *event.Fields
	cells  []event.Field
	risk   bool
	play   *player
	n      int
}

func newAlertScript(words []string) *alertScript {
	s := &alertScript{fields: &event.Fields{}, risk: words[0] == "risk"}
	for _, name := range []string{"key", "level", "event", "rule", "score"} {
		s.cells = append(s.cells, s.fields.Add(name))
	}
	o := &Suppress{Keys: s.cells[:1], Events: 1}
	k := &Risk{Ident: Ident{"script", "risk", "risk/1"}, Keep: 20}
	for _, word := range words[1:] {
		name, v, _ := strings.Cut(word, "=")
		n, _ := strconv.ParseFloat(v, 64)
		switch to := map[string]*int64{"for": &o.For, "gap": &o.Gap, "span": &o.Span, "every": &o.Every, "half_life": &k.HalfLife, "again": &k.Again}[name]; {
		case to != nil:
			*to = length(v)
		case name == "events":
			o.Events = int(n)
		case name == "threshold":
			k.Threshold = n
		case name == "cap":
			k.RuleMax = n
		case name == "keep":
			k.Keep = int(n)
		case name == "reset":
			k.Reset = true
		default:
			panic(word)
		}
	}
	o.Init(s.fields, s.cells[:1])
	k.Init(s.fields)
	if s.risk {
		s.play = newPlayer(k.Logic(s.raised), s.fields, k.Columns)
	} else {
		s.play = newPlayer(o.Logic(s.reader()), s.fields, o.Fields)
	}
	s.play.delay = Never
	return s
}

func (s *alertScript) reader() AlertReader {
	return AlertReader{
		Level: func(in *In) uint8 { n, _ := in.Value(s.cells[1]).Int(); return uint8(n) },
		Events: func(in *In, add func([]byte)) {
			if v := in.Value(s.cells[2]); !v.Missing() {
				add(fmt.Appendf(nil, `{"e":%s}`, v.Text))
			}
		},
	}
}

func (s *alertScript) raised(in *In) Raised {
	score, _ := in.Value(s.cells[4]).Int()
	rule := string(in.Value(s.cells[3]).Text)
	return Raised{ID: in.Name.ID(), Rule: rule, Title: []byte("title of " + rule), Score: int(score), Attack: []string{"T" + rule[1:]}}
}

func (s *alertScript) row(words []string) {
	cells := []event.Value{cellOf(words[1]), {}, {}, {}, {}}
	for _, word := range words[2:] {
		if name, v, ok := strings.Cut(word, "="); ok {
			cells[s.fields.Add(name)] = cellOf(v)
		}
	}
	var key []byte
	if s.risk {
		cells[3], cells[4] = cellOf(words[2]), cellOf(words[3])
		typ, name, _ := strings.Cut(words[1], "/")
		key = event.AppendKey(event.AppendKey(nil, cellOf(typ)), cellOf(name))
	} else {
		key = event.AppendKey(nil, cells[0])
	}
	b := event.NewBatch(s.fields, s.cells)
	b.AppendRow(cells...)
	ts := clock(words[0])
	s.n++
	s.play.row(&In{TS: ts, First: ts - 1000, Last: ts, W: s.play.w, Batch: b, Key: key, Lone: cells[0].Missing(), Name: Named(event.ID{byte(s.n)})})
}

func (s *alertScript) line(words []string) (said []string) {
	p := s.play
	from := len(p.c.Out)
	switch words[0] {
	case "wm":
		p.w = max(p.w, clock(words[1]))
	case "end":
		p.w = PosInf
	case "restart":
		p.restart()
		return nil
	default:
		s.row(words)
	}
	p.fire(p.w)
	for i := range p.c.Out[from:] {
		said = append(said, s.shown(&p.c.Out[from+i]))
	}
	return said
}

func (s *alertScript) shown(r *Result) string {
	cell := func(f event.Field) string { return string(r.Batch.Value(f, int(r.Row)).Text) }
	if s.risk {
		text := span(r.TS)
		for _, name := range RiskColumns {
			v := cell(s.fields.Add(name))
			if name == "first_time" || name == "last_time" {
				v = clockText(v)
			}
			if name == "contributions" {
				v = ""
				event.Elements([]byte(cell(s.fields.Add(name))), func(x []byte) {
					var rule, score, at string
					event.Members(x, func(name, value []byte) {
						switch string(name) {
						case "rule":
							rule = string(value)
						case "score":
							score = string(value)
						case "time":
							at = clockText(strings.Trim(string(value), `"`))
						}
					})
					v += fmt.Sprintf(" %s of %s at %s", score, strings.Trim(rule, `"`), at)
				})
				v = "[" + strings.TrimSpace(v) + "]"
			}
			text += " " + v
		}
		return strings.TrimSpace(text)
	}
	g := r.Gathered
	text := fmt.Sprintf("%s of %s #%d: %d alerts, %d suppressed, %s to %s", cell(s.cells[0]), span(r.TS), r.Revision, g.Count, g.Suppressed, span(r.First), span(r.Last))
	if g.Level > 0 {
		text += fmt.Sprint(", level ", g.Level)
	}
	if len(g.Events) > 0 {
		text += ", events " + string(g.Events)
	}
	if g.Truncated {
		text += " and more"
	}
	return text
}

// playAlertScript returns the script with what is said.
func playAlertScript(src string) string {
	var out strings.Builder
	var s *alertScript
	for _, line := range strings.Split(strings.TrimSuffix(src, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "suppress" || words[0] == "group" || words[0] == "risk":
			s = newAlertScript(words)
		default:
			for _, x := range s.line(words) {
				out.WriteString("  " + x + "\n")
			}
		}
	}
	return out.String()
}

// Each script in testdata/alerts says what stands beneath its lines; -update writes it there, and a person reads the difference.
func TestAlertScripts(t *testing.T) { scripts(t, "testdata/alerts/*.txt", 3, playAlertScript) }
