package wasm

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// Keyer makes the keys of rows for a plugin that remembers: the fields of key_by, converted as the guest gets them, so that 5 and
// "5" are one key of an integer, and ::ffff:10.0.0.1 and 10.0.0.1 one of an address. For one goroutine.
type Keyer struct {
	w     *writer
	by    []int // of the manifest's reads
	bytes [8]byte
	text  []byte
}

// NewKeyer makes a Keyer; fields are those of the manifest's reads.
func NewKeyer(m *abi.Manifest, fields []event.Field) *Keyer {
	return &Keyer{w: newWriter(m, fields), by: m.KeyBy}
}

// Append appends the canonical key of a row; ok is false if one of its fields is null, or does not convert.
func (k *Keyer) Append(dst []byte, value func(f event.Field) event.Value) (key []byte, ok bool) {
	for _, i := range k.by {
		v, ok := k.converted(value(k.w.fields[i]), k.w.types[i])
		if !ok {
			return dst, false
		}
		dst = event.AppendKey(dst, v)
	}
	return dst, true
}

// converted is a value as the guest gets it.
func (k *Keyer) converted(v event.Value, t abi.Type) (event.Value, bool) {
	switch {
	case v.Missing():
		return v, false
	case t == abi.UTF8 && v.Kind >= event.Object:
		return event.Value{Kind: event.String, Text: k.w.compacted(v.Text)}, true
	case t == abi.UTF8:
		return event.Value{Kind: event.String, Text: v.Text}, true
	case t == abi.Bool:
		_, ok := asBool(v)
		return event.Value{Kind: event.Bool, Text: v.Text}, ok
	case t == abi.IP:
		addr, err := netip.ParseAddr(string(v.Text))
		if v.Kind != event.String || err != nil || addr.Zone() != "" {
			return v, false
		}
		k.text = addr.Unmap().AppendTo(k.text[:0])
		return event.Value{Kind: event.String, Text: k.text}, true
	}
	b := k.bytes[:t.Width()]
	if !k.w.number(b, v, t) {
		return v, false
	}
	switch u := number(b); t {
	case abi.F64:
		k.text = strconv.AppendFloat(k.text[:0], math.Float64frombits(u), 'g', -1, 64)
	case abi.U32, abi.U64:
		k.text = strconv.AppendUint(k.text[:0], u, 10)
	case abi.I32:
		k.text = strconv.AppendInt(k.text[:0], int64(int32(u)), 10)
	default:
		k.text = strconv.AppendInt(k.text[:0], int64(u), 10)
	}
	return event.Value{Kind: event.Number, Text: k.text}, true
}

// number is a little endian number of four or eight bytes.
func number(b []byte) uint64 {
	if len(b) == 4 {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}
