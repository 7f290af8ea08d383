package engine

import (
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// disk is what a lane knows of its committed rows that are not in memory: where the first are, of all of them how many epochs gave them and
// how long they are. What waits there takes no memory.
type disk struct {
	stored []state.Stored // in order; of the first epochs
	places int            // how many of them, at most
	epochs int64          // all
	bytes  int64          // of all
	last   uint64         // the number of the last of them
}

// diskMax is how many epochs of rows a lane knows by their places.
const diskMax = 256

// leave notes what an epoch gave that stays on disk.
func (d *disk) leave(at state.Stored) {
	if int64(len(d.stored)) == d.epochs && len(d.stored) < d.places {
		d.stored = append(d.stored, at)
	}
	d.epochs, d.bytes, d.last = d.epochs+1, d.bytes+at.Bytes, at.Epoch()
}

// taken forgets the first, which was read.
func (d *disk) taken() {
	d.epochs, d.bytes = d.epochs-1, d.bytes-d.stored[0].Bytes
	if d.stored = d.stored[1:]; len(d.stored) == 0 {
		d.stored = nil
	}
}

// Rows below the fence may leave before another epoch is on disk, others may not. So the next start knows which rows the run before may have sent without
// an epoch that says so: it need not read all that waits to find of which rows a newer revision was sent. A fence is so many times further ahead than a
// lane has in memory.
const aheadTimes = 4

// ahead is the fence that the epoch has which is being cut. Under mu.
func (b *outbox) ahead() uint64 {
	left, fence := aheadTimes*int64(b.memory), b.fence
	for i, at := range b.stored {
		if left -= at.Bytes; left < 0 && i > 0 {
			return fence
		}
		fence = max(fence, at.End)
	}
	if int64(len(b.stored)) < b.epochs {
		return fence
	}
	return b.next
}

// land gives the lanes the rows of an epoch that is on disk. One that has enough in memory leaves them there.
func (r *Runner) land() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, b := range r.boxes {
		rows := r.flight[i]
		if b.spills {
			b.fence = r.cut[i].fence
		}
		if b.spills && len(rows) > 0 && (b.epochs > 0 || b.size > b.memory || rows[len(rows)-1].Seq >= b.fence) {
			b.leave(r.writes.Lane(b.id).At)
			continue
		}
		b.add(rows)
	}
}

// refill reads rows of lanes that have room for them again.
func (r *Runner) refill() error {
	for _, b := range r.boxes {
		for b.epochs > 0 && r.wants(b) {
			if b.stored[0].End > b.fence {
				r.behind = true
				break
			}
			rows, err := r.stored(b, b.stored[0])
			if err != nil {
				return err
			}
			at := b.stored[0]
			r.mu.Lock()
			b.taken()
			b.add(rows)
			r.mu.Unlock()
			signal(r.ready)
			if len(b.stored) > 0 || b.epochs == 0 {
				continue
			}
			more, err := r.store.Following(b.id, at, b.last, b.places)
			if err != nil {
				return err
			}
			r.mu.Lock()
			b.stored = more
			r.mu.Unlock()
		}
	}
	return nil
}

func (r *Runner) wants(b *outbox) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return b.size <= b.memory/2
}

// stored reads what of an epoch's rows a lane has not delivered. Any of them may have been revised: what comes later is not known yet, but for
// rows that a run before may have sent.
func (r *Runner) stored(b *outbox, at state.Stored) (rows []*Out, err error) {
	var old []*Out
	err = r.store.Rows(b.id, at, func(seq uint64, row []byte) error {
		if !b.waiting(seq) {
			return nil
		}
		o, err := readOut(seq, row)
		switch {
		case err != nil:
			return err
		case o.Revision < b.newest[o.ID]:
			old = append(old, o)
			return nil
		}
		o.Open = o.Kind != "late"
		rows = append(rows, o)
		return nil
	})
	if len(old) > 0 {
		r.mu.Lock()
		for _, o := range old {
			b.mark(o.Seq)
		}
		b.changed = true
		r.mu.Unlock()
	}
	if at.End >= b.kept.fence {
		b.newest = nil
	}
	if at.End >= b.kept.next {
		b.done = nil
	}
	return rows, err
}

// revisions finds the newest revision of each row that waits on disk in more than the first. The run before may have sent it, without an epoch
// that says so, and then none before may follow. What is beyond the fence it has not sent.
func (b *outbox) revisions(store *state.Store) error {
	b.newest = map[event.ID]int64{}
	list, from := b.stored, b.from
	for left := b.epochs; left > 0 && from < b.fence; left-- {
		at := list[0]
		if !b.done.all(from, at.End) {
			if err := b.newestOf(store, at); err != nil {
				return err
			}
		}
		if list, from = list[1:], at.End; len(list) > 0 || left == 1 {
			continue
		}
		var err error
		if list, err = store.Following(b.id, at, b.last, b.places); err != nil {
			return err
		}
	}
	return nil
}

func (b *outbox) newestOf(store *state.Store, at state.Stored) error {
	return store.Rows(b.id, at, func(seq uint64, row []byte) error {
		id, revision, err := revisionOf(row)
		if err == nil && revision > 0 && seq < b.fence && b.waiting(seq) {
			b.newest[id] = max(b.newest[id], revision)
		}
		return err
	})
}

// waiting says whether a row that is on disk was not delivered when the run began.
func (b *outbox) waiting(seq uint64) bool { return seq >= b.from && !b.done.has(seq) }
