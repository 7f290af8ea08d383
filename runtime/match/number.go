package match

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"gopkg.in/yaml.v3"
)

// number is a literal number. Comparisons are exact (event.Decimal).
type number struct {
	decimal event.Decimal
	small   int64
	isSmall bool // the number is small, an int64
}

func newNumber(d event.Decimal) number {
	n := number{decimal: d}
	n.small, n.isSmall = d.Int()
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
	d, ok := event.ParseDecimal(v.Text)
	if !ok {
		return 0, false
	}
	return d.Compare(&n.decimal), true
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
	d, ok := event.ParseDecimal([]byte(jsonNumber(s)))
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
