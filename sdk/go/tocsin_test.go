package tocsin

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"
)

const golden = "../../abi/testdata/golden/"

// aligned are bytes at a multiple of 8, as the host writes them.
func aligned(b []byte) []byte {
	words := make([]uint64, len(b)/8+1)
	out := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(b))
	copy(out, b)
	return out
}

func file(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(golden + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shown is a column as the JSON of make.py has it.
func shown(b *Batch, column int, typ string) (out []any) {
	put := func(v any, ok bool) {
		if !ok {
			v = nil
		}
		out = append(out, v)
	}
	for row := range b.Rows {
		switch typ {
		case "bool":
			put2(put)(b.Bools(column).Get(row))
		case "i32":
			v, ok := b.Int32s(column).Get(row)
			put(json.Number(strconv.FormatInt(int64(v), 10)), ok)
		case "i64", "timestamp_ms":
			v, ok := b.Int64s(column).Get(row)
			put(json.Number(strconv.FormatInt(v, 10)), ok)
		case "u32":
			v, ok := b.Uint32s(column).Get(row)
			put(json.Number(strconv.FormatUint(uint64(v), 10)), ok)
		case "u64":
			v, ok := b.Uint64s(column).Get(row)
			put(json.Number(strconv.FormatUint(v, 10)), ok)
		case "f64":
			v, ok := b.Float64s(column).Get(row)
			put(json.Number(strconv.FormatFloat(v, 'g', -1, 64)), ok)
		case "utf8":
			v, ok := b.Texts(column).Get(row)
			put(string(v), ok)
		case "ip":
			v, ok := b.IPs(column).Get(row)
			put(hex.EncodeToString(v[:]), ok)
		}
	}
	return out
}

func put2(put func(any, bool)) func(v, ok bool) { return func(v, ok bool) { put(v, ok) } }

func TestGoldenBatches(t *testing.T) {
	paths, _ := filepath.Glob(golden + "*.json")
	if len(paths) < 6 {
		t.Fatal(paths)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		var meaning struct {
			Rows    int
			Columns []struct {
				Type   string
				Values []any
				Cut    bool
			}
		}
		d := json.NewDecoder(bytes.NewReader(file(t, name+".json")))
		d.UseNumber()
		if err := d.Decode(&meaning); err != nil {
			t.Fatal(err)
		}
		b, _, err := Open(aligned(file(t, name+".bin")))
		if err != nil || b.Rows != meaning.Rows {
			t.Fatalf("%s: %v", name, err)
		}
		for i, c := range meaning.Columns {
			if got := shown(b, i, c.Type); !reflect.DeepEqual(got, c.Values) || b.WasCut(i) != c.Cut {
				t.Errorf("%s, column %d: %v; want %v", name, i, got, c.Values)
			}
		}
	}
}

// The columns that a manifest wants are found by what they are, wherever they stand; others panic.
func TestWantedColumns(t *testing.T) {
	raw := aligned(file(t, "all_types.bin"))
	for index, get := range map[uint32]func(b *Batch) Numbers[int64]{indexEventTime: (*Batch).EventTime, indexWatermark: (*Batch).Watermark, indexTimerAt: (*Batch).TimerAt, indexTimerTag: (*Batch).TimerTag} {
		binary.LittleEndian.PutUint32(raw[64+7*48:], index) // the timestamps
		b, _, err := Open(raw)
		if err != nil {
			t.Fatal(err)
		}
		c := get(b)
		if v, ok := c.Get(0); v != 1772438400000 || !ok {
			t.Errorf("%x: %d, %v", index, v, ok)
		}
		if _, ok := c.Get(1); ok {
			t.Errorf("%x: row 1 has a value", index)
		}
	}
	binary.LittleEndian.PutUint32(raw[64+7*48:], 7)
	binary.LittleEndian.PutUint32(raw[64+3*48:], indexFromVersion)
	b, _, _ := Open(raw)
	if v, _ := b.FromVersion().Get(0); v != math.MaxUint32 {
		t.Error(v)
	}
	for _, f := range []func(){func() { b.EventTime() }, func() { b.Texts(0) }, func() { b.Int64s(9) }, func() { b.Int64s(-1) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		}()
	}
}

type hit struct {
	row, rule, severity int
	note                string
}

// read is an answer as the host reads it; it checks what the host would.
func read(t *testing.T, b []byte) (hits []hit) {
	t.Helper()
	out, n, count := u32(b, 28), u32(b, 36), u32(b, 56)
	free := out + count*hitSize
	if n > u32(b, 32) || free > out+n {
		t.Fatalf("%d hits in %d bytes of %d", count, n, u32(b, 32))
	}
	for i := range count {
		rec := b[out+i*hitSize:]
		h := hit{u32(rec, 0), u32(rec, 4), u32(rec, 8), ""}
		if at := u32(rec, 12); at > 0 {
			n := u32(b, at)
			if at < free || n > noteMax || at+4+n > out+u32(b, 36) || !json.Valid(b[at+4:][:n]) {
				t.Fatalf("hit %d: a note at %d, from %d on is free, %d bytes: %s", i, at, free, n, b[at+4:][:min(n, 200)])
			}
			free = at + 4 + n
			h.note = string(b[at+4 : free])
		}
		hits = append(hits, h)
	}
	return hits
}

// The golden answer is written again.
func TestGoldenAnswer(t *testing.T) {
	want := read(t, file(t, "hits.bin"))
	b := aligned(file(t, "all_types.bin"))
	_, hits, err := Open(b)
	if err != nil {
		t.Fatal(err)
	}
	hits.Add(0, 1)
	hits.AddAs(2, 1, Critical)
	hits.Note().Array("why").String("", "é").Object("").Int("n", 1)
	hits.AddAs(2, 7, Medium)
	hits.Note()
	if code, got := hits.finish(), read(t, b); code != 0 || !reflect.DeepEqual(got, want) || len(want) != 3 {
		t.Errorf("%d, %v; want %v", code, got, want)
	}
}

// empty is a batch of rows without columns, with so much room.
func empty(rows, room int) []byte {
	b := aligned(make([]byte, 64+room))
	for at, v := range map[int]int{0: batchMagic, 4: 64, 8: 64 + room, 12: rows, 20: 64, 24: 48, 28: 64, 32: room} {
		binary.LittleEndian.PutUint32(b[at:], uint32(v))
	}
	return b
}

// asked runs a rule as the host does: with more room when it asks for it.
func asked(t *testing.T, rows int, rule func(*Hits)) []hit {
	t.Helper()
	for room := 16*rows + 4096; ; {
		b := empty(rows, room)
		_, hits, err := Open(b)
		if err != nil {
			t.Fatal(err)
		}
		rule(hits)
		code := hits.finish()
		if code == 0 {
			return read(t, b)
		}
		more := u32(b, 36)
		if code != int32(TooSmall) || more <= room || more > 4<<20 {
			t.Fatalf("%d, %d after %d", code, more, room)
		}
		room = more
	}
}

func TestHitsAndNotesFindRoom(t *testing.T) {
	for _, c := range []struct{ rows, rules, note int }{{1, 1, 4000}, {1, 300, 1}, {4, 2, 900}, {100, 1, 200}, {100, 9, 30}, {1000, 3, 0}, {4096, 2, 20}} {
		text := strings.Repeat("x", c.note)
		var want []hit
		for row := range c.rows {
			for rule := 1; rule <= c.rules; rule++ {
				h := hit{row: row, rule: rule}
				if (row+rule)%3 != 0 && c.note > 0 {
					h.note = fmt.Sprintf(`{"row":%d,"t":"%s"}`, row, text)
				}
				want = append(want, h)
			}
		}
		got := asked(t, c.rows, func(hits *Hits) {
			for _, h := range want {
				if hits.Add(h.row, uint32(h.rule)); h.note != "" {
					hits.Note().Uint("row", uint64(h.row)).String("t", text)
				}
			}
		})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %d hits, not %d", c, len(got), len(want))
		}
	}
}

func TestNotes(t *testing.T) {
	one := func(note func(n *Note)) string {
		return asked(t, 1, func(h *Hits) { h.Add(0, 1); note(h.Note()) })[0].note
	}
	for want, note := range map[string]func(n *Note){
		`{}`: func(*Note) {},
		`{"a\"":"\\ \u0001\u001f ` + "\x7f" + `日"}`:        func(n *Note) { n.String("a\"", "\\ \x01\x1f \x7f日") },
		`{"b":"a` + "\ufffd" + `b` + "\ufffd\ufffd" + `"}`: func(n *Note) { n.Text("b", []byte("a\xffb\xe6\x97")) },
		`{"i":-9223372036854775808,"z":0,"u":18446744073709551615,"t":true,"f":false}`: func(n *Note) {
			n.Int("i", math.MinInt64).Int("z", 0).Uint("u", math.MaxUint64).Bool("t", true).Bool("f", false)
		},
		`{"a":0.25,"b":-1.0,"c":null,"d":null,"e":123456789012.500000,"f":0.00,"g":7}`: func(n *Note) {
			n.Float("a", 0.25, 2).Float("b", -1.005, 1).Float("c", math.NaN(), 3).Float("d", 1e300, 0).Float("e", 123456789012.5, 9).Float("f", -0.001, 2).Float("g", 7, 0)
		},
		`{"a":[1,{"k":"v"},[]],"z":2}`: func(n *Note) {
			n.Array("a").Int("", 1).Object("").String("k", "v").End().Array("").End().End().Int("z", 2)
		},
		`{"a":[]}`: func(n *Note) { n.End().End().Array("a") },
		`{"a":[[[[[[[]]]]]]],"z":2,"truncated":true}`: func(n *Note) { // the eighth level is the last
			for range 12 {
				n.Array("a")
			}
			n.Int("", 1)
			for range 12 {
				n.End()
			}
			n.Int("z", 2)
		},
		`{"truncated":true}`: func(n *Note) { n.Text("a", bytes.Repeat([]byte{1}, 900)) },
	} {
		if got := one(note); got != want {
			t.Errorf("%s; want %s", got, want)
		}
	}
	long := one(func(n *Note) { // a field that does not fit is left out whole, later ones may fit
		n.String("a", strings.Repeat("x", 5000)).Array("b")
		for range 2000 {
			n.Int("", 123456)
		}
		n.End().Int("c", 1)
	})
	if !strings.HasPrefix(long, `{"b":[123456,123456`) || !strings.HasSuffix(long, `123456],"truncated":true}`) || len(long) > noteMax || len(long) < noteMax-16 {
		t.Errorf("%d bytes: %s", len(long), long)
	}
}

// Times are what the package time says they are.
func TestNoteTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	edges := []int64{0, -1, 951_782_400_000, -62_167_219_200_000, -62_167_219_200_001, 253_402_300_799_999, 253_402_300_800_000, math.MinInt64, math.MaxInt64}
	asked(t, 4096, func(h *Hits) { // in one batch, as many as it takes
		for i := range 4096 {
			ms := r.Int64N(400_000_000_000_000) - 100_000_000_000_000
			if i < len(edges) {
				ms = edges[i]
			}
			want := "null"
			if at := time.UnixMilli(ms).UTC(); at.Year() >= 0 && at.Year() <= 9999 {
				want = at.Format(`"2006-01-02T15:04:05.000Z"`)
			}
			h.Add(i, 1)
			n := h.Note().Time("t", ms)
			if got := string(n.b); h.more == 0 && got != `{"t":`+want {
				t.Fatalf("%d: %s; want %s", ms, got, want)
			}
		}
	})
}

