package engine

import (
	"encoding/binary"
	"math/bits"

	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

func (k *keyed[S]) attach(seed [2]uint64, epoch uint64, fetch func(bucket uint32) ([]byte, error)) {
	k.cold.seed, k.epoch, k.cold.fetch = seed, epoch, fetch
}

func (k *keyed[S]) adopt(id uint32, epoch uint64, page []byte) error {
	return k.cold.adopt(id, epoch, page)
}

// replay applies a record of the log. One that is whole needs no look at what it replaces.
func (k *keyed[S]) replay(epoch uint64, key []byte, due int64, rec []byte) error {
	h := hashKey(k.cold.seed, key)
	id := k.cold.in(h)
	if epoch <= k.cold.bucket(id).epoch {
		return nil
	}
	k.cold.changed(id, epoch)
	if k.whole {
		if rec == nil {
			k.cold.hide(id, tagOf(h), key)
			return nil
		}
		k.cold.put(id, tagOf(h), key, due, rec)
		b := k.cold.bucket(id)
		b.wake = min(b.wake, due)
		return nil
	}
	ref, ok := k.table.find(key)
	if !ok {
		_, old, where, err := k.cold.find(id, tagOf(h), key)
		if err != nil {
			return err
		}
		if where == hidden {
			old = nil
		}
		if ref, err = k.warm(key, h, old, operator.PosInf); err != nil {
			return err
		}
	}
	s := k.slot(ref)
	s.fresh = true
	if rec == nil {
		var zero S
		s.s = zero
		return nil
	}
	if k.replace {
		k.sized(ref, len(rec))
	} else {
		k.grew(s, 2*len(rec))
	}
	return k.op.Load(&s.s, rec)
}

// loaded ends the recovery at watermark w: keys are clean and wait for what they wait for. Records of added rows do not say
// what died since, so that is cleaned now; whatever says something when it fires was saved without it.
func (k *keyed[S]) loaded(w int64) error {
	k.timers = k.timers[:0]
	k.past, k.start = w, w
	for i := range k.slots {
		for j := range k.slots[i] {
			x := &k.slots[i][j]
			ref := int32(i*slotBlock + j)
			s := &x.s
			if !x.used {
				continue
			}
			k.clean(s)
			if k.op.Next(s) == operator.Never {
				x.epoch = 0
				k.touch(ref) // the next epoch drops it
			}
			x.armed = operator.Never
			k.rearm(ref, operator.NegInf)
		}
	}
	if k.capped {
		if err := k.census(); err != nil {
			return err
		}
	}
	for i := range k.cold.roots {
		for j := range k.cold.roots[i].buckets {
			id := uint32(i)<<rootShift | uint32(j)
			b := k.cold.bucket(id)
			due := b.wake
			if !k.single() {
				due = b.last
			}
			switch {
			case b.wake == operator.Never:
			case k.over(b.last):
				b.wake = operator.Never
				k.cold.forget(id)
				k.cold.changed(id, k.epoch)
			default:
				k.wakeAt(id, due)
			}
		}
	}
	return nil
}

// census counts the keys that hold something, at recovery. It reads every page, of which max_keys bounds the number.
func (k *keyed[S]) census() error {
	k.held = 0
	for i := range k.slots {
		for j := range k.slots[i] {
			if s := &k.slots[i][j]; s.used && k.op.Next(&s.s) != operator.Never {
				k.held++
			}
		}
	}
	for i := range k.cold.roots {
		for j := range k.cold.roots[i].buckets {
			id := uint32(i)<<rootShift | uint32(j)
			page, err := k.cold.read(id)
			if err != nil {
				return err
			}
			k.cold.each(k.cold.bucket(id), page, func(_ byte, key []byte, due int64, _ []byte) {
				if !k.over(due) && !k.inUse(key) {
					k.held++
				}
			})
		}
	}
	return nil
}

// save logs what changed in the epoch. A key whose state became empty is over; the log says so unless its records do.
func (k *keyed[S]) save(space uint32, e *state.Epoch, epoch uint64) {
	for _, ref := range k.dirty {
		s := k.slot(ref)
		due := k.op.Next(&s.s)
		if due == operator.Never {
			if s.kept > operator.NegInf && !(k.whole && s.kept <= k.past) {
				e.Drop(space, k.table.key(ref))
				k.cold.hide(k.cold.in(s.hash), tagOf(s.hash), k.table.key(ref))
			}
			k.op.Clear(&s.s)
			k.release(ref)
			continue
		}
		k.rec = k.op.Save(k.rec[:0], &s.s, false)
		if k.replace {
			k.sized(ref, len(k.rec))
		} else {
			k.grew(s, 2*len(k.rec))
		}
		switch {
		case k.whole:
			s.kept = max(s.kept, due)
		case k.replace:
			due, s.kept = operator.PosInf, operator.PosInf
		default:
			due, s.kept = operator.Never, operator.PosInf
		}
		e.Put(space, k.table.key(ref), due, k.rec)
	}
	k.dirty = k.dirty[:0]
	k.epoch = epoch + 1
	if len(k.timers) > k.most {
		k.timers.keep(func(t timer) bool {
			if t.ref < 0 {
				return k.cold.bucket(uint32(-1-t.ref)).wake == t.due
			}
			return k.slot(t.ref).armed == t.due
		})
		k.most = 2*len(k.timers) + 4096
	}
}

// sized notes how long a whole record is.
func (k *keyed[S]) sized(ref int32, rec int) {
	s := k.slot(ref)
	k.hot -= int64(s.size)
	s.size = 0
	k.grew(s, slotBase[S]()+int(k.table.where[ref].size)+2*rec)
}

// chill packs keys that were not used lately until those in use take no more than so many bytes. None is dirty: an epoch was just
// saved.
func (k *keyed[S]) chill(most int64) error {
	n := int32(len(k.slots)) * slotBlock
	for left := 2 * n; k.hot > most && left > 0; left-- {
		if k.sweep++; k.sweep >= n {
			k.sweep = 0
		}
		if int(k.sweep)%slotBlock >= len(k.slots[k.sweep/slotBlock]) {
			continue
		}
		if s := k.slot(k.sweep); s.used && (left < n || s.epoch+1 < k.epoch) {
			k.pack(k.sweep)
		}
	}
	if len(k.free) > k.table.n+slotBlock || k.table.waste() > k.table.live+4*chunkBytes {
		k.compact()
	}
	return nil
}

// compact gives the memory of free slots back: those in use move together. None is dirty.
func (k *keyed[S]) compact() {
	old, armed, table := k.slots, k.timers, k.table
	moved := make([]int32, len(old)*slotBlock)
	k.slots, k.free, k.table, k.hot, k.sweep = nil, nil, keyTable{}, 0, 0
	for i := range k.cold.roots {
		r := &k.cold.roots[i]
		r.hot = 0
		for j := range r.buckets {
			r.buckets[j].hot = 0
		}
	}
	for i := range old {
		for j := range old[i] {
			x := &old[i][j]
			if !x.used {
				continue
			}
			ref := k.use(table.key(int32(i*slotBlock+j)), x.hash)
			s := k.slot(ref)
			k.hot += int64(x.size - s.size)
			x.next, x.prev = s.next, s.prev
			*s = *x
			moved[i*slotBlock+j] = ref + 1
		}
	}
	k.timers = make(timers, 0, k.table.n+1024)
	for _, t := range armed {
		if t.ref >= 0 {
			if t.ref = moved[t.ref] - 1; t.ref < 0 || k.slot(t.ref).armed != t.due {
				continue
			}
		} else if k.cold.bucket(uint32(-1-t.ref)).wake != t.due {
			continue
		}
		k.timers.push(t)
	}
}

// pack makes a key cold.
func (k *keyed[S]) pack(ref int32) {
	s := k.slot(ref)
	id := k.cold.in(s.hash)
	due := k.op.Next(&s.s)
	if b := k.cold.bucket(id); s.fresh || !b.stored {
		k.rec = k.op.Save(k.rec[:0], &s.s, true)
		k.cold.put(id, tagOf(s.hash), k.table.key(ref), due, k.rec)
	}
	k.armCold(id, due)
	var zero S
	s.s = zero
	k.release(ref)
}

// armCold sees to it that a bucket wakes for a key of it.
func (k *keyed[S]) armCold(id uint32, due int64) {
	b := k.cold.bucket(id)
	b.last = max(b.last, due)
	if due < b.wake && (k.single() || b.wake == operator.Never) {
		k.wakeAt(id, due)
	}
}

// flush makes pages of buckets, the longest changed first, until it is told that that is enough.
func (k *keyed[S]) flush(space uint32, f *state.Flush, enough func(c *cold) bool) error {
	for !enough(&k.cold) {
		x, ok := k.cold.oldest()
		if !ok {
			return nil
		}
		if err := k.gather(x.bucket, nil); err != nil {
			return err
		}
		k.put(space, x.bucket, &k.out, f)
		f.End()
	}
	return nil
}

// gather collects all keys of a bucket, in use or not; of those that move into their new twin, if there is one, apart.
func (k *keyed[S]) gather(id uint32, moves func(key []byte, h uint64) bool) error {
	page, err := k.cold.read(id)
	if err != nil {
		return err
	}
	k.out.reset(k.whole)
	k.twin.reset(k.whole)
	to := func(key []byte, h func() uint64) *pageWriter {
		if moves != nil && moves(key, h()) {
			return &k.twin
		}
		return &k.out
	}
	b := k.cold.bucket(id)
	var used [256]bool
	for at := b.hot; at != 0; at = k.slot(at - 1).next {
		used[tagOf(k.slot(at-1).hash)] = true
	}
	k.cold.each(b, page, func(tag byte, key []byte, due int64, rec []byte) {
		if used[tag] && k.inUse(key) || k.over(due) {
			return
		}
		to(key, func() uint64 { return hashKey(k.cold.seed, key) }).add(tag, key, due, rec)
	})
	for at := b.hot; at != 0; {
		ref, s := at-1, k.slot(at-1)
		at = s.next
		due := k.op.Next(&s.s)
		k.rec = k.op.Save(k.rec[:0], &s.s, true)
		key := k.table.key(ref)
		to(key, func() uint64 { return s.hash }).add(tagOf(s.hash), key, due, k.rec)
		if s.kept, s.fresh = due, false; !k.whole {
			s.kept = operator.PosInf
		}
		k.sized(ref, len(k.rec))
	}
	return nil
}

// put makes what was collected the page of a bucket. The number of the root's buckets goes with it if the disk does not know it.
func (k *keyed[S]) put(space, id uint32, p *pageWriter, f *state.Flush) {
	page := p.page()
	k.cold.replace(id, page, p.pageHead)
	f.Put(space, id, page)
	if r := &k.cold.roots[rootIn(id)]; r.known != len(r.buckets) {
		r.known = len(r.buckets)
		f.Put(space, id|indexMax, binary.AppendUvarint(nil, uint64(r.known)))
	}
}

// grow splits the buckets whose turn it is while those of a root are crowded.
func (k *keyed[S]) grow(space uint32, f *state.Flush) error {
	for i := range k.cold.roots {
		for k.cold.roots[i].crowded(k.cold.goal) {
			if err := k.split(space, uint32(i), f); err != nil {
				return err
			}
		}
	}
	return nil
}

// split gives the root's next bucket a twin. If it has a page, both get one at once, or the disk would have keys in two places.
func (k *keyed[S]) split(space, root uint32, f *state.Flush) error {
	r := &k.cold.roots[root]
	n := len(r.buckets)
	from, to := root<<rootShift|uint32(splitsNext(n)), root<<rootShift|uint32(n)
	pages := k.cold.bucket(from).stored || len(k.cold.bucket(from).tail) > 0
	if pages {
		if err := k.gather(from, func(_ []byte, h uint64) bool { return indexOf(h, n+1) == n }); err != nil {
			return err
		}
	}
	k.cold.grow(r, n+1)
	a, b := k.cold.bucket(from), k.cold.bucket(to)
	for at := a.hot; at != 0; {
		ref, s := at-1, k.slot(at-1)
		if at = s.next; k.cold.in(s.hash) == to {
			k.unlink(a, s)
			k.link(b, ref)
		}
	}
	if !pages {
		if a.first > 0 {
			k.cold.changed(to, a.first)
		}
		return nil
	}
	k.put(space, from, &k.out, f)
	k.put(space, to, &k.twin, f)
	f.End()
	due := k.twin.min
	if !k.single() {
		due = k.twin.max
	}
	if k.twin.keys > 0 {
		k.armCold(to, due)
	}
	return nil
}

func splitsNext(n int) int { return n - 1<<(bits.Len(uint(n))-1) }

func (k *keyed[S]) landed() { k.cold.landed() }
