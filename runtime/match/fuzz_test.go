package match

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// FuzzCompile: any YAML gives a condition or located problems; a condition reads any row, and has one fingerprint.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`f: a`, `{f|contains|all: [a, "b*"], g|gte: 0x5}`, `[{f|exists: true}, {g: null}]`, `f|re: x`, `{f|re|i: "(a|b)*$", g|cidr: ["::/7", 1.0.0.0/8], h|fieldref|endswith: f}`, `f: {a: b}`, `{f|windash|contains: " -a /b", g|wide|base64offset|contains: ab, h|expand: '\%%x%'}`, `f: [null, []]`,
		`{a: &x {f|cased: 1.5e3}, b: [*x], condition: "not (1 of a* or all of them) and b"}`, `{a: {f: x}, condition: (((}`, `<<: {a: b}`,
		`{condition: {}}`, `? [a]`, `- - a`, `[a, {f: b}, 5]`, `{"|all": [a, "b*"], "|re|i": x}`, `f: !!float _`, `f: !!int -`, `f|gt: .inf`, `f: !!bool 1`, `"f\\|\\\\|lt": 1`, `&a [*a]`,
	} {
		f.Add([]byte(s), []byte(`["a",1,{"x":"}"},null,true,[1e5,"\u0061`))
		f.Add([]byte(s), []byte(`"\"`))
		f.Add([]byte(s), []byte(`{"a":"\\","b" :["\ud83d"],"c":"\u00`))
	}
	f.Fuzz(func(t *testing.T, text, cellText []byte) {
		var doc yaml.Node
		if yaml.Unmarshal(text, &doc) != nil || doc.IsZero() {
			return
		}
		var fields event.Fields
		c, problems := Compile(&doc, resolver(&fields))
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Text == "" {
				t.Errorf("unlocated problem %v", p)
			}
		}
		if (c == nil) != (len(problems) > 0) {
			t.Fatalf("condition %v and %d problems", c, len(problems))
		}
		if c == nil {
			return
		}
		again, _ := Compile(&doc, resolver(&fields))
		if a, b := c.String(), again.String(); a != b || a == "" {
			t.Errorf("fingerprints %q and %q", a, b)
		}
		for k := event.Absent; k <= event.Array; k++ {
			row := make(cells, fields.Len())
			for i := range row {
				row[i] = event.Value{Kind: k, Text: cellText}
			}
			if c.Match(row) != again.Match(row) {
				t.Errorf("two opinions on %v %q", k, cellText)
			}
		}
	})
}

func FuzzWildcard(f *testing.F) {
	for _, s := range [][2]string{
		{"a*b?c", "aXXbYc"}, {`*\**`, "a*b"}, {"*?*?", "é"}, {"*K*s", "\u212aſ"}, {`\\*\a`, `\\a`}, {"**", ""}, {"?", "😀"}, {"a*a*a", "aa"},
		{"*ab*abc", "abcabc"}, {"ẞ*", "ß"}, {"*Σ", "ς"}, {"*aab*", "aaab"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(text) || len(pattern) > 200 {
			return
		}
		for _, cased := range []bool{false, true} {
			flags := "(?is)^(?:"
			if cased {
				flags = "(?s)^(?:"
			}
			want := regexp.MustCompile(flags + translate(pattern) + ")$").MatchString(text)
			if got := newPattern(parseWildcards(pattern), cased).match([]byte(text)); got != want {
				t.Errorf("pattern %q, text %q, cased %v: %v, regexp says %v", pattern, text, cased, got, want)
			}
			if runes := parseWildcards(pattern); !hasWildcard(runes) {
				l := newText(string(runes), literalText, cased)
				if got := l.equal([]byte(text)); got != want {
					t.Errorf("text %q equals %q, cased %v: %v, regexp says %v", pattern, text, cased, got, want)
				}
			}
		}
		canonical := formatWildcards(normal(parseWildcards(pattern)))
		if again := formatWildcards(normal(parseWildcards(canonical))); again != canonical {
			t.Errorf("pattern %q: canonical %q, then %q", pattern, canonical, again)
		}
	})
}

// FuzzAddr compares with net/netip, which says more only of zones that are no text.
func FuzzAddr(f *testing.F) {
	for _, s := range []string{
		"1.2.3.4", "256.1.1.1", "1.2.3", "01.2.3.4", "1..2.3", "0.0.0.0", "::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
		"1::8::1", "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3", "12345::", "fe80::1%eth0", "fe80::1%", "1.2.3.4%x", ":1", "1:",
		":::", "::g", "1:2:3:4:5:6:7:8::", "1.2.3.4:5", "", "%x", "::%%", "1:2:3:4:5:6:7:8:9", "a:1.2.3.4::",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, err := netip.ParseAddr(text)
		got, ok := ParseAddr([]byte(text))
		if ok != (err == nil) || ok && got != want.WithZone("") {
			t.Errorf("%q is %v, %v; netip says %v, %v", text, got, ok, want, err)
		}
	})
}

// FuzzFold compares the search of one text in another with regexp.
func FuzzFold(f *testing.F) {
	for _, s := range [][2]string{{"", ""}, {"abc", "B"}, {"xKy", "\u212aY"}, {"ſtraẞe", "SSE"}, {"aaab", "aab"}, {"ab", "abc"}, {"😀é", "É"}, {"σς", "Σ"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, text, part string) {
		if !utf8.ValidString(text) || !utf8.ValidString(part) || len(part) > 200 {
			return
		}
		for form, got := range map[string]bool{
			"%s": containsFold([]byte(text), []byte(part)), "^%s": prefixFold([]byte(text), []byte(part)) >= 0, "%s$": suffixFold([]byte(text), []byte(part)),
		} {
			if want := regexp.MustCompile("(?i)" + fmt.Sprintf(form, regexp.QuoteMeta(part))).MatchString(text); got != want {
				t.Errorf("%q against %q as %s: %v, regexp says %v", text, part, form, got, want)
			}
		}
	})
}

// FuzzNumber compares with math/big, through a float64-free path.
func FuzzNumber(f *testing.F) {
	f.Add("1.50", "15e-1")
	f.Add("-0", "0e5")
	f.Add("0.001", "1e-3")
	f.Add("9007199254740993", "9007199254740992.0")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, okX := event.ParseDecimal([]byte(a))
		if okX != jsonNumberForm.MatchString(a) || strings.HasSuffix(a, "\n") && okX {
			t.Fatalf("%q: is a number: %v", a, okX)
		}
		y, okY := event.ParseDecimal([]byte(b))
		long := func(s string) bool { i := strings.IndexAny(s, "eE"); return i >= 0 && len(s)-i > 5 }
		if !okX || !okY || long(a) || long(b) {
			return
		}
		if got, want := x.Compare(&y), rat(a).Cmp(rat(b)); got != want {
			t.Errorf("%s against %s: %d, not %d", a, b, got, want)
		}
		n, m := newNumber(x), newNumber(y)
		if (n.String() == m.String()) != (x.Compare(&y) == 0) {
			t.Errorf("%s is %s, %s is %s", a, n.String(), b, m.String())
		}
		if rat(n.String()).Cmp(rat(a)) != 0 {
			t.Errorf("%s is written %s", a, n.String())
		}
		if sign, ok := n.compare(event.Value{Kind: event.String, Text: []byte(b)}); !ok || sign != y.Compare(&x) {
			t.Errorf("%s compares with the string %s as %d, %v", a, b, sign, ok)
		}
	})
}
