package engine

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// The plugins of testdata/recall, written down a second time from the contract alone: what they remember is a map of Go, nothing is
// packed, and every question looks at everything.

// refRecall is such a plugin: with timers, or without; of an operator that sifts or maps it is a filter or a map.
type refRecall struct {
	timers bool
	most   int // max_keys; 0: none
}

const (
	refPace    = 5  // timer_step
	refTTL     = 20 // of slot 0
	refMapTTL  = 30 // of slot 1
	refEntries = 3
	refTimers  = 3
)

// refMind is what is remembered of a key.
type refMind struct {
	value   map[int][]byte
	until   map[int]int64 // of values
	entries map[string][]byte
	ends    map[string]int64   // of entries
	timers  map[int64][2]int64 // by tag: due, at
}

// refMinds is what a node remembers, and the last watermark that was not the end.
type refMinds struct {
	of     map[string]*refMind
	finite int64
}

func (m *refMind) empty() bool { return len(m.value)+len(m.entries)+len(m.timers) == 0 }

// forget drops what is over.
func (m *refMind) forget(w int64) {
	for slot, t := range m.until {
		if t <= w {
			delete(m.value, slot)
			delete(m.until, slot)
		}
	}
	for k, t := range m.ends {
		if t <= w {
			delete(m.entries, k)
			delete(m.ends, k)
		}
	}
}

// refCall is a plugin at one row.
type refCall struct {
	n     *refNode
	key   string
	keyed bool
	ts, w int64
	due   int64 // of a timer; -inf: it is a row
}

const refFailed = math.MinInt64

func (c *refCall) mind() *refMind {
	if !c.keyed {
		return nil
	}
	return c.n.minds.of[c.key]
}

// write is a mind to write, nil if there are too many already.
func (c *refCall) write() *refMind {
	m := c.mind()
	if m != nil && !m.empty() {
		return m
	}
	held := 0
	for _, x := range c.n.minds.of {
		if !x.empty() {
			held++
		}
	}
	if c.n.recall.most > 0 && held >= c.n.recall.most {
		return nil
	}
	m = &refMind{map[int][]byte{}, map[int]int64{}, map[string][]byte{}, map[string]int64{}, map[int64][2]int64{}}
	c.n.minds.of[c.key] = m
	return m
}

// after is when something written now is over.
func (c *refCall) after(ttl int64) int64 {
	if c.w == operator.PosInf {
		return c.ts + ttl
	}
	return max(c.ts, c.w) + ttl
}

func (c *refCall) get(slot int) (int64, int64) {
	switch m := c.mind(); {
	case !c.keyed:
		return -8, 0
	case m == nil || m.value[slot] == nil:
		return -1, 0
	default:
		return 8, int64(binary.LittleEndian.Uint64(m.value[slot]))
	}
}

func (c *refCall) put(slot int, v int64) int64 {
	if !c.keyed {
		return -8
	}
	m := c.write()
	if m == nil {
		return -5
	}
	m.value[slot] = binary.LittleEndian.AppendUint64(nil, uint64(v))
	delete(m.until, slot)
	if slot == 0 {
		m.until[0] = c.after(refTTL)
	}
	return 0
}

func (c *refCall) add(slot int, delta int64) int64 {
	if !c.keyed {
		return refFailed
	}
	_, v := c.get(slot)
	if c.put(slot, v+delta) != 0 {
		return refFailed
	}
	return v + delta
}

func (c *refCall) del(slot int) int64 {
	m := c.mind()
	switch {
	case !c.keyed:
		return -8
	case m == nil:
		return -1
	case slot == 1:
		n := len(m.entries)
		clear(m.entries)
		clear(m.ends)
		if n == 0 {
			return -1
		}
		return 0
	case m.value[slot] == nil:
		return -1
	}
	delete(m.value, slot)
	delete(m.until, slot)
	return 0
}

func (c *refCall) count() int64 {
	switch m := c.mind(); {
	case !c.keyed:
		return -8
	case m == nil:
		return 0
	default:
		return int64(len(m.entries))
	}
}

func (c *refCall) mapPut(key string, v int64) int64 {
	if !c.keyed {
		return -8
	}
	m := c.write()
	switch {
	case m == nil:
		return -5
	case m.entries[key] == nil && len(m.entries) == refEntries:
		return -5
	}
	fresh := int64(1)
	if m.entries[key] != nil {
		fresh = 0
	}
	m.entries[key] = binary.LittleEndian.AppendUint64(nil, uint64(v))
	m.ends[key] = c.after(refMapTTL)
	return fresh
}

