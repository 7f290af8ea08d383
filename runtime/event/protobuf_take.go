package event

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protoWant is what is wanted of a message: compiled from its descriptor and the wanted paths.
type protoWant struct {
	fields []protoField
	byNum  [64]*protoField // those with small numbers
}

// protoField is a field that is wanted, or another member of a oneof with one. Single values and what is within single messages are
// taken as they come. Everything else (lists, maps, whole messages) is gathered, written as JSON and read by the JSON scanner: there a
// path means by construction what it means in the record's JSON.
type protoField struct {
	protoreflect.FieldDescriptor
	num    protowire.Number
	wire   protowire.Type
	cols   []int16 // that want a single value
	depth  uint8
	inside *protoWant
	gather *wanted // with its level
	level  *level
	under  []int16 // all columns at or below the field
	clears []int16 // columns of the oneof's other members
	zero   []byte  // without presence: the text of what is not there
	kind   Kind    // of zero
	time   bool    // a Timestamp that is wanted as a whole, as most events have
}

// protobuf compiles the plan for records of one message.
func (p *plan) protobuf(x *records, m protoreflect.MessageDescriptor) {
	root := protoWanted(m, x.root)
	p.name = string(m.FullName())
	p.take = func(b *Batch, body []byte) error {
		r := protoReader{hits: b.hits, scratch: b.scratch, found: b.found[:0]}
		err := r.message(root, body, 1)
		if b.found = r.found; err == nil {
			err = r.finish()
		}
		b.scratch = r.scratch
		return err
	}
	p.object = func(dst, body []byte) ([]byte, error) {
		var r protoJSON
		return r.message(m, body, dst)
	}
	p.unfit = x.format.unfitting(p.schema, protoAt(m))
}

func protoWanted(m protoreflect.MessageDescriptor, l *level) *protoWant {
	w := &protoWant{}
	for _, f := range fieldsOf(m) {
		for i := range l.keys {
			if k := &l.keys[i]; k.name == string(f.Name()) {
				w.fields = append(w.fields, protoFieldWanted(f, k, l))
			}
		}
	}
	for _, f := range fieldsOf(m) { // members of oneofs take each other's place
		o := f.ContainingOneof()
		if o == nil || o.IsSynthetic() {
			continue
		}
		var clears []int16
		for i := range w.fields {
			if x := &w.fields[i]; x.ContainingOneof() == o && x.num != f.Number() {
				clears = append(clears, x.under...)
			}
		}
		at := slices.IndexFunc(w.fields, func(x protoField) bool { return x.num == f.Number() })
		if at < 0 && len(clears) > 0 {
			w.fields = append(w.fields, protoField{FieldDescriptor: f, num: f.Number(), wire: wireOf(f.Kind())})
			at = len(w.fields) - 1
		}
		if at >= 0 {
			w.fields[at].clears = clears
		}
	}
	for i := range w.fields {
		if f := &w.fields[i]; int(f.num) < len(w.byNum) {
			w.byNum[f.num] = f
		}
	}
	return w
}

func protoFieldWanted(d protoreflect.FieldDescriptor, k *wanted, l *level) protoField {
	f := protoField{FieldDescriptor: d, num: d.Number(), wire: wireOf(d.Kind()), depth: l.depth, under: slices.Clone(k.cols)}
	if k.child != nil {
		f.under = append(f.under, k.child.cols...)
	}
	single := !d.IsList() && !d.IsMap()
	switch {
	case single && d.Message() == nil:
		f.cols = k.cols
	case single && len(k.cols) == 0 && k.child != nil && !isKnown(d.Message()):
		f.inside = protoWanted(d.Message(), k.child)
	default:
		f.gather, f.level, f.cols = k, l, k.cols
		f.time = single && k.child == nil && d.Message().FullName() == "google.protobuf.Timestamp"
	}
	if !d.HasPresence() && len(k.cols) > 0 {
		switch {
		case d.IsMap():
			f.kind, f.zero = Object, []byte("{}")
		case d.IsList():
			f.kind, f.zero = Array, []byte("[]")
		default:
			var text []byte
			f.kind, text, _ = protoScalar(d, protoSpan{}, nil)
			f.zero = append([]byte{}, text...)
		}
	}
	return f
}

