package event

import (
	"cmp"
	"strconv"
	"strings"
)

// Decimal is a number as its text has it, exact: a float64 in between would make 9007199254740993 equal to its neighbour,
// and identifiers are that long. Exponents beyond 10^15 count as 10^15.
type Decimal struct {
	negative bool
	mantissa []byte // a view: from the first digit that is not 0, whose place is 10^exponent, with perhaps a point; zero has none
	exponent int64
}

// ParseDecimal reads a number as RFC 8259 section 6 writes them. The Decimal is a view of b.
func ParseDecimal(b []byte) (d Decimal, ok bool) {
	i := 0
	if len(b) > 0 && b[0] == '-' {
		d.negative, i = true, 1
	}
	from := i
	point := afterDigits(b, i)
	if point == from || b[from] == '0' && point > from+1 {
		return d, false
	}
	i = point
	if i < len(b) && b[i] == '.' {
		if i = afterDigits(b, i+1); i == point+1 {
			return d, false
		}
	}
	end := i
	if i, d.exponent, ok = readExponent(b, i); !ok || i != len(b) {
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

func afterDigits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

// readExponent reads `e-12`, if it is there.
func readExponent(b []byte, i int) (end int, e int64, ok bool) {
	if i >= len(b) || b[i]|0x20 != 'e' {
		return i, 0, true
	}
	i++
	negative := i < len(b) && b[i] == '-'
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		i++
	}
	end = afterDigits(b, i)
	for _, c := range b[i:end] {
		e = min(e*10+int64(c-'0'), 1e15)
	}
	if negative {
		e = -e
	}
	return end, e, end > i
}

// Compare returns the sign of d - o.
func (d *Decimal) Compare(o *Decimal) int {
	if s := d.Sign(); s != o.Sign() || s == 0 {
		return cmp.Compare(s, o.Sign())
	}
	c := cmp.Compare(d.exponent, o.exponent)
	for i, j := 0, 0; c == 0 && (i < len(d.mantissa) || j < len(o.mantissa)); {
		var x, y byte
		x, i = digitAt(d.mantissa, i)
		y, j = digitAt(o.mantissa, j)
		c = cmp.Compare(x, y)
	}
	return c * d.Sign()
}

// Sign is -1, 0 or 1. There is one zero.
func (d *Decimal) Sign() int {
	switch {
	case len(d.mantissa) == 0:
		return 0
	case d.negative:
		return -1
	}
	return 1
}

// digitAt returns the digit at i, 0 after the end, and where the next one is.
func digitAt(mantissa []byte, i int) (byte, int) {
	if i < len(mantissa) && mantissa[i] == '.' {
		i++
	}
	if i >= len(mantissa) {
		return '0', i
	}
	return mantissa[i], i + 1
}

// significant returns the digits without the point and without zeros at the end.
func (d *Decimal) significant() string {
	return strings.TrimRight(strings.Replace(string(d.mantissa), ".", "", 1), "0")
}

// Int returns the integer that d is, if it is one and fits.
func (d *Decimal) Int() (int64, bool) {
	if d.exponent > 18 {
		return 0, false
	}
	s, ok := d.whole()
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// Uint is Int for unsigned integers.
func (d *Decimal) Uint() (uint64, bool) {
	if d.exponent > 19 {
		return 0, false
	}
	s, ok := d.whole()
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// wholeMax is how long an integer is written out, in digits: as long as 128 bits can be.
const wholeMax = 39

// whole returns an integer's digits, with its sign.
func (d *Decimal) whole() (string, bool) {
	s := d.significant()
	if s == "" {
		return "0", true
	}
	zeros := d.exponent + 1 - int64(len(s))
	if zeros < 0 || d.exponent >= wholeMax {
		return "", false
	}
	s += strings.Repeat("0", int(zeros))
	if d.negative {
		s = "-" + s
	}
	return s, true
}

// Floor returns the largest integer that is not above d × 10^shift, if it fits.
func (d *Decimal) Floor(shift int) (int64, bool) {
	s := d.significant()
	whole := d.exponent + int64(shift) + 1 // digits before the point
	switch {
	case s == "":
		return 0, true
	case whole > 19:
		return 0, false
	}
	whole = max(whole, 0)
	rest := int64(len(s)) > whole
	if rest {
		s = s[:whole]
	}
	s += strings.Repeat("0", int(whole)-len(s))
	if s == "" {
		s = "0"
	}
	if d.negative {
		s = "-" + s
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if rest && d.negative {
		n--
	}
	return n, err == nil && (n < 0 || !rest || !d.negative)
}

// String returns d.ddde±n, one text for each number.
func (d *Decimal) String() string {
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

// number is the text of a number in keys and results, one for each number: integers of up to 39 digits as such, else the
// shortest text of a float64 that is exactly it, else String.
func (d *Decimal) number() string {
	if s, ok := d.whole(); ok {
		return s
	}
	exact := d.String()
	if f, err := strconv.ParseFloat(exact, 64); err == nil {
		short := strconv.FormatFloat(f, 'g', -1, 64)
		if x, ok := ParseDecimal([]byte(short)); ok && x.Compare(d) == 0 {
			return short
		}
	}
	return exact
}

// Hash is the same for equal numbers, whatever their notation.
func (d *Decimal) Hash() uint64 {
	const base = 1099511628211 // FNV's
	h := uint64(d.Sign() + 1)
	if d.Sign() == 0 {
		return h
	}
	zeros := 0 // those at the end do not count
	for i := 0; i < len(d.mantissa); {
		var c byte
		if c, i = digitAt(d.mantissa, i); c == '0' {
			zeros++
			continue
		}
		for ; zeros > 0; zeros-- {
			h = h*base + '0'
		}
		h = h*base + uint64(c)
	}
	return h*base + uint64(d.exponent)
}
