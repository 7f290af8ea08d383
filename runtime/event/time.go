package event

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The range of event time: the years 0 to 9999, epoch milliseconds.
var (
	timeMin = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	timeMax = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli()
)

// TimeFormat reads the time of events.
type TimeFormat struct {
	name   string
	layout string // a Go layout, else empty
	unit   int64  // epoch formats: units a second
	zone   *time.Location
	syslog bool // RFC 3339, or RFC 3164's Jan _2 15:04:05
	yearly bool // the layout has no year
}

// epochs are the formats of numbers, by units a second.
var epochs = map[string]int64{"epoch_s": 1, "epoch_ms": 1e3, "epoch_us": 1e6, "epoch_ns": 1e9}

// NewTimeFormat knows rfc3339 (the default, also with a space for the T), syslog (that, or RFC 3164's "Jan _2 15:04:05"), epoch_s,
// epoch_ms, epoch_us, epoch_ns, or a Go layout. Without a year it is the last one that does not bring the event ahead of the time when its line was written. zone is an IANA name and says where times without one are; default UTC.
func NewTimeFormat(format, zone string) (*TimeFormat, error) {
	t := &TimeFormat{name: format, zone: time.UTC}
	if zone != "" {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			return nil, fmt.Errorf("zone %q is unknown; write an IANA name such as Europe/Berlin", zone)
		}
		t.zone = loc
	}
	switch {
	case format == "" || format == "rfc3339":
		t.name = "rfc3339"
	case format == "syslog":
		t.syslog = true
	case epochs[format] > 0:
		t.unit = epochs[format]
	case !strings.ContainsAny(format, "0123456789"):
		return nil, fmt.Errorf("format %q is unknown; known are rfc3339, syslog, epoch_s, epoch_ms, epoch_us, epoch_ns, or a Go layout such as \"2006-01-02 15:04:05\"", format)
	case !hasYear(format) && !hasDay(format):
		return nil, fmt.Errorf("layout %q has no year, and no month and day to find it by", format)
	default:
		t.layout, t.yearly = format, !hasYear(format)
	}
	return t, nil
}

// The date that layouts are written with, Monday 2 January 2006, read as such shows what a layout tells apart.
func hasYear(layout string) bool {
	a, b := time.Date(2006, 1, 2, 3, 4, 5, 6e6, time.UTC), time.Date(2017, 1, 2, 3, 4, 5, 6e6, time.UTC)
	return a.Format(layout) != b.Format(layout)
}

func hasDay(layout string) bool {
	a := time.Date(2006, 1, 2, 3, 4, 5, 6e6, time.UTC)
	return a.Format(layout) != a.AddDate(0, 1, 0).Format(layout) && a.Format(layout) != a.AddDate(0, 0, 7).Format(layout)
}

// NeedsYear says whether some times of the format have no year.
func (t *TimeFormat) NeedsYear() bool { return t.syslog || t.yearly }

// Millis reads a cell as epoch milliseconds, cut toward the past; a time without year is of 1970's neighbourhood.
func (t *TimeFormat) Millis(v Value) (int64, error) { return t.Near(v, 0) }

// Near is Millis with the time, epoch milliseconds, at about which the line of an event without year was written.
func (t *TimeFormat) Near(v Value, near int64) (int64, error) {
	var ms int64
	var err error
	switch {
	case t.unit > 0:
		ms, err = t.epoch(v)
	case v.Kind != String:
		err = fmt.Errorf("%s is a %s; a time must be a string, or say format: epoch_s, epoch_ms, epoch_us or epoch_ns", cut(v.Text), v.Kind)
	case t.syslog && len(v.Text) > 0 && v.Text[0] > '9':
		ms, err = t.rfc3164(v.Text, near)
	case t.layout != "":
		var x time.Time
		if x, err = time.ParseInLocation(t.layout, string(v.Text), t.zone); err != nil {
			err = fmt.Errorf("%q does not fit the layout %q", cut(v.Text), t.layout)
		}
		if ms = x.UnixMilli(); t.yearly && err == nil {
			ms, err = t.dated(x, near)
		}
	default:
		ms, err = t.rfc3339(v.Text)
	}
	if err == nil && (ms < timeMin || ms > timeMax) {
		err = fmt.Errorf("%q is not within the years 0 to 9999", cut(v.Text))
	}
	return ms, err
}

