package engine

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Alerts that are held back, grouped and added up, in the terms of the reference.

// refHold is suppress (forMS) or group.
type refHold struct {
	forMS, gap, span, every int64
	judged                  bool // its input is a plugin, whose rows have severities
	open                    []*refEpisode
}

// refEpisode is the alerts that stand together; ever is when and how each was judged.
type refEpisode struct {
	key    []byte
	rows   []refRow
	ws     []int64
	said   int   // of rows, how many the newest revision counts
	saidAt int64 // and when it was
	told   int64 // revisions
}

func pastOf(ts, w int64) int64 { return max(ts, w) }

// over is the watermark at which nothing can be added.
func (h *refHold) over(e *refEpisode) int64 {
	first := pastOf(e.rows[0].ts, e.ws[0])
	if h.forMS > 0 {
		return first + h.forMS
	}
	last := first
	for i, r := range e.rows {
		last = max(last, pastOf(r.ts, e.ws[i]))
	}
	return min(last+h.gap+1, first+h.span)
}

// takes says whether an alert belongs to an episode.
func (h *refHold) takes(e *refEpisode, ts int64) bool {
	if h.forMS > 0 {
		d := ts - e.rows[0].ts
		return -h.forMS < d && d < h.forMS
	}
	lo, hi := ts, ts
	near := false
	for _, r := range e.rows {
		lo, hi = min(lo, r.ts), max(hi, r.ts)
	}
	for _, r := range e.rows { // the bounds are those of the alerts, which lie within gap of one another
		near = near || r.ts-h.gap <= ts && ts <= r.ts+h.gap
	}
	inside := ts > slices.MinFunc(e.rows, byTime).ts && ts < slices.MaxFunc(e.rows, byTime).ts
	return (near || inside) && hi-lo < h.span
}

func byTime(a, b refRow) int { return cmp.Compare(a.ts, b.ts) }

// level is how severe a row is.
func (h *refHold) level(r refRow) int {
	if !h.judged {
		return 0
	}
	return slices.Index(alert.Severities, r.cells["severity"].text) + 1
}

func (h *refHold) worst(rows []refRow) (level int) {
	for _, r := range rows {
		level = max(level, h.level(r))
	}
	return level
}

// hold is one alert.
func (n *refNode) hold(p int64, r refRow, w int64) []refRow {
	h := n.damp
	var key []byte
	if n.key != "" {
		if key = canonical(r.cells[n.key]); key == nil {
			return []refRow{h.tell(&refEpisode{rows: []refRow{r}, ws: []int64{w}}, p)}
		}
	}
	if w == operator.PosInf {
		return []refRow{h.tell(&refEpisode{rows: []refRow{r}, ws: []int64{w}}, p)}
	}
	var best *refEpisode
	better := func(a, b *refEpisode) bool { // a's first alert is at or before the row, and the latest of those; else the next after it
		x, y := a.rows[0].ts, b.rows[0].ts
		if h.forMS > 0 && (x > r.ts || y > r.ts) {
			return x <= r.ts || y > r.ts && x < y
		}
		return x >= y
	}
	for _, e := range h.open {
		if string(e.key) == string(key) && h.takes(e, r.ts) && (best == nil || better(e, best)) {
			best = e
		}
	}
	if best == nil {
		e := &refEpisode{key: key, rows: []refRow{r}, ws: []int64{w}, saidAt: pastOf(r.ts, w)}
		h.open = append(h.open, e)
		return []refRow{h.tell(e, p)}
	}
	worse := h.level(r) > h.worst(best.rows)
	best.rows, best.ws = append(best.rows, r), append(best.ws, w)
	if worse || h.forMS == 0 && (h.every == 0 || best.saidAt+h.every <= w) {
		best.saidAt = pastOf(r.ts, w)
		return []refRow{h.tell(best, p)}
	}
	return nil
}

// tell says an episode as it is.
func (h *refHold) tell(e *refEpisode, p int64) refRow {
	out := refRow{p: p, ts: e.rows[0].ts, id: e.rows[0].id, only: "outputs", cells: map[string]refCell{}}
	if e.said > 0 {
		e.told++
	}
	out.rev, e.said = e.told, len(e.rows)
	for _, name := range []string{"k", "v", "n", "a"} {
		out.cells[name] = e.rows[0].cells[name]
	}
	suppressed := 0
	if h.forMS > 0 {
		suppressed = len(e.rows) - 1
	}
	out.cells["(gathered)"] = refCell{event.String, fmt.Sprint(len(e.rows), " ", suppressed, " ", h.worst(e.rows))}
	return out
}

