package engine

import (
	"cmp"
	"slices"
	"strings"
	"unsafe"

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
	close()     // gives back what is not the garbage collector's

	keeper
}

// keeper is the part of a shard that remembers. Everything but open is called between two blocks.
type keeper interface {
	attach(seed [2]uint64, epoch uint64, fetch func(bucket uint32) ([]byte, error)) // epoch is the one that is being filled

	adopt(bucket uint32, epoch uint64, page []byte) error                // at recovery: pages,
	replay(epoch uint64, key []byte, due int64, rec []byte) error        // then the log; a nil record: the key is gone
	loaded(w int64) error                                                // then this
	save(space uint32, e *state.Epoch, epoch uint64)                     // logs what changed in the epoch
	flush(space uint32, f *state.Flush, enough func(c *cold) bool) error // makes pages of the longest changed buckets
	grow(space uint32, f *state.Flush) error                             // splits buckets that are too large
	chill(hot int64) error                                               // packs keys until those in use take no more than so many bytes
	landed()                                                             // the pages of the last flush are on disk
	usage() (hot int64, c *cold)
	live() int
}

// keyed is a shard: the states of its keys in use, what is due, what is dirty; the other keys are cold.
type keyed[S any] struct {
	op      operator.Logic[S]
	spares  func(s *S) bool // operator.Sparing, or nil
	settles operator.Settling
	ahead   operator.Preparing[S]
	firing  []timer // of one due time
	lasts   bool    // operator.Lasting
	whole   bool    // operator.Whole
	replace bool    // operator.Replacing, or whole
	flushes bool
	capped  bool // max_keys: held counts the keys that hold something, in use or not
	held    int
	late    bool // what becomes of rows beyond max_keys
	why     string
	c       operator.Context
	rows    []operator.In
	next    int         // of rows
	bytes   []byte      // of the keys of rows
	table   keyTable    // those in use
	slots   [][]slot[S] // blocks of slotBlock
	free    []int32
	dirty   []int32 // since the last epoch
	epoch   uint64  // the one that is being filled
	timers  timers
	most    int   // timers beyond which those that do not count are dropped
	pos     int   // cursor in the block's steps: dues only grow
	past    int64 // everything due by then has fired; finite
	start   int64 // past as it was recovered
	peak    int64
	hot     int64 // bytes that keys in use take, about
	sweep   int32 // where chill goes on
	cold    cold
	out     pageWriter
	twin    pageWriter
	rec     []byte // scratch
	tmp     S
	found   []found
}

type slot[S any] struct {
	s     S
	hash  uint64
	armed int64  // the due time of the one timer that counts
	kept  int64  // the latest due time of a record of it in the log or packed; -inf: there is none
	epoch uint64 // in dirty, if the one that is being filled
	next  int32  // one more than the next slot of its bucket; and than the one before
	prev  int32
	size  int32 // bytes, about
	fresh bool  // it differs from what is packed
	used  bool
}

// found is a record of a bucket that something is to be done with.
type found struct {
	key, rec []byte
}

const slotBlock = 1024

func newKeyed[S any](op operator.Logic[S], out *event.Batch) shard {
	k := &keyed[S]{op: op, epoch: 1, peak: operator.NegInf, past: operator.NegInf, start: operator.NegInf, flushes: op.Flushes(), cold: newCold()}
	k.c.Batch = out
	if x, ok := op.(operator.Sparing[S]); ok {
		k.spares = x.Spares
	}
	k.settles, _ = op.(operator.Settling)
	if x, ok := op.(operator.Preparing[S]); ok && x.Prepares() {
		k.ahead = x
	}
	_, k.lasts = op.(operator.Lasting)
	_, k.whole = op.(operator.Whole)
	_, k.replace = op.(operator.Replacing)
	k.replace = k.replace || k.whole
	return k
}

func (k *keyed[S]) reset() {
	k.rows, k.bytes, k.c.Out, k.pos, k.next = k.rows[:0], k.bytes[:0], k.c.Out[:0], 0, 0
	k.c.Batch.Reset()
}

