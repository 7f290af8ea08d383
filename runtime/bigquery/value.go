package bigquery

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// column is a column with how its values are written.
type column struct {
	Column
	kind   kind
	number protowire.Number // of its field in the Storage API; from 1
	quoted []byte           // its name as JSON
}

// kind is how a column's values are written.
type kind uint8

const (
	none kind = iota // not written by us
	text
	integer
	float
	boolean
	timestamp
	date
	document
)

var kinds = map[string]kind{"STRING": text, "DATETIME": text, "TIME": text, "NUMERIC": text, "BIGNUMERIC": text, "GEOGRAPHY": text, "INTERVAL": text,
	"INTEGER": integer, "INT64": integer, "FLOAT": float, "FLOAT64": float, "BOOLEAN": boolean, "BOOL": boolean, "TIMESTAMP": timestamp, "DATE": date, "JSON": document}

// fieldTypes are the kinds' types in the Storage API.
var fieldTypes = map[kind]descriptorpb.FieldDescriptorProto_Type{text: descriptorpb.FieldDescriptorProto_TYPE_STRING, integer: descriptorpb.FieldDescriptorProto_TYPE_INT64,
	float: descriptorpb.FieldDescriptorProto_TYPE_DOUBLE, boolean: descriptorpb.FieldDescriptorProto_TYPE_BOOL, timestamp: descriptorpb.FieldDescriptorProto_TYPE_INT64,
	date: descriptorpb.FieldDescriptorProto_TYPE_INT32, document: descriptorpb.FieldDescriptorProto_TYPE_STRING}

// newSchema makes a schema of a table's columns. Those that we do not write, such as records, stay empty.
func newSchema(columns, own []Column, whole int) *schema {
	s := &schema{whole: whole, descriptor: &descriptorpb.DescriptorProto{Name: proto.String("Row")}}
	for _, c := range columns {
		x := column{Column: c, kind: kinds[strings.ToUpper(c.Type)], quoted: event.AppendJSONString(nil, []byte(c.Name))}
		if x.kind != none && !plainName(c.Name) {
			x.kind = none
		}
		if x.kind != none {
			x.number = protowire.Number(len(s.descriptor.Field) + 1)
			label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
			if c.Mode == "REPEATED" {
				label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
			}
			s.descriptor.Field = append(s.descriptor.Field, &descriptorpb.FieldDescriptorProto{Name: proto.String(strings.ToLower(c.Name)), Number: proto.Int32(int32(x.number)),
				Label: label.Enum(), Type: fieldTypes[x.kind].Enum()})
		}
		if c.Mode == "REQUIRED" {
			s.required = append(s.required, len(s.columns))
		}
		s.columns = append(s.columns, x)
	}
	for _, c := range own {
		s.own = append(s.own, indexOf(columns, c.Name))
	}
	s.members.Store(&map[string]int{})
	return s
}

// plainName says whether a name may be that of a field; those beyond are for other writers.
func plainName(name string) bool { return Name(name, nil) == name }

// membersMax is how many names of members are remembered.
const membersMax = 10_000

// place is the column of a member; -1: there is none.
func (s *schema) place(member []byte, own []Column) int {
	known := s.members.Load()
	if i, ok := (*known)[string(member)]; ok {
		return i
	}
	i := indexOf(s.plain(), Name(string(member), own))
	if len(*known) < membersMax {
		more := maps.Clone(*known)
		more[string(member)] = i
		s.members.CompareAndSwap(known, &more)
	}
	return i
}

// misfit says why a row does not fit the table.
func misfit(c *column, value []byte) error {
	return fmt.Errorf("column %s is %s in the table, and %s in the row", c.Name, c.Type, value[:min(len(value), 64)])
}

