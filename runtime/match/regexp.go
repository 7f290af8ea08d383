package match

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"gopkg.in/yaml.v3"
)

// regexp reads a regular expression in RE2's syntax. It is searched anywhere in the text unless it has anchors of its own.
func (c *compiler) regexp(n *yaml.Node, k key) (literal, bool) {
	if len(n.Value) > PatternMax {
		c.problem(n, "a regular expression has %d bytes at most, this one has %d", PatternMax, len(n.Value))
		return literal{}, false
	}
	text, ok := c.expanded(n, k)
	if !ok {
		return literal{}, false
	}
	if k.flags != "" {
		text = "(?" + sorted(k.flags) + ")" + text
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		c.problem(n, "the regular expression does not compile: %s", reason(err))
		return literal{}, false
	}
	if !c.instruct(n, parsed) {
		return literal{}, false
	}
	re, err := regexp.Compile(text)
	if err != nil { // as Parse found nothing
		c.problem(n, "the regular expression does not compile: %s", reason(err))
		return literal{}, false
	}
	return literal{kind: literalRegexp, test: testRegexp, regexp: re}, true
}

// instruct charges the limit of instructions.
func (c *compiler) instruct(n *yaml.Node, parsed *syntax.Regexp) bool {
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		c.problem(n, "the regular expression does not compile: %s", reason(err))
		return false
	}
	if c.instructions += len(prog.Inst); c.instructions > RegexpMax {
		c.full = true
		c.problem(n, "the regular expressions of a condition may compile to %d instructions at most; repeat less, as in x{1,100}", RegexpMax)
	}
	return !c.full
}

// reason words what is wrong. Look-around and references to groups are what RE2 leaves out of Perl's syntax.
func reason(err error) string {
	var e *syntax.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	text := fmt.Sprintf("%s: `%s`", e.Code, brief(e.Expr))
	switch e.Code {
	case syntax.ErrInvalidPerlOp, syntax.ErrInvalidEscape:
		text += "; RE2's syntax has no look-around, no references to groups and no possessive repeats"
	case syntax.ErrInvalidRepeatSize:
		text += "; RE2 repeats up to 1000 times, nested repeats multiplied"
	}
	return text
}

// sorted orders flags, for one canonical text.
func sorted(flags string) string {
	out := ""
	for _, f := range "ims" {
		for _, g := range flags {
			if f == g {
				out += string(f)
			}
		}
	}
	return out
}
