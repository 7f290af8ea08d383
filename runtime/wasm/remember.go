package wasm

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/tetratelabs/wazero/api"

	"github.com/seed-98920119/tocsin/abi"
)

// Keys finds what a plugin remembers of the keys of rows. It is called in the course of a guest's call, for one goroutine.
type Keys interface {
	// Look returns what is remembered of the row's key, nil if nothing is.
	Look(r *Row) *Memory
	// Open is Look for what is about to change; nil if there may be no more keys.
	Open(r *Row) *Memory
	// Settle says that the call is over: everything that Open returned since the last Settle is as it will be.
	Settle()
}

// ledger is how the changes of a call are taken back if it fails: what was there before each, the newest last.
type ledger struct {
	undo  []change
	bytes []byte // of old values and keys
}

// change is what was there before a change.
type change struct {
	m        *Memory
	kind     uint8
	slot     int
	key, old []byte // key of a map; old: nil if there was none
	expires  int64
	timer    Timer // of the tag; At is what kept says
	kept     bool  // there was a timer
}

const (
	changedValue = iota
	changedEntry
	changedTimer
)

func (l *ledger) keep(b []byte) []byte {
	from := len(l.bytes)
	l.bytes = append(l.bytes, b...)
	return l.bytes[from:len(l.bytes):len(l.bytes)]
}

// commit lets the changes stand.
func (l *ledger) commit() { l.undo, l.bytes = l.undo[:0], l.bytes[:0] }

// rollback takes the changes back.
func (l *ledger) rollback() {
	for i := len(l.undo) - 1; i >= 0; i-- {
		x := &l.undo[i]
		switch s := x.m.slots; x.kind {
		case changedValue:
			x.m.setValue(&s[x.slot], x.old, x.expires)
		case changedEntry:
			x.m.setEntry(&s[x.slot], x.key, x.old, x.expires)
		case changedTimer:
			x.m.dropTimer(x.timer.Tag)
			if x.kept {
				x.m.addTimer(x.timer)
			}
		}
	}
	l.commit()
}

// setValue puts a value into a slot; nil takes it out.
func (m *Memory) setValue(s *slotMemory, value []byte, expires int64) {
	if s.value != nil {
		m.size -= entryBase + len(s.value)
	}
	if value == nil {
		s.value = nil
		return
	}
	m.size += entryBase + len(value)
	if s.value == nil {
		s.value = make([]byte, 0, max(len(value), 8))
	}
	s.value, s.expires = append(s.value[:0], value...), expires
}

// setEntry puts an entry into a map; a nil value takes it out.
func (m *Memory) setEntry(s *slotMemory, key, value []byte, expires int64) {
	i, ok := s.find(key)
	old := int64(noWatermark)
	if ok {
		m.size -= entryBase + len(s.entries[i].pair)
		old = s.entries[i].expires
	}
	switch {
	case value == nil && ok:
		s.entries = slices.Delete(s.entries, i, i+1)
	case value == nil:
		return
	case ok:
		e := &s.entries[i]
		e.pair, e.expires = append(e.pair[:e.key], value...), expires
	default:
		pair := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
		s.entries = slices.Insert(s.entries, i, entry{pair, len(key), expires})
	}
	if value != nil {
		m.size += entryBase + len(key) + len(value)
		s.timed(expires)
	}
	if old == s.last && len(s.entries) > 0 && expires < old {
		s.last = slices.MaxFunc(s.entries, func(a, b entry) int { return cmp.Compare(a.expires, b.expires) }).expires
	}
}

// timed notes when an entry expires that was just put in.
func (s *slotMemory) timed(t int64) {
	if len(s.entries) == 1 {
		s.expires, s.last = t, t
		return
	}
	s.expires, s.last = min(s.expires, t), max(s.last, t)
}

