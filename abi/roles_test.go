package abi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	minimalFilter = `{"abi":{"major":1,"minor":0},"name":"a.b","version":"1.0.0","roles":["filter"],"reads":[{"path":"x","type":"utf8"}]}`
	minimalMap    = `{"abi":{"major":1,"minor":0},"name":"a.b","version":"1.0.0","roles":["map"],"reads":[],"writes":[{"path":"y","type":"i64"}]}`
	minimalSum    = `{"abi":{"major":1,"minor":0},"name":"a.b","version":"1.0.0","roles":["aggregate"],"reads":[{"path":"x","type":"i64"}],"writes":[{"path":"y","type":"i64"}],"aggregate":{"state_size":8}}`
)

// Manifests of the roles that are wrong: what is said, and where.
func TestRoleFaults(t *testing.T) {
	remembers := `],"key_by":[],"state":{"version":2,"migrates_from":1,"slots":[{"id":0,"kind":"value","max":8,"ttl":"1h"}]}}`
	for _, text := range []string{minimalFilter, minimalMap, minimalSum, strings.Replace(minimalFilter, `]}`, remembers, 1), strings.Replace(minimalMap, `]}`, remembers, 1)} {
		if _, err := ParseManifest([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ text, old, new, want string }{
		{minimalFilter, `]}`, `],"rules":[]}`, "1:125: rules are what a module that detects reports; one with the role filter has none"},
		{minimalFilter, `]}`, `],"writes":[{"path":"y","type":"i64"}]}`, "1:126: writes are columns of a map or an aggregate; a module with the role filter has none"},
		{minimalFilter, `]}`, `],"aggregate":{"state_size":8}}`, "aggregate is for modules with the role aggregate; this one has the role filter"},
		{minimalFilter, `]}`, `],"key_by":["x"],"timers":1}`, "1:141: a timer has no row that could pass or get columns; one with the role filter has state and no timers"},
		{minimalMap, `]}`, `],"key_by":[],"timer_step":"1s","timers":2}`, "a timer has no row that could pass or get columns; one with the role map has state and no timers"},
		{minimalFilter, `]}`, `],"key_by":["x"]}`, "key_by is for plugins with state or timers; this one has neither"},
		{minimalSum, `,"aggregate"`, `,"key_by":["x"],"state":{"version":1,"slots":[{"id":0,"kind":"value","max":8}]},"aggregate"`, "an aggregate keeps nothing but its states"},
		{minimalFilter, `["filter"]`, `["filter","map"]`, "roles must name exactly one role"},
		{minimalFilter, `["filter"]`, `["sort"]`, `no role "sort"; there are detect, filter, map and aggregate`},
		{minimalMap, `[{"path":"y","type":"i64"}]`, `[]`, "a map needs writes"},
		{minimalMap, `[{"path":"y","type":"i64"}]`, `null`, "a map needs writes"},
		{minimalMap, `[{"path":"y","type":"i64"}]`, `{}`, "writes must be a list"},
		{minimalMap, `"y"`, `""`, "path must be the name of a column"},
		{minimalMap, `"type":"i64"`, `"type":"fixed_binary"`, "type must be bool"},
		{minimalMap, `"type":"i64"`, `"type":"i64","required":true`, `unknown key "required" in an entry of writes`},
		{minimalMap, `"type":"i64"}`, `"type":"i64"},{"path":"y","type":"utf8"}`, "y is written twice"},
		{minimalMap, `{"path":"y","type":"i64"}`, strings.TrimSuffix(numbered(65, `{"path":"%d","type":"i64"},`), ","), "writes has 65 entries; at most 64"},
		{minimalSum, `,"aggregate":{"state_size":8}`, ``, `an aggregate needs aggregate, the size of what it keeps`},
		{minimalSum, `8}`, `0}`, "state_size must be a whole number from 1 to 4096"},
		{minimalSum, `8}`, `4097}`, "state_size must be a whole number from 1 to 4096"},
		{minimalSum, `8}`, `8,"size":1}`, `unknown key "size" in aggregate`},
		{minimalSum, `8}`, `8,"version":0}`, "version must be a whole number from 1"},
		{minimalSum, `[{"path":"x","type":"i64"}]`, `[]`, "an aggregate needs reads"},
		{minimalSum, `{"path":"y","type":"i64"}`, `{"path":"y","type":"i64"},{"path":"z","type":"i64"}`, "exactly one column; it has 2"},
		{minimalSum, `"writes":[{"path":"y","type":"i64"}],`, ``, "exactly one column; it has 0"},
	} {
		if !strings.Contains(c.text, c.old) {
			t.Fatalf("no %s", c.old)
		}
		_, err := ParseManifest([]byte(strings.Replace(c.text, c.old, c.new, 1)))
		var said *ManifestError
		if !errors.As(err, &said) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v; want %s", c.new, c.old, err, c.want)
		}
	}
}

// put writes little endian u32s at a place.
func put(b []byte, at int, values ...uint32) []byte {
	for i, v := range values {
		binary.LittleEndian.PutUint32(b[at+4*i:], v)
	}
	return b
}

// Answers of filters that are wrong.
func TestFilterFaults(t *testing.T) {
	good := Answer{OutLen: 2, OutRows: 11}
	if bits, err := ReadFilter([]byte{0xff, 0x07, 9}, 11, good); err != nil || len(bits) != 2 {
		t.Fatal(bits, err)
	}
	for _, c := range []struct {
		out  []byte
		a    Answer
		want string
	}{
		{[]byte{0xff, 0x0f}, good, "the bitmap has bits beyond the 11 rows"},
		{[]byte{0, 0x80}, good, "bits beyond"},
		{[]byte{0}, good, "out_len is 2, out_cap 1"},
		{[]byte{0, 0, 0}, Answer{OutLen: 3, OutRows: 11}, "out_len is 3; a bitmap over 11 rows has 2 bytes"},
		{[]byte{0, 0}, Answer{OutLen: 1, OutRows: 11}, "out_len is 1"},
		{[]byte{0, 0}, Answer{OutLen: 2, OutRows: 10}, "out_rows is 10; the answer is about all 11 rows"},
		{[]byte{0, 0}, Answer{OutLen: 2, OutRows: 11, OutFlags: 1}, "out_flags is 1"},
		{[]byte{0, 0}, Answer{OutLen: 0xffffffff, OutRows: 11}, "out_len is 4294967295"},
	} {
		if _, err := ReadFilter(c.out, 11, c.a); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%x %+v: %v; want %s", c.out, c.a, err, c.want)
		}
	}
}

