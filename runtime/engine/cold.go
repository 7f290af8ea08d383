package engine

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/dchest/siphash"

	"github.com/seed-98920119/tocsin/runtime/operator"
)

// cold holds those keys of a shard that are not in use: packed, by bucket. A bucket's page is what is on disk; it is read when a
// key is asked for, kept while there is room, and dropped. What is newer than the page is the tail, which stays in memory until a
// new page is made of both (and of the keys in use).
//
// Keys are dealt out to roots by a keyed hash that the state keeps, since who chooses keys must not choose their bucket; roots to
// shards, so that any number of shards can read what any other wrote. A root grows by linear hashing (Litwin, VLDB 1980): bucket by
// bucket, with no directory.
type cold struct {
	seed   [2]uint64
	roots  [rootCount]root
	fetch  func(bucket uint32) ([]byte, error)
	queue  []change // buckets with changes that no page has, by the epoch of the first
	flying []uint32 // buckets whose pages are being written
	ring   []uint32 // buckets whose pages are in memory, and the hand of the clock that picks what goes
	hand   int
	tails  int64 // bytes
	pages  int64 // bytes in memory
	stored int64 // bytes of pages, in memory or not
	rest   int64 // bytes of buckets and filters
	allow  int64 // what pages may take of memory
	goal   int64 // mean bytes of a page
	offs   []int // scratch
}

// change is a bucket that has changed since the epoch.
type change struct {
	bucket uint32
	epoch  uint64
}

const (
	rootCount = 64
	rootShift = 24 // a bucket's number is its root's, and its index in it
	indexMax  = 1<<rootShift - 1
	pageBytes = 4 << 10 // mean length of a page: a compromise of reading one key and of writing many
)

type root struct {
	buckets []bucket
	bytes   int64 // of pages as they were last written, and of tails
	hot     int   // keys in use
	known   int   // number of buckets that the disk knows of
}

// hotBytes is about what a key in use takes when it is packed.
const hotBytes = 40

// crowded says whether the root needs another bucket.
func (r *root) crowded(goal int64) bool {
	n := len(r.buckets)
	return r.bytes+int64(r.hot)*hotBytes > int64(n)*goal && n < indexMax
}

type bucket struct {
	page   []byte // with its head; nil: not in memory, or none
	tail   []byte
	filter keyFilter // of the page, if it is stored
	base   int64     // of the tail's due times
	wake   int64     // the timer that counts, or Never
	last   int64     // the latest due time of a key, or -inf
	first  uint64    // the epoch of the first change that no page has; 0: none
	epoch  uint64    // at recovery: what the page on disk is as of
	size   int32     // of the page
	hot    int32     // one more than the first slot of its keys in use
	stored bool      // there is a page on disk
	flies  bool      // it is being written
	recent bool      // for the clock
	ringed bool      // in the ring
}

func newCold() cold {
	c := cold{allow: 1 << 62, goal: pageBytes}
	for i := range c.roots {
		c.roots[i].buckets = []bucket{emptyBucket()}
	}
	return c
}

func emptyBucket() bucket { return bucket{wake: operator.Never, last: operator.NegInf} }

func hashKey(seed [2]uint64, key []byte) uint64 { return siphash.Hash(seed[0], seed[1], key) }

func rootOf(h uint64) int  { return int(h >> 58) }
func tagOf(h uint64) byte  { return byte(h >> 48) }
func rootIn(id uint32) int { return int(id >> rootShift) }

// in returns the number of the hash's bucket.
func (c *cold) in(h uint64) uint32 {
	r := rootOf(h)
	return uint32(r)<<rootShift | uint32(indexOf(h, len(c.roots[r].buckets)))
}

// indexOf is linear hashing: of n buckets, those before the one that is split next have a twin beyond the power of two.
func indexOf(h uint64, n int) int {
	m := 1 << (bits.Len(uint(n)) - 1)
	i := int(h & uint64(2*m-1))
	if i >= n {
		i &= m - 1
	}
	return i
}

func (c *cold) bucket(id uint32) *bucket { return &c.roots[id>>rootShift].buckets[id&indexMax] }

// read returns a bucket's page, from memory or disk; nil if it has none.
func (c *cold) read(id uint32) ([]byte, error) {
	b := c.bucket(id)
	b.recent = true
	if b.page != nil || !b.stored {
		return b.page, nil
	}
	page, err := c.fetch(id)
	if err != nil {
		return nil, err
	}
	h, recs, err := readPage(page)
	if err == nil {
		err = checkRecords(h.keys, recs)
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %d: %w; restore the folder, or start over with --fresh", id, err)
	}
	c.evict(c.allow - int64(len(page)))
	c.hold(id, page)
	return page, nil
}

