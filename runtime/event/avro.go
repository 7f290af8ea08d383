package event

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
)

// What one record of Avro may cost: values that take no bytes, and bytes as JSON.
const (
	avroVacantMax = 1 << 16
	recordJSONMax = 64 << 20
)

// avroReader walks a record once, by its schema. All three ways (skip, take, json) read exactly the same, so whether a record is one
// does not depend on what is read of it. After an error everything returns at once.
type avroReader struct {
	b      []byte
	i      int
	depth  int
	vacant int // values without bytes, so far
	err    *SyntaxError

	hits       []hit
	duplicates int
	scratch    []byte
}

func (r *avroReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = &SyntaxError{r.i, fmt.Sprintf(format, args...)}
	}
}

// long reads a variable-length zig-zag integer.
func (r *avroReader) long() int64 {
	if r.i < len(r.b) && r.b[r.i] < 0x80 {
		u := r.b[r.i]
		r.i++
		return int64(u>>1) ^ -int64(u&1)
	}
	u, n := binary.Uvarint(r.b[min(r.i, len(r.b)):])
	if n <= 0 {
		if r.fail("the record ends within a number"); n < 0 {
			r.err.Msg = "a number of more than 64 bits"
		}
		return 0
	}
	r.i += n
	return int64(u>>1) ^ -int64(u&1)
}

// take returns the next n bytes.
func (r *avroReader) bytes(n int64) []byte {
	if n < 0 || n > int64(len(r.b)-r.i) {
		r.fail("a length of %d, and %d bytes are left", n, len(r.b)-r.i)
		return nil
	}
	v := r.b[r.i : r.i+int(n) : r.i+int(n)]
	r.i += int(n)
	return v
}

// raw returns the bytes of a value that is some, without what is before them.
func (r *avroReader) raw(t *avroType) []byte {
	switch {
	case t.kind == avroFloat:
		return r.bytes(4)
	case t.kind == avroDouble:
		return r.bytes(8)
	case t.kind == avroFixed || t.kind == avroUUID || t.kind == avroDecimal && t.under == avroFixed:
		return r.bytes(int64(t.size))
	}
	n := r.long()
	if t.kind == avroDecimal && n > avroDecimalMax {
		r.fail("a decimal of %d bytes, the limit is %d", n, avroDecimalMax)
		return nil
	}
	return r.bytes(n)
}

func (r *avroReader) bool() (text string) {
	v := r.bytes(1)
	switch {
	case r.err != nil:
	case v[0] == 1:
		return "true"
	case v[0] > 1:
		r.i--
		r.fail("a boolean must be 0 or 1")
	}
	return "false"
}

// symbol reads an enum.
func (r *avroReader) symbol(t *avroType) string {
	n := r.long()
	if n < 0 || n >= int64(len(t.symbols)) {
		r.fail("an enum of %d symbols has no number %d", len(t.symbols), n)
		return ""
	}
	return t.symbols[n]
}

// branch reads which type of a union comes; -1 on an error.
func (r *avroReader) branch(t *avroType) int {
	n := r.long()
	if n < 0 || n >= int64(len(t.branches)) {
		r.fail("a union of %d types has no number %d", len(t.branches), n)
		return -1
	}
	return int(n)
}

// enter begins a value that has others in it; every enter that is true has its leave.
func (r *avroReader) enter() bool {
	if r.depth++; r.depth > depthMax {
		r.fail("nested too deep")
	}
	return r.err == nil
}

func (r *avroReader) leave() { r.depth-- }

// empty counts a value that may take no bytes: a count of such costs a writer nothing.
func (r *avroReader) empty(t *avroType) {
	if t.vacant {
		if r.vacant++; r.vacant > avroVacantMax {
			r.fail("more than %d values that take no bytes", avroVacantMax)
		}
	}
}

// blocks calls each for every item of an array or map.
func (r *avroReader) blocks(t *avroType, each func()) {
	for r.err == nil {
		n, size := r.long(), int64(-1)
		if n < 0 {
			if n, size = -n, r.long(); n < 0 || size < 0 {
				r.fail("a block of %d items and %d bytes", n, size)
			}
		}
		if n == 0 || r.err != nil {
			return
		}
		from := r.i
		for ; n > 0 && r.err == nil; n-- {
			each()
			r.empty(t.items)
		}
		if size >= 0 && r.err == nil && int64(r.i-from) != size {
			r.fail("a block says that it has %d bytes, and has %d", size, r.i-from)
		}
	}
}

