package abi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Writer lays out a batch in memory that its user provides, usually a guest's: Begin, then for each column Open, fill the
// buffers it gives, Close; then Finish. It allocates nothing; columns cost what their bytes cost.
type Writer struct {
	buf        []byte
	rows, cols int
	at, col    int
	column     Buffers
}

// Buffers are where a column's bytes go. Valid holds a bit a row, least significant first; Offsets, for types with values
// of any length, rows + 1 little endian i32, the first 0; Data reaches as far as there is room.
type Buffers struct {
	Valid, Offsets, Data []byte
	index                uint32
	typ                  Type
	width                int
}

// Bound is how many bytes a batch needs at most: rows, columns of types, bytes of text in all.
func Bound(rows, text int, types []Type) int {
	n := HeaderSize + len(types)*ColumnSize + text + Padding
	for _, t := range types {
		n += 8 + (rows+7)/8 // validity and its alignment
		switch w := t.Width(); {
		case w > 0:
			n += 8 + rows*w
		case t == Bool:
			n += 8 + (rows+7)/8
		default:
			n += 16 + 4*(rows+1)
		}
	}
	return n
}

// OutCap is the output space that a call with so many rows has at least.
func OutCap(rows int) int { return OutPerRow*rows + OutMin }

// Begin starts a batch at the beginning of buf, which has room for all of it and its output.
func (w *Writer) Begin(buf []byte, rows, cols int) {
	*w = Writer{buf: buf, rows: rows, cols: cols, at: HeaderSize + cols*ColumnSize}
	clear(buf[:w.at])
}

// Open starts the next column. index is its place in the manifest's reads.
func (w *Writer) Open(index uint32, t Type) *Buffers {
	b := Buffers{index: index, typ: t, width: t.Width()}
	w.align()
	n := (w.rows + 7) / 8
	b.Valid = w.buf[w.at : w.at+n]
	w.at += n
	w.align()
	switch {
	case t == Bool:
		b.Data = w.buf[w.at : w.at+n]
	case b.width > 0:
		b.Data = w.buf[w.at : w.at+w.rows*b.width]
	default:
		b.Offsets = w.buf[w.at : w.at+4*(w.rows+1)]
		w.at += len(b.Offsets)
		w.align()
		b.Data = w.buf[w.at:]
	}
	w.column = b
	return &w.column
}

// OpenFixed starts a column of fixed_binary: values of width bytes each.
func (w *Writer) OpenFixed(index uint32, width int) *Buffers {
	w.align()
	b := Buffers{index: index, typ: FixedBinary, width: width}
	n := (w.rows + 7) / 8
	b.Valid = w.buf[w.at : w.at+n]
	w.at += n
	w.align()
	b.Data = w.buf[w.at : w.at+w.rows*width]
	w.column = b
	return &w.column
}

// Close ends the column: used are the bytes of Data that count, nulls the rows without a value.
func (w *Writer) Close(used, nulls int, flags uint16) {
	b := &w.column
	d := w.buf[HeaderSize+w.col*ColumnSize:][:ColumnSize]
	flags |= HasValidity
	if nulls == w.rows {
		flags |= AllNull
	}
	le := binary.LittleEndian
	le.PutUint32(d, b.index)
	le.PutUint16(d[4:], uint16(b.typ))
	le.PutUint16(d[6:], flags)
	le.PutUint32(d[8:], uint32(nulls))
	le.PutUint32(d[12:], uint32(w.place(b.Valid)))
	le.PutUint32(d[16:], uint32(w.place(b.Data)))
	le.PutUint32(d[20:], uint32(used))
	if b.Offsets != nil {
		le.PutUint32(d[24:], uint32(w.place(b.Offsets)))
	}
	le.PutUint32(d[32:], uint32(b.width))
	w.at = w.place(b.Data) + used
	w.col++
}

// place is the offset of a slice of buf.
func (w *Writer) place(b []byte) int { return cap(w.buf) - cap(b) }

// align moves to the next multiple of 8 and leaves zeros behind.
func (w *Writer) align() {
	for w.at%8 != 0 {
		w.buf[w.at] = 0
		w.at++
	}
}

// Finish writes the header. The output follows the padding and has outCap bytes; total is all of it, the output included.
func (w *Writer) Finish(outCap int) (outOff, total int) {
	clear(w.buf[w.at : w.at+Padding])
	w.at += Padding
	w.align()
	outOff, total = w.at, w.at+outCap
	le, h := binary.LittleEndian, w.buf
	le.PutUint32(h, BatchMagic)
	le.PutUint16(h[4:], HeaderSize)
	le.PutUint32(h[8:], uint32(total))
	le.PutUint32(h[12:], uint32(w.rows))
	le.PutUint32(h[16:], uint32(w.cols))
	le.PutUint32(h[20:], HeaderSize)
	le.PutUint32(h[24:], ColumnSize)
	le.PutUint32(h[28:], uint32(outOff))
	le.PutUint32(h[32:], uint32(outCap))
	return outOff, total
}

