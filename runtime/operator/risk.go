package operator

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Risk adds up alerts by entity: each adds its score to each entity that it names, and what it added halves every HalfLife of event
// time. The score of an entity at time t is
//
//	the sum over its alerts of score * 2^-((t - time of the alert) / HalfLife)
//
// and it is looked at when an alert comes, at the newest time among the entity's alerts. So it does not depend on the order of
// arrival but for rounding (float64, in the order of arrival): an alert that comes out of order adds what is left of it at that
// time. RuleMax bounds what the alerts of one rule may hold of the score at any moment, which does depend on the order.
//
// If the score is at least Threshold, a row says so: once, until the score has fallen below, which is seen when the next alert
// comes; with Again once more after so long. With Reset the entity begins at nothing after its row.
//
// An entity is remembered until its score is below riskLeast, from the newest of its alerts and of the watermarks that they were
// judged by; then it is as if it had never been. So is a rule of an entity whose part is. The end of the input forgets nothing.
// Alerts are never late here: each counts by its own time.
//
// The engine's key is the entity: its type, a text, and its value. An alert that names several entities is a row for each.
// Columns: entity_type, entity, score (two decimals), alerts and rules (how many still count), first_time and last_time of the
// events behind them, attack (techniques, sorted), contributions (the Keep alerts that weigh most, by time), truncated if there
// were more.
type Risk struct {
	Ident     Ident
	HalfLife  int64   // ms, at least 1
	Threshold float64 // above riskLeast
	RuleMax   float64 // 0: no bound
	Again     int64   // ms; 0: only after the score fell below
	Reset     bool
	Keep      int // contributions, at least 1

	Columns []event.Field // of its rows, set by Init
}

// RiskColumns are the names of the columns.
var RiskColumns = []string{"entity_type", "entity", "score", "alerts", "rules", "first_time", "last_time", "attack", "contributions", "truncated"}

// Score is the column of the score, Attack that of the techniques.
func (o *Risk) Score() event.Field  { return o.Columns[2] }
func (o *Risk) Attack() event.Field { return o.Columns[7] }

// riskLeast is what no longer counts.
const riskLeast = 0.01

// riskTitle is how much of an alert's title is kept, in bytes.
const riskTitle = 200

// Raised is an alert as Risk counts it.
type Raised struct {
	ID     event.ID
	Rule   string
	Title  []byte
	Score  int      // 0: it does not count
	Attack []string // techniques
}

// RiskState is an entity.
type RiskState struct {
	known  bool
	at     int64 // the newest time of its alerts; parts are as of then
	until  int64 // the watermark that forgets it
	above  bool  // a row has said that it is above the threshold
	saidAt int64 // at this time
	parts  []riskPart
	kept   []contribution // the heaviest first
}

// riskPart is what the alerts of one rule hold.
type riskPart struct {
	rule        string
	attack      []string
	sum         float64
	n           int64
	first, last int64
}

// contribution is an alert that is shown.
type contribution struct {
	id    event.ID
	ts    int64
	score int
	rule  string
	title []byte
}

// Init completes a Risk whose exported fields are set.
func (o *Risk) Init(fields *event.Fields) {
	o.Columns = nil
	for _, name := range RiskColumns {
		o.Columns = append(o.Columns, fields.Add(name))
	}
}

// risk is a Risk at work.
type risk struct {
	*Risk
	tell  func(in *In) Raised
	cells []event.Value
}

// Logic returns the functions of one shard; tell says what a row's alert is.
func (o *Risk) Logic(tell func(in *In) Raised) Logic[RiskState] { return &risk{Risk: o, tell: tell} }

// Row implements Logic.
func (o *risk) Row(c *Context, s *RiskState, in *In) {
	w := in.W
	if w == PosInf {
		w = NegInf // the end proves nothing about what comes after it
	}
	if s.until <= w {
		*s = RiskState{}
	}
	a := o.tell(in)
	if a.Score <= 0 {
		return
	}
	if !s.known {
		*s = RiskState{known: true, at: in.TS, until: NegInf}
	}
	o.age(s, in.TS)
	s.above = s.above && s.score() >= o.Threshold
	o.add(s, in, &a)
	score := s.score()
	if score >= o.Threshold && (!s.above || o.Again > 0 && s.at-s.saidAt >= o.Again) {
		o.say(c, s, in, score)
		s.above, s.saidAt = true, s.at
		if o.Reset {
			*s = RiskState{}
			return
		}
	}
	if score < riskLeast {
		*s = RiskState{}
		return
	}
	s.until = max(s.at, w) + o.left(score)
}

// left is how long a score takes to fall below riskLeast, ms.
func (o *risk) left(score float64) int64 {
	return max(int64(math.Ceil(float64(o.HalfLife)*math.Log2(score/riskLeast))), 0) + 1
}

