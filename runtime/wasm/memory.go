package wasm

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// Memory is what a plugin remembers of one key: values, maps and timers. The zero Memory remembers nothing. All times are epoch
// milliseconds of event time.
type Memory struct {
	slots  []slotMemory // by the manifest's slots; nil until one is written
	timers []Timer      // by due time and tag
	size   int          // bytes that count for the key's share
	of     int          // the version of the manifest's state that wrote it
}

// slotMemory is a value, or a map.
type slotMemory struct {
	value   []byte // nil: none
	expires int64  // of a map: no entry expires earlier
	last    int64  // of a map: when its last entry does
	entries []entry
}

// entry is a pair of a map. Entries are sorted by key.
type entry struct {
	pair    []byte // the key, then the value
	key     int    // bytes of the key
	expires int64
}

func (e *entry) name() []byte  { return e.pair[:e.key] }
func (e *entry) value() []byte { return e.pair[e.key:] }

// Timer is a timer of a key: At is what was asked for, Due when it fires: later, if the watermark had passed At.
type Timer struct{ Due, At, Tag int64 }

func (t Timer) compare(o Timer) int {
	return cmp.Or(cmp.Compare(t.Due, o.Due), cmp.Compare(t.Tag, o.Tag))
}

// The ends of time: what never expires, and the watermark of before and after all.
const (
	noWatermark = math.MinInt64
	endOfTime   = math.MaxInt64 - 1
	never       = math.MaxInt64
)

// each value, entry and timer counts so many bytes beside its own.
const entryBase = 32

// Next is when a timer is due, or everything that is remembered has expired: what expires before that is not seen any more, but stays.
// endOfTime: it is kept for ever. math.MaxInt64: there is nothing.
func (m *Memory) Next() int64 {
	next := int64(noWatermark)
	for i := range m.slots {
		if s := &m.slots[i]; s.value != nil {
			next = max(next, s.expires)
		} else if len(s.entries) > 0 {
			next = max(next, s.last)
		}
	}
	if next == noWatermark {
		next = never
	}
	if len(m.timers) > 0 {
		next = min(next, m.timers[0].Due)
	}
	return next
}

// Waits says whether a timer waits.
func (m *Memory) Waits() bool { return len(m.timers) > 0 }

// Forget drops what expires by w.
func (m *Memory) Forget(w int64) {
	for i := range m.slots {
		if s := &m.slots[i]; s.expires <= w {
			if s.value != nil {
				m.size -= entryBase + len(s.value)
				s.value = nil
			}
			m.prune(s, w, nil)
		}
	}
}

// Due appends the timers that are due by w to dst, in order, and takes them from the key.
func (m *Memory) Due(dst []Timer, w int64) []Timer {
	n := 0
	for n < len(m.timers) && m.timers[n].Due <= w {
		n++
	}
	dst = append(dst, m.timers[:n]...)
	m.timers = slices.Delete(m.timers, 0, n)
	m.size -= n * entryBase
	return dst
}

// Clear makes it remember nothing; it keeps a little memory.
func (m *Memory) Clear() {
	for i := range m.slots {
		m.slots[i] = slotMemory{}
	}
	m.timers, m.size, m.of = m.timers[:0], 0, 0
}

// Version is the version of the module's state that wrote it.
func (m *Memory) Version() int { return m.of }

// Old says whether it was written by an earlier version of the module's state.
func (m *Memory) Old(layout *abi.State) bool { return m.of != layout.Version && m.Next() != never }

// prune drops the entries of a map that expire by w, and finds the earliest time of the others.
func (m *Memory) prune(s *slotMemory, w int64, gone func(e entry)) {
	if len(s.entries) == 0 || s.expires > w {
		return
	}
	s.expires = never // the last one's time stays what it was, or all go
	s.entries = slices.DeleteFunc(s.entries, func(e entry) bool {
		if e.expires > w {
			s.expires = min(s.expires, e.expires)
			return false
		}
		m.size -= entryBase + len(e.pair)
		if gone != nil {
			gone(e)
		}
		return true
	})
}

// slot returns a slot to write, of n.
func (m *Memory) slot(i, n int) *slotMemory {
	if m.slots == nil {
		m.slots = make([]slotMemory, n)
	}
	return &m.slots[i]
}

// find is the place of a map's key, or where it would be.
func (s *slotMemory) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(s.entries, key, func(e entry, key []byte) int { return bytes.Compare(e.name(), key) })
}

// The parts of a record.
const (
	recordValue = 'v'
	recordMap   = 'm'
	recordTimer = 't'
	recordOf    = 'n'
)

