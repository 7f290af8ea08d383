package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

const loginProto = `syntax = "proto3";
package acme.auth;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
message Login {
  google.protobuf.Timestamp time = 1;
  string user = 2;
  string host = 3;
  string source_ip = 4;
  Status status = 5;
  uint64 bytes = 6;
  string session = 7;
  string method = 8;
  message Detail { int32 a = 1; optional int32 b = 2; Detail c = 3; repeated Detail d = 4; map<string, Detail> e = 5; }
}
enum Status { UNKNOWN = 0; SUCCESS = 1; FAILURE = 2; }
message All {
  double a = 1; float b = 2; int32 c = 3; int64 d = 4; uint32 e = 5; uint64 f = 6; sint32 g = 7; sint64 h = 8; fixed32 i = 9; fixed64 j = 10;
  sfixed32 k = 11; sfixed64 l = 12; bool m = 13; string n = 14; bytes o = 15; Status p = 16; All q = 17; optional string r = 18;
  oneof one { string s = 19; All t = 20; int32 u = 21; google.protobuf.StringValue v = 22; }
  repeated int32 w = 100; repeated string x = 101; repeated All y = 102; map<string, int64> z = 103; map<int32, All> aa = 104; repeated sint64 ab = 105 [packed = false];
  google.protobuf.Timestamp ac = 106; google.protobuf.Duration ad = 107; google.protobuf.Int64Value ae = 108; google.protobuf.Struct af = 109; repeated double ag = 110;
  repeated google.protobuf.Value ah = 111;
}
`

const oldProto = `syntax = "proto2";
message Old { required string n = 1; optional int32 c = 2 [default = 7]; repeated int32 w = 3; optional group Q = 4 { optional string n = 1; optional Q2 q = 2; } repeated group Y = 5 { optional int32 c = 1; } message Q2 { optional bool m = 1; } }
`

// protoMess fills messages with random values.
type protoMess struct{ *rand.Rand }

func (m *protoMess) fill(msg protoreflect.Message, depth int) {
	for _, f := range fieldsOf(msg.Descriptor()) {
		if m.Intn(3) > 0 && f.Cardinality() != protoreflect.Required {
			continue
		}
		switch {
		case f.Message() != nil && depth <= 0:
		case f.IsList():
			l := msg.Mutable(f).List()
			for range m.Intn(3) {
				l.Append(m.value(f, l.NewElement, depth))
			}
		case f.IsMap():
			e := msg.Mutable(f).Map()
			for range m.Intn(3) {
				e.Set(m.value(f.MapKey(), nil, 0).MapKey(), m.value(f.MapValue(), e.NewValue, depth))
			}
		default:
			msg.Set(f, m.value(f, func() protoreflect.Value { return msg.NewField(f) }, depth))
		}
	}
}

func (m *protoMess) value(f protoreflect.FieldDescriptor, fresh func() protoreflect.Value, depth int) protoreflect.Value {
	n := int64(m.Uint64()) >> m.Intn(64)
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(m.Intn(2) == 0)
	case protoreflect.EnumKind:
		if f.Enum().FullName() == "google.protobuf.NullValue" {
			return protoreflect.ValueOfEnum(0)
		}
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(m.Intn(5)))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32([]float32{float32(m.NormFloat64()), 0, float32(math.Inf(-1)), 1e30}[m.Intn(4)])
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64([]float64{m.NormFloat64(), 0, math.NaN(), 1e-30}[m.Intn(4)])
	case protoreflect.StringKind:
		return protoreflect.ValueOfString([]string{"", "ann", "na\"ïve\n", "a"}[m.Intn(4)])
	case protoreflect.BytesKind:
		b := make([]byte, m.Intn(5))
		m.Read(b)
		return protoreflect.ValueOfBytes(b)
	}
	v := fresh()
	switch name := v.Message().Descriptor().FullName(); name {
	case "google.protobuf.Timestamp", "google.protobuf.Duration":
		fields := v.Message().Descriptor().Fields()
		v.Message().Set(fields.ByNumber(1), protoreflect.ValueOfInt64(m.Int63n(1<<31)))
		v.Message().Set(fields.ByNumber(2), protoreflect.ValueOfInt32([]int32{0, 5e8, 123456000, 123456789}[m.Intn(4)]))
	default:
		m.fill(v.Message(), depth-1)
	}
	return v
}

