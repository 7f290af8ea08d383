package tocsin

import "bytes"

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// EqualNoCase says whether two texts are the same but for the case of ASCII letters.
func EqualNoCase(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// EndsNoCase says whether a text ends with another, whatever the case of ASCII letters.
func EndsNoCase(s []byte, end string) bool {
	return len(s) >= len(end) && EqualNoCase(s[len(s)-len(end):], end)
}

// ContainsNoCase says whether a text contains another, whatever the case of ASCII letters. It looks for the first byte in both cases.
func ContainsNoCase(s []byte, needle string) bool {
	if needle == "" {
		return true
	}
	first := lower(needle[0])
	both := [2]byte{first, first}
	if first >= 'a' && first <= 'z' {
		both[1] = first - 0x20
	}
	for len(s) >= len(needle) {
		i := bytes.IndexByte(s, both[0])
		if both[1] != both[0] {
			within := s
			if i >= 0 {
				within = s[:i]
			}
			if k := bytes.IndexByte(within, both[1]); k >= 0 {
				i = k
			}
		}
		if i < 0 || len(s)-i < len(needle) {
			return false
		}
		if EqualNoCase(s[i:i+len(needle)], needle) {
			return true
		}
		s = s[i+1:]
	}
	return false
}
