// Package retry is how those who ask servers try again: with pauses that double, of random length so that not all come back at once, and a
// word about it now and then. It knows nothing of what is tried.
package retry

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Pauses are those between two tries: they double from Least to Most. What is waited is between a half and all of one.
type Pauses struct{ Least, Most time.Duration }

// Tries are those of one matter, until a time.
type Tries struct {
	next, most time.Duration
	until      time.Time
}

// Until begins some tries.
func (p Pauses) Until(t time.Time) *Tries { return &Tries{p.Least, p.Most, t} }

// More says whether there is time for another one.
func (t *Tries) More(ctx context.Context) bool {
	return !time.Now().Add(t.next).After(t.until) && ctx.Err() == nil
}

// Wait waits for the next one, or until ctx is done.
func (t *Tries) Wait(ctx context.Context) {
	Wait(ctx, t.next/2+rand.N(t.next/2+1))
	t.next = min(2*t.next, t.most)
}

// Wait waits for a time, or until ctx is done.
func Wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Seldom says something at most every 30 s. Any goroutine may use it.
type Seldom struct {
	To func(format string, args ...any) // nil: nobody listens

	mu   sync.Mutex
	last time.Time
}

const quietFor = 30 * time.Second

// Warn says it, unless something was said of late.
func (s *Seldom) Warn(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.To == nil || time.Since(s.last) < quietFor {
		return
	}
	s.last = time.Now()
	s.To(format, args...)
}
