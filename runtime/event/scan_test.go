package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var testPaths = []string{"a", "b", "a.b", "a.b.c", "x y", `a\.b`, "é"}

func project(line []byte, paths ...string) (*Batch, []Field, error) {
	fields := &Fields{}
	var want []Field
	for _, p := range paths {
		want = append(want, fields.Add(p))
	}
	p := NewProjection(fields, want)
	b := p.NewBatch()
	err := p.Append(b, line)
	return b, want, err
}

// lookup is what a path means, over a decoded object: the rest of the path as a flat key, else its first name and on.
func lookup(m map[string]any, path []string) (v any, ok bool) {
	if v, ok := m[strings.Join(path, ".")]; ok {
		return v, true
	}
	if len(path) > 1 {
		if child, isMap := m[path[0]].(map[string]any); isMap {
			return lookup(child, path[1:])
		}
	}
	return nil, false
}

// throughArray says whether a path meets an array on its way, which is tested by example.
func throughArray(m map[string]any, path []string) bool {
	for i := 0; i < len(path)-1; i++ {
		switch x := m[path[i]].(type) {
		case []any:
			return true
		case map[string]any:
			m = x
		default:
			return false
		}
	}
	return false
}

func depth(line []byte) int {
	d := json.NewDecoder(bytes.NewReader(line))
	most, now := 0, 0
	for {
		t, err := d.Token()
		if err != nil {
			return most
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			now++
			most = max(most, now)
		case json.Delim('}'), json.Delim(']'):
			now--
		}
	}
}

