package draft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// kind is a form that lines may have.
type kind struct {
	name   string
	yaml   string // as `format` says it
	format *event.Format
	time   string // the field that the format knows to be the time
	layout string // of it
	least  int    // fields that a line must have
	skip   int    // lines before the first event
}

// reading is a sample as one kind reads it.
type reading struct {
	kind   kind
	lines  int
	events []line
}

const timeAndText = "a time and a text"

// pattern is a line that begins with a time, as programs write it that have no form of their own.
const pattern = `^\[?(?P<time>\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)\]?[ ,|]+(?:\[?(?P<level>[A-Z]{4,8})\]?[ :|]+)?(?P<message>.*)$`

// kinds are the forms that lines are tried with, the strictest first.
func kinds(lines [][]byte) []kind {
	list := []kind{
		{name: "json"},
		{name: "cef", yaml: "cef", format: event.CEF()},
		{name: "leef", yaml: "leef", format: event.LEEF()},
		{name: "combined", yaml: "combined", format: event.Combined(), time: "timestamp", layout: "02/Jan/2006:15:04:05 -0700"},
	}
	if f, err := event.Syslog(""); err == nil {
		list = append(list, kind{name: "syslog", yaml: "syslog", format: f, time: "timestamp", layout: "syslog"})
	}
	if f, err := event.Regex(pattern); err == nil {
		list = append(list, kind{name: timeAndText, yaml: fmt.Sprintf("{ regex: { pattern: '%s' } }", pattern), format: f})
	}
	list = append(list, kind{name: "logfmt", yaml: "logfmt", format: event.Logfmt(), least: 3})
	for _, comma := range []byte{',', ';', '\t', '|'} {
		if k, ok := separated(lines, comma); ok {
			list = append(list, k)
		}
	}
	return list
}

// separated is CSV with this delimiter, if lines have three fields and more. Its first line names them unless one of them is a number
// or a time.
func separated(lines [][]byte, comma byte) (k kind, ok bool) {
	heads := strings.Split(strings.TrimRight(string(lines[0]), "\r"), string(comma))
	if len(heads) < 3 {
		return k, false
	}
	named := !slices.ContainsFunc(heads, func(h string) bool { return !word.MatchString(strings.Trim(h, `" `)) })
	settings := ""
	if comma != ',' {
		settings = fmt.Sprintf("delimiter: %q", string(comma))
	}
	k = kind{name: "csv with " + map[byte]string{',': "commas", ';': "semicolons", '\t': "tabs", '|': "bars"}[comma]}
	f, err := event.CSV(nil, comma)
	if named && err == nil {
		k.skip = 1
		f, err = f.WithHeader(lines[0])
	} else {
		for i := range heads {
			heads[i] = fmt.Sprintf("field%d", i+1)
		}
		f, err = event.CSV(heads, comma)
		settings = strings.TrimSuffix(fmt.Sprintf("fields: [%s], %s", strings.Join(heads, ", "), settings), ", ")
	}
	if k.format = f; settings == "" {
		k.yaml = "csv"
	} else {
		k.yaml = "{ csv: { " + settings + " } }"
	}
	return k, err == nil
}

var word = regexp.MustCompile(`^[\pL_@#][\pL\pN_@#. -]*$`)

// read reads a sample. An event has the fields that its kind must have, and its time.
func (k kind) read(lines [][]byte, changed time.Time) *reading {
	r := &reading{kind: k, lines: len(lines) - k.skip}
	var p *event.Projection
	if k.format != nil {
		p = k.format.Projection(&event.Fields{}, nil)
	}
	for _, l := range lines[k.skip:] {
		object := l
		if p != nil {
			object = p.Object(l)
		}
		e := line{fields: map[string]cell{}}
		if collect(e.fields, "", object) == nil && len(e.fields) > k.least {
			r.events = append(r.events, e)
		}
	}
	if k.time != "" {
		readTimes(r.events, k.time, k.layout, changed)
		r.events = slices.DeleteFunc(r.events, func(e line) bool { return e.at == 0 })
	}
	return r
}

// collect takes the fields of an object, and of the objects in it.
func collect(fields map[string]cell, prefix string, object []byte) error {
	if object = bytes.TrimSpace(object); len(object) == 0 || object[0] != '{' {
		return fmt.Errorf("no object")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return err
	}
	for name, v := range members {
		path := prefix + strings.ReplaceAll(strings.ReplaceAll(name, `\`, `\\`), ".", `\.`)
		switch {
		case v[0] == '{':
			_ = collect(fields, path+".", v)
		case v[0] == '"':
			var text string
			if json.Unmarshal(v, &text) == nil && text != "" {
				fields[path] = cell{event.String, text}
			}
		case v[0] == '-' || v[0] >= '0' && v[0] <= '9':
			fields[path] = cell{event.Number, string(v)}
		}
	}
	return nil
}
