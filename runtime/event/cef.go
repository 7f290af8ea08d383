package event

import (
	"bytes"
	"fmt"
)

// The Common Event Format of ArcSight and the Log Event Extended Format of QRadar: a header of texts between bars, then
// key=value pairs. A syslog header may stand before them. Fields of the header win over pairs of the same name.

type cefReader struct{}

// CEF is ArcSight's Common Event Format.
func CEF() *Format { return newFormat("cef", cefReader{}) }

var cefNames = append([]string{"version", "device_vendor", "device_product", "device_version", "event_class_id", "name", "severity"}, syslogNames...)

func (cefReader) names() []string { return cefNames }

func (cefReader) read(t *taker, line []byte) error {
	i, err := barred(t, line, "CEF:", 7)
	if err != nil {
		return err
	}
	heads, i, err := bars(line, i, 7, cefNames)
	if err != nil {
		return err
	}
	if err := cefPairs(t, line, i); err != nil {
		return err
	}
	for f, text := range heads {
		t.put(f, String, text)
	}
	return nil
}

// barred finds where the header begins, and reads what syslog put before it, if it is a syslog header. Its fields come behind
// the format's own n.
func barred(t *taker, line []byte, mark string, n int) (i int, err error) {
	i = bytes.Index(line, []byte(mark))
	if i < 0 {
		return 0, bad(0, "no "+mark)
	}
	if i > 0 {
		syslogBefore(t, line[:i], n)
	}
	return i + len(mark), nil
}

// bars reads n texts, each with the bar behind it; \| and \\ are escapes.
func bars(line []byte, i, n int, names []string) (texts [7][]byte, end int, err error) {
	for f := range n {
		from, escaped := i, false
		for i < len(line) && line[i] != '|' {
			if line[i] == '\\' && i+1 < len(line) {
				escaped = true
				i++
			}
			i++
		}
		if i >= len(line) {
			return texts, 0, bad(from, fmt.Sprintf("a bar must come behind %s", names[f]))
		}
		if texts[f] = line[from:i]; escaped {
			texts[f] = unescapeCEF(texts[f])
		}
		i++
	}
	return texts, i, nil
}

// cefPairs reads the extension. A value goes on to the last space before the next key; \= \\ \n and \r are escapes.
func cefPairs(t *taker, line []byte, i int) error {
	key, from, escaped := []byte(nil), i, false
	give := func(end int) {
		if key != nil {
			text := bytes.TrimRight(line[from:end], " ")
			if escaped {
				text = unescapeCEF(text)
			}
			t.give(key, String, text)
		}
	}
	word := i // the beginning of the word that is read
	for ; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			escaped = true
			i++
		case c == ' ':
			word = i + 1
		case c == '=' && word >= 0 && isCEFKey(line[word:i]):
			at := word
			if key == nil && len(bytes.TrimSpace(line[from:at])) > 0 {
				return bad(from, "a key must come here")
			}
			give(at)
			key, from, escaped = line[at:i], i+1, false
			word = -1 // a value's first word is no key
		}
	}
	if key == nil && len(bytes.TrimSpace(line[min(from, len(line)):])) > 0 {
		return bad(from, "a key must come here")
	}
	give(len(line))
	return nil
}

func isCEFKey(b []byte) bool {
	for _, c := range b {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			if (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' && c != '[' && c != ']' {
				return false
			}
		}
	}
	return len(b) > 0
}

func unescapeCEF(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out = append(out, b[i])
			continue
		}
		i++
		switch c := b[i]; c {
		case 'n', 'r':
			out = append(out, plainEscape(c))
		case '\\', '=', '|':
			out = append(out, c)
		default:
			out = append(out, '\\', c)
		}
	}
	return out
}

type leefReader struct{}

// LEEF is QRadar's Log Event Extended Format, 1.0 (parted by tabs) and 2.0 (which says by what).
func LEEF() *Format { return newFormat("leef", leefReader{}) }

var leefNames = append([]string{"version", "vendor", "product", "product_version", "event_id"}, syslogNames...)

func (leefReader) names() []string { return leefNames }

func (leefReader) read(t *taker, line []byte) error {
	i, err := barred(t, line, "LEEF:", 5)
	if err != nil {
		return err
	}
	heads, i, err := bars(line, i, 5, leefNames)
	if err != nil {
		return err
	}
	part := byte('\t')
	if bytes.HasPrefix(heads[0], []byte("2")) {
		if n := bytes.IndexByte(line[i:], '|'); n >= 0 && n <= 4 {
			if part, err = leefPart(line[i:i+n], i); err != nil {
				return err
			}
			i += n + 1
		}
	}
	for i < len(line) {
		end := tokenEnd(line, i, part)
		if pair := line[i:end]; len(bytes.TrimSpace(pair)) > 0 {
			eq := bytes.IndexByte(pair, '=')
			if eq <= 0 {
				return bad(i, "key=value must come here")
			}
			t.give(bytes.TrimSpace(pair[:eq]), String, pair[eq+1:])
		}
		i = end + 1
	}
	for f, text := range heads[:5] {
		t.put(f, String, text)
	}
	return nil
}

// leefPart is what parts the pairs of LEEF 2.0: a character, or its number as x09 or 0x09; none is a tab.
func leefPart(b []byte, at int) (byte, error) {
	switch {
	case len(b) == 0:
		return '\t', nil
	case len(b) == 1:
		return b[0], nil
	}
	if v, ok := hex2(bytes.TrimPrefix(bytes.TrimPrefix(b, []byte("0")), []byte("x"))); ok && len(b) <= 4 {
		return v, nil
	}
	return 0, bad(at, "the delimiter must be one character, or its number such as x09")
}
