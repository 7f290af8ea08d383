package match

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// TestModel compares random conditions over random rows with an evaluator that shares nothing with the package: it reads
// conditions as YAML decodes them and rows as encoding/json does, and compares with regexp and big.Rat.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	hits, cases := 0, 0
	for range 2000 {
		text := g.condition()
		var decoded any
		if err := yaml.Unmarshal([]byte(text), &decoded); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var fields event.Fields
		c := mustCompile(t, &fields, text)
		for range 8 {
			row := g.row()
			want := modelCondition(decoded, decodeRow(t, row))
			if got := c.Match(rowOf(t, &fields, row)); got != want {
				t.Fatalf("seed %d: %s\non %s is %v, the model says %v\n%v", seed, text, row, got, want, c)
			}
			cases++
			if want {
				hits++
			}
		}
	}
	if hits < cases/20 || hits > cases*19/20 {
		t.Errorf("%d of %d cases match: that tests little", hits, cases)
	}
}

type generator struct{ *rand.Rand }

func (g generator) pick(s ...string) string { return s[g.IntN(len(s))] }

func (g generator) list(n int, sep string, f func() string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = f()
	}
	return strings.Join(parts, sep)
}

func (g generator) row() string {
	var cells []string
	for _, f := range []string{"f", "g", "h"} {
		if g.IntN(6) > 0 {
			cells = append(cells, fmt.Sprintf("%q:%s", f, g.value(2)))
		}
	}
	return "{" + strings.Join(cells, ",") + "}"
}

