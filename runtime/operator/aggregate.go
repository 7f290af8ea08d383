package operator

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Aggregate is one aggregate of a window over the rows that Where admits.
type Aggregate struct {
	Name  event.Field // the column
	Func  Func
	Field event.Field // what it reads; unused by Count of "*"
	All   bool        // Count: rows, not values
	Max   int         // Collect: how many values it keeps, at least 1; TopK: how many it lists
	P     float64     // Percentile: from 0 to 1
	Aside bool        // Collect: it is for the alert, and what it leaves out does not mark the row; a longer one is false
	Where *match.Condition

	Provider Provider // Opaque: whose function it is
	pile     *pile    // Opaque: that of the shard
}

// Func is an aggregate function. Count counts rows or present values; Sum and Avg take numbers and numeric strings (exact
// in int64 while all are integers without point and exponent and fit, float64 after, added up slice by slice where windows share
// slices; null if float64 cannot hold it or one of them); Min and Max take numbers, which come before strings, and compare exactly; Distinct
// counts different present values (distinct.go). First and Last are the present values of the earliest and latest time, and
// Collect the list of the Max earliest ones; of equal times the row that arrived first comes first. TopK is the list of the
// Max most frequent present values with their counts (top.go). Percentile takes what Sum takes and is, within 1 %, the number
// whose place in ascending order is floor(P * (n-1)), from 0 (percentile.go). Opaque is a function of somebody else (opaque.go).
type Func uint8

// The aggregate functions.
const (
	Count Func = iota
	Sum
	Min
	Max
	Avg
	Distinct
	First
	Last
	Collect
	TopK
	Percentile
	Opaque
)

// Limits of one aggregate of one key and window. What goes beyond is left out and the row is marked truncated, or is
// estimated from there on and the row says so.
const (
	DistinctMax    = 10_000  // different values that a count_distinct counts exactly
	CollectDefault = 20      // values that a collect keeps, if it does not say
	CollectMax     = 1_000   // and may ask for
	CollectBytes   = 4 << 10 // the longest of them
	asideBytes     = 64 << 10
)

// limited says whether the function may leave something out.
func (f Func) limited() bool { return f == Collect || f == TopK || f == Percentile }

// estimates says whether the function may become an estimate.
func (f Func) estimates() bool { return f == Distinct || f == TopK }

// accumulator is the running value of one aggregate. Accumulators of disjoint rows merge: slices of time make windows,
// sessions become one.
type accumulator struct {
	n     int64 // values taken
	sum   int64
	fsum  float64
	float bool   // fsum is the sum: a value was no integer, or the sum left int64
	best  []byte // min, max: the canonical key of the best value
	kept  []kept // first, last: one; collect: the earliest, by (ts, arrival)

	distinct  *distinct // these four are nil before the first value
	top       *top
	quantiles *quantiles
	opaque    *opaque
}

// kept is a value and when it was.
type kept struct {
	ts   int64
	kind event.Kind
	text []byte
}

// add takes one row into the accumulator and says whether a limit left something out.
func (a *Aggregate) add(x *accumulator, in *In) (cut bool) {
	if a.Where != nil && !a.Where.Match(in) {
		return false
	}
	if a.All {
		x.n++
		return false
	}
	if a.Func == Opaque {
		a.pile.add(x, in)
		return false
	}
	v := in.Value(a.Field)
	if v.Missing() {
		return false
	}
	switch a.Func {
	case Count:
		x.n++
	case Sum, Avg:
		x.plus(v)
	case Min, Max:
		a.compare(x, v)
	case Distinct:
		var scratch [64]byte
		if x.distinct == nil {
			x.distinct = &distinct{}
		}
		x.distinct.add(event.AppendKey(scratch[:0], v))
	case First, Last:
		a.edge(x, in.TS, v)
	case Collect:
		if a.Aside && len(v.Text) > asideBytes {
			v = event.Value{Kind: event.Bool, Text: []byte("false")}
		}
		return a.collect(x, kept{in.TS, v.Kind, v.Text}, slices.Clone) && !a.Aside
	case TopK:
		return x.tally(v)
	case Percentile:
		return x.place(v)
	}
	return false
}

