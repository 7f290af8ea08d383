package operator

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Window is a tumbling window: rows are grouped by key and by [start, start+Size), start = ts - floormod(ts-Offset, Size).
// A window closes when the watermark reaches its end, and says one row if Having holds over the aggregates; with First it
// says it the moment Having turns true. A row is late once the watermark has reached the end of its window.
//
// Columns: the key fields, window_start, window_end, the aggregates in their order, and `truncated` (true or absent) if an
// aggregate has a limit.
type Window struct {
	Ident      Ident
	Size       int64 // ms, at least 1
	Offset     int64 // ms
	Keys       []event.Field
	Aggregates []Aggregate
	Having     *match.Condition
	First      bool

	Columns []event.Field // of its rows, set by Init
	index   []int16       // Field -> column
	plain   bool          // counts of all rows only: no accumulators needed
	limited bool
	view    windowView
}

// Aggregate is one aggregate of a window over the rows that Where admits.
type Aggregate struct {
	Name  event.Field // the column
	Func  Func
	Field event.Field // what it reads; unused by Count of "*"
	All   bool        // Count: rows, not values
	Where *match.Condition
}

// Func is an aggregate function. Count counts rows or present values; Sum and Avg take numbers and numeric strings (exact
// in int64 while all are integers and fit, float64 after); Min and Max take numbers, which come before strings; Distinct
// counts different present values, exactly, up to DistinctMax.
type Func uint8

// The aggregate functions.
const (
	Count Func = iota
	Sum
	Min
	Max
	Avg
	Distinct
)

// DistinctMax is how many different values a count_distinct holds for one key and window; further ones are not counted
// and the row is marked truncated.
const DistinctMax = 10_000

// WindowState is the open windows of a key, by start.
type WindowState struct{ open []window }

type window struct {
	start, rows int64
	first, last int64 // times of its rows
	said, cut   bool
	acc         []accumulator // one an aggregate, or none if plain
}

// accumulator is the running value of one aggregate.
type accumulator struct {
	n     int64 // values taken
	sum   int64
	fsum  float64
	float bool            // fsum is the sum: a value was no integer, or the sum left int64
	best  []byte          // min, max: the canonical key of the best value
	set   map[string]bool // distinct: canonical keys
}

// Init completes a Window whose exported fields are set. The names that Columns and Having use are added to fields.
func (o *Window) Init(fields *event.Fields) {
	o.Columns = append(slices.Clone(o.Keys), fields.Add("window_start"), fields.Add("window_end"))
	o.plain = true
	for _, a := range o.Aggregates {
		o.Columns = append(o.Columns, a.Name)
		o.plain = o.plain && a.Func == Count && a.All && a.Where == nil
		o.limited = o.limited || a.Func == Distinct
	}
	if o.limited {
		o.Columns = append(o.Columns, fields.Add("truncated"))
	}
	o.index = make([]int16, fields.Len())
	for i := range o.index {
		o.index[i] = -1
	}
	for i, f := range o.Columns {
		o.index[f] = int16(i)
	}
}

// Logic returns the functions of one shard; shards share nothing that they write.
func (o *Window) Logic() Logic[WindowState] {
	c := *o
	c.view = windowView{o: &c, scratch: make([][]byte, len(c.Columns)), cells: make([]event.Value, len(c.Columns))}
	return &c
}

// Start returns the start of the window that ts falls into.
func (o *Window) Start(ts int64) int64 {
	m := (ts - o.Offset) % o.Size
	if m < 0 {
		m += o.Size
	}
	return ts - m
}

// Row implements Logic.
func (o *Window) Row(c *Context, s *WindowState, in *In) {
	start := o.Start(in.TS)
	if start+o.Size <= in.W {
		c.TooLate(in)
		return
	}
	w := o.at(s, start)
	w.rows++
	w.first, w.last = min(w.first, in.TS), max(w.last, in.TS)
	for i := range w.acc {
		o.Aggregates[i].add(&w.acc[i], in, w)
	}
	if o.First && !w.said && o.view.of(w, in.Key).holds() {
		w.said = true
		o.say(c, w, in.Key)
	}
}

// at finds or opens a window; the newest one is nearly always the one.
func (o *Window) at(s *WindowState, start int64) *window {
	i := len(s.open)
	for i > 0 && s.open[i-1].start > start {
		i--
	}
	if i > 0 && s.open[i-1].start == start {
		return &s.open[i-1]
	}
	w := window{start: start, first: PosInf, last: NegInf}
	if !o.plain {
		w.acc = make([]accumulator, len(o.Aggregates))
	}
	s.open = slices.Insert(s.open, i, w)
	return &s.open[i]
}

