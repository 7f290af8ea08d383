package match

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// number is a literal number. Comparisons are exact: a float64 in between would make 9007199254740993 equal to its
// neighbour, and identifiers are that long.
type number struct {
	decimal decimal
	small   int64
	isSmall bool // the number is small, an int64
}

func newNumber(d decimal) number {
	n := number{decimal: d}
	n.small, n.isSmall = d.int()
	return n
}

// compare returns the sign of v - n, if v is a number or a string that is one.
func (n *number) compare(v event.Value) (int, bool) {
	if v.Kind != event.Number && v.Kind != event.String {
		return 0, false
	}
	if n.isSmall {
		if i, ok := integer(v.Text); ok {
			return cmp.Compare(i, n.small), true
		}
	}
	d, ok := parseDecimal(v.Text)
	if !ok {
		return 0, false
	}
	return d.compare(&n.decimal), true
}

// integer reads up to 18 digits with an optional minus: nearly every number in a log. Unlike event.Value.Int it costs no
// allocation where there is no integer.
func integer(b []byte) (i int64, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 18 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		i = i*10 + int64(c-'0')
	}
	if negative {
		i = -i
	}
	return i, true
}

// String returns the canonical text: one for each number.
func (n *number) String() string {
	if n.isSmall {
		return strconv.FormatInt(n.small, 10)
	}
	return n.decimal.String()
}

// yamlNumber reads what YAML resolves as !!int or !!float, but no .inf and .nan.
func yamlNumber(n *yaml.Node) (number, bool) {
	s := strings.TrimPrefix(strings.ReplaceAll(n.Value, "_", ""), "+")
	if n.ShortTag() == "!!int" {
		if i, err := strconv.ParseInt(s, 0, 64); err == nil {
			s = strconv.FormatInt(i, 10)
		} else if u, err := strconv.ParseUint(s, 0, 64); err == nil {
			s = strconv.FormatUint(u, 10)
		}
	}
	if first := strings.TrimPrefix(strings.TrimPrefix(s, "-"), "."); first == "" || first[0] < '0' || first[0] > '9' {
		return number{}, false
	}
	d, ok := parseDecimal([]byte(jsonNumber(s)))
	return newNumber(d), ok
}

// jsonNumber gives a YAML float JSON's form: no leading zeros, digits on both sides of a point.
func jsonNumber(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	s = strings.TrimLeft(s, "0")
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i:]
	}
	if mantissa == "" || mantissa[0] == '.' {
		mantissa = "0" + mantissa
	}
	return sign + strings.TrimSuffix(mantissa, ".") + exponent
}

// decimal is a number as its text has it: mantissa, a view, begins with the first digit that is not 0, whose place is
// 10^exponent. Zero has no mantissa.
type decimal struct {
	negative bool
	mantissa []byte // digits, and perhaps a point
	exponent int64
}

// parseDecimal reads a number as RFC 8259 section 6 writes them.
func parseDecimal(b []byte) (d decimal, ok bool) {
	i := 0
	if len(b) > 0 && b[0] == '-' {
		d.negative, i = true, 1
	}
	from := i
	point := digits(b, i)
	if point == from || b[from] == '0' && point > from+1 {
		return d, false
	}
	i = point
	if i < len(b) && b[i] == '.' {
		if i = digits(b, i+1); i == point+1 {
			return d, false
		}
	}
	end := i
	if i, d.exponent, ok = exponent(b, i); !ok || i != len(b) {
		return d, false
	}
	for from < end && (b[from] == '0' || b[from] == '.') {
		from++
	}
	d.mantissa = b[from:end]
	d.exponent += int64(point - from)
	if from < point {
		d.exponent--
	}
	return d, true
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

// exponent reads `e-12`, if it is there. Exponents beyond 10^15 count as 10^15.
func exponent(b []byte, i int) (end int, e int64, ok bool) {
	if i >= len(b) || b[i]|0x20 != 'e' {
		return i, 0, true
	}
	i++
	negative := i < len(b) && b[i] == '-'
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		i++
	}
	end = digits(b, i)
	for _, c := range b[i:end] {
		e = min(e*10+int64(c-'0'), 1e15)
	}
	if negative {
		e = -e
	}
	return end, e, end > i
}

func (d *decimal) compare(o *decimal) int {
	if s := d.sign(); s != o.sign() || s == 0 {
		return cmp.Compare(s, o.sign())
	}
	c := cmp.Compare(d.exponent, o.exponent)
	for i, j := 0, 0; c == 0 && (i < len(d.mantissa) || j < len(o.mantissa)); {
		var x, y byte
		x, i = digit(d.mantissa, i)
		y, j = digit(o.mantissa, j)
		c = cmp.Compare(x, y)
	}
	return c * d.sign()
}

func (d *decimal) sign() int {
	switch {
	case len(d.mantissa) == 0:
		return 0
	case d.negative:
		return -1
	}
	return 1
}

// digit returns the digit at i, 0 after the end, and where the next one is.
func digit(mantissa []byte, i int) (byte, int) {
	if i < len(mantissa) && mantissa[i] == '.' {
		i++
	}
	if i >= len(mantissa) {
		return '0', i
	}
	return mantissa[i], i + 1
}

// significant returns the digits without the point and without zeros at the end.
func (d *decimal) significant() string {
	return strings.TrimRight(strings.Replace(string(d.mantissa), ".", "", 1), "0")
}

func (d *decimal) int() (int64, bool) {
	s := d.significant()
	if s == "" {
		return 0, true
	}
	zeros := d.exponent + 1 - int64(len(s))
	if zeros < 0 || d.exponent > 18 {
		return 0, false
	}
	s += strings.Repeat("0", int(zeros))
	if d.negative {
		s = "-" + s
	}
	i, err := strconv.ParseInt(s, 10, 64)
	return i, err == nil
}

// String returns d.ddde±n.
func (d *decimal) String() string {
	s := d.significant()
	if s == "" {
		return "0"
	}
	if len(s) > 1 {
		s = s[:1] + "." + s[1:]
	}
	if d.negative {
		s = "-" + s
	}
	return s + "e" + strconv.FormatInt(d.exponent, 10)
}
