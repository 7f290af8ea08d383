package match

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

const knows = "all, base64, base64offset, cased, cidr, contains, endswith, exists, expand, fieldref, gt, gte, i, lt, lte, m, neq, re, s, startswith, utf16, utf16be, utf16le, wide, windash"

func TestProblems(t *testing.T) {
	for _, x := range []struct{ name, condition, want string }{
		{"a scalar", `abc`, "1:1 a condition is a map of `field: value`, or a list of such maps, not \"abc\"\n"},
		{"null", `~`, "1:1 a condition is a map of `field: value`, or a list of such maps, not nothing (null)\n"},
		{"an empty map", `{}`, "1:1 an empty map would match everything: give at least one `field: value`\n"},
		{"an empty list", `[]`, "1:1 an empty list matches nothing: give at least one map of `field: value`\n"},
		{"null as a keyword", "- f: a\n- ~\n- mimikatz", "2:3 a keyword is a text, not nothing (null)\n"},
		{"keywords of events", "'|gte': 5\n'|exists': true\n'|cidr': 10.0.0.0/8\n'|fieldref': f\n'|all|re': ['a(', 5]", "1:1 `gte` needs a field before it: keywords are searched in the texts of an event\n2:1 `exists` needs a field before it: keywords are searched in the texts of an event\n3:1 `cidr` needs a field before it: keywords are searched in the texts of an event\n4:1 `fieldref` needs a field before it: keywords are searched in the texts of an event\n5:13 the regular expression does not compile: missing closing ): `a(`\n5:19 `re` takes a text, not the number 5: put it in quotes\n"},
		{"keywords instead of a map", "a: mimikatz\ncondition: a", "1:4 the block a is a map of `field: value`, or a list of such maps, not \"mimikatz\"\n"},
		{"list in list", `[[f]]`, "1:2 a condition that is a list has maps of `field: value` in it, or keywords, not a list\n"},
		{"a map as value", "a:\n  b: c", "2:3 a value is a scalar or a list of scalars, not a map: nested fields are written with dots, as in `a.b: value`\n"},
		{"no values", `f: []`, "1:4 an empty list matches nothing: give at least one value\n"},
		{"null in a list", "f:\n- a\n- null", "3:3 null cannot be in a list: write `field: null` in a map of its own, in a list of maps\n"},
		{"map in values", "f: [a, {b: c}, [d]]", "1:8 a list of values has only scalars in it, not a map\n1:16 a list of values has only scalars in it, not a list\n"},
		{"a key that is a list", "[a]: b", "1:1 a key is a name, not a list\n"},
		{"merge key", "- &x {f: a}\n- <<: *x", "2:3 merge keys (<<) are not known here: repeat the items, or name blocks and combine them in `condition`\n"},
		{"no field", `{"": a}`, "1:2 a key begins with the name of a field; keywords (values without a field) are a list, or the value of `|all`\n"},
		{"null key", `~: a`, "1:1 a key begins with the name of a field; keywords (values without a field) are a list, or the value of `|all`\n"},
		{"unresolved", "f: a\nno.such: b", "2:1 there is no stream called no\n"},
		{"unknown", `f|contians: a`, "1:1 unknown modifier \"contians\" (did you mean contains?); this version knows " + knows + "\n"},
		{"upper case", `f|GTE: 1`, "1:1 unknown modifier \"GTE\" (did you mean gte?); this version knows " + knows + "\n"},
		{"far from any", `f|x: 1`, "1:1 unknown modifier \"x\"; this version knows " + knows + "\n"},
		{"letters swapped", `f|cird: 1`, "1:1 unknown modifier \"cird\" (did you mean cidr?); this version knows " + knows + "\n"},
		{"no modifier", `f|: 1`, "1:1 there is no modifier after |; a | within a name is written \\|\n"},
		{"twice", `f|cased|cased: a`, "1:1 the modifier \"cased\" is there twice\n"},
		{"two comparisons", `f|contains|endswith: a`, "1:1 `contains` and `endswith` cannot go together: use two items\n"},
		{"cased order", `f|cased|lt: x`, "1:1 `cased` is for texts, and `lt` compares numbers: leave one out\n1:13 `lt` takes a number, not \"x\"\n"},
		{"exists and others", `f|exists|neq: true`, "1:1 `exists` goes with no other modifier\n"},
		{"exists what", "f|exists: 1\ng|exists: [true]\nh|exists:", "1:11 `exists` takes true or false, not \"1\"\n2:11 `exists` takes true or false, not a list\n3:10 `exists` takes true or false, not nothing (null)\n"},
		{"order of texts", `f|gt: [1, "2", null, true]`, "1:11 `gt` takes a number, not \"2\"\n1:16 null cannot be in a list: write `field: null` in a map of its own, in a list of maps\n1:22 `gt` takes a number, not \"true\"\n"},
		{"infinite", "f: .inf\ng: -.INF\nh|lt: .nan", "1:4 \".inf\" is not a number to compare with\n2:4 \"-.INF\" is not a number to compare with\n3:7 \".nan\" is not a number to compare with\n"},
		{"odd tags", "f: !!int \"\"\ng: !!float e5\nh: !!bool x\ni: !!binary YQ==\nj: !mine a", "1:4 \"\" is not a number to compare with\n2:4 \"e5\" is not a number to compare with\n3:4 \"x\" is not true or false\n4:4 the tag !!binary is not known here: values are strings, numbers, true, false and null\n5:4 the tag !mine is not known here: values are strings, numbers, true, false and null\n"},
		{"null for a text", `f|contains: null`, "1:13 `contains` takes a text, not null\n"},
		{"several", "f|wied: []\nno.g|gt: x\nh: {}", "1:1 unknown modifier \"wied\" (did you mean wide?); this version knows " + knows + "\n1:9 an empty list matches nothing: give at least one value\n2:1 there is no stream called no\n2:10 `gt` takes a number, not \"x\"\n3:4 a value is a scalar or a list of scalars, not a map: nested fields are written with dots, as in `a.b: value`\n"},
		{"re and a number", "f|re: 5\ng|re: [a, true, 1.5]\nh|re: null", "1:7 `re` takes a text, not the number 5: put it in quotes\n2:11 `re` takes a text, not the bool true: put it in quotes\n2:17 `re` takes a text, not the number 1.5: put it in quotes\n3:7 `re` takes a text, not nothing (null)\n"},
		{"re that does not compile", "f|re: a(b\ng|re|i: ['x', 'a[', '*']", "1:7 the regular expression does not compile: missing closing ): `a(b`\n2:15 the regular expression does not compile: missing closing ]: `[`\n2:21 the regular expression does not compile: missing argument to repetition operator: `*`\n"},
		{"re that repeats", `f|re: '(a{50}){50}'`, "1:7 the regular expression does not compile: invalid repeat count: `{50}`; RE2 repeats up to 1000 times, nested repeats multiplied\n"},
		{"re beyond RE2", "f|re: ^(?=a)b\ng|re: (a)\\1", "1:7 the regular expression does not compile: invalid or unsupported Perl syntax: `(?=`; RE2's syntax has no look-around, no references to groups and no possessive repeats\n2:7 the regular expression does not compile: invalid escape sequence: `\\1`; RE2's syntax has no look-around, no references to groups and no possessive repeats\n"},
		{"flags of nothing", "f|i: a\ng|m|re: a", "1:1 `i` comes after `re`, as in re|i\n2:1 `m` comes after `re`, as in re|m\n"},
		{"re and contains", `f|re|contains: a`, "1:1 `re` and `contains` cannot go together: use two items\n"},
		{"re cased and not", `f|re|i|cased: a`, "1:1 `i` ignores case and `cased` does not: leave one out\n"},
		{"networks", "f|cidr: [10.0.0.0/33, 10.1.2.3/8, fe80::1%eth0, x, 10, 2001:DB8::1/32]", "1:10 \"10.0.0.0/33\" is not a network: write an address and the bits of its mask, such as 10.0.0.0/8 or 2001:db8::/32\n1:23 10.1.2.3/8 has bits behind its mask; the network is 10.0.0.0/8\n1:35 \"fe80::1%eth0\" is not a network: write an address and the bits of its mask, such as 10.0.0.0/8 or 2001:db8::/32\n1:49 \"x\" is not a network: write an address and the bits of its mask, such as 10.0.0.0/8 or 2001:db8::/32\n1:52 `cidr` takes a text, not the number 10: put it in quotes\n1:56 2001:DB8::1/32 has bits behind its mask; the network is 2001:db8::/32\n"},
		{"cased networks", `f|cidr|cased: 10.0.0.0/8`, "1:1 `cased` is for texts, and `cidr` compares addresses: leave one out\n"},
		{"fieldref to nothing", "f|fieldref: [no.g, h, 5, '']\nno.f|fieldref: no.h", "1:14 there is no stream called no\n1:23 `fieldref` takes the name of a field, not the number 5: put it in quotes\n1:26 `fieldref` takes the name of a field, not \"\"\n2:1 there is no stream called no\n2:16 there is no stream called no\n"},
		{"fieldref and order", "f|fieldref|gt: g\nh|re|fieldref: g", "1:1 `fieldref` compares the texts of two fields, and `gt` does not: leave one out\n2:1 `fieldref` compares the texts of two fields, and `re` does not: leave one out\n"},
		{"encoded wildcards", "f|base64: a*\ng|wide|base64offset|contains: ['a?', 'a\\*', '\\\\*']", "1:11 `base64` encodes a text, and \"a*\" has wildcards: write \\* and \\? for the characters\n2:32 `wide` encodes a text, and \"a?\" has wildcards: write \\* and \\? for the characters\n2:45 `wide` encodes a text, and \"\\\\\\\\*\" has wildcards: write \\* and \\? for the characters\n"},
		{"encoded numbers", "f|base64: 22\ng|windash: -1\nh|expand: true\ni|utf16be|contains: null", "1:11 `base64` takes a text, not the number 22: put it in quotes\n2:12 `windash` takes a text, not the number -1: put it in quotes\n3:11 `expand` takes a text, not the bool true: put it in quotes\n4:21 `utf16be` takes a text, not nothing (null)\n"},
		{"contains first", `f|contains|base64: ab`, "1:1 `base64` comes before `contains`, as in base64|contains\n"},
		{"windash last", `f|wide|windash|base64: ab`, "1:1 `windash` comes before `wide`: what is encoded has no dashes and placeholders\n"},
		{"offset alone", "f|base64offset: ab\ng|base64offset|endswith: ab", "1:1 `base64offset` gives the part of a longer text that does not depend on what is around: write base64offset|contains\n2:1 `base64offset` gives the part of a longer text that does not depend on what is around: write base64offset|contains\n"},
		{"too short", "f|base64offset|contains: [a, ab]\ng|base64: ''", "1:27 \"a\" is too short to be encoded: nothing of it would be sure to be found; write 2 characters at least\n2:11 \"\" is too short to be encoded: nothing of it would be sure to be found; write 2 characters at least\n"},
		{"UTF-16 that is no text", "f|wide: é\ng|utf16: a\nh|utf16|base64: é", "1:9 `wide` of \"é\" gives bytes that are no text: only with base64 or base64offset after it can a field have them\n2:10 `utf16` of \"a\" gives bytes that are no text: only with base64 or base64offset after it can a field have them\n"},
		{"many dashes", "f|windash|base64: -a -b -c -d\ng|windash: -a -b -c -d -e -f", "1:19 a value that is encoded may have 3 dashes of windash at most, this one has 4\n"},
		{"changed and compared otherwise", "f|windash|re: -a\ng|base64|cidr: 10.0.0.0/8\nh|fieldref|expand: g\ni|wide|gt: 5", "1:1 `windash` is for plain texts, and `re` has a language of its own: leave one out\n2:1 `base64` is for plain texts, and `cidr` has a language of its own: leave one out\n3:1 `fieldref` compares two fields as they are, and `expand` changes the value: leave one out\n4:1 `wide` is for texts, and `gt` compares numbers: leave one out\n"},
		{"placeholders", "f|expand: '%Servers%'\ng|expand|contains: [a, 'x\\%plain%name%', '100%']\nh|re|expand: ^%admins%$\ni|expand|cidr: '%vpn%'", "1:11 there is no placeholder %Servers%: write its values here, as a list; a percent sign is written \\%\n2:24 there is no placeholder %name%: write its values here, as a list; a percent sign is written \\%\n3:14 there is no placeholder %admins%: write its values here, as a list; a percent sign is written \\%\n4:16 there is no placeholder %vpn%: write its values here, as a list; a percent sign is written \\%\n"},
		{"once for aliases", "- f: &v [{}]\n- g: *v", "1:10 a list of values has only scalars in it, not a map\n"},

		{"condition as a field", `{f: a, condition: Success}`, "1:5 the block f is a map of `field: value`, or a list of such maps, not \"a\"\n1:19 there is no block \"Success\"; the blocks are f; to compare a field named condition, use the list form: `- condition: value`\n"},
		{"condition alone", `condition: Success`, "1:12 `condition` combines named blocks, and there are none in this map; to compare a field named condition, use the list form: `- condition: value`\n"},
		{"condition with a tag", `{a: {f: x}, !!merge condition: a}`, "1:13 merge keys (<<) are not known here: repeat the items, or name blocks and combine them in `condition`\n"},
		{"condition as a list", `{a: {f: x}, condition: [a]}`, "1:24 `condition` is a text like \"a and not 1 of b*\", not a list; to compare a field named condition, use the list form: `- condition: value`\n"},
		{"unknown blocks", "selection: {f: x}\ncondition: selction or\tother", "2:12 there is no block \"selction\" (did you mean selection?); the blocks are selection; to compare a field named condition, use the list form: `- condition: value`\n2:24 there is no block \"other\"; the blocks are selection; to compare a field named condition, use the list form: `- condition: value`\n"},
		{"column in quotes", "a: {f: x}\ncondition: \"a and (äöü)\"", "2:20 there is no block \"äöü\"; the blocks are a; to compare a field named condition, use the list form: `- condition: value`\n"},
		{"block scalar", "a: {f: x}\ncondition: |\n  a and\n  b", "2:12 there is no block \"b\"; the blocks are a; to compare a field named condition, use the list form: `- condition: value`\n"},
		{"nothing after and", `{a: {f: x}, condition: a and}`, "1:29 expected the name of a block, `not`, `(`, `1 of` or `all of` at the end\n"},
		{"empty", `{a: {f: x}, condition: ""}`, "1:25 expected the name of a block, `not`, `(`, `1 of` or `all of` at the end\n"},
		{"or and", `{a: {f: x}, condition: a or and a}`, "1:29 expected the name of a block, `not`, `(`, `1 of` or `all of` before `and`\n"},
		{"two names", `{a: {f: x}, condition: a | count() > 5}`, "1:26 expected `and`, `or` or the end before \"|\"\n"},
		{"open parenthesis", `{a: {f: x}, condition: not (a and (a)}`, "1:38 the parenthesis at character 5 is not closed\n"},
		{"close parenthesis", `{a: {f: x}, condition: a) and a}`, "1:25 expected `and`, `or` or the end before \")\"\n"},
		{"2 of", `{a: {f: x}, condition: 2 of them}`, "1:24 \"2\" of: only `1 of` and `all of` are known\n"},
		{"1 of nothing", `{a: {f: x}, condition: (1 of)}`, "1:29 expected `them` or a pattern of block names after `of`\n"},
		{"1 of none", `{a: {f: x}, condition: 1 of b*}`, "1:29 no block is called \"b*\"; the blocks are a\n"},
		{"1 of hidden ones", `{_a: {f: x}, condition: all of them}`, "1:32 no block is called \"them\"; the blocks are _a\n"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, problems := compileText(t, &event.Fields{}, x.condition)
			if got := show(problems); got != x.want {
				t.Errorf("%s\n got: %s\nwant: %s", x.condition, got, x.want)
			}
			if c != nil {
				t.Error("a condition with problems was compiled")
			}
		})
	}
}

