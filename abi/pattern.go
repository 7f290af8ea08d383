package abi

import (
	"encoding/json"
	"net/netip"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// Pattern is something that the host looks for in a field, for all plugins at once; When says which rows it rules out.
type Pattern struct {
	ID     int
	Field  int    // its place in Reads
	Op     string // one of PatternOps
	Values []string
	NoCase bool
}

// PatternOps are what a pattern may do with its field.
var PatternOps = []string{"equals", "contains", "startswith", "endswith", "cidr", "re"}

// When says which rows reach the module: those that have one pattern, or any or all of a list.
type When struct {
	Pattern  int // an ID, if Any and All are empty
	Any, All []When
}

// String is the choice as people read it: any of (0, all of (1, 2)).
func (w When) String() string {
	name, list := "any of ", w.Any
	switch {
	case len(w.All) > 0:
		name, list = "all of ", w.All
	case len(w.Any) == 0:
		return strconv.Itoa(w.Pattern)
	}
	var parts []string
	for _, x := range list {
		parts = append(parts, x.String())
	}
	return name + "(" + strings.Join(parts, ", ") + ")"
}

// Caps of patterns: what they cost is not the guest's time, so they are few.
const (
	patternsMax = 64
	regexpsMax  = 8
	valuesMax   = 1024
	valueMax    = 4096    // bytes
	literalsMax = 8 << 10 // bytes of all values
	partMin     = 3       // bytes of a part of a text, and of what a regular expression must have
)

func (r *reader) patterns(m *Manifest, n *node) {
	size, regexps := 0, 0
	r.each(n, "patterns", patternsMax, func(x *node) {
		if !r.object(x, "a pattern") {
			return
		}
		p := r.pattern(m, x)
		if p.Op == "re" {
			regexps++
		}
		for _, v := range p.Values {
			size += len(v)
		}
		if size > literalsMax || regexps > regexpsMax {
			r.wrong(x.off, "the patterns have more than %d bytes of values, or more than %d regular expressions", literalsMax, regexpsMax)
		}
		r.done(x, "a pattern")
		m.Patterns = append(m.Patterns, p)
	})
}

func (r *reader) pattern(m *Manifest, n *node) (p Pattern) {
	if x := r.need(n, "id", "a number from 0, which `when` names"); x != nil {
		p.ID = int(r.int(x, "id", 0, patternsMax-1))
		if slices.ContainsFunc(m.Patterns, func(o Pattern) bool { return o.ID == p.ID }) {
			r.wrong(x.off, "pattern %d is there twice", p.ID)
		}
	}
	if x := r.need(n, "field", "the place of a field in reads, from 0"); x != nil {
		p.Field = int(r.int(x, "field", 0, int64(max(len(m.Reads)-1, 0))))
	}
	if x := r.need(n, "op", strings.Join(PatternOps, ", ")); x != nil {
		if p.Op = r.text(x, "op", 32); !slices.Contains(PatternOps, p.Op) {
			r.wrong(x.off, "op must be one of %s; it is %q", strings.Join(PatternOps, ", "), p.Op)
		}
	}
	if x := n.get("nocase"); x != nil {
		if p.NoCase = r.bool(x, "nocase"); p.NoCase && p.Op == "cidr" {
			r.wrong(x.off, "nocase is for texts, and cidr compares addresses")
		}
	}
	values := r.need(n, "values", "a list of texts, of which one will do")
	r.each(values, "values", valuesMax, func(x *node) { p.Values = append(p.Values, r.value(x, p.Op)) })
	if values != nil && len(p.Values) == 0 {
		r.wrong(values.off, "values must be a list of texts; it has none")
	}
	return p
}

// value is a value of a pattern: any text, control characters too.
func (r *reader) value(n *node, op string) string {
	s, ok := n.value.(string)
	switch {
	case !ok:
		r.wrong(n.off, "a value is a text")
	case len(s) > valueMax:
		r.wrong(n.off, "the value has %d bytes; at most %d", len(s), valueMax)
	case op == "cidr" && !network(s):
		r.wrong(n.off, "%q is not a network: write an address and the bits of its mask, and none behind the mask, such as 10.0.0.0/8", s)
	case op == "re":
		re, err := syntax.Parse(s, syntax.Perl)
		if err != nil {
			r.wrong(n.off, "%v", err)
		} else if !demands(re) {
			r.wrong(n.off, "what %q matches need not have any given text of %d bytes in it, so it would have to be tried on every row", s, partMin)
		}
	case op != "equals" && op != "cidr" && len(s) < partMin:
		r.wrong(n.off, "%q is too short to rule out much: %s takes %d bytes at least", s, op, partMin)
	}
	return s
}

func network(s string) bool {
	p, err := netip.ParsePrefix(s)
	if err == nil {
		return p == p.Masked()
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Zone() == ""
}

// demands says whether what a regular expression matches has certain bytes in it: one text, or one of several.
func demands(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral:
		return len(string(re.Rune)) >= partMin
	case syntax.OpConcat, syntax.OpCapture, syntax.OpPlus:
		return slices.ContainsFunc(re.Sub, demands)
	case syntax.OpRepeat:
		return re.Min > 0 && demands(re.Sub[0])
	case syntax.OpAlternate:
		return !slices.ContainsFunc(re.Sub, func(s *syntax.Regexp) bool { return !demands(s) })
	}
	return false
}

// when reads what patterns are for.
func (r *reader) when(m *Manifest, patterns, n *node) {
	switch {
	case n == nil || n.value == nil:
		if len(m.Patterns) > 0 {
			r.wrong(patterns.off, "patterns without `when` rule out no row: add, for instance, \"when\": {\"any\": [%d]}", m.Patterns[0].ID)
		}
	case !r.object(n, "when"):
	default:
		w := r.choice(m, n)
		m.When = &w
	}
}

func (r *reader) choice(m *Manifest, n *node) (w When) {
	if v, ok := n.value.(json.Number); ok {
		w.Pattern = int(r.int(n, "the id of a pattern", 0, patternsMax-1))
		if !slices.ContainsFunc(m.Patterns, func(p Pattern) bool { return p.ID == w.Pattern }) {
			r.wrong(n.off, "there is no pattern %s", v)
		}
		return w
	}
	if n.value != json.Delim('{') || len(n.keys) != 1 {
		r.wrong(n.off, "when is {\"any\": [...]} or {\"all\": [...]}, a list of ids of patterns, and of such objects")
		return w
	}
	for name, list := range map[string]*[]When{"any": &w.Any, "all": &w.All} {
		if x := n.get(name); x != nil {
			r.each(x, name, 4*patternsMax, func(x *node) { *list = append(*list, r.choice(m, x)) })
			if len(*list) == 0 {
				r.wrong(x.off, "%s has no pattern", name)
			}
		}
	}
	r.done(n, "when")
	return w
}
