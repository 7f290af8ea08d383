package event

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protoSpan is one occurrence of a field in a record: its bytes, without tag and length.
type protoSpan struct {
	typ  protowire.Type
	num  uint64 // of varints and fixed numbers
	data []byte // of everything with a length
}

// protoError is what is wrong with a record; where in it, protowire does not say.
func protoError(n int) error { return &SyntaxError{0, protowire.ParseError(n).Error()} }

// consume reads the value behind a tag.
func consume(num protowire.Number, typ protowire.Type, b []byte) (s protoSpan, n int) {
	s.typ = typ
	switch typ {
	case protowire.VarintType:
		s.num, n = protowire.ConsumeVarint(b)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(b)
		s.num = uint64(v)
	case protowire.Fixed64Type:
		s.num, n = protowire.ConsumeFixed64(b)
	case protowire.BytesType:
		s.data, n = protowire.ConsumeBytes(b)
	case protowire.StartGroupType:
		s.data, n = protowire.ConsumeGroup(num, b)
	default:
		n = protowire.ConsumeFieldValue(num, typ, b)
	}
	return s, n
}

// wireOf is how a single value of a kind is written.
func wireOf(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	}
	return protowire.VarintType
}

// belongs says whether a value on the wire can be of a field; if not it counts as a field that nobody knows, as everywhere.
func belongs(f protoreflect.FieldDescriptor, typ protowire.Type) bool {
	want := wireOf(f.Kind())
	return typ == want || f.IsList() && typ == protowire.BytesType && want != protowire.StartGroupType // packed
}

