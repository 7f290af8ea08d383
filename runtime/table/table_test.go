package table

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func text(s string) event.Value   { return event.Value{Kind: event.String, Text: []byte(s)} }
func number(s string) event.Value { return event.Value{Kind: event.Number, Text: []byte(s)} }

// found shows the row of a value as JSON by column.
func found(t *Table, v event.Value) string {
	var f Finder
	row := f.Find(t, []event.Value{v})[0]
	if !row.Known() {
		return "none"
	}
	var b []byte
	for i, c := range t.Cells(nil, row) {
		if c.Kind != event.Absent {
			b = c.AppendJSON(append(b, t.Columns()[i]+"="...))
			b = append(b, ' ')
		}
	}
	return strings.TrimSpace(string(b))
}

func TestReadCSV(t *testing.T) {
	path := write(t, "a.csv", "\ufeffowner,ip,tier,\"note, free\"\r\nann,10.0.0.1,3,\r\n\r\n\"bo \"\"b\"\"\",10.0.0.2,,\"two\r\nlines\"\r\nport,443,01,\xff\n")
	tab, err := Read(Spec{Path: path, Format: "csv", Key: "ip"})
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range map[string]string{"10.0.0.1": `ip="10.0.0.1" owner="ann" tier="3"`, "10.0.0.2": `ip="10.0.0.2" owner="bo \"b\"" note, free="two\nlines"`,
		"443": `ip="443" owner="port" tier="01" note, free="` + "\uFFFD" + `"`, "10.0.0.3": "none", "": "none"} {
		if got := found(tab, text(v)); got != want {
			t.Errorf("%s: %s, want %s", v, got, want)
		}
	}
	for _, v := range []string{"443", "443.0", "44.3e1"} { // a key without a type is what is written
		if got := found(tab, number(v)); !strings.Contains(got, "port") {
			t.Errorf("%s: %s", v, got)
		}
	}
	if got := strings.Join(tab.Columns(), "|"); got != "ip|owner|tier|note, free" || tab.Rows() != 3 {
		t.Errorf("%s, %d rows", got, tab.Rows())
	}
	for _, v := range []event.Value{{}, {Kind: event.Null}, {Kind: event.Bool, Text: []byte("true")}, {Kind: event.Array, Text: []byte("[443]")}} {
		if got := found(tab, v); got != "none" {
			t.Errorf("%v: %s", v, got)
		}
	}
}

