package engine

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// remembering is a plugin that remembers, on its share of the keys: a keyed shard whose rows are given to the guest many at a time.
// Between two rows of which the later one has a greater watermark timers may be due, so a batch of a plugin with timers ends there;
// its watermark moves in steps (node.watermark), or there would be a call a row.
type remembering struct {
	*keyed[wasm.Memory]
	p      judging
	call   *caller // of p
	logic  *memories
	timing bool           // it has timers
	astray bool           // what was said is to be put in order
	opened []int32        // keys that a call may change, some of them more than once
	before map[int32]bool // if there is max_keys: whether they held something before the call
	full   bool           // there may be no more keys
	names  *event.Batch   // of timers: the fields of their keys
	key    []int          // of each field of key_by, its column in names
	cells  []event.Value  // a row of names
	ends   bool           // the rows of the call come after the end of the input
	seen   int64          // the last watermark that is not the end
	now    int64          // that of the call; of one after the end, seen
	in     []operator.In
	old    []wasm.Row // keys that are brought up to date
	fired  []wasm.Timer
}

func newRemembering(spec *Plugin, fields *event.Fields, out *event.Batch, namer *operator.Namer) shard {
	layout, columns := &spec.Module.Manifest.State, spec.keyFields()
	k := &remembering{seen: operator.NegInf, before: map[int32]bool{}, logic: &memories{layout: layout}, timing: layout.Timers > 0, names: event.NewBatch(fields, columns), cells: make([]event.Value, len(columns))}
	for _, i := range spec.Module.Manifest.KeyBy {
		k.key = append(k.key, slices.Index(columns, spec.Fields[i]))
	}
	var op operator.Logic[wasm.Memory] = forgetful{k.logic}
	if k.timing {
		op = waiting{k.logic}
	}
	k.keyed = newKeyed(op, out).(*keyed[wasm.Memory])
	if spec.Detects() {
		k.p = newPlugged(spec, out)
	} else {
		k.p = newMapped(spec, out, namer)
	}
	k.call = callerOf(k.p)
	k.call.plugin.Remember(k)
	return k
}

func (k *remembering) reset() {
	k.keyed.reset()
	k.p.reset()
	k.names.Reset()
	k.call.plugin.Begin()
}

func (k *remembering) run(ws []step, end int64) error {
	for k.next < len(k.rows) {
		w := k.rows[k.next].W
		if err := k.until(w, ws); err != nil {
			return err
		}
		to := k.next + 1
		for to < len(k.rows) && (k.rows[to].W == w || !k.timing && k.rows[to].W < operator.PosInf) {
			to++
		}
		if err := k.judge(to); err != nil {
			return err
		}
	}
	return k.finish(end, ws)
}

// judge gives the rows up to one to the guest.
func (k *remembering) judge(to int) error {
	rows := k.rows[k.next:to]
	k.next = to
	k.begin(rows[0].W)
	if err := k.migrate(rows); err != nil {
		return err
	}
	if err := k.p.judge(rows, nil, k.seen); err != nil {
		return err
	}
	return k.c.Err
}

// until fires what is due by w, step by step of the watermark: what a timer of one step sets may be due at the next.
func (k *remembering) until(w int64, ws []step) error {
	k.see(w, ws)
	if !k.timing { // the end ends nothing, but what is over before it is over
		w = k.seen
	}
	i := 0
	for len(ws) > 0 && len(k.timers) > 0 && k.timers[0].due <= w && k.fires(w) {
		for i < len(ws)-1 && ws[i].w < k.timers[0].due {
			i++
		}
		at := min(ws[i].w, w)
		if err := k.fire(at, ws); err != nil {
			return err
		}
		k.passed(at)
		if err := k.expire(at); err != nil {
			return err
		}
	}
	k.passed(w)
	return nil
}

// begin is before a call at watermark w.
func (k *remembering) begin(w int64) {
	if k.ends, k.now = w == operator.PosInf, w; k.ends {
		k.now = k.seen
	}
}

// see notes the last watermark that is not the end, at w.
func (k *remembering) see(w int64, ws []step) {
	if w < operator.PosInf {
		k.seen = max(k.seen, w)
		return
	}
	for _, x := range ws {
		if x.w < operator.PosInf {
			k.seen = max(k.seen, x.w)
		}
	}
}

// loaded implements keeper.
func (k *remembering) loaded(w int64) error {
	k.seen = w
	return k.keyed.loaded(w)
}

