package pipeline

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// BenchmarkReload replaces a plugin of a run that has always more rows waiting than it can take: how long the run stands still for it, by the clock, what
// else takes the place of a replacement (the pipeline decoded and checked, the module loaded, its instances started; beside the run), and how many rows
// pass meanwhile. That every row was judged once, and every hit said once, is checked at the end.
//
//	go test ./runtime/pipeline -run '^$' -bench Reload -benchtime 500x
func BenchmarkReload(b *testing.B) {
	const threshold, rows, waiting = 39, 4096, 4
	lines, attempts := loginLines(rand.New(rand.NewPCG(1, 1)), rows)
	hits := 0
	for _, n := range attempts {
		if n >= threshold {
			hits++
		}
	}
	conf := decodedDetect(b, reloadText(bruteForce, threshold, 1_000_000))
	run := startEngine(b, conf, engine.Options{})
	said, twice := map[event.ID]bool{}, 0
	var both sync.WaitGroup
	both.Go(func() {
		for {
			out, err := run.Next(context.Background())
			if err != nil {
				return
			}
			for _, o := range out {
				if o.Kind != "row" || o.Operator != "many" {
					continue
				}
				if said[o.ID] {
					twice++
				}
				said[o.ID] = true
			}
			run.Settle(out, nil)
		}
	})
	var blocks atomic.Int64
	free, enough := make(chan struct{}, waiting), make(chan struct{})
	run.Push(announced("f"))
	both.Go(func() {
		for {
			select {
			case free <- struct{}{}:
			case <-enough:
				run.Push(&event.Block{Partition: "f", Meta: map[string]string{"path": "f"}, Mark: event.Finished})
				run.End(true)
				return
			}
			block := linesBlock("f", int(blocks.Add(1)-1)*rows, lines)
			block.OnRelease(func(*event.Block) { <-free })
			run.Push(block)
		}
	})
	r := newReloader(conf, run, quiet())
	var pauses []time.Duration
	r.replace = func(ctx context.Context, next *engine.Operator, place int) (int64, time.Duration, error) {
		at, pause, err := run.Replace(ctx, next, place)
		pauses = append(pauses, pause)
		return at, pause, err
	}
	for n := 0; b.Loop(); n++ {
		r.again(node(b, reloadText(bruteForce, threshold, 1_000_001+n%2)))
	}
	close(enough)
	both.Wait()
	rep, err := run.Report(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	total, p := blocks.Load(), rep.Operators[1].Plugin
	if p.Counts.Rows != total*rows || int64(len(said)) != total*int64(hits) || twice > 0 || p.Generation != int64(len(pauses)) || p.Refused > 0 {
		b.Fatalf("of %d rows %d were judged; of %d hits %d were said, %d twice; %d generations, %d refused", total*rows, p.Counts.Rows, total*int64(hits), len(said), twice, p.Generation, p.Refused)
	}
	slices.Sort(pauses)
	for unit, at := range map[string]float64{"ns-median": 0.5, "ns-p99": 0.99, "ns-max": 1} {
		b.ReportMetric(float64(pauses[int(at*float64(len(pauses)-1))]), unit)
	}
	b.ReportMetric(float64(total*rows)/float64(b.N), "rows/reload")
}
