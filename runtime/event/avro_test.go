package event

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hamba/avro/v2"
)

// avroMess makes random schemas, and random records of them.
type avroMess struct {
	*rand.Rand
	names int
	open  []string // names of records that are being made, for types that hold themselves
}

var messNames = []string{"a", "b", "c", "d"}

func (m *avroMess) name() string { m.names++; return fmt.Sprintf("T%d", m.names) }

func (m *avroMess) schema(depth int) any {
	if depth <= 0 || m.Intn(3) > 0 {
		return m.plain()
	}
	switch m.Intn(5) {
	case 0:
		return map[string]any{"type": "array", "items": m.schema(depth - 1)}
	case 1:
		return map[string]any{"type": "map", "values": m.schema(depth - 1)}
	case 2:
		if len(m.open) > 0 && m.Intn(3) == 0 {
			return []any{"null", m.open[m.Intn(len(m.open))]}
		}
		return m.record(depth - 1)
	case 3:
		return []any{"null", m.record(depth - 1), map[string]any{"type": "array", "items": m.schema(depth - 1)}, "string", "long"}
	}
	return []any{"null", m.schema(0)}
}

func (m *avroMess) record(depth int) any {
	name := m.name()
	m.open = append(m.open, name)
	var fields []any
	for _, f := range messNames[:m.Intn(len(messNames))+1] {
		fields = append(fields, map[string]any{"name": f, "type": m.schema(depth)})
	}
	m.open = m.open[:len(m.open)-1]
	return map[string]any{"type": "record", "name": name, "fields": fields}
}

func (m *avroMess) plain() any {
	logical := func(over, name string) any { return map[string]any{"type": over, "logicalType": name} }
	switch m.Intn(18) {
	case 0:
		return "boolean"
	case 1:
		return "int"
	case 2:
		return "float"
	case 3:
		return "double"
	case 4:
		return "bytes"
	case 5:
		return map[string]any{"type": "fixed", "name": m.name(), "size": m.Intn(5)}
	case 6:
		return map[string]any{"type": "enum", "name": m.name(), "symbols": []any{"RED", "GREEN", "BLUE"}}
	case 7:
		return map[string]any{"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": m.Intn(12)}
	case 8:
		return map[string]any{"type": "fixed", "name": m.name(), "size": 6, "logicalType": "decimal", "precision": 12, "scale": m.Intn(12)}
	case 9:
		return logical("int", "date")
	case 10:
		return logical("int", "time-millis")
	case 11:
		return logical("long", "time-micros")
	case 12:
		return logical("long", "timestamp-millis")
	case 13:
		return logical("long", "timestamp-micros")
	case 14:
		return logical("string", "uuid")
	case 15:
		return "long"
	}
	return "string"
}

// value appends a random value of a schema, as Avro writes it.
func (m *avroMess) value(dst []byte, s avro.Schema, depth int) []byte {
	switch s := s.(type) {
	case *avro.RefSchema:
		return m.value(dst, s.Schema(), depth)
	case *avro.RecordSchema:
		for _, f := range s.Fields() {
			dst = m.value(dst, f.Type(), depth-1)
		}
		return dst
	case *avro.UnionSchema:
		n := m.Intn(len(s.Types()))
		if depth < 0 {
			n = 0
		}
		return m.value(binary.AppendVarint(dst, int64(n)), s.Types()[n], depth)
	case *avro.ArraySchema:
		return m.blocks(dst, func(dst []byte) []byte { return m.value(dst, s.Items(), depth-1) })
	case *avro.MapSchema:
		return m.blocks(dst, func(dst []byte) []byte {
			name := []string{"a", "b", "a.b", "c", `"x"`}[m.Intn(5)]
			return m.value(append(binary.AppendVarint(dst, int64(len(name))), name...), s.Values(), depth-1)
		})
	case *avro.EnumSchema:
		return binary.AppendVarint(dst, int64(m.Intn(len(s.Symbols()))))
	case *avro.FixedSchema:
		return append(dst, m.random(s.Size())...)
	}
	return m.scalar(dst, s)
}

func (m *avroMess) random(n int) []byte {
	b := make([]byte, n)
	m.Read(b)
	return b
}

