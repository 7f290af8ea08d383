package pipeline

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"golang.org/x/text/encoding/htmlindex"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// cutIn cuts everything from offset on in an encoding, and counts the lines that had to be mended.
func cutIn(src io.Reader, set *charset, data []byte, off int64, block, linesMax, lineMax int) (lines []cutLine, bad int) {
	c := &lineCutter{src: src, off: off, lineMax: lineMax, linesMax: linesMax, charset: set, head: func() []byte { return data[:min(len(data), headSize)] },
		fault: func(err error) (string, string) { return faultTruncated, err.Error() }}
	for more := true; more; {
		b := &event.Block{Data: make([]byte, 0, block)}
		more = c.next(b)
		bad += b.Mended
		for i, l := range b.Lines {
			lines = append(lines, cutLine{l.Off, l.Next, string(b.Line(i)), l.Fault})
		}
	}
	return lines, bad
}

// utf16Naively is what lines of UTF-16 are, unit by unit, with encoding/utf16's idea of a text.
func utf16Naively(data []byte, big, marked bool, lineMax int) (lines []cutLine) {
	unit := func(at int) uint16 {
		if big {
			return uint16(data[at])<<8 | uint16(data[at+1])
		}
		return uint16(data[at+1])<<8 | uint16(data[at])
	}
	if marked && len(data) >= 2 {
		big = data[0] == 0xfe && data[1] == 0xff
	}
	at := 0
	if len(data) >= 2 && unit(0) == 0xfeff {
		at = 2
	}
	for at < len(data) {
		end, next := len(data), len(data)
		for i := at; i+2 <= len(data); i += 2 {
			if unit(i) == '\n' {
				end, next = i, i+2
				break
			}
		}
		odd := (end-at)%2 == 1
		if end-at >= 2 && !odd && unit(end-2) == '\r' {
			end -= 2
		}
		l := cutLine{off: int64(at), next: int64(next)}
		if end-at > lineMax {
			l.fault, end = faultTooLong, min(end, at+faultBytes)
			odd = (end-at)%2 == 1
		}
		var units []uint16
		for i := at; i+2 <= end; i += 2 {
			units = append(units, unit(i))
		}
		l.text = string(utf16.Decode(units))
		if odd {
			l.text += "\uFFFD"
		}
		if l.fault != "" || strings.Trim(l.text, " \t\r\n\v\f") != "" {
			lines = append(lines, l)
		}
		at = next
	}
	return lines
}

func encodeUTF16(s string, big bool) (out []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		if big {
			out = append(out, byte(u>>8), byte(u))
		} else {
			out = append(out, byte(u), byte(u>>8))
		}
	}
	return out
}

func FuzzUTF16(f *testing.F) {
	text := "\ufeffone\r\n\n  \nt\u0a0ao\u0a00\u000a\u0d0a😀\n" + strings.Repeat("x", 700) + "\nlast"
	f.Add(encodeUTF16(text, false), 16, 2, 100, 0)
	f.Add(encodeUTF16(text, true), 5, 2, 600, 1)
	f.Add(append(encodeUTF16(text, true), 0), 30, 1, 5, 2)
	f.Add([]byte("\x00\n\x00\n\n\x00\xd8\x00\n\x00\n"), 3, 3, 50, 1)
	f.Fuzz(func(t *testing.T, data []byte, block, linesMax, lineMax, kind int) {
		block, linesMax, lineMax = 1+block&0xfff, 1+linesMax&0xff, 1+lineMax&0xfff
		name := []string{"utf-16le", "utf-16be", "utf-16"}[kind&0xff%3]
		set, err := charsetOf(name)
		if err != nil {
			t.Fatal(err)
		}
		want := utf16Naively(data, name == "utf-16be", name == "utf-16", lineMax)
		for _, src := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data))} {
			if got, _ := cutIn(src, set, data, 0, block, linesMax, lineMax); !slices.Equal(got, want) {
				t.Fatalf("%s, block %d, lines %d, max_line %d:\n got %+v\nwant %+v", name, block, linesMax, lineMax, got, want)
			}
		}
		for i, l := range want {
			if got, _ := cutIn(bytes.NewReader(data[l.next:]), set, data, l.next, block, linesMax, lineMax); !slices.Equal(got, want[i+1:]) {
				t.Fatalf("%s from %d:\n got %+v\nwant %+v", name, l.next, got, want[i+1:])
			}
		}
	})
}