// answerAt is where the columns of answers are, in the batch.
const answerAt = 1000

// threeColumns is an answer about three rows: bool, i64 and utf8, by hand.
func threeColumns() []byte {
	out := make([]byte, 256)
	at := func(off uint32) uint32 { return answerAt + off }
	le := binary.LittleEndian
	column := func(i int, t Type, flags uint16, valid, data, n, offsets, width uint32) {
		d := out[i*ColumnSize:]
		put(d, 0, uint32(i))
		le.PutUint16(d[4:], uint16(t))
		le.PutUint16(d[6:], flags)
		put(d, 12, valid, data, n, offsets, 0, width)
	}
	column(0, Bool, HasValidity, at(144), at(152), 1, 0, 0)
	column(1, I64, 0, 0, at(160), 24, 0, 8)
	column(2, UTF8, HasValidity, at(184), at(208), 5, at(192), 0)
	out[144], out[152], out[184] = 0b101, 0b001, 0b011
	le.PutUint64(out[168:], 1<<63+5)
	put(out, 192, 0, 2, 5, 5)
	copy(out[208:], "é日") // 2 and 3 bytes
	return out
}

var threeWrites = []Write{{"b", Bool}, {"n", I64}, {"t", UTF8}}

// Columns that are right are read, and those that are wrong are refused, each for its reason.
func TestColumnFaults(t *testing.T) {
	a := Answer{OutLen: 213, OutRows: 3}
	c, err := ReadColumns(nil, threeColumns(), answerAt, 3, threeWrites, a)
	if err != nil || len(c) != 3 {
		t.Fatal(c, err)
	}
	if !c[0].Valid(0) || c[0].Valid(1) || !c[0].Bool(0) || c[0].Bool(2) || !c[1].Valid(1) || binary.LittleEndian.Uint64(c[1].Bytes(1)) != 1<<63+5 ||
		string(c[2].Bytes(0)) != "é" || string(c[2].Bytes(1)) != "日" || c[2].Valid(2) {
		t.Errorf("%+v", c)
	}
	for name, x := range map[string]struct {
		change func(out []byte, a *Answer)
		want   string
	}{
		"no room for descriptors":  {func(_ []byte, a *Answer) { a.OutLen = 143 }, "out_len is 143; the descriptors of 3 columns alone have 144 bytes"},
		"out_len":                  {func(_ []byte, a *Answer) { a.OutLen = 257 }, "out_len is 257, out_cap 256"},
		"out_rows":                 {func(_ []byte, a *Answer) { a.OutRows = 2 }, "out_rows is 2; the answer is about all 3 rows"},
		"out_flags":                {func(_ []byte, a *Answer) { a.OutFlags = 8 }, "out_flags is 8"},
		"data beyond out_len":      {func(_ []byte, a *Answer) { a.OutLen = 212 }, "column 2 (t) has its data, 5 bytes, at 208 of the output; it must be from 144 and end by 212"},
		"index":                    {func(o []byte, _ *Answer) { put(o, 48, 2) }, "column 1 (n) has the index 2; columns stand in the order of writes"},
		"type":                     {func(o []byte, _ *Answer) { o[52] = byte(U64) }, "column 1 (n) is u64; the manifest says i64"},
		"no such type":             {func(o []byte, _ *Answer) { o[52] = 99 }, "is type 99; the manifest says i64"},
		"flags":                    {func(o []byte, _ *Answer) { o[54] = 4 }, "has the flags 4; 0 or 1 are"},
		"width":                    {func(o []byte, _ *Answer) { put(o, 48+32, 4) }, "has the width 4; i64 has 8"},
		"data too short":           {func(o []byte, _ *Answer) { put(o, 48+20, 16) }, "has 16 bytes of data; 3 rows of i64 have 24"},
		"data huge":                {func(o []byte, _ *Answer) { put(o, 96+20, 0xffffffff) }, "has 4294967295 bytes of data; the output has 213"},
		"data before the output":   {func(o []byte, _ *Answer) { put(o, 48+16, 64) }, "at -936 of the output"},
		"data in descriptors":      {func(o []byte, _ *Answer) { put(o, 48+16, answerAt) }, "at 0 of the output; it must be from 144"},
		"data near 2^32":           {func(o []byte, _ *Answer) { put(o, 48+16, 0xfffffff8) }, "of the output"},
		"data at an odd place":     {func(o []byte, _ *Answer) { put(o, 48+16, answerAt+164) }, "at 1164, which is no multiple of 8"},
		"bits of validity":         {func(o []byte, _ *Answer) { o[144] = 0b1101 }, "its validity has bits beyond the 3 rows"},
		"bits of data":             {func(o []byte, _ *Answer) { o[152] = 0b1000 }, "its data has bits beyond the 3 rows"},
		"validity out of place":    {func(o []byte, _ *Answer) { put(o, 12, answerAt+216) }, "has its validity, 1 bytes, at 216"},
		"offsets out of place":     {func(o []byte, _ *Answer) { put(o, 96+24, answerAt+200) }, "has its offsets, 16 bytes, at 200"},
		"offsets begin with 1":     {func(o []byte, _ *Answer) { put(o, 192, 1) }, "has offsets that do not ascend: offset 0 is 1"},
		"offsets go back":          {func(o []byte, _ *Answer) { put(o, 192, 0, 5, 2, 5) }, "offset 2 is 2, after 5 of 5"},
		"offsets beyond the data":  {func(o []byte, _ *Answer) { put(o, 204, 6) }, "offset 3 is 6, after 5 of 5"},
		"offsets end early":        {func(o []byte, _ *Answer) { put(o, 204, 5); put(o, 96+20, 4); put(o, 192, 0, 2, 2, 2) }, "offsets end at 2 of 4"},
		"a character cut in two":   {func(o []byte, _ *Answer) { put(o, 192, 0, 1, 5, 5) }, "has a text in row 0 that is not UTF-8"},
		"bytes that are no UTF-8":  {func(o []byte, _ *Answer) { o[210] = 0xff }, "has a text in row 1 that is not UTF-8"},
		"no UTF-8 in a null value": {func(o []byte, _ *Answer) { o[184] = 0b001; o[210] = 0xff }, "has a text in row 1 that is not UTF-8"},
	} {
		out, a := threeColumns(), a
		x.change(out, &a)
		if _, err := ReadColumns(nil, out, answerAt, 3, threeWrites, a); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v; want %s", name, err, x.want)
		}
	}
}

