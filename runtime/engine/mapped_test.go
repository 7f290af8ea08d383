package engine

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// What a plugin's filter passes on is the event itself; a map's row is the event with the columns besides, which hide members of their
// names, and behind it an alert still shows the event as it came. Rows that the module does not want to see have null there.
func TestMappedEvents(t *testing.T) {
	s := runnerSpec(t)
	f := s.Fields
	whole, length, said := f.Add(event.Whole), f.Add("length"), f.Add("said")
	k, v := f.Add("k"), f.Add("v")
	plugin := func(name, form, module, config string, fields ...event.Field) *Plugin {
		return &Plugin{Ident: operator.Ident{Pipeline: "p", Operator: name, Form: form}, Module: roleModule(t, module), Config: []byte(config), Fields: fields, Whole: whole}
	}
	high := Operator{Name: "high", Inputs: []int{0}, Leaves: true, Fingerprint: "plugin", Plugin: plugin("high", "filter/1", "above", `{"least":49}`, v), Names: []alert.Column{{Field: whole}}}
	long := Operator{Name: "long", Inputs: []int{1}, Leaves: true, Fingerprint: "plugin", Plugin: plugin("long", "map/1", "length", "{}", k, v), Names: names(f, []event.Field{whole, length, said})}
	long.Plugin.Written, long.Plugin.Columns = []int{0, 2}, []event.Field{whole, k, length, said}
	long.Plugin.When = condition(t, "{k: k*}", f)
	title, err := alert.ParseText("{said} of {k}", func(path string) (event.Field, error) { return f.Add(path), nil })
	if err != nil {
		t.Fatal(err)
	}
	long.Alert = &alert.Template{Title: title, Severity: "low", Columns: names(f, []event.Field{k, length})}
	s.Streams, s.Operators = s.Streams[:1], []Operator{high, long}
	files := []file{{"a1", []string{`{"t":"2026-01-01T00:00:00Z","k":"k1","v":70,"said":"mine"}`, `{"t":"2026-01-01T00:00:05Z","k":"k1","v":49}`, `{"t":"2026-01-01T00:00:06Z","k":"other","v":"51"}`}}}
	got := undisturbed(t, rand.New(rand.NewPCG(1, 1)), s, files, Options{Shards: 2})
	var rows []string
	for _, id := range got.all {
		text := got.byID[id]
		rows = append(rows, strings.Fields(text)[0]+" "+strings.Fields(text)[1]+" "+text[strings.Index(text, "{"):])
	}
	for _, want := range []string{
		`row high {"t":"2026-01-01T00:00:00Z","k":"k1","v":70,"said":"mine"}`,
		`row high {"t":"2026-01-01T00:00:06Z","k":"other","v":"51"}`,
		`row long {"t":"2026-01-01T00:00:00Z","k":"k1","v":70,"length":2,"said":"2:k1"}`,
		`row long {"t":"2026-01-01T00:00:06Z","k":"other","v":"51","length":null,"said":null}`,
	} {
		if !slices.Contains(rows, want) {
			t.Errorf("no %s", want)
		}
	}
	alerts := slices.DeleteFunc(slices.Clone(rows), func(r string) bool { return !strings.HasPrefix(r, "alert long ") })
	if len(rows) != 6 || len(alerts) != 2 || !strings.Contains(alerts[0], `"title":"2:k1 of k1"`) || !strings.Contains(alerts[0], `"row":{"k":"k1","length":2}`) || !strings.Contains(alerts[0], `"events":[{"t":"2026-01-01T00:00:00Z","k":"k1","v":70,"said":"mine"}]`) {
		t.Errorf("the alerts are %q", alerts)
	}
	if t.Failed() {
		t.Logf("%q", rows)
	}
}
