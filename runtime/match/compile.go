package match

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// The limits of one condition.
const (
	// DepthMax is how deep parentheses and `not` may nest in the text of `condition`.
	DepthMax = 64
	// LiteralsMax is how many values the blocks of a condition may have together.
	LiteralsMax = 10_000
	// PatternMax is the longest value with wildcards and the longest regular expression, in bytes.
	PatternMax = 4096
	// RegexpMax is how many instructions the regular expressions of a condition may compile to together. One takes 40 bytes.
	RegexpMax = 200_000
	// visitsMax bounds the work of Compile and Match where YAML aliases and repeated blocks multiply what is written.
	visitsMax = 10 * LiteralsMax
)

// Problem is a complaint about one place of a condition. Line and Column count from 1, as yaml.v3 does, and are 0 for nodes
// that were not read from a text.
type Problem struct {
	Line, Column int
	Text         string
}

// Error returns the complaint with its place.
func (p Problem) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", p.Line, p.Column, p.Text)
}

// Compile reads a condition from its YAML. Resolve gives the field of a path (its dots and `\.` as written) or says why
// there is none. All problems are found, in the order of the text; with any of them the condition is nil and must not be
// used. A nil or zero node is no condition: nil, which matches every row.
func Compile(n *yaml.Node, resolve func(path string) (event.Field, error)) (*Condition, []Problem) {
	return compile(n, compiler{resolve: resolve, seen: map[Problem]bool{}})
}

func compile(n *yaml.Node, c compiler) (*Condition, []Problem) {
	if n == nil || n.IsZero() {
		return nil, nil
	}
	root := c.top(deref(n))
	if root == nil && len(c.problems) == 0 { // nodes that no text gives
		c.problem(n, "a condition is a map of `field: value`, or a list of such maps, not %s", describe(n))
	}
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, c.problems
	}
	return newCondition(root), nil
}

// compiler collects problems instead of stopping: its methods return nil for a part that has one.
type compiler struct {
	resolve          func(string) (event.Field, error)
	typeOf           func(string) string // nil: no types are known
	problems         []Problem
	seen             map[Problem]bool // an aliased node complains once
	literals, visits int
	instructions     int  // of regular expressions
	full             bool // a limit is exceeded: what follows is not looked at
}

func (c *compiler) problem(n *yaml.Node, format string, args ...any) {
	p := Problem{n.Line, n.Column, fmt.Sprintf(format, args...)}
	if !c.seen[p] {
		c.seen[p] = true
		c.problems = append(c.problems, p)
	}
}

// visit charges the limits for work at n and says whether to go on.
func (c *compiler) visit(n *yaml.Node, literals, visits int) bool {
	if c.full {
		return false
	}
	c.literals += literals
	c.visits += visits
	switch {
	case c.literals > LiteralsMax:
		c.full = true
		c.problem(n, "a condition may have %d values at most; keep long lists in a table", LiteralsMax)
	case c.visits > visitsMax:
		c.full = true
		c.problem(n, "the condition is too large: its aliases and repeated blocks expand to more than %d parts", visitsMax)
	}
	return !c.full
}

// top reads a whole condition: named blocks if the map has the key `condition`, else one block.
func (c *compiler) top(n *yaml.Node) *node {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k := deref(n.Content[i]); k.Kind == yaml.ScalarNode && k.Value == "condition" {
				return c.named(n)
			}
		}
	}
	return c.block(n, "a condition")
}

// block reads a map (AND) or a list of maps (OR).
func (c *compiler) block(n *yaml.Node, what string) *node {
	switch n.Kind {
	case yaml.MappingNode:
		return c.mapping(n)
	case yaml.SequenceNode:
		return c.alternatives(n, what)
	}
	c.problem(n, "%s is a map of `field: value`, or a list of such maps, not %s", what, describe(n))
	return nil
}

func (c *compiler) alternatives(n *yaml.Node, what string) *node {
	if len(n.Content) == 0 {
		c.problem(n, "an empty list matches nothing: give at least one map of `field: value`")
	}
	var kids []*node
	var keywords []*yaml.Node
	for _, e := range n.Content {
		e = deref(e)
		if !c.visit(e, 0, 1) {
			break
		}
		switch e.Kind {
		case yaml.MappingNode:
			kids = append(kids, c.mapping(e))
		case yaml.ScalarNode:
			keywords = append(keywords, e)
		default:
			c.problem(e, "%s that is a list has maps of `field: value` in it, or keywords, not %s", what, describe(e))
		}
	}
	if len(keywords) > 0 && !c.full {
		kids = append(kids, c.keywords(keywords))
	}
	return combine(opOr, kids)
}