// AppendInit appends what tocsin_init is given: the init header and the configuration's JSON text.
func AppendInit(dst, config []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, InitMagic)
	dst = le.AppendUint16(dst, InitHeaderSize)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, InitHeaderSize)
	dst = le.AppendUint32(dst, uint32(len(config)))
	dst = le.AppendUint32(dst, uint32(InitHeaderSize+len(config)+Padding))
	dst = le.AppendUint32(dst, Minor)
	dst = append(dst, make([]byte, 8)...)
	dst = append(dst, config...)
	return append(dst, make([]byte, Padding)...)
}

// Batch is a batch as a guest sees it, read with every offset checked. SDKs are tested against it.
type Batch struct {
	Rows    int
	Columns []Column
	OutOff  int
	OutCap  int
}

// Column is a column of a Batch. Value i is null where Valid(i) is false.
type Column struct {
	Index   uint32
	Type    Type
	Flags   uint16
	Nulls   int
	valid   []byte
	offsets []byte
	Data    []byte
	width   int
}

// Valid says whether row i has a value.
func (c *Column) Valid(i int) bool { return c.valid == nil || c.valid[i/8]>>(i%8)&1 == 1 }

// Bytes is the value of row i: the text, or the bytes of a fixed-width value; nil for bool.
func (c *Column) Bytes(i int) []byte {
	if c.offsets != nil {
		le := binary.LittleEndian
		return c.Data[le.Uint32(c.offsets[4*i:]):le.Uint32(c.offsets[4*i+4:])]
	}
	return c.Data[i*c.width : (i+1)*c.width]
}

// Bool is the value of row i of a bool column.
func (c *Column) Bool(i int) bool { return c.Data[i/8]>>(i%8)&1 == 1 }

var errBatch = errors.New("not a batch")

// ReadBatch reads a batch and checks all of its layout.
func ReadBatch(b []byte) (*Batch, error) {
	if len(b) < HeaderSize {
		return nil, fmt.Errorf("%w: %d bytes", errBatch, len(b))
	}
	le := binary.LittleEndian
	u := func(off int) int { return int(le.Uint32(b[off:])) }
	if u(0) != BatchMagic || int(le.Uint16(b[4:])) < HeaderSize || u(8) > len(b) || u(24) < ColumnSize {
		return nil, fmt.Errorf("%w: its header is wrong", errBatch)
	}
	total := u(8)
	out := &Batch{Rows: u(12), OutOff: u(28), OutCap: u(32)}
	cols, at, stride := u(16), u(20), u(24)
	if cols > total/ColumnSize || at+cols*stride > total || out.OutOff+out.OutCap > total || out.Rows > total {
		return nil, fmt.Errorf("%w: it does not fit its length", errBatch)
	}
	for i := range cols {
		c, err := readColumn(b[:total], b[at+i*stride:][:ColumnSize], out.Rows)
		if err != nil {
			return nil, fmt.Errorf("%w: column %d: %w", errBatch, i, err)
		}
		out.Columns = append(out.Columns, c)
	}
	return out, nil
}

func readColumn(b, d []byte, rows int) (c Column, err error) {
	le := binary.LittleEndian
	u := func(off int) int { return int(le.Uint32(d[off:])) }
	part := func(off, n int) []byte {
		if off%8 != 0 || off+n > len(b) {
			err = fmt.Errorf("its buffer at %d of %d bytes is out of place", off, n)
			return nil
		}
		return b[off : off+n]
	}
	c = Column{Index: le.Uint32(d), Type: Type(le.Uint16(d[4:])), Flags: le.Uint16(d[6:]), Nulls: u(8), width: u(32)}
	c.valid = part(u(12), (rows+7)/8)
	c.Data = part(u(16), u(20))
	need := (rows + 7) / 8
	switch w := c.Type.Width(); {
	case c.Type == FixedBinary:
		need = rows * c.width
	case w > 0:
		need = rows * w
		if c.width != w {
			return c, fmt.Errorf("%s has the width %d", c.Type, c.width)
		}
	case c.Type == UTF8 || c.Type == Binary:
		need = u(20)
		if c.offsets = part(u(24), 4*(rows+1)); err == nil {
			err = checkOffsets(c.offsets, len(c.Data))
		}
	case c.Type != Bool:
		return c, fmt.Errorf("unknown %s", c.Type)
	}
	if err == nil && len(c.Data) != need {
		err = fmt.Errorf("its data has %d bytes, not %d", len(c.Data), need)
	}
	return c, err
}

func checkOffsets(offsets []byte, n int) error {
	var last uint32
	for i := 0; i < len(offsets); i += 4 {
		x := binary.LittleEndian.Uint32(offsets[i:])
		if x < last || int(x) > n || i == 0 && x != 0 {
			return fmt.Errorf("offset %d is %d, after %d of %d", i/4, x, last, n)
		}
		last = x
	}
	if int(last) != n {
		return fmt.Errorf("offsets end at %d of %d", last, n)
	}
	return nil
}
