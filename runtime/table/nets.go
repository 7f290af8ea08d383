package table

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// nets are networks as ranges: the addresses are cut where a network begins or ends, and of each piece it is known which is the
// smallest network that it is in. Addresses of 4 bytes are those of the first.
type nets struct{ four, six ranges }

// addr is an address, 4 bytes being the upper half of hi.
type addr struct{ hi, lo uint64 }

func (a addr) compare(b addr) int { return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo)) }

// next is the address behind; over: a is the last one.
func (a addr) next() (b addr, over bool) {
	b = addr{a.hi, a.lo + 1}
	if b.lo == 0 {
		b.hi++
	}
	return b, b == addr{}
}

// ipv4InIPv6 is where a database for both has the addresses of 4 bytes.
var ipv4InIPv6 = netip.IPv6Unspecified()

func addrOf(a netip.Addr) (x addr, four bool) {
	if a.Is4() {
		b := a.As4()
		return addr{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}, true
	}
	b := a.As16()
	return addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}, false
}

// ranges are pieces that follow one another. An index of about as many entries as there are pieces leads to a few of them, as far as
// addresses are spread evenly between the first and the last.
type ranges struct {
	short  bool     // of addresses of 4 bytes
	starts []uint64 // the upper half of where pieces begin; if short, the ref + 1 of a piece's network is in the lower bits, which are 0
	lows   []uint64 // the lower half; nil if all are 0
	refs   []uint32 // ref + 1 of a piece's network, unless short; 0: in none
	base   uint64   // the first start
	shift  uint8
	index  []uint32 // by (start - base) >> shift: how many pieces begin before it
}

// piece is where a range begins, and what it is in.
type piece struct {
	from addr
	ref  uint32
}

// prefix is a network that is being indexed.
type prefix struct {
	first addr
	ref   uint32 // + 1
	bits  uint8
}

func prefixOf(p netip.Prefix, ref uint32) (x prefix, four bool) {
	first, four := addrOf(p.Addr())
	return prefix{first, ref + 1, uint8(p.Bits())}, four
}

// last is the last address of a network.
func (p *prefix) last() addr {
	last := p.first
	if p.bits < 64 {
		last.hi |= ^uint64(0) >> p.bits
		last.lo = ^uint64(0)
	} else if p.bits < 128 {
		last.lo |= ^uint64(0) >> (p.bits - 64)
	}
	return last
}

// makeRanges cuts the addresses at the networks' ends. Two that are equal are returned instead, the later one first.
func makeRanges(all []prefix, short bool) (r ranges, twice []uint32) {
	r.short = short
	slices.SortFunc(all, func(a, b prefix) int {
		return cmp.Or(a.first.compare(b.first), cmp.Compare(a.bits, b.bits), cmp.Compare(a.ref, b.ref))
	})
	long := false
	for i := range all {
		if i > 0 && all[i].first == all[i-1].first && all[i].bits == all[i-1].bits {
			return r, []uint32{all[i].ref - 1, all[i-1].ref - 1}
		}
		long = long || all[i].bits > 64
	}
	n := 0
	cut(all, func(piece) { n++ })
	r.starts = make([]uint64, 0, n)
	if !short {
		r.refs = make([]uint32, 0, n)
	}
	if long {
		r.lows = make([]uint64, 0, n)
	}
	cut(all, r.add)
	r.finish()
	return r, nil
}

// cut gives the pieces of sorted networks, in order.
func cut(all []prefix, each func(p piece)) {
	type network struct {
		last addr
		ref  uint32
	}
	var open []network // each within the one before
	var now piece      // may still be of a smaller network that begins there
	began := false
	say := func(from addr, ref uint32) {
		if began && from != now.from {
			each(now)
		}
		now, began = piece{from, ref}, true
	}
	leave := func() { // the innermost ends
		next, over := open[len(open)-1].last.next()
		open = open[:len(open)-1]
		if over {
			return
		}
		ref := uint32(0)
		if n := len(open); n > 0 {
			ref = open[n-1].ref
		}
		say(next, ref)
	}
	for i := range all {
		for len(open) > 0 && open[len(open)-1].last.compare(all[i].first) < 0 {
			leave()
		}
		open = append(open, network{all[i].last(), all[i].ref})
		say(all[i].first, all[i].ref)
	}
	for len(open) > 0 {
		leave()
	}
	if began {
		each(now)
	}
}

