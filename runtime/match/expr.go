package match

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// listForm tells how to compare a field that is called like our keyword.
const listForm = "; to compare a field named condition, use the list form: `- condition: value`"

// named reads a map with the key `condition`: its other keys name blocks.
func (c *compiler) named(n *yaml.Node) *node {
	p := parser{c: c, blocks: map[string]*node{}}
	first := map[string]*yaml.Node{}
	var text *yaml.Node
	for i := 0; i+1 < len(n.Content) && c.visit(n, 0, 1); i += 2 {
		k, v := deref(n.Content[i]), deref(n.Content[i+1])
		switch {
		case !c.fresh(first, k):
		case k.Value == "condition":
			text = v
		default:
			p.names = append(p.names, k.Value)
			p.blocks[k.Value] = c.block(v, "the block "+brief(k.Value))
		}
	}
	switch {
	case c.full || text == nil: // the key itself is wrong
		return nil
	case text.Kind != yaml.ScalarNode || text.ShortTag() != "!!str":
		c.problem(text, "`condition` is a text like \"a and not 1 of b*\", not %s%s", describe(text), listForm)
		return nil
	case len(p.names) == 0:
		c.problem(text, "`condition` combines named blocks, and there are none in this map%s", listForm)
		return nil
	}
	p.node, p.tokens = text, tokens(text.Value)
	return p.parse()
}

// parser reads the text of a condition. Names that do not exist are all reported, of other errors the first.
//
//	or   = and { "or" and }
//	and  = not { "and" not }
//	not  = "not" not | "(" or ")" | ("1" | "all") "of" ("them" | pattern) | name
type parser struct {
	c      *compiler
	node   *yaml.Node
	blocks map[string]*node
	names  []string // as written

	tokens []token
	next   int
	depth  int
	failed bool
}

type token struct {
	text string
	at   int // in characters
}

// tokens cuts a text at spaces and around parentheses. The last token is empty.
func tokens(s string) []token {
	var out []token
	word, wordAt, at := -1, 0, 0 // the byte and the character where a word began
	for i, r := range s {
		space, paren := strings.ContainsRune(" \t\r\n", r), r == '(' || r == ')'
		switch {
		case !space && !paren && word < 0:
			word, wordAt = i, at
		case (space || paren) && word >= 0:
			out = append(out, token{s[word:i], wordAt})
			word = -1
		}
		if paren {
			out = append(out, token{string(r), at})
		}
		at++
	}
	if word >= 0 {
		out = append(out, token{s[word:], wordAt})
	}
	return append(out, token{"", at})
}

func (p *parser) parse() *node {
	n := p.or()
	if t := p.peek(); t.text != "" {
		p.fail(t, "expected `and`, `or` or the end before %q", brief(t.text))
	}
	return n
}

func (p *parser) peek() token { return p.tokens[p.next] }

// word takes the next token if it is the given word.
func (p *parser) word(w string) bool {
	if !strings.EqualFold(p.peek().text, w) {
		return false
	}
	p.next++
	return true
}

func (p *parser) fail(t token, format string, args ...any) {
	if !p.failed {
		p.problem(t, format, args...)
	}
	p.failed = true
	p.next = len(p.tokens) - 1
}

// problem complains at a token. Columns within block scalars are not known: those complaints are at the scalar.
func (p *parser) problem(t token, format string, args ...any) {
	at := *p.node
	if at.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		at.Column += t.at
		if at.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
			at.Column++
		}
	}
	p.c.problem(&at, format, args...)
}

func (p *parser) or() *node {
	kids := []*node{p.and()}
	for p.word("or") {
		kids = append(kids, p.and())
	}
	return combine(opOr, kids)
}

func (p *parser) and() *node {
	kids := []*node{p.not()}
	for p.word("and") {
		kids = append(kids, p.not())
	}
	return combine(opAnd, kids)
}

func (p *parser) not() *node {
	t := p.peek()
	if p.depth++; p.depth > DepthMax {
		p.fail(t, "parentheses and `not` may nest %d deep at most", DepthMax)
		return nil
	}
	defer func() { p.depth-- }()
	switch {
	case p.word("not"):
		return negate(p.not(), true)
	case p.word("("):
		n := p.or()
		if end := p.peek(); !p.word(")") {
			p.fail(end, "the parenthesis at character %d is not closed", t.at+1)
		}
		return n
	case t.text == "" || t.text == ")" || strings.EqualFold(t.text, "and") || strings.EqualFold(t.text, "or"):
		p.fail(t, "expected the name of a block, `not`, `(`, `1 of` or `all of`%s", before(t))
		return nil
	}
	p.next++
	if of := p.peek(); p.word("of") {
		return p.of(t, of)
	}
	return p.name(t)
}

func before(t token) string {
	if t.text == "" {
		return " at the end"
	}
	return " before `" + t.text + "`"
}

func (p *parser) name(t token) *node {
	if _, ok := p.blocks[t.text]; !ok {
		if !p.c.visit(p.node, 0, len(p.names)) {
			return nil
		}
		hint := suggest(t.text, p.names)
		p.problem(t, "there is no block %q%s; the blocks are %s%s", brief(t.text), hint, brief(strings.Join(p.names, ", ")), listForm)
		return nil
	}
	return p.refer(t.text)
}

// refer returns a block, charging what it costs once more.
func (p *parser) refer(name string) *node {
	n := p.blocks[name]
	if !p.c.visit(p.node, 0, n.size()) {
		return nil
	}
	return n
}

// of reads what follows `1 of` and `all of`. Names with _ in front take part only if the pattern has it too, as in Sigma.
func (p *parser) of(quantity, of token) *node {
	op := opOr
	switch {
	case strings.EqualFold(quantity.text, "all"):
		op = opAnd
	case quantity.text != "1":
		p.fail(quantity, "%q of: only `1 of` and `all of` are known", brief(quantity.text))
		return nil
	}
	t := p.peek()
	if t.text == "" || t.text == "(" || t.text == ")" {
		p.fail(t, "expected `them` or a pattern of block names after `of`")
		return nil
	}
	p.next++
	glob := t.text
	if strings.EqualFold(glob, "them") {
		glob = "*"
	}
	pattern := newPattern(stars(glob), true)
	var kids []*node
	found := false
	for _, name := range p.names {
		if pattern.match([]byte(name)) && (name[:min(1, len(name))] != "_" || glob[0] == '_') {
			found = true
			kids = append(kids, p.refer(name))
		}
	}
	if !found {
		p.problem(t, "no block is called %q; the blocks are %s", brief(t.text), brief(strings.Join(p.names, ", ")))
	}
	return combine(op, kids)
}

// stars reads a pattern of names, which has no wildcard but *.
func stars(glob string) []rune {
	runes := []rune(glob)
	for i, r := range runes {
		if r == '*' {
			runes[i] = anyRun
		}
	}
	return runes
}
