package operator

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// top counts values: exactly while no more than TopExact different ones have come, of TopBytes together; beyond that it is a
// summary after Misra and Gries. When it is full, the median of its counts is taken off each and those at or below it are
// forgotten. Summaries merge by adding up. All counts may then be too low by as much as was taken off, which is at most a
// five-hundredth of all rows, more only if the values are long; a value that is not in it has not come more often than that.
type top struct {
	at    map[string]int32 // canonical key -> place in list
	list  []counted
	bytes int   // of the keys
	lost  int64 // what was taken off counts
}

type counted struct {
	key string
	n   int64
}

// Limits of a top_k of one key and window.
const (
	TopExact   = 1_000    // different values that are counted exactly
	TopBytes   = 64 << 10 // of them together
	TopValue   = 1 << 10  // the longest; longer ones are left out, and the row is marked truncated
	TopDefault = 10       // values that it lists, if it does not say
	TopMax     = 100      // and may ask for
)

func (t *top) add(key []byte, n int64) {
	if i, ok := t.at[string(key)]; ok {
		t.list[i].n += n
		return
	}
	if t.at == nil {
		t.at = map[string]int32{}
	}
	k := string(key)
	t.at[k] = int32(len(t.list))
	t.list = append(t.list, counted{k, n})
	t.bytes += len(k)
}

// shrink makes room if it is needed. What stays does not depend on the order of the list.
func (t *top) shrink() {
	for len(t.list) > TopExact || t.bytes > TopBytes {
		ns := make([]int64, len(t.list))
		for i := range t.list {
			ns[i] = t.list[i].n
		}
		slices.Sort(ns)
		off := ns[(len(ns)-1)/2]
		was := t.list
		t.list, t.bytes = make([]counted, 0, len(was)/2), 0
		clear(t.at)
		for _, c := range was {
			if c.n > off {
				t.add([]byte(c.key), c.n-off)
			}
		}
		t.lost += off
	}
}

// merge adds what y has counted, which it leaves as it is.
func (t *top) merge(y *top) {
	for _, c := range y.list {
		t.add([]byte(c.key), c.n)
	}
	t.lost += y.lost
	t.shrink()
}

// appendJSON lists the k values with the highest counts, of equal counts numbers first, by value, then texts.
func (t *top) appendJSON(dst []byte, k int) []byte {
	list := slices.Clone(t.list)
	slices.SortFunc(list, func(a, b counted) int {
		if a.n != b.n {
			return cmp.Compare(b.n, a.n)
		}
		x, _, _ := event.ReadKey([]byte(a.key))
		y, _, _ := event.ReadKey([]byte(b.key))
		return cmp.Or(order(x, y), cmp.Compare(a.key, b.key))
	})
	dst = append(dst, '[')
	for i, c := range list[:min(k, len(list))] {
		if i > 0 {
			dst = append(dst, ',')
		}
		v, _, _ := event.ReadKey([]byte(c.key))
		dst = v.AppendJSON(append(dst, `{"value":`...))
		dst = strconv.AppendInt(append(dst, `,"count":`...), c.n, 10)
		if t.lost > 0 {
			dst = strconv.AppendInt(append(dst, `,"error":`...), t.lost, 10)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func (t *top) save(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(t.lost))
	dst = binary.AppendUvarint(dst, uint64(len(t.list)))
	for _, c := range t.list {
		dst = binary.AppendUvarint(event.AppendBytes(dst, []byte(c.key)), uint64(c.n))
	}
	return dst
}

func (t *top) load(r *event.Reader) {
	t.lost = int64(r.Uint())
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		key := r.Bytes()
		_, rest, err := event.ReadKey(key)
		count := int64(r.Uint())
		if err != nil || len(rest) > 0 || count <= 0 {
			r.Bad = true
		}
		t.add(key, count)
	}
	if t.lost < 0 || len(t.list) > TopExact || t.bytes > TopBytes {
		r.Bad = true
	}
}
