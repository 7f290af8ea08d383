package event

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// depthMax is how deep an event may nest.
const depthMax = 512

// SyntaxError says why a line is not an event: RFC 8259, and an object at the top.
type SyntaxError struct {
	Offset int // in the line, from 0
	Msg    string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.Msg, e.Offset) }

// Projection takes from each event just the fields that somebody reads, in one pass over its bytes.
//
// A path a.b is the key "a.b" if the event has it, else b within a; the same holds for the rest of a path at every level.
// A path that meets an array goes into each of its objects and gives an array of what it finds there. Of duplicate keys
// the last wins. A Projection is read-only and may be used by many goroutines, each with a batch of its own.
type Projection struct {
	fields  *Fields
	cols    []Field
	root    *level
	whole   int      // the column of the event itself, or -1
	text    *textual // of a Format; nil: JSON, or records
	records *records // of records with schemas
	beside  []beside
}

// beside is a column whose path may be of something that came with a line (Block.Beside).
type beside struct {
	col  int
	path []string
}

// level is what is wanted of an object: keys, by length and bytes.
type level struct {
	keys  []wanted
	cols  []int16 // every column below
	depth uint8
}

type wanted struct {
	name  string
	cols  []int16 // that want the value itself
	child *level
	rests []rest // for arrays: what is wanted of their elements
}

type rest struct {
	col  int16
	path []string
}

// NewProjection makes the projection onto the given fields, a column each, in this order.
func NewProjection(fields *Fields, want []Field) *Projection {
	p := &Projection{fields: fields, cols: slices.Clone(want), root: &level{}, whole: -1}
	for i, f := range want {
		if fields.Path(f) == Whole {
			p.whole = i
			continue
		}
		path := SplitPath(fields.Path(f))
		p.root.add(path, int16(i))
		if strings.HasPrefix(path[0], "_") {
			p.beside = append(p.beside, beside{i, path})
		}
	}
	return p
}

// add wants a path below this level, as one flat key and as nested ones.
func (l *level) add(path []string, col int16) {
	l.cols = append(l.cols, col)
	k := l.key(strings.Join(path, "."))
	k.cols = append(k.cols, col)
	if len(path) == 1 {
		return
	}
	k = l.key(path[0])
	if k.child == nil {
		k.child = &level{depth: l.depth + 1}
	}
	k.rests = append(k.rests, rest{col, path[1:]})
	k.child.add(path[1:], col)
}

func (l *level) key(name string) *wanted {
	for i := range l.keys {
		if l.keys[i].name == name {
			return &l.keys[i]
		}
	}
	l.keys = append(l.keys, wanted{name: name})
	return &l.keys[len(l.keys)-1]
}

// NewBatch returns an empty batch for the projection's rows.
func (p *Projection) NewBatch() *Batch {
	b := NewBatch(p.fields, p.cols)
	b.hits = make([]hit, len(p.cols))
	return b
}

// hit is where a column's value was found in the line.
type hit struct {
	kind       Kind
	depth      uint8 // of the level it was found at: the least wins
	found      bool
	escaped    bool
	start, end int
	own        []byte // gathered from an array
}

// Append adds one event to a batch of this projection. On an error the batch is as it was: a *SyntaxError, or of a record with a schema
// also that there is none, or *Unfit.
func (p *Projection) Append(b *Batch, line []byte) error {
	if p.text != nil {
		return p.appendText(b, line)
	}
	if p.records != nil {
		return p.appendRecord(b, line)
	}
	clear(b.hits)
	s := scanner{b: line, hits: b.hits}
	s.space()
	start := s.i
	if s.i == len(line) || line[s.i] != '{' {
		s.fail("not a JSON object")
		return s.err
	}
	s.object(p.root, 1)
	end := s.i
	if s.space(); s.err == nil && s.i < len(line) {
		s.fail("more than one JSON value")
	}
	if s.err != nil {
		return s.err
	}
	b.Duplicates += s.duplicates
	for i := range b.hits {
		c := &b.Cols[i]
		if i == p.whole {
			c.append(Object, line[start:end])
			continue
		}
		b.fill(c, &b.hits[i], line)
	}
	b.Rows++
	return nil
}

