package match

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// candidates says which conditions a set considers for a row, those of Always included, and fails if it says one twice.
func candidates(t testing.TB, s *Set, f *Finder, r Row) map[int32]bool {
	is := map[int32]bool{}
	for _, c := range slices.Concat(s.Always(), f.Find(r)) {
		if is[c] {
			t.Fatalf("condition %d is found twice", c)
		}
		is[c] = true
	}
	return is
}

// TestSetMissesNothing compares sets with conditions on their own, of two kinds: the random ones of TestModel, where nearly
// everything goes together with everything, and those of words, which few rows have.
func TestSetMissesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	for _, kind := range []struct {
		name           string
		condition, row func() string
		most           float64 // candidates for a condition that holds
	}{{"random", g.condition, g.row, 0}, {"words", g.wordy, g.words, 4}} {
		hits, likely, tried := 0, 0, 0
		for range 300 {
			var fields event.Fields
			var texts []string
			var all []*Condition
			for range 1 + g.IntN(60) {
				texts = append(texts, kind.condition())
				all = append(all, mustCompile(t, &fields, texts[len(texts)-1]))
				if g.IntN(50) == 0 {
					texts, all = append(texts, "none"), append(all, nil)
				}
			}
			s := NewSet(all)
			f := s.Finder()
			for i := range 20 {
				if i == 10 { // it wraps, and what the first rounds noted must not count
					f.round = ^uint32(0) - 1
				}
				text := kind.row()
				row := rowOf(t, &fields, text)
				is := candidates(t, s, f, row)
				for i, c := range all {
					if !c.Match(row) {
						continue
					}
					hits++
					if !is[int32(i)] {
						t.Fatalf("seed %d: %s\nholds on %s, and is no candidate", seed, texts[i], text)
					}
				}
				likely, tried = likely+len(is), tried+len(all)
			}
		}
		t.Logf("%s: of %d conditions tried, %d are candidates and %d hold", kind.name, tried, likely, hits)
		if hits < tried/200 || kind.most > 0 && float64(likely) > kind.most*float64(hits) {
			t.Errorf("%s: that tests little, or the index finds too much", kind.name)
		}
	}
}

var vocabulary = []string{"mimikatz", "Invoke-Kit", "\\cmd.exe", "ſyſtem32", "Straße", "\u212aelvin", "-enc", "aab", "é", "10.1.2.3", "ΣΑΣ", "http://", "😀😀", "4625", "日本語", "%s%s", "Ⴀ"}

func (g generator) vocable() string { return g.pick(vocabulary...) }

// folds changes the case of some runes, to any that folds with them.
func (g generator) folds(s string) string {
	return strings.Map(func(r rune) rune {
		for range g.IntN(4) * g.IntN(2) {
			r = unicode.SimpleFold(r)
		}
		return r
	}, s)
}

// words is a row of two or three words a field, some of them in lists.
func (g generator) words() string {
	row := map[string]any{}
	text := func() string {
		return g.list(1+g.IntN(3), g.pick(" ", "", "x"), func() string { return g.folds(g.vocable()) })
	}
	for _, f := range []string{"f", "g", "h"} {
		switch g.IntN(12) {
		case 0:
			row[f] = []any{text(), g.IntN(20), []any{text()}}
		case 1:
			row[f] = json.RawMessage(g.pick("7", "70e-1", "7.0", "2.5", "250e-2", "-0", "1e3", "true", "null", `{"a":"mimikatz"}`))
		case 2:
			row[f] = g.pick("7", "7.00", "2.5", "0", "1000", "True")
		case 3:
			row[f] = g.address()
		default:
			row[f] = text()
		}
	}
	b, _ := json.Marshal(row)
	return string(b)
}