// protoPlain is a message, as dynamicpb has it, as what its JSON stands for.
func protoPlain(msg protoreflect.Message) any {
	num := func(n protowire.Number) protoreflect.Value { return msg.Get(msg.Descriptor().Fields().ByNumber(n)) }
	name := string(msg.Descriptor().FullName())
	switch {
	case name == "google.protobuf.Timestamp":
		t := time.Unix(num(1).Int(), num(2).Int()).UTC()
		return t.Format(map[bool]string{true: "2006-01-02T15:04:05.000Z", false: "2006-01-02T15:04:05.000000Z"}[t.Nanosecond()%1e6 == 0])[:19] + fractionText(t.Nanosecond(), true) + "Z"
	case name == "google.protobuf.Duration":
		return fmt.Sprintf("%d%ss", num(1).Int(), fractionText(int(num(2).Int()), false))
	case name == "google.protobuf.Value":
		f := msg.WhichOneof(msg.Descriptor().Oneofs().Get(0))
		if f == nil || f.Name() == "null_value" {
			return nil
		}
		return protoPlainValue(f, msg.Get(f))
	case name == "google.protobuf.Struct", name == "google.protobuf.ListValue", wrappers[name]:
		f := msg.Descriptor().Fields().ByNumber(1)
		return protoPlainField(f, msg.Get(f))
	}
	out := map[string]any{}
	for _, f := range fieldsOf(msg.Descriptor()) {
		if msg.Has(f) || !f.HasPresence() {
			out[string(f.Name())] = protoPlainField(f, msg.Get(f))
		}
	}
	return out
}

func fractionText(nanos int, always bool) string {
	switch {
	case nanos == 0 && !always:
		return ""
	case nanos%1e6 == 0:
		return fmt.Sprintf(".%03d", nanos/1e6)
	case nanos%1e3 == 0:
		return fmt.Sprintf(".%06d", nanos/1e3)
	}
	return fmt.Sprintf(".%09d", nanos)
}

func protoPlainField(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch {
	case f.IsList():
		out := []any{}
		for i := range v.List().Len() {
			out = append(out, protoPlainValue(f, v.List().Get(i)))
		}
		return out
	case f.IsMap():
		out := map[string]any{}
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			out[k.String()] = protoPlainValue(f.MapValue(), v)
			return true
		})
		return out
	}
	return protoPlainValue(f, v)
}

func protoPlainValue(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch x := v.Interface().(type) {
	case protoreflect.Message:
		return protoPlain(x)
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case float32:
		return floating(float64(x), 32)
	case float64:
		return floating(x, 64)
	case protoreflect.EnumNumber:
		if n := f.Enum().Values().ByNumber(x); n != nil {
			return string(n.Name())
		}
		return int32(x)
	}
	return v.Interface()
}

