package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

const (
	entropyModule = "../../plugins/label_entropy/label_entropy.wasm"
	riskModule    = "../../plugins/entity_risk/entity_risk.wasm"
	aboveModule   = "../../abi/testdata/roles/above.wasm"
)

// modular puts the paths of modules in place of their names.
var modular = strings.NewReplacer("ENTROPY", entropyModule, "RISK", riskModule, "ABOVE", aboveModule, "WEIGHTED", "../../abi/testdata/roles/weighted.wasm",
	"PASSING", "../engine/testdata/recall/passing.wasm", "WRITING", "../engine/testdata/recall/writing.wasm")

// A row of a map carries the event, or the columns of its operator, then what is written; one of a filter is what it was.
func TestColumnsOfPlugins(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	conf, ops := decodeTables(t, modular.Replace(`{
		m: {plugin: {from: a, module: ENTROPY, fields: {dns.question.name: q}}, alert: {title: "{label} {user}"}},
		some: {plugin: {from: m, module: ENTROPY, fields: {dns.question.name: label}, as: {inner: label_entropy}}},
		pre: {plugin: {from: [b, n], module: ENTROPY, fields: {dns.question.name: label}, as: x}},
		f: {plugin: {from: [m, a], module: ABOVE, fields: {number: label_length}}},
		n: {window: {from: m, tumbling: 20s, key: label, where: {status: failure}, aggregate: {n: count, r: {plugin: RISK, fields: {event.risk_score: label_length}, where: {host: h}}}}},
		g: {filter: {from: f, where: {country: DE}}},
		pairs: {join: {left: f, right: n, on: label, within: 1h}}}`))
	fields := func(op string) string {
		var names []string
		for _, f := range ops[op].Plugin.Columns {
			names = append(names, conf.Spec.Fields.Path(f))
		}
		return strings.Join(names, ",")
	}
	lineage := engine.NewLineage(conf.Spec)
	from := func(op, column string) string {
		var texts []string
		for i := range conf.Spec.Operators {
			if conf.Spec.Operators[i].Name != op {
				continue
			}
			for _, o := range lineage.Column(len(conf.Spec.Streams)+i, conf.Spec.Fields.Add(column)) {
				texts = append(texts, conf.Spec.Streams[o.Stream].Name+"."+conf.Spec.Fields.Path(o.Field))
			}
		}
		return strings.Join(texts, ",")
	}
	for _, x := range []struct{ got, want string }{
		{fields("m"), ",q,user,status,host,country,label_entropy,label_length,label"},
		{columnNames(ops["m"].Names), ",label_entropy,label_length,label"},
		{columnNames(ops["m"].Alert.Columns), "q,label_entropy,label_length,label,user"},
		{columnNames(ops["some"].Names), ",label_entropy,label_length,label,inner"}, {fmt.Sprint(ops["some"].Plugin.Written), "[0]"},
		{columnNames(ops["pre"].Names), ",label,window_start,window_end,n,r,x.label_entropy,x.label_length,x.label"},
		{columnNames(ops["f"].Names), ",label_entropy,label_length,label"},
		{columnNames(ops["n"].Names), "label,window_start,window_end,n,r"},
		{from("m", "label"), "a.q"}, {from("some", "inner"), "a.q"}, {from("n", "r"), "a.q,a.host"}, {from("f", "user"), "a.user"}, {from("f", "label"), "a.q,a.label"},
		{fmt.Sprintln(ops["m"].Plugin.Detects(), ops["f"].Plugin.Detects(), ops["m"].Kind()), "false false plugin\n"},
	} {
		if x.got != x.want {
			t.Errorf("got %q, want %q", x.got, x.want)
		}
	}
}

// What an aggregate keeps depends on the module's name and its states, on its configuration, its fields and its condition; what is
// kept behind a map or filter on which module that is and what it reads. Another build takes a module's place.
func TestPluginFingerprints(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	const text = `{f: {plugin: {from: a, module: ABOVE, fields: {number: s}, where: {u: x}}}, m: {plugin: {from: f, module: ENTROPY, fields: {dns.question.name: q}}},
		n: {window: {from: m, tumbling: 20s, key: label, aggregate: {r: {plugin: WEIGHTED, config: {least: 0}, fields: {number: label_length}, where: {v: x}}}}}}`
	_, was := decodeTables(t, modular.Replace(text))
	for _, change := range []string{"least: 0/least: 1", "number: label_length/number: score", "v: x/v: y", "plugin: WEIGHTED, config: {least: 0}, fields: {number: label_length}/plugin: RISK, fields: {event.risk_score: label_length}",
		"number: s/number: t", "u: x/u: y", "name: q/name: r", "from: a/from: b"} {
		from, to, _ := strings.Cut(change, "/")
		if !strings.Contains(text, from) {
			t.Fatalf("no %s", from)
		}
		_, is := decodeTables(t, modular.Replace(strings.Replace(text, from, to, 1)))
		if is["f"].Fingerprint != was["f"].Fingerprint || is["m"].Fingerprint != was["m"].Fingerprint || is["n"].Fingerprint == was["n"].Fingerprint {
			t.Errorf("%s: %q, then %q", change, was["n"].Fingerprint, is["n"].Fingerprint)
		}
	}
	for _, same := range []string{"label_length}, where/label_length}, on_failure: skip, limits: {memory_mib: 1}, where", "fields: {number: s}/fields: {number: s}, on_failure: stop"} {
		from, to, _ := strings.Cut(same, "/")
		if _, is := decodeTables(t, modular.Replace(strings.Replace(text, from, to, 1))); is["n"].Fingerprint != was["n"].Fingerprint {
			t.Errorf("%s: %q, then %q", same, was["n"].Fingerprint, is["n"].Fingerprint)
		}
	}
}

// What a filter or map keeps depends on its module's name, its key and where its rows come from, as that of a plugin that detects; what
// is kept behind it not on how it remembers.
func TestFingerprintsOfFiltersThatRemember(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	const text = `{f: {plugin: {from: a, module: PASSING, fields: {k: user, v: n}, where: {u: x}, max_keys: 9}}, m: {plugin: {from: f, module: WRITING, fields: {k: user, v: n}}},
		n: {window: {from: m, tumbling: 20s, key: user, aggregate: {r: count}}}}`
	_, was := decodeTables(t, modular.Replace(text))
	for _, c := range []struct{ op, want string }{
		{"f", "plugin: test.passing\nstate version: 1\nwhere: " + was["f"].Where.String() + "\nkey_by: user as utf8\nslot 0: map false\nslot 1: map true\nslot 2: map false\nsource: a\n"},
		{"m", "plugin: test.writing\nstate version: 1\nwhere: \nkey_by: user as utf8\nslot 0: map false\nslot 1: map true\nslot 2: map false\nsource: f\nplugin of f: test.passing of user, n where "},
	} {
		if got := was[c.op].Fingerprint; !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q", c.op, got)
		}
	}
	if print := was["n"].Fingerprint; strings.Contains(print, "state version") || !strings.Contains(print, "plugin of m: test.writing of user, n where ") || was["f"].Plugin.KeyNames[0].Name != "user" {
		t.Errorf("%q", print)
	}
}
