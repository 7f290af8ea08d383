package pipeline

import (
	"context"
	"fmt"
	"slices"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// The processor `parse`: lines to objects, as streams of a detect buffer read them, for pipelines that only collect.

func init() {
	spec := service.NewConfigSpec().Categories("Parsing").Summary("Reads lines of logs in the formats that streams know; messages become JSON objects.").
		Description("`format` and `fields` are written as in `streams`: json, csv (with its `fields`), syslog, cef, leef, logfmt, combined, regex, grok; `fields` makes ints, floats and bools of texts. "+
			"The object has the line's fields and, except for json, the line as `raw`; metadata stay. A line that its format does not know stays as it is, with an error that `catch` sees and that says at which byte.").
		Fields(
			service.NewAnyField("format").Description("How lines are written, as in [streams](../pipelines.md#formats): a name, or a name with settings.").
				Example("logfmt").Example(map[string]any{"csv": map[string]any{"fields": []any{"time", "user"}}}),
			service.NewAnyField("fields").Description("A mapping of what texts become, by field: int, float or bool, where they are such. Of JSON none: it has types of its own.").
				Optional().Example(map[string]any{"port": "int"}),
		).
		Example("The log of sshd", runs, `input:
  file_lines:
    paths: [pipelines/data/auth.log]
pipeline:
  processors:
    - parse:
        format: { syslog: { message: '^(?P<result>Failed|Accepted) \S+ for (?P<user>\S+) from (?P<ip>\S+) port (?P<port>\d+)' } }
        fields: { port: int }
output:
  file_rows: { path: ./out/sshd.jsonl }
`).
		Example("An access log, by a grok pattern", runs, `input:
  file_lines:
    paths: [pipelines/data/access.log]
pipeline:
  processors:
    - parse:
        format: { grok: { pattern: '^%{HTTPD_COMBINEDLOG}' } }
output:
  file_rows: { path: ./out/access.jsonl }
`)
	err := service.RegisterBatchProcessor("parse", spec, func(conf *service.ParsedConfig, _ *service.Resources) (service.BatchProcessor, error) {
		c, err := decodeParsed(conf, "parse", decodeParse)
		return c, err
	})
	if err != nil {
		panic(err)
	}
}

// parse is the processor.
type parse struct{ object *event.Projection } // one column, the whole event

// decodeParse reads the mapping under a processor's `parse`.
func decodeParse(n *yaml.Node) (*parse, []match.Problem) {
	d := newDecoder()
	m := d.mapping(n, "parse")
	if m == nil {
		return nil, d.sorted()
	}
	s := &source{name: "parse"}
	types := m.get("fields")
	if types != nil {
		if f := d.mapping(types, "fields"); f != nil {
			for _, e := range f.entries {
				s.typed(e.key.Value, d.enum(e.value, "the type of "+e.key.Value, "", fieldTypes...))
			}
		}
	}
	format := m.need("format", "how lines are written: syslog, logfmt, ...")
	f := d.formatUnder(s, format)
	m.done()
	var fields event.Fields
	whole := []event.Field{fields.Add(event.Whole)}
	if f == nil {
		if types != nil && len(d.problems) == 0 {
			d.wrong(types, "JSON has its own types; fields is for the other formats")
		}
		return &parse{event.NewProjection(&fields, whole)}, d.sorted()
	}
	if f.NeedsHeader() {
		d.wrong(format, `csv needs its fields here, since a message is one line: write { csv: { fields: [time, user] } }`)
		return nil, d.sorted()
	}
	if types != nil {
		d.typesOf(f, types)
	}
	return &parse{f.Projection(&fields, whole)}, d.sorted()
}

// typesOf checks that a format has the fields whose types are given.
func (d *decoder) typesOf(f *event.Format, types *yaml.Node) {
	for i := 0; i+1 < len(types.Content); i += 2 {
		if path := types.Content[i].Value; !f.Has(path) {
			d.wrong(types.Content[i], "%s has no field %q%s", f.Name, path, suggest(path, append(slices.Clone(f.Known()), event.Raw)))
		}
	}
}

// ProcessBatch makes each message the object of its line. Another output of a broker may have the same messages, so what changes is a
// copy.
func (p *parse) ProcessBatch(_ context.Context, batch service.MessageBatch) ([]service.MessageBatch, error) {
	out, rows := slices.Clone(batch), p.object.NewBatch()
	for i, m := range batch {
		if m.GetError() != nil {
			continue
		}
		line, err := m.AsBytes()
		if err == nil {
			rows.Reset()
			err = p.object.Append(rows, event.Mend(line))
		}
		out[i] = m.Copy()
		if err != nil {
			out[i].SetError(fmt.Errorf("parse: %s: %w", p.object.Reason(err), err))
			continue
		}
		out[i].SetBytes(slices.Clone(rows.Cols[0].Data))
	}
	return []service.MessageBatch{out}, nil
}

// Close has nothing to give back.
func (p *parse) Close(context.Context) error { return nil }