// A type makes a key a number, and no text is one; JSON has its own kinds.
func TestTypes(t *testing.T) {
	path := write(t, "a.csv", "port,on,ratio,since,addr\n443,true,1.50,2026-01-01T00:00:00Z,::1\n")
	types := map[string]string{"port": "int", "on": "bool", "ratio": "float", "since": "timestamp", "addr": "ip"}
	tab, err := Read(Spec{Path: path, Format: "csv", Key: "port", Types: types})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := found(tab, number("443.0")), `port=443 on=true ratio=1.50 since="2026-01-01T00:00:00Z" addr="::1"`; got != want || found(tab, text("443")) != "none" {
		t.Errorf("%s, want %s", got, want)
	}
	path = write(t, "a.jsonl", `{"n":7,"x":null,"id":"1","o":{"a":[1]}}`+"\n\n"+` {"id":1.0,"n":"8","new\t":"\u00e9\"","n":9}`+"\r\n"+`{"id":true}`)
	tab, err = Read(Spec{Path: path, Format: "jsonl", Key: "id", Types: map[string]string{"n": "string", "later": "int"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		v    event.Value
		want string
	}{{text("1"), `id="1" n="7" x=null o={"a":[1]}`}, {number("1"), `id=1 n="9" new` + "\t" + `="é\""`}, {event.Value{Kind: event.Bool, Text: []byte("true")}, "id=true"}, {text("true"), "none"}} {
		if got := found(tab, x.v); got != x.want {
			t.Errorf("%s: %s, want %s", x.v.Text, got, x.want)
		}
	}
	if got := strings.Join(tab.Columns(), "|"); got != "id|n|x|o|new\t|later" {
		t.Error(got)
	}
}

func TestFaults(t *testing.T) {
	long := strings.Repeat("x", rowMax+100_000)
	var wide []string
	for i := range columnsMax + 1 {
		wide = append(wide, fmt.Sprint("c", i))
	}
	for _, x := range []struct {
		name, text, want string
		spec             Spec
	}{
		{"a.csv", "", `1:1: the file is empty; its first row names the columns`, Spec{}},
		{"a.csv", "a,b\n1,2\n", `1:1: there is no column "id"; there is a, b`, Spec{}},
		{"a.csv", "id,b\n1,2\n", `1:1: there is no column "c"; there is id, b`, Spec{Types: map[string]string{"c": "int"}}},
		{"a.csv", "id,a, a\n", `1:6: there is a column "a" already`, Spec{}},
		{"a.csv", "id,,b\n", `1:4: a column's name has 1 to 512 bytes, not 0`, Spec{}},
		{"a.csv", strings.Join(wide, ",") + "\n", `1:4891: there are more than 1000 columns`, Spec{Key: "c5"}},
		{"a.csv", "id,a\n1,2\n2\n", `3:1: the row has 1 cells, and the header 2`, Spec{}},
		{"a.csv", "id,a\n1,2\n2,3,4\n", `3:1: the row has 3 cells, and the header 2`, Spec{}},
		{"a.csv", "id,a\n1,2\n\n2,3\n1,4\n", `5:1: the key "1" is there already, in line 2; keep one`, Spec{}},
		{"a.csv", "id,a\n1,2\n,3\n", `3:1: the row has no key: id is empty`, Spec{}},
		{"a.csv", "a,id\n1,x\"y\n", `2:4: a quote stands in a cell without quotes; write the cell in quotes, and the quote as ""`, Spec{}},
		{"a.csv", "id,a\n1,\"x\n2,y\n", `2:1: a quote stands in the wrong place, or is not closed, in line 3 at 5; a quote within quotes is written ""`, Spec{}},
		{"a.csv", "id,a\n1,2\n2," + long + "\n", `3:1: the row is longer than 1048576 bytes, or a quote is not closed`, Spec{}},
		{"a.csv", "id,a\n1,2\n2,x\n", `3:3: a is of the type int, and "x" is none`, Spec{Types: map[string]string{"a": "int"}}},
		{"a.csv", "id,a\n1,2\n2,01\n", `3:3: a is of the type float, and "01" is none`, Spec{Types: map[string]string{"a": "float"}}},
		{"a.csv", "id,a\n1,yes\n", `2:3: a is of the type bool, and "yes" is none`, Spec{Types: map[string]string{"a": "bool"}}},
		{"a.csv", "id,a\n1,10.0.0.0/8\n", `2:3: a is of the type ip, and "10.0.0.0/8" is none`, Spec{Types: map[string]string{"a": "ip"}}},
		{"a.csv", "id,a\n1,yesterday\n", `2:3: a is of the type timestamp, and "yesterday" is none`, Spec{Types: map[string]string{"a": "timestamp"}}},
		{"a.csv", "id,a\n1.0,2\n1,2\n", `3:1: the key "1" is there already, in line 2; keep one`, Spec{Types: map[string]string{"id": "float"}}},
		{"a.csv", "id,a\n10.0.0.0/8,2\n", `2:1: the key 10.0.0.0/8 is a network: write match: cidr to find addresses in it, or match: exact if it is a text`, Spec{}},
		{"a.csv", "a,id\n2,10.0.0.1/8\n", `2:3: the key 10.0.0.1/8 has bits behind its mask; the network is 10.0.0.0/8`, Spec{Match: MatchNetworks}},
		{"a.csv", "a,id\n2,10.0.0\n", `2:3: the key "10.0.0" is not a network: write an address and the bits of its mask, such as 10.0.0.0/8 or 2001:db8::/32`, Spec{Match: MatchNetworks}},
		{"a.csv", "id,a\n::/0,1\n10.0.0.1,2\n::ffff:10.0.0.1/128,3\n", `4:1: the key "::ffff:10.0.0.1/128" is "10.0.0.1", which is there already, in line 3; keep one`, Spec{Match: MatchNetworks}},
		{"a.csv", "id,a\n10.0.0.0/8,1\n10.1.0.0/16,1\n10.0.0.0/8,3\n", `4:1: the key "10.0.0.0/8" is there already, in line 2; keep one`, Spec{Match: MatchNetworks}},
		{"a.jsonl", "{\"id\":1}\n{\"id\":2,}\n", `2:9: a key must come here`, Spec{}},
		{"a.jsonl", "{\"id\":1}\n[1]\n", `2:1: not a JSON object`, Spec{}},
		{"a.jsonl", "{\"id\":1}\n{\"id\":3}\n{\"id\":1.0}\n", `3:1: the key "1" is there already, in line 1; keep one`, Spec{}},
		{"a.jsonl", "{\"id\":1}\n{\"a\":3}\n", `2:1: the row has no key: id is empty`, Spec{}},
		{"a.jsonl", "{\"id\":1}\n{\"id\":[3]}\n", `2:1: the key id is an array; a key is a text, a number or a bool`, Spec{}},
		{"a.jsonl", "{\"id\":1}\n{\"id\":\"" + long + "\"}\n", `2:1: the row is longer than 1048576 bytes`, Spec{}},
		{"a.jsonl", "{\"id\":1}\n{\"id\":2,\"a\":\"" + long[:rowMax-30] + "\"}\n{\"id\":3,\"a\":{}}\n", `3:1: a is of the type string, and "{}" is none`, Spec{Types: map[string]string{"a": "string"}}},
		{"a.jsonl", "{\"id\":10}\n", `1:1: the key "10" is not a network: write an address and the bits of its mask, such as 10.0.0.0/8 or 2001:db8::/32`, Spec{Match: MatchNetworks}},
	} {
		s := x.spec
		s.Path, s.Format = write(t, x.name, x.text), x.name[2:]
		if s.Key == "" {
			s.Key = "id"
		}
		_, err := Read(s)
		if f, ok := err.(*Fault); !ok || err.Error() != s.Path+":"+x.want || f.Line == 0 {
			t.Errorf("%.60q: %v, want %s", x.text, err, x.want)
		}
	}
	dir := t.TempDir()
	for path, want := range map[string]string{dir: "it is no file with rows", dir + "/none": "no such file or directory; tried " + dir + "/none", os.DevNull: "it is no file with rows"} {
		if _, err := Read(Spec{Path: path, Format: "csv", Key: "id"}); err == nil || err.Error() != path+": "+want {
			t.Errorf("%v", err)
		}
	}
}

// Random tables, in both formats, against a scan of what was written.
func TestFindAgainstScan(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	hits, misses, nested := 0, 0, 0
	for range 60 {
		nets, asCSV := r.IntN(2) == 0, r.IntN(2) == 0
		keys := map[string]bool{}
		var rows [][]string
		for range r.IntN(600) {
			key := fmt.Sprintf("k%d", r.IntN(900))
			if nets {
				key = randomNet(r)
			}
			if !keys[key] {
				keys[key] = true
				rows = append(rows, []string{strings.Repeat("x\",\n", r.IntN(4)) + "y", key, []string{"", strconv.Itoa(r.IntN(99))}[r.IntN(2)]})
			}
		}
		s := Spec{Key: "key", Format: "jsonl"}
		if nets {
			s.Match = MatchNetworks
		}
		var b strings.Builder
		if asCSV {
			s.Format = "csv"
			w := csv.NewWriter(&b)
			_ = w.WriteAll(append([][]string{{"a", "key", "n"}}, rows...))
		} else {
			for _, row := range rows {
				m := map[string]string{"a": row[0], "key": row[1]}
				if row[2] != "" {
					m["n"] = row[2]
				}
				line, _ := json.Marshal(m)
				b.Write(append(line, '\n'))
			}
		}
		s.Path = write(t, "t."+s.Format, b.String())
		tab, err := Read(s)
		if err != nil {
			t.Fatal(err)
		}
		var asks []event.Value
		for range 400 {
			ask := fmt.Sprintf("k%d", r.IntN(900))
			if nets {
				ask = randomAddr(r).String()
			}
			asks = append(asks, text(ask))
		}
		var f Finder
		rowsOf := f.Find(tab, asks)
		for i := range asks {
			ask := string(asks[i].Text)
			want, depth := scan(rows, ask, nets)
			var got []string
			if row := rowsOf[i]; row.Known() {
				cells := tab.Cells(nil, row)
				for _, name := range []string{"a", "key", "n"} {
					cell := "" // no row may have the column
					if at := slices.Index(tab.Columns(), name); at >= 0 {
						cell = string(cells[at].Text)
					}
					got = append(got, cell)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d: %s in %s: %q, want %q", seed, ask, s.Format, got, want)
			}
			if want == nil {
				misses++
			} else {
				hits++
			}
			if depth > 1 {
				nested++
			}
		}
	}
	t.Logf("%d found, %d not, %d in several networks", hits, misses, nested)
	if hits == 0 || misses == 0 || nested == 0 {
		t.Error("the cases do not cover hits, misses and networks within networks")
	}
}

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(3) == 0 {
		return netip.AddrFrom16([16]byte{0x20, 1, byte(r.IntN(2)), 15: byte(r.IntN(4))})
	}
	return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(256))})
}

