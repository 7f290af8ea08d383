package event

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// Raw is the field under which the line itself can be read, in every format but JSON, unless the line has a field of that name.
const Raw = "raw"

// Format is a form of lines that are not JSON. A line is one event, a flat list of named fields; all values are texts, but for
// those that the format or the declared types make numbers or booleans. As JSON it is an object of these fields and Raw, and a
// path means in the line what it means in that object. Of fields that stand twice the last wins. Read-only.
type Format struct {
	Name  string
	read  lineReader
	by    *bySchema         // of records with a schema: instead of read
	kind  map[string]Kind   // by the format, or declared: Number or Bool
	types map[string]string // likewise, as they are written
}

// lineReader takes a line apart. It gives the taker its fields: those of fixed places by number, others by name. On an error,
// always a *SyntaxError, what it gave does not count.
type lineReader interface {
	names() []string
	read(t *taker, line []byte) error
}

func newFormat(name string, read lineReader) *Format { return &Format{Name: name, read: read} }

// Typed declares fields as int, float or bool: their texts become numbers and booleans where they are such. What the format itself says
// of other fields stays.
func (f *Format) Typed(types map[string]string) *Format {
	out := *f
	out.kind, out.types = maps.Clone(f.kind), types
	if out.kind == nil {
		out.kind = map[string]Kind{}
	}
	for path, t := range types {
		delete(out.kind, flat(path))
		switch t {
		case "int", "float":
			out.kind[flat(path)] = Number
		case "bool":
			out.kind[flat(path)] = Bool
		}
	}
	return &out
}

// Known returns the names of the fields that the format itself gives, besides Raw.
func (f *Format) Known() []string {
	if f.by != nil {
		return f.by.known()
	}
	return f.read.names()
}

// Has says whether a line may have the field of a path, or may have it beside it (Block.Beside).
func (f *Format) Has(path string) bool {
	if f.by != nil {
		return f.by.has(path)
	}
	name := flat(path)
	switch f.read.(type) {
	case logfmtReader, cefReader, leefReader:
		return true // lines name their fields
	case *syslogReader:
		if strings.HasPrefix(name, structuredData) {
			return true
		}
	}
	return f.NeedsHeader() || name == Raw || name == Whole || strings.HasPrefix(name, "_") || slices.Contains(f.Known(), name)
}

// Binary says whether records are bytes and no text.
func (f *Format) Binary() bool { return f.by != nil }

// flat is the name that a path stands for where nothing is nested.
func flat(path string) string { return strings.Join(SplitPath(path), ".") }

// textual is a projection onto the fields of a format.
type textual struct {
	format *Format
	fixed  []string
	slots  [][]int16 // of each fixed field the columns that want it
	last   int       // the last fixed field that is wanted, or -1
	named  []named
	raw    []int16
	kinds  []Kind // of each column what it is declared to be, or Absent
}

type named struct {
	name string
	col  int16
}

// Projection returns the projection of the format's lines onto the given fields, a column each, in this order.
func (f *Format) Projection(fields *Fields, want []Field) *Projection {
	if f.by != nil {
		return f.recordProjection(fields, want)
	}
	x := &textual{format: f, fixed: f.read.names(), last: -1, kinds: make([]Kind, len(want))}
	x.slots = make([][]int16, len(x.fixed))
	p := &Projection{fields: fields, cols: slices.Clone(want), whole: -1, text: x}
	for i, w := range want {
		if fields.Path(w) == Whole {
			p.whole = i
			continue
		}
		path := SplitPath(fields.Path(w))
		if strings.HasPrefix(path[0], "_") {
			p.beside = append(p.beside, beside{i, path})
		}
		name := flat(fields.Path(w))
		x.kinds[i] = f.kind[name]
		x.named = append(x.named, named{name, int16(i)})
		if name == Raw {
			x.raw = append(x.raw, int16(i))
		}
		for at, known := range x.fixed {
			if known == name {
				x.slots[at] = append(x.slots[at], int16(i))
				x.last = max(x.last, at)
			}
		}
	}
	return p
}

// taker collects what a line has: the columns of a batch, or everything, or both.
type taker struct {
	*textual
	hits       []hit // by column; nil: none are wanted
	all        bool
	upto       int // the last fixed field that somebody wants, or -1
	pairs      []pair
	at         map[string]int // place in pairs, once there are many
	duplicates int
	scratch    []byte
}

type pair struct {
	name string
	kind Kind
	text []byte
}

func (t *taker) reset(x *textual, hits []hit, all bool) {
	t.textual, t.hits, t.all, t.upto = x, hits, all, x.last
	if all {
		t.upto = len(x.fixed) - 1
	}
	t.pairs, t.duplicates, t.scratch = t.pairs[:0], 0, t.scratch[:0]
	clear(t.at)
}