func (k *keyed[S]) push(in *operator.In) {
	from := len(k.bytes)
	k.bytes = append(k.bytes, in.Key...)
	k.rows = append(k.rows, *in)
	k.rows[len(k.rows)-1].Key = k.bytes[from:len(k.bytes):len(k.bytes)]
}

func (k *keyed[S]) results() []operator.Result { return k.c.Out }
func (k *keyed[S]) counts() operator.Counts    { return k.c.Counts }
func (k *keyed[S]) top() int64                 { return k.peak }
func (k *keyed[S]) slot(ref int32) *slot[S]    { return &k.slots[ref/slotBlock][ref%slotBlock] }

func (k *keyed[S]) run(ws []step, end int64) error {
	for k.next = 0; k.next < len(k.rows); {
		if err := k.until(k.rows[k.next].W, ws); err != nil {
			return err
		}
		if err := k.take(false); err != nil {
			return err
		}
	}
	return k.finish(end, ws)
}

// until fires what is due by w, the watermark before a row. Without a step in the block nothing has come due.
func (k *keyed[S]) until(w int64, ws []step) error {
	if len(ws) > 0 && len(k.timers) > 0 && k.timers[0].due <= w && k.fires(w) {
		if err := k.fire(w, ws); err != nil {
			return err
		}
	}
	k.passed(w)
	return nil
}

// take takes the next row. If full, a row of a key that holds nothing is turned away.
func (k *keyed[S]) take(full bool) error {
	c, x := &k.c, &k.rows[k.next]
	k.next++
	c.P, c.W, c.Due, c.By, c.Idx = x.P, x.W, operator.NegInf, "", x.Idx
	ref, err := k.open(x.Key)
	if err != nil {
		return err
	}
	s := &k.slot(ref).s
	held := k.capped && k.op.Next(s) != operator.Never
	if full && !held {
		c.TurnAway(x, k.late, k.why)
		return nil
	}
	if k.op.Row(c, s, x); k.capped && !held && k.op.Next(s) != operator.Never {
		k.held++
	}
	if x.W < operator.PosInf { // after the end there is nothing to wait for
		k.rearm(ref, operator.NegInf)
	}
	return nil
}

// finish ends the block at watermark w.
func (k *keyed[S]) finish(w int64, ws []step) error {
	if len(ws) > 0 && k.fires(w) {
		if err := k.fire(w, ws); err != nil {
			return err
		}
	}
	k.passed(w)
	k.settle()
	return k.c.Err
}

// settle does what was put off in the block. What that says of earlier rows is put where it belongs.
func (k *keyed[S]) settle() {
	if k.settles == nil {
		return
	}
	from := len(k.c.Out)
	if k.settles.Settle(&k.c); len(k.c.Out) > from {
		slices.SortStableFunc(k.c.Out, place)
	}
}

// functions are those that other code provides for the aggregates of a window, and the window itself; nil of other operators.
func (k *keyed[S]) functions() functional {
	f, _ := k.op.(functional)
	return f
}

func (k *keyed[S]) close() {
	if k.settles != nil {
		k.settles.Close()
	}
}

// passed notes that what is due by w has fired.
func (k *keyed[S]) passed(w int64) {
	if w == operator.PosInf {
		if !k.flushes {
			return
		}
		w-- // what waits for the end may stay
	}
	k.past = max(k.past, w)
}

// over says whether a record's key is over: of keys whose records are whole, one that came due has fired, and would have a newer
// record if anything were left.
func (k *keyed[S]) over(due int64) bool { return k.whole && due <= k.past }

// fires says whether what is due by w fires: the end of the input is not for every operator.
func (k *keyed[S]) fires(w int64) bool { return w < operator.PosInf || k.flushes }