// expire gives the timers that fired at watermark w to the guest.
func (k *remembering) expire(w int64) error {
	due := k.logic.due
	if len(due) == 0 {
		return nil
	}
	slices.SortFunc(due, func(a, b dueTimer) int {
		return cmp.Or(cmp.Compare(a.Due, b.Due), strings.Compare(a.key, b.key), cmp.Compare(a.Tag, b.Tag))
	})
	k.in, k.fired = k.in[:0], k.fired[:0]
	for i := range due {
		x := &due[i]
		k.in = append(k.in, operator.In{P: x.p, TS: x.Due, W: w, First: x.Due, Last: x.Due, Name: operator.Named(k.call.spec.timerID(x.key, x.Timer)),
			Batch: k.names, Row: int32(k.names.Rows), Idx: int32(i), Key: []byte(x.key)})
		k.fired = append(k.fired, x.Timer)
		if err := k.name(x.key); err != nil {
			return err
		}
	}
	k.logic.due = due[:0]
	k.begin(w)
	if err := k.migrate(k.in); err != nil {
		return err
	}
	if err := k.p.judge(k.in, k.fired, k.seen); err != nil {
		return err
	}
	return k.c.Err
}

// migrate brings the state of the rows' keys up to date, where an earlier version of the module has written it.
func (k *remembering) migrate(rows []operator.In) error {
	if k.logic.layout.Migrates == 0 || k.call.plugin.Off() { // a plugin that is off judges none of the rows; their keys wait
		return nil
	}
	k.old = k.old[:0]
	done := map[string]bool{}
	var in []operator.In
	for i := range rows {
		x := &rows[i]
		if x.Lone || done[string(x.Key)] {
			continue
		}
		done[string(x.Key)] = true
		r := wasm.Row{Batch: k.names, Row: int32(k.names.Rows), Keyed: true, TS: x.TS, W: x.W, Seen: k.now, Key: x.Key}
		m := k.Look(&r)
		if m == nil || !m.Old(k.logic.layout) {
			continue
		}
		r.From, r.ID = m.Version(), k.call.spec.Ident.ID([]byte("key"), x.Key)
		if err := k.name(string(x.Key)); err != nil {
			return err
		}
		k.old = append(k.old, r)
		in = append(in, operator.In{P: x.P, TS: x.TS, W: x.W, First: x.TS, Last: x.TS, Name: operator.Named(r.ID), Batch: r.Batch, Row: r.Row, Idx: x.Idx, Key: x.Key})
	}
	if len(k.old) == 0 {
		return k.c.Err
	}
	poison, judged, why := k.call.plugin.Migrate(k.old)
	for _, x := range poison {
		k.call.total.Poisoned++
		k.call.fail(&in[x.Row], "plugin_migration_failed", x.Err)
		k.astray = true // it comes before what rows before its own say
	}
	if judged < len(in) {
		return fmt.Errorf("the plugin %s could not bring its state up to date, last with %w", k.call.spec.Module.Manifest, why)
	}
	return k.c.Err
}

// take takes the next row alone.
func (k *remembering) take(full bool) error {
	k.full = full
	defer func() { k.full = false }()
	return k.judge(k.next + 1)
}

func (k *remembering) finish(w int64, ws []step) error {
	if err := k.until(w, ws); err != nil {
		return err
	}
	k.call.plugin.End()
	if k.astray {
		slices.SortStableFunc(k.call.said, place)
		k.astray = false
	}
	return k.c.Err
}

func (k *remembering) results() []operator.Result { return k.call.said }
func (k *remembering) counts() operator.Counts    { return k.p.counts() }
func (k *remembering) close()                     { k.p.close() }

// Look implements wasm.Keys.
func (k *remembering) Look(r *wasm.Row) *wasm.Memory {
	ref, ok := k.table.find(r.Key)
	if !ok {
		h := hashKey(k.cold.seed, r.Key)
		rec, kept, err := k.stored(r.Key, h)
		if err == nil && rec == nil {
			return nil
		}
		if err == nil {
			ref, err = k.warm(r.Key, h, rec, kept)
		}
		if err != nil {
			k.c.Err = err
			return nil
		}
		if k.op.Next(&k.slot(ref).s) == operator.Never {
			k.touch(ref) // or nobody would drop it
		}
	}
	r.Ref = ref + 1
	return &k.slot(ref).s
}

// Open implements wasm.Keys.
func (k *remembering) Open(r *wasm.Row) *wasm.Memory {
	ref := r.Ref - 1
	if ref >= 0 {
		k.touch(ref)
	} else {
		var err error
		if ref, err = k.open(r.Key); err != nil {
			k.c.Err = err
			return nil
		}
	}
	s := &k.slot(ref).s
	if k.capped {
		held := k.op.Next(s) != operator.Never
		if k.full && !held {
			return nil
		}
		if _, ok := k.before[ref]; !ok {
			k.before[ref] = held
		}
	}
	k.opened = append(k.opened, ref)
	return s
}

