package event

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// jsonSchema is a schema of JSON. Records are read without it: what it says counts where types are declared, or for validate.
type jsonSchema struct {
	doc   any // the schema as a document
	valid *jsonschema.Schema
}

// nowhere refuses what a schema refers to but does not bring along.
type nowhere struct{}

func (nowhere) Load(url string) (any, error) {
	return nil, errors.New("it is not among the schema's references")
}

func parseJSONSchema(text string, refs []Reference) (*jsonSchema, error) {
	c := jsonschema.NewCompiler()
	c.UseLoader(nowhere{})
	for _, r := range refs {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(r.Text))
		if err == nil {
			err = c.AddResource(r.Name, doc)
		}
		if err != nil {
			return nil, fmt.Errorf("what it refers to as %q is no JSON Schema: %s", r.Name, brief(err))
		}
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	const name = "schema.json"
	if err == nil {
		err = c.AddResource(name, doc)
	}
	var valid *jsonschema.Schema
	if err == nil {
		valid, err = c.Compile(name)
	}
	if err != nil {
		return nil, fmt.Errorf("it is no JSON Schema: %s", brief(err))
	}
	return &jsonSchema{doc, valid}, nil
}

// judge says what is wrong with a record, in one line.
func (s *jsonSchema) judge(record []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(record))
	if err == nil {
		err = s.valid.Validate(v)
	}
	var wrong *jsonschema.ValidationError
	if !errors.As(err, &wrong) {
		return err
	}
	for len(wrong.Causes) > 0 {
		wrong = wrong.Causes[0]
	}
	return fmt.Errorf("it is not valid by its schema: at /%s: %s", strings.Join(wrong.InstanceLocation, "/"), wrong.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
}

// json compiles the plan for records of JSON Schema.
func (p *plan) json(x *records) {
	s := p.schema.json
	p.take = func(b *Batch, body []byte) error {
		text := Mend(body)
		if len(text) != len(body) {
			b.InvalidUTF8++
		}
		if err := scanInto(b, x.root, text); err != nil {
			return err
		}
		if x.format.by.validate {
			return s.judge(text)
		}
		return nil
	}
	p.object = func(dst, body []byte) ([]byte, error) { return append(dst, bytes.TrimSpace(Mend(body))...), nil }
	p.unfit = x.format.unfitting(p.schema, s.at)
}

// scanInto reads one JSON object into the hits of a batch.
func scanInto(b *Batch, root *level, text []byte) error {
	s := scanner{b: text, hits: b.hits}
	if s.peek() != '{' {
		s.fail("not a JSON object")
		return s.err
	}
	s.object(root, 1)
	if s.peek(); s.err == nil && s.i < len(text) {
		s.fail("more than one JSON value")
	}
	if s.err != nil {
		return s.err
	}
	b.Duplicates += s.duplicates
	for i := range b.hits {
		b.hits[i].hold(text)
	}
	return nil
}

// hold keeps what was found of a text with the hit itself.
func (h *hit) hold(text []byte) {
	if h.found && h.own == nil {
		h.own = text[h.start:h.end:h.end]
	}
}

// jsonCan says which declared types each type of JSON Schema can be.
var jsonCan = map[string][]string{"integer": {"int", "float", "timestamp"}, "number": {"float", "timestamp"}, "boolean": {"bool"}, "string": {"string", "timestamp", "ip"}}

// at gives the types that a path may have, as far as `properties` and `type` say.
func (s *jsonSchema) at(path []string) []leaf {
	at := s.doc
	for _, name := range path {
		m, _ := at.(map[string]any)
		m, _ = m["properties"].(map[string]any)
		at = m[name]
	}
	m, _ := at.(map[string]any)
	types, ok := m["type"].([]any)
	if one, is := m["type"].(string); is {
		types, ok = []any{one}, true
	}
	var out []leaf
	for _, t := range types {
		if name, is := t.(string); ok && is && name != "null" {
			out = append(out, leaf{name, jsonCan[name]})
		}
	}
	return out
}

// title is what a JSON Schema calls itself.
func (s *jsonSchema) title() string {
	m, _ := s.doc.(map[string]any)
	t, _ := m["title"].(string)
	return t
}
