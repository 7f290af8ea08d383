package match

import (
	"math"
	"net/netip"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Set is an index over the literals of many conditions. Each condition has terms of which a row must have one (need.go); a
// row's cells are searched for the terms of all conditions at once, and what is found are the candidates: all conditions that
// hold are among them, and few others. A Set does not change, so any number of goroutines may use it.
type Set struct {
	size      int
	fragments int
	always    []int32
	columns   []column
	posts     []int32 // conditions, by term
}

// post is who asks for a term: posts[from:to] of the set.
type post struct{ from, to int32 }

// column is what is searched for in one field, or in the texts of events.
type column struct {
	field    event.Field
	keywords bool
	exact    map[string]post
	wide     *grams
	narrow   *grams
	numbers  map[uint64]post
	masks    []mask
}

// mask has the networks whose masks have the same number of bits.
type mask struct {
	bits int
	of   map[netip.Prefix]post
}

// NewSet indexes conditions; each is known by its place in the list. nil conditions hold for every row.
func NewSet(conditions []*Condition) *Set {
	s := &Set{size: len(conditions)}
	c := chooser{uses: map[term]int{}, counting: true}
	for _, x := range conditions {
		if x != nil {
			c.node(x.root)
		}
	}
	c.counting = false
	askers := map[term][]int32{}
	var terms []term // in the order of the conditions
	for i, x := range conditions {
		n := noNeed()
		if x != nil {
			n = c.node(x.root)
		}
		if math.IsInf(n.cost, 1) {
			s.always = append(s.always, int32(i))
		}
		for _, t := range n.terms {
			if askers[t] == nil {
				terms = append(terms, t)
			}
			if list := askers[t]; len(list) == 0 || list[len(list)-1] != int32(i) {
				askers[t] = append(list, int32(i))
			}
		}
	}
	s.build(terms, askers)
	return s
}

// build makes the columns.
func (s *Set) build(terms []term, askers map[term][]int32) {
	type place struct {
		field    event.Field
		keywords bool
	}
	type parts struct{ wide, narrow []fragment }
	at, fragments := map[place]int{}, []parts{}
	for _, t := range terms {
		i, ok := at[place{t.field, t.keywords}]
		if !ok {
			i = len(s.columns)
			at[place{t.field, t.keywords}] = i
			s.columns = append(s.columns, column{field: t.field, keywords: t.keywords, exact: map[string]post{}, numbers: map[uint64]post{}})
			fragments = append(fragments, parts{})
		}
		p := post{from: int32(len(s.posts))}
		s.posts = append(s.posts, askers[t]...)
		p.to = int32(len(s.posts))
		c := &s.columns[i]
		switch t.kind {
		case termExact:
			c.exact[t.text] = p
		case termNumber:
			c.numbers[t.number] = p
		case termNetwork:
			c.network(t.network, p)
		case termPart:
			f := fragment{text: t.text, start: t.start, end: t.end, post: p}
			if list := &fragments[i].wide; len(t.text) >= gramWide {
				*list = append(*list, f)
			} else {
				fragments[i].narrow = append(fragments[i].narrow, f)
			}
		}
	}
	for i := range s.columns {
		c := &s.columns[i]
		c.wide, c.narrow = newGrams(gramWide, fragments[i].wide), newGrams(gramNarrow, fragments[i].narrow)
		for _, g := range [2]*grams{c.wide, c.narrow} {
			if g != nil {
				g.first = int32(s.fragments)
				s.fragments += len(g.fragments)
			}
		}
	}
}

func (c *column) network(n netip.Prefix, p post) {
	i := slices.IndexFunc(c.masks, func(x mask) bool { return x.bits == n.Bits() })
	if i < 0 {
		i = len(c.masks)
		c.masks = append(c.masks, mask{n.Bits(), map[netip.Prefix]post{}})
	}
	c.masks[i].of[n] = p
}

// Always returns the conditions that no literal can rule out, in order: they are candidates in every row.
func (s *Set) Always() []int32 { return slices.Clone(s.always) }

// Finder finds candidates, one row after the other. It is for one goroutine.
type Finder struct {
	set    *Set
	seen   []uint32 // by condition: the last round, which is a row, that it was found in
	round  uint32
	found  []int32  // conditions
	parts  findings // fragments
	folded []byte
}

// Finder returns a new finder of the set.
func (s *Set) Finder() *Finder {
	return &Finder{set: s, seen: make([]uint32, s.size), parts: findings{marks: make([]uint32, s.fragments)}}
}

// Find returns the conditions, other than those of Always, that may hold for a row: each once, in no order. The slice is
// good until the next call.
func (f *Finder) Find(r Row) []int32 {
	f.found = f.found[:0]
	if f.round++; f.round == 0 {
		clear(f.seen)
		clear(f.parts.marks)
		f.round = 1
	}
	f.parts.round = f.round
	for i := range f.set.columns {
		c := &f.set.columns[i]
		switch v := r.Value(c.field); {
		case c.keywords:
			if v.Kind == event.Object {
				withinTexts(v.Text, func(v event.Value) bool { return f.scalar(c, v) })
			}
		case v.Kind == event.Array:
			within(v.Text, func(v event.Value) bool { return f.scalar(c, v) })
		default:
			f.scalar(c, v)
		}
	}
	return f.found
}

// scalar looks for what a column asks for in a cell that is no array. It returns false, as no cell is the last.
func (f *Finder) scalar(c *column, v event.Value) bool {
	if !scalar(v.Kind) {
		return false
	}
	if len(c.exact) > 0 || c.wide != nil || c.narrow != nil {
		f.text(c, v.Text)
	}
	if len(c.numbers) > 0 && v.Kind != event.Bool {
		if d, ok := event.ParseDecimal(v.Text); ok {
			f.add(c.numbers[d.Hash()])
		}
	}
	if len(c.masks) > 0 && v.Kind == event.String {
		f.address(c, v.Text)
	}
	return false
}

func (f *Finder) text(c *column, text []byte) {
	f.folded = appendFolded(f.folded[:0], text)
	if len(c.exact) > 0 {
		f.add(c.exact[string(f.folded)])
	}
	for _, g := range [2]*grams{c.wide, c.narrow} {
		if g == nil {
			continue
		}
		f.parts.numbers = f.parts.numbers[:0]
		g.find(f.folded, &f.parts)
		for _, i := range f.parts.numbers {
			f.add(g.fragments[i].post)
		}
	}
}

func (f *Finder) address(c *column, text []byte) {
	a, ok := ParseAddr(text)
	if !ok {
		return
	}
	a = a.Unmap()
	for i := range c.masks {
		if p, err := a.Prefix(c.masks[i].bits); err == nil {
			f.add(c.masks[i].of[p])
		}
	}
}

// add notes conditions, each once a row.
func (f *Finder) add(p post) {
	for _, c := range f.set.posts[p.from:p.to] {
		if f.seen[c] != f.round {
			f.seen[c] = f.round
			f.found = append(f.found, c)
		}
	}
}
