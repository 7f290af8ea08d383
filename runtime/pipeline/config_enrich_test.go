package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/table"
)

// decodeTables is decode with tables.
func decodeTables(t *testing.T, operators string) (*Config, map[string]*engine.Operator) {
	t.Helper()
	const head = `{name: p, state: s, tables: {assets: {file: testdata/tables/assets.csv, key: ip, fields: {tier: int}}, feed: {file: testdata/tables/feed.jsonl, key: cidr, reload: 2m}},
		streams: {a: {time: {field: t}, fields: {x.owner: ip}}, b: {time: {field: t}}}, operators: `
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(head+operators+"}"), &n); err != nil {
		t.Fatal(err)
	}
	conf, problems := DecodeDetect(n.Content[0])
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	byName := map[string]*engine.Operator{}
	for i := range conf.Spec.Operators {
		byName[conf.Spec.Operators[i].Name] = &conf.Spec.Operators[i]
	}
	return conf, byName
}

// An enriched row carries the event, or the columns of its operator, then the table's; it copies besides what readers ask for, and no
// more. Readers see the columns as those of any operator.
func TestColumnsOfEnrich(t *testing.T) {
	conf, ops := decodeTables(t, `{
		e: {enrich: {from: a, table: assets, on: ip}},
		named: {enrich: {from: a, table: feed, on: src.ip, as: {x.owner: list}}, alert: {title: "{x.owner} {user}"}},
		n: {window: {from: e, tumbling: 20s, key: assets.owner, where: {status: failure}, aggregate: {n: count, m: {max: assets.tier}}}},
		again: {enrich: {from: n, table: assets, on: assets.owner, as: o}},
		both: {enrich: {from: [b, n], table: feed, on: assets.owner}},
		f: {filter: {from: [e, a], where: {assets.tier: 3, 'assets\.owner': x, host: h, x.owner|cidr: 10.0.0.0/8}}},
		pairs: {join: {left: e, right: named, on: user, within: 1h}},
		texts: {filter: {from: named, where: {x.owner|startswith: a}}},
		words: {filter: {from: named, where: [mimikatz]}}}`)
	fields := func(op string) string {
		var names []string
		for _, f := range ops[op].Enrich.Columns {
			names = append(names, conf.Spec.Fields.Path(f))
		}
		return strings.Join(names, ",")
	}
	for _, x := range []struct{ got, want string }{
		{fields("e"), ",status,host,x.owner,user,assets.ip,assets.owner,assets.tier"},
		{columnNames(ops["e"].Names), ",assets.ip,assets.owner,assets.tier"},
		{fmt.Sprint(ops["e"].Enrich.From), "[0 1 2]"},
		{fields("named"), ",src.ip,user,x.owner"}, {columnNames(ops["named"].Names), ",x.owner"}, {fmt.Sprint(ops["named"].Enrich.From), "[1]"},
		{columnNames(ops["named"].Alert.Columns), "src.ip,x.owner,user"},
		{columnNames(ops["n"].Names), "assets.owner,window_start,window_end,n,m"},
		{columnNames(ops["again"].Names), "assets.owner,window_start,window_end,n,m,o.ip,o.owner,o.tier"},
		{columnNames(ops["both"].Names), ",assets.owner,window_start,window_end,n,m,feed.cidr,feed.list"},
		{columnNames(ops["f"].Names), ",assets.ip,assets.owner,assets.tier"},
		{columnNames(ops["pairs"].Names), "e,e.assets.ip,e.assets.owner,e.assets.tier,named,named.x.owner,truncated"},
		{fmt.Sprint(len(conf.Tables)) + conf.Tables[0].Name + conf.Tables[1].Every.String(), "2assets2m0s"},
		{fmt.Sprint(ops["e"].Enrich.Table == ops["again"].Enrich.Table), "true"},
	} {
		if x.got != x.want {
			t.Errorf("got %q, want %q", x.got, x.want)
		}
	}
}

