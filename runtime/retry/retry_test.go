package retry

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Pauses double up to the longest, each waits for a half of it at least, and none begins that would end after the time is over.
func TestTries(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p := Pauses{time.Millisecond, 3 * time.Millisecond}
	tries := p.Until(time.Now().Add(time.Hour))
	for _, want := range []time.Duration{1, 2, 3, 3} {
		if tries.next != want*time.Millisecond || !tries.More(ctx) {
			t.Errorf("the next pause is %s, want %d ms", tries.next, want)
		}
		began := time.Now()
		if tries.Wait(ctx); time.Since(began) < want*time.Millisecond/2 {
			t.Errorf("it waited %s of %d ms", time.Since(began), want)
		}
	}
	if p.Until(time.Now().Add(p.Least - 1)).More(ctx) {
		t.Error("another try when the time is over")
	}
	if cancel(); tries.More(ctx) {
		t.Error("another try when nobody wants it")
	}
	Wait(ctx, time.Hour)
}

// Of many who say something at the same time one is heard.
func TestSeldom(t *testing.T) {
	said := 0
	s := &Seldom{To: func(string, ...any) { said++ }}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { s.Warn("busy") })
	}
	all.Wait()
	(&Seldom{}).Warn("nobody listens")
	if said != 1 {
		t.Errorf("said %d times", said)
	}
	if s.last = s.last.Add(-quietFor); said == 1 {
		s.Warn("busy still")
	}
	if said != 2 {
		t.Errorf("said %d times", said)
	}
}
