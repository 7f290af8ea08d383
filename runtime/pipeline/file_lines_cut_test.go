package pipeline

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// cutLine is a line as tests compare it.
type cutLine struct {
	off, next int64
	text      string
	fault     string
}

// cutAll cuts everything, from offset on, in blocks of about the given size.
func cutAll(src io.Reader, off int64, block, linesMax, lineMax int) (lines []cutLine) {
	c := &lineCutter{src: src, off: off, lineMax: lineMax, linesMax: linesMax,
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

// splitNaively is what cutting means, without blocks.
func splitNaively(data string, lineMax int) (lines []cutLine) {
	off := int64(0)
	if rest, ok := strings.CutPrefix(data, "\xef\xbb\xbf"); ok {
		data, off = rest, 3
	}
	for data != "" {
		line, rest, newline := strings.Cut(data, "\n")
		next := off + int64(len(line))
		if newline {
			next++
		}
		text := strings.TrimSuffix(line, "\r")
		switch {
		case len(text) > lineMax:
			lines = append(lines, cutLine{off, next, text[:min(len(text), faultBytes)], faultTooLong})
		case strings.Trim(text, " \t\r\v\f") != "":
			lines = append(lines, cutLine{off, next, text, ""})
		}
		data, off = rest, next
	}
	return lines
}

func TestCut(t *testing.T) {
	long := strings.Repeat("x", 3000)
	for _, c := range []struct {
		name, data string
		want       string // off-next:fault:text, of at most 10 bytes
	}{
		{"empty", "", ""},
		{"one", "a\n", "0-2::a"},
		{"no final newline", "a\nbc", "0-2::a 2-4::bc"},
		{"crlf", "a\r\nb\r\r\nc\r", "0-3::a 3-7::b\r 7-9::c"},
		{"blank", "\n \t\r\na\n\n\nb\n\n  ", "5-7::a 9-11::b"},
		{"bom", "\xef\xbb\xbfa\nb\n", "3-5::a 5-7::b"},
		{"bom alone", "\xef\xbb\xbf", ""},
		{"bom in the middle", "a\n\xef\xbb\xbfb\n", "0-2::a 2-7::\xef\xbb\xbfb"},
		{"nul", "\x00\n", "0-2::\x00"},
		{"too long", "a\n" + long + "\nb\n", "0-2::a 2-3003:line_too_long:xxxxxxxxxx 3003-3005::b"},
		{"too long at the end", long, "0-3000:line_too_long:xxxxxxxxxx"},
		{"just fits", long[:2000] + "\r\nb", "0-2002::xxxxxxxxxx 2002-2003::b"},
		{"just too long", long[:2001] + "\r\nb", "0-2003:line_too_long:xxxxxxxxxx 2003-2004::b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, block := range []int{16, 100, 128 << 10} {
				var got []string
				for _, l := range cutAll(strings.NewReader(c.data), 0, block, 4, 2000) {
					got = append(got, fmt.Sprintf("%d-%d:%s:%.10s", l.off, l.next, l.fault, l.text))
				}
				if s := strings.Join(got, " "); s != c.want {
					t.Errorf("block %d: got %q, want %q", block, s, c.want)
				}
			}
		})
	}
}

func TestCutErrorLeavesPosition(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("a\nbcd"), iotest.ErrReader(io.ErrUnexpectedEOF))
	got := cutAll(broken, 0, 16, 4, 100)
	want := []cutLine{{0, 2, "a", ""}, {2, 2, "bcd", faultTruncated}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	long := io.MultiReader(strings.NewReader("a\n"+strings.Repeat("x", 9000)), iotest.ErrReader(io.ErrUnexpectedEOF))
	got = cutAll(long, 0, 16, 4, 100)
	want = []cutLine{{0, 2, "a", ""}, {2, 2, strings.Repeat("x", faultBytes), faultTruncated}}
	if !slices.Equal(got, want) {
		t.Errorf("long: got %v", got)
	}
}

// Reading on at the position after any line gives the lines that would have come.
func TestCutResume(t *testing.T) {
	data := "\xef\xbb\xbfone\r\n\n\ntwo\n" + strings.Repeat("y", 2000) + "\nthree\n \nfour"
	all := cutAll(strings.NewReader(data), 0, 64, 3, 1000)
	if len(all) != 5 {
		t.Fatalf("got %d lines", len(all))
	}
	for i, l := range all {
		if rest := cutAll(strings.NewReader(data[l.next:]), l.next, 16, 2, 1000); !slices.Equal(rest, all[i+1:]) {
			t.Errorf("from %d: got %v, want %v", l.next, rest, all[i+1:])
		}
	}
}

// A line without end is skipped in the memory of a block.
func TestCutSkipsInBoundedMemory(t *testing.T) {
	endless := io.LimitReader(repeated('x'), 64<<20)
	c := &lineCutter{src: endless, lineMax: 64 << 10, linesMax: 10}
	b := &event.Block{Data: make([]byte, 0, 8<<10)}
	if c.next(b) || len(b.Lines) != 1 || b.Lines[0].Next != 64<<20 || b.Lines[0].Fault != faultTooLong {
		t.Errorf("got %+v", b.Lines)
	}
	if cap(b.Data) > 256<<10 {
		t.Errorf("a block of %d bytes", cap(b.Data))
	}
}

// What a long line made a block grow to is used up before more is read, however few lines a block may have.
func TestCutUsesUpWhatALongLineLeft(t *testing.T) {
	src := strings.NewReader(strings.Repeat("x", 900_000) + "\n" + strings.Repeat("y\n", 2_000_000))
	c := &lineCutter{src: src, lineMax: 1 << 20, linesMax: 1000}
	for range 200 {
		c.next(&event.Block{Data: make([]byte, 0, 8<<10)})
	}
	if len(c.tail) > 8<<10 {
		t.Errorf("%d bytes are still read ahead", len(c.tail))
	}
}

type repeated byte

func (r repeated) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbfa\r\n\n b\nccccccccccccc\n"), 3, 2, 5)
	f.Add(bytes.Repeat([]byte("0123456789"), 500), 100, 1, 1500)
	f.Add([]byte("\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\nx"), 0, 1, 1)
	f.Fuzz(func(t *testing.T, data []byte, block, linesMax, lineMax int) {
		block, linesMax, lineMax = 1+block&0xfff, 1+linesMax&0xff, 1+lineMax&0xfff
		want := splitNaively(string(data), lineMax)
		if got := cutAll(bytes.NewReader(data), 0, block, linesMax, lineMax); !slices.Equal(got, want) {
			t.Fatalf("block %d, lines %d, max_line %d:\n got %v\nwant %v", block, linesMax, lineMax, got, want)
		}
		if got := cutAll(iotest.HalfReader(bytes.NewReader(data)), 0, block, linesMax, lineMax); !slices.Equal(got, want) {
			t.Fatalf("in pieces, block %d, lines %d, max_line %d:\n got %v\nwant %v", block, linesMax, lineMax, got, want)
		}
	})
}