func (m *avroMess) scalar(dst []byte, s avro.Schema) []byte {
	logical := ""
	if l, ok := s.(avro.LogicalTypeSchema); ok && l.Logical() != nil {
		logical = string(l.Logical().Type())
	}
	switch {
	case s.Type() == avro.Null:
		return dst
	case s.Type() == avro.Boolean:
		return append(dst, byte(m.Intn(2)))
	case s.Type() == avro.Float:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(m.NormFloat64())*[]float32{1, 1e30, 1e-30, float32(math.Inf(1))}[m.Intn(4)]))
	case s.Type() == avro.Double:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits([]float64{m.NormFloat64(), m.ExpFloat64() * 1e200, 0, math.NaN(), -1e21, 12}[m.Intn(6)]))
	case s.Type() == avro.Bytes:
		b := m.random(1 + m.Intn(16))
		return append(binary.AppendVarint(dst, int64(len(b))), b...)
	case s.Type() == avro.String:
		v := []string{"", "ann", "na\"ïve\n", "203.0.113.66", "with \xff byte"}[m.Intn(5)]
		return append(binary.AppendVarint(dst, int64(len(v))), v...)
	case logical == "time-millis":
		return binary.AppendVarint(dst, m.Int63n(dayMillis))
	case logical == "time-micros":
		return binary.AppendVarint(dst, m.Int63n(dayMicros))
	case s.Type() == avro.Int:
		return binary.AppendVarint(dst, int64(int32(m.Uint32())>>m.Intn(32)))
	}
	return binary.AppendVarint(dst, int64(m.Uint64())>>m.Intn(64))
}

// blocks writes items as one block or several, with or without their sizes.
func (m *avroMess) blocks(dst []byte, item func(dst []byte) []byte) []byte {
	for range m.Intn(3) {
		n := 1 + m.Intn(2)
		var items []byte
		for range n {
			items = item(items)
		}
		if m.Intn(2) == 0 {
			dst = binary.AppendVarint(dst, int64(n))
		} else {
			dst = binary.AppendVarint(binary.AppendVarint(dst, int64(-n)), int64(len(items)))
		}
		dst = append(dst, items...)
	}
	return append(dst, 0)
}

// plainly is what hamba's generic reader says, as the JSON that it stands for.
func plainly(s avro.Schema, v any) any {
	if ref, ok := s.(*avro.RefSchema); ok {
		s = ref.Schema()
	}
	logical := ""
	if l, ok := s.(avro.LogicalTypeSchema); ok && l.Logical() != nil {
		logical = string(l.Logical().Type())
	}
	switch x := v.(type) {
	case nil:
		return nil
	case time.Time:
		switch {
		case logical == "date" && outside(x):
			return floorDiv(x.Unix(), 86400)
		case logical == "date":
			return x.Format("2006-01-02")
		case outside(x) && logical == "timestamp-micros":
			return x.UnixMicro()
		case outside(x):
			return x.UnixMilli()
		case logical == "timestamp-micros":
			return x.Format("2006-01-02T15:04:05.000000Z")
		}
		return x.Format("2006-01-02T15:04:05.000Z")
	case time.Duration:
		if t := time.Unix(0, 0).UTC().Add(x); logical == "time-micros" {
			return t.Format("15:04:05.000000")
		} else {
			return t.Format("15:04:05.000")
		}
	case *big.Rat:
		return json.Number(x.FloatString(s.(avro.LogicalTypeSchema).Logical().(*avro.DecimalLogicalSchema).Scale()))
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case float32:
		return floating(float64(x), 32)
	case float64:
		return floating(x, 64)
	case string:
		return string(Mend([]byte(x)))
	case map[string]any:
		return plainMap(s, x)
	case []any:
		out := []any{}
		for _, e := range x {
			out = append(out, plainly(s.(*avro.ArraySchema).Items(), e))
		}
		return out
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Array {
		b := make([]byte, r.Len())
		reflect.Copy(reflect.ValueOf(b), r)
		return base64.StdEncoding.EncodeToString(b)
	}
	return v
}

func outside(t time.Time) bool { return t.Year() < 0 || t.Year() > 9999 }

func floating(f float64, bits int) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0]
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, bits))
}

