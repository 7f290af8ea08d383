package match

import (
	"bytes"
	"net/netip"
	"regexp"
	"slices"
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
	literalRegexp
	literalNetworks
	literalAny
)

// literal is one value of an item, ready to be compared.
type literal struct {
	kind    literalKind
	test    test // literalNumber: testEqual or an order; literalRegexp and literalNetworks: theirs
	cased   bool
	ascii   bool   // text is ASCII: what equals it is at least as long
	fixed   bool   // and has no k or s, the ASCII letters that fold with longer ones: what equals it is just as long
	text    []byte // literalBool, literalText
	number  number
	pattern *pattern
	regexp  *regexp.Regexp
	nets    []netip.Prefix // sorted, none within another
	any     []literal      // the forms that one value has
}

// literal reads one scalar as its YAML tag says.
func (c *compiler) literal(n *yaml.Node, k key) (literal, bool) {
	tag := n.ShortTag()
	switch {
	case k.test.ordered():
		return c.order(n, k)
	case k.texts() != "" && !isText(tag):
		c.problem(n, "`%s` takes a text, not %s", k.texts(), unquoted(n))
		return literal{}, false
	case k.test == testRegexp:
		return c.regexp(n, k)
	case k.test == testNetwork:
		return c.network(n, k)
	case k.test != testEqual && tag == "!!null":
		c.problem(n, "`%s` takes a text, not null", k.name)
		return literal{}, false
	case isText(tag):
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

func isText(tag string) bool { return tag == "!!str" || tag == "!!timestamp" || tag == "!!merge" }

// texts names a modifier for which numbers, bools and null make no sense, if the key has one.
func (k *key) texts() string {
	switch {
	case k.test == testRegexp || k.test == testNetwork:
		return k.name
	case k.expand:
		return "expand"
	}
	return k.transforms()
}

// unquoted describes a scalar that would be a text in quotes.
func unquoted(n *yaml.Node) string {
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "the number " + brief(n.Value) + ": put it in quotes"
	case "!!bool":
		return "the bool " + brief(n.Value) + ": put it in quotes"
	}
	return describe(n)
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

// text reads a text, wildcards and all. Modifiers may give it several forms.
func (c *compiler) text(n *yaml.Node, k key) (literal, bool) {
	s, ok := c.expanded(n, k)
	if !ok {
		return literal{}, false
	}
	runes := parseWildcards(s)
	if k.windash {
		runes = dashes(runes)
	}
	if len(k.encodings) == 0 {
		return c.compare(n, runes, k.test, k.cased)
	}
	forms, ok := c.encode(n, runes, k.encodings)
	if !ok || !c.visit(n, len(forms)-1, 0) {
		return literal{}, false
	}
	cased := k.cased || slices.ContainsFunc(k.encodings, isBase64)
	l := literal{kind: literalAny, cased: cased}
	for _, f := range forms {
		x, ok := c.compare(n, f, k.test, cased)
		if !ok {
			return literal{}, false
		}
		l.any = append(l.any, x)
	}
	if len(l.any) == 1 {
		return l.any[0], true
	}
	return l, true
}

// compare makes the literal of a text that was read.
func (c *compiler) compare(n *yaml.Node, runes []rune, t test, cased bool) (literal, bool) {
	switch t {
	case testContains:
		runes = slices.Concat([]rune{anyRun}, runes, []rune{anyRun})
	case testStarts:
		runes = append(runes, anyRun)
	case testEnds:
		runes = append([]rune{anyRun}, runes...)
	}
	if !hasWildcard(runes) {
		return newText(string(runes), literalText, cased), true
	}
	if len(n.Value) > PatternMax {
		c.problem(n, "a value with wildcards has %d bytes at most, this one has %d", PatternMax, len(n.Value))
		return literal{}, false
	}
	return literal{kind: literalPattern, cased: cased, pattern: newPattern(runes, cased)}, true
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

// flat gives the literals themselves where some have several forms.
func flat(literals []literal) (out []literal) {
	for _, l := range literals {
		if l.kind == literalAny {
			out = append(out, l.any...)
		} else {
			out = append(out, l)
		}
	}
	return out
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
	case literalRegexp:
		return scalar(v.Kind) && l.regexp.Match(v.Text)
	case literalNetworks:
		return v.Kind == event.String && contain(l.nets, v.Text)
	case literalAny:
		return some(l.any, v)
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
	case literalRegexp:
		return strconv.AppendQuote(dst, l.regexp.String())
	case literalNetworks:
		return appendNetworks(dst, l.nets)
	case literalAny:
		return appendLiterals(append(dst, "any "...), l.any)
	case literalBool:
		return append(dst, l.text...)
	}
	return append(dst, "null"...)
}