// start is where a piece begins.
func (r *ranges) start(i int) addr {
	switch {
	case r.short:
		return addr{hi: r.starts[i] >> 32 << 32}
	case r.lows == nil:
		return addr{hi: r.starts[i]}
	}
	return addr{r.starts[i], r.lows[i]}
}

// ref is the ref + 1 of a piece's network.
func (r *ranges) ref(i int) uint32 {
	if r.short {
		return uint32(r.starts[i])
	}
	return r.refs[i]
}

func (r *ranges) add(p piece) {
	if r.short {
		r.starts = append(r.starts, p.from.hi|uint64(p.ref))
		return
	}
	if p.from.lo != 0 && r.lows == nil {
		r.lows = make([]uint64, len(r.starts))
	}
	if r.lows != nil {
		r.lows = append(r.lows, p.from.lo)
	}
	r.starts, r.refs = append(r.starts, p.from.hi), append(r.refs, p.ref)
}

// tiles are networks that come in order and do not overlap, on their way into ranges. Neighbours with the same row are one piece.
type tiles struct {
	*ranges
	next addr // what is behind the last one
	over bool // the last one ends with the last address
}

// add takes a network, 0 for one without row; false if it is not behind the last one.
func (t *tiles) add(first, last addr, ref uint32) bool {
	if len(t.starts) > 0 && (t.over || first.compare(t.next) < 0) {
		return false
	}
	if len(t.starts) > 0 && first != t.next {
		t.cut(t.next, 0)
	}
	t.cut(first, ref)
	t.next, t.over = last.next()
	return true
}

func (t *tiles) cut(from addr, ref uint32) {
	if n := len(t.starts); n == 0 || t.ref(n-1) != ref {
		t.ranges.add(piece{from, ref})
	}
}

// end makes the index.
func (t *tiles) end() {
	if len(t.starts) > 0 && !t.over {
		t.cut(t.next, 0)
	}
	t.starts, t.lows, t.refs = slices.Clone(t.starts), slices.Clone(t.lows), slices.Clone(t.refs)
	t.finish()
}

// finish makes the index.
func (r *ranges) finish() {
	if len(r.starts) == 0 {
		return
	}
	r.base = r.start(0).hi
	span := r.start(len(r.starts)-1).hi - r.base
	r.shift = uint8(max(0, bits.Len64(span)-bits.Len(uint(len(r.starts)))+1))
	r.index = make([]uint32, span>>r.shift+2)
	at := 0
	for b := range r.index {
		for at < len(r.starts) && (r.start(at).hi-r.base)>>r.shift < uint64(b) {
			at++
		}
		r.index[b] = uint32(at)
	}
}

// near returns between which pieces the one of an address is: it begins at or behind from - 1 and before to.
func (r *ranges) near(a addr) (from, to uint32) {
	if len(r.starts) == 0 || a.hi < r.base {
		return 0, 0
	}
	b := min((a.hi-r.base)>>r.shift, uint64(len(r.index)-2))
	return r.index[b], r.index[b+1]
}

// last returns the last piece that begins at or before an address, -1 for none.
func (r *ranges) last(a addr, from, to uint32) int {
	if r.short {
		for from < to {
			if middle := (from + to) / 2; r.starts[middle]>>32 <= a.hi>>32 {
				from = middle + 1
			} else {
				to = middle
			}
		}
		return int(from) - 1
	}
	for from < to {
		if middle := (from + to) / 2; r.start(int(middle)).compare(a) <= 0 {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return int(from) - 1
}

func (r *ranges) bytes() int64 {
	return int64(cap(r.starts)+cap(r.lows))*8 + int64(cap(r.refs)+cap(r.index))*4
}