// fire runs everything due by w. Inside one due the order is free, because keys do not see each other; only results are
// put in order, so that what says nothing costs no comparison.
func (k *keyed[S]) fire(w int64, ws []step) error {
	from := len(k.c.Out)
	for len(k.timers) > 0 && k.timers[0].due <= w {
		k.together()
		for _, t := range k.firing {
			if err := k.fireTimer(t, w, ws); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(k.c.Out[from:], place)
	return nil
}

// fireTimer fires a key or a bucket.
func (k *keyed[S]) fireTimer(t timer, w int64, ws []step) error {
	if t.ref < 0 {
		return k.fireCold(uint32(-1-t.ref), t.due, w, ws)
	}
	s := k.slot(t.ref)
	if s.armed != t.due {
		return nil // an earlier one took its place
	}
	s.armed = operator.Never
	if w == operator.PosInf && k.spares != nil && k.spares(&s.s) {
		return nil
	}
	if k.op.Next(&s.s) == t.due { // else what it waited for moved on
		k.touch(t.ref)
		k.say(&s.s, k.table.text(t.ref), t.due, w, ws)
	}
	k.rearm(t.ref, t.due)
	return nil
}

// firingMost is how many keys are prepared together.
const firingMost = 4096

// together takes the next timer, or, if the operator prepares what it says, some of the same due time, and prepares them.
func (k *keyed[S]) together() {
	k.firing = append(k.firing[:0], k.timers.pop())
	if k.ahead == nil {
		return
	}
	due := k.firing[0].due
	for len(k.timers) > 0 && k.timers[0].due == due && len(k.firing) < firingMost {
		k.firing = append(k.firing, k.timers.pop())
	}
	for _, t := range k.firing {
		if t.ref < 0 {
			continue
		}
		if s := k.slot(t.ref); s.armed == due && k.op.Next(&s.s) == due {
			k.ahead.Prepare(&s.s, k.table.text(t.ref), due)
		}
	}
	k.ahead.Prepared()
}

// say fires a key.
func (k *keyed[S]) say(s *S, key string, due, w int64, ws []step) {
	c := &k.c
	for k.pos < len(ws)-1 && ws[k.pos].w < due {
		k.pos++
	}
	c.P, c.W, c.Due, c.By, c.Idx = ws[k.pos].p, ws[k.pos].w, due, key, 0
	if w == operator.PosInf && due < operator.PosInf && !k.lasts {
		k.peak = max(k.peak, due)
	}
	if k.op.Fire(c, s, due); k.capped && k.op.Next(s) == operator.Never {
		k.held--
	}
}

// cappedShard is a shard whose keys are counted.
type cappedShard interface {
	shard
	limit(late bool, why string)
	keys() int
	head() *operator.In // the next row, nil if there is none
	until(w int64, ws []step) error
	take(full bool) error
	finish(w int64, ws []step) error
}

func (k *keyed[S]) limit(late bool, why string) { k.capped, k.late, k.why = true, late, why }
func (k *keyed[S]) keys() int                   { return k.held }

func (k *keyed[S]) head() *operator.In {
	if k.next == len(k.rows) {
		return nil
	}
	return &k.rows[k.next]
}

// fireCold fires the keys of a bucket that are due. Those that are over then leave no trace: their records say that they are.
func (k *keyed[S]) fireCold(id uint32, due, w int64, ws []step) error {
	b := k.cold.bucket(id)
	if b.wake != due {
		return nil
	}
	b.wake = operator.Never
	if !k.single() { // it only cleans up: there is no haste, and all of a bucket at once is cheapest
		if b.last > due {
			k.wakeAt(id, b.last)
			return nil
		}
		if k.whole {
			k.cold.forget(id)
			k.cold.changed(id, k.epoch)
			return nil
		}
	}
	page, err := k.cold.read(id)
	if err != nil {
		return err
	}
	next, last := int64(operator.Never), int64(operator.NegInf)
	k.found = k.found[:0]
	k.cold.each(b, page, func(_ byte, key []byte, at int64, rec []byte) {
		switch {
		case b.hot != 0 && k.inUse(key) || k.over(at) || at < due && k.whole: // or was fired a moment ago
		case at <= due:
			k.found = append(k.found, found{key, rec})
		default:
			next, last = min(next, at), max(last, at)
		}
	})
	b.last = last
	for _, x := range k.found {
		if err := k.wake(x, due, w, ws); err != nil {
			return err
		}
	}
	if !k.single() {
		next = last
	}
	if next > due && next < operator.Never {
		k.wakeAt(id, next)
	}
	return nil
}

// single says whether keys that are packed together are over one by one, since they have something to say or are counted.
func (k *keyed[S]) single() bool { return k.flushes || k.capped }

// wake fires a cold key that is due, or, if its records do not say all, takes it into use, where its timer fires.
func (k *keyed[S]) wake(x found, due, w int64, ws []step) error {
	h := hashKey(k.cold.seed, x.key)
	if !k.whole {
		_, err := k.warm(x.key, h, x.rec, operator.PosInf)
		return err
	}
	if err := k.op.Load(&k.tmp, x.rec); err != nil {
		return err
	}
	k.say(&k.tmp, string(x.key), due, w, ws)
	if k.op.Next(&k.tmp) == operator.Never {
		k.cold.changed(k.cold.in(h), k.epoch)
		k.op.Clear(&k.tmp)
		return nil
	}
	ref := k.use(x.key, h)
	s := k.slot(ref)
	var zero S
	s.s, k.tmp, s.kept = k.tmp, zero, operator.PosInf
	k.touch(ref)
	k.rearm(ref, due)
	return nil
}

func (k *keyed[S]) inUse(key []byte) bool {
	_, ok := k.table.find(key)
	return ok
}

// wakeAt sets a bucket's timer.
func (k *keyed[S]) wakeAt(id uint32, due int64) {
	b := k.cold.bucket(id)
	if due == operator.PosInf && k.spares != nil {
		b.wake = operator.Never
		return
	}
	b.wake = due
	k.timers.push(timer{due, -1 - int32(id)})
}

// place orders results: by position; then what rows caused, by their place; then what fired, by due time, key and ordinal.
func place(a, b operator.Result) int {
	return cmp.Or(cmp.Compare(a.P, b.P), cmp.Compare(a.Due, b.Due), strings.Compare(a.By, b.By), cmp.Compare(a.Idx, b.Idx))
}

// open finds or makes the slot of a key and marks it dirty.
func (k *keyed[S]) open(key []byte) (int32, error) {
	ref, ok := k.table.find(key)
	if !ok {
		h := hashKey(k.cold.seed, key)
		rec, kept, err := k.stored(key, h)
		if err == nil {
			ref, err = k.warm(key, h, rec, kept)
		}
		if err != nil {
			return 0, err
		}
	}
	k.touch(ref)
	return ref, nil
}

// stored finds what is packed of a key, nil if nothing is, and the latest due time of its records.
func (k *keyed[S]) stored(key []byte, h uint64) (rec []byte, kept int64, err error) {
	due, rec, where, err := k.cold.find(k.cold.in(h), tagOf(h), key)
	if err != nil {
		return nil, 0, err
	}
	kept = operator.NegInf
	switch where {
	case inTail, hidden: // and who knows what the page says
		kept = operator.PosInf
	case inPage:
		kept = due
	}
	if where == hidden || k.over(due) {
		rec = nil
	}
	return rec, kept, nil
}

// warm takes a key into use, with what a record says of it, if there is one.
func (k *keyed[S]) warm(key []byte, h uint64, rec []byte, kept int64) (int32, error) {
	ref := k.use(key, h)
	s := k.slot(ref)
	s.kept = kept
	if !k.whole && kept > operator.NegInf {
		s.kept = operator.PosInf
	}
	if rec == nil {
		return ref, nil
	}
	if err := k.op.Load(&s.s, rec); err != nil {
		return ref, err
	}
	k.grew(s, 2*len(rec))
	k.clean(&s.s)
	k.rearm(ref, operator.NegInf)
	return ref, nil
}

// clean does what is due of a state that was packed or saved, and says nothing: it is what an operator that has nothing to say
// when something is over, or that the end of the input spared, has not done yet.
func (k *keyed[S]) clean(s *S) {
	w := k.past
	if k.flushes {
		w = k.start
	}
	for due := k.op.Next(s); due <= w && (!k.flushes || k.spares != nil && k.spares(s)); due = k.op.Next(s) {
		k.op.Fire(&k.c, s, due)
	}
}

// use makes a slot for a key.
func (k *keyed[S]) use(key []byte, h uint64) int32 {
	var ref int32
	if n := len(k.free); n > 0 {
		ref, k.free = k.free[n-1], k.free[:n-1]
	} else {
		n := len(k.slots)
		if n == 0 || len(k.slots[n-1]) == slotBlock {
			k.slots = append(k.slots, make([]slot[S], 0, slotBlock))
			n++
		}
		k.slots[n-1] = k.slots[n-1][:len(k.slots[n-1])+1]
		ref = int32((n-1)*slotBlock + len(k.slots[n-1]) - 1)
	}
	s := k.slot(ref)
	b := k.cold.bucket(k.cold.in(h))
	s.hash, s.used, s.fresh = h, true, false
	s.armed, s.kept, s.epoch, s.size = operator.Never, operator.NegInf, 0, 0
	k.link(b, ref)
	k.grew(s, slotBase[S]()+len(key))
	k.table.add(key, ref)
	return ref
}

// slotExtra is about what a key in use takes beside its slot and its bytes: its place in the table and among the timers.
const slotExtra = 64

func slotBase[S any]() int { return int(unsafe.Sizeof(slot[S]{})) + slotExtra }

func (k *keyed[S]) grew(s *slot[S], n int) {
	s.size += int32(min(n, 1<<30-int(s.size)))
	k.hot += int64(n)
}

// release gives a slot back.
func (k *keyed[S]) release(ref int32) {
	s := k.slot(ref)
	k.unlink(k.cold.bucket(k.cold.in(s.hash)), s)
	k.table.remove(ref)
	k.hot -= int64(s.size)
	s.used, s.armed = false, operator.Never
	k.free = append(k.free, ref)
}

// link puts a slot into its bucket's list, unlink takes it out.
func (k *keyed[S]) link(b *bucket, ref int32) {
	s := k.slot(ref)
	k.cold.roots[rootOf(s.hash)].hot++
	if s.next, s.prev = b.hot, 0; b.hot != 0 {
		k.slot(b.hot - 1).prev = ref + 1
	}
	b.hot = ref + 1
}

func (k *keyed[S]) unlink(b *bucket, s *slot[S]) {
	k.cold.roots[rootOf(s.hash)].hot--
	if s.prev != 0 {
		k.slot(s.prev - 1).next = s.next
	} else {
		b.hot = s.next
	}
	if s.next != 0 {
		k.slot(s.next - 1).prev = s.prev
	}
}

func (k *keyed[S]) touch(ref int32) {
	s := k.slot(ref)
	if s.epoch == k.epoch {
		return
	}
	s.epoch, s.fresh = k.epoch, true
	k.dirty = append(k.dirty, ref)
	k.cold.changed(k.cold.in(s.hash), k.epoch)
}

// rearm: a key has at most one timer that counts, at or before the earliest thing it waits for; after is what has fired. The end
// of the input is no timer of keys that it spares, or there would be one more each time that another has fired.
func (k *keyed[S]) rearm(ref int32, after int64) {
	s := k.slot(ref)
	if due := k.op.Next(&s.s); due < s.armed && due > after && (due < operator.PosInf || k.spares == nil) {
		s.armed = due
		k.timers.push(timer{due, ref})
	}
}

func (k *keyed[S]) usage() (int64, *cold) { return k.hot + k.table.waste(), &k.cold }

// live is the number of keys in use.
func (k *keyed[S]) live() int { return k.table.n }

// timers is a binary heap by due time.
type timers []timer

type timer struct {
	due int64
	ref int32 // a slot; below zero: -1 less a bucket
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
	h.sink(0)
	return top
}

// sink moves an element down to its place.
func (h *timers) sink(i int) {
	s := *h
	for c := 2*i + 1; c < len(s); i, c = c, 2*c+1 {
		if c+1 < len(s) && s[c+1].due < s[c].due {
			c++
		}
		if s[i].due <= s[c].due {
			break
		}
		s[i], s[c] = s[c], s[i]
	}
}

// keep drops timers that do not count.
func (h *timers) keep(counts func(t timer) bool) {
	s := slices.DeleteFunc(*h, func(t timer) bool { return !counts(t) })
	*h = s
	for i := len(s)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
}