// fill appends what was found to the column.
func (b *Batch) fill(c *Column, h *hit, line []byte) {
	text := h.own
	if text == nil {
		text = line[h.start:h.end]
	}
	if h.kind != String {
		c.append(h.kind, text)
		return
	}
	c.Kinds = append(c.Kinds, String)
	from := len(c.Data)
	if h.escaped {
		c.Data = unescape(c.Data, text)
	} else {
		c.Data = append(c.Data, text...)
	}
	b.mend(c, from)
	c.Ends = append(c.Ends, uint32(len(c.Data)))
}

// mend makes the text from an offset on UTF-8.
func (b *Batch) mend(c *Column, from int) {
	if text := Mend(c.Data[from:]); len(text) > len(c.Data)-from {
		b.InvalidUTF8++
		c.Data = append(c.Data[:from], text...)
	}
}

// Beside puts what came with a line into the row that was appended last. It stands before what the event says under the same path,
// since an event must not be able to pass itself off as another source's.
func (p *Projection) Beside(b *Batch, line int, get Beside) {
	for _, x := range p.beside {
		c := &b.Cols[x.col]
		from := int(c.Ends[b.Rows-1])
		kind, data, ok := get(line, x.path, c.Data[:from])
		if !ok {
			continue
		}
		c.Data, c.Kinds[b.Rows-1] = data, kind
		if kind == String {
			b.mend(c, from)
		}
		c.Ends[b.Rows] = uint32(len(c.Data))
	}
}

// Mend replaces each invalid byte by U+FFFD, as encoding/json does, and not runs of them by one. Without any it returns b, else a
// longer copy.
func Mend(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/2)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		out = utf8.AppendRune(out, r)
		b = b[n:]
	}
	return out
}

// Elements calls each with the elements of a JSON array, in order, as they stand. Of an array that is none it gives those before the
// fault.
func Elements(array []byte, each func(value []byte)) {
	s := scanner{b: array}
	if s.peek() != '[' {
		return
	}
	for s.i++; s.peek() != ']'; s.i++ {
		from := s.i
		if s.value(nil, 1); s.err != nil {
			return
		}
		each(array[from:s.i])
		if s.peek() != ',' {
			return
		}
	}
}

// Members calls each with the members of a JSON object, in order: the decoded name, and the value as it stands. Both are valid
// during the call alone. Of an object that is none it gives the members before the fault.
func Members(object []byte, each func(name, value []byte)) {
	s := scanner{b: object}
	if s.peek() != '{' {
		return
	}
	s.i++
	if s.peek() == '}' {
		return
	}
	for s.peek() == '"' {
		start, end, escaped := s.str()
		if s.err != nil || s.peek() != ':' {
			return
		}
		s.i++
		s.peek()
		from := s.i
		if s.value(nil, 1); s.err != nil {
			return
		}
		name := object[start:end]
		if escaped {
			s.scratch = unescape(s.scratch[:0], name)
			name = s.scratch
		}
		each(name, object[from:s.i])
		if s.peek() != ',' {
			return
		}
		s.i++
		s.space()
	}
}

// scanner walks a line once. After an error everything returns at once.
type scanner struct {
	b          []byte
	i          int
	hits       []hit
	duplicates int
	err        error
	scratch    []byte
}

