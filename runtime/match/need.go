package match

import (
	"math"
	"net/netip"
	"regexp/syntax"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// fragmentMin is the least that is searched in texts, in bytes: a shorter one would be found in nearly every text.
const fragmentMin = 2

type termKind uint8

const (
	termExact  termKind = iota // the whole text
	termPart                   // a part of the text, perhaps its start or end
	termNumber                 // a number, by the hash of its value
	termNetwork
)

// term is something to be found in a cell. Texts are folded, those of cased literals too: what is equal is equal folded.
type term struct {
	field      event.Field
	keywords   bool // in some text of the event
	kind       termKind
	start, end bool // of a part
	text       string
	number     uint64
	network    netip.Prefix
}

// need is a list of terms of which a row must have one, or the condition does not hold; cost is what share of rows is
// expected to have one, as far as literals can tell. Without a need, it is infinite.
type need struct {
	terms []term
	cost  float64
}

func noNeed() need { return need{cost: math.Inf(1)} }

// chooser finds the cheapest need of each condition. What many conditions ask for is what rows tend to have (`EventID: 1`,
// `status: failure`), so a first pass counts terms and a second chooses.
type chooser struct {
	uses     map[term]int
	counting bool
}

func (c *chooser) one(t term) need {
	if c.counting {
		c.uses[t]++
	}
	bits := 0
	switch t.kind {
	case termExact:
		bits = 2 + min(len(t.text), 8)
	case termPart:
		bits = min(len(t.text), 10)
	case termNumber:
		bits = 4
	case termNetwork:
		bits = t.network.Bits() * 16 / t.network.Addr().BitLen()
	}
	if t.start || t.end {
		bits++
	}
	return need{[]term{t}, math.Ldexp(float64(c.uses[t]), -bits)}
}

// or is the need of a list of which one must hold.
func or[E any](list []E, of func(e *E) need) (all need) {
	for i := range list {
		n := of(&list[i])
		all.terms, all.cost = append(all.terms, n.terms...), all.cost+n.cost
	}
	if math.IsInf(all.cost, 1) {
		return noNeed()
	}
	return all
}

// and is the need of a list of which all must hold.
func and[E any](list []E, of func(e *E) need) need {
	best := noNeed()
	for i := range list {
		if n := of(&list[i]); n.cost < best.cost {
			best = n
		}
	}
	return best
}

func (c *chooser) node(n *node) need {
	each := func(k **node) need { return c.node(*k) }
	switch n.op {
	case opAnd:
		return and(n.kids, each)
	case opOr:
		return or(n.kids, each)
	case opItem:
		each := func(l *literal) need { return c.literal(n.item, l) }
		if n.item.all {
			return and(n.item.literals, each)
		}
		return or(n.item.literals, each)
	}
	return noNeed() // what is absent may meet it, or it compares fields
}

func (c *chooser) literal(it *item, l *literal) need {
	t := term{field: it.field, keywords: it.keywords}
	switch l.kind {
	case literalText, literalBool:
		t.kind, t.text = termExact, string(appendFolded(nil, l.text))
		return c.one(t)
	case literalPattern:
		return c.pattern(t, l.pattern)
	case literalNumber:
		if l.test == testEqual {
			t.kind, t.number = termNumber, l.number.decimal.Hash()
			return c.one(t)
		}
	case literalRegexp:
		if re, err := syntax.Parse(l.regexp.String(), syntax.Perl); err == nil {
			return c.regexp(t, re)
		}
	case literalNetworks:
		t.kind = termNetwork
		return or(l.nets, func(p *netip.Prefix) need {
			t.network = *p
			return c.one(t)
		})
	case literalAny:
		return or(l.any, func(l *literal) need { return c.literal(it, l) })
	}
	return noNeed()
}

// part is the need of a part of a text.
func (c *chooser) part(t term, runes []rune) need {
	t.kind, t.text = termPart, string(appendFolded(nil, []byte(string(runes))))
	if len(t.text) < fragmentMin {
		return noNeed()
	}
	return c.one(t)
}

// pattern is the need of a text with wildcards: one of the runs between them.
func (c *chooser) pattern(t term, p *pattern) need {
	type run struct {
		runes      []rune
		start, end bool
	}
	var runs []run
	from := 0
	for i := 0; i <= len(p.runes); i++ {
		if i == len(p.runes) || p.runes[i] < 0 {
			runs = append(runs, run{p.runes[from:i], from == 0, i == len(p.runes)})
			from = i + 1
		}
	}
	return and(runs, func(r *run) need {
		t.start, t.end = r.start, r.end
		return c.part(t, r.runes)
	})
}

// regexp is the need of a regular expression: a text that must be in whatever matches.
func (c *chooser) regexp(t term, re *syntax.Regexp) need {
	each := func(r **syntax.Regexp) need { return c.regexp(t, *r) }
	switch re.Op {
	case syntax.OpLiteral:
		return c.part(t, re.Rune)
	case syntax.OpConcat, syntax.OpCapture, syntax.OpPlus:
		return and(re.Sub, each)
	case syntax.OpAlternate:
		return or(re.Sub, each)
	case syntax.OpRepeat:
		if re.Min > 0 {
			return and(re.Sub, each)
		}
	}
	return noNeed()
}