// States that are edited in place.
func TestStatesFaults(t *testing.T) {
	if err := CheckStates(80, Answer{OutLen: 80}); err != nil {
		t.Fatal(err)
	}
	for want, a := range map[string]Answer{"out_len is 40; the states have 80 bytes": {OutLen: 40}, "out_len is 4294967295": {OutLen: 0xffffffff}, "out_rows is 2, not 0": {OutLen: 80, OutRows: 2}, "out_flags is 1": {OutLen: 80, OutFlags: 1}} {
		if err := CheckStates(80, a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %s", a, err, want)
		}
	}
}

// Any bytes end in columns all of whose values can be read, or in an error.
func FuzzColumns(f *testing.F) {
	f.Add(threeColumns(), uint32(213), uint32(3))
	f.Add([]byte{}, uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, out []byte, n, rows uint32) {
		if rows == 0 || rows > RowsMax {
			return
		}
		a := Answer{OutLen: n, OutRows: rows}
		_, _ = ReadFilter(out, int(rows), a)
		c, err := ReadColumns(nil, out, answerAt, int(rows), threeWrites, a)
		if err != nil {
			return
		}
		for i := range int(rows) {
			_, _, _ = c[0].Bool(i), c[1].Bytes(i), c[2].Bytes(i)
		}
	})
}

