package event

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func millis(t *testing.T, format, zone string, v Value) (int64, error) {
	t.Helper()
	f, err := NewTimeFormat(format, zone)
	if err != nil {
		t.Fatal(err)
	}
	return f.Millis(v)
}

func str(s string) Value { return Value{String, []byte(s)} }
func num(s string) Value { return Value{Number, []byte(s)} }

func TestTimes(t *testing.T) {
	for _, x := range []struct {
		format, zone string
		v            Value
		want         string // RFC 3339, or empty for an error
	}{
		{"", "", str("2026-03-02T08:00:00Z"), "2026-03-02T08:00:00Z"}, {"", "", str("2026-03-02 08:00:00"), "2026-03-02T08:00:00Z"},
		{"", "", str("2026-03-02t08:00:00.123456789+01:30"), "2026-03-02T06:30:00.123Z"}, {"", "Europe/Berlin", str("2026-07-02 08:00:00"), "2026-07-02T06:00:00Z"},
		{"", "Europe/Berlin", str("2026-07-02T08:00:00Z"), "2026-07-02T08:00:00Z"}, {"", "", str("1969-12-31T23:59:59.9Z"), "1969-12-31T23:59:59.9Z"},
		{"", "", str("2026-02-29T00:00:00Z"), ""}, {"", "", str("2026-13-01T00:00:00Z"), ""}, {"", "", str("2026-01-01T24:00:00Z"), ""}, {"", "", str("2026-01-01T00:00:60Z"), ""},
		{"", "", str("2026-01-01T00:00:00.Z"), ""}, {"", "", str("2026-01-01T00:00:00+0100"), ""}, {"", "", num("1700000000"), ""}, {"", "", str(""), ""},
		{"epoch_s", "", num("1700000000"), "2023-11-14T22:13:20Z"}, {"epoch_s", "", str("1700000000.5"), "2023-11-14T22:13:20.5Z"}, {"epoch_ms", "", num("-1"), "1969-12-31T23:59:59.999Z"},
		{"epoch_us", "", num("-1"), "1969-12-31T23:59:59.999Z"}, {"epoch_ns", "", num("1700000000123456789"), "2023-11-14T22:13:20.123Z"}, {"epoch_s", "", num("1e300"), ""}, {"epoch_s", "", num("9223372036854775807"), ""},
		{"epoch_s", "", num("1591367999.305988"), "2020-06-05T14:39:59.305Z"}, {"epoch_s", "", num("-0.0005"), "1969-12-31T23:59:59.999Z"}, {"epoch_s", "", str("1e400"), ""}, {"epoch_ms", "", num("1.7e12"), "2023-11-14T22:13:20Z"},
		{"epoch_ms", "", str("x"), ""}, {"epoch_s", "", str("NaN"), ""}, {"epoch_s", "", str("Infinity"), ""}, {"epoch_s", "", Value{Bool, []byte("true")}, ""}, {"epoch_s", "", Value{Array, []byte("[1]")}, ""},
		{"", "", str("0001-01-01T00:00:00Z"), "0001-01-01T00:00:00Z"}, {"", "", str("9999-12-31T23:59:59.999Z"), "9999-12-31T23:59:59.999Z"}, {"", "", str("9999-12-31T23:59:59.999-00:01"), ""}, {"", "", str("0000-01-01T00:00:00+00:01"), ""}, {"02/Jan/2006:15:04:05 -0700", "", str("10/Oct/2000:13:55:36 -0700"), "2000-10-10T20:55:36Z"}, {"2006-01-02 15:04", "America/New_York", str("2026-01-05 12:00"), "2026-01-05T17:00:00Z"},
	} {
		got, err := millis(t, x.format, x.zone, x.v)
		if x.want == "" {
			if err == nil {
				t.Errorf("%s %q: %d, want an error", x.format, x.v.Text, got)
			}
			continue
		}
		want, _ := time.Parse(time.RFC3339Nano, x.want)
		if err != nil || got != want.UnixMilli() {
			t.Errorf("%s %q: %s %v, want %s", x.format, x.v.Text, AppendTime(nil, got), err, x.want)
		}
	}
	for _, bad := range [][2]string{{"rfc", ""}, {"15:04:05", ""}, {"", "Mars/Olympus"}} {
		if _, err := NewTimeFormat(bad[0], bad[1]); err == nil {
			t.Errorf("%v is no format", bad)
		}
	}
}

// Years beyond those of RFC 3339, where windows of events within them end, are ECMAScript's.
func TestExpandedYears(t *testing.T) {
	for want, at := range map[string]time.Time{
		"+010000-01-01T00:00:00.000Z": time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), "9999-12-31T23:59:59.999Z": time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC),
		"0000-01-01T00:00:00.000Z": time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), "-000001-12-31T23:59:59.999Z": time.Date(-1, 12, 31, 23, 59, 59, 999e6, time.UTC),
		"+123456-07-08T00:00:00.001Z": time.Date(123_456, 7, 8, 0, 0, 0, 1e6, time.UTC), "-004711-02-28T12:00:00.000Z": time.Date(-4711, 2, 28, 12, 0, 0, 0, time.UTC),
	} {
		if got := string(AppendTime(nil, at.UnixMilli())); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// A fraction of an epoch is cut exactly: a float64 would take .999999999 for the next millisecond.
func TestEpochFractions(t *testing.T) {
	for ms := range int64(1000) {
		for format, text := range map[string]string{"epoch_s": fmt.Sprintf("1591367999.%03d999999", ms), "epoch_us": fmt.Sprintf("1591367999%03d999.999999", ms), "epoch_ns": fmt.Sprintf("1591367999%03d.0e6", ms)} {
			if got, err := millis(t, format, "", num(text)); err != nil || got != 1_591_367_999_000+ms {
				t.Fatalf("%s %s: %d, %v", format, text, got, err)
			}
		}
	}
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-03-02T08:00:00Z", "2024-02-29T23:59:59.999999999-11:59", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.9Z", "2026-03-02 08:00:00,5Z"} {
		f.Add(s)
	}
	format, _ := NewTimeFormat("", "")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := format.Millis(str(s))
		want, wantErr := time.Parse(time.RFC3339Nano, s)
		if err == nil && wantErr == nil && got != want.UnixMilli() {
			t.Fatalf("%q: %d, want %d", s, got, want.UnixMilli())
		}
		if wantErr == nil && err != nil && len(s) <= 35 && want.UnixMilli() >= timeMin && want.UnixMilli() <= timeMax {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && wantErr != nil && len(s) > 10 && s[10] == 'T' && (s[len(s)-1] == 'Z' || s[len(s)-1] != 'z' && len(s) > 19 && s[len(s)-3] == ':' && s[len(s)-6] != ':') {
			t.Fatalf("%q: %d, time.Parse says %v", s, got, wantErr)
		}
	})
}

func TestAppendTime(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	format, _ := NewTimeFormat("", "")
	for range 20_000 {
		ms := timeMin + r.Int64N(timeMax-timeMin+1)
		got := AppendTime(nil, ms)
		if want := time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"); string(got) != want {
			t.Fatalf("%d: %s, want %s", ms, got, want)
		}
		if back, err := format.Millis(Value{String, got}); err != nil || back != ms {
			t.Fatalf("%s: back it is %d, %v", got, back, err)
		}
	}
}

func BenchmarkTime(b *testing.B) {
	format, _ := NewTimeFormat("", "")
	v := str("2026-03-02T08:00:00.123Z")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := format.Millis(v); err != nil {
			b.Fatal(err)
		}
	}
}