func plainMap(s avro.Schema, x map[string]any) any {
	out := map[string]any{}
	switch s := s.(type) {
	case *avro.UnionSchema:
		for name, v := range x { // of one
			for _, t := range s.Types() {
				is := string(t.Type())
				if ref, ok := t.(*avro.RefSchema); ok {
					is = ref.Schema().FullName()
				} else if n, ok := t.(avro.NamedSchema); ok {
					is = n.FullName()
				} else if l, ok := t.(avro.LogicalTypeSchema); ok && l.Logical() != nil {
					is += "." + string(l.Logical().Type())
				}
				if is == name {
					return plainly(t, v)
				}
			}
			panic("a union has no " + name)
		}
	case *avro.RecordSchema:
		for _, f := range s.Fields() {
			out[f.Name()] = plainly(f.Type(), x[f.Name()])
		}
	case *avro.MapSchema:
		for name, v := range x {
			out[name] = plainly(s.Values(), v)
		}
	}
	return out
}

// same compares JSON texts by what they say; numbers by their value.
func same(t testing.TB, a, b []byte) bool {
	read := func(text []byte) (v any) {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%q is no JSON: %v", text, err)
		}
		return normal(v)
	}
	return reflect.DeepEqual(read(a), read(b))
}

func normal(v any) any {
	switch x := v.(type) {
	case json.Number:
		r, ok := new(big.Rat).SetString(string(x))
		if !ok {
			return x
		}
		return r.String()
	case map[string]any:
		for k, e := range x {
			x[k] = normal(e)
		}
	case []any:
		for i, e := range x {
			x[i] = normal(e)
		}
	}
	return v
}

func sameCell(t testing.TB, a, b Value) bool {
	if a.Kind != b.Kind {
		return false
	}
	switch a.Kind {
	case Absent, Null:
		return true
	case String:
		return bytes.Equal(a.Text, b.Text)
	}
	return same(t, a.Text, b.Text)
}

// registered gives one schema for an id.
func registered(s *Schema) Schemas {
	return func(id uint32) (*Schema, error) {
		if int(id) != s.ID {
			return nil, fmt.Errorf("schema %d is not known", id)
		}
		return s, nil
	}
}

func framed(id uint32, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, id), body...)
}

// recordCells reads one record; want are paths.
func recordCells(f *Format, schemas Schemas, record []byte, paths []string) (*Projection, *Batch, []Value, error) {
	fields := &Fields{}
	var want []Field
	for _, p := range paths {
		want = append(want, fields.Add(p))
	}
	p := f.Projection(fields, want)
	b := p.NewBatch()
	b.Source = &Block{Schemas: schemas}
	if err := p.Append(b, record); err != nil {
		return p, b, nil, err
	}
	var out []Value
	for _, w := range want {
		out = append(out, b.Value(w, 0))
	}
	return p, b, out, nil
}

// What a path means in a record is what it means in the JSON that hamba's generic reader gives of it.
func TestAvroIsWhatItsJSONIs(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	m := &avroMess{Rand: rand.New(rand.NewSource(seed))}
	paths := []string{"a", "b", "c", "d", "a.a", "a.b", "b.a", "c.b", "a.a.b", "b.c.a", "d.a", "c.a.b.a", "a.b.c", `a.a\.b`, "", "b.b.b.b"}
	for range 3000 {
		text, err := json.Marshal(m.record(3))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := avro.ParseWithCache(string(text), "", &avro.SchemaCache{})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		s := NewSchema(7, KindAvro, string(text), nil)
		if s.fault != nil {
			t.Fatalf("%s: %v", text, s.fault)
		}
		body := m.value(nil, parsed, 4)
		r := avro.NewReader(bytes.NewReader(body), 1024)
		generic := r.ReadNext(parsed)
		if r.Error != nil {
			t.Fatalf("%s, %x: %v", text, body, r.Error)
		}
		wanted, err := json.Marshal(plainly(parsed, generic))
		if err != nil {
			t.Fatal(err)
		}
		reads := append([]string(nil), paths[m.Intn(len(paths)):]...)
		p, b, got, err := recordCells(BySchema(KindAvro), registered(s), framed(7, body), reads)
		if err != nil {
			t.Fatalf("%s, %x: %v", text, body, err)
		}
		_, _, model, err := jsonCells(wanted, reads)
		if err != nil {
			t.Fatal(err)
		}
		for i := range reads {
			if !sameCell(t, got[i], model[i]) {
				t.Fatalf("%s\n%s\n%s: %s %q, want %s %q", text, wanted, reads[i], got[i].Kind, got[i].Text, model[i].Kind, model[i].Text)
			}
		}
		if object := p.recordObject(b.Source.Schemas, framed(7, body)); !same(t, object, wanted) {
			t.Fatalf("%s: %s, want %s", text, object, wanted)
		}
		checkCut(t, m.Rand, s, body, reads)
	}
}

