// Package table holds what is known beforehand: rows of a file by key, exact or by the longest prefix of an address.
//
// A Table is made once and only read from then on; Source has the newest one. Of rows by exact key it takes about 17 bytes each
// beside their texts, of networks of IPv4 about 27, and up to 40 more while it is read; a look-up does not allocate.
//
// Read table.go, find.go and nets.go, then read.go with csv.go, jsonl.go and mmdb.go, and source.go.
package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Table is rows by key. It is read-only, and safe for many goroutines.
type Table struct {
	columns []string // the key's first, unless keyless
	heads   [][]byte // of members of objects, by column
	rows    int
	keyless bool // its rows stand for many networks, and have no key
	texts   bool // the keys are texts without a type: a number is looked up by its text

	// Rows stand behind one another, at multiples of align, none in two chunks: the canonical key (event.AppendKey), then a cell a
	// column. A ref is a place among them, in units of align.
	chunks [][]byte
	reach  int // the last byte of a row of usual length, for who fetches it: it may stand in the next line of the cache

	// Of exact keys: open addressing, linear probing. A slot is the upper half of the hash, then ref + 1; 0 is empty.
	seed  maphash.Seed
	slots []uint64

	nets *nets // of networks
}

const (
	align    = 4
	chunkLen = 1 << 20
	perChunk = chunkLen / align
	refMost  = 1<<32 - 2
)

// Row is a row of a table; the zero Row is none.
type Row struct {
	data []byte
	key  int // bytes of the key, if it is known how many
}

// Known says whether there is one.
func (r Row) Known() bool { return r.data != nil }

// Columns are the names of the columns, the key's first if the table has one. Not to be changed.
func (t *Table) Columns() []string { return t.columns }

// Rows is the number of rows, of a MaxMind DB that of networks.
func (t *Table) Rows() int { return t.rows }

// Bytes is about what the table takes of memory.
func (t *Table) Bytes() (n int64) {
	for _, c := range t.chunks {
		n += int64(cap(c))
	}
	n += int64(len(t.slots)) * 8
	if t.nets != nil {
		n += t.nets.four.bytes() + t.nets.six.bytes()
	}
	return n
}

// exact returns the row of a key, nil if there is none.
func (t *Table) exact(key []byte, h uint64) []byte {
	for i := t.home(h); ; {
		ref, at := t.probe(h, i)
		if ref == 0 {
			return nil
		}
		if row := t.at(ref - 1); bytes.HasPrefix(row, key) {
			return row
		}
		i = t.next(at)
	}
}

// probe returns the next ref + 1, from a slot on, that may be of a hash, and its slot; 0 if there is none.
func (t *Table) probe(h uint64, i int) (ref uint32, at int) {
	for ; t.slots[i] != 0; i = t.next(i) {
		if s := t.slots[i]; s>>32 == h>>32 {
			return uint32(s), i
		}
	}
	return 0, i
}

func (t *Table) next(i int) int {
	if i++; i == len(t.slots) {
		return 0
	}
	return i
}

// home is the slot of a hash: its lower half says which, as the upper is in the slot.
func (t *Table) home(h uint64) int { return int(uint64(uint32(h)) * uint64(len(t.slots)) >> 32) }

// at is what stands from a ref on, to the end of the chunk.
func (t *Table) at(ref uint32) []byte { return t.chunks[ref/perChunk][ref%perChunk*align:] }

// Cells appends a cell a column, views of the table's memory. Columns that the row does not have are absent.
func (t *Table) Cells(dst []event.Value, r Row) []event.Value {
	if t.keyless {
		return t.others(dst, r.data)
	}
	key, rest, _ := event.ReadKey(r.data)
	return t.others(append(dst, key), rest)
}

// Others is Cells without reading the key, whose cell is absent.
func (t *Table) Others(dst []event.Value, r Row) []event.Value {
	if r.key == 0 || t.keyless {
		return t.Cells(dst, r)
	}
	return t.others(append(dst, event.Value{}), r.data[r.key:])
}

// others appends the cells of what stands behind the key.
func (t *Table) others(dst []event.Value, rest []byte) []event.Value {
	most := len(dst) + len(t.columns)
	if !t.keyless {
		most--
	}
	n, size := binary.Uvarint(rest)
	rest = rest[size:]
	for range n {
		head, size := uint64(rest[0]), 1
		if head >= 0x80 {
			head, size = binary.Uvarint(rest)
		}
		from, to := size, size+int(head>>3)
		dst = append(dst, event.Value{Kind: event.Kind(head & 7), Text: rest[from:to:to]})
		rest = rest[to:]
	}
	for len(dst) < most {
		dst = append(dst, event.Value{})
	}
	return dst
}

// AppendJSON appends a row as a JSON object of its columns, without those that it does not have.
func (t *Table) AppendJSON(dst []byte, r Row) []byte {
	var few [16]event.Value
	from := len(dst)
	for i, v := range t.Cells(few[:0], r) {
		if v.Kind != event.Absent {
			dst = append(append(dst, ','), t.heads[i]...)
			dst = v.AppendJSON(dst)
		}
	}
	if len(dst) == from {
		dst = append(dst, '{')
	}
	dst[from] = '{'
	return append(dst, '}')
}

// builder makes a table, row by row.
type builder struct {
	*Table
	path string
	ref  uint32 // of the last row
	gaps []byte // lines from each row to the next: uvarints
	line int    // of the last row
	six  int    // networks of addresses of 16 bytes
	buf  []byte
}