func (s *scanner) fail(msg string) {
	if s.err == nil {
		s.err = &SyntaxError{s.i, msg}
	}
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// peek returns the next byte that is not space, or 0.
func (s *scanner) peek() byte {
	if s.i < len(s.b) && s.b[s.i] > ' ' {
		return s.b[s.i]
	}
	if s.space(); s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// object reads an object from its brace; l is what is wanted of it, nil for nothing.
func (s *scanner) object(l *level, depth int) {
	if depth > depthMax {
		s.fail("nested too deep")
		return
	}
	s.i++
	if s.peek() == '}' {
		s.i++
		return
	}
	for s.err == nil {
		if s.peek() != '"' {
			s.fail("a key must come here")
			return
		}
		start, end, escaped := s.str()
		if s.err != nil {
			return
		}
		if s.peek() != ':' {
			s.fail("a colon must come here")
			return
		}
		s.i++
		var w *wanted
		if l != nil {
			w = l.find(s, start, end, escaped)
		}
		if w == nil {
			s.value(nil, depth)
		} else {
			s.take(w, l, depth)
		}
		switch s.peek() {
		case ',':
			s.i++
		case '}':
			s.i++
			return
		default:
			s.fail("a comma or } must come here")
		}
	}
}

func (l *level) find(s *scanner, start, end int, escaped bool) *wanted {
	key := s.b[start:end]
	if escaped {
		s.scratch = unescape(s.scratch[:0], key)
		key = s.scratch
	}
	for i := range l.keys {
		if l.keys[i].name == string(key) {
			return &l.keys[i]
		}
	}
	return nil
}

// take reads a value that is wanted, whole or in part.
func (s *scanner) take(w *wanted, l *level, depth int) {
	if w.child != nil {
		for _, col := range w.child.cols { // of duplicate keys the last wins, with all that is in it
			if h := &s.hits[col]; h.found && h.depth > l.depth {
				*h = hit{}
			}
		}
	}
	var v hit
	s.peek()
	v.start = s.i
	if w.child != nil && s.i < len(s.b) && s.b[s.i] == '{' {
		s.object(w.child, depth+1)
		v.kind, v.end = Object, s.i
	} else {
		v = s.value(w, depth)
		if s.err == nil && v.kind == Array && w.child != nil {
			s.gather(w, v, l.depth+1)
		}
	}
	if s.err != nil {
		return
	}
	v.found, v.depth = true, l.depth
	for _, col := range w.cols {
		h := &s.hits[col]
		if h.found && h.depth == l.depth {
			s.duplicates++
		}
		if !h.found || h.depth >= l.depth {
			*h = v
		}
	}
}

// value reads any value. Its texts are only made out for somebody who wants it.
func (s *scanner) value(w *wanted, depth int) (v hit) {
	c := s.peek()
	v.start = s.i
	switch {
	case c == '"':
		v.kind = String
		v.start, v.end, v.escaped = s.str()
		return v
	case c == '{':
		v.kind = Object
		s.object(nil, depth+1)
	case c == '[':
		v.kind = Array
		s.array(depth + 1)
	case c == '-' || c >= '0' && c <= '9':
		v.kind = Number
		s.number()
	case c == 't':
		v.kind = Bool
		s.word("true")
	case c == 'f':
		v.kind = Bool
		s.word("false")
	case c == 'n':
		v.kind = Null
		s.word("null")
		v.end = v.start // no text
		return v
	default:
		s.fail("a value must come here")
	}
	v.end = s.i
	return v
}

func (s *scanner) array(depth int) {
	if depth > depthMax {
		s.fail("nested too deep")
		return
	}
	s.i++
	if s.peek() == ']' {
		s.i++
		return
	}
	for s.err == nil {
		s.value(nil, depth)
		switch s.peek() {
		case ',':
			s.i++
		case ']':
			s.i++
			return
		default:
			s.fail("a comma or ] must come here")
		}
	}
}

func (s *scanner) word(w string) {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		s.fail("a value must come here")
		return
	}
	s.i += len(w)
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > from
}

func (s *scanner) number() {
	if s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		s.fail("a digit must come here")
		return
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		if s.i++; !s.digits() {
			s.fail("a digit must come here")
			return
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			s.fail("a digit must come here")
		}
	}
}