// A record that is cut, longer, or changed is read the same way whatever is read of it.
func checkCut(t *testing.T, r *rand.Rand, s *Schema, body []byte, reads []string) {
	bad := bytes.Clone(body)
	switch n := r.Intn(3); {
	case n == 0:
		bad = append(bad, byte(r.Intn(256)))
	case len(bad) == 0:
		return
	case n == 1:
		bad = bad[:r.Intn(len(bad))]
	default:
		bad[r.Intn(len(bad))] ^= byte(1 << r.Intn(8))
	}
	_, _, _, some := recordCells(BySchema(KindAvro), registered(s), framed(7, bad), reads)
	_, _, _, none := recordCells(BySchema(KindAvro), registered(s), framed(7, bad), nil)
	_, _, _, all := recordCells(BySchema(KindAvro), registered(s), framed(7, bad), []string{""})
	if (some == nil) != (none == nil) || (all == nil) != (none == nil) {
		t.Fatalf("%x depends on what is read: %v, %v, %v", bad, some, none, all)
	}
}

func jsonCells(line []byte, paths []string) (*Projection, *Batch, []Value, error) {
	fields := &Fields{}
	var want []Field
	for _, p := range paths {
		want = append(want, fields.Add(p))
	}
	p := NewProjection(fields, want)
	b := p.NewBatch()
	if err := p.Append(b, line); err != nil {
		return p, b, nil, err
	}
	var out []Value
	for _, w := range want {
		out = append(out, b.Value(w, 0))
	}
	return p, b, out, nil
}

const loginAvro = `{"type":"record","name":"Login","namespace":"acme.auth","fields":[
	{"name":"time","type":{"type":"long","logicalType":"timestamp-millis"}},
	{"name":"user","type":"string"},
	{"name":"host","type":"string"},
	{"name":"source_ip","type":["null","string"],"default":null},
	{"name":"status","type":{"type":"enum","name":"Status","symbols":["success","failure"]}},
	{"name":"bytes","type":"long"},
	{"name":"session","type":"string"},
	{"name":"method","type":"string"}]}`

// login is one record of it.
func login(source string) []byte {
	text := func(b []byte, s string) []byte { return append(binary.AppendVarint(b, int64(len(s))), s...) }
	b := binary.AppendVarint(nil, 1_772_438_401_250)
	b = text(text(b, "ann"), "web1.example.com")
	b = text(binary.AppendVarint(b, 1), source)
	b = binary.AppendVarint(binary.AppendVarint(b, 1), 4242)
	return text(text(b, "1772438401-0000-4a7c-9e53-b3d1c8a2f604"), "password")
}

func TestAvroRecords(t *testing.T) {
	s := NewSchema(300, KindAvro, loginAvro, nil)
	paths := []string{"time", "source_ip", "status", "bytes", "_schema", "_schema_id", "nobody"}
	_, _, got, err := recordCells(BySchema(KindAvro), registered(s), framed(300, login("203.0.113.66")), paths)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`string "2026-03-02T08:00:01.250Z"`, `string "203.0.113.66"`, `string "failure"`, `number "4242"`, `string "acme.auth.Login"`, `number "300"`, `absent ""`}
	for i, v := range got {
		if text := fmt.Sprintf("%s %q", v.Kind, v.Text); text != want[i] {
			t.Errorf("%s: %s, want %s", paths[i], text, want[i])
		}
	}
}

