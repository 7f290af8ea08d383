package match

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// TestModel compares random conditions over random rows with an evaluator that shares nothing with the package: it reads
// conditions as YAML decodes them and rows as encoding/json does, and compares with regexp, big.Rat and net.IPNet.
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
	switch g.IntN(12) {
	case 0:
		s = g.address()
	case 1:
		s = base64.StdEncoding.EncodeToString([]byte(g.pick("", "x", "xy", "é") + g.encoded(g.word()) + g.pick("", "z", "zz", "\xff")))
	case 2:
		s = g.pick("", "x ", "a") + g.pick("-", "/", "–", "—", "―", "--") + g.pick("a", "b", "ab", "a-b", "a /b") + g.pick("", " x")
	case 3:
		s = g.encoded(g.word())
	}
	b, _ := json.Marshal(s)
	return string(b)
}

func (g generator) word() string { return g.pick("ab", "ba", "AB", "abb", "aé", "k–a") }

// encoded gives UTF-16 in one order or the other, or the text itself.
func (g generator) encoded(s string) string {
	return modelWide(g.pick("", "wide", "utf16be", "utf16"), s)
}

func (g generator) address() string {
	return g.pick("10.1.2.3", "10.0.0.0", "10.128.0.1", "11.0.0.1", "::ffff:10.1.2.3", "::ffff:a80:1", "::10.1.2.3", "::1", "2001:db8::1", "2001:DB8:0:1::", "2001:db9::", "10.1.2", "010.1.2.3")
}

func (g generator) network() string {
	return g.pick("10.0.0.0/8", "10.0.0.0/9", "10.1.2.3", "10.1.2.2/31", "'::/0'", "'::1'", "0.0.0.0/0", "'2001:db8::/32'", "'2001:db8::/64'", "'::ffff:10.128.0.0/105'", "'::ffff:0:0/96'")
}

func (g generator) regexp() string {
	return "'" + g.pick("", "^") + g.list(1+g.IntN(3), "", func() string {
		return g.pick("a", "b", "A", "k", "s", ".", "[ab]", "(a|b)", "\\d", "\n", "é", "(?i:B)", "b$", "^a") + g.pick("", "", "*", "+", "?")
	}) + g.pick("", "$") + "'"
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
	return "[" + g.list(1+g.IntN(3), ", ", func() string {
		if g.IntN(4) == 0 {
			return g.text()
		}
		return g.mapping()
	}) + "]"
}