// protoScalar appends the text of a single value: its kind as a cell, and its text, a view of the record or what was appended to dst.
func protoScalar(f protoreflect.FieldDescriptor, s protoSpan, dst []byte) (k Kind, text, grown []byte) {
	from := len(dst)
	k = Number
	switch f.Kind() {
	case protoreflect.BoolKind:
		k, dst = Bool, strconv.AppendBool(dst, s.num != 0)
	case protoreflect.EnumKind:
		n := protoreflect.EnumNumber(int32(s.num))
		if f.Enum().FullName() == "google.protobuf.NullValue" {
			return Null, nil, dst
		}
		if v := f.Enum().Values().ByNumber(n); v != nil {
			k, dst = String, append(dst, v.Name()...)
		} else {
			dst = strconv.AppendInt(dst, int64(n), 10)
		}
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		dst = strconv.AppendInt(dst, int64(int32(s.num)), 10)
	case protoreflect.Sint32Kind:
		dst = strconv.AppendInt(dst, int64(int32(protowire.DecodeZigZag(s.num&math.MaxUint32))), 10)
	case protoreflect.Sint64Kind:
		dst = strconv.AppendInt(dst, protowire.DecodeZigZag(s.num), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		dst = strconv.AppendUint(dst, uint64(uint32(s.num)), 10)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		dst = strconv.AppendUint(dst, s.num, 10)
	case protoreflect.FloatKind:
		k, dst = appendFloat(dst, float64(math.Float32frombits(uint32(s.num))), 32)
	case protoreflect.DoubleKind:
		k, dst = appendFloat(dst, math.Float64frombits(s.num), 64)
	case protoreflect.StringKind:
		return String, s.data, dst
	case protoreflect.BytesKind:
		k, dst = String, base64.StdEncoding.AppendEncode(dst, s.data)
	default:
		dst = strconv.AppendInt(dst, int64(s.num), 10)
	}
	return k, dst[from:], dst
}

// protoJSON writes messages as JSON: fields under their names in the file, in its order. A field without presence that is not there has
// its zero value, a list or map is empty; one with presence is left out.
type protoJSON struct{ depth int }

func (r *protoJSON) value(f protoreflect.FieldDescriptor, s protoSpan, dst []byte) ([]byte, error) {
	if len(dst) > recordJSONMax {
		return dst, &SyntaxError{0, fmt.Sprintf("as JSON it is longer than %d MiB", recordJSONMax>>20)}
	}
	if f.Message() != nil {
		return r.message(f.Message(), s.data, dst)
	}
	from := len(dst)
	k, text, dst := protoScalar(f, s, dst)
	return Value{k, slices.Clone(text)}.AppendJSON(dst[:from]), nil
}

// message appends a message. Occurrences of one that stand apart in a record are one behind the other, which is what merging means.
func (r *protoJSON) message(m protoreflect.MessageDescriptor, b, dst []byte) (_ []byte, err error) {
	if r.depth++; r.depth > depthMax {
		return dst, &SyntaxError{0, "nested too deep"}
	}
	defer func() { r.depth-- }()
	spans, err := spansOf(m, b)
	if err != nil {
		return dst, err
	}
	if dst, ok, err := r.known(m, spans, dst); ok || err != nil {
		return dst, err
	}
	dst = append(dst, '{')
	first := true
	for i, f := range fieldsOf(m) {
		if len(spans[i]) == 0 && f.HasPresence() {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(AppendJSONString(dst, []byte(f.Name())), ':')
		if dst, err = r.field(f, spans[i], dst); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// spansOf gathers the occurrences of each field. Of a oneof only the member counts that came last.
func spansOf(m protoreflect.MessageDescriptor, b []byte) ([][]protoSpan, error) {
	spans := make([][]protoSpan, m.Fields().Len())
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protoError(n)
		}
		b = b[n:]
		s, n := consume(num, typ, b)
		if n < 0 {
			return nil, protoError(n)
		}
		b = b[n:]
		f := m.Fields().ByNumber(num)
		if f == nil || !belongs(f, typ) {
			continue
		}
		if o := f.ContainingOneof(); o != nil {
			for i := range o.Fields().Len() {
				if x := o.Fields().Get(i); x.Index() != f.Index() {
					spans[x.Index()] = nil
				}
			}
		}
		spans[f.Index()] = append(spans[f.Index()], s)
	}
	return spans, nil
}

// field appends the value of a field from all its occurrences.
func (r *protoJSON) field(f protoreflect.FieldDescriptor, spans []protoSpan, dst []byte) ([]byte, error) {
	switch {
	case f.IsMap():
		return r.mapped(f, spans, dst)
	case f.IsList():
		return r.list(f, spans, dst)
	case len(spans) == 0:
		return r.value(f, protoSpan{}, dst)
	case f.Message() != nil:
		return r.value(f, protoSpan{data: joined(spans)}, dst)
	}
	return r.value(f, spans[len(spans)-1], dst)
}

func joined(spans []protoSpan) []byte {
	if len(spans) == 1 {
		return spans[0].data
	}
	var all []byte
	for _, s := range spans {
		all = append(all, s.data...)
	}
	return all
}

func (r *protoJSON) list(f protoreflect.FieldDescriptor, spans []protoSpan, dst []byte) (_ []byte, err error) {
	dst = append(dst, '[')
	single := wireOf(f.Kind())
	for _, s := range spans {
		packed := s.data
		if s.typ == single {
			if dst, err = r.value(f, s, dst); err != nil {
				return dst, err
			}
			dst = append(dst, ',')
			continue
		}
		for len(packed) > 0 {
			v, n := consume(0, single, packed)
			if n < 0 {
				return dst, protoError(n)
			}
			packed = packed[n:]
			if dst, err = r.value(f, v, dst); err != nil {
				return dst, err
			}
			dst = append(dst, ',')
		}
	}
	return closed(dst, ']'), nil
}

// closed puts an end in the place of the last comma, or behind the beginning.
func closed(dst []byte, end byte) []byte {
	if dst[len(dst)-1] == ',' {
		dst[len(dst)-1] = end
		return dst
	}
	return append(dst, end)
}

// mapped appends a map; of entries with one key the last counts.
func (r *protoJSON) mapped(f protoreflect.FieldDescriptor, spans []protoSpan, dst []byte) ([]byte, error) {
	entries := make([][][]protoSpan, len(spans))
	last := map[string]int{}
	names := make([]string, len(spans))
	for i, s := range spans {
		e, err := spansOf(f.Message(), s.data)
		if err != nil {
			return dst, err
		}
		key := protoSpan{}
		if k := e[f.MapKey().Index()]; len(k) > 0 {
			key = k[len(k)-1]
		}
		_, text, _ := protoScalar(f.MapKey(), key, nil)
		entries[i], names[i] = e, string(text)
		last[names[i]] = i
	}
	dst = append(dst, '{')
	for i, name := range names {
		if last[name] != i {
			continue
		}
		dst = append(AppendJSONString(dst, []byte(name)), ':')
		var err error
		if dst, err = r.field(f.MapValue(), entries[i][f.MapValue().Index()], dst); err != nil {
			return dst, err
		}
		dst = append(dst, ',')
	}
	return closed(dst, '}'), nil
}

// wrappers are the well-known messages that stand for one value.
var wrappers = map[string]bool{"google.protobuf.DoubleValue": true, "google.protobuf.FloatValue": true, "google.protobuf.Int64Value": true, "google.protobuf.UInt64Value": true,
	"google.protobuf.Int32Value": true, "google.protobuf.UInt32Value": true, "google.protobuf.BoolValue": true, "google.protobuf.StringValue": true, "google.protobuf.BytesValue": true}

// isKnown says whether a message has a form of its own as JSON.
func isKnown(m protoreflect.MessageDescriptor) bool {
	switch name := string(m.FullName()); name {
	case "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue":
		return true
	default:
		return wrappers[name]
	}
}

// known appends a message that has a form of its own.
func (r *protoJSON) known(m protoreflect.MessageDescriptor, spans [][]protoSpan, dst []byte) (_ []byte, ok bool, err error) {
	if !isKnown(m) {
		return dst, false, nil
	}
	last := func(num protowire.Number) (v uint64) {
		if s := spans[m.Fields().ByNumber(num).Index()]; len(s) > 0 {
			v = s[len(s)-1].num
		}
		return v
	}
	switch name := m.FullName(); {
	case name == "google.protobuf.Timestamp":
		dst, ok = protoTime(dst, int64(last(1)), int32(last(2)))
		return dst, ok, nil
	case name == "google.protobuf.Duration":
		dst, ok = protoDuration(dst, int64(last(1)), int32(last(2)))
		return dst, ok, nil
	case name == "google.protobuf.Value":
		for i, f := range fieldsOf(m) {
			if len(spans[i]) > 0 {
				dst, err = r.field(f, spans[i], dst)
				return dst, true, err
			}
		}
		return append(dst, "null"...), true, nil
	default: // one field, which is the value
		dst, err = r.field(m.Fields().ByNumber(1), spans[m.Fields().ByNumber(1).Index()], dst)
		return dst, true, err
	}
}

// protoTime appends a time with as many digits as it needs: 3, 6 or 9; false for one that is none.
func protoTime(dst []byte, sec int64, nanos int32) ([]byte, bool) {
	if sec < floorDiv(timeMin, 1000) || sec > timeMax/1000 || nanos < 0 || nanos >= 1e9 {
		return dst, false
	}
	dst = AppendTime(append(dst, '"'), sec*1000+int64(nanos/1e6))
	dst = dst[:len(dst)-1]
	if nanos%1e6 != 0 {
		dst = fractionTo(dst, int64(nanos/1e3%1e3))
	}
	if nanos%1e3 != 0 {
		dst = fractionTo(dst, int64(nanos%1e3))
	}
	return append(dst, `Z"`...), true
}

// protoDuration appends seconds, "1.500s"; false for a span that is none.
func protoDuration(dst []byte, sec int64, nanos int32) ([]byte, bool) {
	const most = 315_576_000_000
	if sec < -most || sec > most || nanos <= -1e9 || nanos >= 1e9 || sec > 0 && nanos < 0 || sec < 0 && nanos > 0 {
		return dst, false
	}
	dst = append(dst, '"')
	if sec < 0 || nanos < 0 {
		dst, sec, nanos = append(dst, '-'), -sec, -nanos
	}
	if dst = strconv.AppendInt(dst, sec, 10); nanos != 0 {
		dst = fractionTo(append(dst, '.'), int64(nanos/1e6))
		if nanos%1e6 != 0 {
			dst = fractionTo(dst, int64(nanos/1e3%1e3))
		}
		if nanos%1e3 != 0 {
			dst = fractionTo(dst, int64(nanos%1e3))
		}
	}
	return append(dst, `s"`...), true
}