func (g generator) value(depth int) string {
	switch n := g.IntN(12); {
	case n == 0:
		return "null"
	case n == 1:
		return g.pick("true", "false")
	case n < 5:
		return g.pick("0", "1", "-1", "1.0", "1e0", "10", "1e1", "2.50", "-2.5", "9007199254740993", "9007199254740992", "123456789012345678901", "1e300")
	case n == 5 && depth > 0:
		return "{" + g.pick(``, `"a":1`, `"f":{"a":"b}"}`) + "}"
	case n < 8 && depth > 0:
		return "[" + g.list(g.IntN(4), g.pick(",", ", "), func() string { return g.value(depth - 1) }) + "]"
	case n == 8:
		return g.pick(`"true"`, `"False"`, `"1"`, `"1.0"`, `"10"`, `"-2.5"`, `"1e1"`, `"01"`, `" 1"`, `"9007199254740993"`, `"0x1"`, `""`)
	}
	s := g.list(g.IntN(5), "", func() string {
		return g.pick("a", "b", "A", "B", "k", "K", "\u212a", "s", "ſ", "ß", "ẞ", `\`, "*", "?", "é", "É", "\n")
	})
	b, _ := json.Marshal(s)
	return string(b)
}

// condition returns a condition in YAML's flow style.
func (g generator) condition() string {
	switch g.IntN(3) {
	case 0:
		return g.block()
	case 1:
		return g.mapping()
	}
	return fmt.Sprintf("{x1: %s, x2: %s, y: %s, _z: %s, condition: %q}", g.block(), g.block(), g.block(), g.block(), g.expression(3))
}

func (g generator) expression(depth int) string {
	if depth == 0 || g.IntN(4) == 0 {
		return g.pick("x1", "x2", "y", "_z", "1 of x*", "all of x*", "1 of them", "all of them", "1 of _*", "all of *1")
	}
	switch g.IntN(4) {
	case 0:
		return "not " + g.expression(depth-1)
	case 1:
		return "(" + g.expression(depth-1) + ")"
	}
	return g.expression(depth-1) + g.pick(" and ", " or ") + g.expression(depth-1)
}

func (g generator) block() string {
	if g.IntN(2) == 0 {
		return g.mapping()
	}
	return "[" + g.list(1+g.IntN(3), ", ", g.mapping) + "]"
}

func (g generator) mapping() string {
	var items []string
	for _, f := range g.Perm(3)[:1+g.IntN(2)] {
		items = append(items, g.item(string("fgh"[f])))
	}
	return "{" + strings.Join(items, ", ") + "}"
}

func (g generator) item(field string) string {
	neq := g.pick("", "", "", "|neq")
	all := g.pick("", "", "|all")
	values := func(f func() string) string {
		if g.IntN(2) == 0 {
			return f()
		}
		return "[" + g.list(1+g.IntN(3), ", ", f) + "]"
	}
	switch g.IntN(8) {
	case 0:
		return field + g.pick("|exists: true", "|exists: false")
	case 1:
		return field + neq + ": null"
	case 2, 3:
		return field + g.pick("|lt", "|lte", "|gt", "|gte") + all + neq + ": " + values(g.number)
	case 4:
		return field + neq + g.pick("|contains", "|startswith", "|endswith") + g.pick("", "|cased") + all + ": " + values(g.text)
	}
	return field + all + neq + g.pick("", "", "|cased") + ": " + values(g.literal)
}

func (g generator) number() string {
	return g.pick("0", "1", "-1", "1.0", "10", "0xa", "2.5", "-2.5", "9007199254740993", "9007199254740992", "1_0", "0o12")
}

func (g generator) literal() string {
	switch g.IntN(4) {
	case 0:
		return g.number()
	case 1:
		return g.pick("true", "false", `"1"`, `"10"`, `"TRUE"`, `"1.0"`, `"1*"`, `"?"`, `""`)
	}
	return g.text()
}

func (g generator) text() string {
	return "'" + g.list(g.IntN(5), "", func() string {
		return g.pick("a", "b", "A", "B", "k", "K", "\u212a", "s", "ß", `\`, "*", "*", "?", `\*`, `\?`, `\\`, "é")
	}) + "'"
}

func decodeRow(t *testing.T, text string) map[string]any {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func modelCondition(c any, row map[string]any) bool {
	m, ok := c.(map[string]any)
	if !ok || m["condition"] == nil {
		return modelBlock(c, row)
	}
	blocks := map[string]bool{}
	for name, b := range m {
		if name != "condition" {
			blocks[name] = modelBlock(b, row)
		}
	}
	return modelExpression(m["condition"].(string), blocks)
}

// modelExpression rewrites the text until it is one truth value.
func modelExpression(s string, blocks map[string]bool) bool {
	tf := func(b bool) string {
		if b {
			return "T"
		}
		return "F"
	}
	s = regexp.MustCompile(`(1|all) of (\S*?)(\s|\)|$)`).ReplaceAllStringFunc(s, func(m string) string {
		p := regexp.MustCompile(`(1|all) of (\S*?)(\s|\)|$)`).FindStringSubmatch(m)
		one, every := false, true
		for name, v := range blocks {
			in := map[string]bool{"x*": name[0] == 'x', "them": name[0] != '_', "_*": name[0] == '_', "*1": name == "x1"}[p[2]]
			one, every = one || in && v, every && (!in || v)
		}
		if p[1] == "1" {
			return tf(one) + p[3]
		}
		return tf(every) + p[3]
	})
	for name, v := range blocks {
		s = strings.ReplaceAll(s, name, tf(v))
	}
	innermost := regexp.MustCompile(`\([^()]*\)`)
	for strings.Contains(s, "(") {
		s = innermost.ReplaceAllStringFunc(s, func(m string) string { return tf(modelOr(m[1 : len(m)-1])) })
	}
	return modelOr(s)
}

// modelOr evaluates a text without parentheses, as `T and not F or T`.
func modelOr(s string) bool {
	for _, part := range strings.Split(s, " or ") {
		holds := true
		for _, factor := range strings.Split(part, " and ") {
			nots := strings.Count(factor, "not ")
			holds = holds && (strings.TrimLeft(factor, "not ") == "T") != (nots%2 == 1)
		}
		if holds {
			return true
		}
	}
	return false
}

func modelBlock(b any, row map[string]any) bool {
	if list, ok := b.([]any); ok {
		for _, e := range list {
			if modelBlock(e, row) {
				return true
			}
		}
		return false
	}
	for key, value := range b.(map[string]any) {
		if !modelItem(key, value, row) {
			return false
		}
	}
	return true
}

func modelItem(key string, value any, row map[string]any) bool {
	parts := strings.Split(key, "|")
	cell, has := row[parts[0]]
	modifiers := "|" + strings.Join(parts[1:], "|") + "|"
	is := func(m string) bool { return strings.Contains(modifiers, "|"+m+"|") }
	if is("exists") {
		return (has && cell != nil) == value.(bool)
	}
	literals, ok := value.([]any)
	if !ok {
		literals = []any{value}
	}
	hits := 0
	for _, l := range literals {
		if modelAny(l, cell, is) {
			hits++
		}
	}
	return (hits == len(literals) || hits > 0 && !is("all")) != is("neq")
}

func modelAny(literal, cell any, is func(string) bool) bool {
	list, ok := cell.([]any)
	if !ok {
		return modelCompare(literal, cell, is)
	}
	for _, e := range list {
		if modelAny(literal, e, is) {
			return true
		}
	}
	return false
}

var jsonNumberForm = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

func modelCompare(literal, cell any, is func(string) bool) bool {
	if literal == nil || cell == nil {
		return literal == nil && cell == nil
	}
	text, isText := "", true
	switch v := cell.(type) {
	case string:
		text = v
	case json.Number:
		text = string(v)
	case bool:
		text, isText = fmt.Sprint(v), false
	default:
		return false
	}
	switch l := literal.(type) {
	case string:
		return modelPattern(l, is).MatchString(text)
	case bool:
		_, isNumber := cell.(json.Number)
		return !isNumber && (text == fmt.Sprint(l) || !is("cased") && strings.EqualFold(text, fmt.Sprint(l)))
	}
	if !isText || !jsonNumberForm.MatchString(text) {
		return false
	}
	x, _ := new(big.Rat).SetString(text)
	y, ok := new(big.Rat).SetString(fmt.Sprint(literal))
	if !ok {
		panic(fmt.Sprint(literal))
	}
	switch c := x.Cmp(y); {
	case is("lt"):
		return c < 0
	case is("lte"):
		return c <= 0
	case is("gt"):
		return c > 0
	case is("gte"):
		return c >= 0
	default:
		return c == 0
	}
}

// modelPattern translates a Sigma text into a regular expression.
func modelPattern(s string, is func(string) bool) *regexp.Regexp {
	re := translate(s)
	if is("contains") || is("endswith") {
		re = ".*" + re
	}
	if is("contains") || is("startswith") {
		re += ".*"
	}
	flags := "(?is)"
	if is("cased") {
		flags = "(?s)"
	}
	return regexp.MustCompile(flags + "^(?:" + re + ")$")
}

var sigmaPart = regexp.MustCompile(`(?s)\\[*?\\]|.`)

func translate(s string) string {
	return sigmaPart.ReplaceAllStringFunc(s, func(p string) string {
		switch {
		case p == "*":
			return ".*"
		case p == "?":
			return "."
		case len(p) == 2 && p[0] == '\\':
			return regexp.QuoteMeta(p[1:])
		}
		return regexp.QuoteMeta(p)
	})
}

func rat(s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic(s)
	}
	return r
}
