package table

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// mmdbOf writes a database of networks, the wider ones first.
func mmdbOf(t testing.TB, version, size int, nets map[netip.Prefix]mmdbtype.DataType) []byte {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "test", IPVersion: version, RecordSize: size, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	var all []netip.Prefix
	for p := range nets {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return bitsOf(a) - bitsOf(b) })
	for _, p := range all {
		_, ipNet, err := net.ParseCIDR(p.String())
		if err == nil {
			err = w.Insert(ipNet, nets[p])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bitsOf are the bits of a network in the addresses of both kinds.
func bitsOf(p netip.Prefix) int {
	if p.Addr().Is4() {
		return p.Bits() + 96
	}
	return p.Bits()
}

func place(iso, city string, lat float64) mmdbtype.Map {
	return mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(iso)}, "city": mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String(city), "de": mmdbtype.String(city + "<ü>")}},
		"location": mmdbtype.Map{"latitude": mmdbtype.Float64(lat)}, "id": mmdbtype.Uint64(1<<63 + 1), "sub": mmdbtype.Slice{mmdbtype.String("first"), mmdbtype.Bool(true)}}
}

// A database says of an address what it says of the smallest network that it is in, as values of JSON's kinds.
func TestReadMMDB(t *testing.T) {
	data := mmdbOf(t, 6, 28, map[netip.Prefix]mmdbtype.DataType{
		netip.MustParsePrefix("10.0.0.0/8"): place("DE", "Bonn", 50.5), netip.MustParsePrefix("10.1.0.0/16"): place("FR", "Lyon", -1),
		netip.MustParsePrefix("10.2.0.0/16"): place("DE", "Bonn", 50.5), netip.MustParsePrefix("2001:db8::/32"): mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("US")}},
	})
	path := write(t, "geo.mmdb", string(data))
	spec := Spec{Path: path, Format: "mmdb", Columns: []string{"country.iso_code", "city.names.de", "location.latitude", "id", "sub.0", "sub.1", "city"}}
	tab, err := Read(spec)
	if err != nil {
		t.Fatal(err)
	}
	const bonn = `country.iso_code="DE" city.names.de="Bonn<ü>" location.latitude=50.5 id=9223372036854775809 sub.0="first" sub.1=true city={"names":{"de":"Bonn<ü>","en":"Bonn"}}`
	for ask, want := range map[string]string{"10.3.4.5": bonn, "::ffff:10.2.0.1": bonn, "10.255.255.255": bonn, "11.0.0.0": "none", "9.255.255.255": "none", "2001:db8::1": `country.iso_code="US"`,
		"2001:db9::": "none", "10.1.2.3": strings.NewReplacer("DE", "FR", "Bonn", "Lyon", "50.5", "-1").Replace(bonn), "no address": "none", "::1": "none"} {
		if got := found(tab, text(ask)); got != want {
			t.Errorf("%s: %s, want %s", ask, got, want)
		}
	}
	distinct := 0
	for _, c := range tab.chunks {
		distinct += strings.Count(string(c), "Bonn<")
	}
	if distinct != 2 || !slices.Equal(tab.Columns(), spec.Columns) { // as a column, and within another
		t.Errorf("%d texts, columns %q", distinct, tab.Columns())
	}
	for _, x := range []struct {
		spec  func(*Spec)
		fault string
	}{
		{func(s *Spec) { s.Columns = []string{"country.isocode"} }, `no network has the field "country.isocode"; there is city.names.de, city.names.en, country.iso_code, id, location.latitude, sub.0, sub.1`},
		{func(s *Spec) { s.Types = map[string]string{"country.iso_code": "int"} }, `the network 10.0.0.0/16: country.iso_code is of the type int, and "DE" is none`},
	} {
		s := spec
		x.spec(&s)
		if _, err := Read(s); err == nil || err.Error() != path+": "+x.fault {
			t.Errorf("%v, want %s", err, x.fault)
		}
	}
}

