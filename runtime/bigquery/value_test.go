package bigquery

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Both forms of a row say the same: a server that reads them by its own rules has the same values.
func TestValues(t *testing.T) {
	long := strings.Repeat("ä", 100) // its length takes two bytes
	shape := &Shape{append(attempts.Columns, Column{"any", "STRING", ""}, Column{"list", "STRING", "REPEATED"}, Column{"day", "DATE", ""})}
	for _, tc := range []struct{ object, want string }{
		{`{}`, ``},
		{`{"ip":"a\u00e4\"\n","n":-9007199254740993}`, "ip:a\u00e4\"\n n:-9007199254740993"},
		{`{"n":"17","share":"1e3","bad":"true"}`, `bad:true n:17 share:1000`},
		{`{"n":5.0,"share":3}`, `n:5 share:3`},
		{`{"share":-0.25,"bad":false}`, `bad:false share:-0.25`},
		{`{"at":"2026-03-02T08:00:19.999Z"}`, `at:1772438419999000`},
		{`{"at":"2026-03-02T09:00:19.123456+01:00"}`, `at:1772438419123456`},
		{`{"at":"0001-01-01T00:00:00.000Z","day":"1969-12-31"}`, `at:-62135596800000000 day:-1`},
		{`{"more":{"a":[1,"x"]},"any":{"a":1}}`, `any:{"a":1} more:{"a":[1,"x"]}`},
		{`{"more":"text","any":12.50}`, `any:12.50 more:"text"`},
		{`{"any":"` + long + `"}`, "any:" + long},
		{`{"list":["a",1,null,{"b":2}]}`, `list:[a 1 {"b":2}]`},
		{`{"list":"a"}`, `list:[a]`},
		{"{\"ip\":\"a\xffb\"}", "ip:a\ufffdb"},
	} {
		for name, m := range methods {
			s := server(t)
			settle(t, client(t, s, m, nil), []Row{row(0, tc.object, shape)})
			r := s.Rows("p.d.t")[0]
			for _, c := range own {
				delete(r, c.Name)
			}
			if got := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(r), "map["), "]"); got != tc.want {
				t.Errorf("%s: %s: %q, want %q", name, tc.object, got, tc.want)
			}
		}
	}
}

// Any value in any column makes a field that Protobuf reads back, or a reason.
func FuzzValues(f *testing.F) {
	for _, s := range []string{`1`, `"x"`, `null`, `[1,"a",[2]]`, `{"a":1}`, `"2026-03-02T08:00:19.999Z"`, `1e400`, `""`, `"\ud800"`, `-`, `"2026-03-02"`} {
		f.Add(s)
	}
	columns := own
	for typ := range kinds {
		columns = append(columns, Column{"c_" + typ, typ, ""}, Column{"l_" + typ, typ, "REPEATED"})
	}
	s := newSchema(columns, own, 0)
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("x.proto"), Syntax: proto.String("proto2"), MessageType: []*descriptorpb.DescriptorProto{s.descriptor}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, c := range columns[len(own):] {
			r := Row{ID: "x", Own: [][]byte{[]byte(`"x"`), []byte(`0`), nil}, Object: []byte(`{"` + c.Name + `":` + value + `}`)}
			b, err := s.proto(own, &r)
			text, err2 := s.json(own, &r)
			if (err == nil) != (err2 == nil) {
				t.Fatalf("%s %s: %v, %v", c.Name, value, err, err2)
			}
			if err != nil {
				continue
			}
			m := dynamicpb.NewMessage(file.Messages().Get(0))
			if err := proto.Unmarshal(b, m); err != nil || len(m.GetUnknown()) > 0 {
				t.Fatalf("%s %s: %v", c.Name, value, err)
			}
			if again, err := proto.Marshal(m); err != nil || len(again) != len(b) {
				t.Errorf("%s %s: %v", c.Name, value, err)
			}
			if utf8.ValidString(value) && json.Valid(r.Object) && !json.Valid(text) {
				t.Errorf("%s %s: %s", c.Name, value, text)
			}
		}
	})
}

// What a crash or a stranger leaves in the store's file is read without harm, and what it says of rows is what was written.
func FuzzStore(f *testing.F) {
	f.Add("stream t projects/p/streams/s1\ntry t 0 a b\ndone t\ntry t 2 c")
	f.Add("\n\nsome t a\ntry\ntry t x\nstream a\nstream t s\ntry t 5\nnone t\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := &store{tables: map[string]*position{}, now: map[string]bool{}, before: map[string]bool{}, most: 10}
		for _, line := range strings.Split(text, "\n") {
			s.replay(strings.Split(line, " "))
		}
		again := &store{tables: map[string]*position{}, now: map[string]bool{}, before: map[string]bool{}, most: 10}
		for _, line := range strings.Split(s.standing(), "\n") {
			again.replay(strings.Split(line, " "))
		}
		for name, p := range s.tables {
			q := again.tables[name]
			if q == nil || p.stream != q.stream || p.next != q.next || len(p.pending) != len(q.pending) || len(p.pending) > 0 && !reflect.DeepEqual(p.pending, q.pending) {
				t.Fatalf("%q: %+v, and again %+v", name, p, q)
			}
		}
	})
}
