package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// source is a stream or an operator: something that rows come from.
type source struct {
	name   string
	key    *yaml.Node // where it is named
	stream *engine.Stream
	op     *engine.Operator
	body   *mapping                               // of the operator, until it is compiled
	kind   string                                 // window, join, sequence, plugin, filter, first_seen, enrich, or as_of: an enrich with a table of a stream
	events bool                                   // its rows are events: a stream, or what passes on nothing else
	whole  bool                                   // some of them are
	adds   bool                                   // it is a plugin that adds columns to rows
	from   []*yaml.Node                           // names of its sources
	cols   []string                               // of an operator's rows
	types  map[string]string                      // of fields, where they are known: those of fieldTypes, or json of what has parts
	print  []string                               // lines of the fingerprint
	memory []string                               // likewise of what a filter or map keeps, of which print is what its readers see
	passes func(path string) (event.Field, error) // resolves what its rows have of its input
	id     string                                 // of a stream whose events are told apart otherwise than by their positions: how
	init   func(spec *engine.Spec)
}

// field resolves a path in the rows of a source, and notes that it is read.
func (d *decoder) field(s *source, path string) (event.Field, error) {
	f := d.conf.Spec.Fields.Add(path)
	if s.stream != nil {
		if fm := s.stream.Format; fm != nil && !fm.Has(path) {
			return f, d.noField(s, path)
		}
		if d.reads == nil {
			d.reads = map[string][]event.Field{}
		}
		d.reads[s.name] = append(d.reads[s.name], f)
		return f, nil
	}
	if !slices.Contains(s.cols, path) && s.passes != nil {
		return s.passes(path)
	}
	if !slices.Contains(s.cols, path) {
		return f, fmt.Errorf("%s has no column %q%s", s.name, path, suggest(path, s.cols))
	}
	return f, nil
}

func (d *decoder) streams(n *yaml.Node) {
	m := d.mapping(n, "streams")
	if m == nil {
		return
	}
	if len(m.entries) == 0 {
		d.wrong(n, "streams is empty; name at least one")
	}
	for _, e := range m.entries {
		e.used = true
		d.name(e.key, "stream name")
		s := &source{name: e.key.Value, key: e.key, stream: &engine.Stream{Name: e.key.Value, Idle: idleTimeout}, events: true, whole: true}
		d.nodes[s.name] = s
		d.stream(s, e.value)
		d.conf.Spec.Streams = append(d.conf.Spec.Streams, *s.stream)
	}
}

var fieldTypes = []string{"string", "int", "float", "bool", "timestamp", "ip"}

func (d *decoder) stream(s *source, n *yaml.Node) {
	m := d.mapping(n, "stream "+s.name)
	if m == nil {
		return
	}
	if n := m.get("fields"); n != nil {
		if f := d.mapping(n, "fields"); f != nil {
			for _, e := range f.entries {
				s.typed(e.key.Value, d.enum(e.value, "the type of "+e.key.Value, "", fieldTypes...))
			}
		}
	}
	format := m.get("format")
	d.format(s, format)
	if types := m.get("fields"); types != nil && types.Kind == yaml.MappingNode && s.stream.Format != nil {
		for i := 0; i < len(types.Content); i += 2 {
			if path := types.Content[i].Value; !s.stream.Format.Has(path) {
				d.wrong(types.Content[i], "%v", d.noField(s, path))
			}
		}
	}
	if n := m.get("match"); n != nil {
		d.match(s, n)
	}
	if n := d.timeOf(s, m); n != nil {
		d.time(s, n)
	}
	if n := m.get("watermark"); n != nil {
		d.watermark(s, n)
	}
	d.identity(s, m)
	if s.stream.Format != nil {
		s.print = append(s.print, fmt.Sprintf("format of %s: %s", s.name, written(format)))
	}
	m.later("mapping")
	m.done()
}

// identity reads by what events are told apart: id: content, a field, or { field }, and within.
func (d *decoder) identity(s *source, m *mapping) {
	n, within := m.get("id"), m.get("within")
	id := &s.stream.ID
	id.Within = d.span(within, "within", 0, time.Millisecond)
	switch {
	case n == nil && within != nil:
		d.wrong(m.key("within"), "within says for how long events with the same id are dropped, and there is no id: write id: content, or the field that identifies an event")
	case n == nil:
	case n.Kind == yaml.ScalarNode && n.Value == "content":
		id.Content, s.id = true, "content"
		if within == nil {
			d.wrong(n, "id: content needs within: how far apart in time two events with the same content may be and still be one, such as within: 10m")
		}
	default:
		if n.Kind == yaml.MappingNode {
			f := d.mapping(n, "id")
			n = f.need("field", "the field that identifies an event")
			f.done()
		}
		if path := d.text(n, "id"); path != "" {
			f, err := d.field(s, path)
			if err != nil {
				d.wrong(n, "%v", err)
			}
			id.ByField, id.Field, s.id = true, f, "field "+path
		}
	}
}