// release is what the watermark does.
func (n *refNode) release(p, now int64) (out []refRow) {
	h := n.damp
	for {
		var next *refEpisode
		due := int64(operator.Never)
		for _, e := range h.open {
			x := h.over(e)
			if h.forMS == 0 && len(e.rows) > e.said {
				x = min(x, e.saidAt+h.every)
			}
			if next == nil || cmp.Or(cmp.Compare(x, due), strings.Compare(string(e.key), string(next.key)), cmp.Compare(e.rows[0].ts, next.rows[0].ts)) < 0 {
				next, due = e, x
			}
		}
		if next == nil || due > now {
			return out
		}
		if len(next.rows) > next.said {
			next.saidAt = due
			out = append(out, h.tell(next, p))
		}
		if h.over(next) <= due {
			h.open = slices.DeleteFunc(h.open, func(e *refEpisode) bool { return e == next })
		}
	}
}

// refRisk adds up alerts of operators by entity.
type refRisk struct {
	half, again    int64
	threshold, cap float64
	reset          bool
	keep           int
	types          []string
	of             []*refOp // its inputs
	keys           map[string]*refRiskKey
}

// refRiskKey is what is known of an entity: its alerts by rule, those that have been forgotten left out.
type refRiskKey struct {
	all    []refAlert
	lost   []refAlert // what the cap took
	ws     []int64
	above  bool
	saidAt int64
}

type refAlert struct {
	rule   string
	ts     int64
	score  float64
	id     event.ID
	title  string
	attack []string
}

// at is what alerts hold of the score at a time.
func (k *refRisk) at(list []refAlert, t int64, rule string) (sum float64) {
	for _, a := range list {
		if a.rule == rule || rule == "" {
			sum += a.score * math.Pow(2, -float64(t-a.ts)/float64(k.half))
		}
	}
	return sum
}

func newestOf(list []refAlert) int64 {
	t := int64(operator.NegInf)
	for _, a := range list {
		t = max(t, a.ts)
	}
	return t
}

// scoreOf is the risk score of the case's alerts of an operator, and titleOf their titles.
func scoreOf(name string) int { return []int{7, 11, 13, 17, 19}[int(name[len(name)-1])%5] }

func (o *refOp) alertOf(r refRow) refAlert {
	score := scoreOf(o.name)
	rule := o.name
	if o.judge {
		score += alert.Scores[r.cells["severity"].text] - alert.Scores["medium"]
	}
	k := r.cells["k"]
	title := "-"
	if k.kind != event.Absent && k.kind != event.Null {
		title = k.text
	}
	return refAlert{rule: rule, ts: r.ts, score: float64(min(max(score, 0), 100)), title: "of " + title, attack: []string{"T1078", "T" + strconv.Itoa(1000+scoreOf(o.name))},
		id: event.Hash([]byte(caseName), []byte(o.name), []byte("alert"), []byte("1"), r.id[:])}
}

// risk is one alert: for each entity that it names, what is known of that is gone through.
func (n *refNode) addRisk(pipeline string, p int64, r refRow, side int, w int64) (out []refRow) {
	k := n.risk
	seen := map[string]bool{}
	for _, e := range []struct{ typ, field string }{{"user", "k"}, {"host", "v"}, {"host", "k"}, {"ip", "n"}, {"user", "k"}} {
		value := canonical(r.cells[e.field])
		if value == nil || k.types != nil && !slices.Contains(k.types, e.typ) {
			continue
		}
		key := event.AppendKey(nil, event.Value{Kind: event.String, Text: []byte(e.typ)})
		key = append(key, value...)
		if !seen[string(key)] {
			seen[string(key)] = true
			out = append(out, n.riskOf(pipeline, p, r, k.of[side].alertOf(r), key, e.typ, w)...)
		}
	}
	return out
}