func randomNet(r *rand.Rand) string {
	a := randomAddr(r)
	p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
	return p.String()
}

// scan goes through all rows, and says in how many networks the address is.
func scan(rows [][]string, ask string, nets bool) (best []string, depth int) {
	most := -1
	for _, row := range rows {
		if !nets {
			if row[1] == ask {
				best = row
			}
			continue
		}
		p := netip.MustParsePrefix(row[1])
		if p.Contains(netip.MustParseAddr(ask)) {
			if depth++; p.Bits() > most {
				best, most = row, p.Bits()
			}
		}
	}
	return best, depth
}

// A mapped address is the IPv4 address that it maps, in keys and in rows; what is no address is in no network.
func TestMappedAddresses(t *testing.T) {
	tab, err := Read(Spec{Path: write(t, "a.csv", "cidr,n\n::ffff:10.0.0.0/104,a\n192.0.2.7,b\n::/0,c\n"), Format: "csv", Key: "cidr", Match: MatchNetworks})
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range map[string]string{"10.1.2.3": "a", "::ffff:10.1.2.3": "a", "192.0.2.7": "b", "192.0.2.8": "none", "fe80::1%eth0": "c", "x": "none", "10.1": "none"} {
		if got := found(tab, text(v)); !strings.HasSuffix(strings.Trim(got, `"`), want) {
			t.Errorf("%s: %s, want %s", v, got, want)
		}
	}
	if found(tab, number("10")) != "none" {
		t.Error("a number is in a network")
	}
}

