package pipeline

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// A plugin that takes more than its share is held, with an alert, and its rows say so; when the clock says that its pause is over it is
// tried again, and held for twice as long, without another alert. The clock is the test's.
func TestBudgetHolds(t *testing.T) {
	text := strings.NewReplacer("do: 0", "do: 37", "ON_FAILURE", "alert, limits: { cpu: 0.1%, cpu_span: 1s }").Replace(failing) // 37: some ms a call
	conf := decodedDetect(t, text)
	var clock atomic.Int64
	clock.Store(1_772_000_000_000)
	run := startEngine(t, conf, engine.Options{Shards: 1, BlockRows: 50, Now: func() time.Time { return time.UnixMilli(clock.Load()) }})
	kinds := map[string]int{}
	var taking sync.WaitGroup
	taking.Go(func() {
		for {
			rows, err := run.Next(context.Background())
			if err != nil {
				return
			}
			for _, o := range rows {
				kinds[o.Kind+o.Reason]++
				if strings.Contains(string(o.Payload), `"rule":{"id":"tocsin.health/plugin"`) && strings.Contains(string(o.Payload), `"reason":"cpu"`) {
					kinds["health"]++
				}
			}
			run.Settle(rows, nil)
		}
	})
	lines := 0
	run.Push(announced("f"))
	// until lets rows come until the plugin is as it should be.
	until := func(what string, done func(p *engine.PluginReport) bool) *engine.PluginReport {
		t.Helper()
		for range 10_000 {
			run.Push(linesBlock("f", lines, []string{fmt.Sprintf(`{"t":%d,"user":"u"}`, 1_772_000_000_000+lines)}))
			lines++
			rep, err := run.Report(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if p := rep.Operators[0].Plugin; done(p) {
				return p
			}
		}
		t.Fatalf("%s does not come", what)
		return nil
	}
	p := until("held", func(p *engine.PluginReport) bool { return p.State.String() == "held" && p.Counts.Unjudged > 0 })
	if p.Openings != 1 || p.Reason != "cpu" || !p.Until.Equal(time.UnixMilli(clock.Load()+1000)) {
		t.Errorf("%+v", p)
	}
	clock.Add(999)
	was := until("more rows", func(p *engine.PluginReport) bool { return p.Counts.Unjudged > 100 })
	if was.State.String() != "held" || was.Counts.Calls != p.Counts.Calls {
		t.Errorf("it is given rows before its pause is over: %+v", was)
	}
	clock.Add(1)
	p = until("held again", func(p *engine.PluginReport) bool {
		return p.State.String() == "held" && p.Counts.Calls > was.Counts.Calls
	})
	if p.Openings != 1 || !p.Until.Equal(time.UnixMilli(clock.Load()+2000)) {
		t.Errorf("%+v", p)
	}
	unjudged := until("more rows", func(q *engine.PluginReport) bool { return q.Counts.Unjudged > p.Counts.Unjudged }).Counts.Unjudged
	run.Push(&event.Block{Partition: "f", Meta: map[string]string{"path": "f"}, Mark: event.Finished})
	run.End(true)
	taking.Wait()
	if kinds["health"] != 1 || kinds["errorplugin_off"] < int(unjudged) || kinds["row"]+kinds["errorplugin_off"] != lines {
		t.Errorf("%d lines: %v", lines, kinds)
	}
}