func (c *compiler) mapping(n *yaml.Node) *node {
	if len(n.Content) == 0 {
		c.problem(n, "an empty map would match everything: give at least one `field: value`")
	}
	var kids []*node
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content) && c.visit(n, 0, 1); i += 2 {
		k, v := deref(n.Content[i]), deref(n.Content[i+1])
		if c.fresh(first, k) {
			kids = append(kids, c.item(k, v))
		}
	}
	return combine(opAnd, kids)
}

// fresh checks the form of a key, and that its map has it once.
func (c *compiler) fresh(first map[string]*yaml.Node, k *yaml.Node) bool {
	switch {
	case k.Kind != yaml.ScalarNode:
		c.problem(k, "a key is a name, not %s", describe(k))
		return false
	case k.ShortTag() == "!!merge":
		c.problem(k, "merge keys (<<) are not known here: repeat the items, or name blocks and combine them in `condition`")
		return false
	case first[k.Value] != nil:
		c.problem(k, "the key %q is already in this map, at line %d: use a list of values, or `|all`", k.Value, first[k.Value].Line)
		return false
	}
	first[k.Value] = k
	return true
}

// item reads one `field|modifier: value`. What is wrong with the key does not keep the value from being checked, unless the
// modifiers are not understood.
func (c *compiler) item(k, v *yaml.Node) *node {
	key, understood, good := c.key(k)
	values, complete := c.values(v)
	if !understood {
		return nil
	}
	if key.test == testExists {
		return c.exists(key, v)
	}
	if key.ref {
		return c.references(key, values, good && complete)
	}
	it := &item{field: key.field, path: key.path, all: key.all && len(values) > 1, keywords: key.path == ""}
	for _, n := range values {
		if c.full {
			return nil
		}
		l, ok := c.literal(n, key)
		if good = good && ok; ok {
			c.fits(n, &key, &l)
		}
		it.literals = append(it.literals, l)
		it.cased = it.cased || l.cased
	}
	if !good || !complete {
		return nil
	}
	switch {
	case it.all:
	case key.test == testNetwork:
		it.literals = []literal{union(it.literals)}
	default:
		it.literals = flat(it.literals)
	}
	return negate(&node{op: opItem, item: it}, key.neq)
}

func (c *compiler) exists(k key, v *yaml.Node) *node {
	want, ok := boolOf(v)
	if !ok {
		if v.Kind != yaml.MappingNode { // of that the list's check complains
			c.problem(v, "`exists` takes true or false, not %s", describe(v))
		}
		return nil
	}
	return negate(&node{op: opExists, item: &item{field: k.field, path: k.path}}, !want)
}

// values returns the scalars of a value: itself, or the elements of a list, and whether that is all there is.
func (c *compiler) values(v *yaml.Node) (values []*yaml.Node, complete bool) {
	switch {
	case v.Kind == yaml.ScalarNode:
		return []*yaml.Node{v}, c.visit(v, 1, 1)
	case v.Kind != yaml.SequenceNode:
		c.problem(v, "a value is a scalar or a list of scalars, not %s: nested fields are written with dots, as in `a.b: value`", describe(v))
		return nil, false
	case len(v.Content) == 0:
		c.problem(v, "an empty list matches nothing: give at least one value")
		return nil, false
	}
	complete = true
	for _, e := range v.Content {
		e = deref(e)
		if !c.visit(e, 1, 1) {
			return nil, false
		}
		if c.element(e) {
			values = append(values, e)
		} else {
			complete = false
		}
	}
	return values, complete
}

func (c *compiler) element(e *yaml.Node) bool {
	switch {
	case e.Kind != yaml.ScalarNode:
		c.problem(e, "a list of values has only scalars in it, not %s", describe(e))
	case e.ShortTag() == "!!null":
		c.problem(e, "null cannot be in a list: write `field: null` in a map of its own, in a list of maps")
	default:
		return true
	}
	return false
}

// deref follows aliases and enters a document. The bound is for nodes made by hand: a parsed alias names no alias.
func deref(n *yaml.Node) *yaml.Node {
	for range DepthMax {
		switch {
		case n == nil:
			return &yaml.Node{}
		case n.Kind == yaml.AliasNode:
			n = n.Alias
		case n.Kind == yaml.DocumentNode && len(n.Content) > 0:
			n = n.Content[0]
		default:
			return n
		}
	}
	return &yaml.Node{}
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.ShortTag() == "!!null" {
			return "nothing (null)"
		}
		return strconv.Quote(brief(n.Value))
	}
	return "an empty document"
}

// brief keeps the start of a text, for messages.
func brief(s string) string {
	n := 0
	for i := range s {
		if n++; n > 40 {
			return s[:i] + "..."
		}
	}
	return s
}