// dropTimer takes out the timer of a tag, and returns it.
func (m *Memory) dropTimer(tag int64) (t Timer, ok bool) {
	for i, t := range m.timers {
		if t.Tag == tag {
			m.timers = slices.Delete(m.timers, i, i+1)
			m.size -= entryBase
			return t, true
		}
	}
	return Timer{Tag: tag}, false
}

func (m *Memory) addTimer(t Timer) {
	i, _ := slices.BinarySearchFunc(m.timers, t, Timer.compare)
	m.timers = slices.Insert(m.timers, i, t)
	m.size += entryBase
}

// access is a guest's way to what is remembered of the row that it asks about.
type access struct {
	keys   Keys
	layout *abi.State
	share  int // bytes a key may hold
	ledger ledger
	row    int64 // that m belongs to; -1: none
	m      *Memory
	open   bool // m may be changed
	firing bool // rows are timers
	// What was refused: writes of new keys beyond max_keys, and timers set after the end.
	refused, dropped int64
}

// begin is before a call whose rows are timers, or not.
func (a *access) begin(firing bool) { a.row, a.m, a.open, a.firing = -1, nil, false, firing }

// settle is after it: what it changed stands if it went well.
func (a *access) settle(well bool) {
	if well {
		a.ledger.commit()
	} else {
		a.ledger.rollback()
	}
	a.keys.Settle()
}

// look finds what the row's key remembers: nil if nothing.
func (g *guest) look(row uint64) (*Memory, abi.Code) {
	if c := g.step(row); c != abi.OK {
		return nil, c
	}
	a := g.access
	r := &g.rows[g.row]
	if a == nil || !r.Keyed {
		return nil, abi.BadRow
	}
	if a.row != g.row {
		a.m, a.row, a.open = a.keys.Look(r), g.row, false
	}
	return a.m, abi.OK
}

// change is look for what is about to change.
func (g *guest) change(row uint64) (*Memory, abi.Code) {
	m, c := g.look(row)
	if a := g.access; c == abi.OK && !a.open {
		if m = a.keys.Open(&g.rows[g.row]); m == nil {
			a.refused++
			return nil, abi.Quota
		}
		if m.Next() == never {
			m.of = a.layout.Version
		}
		a.m, a.open = m, true
	}
	return m, c
}

// slot is the place of a slot of the kind.
func (g *guest) slot(id uint64, isMap bool) (int, abi.Code) {
	if g.access == nil {
		return 0, abi.BadRow
	}
	if i := g.access.layout.Slot(uint32(id)); i >= 0 && g.access.layout.Slots[i].Map == isMap {
		return i, abi.OK
	}
	return 0, abi.Invalid
}

// until is when something that a row writes into a slot expires. What comes after the end of the input is judged by its own time.
func (g *guest) until(slot int) int64 {
	r, ttl := &g.rows[g.row], g.access.layout.Slots[slot].TTL
	w := r.W
	if w >= endOfTime {
		w = noWatermark
	}
	t := max(r.TS, w)
	if ttl == 0 || t > endOfTime-ttl {
		return endOfTime
	}
	return t + ttl
}

// gone says whether something that expires at t is no longer there for the row. The end of the input ends nothing.
func (g *guest) gone(t int64) bool { return t <= g.rows[g.row].Seen }

// fill answers with bytes: their length, as many as there is room for at dst.
func (g *guest) fill(m api.Memory, dst, room uint64, b []byte) uint64 {
	n := min(uint64(uint32(room)), uint64(len(b)))
	copy(g.bytes(m, dst, n), b)
	return uint64(len(b))
}

func stateGet(g *guest, mem api.Memory, stack []uint64) {
	m, c := g.look(stack[0])
	i := 0
	if c == abi.OK {
		i, c = g.slot(stack[1], false)
	}
	if c == abi.OK && m.value(g, i) == nil {
		c = abi.NotFound
	}
	if c != abi.OK {
		stack[0] = code(c)
		return
	}
	stack[0] = g.fill(mem, stack[2], stack[3], m.slots[i].value)
}

