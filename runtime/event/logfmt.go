package event

import "bytes"

// logfmtReader reads key=value pairs that spaces part. A value in quotes has the escapes of JSON; a key alone is true. A line
// without any pair is no logfmt.
type logfmtReader struct{}

// Logfmt is the format of key=value pairs.
func Logfmt() *Format { return newFormat("logfmt", logfmtReader{}) }

func (logfmtReader) names() []string { return nil }

var trueText = []byte("true")

func (logfmtReader) read(t *taker, line []byte) error {
	pairs := 0
	for i := 0; ; {
		for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
			i++
		}
		if i == len(line) {
			break
		}
		from := i
		for i < len(line) && line[i] > ' ' && line[i] != '=' && line[i] != '"' {
			i++
		}
		key := line[from:i]
		switch {
		case len(key) == 0 || i < len(line) && line[i] == '"':
			return bad(i, "a key must come here")
		case i == len(line) || line[i] != '=':
			t.give(key, Bool, trueText)
			continue
		}
		pairs++
		text, end, err := logfmtValue(line, i+1)
		if err != nil {
			return err
		}
		t.give(key, String, text)
		i = end
	}
	if pairs == 0 {
		return bad(0, "no key=value")
	}
	return nil
}

// logfmtValue reads a value up to the space behind it.
func logfmtValue(line []byte, i int) (text []byte, end int, err error) {
	if i == len(line) || line[i] != '"' {
		end = i
		for end < len(line) && line[end] > ' ' {
			end++
		}
		return line[i:end], end, nil
	}
	s := scanner{b: line, i: i}
	from, to, escaped := s.str()
	switch {
	case s.err != nil:
		return nil, 0, s.err
	case s.i < len(line) && line[s.i] > ' ':
		return nil, 0, bad(s.i, "a space must come behind a value in quotes")
	}
	text = line[from:to]
	if escaped {
		text = unescape(nil, text)
	}
	return text, s.i, nil
}

// tokenEnd is where the text from i on ends: at the byte c, or with the line.
func tokenEnd(line []byte, i int, c byte) int {
	if n := bytes.IndexByte(line[i:], c); n >= 0 {
		return i + n
	}
	return len(line)
}
