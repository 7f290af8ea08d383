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
	hi    []uint64 // where pieces begin
	lo    []uint64 // likewise; nil if all are 0
	refs  []uint32 // ref + 1 of a piece's network; 0: in none
	base  uint64   // the first hi
	shift uint8
	index []uint32 // by (hi - base) >> shift: how many pieces begin before it
}

// piece is where a range begins, and what it is in.
type piece struct {
	from addr
	ref  uint32
}

// prefix is a network that is being indexed.
type prefix struct {
	first, last addr
	bits        uint8
	ref         uint32 // + 1
}

func prefixOf(p netip.Prefix, ref uint32) (x prefix, four bool) {
	first, four := addrOf(p.Addr())
	wide := p.Bits()
	x = prefix{first: first, last: first, bits: uint8(wide), ref: ref + 1}
	if wide < 64 {
		x.last.hi |= ^uint64(0) >> wide
		x.last.lo = ^uint64(0)
	} else if wide < 128 {
		x.last.lo |= ^uint64(0) >> (wide - 64)
	}
	return x, four
}

// makeRanges cuts the addresses at the networks' ends. Two that are equal are returned instead, the later one first.
func makeRanges(all []prefix) (r ranges, twice []uint32) {
	slices.SortFunc(all, func(a, b prefix) int {
		return cmp.Or(a.first.compare(b.first), cmp.Compare(a.bits, b.bits), cmp.Compare(a.ref, b.ref))
	})
	for i := 1; i < len(all); i++ {
		if all[i].first == all[i-1].first && all[i].bits == all[i-1].bits {
			return r, []uint32{all[i].ref - 1, all[i-1].ref - 1}
		}
	}
	var open []prefix // each within the one before
	cut := func(from addr, ref uint32) {
		if n := len(r.hi); n > 0 && r.start(n-1) == from {
			r.refs[n-1] = ref
			return
		}
		r.add(piece{from, ref})
	}
	leave := func() { // the innermost ends
		last := open[len(open)-1].last
		open = open[:len(open)-1]
		next, over := last.next()
		if over {
			return
		}
		ref := uint32(0)
		if n := len(open); n > 0 {
			ref = open[n-1].ref
		}
		cut(next, ref)
	}
	for _, p := range all {
		for len(open) > 0 && open[len(open)-1].last.compare(p.first) < 0 {
			leave()
		}
		open = append(open, p)
		cut(p.first, p.ref)
	}
	for len(open) > 0 {
		leave()
	}
	r.finish()
	return r, nil
}

func (r *ranges) start(i int) addr {
	if r.lo == nil {
		return addr{hi: r.hi[i]}
	}
	return addr{r.hi[i], r.lo[i]}
}

func (r *ranges) add(p piece) {
	if p.from.lo != 0 && r.lo == nil {
		r.lo = make([]uint64, len(r.hi))
	}
	if r.lo != nil {
		r.lo = append(r.lo, p.from.lo)
	}
	r.hi, r.refs = append(r.hi, p.from.hi), append(r.refs, p.ref)
}

// tiles are networks that come in order and do not overlap, on their way into ranges. Neighbours with the same row are one piece.
type tiles struct {
	*ranges
	next addr // what is behind the last one
	over bool // the last one ends with the last address
}

// add takes a network, 0 for one without row; false if it is not behind the last one.
func (t *tiles) add(first, last addr, ref uint32) bool {
	if len(t.hi) > 0 && (t.over || first.compare(t.next) < 0) {
		return false
	}
	if len(t.hi) > 0 && first != t.next {
		t.cut(t.next, 0)
	}
	t.cut(first, ref)
	t.next, t.over = last.next()
	return true
}

func (t *tiles) cut(from addr, ref uint32) {
	if n := len(t.refs); n == 0 || t.refs[n-1] != ref {
		t.ranges.add(piece{from, ref})
	}
}

// end makes the index.
func (t *tiles) end() {
	if len(t.hi) > 0 && !t.over {
		t.cut(t.next, 0)
	}
	t.finish()
}

// finish makes the index.
func (r *ranges) finish() {
	r.hi, r.lo, r.refs = slices.Clone(r.hi), slices.Clone(r.lo), slices.Clone(r.refs)
	if len(r.hi) == 0 {
		return
	}
	r.base = r.hi[0]
	span := r.hi[len(r.hi)-1] - r.base
	r.shift = uint8(max(0, bits.Len64(span)-bits.Len(uint(len(r.hi)))+1))
	r.index = make([]uint32, span>>r.shift+2)
	at := 0
	for b := range r.index {
		for at < len(r.hi) && (r.hi[at]-r.base)>>r.shift < uint64(b) {
			at++
		}
		r.index[b] = uint32(at)
	}
}

// near returns between which pieces the one of an address is: it begins at or behind from - 1 and before to.
func (r *ranges) near(a addr) (from, to uint32) {
	if len(r.hi) == 0 || a.hi < r.base {
		return 0, 0
	}
	b := min((a.hi-r.base)>>r.shift, uint64(len(r.index)-2))
	return r.index[b], r.index[b+1]
}

// last returns the last piece that begins at or before an address, -1 for none.
func (r *ranges) last(a addr, from, to uint32) int {
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
	return int64(cap(r.hi)+cap(r.lo))*8 + int64(cap(r.refs)+cap(r.index))*4
}