// What is wrong is said with its place, and as what it is: a row, a schema, or a stream.
func TestAvroFaults(t *testing.T) {
	s := NewSchema(7, KindAvro, loginAvro, nil)
	body := login("203.0.113.66")
	for _, x := range []struct {
		record []byte
		want   string
	}{
		{[]byte(`{"user":"ann"}`), "not_avro: a record must begin with a byte 0 and the id of its schema at byte 0"},
		{[]byte{0, 0, 0}, "not_avro: a record must begin with a byte 0 and the id of its schema at byte 0"},
		{framed(8, body), "no_schema: schema 8 is not known"},
		{framed(7, body[:9]), "not_avro: a length of 3, and 2 bytes are left at byte 12"},
		{framed(7, body[:len(body)-3]), "not_avro: a length of 8, and 5 bytes are left at byte 89"},
		{framed(7, append(bytes.Clone(body), 1, 2)), "not_avro: 2 bytes behind the record at byte 97"},
		{framed(7, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}), "not_avro: a number of more than 64 bits at byte 5"},
	} {
		p, b, _, err := recordCells(BySchema(KindAvro), registered(s), x.record, []string{"user"})
		if err == nil || p.Reason(err)+": "+err.Error() != x.want {
			t.Errorf("%x: %v, want %s", x.record, err, x.want)
		}
		if b.Rows != 0 || len(b.Cols[0].Data) != 0 {
			t.Errorf("%x left something behind", x.record)
		}
	}
	for text, want := range map[string]string{
		`{"type":"record"`:         "schema 7 cannot be used: it is no schema of Avro",
		`"string"`:                 "schema 7 cannot be used: an event must be a record, not string",
		`{"type":"map","values":1`: "schema 7 cannot be used: it is no schema of Avro",
		`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":100000,"scale":90000}}]}`: "the limit is 1000",
	} {
		_, _, _, err := recordCells(BySchema(KindAvro), registered(NewSchema(7, KindAvro, text, nil)), framed(7, body), []string{"user"})
		var unfit *Unfit
		if !errors.As(err, &unfit) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// A schema whose types are not the declared ones stops the stream; what is wider, or not there, does not.
func TestAvroFits(t *testing.T) {
	for _, x := range []struct{ avro, declared, want string }{
		{`"int"`, "int", ""}, {`"long"`, "int", ""}, {`["null","long"]`, "int", ""}, {`"int"`, "float", ""}, {`"double"`, "float", ""}, {`"boolean"`, "bool", ""},
		{`"string"`, "ip", ""}, {`"string"`, "timestamp", ""}, {`{"type":"long","logicalType":"timestamp-micros"}`, "timestamp", ""}, {`"long"`, "timestamp", ""},
		{`"null"`, "int", ""},
		{`"double"`, "int", "field a is declared to be of type int, and is double there"},
		{`["null","long","string"]`, "int", "field a is declared to be of type int, and is string there"},
		{`"string"`, "int", "field a is declared to be of type int, and is string there"},
		{`"int"`, "string", "field a is declared to be of type string, and is an integer there"},
		{`{"type":"array","items":"int"}`, "int", "field a is declared to be of type int, and is an array there"},
	} {
		s := NewSchema(7, KindAvro, `{"type":"record","name":"R","fields":[{"name":"a","type":`+x.avro+`},{"name":"z","type":"string"}]}`, nil)
		f := BySchema(KindAvro).Typed(map[string]string{"a": x.declared, "gone": "int"})
		p := f.Projection(&Fields{}, nil)
		plan := p.records.plan(planKey{schema: s}, nil)
		got := ""
		if plan.unfit != nil {
			got = plan.unfit.Error()
		}
		if want := "schema 7 does not fit the stream: " + x.want; x.want == "" && got != "" || x.want != "" && got != want {
			t.Errorf("%s as %s: %q, want %q", x.avro, x.declared, got, x.want)
		}
	}
}

// A schema that evolves in mid-stream: each record by its own.
func TestAvroEvolves(t *testing.T) {
	schemas := map[uint32]*Schema{}
	for id, fields := range []string{
		`{"name":"user","type":"string"},{"name":"bytes","type":"int"}`,
		`{"name":"user","type":"string"},{"name":"bytes","type":"long"},{"name":"method","type":"string","default":"password"}`,
		`{"name":"bytes","type":"double"},{"name":"user","type":["null","string"]}`,
		`{"name":"user","type":"string"}`,
	} {
		schemas[uint32(id)] = NewSchema(id, KindAvro, `{"type":"record","name":"R","fields":[`+fields+`]}`, nil)
	}
	fields := &Fields{}
	want := []Field{fields.Add("user"), fields.Add("bytes"), fields.Add("method")}
	p := BySchema(KindAvro).Projection(fields, want)
	b := p.NewBatch()
	b.Source = &Block{Schemas: func(id uint32) (*Schema, error) { return schemas[id], nil }}
	ann := []byte{6, 'a', 'n', 'n'}
	for _, record := range [][]byte{
		framed(0, append(bytes.Clone(ann), 10)),
		framed(1, append(append(bytes.Clone(ann), 10), 4, 'o', 'k')),
		framed(2, append(binary.LittleEndian.AppendUint64(nil, math.Float64bits(5.5)), 2, 6, 'b', 'o', 'b')),
		framed(3, ann),
		framed(0, append(bytes.Clone(ann), 12)),
	} {
		if err := p.Append(b, record); err != nil {
			t.Fatal(err)
		}
	}
	var got strings.Builder
	for i := range b.Rows {
		for _, w := range want {
			v := b.Value(w, i)
			fmt.Fprintf(&got, "%s %s, ", v.Kind, v.Text)
		}
		got.WriteByte('\n')
	}
	if want := "string ann, number 5, absent , \nstring ann, number 5, string ok, \nstring bob, number 5.5, absent , \nstring ann, absent , absent , \nstring ann, number 6, absent , \n"; got.String() != want {
		t.Errorf("%s, want %s", got.String(), want)
	}
}

// Schemas that refer to others.
func TestAvroReferences(t *testing.T) {
	s := NewSchema(7, KindAvro, `{"type":"record","name":"Login","fields":[{"name":"who","type":"acme.User"},{"name":"by","type":["null","acme.User"]}]}`,
		[]Reference{{"acme.User", `{"type":"record","name":"User","namespace":"acme","fields":[{"name":"name","type":"string"}]}`}})
	_, _, got, err := recordCells(BySchema(KindAvro), registered(s), framed(7, []byte{6, 'a', 'n', 'n', 2, 6, 'b', 'o', 'b'}), []string{"who.name", "by.name"})
	if err != nil || string(got[0].Text) != "ann" || string(got[1].Text) != "bob" {
		t.Errorf("%v, %v", got, err)
	}
}

// hostileAvro are schemas that cost a writer nothing to make a reader work.
var hostileAvro = []string{
	`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"null"}}]}`,
	`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":{"type":"array","items":{"type":"fixed","name":"F","size":0}}}}]}`,
	`{"type":"record","name":"R","fields":[{"name":"a","type":["null","R"]},{"name":"b","type":["null","R"]}]}`,
	`{"type":"record","name":"R","fields":[{"name":"a","type":"R"},{"name":"b","type":"R"}]}`,
	`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"map","values":"R"}},{"name":"b","type":{"type":"array","items":"bytes"}}]}`,
	loginAvro,
}

func TestAvroHostile(t *testing.T) {
	huge := binary.AppendVarint(nil, math.MaxInt64)
	least := binary.AppendVarint(nil, math.MinInt64)
	double := `{"type":"record","name":"R0","fields":[]}`
	for i := 1; i <= 40; i++ {
		double = fmt.Sprintf(`{"type":"record","name":"R%d","fields":[{"name":"a","type":%s},{"name":"b","type":"R%d"}]}`, i, double, i-1)
	}
	for i, x := range []struct {
		schema string
		body   []byte
		want   string
	}{
		{hostileAvro[0], huge, "values that take no bytes"},
		{hostileAvro[0], append(bytes.Clone(least), 0), "a block of"},
		{hostileAvro[0], append(append([]byte{1}, huge...), 0), "a block says"},
		{hostileAvro[1], huge, "ends within a number"},
		{hostileAvro[2], bytes.Repeat([]byte{2}, 100_000), "nested too deep"},
		{hostileAvro[3], nil, "nested too deep"},
		{hostileAvro[5], append([]byte{0}, huge...), "a length of 9223372036854775807"},
		{hostileAvro[5], append([]byte{0}, least...), "a length of -9223372036854775808"},
		{double, nil, "values that take no bytes"},
	} {
		s := NewSchema(7, KindAvro, x.schema, nil)
		for _, reads := range [][]string{nil, {""}, {"a", "a.a", "b"}} {
			if _, _, _, err := recordCells(BySchema(KindAvro), registered(s), framed(7, x.body), reads); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%d, %q: %v, want %s", i, reads, err, x.want)
			}
		}
	}
}

