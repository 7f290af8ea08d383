package event

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Schema is what a registry or a file says about records. It may be used by many goroutines.
type Schema struct {
	ID   int    // in its registry; -1: of a file
	Kind string // avro, protobuf or json_schema
	Name string // the record's full name, of Protobuf the first message's; empty if it has none

	avro     *avroType
	protobuf *protoFile
	json     *jsonSchema
	fault    error // why nothing can be read by it
}

// Schemas finds the schema of an id. It never waits: an input hands over only blocks whose schemas are known, or known to be none.
type Schemas func(id uint32) (*Schema, error)

// The kinds of schemas, which are also names of formats.
const (
	KindAvro       = "avro"
	KindProtobuf   = "protobuf"
	KindJSONSchema = "json_schema"
)

// schemaMax is how long the text of a schema may be, with all that it refers to.
const schemaMax = 4 << 20

// Reference is a schema that another one refers to, by a name: of Avro the type's, of Protobuf the imported file's, of JSON Schema
// a URL. It stands behind all that it refers to itself.
type Reference struct{ Name, Text string }

// NewSchema reads the text of a schema. It never fails: a schema that cannot be used says so when a record needs it (Unfit).
func NewSchema(id int, kind, text string, refs []Reference) *Schema {
	s := &Schema{ID: id, Kind: kind}
	size := len(text)
	for _, r := range refs {
		size += len(r.Text)
	}
	switch {
	case size > schemaMax:
		s.fault = fmt.Errorf("its text has %d bytes, the limit is %d", size, schemaMax)
	case kind == KindAvro:
		s.avro, s.fault = parseAvro(text, refs)
		if s.fault == nil {
			s.Name = s.avro.name
		}
	case kind == KindProtobuf:
		s.protobuf, s.fault = parseProto(text, refs)
		if s.fault == nil {
			s.Name = string(s.protobuf.file.Messages().Get(0).FullName())
		}
	case kind == KindJSONSchema:
		s.json, s.fault = parseJSONSchema(text, refs)
		if s.fault == nil {
			s.Name = s.json.title()
		}
	default:
		s.fault = fmt.Errorf("schemas of type %s are not known", kind)
	}
	return s
}

// brief is an error of a parser on one line, without all of the text that it may quote.
func brief(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return string(Mend([]byte(text[:min(len(text), 300)])))
}

// Fault is why nothing can be read by the schema, nil if it can be used.
func (s *Schema) Fault() error { return s.fault }

func (s *Schema) String() string {
	if s.ID < 0 {
		return "the schema"
	}
	return "schema " + strconv.Itoa(s.ID)
}

// Unfit is why a stream cannot go on: its records have a schema that is not what the pipeline says they are.
type Unfit struct{ Err error }

func (u *Unfit) Error() string { return u.Err.Error() }
func (u *Unfit) Unwrap() error { return u.Err }

// unknown says that a record has no schema that could be found.
type unknown struct{ err error }

func (u *unknown) Error() string { return u.err.Error() }

// BySchema is the format of records that begin with the id of their schema as Confluent's serializers write it: a byte 0, and four
// bytes, the highest first. Kind is one of those of schemas.
func BySchema(kind string) *Format { return &Format{Name: kind, by: &bySchema{}} }

// OfSchema is the format of records that all have one schema, and no id before them.
func OfSchema(s *Schema) *Format { return &Format{Name: s.Kind, by: &bySchema{file: s}} }

// OfMessage is OfSchema for one message of a file of Protobuf; an empty name is its first.
func OfMessage(s *Schema, name string) (*Format, error) {
	f := OfSchema(s)
	if name == "" || s.fault != nil {
		return f, s.fault
	}
	var err error
	f.by.message, err = s.protobuf.named(name)
	return f, err
}

// bySchema says how a record's schema is found.
type bySchema struct {
	file     *Schema                        // nil: by the id before each record
	message  protoreflect.MessageDescriptor // of a file of Protobuf: the one that records are
	validate bool
}

// Validated makes a JSON Schema judge each record, which costs a multiple of reading it.
func (f *Format) Validated() *Format {
	out, by := *f, *f.by
	by.validate = true
	out.by = &by
	return &out
}

// Registered says whether records begin with the id of a schema in a registry.
func (f *Format) Registered() bool { return f.by != nil && f.by.file == nil }