// Fire implements Logic: the oldest window closes.
func (o *Window) Fire(c *Context, s *WindowState, _ int64) {
	if w := &s.open[0]; !o.First && o.view.of(w, []byte(c.By)).holds() {
		o.say(c, w, []byte(c.By))
	}
	s.open = slices.Delete(s.open, 0, 1)
}

// Next implements Logic.
func (o *Window) Next(s *WindowState) int64 {
	if len(s.open) == 0 {
		return Never
	}
	return s.open[0].start + o.Size
}

// Flushes implements Logic.
func (o *Window) Flushes() bool { return true }

// Clear implements Logic.
func (o *Window) Clear(s *WindowState) { s.open = s.open[:0] }

func (o *Window) say(c *Context, w *window, key []byte) {
	if w.cut {
		c.Counts.Truncated++
	}
	var bounds [16]byte
	binary.BigEndian.PutUint64(bounds[:], uint64(w.start))
	binary.BigEndian.PutUint64(bounds[8:], uint64(w.start+o.Size))
	c.Emit(w.start+o.Size-1, w.first, w.last, o.Ident.ID(key, bounds[:]), o.view.of(w, key).row())
}

// windowView shows a window as a row, cell by cell: Having usually looks at one.
type windowView struct {
	o       *Window
	w       *window
	key     []byte
	scratch [][]byte
	cells   []event.Value
}

func (v *windowView) of(w *window, key []byte) *windowView {
	v.w, v.key = w, key
	return v
}

func (v *windowView) holds() bool { return v.o.Having.Match(v) }

func (v *windowView) row() []event.Value {
	for i := range v.cells {
		v.cells[i] = v.cell(i)
	}
	return v.cells
}

// Value makes the view a match.Row.
func (v *windowView) Value(f event.Field) event.Value {
	if int(f) >= len(v.o.index) || v.o.index[f] < 0 {
		return event.Value{}
	}
	return v.cell(int(v.o.index[f]))
}

func (v *windowView) cell(i int) event.Value {
	o, w, n := v.o, v.w, len(v.o.Keys)
	buf := v.scratch[i][:0]
	kind := event.String
	switch {
	case i < n:
		rest := v.key
		var x event.Value
		for range i + 1 {
			x, rest, _ = event.ReadKey(rest)
		}
		return x
	case i == n:
		buf = event.AppendTime(buf, w.start)
	case i == n+1:
		buf = event.AppendTime(buf, w.start+o.Size)
	case i-n-2 < len(o.Aggregates):
		kind = event.Number
		if o.plain {
			buf = strconv.AppendInt(buf, w.rows, 10)
			break
		}
		var x event.Value
		if x, buf = o.Aggregates[i-n-2].value(&w.acc[i-n-2], buf); x.Kind != event.Number {
			return x
		}
	case w.cut:
		kind, buf = event.Bool, append(buf, "true"...)
	default:
		return event.Value{}
	}
	v.scratch[i] = buf
	return event.Value{Kind: kind, Text: buf}
}

// add takes one row into the accumulator.
func (a *Aggregate) add(x *accumulator, in *In, w *window) {
	if a.Where != nil && !a.Where.Match(in) {
		return
	}
	if a.All {
		x.n++
		return
	}
	v := in.Value(a.Field)
	if v.Missing() {
		return
	}
	switch a.Func {
	case Count:
		x.n++
	case Sum, Avg:
		x.plus(v)
	case Min, Max:
		a.compare(x, v)
	case Distinct:
		x.distinct(v, w)
	}
}

func (x *accumulator) plus(v event.Value) {
	if n, ok := v.Int(); ok && !x.float {
		if s := x.sum + n; (s > x.sum) == (n > 0) {
			x.sum = s
			x.n++
			return
		}
	}
	f, ok := v.Float()
	if !ok {
		return
	}
	if !x.float {
		x.float, x.fsum = true, float64(x.sum)
	}
	x.fsum += f
	x.n++
}

func (a *Aggregate) compare(x *accumulator, v event.Value) {
	if v.Kind != event.Number && v.Kind != event.String {
		return
	}
	if x.n++; x.n > 1 {
		best, _, _ := event.ReadKey(x.best)
		if c := order(v, best); a.Func == Min && c >= 0 || a.Func == Max && c <= 0 {
			return
		}
	}
	x.best = event.AppendKey(x.best[:0], v)
}

// order compares numbers by value and strings by bytes; numbers come first.
func order(a, b event.Value) int {
	if a.Kind != b.Kind {
		return int(a.Kind) - int(b.Kind)
	}
	if a.Kind == event.Number {
		if x, ok := a.Int(); ok {
			if y, ok := b.Int(); ok {
				return compare(x, y)
			}
		}
		x, _ := a.Float()
		y, _ := b.Float()
		return compare(x, y)
	}
	return compare(string(a.Text), string(b.Text))
}