// What a path means in a record is what it means in the JSON of what dynamicpb makes of the record, also where fields stand twice, in
// any order, or are not known.
func TestProtobufIsWhatItsJSONIs(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	m := &protoMess{rand.New(rand.NewSource(seed))}
	schemas := []*Schema{NewSchema(7, KindProtobuf, loginProto, nil), NewSchema(8, KindProtobuf, oldProto, nil)}
	paths := []string{"a", "n", "c", "q.n", "q.q.c", "s", "t.n", "t.q.n", "u", "v", "w", "x", "y.n", "y.y.c", "z.ann", "aa", "ab", "ac", "ad", "ae", "af.ann", "ah", "q", "q.w", "t", "y", "", "t.s", "t.u", "t.x", "q.z", "r", "p", "o", "m", "q.m", "a.b", "time", "e.ann.a"}
	for i := range 4000 {
		s := schemas[i%2]
		if s.fault != nil {
			t.Fatal(s.fault)
		}
		top := []protoreflect.MessageDescriptor{}
		indexes := [][]byte{{0}}
		if i%2 == 0 {
			top = append(top, s.protobuf.file.Messages().Get(0), s.protobuf.file.Messages().Get(1), s.protobuf.file.Messages().Get(0).Messages().Get(0))
			indexes = append(indexes, []byte{2, 2}, []byte{4, 0, 0})
		} else {
			top = append(top, s.protobuf.file.Messages().Get(0))
		}
		n := m.Intn(len(top))
		var body []byte
		for range 1 + m.Intn(2) { // one message behind another is the two merged
			msg := dynamicpb.NewMessage(top[n])
			m.fill(msg, 3)
			b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(msg)
			if err != nil {
				t.Fatal(err)
			}
			body = append(body, b...)
			if m.Intn(2) == 0 {
				body = protowire.AppendVarint(protowire.AppendTag(body, 3000, protowire.VarintType), 5)
			}
			if m.Intn(4) == 0 { // a wire type that is not the field's
				body = protowire.AppendFixed32(protowire.AppendTag(body, 3, protowire.Fixed32Type), 5)
			}
		}
		whole := dynamicpb.NewMessage(top[n])
		if err := proto.Unmarshal(body, whole); err != nil {
			t.Fatal(err)
		}
		wanted, err := json.Marshal(protoPlain(whole))
		if err != nil {
			t.Fatal(err)
		}
		m.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
		reads := paths[:m.Intn(len(paths))]
		record := framed(uint32(s.ID), append(bytes.Clone(indexes[n]), body...))
		p, b, got, err := recordCells(BySchema(KindProtobuf), registered(s), record, reads)
		if err != nil {
			t.Fatalf("%x: %v", record, err)
		}
		_, _, model, err := jsonCells(wanted, reads)
		if err != nil {
			t.Fatal(err)
		}
		for i := range reads {
			if !sameCell(t, got[i], model[i]) {
				t.Fatalf("%x\n%s\n%s: %s %q, want %s %q", record, wanted, reads[i], got[i].Kind, got[i].Text, model[i].Kind, model[i].Text)
			}
		}
		if object := p.recordObject(b.Source.Schemas, record); !same(t, object, wanted) {
			t.Fatalf("%x: %s, want %s", record, object, wanted)
		}
	}
}

