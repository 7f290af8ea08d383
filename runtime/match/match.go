package match

import (
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Row is what a condition reads: a row of a batch, or anything else that has cells.
type Row interface {
	// Value returns the cell of a field; the zero Value if the row does not have it.
	Value(f event.Field) event.Value
}

// Condition is a compiled condition. It does not change, so any number of goroutines may use it.
type Condition struct {
	root   *node
	fields []event.Field
}

func newCondition(root *node) *Condition {
	c := &Condition{root: root}
	seen := map[event.Field]bool{}
	add := func(f event.Field) {
		if !seen[f] {
			seen[f] = true
			c.fields = append(c.fields, f)
		}
	}
	root.walk(func(it *item) {
		add(it.field)
		for _, r := range it.refs {
			add(r.field)
		}
	})
	return c
}

// All returns the condition that all of the given hold, and Any that one of them does. nil is the condition that holds for every
// row, also as the result.
func All(conditions ...*Condition) *Condition {
	conditions = slices.DeleteFunc(slices.Clone(conditions), func(c *Condition) bool { return c == nil })
	return joined(opAnd, conditions)
}

// Any is All's counterpart.
func Any(conditions ...*Condition) *Condition {
	if slices.Contains(conditions, nil) {
		return nil
	}
	return joined(opOr, conditions)
}

func joined(o op, conditions []*Condition) *Condition {
	if len(conditions) == 0 {
		return nil
	}
	var roots []*node
	for _, c := range conditions {
		roots = append(roots, c.root)
	}
	return newCondition(combine(o, roots))
}

// Match says whether the condition holds for a row. A nil condition holds for every row.
func (c *Condition) Match(r Row) bool { return c == nil || c.root.match(r) }

// Fields returns the fields that the condition reads, each once, in the order of the text.
func (c *Condition) Fields() []event.Field {
	if c == nil {
		return nil
	}
	return slices.Clone(c.fields)
}

// String returns the canonical text: spelling that does not matter to the meaning (names of blocks, the order of
// modifiers, the notation of numbers, contains or wildcards) does not matter to it either. It is a fingerprint: conditions
// with the same text match the same rows. A nil condition has the empty one.
func (c *Condition) String() string {
	if c == nil {
		return ""
	}
	return string(c.root.append(nil))
}

type op uint8

const (
	opAnd op = iota
	opOr
	opNot
	opItem
	opExists
	opReference
)

// node is a part of a condition. Blocks that are named twice are shared.
type node struct {
	op   op
	kids []*node // and, or: two at least; not: one
	item *item
}

// item is a field and the literals that it is compared with.
type item struct {
	field    event.Field
	path     string
	literals []literal   // at least one, but none in opExists and opReference
	refs     []reference // opReference: at least one
	test     test        // opReference: testEqual or of a part
	keywords bool        // the field is the event itself, its texts are searched
	all      bool        // every literal must hit, not just one
	cased    bool
}

// combine joins nodes. Those that could not be compiled are nil, and left out: their problems are known.
func combine(o op, kids []*node) *node {
	var flat []*node
	for _, k := range kids {
		switch {
		case k == nil:
		case k.op == o:
			flat = append(flat, k.kids...)
		default:
			flat = append(flat, k)
		}
	}
	switch len(flat) {
	case 0:
		return nil
	case 1:
		return flat[0]
	}
	return &node{op: o, kids: flat}
}

func negate(n *node, yes bool) *node {
	switch {
	case n == nil || !yes:
		return n
	case n.op == opNot:
		return n.kids[0]
	}
	return &node{op: opNot, kids: []*node{n}}
}

func (n *node) walk(f func(*item)) {
	if n.item != nil {
		f(n.item)
	}
	for _, k := range n.kids {
		k.walk(f)
	}
}

// size is how many literals the node has, repeated ones too; at least 1.
func (n *node) size() int {
	size := 1
	if n != nil {
		n.walk(func(it *item) { size += len(it.literals) + len(it.refs) + 1 })
	}
	return size
}

func (n *node) match(r Row) bool {
	switch n.op {
	case opItem:
		return n.item.match(r.Value(n.item.field))
	case opExists:
		return !r.Value(n.item.field).Missing()
	case opReference:
		return n.item.matchReferences(r)
	case opNot:
		return !n.kids[0].match(r)
	case opOr:
		for _, k := range n.kids {
			if k.match(r) {
				return true
			}
		}
		return false
	}
	for _, k := range n.kids {
		if !k.match(r) {
			return false
		}
	}
	return true
}

func (it *item) match(v event.Value) bool {
	if it.keywords {
		return it.matchKeywords(v)
	}
	if v.Kind == event.Array {
		return it.matchArray(v.Text)
	}
	if it.all {
		for i := range it.literals {
			if !it.literals[i].match(v) {
				return false
			}
		}
		return true
	}
	return it.some(v)
}

func (it *item) some(v event.Value) bool { return some(it.literals, v) }

func some(literals []literal, v event.Value) bool {
	for i := range literals {
		if literals[i].match(v) {
			return true
		}
	}
	return false
}

// matchArray looks for one element that hits, or with all for one for each literal.
func (it *item) matchArray(text []byte) bool {
	if !it.all {
		return within(text, it.some)
	}
	for i := range it.literals {
		if !within(text, it.literals[i].match) {
			return false
		}
	}
	return true
}

func within(array []byte, hit func(event.Value) bool) bool {
	e := elements{text: array}
	for v, ok := e.next(); ok; v, ok = e.next() {
		if hit(v) {
			return true
		}
	}
	return false
}

func (n *node) append(dst []byte) []byte {
	switch n.op {
	case opItem:
		return n.item.append(dst)
	case opExists:
		return append(strconv.AppendQuote(dst, n.item.path), " exists"...)
	case opReference:
		return n.item.appendReferences(dst)
	case opNot:
		return n.kids[0].append(append(dst, "not "...))
	}
	between := " and "
	if n.op == opOr {
		between = " or "
	}
	dst = append(dst, '(')
	for i, k := range n.kids {
		if i > 0 {
			dst = append(dst, between...)
		}
		dst = k.append(dst)
	}
	return append(dst, ')')
}

var signs = map[test]string{
	testEqual: " = ", testLess: " < ", testLessEqual: " <= ", testGreater: " > ", testGreaterEqual: " >= ",
	testContains: " contains ", testStarts: " startswith ", testEnds: " endswith ", testRegexp: " =~ ", testNetwork: " in ",
}

// append adds the item's canonical text. An order is the same for all literals of an item.
func (it *item) append(dst []byte) []byte {
	if it.keywords {
		dst = append(dst, "keywords"...)
	} else {
		dst = strconv.AppendQuote(dst, it.path)
	}
	dst = append(dst, signs[it.literals[0].test]...)
	if it.cased {
		dst = append(dst, "cased "...)
	}
	if len(it.literals) == 1 {
		return it.literals[0].append(dst)
	}
	if it.all {
		dst = append(dst, "all "...)
	}
	return appendLiterals(dst, it.literals)
}

func appendLiterals(dst []byte, literals []literal) []byte {
	dst = append(dst, '[')
	for i := range literals {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = literals[i].append(dst)
	}
	return append(dst, ']')
}
