package match

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// reference is another field of the row, which an item compares its field with.
type reference struct {
	field event.Field
	path  string
}

// references makes the item of a key with fieldref. Its values are paths, as keys have them.
func (c *compiler) references(k key, values []*yaml.Node, good bool) *node {
	it := &item{field: k.field, path: k.path, test: k.test, all: k.all && len(values) > 1, cased: k.cased}
	for _, n := range values {
		r, ok := c.reference(n)
		if good = good && ok; ok {
			c.meets(n, &k)
		}
		it.refs = append(it.refs, r)
	}
	if !good {
		return nil
	}
	return negate(&node{op: opReference, item: it}, k.neq)
}

func (c *compiler) reference(n *yaml.Node) (reference, bool) {
	if !isText(n.ShortTag()) || n.Value == "" {
		c.problem(n, "`fieldref` takes the name of a field, not %s", unquoted(n))
		return reference{}, false
	}
	f, err := c.resolve(n.Value)
	if err != nil {
		c.problem(n, "%s", err.Error())
	}
	return reference{f, n.Value}, err == nil
}

func (it *item) matchReferences(r Row) bool {
	v := r.Value(it.field)
	if v.Missing() {
		return false
	}
	for i := range it.refs {
		if it.pairs(v, r.Value(it.refs[i].field)) != it.all {
			return !it.all
		}
	}
	return it.all
}

// pairs says whether some element of v hits with some element of w. What is no array is its own only element.
func (it *item) pairs(v, w event.Value) bool {
	if v.Kind != event.Array {
		return it.pairsOf(v, w)
	}
	e := elements{text: v.Text}
	for x, ok := e.next(); ok; x, ok = e.next() {
		if it.pairsOf(x, w) {
			return true
		}
	}
	return false
}

func (it *item) pairsOf(v, w event.Value) bool {
	if w.Kind != event.Array {
		return it.pair(v, w)
	}
	e := elements{text: w.Text}
	for x, ok := e.next(); ok; x, ok = e.next() {
		if it.pair(v, x) {
			return true
		}
	}
	return false
}

// pair compares two scalars: numbers with numbers and numeric strings by value, all else as texts.
func (it *item) pair(v, w event.Value) bool {
	if !scalar(v.Kind) || !scalar(w.Kind) {
		return false
	}
	if it.test == testEqual && (v.Kind == event.Number || w.Kind == event.Number) {
		return equalNumbers(v.Text, w.Text)
	}
	text, part := v.Text, w.Text
	switch it.test {
	case testContains:
		return it.cased && bytes.Contains(text, part) || !it.cased && containsFold(text, part)
	case testStarts:
		return it.cased && bytes.HasPrefix(text, part) || !it.cased && prefixFold(text, part) >= 0
	case testEnds:
		return it.cased && bytes.HasSuffix(text, part) || !it.cased && suffixFold(text, part)
	}
	return bytes.Equal(text, part) || !it.cased && bytes.EqualFold(text, part)
}

func equalNumbers(a, b []byte) bool {
	if i, ok := integer(a); ok {
		if j, ok := integer(b); ok {
			return i == j
		}
	}
	x, okX := event.ParseDecimal(a)
	y, okY := event.ParseDecimal(b)
	return okX && okY && x.Compare(&y) == 0
}

// prefixFold returns where the prefix ends in the text, by simple folding, or -1.
func prefixFold(text, prefix []byte) int {
	i := 0
	for len(prefix) > 0 {
		if i == len(text) {
			return -1
		}
		want, n := foldedRune(prefix)
		got, m := foldedRune(text[i:])
		if want != got {
			return -1
		}
		prefix, i = prefix[n:], i+m
	}
	return i
}

func suffixFold(text, suffix []byte) bool {
	at := len(text)
	for range utf8.RuneCount(suffix) {
		if at == 0 {
			return false
		}
		_, n := utf8.DecodeLastRune(text[:at])
		at -= n
	}
	return prefixFold(text[at:], suffix) >= 0
}

// hashBase is the base of containsFold's hash, that of FNV.
const hashBase = 1099511628211

// containsFold searches as Rabin and Karp do: a hash of as many folded runes as the part has is moved along the text, so that
// time is about the sum of both lengths, and not their product.
func containsFold(text, part []byte) bool {
	if len(part) == 0 {
		return true
	}
	var want, got, power uint64 = 0, 0, 1
	end := 0
	for rest := part; len(rest) > 0; power *= hashBase {
		if end == len(text) {
			return false
		}
		r, n := foldedRune(rest)
		s, m := foldedRune(text[end:])
		want, got = want*hashBase+uint64(r), got*hashBase+uint64(s)
		rest, end = rest[n:], end+m
	}
	for start := 0; ; {
		if want == got && prefixFold(text[start:], part) >= 0 {
			return true
		}
		if end == len(text) {
			return false
		}
		in, m := foldedRune(text[end:])
		out, n := foldedRune(text[start:])
		got = got*hashBase + uint64(in) - power*uint64(out)
		start, end = start+n, end+m
	}
}

// foldedRune returns the first rune, folded, and its length in the text.
func foldedRune(b []byte) (rune, int) {
	switch c := b[0]; {
	case c >= 'A' && c <= 'Z':
		return rune(c) + 'a' - 'A', 1
	case c < utf8.RuneSelf:
		return rune(c), 1
	}
	r, n := utf8.DecodeRune(b)
	return fold(r), n
}

// appendReferences adds the item's canonical text.
func (it *item) appendReferences(dst []byte) []byte {
	dst = append(strconv.AppendQuote(dst, it.path), signs[it.test]...)
	if it.cased {
		dst = append(dst, "cased "...)
	}
	if it.all {
		dst = append(dst, "all "...)
	}
	for i, r := range it.refs {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = strconv.AppendQuote(append(dst, "field "...), r.path)
	}
	return dst
}