// each calls put with the columns that a row has values of, those of Own first.
func (s *schema) each(own []Column, r *Row, put func(c *column, value []byte) error) (err error) {
	filled := 0
	give := func(i int, value []byte) {
		if err != nil || len(value) == 0 || string(value) == "null" {
			return
		}
		c := &s.columns[i]
		if c.kind == none {
			err = fmt.Errorf("column %s is %s, which this output does not write", c.Name, c.Type)
			return
		}
		if c.Mode == "REQUIRED" {
			filled++
		}
		err = put(c, value)
	}
	for k, value := range r.Own {
		if i := s.own[k]; i >= 0 {
			give(i, value)
		} else if k == s.whole && len(value) > 0 {
			err = fmt.Errorf("the table has no column %s for rows whose columns are not known", own[k].Name)
		}
	}
	event.Members(r.Object, func(name, value []byte) {
		i := s.place(name, own)
		switch {
		case i >= 0:
			give(i, value)
		case err == nil && string(value) != "null":
			err = fmt.Errorf("the table has no column %s for the row's %s", Name(string(name), own), name)
		}
	})
	if err == nil && filled < len(s.required) {
		return s.lacking(r, own)
	}
	return err
}

// lacking says which column must have a value and has none.
func (s *schema) lacking(r *Row, own []Column) error {
	has := map[int]bool{}
	for k, value := range r.Own {
		has[s.own[k]] = len(value) > 0 && string(value) != "null"
	}
	event.Members(r.Object, func(name, value []byte) { has[s.place(name, own)] = string(value) != "null" })
	for _, i := range s.required {
		if !has[i] {
			return fmt.Errorf("column %s is REQUIRED in the table, and the row has none", s.columns[i].Name)
		}
	}
	return nil
}

// json is a row for insertAll.
func (s *schema) json(own []Column, r *Row) ([]byte, error) {
	b := append(event.AppendJSONString([]byte(`{"insertId":`), []byte(r.ID)), `,"json":{`...)
	empty := len(b)
	err := s.each(own, r, func(c *column, value []byte) (err error) {
		if len(b) > empty {
			b = append(b, ',')
		}
		b = append(append(b, c.quoted...), ':')
		b, err = c.list(b, value, c.appendJSON)
		return err
	})
	return append(b, '}', '}'), err
}

// proto is a row for the Storage API.
func (s *schema) proto(own []Column, r *Row) ([]byte, error) {
	b := make([]byte, 0, len(r.Object)+64)
	err := s.each(own, r, func(c *column, value []byte) (err error) {
		if c.Mode != "REPEATED" {
			b, err = c.appendProto(b, value)
			return err
		}
		for _, v := range elements(value) {
			if b, err = c.appendProto(b, v); err != nil {
				return err
			}
		}
		return nil
	})
	return b, err
}

