package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const alertsHead = `
input: { file_lines: { paths: [in.jsonl] } }
buffer:
  detect:
    name: alerts
    state: s
    streams: { in: { time: { field: t } } }
    operators:
`

func checkAlerts(t *testing.T, operators string) *Config {
	t.Helper()
	conf, findings := Check("p.yaml", []byte(alertsHead+operators+"\noutput: { drop: {} }\n"))
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	return conf
}

// What is behind an alert is an operator of its own, by the fields that were said or by the entities, and tocsin graph shows it at the
// operator whose alerts they are.
func TestDampenedAlerts(t *testing.T) {
	const operators = `
      counts: { window: { from: in, tumbling: 1m, key: source_ip, aggregate: { n: count } }, alert: { title: "{n}", suppress: { for: 1h } } }
      keyed: { filter: { from: in, where: { a: 1 } }, alert: { title: "{b}", entities: [ { field: c, type: user } ], events: 4, group: { key: [d, e], gap: 1m, every: 10s } } }
      judged: { plugin: { from: counts, module: ../../plugins/brute_force/brute_force.wasm, fields: { login_attempts: n }, suppress: { for: 10m } } }
      at_risk: { risk: { from: [counts, judged], by: ip }, alert: { title: "{score}", suppress: { for: 1h } } }`
	conf := checkAlerts(t, operators)
	spec := conf.Spec
	want := map[string]string{"counts/alerts": "for 3600000 gap 0 span 0 every 0 events 1 key source_ip of counts", "keyed/alerts": "for 0 gap 60000 span 86400000 every 10000 events 4 key d,e of keyed",
		"judged/1": "for 600000 gap 0 span 0 every 0 events 1 key source_ip of judged", "at_risk/alerts": "for 3600000 gap 0 span 0 every 0 events 1 key entity,entity_type of at_risk"}
	for i := range spec.Operators {
		o := &spec.Operators[i]
		s := o.Suppress
		if s == nil {
			continue
		}
		var keys []string
		for _, f := range s.Keys {
			keys = append(keys, spec.Fields.Path(f))
		}
		got := fmt.Sprintf("for %d gap %d span %d every %d events %d key %s of %s", s.For, s.Gap, s.Span, s.Every, s.Events, strings.Join(keys, ","), spec.Operators[o.Inputs[0]-1].Name)
		if got != want[o.Name] {
			t.Errorf("%s: %s, not %s", o.Name, got, want[o.Name])
		}
		delete(want, o.Name)
	}
	for name := range want {
		t.Errorf("there is no %s", name)
	}
	g, err := NewGraph(conf, []byte(alertsHead+operators))
	if err != nil || len(g.Operators) != 4 {
		t.Fatalf("%v, %+v", err, g)
	}
	for i, want := range []string{"[{ suppress [source_ip]}]", "[{ group [d e]}]", "[{1 suppress [source_ip]}]", "[{ suppress [entity entity_type]}]"} {
		if got := fmt.Sprint(g.Operators[i].Held); got != want {
			t.Errorf("%s: %s, not %s", g.Operators[i].Name, got, want)
		}
	}
	from := map[string]string{"entity": "in source_ip", "score": "", "last_time": "in t", "rules": ""}
	for _, c := range g.Operators[3].Columns {
		var got []string
		for _, f := range c.From {
			got = append(got, f.Stream+" "+f.Field)
		}
		if want, ok := from[c.Name]; ok && strings.Join(got, ", ") != want {
			t.Errorf("%s comes from %v, not %s", c.Name, got, want)
		}
	}
}

// Techniques that are newer than the table are no faults, and neither are those of a module.
func TestAttackWarnings(t *testing.T) {
	conf := checkAlerts(t, `
      counts: { filter: { from: in, where: { a: 1 } }, alert: { title: "x", attack: [T1110, T9999, T1078.099] } }`)
	var got []string
	for _, w := range conf.Warnings {
		got = append(got, fmt.Sprintf("%d:%d %s", w.Line, w.Column, w.Text))
	}
	want := []string{"10:93 ATT&CK 18.1 has no technique T9999 yet; alerts show it without name and tactics",
		"10:100 ATT&CK 18.1 has no technique T1078.099 yet; alerts show it without name and tactics; did you mean T1078 (Valid Accounts)?"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// A change of what is only said changes no fingerprint; a risk may have other sources.
func TestFingerprintsOfAlerts(t *testing.T) {
	print := func(operators, name string) string {
		spec := checkAlerts(t, operators).Spec
		for i := range spec.Operators {
			if spec.Operators[i].Name == name {
				return spec.Operators[i].Fingerprint
			}
		}
		t.Fatalf("no %s in %s", name, operators)
		return ""
	}
	const rules = `
      a: { filter: { from: in, where: { a: 1 } }, alert: { title: "x", entities: [ { field: u, type: user } ], suppress: { for: 1h } } }
      b: { filter: { from: in, where: { a: 2 } }, alert: { title: "x", entities: [ { field: u, type: user } ] } }
      r: { risk: { from: a, threshold: 50 } }`
	was, held := print(rules, "r"), print(rules, "a/alerts")
	for _, change := range [][2]string{{"from: a, threshold: 50", "from: [a, b], threshold: 70, cap_per_rule: 75"}, {"from: a, threshold: 50", "from: a, reset: true, contributions: 5"}} {
		if is := print(strings.Replace(rules, change[0], change[1], 1), "r"); is != was {
			t.Errorf("%s makes %q of %q", change[1], is, was)
		}
	}
	if is := print(strings.Replace(rules, "threshold: 50", "half_life: 1h", 1), "r"); is == was {
		t.Error("another half-life is no change")
	}
	if is := print(strings.Replace(rules, "for: 1h", "for: 2h", 1), "a/alerts"); is != held {
		t.Errorf("another length makes %q of %q", is, held)
	}
	if is := print(strings.Replace(rules, "for: 1h", "for: 1h, key: v", 1), "a/alerts"); is == held {
		t.Error("another key is no change")
	}
}
