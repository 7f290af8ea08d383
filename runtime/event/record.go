package event

import "encoding/binary"

// Reader takes a record apart that was made of varints and length-prefixed bytes. After the first thing that is not there
// Bad is set, B is empty and everything reads as zero, so a decoder checks once, at its end.
type Reader struct {
	B   []byte
	Bad bool
}

func (r *Reader) fail() { r.B, r.Bad = nil, true }

// Uint reads an unsigned varint.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.B)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.B = r.B[n:]
	return v
}

// Int reads a signed varint.
func (r *Reader) Int() int64 {
	v, n := binary.Varint(r.B)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.B = r.B[n:]
	return v
}

// Take returns the next n bytes, a view.
func (r *Reader) Take(n uint64) []byte {
	if n > uint64(len(r.B)) {
		r.fail()
		return nil
	}
	v := r.B[:n:n]
	r.B = r.B[n:]
	return v
}

// Bytes reads length-prefixed bytes, a view.
func (r *Reader) Bytes() []byte { return r.Take(r.Uint()) }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	b := r.Take(1)
	if r.Bad {
		return 0
	}
	return b[0]
}

// Uint64 reads eight bytes, big-endian.
func (r *Reader) Uint64() uint64 {
	b := r.Take(8)
	if r.Bad {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Done says whether the record was read whole: nothing missing, nothing left.
func (r *Reader) Done() bool { return !r.Bad && len(r.B) == 0 }

// AppendBytes appends b with its length before it.
func AppendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}
