package match

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// cells is a Row by field number.
type cells []event.Value

func (c cells) Value(f event.Field) event.Value {
	if int(f) >= len(c) {
		return event.Value{}
	}
	return c[f]
}

// rowOf reads the flat keys of a JSON object, and the object itself.
func rowOf(t testing.TB, fields *event.Fields, text string) cells {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for name := range m {
		fields.Add(name)
	}
	whole := fields.Add(event.Whole)
	row := make(cells, fields.Len())
	row[whole] = event.Value{Kind: event.Object, Text: []byte(text)}
	for name, raw := range m {
		row[fields.Add(name)] = cell(t, raw)
	}
	return row
}

func cell(t testing.TB, raw json.RawMessage) event.Value {
	switch raw[0] {
	case 'n':
		return event.Value{Kind: event.Null}
	case 't', 'f':
		return event.Value{Kind: event.Bool, Text: raw}
	case '{':
		return event.Value{Kind: event.Object, Text: raw}
	case '[':
		return event.Value{Kind: event.Array, Text: raw}
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		return event.Value{Kind: event.String, Text: []byte(s)}
	}
	return event.Value{Kind: event.Number, Text: raw}
}

// resolver adds every path but those that begin with "no."; noEvents has no whole event either.
func resolver(fields *event.Fields) func(string) (event.Field, error) {
	return func(path string) (event.Field, error) {
		if strings.HasPrefix(path, "no.") {
			return 0, errors.New("there is no stream called no")
		}
		return fields.Add(path), nil
	}
}

func noEvents(path string) (event.Field, error) {
	if path == event.Whole {
		return 0, errors.New(`n has no column ""`)
	}
	return 0, nil
}

func compileText(t testing.TB, fields *event.Fields, text string) (*Condition, []Problem) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return Compile(&doc, resolver(fields))
}

func mustCompile(t testing.TB, fields *event.Fields, text string) *Condition {
	t.Helper()
	c, problems := compileText(t, fields, text)
	for _, p := range problems {
		t.Fatalf("%s\n%v", text, p)
	}
	return c
}

func show(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "%d:%d %s\n", p.Line, p.Column, p.Text)
	}
	return b.String()
}
