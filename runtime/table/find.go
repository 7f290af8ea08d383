package table

import (
	"bytes"
	"hash/maphash"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Finder looks values up, many at once: each look-up waits for memory two or three times, and those of different values do not wait
// for one another. For one goroutine.
type Finder struct {
	rows  []Row
	keys  []byte // canonical, one behind the other
	asked [Group]asked
	sink  uint64
}

// Group is how many values are looked up together: what is fetched for them stays in the fastest cache, if their rows are read at once.
const Group = 64

// asked is a value on its way.
type asked struct {
	from, to uint32 // of the key; of an address: between which pieces
	hash     uint64
	addr     addr
	ranges   *ranges
	ref      uint32 // + 1
}

// Find returns for each value the row whose key it is, or the smallest network that it is in. The rows are good until the next call.
func (f *Finder) Find(t *Table, values []event.Value) []Row {
	f.rows = f.rows[:0]
	for len(values) > 0 {
		n := min(len(values), Group)
		if t.nets != nil {
			f.addresses(t, values[:n])
		} else {
			f.exact(t, values[:n])
		}
		values = values[n:]
	}
	return f.rows
}

func (f *Finder) exact(t *Table, values []event.Value) {
	f.keys = f.keys[:0]
	all := f.asked[:len(values)]
	for i, v := range values {
		from := len(f.keys)
		f.keys = t.appendKey(f.keys, v)
		all[i] = asked{from: uint32(from), to: uint32(len(f.keys)), hash: maphash.Bytes(t.seed, f.keys[from:])}
	}
	if len(t.slots) > 0 {
		var sum uint64
		for i := range all {
			sum += t.slots[t.home(all[i].hash)]
		}
		f.sink = sum // or nothing would be fetched
		for i := range all {
			if all[i].to > all[i].from {
				all[i].ref, _ = t.probe(all[i].hash, t.home(all[i].hash))
			}
		}
	}
	f.fetch(t, all)
	for i := range all {
		a := &all[i]
		r := Row{key: int(a.to - a.from)}
		if key := f.keys[a.from:a.to]; a.ref > 0 {
			if r.data = t.at(a.ref - 1); !bytes.HasPrefix(r.data, key) { // a key says how long it is
				r.data = t.exact(key, a.hash)
			}
		}
		f.rows = append(f.rows, r)
	}
}

// appendKey appends the key that a value is looked up by, nothing if no row can have it.
func (t *Table) appendKey(dst []byte, v event.Value) []byte {
	from := len(dst)
	switch {
	case v.Missing():
		return dst
	case !t.texts || v.Kind == event.String:
		return event.AppendKey(dst, v)
	case v.Kind == event.Bool:
		return event.AppendKey(dst, event.Value{Kind: event.String, Text: v.Text})
	case v.Kind == event.Number: // however it is written
		dst = event.AppendKey(dst, v)
		n, _, _ := event.ReadKey(dst[from:])
		text := string(n.Text)
		return event.AppendKey(dst[:from], event.Value{Kind: event.String, Text: []byte(text)})
	}
	return dst
}

func (f *Finder) addresses(t *Table, values []event.Value) {
	all := f.asked[:len(values)]
	for i, v := range values {
		all[i] = asked{}
		a, ok := match.ParseAddr(v.Text)
		if v.Kind != event.String || !ok {
			continue
		}
		x, four := addrOf(a.Unmap())
		if all[i].addr, all[i].ranges = x, &t.nets.six; four {
			all[i].ranges = &t.nets.four
		}
	}
	for i := range all {
		if a := &all[i]; a.ranges != nil {
			a.from, a.to = a.ranges.near(a.addr)
		}
	}
	var sum uint64
	for i := range all {
		if a := &all[i]; a.from < a.to {
			sum += a.ranges.starts[a.from]
		}
	}
	f.sink = sum
	for i := range all {
		if a := &all[i]; a.ranges != nil {
			if at := a.ranges.last(a.addr, a.from, a.to); at >= 0 {
				a.ref = a.ranges.ref(at)
			}
		}
	}
	f.fetch(t, all)
	for i := range all {
		r := Row{}
		if ref := all[i].ref; ref > 0 {
			r.data = t.at(ref - 1)
		}
		f.rows = append(f.rows, r)
	}
}

// fetch touches the rows that were found.
func (f *Finder) fetch(t *Table, all []asked) {
	var sum uint64
	for i := range all {
		if ref := all[i].ref; ref > 0 {
			row := t.at(ref - 1)
			sum += uint64(row[0]) + uint64(row[min(t.reach, len(row)-1)])
		}
	}
	f.sink = sum
}