// skip reads a value that nobody wants.
func (r *avroReader) skip(t *avroType) {
	switch t.kind {
	case avroNull:
	case avroBool:
		r.bool()
	case avroEnum:
		r.symbol(t)
	case avroFloat, avroDouble, avroBytes, avroString, avroFixed, avroUUID, avroDecimal:
		r.raw(t)
	case avroUnion:
		if n := r.branch(t); n >= 0 && r.enter() {
			r.skip(t.branches[n])
			r.leave()
		}
	case avroRecord:
		if r.enter() {
			for i := range t.fields {
				f := &t.fields[i]
				if r.skip(f.avroType); r.err != nil {
					return
				}
				r.empty(f.avroType)
			}
			r.leave()
		}
	case avroArray, avroMap:
		if r.enter() {
			r.blocks(t, func() {
				if t.kind == avroMap {
					r.bytes(r.long())
				}
				r.skip(t.items)
			})
			r.leave()
		}
	default:
		r.long()
	}
}

// scalar reads a value that has no others in it: its kind as a cell, and its text, which is a view of the record, or dst with what was
// appended.
func (r *avroReader) scalar(t *avroType, dst []byte) (k Kind, text []byte, grown []byte) {
	from := len(dst)
	k = String
	switch t.kind {
	case avroNull:
		return Null, nil, dst
	case avroBool:
		k, dst = Bool, append(dst, r.bool()...)
	case avroEnum:
		dst = append(dst, r.symbol(t)...)
	case avroString:
		return String, r.raw(t), dst
	case avroBytes, avroFixed:
		dst = base64.StdEncoding.AppendEncode(dst, r.raw(t))
	case avroUUID:
		dst = appendUUID(dst, r.raw(t))
	case avroDecimal:
		k, dst = Number, appendDecimal(dst, r.raw(t), t.scale)
	case avroFloat:
		if b := r.raw(t); r.err == nil {
			k, dst = appendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), 32)
		}
	case avroDouble:
		if b := r.raw(t); r.err == nil {
			k, dst = appendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(b)), 64)
		}
	default:
		k, dst = appendLogical(dst, t.kind, r.long())
	}
	return k, dst[from:], dst
}

// json appends a value as JSON.
func (r *avroReader) json(t *avroType, dst []byte) []byte {
	if len(dst) > recordJSONMax {
		r.fail("as JSON it is longer than %d MiB", recordJSONMax>>20)
		return dst
	}
	switch t.kind {
	case avroUnion:
		if n := r.branch(t); n >= 0 && r.enter() {
			dst = r.json(t.branches[n], dst)
			r.leave()
		}
		return dst
	case avroRecord:
		return r.jsonRecord(t, dst)
	case avroArray, avroMap:
		return r.jsonItems(t, dst)
	}
	from := len(dst)
	k, text, dst := r.scalar(t, dst)
	switch {
	case k == Null:
		return append(dst, "null"...)
	case k != String:
		return dst
	case len(dst) == from: // a view
		return AppendJSONString(dst, text)
	}
	dst = append(dst, `""`...)
	copy(dst[from+1:], dst[from:len(dst)-2])
	dst[from], dst[len(dst)-1] = '"', '"' // nothing else that is made here needs an escape
	return dst
}

