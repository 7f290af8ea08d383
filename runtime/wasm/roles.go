package wasm

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// The roles filter and map answer as detect does, about rows of one batch, so a Plugin is all they need: of a filter each hit
// is a row that passes; of a map each row is a hit, whose Rule is the place of what it wrote (Wrote).

// exportsOf are what a module of a role must export.
var exportsOf = map[abi.Role][]string{
	abi.RoleDetect: {abi.ExportProcess}, abi.RoleFilter: {abi.ExportProcess}, abi.RoleMap: {abi.ExportProcess},
	abi.RoleAggregate: {abi.ExportUpdate, abi.ExportMerge, abi.ExportFinish},
}

// plays says what a module lacks for its role.
func (m *module) plays(manifest *abi.Manifest) error {
	for _, name := range exportsOf[manifest.Role()] {
		if !slices.ContainsFunc(m.exports, func(e export) bool { return e.name == name }) {
			r := reader{}
			r.fail(len(m.src), "it does not export %s", name)
			return r.err
		}
	}
	return nil
}

// answerReader takes the answer of a call apart: out is the output space, outOff its place in the batch.
type answerReader func(dst []abi.Hit, out []byte, outOff, rows int, a abi.Answer) ([]abi.Hit, error)

// reader is the one of the module's role.
func (in *Instance) reader() answerReader {
	switch in.module.Manifest.Role() {
	case abi.RoleFilter:
		return passing
	case abi.RoleMap:
		return in.wrote
	}
	return func(dst []abi.Hit, out []byte, outOff, rows int, a abi.Answer) ([]abi.Hit, error) {
		hits, err := abi.ReadHits(dst, out, outOff, rows, a)
		if err == nil {
			err = in.known(hits[len(dst):])
		}
		return hits, err
	}
}

// passing makes a hit of each row that passes.
func passing(dst []abi.Hit, out []byte, _, rows int, a abi.Answer) ([]abi.Hit, error) {
	bits, err := abi.ReadFilter(out, rows, a)
	if err != nil {
		return dst, err
	}
	for i := range rows {
		if bits[i/8]>>(i%8)&1 == 1 {
			dst = append(dst, abi.Hit{Row: uint32(i)})
		}
	}
	return dst, nil
}

// wrote keeps what a map wrote, and makes a hit of each row.
func (in *Instance) wrote(dst []abi.Hit, out []byte, outOff, rows int, a abi.Answer) ([]abi.Hit, error) {
	p := in.mapped
	columns, err := abi.ReadColumns(p.read[:0], out, outOff, rows, in.module.Manifest.Writes, a)
	if err != nil {
		return dst, err
	}
	p.read = columns
	for i := range rows {
		p.cells = p.cells[:0]
		for k := range columns {
			p.cells = append(p.cells, p.value(&columns[k], i))
		}
		dst = append(dst, abi.Hit{Row: uint32(i), Rule: uint32(p.batch.Rows)})
		p.batch.AppendRow(p.cells...)
	}
	return dst, nil
}

// writings are what a map wrote in a block: a column for each of the manifest's writes.
type writings struct {
	batch   *event.Batch
	fields  []event.Field
	read    []abi.Column
	cells   []event.Value
	scratch [][]byte
	at      int
}

func newWritings(writes []abi.Write) *writings {
	var names event.Fields
	w := &writings{}
	for _, x := range writes {
		w.fields = append(w.fields, names.Add(x.Path))
	}
	w.batch = event.NewBatch(&names, w.fields)
	w.scratch = make([][]byte, len(writes))
	return w
}

// value is a value of a column that a module wrote; numbers and the like are written into memory that is good for a row.
func (w *writings) value(c *abi.Column, i int) event.Value {
	if w.at++; w.at >= len(w.scratch) {
		w.at = 0
	}
	v, text := written(c, i, w.scratch[w.at][:0])
	w.scratch[w.at] = text
	return v
}

// written is a value of a column that a module wrote, its text in buf unless it is a text. NaN and infinities, which JSON does
// not have, and times outside of the years 0 to 9999 are null.
func written(c *abi.Column, i int, buf []byte) (event.Value, []byte) {
	if !c.Valid(i) {
		return event.Value{Kind: event.Null}, buf
	}
	kind := event.Number
	le := binary.LittleEndian
	switch c.Type {
	case abi.UTF8:
		return event.Value{Kind: event.String, Text: c.Bytes(i)}, buf
	case abi.Bool:
		kind, buf = event.Bool, strconv.AppendBool(buf, c.Bool(i))
	case abi.I32:
		buf = strconv.AppendInt(buf, int64(int32(le.Uint32(c.Bytes(i)))), 10)
	case abi.U32:
		buf = strconv.AppendUint(buf, uint64(le.Uint32(c.Bytes(i))), 10)
	case abi.I64:
		buf = strconv.AppendInt(buf, int64(le.Uint64(c.Bytes(i))), 10)
	case abi.U64:
		buf = strconv.AppendUint(buf, le.Uint64(c.Bytes(i)), 10)
	case abi.F64:
		f := math.Float64frombits(le.Uint64(c.Bytes(i)))
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return event.Value{Kind: event.Null}, buf
		}
		buf = strconv.AppendFloat(buf, f, 'g', -1, 64)
	case abi.TimestampMS:
		ms := int64(le.Uint64(c.Bytes(i)))
		if ms < timeMin || ms > timeMax {
			return event.Value{Kind: event.Null}, buf
		}
		kind, buf = event.String, event.AppendTime(buf, ms)
	case abi.IP:
		kind, buf = event.String, netip.AddrFrom16([16]byte(c.Bytes(i))).Unmap().AppendTo(buf)
	}
	return event.Value{Kind: kind, Text: buf}, buf
}

// The years 0 to 9999, ms.
const timeMin, timeMax = -62_167_219_200_000, 253_402_300_799_999

// Wrote is what a map wrote: column c of the manifest's writes at the place that a hit of the last Detect names.
func (p *Plugin) Wrote(place, c int) event.Value {
	return p.mapped.batch.Value(p.mapped.fields[c], place)
}
