package event

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// without is what Without means, over a decoded value: path is the dotted name of the value.
func without(v any, path string, names []string) any {
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, v := range x {
			at := strings.TrimPrefix(path+"."+name, ".")
			if path == "" {
				at = name
			}
			if hidden := func() bool {
				for _, n := range names {
					if at == n || strings.HasPrefix(at, n+".") {
						return true
					}
				}
				return false
			}(); !hidden {
				out[name] = without(v, at, names)
			}
		}
		return out
	case []any:
		out := []any{}
		for _, v := range x {
			out = append(out, without(v, path, names))
		}
		return out
	}
	return v
}

func decoded(t *testing.T, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}

func TestWithout(t *testing.T) {
	h := NewHidden([]string{"asset.owner", "asset.tier", "list"})
	for _, x := range []struct{ in, want string }{
		{` {"a": 1, "asset":{"ip":"x"}} `, ` {"a": 1, "asset":{"ip":"x"}} `},
		{`{"asset":{"owner":"me", "ip" : [1, 2]},"b":1.0}`, `{"asset":{"ip":[1, 2]},"b":1.0}`},
		{`{"asset.owner":"me","asset":{"tier":{"x":1}},"list":[],"listed":2}`, `{"asset":{},"listed":2}`},
		{`{"\u0061sset":{"own\u0065r":1,"z":"é"}}`, `{"\u0061sset":{"z":"é"}}`},
		{`{"asset":[{"owner":1,"n":1},[{"owner":2}],"owner"],"asset.owner.x":1}`, `{"asset":[{"n":1},[{}],"owner"]}`},
		{`{"list":1,"list":2,"a":{"list":3}}`, `{"a":{"list":3}}`},
		{`{"asset":{"owner":1,}}`, `{"asset":{"owner":1,}}`}, // no JSON: nobody calls it an event
	} {
		if got := string(h.Without([]byte(x.in))); got != x.want {
			t.Errorf("%s: %s, want %s", x.in, got, x.want)
		}
	}
}

// Any value without the members is what a model says; what has none is itself.
func TestWithoutAgainstModel(t *testing.T) {
	seed := uint64(rand.Uint32())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	names := []string{"a", "b", "a.b", "b.a", "é", "c", "a.b.c", "ab"}
	var value func(depth int) string
	value = func(depth int) string {
		switch n := r.IntN(8); {
		case depth > 4 || n < 2:
			return []string{"1", `"a"`, "null", "true", `"\"a\":"`, "[]", "{}", "1e5"}[r.IntN(8)]
		case n < 4:
			var all []string
			for range r.IntN(3) {
				all = append(all, value(depth+1))
			}
			return "[ " + strings.Join(all, " ,") + "]"
		}
		var all []string
		for range r.IntN(5) {
			name, _ := json.Marshal(names[r.IntN(len(names))])
			if r.IntN(4) == 0 {
				name = bytes.ReplaceAll(name, []byte("a"), []byte(`\u0061`))
			}
			all = append(all, string(name)+[]string{":", " : "}[r.IntN(2)]+value(depth+1))
		}
		return "{" + strings.Join(all, ", ") + " }"
	}
	cut := 0
	for range 20_000 {
		var hide []string
		for range 1 + r.IntN(3) {
			hide = append(hide, names[r.IntN(len(names))])
		}
		in := value(0)
		got := NewHidden(hide).Without([]byte(in))
		want := without(decoded(t, []byte(in)), "", hide)
		if !reflect.DeepEqual(decoded(t, got), want) {
			t.Fatalf("%s without %q: %s", in, hide, got)
		}
		if string(got) != in {
			cut++
		}
	}
	if cut < 1000 {
		t.Errorf("%d values had something to hide", cut)
	}
}

func FuzzWithout(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[{"c":1}]},"a.b":2}`), "a.b")
	f.Fuzz(func(t *testing.T, in []byte, name string) {
		got := NewHidden([]string{name}).Without(bytes.Clone(in))
		if json.Valid(in) != json.Valid(got) {
			t.Fatalf("%q without %q: %q", in, name, got)
		}
	})
}

// What an event costs in which nothing is hidden, one in which something is called alike, and one in which it is.
func BenchmarkWithout(b *testing.B) {
	h := NewHidden([]string{"asset.owner", "asset.tier"})
	for name, text := range map[string]string{
		"nothing": `{"time":"2026-03-02T08:13:02.193Z","src":"10.9.0.99","dst":"198.51.100.217","port":23,"verdict":"drop","user":"somebody","path":"C:\\Windows\\System32"}`,
		"alike":   `{"time":"2026-03-02T08:13:02.193Z","src":"10.9.0.99","dst":"198.51.100.217","port":23,"verdict":"drop","user":"somebody","asset_id":"C:\\Windows\\System32"}`,
		"hidden":  `{"time":"2026-03-02T08:13:02.193Z","src":"10.9.0.99","dst":"198.51.100.217","port":23,"verdict":"drop","user":"somebody","asset":{"owner":"32","x":1}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			in := []byte(text)
			for range b.N {
				_ = h.Without(in)
			}
		})
	}
}