func TestTexts(t *testing.T) {
	pieces := []string{"", "a", "A", "ab", "aB", "b", "日", "-", "aab", "ß"}
	fold := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= 'A' && r <= 'Z' {
				r += 0x20
			}
			return r
		}, s)
	}
	for _, x := range pieces {
		for _, y := range pieces {
			for _, z := range pieces {
				s := x + y + x + z
				for _, needle := range pieces {
					if got := ContainsNoCase([]byte(s), needle); got != strings.Contains(fold(s), fold(needle)) {
						t.Fatalf("contains %q %q: %v", s, needle, got)
					}
					if got := EndsNoCase([]byte(s), needle); got != strings.HasSuffix(fold(s), fold(needle)) {
						t.Fatalf("ends %q %q: %v", s, needle, got)
					}
					if got := EqualNoCase([]byte(s), needle); got != (fold(s) == fold(needle)) {
						t.Fatalf("equal %q %q: %v", s, needle, got)
					}
				}
			}
		}
	}
}

func TestConfig(t *testing.T) {
	c := Config(` {"a": 5, "b" : -7.50e1,"t":"x\n\u00e9\ud83d\ude00\"", "l": [1, [2,{}], "a,]b", {"k": [ ]}], "o": {"a": 6, "y": true}, "n":null,"e":[]} `)
	if got := []int64{c.Int("a", 0), c.Int("b", 0), c.Int("t", 3), c.Int("none", 4), c.Int("n", 9)}; !reflect.DeepEqual(got, []int64{5, -75, 3, 4, 9}) {
		t.Error(got)
	}
	if got := []float64{c.Float("a", 0), c.Float("b", 0), c.Float("o", 0.5)}; !reflect.DeepEqual(got, []float64{5, -75, 0.5}) {
		t.Error(got)
	}
	if c.Text("t", "") != "x\né😀\"" || c.Text("a", "no") != "no" || c.Bool("a", true) != true {
		t.Errorf("%q", c.Text("t", ""))
	}
	o, _ := c.Get("o")
	y, _ := o.Get("y")
	if v, ok := y.Bool(); !v || !ok {
		t.Error(y)
	}
	if _, ok := o.Get("z"); ok {
		t.Error("z is there")
	}
	l, _ := c.Get("l")
	if got := l.Items(); !reflect.DeepEqual(got, []JSON{"1", "[2,{}]", `"a,]b"`, `{"k": [ ]}`}) {
		t.Error(got)
	}
	if e, _ := c.Get("e"); len(e.Items()) != 0 {
		t.Error(e)
	}
	for _, c := range []Config{"{}", "", "[]", "{"} {
		if _, ok := c.Get("a"); ok {
			t.Error(c)
		}
	}
}

