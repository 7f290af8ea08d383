package alert

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// table is a row of named cells; fields are numbered in the order of names.
type table struct {
	names []string
	cells []event.Value
}

func (r table) Value(f event.Field) event.Value {
	if int(f) >= len(r.cells) {
		return event.Value{}
	}
	return r.cells[f]
}

func (r table) resolve(name string) (event.Field, error) {
	if i := slices.Index(r.names, name); i >= 0 {
		return event.Field(i), nil
	}
	return 0, errors.New("unknown")
}

func (r table) columns() (out []Column) {
	for i, n := range r.names {
		out = append(out, Column{Name: n, Field: event.Field(i)})
	}
	return out
}

func str(s string) event.Value { return event.Value{Kind: event.String, Text: []byte(s)} }
func num(s string) event.Value { return event.Value{Kind: event.Number, Text: []byte(s)} }

func TestText(t *testing.T) {
	row := table{[]string{"ip", "n", "gone"}, []event.Value{str("10.0.0.1"), num("7"), {}}}
	for _, x := range []struct{ text, want string }{
		{"", ""}, {"plain", "plain"}, {"{ip}", "10.0.0.1"}, {"{n} from {ip}.", "7 from 10.0.0.1."}, {"{gone}{n}", "-7"},
		{"{{ip}} {{{n}}}", "{ip} {7}"}, {"a } b", "a } b"}, {"é{n}é", "é7é"},
	} {
		text, err := ParseText(x.text, row.resolve)
		if err != nil {
			t.Errorf("%q: %v", x.text, err)
		} else if got := string(text.Fill([]byte(">"), row)); got != ">"+x.want {
			t.Errorf("%q: got %q, want %q", x.text, got, x.want)
		}
	}
	for _, text := range []string{"{", "{}", "a {ip", "{nobody}", "{ ip }"} {
		if _, err := ParseText(text, row.resolve); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestGuess(t *testing.T) {
	var columns []Column
	for _, n := range []string{"source_ip", "count", "ids.dst_addr", "Username", "window_end", "host.name", "hostname", "file_sha256", "descriptor", "userland", "domain"} {
		columns = append(columns, Column{Name: n})
	}
	var got []string
	for _, e := range Guess(columns) {
		got = append(got, e.Field.Name+" "+e.Type+" "+e.Role)
		if !slices.Contains(EntityTypes, e.Type) {
			t.Errorf("%s is no entity type", e.Type)
		}
	}
	want := []string{"source_ip ip source", "ids.dst_addr ip destination", "Username user ", "hostname host ", "file_sha256 hash ", "domain domain "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// What is appended is JSON that says each thing once, whatever the row holds.
func TestAppend(t *testing.T) {
	row := table{[]string{"source_ip", "user", "n", "tags", "gone", "nothing"}, []event.Value{
		str("10.0.0.1"), str("a\"\\\n<\u2028é"), num("12"), {Kind: event.Array, Text: []byte(`["x",{"y":1}]`)}, {}, {Kind: event.Null, Text: []byte("null")},
	}}
	title, err := ParseText("{n} by {user}", row.resolve)
	if err != nil {
		t.Fatal(err)
	}
	a := Template{Rule: Rule{`r"1`, `r"1`, "pipeline", "1"}, Title: title, Severity: "high", RiskScore: 70, Entities: Guess(row.columns()), Attack: []string{"T1110", "T1078"}, References: []string{`https://example.com/?a="b"`}, Columns: row.columns()}
	id := event.ID{1, 2, 3}
	text := a.Append([]byte("before"), Facts{ID: id, TS: 1_772_000_000_123, First: 1_772_000_000_000, Last: 1_772_000_000_123}, row)
	var got map[string]any
	if err := json.Unmarshal(text[len("before"):], &got); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	want := map[string]any{
		"id": id.String(), "rule": map[string]any{"id": `r"1`, "name": `r"1`, "source": "pipeline", "version": "1"},
		"title": "12 by a\"\\\n<\u2028é", "description": "", "severity": "high", "risk_score": 70.0,
		"time": "2026-02-25T06:13:20.123Z", "first_event_time": "2026-02-25T06:13:20.000Z", "last_event_time": "2026-02-25T06:13:20.123Z",
		"count": 1.0, "suppressed": 0.0, "attack": []any{"T1110", "T1078"}, "references": []any{`https://example.com/?a="b"`},
		"false_positives": []any{}, "note": nil, "events": []any{},
		"entities": []any{map[string]any{"type": "ip", "field": "source_ip", "role": "source", "value": "10.0.0.1"},
			map[string]any{"type": "user", "field": "user", "value": "a\"\\\n<\u2028é"}},
		"row": map[string]any{"source_ip": "10.0.0.1", "user": "a\"\\\n<\u2028é", "n": 12.0, "tags": []any{"x", map[string]any{"y": 1.0}}, "nothing": nil},
	}
	for k := range want {
		if !reflect.DeepEqual(got[k], want[k]) {
			t.Errorf("%s: got %v, want %v", k, got[k], want[k])
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d members, want %d: %s", len(got), len(want), text)
	}
}

// What a rule is called holds no row's values and no braces of the template.
// Nothing in a row is called like one of its columns, whatever an event says, and whether the row has the column or not.
func TestOwn(t *testing.T) {
	object := func(text string) event.Value { return event.Value{Kind: event.Object, Text: []byte(text)} }
	list := event.Value{Kind: event.Array, Text: []byte(`[{"owner":2,"a":3}]`)}
	whole := object(`{"asset":{"owner":"me","id":1},"asset.tier":5,"list":{"x":1},"other":{"owner":1}}`)
	for _, x := range []struct {
		row  table
		want string
	}{
		{table{[]string{"", "asset.owner", "asset.tier", "list"}, []event.Value{whole, str("ann"), {}, num("1")}}, `{"asset":{"id":1},"other":{"owner":1},"asset.owner":"ann","list":1}`},
		{table{[]string{"", "asset", "owner"}, []event.Value{whole, {}, {}}}, `{"list":{"x":1},"other":{"owner":1}}`},
		{table{[]string{"e", "e.asset.owner", "asset"}, []event.Value{whole, {}, {}}}, `{"e":{"asset":{"id":1},"asset.tier":5,"list":{"x":1},"other":{"owner":1}}}`},
		{table{[]string{"l", "l.owner", "lo"}, []event.Value{list, str("x"), object(`{"owner":1}`)}}, `{"l":[{"a":3}],"l.owner":"x","lo":{"owner":1}}`},
		{table{[]string{"e", "f"}, []event.Value{whole, str("{}")}}, `{"e":` + string(whole.Text) + `,"f":"{}"}`},
	} {
		own := Own(x.row.columns())
		if got := string(AppendRow(nil, own, x.row)); got != x.want || !slices.EqualFunc(own, x.row.columns(), func(a, b Column) bool { return a.Name == b.Name && a.Field == b.Field }) {
			t.Errorf("%q: %s, want %s", x.row.names, got, x.want)
		}
	}
}

func TestConstant(t *testing.T) {
	for text, want := range map[string]string{"Encoded PowerShell on {host.name}": "Encoded PowerShell on host.name", "{n} of {{all}} by {user}": "n of {all} by user", "plain": "plain", "{": "{", "": ""} {
		if got := Constant(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