func (g generator) mapping() string {
	var items []string
	for _, f := range g.Perm(3)[:1+g.IntN(2)] {
		items = append(items, g.item(string("fgh"[f])))
	}
	if g.IntN(8) == 0 {
		items = append(items, fmt.Sprintf("'%s|all': [%s]", g.pick("", "|neq", "|cased", "|startswith", "|windash"), g.list(1+g.IntN(2), ", ", g.text)))
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
	encoding := g.pick("|wide", "|utf16le", "|utf16be", "|utf16", "", "")
	word := func() string { return "'" + g.word() + "'" }
	switch g.IntN(14) {
	case 8:
		return field + neq + "|re" + g.pick("", "|i", "|m", "|s", "|i|m|s") + all + ": " + values(g.regexp)
	case 9:
		return field + all + "|cidr" + neq + ": " + values(g.network)
	case 10:
		return field + g.pick("", "|cased") + "|fieldref" + g.pick("", "|contains", "|startswith", "|endswith") + all + neq + ": " + values(func() string { return g.pick("f", "g", "h") })
	case 11:
		return field + all + encoding + "|base64" + g.pick("", "|startswith", "|contains") + neq + ": " + values(word)
	case 12:
		return field + encoding + "|base64offset|contains" + all + neq + ": " + values(word)
	case 13:
		return field + g.pick("|windash", "|cased|windash") + g.pick("", "|contains", "|endswith") + all + neq + ": " + values(func() string {
			return "'" + g.pick("", "*", "x ") + g.pick("-", "/", "―", "--") + g.pick("a", "b", "a-b", "a /b", "?") + g.pick("", "*") + "'"
		})
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
	if keyword, ok := b.(string); ok {
		return modelItem("|contains", keyword, row)
	}
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
	if parts[0] == "" { // keywords: any text of the row
		cell = modelTexts(row)
		if !strings.Contains(modifiers, "with|") {
			modifiers += "contains|"
		}
	}
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
		hit := false
		switch {
		case is("fieldref"):
			other := row[l.(string)]
			hit = modelAny(nil, cell, func(_, x any) bool {
				return modelAny(nil, other, func(_, y any) bool { return modelPair(x, y, is) })
			})
		default:
			hit = modelAny(l, cell, func(l, x any) bool { return modelCompare(l, x, is) })
		}
		if hit {
			hits++
		}
	}
	return (hits == len(literals) || hits > 0 && !is("all")) != is("neq")
}

func modelAny(literal, cell any, compare func(literal, cell any) bool) bool {
	list, ok := cell.([]any)
	if !ok {
		return compare(literal, cell)
	}
	for _, e := range list {
		if modelAny(literal, e, compare) {
			return true
		}
	}
	return false
}

// modelTexts gives every string of a decoded value.
func modelTexts(value any) (out []any) {
	switch v := value.(type) {
	case string:
		return []any{v}
	case []any:
		for _, e := range v {
			out = append(out, modelTexts(e)...)
		}
	case map[string]any:
		for _, e := range v {
			out = append(out, modelTexts(e)...)
		}
	}
	return out
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
		switch _, isString := cell.(string); {
		case is("re"):
			flags := ""
			for _, f := range []string{"i", "m", "s"} {
				if is(f) {
					flags += "(?" + f + ")"
				}
			}
			return regexp.MustCompile(flags + l).MatchString(text)
		case is("cidr"):
			return isString && modelNetwork(l).Contains(net.ParseIP(text))
		}
		for _, form := range modelForms(l, is) {
			if modelPattern(form, is).MatchString(text) {
				return true
			}
		}
		return false
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
	if is("cased") || is("base64") || is("base64offset") {
		flags = "(?s)"
	}
	re = flags + "^(?:" + re + ")$"
	if compiled[re] == nil {
		compiled[re] = regexp.MustCompile(re)
	}
	return compiled[re]
}

var compiled = map[string]*regexp.Regexp{}

// modelPair compares two scalars of a row: the second is a literal without wildcards, a number if either is one.
func modelPair(x, y any, is func(string) bool) bool {
	if y == nil {
		return false
	}
	if n, ok := x.(json.Number); ok && !is("contains") && !is("startswith") && !is("endswith") {
		x, y = y, n
	}
	literal := y
	switch v := y.(type) {
	case json.Number:
		if is("contains") || is("startswith") || is("endswith") {
			literal = string(v)
		}
	case bool:
		literal = fmt.Sprint(v)
	case string:
	default:
		return false
	}
	if s, ok := literal.(string); ok {
		literal = regexp.MustCompile(`[\\*?]`).ReplaceAllString(s, `\$0`)
	}
	return modelCompare(literal, x, func(m string) bool { return m != "fieldref" && is(m) })
}

func modelNetwork(s string) *net.IPNet {
	if !strings.Contains(s, "/") {
		s += map[bool]string{true: "/128", false: "/32"}[strings.Contains(s, ":")]
	}
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	if ones, _ := n.Mask.Size(); len(n.IP) == 16 && n.IP.To4() != nil { // mapped: the IPv4 network
		n = &net.IPNet{IP: n.IP.To4(), Mask: net.CIDRMask(ones-96, 32)}
	}
	return n
}

// modelForms does what modifiers do to a value, and gives Sigma texts.
func modelForms(s string, is func(string) bool) []string {
	if is("windash") {
		return modelDashes(s, 0)
	}
	for _, m := range []string{"wide", "utf16le", "utf16be", "utf16"} {
		if is(m) {
			s = modelWide(m, s)
		}
	}
	switch {
	case is("base64"):
		return []string{base64.StdEncoding.EncodeToString([]byte(s))}
	case is("base64offset"):
		return []string{modelOffset(s, 0), modelOffset(s, 1), modelOffset(s, 2)}
	}
	return []string{s}
}

var parameterDash = regexp.MustCompile(`(?:^|[^\pL\pN_])([-/–—―])[\pL\pN_]`)

// modelDashes tries every dash at each place from a byte on that a dash of a parameter has.
func modelDashes(s string, from int) []string {
	at := parameterDash.FindStringSubmatchIndex(s[from:])
	if at == nil {
		return []string{s}
	}
	var out []string
	for _, d := range strings.Split("-/–—―", "") {
		out = append(out, modelDashes(s[:from+at[2]]+d+s[from+at[3]:], from+at[2]+len(d))...)
	}
	return out
}

func modelWide(encoding, s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		if encoding == "utf16be" {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	switch encoding {
	case "":
		return s
	case "utf16":
		return "\xff\xfe" + string(b)
	}
	return string(b)
}

// modelOffset gives the characters of base64 that stay the same whatever stands around s, if that begins at some byte.
func modelOffset(s string, offset int) string {
	encode := func(fill string) string {
		return base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat(fill, offset) + s + strings.Repeat(fill, 3)))
	}
	x, y := encode("\x00"), encode("\xff")
	same := ""
	for i := range x {
		if x[i] == y[i] {
			same += x[i : i+1]
		}
	}
	return same
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
