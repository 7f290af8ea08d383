package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/state"
)

// WaitingLane is what waits in a lane of a state, as of its last epoch.
type WaitingLane struct {
	Name              string
	Gone              bool // the pipeline does not have it
	Rows, Bytes       int64
	Oldest            int64 // the earliest event time among them, ms; NoTime if none has one
	Rejected, Refused int64 // by its output, in all runs; of a pipeline without lanes nobody knows
	Dropped           int64 // by Drop
	LastError         string
	LastAt            int64 // of the error, ms; 0: there was none
}

// mainLane is the one lane of a pipeline without lanes.
const mainLane = "main"

// waitingRows is the outbox of a state that no runner uses.
type waitingRows struct {
	store *state.Store
	got   state.Recovered
	head  header
	main  []*Out // that wait
}

// openOutbox reads what a state says of its outbox.
func openOutbox(store *state.Store) (*waitingRows, error) {
	k := &waitingRows{store: store}
	var err error
	k.got, err = store.Recover(state.Visitor{
		Start: func(got state.Recovered) (err error) {
			k.head, err = readHeader(got.Header)
			return err
		},
		Row: func(seq uint64, row []byte) error {
			o, err := readOut(seq, row)
			k.main = append(k.main, o)
			return err
		},
	})
	return k, err
}

// each gives the rows that wait in a lane; 0 is the one of a pipeline without lanes.
func (k *waitingRows) each(l *keptLane, give func(o *Out, size int) error) error {
	if l == nil {
		for _, o := range k.main {
			if err := give(o, len(o.append(nil))); err != nil {
				return err
			}
		}
		return nil
	}
	list := k.store.Stored(l.id, diskMax)
	for left, _ := k.store.Waiting(l.id); left > 0; left-- {
		at := list[0]
		if err := k.rows(l, at, give); err != nil {
			return err
		}
		if list = list[1:]; len(list) > 0 || left == 1 {
			continue
		}
		var err error
		if list, err = k.store.Following(l.id, at, k.got.Epoch, diskMax); err != nil {
			return err
		}
	}
	return nil
}

// rows gives those of an epoch that wait.
func (k *waitingRows) rows(l *keptLane, at state.Stored, give func(o *Out, size int) error) error {
	return k.store.Rows(l.id, at, func(seq uint64, row []byte) error {
		if seq < l.cursor || l.beyond.has(seq) {
			return nil
		}
		o, err := readOut(seq, row)
		if err != nil {
			return err
		}
		return give(o, len(row))
	})
}

// lanes are the state's lanes; nil is the one of a pipeline without, if something waits in it or there is no other.
func (k *waitingRows) lanes() (all []*keptLane) {
	if len(k.main) > 0 || len(k.head.lanes) == 0 {
		all = append(all, nil)
	}
	for i := range k.head.lanes {
		all = append(all, &k.head.lanes[i])
	}
	return all
}

func (k *waitingRows) waiting(spec *Spec, l *keptLane) (w WaitingLane, err error) {
	w = WaitingLane{Name: mainLane, Oldest: NoTime}
	if l != nil {
		w = WaitingLane{Name: l.name, Oldest: NoTime, Rejected: l.rejected, Refused: l.refused, Dropped: l.dropped, LastError: l.lastError, LastAt: l.lastAt}
		w.Gone = !slices.ContainsFunc(spec.Lanes, func(x Lane) bool { return x.Name == l.name || x.Was == l.name })
	}
	err = k.each(l, func(o *Out, size int) error {
		w.Rows, w.Bytes = w.Rows+1, w.Bytes+int64(size)
		if o.TS != 0 {
			w.Oldest = min(w.Oldest, o.TS)
		}
		return nil
	})
	return w, err
}

// Waiting says what waits in the lanes of a state that no runner uses. The store must be closed afterwards, not run.
func Waiting(spec *Spec, store *state.Store) (all []WaitingLane, err error) {
	k, err := openOutbox(store)
	if err != nil {
		return nil, err
	}
	for _, l := range k.lanes() {
		w, err := k.waiting(spec, l)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// Dropping says which rows Drop takes out: those of a lane, those with a result id, or those with the id in the lane.
type Dropping struct {
	Lane string // "": every lane
	ID   string // "": every row of Lane, which must then be said
	// Record keeps a row for whoever asks later. It is called before the row goes; an error ends Drop, and nothing goes.
	Record func(lane string, o *Out) error
	// Recorded makes what Record was told durable.
	Recorded func() error
}

// Drop takes rows out of the outbox of a state that no runner uses, and returns how many. The store must be closed afterwards, not run.
func Drop(store *state.Store, d Dropping) (rows int, err error) {
	if d.Lane == "" && d.ID == "" {
		return 0, errors.New("say which rows: of a lane, or with an id")
	}
	k, err := openOutbox(store)
	if err != nil {
		return 0, err
	}
	var names []string
	e := &state.Epoch{Cursor: k.got.Cursor, Beyond: k.got.Beyond}
	for _, l := range k.lanes() {
		name, box := mainLane, &outbox{cursor: k.got.Cursor}
		for _, seq := range k.got.Beyond {
			box.beyond.add(seq)
		}
		if l != nil {
			name, box = l.name, &outbox{cursor: l.cursor, beyond: l.beyond}
		}
		names = append(names, name)
		if d.Lane != "" && d.Lane != name {
			continue
		}
		n, err := k.drop(l, name, box, &d)
		if err != nil {
			return 0, err
		}
		if rows += n; l == nil {
			e.Cursor, e.Beyond = box.marks(nil)
		} else {
			l.cursor, l.beyond, l.dropped = box.cursor, box.beyond, l.dropped+int64(n)
		}
	}
	switch {
	case d.Lane != "" && !slices.Contains(names, d.Lane):
		return 0, fmt.Errorf("the state has no lane %q; it has %s", d.Lane, strings.Join(names, ", "))
	case rows == 0 && d.ID != "":
		return 0, fmt.Errorf("no row with the id %s waits", d.ID)
	case rows == 0:
		return 0, nil
	}
	if err := d.Recorded(); err != nil {
		return 0, err
	}
	for i := range k.head.lanes {
		e.Lane(k.head.lanes[i].id).Cursor = k.head.lanes[i].cursor
	}
	e.Header = k.head.append(nil)
	return rows, store.Commit(e)
}

// drop marks the rows of a lane that go as delivered.
func (k *waitingRows) drop(l *keptLane, name string, box *outbox, d *Dropping) (n int, err error) {
	var gone []uint64 // the lane's marks say which rows wait, so they stay as they are meanwhile
	err = k.each(l, func(o *Out, _ int) error {
		if d.ID != "" && o.ID.String() != d.ID {
			return nil
		}
		gone = append(gone, o.Seq)
		return d.Record(name, o)
	})
	if err != nil {
		return 0, err
	}
	for _, seq := range gone {
		box.mark(seq)
	}
	return len(gone), nil
}

// Retry has the rows of a lane that were rejected sent again now, and counts their tries anew; lane "" is every one. It returns how many
// rows there are. The error says that there is no such lane.
func (r *Runner) Retry(lane string) (rows int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	found := false
	for _, b := range r.boxes {
		name := b.name
		if r.router == nil {
			name = mainLane
		}
		names = append(names, name)
		if lane != "" && lane != name {
			continue
		}
		found = true
		for i := range b.again {
			b.again[i].at = r.opt.Now()
		}
		clear(b.tries)
		rows += b.resting
	}
	if !found {
		return 0, fmt.Errorf("there is no lane %q; there is %s", lane, strings.Join(names, ", "))
	}
	signal(r.ready)
	return rows, nil
}