// merge takes in the rows of y, which x has not seen, and says whether a limit left something out. Where times are equal,
// those of y arrived later. x may share texts with y afterwards: whoever goes on with one of them is done with the other.
func (a *Aggregate) merge(x, y *accumulator) (cut bool) {
	switch a.Func {
	case Count:
		x.n += y.n
	case Sum, Avg:
		x.total(y)
	case Min, Max:
		a.better(x, y)
	case Distinct:
		if y.distinct != nil {
			if x.distinct == nil {
				x.distinct = &distinct{}
			}
			x.distinct.merge(y.distinct)
		}
	case First, Last:
		if len(y.kept) > 0 && (len(x.kept) == 0 || a.edges(x.kept[0].ts, y.kept[0].ts)) {
			x.kept = append(x.kept[:0], y.kept[0])
		}
	case Collect:
		for _, k := range y.kept {
			cut = a.collect(x, k, same) && !a.Aside || cut
		}
	case TopK:
		if y.top != nil {
			if x.top == nil {
				x.top = &top{}
			}
			x.top.merge(y.top)
		}
	case Percentile:
		if y.quantiles != nil {
			if x.quantiles == nil {
				x.quantiles = &quantiles{}
			}
			cut = x.quantiles.merge(y.quantiles, x.n == 0)
			x.n += y.n
		}
	case Opaque:
		a.pile.merge(x, y)
	}
	return cut
}

func (x *accumulator) plus(v event.Value) {
	if n, ok := v.Int(); ok && !x.float {
		if s := x.sum + n; (s > x.sum) == (n > 0) {
			x.sum = s
			x.n++
			return
		}
	}
	f, ok := float(v)
	if !ok {
		return
	}
	if !x.float {
		x.float, x.fsum = true, float64(x.sum)
	}
	x.fsum += f
	x.n++
}

// float is the number that v holds; one that float64 cannot hold is infinite, and so is its sum.
func float(v event.Value) (float64, bool) {
	f, ok := v.Float()
	if !ok && (v.Kind == event.Number || v.Kind == event.String) {
		if _, ok = event.ParseDecimal(v.Text); ok {
			f, _ = strconv.ParseFloat(string(v.Text), 64)
		}
	}
	return f, ok
}

func (x *accumulator) total(y *accumulator) {
	x.n += y.n
	if s := x.sum + y.sum; !x.float && !y.float && (s > x.sum) == (y.sum > 0) {
		x.sum = s
		return
	}
	x.float, x.fsum = true, x.asFloat()+y.asFloat()
}

