package pipeline

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// rowShape is what rows of one kind look like, as far as the pipeline knows: what their schemas are made of.
type rowShape struct {
	space, name string
	columns     []rowColumn
}

// rowColumn is a column and its type: one of those of fields, "json" for what has parts, empty for any single value.
type rowColumn struct{ name, typ string }

// documentShape is that of rows whose columns nobody knows: events that are passed on as they are, late and error rows. Their JSON is one text.
var documentShape = &rowShape{"tocsin", "Document", nil}

// alertShape is that of alerts, which all have the same members.
var alertShape = &rowShape{"tocsin", "Alert", []rowColumn{{"id", "string"}, {"rule", "json"}, {"title", "string"}, {"description", "string"}, {"severity", "string"},
	{"risk_score", "int"}, {"time", "timestamp"}, {"first_event_time", "timestamp"}, {"last_event_time", "timestamp"}, {"count", "int"}, {"suppressed", "int"},
	{"entities", "json"}, {"attack", "json"}, {"references", "json"}, {"false_positives", "json"}, {"note", "json"}, {"row", "json"}, {"events", "json"}, {"truncated", "bool"}}}

// shapes are those of the operators whose rows leave, by name.
func (d *decoder) shapes() map[string]*rowShape {
	out := map[string]*rowShape{}
	for _, o := range d.ops {
		if !o.op.Leaves {
			continue
		}
		s := &rowShape{space: "tocsin." + schemaName(d.conf.Spec.Name), name: schemaName(o.name)}
		taken := map[string]bool{}
		for _, c := range o.op.Names {
			name := schemaName(c.Name)
			if c.Name == "" || taken[name] { // a whole event, or names that only differ in what a schema does not know
				s = documentShape
				break
			}
			taken[name] = true
			typ := o.types[c.Name]
			if !slices.Contains(fieldTypes, typ) {
				typ = ""
			}
			if slices.Contains([]string{"truncated", "approximate"}, c.Name) {
				typ = "bool"
			}
			s.columns = append(s.columns, rowColumn{c.Name, typ})
		}
		if len(o.op.Names) == 0 {
			s = documentShape
		}
		out[o.name] = s
	}
	return out
}

// schemaName is a name as Avro allows it.
func schemaName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			if c != '_' && (c < '0' || c > '9' || i == 0) {
				b[i] = '_'
			}
		}
	}
	return string(b)
}

func (s *rowShape) fullName() string { return s.space + "." + s.name }

// anyValue are the types of a column whose type nobody knows: the single values of JSON; what has parts is the text of its JSON.
var anyValue = []any{"null", "boolean", "long", "double", "string"}

// avro is the schema of Avro: each column may be null, since a row may lack it.
func (s *rowShape) avro() string {
	fields := []any{}
	for _, c := range s.columns {
		var t any
		switch c.typ {
		case "int":
			t = []any{"null", "long"}
		case "float":
			t = []any{"null", "double"}
		case "bool":
			t = []any{"null", "boolean"}
		case "timestamp":
			t = []any{"null", map[string]any{"type": "long", "logicalType": "timestamp-millis"}}
		case "":
			t = anyValue
		default:
			t = []any{"null", "string"}
		}
		fields = append(fields, map[string]any{"name": schemaName(c.name), "type": t, "default": nil})
	}
	if s.columns == nil {
		fields = append(fields, map[string]any{"name": "json", "type": "string"})
	}
	return marshalled(map[string]any{"type": "record", "namespace": s.space, "name": s.name, "fields": fields})
}

