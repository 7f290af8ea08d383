package abi

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Hit is one answer of a detect plugin.
type Hit struct {
	Row      uint32
	Rule     uint32
	Severity uint16 // 0: the manifest's
	Note     []byte // compact JSON object, nil for none
}

// Answer is what the guest left in the header of a batch, read once.
type Answer struct{ OutLen, OutRows, OutFlags uint32 }

// ReadAnswer reads the guest's fields of a batch's header.
func ReadAnswer(header []byte) Answer {
	le := binary.LittleEndian
	return Answer{le.Uint32(header[OffOutLen:]), le.Uint32(header[OffOutRows:]), le.Uint32(header[OffOutFlags:])}
}

// ReadHits appends the hits of an answer. out is the output space [out_off, out_off + out_cap); outOff its offset in the
// batch, from which note_off counts. Rows ascend, and within a row rules do; notes lie behind the records, ascending and
// apart. Whatever breaks this is an error, which names the record.
func ReadHits(dst []Hit, out []byte, outOff, rows int, a Answer) ([]Hit, error) {
	switch {
	case int64(a.OutLen) > int64(len(out)):
		return dst, fmt.Errorf("out_len is %d, out_cap %d", a.OutLen, len(out))
	case a.OutFlags != 0:
		return dst, fmt.Errorf("out_flags is %d, not 0", a.OutFlags)
	case int64(a.OutRows)*HitSize > int64(a.OutLen):
		return dst, fmt.Errorf("out_rows is %d, but out_len %d has room for %d", a.OutRows, a.OutLen, a.OutLen/HitSize)
	}
	le := binary.LittleEndian
	out = out[:a.OutLen]
	free := int(a.OutRows) * HitSize // where the next note may begin
	for i := range int(a.OutRows) {
		rec := out[i*HitSize:][:HitSize]
		h := Hit{Row: le.Uint32(rec), Rule: le.Uint32(rec[4:]), Severity: le.Uint16(rec[8:])}
		switch n := len(dst); {
		case int64(h.Row) >= int64(rows):
			return dst, fmt.Errorf("hit %d is for row %d of %d", i, h.Row, rows)
		case i > 0 && (h.Row < dst[n-1].Row || h.Row == dst[n-1].Row && h.Rule <= dst[n-1].Rule):
			return dst, fmt.Errorf("hit %d (row %d, rule %d) does not come after the one before it (row %d, rule %d)", i, h.Row, h.Rule, dst[n-1].Row, dst[n-1].Rule)
		case int(h.Severity) >= len(Severities):
			return dst, fmt.Errorf("hit %d has the severity %d; 0 to 5 are", i, h.Severity)
		case le.Uint16(rec[10:]) != 0:
			return dst, fmt.Errorf("hit %d has the flags %d; there are none", i, le.Uint16(rec[10:]))
		}
		if off := le.Uint32(rec[12:]); off != 0 {
			var err error
			if h.Note, free, err = readNote(out, int64(off)-int64(outOff), free); err != nil {
				return dst, fmt.Errorf("the note of hit %d %w", i, err)
			}
		}
		dst = append(dst, h)
	}
	return dst, nil
}

func readNote(out []byte, off int64, free int) (note []byte, next int, err error) {
	if off < int64(free) || off+4 > int64(len(out)) {
		return nil, 0, fmt.Errorf("is at %d of the output; it must be from %d and end by %d", off, free, len(out))
	}
	n := int64(binary.LittleEndian.Uint32(out[off:]))
	switch {
	case n > NoteMax:
		return nil, 0, fmt.Errorf("has %d bytes; at most %d", n, NoteMax)
	case off+4+n > int64(len(out)):
		return nil, 0, fmt.Errorf("ends behind the output")
	}
	text := out[off+4 : off+4+n]
	switch {
	case !utf8.Valid(text):
		return nil, 0, fmt.Errorf("is not UTF-8")
	case !json.Valid(text):
		return nil, 0, fmt.Errorf("is not JSON")
	case bytes.TrimLeft(text, " \t\r\n")[0] != '{':
		return nil, 0, fmt.Errorf("is not a JSON object")
	case depth(text) > NoteDepth:
		return nil, 0, fmt.Errorf("is nested deeper than %d", NoteDepth)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, 0, err
	}
	return compact.Bytes(), int(off + 4 + n), nil
}

// depth is how deep valid JSON is nested.
func depth(text []byte) (deepest int) {
	now, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}
