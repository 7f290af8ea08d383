package engine

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// filterSpec passes on events of v >= 50, passes those on again, and counts what is left by k.
func filterSpec(t testing.TB) *Spec {
	s := runnerSpec(t)
	f := s.Fields
	filter := func(name, where string) Operator {
		return Operator{Name: name, Where: condition(t, where, f), Filter: &Filter{Ident: operator.Ident{Pipeline: "p", Operator: name, Form: "filter/1"}},
			Leaves: true, Fingerprint: "filter", Names: []alert.Column{{Field: f.Add(event.Whole)}}}
	}
	high, again, count := filter("high", "{v|gte: 50}"), filter("again", "{k: k*}"), s.Operators[0]
	title, err := alert.ParseText("{v} of {k}", func(path string) (event.Field, error) { return f.Add(path), nil })
	if err != nil {
		t.Fatal(err)
	}
	s.Streams = s.Streams[:1]
	high.Inputs, again.Inputs, count.Inputs = []int{0}, []int{1}, []int{0, 2}
	high.Alert = &alert.Template{Title: title, Severity: "low", Columns: names(f, []event.Field{f.Add("v"), f.Add("k")})}
	s.Operators = []Operator{high, again, count}
	return s
}

// What a filter passes on is the event itself, late or not; behind it an event is still one, and says where it came from.
func TestFilterPassesEventsOn(t *testing.T) {
	const late = `{"t":"2026-01-01T00:00:00Z","k":"k1","v":98.5,"more":{"x":[1]}}`
	files := []file{{"a1", []string{`{"t":"2026-01-01T00:00:00Z","k":"k1","v":70}`, `{"t":"2026-01-01T00:00:05Z","k":"k1","v":49}`,
		`{"t":"2026-01-01T00:01:00Z","k":"k2","v":"51"}`, late, ` {"t":"2026-01-01T00:01:00Z","k":"other","v":80} `}}}
	got := undisturbed(t, rand.New(rand.NewPCG(1, 1)), filterSpec(t), files, Options{})
	var rows []string
	for _, id := range got.all {
		rows = append(rows, got.byID[id])
	}
	slices.Sort(rows)
	ms := func(text string) int64 {
		f, _ := event.NewTimeFormat("", "")
		v, _ := f.Millis(event.Value{Kind: event.String, Text: []byte(text)})
		return v
	}
	first, second := ms("2026-01-01T00:00:00Z"), ms("2026-01-01T00:01:00Z")
	for _, want := range []string{
		fmt.Sprintf(`row high    %d 0 {"t":"2026-01-01T00:00:00Z","k":"k1","v":70}`, first),
		fmt.Sprintf(`row again    %d 0 {"t":"2026-01-01T00:00:00Z","k":"k1","v":70}`, first),
		fmt.Sprintf(`row high    %d 0 {"t":"2026-01-01T00:01:00Z","k":"k2","v":"51"}`, second),
		fmt.Sprintf(`row high    %d 0 %s`, first, late),
		fmt.Sprintf(`row again    %d 0 %s`, first, late),
		fmt.Sprintf(`late count a late  %d 58000 %s`, first, late),
		fmt.Sprintf(`late count again late  %d 58000 %s`, first, late),
	} {
		if !slices.Contains(rows, want) {
			t.Errorf("no %s", want)
		}
	}
	alerts := 0
	for _, id := range got.all {
		var a struct {
			Title  string
			Row    map[string]any
			Events []json.RawMessage
		}
		text := got.byID[id]
		if text[:5] != "alert" {
			continue
		}
		alerts++
		if err := json.Unmarshal([]byte(text[slices.Index([]byte(text), '{'):]), &a); err != nil {
			t.Fatal(err)
		}
		if a.Title == "98.5 of k1" && (len(a.Events) != 1 || string(a.Events[0]) != late || len(a.Row) != 2) {
			t.Errorf("%s", text)
		}
	}
	if alerts != 4 {
		t.Errorf("%d alerts", alerts)
	}
	if t.Failed() {
		t.Logf("%q", rows)
	}
}
