package engine

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// joinsSpec is runnerSpec's streams with joins of every type, with narrow bounds and caps, and one over what another says.
func joinsSpec(t testing.TB) *Spec {
	s := runnerSpec(t)
	f := s.Fields
	k, v := f.Add("k"), f.Add("v")
	f.Add("matches")
	s.Operators = nil
	add := func(name string, left, right int, j operator.Join) {
		j.Ident = operator.Ident{Pipeline: "p", Operator: name, Form: j.Kind.Form()}
		j.On = [2][]event.Field{{k}, {k}}
		if j.Kind == operator.Interval {
			j.Lower, j.Upper = -1_500, 4_000
		}
		j.Outputs = []operator.Output{{Name: k, Side: 0, Field: k}, {Name: f.Add("a"), Side: 0, Field: v}, {Name: f.Add("b"), Side: 1, Field: v}}
		j.RowsMax, j.MatchesMax = max(j.RowsMax, 5), 5
		j.Init(f)
		s.Operators = append(s.Operators, Operator{Name: name, Inputs: []int{left, right}, Join: &j, Leaves: true, Fingerprint: name, Names: names(f, j.Columns)})
	}
	add("left", 0, 1, operator.Join{Type: operator.LeftOuter})
	add("right", 0, 1, operator.Join{Type: operator.RightOuter, RowsMax: 50})
	add("full", 0, 1, operator.Join{Type: operator.FullOuter})
	add("semi", 0, 1, operator.Join{Type: operator.Semi})
	add("anti", 0, 1, operator.Join{Type: operator.Anti, RowsMax: 50})
	add("first", 0, 1, operator.Join{Type: operator.LeftOuter, Matches: operator.FirstMatch})
	add("count", 0, 1, operator.Join{Matches: operator.CountMatches, RowsMax: 50})
	add("of_full", 4, 1, operator.Join{Type: operator.FullOuter, RowsMax: 50, Where: condition(t, "{b|gte: 30}", f), Pair: []operator.Output{{Name: f.Add("b"), Side: 1, Field: v}}})
	add("of_windows", 0, 1, operator.Join{Kind: operator.Windowed, Type: operator.FullOuter, Window: &operator.Window{Kind: operator.Hopping, Size: 5_000, Slide: 2_000}})
	add("not_in_window", 0, 1, operator.Join{Kind: operator.Windowed, Type: operator.Anti, RowsMax: 50, Window: &operator.Window{Size: 3_000}})
	add("versions", 0, 1, operator.Join{Kind: operator.AsOf, Type: operator.LeftOuter, TTL: 9_000, Deleted: condition(t, "{v|lt: 20}", f)})
	add("of_versions", len(s.Streams)+len(s.Operators)-1, 1, operator.Join{Kind: operator.AsOf, RowsMax: 50})
	add("ttl", 0, 1, operator.Join{Kind: operator.Regular, Type: operator.FullOuter, TTL: 4_000, Lower: -4_000, Upper: 4_000})
	return s
}

// Runs with joins of every type may be cut short anywhere.
func TestRestartsOfJoins(t *testing.T) { testRestarts(t, joinsSpec, 2) }

// A file that grew after its end: rows that came out alone at the end are gone, nothing is said twice, and rows that the end
// had nothing to say about go on, and versions are still asked for; windows that ended are over.
func TestJoinsOfFilesThatGrow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	line := func(v string) string { // l40: key x at 40 s; y5 and z33 have keys of their own
		sec, _ := strconv.Atoi(v[1:])
		return fmt.Sprintf(`{"t":"2026-03-02T08:00:%02dZ","k":"%s","v":"%s"}`, sec, strings.NewReplacer("l", "x", "r", "x").Replace(v[:1]), v)
	}
	lines := func(list string) (out []string) {
		for _, v := range strings.Fields(list) {
			out = append(out, line(v))
		}
		return out
	}
	spec := func() *Spec {
		s := joinsSpec(t)
		for i := range s.Operators {
			s.Operators[i].Join.Lower, s.Operators[i].Join.Upper = -30_000, 30_000
		}
		windows, versions := s.Operators[8], s.Operators[10]
		windows.Join.Window = &operator.Window{Size: 20_000}
		versions.Join.TTL, versions.Join.Deleted = 0, nil
		s.Operators = append(s.Operators[:7], windows, versions)
		return s
	}
	first := []file{{"a1", lines("l1 l2 z33")}, {"b1", lines("y5 r32")}}                // l1 meets nobody
	more := []file{{"a1", lines("l1 l2 z33 y30 l40")}, {"b1", lines("y5 r32 r31 r33")}} // y30 is late if the end of z33 moved the watermark
	said := [2][]string{}
	r := rand.New(rand.NewPCG(1, 1))
	for i, files := range [][]file{first, more} {
		said[i] = runOnce(t, r, spec(), dir, files)
	}
	for _, x := range []struct {
		name string
		want [2]string
	}{
		{"left", [2]string{"l1- l2r32 z33-", "l2r31 l40r31 l40r32 l40r33 y30y5"}},
		{"right", [2]string{"-y5 l2r32", "l1r31 l2r31 l40r31 l40r32 l40r33"}},
		{"full", [2]string{"-y5 l1- l2r32 z33-", "l2r31 l40r31 l40r32 l40r33 y30-"}},
		{"semi", [2]string{"l2-", "l1- l40- y30-"}},
		{"anti", [2]string{"l1- z33-", ""}},
		{"first", [2]string{"l1- l2r32 z33-", "l40r31 y30y5"}},
		{"count", [2]string{"l1-0 l2-1 z33-0", "l40-3 y30-1"}},
		{"of_windows", [2]string{"-r32 -y5 l1- l2- z33-", "l40- late late late"}}, // the windows of 40 s ended
		{"versions", [2]string{"l1- l2- z33-", "l40r33 late"}},                    // y30, behind 31 s
	} {
		for i, want := range x.want {
			if got := pairsOf(said[i], x.name); got != want {
				t.Errorf("%s, run %d: %q, want %q", x.name, i+1, got, want)
			}
		}
	}
}

// runOnce runs over files until they end, and returns what leaves.
func runOnce(t *testing.T, r *rand.Rand, spec *Spec, dir string, files []file) (said []string) {
	run, store := startRunner(t, spec, dir, Options{Shards: 2, BlockRows: 50})
	defer store.Close()
	feed(r, run, files)
	drain(t, run, func(_ *testing.T, o *Out) {
		said = append(said, fmt.Sprint(o.Kind, " ", o.Operator, " ", string(o.Payload)))
	})
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	return said
}

// pairsOf lists what an operator said as left and right values and the number of partners, sorted.
func pairsOf(said []string, name string) string {
	var out []string
	for _, text := range said {
		body, ok := strings.CutPrefix(text, "row "+name+" ")
		if !ok {
			if strings.HasPrefix(text, "late "+name+" ") {
				out = append(out, "late")
			}
			continue
		}
		out = append(out, cellIn(body, "a")+cellIn(body, "b")+cellIn(body, "matches"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// cellIn is a value of a flat JSON object, - for null.
func cellIn(body, name string) string {
	_, rest, ok := strings.Cut(body, `"`+name+`":`)
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, ",")
	if rest = strings.Trim(rest, `"}`); rest == "null" {
		return "-"
	}
	return rest
}
