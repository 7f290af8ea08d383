package draft

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Each log as people have them, what is found out about it, and the rule: its condition, key and threshold, counted here by hand.
func TestLook(t *testing.T) {
	many := func(n int, line func(i int) string) (out []string) {
		for i := range n {
			out = append(out, line(i))
		}
		return out
	}
	for _, x := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"json", many(30, func(i int) string {
			return fmt.Sprintf(`{"when":{"time":"2026-03-02T08:00:%02dZ"},"src":"10.0.0.%d","user.name":"u%d","outcome":"%s","n":%d}`, i, i%3, i%10, []string{"success", "failure"}[i%2], i)
		}), `json, time when.time "", { outcome: [failure] } by src >= 5, others user\.name, 30 of 30`},
		{"numbers for times", many(10, func(i int) string { return fmt.Sprintf(`{"id":%d,"ts":%d,"host":"h%d"}`, i, 1772438400000+i*100, i%2) }), `json, time ts "epoch_ms",  by host >= 5, others , 10 of 10`},
		{"seconds with fractions", many(10, func(i int) string { return fmt.Sprintf(`{"ts":%d.5,"host":"h%d"}`, 1772438400+i, i%2) }), `json, time ts "epoch_s",  by host >= 5, others , 10 of 10`},
		{"syslog", many(20, func(i int) string {
			return fmt.Sprintf("Mar  2 08:00:%02d web1 sshd[%d]: %s password for u%d from 203.0.113.%d port 22", i, i, []string{"Failed", "Accepted"}[i%2], i%4, i%5)
		}), `{ syslog: { message: '\b(?P<address>\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})\b' } }, time  "", { message|contains: [failed] } by address >= 2, others , 20 of 20`},
		{"combined", many(12, func(i int) string {
			return fmt.Sprintf(`192.0.2.%d - - [02/Mar/2026:09:00:%02d +0100] "GET / HTTP/1.1" %d 17 "-" "x"`, i%2, i, []int{200, 404, 500}[i%3])
		}), `combined, time  "", { status|gte: 400 } by client >= 4, others , 12 of 12`},
		{"csv with a header", append([]string{"time;src;action"}, many(9, func(i int) string {
			return fmt.Sprintf("2026-03-02 08:00:%02d;10.1.1.%d;%s", i, i%2, []string{"allow", "DENY"}[i%2])
		})...), `{ csv: { delimiter: ";" } }, time time "", { action: [DENY] } by src >= 4, others , 9 of 9`},
		{"csv without", many(9, func(i int) string { return fmt.Sprintf("02.03.2026 08:00:%02d,10.1.1.%d,443", i, i%2) }),
			`{ csv: { fields: [field1, field2, field3] } }, time field1 "02.01.2006 15:04:05",  by field2 >= 5, others , 9 of 9`},
		{"logfmt", many(9, func(i int) string {
			return fmt.Sprintf(`ts=2026-03-02T08:00:%02d.1Z level=error msg="login failed" user=u%d ip=fe80::1:%d`, i, i%3, i%2)
		}), `logfmt, time ts "", { level: [error] } by ip >= 5, others user, 9 of 9`},
		{"cef", many(6, func(i int) string {
			return fmt.Sprintf("CEF:0|V|P|1|100|worm|10|rt=%d src=10.0.0.%d act=blocked", 1772438400000+i, i%2)
		}), `cef, time rt "epoch_ms", { act: [blocked] } by src >= 3, others , 6 of 6`},
		{"text", many(8, func(i int) string {
			return fmt.Sprintf("2026-03-02 08:00:%02d,123 WARN  login of u%d from 10.0.0.%d refused", i, i, i%2)
		}), `a time and a text, time time "", { message|contains: [refused] } by address >= 4, others , 8 of 8`},
		{"no time", many(4, func(i int) string { return fmt.Sprintf(`{"host":"h%d"}`, i%2) }), `json, no time,  by host >= 2, others , 4 of 4`},
		{"some are broken", append([]string{"{", "", `{"t":"x","host":"a"}`}, many(20, func(i int) string { return fmt.Sprintf(`{"t":"2026-03-02T08:00:%02dZ","host":"h%d"}`, i, i%2) })...),
			`json, time t "",  by host >= 10, others , 20 of 22`},
		{"nothing to count", many(4, func(i int) string { return fmt.Sprintf(`{"t":"2026-03-02T08:00:%02dZ","n":%d}`, i, i) }), `json, time t "",  by  >= 4, others , 4 of 4`},
		{"prose", []string{"once upon a time", "there was a log", "that nobody could read"}, "error"},
		{"empty", []string{"", " "}, "error"},
	} {
		l, err := Look(Sample{Paths: []string{"x.log"}, Lines: bytes.Split([]byte(strings.Join(x.lines, "\n")), []byte("\n")), Changed: time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)})
		if got := summary(l, err); got != x.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", x.name, got, err, x.want)
		}
	}
}

func summary(l *Log, err error) string {
	if err != nil {
		return "error"
	}
	format := l.Format
	switch {
	case format == "":
		format = "json"
	case strings.Contains(format, "regex"):
		format = timeAndText
	}
	at := fmt.Sprintf("time %s %q", l.Time, l.TimeFormat)
	if l.Timeless {
		at = "no time"
	}
	r := l.Rule
	rule := fmt.Sprintf("%s by %s >= %d, others %s", r.Where, r.Key, r.Least, r.Other)
	return fmt.Sprintf("%s, %s, %s, %d of %d", format, at, rule, l.Read, l.Lines)
}

// The files of one log are one stream.
func TestGroup(t *testing.T) {
	got := fmt.Sprint(Group([]string{"a/auth.log", "a/auth.log.1", "a/auth.log.2.gz", "a/auth-20260302.log", "b/auth.log", "a/web.log", "a/auth2.log"}))
	want := "[[a/auth.log a/auth.log.1 a/auth.log.2.gz a/auth-20260302.log] [a/auth2.log] [a/web.log] [b/auth.log]]"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// Whoever writes a log does not write the pipeline: names and values with line ends stay where they are.
func TestHostileNames(t *testing.T) {
	line := []byte(`{"t":"2026-03-02T08:00:00Z","user\noutput: {drop: {}}\n#":"a\nb: c","host":"h\n- x"}`)
	l, err := Look(Sample{Paths: []string{"x\ny: z.log"}, Lines: [][]byte{line, line, line}, Changed: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range strings.Split(Write("x", []*Log{l}), "\n") {
		if strings.HasPrefix(row, "output: {") || strings.HasPrefix(row, "b:") || strings.HasPrefix(row, "y:") || strings.HasPrefix(row, "- x") {
			t.Errorf("a line of the log's making: %s", row)
		}
	}
}

// What is written of a sample stands word by word in testdata/auth.yaml.
func TestWrite(t *testing.T) {
	lines := []string{"Mar  2 08:00:03 web1 sshd[1]: Failed password for ann from 203.0.113.9 port 22", "Mar  2 08:00:01 web1 sshd[1]: Failed password for ben from 203.0.113.9 port 22", "Mar  2 08:00:04 web1 sshd[1]: Accepted password for ben from 203.0.113.7 port 22"}
	l, err := Look(Sample{Paths: []string{"/var/log/auth.log", "/var/log/auth.log.1"}, Lines: bytes.Split([]byte(strings.Join(lines, "\n")), []byte("\n")), Changed: time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/auth.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := Write("auth", []*Log{l}); got != string(want) {
		t.Errorf("got\n%s", got)
	}
}
