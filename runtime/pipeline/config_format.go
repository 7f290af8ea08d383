package pipeline

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// plainFormats are those that have no settings.
var plainFormats = map[string]func() *event.Format{
	"cef": event.CEF, "leef": event.LEEF, "logfmt": event.Logfmt, "combined": event.Combined,
}

var formatNames = []string{"json", "csv", "syslog", "cef", "leef", "logfmt", "combined", "regex", "grok", event.KindAvro, event.KindProtobuf, event.KindJSONSchema}

// settled are the formats that may have settings.
var settled = []string{"csv", "regex", "grok", "syslog", event.KindAvro, event.KindProtobuf, event.KindJSONSchema}

// timestamp is the field of an event's time where the format has one.
const timestamp = "timestamp"

// timeOf is the form of that time, empty if the format has none.
func timeOf(f *event.Format) string {
	switch {
	case f == nil:
	case f.Name == "syslog":
		return "syslog"
	case f.Name == "combined":
		return "02/Jan/2006:15:04:05 -0700"
	}
	return ""
}

// timeOf is the stream's `time`, which formats with a time of their own may leave out.
func (d *decoder) timeOf(s *source, m *mapping) *yaml.Node {
	n := m.get("time")
	switch {
	case n != nil:
	case timeOf(s.stream.Format) != "":
		return &yaml.Node{Kind: yaml.MappingNode, Line: m.node.Line, Column: m.node.Column}
	default:
		d.wrong(m.node, "%s needs time: { field: ... }, the field that says when the event happened", m.what)
	}
	return n
}

// format reads how a stream's lines are written. Streams that say the same share one Format, so that a line is read once for all of
// them.
func (d *decoder) format(s *source, n *yaml.Node) { s.stream.Format = d.formatUnder(s, n) }

func (d *decoder) formatUnder(s *source, n *yaml.Node) *event.Format {
	if n == nil {
		return nil
	}
	name, body := n.Value, (*mapping)(nil)
	if n.Kind == yaml.MappingNode {
		m := d.mapping(n, "format")
		if len(m.entries) != 1 {
			d.wrong(n, "format must be one of %s", strings.Join(formatNames, ", "))
			return nil
		}
		e := m.entries[0]
		if name, n = e.key.Value, e.key; slices.Contains(settled, name) {
			if body = d.mapping(e.value, name); body == nil {
				return nil
			}
		} else if slices.Contains(formatNames, name) {
			d.wrong(n, "%s has no settings: write format: %s", name, name)
		}
	}
	f := d.formatOf(n, name, body)
	if f == nil {
		return nil
	}
	f = f.Typed(s.types)
	key := fmt.Sprint(written(n), written(bodyOf(body)), s.types)
	if d.formats == nil {
		d.formats = map[string]*event.Format{}
	}
	if d.formats[key] == nil {
		d.formats[key] = f
	}
	return d.formats[key]
}

func bodyOf(m *mapping) *yaml.Node {
	if m == nil {
		return nil
	}
	return m.node
}

// formatOf makes the format that is named; nil for JSON, and for what is wrong.
func (d *decoder) formatOf(n *yaml.Node, name string, body *mapping) *event.Format {
	switch {
	case name == "json" && n.Kind == yaml.ScalarNode:
	case name == "csv" && n.Kind == yaml.ScalarNode:
		return d.csv(n, body)
	case name == "syslog" && n.Kind == yaml.ScalarNode:
		return d.syslog(n, body)
	case name == event.KindAvro || name == event.KindProtobuf || name == event.KindJSONSchema:
		return d.schemed(n, name, body)
	case name == "regex" && body != nil:
		return d.regex(body)
	case name == "regex":
		d.wrong(n, `format regex needs its pattern: write { regex: { pattern: "^(?P<user>\\S+) ..." } }`)
	case name == "grok" && body != nil:
		return d.grok(body)
	case name == "grok":
		d.wrong(n, `format grok needs its pattern: write { grok: { pattern: "^%%{IP:client} ..." } }`)
	case plainFormats[name] != nil:
		return plainFormats[name]()
	case n.Kind != yaml.ScalarNode || n.Tag != "!!str":
		d.wrong(n, "format must be a text or a mapping, not %s", shown(n))
	default:
		d.wrong(n, "format %q is unknown%s", name, suggest(name, formatNames))
	}
	return nil
}

// csv reads { fields, delimiter }. Without fields the first line of a file names them.
func (d *decoder) csv(n *yaml.Node, m *mapping) *event.Format {
	comma, columns := ",", []string(nil)
	if m != nil {
		if x := m.get("delimiter"); x != nil {
			n, comma = x, d.text(x, "delimiter")
			if len(comma) != 1 {
				if comma != "" {
					d.wrong(x, "delimiter must be one ASCII character, not %s", shown(x))
				}
				return nil
			}
		}
		if x := m.get("fields"); x != nil {
			n, columns = x, d.texts(x, "fields")
		}
		m.done()
	}
	f, err := event.CSV(columns, comma[0])
	if err != nil {
		d.wrong(n, "csv: %v", err)
	}
	return f
}