func compare[T int64 | float64 | string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (x *accumulator) distinct(v event.Value, w *window) {
	var scratch [64]byte
	k := event.AppendKey(scratch[:0], v)
	if x.set[string(k)] {
		return
	}
	if len(x.set) >= DistinctMax {
		w.cut = true
		return
	}
	if x.set == nil {
		x.set = map[string]bool{}
	}
	x.set[string(k)] = true
	x.n++
}

// value is the aggregate's cell; numbers are written into buf.
func (a *Aggregate) value(x *accumulator, buf []byte) (event.Value, []byte) {
	none := event.Value{Kind: event.Null}
	switch a.Func {
	case Count, Distinct:
		buf = strconv.AppendInt(buf, x.n, 10)
	case Sum:
		if x.float {
			if math.IsInf(x.fsum, 0) || math.IsNaN(x.fsum) {
				return none, buf
			}
			buf = strconv.AppendFloat(buf, x.fsum, 'g', -1, 64)
		} else {
			buf = strconv.AppendInt(buf, x.sum, 10)
		}
	case Avg:
		f := x.fsum
		if !x.float {
			f = float64(x.sum)
		}
		if f /= float64(x.n); x.n == 0 || math.IsInf(f, 0) || math.IsNaN(f) {
			return none, buf
		}
		buf = strconv.AppendFloat(buf, f, 'g', -1, 64)
	case Min, Max:
		if x.n == 0 {
			return none, buf
		}
		best, _, _ := event.ReadKey(x.best)
		if best.Kind != event.Number {
			return best, buf
		}
		buf = append(buf, best.Text...)
	}
	return event.Value{Kind: event.Number, Text: buf}, buf
}

// Save implements Logic. A record is the whole state: windows are small.
func (o *Window) Save(dst []byte, s *WindowState, _ bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s.open)))
	for i := range s.open {
		w := &s.open[i]
		dst = binary.AppendVarint(dst, w.start)
		dst = binary.AppendUvarint(dst, uint64(w.rows))
		dst = binary.AppendUvarint(dst, uint64(w.first-w.start))
		dst = binary.AppendUvarint(dst, uint64(w.last-w.start))
		dst = append(dst, bits(w.said, w.cut))
		for j := range w.acc {
			dst = o.Aggregates[j].save(dst, &w.acc[j])
		}
	}
	return dst
}

func (a *Aggregate) save(dst []byte, x *accumulator) []byte {
	dst = binary.AppendUvarint(dst, uint64(x.n))
	switch a.Func {
	case Sum, Avg:
		dst = append(dst, bits(x.float, false))
		dst = binary.AppendVarint(dst, x.sum)
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(x.fsum))
	case Min, Max:
		dst = event.AppendBytes(dst, x.best)
	case Distinct:
		dst = binary.AppendUvarint(dst, uint64(len(x.set)))
		for k := range x.set {
			dst = event.AppendBytes(dst, []byte(k))
		}
	}
	return dst
}

// Load implements Logic.
func (o *Window) Load(s *WindowState, rec []byte) error {
	r := event.Reader{B: rec}
	s.open = s.open[:0]
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		w := window{start: r.Int(), rows: int64(r.Uint())}
		w.first, w.last = w.start+int64(r.Uint()), w.start+int64(r.Uint())
		w.said, w.cut = readBits(&r)
		if len(s.open) > 0 && w.start <= s.open[len(s.open)-1].start {
			r.Bad = true
		}
		if !o.plain {
			w.acc = make([]accumulator, len(o.Aggregates))
			for j := range w.acc {
				o.Aggregates[j].load(&r, &w.acc[j])
			}
		}
		s.open = append(s.open, w)
	}
	if r.Bad || len(r.B) > 0 {
		s.open = nil
		return errors.New("window state is damaged")
	}
	return nil
}

func (a *Aggregate) load(r *event.Reader, x *accumulator) {
	x.n = int64(r.Uint())
	switch a.Func {
	case Sum, Avg:
		x.float, _ = readBits(r)
		x.sum = r.Int()
		x.fsum = math.Float64frombits(r.Uint64())
	case Min, Max:
		x.best = slices.Clone(r.Bytes())
		if _, rest, err := event.ReadKey(x.best); x.n > 0 && (err != nil || len(rest) > 0) {
			r.Bad = true
		}
	case Distinct:
		for n := r.Uint(); n > 0 && !r.Bad; n-- {
			if x.set == nil {
				x.set = map[string]bool{}
			}
			x.set[string(r.Bytes())] = true
		}
	}
}
