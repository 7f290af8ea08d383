package match

import (
	"bytes"
	"encoding/json"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// elements walks the scalars and objects of a JSON array, those of arrays within it as well. It keeps no stack, so depth
// costs nothing, and ends at what is no JSON.
type elements struct {
	text []byte
	at   int
}

func (e *elements) next() (event.Value, bool) {
	for e.at < len(e.text) {
		switch c := e.text[e.at]; c {
		case '[', ']', ',', ' ', '\t', '\n', '\r':
			e.at++
		case '"':
			return event.Value{Kind: event.String, Text: unquote(e.take(stringEnd(e.text, e.at)))}, true
		case '{':
			return event.Value{Kind: event.Object, Text: e.take(objectEnd(e.text, e.at))}, true
		case 'n':
			e.take(wordEnd(e.text, e.at))
			return event.Value{Kind: event.Null}, true
		case 't', 'f':
			return event.Value{Kind: event.Bool, Text: e.take(wordEnd(e.text, e.at))}, true
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			return event.Value{Kind: event.Number, Text: e.take(wordEnd(e.text, e.at))}, true
		default:
			return event.Value{}, false
		}
	}
	return event.Value{}, false
}

func (e *elements) take(end int) []byte {
	from := e.at
	e.at = end
	return e.text[from:end]
}

// stringEnd returns the end of the string that begins at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// objectEnd returns the end of the object that begins at i.
func objectEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i = stringEnd(b, i)
			continue
		case '{':
			depth++
		case '}':
			depth--
		}
		i++
		if depth == 0 {
			break
		}
	}
	return i
}

func wordEnd(b []byte, i int) int {
	for i < len(b) && bytes.IndexByte([]byte(",]} \t\n\r"), b[i]) < 0 {
		i++
	}
	return i
}

// unquote decodes a JSON string; without escapes it is a view.
func unquote(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return bytes.Trim(quoted, `"`)
	}
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return quoted
	}
	return []byte(s)
}
