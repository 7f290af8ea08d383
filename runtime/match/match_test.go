package match

import (
	"slices"
	"strconv"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

func TestMatch(t *testing.T) {
	for _, x := range []struct {
		rule, condition string
		yes, no         []string
	}{
		{"text ignores case", `f: Failure`, []string{`{"f":"failure"}`, `{"f":"FAILURE"}`}, []string{`{"f":"failures"}`, `{"f":""}`, `{}`, `{"f":null}`}},
		{"simple folding", `f: straße kelvin`, []string{`{"f":"STRAßE \u212aELVIN"}`, `{"f":"ſtraẞe kelvin"}`}, []string{`{"f":"STRASSE KELVIN"}`}},
		{"cased", `f|cased: Failure`, []string{`{"f":"Failure"}`}, []string{`{"f":"failure"}`, `{"f":"\u212a"}`}},
		{"names are case-sensitive", `f: a`, []string{`{"f":"a"}`}, []string{`{"F":"a"}`}},
		{"empty text", `f: ""`, []string{`{"f":""}`}, []string{`{"f":"a"}`, `{}`, `{"f":null}`, `{"f":0}`, `{"f":[]}`}},
		{"map is AND", `{f: a, g: b}`, []string{`{"f":"a","g":"b"}`}, []string{`{"f":"a"}`, `{"g":"b"}`, `{}`}},
		{"list of maps is OR", `[{f: a}, {g: b}]`, []string{`{"f":"a"}`, `{"g":"b"}`}, []string{`{"f":"b"}`, `{}`}},
		{"list of values is OR", `f: [a, 2, true]`, []string{`{"f":"A"}`, `{"f":2}`, `{"f":true}`}, []string{`{"f":"c"}`, `{}`}},
		{"all", `f|contains|all: [one, two]`, []string{`{"f":"two one"}`, `{"f":["one","two"]}`}, []string{`{"f":"one"}`, `{"f":["one","three"]}`, `{}`}},
		{"all of one", `f|all: a`, []string{`{"f":"a"}`}, []string{`{"f":"b"}`}},
		{"null", `f: null`, []string{`{}`, `{"f":null}`, `{"f":[1,null]}`}, []string{`{"f":""}`, `{"f":0}`, `{"f":[]}`, `{"f":{}}`, `{"f":false}`}},
		{"exists", `f|exists: true`, []string{`{"f":""}`, `{"f":{}}`, `{"f":[]}`, `{"f":[null]}`, `{"f":false}`}, []string{`{}`, `{"f":null}`}},
		{"exists not", `f|exists: false`, []string{`{}`, `{"f":null}`}, []string{`{"f":""}`, `{"f":{"a":1}}`}},
		{"neq is negation", `f|neq: a`, []string{`{}`, `{"f":null}`, `{"f":"b"}`, `{"f":["b"]}`, `{"f":{}}`}, []string{`{"f":"A"}`, `{"f":["b","a"]}`}},
		{"neq of a list", `f|neq: [a, b]`, []string{`{}`, `{"f":"c"}`}, []string{`{"f":"a"}`, `{"f":"b"}`}},
		{"neq all", `f|neq|all: [a, b]`, []string{`{}`, `{"f":"a"}`, `{"f":["a"]}`}, []string{`{"f":["a","b"]}`}},
		{"neq null", `f|neq: null`, []string{`{"f":""}`}, []string{`{}`, `{"f":null}`}},
		{"neq contains", `f|contains|neq: a`, []string{`{}`, `{"f":"b"}`}, []string{`{"f":"bab"}`}},
		{"neq gt", `f|neq|gt: 5`, []string{`{}`, `{"f":5}`, `{"f":"x"}`}, []string{`{"f":6}`}},
		{"number", `f: 22`, []string{`{"f":22}`, `{"f":22.0}`, `{"f":2.2e1}`, `{"f":220e-1}`, `{"f":"22"}`, `{"f":"22.00"}`}, []string{`{"f":"022"}`, `{"f":" 22"}`, `{"f":"0x16"}`, `{"f":true}`, `{"f":"22a"}`, `{"f":-22}`, `{"f":23}`, `{}`}},
		{"exact numbers", `f: 9007199254740993`, []string{`{"f":9007199254740993}`, `{"f":"9007199254740993.0"}`}, []string{`{"f":9007199254740992}`, `{"f":9007199254740992.0}`}},
		{"beyond int64", `f: 18446744073709551616`, []string{`{"f":18446744073709551616}`, `{"f":1.8446744073709551616e19}`}, []string{`{"f":18446744073709551617}`, `{"f":18446744073709551615}`}},
		{"uint64", `f: 0xffffffffffffffff`, []string{`{"f":18446744073709551615}`}, []string{`{"f":-1}`}},
		{"beyond float64", `f: 1e308`, []string{`{"f":1e308}`, `{"f":10e307}`}, []string{`{"f":1e400}`, `{"f":1}`}},
		{"tiny", `f: 1e-400`, []string{`{"f":0.1e-399}`}, []string{`{"f":0}`}},
		{"zero", `f: 0`, []string{`{"f":0}`, `{"f":-0}`, `{"f":0.000}`, `{"f":"-0e7"}`}, []string{`{"f":1e-400}`, `{"f":""}`, `{"f":false}`, `{}`}},
		{"hex", `f: 0x1F`, []string{`{"f":31}`, `{"f":"31"}`}, []string{`{"f":"0x1F"}`}},
		{"octal", `f: [0o17, 0b101]`, []string{`{"f":15}`, `{"f":5}`}, []string{`{"f":17}`}},
		{"YAML's floats", `f: [+.5, 5., -1_000.25, 007.5e1]`, []string{`{"f":0.5}`, `{"f":5}`, `{"f":-1000.25}`, `{"f":75}`}, []string{`{"f":-0.5}`}},
		{"negative", `f: -3`, []string{`{"f":-3}`, `{"f":-30e-1}`}, []string{`{"f":3}`}},
		{"text against a number", `f: "22"`, []string{`{"f":22}`, `{"f":"22"}`}, []string{`{"f":22.0}`, `{"f":2.2e1}`}},
		{"text against an exponent", `f: "1E5"`, []string{`{"f":1e5}`}, []string{`{"f":100000}`}},
		{"wildcards against a number", `f: "4?5*"`, []string{`{"f":425}`, `{"f":4.56}`}, []string{`{"f":45}`}},
		{"text against a bool", `f: "True"`, []string{`{"f":true}`, `{"f":"true"}`}, []string{`{"f":false}`, `{"f":1}`}},
		{"bool", `f: true`, []string{`{"f":true}`, `{"f":"TRUE"}`, `{"f":"true"}`}, []string{`{"f":false}`, `{"f":"yes"}`, `{"f":1}`, `{}`, `{"f":null}`}},
		{"cased bool", `f|cased: true`, []string{`{"f":true}`, `{"f":"true"}`}, []string{`{"f":"TRUE"}`}},
		{"quoted is text", `f: "null"`, []string{`{"f":"null"}`}, []string{`{"f":null}`, `{}`}},
		{"yes is text", `f: yes`, []string{`{"f":"yes"}`}, []string{`{"f":true}`}},
		{"a date is text", `f: 2024-01-02`, []string{`{"f":"2024-01-02"}`}, []string{`{"f":"2024-01-02T00:00:00Z"}`}},
		{"lt", `f|lt: 5`, []string{`{"f":4}`, `{"f":"4.9"}`, `{"f":-1e9}`}, []string{`{"f":5}`, `{"f":6}`, `{"f":"x"}`, `{"f":""}`, `{"f":true}`, `{}`, `{"f":null}`, `{"f":{}}`}},
		{"lte", `f|lte: 5`, []string{`{"f":5}`, `{"f":5.0}`, `{"f":0}`}, []string{`{"f":5.00000000000000000001}`}},
		{"gt", `f|gt: 5`, []string{`{"f":6}`, `{"f":5.00000000000000000001}`, `{"f":1e400}`}, []string{`{"f":5}`, `{"f":"five"}`, `{"f":"Inf"}`, `{"f":"NaN"}`}},
		{"gte", `f|gte: -0.5`, []string{`{"f":-0.5}`, `{"f":-5e-1}`, `{"f":0}`}, []string{`{"f":-0.51}`, `{"f":"0x10"}`}},
		{"order of negatives", `f|lt: -9007199254740993`, []string{`{"f":-9007199254740994}`}, []string{`{"f":-9007199254740993}`, `{"f":-9007199254740992.0}`}},
		{"order in arrays", `f|gt: 5`, []string{`{"f":[1,"9"]}`}, []string{`{"f":[1,2]}`, `{"f":[]}`, `{"f":[{"a":9}]}`}},
		{"order of a list", `f|gt: [5, 3]`, []string{`{"f":4}`}, []string{`{"f":3}`}},
		{"contains", `f|contains: Fail`, []string{`{"f":"a failure"}`, `{"f":"FAIL"}`, `{"f":["x","fail"]}`}, []string{`{"f":"fai l"}`, `{}`}},
		{"contains with wildcards", `f|contains: a*b?c`, []string{`{"f":"xxa--bxcxx"}`}, []string{`{"f":"abc"}`}},
		{"contains nothing", `f|contains: ""`, []string{`{"f":""}`, `{"f":5}`}, []string{`{}`, `{"f":null}`, `{"f":{}}`}},
		{"contains a number", `f|contains: 4444`, []string{`{"f":"nc -l 4444"}`, `{"f":144445}`}, []string{`{"f":444}`}},
		{"startswith", `f|startswith: C:\Win`, []string{`{"f":"c:\\windows"}`}, []string{`{"f":"xc:\\windows"}`}},
		{"endswith", `f|endswith: \cmd.exe`, []string{`{"f":"C:\\CMD.EXE"}`}, []string{`{"f":"cmd.exe"}`, `{"f":"\\cmd.exe "}`}},
		{"endswith folds longer", `f|endswith: k`, []string{`{"f":"x\u212a"}`}, []string{`{"f":"\u212ax"}`}},
		{"startswith a backslash", `f|startswith: C:\`, []string{`{"f":"c:\\x"}`}, []string{`{"f":"c:*"}`}},
		{"cased contains", `f|cased|contains: Ab`, []string{`{"f":"xAbx"}`}, []string{`{"f":"xabx"}`}},
		{"star", `f: a*c`, []string{`{"f":"ac"}`, `{"f":"ABBC"}`, `{"f":"a\nc"}`}, []string{`{"f":"acd"}`, `{"f":"bac"}`}},
		{"question mark", `f: a?c`, []string{`{"f":"abc"}`, `{"f":"aßc"}`, `{"f":"a😀c"}`, `{"f":"a\nc"}`}, []string{`{"f":"ac"}`, `{"f":"abbc"}`}},
		{"star alone", `f: "*"`, []string{`{"f":""}`, `{"f":1}`, `{"f":["a"]}`}, []string{`{}`, `{"f":null}`, `{"f":{}}`, `{"f":[]}`, `{"f":[null]}`}},
		{"escapes", `f: a\*b\?c\\d\e\`, []string{`{"f":"a*b?c\\d\\e\\"}`}, []string{`{"f":"axbxc\\d\\e\\"}`}},
		{"escaped backslash before a star", `f: a\\*`, []string{`{"f":"a\\"}`, `{"f":"a\\b"}`}, []string{`{"f":"ab"}`, `{"f":"a*"}`}},
		{"backslash itself", `f: C:\Windows\x`, []string{`{"f":"c:\\windows\\X"}`}, nil},
		{"arrays", `f: b`, []string{`{"f":["a","B"]}`, `{"f":[["b"]]}`, `{"f":[{"b":1},"b"]}`, `{"f":["\u0062"]}`}, []string{`{"f":[]}`, `{"f":["ab"]}`, `{"f":[{"f":"b"}]}`, `{"f":["b\\"]}`}},
		{"kinds in arrays", `f: [7, true]`, []string{`{"f":["x", 7.0]}`, `{"f":[ true ]}`, `{"f":[[[7]]]}`}, []string{`{"f":[null,"a,7",false,{"x":[7]}]}`}},
		{"arrays with all", `f|all: [a, 2]`, []string{`{"f":["2","b","a"]}`}, []string{`{"f":["a"]}`, `{"f":"a"}`, `{"f":[]}`}},
		{"objects", `f: "*a*"`, nil, []string{`{"f":{"a":"a"}}`}},
		{"escaped bar", `f\|g|contains: x`, []string{`{"f|g":"axb"}`}, []string{`{"f":"x"}`}},
		{"aliases", "- f: &v [a, b]\n  g: *v", []string{`{"f":"a","g":"b"}`}, []string{`{"f":"a","g":"c"}`}},
		{"a field named condition", `[{condition: a}]`, []string{`{"condition":"a"}`}, []string{`{"condition":"b"}`}},

		{"named blocks", `{a: {f: x}, b: [{g: y}, {g: z}], condition: a and b}`, []string{`{"f":"x","g":"z"}`}, []string{`{"f":"x"}`, `{"g":"y"}`}},
		{"not is negation", `{a: {f: x}, condition: not a}`, []string{`{}`, `{"f":"y"}`}, []string{`{"f":"x"}`}},
		{"not not", `{a: {f: x}, condition: not not a}`, []string{`{"f":"x"}`}, []string{`{}`}},
		{"or binds less than and", `{a: {f: x}, b: {g: y}, c: {h: z}, condition: a or b and c}`, []string{`{"f":"x"}`, `{"g":"y","h":"z"}`}, []string{`{"g":"y"}`, `{"h":"z"}`}},
		{"parentheses", `{a: {f: x}, b: {g: y}, c: {h: z}, condition: (a or b)and(c)}`, []string{`{"f":"x","h":"z"}`}, []string{`{"f":"x"}`, `{"h":"z"}`}},
		{"not binds most", `{a: {f: x}, b: {g: y}, condition: not a and b}`, []string{`{"g":"y"}`}, []string{`{}`, `{"f":"x","g":"y"}`}},
		{"1 of", `{s1: {f: x}, s2: {g: y}, t: {h: z}, condition: 1 of s*}`, []string{`{"f":"x"}`, `{"g":"y"}`}, []string{`{"h":"z"}`}},
		{"all of", `{s1: {f: x}, s2: {g: y}, t: {h: z}, condition: all of s* and not t}`, []string{`{"f":"x","g":"y"}`}, []string{`{"f":"x"}`, `{"f":"x","g":"y","h":"z"}`}},
		{"1 of them", `{a: {f: x}, _b: {g: y}, condition: 1 of them}`, []string{`{"f":"x"}`}, []string{`{"g":"y"}`}},
		{"all of them", `{a: {f: x}, b: {g: y}, _c: {h: z}, condition: ALL OF THEM}`, []string{`{"f":"x","g":"y"}`}, []string{`{"f":"x"}`, `{"h":"z"}`}},
		{"_ when asked for", `{a: {f: x}, _b: {g: y}, condition: 1 of _*}`, []string{`{"g":"y"}`}, []string{`{"f":"x"}`}},
		{"blocks called 1 and all", `{1: {f: x}, all: {g: y}, condition: 1 and all}`, []string{`{"f":"x","g":"y"}`}, []string{`{"f":"x"}`}},
	} {
		t.Run(x.rule, func(t *testing.T) {
			var fields event.Fields
			c := mustCompile(t, &fields, x.condition)
			for _, row := range x.yes {
				if !c.Match(rowOf(t, &fields, row)) {
					t.Errorf("%s does not match %s", x.condition, row)
				}
			}
			for _, row := range x.no {
				if c.Match(rowOf(t, &fields, row)) {
					t.Errorf("%s matches %s", x.condition, row)
				}
			}
		})
	}
}

func TestNilMatchesEverything(t *testing.T) {
	c, problems := Compile(nil, nil)
	if c != nil || problems != nil || !c.Match(cells{}) || c.Fields() != nil || c.String() != "" {
		t.Error("a nil node is no condition, and that matches everything")
	}
}

func TestFields(t *testing.T) {
	var fields event.Fields
	for i := range 5 {
		fields.Add("before " + strconv.Itoa(i))
	}
	c := mustCompile(t, &fields, `{x: {b: 1, a|exists: true}, y: [{b|gt: 2}, {c: null}], condition: y or not x}`)
	var paths []string
	for _, f := range c.Fields() {
		paths = append(paths, fields.Path(f))
	}
	if !slices.Equal(paths, []string{"b", "c", "a"}) {
		t.Errorf("fields: %q", paths)
	}
}

func TestPaths(t *testing.T) {
	for key, want := range map[string]string{
		`a.b|contains`: `a.b`, `a\.b`: `a\.b`, `a\|b|all`: `a|b`, `a\\|cased`: `a\\`, `a\x`: `a\x`, `a\`: `a\`,
	} {
		if path, _ := splitKey(key); path != want {
			t.Errorf("%s: path %s, not %s", key, path, want)
		}
	}
}

// Each group is several spellings of one condition; no two groups mean the same.
func TestFingerprint(t *testing.T) {
	seen := map[string]string{}
	for want, group := range map[string][]string{
		`"f" = "a"`:                        {`f: a`, `f: [a]`, `[{f: "a"}]`, `f|all: a`, `{x: {f: a}, condition: x}`, `{y: {f: a}, condition: not (not y)}`},
		`"f" = "*a*"`:                      {`f|contains: a`, `f: "*a*"`, `f|contains: "*a**"`, `f|startswith: "*a"`},
		`"f" = "a?*"`:                      {`f: a*?`, `f: a?**`},
		`"f" = "\\*\\\\"`:                  {`f: \*\`, `f: \*\\`},
		`"f" = cased "a"`:                  {`f|cased: a`},
		`"f" = ["a", "b"]`:                 {`f: [a, b]`},
		`"f" = all ["*a*", "*b*"]`:         {`f|all|contains: [a, b]`, `f|contains|all: [a, b]`},
		`not "f" = "a"`:                    {`f|neq: a`, `{x: {f: a}, condition: not x}`},
		`"f" = 1000`:                       {`f: 1000`, `f: 1e3`, `f: 0x3e8`, `f: 1_000.0`, `f|cased: 1000`},
		`"f" = 1.5e-7`:                     {`f: 1.5e-7`, `f: 0.15e-6`, `f: .00000015`},
		`"f" = -1e30`:                      {`f: -1e30`},
		`"f" = "1000"`:                     {`f: "1000"`},
		`"f" = null`:                       {`f: null`, `f: ~`, `f:`},
		`"f" exists`:                       {`f|exists: true`},
		`not "f" exists`:                   {`f|exists: false`},
		`"f" = true`:                       {`f: true`, `f: True`},
		`"f" >= 5`:                         {`f|gte: 5`, `f|gte: 5.0`},
		`("f" = "a" and "g" = "b")`:        {`{f: a, g: b}`, `{x: {f: a}, y: {g: b}, condition: x and (y)}`, `{x1: {f: a}, x2: {g: b}, condition: all of x*}`},
		`("f" = "a" or "g" = "b")`:         {`[{f: a}, {g: b}]`, `{x: {f: a}, y: {g: b}, condition: 1 of them}`},
		`not ("f" = "a" or "g" = "b")`:     {`{x: {f: a}, y: {g: b}, condition: not 1 of them}`},
		`("f" = "a" and not "g" = "\"or")`: {`{f: a, g|neq: '"or'}`},
	} {
		for _, text := range group {
			var fields event.Fields
			got := mustCompile(t, &fields, text).String()
			if got != want {
				t.Errorf("%s: fingerprint %s, not %s", text, got, want)
			}
			if other, ok := seen[got]; ok && other != want {
				t.Errorf("%s has the fingerprint of %s", text, other)
			}
			seen[got] = want
		}
	}
}

func TestNoAllocations(t *testing.T) {
	var fields event.Fields
	c := mustCompile(t, &fields, `
a: { s: [x, Failure], n|gte: 5, w: "*fail*r??", big: 18446744073709551616, list|all: [b, 3] }
b: { gone|exists: true }
condition: a and not b`)
	var row Row = rowOf(t, &fields, `{"s":"FAILURE","n":"7.5","w":"some failure!","big":18446744073709551616,"list":["a","b",3]}`)
	if !c.Match(row) {
		t.Fatal("does not match")
	}
	if n := testing.AllocsPerRun(100, func() { c.Match(row) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
