package engine

import (
	"cmp"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// shard is an operator on its share of the keys: exactly the one-row-at-a-time machine, since keys do not see each other.
type shard interface {
	reset()                         // before a block
	push(in *operator.In)           // a row; its key is copied
	run(ws []step, end int64) error // the block: ws are the operator's steps in it, end its watermark after it
	results() []operator.Result     // in order, until the next reset
	counts() operator.Counts
	top() int64 // the latest due time that the end of the input fired, or -inf

	load(key, rec []byte) error // at recovery; nil: the key is gone
	loaded(w int64)
	save(space uint32, e *state.Epoch, c *state.Consolidation)
	live() int
	close() // gives back what is not the garbage collector's
}

// keyed is a shard: the states of its keys, what is due, what is dirty.
type keyed[S any] struct {
	op     operator.Logic[S]
	spares func(s *S) bool // operator.Sparing, or nil
	lasts  bool            // operator.Lasting
	c      operator.Context
	rows   []operator.In
	keys   []byte // of rows
	at     map[string]int32
	slots  []slot[S]
	free   []int32
	dirty  []int32 // since the last epoch
	stale  []int32 // since the last consolidation
	epoch  uint32
	round  uint32
	timers timers
	pos    int // cursor in the block's steps: dues only grow
	peak   int64
	rec    []byte // scratch
}

type slot[S any] struct {
	s     S
	key   string
	armed int64  // the due time of the one timer that counts
	epoch uint32 // in dirty, if this epoch
	round uint32 // in stale, if this round
	used  bool
	paged bool // some page or entry on disk has it
	entry bool // an entry on disk may have it
}

func newKeyed[S any](op operator.Logic[S], out *event.Batch) shard {
	k := &keyed[S]{op: op, at: map[string]int32{}, epoch: 1, round: 1, peak: operator.NegInf}
	k.c.Batch = out
	if x, ok := op.(operator.Sparing[S]); ok {
		k.spares = x.Spares
	}
	_, k.lasts = op.(operator.Lasting)
	return k
}

func (k *keyed[S]) reset() {
	k.rows, k.keys, k.c.Out, k.pos = k.rows[:0], k.keys[:0], k.c.Out[:0], 0
	k.c.Batch.Reset()
}

func (k *keyed[S]) push(in *operator.In) {
	from := len(k.keys)
	k.keys = append(k.keys, in.Key...)
	k.rows = append(k.rows, *in)
	k.rows[len(k.rows)-1].Key = k.keys[from:len(k.keys):len(k.keys)]
}

func (k *keyed[S]) results() []operator.Result { return k.c.Out }
func (k *keyed[S]) counts() operator.Counts    { return k.c.Counts }
func (k *keyed[S]) top() int64                 { return k.peak }
func (k *keyed[S]) live() int                  { return len(k.at) }
func (k *keyed[S]) close()                     {}

func (k *keyed[S]) run(ws []step, end int64) error {
	c := &k.c
	for i := range k.rows {
		x := &k.rows[i]
		if len(k.timers) > 0 && k.timers[0].due <= x.W && k.fires(x.W) {
			k.fire(x.W, ws)
		}
		c.P, c.W, c.Due, c.By, c.Idx = x.P, x.W, operator.NegInf, "", x.Idx
		ref := k.open(x.Key)
		k.op.Row(c, &k.slots[ref].s, x)
		if x.W < operator.PosInf { // after the end there is nothing to wait for
			k.rearm(ref, operator.NegInf)
		}
	}
	if k.fires(end) {
		k.fire(end, ws)
	}
	return c.Err
}

// fires says whether what is due by w fires: the end of the input is not for every operator.
func (k *keyed[S]) fires(w int64) bool { return w < operator.PosInf || k.op.Flushes() }

// fire runs everything due by w. Inside one due the order is free, because keys do not see each other; only results are
// put in order, so that what says nothing costs no comparison.
func (k *keyed[S]) fire(w int64, ws []step) {
	c, from := &k.c, len(k.c.Out)
	for len(k.timers) > 0 && k.timers[0].due <= w {
		t := k.timers.pop()
		s := &k.slots[t.ref]
		if s.armed != t.due {
			continue // an earlier one took its place
		}
		s.armed = operator.Never
		if w == operator.PosInf && k.spares != nil && k.spares(&s.s) {
			continue
		}
		if k.op.Next(&s.s) == t.due { // else what it waited for moved on
			for k.pos < len(ws)-1 && ws[k.pos].w < t.due {
				k.pos++
			}
			c.P, c.W, c.Due, c.By, c.Idx = ws[k.pos].p, ws[k.pos].w, t.due, s.key, 0
			if w == operator.PosInf && t.due < operator.PosInf && !k.lasts {
				k.peak = max(k.peak, t.due)
			}
			k.touch(t.ref)
			k.op.Fire(c, &s.s, t.due)
		}
		k.rearm(t.ref, t.due)
	}
	slices.SortFunc(c.Out[from:], place)
}

// place orders results: by position; then what rows caused, by their place; then what fired, by due time, key and ordinal.
func place(a, b operator.Result) int {
	return cmp.Or(cmp.Compare(a.P, b.P), cmp.Compare(a.Due, b.Due), strings.Compare(a.By, b.By), cmp.Compare(a.Idx, b.Idx))
}

// open finds or makes the slot of a key and marks it dirty.
func (k *keyed[S]) open(key []byte) int32 {
	ref, ok := k.at[string(key)]
	if !ok {
		if n := len(k.free); n > 0 {
			ref, k.free = k.free[n-1], k.free[:n-1]
		} else {
			ref = int32(len(k.slots))
			k.slots = append(k.slots, slot[S]{armed: operator.Never})
		}
		s := &k.slots[ref]
		s.key, s.used = string(key), true
		k.at[s.key] = ref
	}
	k.touch(ref)
	return ref
}

func (k *keyed[S]) touch(ref int32) {
	s := &k.slots[ref]
	if s.epoch == k.epoch {
		return
	}
	s.epoch = k.epoch
	k.dirty = append(k.dirty, ref)
	if s.round != k.round {
		s.round = k.round
		k.stale = append(k.stale, ref)
	}
}

// rearm: a key has at most one timer that counts, at or before the earliest thing it waits for; after is what has fired.
func (k *keyed[S]) rearm(ref int32, after int64) {
	s := &k.slots[ref]
	if due := k.op.Next(&s.s); due < s.armed && due > after {
		s.armed = due
		k.timers.push(timer{due, ref})
	}
}

// load applies a record of recovery. Everything that is loaded counts as on disk and as stale.
func (k *keyed[S]) load(key, rec []byte) error {
	ref := k.open(key)
	s := &k.slots[ref]
	s.paged, s.entry = true, true
	if rec == nil {
		var zero S
		s.s = zero
		return nil
	}
	return k.op.Load(&s.s, rec)
}

// loaded ends the recovery at watermark w: keys are clean and wait for what they wait for. Records of added rows do not say
// what died since, so that is cleaned now; whatever says something when it fires was saved without it.
func (k *keyed[S]) loaded(w int64) {
	for _, ref := range k.dirty {
		s := &k.slots[ref].s
		for due := k.op.Next(s); due <= w && (!k.op.Flushes() || k.spares != nil && k.spares(s)); due = k.op.Next(s) {
			k.op.Fire(&k.c, s, due)
		}
		k.rearm(ref, operator.NegInf)
	}
	k.dirty = k.dirty[:0]
	k.epoch++
}

// save writes what changed since the last epoch, between two blocks, and, given a consolidation, the whole state of what
// changed since the last one. A key whose state became empty keeps its slot until its tombstone is written.
func (k *keyed[S]) save(space uint32, e *state.Epoch, c *state.Consolidation) {
	for _, ref := range k.dirty {
		s := &k.slots[ref]
		switch {
		case !s.used:
		case k.op.Next(&s.s) != operator.Never:
			k.rec = k.op.Save(k.rec[:0], &s.s, false)
			e.Put(space, []byte(s.key), k.rec)
			s.paged = true
		default:
			if s.paged {
				e.Drop(space, []byte(s.key))
				s.paged = false
			}
			if k.op.Clear(&s.s); !s.entry {
				k.release(ref)
			}
		}
	}
	k.dirty = k.dirty[:0]
	k.epoch++
	if c != nil {
		k.consolidate(space, c)
	}
}

func (k *keyed[S]) consolidate(space uint32, c *state.Consolidation) {
	for _, ref := range k.stale {
		s := &k.slots[ref]
		switch {
		case !s.used:
		case k.op.Next(&s.s) != operator.Never:
			k.rec = k.op.Save(k.rec[:0], &s.s, true)
			c.Put(space, []byte(s.key), k.rec)
			s.entry = true
		default:
			c.Drop(space, []byte(s.key))
			k.release(ref)
		}
	}
	k.stale = k.stale[:0]
	k.round++
}

func (k *keyed[S]) release(ref int32) {
	s := &k.slots[ref]
	delete(k.at, s.key)
	s.key, s.used, s.paged, s.entry = "", false, false, false
	k.free = append(k.free, ref)
}

// timers is a binary heap by due time.
type timers []timer

type timer struct {
	due int64
	ref int32
}

func (h *timers) push(t timer) {
	*h = append(*h, t)
	s := *h
	for i := len(s) - 1; i > 0 && s[(i-1)/2].due > s[i].due; i = (i - 1) / 2 {
		s[i], s[(i-1)/2] = s[(i-1)/2], s[i]
	}
}

func (h *timers) pop() timer {
	s := *h
	top, n := s[0], len(s)-1
	s[0], *h = s[n], s[:n]
	for i, c := 0, 1; c < n; i, c = c, 2*c+1 {
		if c+1 < n && s[c+1].due < s[c].due {
			c++
		}
		if s[i].due <= s[c].due {
			break
		}
		s[i], s[c] = s[c], s[i]
	}
	return top
}