// What a test of a rule on the machine at hand gets is a host without state, as the contract allows.
func TestHostOfTheMachineAtHand(t *testing.T) {
	if _, err := Value(0).Get(0, nil); err != Unsupported {
		t.Error(err)
	}
	if _, err := Map(0).Put(0, []byte("k"), nil); err != Unsupported {
		t.Error(err)
	}
	if _, err := Value(0).Add(0, 1); err == nil {
		t.Error("no error")
	}
	if err := TimerSet(0, 1, 2); err != Unsupported {
		t.Error(err)
	}
}

// Nothing is allocated for a row.
func TestAllocations(t *testing.T) {
	b := aligned(file(t, "many_rows.bin"))
	batch, hits, err := Open(b)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(10, func() {
		hits.open(b, batch.Rows)
		numbers, texts := batch.Int64s(0), batch.Texts(1)
		for row := range batch.Rows {
			if v, ok := numbers.Get(row); ok && v%100 == 7 && len(texts.At(row)) > 3 {
				hits.Add(row, 1)
				hits.Note().Int("n", v).Text("t", texts.At(row)).Float("f", 0.5, 2)
			}
		}
	})
	if code := hits.finish(); n > 0 || code != 0 || len(read(t, b)) == 0 {
		t.Errorf("%v allocations, code %d", n, code)
	}
}

// Whatever bytes are opened: an error, or a batch that can be read to its end.
func FuzzOpen(f *testing.F) {
	for _, name := range []string{"all_types", "cut", "one_row"} {
		b, err := os.ReadFile(golden + name + ".bin")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, hits, err := Open(aligned(raw))
		if err != nil {
			return
		}
		for i := range b.columns {
			for name, typ := range map[string]uint16{"bool": typeBool, "i32": typeI32, "i64": typeI64, "u32": typeU32, "u64": typeU64, "f64": typeF64, "utf8": typeUTF8, "ip": typeIP} {
				if binary.LittleEndian.Uint16(b.b[b.first+i*b.stride+4:]) == typ {
					shown(b, i, name)
				}
			}
		}
		for row := range min(b.Rows, 100) {
			hits.Add(row, 1)
			hits.Note().Int("row", int64(row))
		}
		hits.finish()
	})
}