// value is the value of a slot that the row still sees.
func (m *Memory) value(g *guest, i int) []byte {
	if m == nil || m.slots == nil || g.gone(m.slots[i].expires) {
		return nil
	}
	return m.slots[i].value
}

func statePut(g *guest, mem api.Memory, stack []uint64) {
	value := g.bytes(mem, stack[2], stack[3])
	stack[0] = code(g.put(stack[0], stack[1], value))
}

// put writes a value.
func (g *guest) put(row, slot uint64, value []byte) abi.Code {
	i, c := g.slot(slot, false)
	if c != abi.OK {
		return g.or(row, c)
	}
	m, c := g.change(row)
	if c != abi.OK {
		return c
	}
	a := g.access
	s := m.slot(i, len(a.layout.Slots))
	had := 0
	if s.value != nil && g.gone(s.expires) {
		g.replaced(m, i)
		m.setValue(s, nil, 0)
	} else if s.value != nil {
		had = entryBase + len(s.value)
	}
	if len(value) > a.layout.Slots[i].Max || !g.room(m, entryBase+len(value)-had) {
		return abi.Quota
	}
	g.replaced(m, i)
	m.setValue(s, value, g.until(i))
	return abi.OK
}

// replaced notes a value that is about to be written over, or to go.
func (g *guest) replaced(m *Memory, slot int) {
	l, s := &g.access.ledger, &m.slots[slot]
	x := change{m: m, kind: changedValue, slot: slot, expires: s.expires}
	if s.value != nil {
		x.old = l.keep(s.value)
	}
	l.undo = append(l.undo, x)
}

// room says whether the key's share has room for n bytes more. What the row no longer sees does not count.
func (g *guest) room(m *Memory, n int) bool {
	if n <= 0 || m.size+n <= g.access.share {
		return true
	}
	for i := range m.slots {
		if s := &m.slots[i]; s.value != nil && g.gone(s.expires) {
			g.replaced(m, i)
			m.setValue(s, nil, 0)
		}
		g.prune(m, i)
	}
	return m.size+n <= g.access.share
}

// or is the code of a row that went back or has no key, if it did, else c.
func (g *guest) or(row uint64, c abi.Code) abi.Code {
	if _, bad := g.look(row); bad != abi.OK {
		return bad
	}
	return c
}

func stateDel(g *guest, _ api.Memory, stack []uint64) { stack[0] = code(g.del(stack[0], stack[1])) }

// del takes out a value, or empties a map.
func (g *guest) del(row, slot uint64) abi.Code {
	m, c := g.look(row)
	if c != abi.OK {
		return c
	}
	i := g.access.layout.Slot(uint32(slot))
	if i < 0 {
		return abi.Invalid
	}
	if m == nil || m.slots == nil || m.value(g, i) == nil && g.count(m, i) == 0 {
		return abi.NotFound
	}
	if m, c = g.change(row); c != abi.OK {
		return c
	}
	s := &m.slots[i]
	if s.value != nil {
		g.replaced(m, i)
		m.setValue(s, nil, 0)
		return abi.OK
	}
	g.charge(int64(len(s.entries)) * 8)
	for k := range s.entries {
		g.lost(m, i, s.entries[k])
		m.size -= entryBase + len(s.entries[k].pair)
	}
	s.entries = s.entries[:0]
	return abi.OK
}

// lost notes an entry that is about to go.
func (g *guest) lost(m *Memory, slot int, e entry) {
	l := &g.access.ledger
	pair := l.keep(e.pair)
	l.undo = append(l.undo, change{m: m, kind: changedEntry, slot: slot, key: pair[:e.key:e.key], old: pair[e.key:], expires: e.expires})
}