func FuzzAvro(f *testing.F) {
	for i := range hostileAvro {
		f.Add(i, login("203.0.113.66"))
		f.Add(i, []byte{2, 2, 2, 0, 0, 0})
		f.Add(i, []byte{1, 4, 2, 'a', 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		s := NewSchema(7, KindAvro, hostileAvro[uint(i)%uint(len(hostileAvro))], nil)
		var errs []error
		for _, reads := range [][]string{nil, {""}, {"a", "a.a", "a.a.b", "user", "source_ip"}} {
			_, _, got, err := recordCells(BySchema(KindAvro), registered(s), framed(7, body), reads)
			if errs = append(errs, err); err != nil {
				continue
			}
			for _, v := range got {
				if v.Kind > String && !json.Valid(v.Text) {
					t.Fatalf("%q is no JSON", v.Text)
				}
			}
		}
		if (errs[0] == nil) != (errs[1] == nil) || (errs[0] == nil) != (errs[2] == nil) {
			t.Fatalf("%x depends on what is read: %v", body, errs)
		}
	})
}

// Records of 97 bytes by the id of their schema, four fields of eight read.
func BenchmarkAvro(b *testing.B) {
	benchmarkRecords(b, NewSchema(300, KindAvro, loginAvro, nil), KindAvro, framed(300, login("203.0.113.66")))
}

// benchmarkRecords appends one record again and again.
func benchmarkRecords(b *testing.B, s *Schema, kind string, record []byte) {
	fields := &Fields{}
	want := []Field{fields.Add("time"), fields.Add("user"), fields.Add("source_ip"), fields.Add("status")}
	p := BySchema(kind).Projection(fields, want)
	batch := p.NewBatch()
	batch.Source = &Block{Schemas: registered(s)}
	b.ReportAllocs()
	for b.Loop() {
		if batch.Rows == 4096 {
			batch.Reset()
			batch.Source = &Block{Schemas: registered(s)}
		}
		if err := p.Append(batch, record); err != nil {
			b.Fatal(err)
		}
	}
}

// Maps have what records cannot: keys with dots, which hide nested ones, and keys that stand twice. A path means in them what it means in
// their JSON, which is judged above, with its doubles.
func TestAvroMaps(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	m := &avroMess{Rand: rand.New(rand.NewSource(seed))}
	const text = `{"type":"record","name":"R","fields":[{"name":"m","type":{"type":"map","values":["string","null",
		{"type":"map","values":["null","string",{"type":"map","values":"long"}]},{"type":"array","items":["null",{"type":"record","name":"B","fields":[{"name":"b","type":"string"}]}]},"B"]}}]}`
	parsed, err := avro.ParseWithCache(text, "", &avro.SchemaCache{})
	if err != nil {
		t.Fatal(err)
	}
	s := NewSchema(7, KindAvro, text, nil)
	reads := []string{"m.a.b", "m.a", "m.b", `m.a\.b`, "m.c.b", "m", "m.a.b.c", "m.a.a.b"}
	doubles := 0
	for range 5000 {
		body := m.value(nil, parsed, 5)
		m.Shuffle(len(reads), func(i, j int) { reads[i], reads[j] = reads[j], reads[i] })
		some := reads[:1+m.Intn(len(reads))]
		p, b, got, err := recordCells(BySchema(KindAvro), registered(s), framed(7, body), some)
		if err != nil {
			t.Fatal(err)
		}
		object := p.recordObject(b.Source.Schemas, framed(7, body))
		_, model, want, err := jsonCells(object, some)
		if err != nil {
			t.Fatal(err)
		}
		for i := range some {
			if !sameCell(t, got[i], want[i]) {
				t.Fatalf("%s\n%s: %s %q, want %s %q", object, some[i], got[i].Kind, got[i].Text, want[i].Kind, want[i].Text)
			}
		}
		if b.Duplicates != model.Duplicates {
			t.Fatalf("%s, %q: %d doubles, want %d", object, some, b.Duplicates, model.Duplicates)
		}
		doubles += b.Duplicates
	}
	if doubles == 0 {
		t.Error("no key stood twice")
	}
}
