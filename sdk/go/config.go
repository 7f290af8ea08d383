package tocsin

import (
	"strconv"
	"strings"
	"unicode/utf16"
)

// Config is the configuration: a JSON object that satisfies the manifest's config_schema. encoding/json reads it, too, but makes a
// module half a MB larger.
type Config string

// JSON is a value of the configuration, as its text.
type JSON string

// Get is the value of a key at the top, and whether it is there.
func (c Config) Get(key string) (JSON, bool) { return JSON(strings.TrimSpace(string(c))).Get(key) }

// Int is a whole number, or what is otherwise.
func (c Config) Int(key string, otherwise int64) int64 { return pick(c, key, otherwise, JSON.Int) }

// Float is a number, or what is otherwise.
func (c Config) Float(key string, otherwise float64) float64 {
	return pick(c, key, otherwise, JSON.Float)
}

// Bool is true or false, or what is otherwise.
func (c Config) Bool(key string, otherwise bool) bool { return pick(c, key, otherwise, JSON.Bool) }

// Text is a text, or what is otherwise.
func (c Config) Text(key, otherwise string) string { return pick(c, key, otherwise, JSON.Text) }

func pick[T any](c Config, key string, otherwise T, as func(JSON) (T, bool)) T {
	if j, ok := c.Get(key); ok {
		if v, ok := as(j); ok {
			return v
		}
	}
	return otherwise
}

// Get is the value of a key of an object, and whether it is there. Keys are compared as they are written, without escapes.
func (j JSON) Get(key string) (v JSON, ok bool) {
	var name JSON
	j.members('{', func(i int, x JSON) bool {
		if i%2 == 0 {
			name = x
			return true
		}
		if len(name) == len(key)+2 && string(name[1:len(name)-1]) == key {
			v, ok = x, true
		}
		return !ok
	})
	return v, ok
}

// Items are the elements of an array.
func (j JSON) Items() (all []JSON) {
	j.members('[', func(_ int, x JSON) bool {
		all = append(all, x)
		return true
	})
	return all
}

// Int is a whole number that int64 holds; 5.0 and 5e0 are such, too.
func (j JSON) Int() (int64, bool) {
	if v, err := strconv.ParseInt(string(j), 10, 64); err == nil {
		return v, true
	}
	v, ok := j.Float()
	return int64(v), ok && v == float64(int64(v)) && v > -1<<63 && v < 1<<63
}

// Float is a number.
func (j JSON) Float() (float64, bool) {
	if j == "" || j[0] != '-' && (j[0] < '0' || j[0] > '9') {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(j), 64)
	return v, err == nil
}

// Bool is true or false.
func (j JSON) Bool() (v, ok bool) { return j == "true", j == "true" || j == "false" }

// Text is a text without its escapes.
func (j JSON) Text() (string, bool) {
	if len(j) < 2 || j[0] != '"' || j[len(j)-1] != '"' {
		return "", false
	}
	s := string(j[1 : len(j)-1])
	if !strings.Contains(s, `\`) {
		return s, true
	}
	var out strings.Builder
	for s != "" {
		plain, rest, found := strings.Cut(s, `\`)
		out.WriteString(plain)
		if s = rest; !found || s == "" {
			break
		}
		c := s[0]
		s = s[1:]
		if c != 'u' {
			if i := strings.IndexByte("ntrbf", c); i >= 0 {
				c = "\n\t\r\b\f"[i]
			}
			out.WriteByte(c)
			continue
		}
		r := unit(&s)
		if utf16.IsSurrogate(r) && strings.HasPrefix(s, `\u`) {
			s = s[2:]
			r = utf16.DecodeRune(r, unit(&s))
		}
		out.WriteRune(r)
	}
	return out.String(), true
}

// unit takes four hexadecimal digits off a text.
func unit(s *string) rune {
	if len(*s) < 4 {
		*s = ""
		return '\uFFFD'
	}
	v, err := strconv.ParseUint((*s)[:4], 16, 16)
	if *s = (*s)[4:]; err != nil {
		return '\uFFFD'
	}
	return rune(v)
}

// members calls one with the keys and values of an object, or the elements of an array, in turn.
func (j JSON) members(open byte, one func(i int, x JSON) bool) {
	if j == "" || j[0] != open {
		return
	}
	s := string(j[1:])
	for i := 0; ; i++ {
		s = strings.TrimLeft(s, " \t\r\n,:")
		n := valueLen(s)
		if n == 0 || !one(i, JSON(s[:n])) {
			return
		}
		s = s[n:]
	}
}

// valueLen is how long the value is with which a text begins: 0 at the end of an object or array. The host has checked that
// it is JSON.
func valueLen(s string) int {
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
			continue
		case quoted:
			quoted = c != '"'
		case c == '"':
			quoted = true
			continue
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return i
			}
			depth--
		case depth == 0 && strings.IndexByte(", :\t\r\n", c) >= 0:
			return i
		}
		if c := s[i]; depth == 0 && !quoted && (c == '"' || c == '}' || c == ']') {
			return i + 1
		}
	}
	return len(s)
}