// add takes a row: its key, and the other cells in the order of the columns, which may become more from row to row.
func (b *builder) add(line int, key event.Value, cells []event.Value) error {
	if b.buf = b.buf[:0]; !b.keyless {
		b.buf = event.AppendKey(b.buf, key)
	}
	for len(cells) > 0 && cells[len(cells)-1].Kind == event.Absent {
		cells = cells[:len(cells)-1]
	}
	b.buf = binary.AppendUvarint(b.buf, uint64(len(cells)))
	for _, v := range cells {
		b.buf = append(binary.AppendUvarint(b.buf, uint64(len(v.Text))<<3|uint64(v.Kind)), v.Text...)
	}
	if len(b.buf) > chunkLen {
		return b.fault(line, 1, "the row takes %d bytes; at most %d may be", len(b.buf), chunkLen)
	}
	last := len(b.chunks) - 1
	if last < 0 || len(b.chunks[last])+len(b.buf) > chunkLen {
		if last++; last == 0 {
			b.chunks = append(b.chunks, nil) // a small table stays small
		} else {
			b.chunks = append(b.chunks, make([]byte, 0, chunkLen))
		}
	}
	ref := uint64(last)*perChunk + uint64(len(b.chunks[last]))/align
	if ref > refMost {
		return b.fault(line, 1, "the table is larger than %d GiB", (refMost+1)*align>>30)
	}
	chunk := append(b.chunks[last], b.buf...)
	for len(chunk)%align != 0 {
		chunk = append(chunk, 0)
	}
	b.chunks[last] = chunk
	b.gaps = binary.AppendUvarint(b.gaps, uint64(line-b.line))
	b.ref, b.line = uint32(ref), line
	b.rows++
	return nil
}

// each walks the rows, until one says no.
func (b *builder) each(one func(i int, ref uint32, row []byte) bool) {
	i := 0
	for c, chunk := range b.chunks {
		for at := 0; at < len(chunk); i++ {
			if !one(i, uint32(c*perChunk+at/align), chunk[at:]) {
				return
			}
			at += (b.size(chunk[at:]) + align - 1) / align * align
		}
	}
}

// size is what a row takes, of the bytes that begin with it.
func (b *builder) size(data []byte) int {
	rest := data
	if !b.keyless {
		_, rest, _ = event.ReadKey(data)
	}
	n, size := binary.Uvarint(rest)
	rest = rest[size:]
	for range n {
		head, size := binary.Uvarint(rest)
		rest = rest[size+int(head>>3):]
	}
	return len(data) - len(rest)
}

// lineOf is the line of the i-th row.
func (b *builder) lineOf(i int) (line int) {
	gaps := b.gaps
	for range i + 1 {
		n, size := binary.Uvarint(gaps)
		line, gaps = line+int(n), gaps[size:]
	}
	return line
}

// index makes the keys known; a key that stands twice is a fault.
func (b *builder) index() error {
	if n := len(b.chunks); n > 0 {
		b.chunks[n-1] = slices.Clone(b.chunks[n-1])
		b.reach = min((n-1)*chunkLen+len(b.chunks[n-1]), 64*b.rows) / max(b.rows, 1) // of longer ones the next line
	}
	if b.keyless {
		return nil // the networks came in order
	}
	if b.nets != nil {
		return b.indexNets()
	}
	b.seed = maphash.MakeSeed()
	b.slots = make([]uint64, 2*b.rows+1) // half of them free: fewer would be looked at one after the other
	var err error
	b.each(func(i int, ref uint32, row []byte) bool {
		_, rest, _ := event.ReadKey(row)
		key := row[:len(row)-len(rest)]
		h := maphash.Bytes(b.seed, key)
		at := b.home(h)
		for ; b.slots[at] != 0; at = b.next(at) {
			if s := b.slots[at]; s>>32 == h>>32 && bytes.HasPrefix(b.at(uint32(s)-1), key) {
				err = b.twice(ref, uint32(s)-1)
				return false
			}
		}
		b.slots[at] = h>>32<<32 | uint64(ref) + 1
		return true
	})
	return err
}

func (b *builder) indexNets() error {
	four, six := make([]prefix, 0, b.rows-b.six), make([]prefix, 0, b.six)
	var err error
	b.each(func(_ int, ref uint32, row []byte) bool {
		key, _, _ := event.ReadKey(row)
		var p netip.Prefix
		if p, err = network(key); err != nil { // it was read before
			return false
		}
		if x, is4 := prefixOf(p, ref); is4 {
			four = append(four, x)
		} else {
			six = append(six, x)
		}
		return true
	})
	if err != nil {
		return err
	}
	var twice []uint32
	if b.nets.four, twice = makeRanges(four, true); twice == nil {
		b.nets.six, twice = makeRanges(six, false)
	}
	if twice != nil {
		return b.twice(twice[0], twice[1])
	}
	return nil
}

// twice is the fault of a row whose key an earlier one has.
func (b *builder) twice(ref, earlier uint32) error {
	key, _, _ := event.ReadKey(b.at(ref))
	was, _, _ := event.ReadKey(b.at(earlier))
	same := "is there already"
	if b.nets != nil && !bytes.Equal(was.Text, key.Text) {
		same = fmt.Sprintf("is %s, which is there already", brief(was.Text))
	}
	var lines [2]int
	b.each(func(i int, at uint32, _ []byte) bool {
		if at == earlier {
			lines[0] = b.lineOf(i)
		}
		if at == ref {
			lines[1] = b.lineOf(i)
		}
		return at < ref
	})
	return b.fault(lines[1], 1, "the key %s %s, in line %d; keep one", brief(key.Text), same, lines[0])
}

// brief is a text for messages.
func brief(text []byte) string {
	if len(text) > 60 {
		return fmt.Sprintf("%q...", bytes.ToValidUTF8(text[:60], nil))
	}
	return fmt.Sprintf("%q", text)
}
