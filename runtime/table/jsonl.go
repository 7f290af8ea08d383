package table

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// jsonl reads a JSON object a line; blank lines are none. Its columns are the members of all objects, with the kinds that they have
// there; of a member that stands twice the last counts.
func (r *reader) jsonl() error {
	check := event.NewProjection(&event.Fields{}, nil)
	nothing := check.NewBatch()
	for line := 1; ; line++ {
		r.in.read = 0
		text, err := r.line()
		if errors.Is(err, errLong) {
			return r.b.fault(line, 1, "%v", err)
		}
		if err != nil && err != io.EOF {
			return err
		}
		if len(bytes.TrimSpace(text)) > 0 {
			nothing.Reset()
			var at *event.SyntaxError
			if e := check.Append(nothing, text); errors.As(e, &at) {
				return r.b.fault(line, at.Offset+1, "%s", at.Msg)
			}
			if e := r.object(line, bytes.TrimSpace(text)); e != nil {
				return e
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// line is the next line, with io.EOF if it is the last.
func (r *reader) line() ([]byte, error) {
	r.long = r.long[:0]
	for {
		part, err := r.buf.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			r.long = append(r.long, part...)
			continue // until `limited` ends it
		}
		if len(r.long) > 0 {
			r.long = append(r.long, part...)
			part = r.long
		}
		return part, err
	}
}

// object adds the row of an object.
func (r *reader) object(line int, text []byte) (err error) {
	r.key, r.cells = event.Value{}, r.cells[:0]
	event.Members(text, func(name, value []byte) {
		if err != nil {
			return
		}
		var place int
		if place, err = r.column(string(event.Mend(name)), line, 1); err != nil || place == -2 {
			return
		}
		v, e := r.typed(string(name), cell(value))
		if e != nil {
			err = r.b.fault(line, 1, "%v", e)
			return
		}
		r.set(place, v)
	})
	if err != nil {
		return err
	}
	return r.row(line, 1)
}

// cell is a JSON value as a cell.
func cell(text []byte) event.Value {
	v := event.Value{Kind: event.Number, Text: text}
	switch text[0] {
	case '"':
		v = event.Value{Kind: event.String, Text: text[1 : len(text)-1]}
		if bytes.IndexByte(text, '\\') >= 0 {
			var s string
			_ = json.Unmarshal(text, &s) // it was scanned
			v.Text = []byte(s)
		}
		v.Text = event.Mend(v.Text)
	case '{':
		v.Kind = event.Object
	case '[':
		v.Kind = event.Array
	case 't', 'f':
		v.Kind = event.Bool
	case 'n':
		return event.Value{Kind: event.Null}
	}
	v.Text = slices.Clip(v.Text)
	return v
}