// decay is what is left of one after ms.
func (o *risk) decay(ms int64) float64 { return math.Exp2(-float64(ms) / float64(o.HalfLife)) }

// age brings a state to a time, unless it has a newer one, and forgets what no longer counts then.
func (o *risk) age(s *RiskState, ts int64) {
	if ts <= s.at {
		return
	}
	f := o.decay(ts - s.at)
	s.at = ts
	for i := range s.parts {
		s.parts[i].sum *= f
	}
	parts := len(s.parts)
	if s.parts = slices.DeleteFunc(s.parts, func(p riskPart) bool { return p.sum < riskLeast }); len(s.parts) < parts {
		s.kept = slices.DeleteFunc(s.kept, func(k contribution) bool { return s.part(k.rule) < 0 })
	}
	n := len(s.kept)
	for n > 0 && float64(s.kept[n-1].score)*o.decay(s.at-s.kept[n-1].ts) < riskLeast { // the lightest are the last
		n--
	}
	clear(s.kept[n:])
	s.kept = s.kept[:n]
}

// part is the place of a rule's part, or -1.
func (s *RiskState) part(rule string) int {
	return slices.IndexFunc(s.parts, func(p riskPart) bool { return p.rule == rule })
}

// score is what the parts hold together.
func (s *RiskState) score() (sum float64) {
	for i := range s.parts {
		sum += s.parts[i].sum
	}
	return sum
}

// add counts an alert.
func (o *risk) add(s *RiskState, in *In, a *Raised) {
	i := s.part(a.Rule)
	if i < 0 {
		i = len(s.parts)
		s.parts = append(s.parts, riskPart{rule: a.Rule, first: in.First, last: in.Last})
	}
	p := &s.parts[i]
	left := float64(a.Score) * o.decay(s.at-in.TS)
	p.sum += left
	if o.RuleMax > 0 {
		p.sum = min(p.sum, o.RuleMax)
	}
	p.n++
	p.attack, p.first, p.last = a.Attack, min(p.first, in.First), max(p.last, in.Last)
	k := contribution{id: a.ID, ts: in.TS, score: a.Score, rule: a.Rule}
	i, _ = slices.BinarySearchFunc(s.kept, k, o.heavier)
	if i < o.Keep && left >= riskLeast {
		k.title = slices.Clone(cutText(a.Title, riskTitle))
		s.kept = slices.Insert(s.kept, i, k)
		s.kept = s.kept[:min(len(s.kept), o.Keep)]
	}
}

// heavier orders contributions by what is left of them, which time does not change; of equal ones the newer comes first.
func (o *risk) heavier(a, b contribution) int {
	weight := func(k *contribution) float64 { return math.Log2(float64(k.score)) + float64(k.ts)/float64(o.HalfLife) }
	return cmp.Or(cmp.Compare(weight(&b), weight(&a)), cmp.Compare(b.ts, a.ts), bytes.Compare(a.id[:], b.id[:]))
}

// cutText is a text, or its beginning with an ellipsis, at a character's border.
func cutText(text []byte, most int) []byte {
	if len(text) <= most {
		return text
	}
	for most > 0 && text[most]&0xc0 == 0x80 {
		most--
	}
	return append(text[:most:most], "…"...)
}

// say says that an entity is above the threshold.
func (o *risk) say(c *Context, s *RiskState, in *In, score float64) {
	typ, rest, _ := event.ReadKey(in.Key)
	value, _, _ := event.ReadKey(rest)
	first, last, n := int64(PosInf), int64(NegInf), int64(0)
	var attack []string
	for i := range s.parts {
		p := &s.parts[i]
		first, last, n = min(first, p.first), max(last, p.last), n+p.n
		attack = append(attack, p.attack...)
	}
	slices.Sort(attack)
	number := func(v int64) event.Value { return event.Value{Kind: event.Number, Text: strconv.AppendInt(nil, v, 10)} }
	when := func(ms int64) event.Value { return event.Value{Kind: event.String, Text: event.AppendTime(nil, ms)} }
	o.cells = append(o.cells[:0], typ, value,
		event.Value{Kind: event.Number, Text: strconv.AppendFloat(nil, math.Round(score*100)/100, 'f', -1, 64)},
		number(n), number(int64(len(s.parts))), when(first), when(last),
		event.Value{Kind: event.Array, Text: appendTexts(nil, slices.Compact(attack))}, event.Value{Kind: event.Array, Text: o.contributions(s)}, event.Value{})
	if n > int64(len(s.kept)) {
		o.cells[len(o.cells)-1] = event.Value{Kind: event.Bool, Text: []byte("true")}
		c.Counts.Truncated++
	}
	id := in.Name.ID()
	c.Emit(s.at, first, last, o.Ident.ID(in.Key, id[:]), o.cells)
}

func appendTexts(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, x := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendJSONString(dst, []byte(x))
	}
	return append(dst, ']')
}

