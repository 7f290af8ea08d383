package pipeline

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

// weighed has two aggregates by modules in one window.
const weighed = `
name: weighed
state: s
streams: { s: { match: { path: "*" }, time: { field: t, format: epoch_ms } } }
operators:
  w:
    window:
      from: s
      tumbling: 1s
      key: ip
      aggregate:
        n: count
        a: { plugin: WEIGHTED, fields: { number: n }, limits: { fuel_per_call: FUEL } }
        b: { plugin: WEIGHTED, fields: { number: n }, where: { n|gte: 20 } }
`

func weighedText(fuel int) string {
	return modular.Replace(strings.Replace(weighed, "FUEL", fmt.Sprint(fuel), 1))
}

// An aggregate of a window whose module is replaced while rows come says what it says without; it is shown with its cost like an operator.
func TestAggregatesAreReloaded(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lines, attempts := loginLines(rand.New(rand.NewPCG(seed, 1)), 8_000)
	want, _ := ran(t, decodedDetect(t, weighedText(10_000_000)), lines, 6, func(int, *engine.Runner) {})
	conf := decodedDetect(t, weighedText(10_000_000))
	var r *reloader
	got, rep := ran(t, conf, lines, 6, func(i int, run *engine.Runner) {
		if r == nil {
			r = newReloader(conf, run, quiet())
		}
		if i < 5 {
			r.again(node(t, weighedText(10_000_001+i)))
		}
	})
	if !maps.Equal(got, want) || len(want) < 50 {
		t.Fatalf("seed %d: %d rows, %d without", seed, len(got), len(want))
	}
	let := int64(0)
	for _, n := range attempts {
		if n >= 20 {
			let++
		}
	}
	for i, x := range []struct {
		name              string
		taken, generation int64
	}{{"w.a", int64(len(lines)), 5}, {"w.b", let, 0}} {
		o := rep.Operators[1+i]
		if p := o.Plugin; o.Name != x.name || o.Kind != "aggregate" || o.Seen != int64(len(lines)) || o.Taken != x.taken || p.Generation != x.generation || p.Refused != 0 || p.Counts.Calls == 0 || p.Counts.Fuel == 0 ||
			p.Name != "test.weighted" {
			t.Errorf("seed %d: %+v, %+v", seed, o, p)
		}
	}
	if top := strings.Join(Top(rep), "\n"); !strings.Contains(top, "\nw.a ") || !strings.Contains(top, "\nw.b ") {
		t.Error(top)
	}
	if doc := statsOf(rep, nil, time.Now()); len(doc.Operators) != 3 || doc.Operators[1].Plugin.Calls != rep.Operators[1].Plugin.Counts.Calls {
		t.Errorf("%+v", doc.Operators)
	}
}

// What would read other states is refused, as is what is no such module, with an alert that names the aggregate; the old one goes on.
func TestAggregatesRefused(t *testing.T) {
	lines, _ := loginLines(rand.New(rand.NewPCG(1, 1)), 3000)
	text := weighedText(10_000_000)
	cases := []struct{ old, new, want string }{
		{"limits: { fuel_per_call: 10000000 }", "config: { least: -5 }", "its states would be others"},
		{"where: { n|gte: 20 }", "where: { n|gte: 21 }", "its states would be others"},
		{modular.Replace("WEIGHTED, fields: { number: n }, limits"), modular.Replace("ABOVE, fields: { number: n }, limits"), "has the role filter"},
		{modular.Replace("WEIGHTED, fields: { number: n }, where"), "nothing.wasm, fields: { number: n }, where", "nothing.wasm"},
		{"{ number: n }, limits", "{ number: other }, limits", "reads other, which nothing in this run reads"},
	}
	want, _ := ran(t, decodedDetect(t, text), lines, 6, func(int, *engine.Runner) {})
	conf, refused := decodedDetect(t, text), map[int]bool{}
	rows, rep := ran(t, conf, lines, 6, func(i int, run *engine.Runner) {
		if i >= len(cases) {
			return
		}
		x := cases[i]
		if !strings.Contains(text, x.old) {
			t.Fatalf("%q is not there", x.old)
		}
		r := newReloader(conf, run, quiet())
		r.refuse = func(op string, place int, plugin, digest string, why error) {
			if op != "w" || place < 1 || !strings.Contains(why.Error(), x.want) {
				t.Errorf("case %d: %s %d %s is refused: %v; want %s", i, op, place, plugin, why, x.want)
			}
			refused[i] = true
			run.Refuse(op, place, plugin, digest, why)
		}
		r.again(node(t, strings.Replace(text, x.old, x.new, 1)))
	})
	alerts := map[string]int{}
	for id, row := range rows {
		if _, ok := want[id]; ok {
			continue
		}
		var a healthAlert
		if err := json.Unmarshal([]byte(row[strings.Index(row, "{"):]), &a); err != nil || a.Rule.ID != "tocsin.health/reload" {
			t.Errorf("%v: %s", err, row)
		}
		alerts[a.Title]++
	}
	of := func(name string) int {
		return alerts["Plugin test.weighted 1.0.0 of operator "+name+" could not be replaced"]
	}
	if len(refused) != len(cases) || len(rows) != len(want)+of("w.a")+of("w.b")+alerts["Plugin test.above 1.0.0 of operator w.a could not be replaced"] || of("w.a") < 2 || of("w.b") < 2 {
		t.Errorf("refused %v, alerts %v", refused, alerts)
	}
	if a, b := rep.Operators[1].Plugin, rep.Operators[2].Plugin; a.Generation+b.Generation != 0 || a.Refused < 3 || b.Refused < 2 {
		t.Errorf("%+v, %+v", a, b)
	}
}
