package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Rows that Next gives at once, and how long rejected ones wait: doubling from backoffMin to backoffMax, or in a
// lane whose output takes nothing to downMax, since all of it waits then. Of such a lane's batches apartMax may be taken apart, which bounds what a
// sink that is down is asked.
const (
	takeMax    = 256
	flyingMax  = 4096
	backoffMin = 100 * time.Millisecond
	backoffMax = 10 * time.Second
	downMax    = 2 * time.Second
	apartMax   = 64
)

// outbox is the committed rows of a lane that are not acknowledged, and the cursor that the next epoch keeps. All under Runner.mu, but
// that only the loop changes what is stored.
type outbox struct {
	lane int
	name string
	id   uint32 // of the lane in the state
	kept keptLane

	disk
	fence  uint64 // rows below may leave: the epoch that says so is on disk
	from   uint64 // when the run began, rows below were delivered, and those of done
	done   runs
	newest map[event.ID]int64 // of those that may have left before, the last revision, if it is not the first
	spills bool               // it leaves rows on disk beyond memory bytes
	memory int                // bytes
	most   int64              // bytes of all its rows, in memory or not, at which no more events are read
	over   bool               // there are as many

	credit    int                                 // batches that may be out; 0: any number
	out       int                                 // batches that are
	aside     func(e *Out, open bool) (mine bool) // gives an error row to other lanes (of a row that may be revised: open), and says whether this one has it too; nil: it has
	lastError string
	lastAt    int64 // ms

	rows     []*Out // to be sent, in order
	again    []retry
	resting  int // rows of again
	flying   int
	size     int // bytes of rows, again and flying
	next     uint64
	cursor   uint64 // everything below is acknowledged
	beyond   runs
	changed  bool // acknowledgements since the last epoch
	settled  bool // nothing is out and something changed: worth an epoch of its own
	retries  int
	pipeline string // its name, for ids
	tries    map[uint64]*tries
	open     map[event.ID]*pending // rows that may be revised
	accepted int64                 // acknowledged in this run
	sent     int64
	alerts   int64
	rejected int64
	refused  int64 // rows that became error rows
}

// retry is rows that were rejected, with when to send them again.
type retry struct {
	rows []*Out
	at   time.Time
}

// tries counts a row's rejections, those while the output took other rows on their own: an output that takes nothing is
// down, and waits do not wear out a row.
type tries struct {
	all, alone int
	seen       int64 // accepted at the last rejection
	pause      time.Duration
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
	if b.credit > 0 && b.out >= b.credit {
		return nil, 0
	}
	for i, x := range b.again {
		if d := x.at.Sub(now); d <= 0 {
			b.again = slices.Delete(b.again, i, i+1)
			b.resting -= len(x.rows)
			return b.fly(x.rows), 0
		} else if wait == 0 || d < wait {
			wait = d
		}
	}
	n := min(len(b.rows), takeMax, flyingMax-b.flying)
	if n <= 0 || b.resting > flyingMax {
		return nil, wait
	}
	if b.spills {
		n = within(b.rows[:n], blockMax)
	}
	rows := slices.Clone(b.rows[:n])
	b.rows = b.rows[n:]
	return b.fly(rows), 0
}

// within is how many of the rows have no more bytes together, but at least one.
func within(rows []*Out, most int) int {
	for i, o := range rows {
		if most -= len(o.Payload) + 200; most < 0 {
			return max(i, 1)
		}
	}
	return len(rows)
}

func (b *outbox) fly(rows []*Out) []*Out {
	b.flying += len(rows)
	b.out++
	for _, o := range rows {
		o.Lane = b.lane
		b.leaves(o)
	}
	return rows
}

// rest has rows wait for being sent again.
func (b *outbox) rest(at time.Time, rows ...*Out) {
	b.again = append(b.again, retry{rows, at})
	b.resting += len(rows)
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
	b.out--
	b.changed = true
	b.settled = b.idle()
}

// idle says whether nothing of it is to be sent or on its way.
func (b *outbox) idle() bool {
	return b.flying == 0 && len(b.rows) == 0 && len(b.again) == 0 && b.epochs == 0
}

// number gives rows that are new to it their numbers.
func (b *outbox) number(rows []*Out) {
	for _, o := range rows {
		o.Seq = b.next
		b.next++
	}
}

