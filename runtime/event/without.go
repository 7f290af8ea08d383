package event

import (
	"bytes"
	"slices"
	"strings"
)

// Hidden are members of events that others must not take for what they are called: names with dots between their parts, of which it
// does not matter whether an event writes them as one name or as objects in objects. It is read-only.
type Hidden struct {
	names []string
	first [][]byte // the beginning of each name, up to a dot; nil: any event may have one
}

// hiding is a value on its way through.
type hiding struct {
	*Hidden
	s    scanner
	path []byte
	cut  bool // something was left out
}

// NewHidden returns what hides the members of the names, and whatever is within them.
func NewHidden(names []string) *Hidden {
	h := &Hidden{names: slices.Clone(names)}
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
	}
	for _, name := range h.names {
		first, _, _ := strings.Cut(name, ".")
		if strings.ContainsFunc(first, func(r rune) bool { return !plain(r) }) {
			h.first = nil // it may be written in several ways
			return h
		}
		if x := []byte(first); !slices.ContainsFunc(h.first, func(o []byte) bool { return bytes.Equal(o, x) }) {
			h.first = append(h.first, x)
		}
	}
	return h
}

// Without returns a JSON value without the hidden members, also of objects in its arrays: itself if it has none, else a copy.
func (h *Hidden) Without(value []byte) []byte {
	if !h.likely(value) {
		return value
	}
	x := hiding{Hidden: h, s: scanner{b: value}}
	out := x.value(make([]byte, 0, len(value)), 1)
	if !x.cut || x.s.err != nil {
		return value
	}
	return out
}

// likely says whether a value may have such a member: some name begins like one, or is written with escapes.
func (h *Hidden) likely(value []byte) bool {
	if len(h.names) == 0 {
		return false
	}
	return h.first == nil || bytes.Contains(value, []byte(`\u`)) || slices.ContainsFunc(h.first, func(x []byte) bool { return bytes.Contains(value, x) })
}

// value appends the value that comes, in which members may be hidden.
func (h *hiding) value(dst []byte, depth int) []byte {
	s := &h.s
	end := byte(']')
	switch s.peek() {
	case '{':
		end = '}'
	case '[':
	default:
		from := s.i
		s.value(nil, depth)
		return append(dst, s.b[from:s.i]...)
	}
	if depth > depthMax {
		s.fail("nested too deep")
		return dst
	}
	dst = append(dst, s.b[s.i])
	s.i++
	if s.peek() == end {
		s.i++
		return append(dst, end)
	}
	n := len(dst)
	for s.err == nil {
		was := len(dst)
		if was > n {
			dst = append(dst, ',')
		}
		kept := true
		if end == ']' {
			dst = h.value(dst, depth+1)
		} else if dst, kept = h.member(dst, depth); !kept {
			dst = dst[:was]
		}
		switch s.peek() {
		case ',':
			s.i++
			s.peek()
		case end:
			s.i++
			return append(dst, end)
		default:
			s.fail("a comma or an end must come here")
		}
	}
	return dst
}

// member appends the member that comes; false if it is hidden.
func (h *hiding) member(dst []byte, depth int) ([]byte, bool) {
	s := &h.s
	if s.peek() != '"' {
		s.fail("a key must come here")
		return dst, true
	}
	start, end, escaped := s.str()
	if s.err != nil || s.peek() != ':' {
		s.fail("a colon must come here")
		return dst, true
	}
	s.i++
	s.peek()
	path := len(h.path)
	defer func() { h.path = h.path[:path] }()
	if path > 0 {
		h.path = append(h.path, '.')
	}
	name := s.b[start:end]
	if escaped {
		s.scratch = unescape(s.scratch[:0], name)
		name = s.scratch
	}
	h.path = append(h.path, Mend(name)...)
	inside := false
	for _, name := range h.names {
		if Within(h.path, name) {
			h.cut = true
			s.value(nil, depth)
			return dst, false
		}
		inside = inside || Within(name, h.path)
	}
	dst = append(append(append(dst, '"'), s.b[start:end]...), `":`...)
	if inside {
		return h.value(dst, depth+1), true
	}
	from := s.i
	s.value(nil, depth)
	return append(dst, s.b[from:s.i]...), true
}

// Within says whether a name with dots between its parts is another one, or of something in it.
func Within[A, B ~string | ~[]byte](name A, other B) bool {
	n := len(other)
	return len(name) >= n && string(name[:n]) == string(other) && (len(name) == n || name[n] == '.')
}
