package wasm

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The breaker against a few lines that say what it must do: off for 1, 2, 4 ... blocks after each bad one, at most 1024, and from the
// start after a good one. Blocks without rows count as blocks, and are no trial.
func TestBreakerStates(t *testing.T) {
	r := rand.New(rand.NewPCG(seed, 7))
	b := breaker{cool: 1}
	until, pause, trips, on := 0, 1, 0, true // the model: the block from which on it is tried
	seen := map[BreakerState]int{}
	for block := range 200_000 {
		empty, good := r.IntN(5) == 0, r.IntN(3) > 0
		if block > 100_000 {
			good = false
		}
		want := Closed
		switch {
		case block < until:
			want = Open
		case !on:
			want = HalfOpen
		}
		seen[want]++
		if got := b.State(); got != want {
			t.Fatalf("seed %d, block %d: %s, not %s", seed, block, got, want)
		}
		lets := b.lets()
		if lets != (block >= until) {
			t.Fatalf("seed %d, block %d: lets rows through: %v", seed, block, lets)
		}
		if !lets || empty {
			continue
		}
		if b.settle(good); good {
			pause, on = 1, true
			continue
		}
		if on {
			trips++
		}
		until, pause, on = block+1+pause, min(2*pause, 1024), false
	}
	if trips < 1000 || len(seen) != 3 || pause != 1024 {
		t.Errorf("seed %d: opened %d times; %v", seed, trips, seen)
	}
}

// A guest that loops costs a closed breaker 64 budgets of a call at most, and a trial two or three.
func TestTrialsAreCheap(t *testing.T) {
	m := hostile(t, 4)
	rows, fields := table([]string{"a"}, slices.Repeat([][]any{{"y"}}, 500))
	p := plugin(t, m, do(1), fields)
	p.Detect(nil, rows)
	if p.State() != Open || p.Counts.Failures != failuresMax {
		t.Fatalf("%s after %d failures", p.State(), p.Counts.Failures)
	}
	p.Detect(nil, rows)
	was := p.Counts
	if p.State() != HalfOpen {
		t.Fatal(p.State())
	}
	_, poison, judged, why := p.Detect(nil, rows)
	if n := p.Counts.Failures - was.Failures; n > trialFuel+1 || judged != 0 || len(poison) > 0 || why == nil || p.Wait() != 2 {
		t.Errorf("%d failures, %d judged, %v, %d blocks to wait", n, judged, why, p.Wait())
	}
	p.Hold(errNote)
	if _, _, judged, why := p.Detect(nil, rows); judged != 0 || why != errNote || p.State() != Held || p.Wait() != 2 {
		t.Errorf("held: %d judged, %v, %s", judged, why, p.State())
	}
	if p.Hold(nil); p.State() != Open {
		t.Error(p.State())
	}
}

var errNote = &Trap{Refused, "for the test"}
