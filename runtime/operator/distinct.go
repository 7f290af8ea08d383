package operator

import (
	"encoding/binary"
	"math"
	mathbits "math/bits"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// distinct is the values that a count_distinct has seen: a set of them up to DistinctMax, and from then on a HyperLogLog
// sketch, whose standard error is 0.81 %. Which of both it is, and every register of the sketch, follows from the values
// alone, so neither their order nor how they were grouped shows.
type distinct struct {
	set    map[string]struct{} // as known has them
	sketch []byte              // registers; nil: the set is all there is
	guess  int64               // what the sketch says; -1: not worked out since it changed
}

const (
	sketchBits = 14              // of a value's hash choose its register
	sketchSize = 1 << sketchBits // registers, a byte each
	rankMax    = 64 - sketchBits + 1
	knownMax   = 32 // bytes of a canonical key that stands for itself
)

// known is what stands for a value: its canonical key, or if that is long 128 bits of SHA-256 over it, so that values of any
// length take bounded memory. No canonical key begins with an h.
func known(dst, key []byte) []byte {
	if len(key) <= knownMax {
		return append(dst, key...)
	}
	id := event.Hash(key)
	return append(append(dst, 'h'), id[:]...)
}

func (d *distinct) add(key []byte) {
	var scratch [knownMax]byte
	d.put(known(scratch[:0], key))
}

func (d *distinct) put(k []byte) {
	if d.sketch != nil {
		d.mark(k)
		return
	}
	if _, ok := d.set[string(k)]; ok {
		return
	}
	if len(d.set) == DistinctMax {
		d.toSketch()
		d.mark(k)
		return
	}
	if d.set == nil {
		d.set = map[string]struct{}{}
	}
	d.set[string(k)] = struct{}{}
}

func (d *distinct) toSketch() {
	d.sketch, d.guess = make([]byte, sketchSize), -1
	for k := range d.set {
		d.mark([]byte(k))
	}
	d.set = nil
}

// mark takes a value into the sketch: its register keeps the longest run of zeros that a hash had.
func (d *distinct) mark(k []byte) {
	id := event.Hash(k)
	h := binary.BigEndian.Uint64(id[:])
	rank := byte(mathbits.LeadingZeros64(h<<sketchBits|1<<(sketchBits-1)) + 1)
	if r := &d.sketch[h>>(64-sketchBits)]; *r < rank {
		*r, d.guess = rank, -1
	}
}

// merge adds the values of y, which it leaves as it is.
func (d *distinct) merge(y *distinct) {
	for k := range y.set {
		d.put([]byte(k))
	}
	if y.sketch == nil {
		return
	}
	if d.sketch == nil {
		d.toSketch()
	}
	for i, rank := range y.sketch {
		if d.sketch[i] < rank {
			d.sketch[i], d.guess = rank, -1
		}
	}
}

func (d *distinct) count() int64 {
	if d.sketch == nil {
		return int64(len(d.set))
	}
	if d.guess < 0 {
		d.guess = estimate(d.sketch)
	}
	return d.guess
}

// estimate is the improved estimator of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017),
// which needs neither tables nor a special case for small numbers.
func estimate(sketch []byte) int64 {
	var of [rankMax + 1]float64 // registers by rank
	for _, rank := range sketch {
		of[rank]++
	}
	const m = float64(sketchSize)
	z := m * tau(1-of[rankMax]/m)
	for k := rankMax - 1; k > 0; k-- {
		z = (z + of[k]) / 2
	}
	z += m * sigma(of[0]/m)
	return int64(math.Round(m * m / (2 * math.Ln2 * z)))
}

func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	y, z := 1.0, x
	for {
		x *= x
		was := z
		if z += x * y; z == was {
			return z
		}
		y += y
	}
}

func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	y, z := 1.0, 1-x
	for {
		x = math.Sqrt(x)
		was := z
		y /= 2
		if z -= (1 - x) * (1 - x) * y; z == was {
			return z / 3
		}
	}
}

// save writes the set, or no value and then the registers.
func (d *distinct) save(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(d.set)))
	for k := range d.set {
		dst = event.AppendBytes(dst, []byte(k))
	}
	return append(dst, d.sketch...)
}

func (d *distinct) load(r *event.Reader) {
	n := r.Uint()
	if n == 0 {
		d.sketch, d.guess = append([]byte{}, r.Take(sketchSize)...), -1
		for _, rank := range d.sketch {
			r.Bad = r.Bad || rank > rankMax
		}
		return
	}
	for ; n > 0 && !r.Bad; n-- {
		d.add(r.Bytes())
	}
}
