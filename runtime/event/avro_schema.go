package event

import (
	"fmt"
	"slices"

	"github.com/hamba/avro/v2"
)

// avroKind is a type of Avro as it stands in a record, or a logical type over one.
type avroKind uint8

const (
	avroNull avroKind = iota
	avroBool
	avroInt // also long
	avroFloat
	avroDouble
	avroBytes
	avroString
	avroFixed
	avroEnum
	avroArray
	avroMap
	avroRecord
	avroUnion

	avroDecimal // in bytes or fixed
	avroDate
	avroTimeMillis
	avroTimeMicros
	avroMillis
	avroMicros
	avroNanos
	avroLocalMillis
	avroLocalMicros
	avroUUID // 16 bytes; as a string it is one
)

var avroKindNames = [...]string{"null", "boolean", "an integer", "float", "double", "bytes", "string", "fixed", "an enum", "an array", "a map", "a record", "a union",
	"decimal", "date", "time-millis", "time-micros", "timestamp-millis", "timestamp-micros", "timestamp-nanos", "local-timestamp-millis", "local-timestamp-micros", "uuid"}

// avroCan says which declared types (fields) each kind can be.
var avroCan = map[avroKind][]string{
	avroBool: {"bool"}, avroInt: {"int", "float", "timestamp"}, avroFloat: {"float", "timestamp"}, avroDouble: {"float", "timestamp"}, avroDecimal: {"float", "timestamp"},
	avroString: {"string", "timestamp", "ip"}, avroEnum: {"string"}, avroUUID: {"string"}, avroBytes: {"string"}, avroFixed: {"string"},
	avroDate: {"string"}, avroTimeMillis: {"string"}, avroTimeMicros: {"string"},
	avroMillis: {"string", "timestamp"}, avroMicros: {"string", "timestamp"}, avroNanos: {"string", "timestamp"},
	avroLocalMillis: {"string", "timestamp"}, avroLocalMicros: {"string", "timestamp"},
}

// The limits of what a schema of Avro may say.
const (
	avroTypesMax   = 100_000
	avroScaleMax   = 1_000
	avroDecimalMax = 512 // bytes of a decimal: turning one into digits takes time by the square of its length
)

// avroType is a type as records are read by it. Recursive schemas are cycles.
type avroType struct {
	kind     avroKind
	under    avroKind // of avroDecimal: avroBytes or avroFixed
	vacant   bool     // a value may take no bytes
	size     int      // of fixed
	scale    int
	name     string // full name of records
	symbols  []string
	fields   []avroField
	items    *avroType   // also the values of maps
	branches []*avroType // of unions
}

type avroField struct {
	name string
	key  []byte // as JSON, with the colon
	*avroType
}

// parseAvro reads a schema, whose top must be a record.
func parseAvro(text string, refs []Reference) (t *avroType, err error) {
	defer func() { // a schema comes from outside, and the parser is not ours
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("it is no schema of Avro: %v", r)
		}
	}()
	cache := &avro.SchemaCache{}
	for _, r := range refs {
		if _, err := avro.ParseWithCache(r.Text, "", cache); err != nil {
			return nil, fmt.Errorf("what it refers to as %q is no schema of Avro: %s", r.Name, brief(err))
		}
	}
	s, err := avro.ParseWithCache(text, "", cache)
	if err != nil {
		return nil, fmt.Errorf("it is no schema of Avro: %s", brief(err))
	}
	m := avroMaker{named: map[string]*avroType{}}
	t = m.make(s)
	switch {
	case m.err != nil:
		return nil, m.err
	case t.kind != avroRecord:
		return nil, fmt.Errorf("an event must be a record, not %s", avroKindNames[t.kind])
	}
	m.vacancies()
	return t, nil
}

type avroMaker struct {
	named map[string]*avroType
	all   []*avroType
	err   error
}

func (m *avroMaker) make(s avro.Schema) *avroType {
	if ref, ok := s.(*avro.RefSchema); ok {
		s = ref.Schema()
	}
	name := ""
	if n, ok := s.(avro.NamedSchema); ok {
		name = n.FullName()
		if t := m.named[name]; t != nil {
			return t
		}
	}
	t := &avroType{name: name}
	if m.all = append(m.all, t); len(m.all) > avroTypesMax {
		m.fail("it has more than %d types", avroTypesMax)
		return t
	}
	if name != "" {
		m.named[name] = t
	}
	switch s := s.(type) {
	case *avro.PrimitiveSchema:
		m.primitive(t, s)
	case *avro.NullSchema:
		t.kind = avroNull
	case *avro.FixedSchema:
		m.fixed(t, s)
	case *avro.EnumSchema:
		t.kind, t.symbols = avroEnum, s.Symbols()
	case *avro.ArraySchema:
		t.kind, t.items = avroArray, m.make(s.Items())
	case *avro.MapSchema:
		t.kind, t.items = avroMap, m.make(s.Values())
	case *avro.UnionSchema:
		t.kind = avroUnion
		for _, x := range s.Types() {
			t.branches = append(t.branches, m.make(x))
		}
	case *avro.RecordSchema:
		t.kind = avroRecord
		for _, f := range s.Fields() {
			t.fields = append(t.fields, avroField{f.Name(), append(AppendJSONString(nil, []byte(f.Name())), ':'), m.make(f.Type())})
		}
	default:
		m.fail("type %s is not known", s.Type())
	}
	return t
}