// checkLine compares the projection of a line with encoding/json.
func checkLine(t *testing.T, line []byte) {
	t.Helper()
	b, fields, err := project(line, testPaths...)
	trimmed := bytes.TrimLeft(line, " \t\r\n")
	valid := json.Valid(line) && len(trimmed) > 0 && trimmed[0] == '{'
	if valid && depth(line) > depthMax {
		valid = false
	}
	if (err == nil) != valid {
		t.Fatalf("%q: error %v, encoding/json says %v", line, err, valid)
	}
	if err != nil {
		if b.Rows != 0 || len(b.Cols[0].Kinds) != 0 {
			t.Fatalf("%q: a part of a row stayed", line)
		}
		return
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	for i, path := range testPaths {
		parts := SplitPath(path)
		if throughArray(m, parts) {
			continue
		}
		v, ok := lookup(m, parts)
		got := b.Value(fields[i], 0)
		if want := shown(v, ok); show(got) != want {
			t.Fatalf("%q: %s is %s, want %s", line, path, show(got), want)
		}
	}
}

func shown(v any, ok bool) string {
	switch x := v.(type) {
	case nil:
		if !ok {
			return "absent"
		}
		return "null"
	case bool:
		return fmt.Sprint("bool ", x)
	case json.Number:
		return "number " + string(x)
	case string:
		return "string " + x
	}
	text, _ := json.Marshal(v)
	return string(text)
}

func show(v Value) string {
	switch v.Kind {
	case Absent, Null:
		return v.Kind.String()
	case Object, Array:
		d := json.NewDecoder(bytes.NewReader(v.Text))
		d.UseNumber()
		var x any
		_ = d.Decode(&x)
		return shown(x, true)
	}
	return v.Kind.String() + " " + string(v.Text)
}

var lineSeeds = []string{
	`{}`, ` {"a":1} `, `{"a":{"b":{"c":"x"}}}`, `{"a.b":1,"a":{"b":2}}`, `{"a":{"b":2},"a.b":1}`, `{"a":{"b.c":3,"b":{"c":4}}}`,
	`{"a":"\u00e9\ud83d\ude00\ud800x\n"}`, `{"\u0061":"escaped key"}`, `{"a":1,"a":2}`, `{"a":{"b":1},"a":{"c":2}}`, `{"a":{"b":1},"a":5}`, `{"a":5,"a":{"b":1}}`,
	`{"a":null,"b":true,"x y":false}`, `{"a":-0.5e+10,"b":01}`, `{"a":1.}`, `{"a":"` + "\x01" + `"}`, `{"a":"\q"}`, `{"a":"\u12g4"}`, `{"a":[1,2,{"b":3}]}`,
	`[1]`, `1`, ``, `{"a":1}x`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{"a":tru}`, "{\"a\":\"\xff\xfe\"}", `{"é":"ü"}`, `{"a":"unfinished`, `{"a":{"b":1}`, `{"a":"12345678\\"}`, `{"a":"\\\""}`,
	"{\"a\":\"\xc3\"}", `{"a":nullx}`, `{"a":[}`, `{"a":[1,]}`, `{"b":"0123456789abcdef\t"}`,
}

func TestLines(t *testing.T) {
	for _, line := range lineSeeds {
		checkLine(t, []byte(line))
	}
	for _, n := range []int{510, 511, 512, 513} {
		checkLine(t, []byte(`{"a":`+strings.Repeat("[", n)+strings.Repeat("]", n)+`}`))
	}
}

func FuzzProjection(f *testing.F) {
	for _, s := range lineSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(checkLine)
}

// Twenty thousand documents, whole and mutated.
func TestRandomLines(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 20_000 {
		line := randomObject(r, nil, 4)
		if r.IntN(3) == 0 {
			for range 1 + r.IntN(3) {
				line[r.IntN(len(line))] = "{}[]\",:\\x0 \xff"[r.IntN(12)]
			}
		}
		checkLine(t, line)
	}
}

func randomObject(r *rand.Rand, b []byte, depth int) []byte {
	b = append(b, '{')
	for i := range r.IntN(5) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, []string{`"a"`, `"b"`, `"c"`, `"a.b"`, `"b.c"`, `"x y"`, `"\u0061"`, `"é"`}[r.IntN(8)]...)
		b = append(b, []string{":", " : "}[r.IntN(2)]...)
		switch n := r.IntN(8); {
		case n == 0 && depth > 0:
			b = append(randomObject(r, append(b, '['), depth-1), ']')
		case n < 3 && depth > 0:
			b = randomObject(r, b, depth-1)
		default:
			b = append(b, []string{"null", "true", "false", "12", "-0.5e3", `"text"`, `"\ud83d\ude00 \"x\" \u00e9"`, `"a longer text, of more than eight bytes"`}[r.IntN(8)]...)
		}
	}
	return append(b, '}')
}

func TestPathsThroughArrays(t *testing.T) {
	for line, want := range map[string]string{
		`{"a":[{"b":1},{"b":"x"},{"c":2},5]}`:   `[1,"x"]`,
		`{"a":[{"c":1}]}`:                       "",
		`{"a":[[{"b":1}],{"b":2}]}`:             `[1,2]`,
		`{"a":[{"b":1}],"a.b":7}`:               "7",
		`{"a":[{"b":1}],"a":{"b":3}}`:           "3",
		`{"a":[{"b":{"c":1}},{"b":[{"c":2}]}]}`: `[{"c":1},[{"c":2}]]`,
	} {
		b, f, err := project([]byte(line), "a.b")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(b.Value(f[0], 0).Text); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}

func TestCountsAndWhole(t *testing.T) {
	b, f, err := project([]byte("  {\"a\":1,\"a\":\"\xff\"} \r"), "a", Whole)
	if err != nil {
		t.Fatal(err)
	}
	if b.Duplicates != 1 || b.InvalidUTF8 != 1 || string(b.Value(f[0], 0).Text) != "\uFFFD" || string(b.Value(f[1], 0).Text) != "{\"a\":1,\"a\":\"\xff\"}" {
		t.Errorf("%+v", b)
	}
	if ints, valid := b.Int64s(f[0]); len(ints) != 1 || valid[0] != 0 {
		t.Error(ints, valid)
	}
}

func BenchmarkProjection(b *testing.B) {
	line := []byte(`{"login_time":"2026-03-02T08:00:00.000Z","source_ip":"10.187.33.2","username":"user4711","status":"success","method":"password","user_agent":"Mozilla/5.0 (X11; Linux x86_64)","session_id":"9fe3a3f2c1d4b5a6","country":"DE","p":1}`)
	for _, paths := range [][]string{{"login_time", "source_ip"}, {"login_time", "source_ip", "username", "status"}} {
		b.Run(fmt.Sprint(len(paths)), func(b *testing.B) {
			fields := &Fields{}
			var want []Field
			for _, p := range paths {
				want = append(want, fields.Add(p))
			}
			p := NewProjection(fields, want)
			batch := p.NewBatch()
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				if batch.Rows == 4096 {
					batch.Reset()
				}
				if err := p.Append(batch, line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The members of an object are those that encoding/json reads, name by name and byte by byte.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":1,"b":{"c":[1,2 , 3]},"\u0041\n":"x\"y"}`, ` { "a" : null , "a":true}`, `{"a":1,}`, `{"a"`, `[1]`, `{"a":1}x`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		var names, values []string
		Members(object, func(name, value []byte) {
			names, values = append(names, string(name)), append(values, string(value))
		})
		if !json.Valid(object) || !utf8.Valid(object) || object[len(object)-len(bytes.TrimLeft(object, " \t\r\n"))] != '{' {
			return // it must only end
		}
		d := json.NewDecoder(bytes.NewReader(object))
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
		for i := 0; d.More(); i++ {
			var raw json.RawMessage
			name, err := d.Token()
			if err == nil {
				err = d.Decode(&raw)
			}
			if err != nil || i >= len(names) || names[i] != name || values[i] != string(raw) {
				t.Fatalf("member %d of %q: %q, %q", i, object, names, values)
			}
			if i == len(names)-1 && d.More() {
				t.Fatalf("%q has more than %q", object, names)
			}
		}
	})
}

// Elements gives what encoding/json gives, and of anything else no panic.
func FuzzElements(f *testing.F) {
	for _, s := range []string{`[]`, ` [ ] `, `[1, "a,]", {"b":[1,2]},[[]] ,null]`, `[1`, `[1,]`, `{}`, ``, `[1 2]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, array []byte) {
		var got []json.RawMessage
		Elements(array, func(value []byte) { got = append(got, value) })
		var want []json.RawMessage
		if json.Unmarshal(array, &want) != nil || !bytes.HasPrefix(bytes.TrimSpace(array), []byte("[")) || bytes.Count(array, []byte("[")) > 100 {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %q, want %q", array, got, want)
		}
		for i := range want {
			if string(bytes.TrimSpace(got[i])) != string(want[i]) {
				t.Fatalf("%q: %q, want %q", array, got, want)
			}
		}
	})
}