func (r *avroReader) jsonRecord(t *avroType, dst []byte) []byte {
	if !r.enter() {
		return dst
	}
	dst = append(dst, '{')
	for i := range t.fields {
		f := &t.fields[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst = r.json(f.avroType, append(dst, f.key...)); r.err != nil {
			return dst
		}
		r.empty(f.avroType)
	}
	r.leave()
	return append(dst, '}')
}

func (r *avroReader) jsonItems(t *avroType, dst []byte) []byte {
	if !r.enter() {
		return dst
	}
	open, end := byte('['), byte(']')
	if t.kind == avroMap {
		open, end = '{', '}'
	}
	dst = append(dst, open)
	first := true
	r.blocks(t, func() {
		if !first {
			dst = append(dst, ',')
		}
		if first = false; t.kind == avroMap {
			dst = append(AppendJSONString(dst, r.bytes(r.long())), ':')
		}
		if r.err == nil {
			dst = r.json(t.items, dst)
		}
	})
	r.leave()
	return append(dst, end)
}

func appendUUID(dst, b []byte) []byte {
	if len(b) != 16 {
		return dst
	}
	for i, n := range [...]int{0, 4, 6, 8, 10, 16} {
		if i == 0 {
			continue
		}
		from := [...]int{0, 0, 4, 6, 8, 10}[i]
		if dst = hex.AppendEncode(dst, b[from:n]); n < 16 {
			dst = append(dst, '-')
		}
	}
	return dst
}

// appendDecimal appends a two's complement, the highest byte first, over 10^scale.
func appendDecimal(dst, b []byte, scale int) []byte {
	var digits []byte
	neg := len(b) > 0 && b[0] >= 0x80
	if len(b) <= 8 {
		v := int64(0)
		if neg {
			v = -1
		}
		for _, c := range b {
			v = v<<8 | int64(c)
		}
		u := uint64(v)
		if neg {
			u = -u
		}
		digits = strconv.AppendUint(nil, u, 10)
	} else {
		n := new(big.Int).SetBytes(b)
		if neg {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
		}
		digits = n.Abs(n).Append(nil, 10)
	}
	if neg {
		dst = append(dst, '-')
	}
	if scale == 0 {
		return append(dst, digits...)
	}
	for i := len(digits); i <= scale; i++ { // 0.05
		if dst = append(dst, '0'); i == len(digits) {
			dst = append(dst, '.')
		}
	}
	if len(digits) <= scale {
		return append(dst, digits...)
	}
	dst = append(dst, digits[:len(digits)-scale]...)
	return append(append(dst, '.'), digits[len(digits)-scale:]...)
}

// appendFloat appends a number; what JSON has no number for is a text, as Protobuf's JSON has it.
func appendFloat(dst []byte, f float64, bits int) (Kind, []byte) {
	switch {
	case f != f:
		return String, append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return String, append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return String, append(dst, "-Infinity"...)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return Number, strconv.AppendFloat(dst, f, format, -1, bits)
}

const (
	dayMillis = 86_400_000
	dayMicros = 86_400_000_000
)

// appendLogical appends an integer by its logical type: times as RFC 3339 writes them, or what is beyond the years 0 to 9999, or no
// time of day, as the number that it is.
func appendLogical(dst []byte, k avroKind, n int64) (Kind, []byte) {
	from := len(dst)
	switch k {
	case avroDate:
		if n >= timeMin/dayMillis && n <= timeMax/dayMillis {
			return String, AppendTime(dst, n*dayMillis)[:from+len("2006-01-02")]
		}
	case avroTimeMillis:
		if n >= 0 && n < dayMillis {
			return String, clockOf(dst, n)
		}
	case avroTimeMicros:
		if n >= 0 && n < dayMicros {
			return String, fractionTo(clockOf(dst, n/1000), n%1000)
		}
	case avroMillis, avroMicros, avroNanos, avroLocalMillis, avroLocalMicros:
		unit := int64(1)
		if k == avroMicros || k == avroLocalMicros {
			unit = 1000
		} else if k == avroNanos {
			unit = 1_000_000
		}
		ms := floorDiv(n, unit)
		if ms < timeMin || ms > timeMax {
			break
		}
		rest := n - ms*unit
		dst = AppendTime(dst, ms)
		dst = dst[:len(dst)-1] // the Z
		if k == avroNanos {
			dst = fractionTo(dst, rest/1000)
			dst = fractionTo(dst, rest%1000)
		} else if unit > 1 {
			dst = fractionTo(dst, rest)
		}
		if k != avroLocalMillis && k != avroLocalMicros {
			dst = append(dst, 'Z')
		}
		return String, dst
	}
	return Number, strconv.AppendInt(dst, n, 10)
}

// clockOf appends the time of day, 15:04:05.000.
func clockOf(dst []byte, ms int64) []byte {
	from := len(dst)
	dst = AppendTime(dst, ms) // of 1970-01-01
	n := copy(dst[from:], dst[from+len("1970-01-01T"):len(dst)-1])
	return dst[:from+n]
}

// fractionTo appends three more digits of a fraction.
func fractionTo(dst []byte, n int64) []byte {
	return append(dst, byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10))
}
