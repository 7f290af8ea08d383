package operator

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// quantiles is a DDSketch (Masson, Rim and Lee, 2019): numbers fall into bins whose bounds grow by a factor, and a bin stands
// for a number close to everything in it. What it says has four digits, and with these is within 1 %. Bins hold whole
// counts, so neither the order of rows nor how they were grouped shows.
type quantiles struct {
	below, above bins // of the sizes of negative and positive numbers
	zeros        int64
	low, high    float64 // the least and greatest number
}

// bins are counts by index, ascending. Of more than binsMax indices in a row the lowest become one: numbers 10^33 times
// smaller than the largest lose their accuracy, and the row is marked truncated.
type bins []bin

type bin struct {
	index int32
	n     int64
}

const (
	accuracy = 0.0094 // the relative error of a bin; four digits add 0.0005 to it
	binsMax  = 4096
)

// step is the logarithm of the factor from one bin's bound to the next.
var binStep = math.Log((1 + accuracy) / (1 - accuracy))

func binOf(size float64) int32 { return int32(math.Ceil(math.Log(size) / binStep)) }

// sizeOf is as far from the bin's lower bound as from the upper one, in relation to them.
func sizeOf(index int32) float64 { return math.Exp(float64(index)*binStep) * (1 - accuracy) }

// add takes n numbers into a bin and says whether it was too low for one of its own, or pushes others there.
func (b *bins) add(index int32, n int64) (cut bool) {
	if last := len(*b) - 1; last >= 0 {
		if least := (*b)[last].index - binsMax + 1; index < least {
			index, cut = least, true
		} else if index > (*b)[last].index {
			cut = b.raise(index - binsMax + 1)
		}
	}
	i, ok := b.find(index)
	if !ok {
		*b = slices.Insert(*b, i, bin{index, 0})
	}
	(*b)[i].n += n
	return cut
}

func (b *bins) find(index int32) (int, bool) {
	return slices.BinarySearchFunc(*b, index, func(x bin, t int32) int { return int(x.index) - int(t) })
}

// raise makes least the lowest index and says whether a lower one was there.
func (b *bins) raise(least int32) (cut bool) {
	i, ok := b.find(least)
	if i == 0 {
		return false
	}
	var n int64
	for _, x := range (*b)[:i] {
		n += x.n
	}
	if !ok {
		i--
		(*b)[i] = bin{least, 0}
	}
	(*b)[i].n += n
	*b = slices.Delete(*b, 0, i)
	return true
}

func (b *bins) merge(y bins) (cut bool) {
	for _, x := range y {
		cut = b.add(x.index, x.n) || cut
	}
	return cut
}

func (q *quantiles) add(v float64, first bool) (cut bool) {
	if first {
		q.low, q.high = v, v
	}
	q.low, q.high = min(q.low, v), max(q.high, v)
	switch {
	case v > 0:
		return q.above.add(binOf(v), 1)
	case v < 0:
		return q.below.add(binOf(-v), 1)
	}
	q.zeros++
	return false
}

func (q *quantiles) merge(y *quantiles, first bool) (cut bool) {
	if first {
		q.low, q.high = y.low, y.high
	}
	q.low, q.high = min(q.low, y.low), max(q.high, y.high)
	q.zeros += y.zeros
	cut = q.below.merge(y.below)
	return q.above.merge(y.above) || cut
}

// at is the number whose place, in ascending order from 0, is the given one of n.
func (q *quantiles) at(place, n int64) float64 {
	switch {
	case place == 0:
		return q.low
	case place == n-1:
		return q.high
	}
	v, _ := strconv.ParseFloat(strconv.FormatFloat(q.within(place), 'e', 3, 64), 64)
	return min(max(v, q.low), q.high)
}

func (q *quantiles) within(place int64) float64 {
	for _, x := range slices.Backward(q.below) {
		if place -= x.n; place < 0 {
			return -sizeOf(x.index)
		}
	}
	if place -= q.zeros; place < 0 {
		return 0
	}
	for _, x := range q.above {
		if place -= x.n; place < 0 {
			return sizeOf(x.index)
		}
	}
	return q.high
}

func (q *quantiles) save(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(q.low))
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(q.high))
	dst = binary.AppendUvarint(dst, uint64(q.zeros))
	for _, b := range []bins{q.below, q.above} {
		dst = binary.AppendUvarint(dst, uint64(len(b)))
		var at int32
		for _, x := range b {
			dst = binary.AppendVarint(dst, int64(x.index-at))
			dst = binary.AppendUvarint(dst, uint64(x.n))
			at = x.index
		}
	}
	return dst
}

// load reads what was saved of n numbers.
func (q *quantiles) load(r *event.Reader, n int64) {
	q.low, q.high = math.Float64frombits(r.Uint64()), math.Float64frombits(r.Uint64())
	q.zeros = int64(r.Uint())
	left := n - q.zeros
	for _, b := range []*bins{&q.below, &q.above} {
		at := int64(0)
		for k := r.Uint(); k > 0 && !r.Bad; k-- {
			step, of := r.Int(), int64(r.Uint())
			if at += step; of <= 0 || of > left || len(*b) > 0 && step <= 0 || at < -1<<20 || at > 1<<20 {
				r.Bad = true
				return
			}
			left -= of
			*b = append(*b, bin{int32(at), of})
		}
		if m := len(*b); m > 0 && (*b)[m-1].index-(*b)[0].index >= binsMax {
			r.Bad = true
		}
	}
	if left != 0 || q.zeros < 0 || !(q.low <= q.high) || math.IsInf(q.low, 0) || math.IsInf(q.high, 0) {
		r.Bad = true
	}
}
