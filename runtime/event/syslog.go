package event

import (
	"bytes"
	"slices"
)

// syslogReader reads RFC 5424, and RFC 3164 as it is sent and as daemons write it to files: without priority, and with a time
// of RFC 3339 instead of one without year. "-" is no value.
type syslogReader struct {
	all     []string
	message *regexReader // its groups are fields of the messages that it matches
}

// Syslog is the format of RFC 5424 and RFC 3164. The named groups of pattern, if it is not empty, are fields of messages that it
// matches; others do not have them.
func Syslog(pattern string) (*Format, error) {
	r := &syslogReader{all: syslogNames}
	if pattern != "" {
		f, err := Regex(pattern)
		if err != nil {
			return nil, err
		}
		r.message = f.read.(*regexReader)
		r.all = append(slices.Clone(syslogNames), r.message.groups...)
	}
	return newFormat("syslog", r), nil
}

// structuredData begins the names of fields of structured data, ID.NAME behind it.
const structuredData = "structured_data."

var syslogNames = []string{"timestamp", "host", "app", "pid", "msgid", "facility", "facility_code", "severity", "severity_code", "message"}

const (
	syslogTime = iota
	syslogHost
	syslogApp
	syslogPID
	syslogMsgID
	syslogFacility
	syslogFacilityCode
	syslogSeverity
	syslogSeverityCode
	syslogMessage
)

// The names that RFC 5424, section 6.2.1, and syslog.conf give them.
var (
	facilities = texts("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
		"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7")
	severities = texts("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
	codes      = texts("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21", "22", "23")
)

func texts(list ...string) (out [][]byte) {
	for _, s := range list {
		out = append(out, []byte(s))
	}
	return out
}

func (r *syslogReader) names() []string { return r.all }

func (r *syslogReader) read(t *taker, line []byte) error {
	message, err := syslogParts(t, line)
	if err != nil || message == nil {
		return err
	}
	t.put(syslogMessage, String, message)
	if r.message != nil && t.upto > syslogMessage {
		r.message.groupsOf(t, message, len(syslogNames))
	}
	return nil
}

// syslogParts reads all but the message, which it returns; nil: there is none.
func syslogParts(t *taker, line []byte) (message []byte, err error) {
	i, pri, err := priority(line)
	if err != nil {
		return nil, err
	}
	if pri >= 0 {
		t.priority(0, pri)
		if bytes.HasPrefix(line[i:], []byte("1 ")) {
			return syslogNew(t, line, i+2)
		}
	}
	i, err = syslogStamp(t, line, i, 0)
	if err != nil {
		return nil, err
	}
	return syslogTag(t, line, syslogHostAt(t, line, i, 0)), nil
}

// syslogBefore reads the header that a relay put before another format, if it is one; base is the place of its fields.
func syslogBefore(t *taker, head []byte, base int) {
	i, pri, err := priority(head)
	if err != nil {
		return
	}
	if pri >= 0 {
		t.priority(base, pri)
		if bytes.HasPrefix(head[i:], []byte("1 ")) {
			i += 2
		}
	}
	if i, err = syslogStamp(t, head, i, base); err == nil {
		syslogHostAt(t, head, i, base)
	}
}

// priority reads <n>; -1: there is none.
func priority(line []byte) (i, pri int, err error) {
	if len(line) == 0 || line[0] != '<' {
		return 0, -1, nil
	}
	for i = 1; i < len(line) && i < 4 && line[i]-'0' <= 9; i++ {
		pri = pri*10 + int(line[i]-'0')
	}
	if i == 1 || i >= len(line) || line[i] != '>' || pri > 191 {
		return 0, 0, bad(1, "the priority must be <0> to <191>")
	}
	return i + 1, pri, nil
}

func (t *taker) priority(base, pri int) {
	t.put(base+syslogFacility, String, facilities[pri>>3])
	t.put(base+syslogFacilityCode, Number, codes[pri>>3])
	t.put(base+syslogSeverity, String, severities[pri&7])
	t.put(base+syslogSeverityCode, Number, codes[pri&7])
}

// syslogNew reads RFC 5424 behind its version.
func syslogNew(t *taker, line []byte, i int) (message []byte, err error) {
	for f := syslogTime; f <= syslogMsgID; f++ {
		end := tokenEnd(line, i, ' ')
		if end == i || end == len(line) {
			return nil, bad(i, syslogNames[f]+" must come here, and a space")
		}
		t.some(f, String, line[i:end])
		i = end + 1
	}
	i, err = structured(t, line, i)
	switch {
	case err != nil || i == len(line):
		return nil, err
	case line[i] != ' ':
		return nil, bad(i, "a space must come here, and the message")
	}
	return bytes.TrimPrefix(line[i+1:], []byte("\xef\xbb\xbf")), nil
}

// structured reads structured data: - or [id name="value" ...]...; each value is the field structured_data.ID.NAME.
func structured(t *taker, line []byte, i int) (end int, err error) {
	if i < len(line) && line[i] == '-' {
		return i + 1, nil
	}
	if i == len(line) || line[i] != '[' {
		return 0, bad(i, "structured data must come here: - or [")
	}
	for i < len(line) && line[i] == '[' {
		from := i + 1
		for i = from; i < len(line) && line[i] != ' ' && line[i] != ']' && line[i] != '=' && line[i] != '"'; i++ {
		}
		if i == from || i == len(line) || line[i] != ' ' && line[i] != ']' {
			return 0, bad(i, "structured data without id")
		}
		id := line[from:i]
		for i < len(line) && line[i] == ' ' {
			if i, err = parameter(t, line, i+1, id); err != nil {
				return 0, err
			}
		}
		if i == len(line) || line[i] != ']' {
			return 0, bad(i, "] must come here")
		}
		i++
	}
	return i, nil
}

// parameter reads name="value", in which \" \\ and \] are escapes.
func parameter(t *taker, line []byte, i int, id []byte) (end int, err error) {
	from := i
	for i < len(line) && line[i] > ' ' && line[i] != '=' && line[i] != ']' && line[i] != '"' {
		i++
	}
	if i == from || i+1 >= len(line) || line[i] != '=' || line[i+1] != '"' {
		return 0, bad(i, `name="value" must come here`)
	}
	name, escaped := line[from:i], false
	from = i + 2
	for i = from; i < len(line) && line[i] != '"'; i++ {
		if line[i] == '\\' {
			escaped = true
			i++
		}
	}
	if i >= len(line) {
		return 0, bad(from-1, "a quote without its other half")
	}
	t.parameter(id, name, line[from:i], escaped)
	return i + 1, nil
}

// parameter gives the field structured_data.ID.NAME. Its name is put together only for those who want every field.
func (t *taker) parameter(id, name, text []byte, escaped bool) {
	if escaped && t.byName() {
		text = unescaped(text)
	}
	if t.hits != nil {
		for i := range t.named {
			if parameterIs(t.named[i].name, id, name) {
				t.set(t.named[i].col, String, text)
			}
		}
	}
	if t.all {
		t.scratch = append(append(t.scratch[:0], structuredData...), id...)
		t.scratch = append(append(t.scratch, '.'), name...)
		t.pair(string(t.scratch), String, text)
	}
}

// parameterIs says whether a field is structured_data.ID.NAME.
func parameterIs(field string, id, name []byte) bool {
	const n = len(structuredData)
	dot := n + len(id)
	return len(field) == dot+1+len(name) && field[dot+1:] == string(name) && field[n:dot] == string(id) && field[dot] == '.' && field[:n] == structuredData
}

func unescaped(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\' || text[i+1] == ']') {
			i++
		}
		out = append(out, text[i])
	}
	return out
}

