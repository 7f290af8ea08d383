package engine

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A budget against the definition: over every span of the clock a plugin that may take a share takes no more than that and what one
// block takes, or it is held; one that is held stays so for its pause, which doubles until it has kept within its share for a span.
func TestBudget(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	for range 50 {
		span := time.Duration(1+r.IntN(20)) * time.Second
		share := 0.01 + r.Float64()
		b := &budget{share: share, span: span}
		now, total := time.Unix(1_772_000_000, r.Int64N(1e9)), time.Duration(0)
		type use struct {
			at   time.Time
			took time.Duration
		}
		var uses []use
		load := share * 2 * r.Float64()
		pause, proven := time.Duration(0), true
		var until, since time.Time
		for range 3000 {
			step := time.Duration(1 + r.Int64N(int64(span)/20))
			now = now.Add(step)
			took := time.Duration(0)
			if !now.Before(until) { // not held in the block before
				took = time.Duration(load * float64(step) * 2 * r.Float64())
			}
			total += took
			if !until.IsZero() && !now.Before(until) {
				until, since, uses, proven = time.Time{}, now, nil, false
			}
			uses = append(uses, use{now, took})
			for now.Sub(uses[0].at) >= span {
				uses = uses[1:]
			}
			held := b.spend(now, total)
			if now.Before(until) {
				if !held {
					t.Fatalf("seed %d: let go before %s are over", seed, pause)
				}
				continue
			}
			most, least := time.Duration(0), time.Duration(0) // slots make the span up to a tenth shorter
			for _, u := range uses {
				if age := now.Sub(u.at); age < span {
					most += u.took
					if age < span-span/slots {
						least += u.took
					}
				}
			}
			allowed := share * span.Seconds()
			if held && most.Seconds() <= allowed || !held && least.Seconds() > allowed {
				t.Fatalf("seed %d: held %v after %s to %s in %s, with %.2f s allowed", seed, held, least, most, span, allowed)
			}
			if held {
				if pause = min(2*pause, pauseMax); proven {
					pause = span
				}
				until = now.Add(pause)
				if b.until != until {
					t.Fatalf("seed %d: held until %s, not %s", seed, b.until, until)
				}
			} else if !proven && now.Sub(since) >= span {
				proven = true
			}
			if b.trial.IsZero() != proven && !held {
				t.Fatalf("seed %d: on trial %v, proven %v", seed, !b.trial.IsZero(), proven)
			}
		}
	}
}
