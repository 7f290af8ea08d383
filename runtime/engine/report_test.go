package engine

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/operator"
)

// A report's counts are what left: of operators, by reason, of streams; and what each operator was given and let through.
func TestReport(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	spec, files := runnerSpec(t), randomFiles(r)
	run, store := startRunner(t, spec, filepath.Join(t.TempDir(), "s"), Options{Shards: 2, BlockRows: 50})
	defer store.Close()
	first, err := run.Report(context.Background())
	if err != nil || first.Stats.Events != 0 || first.Streams[0].Watermark != operator.NegInf || run.Taking() != nil {
		t.Fatalf("%v, %+v", err, first)
	}
	feed(r, run, files)
	if run.Taking() == nil {
		t.Error("the input has ended, and it takes events")
	}
	out, errs, late := map[string]int64{}, map[string]int64{}, int64(0)
	drain(t, run, func(t *testing.T, o *Out) {
		switch o.Kind {
		case "row":
			out[o.Operator]++
		case "error":
			errs[o.Reason]++
		case "late":
			late++
		}
	})
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := run.Report(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	lines, rows := 0, int64(0)
	for _, f := range files {
		lines += len(f.lines)
	}
	for _, s := range rep.Streams {
		rows += s.Events
		if s.Watermark != operator.PosInf || s.Status != "finished" {
			t.Errorf("stream %+v", s)
		}
	}
	var bad, lates int64
	for reason, n := range errs {
		if bad += n; rep.Errors[reason] != n {
			t.Errorf("seed %d: %d errors %s, %d left", seed, rep.Errors[reason], reason, n)
		}
	}
	if rep.Stats.Events != int64(lines) || rows != int64(lines)-bad || len(rep.Errors) != len(errs) {
		t.Errorf("seed %d: %d events, %d of streams, %d errors of %d lines", seed, rep.Stats.Events, rows, bad, lines)
	}
	for _, o := range rep.Operators {
		if o.Out != out[o.Name] || o.Seen < o.Taken || o.Kind == "window" && (o.Seen != rows || o.Taken != rows) {
			t.Errorf("seed %d: %+v; %d rows of it left, of %d", seed, o, out[o.Name], rows)
		}
		lates += o.Late
	}
	if lates != late || rep.Outbox != (OutboxReport{}) || rep.Commits.Total() == 0 || rep.Blocks == 0 {
		t.Errorf("seed %d: %d late, not %d; %+v", seed, lates, late, rep)
	}
}
