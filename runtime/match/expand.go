package match

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// expanded returns the text of a value. With expand, %name% is a placeholder; nothing defines any, so each is a problem, and
// `\%` is a percent sign.
func (c *compiler) expanded(n *yaml.Node, k key) (string, bool) {
	if !k.expand {
		return n.Value, true
	}
	var b strings.Builder
	for s := n.Value; s != ""; {
		switch {
		case strings.HasPrefix(s, `\%`):
			b.WriteByte('%')
			s = s[2:]
		case strings.HasPrefix(s, `\\`):
			b.WriteString(`\\`)
			s = s[2:]
		case placeholder(s) != "":
			c.problem(n, "there is no placeholder %s: write its values here, as a list; a percent sign is written \\%%", brief(placeholder(s)))
			return "", false
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return b.String(), true
}

// placeholder returns the placeholder at the start of a text, with its signs, or nothing.
func placeholder(s string) string {
	if s[0] != '%' {
		return ""
	}
	end := strings.IndexAny(s[1:], "% \t\r\n\\")
	if end < 1 || s[1+end] != '%' {
		return ""
	}
	return s[:end+2]
}
