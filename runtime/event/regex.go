package event

import (
	"errors"
	"fmt"
	"regexp"
)

// regexReader reads lines with a regular expression: its named groups are the fields. A group that took no part in the match is
// no field.
type regexReader struct {
	re     *regexp.Regexp
	groups []string
	at     []int // of each named group its number
}

// patternMax is the longest regular expression.
const patternMax = 16 << 10

// Regex is the format of lines that a pattern (RE2) matches; names are those of its groups, (?P<name>...) or (?<name>...).
func Regex(pattern string) (*Format, error) {
	if len(pattern) > patternMax {
		return nil, fmt.Errorf("a pattern of %d bytes, the limit is %d", len(pattern), patternMax)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	r := &regexReader{re: re}
	for i, name := range re.SubexpNames() {
		if name != "" {
			r.groups, r.at = append(r.groups, name), append(r.at, i)
		}
	}
	if len(r.groups) == 0 {
		return nil, errors.New("no group has a name; write (?P<user>\\S+) for a field user")
	}
	return newFormat("regex", r), nil
}

func (r *regexReader) names() []string { return r.groups }

func (r *regexReader) read(t *taker, line []byte) error {
	if !r.groupsOf(t, line, 0) {
		return bad(0, "the pattern does not match")
	}
	return nil
}

// groupsOf gives the groups of a text, which are the fields from base on, and says whether it matches.
func (r *regexReader) groupsOf(t *taker, text []byte, base int) bool {
	m := r.re.FindSubmatchIndex(text)
	for i, g := range r.at {
		if m != nil && m[2*g] >= 0 {
			t.putIf(base+i, text[m[2*g]:m[2*g+1]])
		}
	}
	return m != nil
}
