package pipeline

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// texts is a row of texts by field.
type texts []string

func (t texts) Value(f event.Field) event.Value {
	return event.Value{Kind: event.String, Text: []byte(t[f])}
}

// Patterns and `when` mean what the standard library says of texts: no wildcards, no folding unless asked for.
func TestWhen(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	word := func() string {
		s := ""
		for range 3 + r.IntN(3) {
			s += []string{"a", "B", "*", "?", `\`, ".", "b", "A", "é", "É"}[r.IntN(10)]
		}
		return s
	}
	address := func() string { return fmt.Sprintf("10.%d.0.%d", r.IntN(3), r.IntN(2)) }
	hits := 0
	for range 3000 {
		m := &abi.Manifest{Reads: make([]abi.Read, 2)}
		for id := range 1 + r.IntN(4) {
			p := abi.Pattern{ID: id, Field: r.IntN(2), Op: abi.PatternOps[r.IntN(len(abi.PatternOps))]}
			p.NoCase = p.Op != "cidr" && r.IntN(2) == 0
			for range 1 + r.IntN(3) {
				switch p.Op {
				case "cidr":
					p.Values = append(p.Values, []string{"10.1.0.0/16", "10.0.0.1", "10.2.0.0/24"}[r.IntN(3)])
				case "re":
					p.Values = append(p.Values, []string{"(aB[*]|b[?].)", `^a\\b`, "éa.?$"}[r.IntN(3)])
				default:
					p.Values = append(p.Values, word())
				}
			}
			m.Patterns = append(m.Patterns, p)
		}
		w := randomWhen(r, len(m.Patterns), 3)
		m.When = &w
		c, err := pluginWhen(m, []event.Field{0, 1})
		if err != nil {
			t.Fatal(err)
		}
		set := match.NewSet([]*match.Condition{c})
		for range 10 {
			row := texts{word(), word()}
			for i := range row {
				switch p := m.Patterns[r.IntN(len(m.Patterns))]; {
				case r.IntN(3) > 0:
				case p.Op == "cidr":
					row[i] = address()
				case p.Op != "re":
					row[i] = []string{"", "x"}[r.IntN(2)] + p.Values[0] + []string{"", "x"}[r.IntN(2)]
					if r.IntN(2) == 0 {
						row[i] = strings.ToUpper(row[i])
					}
				}
			}
			want := meets(w, m.Patterns, row)
			if got := c.Match(row); got != want {
				t.Fatalf("seed %d: %+v of %+v on %q: %v", seed, w, m.Patterns, row, got)
			}
			if want {
				hits++
				if len(set.Finder().Find(row))+len(set.Always()) == 0 {
					t.Fatalf("seed %d: %+v of %+v on %q is not found", seed, w, m.Patterns, row)
				}
			}
		}
	}
	if hits < 1000 {
		t.Errorf("%d hits: that tests little", hits)
	}
	huge := &abi.Manifest{Name: "a.b", Version: "1.0.0", Patterns: []abi.Pattern{{ID: 5, Op: "re", Values: []string{"abc" + strings.Repeat("[a-z]{1000}", 300)}}}, When: &abi.When{Pattern: 5}}
	if _, err := pluginWhen(huge, []event.Field{0}); err == nil || !strings.Contains(err.Error(), "pattern 5 of a.b 1.0.0: the regular expressions of a condition may compile to") {
		t.Error(err)
	}
	if c, err := pluginWhen(&abi.Manifest{}, nil); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
}

func randomWhen(r *rand.Rand, patterns, depth int) (w abi.When) {
	if depth == 0 || r.IntN(3) == 0 {
		w.Pattern = r.IntN(patterns)
		return w
	}
	for range 1 + r.IntN(3) {
		w.Any = append(w.Any, randomWhen(r, patterns, depth-1))
	}
	if r.IntN(2) == 0 {
		w.Any, w.All = nil, w.Any
	}
	return w
}

func meets(w abi.When, patterns []abi.Pattern, row texts) bool {
	one := func(w abi.When) bool { return meets(w, patterns, row) }
	switch {
	case len(w.Any) > 0:
		return slices.ContainsFunc(w.Any, one)
	case len(w.All) > 0:
		return !slices.ContainsFunc(w.All, func(w abi.When) bool { return !one(w) })
	}
	p := patterns[w.Pattern]
	text := row[p.Field]
	return slices.ContainsFunc(p.Values, func(v string) bool {
		if p.Op == "cidr" {
			a, err := netip.ParseAddr(text)
			if n, bad := netip.ParsePrefix(v); bad == nil {
				return err == nil && n.Contains(a)
			}
			return err == nil && a.String() == v
		}
		form, ok := map[string]string{"equals": "^%s$", "contains": "%s", "startswith": "^%s", "endswith": "%s$"}[p.Op]
		if ok {
			v = fmt.Sprintf(form, regexp.QuoteMeta(v))
		}
		if p.NoCase {
			v = "(?i)" + v
		}
		return regexp.MustCompile(v).MatchString(text)
	})
}

// A module never sees the rows that its `when` rules out.
func TestCasesKnowWhen(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	manifest, err := os.ReadFile("../../plugins/brute_force/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	only := write("manifest.json", strings.Replace(string(manifest), `"limits"`, `"patterns": [{"id": 3, "field": 1, "op": "cidr", "values": ["10.0.0.0/8"]}], "when": {"any": [3]}, "limits"`, 1))
	module := filepath.Join(dir, "only.wasm")
	if err := PackPlugin(module, only, "", "../../plugins/brute_force/brute_force.wasm"); err != nil {
		t.Fatal(err)
	}
	var cases strings.Builder
	for i := range 20 {
		fmt.Fprintf(&cases, `{"name":"in","row":{"login_attempts":9,"source_ip":"10.0.0.%d"},"hits":[{"rule":1}]}`+"\n", i)
		fmt.Fprintf(&cases, `{"name":"out","row":{"login_attempts":9,"source_ip":"11.0.0.%d"}}`+"\n", i)
		fmt.Fprintf(&cases, `{"name":"none","row":{"login_attempts":9}}`+"\n")
	}
	r, err := CheckPlugin(module, write("cases.jsonl", cases.String()))
	if err != nil || len(r.Failures) > 0 || r.Cases != 60 {
		t.Errorf("%+v, %v", r, err)
	}
}
