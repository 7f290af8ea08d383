package match

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

type literalKind uint8

const (
	literalNull literalKind = iota
	literalBool
	literalNumber
	literalText
	literalPattern
)

// literal is one value of an item, ready to be compared.
type literal struct {
	kind    literalKind
	test    test // literalNumber: testEqual or an order
	cased   bool
	ascii   bool   // text is ASCII: what equals it is at least as long
	fixed   bool   // and has no k or s, the ASCII letters that fold with longer ones: what equals it is just as long
	text    []byte // literalBool, literalText
	number  number
	pattern *pattern
}

// literal reads one scalar as its YAML tag says.
func (c *compiler) literal(n *yaml.Node, k key) (literal, bool) {
	tag := n.ShortTag()
	switch {
	case k.test.ordered():
		return c.order(n, k)
	case k.test != testEqual && tag == "!!null":
		c.problem(n, "`%s` takes a text, not null", k.name)
		return literal{}, false
	case tag == "!!str" || tag == "!!timestamp" || tag == "!!merge":
		return c.text(n, k)
	case tag != "!!null" && tag != "!!bool" && tag != "!!int" && tag != "!!float":
		c.problem(n, "the tag %s is not known here: values are strings, numbers, true, false and null", tag)
		return literal{}, false
	case k.test != testEqual: // contains: 22 means the text as written
		return c.text(n, k)
	case tag == "!!null":
		return literal{}, true
	case tag == "!!bool":
		b, ok := boolOf(n)
		if !ok {
			c.problem(n, "%q is not true or false", brief(n.Value))
		}
		return newText(strconv.FormatBool(b), literalBool, k.cased), ok
	}
	return c.order(n, k)
}

// order reads a number to compare with.
func (c *compiler) order(n *yaml.Node, k key) (literal, bool) {
	if tag := n.ShortTag(); tag != "!!int" && tag != "!!float" {
		c.problem(n, "`%s` takes a number, not %s", k.name, describe(n))
		return literal{}, false
	}
	x, ok := yamlNumber(n)
	if !ok {
		c.problem(n, "%q is not a number to compare with", brief(n.Value))
	}
	return literal{kind: literalNumber, test: k.test, number: x}, ok
}

// text reads a text, wildcards and all.
func (c *compiler) text(n *yaml.Node, k key) (literal, bool) {
	runes := parseWildcards(n.Value)
	switch k.test {
	case testContains:
		runes = append(append([]rune{anyRun}, runes...), anyRun)
	case testStarts:
		runes = append(runes, anyRun)
	case testEnds:
		runes = append([]rune{anyRun}, runes...)
	}
	if !hasWildcard(runes) {
		return newText(string(runes), literalText, k.cased), true
	}
	if len(n.Value) > PatternMax {
		c.problem(n, "a value with wildcards has %d bytes at most, this one has %d", PatternMax, len(n.Value))
		return literal{}, false
	}
	return literal{kind: literalPattern, cased: k.cased, pattern: newPattern(runes, k.cased)}, true
}

func newText(s string, kind literalKind, cased bool) literal {
	l := literal{kind: kind, cased: cased, text: []byte(s), ascii: true}
	for i := range len(s) {
		l.ascii = l.ascii && s[i] < 0x80
	}
	l.fixed = l.ascii && !strings.ContainsAny(s, "kKsS")
	return l
}

func boolOf(n *yaml.Node) (value, ok bool) {
	if n.ShortTag() != "!!bool" {
		return false, false
	}
	err := n.Decode(&value)
	return value, err == nil
}

// match compares a cell that is no array.
func (l *literal) match(v event.Value) bool {
	switch l.kind {
	case literalText:
		return scalar(v.Kind) && l.equal(v.Text)
	case literalPattern:
		return scalar(v.Kind) && l.pattern.match(v.Text)
	case literalNumber:
		return l.compare(v)
	case literalBool:
		return (v.Kind == event.Bool || v.Kind == event.String) && l.equal(v.Text)
	}
	return v.Missing()
}

// scalar says whether a cell has a text to compare: a string's own, or the JSON text of a number or bool.
func scalar(k event.Kind) bool { return k >= event.Bool && k <= event.String }

func (l *literal) equal(b []byte) bool {
	if bytes.Equal(b, l.text) {
		return true
	}
	if l.cased || l.ascii && len(b) < len(l.text) || l.fixed && len(b) != len(l.text) {
		return false
	}
	return bytes.EqualFold(b, l.text)
}

func (l *literal) compare(v event.Value) bool {
	sign, ok := l.number.compare(v)
	if !ok {
		return false
	}
	switch l.test {
	case testLess:
		return sign < 0
	case testLessEqual:
		return sign <= 0
	case testGreater:
		return sign > 0
	case testGreaterEqual:
		return sign >= 0
	}
	return sign == 0
}

// append adds the canonical text.
func (l *literal) append(dst []byte) []byte {
	switch l.kind {
	case literalText:
		return strconv.AppendQuote(dst, formatWildcards([]rune(string(l.text))))
	case literalPattern:
		return strconv.AppendQuote(dst, l.pattern.String())
	case literalNumber:
		return append(dst, l.number.String()...)
	case literalBool:
		return append(dst, l.text...)
	}
	return append(dst, "null"...)
}
