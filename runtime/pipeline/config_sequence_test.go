package pipeline

import (
	"os"
	"strings"
	"testing"
)

func TestSequenceIsClean(t *testing.T) {
	src, err := os.ReadFile("../../pipelines/sequence.yaml")
	if err != nil {
		t.Fatal(err)
	}
	conf, findings := Check("sequence.yaml", src)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	q, absent := conf.Spec.Operators[0].Sequence, conf.Spec.Operators[2].Sequence
	if q == nil || q.Within != 600_000 || len(q.Steps) != 6 || q.Until == nil || q.MatchesMax != 10_000 || q.Ident.Form != "sequence/1" || conf.Spec.Operators[0].Leaves {
		t.Errorf("%+v", conf.Spec.Operators[0])
	}
	if absent == nil || !absent.Steps[1].Missing || absent.Steps[1].Input != 1 || absent.Ident.Form != "absence/1" || len(conf.Spec.Operators[2].Inputs) != 2 {
		t.Errorf("%+v", conf.Spec.Operators[2])
	}
}

// Without select a row has the rows of its steps, under their aliases: events whole, of operators' rows each column.
func TestSequenceColumns(t *testing.T) {
	o := sequenceOf(t, "by: source_ip, within: 1m, steps: [{from: counts, as: many}, {from: signins, missing: true}, {from: signins}]")
	if got := strings.Join(o.columns, " "); got != "many.source_ip many.window_start many.window_end many.n signins truncated" {
		t.Error(got)
	}
}

// The fingerprint is of what shapes the state: not of names and the order of select.
func TestSequenceFingerprint(t *testing.T) {
	const base = "by: source_ip, within: 1m, steps: [{from: signins, as: a, where: {status: failure}}, {from: signins, as: b}], select: {u: a.username, s: b.session_id}"
	was := sequenceOf(t, base).print
	for change, differs := range map[string]bool{
		"within: 1m>within: 2m":                                             true,
		"by: source_ip>by: username":                                        true,
		"failure}>success}":                                                 true,
		"as: b}>as: b, missing: true}":                                      true,
		"select:>until: {from: signins}, select:":                           true,
		"select:>max_matches_per_key: 5, select:":                           true,
		"b.session_id>b.status":                                             true,
		"{u: a.username, s: b.session_id}>{u: b.session_id, x: a.username}": false,
		"as: a,>as: c,":                                                     false,
	} {
		from, to, _ := strings.Cut(change, ">")
		text := strings.Replace(base, from, to, 1)
		if from == "as: a," {
			text = strings.Replace(text, "a.username", "c.username", 1)
		}
		if to == "as: b, missing: true}" {
			text = strings.Replace(text, "b.session_id", "a.session_id", 1)
		}
		if is := sequenceOf(t, text).print; (is != was) != differs {
			t.Errorf("%s: from\n%s\nto\n%s", change, was, is)
		}
	}
}

type sequenceRow struct {
	columns []string
	print   string
}

func sequenceOf(t *testing.T, body string) (out sequenceRow) {
	t.Helper()
	text := `
buffer:
  detect:
    name: p
    state: s
    streams: { signins: { time: { field: time } } }
    operators:
      counts: { window: { from: signins, tumbling: 20s, key: source_ip, aggregate: { n: count } } }
      found: { sequence: { ` + body + ` } }
`
	conf, findings := Check("p.yaml", []byte(text))
	if len(findings) > 0 {
		t.Fatal(body, findings)
	}
	o := conf.Spec.Operators[1]
	for _, c := range o.Names {
		out.columns = append(out.columns, c.Name)
	}
	out.print = o.Fingerprint
	return out
}