func TestProtobufFaults(t *testing.T) {
	s := NewSchema(7, KindProtobuf, loginProto, nil)
	for _, x := range []struct {
		body []byte
		want string
	}{
		{nil, "the indexes of a message must come behind the id at byte 5"},
		{[]byte{2}, "the indexes of a message must come behind the id at byte 5"},
		{[]byte{2, 40}, "its schema has no message [20] at byte 0"},
		{[]byte{4, 0, 8}, "its schema has no message [0 4] at byte 0"},
		{[]byte{0, 0x12, 9, 'a'}, "unexpected EOF"},
		{[]byte{0, 0x07}, "invalid field number"},
		{[]byte{0, 0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "variable length integer overflow"},
	} {
		p, b, _, err := recordCells(BySchema(KindProtobuf), registered(s), framed(7, x.body), []string{"user"})
		if err == nil || p.Reason(err) != "not_protobuf" || !strings.Contains(err.Error(), x.want) || b.Rows > 0 {
			t.Errorf("%x: %v, want %s", x.body, err, x.want)
		}
	}
	for text, want := range map[string]string{
		`syntax = "proto3"; message`:                                   "it is no Protobuf: schema.proto:1:27: syntax error",
		`syntax = "proto3"; import "other.proto"; message A { B b=1;}`: `schema.proto:1:27: could not resolve path "other.proto"`,
		`syntax = "proto3";`:                                           "it has no message",
		``:                                                             "it has no message",
	} {
		_, _, _, err := recordCells(BySchema(KindProtobuf), registered(NewSchema(7, KindProtobuf, text, nil)), framed(7, []byte{0}), nil)
		var unfit *Unfit
		if !errors.As(err, &unfit) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestProtobufFits(t *testing.T) {
	s := NewSchema(7, KindProtobuf, loginProto, nil)
	for _, x := range []struct {
		types map[string]string
		want  string
	}{
		{map[string]string{"time": "timestamp", "user": "string", "source_ip": "ip", "status": "string", "bytes": "int", "gone": "int"}, ""},
		{map[string]string{"bytes": "float", "time": "string"}, ""},
		{map[string]string{"bytes": "string", "user": "int"}, "field bytes is declared to be of type string, and is uint64 there; field user is declared to be of type int, and is string there"},
	} {
		p := BySchema(KindProtobuf).Typed(x.types).Projection(&Fields{}, nil)
		plan, err := p.records.find(s, []byte{0})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(plan.unfit); x.want == "" && plan.unfit != nil || x.want != "" && got != "schema 7 does not fit the stream: "+x.want {
			t.Errorf("%v: %s", x.types, got)
		}
	}
}

// Files that import others, and files without a registry.
func TestProtobufFiles(t *testing.T) {
	s := NewSchema(-1, KindProtobuf, `syntax = "proto3"; package p; import "acme/user.proto"; message Other {} message Login { acme.User who = 1; }`,
		[]Reference{{"acme/user.proto", `syntax = "proto3"; package acme; message User { string name = 1; }`}})
	f, err := OfMessage(s, "Login")
	if err != nil {
		t.Fatal(err)
	}
	_, _, got, err := recordCells(f, nil, []byte{0x0a, 5, 0x0a, 3, 'a', 'n', 'n'}, []string{"who.name", "_schema", "_schema_id"})
	if err != nil || string(got[0].Text) != "ann" || string(got[1].Text) != "p.Login" || got[2].Kind != Absent {
		t.Errorf("%v, %v", got, err)
	}
	if !f.Has("who.name") || f.Has("whom") {
		t.Error("the fields of a file are known")
	}
	if _, err := OfMessage(s, "Logout"); err == nil || err.Error() != "it has no message Logout, but [p.Other p.Login]" {
		t.Error(err)
	}
}

func FuzzProtobuf(f *testing.F) {
	f.Add([]byte{0, 0x12, 3, 'a', 'n', 'n'})
	f.Add([]byte{2, 2, 0x8a, 1, 2, 8, 1})
	f.Add(append([]byte{2, 2}, bytes.Repeat([]byte{0x8a, 1, 0}, 100)...))
	s := NewSchema(7, KindProtobuf, loginProto, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, reads := range [][]string{nil, {""}, {"user", "q.n", "t.q.c", "y.n", "af.x", "z"}} {
			p, b, got, err := recordCells(BySchema(KindProtobuf), registered(s), framed(7, body), reads)
			if err != nil {
				continue
			}
			for _, v := range got {
				if v.Kind > String && !json.Valid(v.Text) {
					t.Fatalf("%q is no JSON", v.Text)
				}
			}
			if object := p.recordObject(b.Source.Schemas, framed(7, body)); !json.Valid(object) {
				t.Fatalf("%q is no JSON", object)
			}
		}
	})
}

// Records of 112 bytes by the id of their schema, four fields of eight read.
func BenchmarkProtobuf(b *testing.B) {
	body := protowire.AppendBytes(protowire.AppendTag([]byte{0}, 1, protowire.BytesType), protowire.AppendVarint([]byte{8}, 1_772_438_401))
	for i, v := range []string{"ann", "web1.example.com", "203.0.113.66"} {
		body = protowire.AppendString(protowire.AppendTag(body, protowire.Number(i+2), protowire.BytesType), v)
	}
	body = protowire.AppendVarint(protowire.AppendTag(body, 5, protowire.VarintType), 2)
	body = protowire.AppendVarint(protowire.AppendTag(body, 6, protowire.VarintType), 4242)
	body = protowire.AppendString(protowire.AppendTag(body, 7, protowire.BytesType), "1772438401-0000-4a7c-9e53-b3d1c8a2f604")
	body = protowire.AppendString(protowire.AppendTag(body, 8, protowire.BytesType), "password")
	benchmarkRecords(b, NewSchema(300, KindProtobuf, loginProto, nil), KindProtobuf, framed(300, body))
}