const (
	each = 0x0101010101010101
	high = 0x8080808080808080
)

// str reads a string from its quote and returns what is between the quotes, eight bytes at a time.
func (s *scanner) str() (start, end int, escaped bool) {
	b, i := s.b, s.i+1
	start = i
	for {
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			q, bs := x^(each*'"'), x^(each*'\\')
			// a quote, a backslash or a control character; a byte above 127 is none of them
			if m := ((q-each)&^q | (bs-each)&^bs | (x-each*0x20)&^x) & high; m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
			i++
		}
		switch {
		case i >= len(b):
			s.i = len(b)
			s.fail("a string without end")
			return 0, 0, false
		case b[i] == '"':
			s.i = i + 1
			return start, i, escaped
		case b[i] < 0x20:
			s.i = i
			s.fail("a control character in a string")
			return 0, 0, false
		}
		n := escapeLen(b[i:])
		if n == 0 {
			s.i = i
			s.fail("an escape that JSON does not know")
			return 0, 0, false
		}
		escaped = true
		i += n
	}
}

// escapeLen is the length of the escape at the start of b, 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// AppendText appends the text of a JSON string, which is given without its quotes. A backslash at the end stays one.
func AppendText(dst, quoted []byte) []byte { return unescape(dst, quoted) }

// unescape appends a valid string's text decoded; a surrogate without its other half is U+FFFD.
func unescape(dst, b []byte) []byte {
	for i := 0; i < len(b); {
		if b[i] != '\\' || i+1 == len(b) {
			dst = append(dst, b[i])
			i++
			continue
		}
		c := b[i+1]
		if c != 'u' {
			dst = append(dst, plainEscape(c))
			i += 2
			continue
		}
		r, _ := hex4(b[i+2:])
		i += 6
		if r >= 0xD800 && r < 0xE000 {
			low := rune(-1)
			if r < 0xDC00 && i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
				low, _ = hex4(b[i+2:])
			}
			if low >= 0xDC00 && low < 0xE000 {
				r = (r-0xD800)<<10 | (low - 0xDC00) + 0x10000
				i += 6
			} else {
				r = utf8.RuneError
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

func plainEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// gather is the way of a path through an array: rare, so it reads the array again for each column below it.
func (s *scanner) gather(w *wanted, v hit, depth uint8) {
	for _, r := range w.rests {
		own := elementsOf(s.b[v.start:v.end], r.path)
		if h := &s.hits[r.col]; own != nil && (!h.found || h.depth >= depth) {
			*h = hit{kind: Array, depth: depth, found: true, own: own}
		}
	}
}

// elementsOf is what a path leads to in each object of a JSON array, as an array; nil for nothing.
func elementsOf(array []byte, path []string) []byte {
	found := elements([]byte{'['}, array, path)
	if len(found) == 1 {
		return nil
	}
	found[len(found)-1] = ']' // for the last comma
	return found
}

// elements appends, each with a comma, what the path leads to in each object of a valid JSON array. Arrays within it are entered
// where they are: reading each again would take time by length and depth.
func elements(dst, array []byte, path []string) []byte {
	fields := &Fields{}
	f := fields.Add(strings.Join(escapeDots(path), "."))
	p := NewProjection(fields, []Field{f})
	s := scanner{b: array}
	for s.peek() != 0 {
		switch s.b[s.i] {
		case '[', ']', ',':
			s.i++
			continue
		}
		v := s.value(nil, 0)
		if v.kind != Object {
			continue
		}
		b := p.NewBatch()
		if p.Append(b, array[v.start:v.end]) == nil {
			if x := b.Value(f, 0); x.Kind != Absent {
				dst = append(x.AppendJSON(dst), ',')
			}
		}
	}
	return dst
}

func escapeDots(path []string) []string {
	out := make([]string, len(path))
	for i, p := range path {
		out[i] = strings.NewReplacer(`\`, `\\`, ".", `\.`).Replace(p)
	}
	return out
}
