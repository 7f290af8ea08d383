package match

import (
	"cmp"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// modifiersMax bounds the modifiers of a key: more than there are.
const modifiersMax = 32

// test is what an item does with its field.
type test uint8

const (
	testEqual test = iota
	testContains
	testStarts
	testEnds
	testLess
	testLessEqual
	testGreater
	testGreaterEqual
	testExists
	testRegexp
	testNetwork
)

var tests = map[string]test{
	"contains": testContains, "startswith": testStarts, "endswith": testEnds, "exists": testExists,
	"lt": testLess, "lte": testLessEqual, "gt": testGreater, "gte": testGreaterEqual, "re": testRegexp, "cidr": testNetwork,
}

// known are all modifiers, for messages.
var known = []string{
	"all", "base64", "base64offset", "cased", "cidr", "contains", "endswith", "exists", "expand", "fieldref", "gt", "gte", "i", "lt", "lte", "m", "neq",
	"re", "s", "startswith", "utf16", "utf16be", "utf16le", "wide", "windash",
}

// key is what stands before the colon: a path and its modifiers.
type key struct {
	field           event.Field
	path            string
	test            test
	name            string   // of the modifier that made test
	flags           string   // of re: i, m and s
	ref             bool     // the values are names of fields
	expand, windash bool     // what is done to the values first
	encodings       []string // and then, in this order
	all, cased, neq bool
}

func (t test) ordered() bool { return t >= testLess && t <= testGreaterEqual }

// part says whether the test is for a part of a text.
func (t test) part() bool { return t >= testContains && t <= testEnds }

// key reads a key. It says whether the modifiers are understood, so that the value can be read, and whether all is good.
func (c *compiler) key(n *yaml.Node) (k key, understood, good bool) {
	path, modifiers := splitKey(n.Value)
	k.path, understood = path, true
	for i, m := range modifiers {
		understood = c.modifier(n, &k, m, modifiers[:i]) && understood
	}
	if path == "" && k.test == testEqual { // keywords
		k.test, k.name = testContains, "contains"
	}
	if understood {
		understood = c.together(n, &k, modifiers)
	}
	good = understood
	if k.test.ordered() && k.cased {
		c.problem(n, "`cased` is for texts, and `%s` compares numbers: leave one out", k.name)
		good = false
	}
	switch {
	case n.ShortTag() == "!!null" || path == "" && len(modifiers) == 0:
		c.problem(n, "a key begins with the name of a field; keywords (values without a field) are a list, or the value of `|all`")
		return k, false, false
	case path == "":
		return k, understood, c.whole(n, &k) && good
	}
	f, err := c.resolve(path)
	if err != nil {
		c.problem(n, "%s", err.Error())
	}
	k.field = f
	return k, understood, good && err == nil
}

func (c *compiler) modifier(n *yaml.Node, k *key, m string, before []string) bool {
	t, compares := tests[m]
	switch {
	case slices.Contains(before, m):
		c.problem(n, "the modifier %q is there twice", brief(m))
	case m == "all":
		k.all = true
		return true
	case m == "cased":
		k.cased = true
		return true
	case m == "neq":
		k.neq = true
		return true
	case m == "fieldref":
		k.ref = true
		return true
	case m == "expand" || m == "windash" || encodings[m] != nil:
		return c.transform(n, k, m)
	case m == "i" || m == "m" || m == "s":
		if k.test == testRegexp {
			k.flags += m
			return true
		}
		c.problem(n, "`%s` comes after `re`, as in re|%s", m, m)
	case compares && k.test != testEqual:
		c.problem(n, "`%s` and `%s` cannot go together: use two items", k.name, m)
	case compares:
		k.test, k.name = t, m
		return true
	case m == "":
		c.problem(n, "there is no modifier after |; a | within a name is written \\|")
	default:
		c.problem(n, "unknown modifier %q%s; this version knows %s", brief(m), suggest(m, known), strings.Join(known, ", "))
	}
	return false
}

// transform notes a modifier that changes the value. They work in the order of the key.
func (c *compiler) transform(n *yaml.Node, k *key, m string) bool {
	encodes := m != "expand" && m != "windash"
	switch {
	case len(k.encodings) > 0 && !encodes:
		c.problem(n, "`%s` comes before `%s`: what is encoded has no dashes and placeholders", m, k.encodings[0])
	case k.test.part() && encodes:
		c.problem(n, "`%s` comes before `%s`, as in %s|%s", m, k.name, m, k.name)
	case encodes:
		k.encodings = append(k.encodings, m)
		return true
	default:
		k.expand = k.expand || m == "expand"
		k.windash = k.windash || m == "windash"
		return true
	}
	return false
}

// transforms names a modifier that changes the value, other than expand, or is empty.
func (k *key) transforms() string {
	switch {
	case k.windash:
		return "windash"
	case len(k.encodings) > 0:
		return k.encodings[0]
	}
	return ""
}

// together says whether the modifiers of a key go with each other, beyond the two comparisons that modifier refuses.
func (c *compiler) together(n *yaml.Node, k *key, modifiers []string) bool {
	switch {
	case k.test == testExists && len(modifiers) > 1:
		c.problem(n, "`exists` goes with no other modifier")
	case k.path == "" && k.ref:
		c.problem(n, "`fieldref` needs a field before it: keywords are searched in the texts of an event")
	case k.path == "" && (k.test.ordered() || k.test == testExists || k.test == testNetwork):
		c.problem(n, "`%s` needs a field before it: keywords are searched in the texts of an event", k.name)
	case k.ref && k.test != testEqual && !k.test.part():
		c.problem(n, "`fieldref` compares the texts of two fields, and `%s` does not: leave one out", k.name)
	case k.ref && (k.expand || k.transforms() != ""):
		c.problem(n, "`fieldref` compares two fields as they are, and `%s` changes the value: leave one out", cmp.Or(k.transforms(), "expand"))
	case k.test.ordered() && (k.expand || k.transforms() != ""):
		c.problem(n, "`%s` is for texts, and `%s` compares numbers: leave one out", cmp.Or(k.transforms(), "expand"), k.name)
	case k.transforms() != "" && k.test > testExists:
		c.problem(n, "`%s` is for plain texts, and `%s` has a language of its own: leave one out", k.transforms(), k.name)
	case slices.Contains(k.encodings, "base64offset") && k.test != testContains:
		c.problem(n, "`base64offset` gives the part of a longer text that does not depend on what is around: write base64offset|contains")
	case k.cased && k.test == testNetwork:
		c.problem(n, "`cased` is for texts, and `cidr` compares addresses: leave one out")
	case k.cased && strings.Contains(k.flags, "i"):
		c.problem(n, "`i` ignores case and `cased` does not: leave one out")
	default:
		return true
	}
	return false
}

// splitKey cuts a key at its bars. `\|` is a bar within the name; `\\` and `\.` stay for the path.
func splitKey(s string) (path string, modifiers []string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '|':
			return b.String(), strings.SplitN(s[i+1:], "|", modifiersMax+1)
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '|':
			i++
			b.WriteByte('|')
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '\\':
			i++
			b.WriteString(`\\`)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

// suggest returns a hint at the nearest of some names, or nothing if none is near.
func suggest(name string, names []string) string {
	if len(name) > 64 {
		return ""
	}
	best, at := "", 3
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < at && 2*d <= len(n) {
			best, at = n, d
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// distance is how many characters to insert, delete, replace or swap with their neighbour make a into b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	d := make([][]int, len(x)+1)
	for i := range d {
		d[i] = make([]int, len(y)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(x)][len(y)]
}
