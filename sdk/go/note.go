package tocsin

import (
	"math"
	"strconv"
	"unicode/utf8"
)

const (
	depthMax = 8
	cut      = `,"truncated":true`
)

// Note is a JSON object that goes with a hit, written into the answer as it grows.
//
// A field that would make it larger than 4 096 bytes is left out, and the note then ends with "truncated": true. Inside an
// array keys are not written: note.Array("users").Text("", user).End().
type Note struct {
	hits    *Hits
	b       []byte // what is written; its capacity is what there may be, 0 if there is no room for any of it
	stack   [depthMax]byte
	depth   int // levels that are open; 0: it is closed
	skipped int // levels that found no room
	comma   bool
	left    bool // something was left out
}

func (n *Note) open(space []byte) {
	n.b = append(space[:0:len(space)], '{')
	n.stack[0], n.depth = '}', 1
}

func (n *Note) close() {
	if n.depth == 0 {
		return
	}
	n.skipped = 0
	for n.depth > 1 {
		n.End()
	}
	if n.left && n.comma {
		n.b = append(n.b, cut...)
	} else if n.left {
		n.b = append(n.b, cut[1:]...)
	}
	n.depth = 0
	n.hits.noted(len(n.b)+1, !n.left) // with the brace
	n.b = append(n.b, '}')
}

// Text is a text; bytes that are not UTF-8 are replaced.
func (n *Note) Text(key string, v []byte) *Note {
	from, comma, ok := n.begin(key)
	if ok && n.put('"') {
		for len(v) > 0 && ok {
			r, size := utf8.DecodeRune(v)
			ok = n.rune(r)
			v = v[size:]
		}
		ok = ok && n.put('"')
	}
	return n.done(from, comma, ok)
}

// String is a text.
func (n *Note) String(key, v string) *Note {
	from, comma, ok := n.begin(key)
	return n.done(from, comma, ok && n.quoted(v))
}

// Int is a whole number.
func (n *Note) Int(key string, v int64) *Note {
	from, comma, ok := n.begin(key)
	return n.done(from, comma, ok && n.number(strconv.AppendInt(n.scratch(), v, 10)))
}

// Uint is a whole number that is not negative.
func (n *Note) Uint(key string, v uint64) *Note {
	from, comma, ok := n.begin(key)
	return n.done(from, comma, ok && n.number(strconv.AppendUint(n.scratch(), v, 10)))
}

// Float is a number with up to 9 decimals; as many of them as 18 digits hold. What is no number, or has more, is null.
func (n *Note) Float(key string, v float64, decimals int) *Note {
	from, comma, ok := n.begin(key)
	decimals = min(max(decimals, 0), 9)
	for decimals > 0 && math.Abs(v)*math.Pow10(decimals) >= 1e18 {
		decimals--
	}
	if !(math.Abs(v) < 1e18) {
		return n.done(from, comma, ok && n.raw("null"))
	}
	unit := math.Pow10(decimals)
	scaled := uint64(math.Abs(v)*unit + 0.5)
	if ok && v < 0 && scaled > 0 {
		ok = n.put('-')
	}
	ok = ok && n.number(strconv.AppendUint(n.scratch(), scaled/uint64(unit), 10))
	if ok && decimals > 0 {
		ok = n.put('.')
		for place := uint64(unit) / 10; place > 0 && ok; place /= 10 {
			ok = n.put('0' + byte(scaled/place%10))
		}
	}
	return n.done(from, comma, ok)
}

// Time is a time, ms since 1970, as text in UTC: 2026-03-02T08:00:00.000Z. null outside the years 0 to 9999.
func (n *Note) Time(key string, ms int64) *Note {
	from, comma, ok := n.begin(key)
	const day = 86_400_000
	days := ms / day
	if ms %= day; ms < 0 {
		ms, days = ms+day, days-1
	}
	year, month, of := date(days)
	if year < 0 || year > 9999 {
		return n.done(from, comma, ok && n.raw("null"))
	}
	ok = ok && n.put('"') && n.digits(year, 1000, '-') && n.digits(month, 10, '-') && n.digits(of, 10, 'T') &&
		n.digits(ms/3_600_000, 10, ':') && n.digits(ms/60_000%60, 10, ':') && n.digits(ms/1000%60, 10, '.') && n.digits(ms%1000, 100, 'Z') && n.put('"')
	return n.done(from, comma, ok)
}