func (x *accumulator) asFloat() float64 {
	if x.float {
		return x.fsum
	}
	return float64(x.sum)
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

func (a *Aggregate) better(x, y *accumulator) {
	if y.n == 0 {
		return
	}
	v, _, _ := event.ReadKey(y.best)
	a.compare(x, v)
	x.n += y.n - 1
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
		x, _ := event.ParseDecimal(a.Text)
		y, _ := event.ParseDecimal(b.Text)
		return x.Compare(&y)
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

// tally counts a value of a TopK.
func (x *accumulator) tally(v event.Value) (cut bool) {
	var scratch [64]byte
	k := event.AppendKey(scratch[:0], v)
	if len(k) > TopValue {
		return true
	}
	if x.top == nil {
		x.top = &top{}
	}
	x.top.add(k, 1)
	x.top.shrink()
	return false
}

// place takes a number of a Percentile.
func (x *accumulator) place(v event.Value) (cut bool) {
	f, ok := v.Float()
	if !ok || math.IsInf(f, 0) {
		return false
	}
	if x.quantiles == nil {
		x.quantiles = &quantiles{}
	}
	cut = x.quantiles.add(f, x.n == 0)
	x.n++
	return cut
}

// estimate says whether the aggregate is no longer exact, of a function that is so at first.
func (x *accumulator) estimate() bool {
	return x.distinct != nil && x.distinct.sketch != nil || x.top != nil && x.top.lost > 0
}

// edges says whether a value at next, which arrived later, takes the place of one at ts.
func (a *Aggregate) edges(ts, next int64) bool {
	return a.Func == First && next < ts || a.Func == Last && next >= ts
}

func (a *Aggregate) edge(x *accumulator, ts int64, v event.Value) {
	if len(x.kept) == 0 {
		x.kept = append(x.kept, kept{})
	} else if !a.edges(x.kept[0].ts, ts) {
		return
	}
	x.kept[0] = kept{ts, v.Kind, append(x.kept[0].text[:0], v.Text...)}
}

func same(b []byte) []byte { return b }

// collect puts a value in its place among the earliest ones; keep copies its text if it stays.
func (a *Aggregate) collect(x *accumulator, k kept, keep func([]byte) []byte) (cut bool) {
	i := len(x.kept)
	for i > 0 && x.kept[i-1].ts > k.ts {
		i--
	}
	if i == a.Max || len(k.text) > CollectBytes && !a.Aside {
		return true
	}
	k.text = keep(k.text)
	if cut = len(x.kept) == a.Max; cut {
		x.kept = x.kept[:a.Max-1]
	}
	x.kept = slices.Insert(x.kept, i, k)
	return cut
}

// value is the aggregate's cell; numbers and lists are written into buf.
func (a *Aggregate) value(x *accumulator, buf []byte) (event.Value, []byte) {
	none := event.Value{Kind: event.Null}
	switch a.Func {
	case Count:
		buf = strconv.AppendInt(buf, x.n, 10)
	case Distinct:
		n := int64(0)
		if x.distinct != nil {
			n = x.distinct.count()
		}
		buf = strconv.AppendInt(buf, n, 10)
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
		f := x.asFloat() / float64(x.n)
		if x.n == 0 || math.IsInf(f, 0) || math.IsNaN(f) {
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
	case First, Last:
		if len(x.kept) == 0 {
			return none, buf
		}
		return event.Value{Kind: x.kept[0].kind, Text: x.kept[0].text}, buf
	case Collect:
		buf = x.list(buf)
		return event.Value{Kind: event.Array, Text: buf}, buf
	case TopK:
		if x.top == nil {
			buf = append(buf, "[]"...)
		} else {
			buf = x.top.appendJSON(buf, a.Max)
		}
		return event.Value{Kind: event.Array, Text: buf}, buf
	case Percentile:
		if x.n == 0 {
			return none, buf
		}
		buf = strconv.AppendFloat(buf, x.quantiles.at(int64(a.P*float64(x.n-1)), x.n), 'g', -1, 64)
	case Opaque:
		return a.pile.valueOf(x), buf
	}
	return event.Value{Kind: event.Number, Text: buf}, buf
}

func (x *accumulator) list(buf []byte) []byte {
	buf = append(buf, '[')
	for i, k := range x.kept {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = event.Value{Kind: k.kind, Text: k.text}.AppendJSON(buf)
	}
	return append(buf, ']')
}

func (a *Aggregate) save(dst []byte, x *accumulator) []byte {
	if a.Func == Opaque {
		return a.pile.save(dst, x)
	}
	if d := x.distinct; d != nil {
		return d.save(binary.AppendUvarint(dst, uint64(max(len(d.set), 1))))
	}
	dst = binary.AppendUvarint(dst, uint64(x.n))
	switch a.Func {
	case Sum, Avg:
		dst = append(dst, bits(x.float, false))
		dst = binary.AppendVarint(dst, x.sum)
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(x.fsum))
	case Min, Max:
		dst = event.AppendBytes(dst, x.best)
	case Distinct:
		dst = append(dst, 0) // values
	case TopK:
		if x.top == nil {
			return append(dst, 0, 0) // of an empty one
		}
		dst = x.top.save(dst)
	case Percentile:
		if x.n > 0 {
			dst = x.quantiles.save(dst)
		}
	case First, Last, Collect:
		dst = binary.AppendUvarint(dst, uint64(len(x.kept)))
		for _, k := range x.kept {
			dst = append(binary.AppendVarint(dst, k.ts), byte(k.kind))
			dst = event.AppendBytes(dst, k.text)
		}
	}
	return dst
}

func (a *Aggregate) load(r *event.Reader, x *accumulator) {
	if a.Func == Opaque {
		a.pile.load(r, x)
		return
	}
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
		if x.n == 0 {
			r.Bad = r.Uint() > 0 || r.Bad
			break
		}
		x.n, x.distinct = 0, &distinct{}
		x.distinct.load(r)
	case TopK:
		x.top = &top{}
		x.top.load(r)
	case Percentile:
		if x.n > 0 {
			x.quantiles = &quantiles{}
			x.quantiles.load(r, x.n)
		}
		r.Bad = r.Bad || x.n < 0
	case First, Last, Collect:
		for n := r.Uint(); n > 0 && !r.Bad; n-- {
			x.kept = append(x.kept, loadKept(r))
		}
		if len(x.kept) > max(a.Max, 1) || !slices.IsSortedFunc(x.kept, func(k, l kept) int { return compare(k.ts, l.ts) }) {
			r.Bad = true
		}
	}
}

func loadKept(r *event.Reader) kept {
	k := kept{ts: r.Int(), kind: event.Kind(r.Byte()), text: slices.Clone(r.Bytes())}
	if k.kind <= event.Null || k.kind > event.Array {
		r.Bad = true
	}
	return k
}
