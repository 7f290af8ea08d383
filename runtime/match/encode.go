package match

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// dashesMax is how many dashes of windash a value may have that is encoded: each is written in five ways.
const dashesMax = 3

// encodings are the modifiers that encode a value: bytes to the forms that they have.
var encodings = map[string]func(b []byte) [][]byte{
	"base64":       func(b []byte) [][]byte { return [][]byte{base64.StdEncoding.AppendEncode(nil, b)} },
	"base64offset": offsets,
	"wide":         func(b []byte) [][]byte { return [][]byte{wide(nil, b, binary.LittleEndian)} },
	"utf16le":      func(b []byte) [][]byte { return [][]byte{wide(nil, b, binary.LittleEndian)} },
	"utf16be":      func(b []byte) [][]byte { return [][]byte{wide(nil, b, binary.BigEndian)} },
	"utf16":        func(b []byte) [][]byte { return [][]byte{wide([]byte{0xff, 0xfe}, b, binary.LittleEndian)} },
}

func isBase64(modifier string) bool { return modifier == "base64" || modifier == "base64offset" }

// encode gives the forms that a text has once it is encoded, as texts again.
func (c *compiler) encode(n *yaml.Node, runes []rune, modifiers []string) ([][]rune, bool) {
	if slices.Contains(runes, anyOne) || slices.Contains(runes, anyRun) {
		c.problem(n, "`%s` encodes a text, and %q has wildcards: write \\* and \\? for the characters", modifiers[0], brief(n.Value))
		return nil, false
	}
	if len(n.Value) > PatternMax {
		c.problem(n, "a value that is encoded has %d bytes at most, this one has %d", PatternMax, len(n.Value))
		return nil, false
	}
	count := 0
	for _, r := range runes {
		if r == anyDash {
			count++
		}
	}
	if count > dashesMax {
		c.problem(n, "a value that is encoded may have %d dashes of windash at most, this one has %d", dashesMax, count)
		return nil, false
	}
	var forms [][]byte
	for _, r := range everyDash(runes) {
		forms = append(forms, []byte(string(r)))
	}
	for _, m := range modifiers {
		var next [][]byte
		for _, f := range forms {
			next = append(next, encodings[m](f)...)
		}
		forms = next
	}
	return c.decoded(n, forms, modifiers)
}

// decoded turns bytes into texts, if they are any.
func (c *compiler) decoded(n *yaml.Node, forms [][]byte, modifiers []string) (out [][]rune, ok bool) {
	for _, f := range forms {
		switch {
		case len(f) == 0:
			c.problem(n, "%q is too short to be encoded: nothing of it would be sure to be found; write 2 characters at least", brief(n.Value))
			return nil, false
		case !utf8.Valid(f):
			c.problem(n, "`%s` of %q gives bytes that are no text: only with base64 or base64offset after it can a field have them", modifiers[len(modifiers)-1], brief(n.Value))
			return nil, false
		}
		out = append(out, []rune(string(f)))
	}
	return out, true
}

// offsets gives the characters of base64 that depend on b alone if b stands at byte 0, 1 or 2 of a group of three.
func offsets(b []byte) [][]byte {
	var out [][]byte
	for i, skip := range [3]int{0, 2, 3} { // characters that hold bits of the bytes before
		text := base64.RawStdEncoding.AppendEncode(nil, append(make([]byte, i), b...))
		end := len(text)
		if (i+len(b))%3 != 0 { // the last holds bits of the byte behind
			end--
		}
		out = append(out, text[min(skip, end):end])
	}
	return out
}

// wide appends a text as UTF-16.
func wide(dst, text []byte, order binary.AppendByteOrder) []byte {
	for _, u := range utf16.Encode([]rune(string(text))) {
		dst = order.AppendUint16(dst, u)
	}
	return dst
}
