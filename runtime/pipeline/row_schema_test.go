package pipeline

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// shapesOf decodes a detect buffer and returns the shapes of its rows.
func shapesOf(t *testing.T, text string) map[string]*rowShape {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	conf, problems := DecodeDetect(n.Content[0])
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return conf.shapes
}

func TestRowSchemas(t *testing.T) {
	shapes := shapesOf(t, `
name: my-shop
state: ./state/x
streams:
  logins: { match: { path: x }, time: { field: t }, fields: { user.id: int, ok: bool } }
operators:
  n: { window: { from: logins, tumbling: 20s, key: [user.id, host], aggregate: { n: count, mean: { avg: bytes }, "2nd": { last: host } } } }
  some: { filter: { from: logins, where: { ok: true } } }
`)
	want := map[string]string{
		"n": `{"fields":[{"default":null,"name":"user_id","type":["null","long"]},{"default":null,"name":"host","type":["null","boolean","long","double","string"]},` +
			`{"default":null,"name":"window_start","type":["null",{"logicalType":"timestamp-millis","type":"long"}]},{"default":null,"name":"window_end","type":["null",{"logicalType":"timestamp-millis","type":"long"}]},` +
			`{"default":null,"name":"n","type":["null","long"]},{"default":null,"name":"mean","type":["null","double"]},{"default":null,"name":"_nd","type":["null","boolean","long","double","string"]}],"name":"n","namespace":"tocsin.my_shop","type":"record"}`,
		"some": `{"fields":[{"name":"json","type":"string"}],"name":"Document","namespace":"tocsin","type":"record"}`,
	}
	for name, text := range want {
		if got := shapes[name].avro(); got != text {
			t.Errorf("%s: %s, want %s", name, got, text)
		}
	}
	if got, want := shapes["n"].json(), `{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"2nd":{},"host":{},"mean":{"type":["number","null"]},"n":{"type":["integer","null"]},"user.id":{"type":["integer","null"]},"window_end":{"format":"date-time","type":["string","null"]},"window_start":{"format":"date-time","type":["string","null"]}},"title":"tocsin.my_shop.n","type":"object"}`; got != want {
		t.Errorf("%s", got)
	}
	for name, s := range map[string]*rowShape{"n": shapes["n"], "some": shapes["some"], "alert": alertShape} {
		for kind, text := range map[string]string{event.KindAvro: s.avro(), event.KindJSONSchema: s.json()} {
			if err := event.NewSchema(1, kind, text, nil).Fault(); err != nil {
				t.Errorf("%s of %s: %v", kind, name, err)
			}
		}
	}
}

// An alert has no member that its schema and tables do not know, also when it is a rare one.
func TestAlertShape(t *testing.T) {
	a := alert.Template{Severity: "high"}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(a.Append(nil, alert.Facts{Truncated: true, Note: []byte("{}"), Events: []byte("{}")}, noRow{}), &members); err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, c := range alertShape.columns {
		known = append(known, c.name)
	}
	slices.Sort(known)
	if got := slices.Sorted(maps.Keys(members)); !slices.Equal(got, known) {
		t.Errorf("an alert has %v, its shape %v", got, known)
	}
}

type noRow struct{}

func (noRow) Value(event.Field) event.Value { return event.Value{} }

// What is read of a record that was encoded is what the row says.
func TestRowsAsAvro(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	values := map[string][]string{
		"int": {"0", "-1", "9223372036854775807", "42"}, "float": {"1.5", "-2e30", "7", "0.1"}, "bool": {"true", "false"}, "string": {`""`, `"ann \"x\" \u00e9"`, `"1"`},
		"timestamp": {`"2026-03-02T08:00:01.250Z"`, `"1969-12-31T23:59:59.999Z"`}, "json": {`[1,{"a":null}]`, `{"a":"b"}`, `"text"`},
		"": {"true", "-5", "2.5", `"a"`, "1e300"},
	}
	for range 2000 {
		s := &rowShape{space: "tocsin.x", name: "rows"}
		var members, names []string
		want := map[string]string{}
		for i := range 1 + r.IntN(6) {
			typ := []string{"int", "float", "bool", "string", "timestamp", "json", ""}[r.IntN(7)]
			c := rowColumn{fmt.Sprintf("c%d", i), typ}
			s.columns = append(s.columns, c)
			names = append(names, c.name)
			switch v := values[typ][r.IntN(len(values[typ]))]; r.IntN(4) {
			case 0:
				members = append(members, `"`+c.name+`":null`)
			case 1:
			default:
				members, want[c.name] = append(members, `"`+c.name+`":`+v), v
			}
		}
		r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		body, err := s.appendAvro(nil, []byte("{"+strings.Join(members, ",")+"}"))
		if err != nil {
			t.Fatal(err)
		}
		fields := &event.Fields{}
		var cols []event.Field
		for _, n := range names {
			cols = append(cols, fields.Add(n))
		}
		schema := event.NewSchema(-1, event.KindAvro, s.avro(), nil)
		p := event.OfSchema(schema).Projection(fields, cols)
		b := p.NewBatch()
		if err := p.Append(b, body); err != nil {
			t.Fatalf("%s, %x: %v", s.avro(), body, err)
		}
		for i, c := range s.columns {
			got, text := b.Value(cols[i], 0), want[c.name]
			if text == "" {
				if got.Kind != event.Null {
					t.Fatalf("%s is %s %s", c.name, got.Kind, got.Text)
				}
				continue
			}
			is := string(got.AppendJSON(nil))
			if c.typ == "json" {
				is = string(got.Text)
			}
			if a, ok := event.ParseDecimal([]byte(text)); ok {
				if b, ok := event.ParseDecimal([]byte(is)); !ok || a.Compare(&b) != 0 {
					t.Fatalf("%s of %s: %s, want %s", c.name, c.typ, is, text)
				}
			} else if unescaped(t, is) != unescaped(t, text) {
				t.Fatalf("%s of %s: %s, want %s", c.name, c.typ, is, text)
			}
		}
	}
}

func unescaped(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(v)
}

// A row that is not what its schema says is said so, column by column.
func TestRowsThatDoNotFit(t *testing.T) {
	for _, x := range []struct{ typ, value, want string }{
		{"int", "1.5", "column c is 1.5, and its schema says int"},
		{"int", "9223372036854775808", "column c is 9223372036854775808, and its schema says int"},
		{"int", `"1"`, `column c is "1", and its schema says int`},
		{"bool", "1", "column c is 1, and its schema says bool"},
		{"string", "1", "column c is 1, and its schema says string"},
		{"timestamp", `"soon"`, `column c is "soon", and its schema says timestamp`},
		{"timestamp", "5", "column c is 5, and its schema says timestamp"},
		{"float", "1e999", "column c is 1e999, and its schema says float"},
	} {
		s := &rowShape{"a", "b", []rowColumn{{"c", x.typ}}}
		if _, err := s.appendAvro(nil, []byte(`{"c":`+x.value+`}`)); err == nil || err.Error() != x.want {
			t.Errorf("%s: %v", x.value, err)
		}
	}
	s := &rowShape{"a", "b", []rowColumn{{"c", "int"}}}
	if _, err := s.appendAvro(nil, []byte(`{"c":1,"d":2}`)); err == nil || !strings.Contains(err.Error(), "it has a column d, which the schema of a.b has not") {
		t.Error(err)
	}
}