// json is the JSON Schema. It is open: what a row has beside its columns, and what a document is, nobody says.
func (s *rowShape) json() string {
	properties := map[string]any{}
	for _, c := range s.columns {
		switch c.typ {
		case "int":
			properties[c.name] = map[string]any{"type": []string{"integer", "null"}}
		case "float":
			properties[c.name] = map[string]any{"type": []string{"number", "null"}}
		case "bool":
			properties[c.name] = map[string]any{"type": []string{"boolean", "null"}}
		case "timestamp":
			properties[c.name] = map[string]any{"type": []string{"string", "null"}, "format": "date-time"}
		case "string", "ip":
			properties[c.name] = map[string]any{"type": []string{"string", "null"}}
		default:
			properties[c.name] = map[string]any{}
		}
	}
	return marshalled(map[string]any{"$schema": "http://json-schema.org/draft-07/schema#", "title": s.fullName(), "type": "object", "properties": properties})
}

func marshalled(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error() // maps of texts always can be
	}
	return string(b)
}

var rfc3339, _ = event.NewTimeFormat("", "")

// appendAvro appends a row, given as JSON, as Avro; an error says which column is not of its type.
func (s *rowShape) appendAvro(dst, row []byte) ([]byte, error) {
	if s.columns == nil {
		return appendSized(dst, row), nil
	}
	values := make([][]byte, len(s.columns))
	more := ""
	event.Members(row, func(name, value []byte) {
		i := slices.IndexFunc(s.columns, func(c rowColumn) bool { return c.name == string(name) })
		if i < 0 {
			more = string(name)
			return
		}
		values[i] = value
	})
	if more != "" { // a processor behind the buffer has made something else of it
		return dst, fmt.Errorf("it has a column %s, which the schema of %s has not; change rows by operators, or use encoding: json_schema", more, s.fullName())
	}
	for i, c := range s.columns {
		var ok bool
		if dst, ok = c.appendAvro(dst, values[i]); !ok {
			return dst, fmt.Errorf("column %s is %s, and its schema says %s", c.name, values[i][:min(len(values[i]), 64)], c.typ)
		}
	}
	return dst, nil
}

// appendSized appends bytes behind their length.
func appendSized(dst, text []byte) []byte {
	return append(binary.AppendVarint(dst, int64(len(text))), text...)
}

// appendAvro appends one value, the branch of its union before it.
func (c rowColumn) appendAvro(dst, value []byte) ([]byte, bool) {
	if len(value) == 0 || string(value) == "null" {
		return append(dst, 0), true
	}
	quoted := value[0] == '"'
	if c.typ == "" {
		return appendAny(dst, value), true
	}
	dst = append(dst, 2)
	switch c.typ {
	case "int":
		n, err := strconv.ParseInt(string(value), 10, 64)
		return binary.AppendVarint(dst, n), err == nil
	case "float":
		f, err := strconv.ParseFloat(string(value), 64)
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), err == nil
	case "bool":
		return append(dst, boolByte(value)), value[0] == 't' || value[0] == 'f'
	case "timestamp":
		if !quoted {
			return dst, false
		}
		ms, err := rfc3339.Millis(event.Value{Kind: event.String, Text: unquoted(value)})
		return binary.AppendVarint(dst, ms), err == nil
	case "json":
		return appendSized(dst, value), true
	}
	if !quoted {
		return dst, false
	}
	return appendSized(dst, unquoted(value)), true
}

func boolByte(value []byte) byte {
	if value[0] == 't' {
		return 1
	}
	return 0
}

// unquoted is the text of a JSON string.
func unquoted(value []byte) []byte { return event.AppendText(nil, value[1:len(value)-1]) }

// appendAny appends a value of anyValue.
func appendAny(dst, value []byte) []byte {
	switch value[0] {
	case 't', 'f':
		return append(dst, 2, boolByte(value))
	case '"':
		return appendSized(append(dst, 8), unquoted(value))
	case '{', '[':
		return appendSized(append(dst, 8), value)
	}
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && !bytes.ContainsAny(value, ".eE") {
		return binary.AppendVarint(append(dst, 4), n)
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil { // beyond all doubles
		return appendSized(append(dst, 8), value)
	}
	return binary.LittleEndian.AppendUint64(append(dst, 6), math.Float64bits(f))
}
