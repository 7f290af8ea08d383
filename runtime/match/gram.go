package match

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// gramHash spreads a gram over the bits that are used: Knuth's multiplicative hashing.
const gramHash = 0x9e3779b1

// grams finds many fragments in a text at once. Of each it knows one gram, that is width bytes in a row, and where in the
// fragment they are; a text is walked gram by gram through a filter of bits, and what passes is compared in full. So memory is
// a few bytes a fragment, however long they are, and a text costs about a nanosecond a byte, however many they are.
type grams struct {
	width     int
	shift     int      // the hash >> shift is the number of a bit
	filter    []uint64 // a bit for each hash of a gram
	slotShift int
	slots     []slot // by hash, an open table
	fragments []fragment
	first     int32 // the mark of the first fragment: many searches share the marks
}

// slot has a gram and its fragments. A slot without fragments is free.
type slot struct {
	gram     uint32
	from, to int32
}

// fragment is a folded text to be found; who asks for it is posts[from:to] of the set.
type fragment struct {
	text       string
	at         int32 // where in the text its gram is
	start, end bool  // it must be at the start of the text, or the end
	post
}

// The widths of grams: fragments that are shorter than the one are found by the other.
const (
	gramWide   = 4
	gramNarrow = fragmentMin
)

// choiceMax is how many grams of a long fragment are considered.
const choiceMax = 64

// newGrams takes fragments of at least width bytes; nil without any.
func newGrams(width int, fragments []fragment) *grams {
	if len(fragments) == 0 {
		return nil
	}
	g := &grams{width: width}
	by := g.choose(fragments)
	all := slices.Sorted(maps.Keys(by))
	filterBits := max(9, bits.Len(uint(len(all)))+6)
	slotBits := bits.Len(uint(len(all))) + 1
	g.shift, g.slotShift = 32-min(filterBits, 24), 32-min(slotBits, 31)
	g.filter = make([]uint64, 1<<(32-g.shift)/64)
	g.slots = make([]slot, 1<<(32-g.slotShift))
	for _, gram := range all {
		h := gram * gramHash >> g.shift
		g.filter[h>>6] |= 1 << (h & 63)
		i := gram * gramHash >> g.slotShift
		for g.slots[i].to > 0 {
			i = (i + 1) & uint32(len(g.slots)-1)
		}
		from := len(g.fragments)
		g.fragments = append(g.fragments, by[gram]...)
		g.slots[i] = slot{gram, int32(from), int32(len(g.fragments))}
	}
	return g
}

// choose picks the gram of each fragment: one that few other fragments have and few texts should have. Short ones, which have
// little choice, choose first.
func (g *grams) choose(fragments []fragment) map[uint32][]fragment {
	slices.SortFunc(fragments, func(a, b fragment) int {
		return cmp.Or(cmp.Compare(len(a.text), len(b.text)), strings.Compare(a.text, b.text))
	})
	by := map[uint32][]fragment{}
	for _, f := range fragments {
		best, gram := int(^uint(0)>>1), uint32(0)
		for i := 0; i+g.width <= len(f.text) && i < choiceMax; i++ {
			x := g.gram(f.text[i:])
			load := 4 * len(by[x])
			for _, c := range []byte(f.text[i : i+g.width]) {
				load += commonness(c)
			}
			if load < best {
				best, gram, f.at = load, x, int32(i)
			}
		}
		by[gram] = append(by[gram], f)
	}
	return by
}

// gram is the first width bytes as a number, as find reads them.
func (g *grams) gram(text string) (x uint32) {
	for i := range g.width {
		x |= uint32(text[i]) << (8 * (gramWide - g.width + i))
	}
	return x
}

// commonness says roughly how often a byte is in the texts of logs: 0 to 3.
func commonness(c byte) int {
	switch {
	case strings.IndexByte("etaoinsr ", c) >= 0:
		return 3
	case strings.IndexByte("lcdupmhg.0/", c) >= 0:
		return 2
	case c >= 'a' && c <= 'z' || c >= '1' && c <= '9':
		return 1
	}
	return 0
}

// findings are what a search has found so far: those fragments whose mark is round, and their numbers in order. Texts may repeat
// a fragment as often as they like: it is noted once, and not compared again.
type findings struct {
	marks   []uint32 // by fragment
	round   uint32
	numbers []int32
}

// find notes the fragments that the text has.
func (g *grams) find(text []byte, into *findings) {
	if len(text) < g.width {
		return
	}
	var x uint32
	for _, c := range text[:g.width-1] {
		x = x>>8 | uint32(c)<<24
	}
	keep := ^uint32(0) << (8 * (gramWide - g.width)) // of wide grams all bytes, of narrow ones the last
	filter, shift := g.filter, g.shift&31
	for i, c := range text[g.width-1:] {
		x = x>>8 | uint32(c)<<24
		h := x & keep * gramHash >> shift
		if filter[h>>6]>>(h&63)&1 != 0 {
			g.compare(text, i, x&keep, into)
		}
	}
}

// compare looks at the fragments whose gram may stand at i.
func (g *grams) compare(text []byte, i int, gram uint32, into *findings) {
	k := gram * gramHash >> (g.slotShift & 31)
	for ; g.slots[k].gram != gram; k = (k + 1) & uint32(len(g.slots)-1) {
		if g.slots[k].to == 0 {
			return
		}
	}
	for j := g.slots[k].from; j < g.slots[k].to; j++ {
		mark := &into.marks[g.first+j]
		if *mark == into.round {
			continue
		}
		f := &g.fragments[j]
		from := i - int(f.at)
		end := from + len(f.text)
		if from < 0 || end > len(text) || f.start && from > 0 || f.end && end < len(text) || string(text[from:end]) != f.text {
			continue
		}
		*mark = into.round
		into.numbers = append(into.numbers, j)
	}
}
