package pipeline

import (
	"sync"
	"time"
)

// actionLimit bounds actions by key, such as an address: at most so many in any span of wall time.
type actionLimit struct {
	most int
	per  time.Duration

	mu   sync.Mutex
	seen map[string][]time.Time // by key, oldest first
}

// limitKeys is how many keys are told apart at once; keys beyond share one, so that a flood of made-up keys is no way around the limit.
const limitKeys = 100_000

// take counts an action, or says that it is one too many. back gives it back: it was not done.
func (l *actionLimit) take(key string, now time.Time) (back func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[string][]time.Time{}
	}
	if _, known := l.seen[key]; !known && len(l.seen) >= limitKeys {
		if l.sweep(now); len(l.seen) >= limitKeys {
			key = ""
		}
	}
	times := l.recent(key, now)
	if len(times) >= l.most {
		l.seen[key] = times
		return nil, false
	}
	l.seen[key] = append(times, now)
	return func() { l.giveBack(key, now) }, true
}

// recent are the actions of a key within the span.
func (l *actionLimit) recent(key string, now time.Time) []time.Time {
	times := l.seen[key]
	for len(times) > 0 && now.Sub(times[0]) >= l.per {
		times = times[1:]
	}
	return times
}

func (l *actionLimit) giveBack(key string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, t := range l.seen[key] {
		if t.Equal(at) {
			l.seen[key] = append(l.seen[key][:i:i], l.seen[key][i+1:]...)
			return
		}
	}
}

// sweep forgets keys without an action within the span.
func (l *actionLimit) sweep(now time.Time) {
	for key := range l.seen {
		if len(l.recent(key, now)) == 0 {
			delete(l.seen, key)
		}
	}
}
