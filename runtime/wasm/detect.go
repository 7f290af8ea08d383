package wasm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// batch gives rows to the guest in one call and appends its hits. rows are at most abi.RowsMax. A nil error with ok false
// means that the batch is too large for the guest: half of it may do.
func (in *Instance) batch(dst []abi.Hit, w *writer, rows []Row) (hits []abi.Hit, ok bool, err error) {
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
		err := in.call(in.process, uint64(in.arena))
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
			need, outCap = need+more-outCap, more
			continue
		}
		if err := in.answered(abi.ExportProcess); err != nil {
			return dst, false, err
		}
		hits, err := abi.ReadHits(dst, buf[outOff:outOff+outCap], outOff, len(rows), a)
		if err == nil {
			err = in.known(hits[len(dst):])
		}
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

// How much failing a block of rows may cost before the breaker opens.
const failuresMax = 64

// Counts are what a plugin did, since it was made.
type Counts struct {
	Calls, Rows, Hits int64
	Fuel              int64
	Failures          int64 // failed calls
	Poisoned          int64
	Skipped           int64 // rows that lack a required field
	Unjudged          int64 // rows that came while the breaker was open
	Nulled            int64 // values that could not be converted
}

// Plugin is a detect module at work: an instance that is made anew when it fails, and the breaker. For one goroutine.
type Plugin struct {
	module   *Module
	config   []byte
	id       Identity
	w        *writer
	in       *Instance
	failures int // in this block
	cool     int // blocks to wait when the breaker opens again
	wait     int // blocks until the breaker lets a call through
	last     error
	required []event.Field
	rows     []Row // of the block, those with all required fields
	at       []int // their indices, nil for all
	kept     []Row // scratch of both
	keptAt   []int
	Counts   Counts
	// Fresh throws the instance away after each call: tests prove that this changes nothing.
	Fresh bool
}

// NewPlugin makes a plugin; its first instance comes with the first row. fields are those of the manifest's reads.
func NewPlugin(m *Module, config []byte, fields []event.Field, id Identity) *Plugin {
	p := &Plugin{module: m, config: slices.Clone(config), id: id, w: newWriter(m.Manifest.Reads, fields), cool: 1}
	for i, r := range m.Manifest.Reads {
		if r.Required {
			p.required = append(p.required, fields[i])
		}
	}
	return p
}

// Detect judges the rows of a block. Hits ascend by row (index in rows) and rule. Rows that the guest fails on alone are
// poison. Rows from index judged on came while the breaker was open, for the reason why: nobody has judged them.
func (p *Plugin) Detect(hits []abi.Hit, rows []Row) (all []abi.Hit, poison []Poison, judged int, why error) {
	p.failures = 0
	p.rows, p.at = p.complete(rows)
	p.Counts.Skipped += int64(len(rows) - len(p.rows))
	from, done := len(hits), 0
	if p.wait > 0 {
		p.wait--
	} else {
		for done < len(p.rows) && !p.open() {
			n := min(len(p.rows)-done, abi.RowsMax)
			var bad []Poison
			hits, bad, done = p.run(hits, nil, done, done+n)
			poison = append(poison, bad...)
		}
		p.breaker(done == len(p.rows))
	}
	for i := range hits[from:] {
		hits[from+i].Row = uint32(p.index(int(hits[from+i].Row)))
	}
	for i := range poison {
		poison[i].Row = p.index(poison[i].Row)
	}
	p.Counts.Rows += int64(done)
	p.Counts.Hits += int64(len(hits) - from)
	p.Counts.Poisoned += int64(len(poison))
	p.Counts.Nulled = p.w.nulled
	if judged = len(rows); done < len(p.rows) {
		judged, why = p.index(done), p.last
		p.Counts.Unjudged += int64(len(p.rows) - done)
	}
	return hits, poison, judged, why
}

// breaker notes how a block went: a breaker that opens stays open for a number of blocks that doubles each time.
func (p *Plugin) breaker(good bool) {
	if good {
		p.cool = 1
		return
	}
	p.wait = p.cool
	p.cool = min(2*p.cool, 1024)
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

// open says whether this block has failed enough, or at once if the clock ended a call: that is not the row's fault.
func (p *Plugin) open() bool {
	t, ok := errors.AsType[*Trap](p.last)
	return p.failures >= failuresMax || p.failures > 0 && ok && t.Fault == Time
}

// run judges rows [from, to), halves of it if it fails, and says how far it came before the breaker opened.
func (p *Plugin) run(hits []abi.Hit, poison []Poison, from, to int) ([]abi.Hit, []Poison, int) {
	if p.open() {
		return hits, poison, from
	}
	fresh := p.in == nil
	said, ok, err := p.once(hits, p.rows[from:to])
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
	p.last = err
	if p.in != nil {
		p.in.good = false // it may have answered, but with an error
	}
	p.drop()
}

func (p *Plugin) drop() {
	if p.in != nil {
		p.in.Close()
		p.in = nil
	}
}

// once is a call of the guest, in a new instance if the last was thrown away.
func (p *Plugin) once(hits []abi.Hit, rows []Row) (said []abi.Hit, ok bool, err error) {
	if p.in == nil {
		if p.in, err = p.module.Instantiate(p.config, p.id); err != nil {
			p.in = nil
			return hits, false, err
		}
	}
	said, ok, err = p.in.batch(hits, p.w, rows)
	p.Counts.Calls++
	p.Counts.Fuel += p.in.spent
	if err == nil && (p.Fresh || p.in.worn()) {
		p.drop()
	}
	return said, ok, err
}

// Close throws the instance away.
func (p *Plugin) Close() { p.drop() }