// A new file takes the place of the old one if it can be read and has the columns; what is more is left out.
func TestReload(t *testing.T) {
	path := write(t, "a.csv", "id,a,b\nk,1,2\n")
	s, err := NewSource("t", Spec{Path: path, Format: "csv", Key: "id"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Changed() {
		t.Error("nothing has changed")
	}
	for _, x := range []struct{ text, want, fault string }{
		{"id,a,b\nk,3,4\n", `id="k" a="3" b="4"`, ""},
		{"id,a,b\nk,5,6\nk,7,8\n", `id="k" a="3" b="4"`, `:3:1: the key "k" is there already, in line 2; keep one`},
		{"id,a\nk,5\n", `id="k" a="3" b="4"`, `:1:1: there is no column "b"; there is id, a`},
		{"b,c,id,a\n9,new,k,8\n", `id="k" a="8" b="9"`, ""},
		{"id,a,b\n", "none", ""},
	} {
		if err := os.WriteFile(path, []byte(x.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if !s.Changed() {
			t.Errorf("%q: no change", x.text)
		}
		err := s.Reload()
		if (err == nil) != (x.fault == "") || err != nil && err.Error() != path+x.fault {
			t.Errorf("%q: %v", x.text, err)
		}
		if got := found(s.Table(), text("k")); got != x.want || s.Changed() {
			t.Errorf("%q: %s, want %s", x.text, got, x.want)
		}
	}
	if err := os.Remove(path); err != nil || !s.Changed() || s.Reload() == nil || s.Changed() || s.Table() == nil {
		t.Error("a file that is gone")
	}
}

// Any file ends in a table or in a Fault; what is in it is found.
func FuzzRead(f *testing.F) {
	f.Add("id,a\n1,2\n", true, false)
	f.Add("id,a\n10.0.0.0/8,\"x\"\n", true, true)
	f.Add(`{"id":"::/0","a":[1]}`, false, true)
	f.Add("{\"id\":1}\n{\"id\":\"1\",\"b\":null}", false, false)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data string, asCSV, nets bool) {
		s := Spec{Path: filepath.Join(dir, fmt.Sprint("f", os.Getpid())), Format: "jsonl", Key: "id"}
		if asCSV {
			s.Format = "csv"
		}
		if nets {
			s.Match = MatchNetworks
		}
		if err := os.WriteFile(s.Path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		tab, err := Read(s)
		if err != nil {
			if _, ok := err.(*Fault); !ok {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		n := 0
		for _, c := range tab.chunks {
			for at := 0; at < len(c); {
				row := Row{data: c[at:]}
				cells := tab.Cells(nil, row)
				if len(cells) != len(tab.columns) {
					t.Fatalf("%d cells", len(cells))
				}
				if !nets {
					var find Finder
					if got := find.Find(tab, cells[:1])[0]; !got.Known() || &got.data[0] != &row.data[0] {
						t.Fatalf("%s is not found", cells[0].Text)
					}
				}
				n++
				at += length(row.data)
			}
		}
		if n != tab.Rows() {
			t.Fatalf("%d rows, want %d", n, tab.Rows())
		}
	})
}

// length is what a row takes.
func length(data []byte) int {
	r := event.Reader{B: data}
	r.Byte()
	r.Bytes()
	for range r.Uint() {
		r.Take(r.Uint() >> 3)
	}
	n := len(data) - len(r.B)
	return (n + align - 1) / align * align
}

// A row as an object has the columns that the row has.
func TestRowAsJSON(t *testing.T) {
	for _, x := range []struct{ file, key, want string }{
		{"a.csv:id,\"a \"\"b\"\"\",c\nk,\"1\n\",\n", "k", `{"id":"k","a \"b\"":"1\n"}`},
		{`b.jsonl:{"id":"k","n":null,"x":{"y":[1]},"f":1.50}`, "k", `{"id":"k","n":null,"x":{"y":[1]},"f":1.50}`},
		{"c.csv:id\nk\n", "k", `{"id":"k"}`},
	} {
		name, text, _ := strings.Cut(x.file, ":")
		_, format, _ := strings.Cut(name, ".")
		tab, err := Read(Spec{Path: write(t, name, text), Format: format, Key: "id"})
		if err != nil {
			t.Fatal(err)
		}
		var f Finder
		row := f.Find(tab, []event.Value{{Kind: event.String, Text: []byte(x.key)}})[0]
		if got := string(tab.AppendJSON([]byte("x"), row)); got != "x"+x.want || !json.Valid([]byte(got[1:])) {
			t.Errorf("%s, want %s", got, x.want)
		}
	}
}

// The figures of a row among a million: time to find it, bytes that it takes beside its texts.
func BenchmarkFind(b *testing.B) {
	const rows = 1_000_000
	r := rand.New(rand.NewPCG(1, 1))
	for _, kind := range []string{"exact", "cidr"} {
		var text strings.Builder
		text.WriteString("key,owner,tier\n")
		seen := map[netip.Prefix]bool{}
		var asks []event.Value
		texts := 0
		for i := 0; i < rows; {
			a := netip.AddrFrom4([4]byte{byte(r.IntN(224)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
			p := netip.PrefixFrom(a, 32)
			key := a.String()
			if kind == "cidr" {
				p = netip.PrefixFrom(a, 16+r.IntN(17)).Masked()
				key = p.String()
			}
			if seen[p] {
				continue
			}
			seen[p] = true
			from := text.Len()
			fmt.Fprintf(&text, "%s,owner-%d,%d\n", key, i%1000, i%5)
			texts += text.Len() - from - 3
			i++
			if i%4 == 0 && len(asks) < 240*1024 {
				asks = append(asks, event.Value{Kind: event.String, Text: []byte(a.String())})
			}
		}
		seen = nil
		r.Shuffle(len(asks), func(i, j int) { asks[i], asks[j] = asks[j], asks[i] })
		var packed []byte // one behind the other, as in a batch
		for i := range asks {
			packed = append(packed, asks[i].Text...)
		}
		for i, at := 0, 0; i < len(asks); i++ {
			n := len(asks[i].Text)
			asks[i].Text = packed[at : at+n]
			at += n
		}
		s := Spec{Path: write(b, "t.csv", text.String()), Format: "csv", Key: "key"}
		if kind == "cidr" {
			s.Match = MatchNetworks
		}
		text.Reset()
		was := heap()
		tab, err := Read(s)
		if err != nil {
			b.Fatal(err)
		}
		took := heap() - was
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			var f Finder
			var cells []event.Value
			for i := 0; i < b.N; i += 256 {
				for _, row := range f.Find(tab, asks[i%len(asks):][:256]) {
					if !row.Known() {
						b.Fatal("not found")
					}
					cells = tab.Cells(cells[:0], row)
				}
			}
			b.ReportMetric(float64(took-int64(texts))/rows, "B/row")
			b.ReportMetric(float64(tab.Bytes())/float64(took), "estimated")
		})
		b.Run(kind+", as an object", func(b *testing.B) {
			b.ReportAllocs()
			var f Finder
			var object []byte
			for i := 0; i < b.N; i++ {
				object = tab.AppendJSON(object[:0], f.Find(tab, asks[i%len(asks):][:1])[0])
			}
		})
		runtime.KeepAlive(tab)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
