package pipeline

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// cutRecordsOf cuts everything into records, from offset on.
func cutRecordsOf(src io.Reader, m *multiline, off int64, block, linesMax, lineMax int) (lines []cutLine) {
	c := &lineCutter{src: src, off: off, lineMax: lineMax, linesMax: linesMax, multi: m,
		fault: func(err error) (string, string) { return faultTruncated, err.Error() }}
	for more := true; more; {
		b := &event.Block{Data: make([]byte, 0, block)}
		more = c.next(b)
		for i, l := range b.Lines {
			lines = append(lines, cutLine{l.Off, l.Next, string(b.Line(i)), l.Fault})
		}
	}
	return lines
}

// recordsNaively joins the lines that splitNaively finds.
func recordsNaively(data string, m *multiline, lineMax int) (records []cutLine) {
	lines := 0
	for _, l := range splitNaively(data, lineMax) {
		if n := len(records) - 1; n >= 0 && lines > 0 && lines < m.linesMax && l.fault == "" && m.pattern.MatchString(l.text) == m.continued {
			if all := data[records[n].off : int(l.off)+len(l.text)]; len(all) <= lineMax {
				records[n].text, records[n].next = all, l.next
				lines++
				continue
			}
		}
		if lines = 1; l.fault != "" {
			lines = 0
		}
		records = append(records, l)
	}
	return records
}

func FuzzMultiline(f *testing.F) {
	f.Add([]byte("1 a\n  b\n\n\n  c\r\n2 d\n3 e\r\n\te\n \n"), 5, 2, 100, 3, true)
	f.Add([]byte("  lost\n1 a\n  "+strings.Repeat("x", 200)+"\n  b\n4\n  "+strings.Repeat("y", 3000)+"\n  c\n"), 50, 3, 150, 4, false)
	f.Add([]byte("\xef\xbb\xbf1\n 1\n 1\n 1\n 1\n 1\n 1\n 1"), 9, 1, 10, 2, true)
	f.Fuzz(func(t *testing.T, data []byte, block, linesMax, lineMax, most int, continued bool) {
		block, linesMax, lineMax = 1+block&0xfff, 1+linesMax&0xff, 1+lineMax&0xfff
		m := &multiline{pattern: regexp.MustCompile(`^\d`), continued: continued, linesMax: 2 + most&0xff}
		if continued {
			m.pattern = regexp.MustCompile(`^[ \t]`)
		}
		want := recordsNaively(string(data), m, lineMax)
		for _, src := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data)), iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(data)))} {
			if got := cutRecordsOf(src, m, 0, block, linesMax, lineMax); !slices.Equal(got, want) {
				t.Fatalf("block %d, lines %d, max_line %d, max_lines %d:\n got %+v\nwant %+v", block, linesMax, lineMax, m.linesMax, got, want)
			}
		}
		for i, l := range want {
			if got := cutRecordsOf(bytes.NewReader(data[l.next:]), m, l.next, block, linesMax, lineMax); !slices.Equal(got, want[i+1:]) {
				t.Fatalf("from %d:\n got %+v\nwant %+v", l.next, got, want[i+1:])
			}
		}
	})
}

