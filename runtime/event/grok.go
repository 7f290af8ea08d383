package event

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/elastic/go-grok/patterns"
)

// Grok is the format of lines that a grok pattern matches: a regular expression (RE2) in which %{NAME} stands for a pattern that is known by
// its name, %{NAME:field} for one whose text is a field, %{NAME:field:type} for one of type string, int, long, float, double, bool or
// boolean. Patterns may be made of patterns. Those of own come first, then what GrokNames lists. An error is a *GrokError.
func Grok(pattern string, own map[string]string) (*Format, error) {
	for _, name := range slices.Sorted(maps.Keys(own)) { // also those that are not used
		x := &grokExpansion{own: own, kinds: map[string]Kind{}}
		if err := x.named(name); err != nil {
			return nil, err
		}
		if err := grokText(name, own[name]); err != nil {
			return nil, err
		}
	}
	x := &grokExpansion{own: own, kinds: map[string]Kind{}}
	if err := x.expand("", pattern); err != nil {
		return nil, err
	}
	if err := grokText("", pattern); err != nil {
		return nil, err
	}
	re, err := uncaptured(x.text.String())
	if err != nil {
		return nil, &GrokError{Text: fmt.Sprintf("what it stands for is no regular expression: %v", err)}
	}
	r := &regexReader{re: re}
	for i, name := range re.SubexpNames() {
		if name != "" { // those of the expansion: no other has a name
			n, _ := strconv.Atoi(name[len(grokGroup):])
			r.groups, r.at = append(r.groups, x.fields[n]), append(r.at, i)
		}
	}
	if len(r.groups) == 0 {
		return nil, &GrokError{Text: "nothing becomes a field; write %{NAME:field}"}
	}
	f := newFormat("grok", r)
	f.kind = x.kinds
	return f, nil
}

// grokText says what is wrong with a pattern as it is written, whatever its names stand for.
func grokText(in, pattern string) error {
	if len(pattern) > patternMax {
		return &GrokError{In: in, Text: fmt.Sprintf("a pattern of %d bytes, the limit is %d", len(pattern), patternMax)}
	}
	if _, err := syntax.Parse(grokAny.ReplaceAllStringFunc(pattern, emptyUse), syntax.Perl); err != nil {
		return &GrokError{In: in, Text: err.Error()}
	}
	return nil
}

// grokAny is what stands for a pattern, or a character that is none of it because of the backslash before.
var grokAny = regexp.MustCompile(`\\.|%\{[^}]*\}`)

func emptyUse(text string) string {
	if text[0] == '%' {
		return "(?:)"
	}
	return text
}

// GrokError is what is wrong with a grok pattern.
type GrokError struct {
	In   string // the pattern of one's own in which it is; empty: the pattern itself
	Name string // a name that no pattern has, or empty
	Text string
}

func (e *GrokError) Error() string { return e.Text }

// GrokNames are the names of all patterns that are known, sorted.
func GrokNames() []string { return slices.Sorted(maps.Keys(grokPatterns())) }

// grokPatterns are those of the library, which are kept as RE2, but for some that take most of the time, or of the program's size: Go matches a
// program of more than 500 steps ten times as slowly. These match all that the library's match (of zones of addresses only those of
// letters, digits, dots and dashes), and what only looks like it.
var grokPatterns = sync.OnceValue(func() map[string]string {
	all := map[string]string{}
	for _, set := range []map[string]string{patterns.Default, patterns.AWS, patterns.Bind9, patterns.Bro, patterns.Exim, patterns.HAProxy, patterns.Httpd,
		patterns.Firewalls, patterns.Java, patterns.Junos, patterns.Maven, patterns.MCollective, patterns.MongoDB, patterns.PostgreSQL, patterns.Rails,
		patterns.Redis, patterns.Ruby, patterns.Squid, patterns.Syslog, grokShort} {
		maps.Copy(all, set)
	}
	maps.DeleteFunc(all, func(_, pattern string) bool { // two of the library's are mistyped: they match nothing
		return slices.ContainsFunc(grokAny.FindAllString(pattern, -1), func(use string) bool { return use[0] == '%' && !grokUse.MatchString(use) })
	})
	return all
})

var grokShort = map[string]string{
	"IPV4":      `[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}`,
	"IPV6":      `(?:(?:[0-9A-Fa-f]+:){6}(?:[0-9A-Fa-f]+:[0-9A-Fa-f]+|%{IPV4})|(?:[0-9A-Fa-f]+(?::[0-9A-Fa-f]+)*)?::(?:(?:[0-9A-Fa-f]+:)*(?:%{IPV4}|[0-9A-Fa-f]+))?)(?:%[\w.-]+)?`,
	"HOSTNAME":  `\b[0-9A-Za-z][0-9A-Za-z-]*(?:\.[0-9A-Za-z][0-9A-Za-z-]*)*\.?`,
	"HTTPDUSER": `[a-zA-Z0-9._@+=:-]+`,
}

// The limits of grok: bytes of an expansion, and patterns of one's own.
const (
	grokExpandedMax = 64 << 10
	GrokOwnMax      = 256
)

// grokGroup is how the names of an expansion's groups begin; the number of a field follows.
const grokGroup = "grok_"

