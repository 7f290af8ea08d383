package match

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The wildcards among the runes of a pattern.
const (
	anyOne rune = -1 // ?
	anyRun rune = -2 // *

	anyDash rune = -3 // of windash: one of its dashes
)

// parseWildcards reads a text as Sigma does: * and ? are wildcards; `\*`, `\?` and `\\` mean the second character; any other
// backslash is itself, so that Windows paths need no escapes.
func parseWildcards(s string) []rune {
	in := []rune(s)
	out := make([]rune, 0, len(in)+2)
	for i := 0; i < len(in); i++ {
		switch r := in[i]; {
		case r == '\\' && i+1 < len(in) && (in[i+1] == '*' || in[i+1] == '?' || in[i+1] == '\\'):
			i++
			out = append(out, in[i])
		case r == '*':
			out = append(out, anyRun)
		case r == '?':
			out = append(out, anyOne)
		default:
			out = append(out, r)
		}
	}
	return out
}

// formatWildcards is the inverse of parseWildcards, with every backslash escaped. A dash of windash is `\-`.
func formatWildcards(runes []rune) string {
	var b strings.Builder
	for _, r := range runes {
		switch r {
		case anyOne:
			b.WriteByte('?')
		case anyRun:
			b.WriteByte('*')
		case anyDash:
			b.WriteString(`\-`)
		case '*', '?', '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hasWildcard(runes []rune) bool {
	return slices.ContainsFunc(runes, func(r rune) bool { return r < 0 })
}

// pattern is a text with wildcards, cut at its stars. The head must be at the start and the tail at the end; what is between
// is searched from left to right, each part at the first place after the one before. That never needs a second try, since
// an earlier place leaves more room for the rest: time is at most len(pattern) * len(text).
type pattern struct {
	runes []rune // normal: of neighbouring wildcards all ? first, then at most one *
	head  segment
	parts []part
	tail  segment
	star  bool // without one, the head is all
	cased bool
	least int // bytes that a text needs at least
}

// segment is a run of folded runes and ?.
type segment []rune

// part is a segment between two stars. It begins with a rune, not ?, because `*?` is `?*`.
type part struct {
	segment
	first [8]uint32 // set of the bytes that a match can begin with
}

func newPattern(runes []rune, cased bool) *pattern {
	p := &pattern{runes: normal(runes), cased: cased}
	segments := [][]rune{{}}
	for _, r := range p.runes {
		if r == anyRun {
			segments = append(segments, []rune{})
			continue
		}
		p.least++
		if !cased && r >= 0 {
			r = fold(r)
		}
		last := len(segments) - 1
		segments[last] = append(segments[last], r)
	}
	last := len(segments) - 1
	p.head, p.star = segments[0], last > 0
	if p.star {
		p.tail = segments[last]
		for _, s := range segments[1:last] {
			p.parts = append(p.parts, newPart(s, cased))
		}
	}
	return p
}

// normal sorts neighbouring wildcards, which does not change what they match.
func normal(runes []rune) []rune {
	var out []rune
	star := false
	for _, r := range runes {
		if r == anyRun {
			star = true
			continue
		}
		if r != anyOne && star {
			out = append(out, anyRun)
			star = false
		}
		out = append(out, r)
	}
	if star {
		out = append(out, anyRun)
	}
	return out
}

func newPart(s segment, cased bool) part {
	p := part{segment: s}
	add := func(r rune) {
		b := utf8.AppendRune(nil, r)[0]
		p.first[b>>5] |= 1 << (b & 31)
	}
	if s[0] == anyDash {
		for _, r := range windashes {
			add(r)
		}
		return p
	}
	add(s[0])
	if !cased {
		for r := unicode.SimpleFold(s[0]); r != s[0]; r = unicode.SimpleFold(r) {
			add(r)
		}
	}
	return p
}

// fold maps runes that differ in case only to one of them, which is lower case in ASCII.
func fold(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	if least >= 'A' && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}

// String returns the pattern with its escapes.
func (p *pattern) String() string { return formatWildcards(p.runes) }

func (p *pattern) match(text []byte) bool {
	if len(text) < p.least {
		return false
	}
	i := p.head.at(text, 0, p.cased)
	if i < 0 || !p.star {
		return i == len(text)
	}
	end := len(text)
	for range p.tail {
		if end == i {
			return false
		}
		_, n := utf8.DecodeLastRune(text[i:end])
		end -= n
	}
	if p.tail.at(text, end, p.cased) < 0 {
		return false
	}
	for k := range p.parts {
		if i = p.parts[k].find(text[:end], i, p.cased); i < 0 {
			return false
		}
	}
	return true
}

// at returns where the segment ends if it stands at i, else -1.
func (s segment) at(text []byte, i int, cased bool) int {
	for _, want := range s {
		if i >= len(text) {
			return -1
		}
		r, n := rune(text[i]), 1
		switch {
		case r >= utf8.RuneSelf:
			r, n = utf8.DecodeRune(text[i:])
			if !cased && r != want && want >= 0 {
				r = fold(r)
			}
		case !cased && r >= 'A' && r <= 'Z':
			r += 'a' - 'A'
		}
		if r != want && want != anyOne && !(want == anyDash && isDash(r)) {
			return -1
		}
		i += n
	}
	return i
}

// find returns where the part ends that begins first at i or later, or -1.
func (p *part) find(text []byte, i int, cased bool) int {
	for ; i+len(p.segment) <= len(text); i++ {
		b := text[i]
		if p.first[b>>5]&(1<<(b&31)) == 0 {
			continue
		}
		if end := p.at(text, i, cased); end >= 0 {
			return end
		}
	}
	return -1
}