// cut shortens what an error shows.
func cut(b []byte) []byte { return b[:min(len(b), 64)] }

func (t *TimeFormat) epoch(v Value) (int64, error) {
	if n, ok := v.Int(); ok {
		switch {
		case t.unit >= 1000:
			return floorDiv(n, t.unit/1000), nil
		case n > math.MaxInt64/1000 || n < math.MinInt64/1000:
			return 0, fmt.Errorf("%s is out of range", cut(v.Text))
		}
		return n * 1000, nil
	}
	d, ok := ParseDecimal(v.Text)
	if !ok || v.Kind != Number && v.Kind != String {
		return 0, fmt.Errorf("%q is not a number, and the format is %s", cut(v.Text), t.name)
	}
	ms, ok := d.Floor(map[int64]int{1: 3, 1e3: 0, 1e6: -3, 1e9: -6}[t.unit]) // exact: a float64 takes .999999999 for the next one
	if !ok {
		return 0, fmt.Errorf("%s is out of range", cut(v.Text))
	}
	return ms, nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

var errLayout = errors.New("write it as 2006-01-02T15:04:05Z")

// rfc3339 reads 2006-01-02T15:04:05[.fraction][Z|+hh:mm] with T, t or a space in the middle; without a zone it is in t.zone.
func (t *TimeFormat) rfc3339(b []byte) (int64, error) {
	bad := func(why string) (int64, error) {
		return 0, fmt.Errorf("%q is not an RFC 3339 time: %s", cut(b), why)
	}
	if len(b) < 19 || b[4] != '-' || b[7] != '-' || b[10] != 'T' && b[10] != ' ' && b[10] != 't' || b[13] != ':' || b[16] != ':' {
		return bad(errLayout.Error())
	}
	y1, y2, mon, day := two(b), two(b[2:]), two(b[5:]), two(b[8:])
	hour, min, sec := two(b[11:]), two(b[14:]), two(b[17:])
	year := y1*100 + y2
	switch {
	case y1 < 0 || y2 < 0 || mon < 0 || day < 0 || hour < 0 || min < 0 || sec < 0:
		return bad(errLayout.Error())
	case mon < 1 || mon > 12:
		return bad("month " + strconv.Itoa(mon))
	case day < 1 || day > daysIn(year, mon):
		return bad("day " + strconv.Itoa(day))
	case hour > 23:
		return bad("hour " + strconv.Itoa(hour))
	case min > 59:
		return bad("minute " + strconv.Itoa(min))
	case sec > 59:
		return bad("second " + strconv.Itoa(sec))
	}
	ms, rest, ok := fraction(b[19:])
	if !ok {
		return bad("a fraction without digits, or with more than nine")
	}
	at := (daysTo(year, mon, day)*86400+int64(hour)*3600+int64(min)*60+int64(sec))*1000 + ms
	switch {
	case len(rest) == 1 && rest[0]|0x20 == 'z':
		return at, nil
	case len(rest) == 0:
		if t.zone == time.UTC {
			return at, nil
		}
		return time.Date(year, time.Month(mon), day, hour, min, sec, int(ms)*1e6, t.zone).UnixMilli(), nil
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		h, m := two(rest[1:]), two(rest[4:])
		if h < 0 || h > 23 || m < 0 || m > 59 {
			return bad("offset " + string(rest))
		}
		off := int64(h*60+m) * 60_000
		if rest[0] == '-' {
			off = -off
		}
		return at - off, nil
	}
	return bad("offset " + string(cut(rest)) + ", which must be Z or like +01:00")
}

// rfc3164 reads Jan _2 15:04:05, in t.zone.
func (t *TimeFormat) rfc3164(b []byte, near int64) (int64, error) {
	const want = "write it as Jan _2 15:04:05"
	if len(b) != len("Jan _2 15:04:05") || b[3] != ' ' || b[6] != ' ' || b[9] != ':' || b[12] != ':' {
		return 0, fmt.Errorf("%q is not a time of RFC 3164: %s", cut(b), want)
	}
	mon, day, hour, min, sec := monthOf(b), two(b[4:]), two(b[7:]), two(b[10:]), two(b[13:])
	if b[4] == ' ' {
		day = int(b[5]) - '0'
	}
	if mon == 0 || day < 1 || day > daysIn(4, mon) || hour < 0 || hour > 23 || min < 0 || min > 59 || sec < 0 || sec > 59 {
		return 0, fmt.Errorf("%q is not a time of RFC 3164: %s", cut(b), want)
	}
	return t.dated(time.Date(4, time.Month(mon), day, hour, min, sec, 0, t.zone), near)
}

// ahead is how far a time without year may be ahead of the one that its line was written at: a clock that is wrong.
const ahead = 7 * 86_400_000

// dated gives a time the latest year that does not bring it ahead of the time when its line was written. 29 February is only in leap years,
// which are up to eight years apart.
func (t *TimeFormat) dated(x time.Time, written int64) (int64, error) {
	_, month, day := x.Date()
	year := time.UnixMilli(written).In(x.Location()).Year()
	for y := year + 1; ; y-- {
		if day > daysIn(y, int(month)) {
			continue
		}
		if at := time.Date(y, month, day, x.Hour(), x.Minute(), x.Second(), x.Nanosecond(), x.Location()).UnixMilli(); at <= written+ahead {
			return at, nil
		}
	}
}

// two reads two digits, -1 if they are none.
func two(b []byte) int {
	if b[0]-'0' > 9 || b[1]-'0' > 9 {
		return -1
	}
	return int(b[0]-'0')*10 + int(b[1]-'0')
}

// fraction reads up to nine digits after a point, as whole milliseconds.
func fraction(b []byte) (ms int64, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '.' && b[0] != ',' {
		return 0, b, true
	}
	n := 1
	for n < len(b) && b[n]-'0' <= 9 {
		if n <= 3 {
			ms = ms*10 + int64(b[n]-'0')
		}
		n++
	}
	for i := n; i <= 3; i++ {
		ms *= 10
	}
	return ms, b[n:], n > 1 && n <= 10
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysTo counts days from 1970-01-01 in the proleptic Gregorian calendar, with years that begin in March (Howard Hinnant,
// "chrono-Compatible Low-Level Date Algorithms", days_from_civil).
func daysTo(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := floorDiv(int64(year), 400)
	yoe := int64(year) - era*400
	doy := int64((153*(month-3)+2)/5 + day - 1)
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// AppendTime appends ms as RFC 3339 in UTC with exactly three digits of milliseconds. Beyond its years 0 to 9999, where the
// window of an event within them may end, years have a sign and six digits, as ISO 8601 and ECMAScript write them.
func AppendTime(dst []byte, ms int64) []byte {
	secs := floorDiv(ms, 1000)
	days := floorDiv(secs, 86400)
	rem, milli := int(secs-days*86400), int(ms-secs*1000)
	z := days + 719468
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day, month, year := int(doy-(153*mp+2)/5+1), int(mp+3), int(yoe+era*400)
	if month > 12 {
		month -= 12
		year++
	}
	if year < 0 || year > 9999 {
		sign := byte('+')
		if year < 0 {
			sign, year = '-', -year
		}
		dst = digits(append(dst, sign), year/10000, 0, 0)
	}
	dst = digits(dst, year/100, '-', 0)
	dst = digits(dst, year%100, '-', 1)
	dst = digits(dst, month, '-', 1)
	dst = digits(dst, day, 'T', 1)
	dst = digits(dst, rem/3600, ':', 1)
	dst = digits(dst, rem/60%60, ':', 1)
	dst = digits(dst, rem%60, '.', 1)
	return append(dst, byte('0'+milli/100), byte('0'+milli/10%10), byte('0'+milli%10), 'Z')
}

// digits appends two digits and, if n is 1, what comes after them.
func digits(dst []byte, v int, after byte, n int) []byte {
	dst = append(dst, byte('0'+v/10%10), byte('0'+v%10))
	if n == 1 {
		dst = append(dst, after)
	}
	return dst
}