// list appends a value, or of a column that has several each as a list.
func (c *column) list(b, value []byte, one func(b, value []byte) ([]byte, error)) (_ []byte, err error) {
	if c.Mode != "REPEATED" {
		return one(b, value)
	}
	b = append(b, '[')
	for i, v := range elements(value) {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = one(b, v); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

// elements are the values of a list without nulls; what is no list is one.
func elements(value []byte) (out [][]byte) {
	if value[0] != '[' {
		return [][]byte{value}
	}
	event.Elements(value, func(v []byte) {
		if string(v) != "null" {
			out = append(out, v)
		}
	})
	return out
}

// appendProto appends a value as a field.
func (c *column) appendProto(b, value []byte) ([]byte, error) {
	switch c.kind {
	case text, document:
		b = protowire.AppendTag(b, c.number, protowire.BytesType)
		at := len(b)
		b = c.appendString(append(b, 0), value) // most lengths take one byte
		return sized(b, at), nil
	case integer:
		n, ok := integerOf(value)
		if !ok {
			return b, misfit(c, value)
		}
		return protowire.AppendVarint(protowire.AppendTag(b, c.number, protowire.VarintType), uint64(n)), nil
	case float:
		f, ok := floatOf(value)
		if !ok {
			return b, misfit(c, value)
		}
		return binary.LittleEndian.AppendUint64(protowire.AppendTag(b, c.number, protowire.Fixed64Type), math.Float64bits(f)), nil
	case boolean:
		v, ok := booleanOf(value)
		if !ok {
			return b, misfit(c, value)
		}
		return protowire.AppendVarint(protowire.AppendTag(b, c.number, protowire.VarintType), protowire.EncodeBool(v)), nil
	}
	n, ok := microsOf(value)
	if c.kind == date {
		n, ok = daysOf(value)
	}
	if !ok {
		return b, misfit(c, value)
	}
	return protowire.AppendVarint(protowire.AppendTag(b, c.number, protowire.VarintType), uint64(n)), nil
}

// sized puts the length of what follows at into the byte there, and makes room if it takes more.
func sized(b []byte, at int) []byte {
	n := len(b) - at - 1
	if n < 0x80 {
		b[at] = byte(n)
		return b
	}
	var length [10]byte
	head := protowire.AppendVarint(length[:0], uint64(n))
	b = append(b, head[1:]...)
	copy(b[at+len(head):], b[at+1:at+1+n])
	copy(b[at:], head)
	return b
}

// appendString appends a value's text: of a string what it says, unless the column is JSON; of all else its JSON.
func (c *column) appendString(b, value []byte) []byte {
	at := len(b)
	if value[0] == '"' && c.kind == text {
		b = event.AppendText(b, value[1:len(value)-1])
	} else {
		b = append(b, value...)
	}
	if utf8.Valid(b[at:]) {
		return b
	}
	return append(b[:at], bytes.ToValidUTF8(bytes.Clone(b[at:]), []byte("\ufffd"))...)
}

// appendJSON appends a value as insertAll takes it. Integers and JSON are strings there, so that no number is rounded.
func (c *column) appendJSON(b, value []byte) ([]byte, error) {
	ok := true
	switch c.kind {
	case text:
		if value[0] == '"' {
			return append(b, value...), nil
		}
		return event.AppendJSONString(b, value), nil
	case document:
		return event.AppendJSONString(b, value), nil
	case integer:
		var n int64
		if n, ok = integerOf(value); ok {
			return append(strconv.AppendInt(append(b, '"'), n, 10), '"'), nil
		}
	case float:
		var f float64
		if f, ok = floatOf(value); ok {
			return strconv.AppendFloat(b, f, 'g', -1, 64), nil
		}
	case boolean:
		var v bool
		if v, ok = booleanOf(value); ok {
			return strconv.AppendBool(b, v), nil
		}
	case timestamp:
		if _, ok = microsOf(value); ok {
			return append(b, value...), nil
		}
	case date:
		if _, ok = daysOf(value); ok {
			return append(append(b, value[:11]...), '"'), nil
		}
	}
	return b, misfit(c, value)
}

// bare is a string's text without quotes, as far as it has no escapes, and any other value as it stands.
func bare(value []byte) string {
	if value[0] == '"' {
		value = value[1 : len(value)-1]
	}
	return string(value)
}

func integerOf(value []byte) (int64, bool) {
	s := bare(value)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(s, 64)
	return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53
}

func floatOf(value []byte) (float64, bool) {
	f, err := strconv.ParseFloat(bare(value), 64)
	return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
}

func booleanOf(value []byte) (v, ok bool) {
	switch bare(value) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// The times that BigQuery has, in us: the years 1 to 9999.
const (
	microsMin = -62135596800_000_000
	microsMax = 253402300799_999_999
)

var millis, _ = event.NewTimeFormat("", "")

// microsOf reads a time of RFC 3339, to the microsecond.
func microsOf(value []byte) (us int64, ok bool) {
	if value[0] != '"' {
		return 0, false
	}
	s := value[1 : len(value)-1]
	if len(s) == len("2006-01-02T15:04:05.000Z") {
		if ms, err := millis.Millis(event.Value{Kind: event.String, Text: s}); err == nil {
			return ms * 1000, ms*1000 >= microsMin && ms*1000 <= microsMax
		}
	}
	t, err := time.Parse(time.RFC3339Nano, strings.Replace(string(s), " ", "T", 1))
	us = t.UnixMicro()
	return us, err == nil && us >= microsMin && us <= microsMax
}

// daysOf reads the date that a text begins with.
func daysOf(value []byte) (days int64, ok bool) {
	if value[0] != '"' || len(value) < len(`"2006-01-02"`) || len(value) > len(`"2006-01-02"`) && value[11] != 'T' && value[11] != ' ' {
		return 0, false
	}
	t, err := time.Parse(time.DateOnly, string(value[1:11]))
	return t.Unix() / (24 * 60 * 60), err == nil && t.Year() > 0
}
