package event

// avroWant is what is wanted of a value of a type, nil for nothing: compiled from the type and the wanted paths.
type avroWant struct {
	t     *avroType
	cols  []int16 // that want the value itself
	depth uint8   // of the level that it is found at
	below []int16 // every column below it
	rests []rest  // of arrays: what is wanted of their elements

	fields   []*avroWant // of records, by field; nil: nothing is wanted below
	branches []*avroWant // of unions
	keys     []avroKey   // of maps
}

type avroKey struct {
	name string
	want *avroWant
}

// avro compiles the plan for records of Avro.
func (p *plan) avro(x *records) {
	t := p.schema.avro
	root := &avroWant{t: t}
	root.inside(x.root)
	p.take = func(b *Batch, body []byte) error {
		r := avroReader{b: body, hits: b.hits, scratch: b.scratch}
		r.take(root)
		b.scratch = r.scratch
		if err := r.end(); err != nil {
			return err
		}
		b.Duplicates += r.duplicates
		return nil
	}
	p.object = func(dst, body []byte) ([]byte, error) {
		r := avroReader{b: body}
		dst = r.json(t, dst)
		return dst, r.end()
	}
	p.unfit = x.format.unfitting(p.schema, t.at)
}

// end says whether the record was read whole.
func (r *avroReader) end() error {
	if r.err == nil && r.i < len(r.b) {
		r.fail("%d bytes behind the record", len(r.b)-r.i)
	}
	if r.err != nil {
		return r.err
	}
	return nil
}

// inside compiles what is wanted of the fields of a record, or of the keys of a map.
func (w *avroWant) inside(l *level) {
	w.below = l.cols
	if w.t.kind == avroMap {
		for i := range l.keys {
			w.keys = append(w.keys, avroKey{l.keys[i].name, avroWanted(w.t.items, &l.keys[i], l.depth)})
		}
		return
	}
	w.fields = make([]*avroWant, len(w.t.fields))
	for i := range w.t.fields {
		for j := range l.keys {
			if l.keys[j].name == w.t.fields[i].name {
				w.fields[i] = avroWanted(w.t.fields[i].avroType, &l.keys[j], l.depth)
			}
		}
	}
}

// avroWanted compiles what is wanted of a value at a level of the given depth.
func avroWanted(t *avroType, k *wanted, depth uint8) *avroWant {
	w := &avroWant{t: t, cols: k.cols, depth: depth}
	switch {
	case t.kind == avroUnion:
		for _, b := range t.branches {
			w.branches = append(w.branches, avroWanted(b, k, depth))
		}
	case t.kind == avroArray:
		w.rests = k.rests
	case k.child != nil && (t.kind == avroRecord || t.kind == avroMap):
		w.inside(k.child)
	}
	return w
}

// take reads a value into the columns that want it, or something of it.
func (r *avroReader) take(w *avroWant) {
	t := w.t
	switch t.kind {
	case avroUnion:
		if n := r.branch(t); n >= 0 && r.enter() {
			r.take(w.branches[n])
			r.leave()
		}
	case avroRecord, avroMap:
		r.takeInside(w)
	case avroArray:
		from := len(r.scratch)
		r.scratch = r.json(t, r.scratch)
		text := r.scratch[from:]
		for _, x := range w.rests {
			if found := elementsOf(text, x.path); found != nil && r.err == nil {
				r.set(x.col, hit{kind: Array, depth: w.depth + 1, found: true, own: found}, false)
			}
		}
		r.found(w, Array, text)
	default:
		var k Kind
		var text []byte
		k, text, r.scratch = r.scalar(t, r.scratch)
		r.found(w, k, text)
	}
}

func (r *avroReader) found(w *avroWant, k Kind, text []byte) {
	if r.err != nil {
		return
	}
	if text == nil {
		text = []byte{}
	}
	for _, c := range w.cols {
		r.set(c, hit{kind: k, depth: w.depth, found: true, own: text}, true)
	}
}

// set notes what was found for a column; at equal depth the later one wins.
func (r *avroReader) set(c int16, v hit, count bool) {
	h := &r.hits[c]
	if count && h.found && h.depth == v.depth {
		r.duplicates++
	}
	if !h.found || h.depth >= v.depth {
		*h = v
	}
}

// takeInside reads a record or a map. If it is wanted itself it is read twice.
func (r *avroReader) takeInside(w *avroWant) {
	from, vacant := r.i, r.vacant
	if len(w.cols) > 0 {
		at := len(r.scratch)
		if r.scratch = r.json(w.t, r.scratch); r.err != nil {
			return
		}
		r.found(w, Object, r.scratch[at:])
		if w.fields == nil && w.keys == nil {
			return
		}
		r.i, r.vacant = from, vacant
	}
	switch {
	case w.fields == nil && w.keys == nil:
		r.skip(w.t)
	case w.t.kind == avroMap:
		r.takeMap(w)
	case r.enter():
		for i, f := range w.fields {
			if t := w.t.fields[i].avroType; f == nil {
				r.skip(t)
			} else {
				r.take(f)
			}
			if r.err != nil {
				return
			}
			r.empty(w.t.fields[i].avroType)
		}
		r.leave()
	}
}

func (r *avroReader) takeMap(w *avroWant) {
	if !r.enter() {
		return
	}
	r.blocks(w.t, func() {
		name := r.bytes(r.long())
		if r.err != nil {
			return
		}
		for i := range w.keys {
			k := &w.keys[i]
			if k.name != string(name) {
				continue
			}
			for _, c := range k.want.under() { // of duplicate keys the last wins, with all that is in it
				if h := &r.hits[c]; h.found && h.depth > w.keys[i].want.depth {
					*h = hit{}
				}
			}
			r.take(k.want)
			return
		}
		r.skip(w.t.items)
	})
	r.leave()
}

// under is every column below a value.
func (w *avroWant) under() []int16 {
	if w.t.kind == avroUnion || w.t.kind == avroArray {
		var out []int16
		for _, b := range w.branches {
			out = append(out, b.under()...)
		}
		for _, x := range w.rests {
			out = append(out, x.col)
		}
		return out
	}
	return w.below
}
