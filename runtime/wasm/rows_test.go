package wasm

import (
	"encoding/binary"
	"math/big"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// A guest gets whole numbers exactly, however they are written, and nothing for those that its type cannot hold; math/big says which.
func TestWholeNumbersAreExact(t *testing.T) {
	ranges := map[abi.Type][2]string{
		abi.I32: {"-2147483648", "2147483647"}, abi.U32: {"0", "4294967295"},
		abi.I64: {"-9223372036854775808", "9223372036854775807"}, abi.U64: {"0", "18446744073709551615"},
	}
	rat := func(s string) *big.Rat { r, _ := new(big.Rat).SetString(s); return r }
	w := &writer{}
	for _, text := range []string{"0", "-0", "-0.0", "5.0", "5e0", "5.5", "50e-1", "1e3", "-1", "2147483647", "2147483648", "-2147483649", "4294967295", "4294967296", "9007199254740993", "9007199254740993.0",
		"900719925474099.3e1", "9223372036854775807", "9223372036854775807.5", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "1844674407370955161.5e1", "18446744073709551616", "1e30", "1e400", "1e-400"} {
		for _, kind := range []event.Kind{event.Number, event.String} {
			for typ, ends := range ranges {
				var cell [8]byte
				x := rat(text)
				want := x.IsInt() && x.Cmp(rat(ends[0])) >= 0 && x.Cmp(rat(ends[1])) <= 0
				if got := w.number(cell[:typ.Width()], event.Value{Kind: kind, Text: []byte(text)}, typ); got != want {
					t.Errorf("%s as %s: %v, want %v", text, typ, got, want)
				}
				if mask := new(big.Int).Lsh(big.NewInt(1), uint(8*typ.Width())); want {
					if bits := new(big.Int).Mod(x.Num(), mask).Uint64(); binary.LittleEndian.Uint64(cell[:]) != bits {
						t.Errorf("%s as %s: %x, want %x", text, typ, cell, bits)
					}
				}
			}
		}
	}
	for _, text := range []string{"", "NaN", "Infinity", "0x10", "1_000", "+1", "1.", ".5", "١", strings.Repeat("9", 1<<20)} {
		for typ := range ranges {
			if w.number(make([]byte, typ.Width()), event.Value{Kind: event.String, Text: []byte(text)}, typ) {
				t.Errorf("%.20q is no %s", text, typ)
			}
		}
	}
}
