package wasm

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// GateError says why the gate refuses a module: where, in bytes from the file's beginning, and which rule it breaks.
type GateError struct {
	Offset int
	Text   string
}

func (e *GateError) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Text) }

// reader takes bytes of a module apart. The first fault sticks; after it every read gives zero and done is true, so that
// loops end.
type reader struct {
	b   []byte
	at  int
	end int
	err *GateError
}

func (r *reader) fail(at int, format string, args ...any) {
	if r.err == nil {
		r.err = &GateError{at, fmt.Sprintf(format, args...)}
	}
	r.at = r.end
}

func (r *reader) done() bool { return r.at >= r.end }

func (r *reader) byte() byte {
	if r.at >= r.end {
		r.fail(r.end, "it ends too early")
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

// take returns the next n bytes, nil if there are fewer.
func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(r.end-r.at) {
		r.fail(r.at, "it needs %d bytes and has %d", n, r.end-r.at)
		return nil
	}
	r.at += int(n)
	return r.b[r.at-int(n) : r.at]
}

// u32 reads an unsigned LEB128 of at most 5 bytes.
func (r *reader) u32() uint32 {
	from := r.at
	if from < r.end && r.b[from] < 0x80 { // nearly all
		r.at++
		return uint32(r.b[from])
	}
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if v > 0xffffffff {
				break
			}
			return uint32(v)
		}
	}
	r.fail(from, "a number has more than 32 bits")
	return 0
}

// s64 reads a signed LEB128 of the given size in bits.
func (r *reader) s64(bits int) int64 {
	from := r.at
	var v int64
	for shift := 0; shift < bits; shift += 7 {
		c := r.byte()
		v |= int64(c&0x7f) << shift
		if c >= 0x80 {
			continue
		}
		used := shift + 7
		if used < 64 {
			v = v << (64 - used) >> (64 - used)
		}
		if over := used - bits; over > 0 { // the bits beyond must repeat the sign
			top := int8(c<<1) >> (7 - over)
			if top != 0 && top != -1 {
				break
			}
		}
		return v
	}
	r.fail(from, "a number has more than %d bits", bits)
	return 0
}

// count reads the length of a vector whose entries have at least least bytes each.
func (r *reader) count(what string, least, most int) int {
	from := r.at
	n := r.u32()
	switch {
	case r.err != nil:
	case int64(n) > int64(most):
		r.fail(from, "%d %s; at most %d", n, what, most)
	case int64(n)*int64(least) > int64(r.end-r.at):
		r.fail(from, "%d %s do not fit the %d bytes that are left", n, what, r.end-r.at)
	default:
		return int(n)
	}
	return 0
}

func (r *reader) name() string {
	from := r.at
	b := r.take(r.u32())
	if len(b) > nameMax {
		r.fail(from, "a name has %d bytes; at most %d", len(b), nameMax)
		return ""
	}
	if !utf8.Valid(b) {
		r.fail(from, "a name is not UTF-8")
	}
	return string(b)
}

func appendU32(dst []byte, v uint32) []byte { return binary.AppendUvarint(dst, uint64(v)) }

func appendS64(dst []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(dst, c)
		}
		dst = append(dst, c|0x80)
	}
}

func appendName(dst []byte, s string) []byte { return append(appendU32(dst, uint32(len(s))), s...) }