// Fits says why records of a schema would stop a stream of the format, nil if they would not. Of Protobuf it judges the first message.
func (f *Format) Fits(s *Schema) error {
	p, err := f.Projection(&Fields{}, nil).records.find(s, nil)
	switch {
	case err != nil:
		return err
	case p.fault != nil:
		return p.fault
	}
	return p.unfit
}

// Fields that say by which schema a record was read. Like those of a record's key and headers they stand before what it says itself.
const (
	schemaName = "_schema"
	schemaID   = "_schema_id"
)

// records is a projection onto records with schemas: a plan for each.
type records struct {
	format *Format
	fields *Fields
	cols   []Field
	root   *level
	name   []int16  // columns of schemaName
	id     []int16  // and of schemaID
	plans  sync.Map // planKey -> *plan
}

type planKey struct {
	schema  *Schema
	message string // of Protobuf: its full name
}

// plan is how the records of one schema are read for the wanted columns.
type plan struct {
	planKey
	indexes string                            // of Protobuf: what led to the message when the plan was made
	take    func(b *Batch, body []byte) error // fills Batch.hits
	object  func(dst, body []byte) ([]byte, error)
	name    string
	id      string
	unfit   error // declared types are not what the schema has
	fault   error // nothing can be read
}

func (f *Format) recordProjection(fields *Fields, want []Field) *Projection {
	p := NewProjection(fields, want)
	p.records = &records{format: f, fields: fields, cols: p.cols, root: p.root}
	for i, w := range want {
		switch flat(fields.Path(w)) {
		case schemaName:
			p.records.name = append(p.records.name, int16(i))
		case schemaID:
			p.records.id = append(p.records.id, int16(i))
		}
	}
	return p
}

// planOf finds how a record is read, and what of it stands behind its header.
func (x *records) planOf(schemas Schemas, last *plan, record []byte) (*plan, []byte, error) {
	s, body := x.format.by.file, record
	if s == nil {
		if len(record) < 5 || record[0] != 0 {
			return nil, nil, &SyntaxError{0, "a record must begin with a byte 0 and the id of its schema"}
		}
		if schemas == nil {
			return nil, nil, &unknown{errors.New("its input has no `schema_registry`")}
		}
		var err error
		if s, err = schemas(binary.BigEndian.Uint32(record[1:])); err != nil {
			return nil, nil, &unknown{err}
		}
		body = record[5:]
	}
	var indexes []byte
	if s.Kind == KindProtobuf && x.format.by.file == nil {
		n := indexesLen(body)
		if n < 0 {
			return nil, nil, &SyntaxError{len(record) - len(body), "the indexes of a message must come behind the id"}
		}
		indexes, body = body[:n], body[n:]
	}
	if last != nil && last.schema == s && last.indexes == string(indexes) {
		return last, body, nil
	}
	p, err := x.find(s, indexes)
	return p, body, err
}

// find finds the plan of a schema, or of one of its messages.
func (x *records) find(s *Schema, indexes []byte) (*plan, error) {
	key := planKey{schema: s}
	var m protoreflect.MessageDescriptor
	if s.protobuf != nil && s.Kind == x.format.Name {
		var err error
		if m, err = s.protobuf.message(indexes); x.format.by.message != nil {
			m, err = x.format.by.message, nil
		}
		if err != nil {
			return nil, err
		}
		key.message = string(m.FullName())
	}
	if v, ok := x.plans.Load(key); ok {
		return v.(*plan), nil
	}
	p := x.plan(key, m)
	p.indexes = string(indexes)
	v, _ := x.plans.LoadOrStore(key, p)
	return v.(*plan), nil
}

// plan compiles one.
func (x *records) plan(key planKey, m protoreflect.MessageDescriptor) *plan {
	s := key.schema
	p := &plan{planKey: key, name: s.Name, id: strconv.Itoa(s.ID), fault: s.fault}
	switch {
	case s.Kind != x.format.Name:
		p.fault = fmt.Errorf("it is of type %s, and the stream's format is %s", s.Kind, x.format.Name)
	case s.fault != nil:
	case s.Kind == KindAvro:
		p.avro(x)
	case s.Kind == KindProtobuf:
		p.protobuf(x, m)
	default:
		p.json(x)
	}
	if p.fault != nil {
		p.fault = &Unfit{fmt.Errorf("%s cannot be used: %w", s, p.fault)}
	}
	return p
}

