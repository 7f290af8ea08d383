package pipeline

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

const failing = `
name: failing
state: s
streams: { s: { match: { path: "*" }, time: { field: t, format: epoch_ms } } }
operators:
  broken: { plugin: { from: s, module: ../wasm/testdata/hostile.wasm, fields: { a: user }, config: { do: 0 }, on_failure: ON_FAILURE } }
`

// healthAlert is what of an alert the tests read.
type healthAlert struct {
	ID    string
	Title string
	Rule  struct{ ID, Source string }
	Time  string
	Row   struct {
		Operator, Plugin, Reason string
		Position                 int64
	}
}

// A plugin that fails on every row of two stretches is switched off twice. One alert says so each time, with the same id in every run;
// every row is accounted for.
func TestHealthAlert(t *testing.T) {
	var lines []string
	for i := range 4000 {
		user := "fine"
		if i >= 1000 && i < 1500 || i >= 3000 && i < 3100 { // 100 rows a block: five bad blocks, of which some are not tried, and one
			user = "xxx"
		}
		lines = append(lines, fmt.Sprintf(`{"t":%d,"user":"%s"}`, 1_772_000_000_000+i, user))
	}
	run := func(onFailure string) (alerts []healthAlert, kinds map[string]int, rep *engine.Report) {
		conf := decodedDetect(t, strings.Replace(failing, "ON_FAILURE", onFailure, 1))
		r := startEngine(t, conf, engine.Options{Shards: 1, BlockRows: 100})
		r.Push(announced("f"))
		r.Push(linesBlock("f", 0, lines))
		r.Push(&event.Block{Partition: "f", Meta: map[string]string{"path": "f"}, Mark: event.Finished})
		r.End(true)
		kinds = map[string]int{}
		drained(t, r, func(o *engine.Out) {
			kinds[o.Kind+o.Reason]++
			var a healthAlert
			if o.Kind == "alert" && json.Unmarshal(o.Payload, &a) == nil && strings.HasPrefix(a.Rule.ID, "tocsin.health/") {
				kinds["health"]++
				alerts = append(alerts, a)
			}
		})
		rep, err := r.Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return alerts, kinds, rep
	}
	alerts, kinds, rep := run("alert")
	if len(alerts) != 2 || alerts[0].ID == alerts[1].ID {
		t.Fatalf("%d alerts: %+v", len(alerts), alerts)
	}
	for i, a := range alerts {
		if a.Rule.ID != "tocsin.health/plugin" || a.Rule.Source != "failing" || a.Title != "Plugin test.hostile of operator broken was switched off: trap" || a.Row.Operator != "broken" ||
			a.Row.Plugin != "test.hostile" || a.Row.Reason != "trap" || a.Row.Position < int64(1000+2000*i) || a.Row.Position > int64(1100+2000*i) || a.Time == "" {
			t.Errorf("%+v", a)
		}
	}
	if p := rep.Operators[0].Plugin; p.Openings != 2 || p.State.String() != "closed" || p.Counts.Unjudged != int64(kinds["errorplugin_off"]) {
		t.Errorf("%+v", p)
	}
	if kinds["row"]+kinds["errorplugin_failed"]+kinds["errorplugin_off"] != 4000 || kinds["errorplugin_off"] == 0 {
		t.Errorf("%v", kinds)
	}
	again, skipped, _ := run("skip")
	if fmt.Sprint(again) != fmt.Sprint(alerts) || skipped["errorplugin_off"] != 0 || skipped["row"] != kinds["row"] {
		t.Errorf("with skip: %+v, %v", again, skipped)
	}
}
