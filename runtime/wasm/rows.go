package wasm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"unicode/utf8"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// Row is a row that a guest judges: its cells, its identity, its time and W, the watermark stamped on it, ms. Of a timer that
// fired the cells are the key's fields, and the time is when it was due.
type Row struct {
	Batch *event.Batch
	Row   int32
	Keyed bool // it has a key: none of its fields is null
	ID    event.ID
	TS, W int64
	From  int    // of a key that is brought up to date: the version of its state
	Seen  int64  // the last watermark that is not the end: what expires by then is not seen any more
	Key   []byte // canonical (event.AppendKey), of a plugin that remembers
	Ref   int32  // of Keys: one more than where they found the key, 0 before that
}

// run is rows that stand behind one another in a batch: rows from..from+n of it.
type run struct {
	batch   *event.Batch
	from, n int
}

// runsOf appends the runs that rows consist of. Most blocks are one run, so that a column is copied whole.
func runsOf(dst []run, rows []Row) []run {
	for i := 0; i < len(rows); {
		b, from, n := rows[i].Batch, rows[i].Row, 1
		for i+n < len(rows) && rows[i+n].Batch == b && rows[i+n].Row == from+int32(n) {
			n++
		}
		dst = append(dst, run{b, int(from), n})
		i += n
	}
	return dst
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
	runs    []run // of the rows that bound saw last
	wants   []abi.Want
	fired   []Timer    // of the rows, if they are timers
	moved   bool       // rows are keys whose state is brought up to date
	all     []abi.Type // of reads, wants and timers
}

func newWriter(m *abi.Manifest, fields []event.Field) *writer {
	w := &writer{reads: m.Reads, fields: fields, wants: m.Wants}
	for _, r := range m.Reads {
		w.types = append(w.types, r.Type)
	}
	w.all = slices.Clone(w.types)
	for range len(w.wants) {
		w.all = append(w.all, abi.TimestampMS)
	}
	w.all = append(w.all, abi.TimestampMS, abi.I64)
	w.times, _ = event.NewTimeFormat("", "") // RFC 3339
	return w
}

// bound takes rows to be written and says how many bytes they need at most, the output included.
func (w *writer) bound(rows []Row) int {
	w.runs = runsOf(w.runs[:0], rows)
	text := 0
	for i, f := range w.fields {
		if w.types[i] != abi.UTF8 {
			continue
		}
		for _, r := range w.runs {
			if c := r.batch.Column(f); c != nil {
				text += int(c.Ends[r.from+r.n] - c.Ends[r.from])
			}
		}
	}
	return abi.Bound(len(rows), text, w.all[:w.cols()]) + abi.OutCap(len(rows))
}

// write lays the rows that bound saw last out in buf, which has room, and returns where the output goes.
func (w *writer) write(buf []byte, rows []Row, outCap int) (outOff, total int) {
	w.abi.Begin(buf, len(rows), w.cols())
	w.columns(rows)
	return w.abi.Finish(outCap)
}

// columns writes the columns of a batch.
func (w *writer) columns(rows []Row) {
	for i := range w.reads {
		b := w.abi.Open(uint32(i), w.types[i])
		clear(b.Valid)
		var used, nulls int
		var flags uint16
		if w.types[i] == abi.UTF8 {
			used, nulls, flags = w.texts(b, i)
		} else {
			used, nulls = w.fixed(b, rows, i)
		}
		w.abi.Close(used, nulls, flags)
	}
	for _, x := range w.wants {
		if x.Index == abi.ColumnWatermark {
			w.whole(x.Index, abi.TimestampMS, len(rows), func(i int) int64 { return rows[i].W })
		} else {
			w.whole(x.Index, abi.TimestampMS, len(rows), func(i int) int64 { return rows[i].TS })
		}
	}
	if w.moved {
		w.numbers(rows)
	}
	if w.fired != nil {
		w.whole(abi.ColumnTimerAt, abi.TimestampMS, len(rows), func(i int) int64 { return w.fired[i].At })
		w.whole(abi.ColumnTimerTag, abi.I64, len(rows), func(i int) int64 { return w.fired[i].Tag })
	}
}

// cols is the number of columns that a batch has.
func (w *writer) cols() int {
	switch {
	case w.fired != nil:
		return len(w.all)
	case w.moved:
		return len(w.all) - 1
	}
	return len(w.all) - 2
}

// numbers writes the column of versions.
func (w *writer) numbers(rows []Row) {
	b := w.abi.Open(abi.ColumnFrom, abi.U32)
	w.filled(b, len(rows))
	for i := range rows {
		binary.LittleEndian.PutUint32(b.Data[4*i:], uint32(rows[i].From))
	}
	w.abi.Close(len(b.Data), 0, 0)
}

// filled says that a column has a value in each of n rows.
func (w *writer) filled(b *abi.Buffers, n int) {
	for i := range b.Valid {
		b.Valid[i] = 0xff
	}
	if n%8 != 0 {
		b.Valid[len(b.Valid)-1] = 1<<(n%8) - 1
	}
}

