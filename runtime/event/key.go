package event

import (
	"errors"
	"strconv"
	"unicode/utf8"
)

// The canonical encoding of a key: for each cell a tag, the length, the content. Values that are equal encode equal, and
// no others: the string "1" is not the number 1, 1.0 is 1, -0 is 0, a missing cell is null.
const (
	tagNull   = 'z'
	tagBool   = 'b'
	tagNumber = 'n'
	tagString = 's'
	tagJSON   = 'j' // objects and arrays, by their text
)

// AppendKey appends the canonical encoding of a cell (SEMANTICS: keys). Numbers are kept exactly, however long.
func AppendKey(dst []byte, v Value) []byte {
	switch v.Kind {
	case String:
		return AppendBytes(append(dst, tagString), v.Text)
	case Number:
		return appendNumberKey(append(dst, tagNumber), v.Text)
	case Bool:
		return AppendBytes(append(dst, tagBool), v.Text)
	case Object, Array:
		return AppendBytes(append(dst, tagJSON), v.Text)
	}
	return append(dst, tagNull, 0)
}

func appendNumberKey(dst, text []byte) []byte {
	var scratch [32]byte
	if n, ok := smallInt(text); ok {
		return AppendBytes(dst, strconv.AppendInt(scratch[:0], n, 10))
	}
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return AppendBytes(dst, strconv.AppendInt(scratch[:0], n, 10))
	}
	if d, ok := ParseDecimal(text); ok {
		return AppendBytes(dst, []byte(d.number()))
	}
	return AppendBytes(dst, text)
}

// ReadKey takes the first cell off an encoded key; its text is a view.
func ReadKey(b []byte) (v Value, rest []byte, err error) {
	r := Reader{B: b}
	tag := r.Byte()
	v.Text = r.Bytes()
	switch tag {
	case tagString:
		v.Kind = String
	case tagNumber:
		if v.Kind = Number; !isNumber(v.Text) {
			r.Bad = true
		}
	case tagBool:
		v.Kind = Bool
	case tagJSON:
		if v.Kind = Object; len(v.Text) > 0 && v.Text[0] == '[' {
			v.Kind = Array
		}
	case tagNull:
		v.Kind = Null
	default:
		r.Bad = true
	}
	if r.Bad {
		return Value{}, nil, errors.New("a key is damaged")
	}
	return v, r.B, nil
}

// AppendJSON appends the value as JSON; Absent is null.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.Kind {
	case Absent, Null:
		return append(dst, "null"...)
	case String:
		return AppendJSONString(dst, v.Text)
	}
	return append(dst, v.Text...)
}

const hexDigits = "0123456789abcdef"

// AppendJSONString appends text as a JSON string. Invalid UTF-8 becomes U+FFFD.
func AppendJSONString(dst, s []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRune(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		switch {
		case c >= utf8.RuneSelf:
			dst = append(dst, "\uFFFD"...)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i += size
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// Int64s returns a column as Arrow lays out int64: values, and a validity bitmap, least significant bit first, with a bit
// for each row whose cell is an integer. Made on each call: keep what you ask for during a block.
func (b *Batch) Int64s(f Field) (values []int64, valid []byte) {
	values, valid = make([]int64, b.Rows), make([]byte, (b.Rows+7)/8)
	for i := range values {
		if v, ok := b.Value(f, i).Int(); ok {
			values[i] = v
			valid[i/8] |= 1 << (i % 8)
		}
	}
	return values, valid
}

// Float64s is Int64s for numbers.
func (b *Batch) Float64s(f Field) (values []float64, valid []byte) {
	values, valid = make([]float64, b.Rows), make([]byte, (b.Rows+7)/8)
	for i := range values {
		if v, ok := b.Value(f, i).Float(); ok {
			values[i] = v
			valid[i/8] |= 1 << (i % 8)
		}
	}
	return values, valid
}
