package abi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// golden is what testdata/golden/make.py, which shares no code with this package, says of a batch.
type golden struct {
	Rows    int
	OutOff  int `json:"out_off"`
	OutCap  int `json:"out_cap"`
	Columns []struct {
		Type   string
		Values []any
		Cut    bool
	}
	Hits []struct {
		Row, Rule uint32
		Severity  uint16
		Note      json.RawMessage
	}
}

func goldens(t *testing.T) map[string]golden {
	paths, _ := filepath.Glob("testdata/golden/*.json")
	if len(paths) < 7 {
		t.Fatalf("only %v", paths)
	}
	all := map[string]golden{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		var g golden
		if err := d.Decode(&g); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[strings.TrimSuffix(path, ".json")] = g
	}
	return all
}

func number(v any) int64 {
	n, err := v.(json.Number).Int64()
	if err != nil {
		panic(err)
	}
	return n
}

// fill writes a column's values.
func fill(b *Buffers, t Type, values []any) (used, nulls int) {
	le := binary.LittleEndian
	clear(b.Valid)
	if t != UTF8 {
		clear(b.Data)
		used = len(b.Data)
	} else {
		le.PutUint32(b.Offsets, 0)
	}
	for i, v := range values {
		if v == nil {
			nulls++
		} else {
			b.Valid[i/8] |= 1 << (i % 8)
		}
		w := t.Width()
		switch {
		case v == nil:
		case t == UTF8:
			used += copy(b.Data[used:], v.(string))
		case t == Bool:
			if v.(bool) {
				b.Data[i/8] |= 1 << (i % 8)
			}
		case t == F64:
			f, _ := v.(json.Number).Float64()
			le.PutUint64(b.Data[i*w:], math.Float64bits(f))
		case t == IP:
			raw, _ := hex.DecodeString(v.(string))
			copy(b.Data[i*w:], raw)
		case w == 4:
			le.PutUint32(b.Data[i*w:], uint32(number(v)))
		default:
			le.PutUint64(b.Data[i*w:], uint64(number(v)))
		}
		if t == UTF8 {
			le.PutUint32(b.Offsets[4*i+4:], uint32(used))
		}
	}
	return used, nulls
}

// The writer makes the golden bytes, in memory that was used before.
func TestWriter(t *testing.T) {
	for name, g := range goldens(t) {
		want, err := os.ReadFile(name + ".bin")
		if err != nil {
			t.Fatal(err)
		}
		if g.Hits != nil {
			clear(want[g.OutOff:]) // the answer
			clear(want[OffOutLen : OffOutLen+4])
			clear(want[OffOutRows : OffOutRows+4])
		}
		var types []Type
		text := 0
		for _, c := range g.Columns {
			types = append(types, typeNames[c.Type])
			for _, v := range c.Values {
				if s, ok := v.(string); ok && c.Type == "utf8" {
					text += len(s)
				}
			}
		}
		bound := Bound(g.Rows, text, types) + OutCap(g.Rows)
		buf := bytes.Repeat([]byte{0xaa}, bound)
		var w Writer
		w.Begin(buf, g.Rows, len(g.Columns))
		for i, c := range g.Columns {
			used, nulls := fill(w.Open(uint32(i), types[i]), types[i], c.Values)
			var flags uint16
			if c.Cut {
				flags = Truncated
			}
			w.Close(used, nulls, flags)
		}
		outOff, total := w.Finish(OutCap(g.Rows))
		if outOff != g.OutOff || total != len(want) || total > bound {
			t.Errorf("%s: the output is at %d, not %d; total %d, not %d; bound %d", name, outOff, g.OutOff, total, len(want), bound)
		} else if !bytes.Equal(buf[:outOff], want[:outOff]) {
			t.Errorf("%s: other bytes", name)
		}
	}
}

