package pipeline

import (
	"context"
	"maps"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// Position is how far a partition was read, as the last epoch has it, with what its input keeps beside it.
type Position struct {
	Offset int64 // where reading goes on
	Origin []byte
}

// link is how the inputs and the detect buffer of one stream find each other: the inputs ask it where to start.
type link struct {
	run       *Run
	open      chan struct{} // closed when the state is open, or will not be
	once      sync.Once
	positions map[string]Position // by partition
	err       error
	detect    bool                 // there is a detect buffer behind
	lanes     []string             // its lanes, if it has some
	shapes    map[string]*rowShape // of the operators whose rows leave, by name

	mu       sync.Mutex
	follow   []follower
	accounts map[string]*engine.Verdict // of rows that an output did not take, by lane and result id; nil: it was busy
}

// follower is an input that wants to know what is on disk: committed is told the positions of partitions, by name, after each epoch
// that has some and must not wait; end is called after the last one.
type follower struct {
	committed func(at map[string]int64)
	end       func()
}

type linkKey struct{ stream string }

// linkOf returns the link of the stream that res belongs to. Constructors call it; all of them run before the first Connect.
func linkOf(res *service.Resources) *link {
	v, _ := res.GetOrSetGeneric(linkKey{res.StreamID()}, &link{run: &Run{}, open: make(chan struct{})})
	return v.(*link)
}

// opened tells waiting inputs where to start.
func (l *link) opened(positions map[string]Position, err error) {
	l.once.Do(func() {
		l.positions, l.err = positions, err
		close(l.open)
	})
}

// start waits for the state and returns its positions; none, at once, if no detect buffer is behind.
func (l *link) start(ctx context.Context) (map[string]Position, error) {
	if !l.detect {
		return nil, nil
	}
	select {
	case <-l.open:
		return l.positions, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// follows adds a follower.
func (l *link) follows(f follower) {
	l.mu.Lock()
	l.follow = append(l.follow, f)
	l.mu.Unlock()
}

// say tells the followers.
func (l *link) say(at map[string]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.follow {
		f.committed(at)
	}
}

// end lets the followers go.
func (l *link) end() {
	l.mu.Lock()
	follow := l.follow
	l.follow = nil
	l.mu.Unlock()
	for _, f := range follow {
		f.end()
	}
}

// accountsMax bounds what is remembered of rows that never come back under their id, as when a processor has changed it.
const accountsMax = 1 << 16

// accountOf is a row of a lane: several lanes may have a row.
func accountOf(lane, id string) string {
	if lane == "" || lane == mainLane {
		return id
	}
	return lane + " " + id
}

// account is called by an output that knows of the single rows that it did not take, before it rejects their batch: Benthos tells the
// buffer of the batch alone.
func (l *link) account(of map[string]*engine.Verdict) {
	if !l.detect || len(of) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.accounts == nil || len(l.accounts) > accountsMax {
		l.accounts = map[string]*engine.Verdict{}
	}
	maps.Copy(l.accounts, of)
}

// accounted makes an engine.Account of the error that a batch came back with, if an output gave one of it, and forgets it.
func (l *link) accounted(rows []*engine.Out, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.accounts) == 0 {
		return err
	}
	a, given := &engine.Account{Err: err, Of: map[event.ID]engine.Verdict{}}, false
	for _, o := range rows {
		lane := ""
		if len(l.lanes) > 0 {
			lane = l.lanes[o.Lane]
		}
		id := accountOf(lane, o.ID.String())
		v, ok := l.accounts[id]
		given = given || ok
		if delete(l.accounts, id); v != nil {
			a.Of[o.ID] = *v
		}
	}
	if err == nil || !given {
		return err
	}
	return a
}
