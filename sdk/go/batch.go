package tocsin

import (
	"encoding/binary"
	"unicode/utf8"
	"unsafe"
)

const batchMagic = 0x31424354 // "TCB1"

// Columns that the manifest wants beside those that it reads, those of timers, and that of keys that are brought up to date.
const (
	indexEventTime   = 0xFFFFFF00
	indexWatermark   = 0xFFFFFF01
	indexTimerAt     = 0xFFFFFF10
	indexTimerTag    = 0xFFFFFF11
	indexFromVersion = 0xFFFFFF12
)

const (
	typeBool        = 1
	typeI32         = 2
	typeI64         = 3
	typeU32         = 4
	typeU64         = 5
	typeF64         = 6
	typeUTF8        = 7
	typeTimestampMS = 9
	typeIP          = 10
)

// Batch is rows as columns, where the host wrote them: nothing is copied, and nothing of it may be kept when the call returns.
// Columns are named by their place in the manifest's reads; a place or type that the manifest does not have panics.
type Batch struct {
	// Rows is how many there are, at least 1.
	Rows int

	b             []byte
	columns       int
	first, stride int
}

// Numbers is a column of fixed width: numbers, times (ms since 1970), addresses (16 bytes).
type Numbers[T any] struct {
	Values []T // one a row, 0 where there is none
	valid  []byte
}

// Get is the row's value, and whether it has one.
func (c Numbers[T]) Get(row int) (v T, ok bool) { return c.Values[row], bit(c.valid, row) }

// Texts is a column of texts.
type Texts struct {
	data    []byte
	offsets []uint32
	valid   []byte
}

// At is the row's text, always UTF-8; empty if it has none.
func (c Texts) At(row int) []byte {
	from, to := c.offsets[row], c.offsets[row+1]
	return c.data[from:to:to]
}

// Get is the row's text, and whether it has one.
func (c Texts) Get(row int) (text []byte, ok bool) { return c.At(row), bit(c.valid, row) }

// Bools is a column of booleans.
type Bools struct{ bits, valid []byte }

// Get is the row's value, and whether it has one.
func (c Bools) Get(row int) (v, ok bool) { return bit(c.bits, row), bit(c.valid, row) }

func bit(bits []byte, row int) bool { return bits[row>>3]>>(row&7)&1 != 0 }

// Texts is a utf8 column.
func (b *Batch) Texts(column int) Texts {
	at := b.column(column, typeUTF8, typeUTF8)
	data := u32(b.b, at+16)
	return Texts{b.b[data:][:u32(b.b, at+20)], view[uint32](b.b, u32(b.b, at+24), b.Rows+1), b.valid(at)}
}

// Bools is a bool column.
func (b *Batch) Bools(column int) Bools {
	at := b.column(column, typeBool, typeBool)
	return Bools{b.b[u32(b.b, at+16):][:(b.Rows+7)/8], b.valid(at)}
}

// Int32s is an i32 column.
func (b *Batch) Int32s(column int) Numbers[int32] {
	return numbers[int32](b, b.column(column, typeI32, typeI32))
}

// Int64s is an i64 or timestamp_ms column.
func (b *Batch) Int64s(column int) Numbers[int64] {
	return numbers[int64](b, b.column(column, typeI64, typeTimestampMS))
}

// Uint32s is a u32 column.
func (b *Batch) Uint32s(column int) Numbers[uint32] {
	return numbers[uint32](b, b.column(column, typeU32, typeU32))
}

// Uint64s is a u64 column.
func (b *Batch) Uint64s(column int) Numbers[uint64] {
	return numbers[uint64](b, b.column(column, typeU64, typeU64))
}

// Float64s is an f64 column.
func (b *Batch) Float64s(column int) Numbers[float64] {
	return numbers[float64](b, b.column(column, typeF64, typeF64))
}

// IPs is an ip column, IPv4 as ::ffff:a.b.c.d.
func (b *Batch) IPs(column int) Numbers[[16]byte] {
	return numbers[[16]byte](b, b.column(column, typeIP, typeIP))
}

// EventTime is the time of each row, ms; of a timer its due time. The manifest must want event_time.
func (b *Batch) EventTime() Numbers[int64] { return b.Int64s(b.find(indexEventTime)) }

// Watermark is the watermark of each row, ms; the least int64 before any. The manifest must want watermark.
func (b *Batch) Watermark() Numbers[int64] { return b.Int64s(b.find(indexWatermark)) }

// TimerAt is, of timers that fired, what they were set to.
func (b *Batch) TimerAt() Numbers[int64] { return b.Int64s(b.find(indexTimerAt)) }

