package match

import (
	"slices"
	"unicode"
)

// windashes are what Windows programs take for the dash before a parameter: besides - and / the en dash, the em dash and the
// horizontal bar.
var windashes = []rune{'-', '/', '\u2013', '\u2014', '\u2015'}

func isDash(r rune) bool { return slices.Contains(windashes, r) }

// dashes makes each dash of a parameter, before a word and not within one, stand for all of them.
func dashes(runes []rune) []rune {
	out := slices.Clone(runes)
	for i, r := range runes {
		if isDash(r) && (i == 0 || !isWord(runes[i-1])) && i+1 < len(runes) && isWord(runes[i+1]) {
			out[i] = anyDash
		}
	}
	return out
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// everyDash writes the dashes of windash out: 5 texts for one, 25 for two.
func everyDash(runes []rune) [][]rune {
	i := slices.Index(runes, anyDash)
	if i < 0 {
		return [][]rune{runes}
	}
	var out [][]rune
	for _, rest := range everyDash(runes[i+1:]) {
		for _, d := range windashes {
			out = append(out, slices.Concat(runes[:i], []rune{d}, rest))
		}
	}
	return out
}