// put gives a field of a fixed place.
func (t *taker) put(i int, k Kind, text []byte) {
	if t.hits != nil {
		for _, c := range t.slots[i] {
			t.set(c, k, text)
		}
	}
	if t.all {
		t.pair(t.fixed[i], k, text)
	}
}

// give gives a field by its name, which is only valid during the call.
func (t *taker) give(name []byte, k Kind, text []byte) {
	if t.hits != nil {
		for i := range t.named {
			if t.named[i].name == string(name) {
				t.set(t.named[i].col, k, text)
			}
		}
	}
	if t.all {
		t.pair(string(name), k, text)
	}
}

// names says whether anybody wants fields by name.
func (t *taker) byName() bool { return t.all || len(t.named) > 0 }

func (t *taker) set(c int16, k Kind, text []byte) {
	h := &t.hits[c]
	if h.found && h.depth == 0 {
		t.duplicates++
	}
	*h = hit{kind: k, found: true, own: text}
}

// pairsFew is up to how many fields a list is searched one by one.
const pairsFew = 16

func (t *taker) pair(name string, k Kind, text []byte) {
	at := -1
	if len(t.pairs) <= pairsFew {
		at = slices.IndexFunc(t.pairs, func(p pair) bool { return p.name == name })
	} else {
		if t.at == nil {
			t.at = map[string]int{}
		}
		if len(t.at) == 0 {
			for i, p := range t.pairs {
				t.at[p.name] = i
			}
		}
		if i, ok := t.at[name]; ok {
			at = i
		}
	}
	if at >= 0 {
		t.pairs[at] = pair{name, k, text}
		return
	}
	if len(t.pairs) > pairsFew {
		t.at[name] = len(t.pairs)
	}
	t.pairs = append(t.pairs, pair{name, k, text})
}

// appendObject appends the event as JSON.
func (t *taker) appendObject(dst, line []byte) []byte {
	dst = append(dst, '{')
	raw := false
	for _, p := range t.pairs {
		raw = raw || p.name == Raw
		dst = append(AppendJSONString(dst, []byte(p.name)), ':')
		dst = append(Value{declared(t.format.kind[p.name], p.kind, p.text), p.text}.AppendJSON(dst), ',')
	}
	if !raw {
		dst = AppendJSONString(append(dst, `"raw":`...), line)
		return append(dst, '}')
	}
	dst[len(dst)-1] = '}'
	return dst
}

// declared is the kind of a text whose field is declared to be of kind want.
func declared(want, k Kind, text []byte) Kind {
	switch {
	case k != String:
	case want == Number && isNumber(text):
		return Number
	case want == Bool && (string(text) == "true" || string(text) == "false"):
		return Bool
	}
	return k
}

// appendText adds one line to a batch.
func (p *Projection) appendText(b *Batch, line []byte) error {
	line = ended(line)
	clear(b.hits)
	t := &b.taker
	t.reset(p.text, b.hits, p.whole >= 0)
	for _, c := range p.text.raw {
		b.hits[c] = hit{kind: String, found: true, own: line, depth: 1}
	}
	if err := p.text.format.read.read(t, line); err != nil {
		return err
	}
	b.Duplicates += t.duplicates
	for i := range b.hits {
		c, h := &b.Cols[i], &b.hits[i]
		if i == p.whole {
			c.Kinds, c.Data = append(c.Kinds, Object), t.appendObject(c.Data, line)
			c.Ends = append(c.Ends, uint32(len(c.Data)))
			continue
		}
		h.kind = declared(p.text.kinds[i], h.kind, h.own)
		b.fill(c, h, line)
	}
	b.Rows++
	return nil
}

// ended is a line without the end of line that inputs of whole messages leave.
func ended(line []byte) []byte { return bytes.TrimRight(line, "\r\n") }

// Object returns a line as the JSON object that its event is, a copy, nil for a line that cannot be read.
func (p *Projection) Object(line []byte) []byte {
	if p.records != nil {
		return p.recordObject(nil, line)
	}
	if p.text == nil {
		return bytes.Clone(bytes.TrimSpace(line))
	}
	line = ended(line)
	var t taker
	t.reset(p.text, nil, true)
	if p.text.format.read.read(&t, line) != nil {
		return nil
	}
	return t.appendObject(nil, line)
}

// JSON says whether the projection reads JSON.
func (p *Projection) JSON() bool { return p.text == nil && p.records == nil }

func bad(at int, msg string) error { return &SyntaxError{at, msg} }

// Reason is why a line that the projection could not read, with this error, is an error row: not_json, not_csv, no_schema, ...
func (p *Projection) Reason(err error) string {
	switch {
	case p.records != nil:
		return p.recordReason(err)
	case p.text == nil:
		return "not_json"
	}
	return "not_" + p.text.format.Name
}
