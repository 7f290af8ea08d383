package event

import "bytes"

// Column is one field of every row of a batch, laid out as Apache Arrow lays out variable-size binary: row i is
// Data[Ends[i]:Ends[i+1]], Ends[0] being 0. Kinds has one byte a row, from which Arrow's validity bitmap follows (valid:
// neither Absent nor Null). A column goes into a guest's memory with one copy a buffer.
type Column struct {
	Kinds []Kind
	Ends  []uint32
	Data  []byte
}

func (c *Column) append(k Kind, text []byte) {
	c.Kinds = append(c.Kinds, k)
	c.Data = append(c.Data, text...)
	c.Ends = append(c.Ends, uint32(len(c.Data)))
}

func (c *Column) reset() {
	c.Kinds, c.Data = c.Kinds[:0], c.Data[:0]
	c.Ends = append(c.Ends[:0], 0)
}

// Value is the cell of a row.
func (c *Column) Value(row int) Value { return Value{c.Kinds[row], c.Data[c.Ends[row]:c.Ends[row+1]]} }

// Append adds a cell.
func (c *Column) Append(v Value) { c.append(v.Kind, v.Text) }

// AppendRows adds n cells of another column, from a row on; of a nil one they are Absent.
func (c *Column) AppendRows(from *Column, row, n int) {
	if from == nil {
		for range n {
			c.append(Absent, nil)
		}
		return
	}
	if n == 1 {
		c.append(from.Kinds[row], from.Data[from.Ends[row]:from.Ends[row+1]])
		return
	}
	c.Kinds = append(c.Kinds, from.Kinds[row:row+n]...)
	shift := uint32(len(c.Data)) - from.Ends[row]
	c.Data = append(c.Data, from.Data[from.Ends[row]:from.Ends[row+n]]...)
	for _, end := range from.Ends[row+1 : row+n+1] {
		c.Ends = append(c.Ends, end+shift)
	}
}

// Batch is a table of rows, a column a field. Rows of one batch share one projection, or are the results of one operator.
type Batch struct {
	Cols  []Column
	Rows  int
	index []int16 // Field -> column, or -1

	// Of rows that were projected from lines: the block, kept until the batch is recycled, and each row's line in it.
	Source *Block
	Line   []int32

	// What was mended while projecting: wanted keys that stood twice (the last wins), strings that were not UTF-8.
	Duplicates, InvalidUTF8 int

	// How rows were read, if not all of them are JSON: each row's place in Forms.
	Forms []*Projection
	Form  []uint16

	// Why the row that was appended last, of a record with a schema, must not be taken: its schema is not what the stream's fields say.
	Unfit error

	hits    []hit
	taker   taker
	plan    *plan  // of the record before
	scratch []byte // texts of the record that is read
	found   []gathered
}

// NewBatch returns an empty batch whose columns are the given fields, in this order.
func NewBatch(fields *Fields, cols []Field) *Batch {
	b := &Batch{Cols: make([]Column, len(cols)), index: indexOf(fields, cols)}
	b.Reset()
	return b
}

func indexOf(fields *Fields, cols []Field) []int16 {
	index := make([]int16, fields.Len())
	for i := range index {
		index[i] = -1
	}
	for i, f := range cols {
		index[f] = int16(i)
	}
	return index
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Rows, b.Source, b.Line = 0, nil, b.Line[:0]
	b.Forms, b.Form = b.Forms[:0], b.Form[:0]
	b.Duplicates, b.InvalidUTF8 = 0, 0
	for i := range b.Cols {
		b.Cols[i].reset()
	}
}

// Event returns the event that a row was projected from, as JSON and a copy, or nil for a derived row.
func (b *Batch) Event(row int32) []byte {
	if b.Source == nil {
		return nil
	}
	line := b.Source.Line(int(b.Line[row]))
	if len(b.Forms) == 0 {
		return bytes.Clone(bytes.TrimSpace(line))
	}
	if p := b.Forms[b.Form[row]]; p.records == nil {
		return p.Object(line)
	} else {
		return p.recordObject(b.Source.Schemas, line)
	}
}

// Undo takes back the last row that was projected.
func (b *Batch) Undo() {
	b.Rows--
	for i := range b.Cols {
		c := &b.Cols[i]
		c.Kinds, c.Ends = c.Kinds[:b.Rows], c.Ends[:b.Rows+1]
		c.Data = c.Data[:c.Ends[b.Rows]]
	}
}

// Value returns the cell of a field in a row; Absent if the batch has no such column.
func (b *Batch) Value(f Field, row int) Value {
	if int(f) >= len(b.index) || b.index[f] < 0 {
		return Value{}
	}
	return b.Cols[b.index[f]].Value(row)
}

// Column returns the column of a field, or nil if the batch has no such column.
func (b *Batch) Column(f Field) *Column {
	if int(f) >= len(b.index) || b.index[f] < 0 {
		return nil
	}
	return &b.Cols[b.index[f]]
}

// AppendRow adds a row of one cell a column, in column order.
func (b *Batch) AppendRow(cells ...Value) {
	for i, v := range cells {
		b.Cols[i].append(v.Kind, v.Text)
	}
	b.Rows++
}