func stateAdd(g *guest, _ api.Memory, stack []uint64) {
	i, c := g.slot(stack[1], false)
	m, bad := g.look(stack[0])
	if bad != abi.OK || c != abi.OK {
		stack[0] = 1 << 63
		return
	}
	sum := int64(stack[2])
	if v := m.value(g, i); len(v) == 8 {
		sum += int64(binary.LittleEndian.Uint64(v))
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(sum))
	if c := g.put(stack[0], stack[1], b[:]); c != abi.OK {
		sum = math.MinInt64
	}
	stack[0] = uint64(sum)
}

func mapGet(g *guest, mem api.Memory, stack []uint64) {
	key := g.bytes(mem, stack[2], stack[3])
	e, c := g.entry(stack[0], stack[1], key)
	if c != abi.OK {
		stack[0] = code(c)
		return
	}
	stack[0] = g.fill(mem, stack[4], stack[5], e.value())
}

// entry finds a key of a map that the row still sees.
func (g *guest) entry(row, slot uint64, key []byte) (*entry, abi.Code) {
	m, c := g.look(row)
	i := 0
	if c == abi.OK {
		i, c = g.slot(slot, true)
	}
	switch {
	case c != abi.OK:
		return nil, c
	case len(key) == 0:
		return nil, abi.Invalid
	case m == nil || m.slots == nil:
		return nil, abi.NotFound
	}
	s := &m.slots[i]
	if k, ok := s.find(key); ok && !g.gone(s.entries[k].expires) {
		return &s.entries[k], abi.OK
	}
	return nil, abi.NotFound
}

func mapPut(g *guest, mem api.Memory, stack []uint64) {
	key, value := g.bytes(mem, stack[2], stack[3]), g.bytes(mem, stack[4], stack[5])
	stack[0] = code(g.mapPut(stack[0], stack[1], key, value))
}

// mapPut writes an entry; 1 says that its key is new.
func (g *guest) mapPut(row, slot uint64, key, value []byte) abi.Code {
	i, c := g.slot(slot, true)
	if c != abi.OK || len(key) == 0 {
		return g.or(row, min(c, abi.Invalid))
	}
	m, c := g.change(row)
	if c != abi.OK {
		return c
	}
	a, x := g.access, &g.access.layout.Slots[i]
	s := m.slot(i, len(a.layout.Slots))
	g.prune(m, i)
	k, ok := s.find(key)
	had := 0
	if ok {
		had = entryBase + len(s.entries[k].pair)
	}
	if len(key) > x.KeyMax || len(value) > x.Max || !ok && len(s.entries) >= x.Entries || !g.room(m, entryBase+len(key)+len(value)-had) {
		return abi.Quota
	}
	if ok {
		g.lost(m, i, s.entries[k])
	} else {
		g.charge(int64(len(s.entries)-k) / 2) // they move
		a.ledger.undo = append(a.ledger.undo, change{m: m, kind: changedEntry, slot: i, key: a.ledger.keep(key)})
	}
	if value == nil {
		value = []byte{}
	}
	m.setEntry(s, key, value, g.until(i))
	if ok {
		return abi.OK
	}
	return 1
}

// prune drops the entries that the row no longer sees.
func (g *guest) prune(m *Memory, slot int) {
	if s := &m.slots[slot]; len(s.entries) > 0 && g.gone(s.expires) {
		g.charge(int64(len(s.entries)))
		m.prune(s, g.rows[g.row].Seen, func(e entry) { g.lost(m, slot, e) })
	}
}

func mapDel(g *guest, mem api.Memory, stack []uint64) {
	key := g.bytes(mem, stack[2], stack[3])
	stack[0] = code(g.mapDel(stack[0], stack[1], key))
}

func (g *guest) mapDel(row, slot uint64, key []byte) abi.Code {
	if _, c := g.entry(row, slot, key); c != abi.OK {
		return c
	}
	m, c := g.change(row)
	if c != abi.OK {
		return c
	}
	i, _ := g.slot(slot, true)
	s := &m.slots[i]
	k, _ := s.find(key)
	g.lost(m, i, s.entries[k])
	m.setEntry(s, key, nil, noWatermark)
	return abi.OK
}