// wordy is a condition of three items that all ask for something, not all of them positively.
func (g generator) wordy() string {
	word := func() string {
		w := g.folds(g.vocable())
		return "'" + strings.ReplaceAll(w+g.pick("", "", g.pick("", " ", "x")+g.vocable()), `\`, `\\`) + "'"
	}
	item := func(field string) string {
		switch g.IntN(9) {
		case 0:
			return field + g.pick("|windash|contains", "|endswith", "|startswith", "|cased|contains") + ": " + word()
		case 1:
			return field + ": '*" + strings.ReplaceAll(g.vocable(), `\`, `\\`) + g.pick("*", "?", "*x?") + g.vocable() + g.pick("", "*") + "'"
		case 2:
			return field + "|re: '" + g.pick("", "(?i)", "^") + g.pick("(mimikatz|kelvin)", `\\cmd\.exe$`, "a+b", "(?:http://)+", "(4625){1,2}", "x?Straße|日本") + g.pick("", ".*") + "'"
		case 3:
			return field + "|cidr: [10.0.0.0/8, '2001:db8::/32']"
		case 4:
			return field + ": " + g.pick("7", "2.5", "0", "1e3", "[7, 2.5]", "true", `"7"`)
		case 5:
			return field + "|contains|all: [" + word() + ", " + word() + "]"
		case 6:
			return field + ": " + word()
		case 7:
			return field + g.pick("|neq: x", "|gte: 5", "|exists: true", ": null", "|fieldref: g")
		}
		return field + "|contains: [" + word() + ", " + word() + "]"
	}
	switch g.IntN(6) {
	case 0:
		return "[" + word() + ", {" + item("f") + "}]"
	case 1:
		return "[{" + item("f") + ", " + item("g") + "}, {" + item("h") + "}]"
	case 2:
		return "{a: {" + item("f") + "}, b: {" + item("g") + "}, c: {" + item("h") + "}, condition: '" + g.pick("a and not b", "a and (b or c)", "not a and c", "1 of them") + "'}"
	}
	return "{" + item("f") + ", " + item("g") + g.pick("", ", "+item("h")) + "}"
}

// What each kind of condition asks for, on rows that have it and rows that have not: the index is no index if it finds the latter.
func TestSetRulesOut(t *testing.T) {
	for _, x := range []struct {
		condition string
		yes, no   []string
	}{
		{`f: Straße`, []string{`{"f":"ſTRAẞE"}`, `{"f":["a",["straße"]]}`}, []string{`{"f":"xstraße"}`, `{"g":"straße"}`, `{}`, `{"f":{"f":"straße"}}`}},
		{`f: ""`, []string{`{"f":""}`}, []string{`{"f":"a"}`, `{}`}},
		{`f: "7"`, []string{`{"f":7}`, `{"f":"7"}`}, []string{`{"f":7.0}`}},
		{`f: 7`, []string{`{"f":7}`, `{"f":"70e-1"}`, `{"f":[0.7e1]}`}, []string{`{"f":70}`, `{"f":true}`, `{"f":"7 "}`, `{"f":-7}`}},
		{`f: 123456789012345678901234567890`, []string{`{"f":1.2345678901234567890123456789e29}`}, []string{`{"f":123456789012345678901234567891}`}},
		{`f: 0`, []string{`{"f":-0.0}`}, []string{`{"f":1}`}},
		{`f: true`, []string{`{"f":true}`, `{"f":"TRUE"}`}, []string{`{"f":false}`, `{"f":1}`}},
		{`f|contains: ab`, []string{`{"f":"xABx"}`}, []string{`{"f":"aXb"}`, `{"f":"a"}`, `{"f":""}`}},
		{`f|startswith: abcde`, []string{`{"f":"abcdef"}`}, []string{`{"f":"xabcde"}`, `{"f":"abcd"}`}},
		{`f|endswith: abc`, []string{`{"f":"xabc"}`}, []string{`{"f":"abcx"}`}},
		{`f: ab?cdefg*h`, []string{`{"f":"ab-cdefg-h"}`}, []string{`{"f":"x cdef"}`}},
		{`f|cased|contains: ABCD`, []string{`{"f":"xABCD"}`}, []string{`{"f":"abc"}`}},
		{`f|windash|contains: " -enc"`, []string{`{"f":"x –enc"}`}, []string{`{"f":"x -en"}`}},
		{`f|wide|base64offset|contains: powershell`, []string{`{"f":"xxcABvAHcAZQByAHMAaABlAGwAbA"}`}, []string{`{"f":"powershell"}`}},
		{`f|re: '^(abc|def)+x'`, []string{`{"f":"abcx"}`, `{"f":"defx"}`}, []string{`{"f":"abd"}`}},
		{`f|re|i: 'kelvin[0-9]{2}'`, []string{`{"f":"\u212aelvin12"}`}, []string{`{"f":"elvin12"}`}},
		{`f|re: '(abc){2,3}'`, []string{`{"f":"abcabc"}`}, []string{`{"f":"ab"}`}},
		{`f|cidr: [10.0.0.0/8, 192.168.1.1, "2001:db8::/32"]`, []string{`{"f":"10.1.2.3"}`, `{"f":"::ffff:10.1.2.3"}`, `{"f":["192.168.1.1"]}`, `{"f":"2001:db8::1%x"}`}, []string{`{"f":"11.0.0.1"}`, `{"f":"10.1.2"}`, `{"f":"2001:db9::"}`}},
		{`{f|gt: 5, g: abc}`, []string{`{"f":6,"g":"abc"}`}, []string{`{"f":6,"g":"abd"}`}},
		{`[{f: abc}, {g|contains: def}]`, []string{`{"f":"abc"}`, `{"g":"xdef"}`}, []string{`{"f":"def","g":"abc"}`}},
		{`{a: {f: abc}, b: {g: x}, condition: a and not b}`, []string{`{"f":"abc"}`}, []string{`{"g":"y"}`}},
		{`[abcd]`, []string{`{"f":"xABCDx"}`, `{"a":{"b":["x\\abcd"]}}`}, []string{`{"abcd":"x"}`, `{"f":5}`}},
		{`"|all": [abcd, efgh]`, []string{`{"f":"abcd","g":"efgh"}`}, []string{`{"f":"x"}`}},
	} {
		var fields event.Fields
		c := mustCompile(t, &fields, x.condition)
		s := NewSet([]*Condition{nil, c})
		if got := s.Always(); len(got) != 1 || got[0] != 0 {
			t.Errorf("%s: always %v", x.condition, got)
		}
		f := s.Finder()
		for _, text := range slices.Concat(x.yes, x.no) {
			row := rowOf(t, &fields, text)
			want := slices.Contains(x.yes, text)
			if c.Match(row) && !want || want && !c.Match(row) {
				t.Errorf("%s on %s is %v", x.condition, text, !want)
			}
			if got := candidates(t, s, f, row)[1]; got != want {
				t.Errorf("%s on %s is a candidate: %v", x.condition, text, got)
			}
		}
	}
	for _, text := range []string{`f|gt: 5`, `f: null`, `f|exists: true`, `f|neq: abc`, `f|fieldref: g`, `f|contains: a`, `[{f: abc}, {g|neq: x}]`, `f: [abc, null-, "*"]`, `f|re: 'abc|x*'`, `f|re: '(abc)?'`, `f|re: '(abc){0,2}'`} {
		var fields event.Fields
		if got := NewSet([]*Condition{mustCompile(t, &fields, text)}).Always(); len(got) != 1 {
			t.Errorf("%s is not always a candidate", text)
		}
	}
}

// Of several items that must hold, the index asks for the one that fewer conditions share.
func TestSetChoosesWhatIsRare(t *testing.T) {
	var fields event.Fields
	var all []*Condition
	for i := range 1000 {
		all = append(all, mustCompile(t, &fields, fmt.Sprintf(`{channel: Security-Auditing, id: 4688, user: u%d}`, i)))
	}
	row := rowOf(t, &fields, `{"channel":"security-auditing","id":4688,"user":"u7"}`)
	if got := NewSet(all).Finder().Find(row); len(got) != 1 || got[0] != 7 {
		t.Errorf("found %v", got)
	}
}

// What All and Any make of conditions, nil among them.
func TestCombined(t *testing.T) {
	var fields event.Fields
	a, b := mustCompile(t, &fields, `f: x`), mustCompile(t, &fields, `[{g: y}, {g: z}]`)
	both, first, none := rowOf(t, &fields, `{"f":"x","g":"y"}`), rowOf(t, &fields, `{"f":"x"}`), rowOf(t, &fields, `{}`)
	for _, x := range []struct {
		name              string
		c                 *Condition
		both, first, none bool
	}{
		{"all", All(a, nil, b), true, false, false}, {"any", Any(a, b), true, true, false}, {"any, one of every row", Any(a, nil), true, true, true},
		{"all of nothing", All(nil, nil), true, true, true}, {"all of one", All(a), true, true, false},
	} {
		if x.c.Match(both) != x.both || x.c.Match(first) != x.first || x.c.Match(none) != x.none {
			t.Errorf("%s: %v", x.name, x.c)
		}
	}
	if got := All(a, b).Fields(); len(got) != 2 {
		t.Errorf("fields %v", got)
	}
}

// The folded form is rune by rune what fold says, for all of Unicode.
func TestAppendFolded(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		if got := string(appendFolded(nil, []byte(string(r)))); got != string(fold(r)) {
			t.Fatalf("%U is %q, not %q", r, got, fold(r))
		}
	}
}

// FuzzFolded: texts are equal by folding if their folded forms are equal.
func FuzzFolded(f *testing.F) {
	for _, s := range [][2]string{{"ABCDEFGHIJ", "abcdefghij"}, {"[@Z{`aabc", "[@z{`AABC"}, {"\u212a234567890", "k234567890"}, {"abcdefgh\xff", "abcdefgh\xfe"}, {"\xc3", "�"}, {"12345678ſ", "12345678s"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := appendFolded([]byte("x"), []byte(a)), appendFolded([]byte("x"), []byte(b))
		if got, want := string(x) == string(y), strings.EqualFold(strings.ToValidUTF8(spread(a), "\ufffd"), strings.ToValidUTF8(spread(b), "\ufffd")); got != want {
			t.Errorf("%q and %q: %q and %q are equal: %v", a, b, x, y, got)
		}
	})
}

// spread makes each invalid byte one of its own, where ToValidUTF8 would replace a run of them by one.
func spread(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}

// FuzzGrams compares the search of many fragments with one search each. Fragments are separated by lines.
func FuzzGrams(f *testing.F) {
	f.Add("abcd\nbcde\nab\nabcdabcd\nxyz", "xabcdabcde", byte(0))
	f.Add("\x00\x00\x00\x00\n\x00\x00", "a\x00\x00\x00\x00", byte(1))
	f.Add("aaaa\naaaaa\naaaaaa", "aaaaaaaaaa", byte(2))
	f.Fuzz(func(t *testing.T, list, text string, anchors byte) {
		var wide, narrow []fragment
		for i, s := range strings.Split(list, "\n") {
			x := fragment{text: s, start: anchors>>(i%4)&1 != 0, end: anchors>>(4+i%4)&1 != 0}
			if len(s) >= gramWide {
				wide = append(wide, x)
			} else if len(s) >= gramNarrow {
				narrow = append(narrow, x)
			}
		}
		for _, g := range []*grams{newGrams(gramWide, wide), newGrams(gramNarrow, narrow)} {
			if g == nil {
				continue
			}
			into := findings{marks: make([]uint32, len(g.fragments)), round: 1}
			g.find([]byte(text), &into)
			for i, x := range g.fragments {
				want := strings.Contains(text, x.text) && (!x.start || strings.HasPrefix(text, x.text)) && (!x.end || strings.HasSuffix(text, x.text)) && (!x.start || !x.end || text == x.text)
				if got := slices.Contains(into.numbers, int32(i)); got != want {
					t.Errorf("%q in %q: %v", x.text, text, got)
				}
			}
			if len(into.numbers) > len(g.fragments) {
				t.Errorf("%d of %d fragments: some twice", len(into.numbers), len(g.fragments))
			}
			if len(g.fragments) != len(wide) && len(g.fragments) != len(narrow) {
				t.Errorf("%d fragments of %d and %d", len(g.fragments), len(wide), len(narrow))
			}
		}
	})
}

// FuzzSet: any condition that holds of any cells is a candidate.
func FuzzSet(f *testing.F) {
	for _, s := range []string{
		`f: abc`, `{f|contains|all: [ab, "b*cd"], g: 0x5}`, `[{f|startswith: ab}, {g: null}]`, `f|re: "(ab|cd)+x?"`, `f|cidr: ["::/7", 1.0.0.0/8]`, `f|windash|endswith: " -a /b"`, `[abc, "x\\*y"]`, `f: [1, 2.5, true, ""]`,
	} {
		for _, cell := range []string{`["abc",1,{"x":"}"},null,true,[1e5,"\u0061`, `AB\xff`, `{"a":"\\abc","b" :["\ud83d"],"c":"\u00`, "1.0", "1.2.3.4", "\u212aab"} {
			f.Add([]byte(s), []byte(cell))
		}
	}
	f.Fuzz(func(t *testing.T, text, cellText []byte) {
		var doc yaml.Node
		if yaml.Unmarshal(text, &doc) != nil || doc.IsZero() {
			return
		}
		var fields event.Fields
		c, _ := Compile(&doc, resolver(&fields))
		if c == nil {
			return
		}
		s := NewSet([]*Condition{c, c})
		finder := s.Finder()
		for k := event.Absent; k <= event.Array; k++ {
			row := make(cells, fields.Len())
			for i := range row {
				row[i] = event.Value{Kind: k, Text: cellText}
			}
			if is := candidates(t, s, finder, row); c.Match(row) && !(is[0] && is[1]) {
				t.Errorf("%s holds of %v %q and is no candidate", c, k, cellText)
			}
		}
	})
}
