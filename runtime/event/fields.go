package event

import (
	"maps"
	"slices"
	"strings"
)

// Field is the number of a path in a Fields table; the same path has the same number for every stream and operator of a
// pipeline, so conditions and operators are compiled once and read rows of any batch.
type Field int32

// Whole is the path of the event itself: a cell of kind Object with its JSON text.
const Whole = ""

// Fields numbers the paths that a pipeline reads. Not safe for concurrent use; complete before the first event.
type Fields struct {
	paths []string
	at    map[string]Field
}

// Add returns the number of a path. Dots nest, `\.` is a literal dot; the empty path is the whole event.
func (f *Fields) Add(path string) Field {
	if n, ok := f.at[path]; ok {
		return n
	}
	if f.at == nil {
		f.at = map[string]Field{}
	}
	n := Field(len(f.paths))
	f.paths = append(f.paths, path)
	f.at[path] = n
	return n
}

// Path returns the path of a field as it was added, empty for a number that was never given.
func (f *Fields) Path(n Field) string {
	if int(n) >= len(f.paths) {
		return ""
	}
	return f.paths[n]
}

// Clone is a copy to which paths may be added while the first is read.
func (f *Fields) Clone() *Fields { return &Fields{slices.Clone(f.paths), maps.Clone(f.at)} }

// Len is the number of fields added so far.
func (f *Fields) Len() int { return len(f.paths) }

// SplitPath cuts a path at its dots; `\.` stays a dot within a name.
func SplitPath(path string) []string {
	if !strings.Contains(path, `\`) {
		return strings.Split(path, ".")
	}
	var parts []string
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path) && (path[i+1] == '.' || path[i+1] == '|' || path[i+1] == '\\'):
			i++
			b.WriteByte(path[i])
		case c == '.':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(parts, b.String())
}

// Dotted is a path as the name of a member of a flat object: its parts with dots between them.
func Dotted(path string) string { return strings.Join(SplitPath(path), ".") }