func (c *refCall) timerSet(tag, at int64) int64 {
	switch {
	case !c.keyed:
		return -8
	case !c.n.recall.timers:
		return -5
	case at <= c.due:
		return -2
	case c.w == operator.PosInf:
		return 0
	}
	m := c.write()
	if m == nil {
		return -5
	}
	if _, ok := m.timers[tag]; !ok && len(m.timers) == refTimers {
		return -5
	}
	m.timers[tag] = [2]int64{max(at, c.w+1), at}
	return 0
}

// mod is the remainder that is not negative.
func mod(a, b int64) int64 { return (a%b + b) % b }

// had is what the key remembers in short.
func (c *refCall) had() int64 {
	r, v := c.get(0)
	if r < 0 {
		v = -1
	}
	return int64(uint64(v)*10 + uint64(c.count()))
}

// row is what the module does with a row: what it notes, or that it fails.
func (c *refCall) row(v int64) (r, x int64, fails bool) {
	t := c.ts
	key := fmt.Sprint("k", mod(t, 5))
	switch mod(v+7*t, 16) {
	case 0:
		r, x = c.get(0)
	case 1:
		r = c.put(0, t)
	case 2:
		r = c.del(0)
	case 3:
		r = c.add(0, v+10)
	case 4:
		r = c.mapPut(key, t)
		x = c.count()
	case 5:
		switch m := c.mind(); {
		case !c.keyed:
			r = -8
		case m == nil || m.entries[key] == nil:
			r = -1
		default:
			if r = int64(len(m.entries[key])); r == 8 {
				x = int64(binary.LittleEndian.Uint64(m.entries[key]))
			}
		}
	case 6:
		switch m := c.mind(); {
		case !c.keyed:
			r = -8
		case m == nil || m.entries[key] == nil:
			r = -1
		default:
			delete(m.entries, key)
			delete(m.ends, key)
		}
		x = c.count()
	case 7:
		if m := c.mind(); m != nil {
			for k := range 5 {
				if m.entries[fmt.Sprint("k", k)] != nil {
					r, x = r+1, x*10+int64(k)
				}
			}
		}
	case 8, 9:
		r = c.timerSet(mod(t, 3), t+4*v)
		if c.w == operator.NegInf {
			x = 1
		}
	case 10:
		switch m := c.mind(); {
		case !c.keyed:
			r = -8
		case m == nil || m.timers[mod(t, 3)] == [2]int64{}:
			r = -1
		default:
			delete(m.timers, mod(t, 3))
		}
	case 11:
		r = c.add(2, 1)
	case 12:
		r = c.del(2)
		x = c.del(1)
	case 13:
		if r = -5; !c.keyed {
			r = -8
		}
		x = c.put(0, t)
	case 14:
		r, x = c.get(2)
	case 15:
		if mod(t, 3) == 0 && c.key == "c" {
			return 0, 0, true
		}
		s := c.add(0, 100)
		if r = -8; c.keyed {
			m := c.write()
			switch {
			case m == nil || m.entries[key] == nil && len(m.entries) == refEntries:
				r = -5
			default:
				if r = 1; m.entries[key] != nil {
					r = 0
				}
				m.entries[key], m.ends[key] = []byte(key), c.after(refMapTTL)
			}
		}
		x = int64(uint64(s) + uint64(c.timerSet(9, t+3)))
	}
	return r, x, false
}

// recallRow is a row of the plugin.
func (n *refNode) recallRow(pipeline string, p int64, r refRow, w int64) []refRow {
	n.recallPast(w)
	if n.unseen(r) {
		return []refRow{n.written(pipeline, p, r)}
	}
	k := r.cells["k"]
	c := refCall{n: n, key: k.text, keyed: k.kind != event.Absent && k.kind != event.Null, ts: r.ts, w: w, due: operator.NegInf}
	v, _ := strconv.ParseInt(r.cells["v"].text, 10, 64)
	had := c.had()
	a, x, fails := c.row(v)
	if fails {
		r.p, r.late = p, true
		return []refRow{r}
	}
	switch {
	case n.sifts && uint64(a+x+had)%2 == 1:
		return nil
	case n.sifts:
		return []refRow{n.siftedRow(pipeline, p, r)}
	case n.maps:
		out := n.written(pipeline, p, r)
		for name, v := range map[string]int64{"a": a, "s": x, "said": had} {
			out.cells[name] = refCell{event.Number, strconv.FormatInt(mod(v, 1000), 10)}
		}
		return []refRow{out}
	}
	out := refRow{p: p, ts: r.ts, cells: recallCells(1, a, x, had)}
	for _, name := range []string{"k", "v", "n", "a"} {
		out.cells[name] = r.cells[name]
	}
	out.id = event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("detect/1"), r.id[:], []byte{0, 0, 0, 1})
	return []refRow{out}
}