// The fuzz test's check on many random texts.
func TestMultiline(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	pieces := []string{"1", "2 line", "\n", "\n", "\n", "\r\n", "  at f()", "\tat g()", " ", "x", strings.Repeat("long ", 40), "\xef\xbb\xbf"}
	for range 3000 {
		var text strings.Builder
		for range rnd.IntN(60) {
			text.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		data := text.String()
		m := &multiline{pattern: regexp.MustCompile(`^\d`), linesMax: 2 + rnd.IntN(6)}
		if rnd.IntN(2) == 0 {
			m.pattern, m.continued = regexp.MustCompile(`^\s`), true
		}
		block, linesMax, lineMax := 1+rnd.IntN(100), 1+rnd.IntN(5), 1+rnd.IntN(150)
		want := recordsNaively(data, m, lineMax)
		got := cutRecordsOf(iotest.HalfReader(strings.NewReader(data)), m, 0, block, linesMax, lineMax)
		if !slices.Equal(got, want) {
			t.Fatalf("block %d, lines %d, max_line %d, max_lines %d, continued %v: %q\n got %+v\nwant %+v", block, linesMax, lineMax, m.linesMax, m.continued, data, got, want)
		}
		for i, l := range want {
			if got := cutRecordsOf(strings.NewReader(data[l.next:]), m, l.next, block, linesMax, lineMax); !slices.Equal(got, want[i+1:]) {
				t.Fatalf("from %d of %q:\n got %+v\nwant %+v", l.next, data, got, want[i+1:])
			}
		}
	}
}

// A record that is longer than a block is read in memory that is bounded by max_line.
func TestMultilineInBoundedMemory(t *testing.T) {
	c := &lineCutter{src: io.LimitReader(repeated('\n'), 64<<20), lineMax: 64 << 10, linesMax: 10,
		multi: &multiline{pattern: regexp.MustCompile(`^\d`), linesMax: 100}}
	c.src = io.MultiReader(strings.NewReader("1 begins\n"), c.src, strings.NewReader("goes on\n"))
	b := &event.Block{Data: make([]byte, 0, 8<<10)}
	if !c.next(b) || len(b.Lines) != 1 || string(b.Line(0)) != "1 begins" || cap(b.Data) > 256<<10 {
		t.Errorf("%+v, a block of %d bytes", b.Lines, cap(b.Data))
	}
}

func TestFileLinesMultiline(t *testing.T) {
	t.Chdir(t.TempDir())
	text := "lost\n1 a\n  at b\n\n2 c\n  at d\n  at e\n3 f\n"
	put(t, "plain", text)
	put(t, "old.gz", gz(text))
	put(t, "wide", string(encodeUTF16("\ufeff"+text, false)))
	want := "lost|1 a\n  at b|2 c\n  at d\n  at e|3 f"
	conf := "paths: [%s]\nmultiline: { start: '^\\d' }\nencoding: "
	for file, encoding := range map[string]string{"plain": "utf-8", "old.gz": "windows-1252", "wide": "utf-16"} {
		parts := readLines(t, openLines(t, strings.Replace(conf, "%s", file, 1)+encoding, nil))
		var got []string
		for _, l := range parts[file+"#0"].lines {
			got = append(got, l.text)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%s: %q", file, got)
		}
	}
}

// Of a compressed file that is not whole yet, the record that is cut off comes whole when the rest is there.
func TestFileLinesMultilineTruncated(t *testing.T) {
	t.Chdir(t.TempDir())
	var text strings.Builder
	for i := range 40 {
		text.WriteString(strings.Repeat("1 begins\n\tgoes on\n\tand on\n", 1+i%2))
	}
	m := &multiline{pattern: regexp.MustCompile(`^\d`), linesMax: 500}
	all := recordsNaively(text.String(), m, 1<<20)
	whole := gz(text.String())
	for n := 1; n < len(whole); n++ {
		put(t, "x.gz", whole[:n])
		conf := "paths: [x.gz]\nmultiline: { start: '^\\d' }"
		first := readLines(t, openLines(t, conf, nil))
		add(t, "x.gz", whole[n:])
		rest := readLines(t, openLines(t, conf, positionsOf(first)))
		lines := first["x.gz#0"].lines
		if got := append(lines[:len(lines)-1], rest["x.gz#0"].lines...); !slices.Equal(got, all) {
			t.Fatalf("cut at %d: %+v", n, got)
		}
	}
}

func TestFollowMultiline(t *testing.T) {
	t.Chdir(t.TempDir())
	c := collected(t, "paths: [log*]\nquiet_after: 100ms\nmultiline: { continued: '^\\s', flush_after: 1h }")
	add(t, "log", "1\n  a\n")
	c.quiet()
	c.want() // it may go on
	c.restart()
	add(t, "log", "  b\n2\n  hal")
	c.want("1\n  a\n  b")
	c.restart()
	add(t, "log", "f\n")
	c.quiet()
	c.want("1\n  a\n  b")
	os.Rename("log", "log.1") // its end is an end
	c.want("1\n  a\n  b", "2\n  half")
	// A truncated file's last record is whole, too.
	add(t, "log", "3\n  a\n  ha")
	c.quiet()
	put(t, "log", "4\n")
	c.want("1\n  a\n  b", "2\n  half", "3\n  a", "!truncated ha")
	c.stop()
	c.conf = strings.Replace(c.conf, "1h", "50ms", 1)
	c.start()
	c.want("1\n  a\n  b", "2\n  half", "3\n  a", "!truncated ha", "4")
	add(t, "log", "  5\n  hal")
	c.until("the pause", func() bool { return len(c.lines) == 6 })
	if c.lines[5] != "  5" {
		t.Errorf("got %q", c.lines)
	}
}