// The reader finds in the golden bytes what they mean.
func TestReader(t *testing.T) {
	for name, g := range goldens(t) {
		raw, err := os.ReadFile(name + ".bin")
		if err != nil {
			t.Fatal(err)
		}
		b, err := ReadBatch(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b.Rows != g.Rows || b.OutOff != g.OutOff || b.OutCap != g.OutCap || len(b.Columns) != len(g.Columns) {
			t.Fatalf("%s: %+v", name, b)
		}
		for i, c := range b.Columns {
			if c.Type.String() != g.Columns[i].Type || c.Flags&Truncated != 0 != g.Columns[i].Cut {
				t.Fatalf("%s: column %d: %+v", name, i, c)
			}
			for row, want := range g.Columns[i].Values {
				if got := value(&c, row); got != shown(want) {
					t.Errorf("%s: column %d, row %d: %s, not %s", name, i, row, got, shown(want))
				}
			}
		}
		if g.Hits == nil {
			continue
		}
		hits, err := ReadHits(nil, raw[b.OutOff:b.OutOff+b.OutCap], b.OutOff, b.Rows, ReadAnswer(raw))
		if err != nil || len(hits) != len(g.Hits) {
			t.Fatalf("%s: %v, %v", name, hits, err)
		}
		for i, h := range hits {
			var note bytes.Buffer
			if w := g.Hits[i]; w.Note != nil {
				_ = json.Compact(&note, w.Note)
			}
			if w := g.Hits[i]; h.Row != w.Row || h.Rule != w.Rule || h.Severity != w.Severity || string(h.Note) != note.String() {
				t.Errorf("%s: hit %d: %+v, not %+v", name, i, h, w)
			}
		}
	}
}

func shown(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func value(c *Column, row int) string {
	if !c.Valid(row) {
		return "null"
	}
	if c.Type == Bool {
		return shown(c.Bool(row))
	}
	b, le := c.Bytes(row), binary.LittleEndian
	switch c.Type {
	case UTF8:
		return string(b)
	case IP:
		return hex.EncodeToString(b)
	case F64:
		return shown(math.Float64frombits(le.Uint64(b)))
	case I32:
		return shown(int32(le.Uint32(b)))
	case U32:
		return shown(le.Uint32(b))
	}
	return shown(int64(le.Uint64(b)))
}

const minimal = `{"abi":{"major":1,"minor":0},"name":"a.b","version":"1.0.0","roles":["detect"],"reads":[{"path":"x","type":"utf8"}],"rules":[{"id":1,"title":"t"}]}`

// Manifests that are wrong: what is said, and where.
func TestManifestFaults(t *testing.T) {
	if _, err := ParseManifest([]byte(minimal)); err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) string {
		if !strings.Contains(minimal, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(minimal, old, new, 1)
	}
	pattern := func(patterns, when string) string {
		return change(`"rules"`, `"patterns":[`+patterns+`],"when":`+when+`,"rules"`)
	}
	slot := func(slots, version string) string {
		return change(`"rules"`, `"state":{`+version+`"slots":[`+slots+`]},"rules"`)
	}
	slots := func(slots string) string {
		return strings.Replace(slot(slots, `"version":1,`), `"state"`, `"key_by":["x"],"state"`, 1)
	}
	for _, c := range []struct{ text, want string }{
		{"", "1:1: not JSON"},
		{"{", "1:1: not JSON"},
		{"[]", "1:1: the manifest must be an object"},
		{minimal + "x", "not JSON"},
		{"{\"a\":1,\n \"a\":2}", `2:2: key "a" is there twice`},
		{"{\"x\":\xff}", "1:6: these bytes are not UTF-8"},
		{strings.Repeat("[", 40) + strings.Repeat("]", 40), "nested deeper than 32"},
		{strings.Repeat(" ", ManifestMax) + minimal, "at most 65536"},
		{change(`"major":1`, `"major":2`), "speaks version 2.0"},
		{change(`"minor":0`, `"minor":1`), "speaks version 1.1"},
		{change(`"minor":0`, `"minor":-1`), "minor must be a whole number"},
		{change(`"name":"a.b",`, ``), "1:1: name is missing"},
		{change(`"a.b"`, `"../b"`), "name must be lower-case"},
		{change(`"a.b"`, `5`), "name must be a text"},
		{change(`"1.0.0"`, `"1.0"`), "version must be three numbers"},
		{change(`["detect"]`, `["map"]`), "1:122: rules are what a module that detects reports; one with the role map has none"},
		{change(`["detect"]`, `["detecT"]`), `no role "detecT"`},
		{change(`["detect"]`, `[]`), "exactly one role"},
		{change(`"utf8"`, `"text"`), `it is "text"`},
		{change(`"utf8"`, `"list<utf8>"`), "type must be"},
		{change(`"utf8"}`, `"utf8"},{"path":"x","type":"i64"}`), "x is read twice"},
		{change(`"utf8"`, `"i64","max_len":5`), "max_len is for utf8"},
		{change(`"utf8"`, `"utf8","max_len":0`), "max_len must be a whole number from 1"},
		{change(`"utf8"`, `"utf8","required":1`), "required must be true or false"},
		{change(`"utf8"`, `"utf8","maxlen":1`), `unknown key "maxlen"`},
		{change(`"path":"x"`, `"path":""`), "path must be the path of a field"},
		{change(`[{"id":1,"title":"t"}]`, `[]`), "needs rules"},
		{change(`"id":1`, `"id":0`), "id must be a whole number from 1"},
		{change(`"id":1`, `"id":1.5`), "id must be a whole number from 1"},
		{change(`{"id":1,"title":"t"}`, `{"id":1,"title":"t"},{"id":1,"title":"u"}`), "rule 1 is there twice"},
		{change(`"t"`, `"a\u001b[2Jb"`), "title has control characters"},
		{change(`"t"`, `"{y} is"`), "names {y}, which is not in reads"},
		{change(`"t"`, `"t","severity":"bad"`), "severity must be one of"},
		{change(`"t"`, `"t","risk_score":101`), "risk_score must be a whole number from 0 to 100"},
		{change(`"t"`, `"t","attack":["1059"]`), "attack must be a technique"},
		{change(`"t"`, `"t","entities":[{"field":"y","type":"ip"}]`), `field "y" is not in reads`},
		{change(`"t"`, `"t","entities":[{"field":"x","type":"car"}]`), "type must be one of"},
		{change(`"rules"`, `"limits":{"memory_mib":0},"rules"`), "memory_mib must be a whole number from 1"},
		{change(`"rules"`, `"limits":{"fuel_per_row":1},"rules"`), `unknown key "fuel_per_row"`},
		{change(`"rules"`, `"config_schema":[],"rules"`), "config_schema must be an object"},
		{change(`"rules"`, `"key_by":["x"],"rules"`), "key_by is for plugins with state or timers"},
		{change(`"rules"`, `"key_by":["y"],"timers":1,"rules"`), `key_by names "y", which is not in reads`},
		{change(`"rules"`, `"key_by":["x","x"],"timers":1,"rules"`), `key_by names "x" twice`},
		{change(`"rules"`, `"timers":1,"rules"`), "need key_by"},
		{change(`"rules"`, `"key_by":[],"timers":0,"rules"`), "timers must be a whole number from 1 to 1024"},
		{change(`"rules"`, `"key_by":[],"timers":1025,"rules"`), "timers must be a whole number from 1 to 1024"},
		{change(`"rules"`, `"key_by":[],"timers":1,"timer_step":"0s","rules"`), "timer_step must be a time from 1ms to 1d"},
		{change(`"rules"`, `"key_by":[],"timers":1,"timer_step":"25h","rules"`), "timer_step must be a time from 1ms to 1d"},
		{change(`"rules"`, `"key_by":[],"timer_step":"1s","rules"`), "timer_step is for plugins with timers"},
		{slot(`{"id":0,"kind":"value","max":8}`, `"version":1,`), "need key_by"},
		{slots(`{"id":16,"kind":"value","max":8}`), "id must be a whole number from 0 to 15"},
		{slots(`{"id":0,"kind":"set","max":8}`), `kind must be value or map; it is "set"`},
		{slots(`{"id":0,"kind":"value"}`), "max is missing"},
		{slots(`{"id":0,"kind":"value","max":65537}`), "max must be a whole number from 1 to 65536"},
		{slots(`{"id":0,"kind":"value","max":8,"entries":5}`), "entries is for maps"},
		{slots(`{"id":0,"kind":"map","max":8}`), "entries is missing"},
		{slots(`{"id":0,"kind":"map","max":8,"entries":10001}`), "entries must be a whole number from 1 to 10000"},
		{slots(`{"id":0,"kind":"map","max":8,"entries":1,"key_max":1025}`), "key_max must be a whole number from 1 to 1024"},
		{slots(`{"id":0,"kind":"value","max":8,"ttl":"367d"}`), "ttl must be a time from 1ms to 366d"},
		{slots(`{"id":0,"kind":"value","max":8,"ttl":"9999999999h"}`), "ttl must be a time"},
		{slots(`{"id":0,"kind":"value","max":8,"ttl":60}`), "ttl must be a text"},
		{slots(`{"id":0,"kind":"value","max":8},{"id":0,"kind":"value","max":8}`), "slot 0 is there twice"},
		{slots(`{"id":0,"kind":"value","max":8,"min":1}`), `unknown key "min" in a slot`},
		{slot(`{"id":0,"kind":"value","max":8}`, ``), "version is missing"},
		{change(`"rules"`, `"limits":{"state_kib":1025},"rules"`), "state_kib must be a whole number from 1 to 1024"},
		{change(`"rules"`, `"wants":["key"],"rules"`), `wants may name event_time and watermark; it names "key"`},
		{change(`"rules"`, `"wants":["watermark","watermark"],"rules"`), "watermark is wanted twice"},
		{change(`"rules"`, `"capabilities":["net"],"rules"`), "capabilities is not served"},
		{change(`"rules"`, `"tables":["a","b","a"],"rules"`), "a is in tables twice"},
		{change(`"rules"`, `"tables":["a b"],"rules"`), `a name of tables must be letters, digits, _ and -, at most 128, and begin with a letter; it is "a b"`},
		{change(`"rules"`, `"tables":"a","rules"`), "tables must be a list"},
		{change(`"rules"`, `"tables":[`+strings.TrimSuffix(numbered(17, `"t%d",`), ",")+`],"rules"`), "tables has 17 entries; at most 16"},
		{change(`"rules"`, `"metrics":["Seen"],"rules"`), `a name of metrics must be lower-case letters, digits and _, at most 64, and begin with a letter; it is "Seen"`},
		{change(`"rules"`, `"metrics":[1],"rules"`), "a name of metrics must be a text"},
		{pattern(`{"id":64,"field":0,"op":"equals","values":["a"]}`, `{"any":[0]}`), "id must be a whole number from 0 to 63"},
		{pattern(`{"id":1,"field":0,"op":"equals","values":["a"]},{"id":1,"field":0,"op":"equals","values":["a"]}`, `{"any":[1]}`), "pattern 1 is there twice"},
		{pattern(`{"id":0,"field":1,"op":"equals","values":["a"]}`, `{"any":[0]}`), "field must be a whole number from 0 to 0"},
		{pattern(`{"id":0,"field":0,"op":"like","values":["a"]}`, `{"any":[0]}`), `op must be one of equals, contains, startswith, endswith, cidr, re; it is "like"`},
		{pattern(`{"id":0,"field":0,"op":"equals","values":[]}`, `{"any":[0]}`), "values must be a list of texts; it has none"},
		{pattern(`{"id":0,"field":0,"op":"equals","values":[5]}`, `{"any":[0]}`), "1:171: a value is a text"},
		{pattern(`{"id":0,"field":0,"op":"contains","values":["-e"]}`, `{"any":[0]}`), `"-e" is too short`},
		{pattern(`{"id":0,"field":0,"op":"contains","values":["`+strings.Repeat("a", 4097)+`"]}`, `{"any":[0]}`), "has 4097 bytes; at most 4096"},
		{pattern(`{"id":0,"field":0,"op":"contains","values":["`+strings.Repeat(strings.Repeat("a", 2731)+`","`, 2)+strings.Repeat("a", 2731)+`"]}`, `{"any":[0]}`), "more than 8192 bytes of values"},
		{pattern(strings.TrimSuffix(numbered(9, `{"id":%d,"field":0,"op":"re","values":["abc"]},`), ","), `{"any":[0]}`), "more than 8 regular expressions"},
		{pattern(strings.TrimSuffix(numbered(65, `{"id":%d,"field":0,"op":"re","values":["abc"]},`), ","), `{"any":[0]}`), "patterns has 65 entries; at most 64"},
		{pattern(`{"id":0,"field":0,"op":"cidr","values":["10.0.0.1/8"]}`, `{"any":[0]}`), `"10.0.0.1/8" is not a network`},
		{pattern(`{"id":0,"field":0,"op":"cidr","values":["10.0.0.0/8"],"nocase":true}`, `{"any":[0]}`), "cidr compares addresses"},
		{pattern(`{"id":0,"field":0,"op":"re","values":["(abc"]}`, `{"any":[0]}`), "missing closing )"},
		{pattern(`{"id":0,"field":0,"op":"re","values":["abc|x*"]}`, `{"any":[0]}`), "need not have any given text of 3 bytes"},
		{pattern(`{"id":0,"field":0,"op":"re","values":["abc"],"case":true}`, `{"any":[0]}`), `unknown key "case" in a pattern`},
		{pattern(`{"id":0,"field":0,"op":"equals","values":["a"]}`, `null`), "1:128: patterns without `when` rule out no row"},
		{pattern(`{"id":0,"field":0,"op":"equals","values":["a"]}`, `[0]`), "when must be an object"},
		{pattern(`{"id":0,"field":0,"op":"equals","values":["a"]}`, `{"any":[0],"all":[0]}`), `when is {"any": [...]} or {"all": [...]}`},
		{pattern(`{"id":0,"field":0,"op":"equals","values":["a"]}`, `{"any":[{"all":[]}]}`), "all has no pattern"},
		{pattern(`{"id":0,"field":0,"op":"equals","values":["a"]}`, `{"all":[{"any":[0, 3]}]}`), "there is no pattern 3"},
		{pattern(`{"id":0,"field":0,"op":"equals","values":["a"]}`, `{"none":[0]}`), `unknown key "none" in when`},
		{change(`"rules"`, `"when":{"any":[0]},"rules"`), "there is no pattern 0"},
		{change(`"rules"`, `"colour":1,"rules"`), `unknown key "colour" in the manifest`},
	} {
		_, err := ParseManifest([]byte(c.text))
		var said *ManifestError
		if !errors.As(err, &said) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.200s: %v; want %s", c.text, err, c.want)
		}
	}
	if m, err := ParseManifest([]byte(change(`"rules"`, `"x-mine":{"a":1},"patterns":[],"state":null,"metrics":["seen_1"],"tables":["Assets","b-2"],"rules"`))); err != nil || !slices.Equal(m.Metrics, []string{"seen_1"}) || !slices.Equal(m.Tables, []string{"Assets", "b-2"}) || m.Rule(1).RiskScore != -1 || m.Rule(2) != nil {
		t.Errorf("%+v, %v", m, err)
	}
}

// numbered repeats a text with numbers from 0 in it.
func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// What is right of patterns is read as it stands.
func TestPatterns(t *testing.T) {
	m, err := ParseManifest([]byte(strings.Replace(minimal, `"rules"`, `"when":{"any":[{"all":[7,0]},7]},"patterns":[{"id":7,"field":0,"op":"contains","values":["-enc","\u0000a\u0000"],"nocase":true},
		{"id":0,"field":0,"op":"equals","values":[""]}, {"id":63,"field":0,"op":"re","values":["x?(abc|ABCD)+","(?:def){2}"]}, {"id":1,"field":0,"op":"cidr","values":["::1","10.0.0.0/8"]}],"rules"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := []Pattern{{7, 0, "contains", []string{"-enc", "\x00a\x00"}, true}, {0, 0, "equals", []string{""}, false},
		{63, 0, "re", []string{"x?(abc|ABCD)+", "(?:def){2}"}, false}, {1, 0, "cidr", []string{"::1", "10.0.0.0/8"}, false}}
	if !slices.EqualFunc(m.Patterns, want, func(a, b Pattern) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		t.Errorf("%+v", m.Patterns)
	}
	if got := m.When.String(); got != "any of (all of (7, 0), 7)" {
		t.Error(got)
	}
}

// Any bytes end in a manifest or a located error.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(strings.Replace(minimal, `"rules"`, `"patterns":[{"id":0,"field":0,"op":"re","values":["(abc|def)+"]}],"when":{"any":[0,{"all":[0]}]},"rules"`, 1)))
	f.Add([]byte(`{"rules":[{"title":"{{ {x}","id":1}],"reads":[{"path":"x"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		var said *ManifestError
		if err == nil && m.Name == "" || err != nil && (!errors.As(err, &said) || said.Line < 1 || said.Column < 1) {
			t.Fatalf("%v, %v", m, err)
		}
	})
}

// Any bytes behind a batch end in hits that satisfy the contract, or in an error.
func FuzzHits(f *testing.F) {
	raw, err := os.ReadFile("testdata/golden/hits.bin")
	if err != nil {
		f.Fatal(err)
	}
	b, err := ReadBatch(raw)
	if err != nil {
		f.Fatal(err)
	}
	a := ReadAnswer(raw)
	f.Add(raw[b.OutOff:b.OutOff+200], b.OutOff, 3, a.OutLen, a.OutRows, uint32(0))
	f.Fuzz(func(t *testing.T, out []byte, outOff, rows int, outLen, outRows, outFlags uint32) {
		if outOff < 0 || outOff > BatchMax || rows < 0 || rows > RowsMax {
			return
		}
		hits, err := ReadHits(nil, out, outOff, rows, Answer{outLen, outRows, outFlags})
		if err != nil {
			return
		}
		notes := 0
		for i, h := range hits {
			notes += len(h.Note)
			if int(h.Row) >= rows || i > 0 && (h.Row < hits[i-1].Row || h.Row == hits[i-1].Row && h.Rule <= hits[i-1].Rule) || h.Severity > 5 {
				t.Fatalf("hit %d: %+v", i, hits)
			}
			var object map[string]any
			if h.Note != nil && (json.Unmarshal(h.Note, &object) != nil || object == nil || slices.Contains(h.Note, '\n')) {
				t.Fatalf("note %q", h.Note)
			}
		}
		if notes > len(out) {
			t.Fatalf("%d bytes of notes from %d bytes", notes, len(out))
		}
	})
}

// Any bytes end in a batch or an error.
func FuzzBatch(f *testing.F) {
	for _, name := range []string{"all_types", "one_row", "cut"} {
		raw, err := os.ReadFile("testdata/golden/" + name + ".bin")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := ReadBatch(raw)
		if err != nil {
			return
		}
		for i := range b.Columns {
			for row := range b.Rows {
				_ = value(&b.Columns[i], row)
			}
		}
	})
}
