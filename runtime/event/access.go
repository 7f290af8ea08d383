package event

import "bytes"

// combinedReader reads access logs as Apache httpd and nginx write them by default: the common log format, with referrer and
// agent or without, and with more behind them (`rest`). "-" is no value.
type combinedReader struct{}

// Combined is the format of web servers' access logs.
func Combined() *Format { return newFormat("combined", combinedReader{}) }

var combinedNames = []string{"client", "ident", "user", "timestamp", "request", "method", "path", "protocol", "status", "bytes", "referrer", "agent", "rest"}

const (
	accessClient = iota
	accessIdent
	accessUser
	accessTime
	accessRequest
	accessMethod
	accessPath
	accessProtocol
	accessStatus
	accessBytes
	accessReferrer
	accessAgent
	accessRest
)

func (combinedReader) names() []string { return combinedNames }

func (combinedReader) read(t *taker, line []byte) error {
	i := 0
	for f := accessClient; f <= accessUser; f++ {
		end := tokenEnd(line, i, ' ')
		if f == accessUser { // it may have spaces
			if n := bytes.Index(line[i:], []byte(" [")); n >= 0 {
				end = i + n
			}
		}
		if end == i || end == len(line) {
			return bad(i, combinedNames[f]+" must come here, and a space")
		}
		t.some(f, String, line[i:end])
		i = end + 1
	}
	if line = line[:len(line):len(line)]; i == len(line) || line[i] != '[' {
		return bad(i, "[ must come here, and the time")
	}
	end := tokenEnd(line, i, ']')
	if end == len(line) {
		return bad(i, "a time without ]")
	}
	t.some(accessTime, String, line[i+1:end])
	request, i, err := quoted(line, end+1)
	if err != nil {
		return err
	}
	t.request(request)
	for f := accessStatus; f <= accessBytes; f++ {
		if i == len(line) || line[i] != ' ' {
			return bad(i, "a space must come here, and "+combinedNames[f])
		}
		end := tokenEnd(line, i+1, ' ')
		text := line[i+1 : end]
		if string(text) != "-" && !isNumber(text) {
			return bad(i+1, combinedNames[f]+" must be a number or -")
		}
		t.some(f, Number, text)
		i = end
	}
	return t.rest(line, i)
}

// rest reads what is behind the common log format.
func (t *taker) rest(line []byte, i int) error {
	for f := accessReferrer; f <= accessAgent && i < len(line); f++ {
		text, end, err := quoted(line, i)
		if err != nil {
			return err
		}
		t.some(f, String, text)
		i = end
	}
	if i < len(line) {
		if line[i] != ' ' {
			return bad(i, "a space must come here")
		}
		t.some(accessRest, String, line[i+1:])
	}
	return nil
}

// some gives a field unless it is "-" or empty.
func (t *taker) some(i int, k Kind, text []byte) {
	if len(text) > 0 && string(text) != "-" {
		t.put(i, k, text)
	}
}

// request gives a request, and its parts if it has three: what is not HTTP has not.
func (t *taker) request(text []byte) {
	t.some(accessRequest, String, text)
	first, last := bytes.IndexByte(text, ' '), bytes.LastIndexByte(text, ' ')
	if first > 0 && last > first {
		t.some(accessMethod, String, text[:first])
		t.some(accessPath, String, text[first+1:last])
		t.some(accessProtocol, String, text[last+1:])
	}
}

// quoted reads a space and a text in quotes, in which \" \\ \n \r \t and \xhh are escapes.
func quoted(line []byte, i int) (text []byte, end int, err error) {
	if i+1 >= len(line) || line[i] != ' ' || line[i+1] != '"' {
		return nil, 0, bad(i, "a space and a quote must come here")
	}
	from, escaped := i+2, false
	for i = from; i < len(line) && line[i] != '"'; i++ {
		if line[i] == '\\' {
			escaped = true
			i++
		}
	}
	if i >= len(line) {
		return nil, 0, bad(from-1, "a quote without its other half")
	}
	if text = line[from:i]; escaped {
		text = unescapeAccess(text)
	}
	return text, i + 1, nil
}

func unescapeAccess(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out = append(out, b[i])
			continue
		}
		i++
		switch c := b[i]; c {
		case 'n', 'r', 't':
			out = append(out, plainEscape(c))
		case '"', '\\':
			out = append(out, c)
		case 'x':
			if v, ok := hex2(b[i+1:]); ok {
				out = append(out, v)
				i += 2
				continue
			}
			out = append(out, '\\', c)
		default:
			out = append(out, '\\', c)
		}
	}
	return out
}

func hex2(b []byte) (byte, bool) {
	if len(b) < 2 {
		return 0, false
	}
	v, ok := hex4([]byte{'0', '0', b[0], b[1]})
	return byte(v), ok
}
