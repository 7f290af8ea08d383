package pipeline

import (
	"os"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/operator"
)

func TestJoinsAreClean(t *testing.T) {
	src, err := os.ReadFile("../../pipelines/joins.yaml")
	if err != nil {
		t.Fatal(err)
	}
	conf, findings := Check("joins.yaml", src)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	var got []operator.Join
	for i := range conf.Spec.Operators {
		if j := conf.Spec.Operators[i].Join; j != nil {
			got = append(got, operator.Join{Type: j.Type, Matches: j.Matches, Lower: j.Lower, Upper: j.Upper})
		}
	}
	if len(got) != 4 || got[0].Type != operator.Anti || got[0].Lower != -300_000 || got[0].Upper != 43_200_000 || got[1].Type != operator.Semi ||
		got[2].Type != operator.LeftOuter || got[3].Type != operator.Inner || got[3].Matches != operator.CountMatches {
		t.Errorf("%+v", got)
	}
}

// Without select a row has what the join can show: both sides, or the left one, and the number of partners.
func TestColumnsOfJoins(t *testing.T) {
	for _, x := range []struct{ kind, want string }{
		{"type: full", "a,b,truncated"}, {"type: left, matches: first", "a,b,truncated"}, {"type: semi", "a,truncated"}, {"type: anti", "a,truncated"},
		{"matches: count", "a,matches,truncated"}, {"matches: count, select: {u: a.user}", "u,matches,truncated"}, {"type: anti, select: {u: a.user}", "u,truncated"},
		{"window: {tumbling: 1m}", "a,b,window_start,window_end,truncated"}, {"window: {tumbling: 1m}, type: anti, select: {u: a.user}", "u,window_start,window_end,truncated"},
		{"window: {tumbling: 1m}, matches: count", "a,matches,window_start,window_end,truncated"}, {"as_of: true, ttl: 1h, deleted: {b.user: null}, select: {u: b.user}", "u,truncated"},
	} {
		if !strings.Contains(x.kind, "window:") && !strings.Contains(x.kind, "as_of") {
			x.kind = "within: 1h, " + x.kind
		}
		ops := decode(t, "{o: {join: {left: a, right: b, on: ip, "+x.kind+"}}, few: {filter: {from: o, where: {truncated: null}}}}")
		if got := columnNames(ops["o"].Names); got != x.want {
			t.Errorf("%s: %q, want %q", x.kind, got, x.want)
		}
	}
	decode(t, `{o: {join: {left: a, right: b, on: ip, within: 1h, matches: count, select: {u: a.user}}, alert: {title: "{u} {matches}"}}, few: {filter: {from: o, where: {matches|lt: 3}}}}`)
}

// What kind of join it is shapes what it keeps; an inner join's fingerprint is what it was before there were others.
func TestFingerprintOfJoins(t *testing.T) {
	const text = "{o: {join: {left: a, right: b, on: ip, within: 1h, type: left, where: {a.x: 1}, select: {u: a.user}}}}"
	was := decode(t, text)["o"].Fingerprint
	for change, same := range map[string]bool{"type: left>type: anti": false, "type: left>type: left, matches: first": false, "type: left>type: left, matches: all": true,
		"within: 1h>within: 2h": false, "a.x: 1>a.x: 2": false, "{u:>{v:": true} {
		from, to, _ := strings.Cut(change, ">")
		if is := decode(t, strings.Replace(text, from, to, 1))["o"].Fingerprint; (is == was) != same {
			t.Errorf("%s:\n%s\nbefore\n%s", change, is, was)
		}
	}
	seen := map[string]string{was: "within: 1h"}
	for _, kind := range []string{"ttl: 1h", "as_of: true", "as_of: true, ttl: 1h", "as_of: true, deleted: {b.gone: true}", "window: {tumbling: 1h}", "window: {tumbling: 1h, offset: 1m}", "window: {cumulate: {size: 1h, step: 1m}}"} {
		is := decode(t, strings.Replace(text, "within: 1h", kind, 1))["o"].Fingerprint
		if seen[is] != "" {
			t.Errorf("%s and %s:\n%s", kind, seen[is], is)
		}
		seen[is] = kind
	}
	inner := decode(t, strings.Replace(text, "type: left", "type: inner", 1))["o"].Fingerprint
	if plain := decode(t, strings.Replace(text, "type: left, ", "", 1))["o"].Fingerprint; plain != inner || strings.Contains(plain, "type") || strings.Contains(plain, "matches:") {
		t.Errorf("%s\nor\n%s", plain, inner)
	}
}