// roleGolden is what make.py says of a batch of a role.
type roleGolden struct {
	Rows      int
	OutOff    int `json:"out_off"`
	Passes    []int
	Groups    []uint32
	StateSize int `json:"state_size"`
	States    []string
	Source    []string
	Writes    []struct {
		Type   string
		Values []any
	}
}

func roleGoldenOf(t *testing.T, name string) (g roleGolden, raw []byte, b *Batch) {
	t.Helper()
	text, err := os.ReadFile("testdata/golden/roles/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&g); err != nil {
		t.Fatal(err)
	}
	if raw, err = os.ReadFile("testdata/golden/roles/" + name + ".bin"); err != nil {
		t.Fatal(err)
	}
	if b, err = ReadBatch(raw); err != nil || b.Rows != g.Rows || b.OutOff != g.OutOff {
		t.Fatalf("%s: %+v, %v", name, b, err)
	}
	return g, raw, b
}

// The answers of the golden batches are what the other program meant.
func TestGoldenAnswers(t *testing.T) {
	g, raw, b := roleGoldenOf(t, "filter")
	bits, err := ReadFilter(raw[b.OutOff:][:b.OutCap], b.Rows, ReadAnswer(raw))
	if err != nil {
		t.Fatal(err)
	}
	var passes []int
	for i := range b.Rows {
		if bits[i/8]>>(i%8)&1 == 1 {
			passes = append(passes, i)
		}
	}
	if !slices.Equal(passes, g.Passes) {
		t.Errorf("%v pass, not %v", passes, g.Passes)
	}
	for _, name := range []string{"map", "finish"} {
		g, raw, b := roleGoldenOf(t, name)
		var writes []Write
		for _, w := range g.Writes {
			writes = append(writes, Write{w.Type, typeNames[w.Type]})
		}
		columns, err := ReadColumns(nil, raw[b.OutOff:][:b.OutCap], b.OutOff, b.Rows, writes, ReadAnswer(raw))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for k, c := range columns {
			for row, want := range g.Writes[k].Values {
				if got := value(&c, row); got != shown(want) {
					t.Errorf("%s: column %d, row %d: %s, not %s", name, k, row, got, shown(want))
				}
			}
		}
	}
}

// What the host lays out for aggregates is what the other program made of the contract.
func TestGoldenStates(t *testing.T) {
	states := func(texts []string) (all []byte) {
		for _, s := range texts {
			b, _ := hex.DecodeString(s)
			all = append(all, b...)
		}
		return all
	}
	for _, name := range []string{"update", "merge", "finish"} {
		g, want, b := roleGoldenOf(t, name)
		outCap := max(OutCap(g.Rows), len(g.States)*g.StateSize)
		buf := bytes.Repeat([]byte{0xaa}, len(want))
		var w Writer
		every := func(c *Buffers) {
			for i := range c.Valid {
				c.Valid[i] = 0xff
			}
			if g.Rows%8 != 0 {
				c.Valid[len(c.Valid)-1] = 1<<(g.Rows%8) - 1
			}
		}
		if w.Begin(buf, g.Rows, len(b.Columns)); name == "update" {
			used, nulls := fill(w.Open(0, UTF8), UTF8, []any{"a", nil, "c", "d", "e"})
			w.Close(used, nulls, 0)
			c := w.Open(ColumnGroup, U32)
			every(c)
			put(c.Data, 0, g.Groups...)
			w.Close(len(c.Data), 0, 0)
		} else {
			c := w.OpenFixed(ColumnStates, g.StateSize)
			every(c)
			w.Close(copy(c.Data, states(g.Source)), 0, 0)
		}
		outOff, total := w.Finish(outCap)
		n := len(g.States)
		if name == "finish" {
			n = g.Rows
		}
		PutStates(buf, n, g.StateSize)
		if name == "finish" {
			clear(want[OffOutLen : OffOutLen+4]) // the answer
			clear(want[OffOutRows : OffOutRows+4])
		} else {
			put(buf, OffOutLen, uint32(n*g.StateSize))
		}
		if total != len(want) || outOff != g.OutOff || !bytes.Equal(buf[:outOff], want[:outOff]) {
			t.Errorf("%s: other bytes; the output is at %d, not %d; total %d, not %d", name, outOff, g.OutOff, total, len(want))
		}
		if name != "finish" && !bytes.Equal(want[outOff:][:n*g.StateSize], states(g.States)) {
			t.Errorf("%s: the states do not stand at the output", name)
		}
	}
}
