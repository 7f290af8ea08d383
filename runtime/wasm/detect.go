package wasm

import (
	"fmt"
	"slices"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// batch gives rows to the guest in one call and appends its hits: of timers if they are that. rows are at most abi.RowsMax. A nil
// error with ok false means that the batch is too large for the guest: half of it may do.
func (in *Instance) batch(dst []abi.Hit, w *writer, rows []Row, fired []Timer) (hits []abi.Hit, ok bool, err error) {
	if a := in.guest.access; a != nil {
		defer func() { a.settle(ok) }()
	}
	w.fired = fired
	export, process := abi.ExportProcess, in.process
	switch {
	case w.moved:
		export, process = abi.ExportMigrate, in.migrate
	case fired != nil:
		export, process = abi.ExportTimer, in.timer
	}
	need, outCap := w.bound(rows), abi.OutCap(len(rows))
	for {
		if need > abi.BatchMax {
			return dst, false, nil
		}
		if ok, err := in.room(need); !ok || err != nil {
			return dst, false, err
		}
		outOff, _ := w.write(in.view(), rows, outCap)
		in.guest.rows = rows
		if a := in.guest.access; a != nil {
			a.begin(fired != nil)
		}
		err := in.call(process, uint64(in.arena))
		in.guest.rows = nil
		if err != nil {
			return dst, false, err
		}
		buf := in.view()
		a := abi.ReadAnswer(buf)
		if more := int(a.OutLen); abi.Code(int32(in.stack[0])) == abi.TooSmall && more > outCap {
			if more > abi.OutMax {
				return dst, false, nil
			}
			if a := in.guest.access; a != nil {
				a.settle(false)
			}
			need, outCap = need+more-outCap, more
			continue
		}
		if err := in.answered(export); err != nil {
			return dst, false, err
		}
		if w.moved && a != (abi.Answer{}) {
			return dst, false, &Trap{Output, export + " has an answer, and there is none to give"}
		}
		if w.moved {
			return dst, true, nil
		}
		hits, err := in.read(dst, buf[outOff:outOff+outCap], outOff, len(rows), a)
		if err != nil {
			return dst, false, &Trap{Output, err.Error()}
		}
		return hits, true, nil
	}
}

// known checks that the manifest has the rules of hits.
func (in *Instance) known(hits []abi.Hit) error {
	for _, h := range hits {
		if in.module.Manifest.Rule(h.Rule) == nil {
			return fmt.Errorf("it reports rule %d, which its manifest does not have", h.Rule)
		}
	}
	return nil
}

// Poison is a row that a plugin cannot judge: it failed on it alone, in a fresh instance.
type Poison struct {
	Row int // index
	Err error
}

// Counts are what a plugin did, since it was made.
type Counts struct {
	Calls, Rows, Hits int64
	Fuel              int64
	Failures          int64 // failed calls
	Poisoned          int64
	Skipped           int64 // rows that lack a required field
	Unjudged          int64 // rows that came while the breaker was open
	Nulled            int64 // values that could not be converted
	Fired             int64 // timers
	Refused           int64 // writes of new keys, beyond max_keys
	Dropped           int64 // timers set after the end of the input
	Costs
	Metrics []int64 // the manifest's counters, by id
}

// Plugin is a module at work: an instance that is made anew when it fails, and the breaker. For one goroutine.
type Plugin struct {
	module *Module
	config []byte
	id     Identity
	w      *writer
	in     *Instance
	breaker
	failures int   // in this block
	burnt    int64 // fuel of its failed calls
	last     error
	required []event.Field
	off      bool    // the breaker is open in this block
	opens    bool    // it opens in this block
	tried    bool    // the guest was given rows in this block
	rows     []Row   // those with all required fields
	fired    []Timer // of the rows, if they are timers
	at       []int   // their indices, nil for all
	kept     []Row   // scratch of both
	keptAt   []int
	access   *access // to what it remembers; nil: nothing
	Counts   Counts
	mapped   *writings // of a map
	aggregating
	// Fresh throws the instance away after each call: tests prove that this changes nothing.
	Fresh bool
	// Blind leaves Costs out, for the benchmark of what they cost.
	Blind  bool
	passed int   // calls with few rows since one was measured
	met    int64 // instances made by then
}

// NewPlugin makes a plugin; its first instance comes with the first row. fields are those of the manifest's reads.
func NewPlugin(m *Module, config []byte, fields []event.Field, id Identity) *Plugin {
	p := &Plugin{module: m, config: slices.Clone(config), id: id, w: newWriter(m.Manifest, fields), breaker: breaker{cool: 1}}
	p.Counts.Metrics = make([]int64, len(m.Manifest.Metrics))
	for i, r := range m.Manifest.Reads {
		if r.Required {
			p.required = append(p.required, fields[i])
		}
	}
	if m.Manifest.Role() == abi.RoleMap {
		p.mapped = newWritings(m.Manifest.Writes)
	}
	return p
}

// Remember says where the plugin finds what it remembers. Without it no row has a key.
func (p *Plugin) Remember(keys Keys) {
	p.access = &access{keys: keys, layout: &p.module.Manifest.State, share: p.module.Limits.StateKiB << 10}
	if p.in != nil {
		p.in.guest.access = p.access
	}
}

// Detect judges the rows of a whole block: Begin, Judge and End.
func (p *Plugin) Detect(hits []abi.Hit, rows []Row) (all []abi.Hit, poison []Poison, judged int, why error) {
	p.Begin()
	defer p.End()
	return p.Judge(hits, rows)
}

// Begin is before the rows and timers of a block.
func (p *Plugin) Begin() {
	p.failures, p.burnt = 0, 0
	p.off, p.opens, p.tried = !p.lets(), false, false
}

// End is after them.
func (p *Plugin) End() {
	if p.opens || p.tried {
		p.settle(!p.opens)
	}
}

// Judge gives rows of a block to a module that detects, filters or maps; of the last two roles the hits mean what roles.go
// says. Hits ascend by row (index in rows) and rule. Rows that the guest fails on alone are
// poison. Rows from index judged on came while the breaker was open, for the reason why: nobody has judged them.
func (p *Plugin) Judge(hits []abi.Hit, rows []Row) (all []abi.Hit, poison []Poison, judged int, why error) {
	if p.mapped != nil {
		p.mapped.batch.Reset()
	}
	p.fired = nil
	p.rows, p.at = p.complete(rows)
	p.Counts.Skipped += int64(len(rows) - len(p.rows))
	hits, poison, done := p.judge(hits)
	if judged = len(rows); done < len(p.rows) {
		judged, why = p.index(done), p.why()
	}
	return hits, poison, judged, why
}

// Fire is Judge for timers that are due: rows[i] is fired[i].
func (p *Plugin) Fire(hits []abi.Hit, rows []Row, fired []Timer) (all []abi.Hit, poison []Poison, judged int, why error) {
	p.rows, p.at, p.fired = rows, nil, fired
	hits, poison, judged = p.judge(hits)
	p.Counts.Fired += int64(judged)
	return hits, poison, judged, p.why()
}

// Migrate brings the state of keys up to date: rows are keys, From the version that wrote what is kept of them. Those that the guest
// fails on are poison; those from index judged on came while the breaker was open.
func (p *Plugin) Migrate(rows []Row) (poison []Poison, judged int, why error) {
	p.rows, p.at, p.fired, p.w.moved = rows, nil, nil, true
	defer func() { p.w.moved = false }()
	hits, bad := p.Counts.Hits, p.Counts.Rows
	_, poison, judged = p.judge(nil)
	p.Counts.Hits, p.Counts.Rows = hits, bad
	for i := range rows[:judged] {
		if m := p.access.keys.Open(&rows[i]); m != nil {
			m.of = p.access.layout.Version
		}
	}
	for _, x := range poison {
		if m := p.access.keys.Open(&rows[x.Row]); m != nil {
			m.Clear()
		}
	}
	p.access.keys.Settle()
	return poison, judged, p.why()
}

// judge gives the rows to the guest, as far as it comes before the breaker opens.
func (p *Plugin) judge(hits []abi.Hit) (all []abi.Hit, poison []Poison, done int) {
	from := len(hits)
	for done < len(p.rows) && !p.off && !p.open() {
		n := min(len(p.rows)-done, abi.RowsMax)
		var bad []Poison
		hits, bad, done = p.run(hits, nil, done, done+n)
		poison = append(poison, bad...)
	}
	p.opens = p.opens || !p.off && done < len(p.rows)
	p.tried = p.tried || !p.off && len(p.rows) > 0
	for i := range hits[from:] {
		hits[from+i].Row = uint32(p.index(int(hits[from+i].Row)))
	}
	for i := range poison {
		poison[i].Row = p.index(poison[i].Row)
	}
	c := &p.Counts
	c.Hits += int64(len(hits) - from)
	c.Poisoned += int64(len(poison))
	c.Unjudged += int64(len(p.rows) - done)
	c.Nulled = p.w.nulled
	if p.fired == nil {
		c.Rows += int64(done)
	}
	if p.access != nil {
		c.Refused, c.Dropped = p.access.refused, p.access.dropped
	}
	return hits, poison, done
}

// complete is the rows that have all required fields, and their indices; no indices if it is all of them.
func (p *Plugin) complete(rows []Row) (left []Row, at []int) {
	n := 0
	for n < len(rows) && p.has(&rows[n]) {
		n++
	}
	if n == len(rows) {
		return rows, nil
	}
	left, at = append(p.kept[:0], rows[:n]...), p.keptAt[:0]
	for i := range rows {
		switch {
		case i < n:
			at = append(at, i)
		case p.has(&rows[i]):
			left, at = append(left, rows[i]), append(at, i)
		}
	}
	p.kept, p.keptAt = left, at
	return left, at
}

// has says whether a row has all required fields.
func (p *Plugin) has(r *Row) bool {
	for _, f := range p.required {
		if c := r.Batch.Column(f); c == nil || c.Kinds[r.Row] <= event.Null {
			return false
		}
	}
	return true
}

// index is the place of one of the complete rows among those of the block.
func (p *Plugin) index(i int) int {
	if p.at == nil {
		return i
	}
	return p.at[i]
}

// run judges rows [from, to), halves of it if it fails, and says how far it came before the breaker opened.
func (p *Plugin) run(hits []abi.Hit, poison []Poison, from, to int) ([]abi.Hit, []Poison, int) {
	if p.open() {
		return hits, poison, from
	}
	fresh := p.in == nil
	said, ok, err := p.once(hits, from, to)
	if ok {
		for i := range said[len(hits):] {
			said[len(hits)+i].Row += uint32(from)
		}
		return said, poison, to
	}
	if err != nil {
		p.failed(err)
	}
	switch {
	case to-from > 1:
		middle := (from + to) / 2
		at := 0
		if hits, poison, at = p.run(hits, poison, from, middle); at < middle {
			return hits, poison, at
		}
		return p.run(hits, poison, middle, to)
	case err != nil && !fresh:
		return p.run(hits, poison, from, to) // alone, and in a fresh instance
	case err == nil:
		err = &Trap{Output, fmt.Sprintf("the row is larger than a batch may be (%d bytes), or than the guest takes", abi.BatchMax)}
	}
	return hits, append(poison, Poison{from, err}), to
}

// failed throws the instance away: nothing of the call counts.
func (p *Plugin) failed(err error) {
	p.failures++
	p.Counts.Failures++
	p.Counts.Faults.count(err)
	p.last = err
	if p.in != nil {
		p.in.good = false // it may have answered, but with an error
		p.burnt += p.in.spent
	}
	p.drop()
}

func (p *Plugin) drop() {
	if p.in != nil {
		p.in.Close()
		p.in = nil
	}
}

// once is a call of the guest with rows [from, to), in a new instance if the last was thrown away.
func (p *Plugin) once(hits []abi.Hit, from, to int) (said []abi.Hit, ok bool, err error) {
	began := p.measure(to - from)
	if err := p.Start(); err != nil {
		p.measured(began, to-from)
		return hits, false, err
	}
	var fired []Timer
	if p.fired != nil {
		fired = p.fired[from:to]
	}
	said, ok, err = p.in.batch(hits, p.w, p.rows[from:to], fired)
	p.Counts.Calls++
	p.Counts.Fuel += p.in.spent
	p.measured(began, to-from)
	if ok {
		p.in.guest.asks.count(p.Counts.Metrics)
	}
	if err == nil && (p.Fresh || p.in.worn()) {
		p.drop()
	}
	return said, ok, err
}

// Close throws the instance away.
func (p *Plugin) Close() { p.drop() }

// Start makes the first instance, which otherwise comes with the first row. Remember may follow.
func (p *Plugin) Start() (err error) {
	if p.in != nil {
		return nil
	}
	p.Counts.Instances++
	if p.in, err = p.module.Instantiate(p.config, p.id); err != nil {
		p.in = nil
		return err
	}
	p.in.mapped, p.in.guest.access = p.mapped, p.access
	return nil
}