// digits writes a number from the digit at place on, and what is behind it.
func (n *Note) digits(v, place int64, behind byte) bool {
	for ok := true; place > 0 && ok; place /= 10 {
		ok = n.put('0' + byte(v/place%10))
	}
	return n.put(behind)
}

// date is the date of a day since 1970 in the Gregorian calendar. Years are counted from March, so that the day that is not always
// there is the last of them, and in eras of 400.
func date(day int64) (year, month, ofMonth int64) {
	const era = 146_097
	since := day + 719_468 // 0000-03-01
	eras, of := since/era, since%era
	if of < 0 {
		eras, of = eras-1, of+era
	}
	year = (of - of/1460 + of/36_524 - of/146_096) / 365
	ofYear := of - (365*year + year/4 - year/100)
	month = (5*ofYear + 2) / 153
	ofMonth = ofYear - (153*month+2)/5 + 1
	if month += 3; month > 12 {
		month -= 12
		year++
	}
	return eras*400 + year, month, ofMonth
}

// Bool is true or false.
func (n *Note) Bool(key string, v bool) *Note {
	from, comma, ok := n.begin(key)
	if v {
		return n.done(from, comma, ok && n.raw("true"))
	}
	return n.done(from, comma, ok && n.raw("false"))
}

// Object opens an object.
func (n *Note) Object(key string) *Note { return n.level(key, '{', '}') }

// Array opens an array.
func (n *Note) Array(key string) *Note { return n.level(key, '[', ']') }

// End closes what was opened last.
func (n *Note) End() *Note {
	switch {
	case n.skipped > 0:
		n.skipped--
	case n.depth > 1:
		n.depth--
		n.b = append(n.b, n.stack[n.depth])
		n.comma = true
	}
	return n
}

func (n *Note) level(key string, open, close byte) *Note {
	if n.depth == 0 {
		return n
	}
	if n.skipped > 0 || n.depth == depthMax {
		n.left = true
		n.skipped++
		return n
	}
	from, comma, ok := n.begin(key)
	if ok = ok && n.put(open) && n.room() >= 1; !ok { // room for what closes it
		n.done(from, comma, false)
		n.skipped++
		return n
	}
	n.stack[n.depth] = close
	n.depth++
	n.comma = false
	return n
}

// begin writes what stands before a value, and says where it began.
func (n *Note) begin(key string) (from int, comma, ok bool) {
	from, comma = len(n.b), n.comma
	if n.depth == 0 || n.skipped > 0 {
		return from, comma, false
	}
	ok = !comma || n.put(',')
	if ok && n.stack[n.depth-1] == '}' {
		ok = n.quoted(key) && n.put(':')
	}
	return from, comma, ok
}

// done ends a field, which fits whole or is left out.
func (n *Note) done(from int, comma, ok bool) *Note {
	switch {
	case ok:
		n.comma = true
	case n.depth > 0:
		n.b, n.comma, n.left = n.b[:from], comma, true
	}
	return n
}

// room is how many bytes may still be written: what closes the note stays free.
func (n *Note) room() int { return cap(n.b) - len(n.b) - n.depth - len(cut) }

// scratch is free memory behind what is written, for numbers: appending to it needs none elsewhere.
func (n *Note) scratch() []byte {
	if n.room() < 20 {
		return nil
	}
	return n.b[len(n.b):len(n.b):cap(n.b)]
}

func (n *Note) number(digits []byte) bool {
	if len(digits) > n.room() {
		return false
	}
	n.b = append(n.b, digits...)
	return true
}

func (n *Note) put(c byte) bool {
	if n.room() < 1 {
		return false
	}
	n.b = append(n.b, c)
	return true
}

func (n *Note) raw(s string) bool {
	if len(s) > n.room() {
		return false
	}
	n.b = append(n.b, s...)
	return true
}

func (n *Note) quoted(s string) bool {
	ok := n.put('"')
	for _, r := range s {
		ok = ok && n.rune(r)
	}
	return ok && n.put('"')
}

func (n *Note) rune(r rune) bool {
	const hex = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return n.put('\\') && n.put(byte(r))
	case r < 0x20:
		return n.raw(`\u00`) && n.put(hex[r>>4]) && n.put(hex[r&15])
	case r < utf8.RuneSelf:
		return n.put(byte(r))
	case n.room() < utf8.UTFMax:
		return false
	}
	n.b = utf8.AppendRune(n.b, r)
	return true
}