// syslog reads { message }, a pattern whose groups are fields of the messages that it matches.
func (d *decoder) syslog(n *yaml.Node, m *mapping) *event.Format {
	pattern := ""
	if m != nil {
		if x := m.get("message"); x != nil {
			n, pattern = x, d.text(x, "message")
		}
		m.done()
	}
	f, err := event.Syslog(pattern)
	if err != nil {
		d.wrong(n, "message: %v", err)
	}
	return f
}

// schemaFileMax is how long the file of a schema may be.
const schemaFileMax = 1 << 20

// schemed reads a format of records with schemas: { schema: FILE } for records that all have it and do not name it; without a file they
// begin with an id.
func (d *decoder) schemed(n *yaml.Node, name string, m *mapping) *event.Format {
	var file, message, validate *yaml.Node
	if m != nil {
		file = m.get("schema")
		if name == event.KindProtobuf {
			message = m.get("message")
		}
		if name == event.KindJSONSchema {
			validate = m.get("validate")
		}
		m.done()
	}
	var f *event.Format
	switch {
	case file == nil:
		d.conf.registered = append(d.conf.registered, n)
		if f = event.BySchema(name); message != nil {
			d.wrong(m.key("message"), "message needs schema: records that begin with an id say which message they are")
		}
	default:
		path := d.text(file, "schema")
		if path == "" {
			return nil
		}
		text, err := readLimited(path, schemaFileMax)
		if err != nil {
			d.wrong(file, "schema: %v", err)
			return nil
		}
		s := event.NewSchema(-1, name, string(text), nil)
		if s.Fault() != nil {
			d.wrong(file, "schema: %s cannot be used: %v", path, s.Fault())
			return nil
		}
		if f, err = event.OfMessage(s, d.text(message, "message")); err != nil {
			d.wrong(message, "message: %v", err)
			return nil
		}
	}
	if d.bool(validate, "validate") {
		f = f.Validated()
	}
	return f
}

// readLimited reads a file; an error has the path that was tried.
func readLimited(path string, limit int64) ([]byte, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(full)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", full, limit)
	}
	return text, err
}

func (d *decoder) regex(m *mapping) *event.Format {
	n := m.need("pattern", `a regular expression (RE2) whose groups have names, such as "^(?P<user>\\S+) "`)
	m.done()
	pattern := d.text(n, "pattern")
	if pattern == "" {
		return nil
	}
	f, err := event.Regex(pattern)
	if err != nil {
		d.wrong(n, "pattern: %v", err)
	}
	return f
}

// grok reads { pattern, patterns }: a grok pattern, and those of one's own by name.
func (d *decoder) grok(m *mapping) *event.Format {
	n := m.need("pattern", `a grok pattern, such as "^%{IP:client} %{WORD:method}"`)
	at, own := map[string]*yaml.Node{}, map[string]string{}
	if x := m.get("patterns"); x != nil {
		if p := d.mapping(x, "patterns"); p != nil {
			for _, e := range p.entries {
				at[e.key.Value] = e.value
				if own[e.key.Value] = d.text(e.value, "a pattern"); !grokName.MatchString(e.key.Value) {
					d.wrong(e.key, "a pattern's name has letters, digits and _, not %s", shown(e.key))
				}
			}
			if len(own) > event.GrokOwnMax {
				d.wrong(x, "%d patterns, the limit is %d", len(own), event.GrokOwnMax)
			}
		}
	}
	m.done()
	pattern := d.text(n, "pattern")
	if pattern == "" {
		return nil
	}
	f, err := event.Grok(pattern, own)
	if err != nil {
		d.grokFault(n, at, err)
	}
	return f
}

var grokName = regexp.MustCompile(`^\w{1,100}$`)

// grokFault says what is wrong with a pattern, and which name was perhaps meant.
func (d *decoder) grokFault(n *yaml.Node, own map[string]*yaml.Node, err error) {
	what, text := "pattern", err.Error()
	var fault *event.GrokError
	if errors.As(err, &fault) {
		if x := own[fault.In]; x != nil {
			n, what = x, fault.In
		}
		if fault.Name != "" {
			known := append(slices.Collect(maps.Keys(own)), event.GrokNames()...)
			meant := suggest(fault.Name, known)
			if upper := strings.ToUpper(fault.Name); slices.Contains(known, upper) {
				meant = fmt.Sprintf("; did you mean %q?", upper)
			}
			if !strings.HasPrefix(meant, "; did you mean") { // there are hundreds
				meant = "; define it under `patterns`"
			}
			text += meant
		}
	}
	d.wrong(n, "%s: %s", what, text)
}

// noField says that a stream's lines cannot have a field.
func (d *decoder) noField(s *source, path string) error {
	f := s.stream.Format
	return fmt.Errorf("stream %s is %s, which has no field %q%s", s.name, f.Name, path, suggest(path, append(slices.Clone(f.Known()), event.Raw)))
}

// written is a node as it is written, on one line.
func written(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	out := *n
	out.HeadComment, out.LineComment, out.FootComment = "", "", ""
	b, err := yaml.Marshal(&out)
	if err != nil {
		return n.Value
	}
	return strings.Join(strings.Fields(string(b)), " ")
}
