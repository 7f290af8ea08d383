package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

// What drops events that come twice stands between the stream and its readers, and is no part of the drawing; within may change freely.
func TestStreamsWithIDs(t *testing.T) {
	const text = `
input: { file_lines: { paths: [a.jsonl] } }
buffer:
  detect:
    name: p
    state: s
    streams:
      logins: { time: { field: t }, id: uid, within: 10m }
      plain: { match: { path: b }, time: { field: t }, id: { field: content } }
    operators:
      x: { filter: { from: [logins, plain], where: { "n|exists": true } } }
      y: { window: { from: x, tumbling: 20s, aggregate: { n: count } } }
output: { drop: {} }
`
	spec := func(text string) *engine.Spec {
		conf, findings := Check("p.yaml", []byte(text))
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		return conf.Spec
	}
	s := spec(text)
	var got []string
	for _, o := range s.Operators {
		got = append(got, fmt.Sprint(o.Name, " ", o.Kind(), " ", o.Inputs, " ", o.Leaves))
	}
	if want := []string{"logins/id id [0] false", "x filter [2 1] false", "y window [3] true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	uid, content := s.Streams[0].ID, s.Streams[1].ID
	if !uid.ByField || uid.Within != 600_000 || s.Fields.Path(uid.Field) != "uid" || !content.ByField || content.Content || s.Fields.Path(content.Field) != "content" || !slices.Contains(s.Streams[1].Reads, content.Field) {
		t.Errorf("%+v, %+v", uid, content)
	}
	for change, same := range map[string]bool{"10m>1h": true, "id: uid>id: content": false, "id: uid>id: n": false, "t }, id: uid>t }, id: { field: uid }": true} {
		from, to, _ := strings.Cut(change, ">")
		if is := spec(strings.Replace(text, from, to, 1)); (is.Operators[0].Fingerprint == s.Operators[0].Fingerprint) != same {
			t.Errorf("%s: %q, before %q", change, is.Operators[0].Fingerprint, s.Operators[0].Fingerprint)
		}
	}
	g := graphOf(t, "p.yaml", []byte(text))
	if len(g.Operators) != 2 || !slices.Equal(g.Operators[0].Reads, []string{"logins", "plain"}) || !slices.Contains(g.Operators[0].Rows, GraphField{"logins", "uid"}) ||
		slices.Contains(g.Operators[0].Rows, GraphField{"plain", "content"}) || !slices.Equal(g.Operators[1].Reads, []string{"x"}) {
		t.Errorf("%+v", g.Operators)
	}
}