func (n *refNode) riskOf(pipeline string, p int64, r refRow, a refAlert, key []byte, typ string, w int64) []refRow {
	k := n.risk
	if w == operator.PosInf {
		w = operator.NegInf
	}
	s := k.keys[string(key)]
	if s == nil {
		s = &refRiskKey{}
		k.keys[string(key)] = s
	}
	if len(s.all) > 0 { // forgotten?
		t := newestOf(s.all)
		score := k.at(s.all, t, "") - k.at(s.lost, t, "")
		if max(t, slices.Max(s.ws))+max(int64(math.Ceil(float64(k.half)*math.Log2(score/0.01))), 0)+1 <= w {
			*s = refRiskKey{}
		}
	}
	if a.score <= 0 {
		return nil
	}
	t := max(newestOf(s.all), a.ts)
	held := func(rule string) float64 { return k.at(s.all, t, rule) - k.at(s.lost, t, rule) }
	gone := func(list []refAlert) []refAlert {
		return slices.DeleteFunc(list, func(x refAlert) bool { return x.ts < t && held(x.rule) < 0.01 })
	}
	if len(s.all) > 0 && a.ts > newestOf(s.all) {
		rest := gone(slices.Clone(s.all))
		s.lost = gone(s.lost)
		s.all = rest
	}
	if k.at(s.all, t, "")-k.at(s.lost, t, "") < k.threshold {
		s.above = false
	}
	s.all, s.ws = append(s.all, a), append(s.ws, w)
	if most := held(a.rule); k.cap > 0 && most > k.cap {
		s.lost = append(s.lost, refAlert{rule: a.rule, ts: t, score: most - k.cap})
	}
	score := k.at(s.all, t, "") - k.at(s.lost, t, "")
	if score < 0.01 {
		*s = refRiskKey{}
		return nil
	}
	if score < k.threshold || s.above && (k.again == 0 || t-s.saidAt < k.again) {
		return nil
	}
	out := k.row(s, t, score, key, typ)
	out.p, out.id = p, event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("risk/1"), key, r.id[:])
	if s.above, s.saidAt = true, t; k.reset {
		*s = refRiskKey{}
	}
	return []refRow{out}
}

// row is what is said of an entity.
func (k *refRisk) row(s *refRiskKey, t int64, score float64, key []byte, typ string) refRow {
	rest := key
	var v event.Value
	for range 2 {
		v, rest, _ = event.ReadKey(rest)
	}
	rules, attack := map[string]bool{}, map[string]bool{}
	for _, a := range s.all {
		rules[a.rule] = true
		for _, x := range a.attack {
			attack[strconv.Quote(x)] = true
		}
	}
	shown := slices.DeleteFunc(slices.Clone(s.all), func(a refAlert) bool { return a.ts < t && k.at([]refAlert{a}, t, "") < 0.01 })
	slices.SortStableFunc(shown, func(a, b refAlert) int {
		weigh := math.Log2(b.score/a.score) + float64(b.ts-a.ts)/float64(k.half)
		return cmp.Or(cmp.Compare(weigh, 0), cmp.Compare(b.ts, a.ts), strings.Compare(string(a.id[:]), string(b.id[:])))
	})
	shown = shown[:min(k.keep, len(shown))]
	slices.SortFunc(shown, func(a, b refAlert) int {
		return cmp.Or(cmp.Compare(a.ts, b.ts), strings.Compare(string(a.id[:]), string(b.id[:])))
	})
	var texts []string
	for _, a := range shown {
		texts = append(texts, fmt.Sprintf(`{"id":"%s","rule":"%s","title":"%s","score":%v,"time":"%s"}`, a.id, a.rule, a.title, a.score, event.AppendTime(nil, a.ts)))
	}
	number := func(n int) refCell { return refCell{event.Number, strconv.Itoa(n)} }
	out := refRow{ts: t, cells: map[string]refCell{
		"entity_type": {event.String, typ}, "entity": {v.Kind, string(v.Text)}, "score": {event.Number, strconv.FormatFloat(math.Round(score*100)/100, 'f', -1, 64)},
		"alerts": number(len(s.all)), "rules": number(len(rules)), "attack": {event.Array, "[" + strings.Join(slices.Sorted(maps.Keys(attack)), ",") + "]"},
		"contributions": {event.Array, "[" + strings.Join(texts, ",") + "]"}}}
	if len(shown) < len(s.all) {
		out.cells["truncated"] = refCell{event.Bool, "true"}
	}
	return out
}