// whole writes a column of 64-bit numbers without nulls.
func (w *writer) whole(index uint32, t abi.Type, n int, at func(i int) int64) {
	b := w.abi.Open(index, t)
	w.filled(b, n)
	for i := range n {
		binary.LittleEndian.PutUint64(b.Data[8*i:], uint64(at(i)))
	}
	w.abi.Close(len(b.Data), 0, 0)
}

func (w *writer) texts(b *abi.Buffers, col int) (used, nulls int, flags uint16) {
	binary.LittleEndian.PutUint32(b.Offsets, 0)
	row := 0
	for _, r := range w.runs {
		c := r.batch.Column(w.fields[col])
		switch {
		case c == nil:
			fillOffsets(b.Offsets[4*row+4:], r.n, uint32(used))
			nulls += r.n
		case w.asItIs(c, r, col):
			nulls += valid(b.Valid, row, c.Kinds[r.from:r.from+r.n])
			base := c.Ends[r.from]
			moveOffsets(b.Offsets[4*row+4:], c.Ends[r.from+1:r.from+r.n+1], uint32(used)-base)
			used += copy(b.Data[used:], c.Data[base:c.Ends[r.from+r.n]])
		default:
			nulls += valid(b.Valid, row, c.Kinds[r.from:r.from+r.n])
			flags |= w.changed(b, &used, row, c, r, col)
		}
		row += r.n
	}
	return used, nulls, flags
}

// asItIs says whether all texts of a run go to the guest as they stand: no objects and arrays, whose JSON is made compact,
// and none longer than the guest wants.
func (w *writer) asItIs(c *event.Column, r run, col int) bool {
	kinds := c.Kinds[r.from : r.from+r.n]
	for _, k := range kinds {
		if k >= event.Object {
			return false
		}
	}
	most := w.reads[col].MaxLen
	if most == 0 || int(c.Ends[r.from+r.n]-c.Ends[r.from]) <= most {
		return true
	}
	ends := c.Ends[r.from : r.from+r.n+1]
	for i := range kinds {
		if int(ends[i+1]-ends[i]) > most {
			return false
		}
	}
	return true
}

// changed writes texts one by one.
func (w *writer) changed(b *abi.Buffers, used *int, row int, c *event.Column, r run, col int) (flags uint16) {
	most := w.reads[col].MaxLen
	for i := range r.n {
		at := r.from + i
		text := c.Data[c.Ends[at]:c.Ends[at+1]]
		if c.Kinds[at] >= event.Object {
			text = w.compacted(text)
		}
		if most > 0 && len(text) > most {
			text, flags = cut(text, most), abi.Truncated
		}
		*used += copy(b.Data[*used:], text)
		binary.LittleEndian.PutUint32(b.Offsets[4*(row+i)+4:], uint32(*used))
	}
	return flags
}

// valid sets the bits of cells that hold something, from a row on, and returns how many do not.
func valid(bits []byte, row int, kinds []event.Kind) (nulls int) {
	i := 0
	for ; i < len(kinds) && (row+i)%8 != 0; i++ {
		nulls += mark(bits, row+i, kinds[i])
	}
	for ; i+8 <= len(kinds); i += 8 {
		k := kinds[i : i+8 : i+8]
		if k[0] > event.Null && k[1] > event.Null && k[2] > event.Null && k[3] > event.Null && k[4] > event.Null && k[5] > event.Null && k[6] > event.Null && k[7] > event.Null {
			bits[(row+i)/8] = 0xff
			continue
		}
		for j := range k {
			nulls += mark(bits, row+i+j, k[j])
		}
	}
	for ; i < len(kinds); i++ {
		nulls += mark(bits, row+i, kinds[i])
	}
	return nulls
}

func mark(bits []byte, row int, k event.Kind) (null int) {
	if k <= event.Null {
		return 1
	}
	bits[row/8] |= 1 << (row % 8)
	return 0
}

// moveOffsets writes the ends of texts, moved by delta.
func moveOffsets(dst []byte, ends []uint32, delta uint32) {
	dst = dst[:4*len(ends)]
	for i, e := range ends {
		binary.LittleEndian.PutUint32(dst[4*i:4*i+4], e+delta)
	}
}

func fillOffsets(dst []byte, n int, end uint32) {
	for i := range n {
		binary.LittleEndian.PutUint32(dst[4*i:], end)
	}
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
	if t == abi.U64 {
		n, ok := unsigned(v)
		le.PutUint64(dst, n)
		return ok
	}
	n, ok := integer(v)
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	switch t {
	case abi.I32:
		low, high = math.MinInt32, math.MaxInt32
	case abi.U32:
		low, high = 0, math.MaxUint32
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
	d, ok := decimal(v)
	if !ok {
		return 0, false
	}
	return d.Int()
}

// unsigned is a whole number up to 2^64 - 1.
func unsigned(v event.Value) (uint64, bool) {
	if n, ok := v.Int(); ok {
		return uint64(n), n >= 0
	}
	d, ok := decimal(v)
	if !ok {
		return 0, false
	}
	return d.Uint()
}

func decimal(v event.Value) (d event.Decimal, ok bool) {
	if v.Kind != event.Number && v.Kind != event.String {
		return d, false
	}
	return event.ParseDecimal(v.Text)
}
