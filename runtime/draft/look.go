package draft

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Sample is the beginning of a log: whole lines, at most some thousand, and when the file was last changed.
type Sample struct {
	Paths   []string // of the files that are one log, the sample's first
	Lines   [][]byte
	Changed time.Time
}

// Log is what a sample was found to be.
type Log struct {
	Paths      []string
	Format     string // as `format` is written, "" for json
	Lines      int    // of the sample, but for empty ones and a header
	Read       int    // those that the format can read and that have a time
	Time       string // the field with the time; "" if the format knows it, or if there is none
	TimeFormat string // "" for RFC 3339
	Timeless   bool   // no field is a time
	Zoneless   bool   // its times do not say where they are from
	Disorder   int64  // by how much an event is older than one before it, at most, ms
	Fields     []Field
	Rule       *Rule
}

// Field is a field of a log, by its path as pipelines write it.
type Field struct {
	Path    string
	Lines   int            // that have it
	Texts   int            // in which it is a text
	Values  map[string]int // how often; no more than valuesMost
	Example string
}

// valuesMost is how many values of a field are told apart, lengthMost up to what length.
const (
	valuesMost = 2000
	lengthMost = 200
)

// Look finds out what a log is. The error says what was tried, with how many lines each form could read.
func Look(s Sample) (*Log, error) {
	lines := slices.DeleteFunc(slices.Clone(s.Lines), func(l []byte) bool { return len(bytes.TrimSpace(l)) == 0 })
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s: it has no lines", s.Paths[0])
	}
	var best *reading
	var tried []string
	for _, k := range kinds(lines) {
		r := k.read(lines, s.Changed)
		if tried = append(tried, fmt.Sprintf("%s %d", k.name, len(r.events))); best == nil || len(r.events) > len(best.events) {
			best = r
		}
		if len(r.events)*10 >= r.lines*9 {
			break
		}
	}
	if len(best.events)*2 < best.lines {
		return nil, fmt.Errorf("%s: its lines are in no form that is known here (%s of %d could be read); describe them with `format: { regex: ... }` or grok", s.Paths[0], strings.Join(tried, ", "), best.lines)
	}
	l := &Log{Paths: s.Paths, Format: best.kind.yaml, Lines: best.lines, Fields: fieldsOf(best.events)}
	l.findTime(best, s.Changed)
	l.Disorder = disorder(best.events)
	l.findAddress(best)
	l.findRule(best.events)
	return l, nil
}

// line is a line's fields by path, texts and numbers as they stand there; lists are left out. at is its time, ms, once it is known.
type line struct {
	fields map[string]cell
	at     int64
}

type cell struct {
	kind event.Kind
	text string
}

// fieldsOf collects fields, by how many lines have them, then by name.
func fieldsOf(events []line) (out []Field) {
	by := map[string]*Field{}
	for _, e := range events {
		for path, c := range e.fields {
			f := by[path]
			if f == nil {
				f = &Field{Path: path, Values: map[string]int{}, Example: c.text}
				by[path] = f
			}
			f.Lines++
			if c.kind == event.String {
				f.Texts++
			}
			if len(c.text) <= lengthMost && (len(f.Values) < valuesMost || f.Values[c.text] > 0) {
				f.Values[c.text]++
			}
		}
	}
	for _, f := range by {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b Field) int { return cmp.Or(cmp.Compare(b.Lines, a.Lines), strings.Compare(a.Path, b.Path)) })
	return out
}

// layouts are forms of times besides RFC 3339 and numbers. Fractions of seconds are read though they do not stand there.
var layouts = []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04:05 -0700", "2006-01-02T15:04:05Z0700", "2006/01/02 15:04:05", "02/Jan/2006:15:04:05 -0700",
	"Jan _2 15:04:05 2006", "Mon Jan _2 15:04:05 2006", "Mon Jan _2 15:04:05 MST 2006", "Mon, 02 Jan 2006 15:04:05 MST", "Mon, 02 Jan 2006 15:04:05 -0700", "02 Jan 2006 15:04:05",
	"02.01.2006 15:04:05", "01/02/2006 15:04:05", "01/02/2006 03:04:05 PM", "20060102150405", "20060102T150405Z0700"}

// plausible is when logs are from: a number that is no such time is something else.
var plausible = [2]int64{time.Date(1995, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()}

// findTime finds the field with the time, and reads it. What has none is taken as it comes.
func (l *Log) findTime(r *reading, changed time.Time) {
	if r.kind.time != "" { // the format knows
		l.Read = len(r.events)
		l.Zoneless = r.kind.layout == "syslog" && !zoned(r.events, r.kind.time)
		return
	}
	type choice struct {
		path, format string
		lines, name  int
	}
	var best choice
	for _, f := range l.Fields {
		if f.Lines*2 < len(r.events) {
			break
		}
		for _, format := range slices.Concat([]string{"", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "syslog"}, layouts) {
			c := choice{f.Path, format, readTimes(r.events, f.Path, format, changed), timeName(f.Path)}
			if c.lines > 0 && (cmp.Or(cmp.Compare(c.lines*10/len(r.events), best.lines*10/len(r.events)), cmp.Compare(c.name, best.name), cmp.Compare(c.lines, best.lines)) > 0) {
				best = c
			}
		}
	}
	if best.lines*2 < len(r.events) {
		l.Timeless, l.Read = true, len(r.events)
		return
	}
	l.Time, l.TimeFormat = best.path, best.format
	l.Read = readTimes(r.events, best.path, best.format, changed)
	l.Zoneless = !strings.HasPrefix(best.format, "epoch") && !zoned(r.events, best.path)
}

// zoned says whether times say where they are from.
func zoned(events []line, path string) bool {
	return slices.ContainsFunc(events, func(e line) bool { return zone.MatchString(e.fields[path].text) })
}

var zone = regexp.MustCompile(`(Z|[+-]\d\d:?\d\d| [A-Z]{3,4}( \d{4})?)$`)

// disorder is by how much an event is older, at most, than one before it, ms.
func disorder(events []line) (most int64) {
	newest := int64(0)
	for _, e := range events {
		if e.at != 0 {
			most, newest = max(most, newest-e.at), max(newest, e.at)
		}
	}
	return most
}

// readTimes reads a field as the events' time, and says of how many it is one.
func readTimes(events []line, path, format string, changed time.Time) (n int) {
	t, err := event.NewTimeFormat(format, "")
	if err != nil {
		return 0
	}
	for i := range events {
		c, ok := events[i].fields[path]
		if !ok {
			continue
		}
		ms, err := t.Near(event.Value{Kind: c.kind, Text: []byte(c.text)}, changed.UnixMilli())
		if events[i].at = 0; err == nil && ms >= plausible[0] && ms < plausible[1] {
			events[i].at = ms
			n++
		}
	}
	return n
}

// timeName is how much a name sounds like the time of an event.
func timeName(path string) int {
	name := strings.ToLower(path)
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "timestamp", "@timestamp", "time", "ts", "_time", "event_time", "eventtime", "datetime", "utctime", "timecreated", "systemtime":
		return 3
	case "t", "date", "at", "when", "logged_at", "created_at", "login_time":
		return 2
	}
	if strings.Contains(name, "time") || strings.Contains(name, "date") {
		return 1
	}
	return 0
}