// nearScore gives a score that differs by its rounding the text of what it should be.
func nearScore(want, got refRow) {
	a, b := want.cells["score"], got.cells["score"]
	x, errX := strconv.ParseFloat(a.text, 64)
	y, errY := strconv.ParseFloat(b.text, 64)
	if errX == nil && errY == nil && math.Abs(x-y) < 0.0101 {
		got.cells["score"] = a
	}
}

// randomAlerts makes some operators such that hold alerts, group them or add them up; before are those before it.
func randomAlerts(r *rand.Rand, o refOp, before []refOp, streams int) refOp {
	var ops []int // whose alerts count
	for i := range before {
		if before[i].damp == nil && before[i].risk == nil {
			ops = append(ops, streams+i)
		}
	}
	switch r.IntN(18) {
	case 0, 1:
		p := refOp{name: o.name, inputs: o.inputs[:1], key: []string{"k", "k", "v", ""}[r.IntN(4)], damp: &refHold{forMS: 1 + r.Int64N(20)}}
		if in := p.inputs[0]; in >= streams {
			p.damp.judged = before[in-streams].judge
		}
		if r.IntN(2) == 0 {
			gap := 1 + r.Int64N(8)
			p.damp.forMS, p.damp.gap, p.damp.span, p.damp.every = 0, gap, gap+r.Int64N(20), max(0, r.Int64N(12)-4)
		}
		return p
	case 2, 3:
		if len(ops) == 0 {
			return o
		}
		p := refOp{name: o.name, risk: &refRisk{half: 1 + r.Int64N([]int64{3, 30}[r.IntN(2)]), threshold: 5 + 30*r.Float64(), reset: r.IntN(4) == 0, keep: 1 + r.IntN(4)}}
		if p.risk.cap = 0; r.IntN(3) == 0 {
			p.risk.cap = 5 + 30*r.Float64()
		}
		if r.IntN(3) == 0 && !p.risk.reset {
			p.risk.again = 1 + r.Int64N(10)
		}
		if r.IntN(3) == 0 {
			p.risk.types = [][]string{{"user"}, {"host", "ip"}}[r.IntN(2)]
		}
		r.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
		p.inputs = ops[:1+r.IntN(len(ops))]
		return p
	}
	return o
}

// compileAlerts makes the engine's operator of it.
func compileAlerts(x *Operator, o refOp, f *event.Fields) {
	if h := o.damp; h != nil {
		s := &operator.Suppress{For: h.forMS, Gap: h.gap, Span: h.span, Every: h.every, Events: 1}
		if o.key != "" {
			s.Keys = []event.Field{f.Add(o.key)}
		}
		s.Init(f, []event.Field{f.Add("k"), f.Add("v"), f.Add("n"), f.Add("a")})
		x.Suppress = s
		return
	}
	k := o.risk
	x.Risk = &operator.Risk{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: "risk/1"}, HalfLife: k.half, Threshold: k.threshold, RuleMax: k.cap, Again: k.again, Reset: k.reset, Keep: k.keep}
	x.Risk.Init(f)
	x.RiskBy = &RiskBy{Types: k.types}
}

// caseAlert is the alert of a case's operator.
func caseAlert(t testing.TB, o refOp, f *event.Fields) *alert.Template {
	title, err := alert.ParseText("of {k}", func(name string) (event.Field, error) { return f.Add(name), nil })
	if err != nil {
		t.Fatal(err)
	}
	a := &alert.Template{Rule: alert.Rule{ID: o.name}, Title: title, Severity: "medium", RiskScore: scoreOf(o.name), Attack: []string{"T" + strconv.Itoa(1000+scoreOf(o.name)), "T1078"}}
	for _, e := range []struct{ typ, field string }{{"user", "k"}, {"host", "v"}, {"host", "k"}, {"ip", "n"}, {"user", "k"}} {
		a.Entities = append(a.Entities, alert.Entity{Field: alert.Column{Name: e.field, Field: f.Add(e.field)}, Type: e.typ})
	}
	return a
}