// TimerTag is, of timers that fired, their tags.
func (b *Batch) TimerTag() Numbers[int64] { return b.Int64s(b.find(indexTimerTag)) }

// FromVersion is, of keys that are brought up to date, the state.version that they were left by.
func (b *Batch) FromVersion() Numbers[uint32] { return b.Uint32s(b.find(indexFromVersion)) }

// WasCut says whether a value of a column was cut to its max_len.
func (b *Batch) WasCut(column int) bool {
	return column < b.columns && binary.LittleEndian.Uint16(b.b[b.first+column*b.stride+6:])&8 != 0
}

func (b *Batch) find(index int) int {
	for i := b.columns - 1; i >= 0; i-- {
		if u32(b.b, b.first+i*b.stride) == index {
			return i
		}
	}
	panic("tocsin: the batch has no such column: the manifest does not want it")
}

// column is where the descriptor of a column of one of two types stands.
func (b *Batch) column(i int, typ, or uint16) (at int) {
	if i < 0 || i >= b.columns {
		panic("tocsin: the manifest reads fewer columns")
	}
	at = b.first + i*b.stride
	if t := binary.LittleEndian.Uint16(b.b[at+4:]); t != typ && t != or {
		panic("tocsin: the manifest says another type of this column")
	}
	return at
}

func (b *Batch) valid(at int) []byte { return b.b[u32(b.b, at+12):][:(b.Rows+7)/8] }

func (b *Batch) open() {
	b.Rows, b.columns, b.first, b.stride = u32(b.b, 12), u32(b.b, 16), u32(b.b, 20), u32(b.b, 24)
}

func numbers[T any](b *Batch, at int) Numbers[T] {
	return Numbers[T]{view[T](b.b, u32(b.b, at+16), b.Rows), b.valid(at)}
}

// view is n values of memory as they lie there.
func view[T any](b []byte, off, n int) []T {
	var one T
	b = b[off:][:n*int(unsafe.Sizeof(one))]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

func u32(b []byte, at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }

// Open takes a batch apart in memory, for tests on the machine at hand: bytes as the host would write them, at a multiple of 8.
// Invalid if they are no batch.
func Open(bytes []byte) (*Batch, *Hits, error) {
	if len(bytes) < 64 || uintptr(unsafe.Pointer(unsafe.SliceData(bytes)))%8 != 0 || u32(bytes, 0) != batchMagic {
		return nil, nil, Invalid
	}
	b := &Batch{b: bytes}
	b.open()
	inside := func(off, n int) bool { return off >= 0 && n >= 0 && off <= len(bytes) && n <= len(bytes)-off }
	if b.columns > len(bytes) || b.Rows > 1<<20 || b.stride < 48 || b.stride > len(bytes) || b.first%4 != 0 || !inside(b.first, b.columns*b.stride) ||
		!inside(u32(bytes, 28), u32(bytes, 32)) || u32(bytes, 8) > len(bytes) {
		return nil, nil, Invalid
	}
	for i := range b.columns {
		if !b.sound(b.first+i*b.stride, inside) {
			return nil, nil, Invalid
		}
	}
	hits := &Hits{}
	hits.open(bytes, b.Rows)
	return b, hits, nil
}

// sound says whether all of a column lies within the batch.
func (b *Batch) sound(at int, inside func(off, n int) bool) bool {
	bits := (b.Rows + 7) / 8
	width := map[uint16]int{typeBool: bits, typeI32: 4 * b.Rows, typeU32: 4 * b.Rows, typeI64: 8 * b.Rows, typeU64: 8 * b.Rows, typeF64: 8 * b.Rows, typeTimestampMS: 8 * b.Rows, typeIP: 16 * b.Rows}
	typ := binary.LittleEndian.Uint16(b.b[at+4:])
	data, n, offsets := u32(b.b, at+16), u32(b.b, at+20), u32(b.b, at+24)
	if !inside(u32(b.b, at+12), bits) || !inside(data, n) || n < width[typ] || data%8 != 0 {
		return false
	}
	if typ != typeUTF8 {
		return true
	}
	if offsets%4 != 0 || !inside(offsets, 4*(b.Rows+1)) {
		return false
	}
	ends := view[uint32](b.b, offsets, b.Rows+1)
	for i := range b.Rows {
		if ends[i] > ends[i+1] || int(ends[i+1]) > n || !utf8.Valid(b.b[data:][ends[i]:ends[i+1]]) {
			return false
		}
	}
	return ends[0] == 0
}
