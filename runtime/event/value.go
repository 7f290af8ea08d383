package event

import "strconv"

// Kind says what a cell holds. Absent is a field that the event does not have; Null one that it has with the value null.
type Kind uint8

// The kinds of a cell. Text is the decoded string for String and the JSON text for every other kind.
const (
	Absent Kind = iota
	Null
	Bool
	Number
	String
	Object
	Array
)

var kindNames = [...]string{"absent", "null", "bool", "number", "string", "object", "array"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Value is one cell of a row. Text is a view of the batch's memory: valid until the batch is recycled, so whoever keeps it
// copies it. Strings are decoded UTF-8, all other kinds JSON text; Absent and Null have none.
type Value struct {
	Kind Kind
	Text []byte
}

// Missing says whether the value is absent or null.
func (v Value) Missing() bool { return v.Kind <= Null }

// Float returns the number that v holds, either as a JSON number or as a string that is one.
func (v Value) Float() (float64, bool) {
	if v.Kind != Number && v.Kind != String || len(v.Text) == 0 {
		return 0, false
	}
	if n, ok := smallInt(v.Text); ok {
		return float64(n), true
	}
	if c := v.Text[len(v.Text)-1]; c < '0' || c > '9' { // no "inf", "nan" and hex floats; "1." is not JSON
		return 0, false
	}
	if !isNumber(v.Text) {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v.Text), 64)
	return f, err == nil
}

// Int returns the integer that a JSON number or numeric string holds exactly.
func (v Value) Int() (int64, bool) {
	if v.Kind != Number && v.Kind != String {
		return 0, false
	}
	if n, ok := smallInt(v.Text); ok {
		return n, true
	}
	if !isNumber(v.Text) {
		return 0, false
	}
	n, err := strconv.ParseInt(string(v.Text), 10, 64)
	return n, err == nil
}

// smallInt reads up to 15 digits with an optional minus: nearly every number in a log.
func smallInt(b []byte) (int64, bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 15 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if neg {
		n = -n
	}
	return n, true
}

// isNumber says whether b is a number as RFC 8259 section 6 writes them.
func isNumber(b []byte) bool {
	_, ok := ParseDecimal(b)
	return ok
}
