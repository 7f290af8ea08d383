package event

import (
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"testing"
)

func TestKeys(t *testing.T) {
	same := [][]Value{
		{num("1"), num("1.0"), num("10e-1"), num("0.1e1")}, {num("0"), num("-0"), num("0.0"), num("-0e5")}, {num("1e20"), num("100000000000000000000")},
		{str("1")}, {str("")}, {{Null, nil}, {Absent, nil}}, {{Bool, []byte("true")}}, {str("true")}, {num("9007199254740993")}, {num("9007199254740992")}, {num("0.1")}, {{Object, []byte("{}")}}, {{Array, []byte("[]")}}, {str("null")},
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
		if isNumber([]byte(n1)) && isNumber([]byte(n2)) && len(n1) < 30 && len(n2) < 30 {
			a, b := AppendKey(nil, num(n1)), AppendKey(nil, num(n2))
			x, err1 := strconv.ParseFloat(n1, 64)
			y, err2 := strconv.ParseFloat(n2, 64)
			if err1 == nil && err2 == nil && slices.Equal(a, b) && x != y {
				t.Fatalf("%s and %s have one key", n1, n2)
			}
			p, _ := new(big.Rat).SetString(n1)
			q, _ := new(big.Rat).SetString(n2)
			if err1 == nil && err2 == nil && p != nil && q != nil && p.Cmp(q) == 0 && !slices.Equal(a, b) && (x < 1<<53 && x > -(1<<53)) {
				t.Fatalf("%s and %s have two keys", n1, n2)
			}
			if v, _, err := ReadKey(a); err1 == nil && (err != nil || v.Kind != Number) {
				t.Fatalf("the key of %s does not read: %v", n1, err)
			}
		}
		_, _, _ = ReadKey(raw)
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