// In each encoding that there is, lines are those of the bytes, and their text is what its decoder says of each.
func TestEncodings(t *testing.T) {
	for _, name := range []string{"latin1", "iso-8859-15", "windows-1251", "koi8-u", "ibm866", "macintosh", "gbk", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"} {
		set, err := charsetOf(name)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := htmlindex.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for i := range 3000 {
			all = append(all, byte(i*7), byte(i*i>>3), byte(i*i*i>>5))
		}
		var want []cutLine
		bad := 0
		for _, l := range splitNaively(strings.TrimPrefix(string(all), "\xef\xbb\xbf"), 1<<20) {
			text, err := enc.NewDecoder().String(l.text)
			if err != nil {
				t.Fatal(err)
			}
			if l.text = text; strings.Contains(text, "\uFFFD") {
				bad++
			}
			want = append(want, l)
		}
		got, n := cutIn(bytes.NewReader(all), set, all, 0, 64, 3, 1<<20)
		if !slices.Equal(got, want) || n != bad {
			t.Errorf("%s: %d lines of which %d bad, want %d and %d", name, len(got), n, len(want), bad)
		}
	}
}

func TestFileLinesEncoded(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "a", "caf\xe9 \x80\nna\xefve")
	put(t, "b.gz", gz("r\xe9sum\xe9\n"))
	parts := readLines(t, openLines(t, "paths: [a, b.gz]\nencoding: latin1", nil))
	if a, b := textsOf(parts["a#0"]), textsOf(parts["b.gz#0"]); a != "café € naïve" || b != "résumé" {
		t.Errorf("%q, %q", a, b)
	}
	if off := parts["a#0"].lines[1].off; off != 7 {
		t.Errorf("offsets are not those of the file: %d", off)
	}
	// UTF-16 goes on where it was, plain and compressed, the byte order being known from the beginning alone.
	for i, big := range []bool{false, true} {
		name := fmt.Sprintf("%d.log", i)
		text := func(s string) string { return string(encodeUTF16(s, big)) }
		put(t, name, text("\ufeffone\r\nzw\u00f6lf\n"))
		put(t, name+".gz", gz(text("\ufeffone\r\nzw\u00f6lf\n")))
		first := readLines(t, openLines(t, "paths: ['"+name+"*']\nencoding: utf-16", nil))
		add(t, name, text("drei\n"))
		add(t, name+".gz", gz(text("drei\n")))
		second := readLines(t, openLines(t, "paths: ['"+name+"*']\nencoding: utf-16", positionsOf(first)))
		for _, part := range []string{name + "#0", name + ".gz#0"} {
			if a, b := textsOf(first[part]), textsOf(second[part]); a != "one zwölf" || b != "drei" {
				t.Errorf("%s: %q, then %q", part, a, b)
			}
		}
	}
}

func TestFollowUTF16(t *testing.T) {
	t.Chdir(t.TempDir())
	text := func(s string) string { return string(encodeUTF16(s, true)) }
	add(t, "log", text("\ufeff"+strings.Repeat("old line\n", 10_000)+"h\u0a00l"))
	c := collected(t, "paths: [log]\nencoding: utf-16\nstart: end\nmax_line: 100")
	c.quiet()
	half := text("f")
	add(t, "log", half[:1])
	c.quiet()
	c.restart()
	add(t, "log", half[1:]+text("\nnew\n"+strings.Repeat("x", 90)))
	c.quiet()
	add(t, "log", text(strings.Repeat("\u0a0a", 600)+"\nshort\n"))
	c.want("h\u0a00lf", "new", "!line_too_long "+strings.Repeat("x", 90)+strings.Repeat("\u0a0a", 422), "short")
	os.Truncate("log", 0)
	add(t, "log", string(encodeUTF16("\ufeffanders\n", false)))
	c.until("the other order", func() bool { return c.lines[len(c.lines)-1] == "anders" })
}

// Lines that are shorter than a block has room for do not wait for the file's next change.
func TestFollowShortLines(t *testing.T) {
	t.Chdir(t.TempDir())
	add(t, "log", strings.Repeat("x\n", 5000))
	c := collected(t, "paths: [log]")
	c.until("all", func() bool { return len(c.lines) == 5000 })
}
