package abi

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// What plugins of the roles filter and map answer, and the one value of an aggregate. Each function checks all of an answer:
// whatever breaks the contract is an error that says where.

// ReadFilter reads the answer of a filter: a bitmap over the rows, in out, the output space.
func ReadFilter(out []byte, rows int, a Answer) ([]byte, error) {
	n := (rows + 7) / 8
	if err := checkRows(out, rows, a); err != nil {
		return nil, err
	}
	if int(a.OutLen) != n {
		return nil, fmt.Errorf("out_len is %d; a bitmap over %d rows has %d bytes", a.OutLen, rows, n)
	}
	return out[:n], checkBits(out[:n], rows, "the bitmap")
}

// ReadColumns reads columns that a module writes: descriptors at the beginning of out, the output space [out_off, out_off +
// out_cap), and the buffers behind them; outOff is its offset in the batch, from which offsets count. The columns are views
// into out, and where there is no validity every row has a value.
func ReadColumns(dst []Column, out []byte, outOff, rows int, writes []Write, a Answer) ([]Column, error) {
	if err := checkRows(out, rows, a); err != nil {
		return dst, err
	}
	if len(writes)*ColumnSize > int(a.OutLen) {
		return dst, fmt.Errorf("out_len is %d; the descriptors of %d columns alone have %d bytes", a.OutLen, len(writes), len(writes)*ColumnSize)
	}
	w := written{out: out[:a.OutLen], outOff: outOff, least: len(writes) * ColumnSize, rows: rows}
	for i := range writes {
		c, err := w.column(out[i*ColumnSize:][:ColumnSize], uint32(i), writes[i].Type)
		if err != nil {
			return dst, fmt.Errorf("column %d (%s) %w", i, writes[i].Path, err)
		}
		dst = append(dst, c)
	}
	return dst, nil
}

// checkRows checks the guest's fields of the header of an answer that is about every row.
func checkRows(out []byte, rows int, a Answer) error {
	switch {
	case int64(a.OutLen) > int64(len(out)):
		return fmt.Errorf("out_len is %d, out_cap %d", a.OutLen, len(out))
	case a.OutFlags != 0:
		return fmt.Errorf("out_flags is %d, not 0", a.OutFlags)
	case int64(a.OutRows) != int64(rows):
		return fmt.Errorf("out_rows is %d; the answer is about all %d rows", a.OutRows, rows)
	}
	return nil
}

// checkBits checks that the bits of a bitmap beyond the rows are 0.
func checkBits(bits []byte, rows int, what string) error {
	if rows%8 != 0 && bits[rows/8]>>(rows%8) != 0 {
		return fmt.Errorf("%s has bits beyond the %d rows", what, rows)
	}
	return nil
}

// written is output space with columns in it.
type written struct {
	out                 []byte
	outOff, least, rows int // least is where buffers may begin
}

func (w *written) column(d []byte, index uint32, t Type) (c Column, err error) {
	le := binary.LittleEndian
	c = Column{Index: le.Uint32(d), Type: Type(le.Uint16(d[4:])), Flags: le.Uint16(d[6:]), Nulls: int(le.Uint32(d[8:])), width: int(le.Uint32(d[32:]))}
	switch {
	case c.Index != index:
		return c, fmt.Errorf("has the index %d; columns stand in the order of writes", c.Index)
	case c.Type != t:
		return c, fmt.Errorf("is %s; the manifest says %s", c.Type, t)
	case c.Flags&^HasValidity != 0:
		return c, fmt.Errorf("has the flags %d; 0 or %d are", c.Flags, HasValidity)
	case c.width != t.Width():
		return c, fmt.Errorf("has the width %d; %s has %d", c.width, t, t.Width())
	}
	if c.Flags&HasValidity != 0 {
		if c.valid, err = w.buffer(le.Uint32(d[12:]), (w.rows+7)/8, "validity"); err != nil {
			return c, err
		}
		if err := checkBits(c.valid, w.rows, "its validity"); err != nil {
			return c, err
		}
	}
	n := le.Uint32(d[20:])
	if t != UTF8 {
		want := w.rows * t.Width()
		if t == Bool {
			want = (w.rows + 7) / 8
		}
		if int64(n) != int64(want) {
			return c, fmt.Errorf("has %d bytes of data; %d rows of %s have %d", n, w.rows, t, want)
		}
	}
	if int64(n) > int64(len(w.out)) {
		return c, fmt.Errorf("has %d bytes of data; the output has %d", n, len(w.out))
	}
	if c.Data, err = w.buffer(le.Uint32(d[16:]), int(n), "data"); err != nil {
		return c, err
	}
	switch t {
	case Bool:
		err = checkBits(c.Data, w.rows, "its data")
	case UTF8:
		err = w.texts(&c, le.Uint32(d[24:]))
	}
	return c, err
}

// buffer is a part of the output, which offsets of the batch name.
func (w *written) buffer(off uint32, n int, what string) ([]byte, error) {
	at := int64(off) - int64(w.outOff)
	switch {
	case off%8 != 0:
		return nil, fmt.Errorf("has its %s at %d, which is no multiple of 8", what, off)
	case at < int64(w.least) || at+int64(n) > int64(len(w.out)):
		return nil, fmt.Errorf("has its %s, %d bytes, at %d of the output; it must be from %d and end by %d", what, n, at, w.least, len(w.out))
	}
	return w.out[at : at+int64(n)], nil
}

func (w *written) texts(c *Column, off uint32) (err error) {
	if c.offsets, err = w.buffer(off, 4*(w.rows+1), "offsets"); err != nil {
		return err
	}
	if err := checkOffsets(c.offsets, len(c.Data)); err != nil {
		return fmt.Errorf("has offsets that do not ascend: %w", err)
	}
	whole := utf8.Valid(c.Data) // then no text is wrong unless it begins or ends within a character
	for i := range w.rows {
		text := c.Bytes(i)
		if whole && (len(text) == 0 || text[0] < utf8.RuneSelf && text[len(text)-1] < utf8.RuneSelf) {
			continue
		}
		if !utf8.Valid(text) {
			return fmt.Errorf("has a text in row %d that is not UTF-8", i)
		}
	}
	return nil
}

// PutStates puts what an aggregate is told about its states into the header of a batch.
func PutStates(header []byte, n, size int) {
	binary.LittleEndian.PutUint32(header[OffStates:], uint32(n))
	binary.LittleEndian.PutUint32(header[OffStateSize:], uint32(size))
}

// CheckStates checks the answer of update and merge, whose output is states that were edited in place: out_len, which says how
// many bytes they have, must be as it was.
func CheckStates(out int, a Answer) error {
	switch {
	case int64(a.OutLen) != int64(out):
		return fmt.Errorf("out_len is %d; the states have %d bytes", a.OutLen, out)
	case a.OutRows != 0:
		return fmt.Errorf("out_rows is %d, not 0", a.OutRows)
	case a.OutFlags != 0:
		return fmt.Errorf("out_flags is %d, not 0", a.OutFlags)
	}
	return nil
}