// Append appends everything that it remembers, by the slots of a manifest.
func (m *Memory) Append(dst []byte, layout *abi.State) []byte {
	if m.Next() == never {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, recordOf), uint64(m.of))
	for i := range m.slots {
		s := &m.slots[i]
		id := byte(layout.Slots[i].ID)
		if s.value != nil {
			dst = appendTime(append(dst, recordValue, id), s.expires)
			dst = event.AppendBytes(dst, s.value)
		}
		if len(s.entries) > 0 {
			dst = binary.AppendUvarint(append(dst, recordMap, id), uint64(len(s.entries)))
			for k := range s.entries {
				e := &s.entries[k]
				dst = appendTime(dst, e.expires)
				dst = event.AppendBytes(event.AppendBytes(dst, e.name()), e.value())
			}
		}
	}
	for _, t := range m.timers {
		dst = binary.AppendVarint(append(dst, recordTimer), t.Due)
		dst = binary.AppendVarint(dst, t.At-t.Due)
		dst = binary.AppendVarint(dst, t.Tag)
	}
	return dst
}

// appendTime writes when something expires; most is kept for ever or has a time that is much shorter than that.
func appendTime(dst []byte, t int64) []byte {
	if t == endOfTime {
		return append(dst, 0)
	}
	return binary.AppendVarint(append(dst, 1), t)
}

func readTime(r *event.Reader) int64 {
	switch r.Byte() {
	case 0:
		return endOfTime
	case 1:
		return r.Int()
	}
	r.Bad = true
	return 0
}

var errMemory = errors.New("what a plugin remembers is damaged")

// Load replaces what it remembers by a record of Append. What was in a slot that the manifest no longer has is dropped; a
// record that is damaged is an error.
func (m *Memory) Load(rec []byte, layout *abi.State) error {
	m.Clear()
	r := event.Reader{B: rec}
	if r.Bad = r.Byte() != recordOf; !r.Bad {
		m.of = int(r.Uint())
		r.Bad = r.Bad || m.of < 1 || m.of > layout.Version
	}
	for len(r.B) > 0 && !r.Bad {
		switch kind := r.Byte(); kind {
		case recordValue:
			m.loadValue(&r, layout)
		case recordMap:
			m.loadMap(&r, layout)
		case recordTimer:
			t := Timer{Due: r.Int()}
			t.At, t.Tag = r.Int()+t.Due, r.Int()
			if n := len(m.timers); n > 0 && m.timers[n-1].compare(t) >= 0 || n == 1024 || t.Due >= endOfTime {
				r.Bad = true
			}
			m.timers = append(m.timers, t)
			m.size += entryBase
		default:
			r.Bad = true
		}
	}
	if r.Bad {
		m.Clear()
		return errMemory
	}
	return nil
}

// place is the slot of a record's part, nil if the manifest has none of that id and kind.
func (m *Memory) place(id byte, isMap bool, layout *abi.State) *slotMemory {
	i := layout.Slot(uint32(id))
	if i < 0 || layout.Slots[i].Map != isMap {
		return nil
	}
	return m.slot(i, len(layout.Slots))
}

func (m *Memory) loadValue(r *event.Reader, layout *abi.State) {
	s := m.place(r.Byte(), false, layout)
	expires, value := readTime(r), r.Bytes()
	if r.Bad || s == nil {
		return
	}
	if s.value != nil {
		r.Bad = true
		return
	}
	s.value, s.expires = append(make([]byte, 0, max(len(value), 8)), value...), expires
	m.size += entryBase + len(value)
}

func (m *Memory) loadMap(r *event.Reader, layout *abi.State) {
	s := m.place(r.Byte(), true, layout)
	n := r.Uint()
	if s != nil && len(s.entries) > 0 || n > uint64(len(r.B)) {
		r.Bad = true
		return
	}
	for range n {
		e := entry{expires: readTime(r)}
		key, value := r.Bytes(), r.Bytes()
		if r.Bad || s == nil {
			continue
		}
		e.pair, e.key = append(append(make([]byte, 0, len(key)+len(value)), key...), value...), len(key)
		if k := len(s.entries); k == 0 {
			s.expires, s.last = e.expires, e.expires
		} else if bytes.Compare(s.entries[k-1].name(), key) >= 0 {
			r.Bad = true
			return
		}
		s.expires, s.last = min(s.expires, e.expires), max(s.last, e.expires)
		s.entries = append(s.entries, e)
		m.size += entryBase + len(e.pair)
	}
}