// hold keeps a page in memory.
func (c *cold) hold(id uint32, page []byte) {
	b := c.bucket(id)
	c.drop(b)
	b.page = page
	c.pages += int64(len(page))
	b.recent = true
	if !b.ringed {
		b.ringed = true
		c.ring = append(c.ring, id)
	}
}

func (c *cold) drop(b *bucket) {
	c.pages -= int64(len(b.page))
	b.page = nil
}

// evict drops pages that were not asked for lately until they take no more than so many bytes; those that are being written stay.
func (c *cold) evict(most int64) {
	for left := 2 * len(c.ring); c.pages > most && left > 0 && len(c.ring) > 0; left-- {
		if c.hand >= len(c.ring) {
			c.hand = 0
		}
		b := c.bucket(c.ring[c.hand])
		switch {
		case b.page != nil && b.flies:
			c.hand++
		case b.page != nil && b.recent:
			b.recent = false
			c.hand++
		default:
			c.drop(b)
			b.ringed = false
			n := len(c.ring) - 1
			c.ring[c.hand] = c.ring[n]
			c.ring = c.ring[:n]
		}
	}
}

// Where find found a key.
const (
	nowhere = iota
	inPage
	inTail
	hidden // the tail says that it is gone
)

// find looks a key up; rec is a view.
func (c *cold) find(id uint32, tag byte, key []byte) (due int64, rec []byte, where int, err error) {
	b := c.bucket(id)
	for rest := b.tail; len(rest) > 0; {
		var p packed
		if p, rest = pull(rest); !p.is(tag, key) {
			continue
		}
		if where = hidden; !p.gone {
			where = inTail
			due, rec = p.open(b.base)
		}
	}
	if where != nowhere {
		return due, rec, where, nil
	}
	if b.filter.lacks(key) {
		return 0, nil, nowhere, nil
	}
	page, err := c.read(id)
	if page == nil || err != nil {
		return 0, nil, nowhere, err
	}
	h, recs, _ := readPage(page)
	for len(recs) > 0 {
		var p packed
		if p, recs = pull(recs); p.is(tag, key) {
			due, rec = p.open(h.base)
			return due, rec, inPage, nil
		}
	}
	return 0, nil, nowhere, nil
}

// put adds a record to a bucket's tail.
func (c *cold) put(id uint32, tag byte, key []byte, due int64, rec []byte) {
	b := c.bucket(id)
	n := cap(b.tail)
	if len(b.tail) == 0 {
		b.base = due
		if n == 0 && c.goal >= 16*tailBytes {
			b.tail = make([]byte, 0, tailBytes)
		}
	}
	b.tail = appendPacked(b.tail, tag, key, due-b.base, rec)
	c.lengthen(id, cap(b.tail)-n)
	b.last = max(b.last, due)
}

// tailBytes is what a tail begins with, so that it need not grow so often.
const tailBytes = 256

// hide says in the tail that a key is gone.
func (c *cold) hide(id uint32, tag byte, key []byte) {
	b := c.bucket(id)
	n := cap(b.tail)
	b.tail = appendGone(b.tail, tag, key)
	c.lengthen(id, cap(b.tail)-n)
}

// lengthen notes that a tail has become longer, or shorter.
func (c *cold) lengthen(id uint32, n int) {
	c.tails += int64(n)
	c.roots[rootIn(id)].bytes += int64(n)
}

// each gives the records of a bucket that no newer one in it replaces.
func (c *cold) each(b *bucket, page []byte, give func(tag byte, key []byte, due int64, rec []byte)) {
	var tags [256]bool
	c.offs = c.offs[:0]
	for rest := b.tail; len(rest) > 0; {
		c.offs = append(c.offs, len(b.tail)-len(rest))
		tags[rest[0]] = true
		_, rest = pull(rest)
	}
	for i, at := range c.offs {
		p, rest := pull(b.tail[at:])
		if p.gone || i+1 < len(c.offs) && replaced(rest, p) {
			continue
		}
		due, rec := p.open(b.base)
		give(p.tag, p.key(), due, rec)
	}
	if page == nil {
		return
	}
	h, recs, _ := readPage(page)
	for len(recs) > 0 {
		var p packed
		if p, recs = pull(recs); tags[p.tag] && replaced(b.tail, p) {
			continue
		}
		due, rec := p.open(h.base)
		give(p.tag, p.key(), due, rec)
	}
}