// appendRecord adds one record to a batch.
func (p *Projection) appendRecord(b *Batch, record []byte) error {
	x := p.records
	var schemas Schemas
	if b.Source != nil {
		schemas = b.Source.Schemas
	}
	b.Unfit = nil
	plan, body, err := x.planOf(schemas, b.plan, record)
	if err != nil {
		return err
	}
	if b.plan = plan; plan.fault != nil {
		return plan.fault
	}
	clear(b.hits)
	b.scratch = b.scratch[:0]
	mended, doubled := b.InvalidUTF8, b.Duplicates
	if err := plan.take(b, body); err != nil {
		b.InvalidUTF8, b.Duplicates = mended, doubled
		var s *SyntaxError
		if errors.As(err, &s) {
			s.Offset += len(record) - len(body)
		}
		return err
	}
	for _, c := range x.name {
		b.hits[c] = hit{kind: String, found: true, own: []byte(plan.name)}
	}
	if plan.schema.ID >= 0 {
		for _, c := range x.id {
			b.hits[c] = hit{kind: Number, found: true, own: []byte(plan.id)}
		}
	}
	if p.whole >= 0 {
		from := len(b.scratch)
		if b.scratch, err = plan.object(b.scratch, body); err != nil {
			return err
		}
		b.hits[p.whole] = hit{kind: Object, found: true, own: b.scratch[from:]}
	}
	for i := range b.hits {
		b.fill(&b.Cols[i], &b.hits[i], nil)
	}
	b.Rows++
	b.Unfit = plan.unfit
	return nil
}

// recordObject is a record as JSON.
func (p *Projection) recordObject(schemas Schemas, record []byte) []byte {
	plan, body, err := p.records.planOf(schemas, nil, record)
	if err == nil {
		err = plan.fault
	}
	var out []byte
	if err == nil {
		out, err = plan.object(nil, body)
	}
	if err != nil { // it was read as a row before, so it is only too long
		out = AppendJSONString([]byte(`{"error":`), []byte(err.Error()))
		out = base64.StdEncoding.AppendEncode(append(out, `,"raw_base64":"`...), record)
		out = append(out, `"}`...)
	}
	return out
}

// Binary says whether lines are bytes and no text: what is no UTF-8 in them must stay as it is.
func (p *Projection) Binary() bool { return p.records != nil }

// recordReason is why a record that cannot be read is an error row.
func (p *Projection) recordReason(err error) string {
	var u *unknown
	if errors.As(err, &u) {
		return "no_schema"
	}
	return "not_" + p.records.format.Name
}

// fits says whether what a schema has at a path can be what it is declared to be.
func (f *Format) fits(path, has string, kinds ...string) error {
	want := f.types[path]
	if want == "" || slices.Contains(kinds, want) {
		return nil
	}
	return fmt.Errorf("field %s is declared to be of type %s, and is %s there", path, want, has)
}

// unfitting judges all declared fields; at gives the types that a path may have, and which declared types each of them can be.
func (f *Format) unfitting(s fmt.Stringer, at func(path []string) []leaf) error {
	var wrong []string
	for path := range f.types {
		for _, l := range at(SplitPath(path)) {
			if err := f.fits(path, l.name, l.can...); err != nil {
				wrong = append(wrong, err.Error())
				break
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return &Unfit{fmt.Errorf("%s does not fit the stream: %s", s, strings.Join(wrong, "; "))}
}

// leaf is a type that a schema has at a path: its name there, and the declared types that it can be.
type leaf struct {
	name string
	can  []string
}

// known are the names of fields that the format itself gives, or the file's schema.
func (by *bySchema) known() []string {
	names := []string{schemaName, schemaID}
	switch s := by.file; {
	case s == nil || s.fault != nil:
	case s.avro != nil:
		for _, f := range s.avro.fields {
			names = append(names, f.name)
		}
	case s.protobuf != nil:
		m := by.message
		if m == nil {
			m = s.protobuf.file.Messages().Get(0)
		}
		for _, f := range fieldsOf(m) {
			names = append(names, string(f.Name()))
		}
	}
	return names
}

// has says whether records may have a field. What a registry will say of a record nobody knows beforehand.
func (by *bySchema) has(path string) bool {
	if path == Whole || strings.HasPrefix(path, "_") || by.file == nil || by.file.fault != nil || by.file.json != nil {
		return true
	}
	return slices.Contains(by.known(), SplitPath(path)[0])
}