// protoReader reads one record.
type protoReader struct {
	hits    []hit
	scratch []byte
	found   []gathered
}

// gathered is an occurrence of a field that is written as JSON in the end.
type gathered struct {
	f *protoField
	protoSpan
}

func (w *protoWant) find(num protowire.Number) *protoField {
	if int(num) < len(w.byNum) {
		return w.byNum[num]
	}
	for i := range w.fields {
		if w.fields[i].num == num {
			return &w.fields[i]
		}
	}
	return nil
}

// message reads a message, or one more occurrence of it, into the columns.
func (r *protoReader) message(w *protoWant, b []byte, depth int) error {
	if depth > depthMax {
		return &SyntaxError{0, "nested too deep"}
	}
	for i := range w.fields {
		if f := &w.fields[i]; f.zero != nil {
			for _, c := range f.cols {
				if h := &r.hits[c]; !h.found {
					*h = hit{kind: f.kind, depth: f.depth, found: true, own: f.zero}
				}
			}
		}
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protoError(n)
		}
		b = b[n:]
		f := w.find(num)
		if f == nil || f.wire != typ && !belongs(f.FieldDescriptor, typ) {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protoError(n)
			}
			b = b[n:]
			continue
		}
		s, n := consume(num, typ, b)
		if n < 0 {
			return protoError(n)
		}
		b = b[n:]
		if err := r.take(f, s, depth); err != nil {
			return err
		}
	}
	return nil
}

func (r *protoReader) take(f *protoField, s protoSpan, depth int) error {
	for _, c := range f.clears {
		r.hits[c] = hit{}
		r.found = slices.DeleteFunc(r.found, func(g gathered) bool { return slices.Contains(g.f.under, c) })
	}
	switch {
	case f.inside != nil:
		return r.message(f.inside, s.data, depth+1)
	case f.gather != nil:
		r.found = append(r.found, gathered{f, s})
		return nil
	case len(f.cols) == 0:
		return nil
	}
	var v hit
	v.kind, v.own, r.scratch = protoScalar(f.FieldDescriptor, s, r.scratch)
	if v.depth, v.found = f.depth, true; v.own == nil {
		v.own = []byte{}
	}
	for _, c := range f.cols {
		r.hits[c] = v
	}
	return nil
}

// finish reads what was gathered.
func (r *protoReader) finish() error {
	for len(r.found) > 0 {
		f := r.found[0].f
		if f.time && !slices.ContainsFunc(r.found[1:], func(g gathered) bool { return g.f == f }) && r.takeTime(f, r.found[0].data) {
			r.found = r.found[1:]
			continue
		}
		var spans []protoSpan
		rest := r.found[:0]
		for _, g := range r.found {
			if g.f == f {
				spans = append(spans, g.protoSpan)
			} else {
				rest = append(rest, g)
			}
		}
		r.found = rest
		var j protoJSON
		text, err := j.field(f.FieldDescriptor, spans, nil)
		if err != nil {
			return err
		}
		for _, c := range f.cols { // it is not zero
			r.hits[c] = hit{}
		}
		s := scanner{b: text, hits: r.hits}
		s.take(f.gather, f.level, 1)
		if s.err != nil {
			return s.err
		}
		for _, c := range f.under {
			r.hits[c].hold(text)
		}
	}
	return nil
}

// takeTime reads a Timestamp that stands in the record once, if it is a time.
func (r *protoReader) takeTime(f *protoField, b []byte) bool {
	var sec, nanos uint64
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		v, n := protowire.ConsumeVarint(b)
		if n < 0 || typ != protowire.VarintType || num > 2 {
			return false
		}
		b = b[n:]
		if num == 1 {
			sec = v
		} else {
			nanos = v
		}
	}
	from := len(r.scratch)
	text, ok := protoTime(r.scratch, int64(sec), int32(nanos))
	if !ok {
		return false
	}
	r.scratch = text
	for _, c := range f.cols {
		r.hits[c] = hit{kind: String, depth: f.depth, found: true, own: text[from+1 : len(text)-1]}
	}
	return true
}
