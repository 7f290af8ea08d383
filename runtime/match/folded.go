package match

import (
	"encoding/binary"
	"slices"
	"sync"
	"unicode/utf8"
)

// foldTable has fold of the runes below its length: Latin, Greek, Cyrillic, Georgian, and the signs among the symbols.
var foldTable = sync.OnceValue(func() []uint16 {
	table := make([]uint16, 0x2d80)
	for r := range table {
		table[r] = uint16(fold(rune(r)))
	}
	return table
})

// caseless are the runes without case that texts are full of, from the end of foldTable on: Ethiopic to Yi, and Hangul.
func caseless(r rune) bool { return r < 0xa640 || r >= 0xac00 && r < 0xf900 }

// appendFolded appends a text with each rune folded, invalid bytes as U+FFFD. Texts are equal by simple folding if they
// are equal byte by byte in this form.
func appendFolded(dst, text []byte) []byte {
	const ones = 0x0101010101010101
	dst = slices.Grow(dst, len(text)+8)
	i, at := 0, len(dst)
	for ; i+8 <= len(text); i += 8 {
		x := binary.LittleEndian.Uint64(text[i:])
		if x&(0x80*ones) != 0 {
			break
		}
		upper := (x + (0x80-'A')*ones) &^ (x + (0x7f-'Z')*ones) & (0x80 * ones)
		binary.LittleEndian.PutUint64(dst[at:at+8], x|upper>>2)
		at += 8
	}
	dst = dst[:at]
	for ; i < len(text); i++ {
		c := text[i]
		if c >= utf8.RuneSelf {
			return appendFoldedRunes(dst, text[i:])
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func appendFoldedRunes(dst, text []byte) []byte {
	table := foldTable()
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case int(r) < len(table):
			r = rune(table[r])
		case !caseless(r):
			r = fold(r)
		}
		dst, text = utf8.AppendRune(dst, r), text[n:]
	}
	return dst
}
