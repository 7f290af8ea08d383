package pipeline

import (
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

// windowOf decodes a pipeline of one window.
func windowOf(t *testing.T, window string) *engine.Operator {
	t.Helper()
	var n yaml.Node
	text := "{name: p, state: s, streams: {s: {time: {field: t}}}, operators: {o: {window: {from: s, " + window + "}}}}"
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	conf, problems := DecodeDetect(n.Content[0])
	if len(problems) > 0 {
		t.Fatalf("%s: %v", window, problems)
	}
	return &conf.Spec.Operators[0]
}

// What shapes the state is in the fingerprint, and nothing else.
func TestWindowFingerprints(t *testing.T) {
	const rest = ", key: k, aggregate: { n: count, c: { collect: v } }"
	seen := map[string]string{}
	for _, window := range []string{
		"tumbling: 20s", "tumbling: 21s", "tumbling: 20s, offset: 1s", "hopping: { size: 20s, slide: 5s }", "hopping: { size: 20s, slide: 6s }",
		"hopping: { size: 20s, slide: 5s }, offset: 1s", "cumulate: { size: 20s, step: 5s }", "cumulate: { size: 20s, step: 4s }", "session: { gap: 20s }", "session: { gap: 21s }",
		"session: { gap: 20s, max_duration: 1h }", "count: { size: 20 }", "count: { size: 20, slide: 5 }", "count: { size: 20, slide: 5, emit_partial: true }",
		"hopping: { size: 20s, slide: 5s }, emit: first, having: { n|gte: 5 }", "tumbling: 20s, where: { v: x }",
		"tumbling: 20s, allowed_lateness: 1m", "tumbling: 20s, allowed_lateness: 2m", "session: { gap: 20s }, allowed_lateness: 1m",
	} {
		print := windowOf(t, window+rest).Fingerprint
		if was := seen[print]; was != "" {
			t.Errorf("%s and %s have one fingerprint", was, window)
		}
		seen[print] = window
	}
	for _, aggregate := range []string{"c: { collect: w }", "c: { collect: v, max: 21 }", "c: { first: v }", "c: { collect: v, where: { v: x } }", "c: { top_k: v }", "c: { percentile: v, p: 0.5 }"} {
		if print := windowOf(t, "tumbling: 20s, key: k, aggregate: { n: count, "+aggregate+" }").Fingerprint; seen[print] != "" {
			t.Errorf("%s has the fingerprint of %s", aggregate, seen[print])
		}
	}
	if print := windowOf(t, "tumbling: 20s, having: { n|gte: 5 }"+rest).Fingerprint; seen[print] != "tumbling: 20s" {
		t.Error("having changes the fingerprint of a window that says its rows when it closes")
	}
	for _, x := range [][2]string{{"c: { top_k: v }", "c: { top_k: v, k: 5 }"}, {"c: { percentile: v, p: 0.5 }", "c: { percentile: v, p: 0.9 }"}} {
		of := func(aggregate string) string {
			return windowOf(t, "tumbling: 20s, aggregate: { "+aggregate+" }").Fingerprint
		}
		if of(x[0]) != of(x[1]) {
			t.Errorf("%s and %s have two fingerprints, although they keep the same", x[0], x[1])
		}
	}
	if print := windowOf(t, "tumbling: 20s"+rest).Fingerprint; !strings.HasPrefix(print, "tumbling: 20s\noffset: 0s\nkey: k\nwhere: ") {
		t.Errorf("the fingerprint of tumbling windows has changed: %s", print)
	}
}

// Each kind is decoded as it is written, and its ids have a form of their own.
func TestWindowKinds(t *testing.T) {
	w := windowOf(t, "hopping: { size: 10m, slide: 1m }, offset: 30s, aggregate: { n: count }").Window
	if w.Size != 600_000 || w.Slide != 60_000 || w.Offset != 30_000 || w.Slice() != 60_000 || w.Ident.Form != "hopping/1" {
		t.Errorf("%+v", w)
	}
	w = windowOf(t, "cumulate: { size: 1d, step: 1h }, aggregate: { n: count }").Window
	if w.Size != 86_400_000 || w.Slide != 3_600_000 || w.Ident.Form != "cumulate/1" {
		t.Errorf("%+v", w)
	}
	w = windowOf(t, "session: { gap: 5m, max_duration: 1h }, aggregate: { last: { last: v } }").Window
	if w.Gap != 300_000 || w.MaxDuration != 3_600_000 || w.Ident.Form != "session/1" {
		t.Errorf("%+v", w)
	}
	w = windowOf(t, "count: { size: 5 }, aggregate: { most: { max: v }, names: { collect: v, max: 7 } }").Window
	if w.Size != 5 || w.Slide != 5 || w.Partial || w.Ident.Form != "count/1" || w.Aggregates[1].Max != 7 || len(w.Columns) != 5 {
		t.Errorf("%+v", w)
	}
	w = windowOf(t, "session: { gap: 5m }, allowed_lateness: 1h, aggregate: { top: { top_k: v }, five: { top_k: v, k: 5 }, p: { percentile: v, p: 0.95 }, n: { count_distinct: v } }").Window
	if w.Lateness != 3_600_000 || w.Aggregates[0].Max != 10 || w.Aggregates[1].Max != 5 || w.Aggregates[2].P != 0.95 || len(w.Columns) != 9 {
		t.Errorf("%+v", w)
	}
	if w = windowOf(t, "tumbling: 20s, aggregate: { n: count }").Window; w.Ident.Form != "tumbling/1" {
		t.Errorf("%+v", w)
	}
}