func mapCount(g *guest, _ api.Memory, stack []uint64) {
	m, c := g.look(stack[0])
	i := 0
	if c == abi.OK {
		i, c = g.slot(stack[1], true)
	}
	if c != abi.OK {
		stack[0] = code(c)
		return
	}
	stack[0] = uint64(g.count(m, i))
}

// count is the number of keys of a map that the row still sees.
func (g *guest) count(m *Memory, slot int) (n int) {
	if m == nil || m.slots == nil {
		return 0
	}
	s := &m.slots[slot]
	if !g.gone(s.expires) {
		return len(s.entries)
	}
	g.charge(int64(len(s.entries)))
	for k := range s.entries {
		if !g.gone(s.entries[k].expires) {
			n++
		}
	}
	return n
}

func mapNext(g *guest, mem api.Memory, stack []uint64) {
	key := g.bytes(mem, stack[2], stack[3])
	m, c := g.look(stack[0])
	i := 0
	if c == abi.OK {
		i, c = g.slot(stack[1], true)
	}
	if c != abi.OK || m == nil || m.slots == nil {
		stack[0] = code(min(c, abi.NotFound))
		return
	}
	s := &m.slots[i]
	k, ok := s.find(key)
	if ok {
		k++
	}
	for ; k < len(s.entries); k++ {
		if g.charge(1); !g.gone(s.entries[k].expires) {
			stack[0] = g.fill(mem, stack[4], stack[5], s.entries[k].name())
			return
		}
	}
	stack[0] = code(abi.NotFound)
}

func timerSet(g *guest, _ api.Memory, stack []uint64) {
	stack[0] = code(g.timerSet(stack[0], int64(stack[1]), int64(stack[2])))
}

func (g *guest) timerSet(row uint64, tag, at int64) abi.Code {
	m, c := g.look(row)
	a := g.access
	switch {
	case c != abi.OK:
		return c
	case a.layout.Timers == 0:
		return abi.Quota
	}
	r := &g.rows[g.row]
	if a.firing && at <= r.TS || at >= endOfTime {
		return abi.Invalid
	}
	if r.W >= endOfTime {
		a.dropped++
		return abi.OK
	}
	if m, c = g.change(row); c != abi.OK {
		return c
	}
	old, had := m.dropTimer(tag)
	if !had && (len(m.timers) >= a.layout.Timers || !g.room(m, entryBase)) {
		return abi.Quota
	}
	a.ledger.undo = append(a.ledger.undo, change{m: m, kind: changedTimer, timer: old, kept: had})
	m.addTimer(Timer{Due: max(at, r.W+1), At: at, Tag: tag})
	return abi.OK
}

func timerDel(g *guest, _ api.Memory, stack []uint64) {
	stack[0] = code(g.timerDel(stack[0], int64(stack[1])))
}

func (g *guest) timerDel(row uint64, tag int64) abi.Code {
	m, c := g.look(row)
	switch {
	case c != abi.OK:
		return c
	case m == nil || !slices.ContainsFunc(m.timers, func(t Timer) bool { return t.Tag == tag }):
		return abi.NotFound
	}
	if m, c = g.change(row); c != abi.OK {
		return c
	}
	old, _ := m.dropTimer(tag)
	g.access.ledger.undo = append(g.access.ledger.undo, change{m: m, kind: changedTimer, timer: old, kept: true})
	return abi.OK
}

// rememberFuncs are the host functions of state and timers.
var rememberFuncs = map[string]hostFunc{
	"state_get": stateGet, "state_put": statePut, "state_del": stateDel, "state_add": stateAdd,
	"map_get": mapGet, "map_put": mapPut, "map_del": mapDel, "map_count": mapCount, "map_next": mapNext,
	"timer_set": timerSet, "timer_del": timerDel,
}
