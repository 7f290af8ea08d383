package wasm

import (
	"encoding/binary"
	"fmt"

	"github.com/tetratelabs/wazero/api"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// A module of the role aggregate works on states, which the host keeps for it: each is some bytes, zeros of no rows. A call that
// fails changes none of them; it is repeated with halves of its rows or states, and what fails alone in a fresh instance is
// reported. Failures of a block count together: Settle ends a block.

// aggregating is what a Plugin of the role aggregate has beside the rest.
type aggregating struct {
	number []uint32 // scratch: of each state one more than its group in a call, 0 if it has none
	called []uint32 // the states of a call
	read   []abi.Column
	text   []byte
}

// Update takes rows into states, in order: rows[i] into states[groups[i]], each of the manifest's state_size bytes. Rows that the
// guest fails on alone are reported, as are those that came while the breaker was open (off). Rows that lack a required
// field change nothing.
func (p *Plugin) Update(states [][]byte, groups []uint32, rows []Row, failed func(row int, err error, off bool)) {
	from := len(rows)
	p.rows, p.at = p.complete(rows)
	p.Counts.Skipped += int64(from - len(p.rows))
	p.Counts.Rows += int64(len(p.rows))
	p.halves(len(p.rows), func(from, to int) (bool, error) { return p.in.update(p, states, groups, from, to) }, func(i int, err error, off bool) {
		failed(p.index(i), err, off)
	})
	p.Counts.Nulled = p.w.nulled
}

// Merge takes src[i], whose rows came later, into dst[i].
func (p *Plugin) Merge(dst, src [][]byte, failed func(pair int, err error, off bool)) {
	p.halves(len(dst), func(from, to int) (bool, error) { return p.in.merge(p, dst[from:to], src[from:to]) }, failed)
}

// Finish says the value of each state; a text is good until value returns.
func (p *Plugin) Finish(states [][]byte, value func(i int, v event.Value), failed func(i int, err error, off bool)) {
	p.halves(len(states), func(from, to int) (bool, error) {
		return p.in.finish(p, states[from:to], func(i int, v event.Value) { value(from+i, v) })
	}, failed)
}

// Settle ends a block, and begins the next.
func (p *Plugin) Settle() {
	p.End()
	p.Begin()
}

// halves makes a call with all n places, at most abi.RowsMax at once, and in halves where it fails.
func (p *Plugin) halves(n int, call func(from, to int) (ok bool, err error), failed func(i int, err error, off bool)) {
	var part func(from, to int)
	part = func(from, to int) {
		if p.off || p.open() {
			p.opens = p.opens || !p.off
			why := p.why()
			for i := from; i < to; i++ {
				failed(i, why, true)
			}
			p.Counts.Unjudged += int64(to - from)
			return
		}
		fresh := p.in == nil
		p.tried = true
		ok, err := p.attempt(to-from, func() (bool, error) { return call(from, to) })
		if ok {
			return
		}
		if err != nil {
			p.failed(err)
		}
		switch {
		case to-from > 1:
			middle := (from + to) / 2
			part(from, middle)
			part(middle, to)
			return
		case err != nil && !fresh:
			part(from, to) // alone, and in a fresh instance
			return
		case err == nil:
			err = &Trap{Output, fmt.Sprintf("the row is larger than a batch may be (%d bytes), or than the guest takes", abi.BatchMax)}
		}
		p.Counts.Poisoned++
		failed(from, err, false)
	}
	for from := 0; from < n; from += abi.RowsMax {
		part(from, min(from+abi.RowsMax, n))
	}
}

// attempt is a call of the guest with n rows or states, in a new instance if the last was thrown away.
func (p *Plugin) attempt(n int, call func() (bool, error)) (ok bool, err error) {
	began := p.measure(n)
	defer func() { p.measured(began, n) }()
	if err := p.Start(); err != nil {
		return false, err
	}
	ok, err = call()
	p.Counts.Calls++
	p.Counts.Fuel += p.in.spent
	if err == nil && (p.Fresh || p.in.worn()) {
		p.drop()
	}
	return ok, err
}

// update calls the guest with complete rows [from, to). Groups are numbered anew, as they appear among these rows.
func (in *Instance) update(p *Plugin, states [][]byte, groups []uint32, from, to int) (ok bool, err error) {
	rows := p.rows[from:to]
	if len(p.number) < len(states) {
		p.number = make([]uint32, len(states))
	}
	p.called = p.called[:0] // the groups of the call
	for i := range rows {
		if g := groups[p.index(from+i)]; p.number[g] == 0 {
			p.called = append(p.called, g)
			p.number[g] = uint32(len(p.called))
		}
	}
	ok, err = in.updated(p, states, groups, from, rows)
	for _, g := range p.called {
		p.number[g] = 0
	}
	return ok, err
}

// updated is update once the groups of the call are numbered.
func (in *Instance) updated(p *Plugin, states [][]byte, groups []uint32, from int, rows []Row) (ok bool, err error) {
	size := in.module.Manifest.Aggregate.StateSize
	outCap := max(abi.OutCap(len(rows)), len(p.called)*size)
	need := p.w.bound(rows) + abi.ColumnSize + 32 + 5*len(rows) + outCap
	if ok, err := in.fits(need); !ok {
		return false, err
	}
	buf := in.view()
	p.w.abi.Begin(buf, len(rows), p.w.cols()+1)
	p.w.columns(rows)
	b := p.w.abi.Open(abi.ColumnGroup, abi.U32)
	every(b.Valid, len(rows))
	for i := range rows {
		binary.LittleEndian.PutUint32(b.Data[4*i:], p.number[groups[p.index(from+i)]]-1)
	}
	p.w.abi.Close(len(b.Data), 0, 0)
	outOff, _ := p.w.abi.Finish(outCap)
	for i, g := range p.called {
		copy(buf[outOff+i*size:], states[g])
	}
	return in.edit(abi.ExportUpdate, buf, outOff, len(p.called), size, rows, func(i int) []byte { return states[p.called[i]] })
}

// merge calls the guest with pairs of states.
func (in *Instance) merge(p *Plugin, dst, src [][]byte) (ok bool, err error) {
	size := in.module.Manifest.Aggregate.StateSize
	outCap := max(abi.OutCap(len(dst)), len(dst)*size)
	outOff, ok, err := in.states(p, src, outCap)
	if !ok {
		return false, err
	}
	buf := in.view()
	for i := range dst {
		copy(buf[outOff+i*size:], dst[i])
	}
	return in.edit(abi.ExportMerge, buf, outOff, len(dst), size, noRows, func(i int) []byte { return dst[i] })
}

// noRows are the rows of calls about states: host functions that are about a row have none.
var noRows = []Row{}

// states lays states out as the one column of a batch.
func (in *Instance) states(p *Plugin, states [][]byte, outCap int) (outOff int, ok bool, err error) {
	n, size := len(states), in.module.Manifest.Aggregate.StateSize
	if ok, err := in.fits(abi.HeaderSize + abi.ColumnSize + 64 + n*(size+1) + outCap); !ok {
		return 0, false, err
	}
	p.w.abi.Begin(in.view(), n, 1)
	b := p.w.abi.OpenFixed(abi.ColumnStates, size)
	every(b.Valid, n)
	for i, s := range states {
		copy(b.Data[i*size:], s)
	}
	p.w.abi.Close(len(b.Data), 0, 0)
	outOff, _ = p.w.abi.Finish(outCap)
	return outOff, true, nil
}

// fits says whether a batch of so many bytes, output and all, may be and has a place.
func (in *Instance) fits(need int) (bool, error) {
	if need > abi.BatchMax {
		return false, nil
	}
	return in.room(need)
}

// every sets the first n bits.
func every(bits []byte, n int) {
	for i := range bits {
		bits[i] = 0xff
	}
	if n%8 != 0 {
		bits[n/8] = 1<<(n%8) - 1
	}
}

// edit calls an export that edits n states of size bytes in place, and takes them if all is well.
func (in *Instance) edit(export string, buf []byte, outOff, n, size int, rows []Row, state func(i int) []byte) (ok bool, err error) {
	abi.PutStates(buf, n, size)
	binary.LittleEndian.PutUint32(buf[abi.OffOutLen:], uint32(n*size))
	if err := in.ask(export, rows); err != nil {
		return false, err
	}
	if err := in.answered(export); err != nil {
		return false, err
	}
	buf = in.view()
	if err := abi.CheckStates(n*size, abi.ReadAnswer(buf)); err != nil {
		return false, &Trap{Output, err.Error()}
	}
	for i := range n {
		copy(state(i), buf[outOff+i*size:][:size])
	}
	return true, nil
}

// ask calls an export with the batch in the arena.
func (in *Instance) ask(export string, rows []Row) error {
	if in.exports == nil {
		in.exports = map[string]api.Function{}
	}
	f := in.exports[export]
	if f == nil {
		f = in.mod.ExportedFunction(export)
		in.exports[export] = f
	}
	in.guest.rows = rows
	err := in.call(f, uint64(in.arena))
	in.guest.rows = nil
	return err
}

// finish calls the guest with states; their values are said if all is well.
func (in *Instance) finish(p *Plugin, states [][]byte, value func(i int, v event.Value)) (ok bool, err error) {
	n, outCap := len(states), abi.OutCap(len(states))
	for {
		outOff, ok, err := in.states(p, states, outCap)
		if !ok {
			return false, err
		}
		abi.PutStates(in.view(), n, in.module.Manifest.Aggregate.StateSize)
		if err := in.ask(abi.ExportFinish, noRows); err != nil {
			return false, err
		}
		buf := in.view()
		a := abi.ReadAnswer(buf)
		if more := int(a.OutLen); abi.Code(int32(in.stack[0])) == abi.TooSmall && more > outCap {
			if more > abi.OutMax {
				return false, nil
			}
			outCap = more
			continue
		}
		if err := in.answered(abi.ExportFinish); err != nil {
			return false, err
		}
		columns, err := abi.ReadColumns(p.read[:0], buf[outOff:outOff+outCap], outOff, n, in.module.Manifest.Writes, a)
		if err != nil {
			return false, &Trap{Output, err.Error()}
		}
		p.read = columns
		for i := range n {
			var v event.Value
			v, p.text = written(&columns[0], i, p.text[:0])
			value(i, v)
		}
		return true, nil
	}
}