// grokExpansion replaces names by what they stand for, over and over.
type grokExpansion struct {
	own    map[string]string
	text   strings.Builder
	fields []string        // by the number of their group
	kinds  map[string]Kind // of fields with types
	within []string        // the patterns around the place
}

// grokUse is %{NAME:field:type}, or what may be meant by it; grokInline the beginning of a group with a name.
var (
	grokUse    = regexp.MustCompile(`^%\{(\w+)(?::([\w.@-]+|(?:\[[\w.@-]+\])+))?(?::(\w+))?\}`)
	grokInline = regexp.MustCompile(`^\(\?P?<(\w+)>`)
	grokTypes  = map[string]Kind{"": Absent, "string": Absent, "int": Number, "long": Number, "float": Number, "double": Number, "bool": Bool, "boolean": Bool}
)

// expand appends a pattern; in is the pattern of one's own that it is part of.
func (x *grokExpansion) expand(in, pattern string) error {
	class := false
	for i := 0; i < len(pattern); {
		rest := pattern[i:]
		switch c := pattern[i]; {
		case c == '\\' && len(rest) > 1:
			x.text.WriteString(rest[:2])
			i += 2
			continue
		case class && grokUse.MatchString(rest):
			return &GrokError{In: in, Text: fmt.Sprintf("%s stands in brackets, where it is no pattern", grokUse.FindString(rest))}
		case strings.HasPrefix(rest, "%{") && !class:
			n, err := x.use(in, rest)
			if err != nil {
				return err
			}
			i += n
			continue
		case c == '(' && !class:
			if m := grokInline.FindStringSubmatch(rest); m != nil {
				x.open(strings.ReplaceAll(m[1], "___", "."), Absent)
				i += len(m[0])
				continue
			}
		case c == '[':
			class = true
		case c == ']':
			class = false
		}
		x.text.WriteByte(pattern[i])
		i++
	}
	if x.text.Len() > grokExpandedMax {
		return &GrokError{In: in, Text: fmt.Sprintf("it stands for more than %d bytes", grokExpandedMax)}
	}
	return nil
}

// use appends what text, which begins with %{, uses, and returns how long that is.
func (x *grokExpansion) use(in, text string) (int, error) {
	m := grokUse.FindStringSubmatch(text)
	if m == nil {
		end := strings.IndexByte(text, '}') + 1
		if end == 0 {
			end = len(text)
		}
		return 0, &GrokError{In: in, Text: fmt.Sprintf(`%s is not %%{NAME}, %%{NAME:field} or %%{NAME:field:type}; a brace that is meant is \{`, text[:end])}
	}
	kind, ok := grokTypes[m[3]]
	if !ok {
		return 0, &GrokError{In: in, Text: fmt.Sprintf("%s: type %q is none of string, int, long, float, double, bool, boolean", m[0], m[3])}
	}
	if m[2] == "" {
		x.text.WriteString("(?:")
	} else {
		x.open(grokField(m[2]), kind)
	}
	err := x.named(m[1])
	if e, ok := err.(*GrokError); ok && e.Name == m[1] {
		return 0, &GrokError{In: in, Name: e.Name, Text: fmt.Sprintf("%s: there is no pattern %s", m[0], e.Name)}
	}
	x.text.WriteByte(')')
	return len(m[0]), err
}

// named appends the pattern of a name.
func (x *grokExpansion) named(name string) error {
	pattern, own := x.own[name]
	if !own {
		var known bool
		if pattern, known = grokPatterns()[name]; !known {
			return &GrokError{Name: name}
		}
	}
	in := ""
	for _, w := range x.within {
		if w == name {
			return &GrokError{In: name, Text: fmt.Sprintf("it is made of itself: %s", strings.Join(append(x.within, name), ", "))}
		}
		if _, is := x.own[w]; is {
			in = w
		}
	}
	if own {
		in = name
	}
	x.within = append(x.within, name)
	err := x.expand(in, pattern)
	x.within = x.within[:len(x.within)-1]
	return err
}

// open begins the group of a field.
func (x *grokExpansion) open(field string, kind Kind) {
	fmt.Fprintf(&x.text, "(?P<%s%d>", grokGroup, len(x.fields))
	x.fields = append(x.fields, field)
	if kind != Absent {
		x.kinds[field] = kind
	}
}

// grokField is the name of a field, which may be written [a][b] for a.b.
func grokField(text string) string {
	if text[0] != '[' {
		return text
	}
	return strings.ReplaceAll(strings.Trim(text, "[]"), "][", ".")
}

// uncaptured compiles a regular expression; groups without names capture nothing, which would only cost.
func uncaptured(text string) (*regexp.Regexp, error) {
	tree, err := syntax.Parse(text, syntax.Perl)
	var fault *syntax.Error
	if errors.As(err, &fault) {
		return nil, errors.New(string(fault.Code)) // without the text, which nobody has written
	}
	return regexp.Compile(plainGroups(tree).String())
}

func plainGroups(r *syntax.Regexp) *syntax.Regexp {
	for i, sub := range r.Sub {
		r.Sub[i] = plainGroups(sub)
	}
	if r.Op == syntax.OpCapture && r.Name == "" {
		return r.Sub[0]
	}
	return r
}