// mark moves the cursor over a row.
func (b *outbox) mark(seq uint64) {
	if seq != b.cursor {
		b.beyond.add(seq)
		return
	}
	b.cursor++
	if len(b.beyond) > 0 && b.beyond[0].from == b.cursor {
		b.cursor = b.beyond[0].till
		b.beyond = slices.Delete(b.beyond, 0, 1)
	}
}

// reject puts rows back and says when they are sent again, if that is worth saying: the first time, and then every tenth. Of an
// output that gave an account, rows that it did not name go again together, and those that it refuses become error rows. A lane whose output
// takes nothing keeps a batch together but for one, now here and now there, since it may be a bad row that it does not take: of all, thousands would
// go one by one when it is back. Beyond apartMax even that goes slowly.
func (b *outbox) reject(rows []*Out, err error, now time.Time) (said string) {
	b.flying -= len(rows)
	b.out--
	b.rejected += int64(len(rows))
	b.lastError, b.lastAt = cutText(err.Error(), lastErrorMax), now.UnixMilli()
	b.changed = b.changed || b.spills // an epoch keeps the error of a lane
	if b.tries == nil {
		b.tries = map[uint64]*tries{}
	}
	var account *Account
	errors.As(err, &account)
	var together []*Out
	apart := -1
	for i, o := range rows {
		verdict, named := account.of(o)
		was := o
		o = b.returned(o)
		t := b.retried(o)
		down := b.spills && b.accepted == t.seen // its output takes nothing
		if i == 0 && (len(b.again) < apartMax || t.all%apartMax == 0) {
			apart = t.all % len(rows)
		}
		switch {
		case down:
			t.pause = pause(t.all, downMax)
		case b.spills: // it is back: what the row waited for it does not count
			t.pause = pause(t.alone+2, backoffMax)
		default:
			t.pause = pause(t.all, backoffMax)
		}
		switch {
		case o == was && o.Kind != "error" && verdict.Refused:
			said = cmp.Or(said, b.refuse(o, verdict.Why, now))
			continue
		case account != nil && !named || account == nil && down && i != apart:
			together = append(together, o)
			continue
		}
		if b.accepted > t.seen {
			t.alone, t.seen = t.alone+1, b.accepted
		}
		if t.alone >= b.retries && o.Kind != "error" {
			b.refuse(o, fmt.Sprintf("after %d tries: %v", t.all, err), now)
			said = fmt.Sprintf("as an error row, after %d tries", t.all)
			continue
		}
		b.rest(now.Add(t.pause), o)
		said = cmp.Or(said, t.said())
	}
	if len(together) > 0 {
		t := b.tries[together[0].Seq]
		b.rest(now.Add(t.pause), together...)
		if len(together) == len(rows) { // or it is about others, of which refuse tells
			said = t.said()
		}
	}
	return said
}

// retried counts a rejection of a row.
func (b *outbox) retried(o *Out) *tries {
	t := b.tries[o.Seq]
	if t == nil {
		t = &tries{seen: b.accepted}
		b.tries[o.Seq] = t
	}
	t.all++
	return t
}

// pause is how long to wait before a row is sent again that was rejected so many times.
func pause(times int, most time.Duration) time.Duration {
	return min(most, backoffMin<<min(times-1, 7))
}

func (t *tries) said() string {
	if t.all%10 == 1 {
		return "in " + t.pause.String()
	}
	return ""
}

// marks returns what the next epoch keeps of the acknowledgements, and takes them as kept.
func (b *outbox) marks(dst []uint64) (cursor uint64, beyond []uint64) {
	for _, x := range b.beyond {
		for seq := x.from; seq < x.till; seq++ {
			dst = append(dst, seq)
		}
	}
	b.changed, b.settled = false, false
	return b.cursor, dst
}

// dirty says whether there are acknowledgements that no epoch has.
func (r *Runner) dirty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asides) > 0 || slices.ContainsFunc(r.boxes, func(b *outbox) bool { return b.changed })
}

// empty says whether everything was acknowledged.
func (r *Runner) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asides) == 0 && !slices.ContainsFunc(r.boxes, func(b *outbox) bool { return !b.idle() })
}

// settled says whether a lane has delivered all that it had, since the last epoch. Under mu.
func (r *Runner) settled() bool {
	return slices.ContainsFunc(r.boxes, func(b *outbox) bool { return b.settled })
}

func rowsOf(n int) string {
	if n == 1 {
		return "a row"
	}
	return fmt.Sprintf("%d rows", n)
}
