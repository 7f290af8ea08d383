package wasm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/netip"
	"unicode/utf8"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// Row is a row that a guest judges: its cells, its identity, and W, the watermark stamped on it, ms.
type Row struct {
	Batch *event.Batch
	Row   int32
	ID    event.ID
	W     int64
}

// writer lays rows out as columns in a guest's memory.
type writer struct {
	abi     abi.Writer
	reads   []abi.Read
	fields  []event.Field // of reads
	types   []abi.Type
	times   *event.TimeFormat
	nulled  int64 // values that were there and could not be converted
	compact bytes.Buffer
}

func newWriter(reads []abi.Read, fields []event.Field) *writer {
	w := &writer{reads: reads, fields: fields}
	for _, r := range reads {
		w.types = append(w.types, r.Type)
	}
	w.times, _ = event.NewTimeFormat("", "") // RFC 3339
	return w
}

// bound is how many bytes the rows need at most, the output included.
func (w *writer) bound(rows []Row) int {
	text := 0
	for i, f := range w.fields {
		if w.types[i] != abi.UTF8 {
			continue
		}
		for k := range rows {
			text += len(rows[k].Batch.Value(f, int(rows[k].Row)).Text)
		}
	}
	return abi.Bound(len(rows), text, w.types) + abi.OutCap(len(rows))
}

// write lays the rows out in buf, which has room, and returns where the output goes.
func (w *writer) write(buf []byte, rows []Row, outCap int) (outOff, total int) {
	w.abi.Begin(buf, len(rows), len(w.reads))
	for i := range w.reads {
		b := w.abi.Open(uint32(i), w.types[i])
		clear(b.Valid)
		var used, nulls int
		var flags uint16
		if w.types[i] == abi.UTF8 {
			used, nulls, flags = w.texts(b, rows, i)
		} else {
			used, nulls = w.fixed(b, rows, i)
		}
		w.abi.Close(used, nulls, flags)
	}
	return w.abi.Finish(outCap)
}

func (w *writer) texts(b *abi.Buffers, rows []Row, col int) (used, nulls int, flags uint16) {
	f, most := w.fields[col], w.reads[col].MaxLen
	binary.LittleEndian.PutUint32(b.Offsets, 0)
	for k := range rows {
		v := rows[k].Batch.Value(f, int(rows[k].Row))
		if v.Missing() {
			nulls++
		} else {
			b.Valid[k/8] |= 1 << (k % 8)
			text := v.Text
			if v.Kind >= event.Object {
				text = w.compacted(text)
			}
			if most > 0 && len(text) > most {
				text, flags = cut(text, most), abi.Truncated
			}
			used += copy(b.Data[used:], text)
		}
		binary.LittleEndian.PutUint32(b.Offsets[4*k+4:], uint32(used))
	}
	return used, nulls, flags
}

// cut shortens a text to at most n bytes, at the end of a character.
func cut(text []byte, n int) []byte {
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

func (w *writer) compacted(text []byte) []byte {
	w.compact.Reset()
	if json.Compact(&w.compact, text) != nil {
		return text // it was valid when it was scanned
	}
	return w.compact.Bytes()
}

func (w *writer) fixed(b *abi.Buffers, rows []Row, col int) (used, nulls int) {
	f, t := w.fields[col], w.types[col]
	clear(b.Data)
	width := t.Width()
	for k := range rows {
		v := rows[k].Batch.Value(f, int(rows[k].Row))
		ok := false
		if t == abi.Bool {
			var set bool
			if set, ok = asBool(v); set {
				b.Data[k/8] |= 1 << (k % 8)
			}
		} else {
			ok = w.number(b.Data[k*width:(k+1)*width], v, t)
		}
		switch {
		case ok:
			b.Valid[k/8] |= 1 << (k % 8)
		default:
			nulls++
			if !v.Missing() {
				w.nulled++
			}
		}
	}
	return len(b.Data), nulls
}

func asBool(v event.Value) (set, ok bool) {
	if v.Kind != event.Bool && v.Kind != event.String {
		return false, false
	}
	s := string(v.Text)
	return s == "true", s == "true" || s == "false"
}

// number puts a value of a fixed-width type in dst: false if it is none.
func (w *writer) number(dst []byte, v event.Value, t abi.Type) bool {
	le := binary.LittleEndian
	switch t {
	case abi.F64:
		f, ok := v.Float()
		le.PutUint64(dst, math.Float64bits(f))
		return ok
	case abi.IP:
		addr, err := netip.ParseAddr(string(v.Text))
		if v.Kind != event.String || err != nil || addr.Zone() != "" {
			return false
		}
		b := addr.As16()
		copy(dst, b[:])
		return true
	case abi.TimestampMS:
		n, ok := v.Int()
		if v.Kind == event.String {
			ms, err := w.times.Millis(v)
			n, ok = ms, err == nil
		}
		if ok {
			le.PutUint64(dst, uint64(n))
		}
		return ok
	}
	n, ok := integer(v)
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	switch t {
	case abi.I32:
		low, high = math.MinInt32, math.MaxInt32
	case abi.U32:
		low, high = 0, math.MaxUint32
	case abi.U64:
		low = 0
	}
	if !ok || n < low || n > high {
		return false
	}
	if len(dst) == 4 {
		le.PutUint32(dst, uint32(n))
	} else {
		le.PutUint64(dst, uint64(n))
	}
	return true
}

// integer is a whole number, also one that is written as 1e3 or 5.0.
func integer(v event.Value) (int64, bool) {
	if n, ok := v.Int(); ok {
		return n, true
	}
	f, ok := v.Float()
	return int64(f), ok && f == math.Trunc(f) && math.Abs(f) < 1<<53
}