func recallCells(rule int, r, x, had int64) map[string]refCell {
	return map[string]refCell{"rule_id": {event.Number, strconv.Itoa(rule)}, "severity": {event.String, "medium"},
		"note": {event.Object, fmt.Sprintf(`{"r":%d,"x":%d,"had":%d}`, r, x, had)}}
}

// recallPast forgets what is over at watermark w; the end ends nothing.
func (n *refNode) recallPast(w int64) {
	if w != operator.PosInf {
		n.minds.finite = max(n.minds.finite, w)
	}
	for _, m := range n.minds.of {
		m.forget(n.minds.finite)
	}
}

// recallDue are the timers that fire when the watermark gets to now.
func (n *refNode) recallDue(pipeline string, p, now int64) (out []refRow) {
	type due struct {
		key          string
		tag, at, due int64
	}
	var all []due
	n.recallPast(now)
	for key, m := range n.minds.of {
		for tag, t := range m.timers {
			if t[0] <= now {
				all = append(all, due{key, tag, t[1], t[0]})
				delete(m.timers, tag)
			}
		}
	}
	slices.SortFunc(all, func(a, b due) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(len(a.key), len(b.key)), cmp.Compare(a.key, b.key), cmp.Compare(a.tag, b.tag))
	})
	for _, d := range all {
		c := refCall{n: n, key: d.key, keyed: true, ts: d.due, w: now, due: d.due}
		s := c.add(2, 1)
		r := int64(0)
		if s&3 != 0 {
			r = c.timerSet(d.tag, d.at+3)
		}
		late := int64(0)
		if d.due > d.at {
			late = 1
		}
		x := refRow{p: p, ts: d.due, cells: recallCells(2, r, int64(((uint64(s)*10+uint64(d.tag))*10+uint64(late))*10+1), c.had())}
		x.cells["k"] = refCell{event.String, d.key}
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], uint64(d.tag))
		binary.BigEndian.PutUint64(b[8:], uint64(d.due))
		key := event.AppendKey(nil, event.Value{Kind: event.String, Text: []byte(d.key)})
		timer := event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("detect/1"), []byte("timer"), key, b[:8], b[8:])
		x.id = event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("detect/1"), timer[:], []byte{0, 0, 0, 2})
		out = append(out, x)
	}
	return out
}

// randomRecall makes some operators plugins that remember.
func randomRecall(r *rand.Rand, o refOp) refOp {
	passes := o.sifts || o.maps
	if !o.judge && !passes || r.IntN(4) == 0 || !passes && r.IntN(3) == 0 {
		return o
	}
	o.recall = &refRecall{timers: o.judge && r.IntN(2) == 0}
	if r.IntN(4) == 0 {
		o.recall.most = 1 + r.IntN(3)
	}
	return o
}

// recallModules are the plugins of testdata/recall: without timers and with, a filter and a map.
var recallModules = sync.OnceValues(func() (out [4]*wasm.Module, err error) {
	if _, err = modules(); err != nil { // whose host it is
		return out, err
	}
	for i, name := range []string{"recall", "timed", "passing", "writing"} {
		code, err := os.ReadFile("testdata/recall/" + name + ".wasm")
		if err != nil {
			return out, err
		}
		if out[i], err = moduleHost.Load(code, wasm.Options{}); err != nil {
			return out, err
		}
	}
	return out, nil
})

// compileRecall makes the engine's plugin.
func compileRecall(t testing.TB, spec *Spec, o refOp) *Plugin {
	p := judge(t, spec, o)
	recalls(t, p, o, spec.Fields)
	p.Rules = map[uint32]*Rule{1: {Alert: &alert.Template{Severity: "medium"}}, 2: {Alert: &alert.Template{Severity: "medium"}}}
	return p
}

// recalls has a plugin of some role remember.
func recalls(t testing.TB, p *Plugin, o refOp, f *event.Fields) {
	all, err := recallModules()
	if err != nil {
		t.Fatal(err)
	}
	k := f.Add("k")
	p.Config, p.Fields, p.MaxKeys, p.KeyNames = []byte("{}"), []event.Field{k, f.Add("v")}, o.recall.most, []alert.Column{{Name: "k", Field: k}}
	switch {
	case o.sifts:
		p.Module = all[2]
	case o.maps:
		p.Module = all[3]
	case o.recall.timers:
		p.Module = all[1]
	default:
		p.Module = all[0]
	}
}
