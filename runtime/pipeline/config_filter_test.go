package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/engine"
)

func decode(t *testing.T, operators string) map[string]*engine.Operator {
	t.Helper()
	const head = "{name: p, state: s, streams: {a: {time: {field: t}, watermark: {delay: 5s}}, b: {time: {field: t}}}, operators: "
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
	return byName
}

func columnNames(columns []alert.Column) string {
	var names []string
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return strings.Join(names, ",")
}

// Rows that are passed on have the columns of what they are: the event, which has no name, or those of an operator. An alert
// shows the fields that its operator names.
func TestColumnsOfFilters(t *testing.T) {
	ops := decode(t, `{
		n: {window: {from: a, tumbling: 20s, key: ip, aggregate: {n: count}}},
		events: {filter: {from: [a, b], where: {x.y: 1}}, alert: {title: "{user}", entities: [{field: host, type: host}]}},
		counts: {filter: {from: n, where: {n: 5}}, alert: {title: "{n}"}},
		words: {filter: {from: [a, events], where: [{user: root}, mimikatz]}, alert: {title: "{host}"}},
		both: {filter: {from: [n, events], where: {ip: "10.*"}}},
		news: {first_seen: {from: events, key: user, value: [geo.country], where: {x.y: 2}}, alert: {title: "{geo.country} is new to {user}"}},
		new_counts: {first_seen: {from: n, value: [ip, n], history: 2d, warm_up: 1d}},
		pairs: {join: {left: events, right: counts, on: ip, within: 1h}},
		follows: {sequence: {by: ip, within: 1m, steps: [{from: events, as: x}, {from: both, as: y}, {from: counts, as: z}]}},
		named: {sequence: {by: ip, within: 1m, steps: [{from: events, as: x}, {from: counts, as: z}], select: {event: x, n: z.n}}}}`)
	for _, x := range []struct{ got, want string }{
		{columnNames(ops["events"].Names), ""}, {fmt.Sprint(len(ops["events"].Names)), "1"},
		{columnNames(ops["events"].Alert.Columns), "x.y,user,host"},
		{columnNames(ops["words"].Alert.Columns), "user,host"},
		{columnNames(ops["counts"].Names), "ip,window_start,window_end,n"},
		{columnNames(ops["counts"].Alert.Columns), "n,ip,window_start,window_end"},
		{columnNames(ops["both"].Names), "ip,window_start,window_end,n,"},
		{columnNames(ops["pairs"].Names), "events,counts.ip,counts.window_start,counts.window_end,counts.n,truncated"},
		{columnNames(ops["follows"].Names), "x,y,y.ip,y.window_start,y.window_end,y.n,z.ip,z.window_start,z.window_end,z.n,truncated"},
		{columnNames(ops["named"].Names), "event,n,truncated"},
		{columnNames(ops["news"].Names), ""}, {columnNames(ops["news"].Alert.Columns), "user,geo.country,x.y"},
		{columnNames(ops["new_counts"].Names), "ip,window_start,window_end,n"},
	} {
		if x.got != x.want {
			t.Errorf("got %q, want %q", x.got, x.want)
		}
	}
}

// What would not fit into a row's byte for its source, or a batch's number of columns, is said by lint.
func TestSourcesAndFieldsAreLimited(t *testing.T) {
	var streams, names, items []string
	for i := range sourcesMax + 1 {
		streams, names = append(streams, fmt.Sprintf("s%d: {time: {field: t}}", i)), append(names, fmt.Sprint("s", i))
	}
	for i := range fieldsMax + 1 {
		items = append(items, fmt.Sprintf("f%d: 1", i))
	}
	for want, operators := range map[string]string{
		"operator o has 256 sources; at most 255 may be": fmt.Sprintf("{o: {filter: {from: [%s], where: {a: 1}}}}", strings.Join(names, ",")),
		"at most 10000 may be":                           fmt.Sprintf("{o: {filter: {from: s0, where: {%s}}}, p: {filter: {from: s1, where: {%s}}}}", strings.Join(items[:6000], ","), strings.Join(items[5000:], ",")),
		"":                                               fmt.Sprintf("{o: {filter: {from: [%s], where: {a: 1}}}}", strings.Join(names[1:], ",")),
	} {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte("{name: p, state: s, streams: {"+strings.Join(streams, ",")+"}, operators: "+operators+"}"), &n); err != nil {
			t.Fatal(err)
		}
		_, problems := DecodeDetect(n.Content[0])
		if want == "" && len(problems) > 0 || want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Text, want)) {
			t.Errorf("%v, want %q", problems, want)
		}
	}
}

// A filter keeps nothing and may change; what is kept behind it depends on it.
func TestFingerprintsBehindFilters(t *testing.T) {
	const text = `{f: {filter: {from: a, where: {x: 1}}}, g: {filter: {from: [f, b], where: {y: 1}}},
		n: {window: {from: g, tumbling: 20s, aggregate: {n: count}}}}`
	was, is := decode(t, text), decode(t, strings.Replace(text, "x: 1", "x: 2", 1))
	if was["f"].Fingerprint != is["f"].Fingerprint || was["g"].Fingerprint != is["g"].Fingerprint {
		t.Error("the fingerprint of a filter changes with its condition")
	}
	a, b := was["n"].Fingerprint, is["n"].Fingerprint
	if a == b || strings.Count(a, "\n") != strings.Count(b, "\n") || !strings.Contains(a, "watermark of a: delay 5000ms") {
		t.Errorf("%q, then %q", a, b)
	}
}

// Everything that shapes what is remembered is in the fingerprint; what is said of it is not.
func TestFingerprintOfFirstSeen(t *testing.T) {
	const text = `{o: {first_seen: {from: a, key: [u, w], value: c, history: 2d, warm_up: 1d, where: {x: 1}}, alert: {title: one}}}`
	was := decode(t, text)["o"].Fingerprint
	for _, x := range []struct {
		old, new string
		same     bool
	}{{"[u, w]", "[w, u]", false}, {"c,", "d,", false}, {"2d", "3d", false}, {"history: 2d, ", "", false}, {"x: 1", "x: 2", false}, {"from: a", "from: b", false},
		{"warm_up: 1d", "warm_up: 5h", true}, {"title: one", "title: two", true}} {
		if is := decode(t, strings.Replace(text, x.old, x.new, 1))["o"].Fingerprint; (is == was) != x.same {
			t.Errorf("with %s for %s: %q, before %q", x.new, x.old, is, was)
		}
	}
}