// syslogStamp reads the time of RFC 3164, or of RFC 3339, and the space behind it.
func syslogStamp(t *taker, line []byte, i, base int) (end int, err error) {
	const layout = len("Jan _2 15:04:05")
	if i < len(line) && line[i]-'0' <= 9 {
		end = tokenEnd(line, i, ' ')
		if end-i < len("2006-01-02T15:04:05") || line[i+4] != '-' {
			return 0, bad(i, "a time must come here")
		}
	} else if b := line[i:]; len(b) >= layout && b[3] == ' ' && b[6] == ' ' && b[9] == ':' && b[12] == ':' && monthOf(b) > 0 {
		end = i + layout
	} else {
		return 0, bad(i, "a time must come here, such as Jan  2 15:04:05")
	}
	if end < len(line) && line[end] != ' ' {
		return 0, bad(end, "a space must come here")
	}
	t.put(base+syslogTime, String, line[i:end])
	return min(end+1, len(line)), nil
}

// syslogHostAt reads the host and returns where the message begins with its tag.
func syslogHostAt(t *taker, line []byte, i, base int) (end int) {
	end = tokenEnd(line, i, ' ')
	t.some(base+syslogHost, String, line[i:end])
	return min(end+1, len(line))
}

// syslogTag reads app[pid]: and returns the message. Without the colon it is all message.
func syslogTag(t *taker, line []byte, i int) []byte {
	end := i
	for end < len(line) && line[end] > ' ' && line[end] != ':' && line[end] != '[' {
		end++
	}
	app, pid := line[i:end], []byte(nil)
	if end < len(line) && line[end] == '[' {
		if n := bytes.IndexByte(line[end:], ']'); n > 0 {
			pid = line[end+1 : end+n]
			end += n + 1
		}
	}
	if end < len(line) && line[end] == ':' && len(app) > 0 {
		t.put(syslogApp, String, app)
		t.some(syslogPID, String, pid)
		if i = end + 1; i < len(line) && line[i] == ' ' {
			i++
		}
	}
	return line[i:]
}

// monthOf is the month that three letters begin, 1 to 12, or 0.
func monthOf(b []byte) int {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	for m := 0; m < len(names); m += 3 {
		if string(b[:3]) == names[m:m+3] {
			return m/3 + 1
		}
	}
	return 0
}