// Settle implements wasm.Keys.
func (k *remembering) Settle() {
	for _, ref := range k.opened {
		if s := &k.slot(ref).s; k.op.Next(s) <= k.now {
			s.Forget(k.now) // what is left had expired, while something else did not
		}
		if !k.ends { // after the end there is nothing to wait for
			k.rearm(ref, operator.NegInf)
		}
	}
	k.opened = k.opened[:0]
	for ref, held := range k.before {
		switch holds := k.op.Next(&k.slot(ref).s) != operator.Never; {
		case holds && !held:
			k.held++
		case held && !holds:
			k.held--
		}
	}
	clear(k.before)
}

// memories is the part of a plugin's logic that is not the guest's: values expire, and timers come due, which are then given to it.
type memories struct {
	layout *abi.State
	due    []dueTimer
}

// dueTimer is a timer that fired, of which key, and at which position.
type dueTimer struct {
	wasm.Timer
	key string
	p   int64
}

// Row implements operator.Logic: rows are the guest's.
func (l *memories) Row(*operator.Context, *wasm.Memory, *operator.In) {}

// Fire implements operator.Logic. The end of the input fires timers, and ends nothing.
func (l *memories) Fire(c *operator.Context, m *wasm.Memory, due int64) {
	if m.Waits() {
		if c.W == operator.PosInf {
			due = operator.PosInf
		}
		for _, t := range m.Due(nil, due) {
			l.due = append(l.due, dueTimer{t, c.By, c.P})
		}
		if c.W == operator.PosInf {
			return
		}
	}
	m.Forget(due)
}

// Next implements operator.Logic.
func (l *memories) Next(m *wasm.Memory) int64 { return m.Next() }

// Clear implements operator.Logic.
func (l *memories) Clear(m *wasm.Memory) { m.Clear() }

// Save implements operator.Logic: a record is always all of it.
func (l *memories) Save(dst []byte, m *wasm.Memory, _ bool) []byte { return m.Append(dst, l.layout) }

// Load implements operator.Logic.
func (l *memories) Load(m *wasm.Memory, rec []byte) error { return m.Load(rec, l.layout) }

// forgetful is the logic of a plugin without timers: nothing happens when a key is over.
type forgetful struct{ *memories }

// Flushes implements operator.Logic.
func (forgetful) Flushes() bool { return false }

// Whole implements operator.Whole.
func (forgetful) Whole() {}

// waiting is the logic of a plugin with timers.
type waiting struct{ *memories }

// Flushes implements operator.Logic.
func (waiting) Flushes() bool { return true }

// Spares implements operator.Sparing: a key without a timer waits for nothing.
func (waiting) Spares(m *wasm.Memory) bool { return !m.Waits() }

// Lasts implements operator.Lasting.
func (waiting) Lasts() {}

// Replaces implements operator.Replacing.
func (waiting) Replaces() {}

// keyFields are the fields of key_by, each once.
func (p *Plugin) keyFields() (out []event.Field) {
	for _, i := range p.Module.Manifest.KeyBy {
		if f := p.Fields[i]; !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// name appends a row of a key's fields, as timers and keys that are brought up to date have it.
func (k *remembering) name(key string) error {
	clear(k.cells)
	rest := []byte(key)
	for _, i := range k.key {
		v, left, err := event.ReadKey(rest)
		if err != nil {
			return err
		}
		k.cells[i], rest = v, left
	}
	k.names.AppendRow(k.cells...)
	return nil
}

// timerID is the identity of a timer of a key: what random bytes depend on, and what hits are identified by.
func (p *Plugin) timerID(key string, t wasm.Timer) event.ID {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(t.Tag))
	binary.BigEndian.PutUint64(b[8:], uint64(t.Due))
	return p.Ident.ID([]byte("timer"), []byte(key), b[:8], b[8:])
}

// migrates says whether the operator's module brings up to date what another version of it has kept, by its fingerprint.
func (o *Operator) migrates(was string) bool {
	if o.Plugin == nil || o.Plugin.Module.Manifest.State.Migrates == 0 {
		return false
	}
	const version = "state version: "
	of := 0
	rest := func(print string) (lines []string) {
		for line := range strings.Lines(print) {
			if text, ok := strings.CutPrefix(line, version); ok {
				of, _ = strconv.Atoi(strings.TrimSpace(text))
			} else if !strings.HasPrefix(line, "slot ") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return lines
	}
	now := rest(o.Fingerprint)
	same := slices.Equal(now, rest(was))
	return same && of >= o.Plugin.Module.Manifest.State.Migrates && of <= o.Plugin.Module.Manifest.State.Version
}
