package match

import (
	"bytes"
	"sync"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// keywords makes the item of values without a field, which are searched in every text of an event. A list of them is a block
// of its own or a part of a list of maps, and `|all: [...]` an item of a map.
func (c *compiler) keywords(values []*yaml.Node) *node {
	k := key{test: testContains, name: "contains"}
	good := c.whole(values[0], &k)
	it := &item{field: k.field, keywords: true}
	for _, n := range values {
		if !c.visit(n, 1, 0) {
			return nil
		}
		if n.ShortTag() == "!!null" {
			c.problem(n, "a keyword is a text, not %s", describe(n))
			good = false
			continue
		}
		l, ok := c.literal(n, k)
		good = good && ok
		it.literals = append(it.literals, l)
	}
	if !good {
		return nil
	}
	return &node{op: opItem, item: it}
}

// whole resolves the event itself, which only rows that are events have.
func (c *compiler) whole(n *yaml.Node, k *key) bool {
	f, err := c.resolve(event.Whole)
	k.field = f
	if err != nil {
		c.problem(n, "keywords (values without a field) search whole events, and there are none here: write `field|contains: value`")
	}
	return err == nil
}

// matchKeywords looks for one text of the event that hits, or with all for one for each literal.
func (it *item) matchKeywords(v event.Value) bool {
	if v.Kind != event.Object {
		return false
	}
	if !it.all {
		return withinTexts(v.Text, it.some)
	}
	for i := range it.literals {
		if !withinTexts(v.Text, it.literals[i].match) {
			return false
		}
	}
	return true
}

// scratches hold decoded strings: nearly every event from Windows has a backslash somewhere.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

func withinTexts(object []byte, hit func(event.Value) bool) bool {
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	for rest := object; ; {
		var text []byte
		if text, rest = nextText(rest); rest == nil {
			return false
		}
		if bytes.IndexByte(text, '\\') >= 0 {
			*scratch = event.AppendText((*scratch)[:0], text)
			text = *scratch
		}
		if hit(event.Value{Kind: event.String, Text: text}) {
			return true
		}
	}
}

// nextText returns the next string of a JSON text that is no name, without its quotes, and what follows it: nil after the
// last.
func nextText(b []byte) (text, rest []byte) {
	for {
		from := bytes.IndexByte(b, '"')
		if from < 0 {
			return nil, nil
		}
		end := stringEnd(b, from)
		if end < from+2 || end > len(b) || b[end-1] != '"' {
			return nil, nil
		}
		text, b = b[from+1:end-1], b[end:]
		if after := bytes.TrimLeft(b, " \t\r\n"); len(after) == 0 || after[0] != ':' {
			return text, b
		}
	}
}