// What is found is what the longest of all networks that hold the address says, worked out one by one.
func TestMMDBAgainstModel(t *testing.T) {
	seed := uint64(rand.Uint32())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for c := range 60 {
		version := []int{4, 6}[r.IntN(2)]
		addr := func() netip.Addr { // near one another
			if b := [16]byte{0x20, 0x03, 14: byte(r.IntN(4)), 15: byte(r.IntN(256))}; version == 6 && r.IntN(2) == 0 {
				b[2], b[8] = byte(r.IntN(3)), byte(r.IntN(3))
				return netip.AddrFrom16(b)
			}
			return netip.AddrFrom4([4]byte{byte(r.IntN(3)) * 127, byte(r.IntN(2)) * 255, byte(r.IntN(3)), byte(r.IntN(256))})
		}
		nets := map[netip.Prefix]mmdbtype.DataType{}
		for range r.IntN(40) {
			a := addr()
			p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
			if p.Addr().Is6() && p.Bits() < 20 { // the writer's aliases are in the way of wider ones
				continue
			}
			nets[p] = mmdbtype.Map{"v": mmdbtype.Int32(r.IntN(5))}
		}
		path := write(t, fmt.Sprint(c, ".mmdb"), string(mmdbOf(t, version, []int{24, 28, 32}[r.IntN(3)], nets)))
		spec := Spec{Path: path, Format: "mmdb", Columns: []string{"v"}}
		tab, err := Read(spec)
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			a := addr()
			if r.IntN(4) == 0 {
				for p := range nets {
					if a = p.Addr().Prev(); !a.IsValid() || r.IntN(2) == 0 {
						a = p.Addr()
					}
					break
				}
			}
			want, bits := "none", -1
			for p, says := range nets {
				if p.Contains(a) && p.Bits() > bits {
					bits, want = p.Bits(), fmt.Sprint("v=", says.(mmdbtype.Map)["v"])
				}
			}
			if got := found(tab, text(a.String())); got != want {
				t.Fatalf("case %d: %s: %s, want %s", c, a, got, want)
			}
		}
	}
}

// A database that is cut off or damaged anywhere is a Fault, or a table; never a panic. A cut is always a Fault.
func TestDamagedMMDB(t *testing.T) {
	seed := uint64(rand.Uint32())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	nets := map[netip.Prefix]mmdbtype.DataType{}
	for i := range 50 {
		nets[netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)] = place("DE", fmt.Sprint("city ", i%7), float64(i))
	}
	good := mmdbOf(t, 6, 24, nets)
	path := filepath.Join(t.TempDir(), "d.mmdb")
	read := func(data []byte) error {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		tab, err := Read(Spec{Path: path, Format: "mmdb", Columns: []string{"city.names.en", "sub"}})
		if err == nil {
			for i := range 300 {
				found(tab, text(fmt.Sprintf("10.%d.0.1", i%256)))
			}
		} else if _, ok := err.(*Fault); !ok || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%T %v", err, err)
		}
		return err
	}
	if err := read(good); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := read(good[:r.IntN(len(good))]); err == nil {
			t.Error("half a database is none")
		}
		bad := slices.Clone(good)
		for range 1 + r.IntN(4) {
			bad[r.IntN(len(bad))] = byte(r.IntN(256))
		}
		_ = read(bad)
	}
	faults := 0
	for at := range 6 * 100 { // the search tree: nodes that lead anywhere
		bad := slices.Clone(good)
		bad[at] = byte(r.IntN(3))
		if read(bad) != nil {
			faults++
		}
	}
	if faults == 0 {
		t.Error("no tree was found to be damaged")
	}
}

// A reload keeps the old table if the new file is no database.
func TestReloadMMDB(t *testing.T) {
	ten := netip.MustParsePrefix("10.0.0.0/8")
	path := write(t, "geo.mmdb", string(mmdbOf(t, 4, 24, map[netip.Prefix]mmdbtype.DataType{ten: place("DE", "Bonn", 1)})))
	s, err := NewSource("geo", Spec{Path: path, Format: "mmdb", Columns: []string{"country.iso_code"}})
	if err != nil {
		t.Fatal(err)
	}
	next := mmdbOf(t, 4, 24, map[netip.Prefix]mmdbtype.DataType{ten: place("FR", "Lyon", 1)})
	for _, x := range []struct {
		data []byte
		want string
	}{{next[:len(next)-40], "DE"}, {next, "FR"}, {nil, "FR"}} {
		if err := os.WriteFile(path, x.data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(); (err == nil) != (len(x.data) == len(next)) {
			t.Error(err)
		}
		if got := found(s.Table(), event.Value{Kind: event.String, Text: []byte("10.0.0.1")}); got != `country.iso_code="`+x.want+`"` {
			t.Errorf("%s, want %s", got, x.want)
		}
	}
}