// Rows that are no events have no texts of their own to search.
func TestKeywordsWithoutEvents(t *testing.T) {
	const text = "keywords (values without a field) search whole events, and there are none here: write `field|contains: value`\n"
	for condition, want := range map[string]string{
		"[{f: a}, x, y]": "1:10 " + text, "{'|all': [x, y]}": "1:2 " + text, "{a: [x], b: {f: g}, condition: a or b}": "1:6 " + text,
	} {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(condition), &n); err != nil {
			t.Fatal(err)
		}
		if _, problems := Compile(&n, noEvents); show(problems) != want {
			t.Errorf("%s\n got: %s\nwant: %s", condition, show(problems), want)
		}
	}
}

func TestDuplicateKeys(t *testing.T) { // yaml.v3 refuses these only when it decodes into a map
	for condition, want := range map[string]string{
		"f: a\ng: b\nf: c":                   "3:1 the key \"f\" is already in this map, at line 1: use a list of values, or `|all`\n",
		"a: {f: x}\na: {f: y}\ncondition: a": "2:1 the key \"a\" is already in this map, at line 1: use a list of values, or `|all`\n",
		"f|gt: 1\nf|lt: 5":                   "",
	} {
		_, problems := compileText(t, &event.Fields{}, condition)
		if got := show(problems); got != want {
			t.Errorf("%s\n got: %s\nwant: %s", condition, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	values := func(n int) string { return "[" + strings.Repeat("x,", n) + "]" }
	nested := func(n int) string {
		return "{a: {f: x}, condition: " + strings.Repeat("(", n) + "a" + strings.Repeat(")", n) + "}"
	}
	for _, x := range []struct{ name, condition, want string }{
		{"most values", `f: ` + values(LiteralsMax), ""},
		{"a value too many", "f: " + values(LiteralsMax-1) + "\ng: x\nh: y\ni: z", "3:4 a condition may have 10000 values at most; keep long lists in a table\n"},
		{"keywords too many", values(LiteralsMax + 1), "1:20002 a condition may have 10000 values at most; keep long lists in a table\n"},
		{"longest pattern", `f: "` + strings.Repeat("?", PatternMax) + `"`, ""},
		{"longer pattern", `f: "` + strings.Repeat("?", PatternMax+1) + `"`, "1:4 a value with wildcards has 4096 bytes at most, this one has 4097\n"},
		{"longer contains", `f|contains: ` + strings.Repeat("x", PatternMax+1), "1:13 a value with wildcards has 4096 bytes at most, this one has 4097\n"},
		{"longer text", `f: ` + strings.Repeat("x", PatternMax+1), ""},
		{"longest expression", `f|re: ` + strings.Repeat("x", PatternMax), ""},
		{"longer expression", `f|re: ` + strings.Repeat("x", PatternMax+1), "1:7 a regular expression has 4096 bytes at most, this one has 4097\n"},
		{"large expressions", "f|re: ['" + strings.Repeat("x{1000}", 150) + "', '" + strings.Repeat("y{1000}", 60) + "', '(']", "1:1062 the regular expressions of a condition may compile to 200000 instructions at most; repeat less, as in x{1,100}\n"},
		{"longer encoded", `f|base64: ` + strings.Repeat("x", PatternMax+1), "1:11 a value that is encoded has 4096 bytes at most, this one has 4097\n"},
		{"forms that multiply", "f|windash|base64offset|contains: [" + strings.Repeat("' -a -b -c', ", 26) + "]\ng: [" + strings.Repeat("a, ", 300) + "]", "2:755 a condition may have 10000 values at most; keep long lists in a table\n"},
		{"deepest", nested(DepthMax - 1), ""},
		{"deeper", nested(DepthMax), "1:88 parentheses and `not` may nest 64 deep at most\n"},
		{"deeper not", "{a: {f: x}, condition: " + strings.Repeat("not ", DepthMax) + "a}", "1:280 parentheses and `not` may nest 64 deep at most\n"},
		{"far deeper", "{a: {f: x}, condition: " + strings.Repeat("not (", 100_000) + "a}", "1:184 parentheses and `not` may nest 64 deep at most\n"},
		{"aliases that multiply", "- &m {a: &v " + values(5000) + "}\n- {b: *v, c: *v}", "1:5006 a condition may have 10000 values at most; keep long lists in a table\n"},
		{"blocks that multiply", "a: {f: " + values(9000) + "}\ncondition: " + strings.Repeat("a and ", 11) + "a", "2:12 the condition is too large: its aliases and repeated blocks expand to more than 100000 parts\n"},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, problems := compileText(t, &event.Fields{}, x.condition)
			got := show(problems)
			if x.name == "aliases that multiply" { // where exactly does not matter
				got, x.want = got[strings.Index(got, " ")+1:], x.want[strings.Index(x.want, " ")+1:]
			}
			if got != x.want {
				t.Errorf("got %s\nwant %s", got, x.want)
			}
		})
	}
}

func TestNodesByHand(t *testing.T) {
	loop := &yaml.Node{Kind: yaml.AliasNode}
	loop.Alias = loop
	scalar := &yaml.Node{Kind: yaml.ScalarNode, Value: "f"}
	for i, n := range []*yaml.Node{
		loop, {Kind: yaml.DocumentNode}, {Kind: yaml.AliasNode}, {Kind: yaml.MappingNode, Content: []*yaml.Node{scalar}},
		{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar, loop}}, {Kind: yaml.SequenceNode, Content: []*yaml.Node{nil}},
	} {
		if c, problems := Compile(n, resolver(&event.Fields{})); c != nil || len(problems) == 0 {
			t.Errorf("node %d: no problem", i)
		}
	}
}

func TestProblemIsAnError(t *testing.T) {
	var err error = Problem{3, 7, "what to do"}
	if got := fmt.Sprint(err); got != "line 3, column 7: what to do" {
		t.Error(got)
	}
}
