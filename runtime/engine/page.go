package engine

import (
	"encoding/binary"
	"errors"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// A page is the keys of a bucket, packed: a head, then a record a key in no order. A record is a byte of the key's hash, so that
// most others are passed over at a glance, the length of the rest, and of that the key, its due time and what the operator saved.
// Due times are kept as differences from a base, since those of a bucket are much alike.
//
//	page    flags u8 (1: whole) · base · min · max (varints; min and max from base) · keys (uvarint) · records
//	record  tag u8 · length<<1 | gone (uvarint) · key (length-prefixed) · due - base (varint) · saved
//
// A tail is such records without a head, in the order of time: the last of a key counts, and gone says that there is none.
type pageHead struct {
	whole          bool // a key that is due is over, unless there is a newer record
	base, min, max int64
	keys           int
}

var errPacked = errors.New("a page of keys is damaged")

// readPage takes a page apart and checks that every record can be walked.
func readPage(b []byte) (h pageHead, recs []byte, err error) {
	r := event.Reader{B: b}
	flags := r.Byte()
	h.whole = flags&1 != 0
	h.base = r.Int()
	h.min, h.max = h.base+r.Int(), h.base+r.Int()
	n := r.Uint()
	if r.Bad || flags > 1 || n > uint64(len(b)) {
		return h, nil, errPacked
	}
	h.keys = int(n)
	return h, r.B, nil
}

// checkRecords says whether there are so many records, and whole: what is in memory is walked without looking.
func checkRecords(keys int, b []byte) error {
	for ; len(b) > 0; keys-- {
		r := event.Reader{B: b[1:]}
		n := r.Uint()
		body := event.Reader{B: r.Take(n >> 1)}
		body.Bytes()
		if n&1 == 0 {
			body.Int()
		}
		if r.Bad || body.Bad {
			return errPacked
		}
		b = r.B
	}
	if keys != 0 {
		return errPacked
	}
	return nil
}

// packed is one record of a page or a tail; views.
type packed struct {
	tag  byte
	gone bool
	body []byte
}

// pull takes the first record off.
func pull(b []byte) (p packed, rest []byte) {
	n, w := uint64(b[1]), 1
	if n >= 0x80 {
		n, w = binary.Uvarint(b[1:])
	}
	from := 1 + w
	to := from + int(n>>1)
	return packed{b[0], n&1 != 0, b[from:to:to]}, b[to:]
}

func (p packed) key() []byte {
	n, w := uint64(p.body[0]), 1
	if n >= 0x80 {
		n, w = binary.Uvarint(p.body)
	}
	return p.body[w : w+int(n)]
}

// open returns the due time and what was saved.
func (p packed) open(base int64) (due int64, rec []byte) {
	n, w := binary.Uvarint(p.body)
	rest := p.body[w+int(n):]
	d, w := binary.Varint(rest)
	return base + d, rest[w:]
}

// is says whether the record is the key's.
func (p packed) is(tag byte, key []byte) bool { return p.tag == tag && string(p.key()) == string(key) }

func appendPacked(dst []byte, tag byte, key []byte, delta int64, rec []byte) []byte {
	n := uvarintLen(uint64(len(key))) + len(key) + varintLen(delta) + len(rec)
	dst = binary.AppendUvarint(append(dst, tag), uint64(n)<<1)
	dst = event.AppendBytes(dst, key)
	return append(binary.AppendVarint(dst, delta), rec...)
}

func appendGone(dst []byte, tag byte, key []byte) []byte {
	n := uvarintLen(uint64(len(key))) + len(key)
	dst = binary.AppendUvarint(append(dst, tag), uint64(n)<<1|1)
	return event.AppendBytes(dst, key)
}

func varintLen(v int64) int { return uvarintLen(uint64(v)<<1 ^ uint64(v>>63)) }

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// pageWriter collects the records of a page.
type pageWriter struct {
	pageHead
	recs []byte
}

func (p *pageWriter) reset(whole bool) {
	p.pageHead, p.recs = pageHead{whole: whole, min: operator.Never, max: operator.NegInf}, p.recs[:0]
}

func (p *pageWriter) add(tag byte, key []byte, due int64, rec []byte) {
	if p.keys == 0 {
		p.base = due
	}
	p.keys++
	p.min, p.max = min(p.min, due), max(p.max, due)
	p.recs = appendPacked(p.recs, tag, key, due-p.base, rec)
}

// page returns the page. One without keys is a page too: it says that what the log has of its keys is over.
func (p *pageWriter) page() []byte {
	var head [1 + 4*binary.MaxVarintLen64]byte
	head[0] = 0
	if p.whole {
		head[0] = 1
	}
	b := binary.AppendVarint(head[:1], p.base)
	b = binary.AppendVarint(binary.AppendVarint(b, p.min-p.base), p.max-p.base)
	b = binary.AppendUvarint(b, uint64(p.keys))
	return append(append(make([]byte, 0, len(b)+len(p.recs)), b...), p.recs...)
}