// typeOf is the type of a field, empty if it is not known.
func (s *source) typeOf(path string) string { return s.types[path] }

// typed notes the type of a field.
func (s *source) typed(path, t string) {
	if s.types == nil {
		s.types = map[string]string{}
	}
	s.types[path] = t
}

// match is metadata key -> globs, and `where` on the content.
func (d *decoder) match(s *source, n *yaml.Node) {
	m := d.mapping(n, "match")
	if m == nil {
		return
	}
	for _, e := range m.entries {
		if e.key.Value == "where" {
			s.stream.Where = d.condition(e.value, func(path string) (event.Field, error) { return d.field(s, path) }, s.typeOf)
			continue
		}
		s.stream.Match = append(s.stream.Match, engine.Pattern{Key: e.key.Value, Globs: d.texts(e.value, "match "+e.key.Value)})
	}
}

// condition compiles a condition; nil if there is none. TypeOf says the types of fields, where they are known.
func (d *decoder) condition(n *yaml.Node, resolve func(path string) (event.Field, error), typeOf func(path string) string) *match.Condition {
	if n == nil {
		return nil
	}
	c, problems := match.CompileTyped(n, resolve, typeOf)
	d.problems = append(d.problems, problems...)
	return c
}

func (d *decoder) time(s *source, n *yaml.Node) {
	m := d.mapping(n, "time")
	if m == nil {
		return
	}
	t := &s.stream.Time
	field := m.get("field")
	if field == nil && timeOf(s.stream.Format) == "" {
		field = m.need("field", "the field that says when the event happened")
	}
	path := d.text(field, "field")
	if field == nil {
		path = timestamp
	}
	if path != "" {
		t.Field = d.conf.Spec.Fields.Add(path)
		if f := s.stream.Format; f != nil && field != nil && !f.Has(path) {
			d.wrong(field, "%v", d.noField(s, path))
		}
	}
	format, zone := m.get("format"), m.get("zone")
	otherwise := "rfc3339"
	if own := timeOf(s.stream.Format); own != "" && path == timestamp {
		otherwise = own
	}
	where := format
	if where == nil {
		where = zone
	}
	var err error
	t.Format, err = event.NewTimeFormat(cmp.Or(d.text(format, "format"), otherwise), d.text(zone, "zone"))
	if err != nil {
		d.wrong(where, "%v", err)
	}
	t.OnMissing = map[string]engine.Missing{"error": engine.MissingError, "late": engine.MissingLate, "drop": engine.MissingDrop, "arrival": engine.MissingArrival}[d.enum(
		m.get("on_missing"), "on_missing", "error", "error", "late", "drop", "arrival")]
	s.stream.Future = d.span(m.get("max_future"), "max_future", 5*time.Minute, 0)
	m.done()
	s.print = append(s.print, fmt.Sprintf("time of %s: %s %s %s", s.name, d.conf.Spec.Fields.Path(t.Field), value(format, otherwise), value(zone, "UTC")))
}

// idleTimeout is after how long a live partition without records is idle, unless idle_timeout says otherwise.
const idleTimeout = 30 * time.Second

// follow reads advance_when_idle.
func (d *decoder) follow(s *source, n *yaml.Node) {
	m := d.mapping(n, "advance_when_idle")
	if m == nil {
		return
	}
	read := func(n *yaml.Node, what string) time.Duration {
		return time.Duration(d.span(n, what, 0, time.Millisecond)) * time.Millisecond
	}
	s.stream.Follow.After = read(m.need("after", "how long every partition must have been idle, such as 1m"), "after")
	s.stream.Follow.Step = read(m.need("step", "in which steps the watermark follows the clock, such as 10s"), "step")
	m.done()
}

func value(n *yaml.Node, otherwise string) string {
	if n == nil {
		return otherwise
	}
	return n.Value
}

func (d *decoder) watermark(s *source, n *yaml.Node) {
	m := d.mapping(n, "watermark")
	if m == nil {
		return
	}
	s.stream.Delay = d.span(m.get("delay"), "delay", 0, 0)
	s.stream.Strict = d.bool(m.get("strict"), "strict")
	faults := len(d.problems)
	s.stream.Idle = time.Duration(d.span(m.get("idle_timeout"), "idle_timeout", idleTimeout, 0)) * time.Millisecond
	never := s.stream.Idle == 0 && len(d.problems) == faults
	s.stream.Least = d.int(m.get("min_partitions"), "min_partitions", 0, 1, 1_000_000)
	if n := m.get("advance_when_idle"); n != nil {
		if d.follow(s, n); never {
			d.wrong(n, "advance_when_idle needs partitions that become idle: idle_timeout must not be 0")
		}
	}
	m.done()
}