// replaced says whether there is a record of the same key.
func replaced(tail []byte, p packed) bool {
	key := p.key()
	for len(tail) > 0 {
		var q packed
		if q, tail = pull(tail); q.is(p.tag, key) {
			return true
		}
	}
	return false
}

// changed notes that a bucket has changed in an epoch.
func (c *cold) changed(id uint32, epoch uint64) {
	b := c.bucket(id)
	if b.first != 0 {
		return
	}
	b.first = epoch
	at := len(c.queue)
	if at > 0 && c.queue[at-1].epoch > epoch { // the twin of an old one
		at, _ = slices.BinarySearchFunc(c.queue, epoch+1, func(x change, e uint64) int { return cmp.Compare(x.epoch, e) })
	}
	c.queue = slices.Insert(c.queue, at, change{id, epoch})
}

// oldest returns the longest changed bucket, and takes those off the queue that were written since they got there.
func (c *cold) oldest() (change, bool) {
	for len(c.queue) > 0 {
		if x := c.queue[0]; c.bucket(x.bucket).first == x.epoch {
			return x, true
		}
		c.queue = c.queue[1:]
	}
	return change{}, false
}

// replace makes page the bucket's page, which is on its way to the disk, and all that is packed of it.
func (c *cold) replace(id uint32, page []byte, h pageHead) {
	b := c.bucket(id)
	c.lengthen(id, -cap(b.tail))
	b.tail, b.first, b.last = nil, 0, h.max
	size := int64(len(page))
	c.roots[rootIn(id)].bytes += size - int64(b.size)
	c.stored += size - int64(b.size)
	b.size, b.stored, b.flies = int32(size), true, true
	c.filter(b, page)
	c.hold(id, page)
	c.flying = append(c.flying, id)
}

// filter makes the filter of a bucket's page.
func (c *cold) filter(b *bucket, page []byte) {
	h, recs, _ := readPage(page)
	c.rest -= int64(len(b.filter)) * 8
	b.filter = newKeyFilter(h.keys)
	c.rest += int64(len(b.filter)) * 8
	for len(recs) > 0 {
		var p packed
		p, recs = pull(recs)
		b.filter.add(p.key())
	}
}

// landed says that pages are on disk.
func (c *cold) landed() {
	for _, id := range c.flying {
		c.bucket(id).flies = false
	}
	c.flying = c.flying[:0]
	c.evict(c.allow)
}

// forget drops all that is packed of a bucket, which is over.
func (c *cold) forget(id uint32) {
	b := c.bucket(id)
	c.lengthen(id, -cap(b.tail))
	if b.tail, b.last = nil, operator.NegInf; b.page != nil {
		c.hold(id, emptyPage)
	}
}

var emptyPage = (&pageWriter{}).page()

// adopt takes in a page of the state that is being recovered; the last number of a root has how many buckets it has.
func (c *cold) adopt(id uint32, epoch uint64, page []byte) error {
	if rootIn(id) >= rootCount {
		return errPacked
	}
	if id&indexMax == indexMax {
		n, w := binary.Uvarint(page)
		if w <= 0 || n > indexMax {
			return errPacked
		}
		c.grow(&c.roots[rootIn(id)], int(n))
		c.roots[rootIn(id)].known = int(n)
		return nil
	}
	h, recs, err := readPage(page)
	if err == nil {
		err = checkRecords(h.keys, recs)
	}
	if err != nil {
		return errPacked
	}
	r := &c.roots[rootIn(id)]
	c.grow(r, int(id&indexMax)+1)
	b := c.bucket(id)
	b.stored, b.epoch, b.size = true, epoch, int32(len(page))
	b.wake, b.last = h.min, h.max
	c.filter(b, page)
	r.bytes += int64(len(page))
	c.stored += int64(len(page))
	if c.pages+int64(len(page)) <= c.allow {
		c.hold(id, slices.Clone(page))
	}
	return nil
}

func (c *cold) grow(r *root, n int) {
	from := cap(r.buckets)
	for len(r.buckets) < n {
		r.buckets = append(r.buckets, emptyBucket())
	}
	c.rest += int64(cap(r.buckets)-from) * int64(unsafe.Sizeof(bucket{}))
}
