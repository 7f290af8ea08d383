package engine

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Rows that Next gives at once, and how long rejected ones wait: doubling from backoffMin to backoffMax.
const (
	takeMax    = 256
	flyingMax  = 4096
	backoffMin = 100 * time.Millisecond
	backoffMax = 10 * time.Second
)

// outbox is the committed rows that are not acknowledged, and the cursor that the next epoch keeps. All under Runner.mu.
type outbox struct {
	rows     []*Out // to be sent, in order
	again    []retry
	flying   int
	size     int // bytes of rows, again and flying
	next     uint64
	cursor   uint64 // everything below is acknowledged
	beyond   map[uint64]bool
	changed  bool // acknowledgements since the last epoch
	settled  bool // nothing is out and something changed: worth an epoch of its own
	retries  int
	tries    map[uint64]*tries
	open     map[event.ID]*pending // rows that may be revised
	accepted int64                 // acknowledged in this run
	sent     int64
	alerts   int64
	rejected int64
}

// retry is a row that was rejected, with when to send it again.
type retry struct {
	row *Out
	at  time.Time
}

// tries counts a row's rejections, those while the output took other rows on their own: an output that takes nothing is
// down, and waits do not wear out a row.
type tries struct {
	all, alone int
	seen       int64 // accepted at the last rejection
}

func (b *outbox) add(rows []*Out) {
	for _, o := range rows {
		b.size += len(o.Payload) + 200
		if !b.joins(o) {
			b.rows = append(b.rows, o)
		}
	}
	b.settled = false
}

// take returns rows to send now, or how long to wait for one; rejected rows go one at a time, so that one bad row does not
// hold the others.
func (b *outbox) take(now time.Time) ([]*Out, time.Duration) {
	var wait time.Duration
	for i, x := range b.again {
		if d := x.at.Sub(now); d <= 0 {
			b.again = slices.Delete(b.again, i, i+1)
			b.flying++
			b.leaves(x.row)
			return []*Out{x.row}, 0
		} else if wait == 0 || d < wait {
			wait = d
		}
	}
	n := min(len(b.rows), takeMax, flyingMax-b.flying)
	if n <= 0 || len(b.again) > flyingMax {
		return nil, wait
	}
	rows := slices.Clone(b.rows[:n])
	b.rows = b.rows[n:]
	b.flying += n
	for _, o := range rows {
		b.leaves(o)
	}
	return rows, 0
}

func (b *outbox) accept(rows []*Out) {
	for _, o := range rows {
		b.size -= len(o.Payload) + 200
		b.sent++
		if o.Kind == "alert" {
			b.alerts++
		}
		delete(b.tries, o.Seq)
		b.mark(o.Seq)
		b.landed(o)
	}
	b.accepted += int64(len(rows))
	b.flying -= len(rows)
	b.changed = true
	b.settled = b.flying == 0 && len(b.rows) == 0 && len(b.again) == 0
}

// mark moves the cursor over a row.
func (b *outbox) mark(seq uint64) {
	if seq != b.cursor {
		if b.beyond == nil {
			b.beyond = map[uint64]bool{}
		}
		b.beyond[seq] = true
		return
	}
	for b.cursor++; b.beyond[b.cursor]; b.cursor++ {
		delete(b.beyond, b.cursor)
	}
}

// reject puts rows back and says when they are sent again, if that is worth saying: the first time, and then every tenth.
func (b *outbox) reject(rows []*Out, now time.Time) (said string) {
	b.flying -= len(rows)
	b.rejected += int64(len(rows))
	if b.tries == nil {
		b.tries = map[uint64]*tries{}
	}
	for _, o := range rows {
		o = b.returned(o)
		t := b.tries[o.Seq]
		if t == nil {
			t = &tries{seen: b.accepted}
			b.tries[o.Seq] = t
		}
		t.all++
		if b.accepted > t.seen {
			t.alone, t.seen = t.alone+1, b.accepted
		}
		if t.alone >= b.retries && o.Kind != "error" {
			o.Kind, o.Reason = "error", "rejected"
			said = fmt.Sprintf("as an error row, after %d tries", t.all)
		}
		pause := backoffMax
		if t.all < 8 {
			pause = min(backoffMax, backoffMin<<(t.all-1))
		}
		b.again = append(b.again, retry{o, now.Add(pause)})
		if said == "" && t.all%10 == 1 {
			said = "in " + pause.String()
		}
	}
	return said
}

// marks returns what the next epoch keeps of the acknowledgements, and takes them as kept.
func (b *outbox) marks(dst []uint64) (cursor uint64, beyond []uint64) {
	for seq := range b.beyond {
		dst = append(dst, seq)
	}
	slices.Sort(dst)
	b.changed, b.settled = false, false
	return b.cursor, dst
}

// dirty says whether there are acknowledgements that no epoch has.
func (b *outbox) dirty(mu *sync.Mutex) bool {
	mu.Lock()
	defer mu.Unlock()
	return b.changed
}

// empty says whether everything was acknowledged.
func (b *outbox) empty(mu *sync.Mutex) bool {
	mu.Lock()
	defer mu.Unlock()
	return b.flying == 0 && len(b.rows) == 0 && len(b.again) == 0
}

func rowsOf(n int) string {
	if n == 1 {
		return "a row"
	}
	return fmt.Sprintf("%d rows", n)
}