func (m *avroMaker) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

var avroPrimitives = map[avro.Type]avroKind{avro.Boolean: avroBool, avro.Int: avroInt, avro.Long: avroInt, avro.Float: avroFloat, avro.Double: avroDouble,
	avro.Bytes: avroBytes, avro.String: avroString, avro.Null: avroNull}

var avroLogical = map[string]struct{ kind, under avroKind }{
	"date": {avroDate, avroInt}, "time-millis": {avroTimeMillis, avroInt}, "time-micros": {avroTimeMicros, avroInt},
	"timestamp-millis": {avroMillis, avroInt}, "timestamp-micros": {avroMicros, avroInt}, "timestamp-nanos": {avroNanos, avroInt},
	"local-timestamp-millis": {avroLocalMillis, avroInt}, "local-timestamp-micros": {avroLocalMicros, avroInt},
}

// primitive reads a type with its logical type; one that is not known, or not over this type, does not count, as Avro says.
func (m *avroMaker) primitive(t *avroType, s *avro.PrimitiveSchema) {
	kind, ok := avroPrimitives[s.Type()]
	if !ok {
		m.fail("type %s is not known", s.Type())
		return
	}
	t.kind = kind
	if d, ok := s.Logical().(*avro.DecimalLogicalSchema); ok && kind == avroBytes {
		m.decimal(t, d)
		return
	}
	name, _ := s.Prop("logicalType").(string)
	if l := s.Logical(); l != nil {
		name = string(l.Type())
	}
	if l, ok := avroLogical[name]; ok && l.under == kind {
		t.kind = l.kind
	}
}

func (m *avroMaker) fixed(t *avroType, s *avro.FixedSchema) {
	t.kind, t.size = avroFixed, s.Size()
	if t.size < 0 {
		m.fail("fixed %s has a size of %d", t.name, t.size)
	}
	switch d := s.Logical().(type) {
	case *avro.DecimalLogicalSchema:
		m.decimal(t, d)
	case *avro.PrimitiveLogicalSchema:
		if d.Type() == avro.UUID && t.size == 16 {
			t.kind = avroUUID
		}
	}
	if s.Prop("logicalType") == "uuid" && t.size == 16 {
		t.kind = avroUUID
	}
}

func (m *avroMaker) decimal(t *avroType, d *avro.DecimalLogicalSchema) {
	t.under, t.kind, t.scale = t.kind, avroDecimal, d.Scale()
	if t.scale < 0 || t.scale > avroScaleMax {
		m.fail("a decimal has the scale %d, the limit is %d", t.scale, avroScaleMax)
	}
	if t.under == avroFixed && t.size > avroDecimalMax {
		m.fail("a decimal has %d bytes, the limit is %d", t.size, avroDecimalMax)
	}
}

// vacancies finds the types whose values may take no bytes: what is not proved to take some.
func (m *avroMaker) vacancies() {
	for _, t := range m.all {
		t.vacant = t.kind == avroNull || t.kind == avroRecord || t.size == 0 && (t.kind == avroFixed || t.kind == avroDecimal && t.under == avroFixed)
	}
	for again := true; again; {
		again = false
		for _, t := range m.all {
			if t.vacant && t.kind == avroRecord && slices.ContainsFunc(t.fields, func(f avroField) bool { return !f.vacant }) {
				t.vacant, again = false, true
			}
		}
	}
}

// at gives the types that a path may have, as far as the schema says.
func (t *avroType) at(path []string) []leaf {
	switch {
	case t.kind == avroUnion:
		var out []leaf
		for _, b := range t.branches {
			out = append(out, b.at(path)...)
		}
		return out
	case t.kind == avroNull:
		return nil
	case len(path) == 0:
		return []leaf{{avroKindNames[t.kind], avroCan[t.kind]}}
	case t.kind == avroRecord:
		for i := range t.fields {
			if t.fields[i].name == path[0] {
				return t.fields[i].at(path[1:])
			}
		}
	}
	return nil
}
