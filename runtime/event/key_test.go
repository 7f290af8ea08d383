package event

import (
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	same := [][]Value{
		{num("1"), num("1.0"), num("10e-1"), num("0.1e1")}, {num("0"), num("-0"), num("0.0"), num("-0e5")}, {num("1e20"), num("100000000000000000000")},
		{num("18446744073709551615"), num("18446744073709551615.0"), num("1844674407370955161500e-2")},
		{num("18446744073709551616")}, {num("9007199254740993.0"), num("9007199254740993")}, {num("1e400"), num("10e399"), num("0.1e401")}, {num("2e400")}, {num("-1e400")},
		{num("1e-400")}, {num("0.1"), num("1e-1")}, {num("0.1000000000000000055511151231257827"), num("1000000000000000055511151231257827e-34")}, {num("1.5"), num("15e-1")},
		{str("1")}, {str("")}, {{Null, nil}, {Absent, nil}}, {{Bool, []byte("true")}}, {str("true")}, {num("9007199254740992")}, {{Object, []byte("{}")}}, {{Array, []byte("[]")}}, {str("null")},
	}
	seen := map[string]int{}
	for i, group := range same {
		for _, v := range group {
			k := string(AppendKey(nil, v))
			if j, ok := seen[k]; ok && j != i {
				t.Errorf("%v %q has the key of another value", v.Kind, v.Text)
			} else if !ok && v.Text != nil && string(v.Text) != string(group[0].Text) {
				t.Errorf("%v %q has not the key of %q", v.Kind, v.Text, group[0].Text)
			}
			seen[k] = i
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("text", "12.50", "1250e-2", []byte("s\x01x"))
	f.Add("", "-0", "0", []byte{tagNumber, 1, 'x'})
	f.Fuzz(func(t *testing.T, s, n1, n2 string, raw []byte) {
		k := AppendKey(AppendKey(nil, str(s)), Value{Null, nil})
		v, rest, err := ReadKey(k)
		if err != nil || v.Kind != String || string(v.Text) != s || len(rest) != 2 {
			t.Fatalf("%q came back as %v %q, %v", s, v.Kind, v.Text, err)
		}
		p, q := rational(n1), rational(n2)
		if p != nil && q != nil {
			a, b := AppendKey(nil, num(n1)), AppendKey(nil, num(n2))
			if (p.Cmp(q) == 0) != slices.Equal(a, b) {
				t.Fatalf("%s has the key %q, %s %q", n1, a, n2, b)
			}
			v, _, err := ReadKey(a)
			if back := rational(string(v.Text)); err != nil || v.Kind != Number || back == nil || back.Cmp(p) != 0 {
				t.Fatalf("the key of %s reads %s, %v", n1, v.Text, err)
			}
		}
		_, _, _ = ReadKey(raw)
	})
}

// rational is a JSON number by math/big, nil if it is none, or of an exponent that would take long.
func rational(s string) *big.Rat {
	if i := strings.IndexAny(s, "eE"); i >= 0 && len(s)-i > 5 || !json.Valid([]byte(s)) || s == "null" {
		return nil
	}
	r, _ := new(big.Rat).SetString(strings.TrimSpace(s))
	if r == nil || !isNumber([]byte(s)) {
		return nil
	}
	return r
}

// Floor is that of math/big, wherever the point is put.
func FuzzFloor(f *testing.F) {
	for i, s := range []string{"1591367999.305", "-0.5", "-1", "9223372036854775807.9", "-9223372036854775808.5", "1e30", "123e-5"} {
		f.Add(s, int8(i-3))
	}
	f.Fuzz(func(t *testing.T, s string, shift int8) {
		r := rational(s)
		if r == nil {
			return
		}
		d, _ := ParseDecimal([]byte(s))
		got, ok := d.Floor(int(shift))
		ten := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(shift, -shift))), nil))
		if int(shift) == -128 {
			return // its negation is itself
		}
		if shift < 0 {
			ten.Inv(ten)
		}
		r.Mul(r, ten)
		want := new(big.Int).Div(r.Num(), r.Denom()) // Euclidean, and the denominator is positive: the floor
		if ok != want.IsInt64() || ok && got != want.Int64() {
			t.Fatalf("%s shifted by %d: %d %v, want %s", s, shift, got, ok, want)
		}
	})
}

func FuzzJSONString(f *testing.F) {
	f.Add([]byte("a\"\\\n\t\x00\x1f\u2028é\xff\xc3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got string
		if err := json.Unmarshal(AppendJSONString(nil, b), &got); err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(string(b))); got != want {
			t.Fatalf("%q: %q, want %q", b, got, want)
		}
	})
}

func TestNumbers(t *testing.T) {
	for _, s := range []string{"0", "-0", "12", "-12", "007", "1.5", "1.", ".5", "1e5", "1e", "+1", "0x10", "inf", "NaN", "", "-", "123456789012345678", "9223372036854775808", "1_000"} {
		f, ok := num(s).Float()
		want, err := strconv.ParseFloat(s, 64)
		if valid := json.Valid([]byte(s)) && err == nil; ok != valid || ok && f != want {
			t.Errorf("%q: %v %v, want %v %v", s, f, ok, want, valid)
		}
		n, ok := num(s).Int()
		wantInt, err := strconv.ParseInt(s, 10, 64)
		if valid := json.Valid([]byte(s)) && err == nil; ok != valid || ok && n != wantInt {
			t.Errorf("%q: %v %v, want %v %v", s, n, ok, wantInt, valid)
		}
	}
	for path, want := range map[string][]string{"a": {"a"}, "a.b": {"a", "b"}, `a\.b.c`: {"a.b", "c"}, `a\|b`: {"a|b"}, "": {""}, "a.": {"a", ""}} {
		if got := SplitPath(path); !slices.Equal(got, want) {
			t.Errorf("%q: %q", path, got)
		}
	}
}