// contributions are the alerts that are shown, by time.
func (o *risk) contributions(s *RiskState) []byte {
	list := slices.Clone(s.kept)
	slices.SortFunc(list, func(a, b contribution) int { return cmp.Or(cmp.Compare(a.ts, b.ts), bytes.Compare(a.id[:], b.id[:])) })
	dst := []byte{'['}
	for i := range list {
		k := &list[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendJSONString(append(dst, `{"id":`...), []byte(k.id.String()))
		dst = event.AppendJSONString(append(dst, `,"rule":`...), []byte(k.rule))
		dst = event.AppendJSONString(append(dst, `,"title":`...), k.title)
		dst = strconv.AppendInt(append(dst, `,"score":`...), int64(k.score), 10)
		dst = event.AppendTime(append(dst, `,"time":"`...), k.ts)
		dst = append(dst, `"}`...)
	}
	return append(dst, ']')
}

// Fire implements Logic: it only forgets.
func (o *risk) Fire(_ *Context, s *RiskState, _ int64) { *s = RiskState{} }

// Next implements Logic.
func (o *risk) Next(s *RiskState) int64 {
	if !s.known {
		return Never
	}
	return s.until
}

// Flushes implements Logic.
func (o *risk) Flushes() bool { return false }

// Whole implements Whole.
func (o *risk) Whole() {}

// Clear implements Logic.
func (o *risk) Clear(s *RiskState) { *s = RiskState{} }

// Oldest implements Dated.
func (o *risk) Oldest(s *RiskState) int64 {
	t := int64(Never)
	for i := range s.kept {
		t = min(t, s.kept[i].ts)
	}
	return t
}

// Save implements Logic. A record is the whole state; what is kept names its rule by its place.
func (o *risk) Save(dst []byte, s *RiskState, _ bool) []byte {
	dst = binary.AppendVarint(dst, s.at)
	dst = binary.AppendVarint(dst, s.until-s.at)
	if dst = append(dst, bits(s.above, false)); s.above {
		dst = binary.AppendVarint(dst, s.saidAt-s.at)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.parts)))
	for i := range s.parts {
		p := &s.parts[i]
		dst = event.AppendBytes(dst, []byte(p.rule))
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(p.sum))
		dst = binary.AppendUvarint(dst, uint64(p.n))
		dst = binary.AppendVarint(binary.AppendVarint(dst, p.first-s.at), p.last-s.at)
		dst = binary.AppendUvarint(dst, uint64(len(p.attack)))
		for _, x := range p.attack {
			dst = event.AppendBytes(dst, []byte(x))
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.kept)))
	for i := range s.kept {
		k := &s.kept[i]
		dst = binary.AppendVarint(append(dst, k.id[:]...), k.ts-s.at)
		dst = binary.AppendUvarint(dst, uint64(k.score))
		dst = binary.AppendUvarint(dst, uint64(s.part(k.rule)))
		dst = event.AppendBytes(dst, k.title)
	}
	return dst
}

// Load implements Logic. What is kept beyond Keep, which may have changed, is left out.
func (o *risk) Load(s *RiskState, rec []byte) error {
	r := event.Reader{B: rec}
	*s = RiskState{known: true, at: r.Int()}
	s.until = s.at + r.Int()
	good := goodTime(s.at) && goodTime(s.until)
	if s.above, _ = readBits(&r); s.above {
		s.saidAt = s.at + r.Int()
		good = good && goodTime(s.saidAt)
	}
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		p := riskPart{rule: string(r.Bytes()), sum: math.Float64frombits(r.Uint64()), n: int64(r.Uint())}
		p.first, p.last = s.at+r.Int(), s.at+r.Int()
		for k := r.Uint(); k > 0 && !r.Bad; k-- {
			p.attack = append(p.attack, string(r.Bytes()))
		}
		good = good && goodTime(p.first) && goodTime(p.last) && p.sum >= 0 && p.sum < math.MaxFloat32 && p.n > 0
		s.parts = append(s.parts, p)
	}
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		k := o.loadContribution(&r, s)
		good = good && goodTime(k.ts) && k.score > 0 && k.score <= 100
		s.kept = append(s.kept, k)
	}
	slices.SortFunc(s.kept, o.heavier)
	s.kept = s.kept[:min(len(s.kept), o.Keep)]
	if !r.Done() || !good {
		*s = RiskState{}
		return errors.New("risk state is damaged")
	}
	return nil
}

func (o *risk) loadContribution(r *event.Reader, s *RiskState) (k contribution) {
	copy(k.id[:], r.Take(16))
	k.ts, k.score = s.at+r.Int(), int(r.Uint())
	if at := r.Uint(); at < uint64(len(s.parts)) {
		k.rule = s.parts[at].rule
	} else {
		r.Bad = true
	}
	k.title = slices.Clone(r.Bytes())
	return k
}
