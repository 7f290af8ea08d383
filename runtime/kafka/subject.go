package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Subjects finds and registers the schemas of rows that are written. For many goroutines.
type Subjects struct {
	registry *registry
	register bool

	mu  sync.Mutex
	ids map[[2]string]uint32 // by subject and the record's name
}

// OpenSubjects prepares; nothing is asked yet. Without register a schema must be there already.
func OpenSubjects(r Registry, register bool) (*Subjects, error) {
	g, err := r.open()
	if err != nil {
		return nil, err
	}
	return &Subjects{registry: g, register: register, ids: map[[2]string]uint32{}}, nil
}

// ID gives the id of the schema of a subject's records of one name, asked for once. The error is a *Stop if trying again will not help.
func (s *Subjects) ID(ctx context.Context, subject, name, kind, text string) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := s.ids[[2]string{subject, name}]; ok {
		return id, nil
	}
	found, err := s.registry.subject(ctx, s.register, subject, schemaOf(kind, text))
	if err != nil {
		return 0, err
	}
	s.ids[[2]string{subject, name}] = uint32(found)
	return uint32(found), nil
}

func schemaOf(kind, text string) sr.Schema {
	if kind == event.KindJSONSchema {
		return sr.Schema{Schema: text, Type: sr.TypeJSON}
	}
	return sr.Schema{Schema: text, Type: sr.TypeAvro}
}

// subject registers a schema, or looks it up.
func (g *registry) subject(ctx context.Context, register bool, subject string, s sr.Schema) (int, error) {
	var found sr.SubjectSchema
	var err error
	if register {
		found, err = g.client.CreateSchema(ctx, subject, s)
	} else {
		found, err = g.client.LookupSchema(ctx, subject, s)
	}
	if err == nil {
		return found.ID, nil
	}
	var re *sr.ResponseError
	if errors.As(err, &re) && re.StatusCode == http.StatusConflict {
		return 0, stopf("subject %s takes no such schema: %s; give the rows a subject of their own, or allow the change in the registry", subject, oneLine(re.Message))
	}
	err = g.explain("subject "+subject, err)
	var u *unknownSchema
	switch {
	case errors.As(err, &u) && !register:
		return 0, stopf("%w; register it, or set `register: true`: %s", u.err, oneLine(s.Schema))
	case errors.As(err, &u):
		return 0, &Stop{u.err}
	}
	return 0, err
}

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return text[:min(len(text), 400)]
}

// Check says why the newest schema of a subject and a new one are not compatible, empty if they are, or nothing is registered yet. A
// schema that only must be there is looked up instead.
func (s *Subjects) Check(ctx context.Context, subject, kind, text string) (why string, err error) {
	if !s.register {
		_, err := s.ID(ctx, subject, "", kind, text)
		var stop *Stop
		if errors.As(err, &stop) {
			return err.Error(), nil
		}
		return "", err
	}
	res, err := s.registry.client.CheckCompatibility(ctx, subject, -1, schemaOf(kind, text))
	if err != nil {
		err = s.registry.explain("subject "+subject, err)
		if isUnknown(err) { // nobody has registered anything
			return "", nil
		}
		return "", err
	}
	if !res.Is {
		why = fmt.Sprintf("subject %s: the schema of the rows is not compatible with the one that is registered", subject)
		if len(res.Messages) > 0 {
			why += ": " + oneLine(strings.Join(res.Messages, "; "))
		}
	}
	return why, nil
}

// Newest is the newest schema of a subject, nil if it has none. An error is why the registry does not answer, or does not let us in.
func (r Registry) Newest(ctx context.Context, subject string) (*event.Schema, error) {
	g, err := r.open()
	if err != nil {
		return nil, err
	}
	v, err := g.client.SchemaByVersion(ctx, subject, -1)
	if err == nil {
		var a answer
		if a, err = g.ask(ctx, uint32(v.ID)); err == nil {
			return a.schema, a.err
		}
		return nil, err
	}
	if err = g.explain("subject "+subject, err); isUnknown(err) {
		return nil, nil
	}
	return nil, err
}

// AppendHeader appends what stands before a record: a byte 0 and the id of its schema.
func AppendHeader(dst []byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0), id)
}