// A table may change, and what is added; what is kept behind it depends on what is looked up, and how it is called.
func TestFingerprintsBehindEnrich(t *testing.T) {
	const text = `{e: {enrich: {from: a, table: assets, on: ip, as: x}}, n: {window: {from: e, tumbling: 20s, key: x.owner, aggregate: {n: count}}}}`
	_, was := decodeTables(t, text)
	for _, change := range []string{"on: ip/on: dst", "as: x/as: {x.owner: owner}", "as: x/as: {x.owner: tier}", "table: assets/table: feed", "from: a/from: b"} {
		from, to, _ := strings.Cut(change, "/")
		changed := strings.Replace(text, from, to, 1)
		if strings.Contains(to, "feed") {
			changed = strings.ReplaceAll(changed, "x.owner", "x.list")
		}
		_, is := decodeTables(t, changed)
		if is["e"].Fingerprint != was["e"].Fingerprint || is["n"].Fingerprint == was["n"].Fingerprint {
			t.Errorf("%s: %q, then %q", change, was["n"].Fingerprint, is["n"].Fingerprint)
		}
	}
}

// A column called cidr holds networks, unless the table says otherwise.
func TestTableMatch(t *testing.T) {
	for text, want := range map[string]table.Match{"": table.MatchUnsaid, ", key: cidr": table.MatchNetworks, ", key: cidr, match: exact": table.MatchExact, ", key: ip, match: cidr": table.MatchNetworks} {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte("{file: none.csv"+text+"}"), &n); err != nil {
			t.Fatal(err)
		}
		d, k := newDecoder(), &known{}
		d.table("t", k, d.mapping(n.Content[0], "table t"))
		if k.spec.Match != want || k.spec.Format != "csv" {
			t.Errorf("%s: %d", text, k.spec.Match)
		}
	}
}

// An enrichment from a stream is an as-of join: it keeps of its rows what is read of them and of the stream the columns, passes on the
// rest, and what it keeps is in its fingerprint.
func TestColumnsOfEnrichFromStreams(t *testing.T) {
	const text = `{
		e: {enrich: {from: a, table: staff, on: user}},
		n: {window: {from: e, tumbling: 20s, key: staff.team, where: {status: failure}, aggregate: {n: count, c: {collect: host}}}},
		again: {enrich: {from: n, table: staff, on: staff.team, as: {boss: manager.name}}},
		f: {filter: {from: e, where: {'staff\.team': red, truncated|exists: false}}, alert: {title: "{staff.team} {ip}"}}}`
	decode := func(text string) (*Config, map[string]*engine.Operator) {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(`{name: p, state: s, tables: {staff: {stream: b, key: user, fields: [team, manager.name], ttl: 1d, deleted: {left: true}}},
			streams: {a: {time: {field: t}}, b: {time: {field: t}}}, operators: `+text+"}"), &n); err != nil {
			t.Fatal(err)
		}
		conf, problems := DecodeDetect(n.Content[0])
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		ops := map[string]*engine.Operator{}
		for i := range conf.Spec.Operators {
			ops[conf.Spec.Operators[i].Name] = &conf.Spec.Operators[i]
		}
		return conf, ops
	}
	conf, ops := decode(text)
	keeps := func(op string, side int) string {
		var names []string
		for _, f := range ops[op].Join.Keeps(side) {
			names = append(names, conf.Spec.Fields.Path(f))
		}
		return strings.Join(names, ",")
	}
	for _, x := range []struct{ got, want string }{
		{keeps("e", 0), ",host,ip,status"}, {keeps("e", 1), "manager.name,team,user"}, {columnNames(ops["e"].Names), ",staff.user,staff.team,staff.manager.name,truncated"},
		{columnNames(ops["again"].Names), "staff.team,window_start,window_end,n,c,boss,truncated"}, {keeps("again", 0), "c,n,staff.team,truncated,window_end,window_start"}, {keeps("again", 1), "manager.name"},
		{columnNames(ops["f"].Alert.Columns), "staff.team,truncated,ip,staff.user,staff.manager.name"},
	} {
		if x.got != x.want {
			t.Errorf("got %q, want %q", x.got, x.want)
		}
	}
	for _, change := range []string{"host/hosts", "on: user/on: name"} {
		from, to, _ := strings.Cut(change, "/")
		if _, is := decode(strings.Replace(text, from, to, 1)); is["e"].Fingerprint == ops["e"].Fingerprint {
			t.Errorf("%s: %q", change, is["e"].Fingerprint)
		}
	}
}
