package match

import (
	"net/netip"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// CompileTyped is Compile where the types of some fields are known: typeOf says string, int, float, bool, timestamp (a text in RFC
// 3339), ip or nothing. A value that no value of its field's type can equal, or be compared with, is a problem.
func CompileTyped(n *yaml.Node, resolve func(path string) (event.Field, error), typeOf func(path string) string) (*Condition, []Problem) {
	return compile(n, compiler{resolve: resolve, typeOf: typeOf, seen: map[Problem]bool{}})
}

// named are types with their article.
var named = map[string]string{"string": "a string", "int": "an int", "float": "a float", "bool": "a bool", "timestamp": "a timestamp", "ip": "an ip"}

// fits complains about a value that the field's type makes useless.
func (c *compiler) fits(n *yaml.Node, k *key, l *literal) {
	if c.typeOf == nil || k.path == "" {
		return
	}
	t := c.typeOf(k.path)
	number := t == "int" || t == "float"
	if named[t] == "" {
		return
	}
	wrong := func(why string) { c.problem(n, "%s is %s%s", k.path, named[t], why) }
	switch {
	case k.test.ordered() && t == "string":
		wrong(", and `" + k.name + "` compares numbers: give the field a number's type in `fields`, or compare texts")
	case k.test.ordered() && t == "ip":
		wrong(", and `" + k.name + "` compares numbers: for a range of addresses write " + k.path + "|cidr")
	case k.test.ordered() && !number:
		wrong(", and `" + k.name + "` compares numbers: leave it out")
	case k.test == testNetwork && t != "string" && t != "ip":
		wrong(", and `cidr` is for addresses: leave it out")
	case k.test != testEqual:
	case l.kind == literalNumber && !number && t != "string":
		wrong(", which no number equals: write " + suits[t])
	case l.kind == literalBool && t != "bool" && t != "string":
		wrong(", which is never true or false: write " + suits[t])
	case l.kind != literalText || c.suited(t, string(l.text)):
	default:
		wrong(", which never equals this text: write " + suits[t])
	}
}

// suits says what a value of a type looks like.
var suits = map[string]string{"int": "a number", "float": "a number", "bool": "true or false", "timestamp": "a time such as \"2026-03-02T08:00:00.000Z\"", "ip": "an address, or for a network FIELD|cidr"}

// suited says whether a text without wildcards may equal a value of a type.
func (c *compiler) suited(t, text string) bool {
	switch t {
	case "int", "float":
		_, ok := event.ParseDecimal([]byte(text))
		return ok
	case "bool":
		return strings.EqualFold(text, "true") || strings.EqualFold(text, "false")
	case "ip":
		_, err := netip.ParseAddr(text)
		return err == nil
	case "timestamp":
		return len(text) > 0 && text[0] >= '0' && text[0] <= '9'
	}
	return true
}

// meets complains about a field that this one never equals, whatever the rows.
func (c *compiler) meets(n *yaml.Node, k *key) {
	if c.typeOf == nil || k.test != testEqual {
		return
	}
	if t, u := c.typeOf(k.path), c.typeOf(n.Value); !Meet(t, u) {
		c.problem(n, "%s is %s and %s %s: they are never equal", k.path, named[t], n.Value, named[u])
	}
}

// Meet says whether values of two types may be equal; of those that are not known they may.
func Meet(a, b string) bool {
	class := map[string]string{"int": "number", "float": "number", "bool": "bool", "timestamp": "timestamp", "ip": "ip"}
	return class[a] == "" || class[b] == "" || class[a] == class[b]
}
