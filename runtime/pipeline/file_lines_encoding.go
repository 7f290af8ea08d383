package pipeline

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/transform"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// charset is how a file's bytes are text. Lines are cut in the bytes, so that positions are places in the file, and decoded one by
// one; an encoding must therefore not carry anything from one line to the next.
type charset struct {
	decode encoding.Encoding // nil: UTF-16
	width  int               // bytes of a newline: 1, or 2 in UTF-16
	big    bool              // of two bytes the higher one comes first
	marked bool              // the byte order mark says whether big; without one it is not
}

// charsetOf finds an encoding by a name of the WHATWG's list, such as latin1, windows-1252 or shift_jis; nil is UTF-8.
func charsetOf(name string) (*charset, error) {
	if strings.EqualFold(name, "utf-16") {
		return &charset{width: 2, marked: true}, nil
	}
	enc, err := htmlindex.Get(name)
	if err != nil {
		return nil, fmt.Errorf("encoding: %q is unknown%s", name, suggest(name, charsetNames))
	}
	canonical, err := htmlindex.Name(enc)
	switch {
	case err != nil || canonical == "replacement" || canonical == "x-user-defined":
		return nil, fmt.Errorf("encoding: %q cannot be read; write one of %s", name, strings.Join(charsetNames, ", "))
	case canonical == "iso-2022-jp":
		return nil, fmt.Errorf("encoding: %s carries its state from line to line, so reading could not go on at any line; convert the files to UTF-8", name)
	case canonical == "utf-8":
		return nil, nil
	case canonical == "utf-16le", canonical == "utf-16be":
		return &charset{width: 2, big: canonical == "utf-16be"}, nil
	}
	return &charset{decode: enc, width: 1}, nil
}

// charsetNames are those that errors suggest; there are more.
var charsetNames = []string{
	"utf-8", "utf-16", "utf-16le", "utf-16be", "latin1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252", "koi8-r", "gbk", "gb18030",
	"big5", "shift_jis", "euc-jp", "euc-kr",
}

// begin skips a byte order mark at the file's start, and learns from it the order of UTF-16; where reading began behind it, the
// file's head says.
func (c *lineCutter) begin(b *event.Block) {
	set := c.charset
	if set == nil {
		if bom := "\xef\xbb\xbf"; c.off == 0 && len(b.Data) >= len(bom) && string(b.Data[:len(bom)]) == bom {
			b.Data = append(b.Data[:0], b.Data[len(bom):]...)
			c.off += int64(len(bom))
		}
		return
	}
	if set.width == 1 || c.ordered && c.off > 0 {
		return
	}
	head := b.Data
	if c.off > 0 {
		head = c.head()
	}
	if len(head) < 2 {
		return
	}
	c.ordered = true
	little, big := string(head[:2]) == "\xff\xfe", string(head[:2]) == "\xfe\xff"
	c.big = set.big || set.marked && big
	if c.off == 0 && (c.big && big || !c.big && little) {
		b.Data = append(b.Data[:0], b.Data[2:]...)
		c.off = 2
	}
}

// wide says that a newline is two bytes.
func (c *lineCutter) wide() bool { return c.charset != nil && c.charset.width == 2 }

// newline finds the first newline in data from an index on: where it begins, -1 if there is none, and what follows. Base is the
// position of data: units of two bytes begin at even ones.
func (c *lineCutter) newline(data []byte, from int, base int64) (end, next int) {
	if !c.wide() {
		if n := bytes.IndexByte(data[from:], '\n'); n >= 0 {
			return from + n, from + n + 1
		}
		return -1, 0
	}
	for i := from; i < len(data); i++ {
		n := bytes.IndexByte(data[i:], '\n')
		if n < 0 {
			break
		}
		i += n
		if at := i - int((base+int64(i))&1); at >= from && c.unit(data[at:]) == '\n' {
			return at, at + 2
		}
	}
	return -1, 0
}

// unit is the first unit of UTF-16, -1 if it is not whole.
func (c *lineCutter) unit(data []byte) int {
	switch {
	case len(data) < 2:
		return -1
	case c.big:
		return int(data[0])<<8 | int(data[1])
	}
	return int(data[1])<<8 | int(data[0])
}

// lastNewline returns what follows the last newline in data, -1 if there is none.
func (c *lineCutter) lastNewline(data []byte, base int64) int {
	if !c.wide() {
		if n := bytes.LastIndexByte(data, '\n'); n >= 0 {
			return n + 1
		}
		return -1
	}
	for at := (len(data)+int(base&1))&^1 - int(base&1) - 2; at >= 0; at -= 2 {
		if c.unit(data[at:]) == '\n' {
			return at + 2
		}
	}
	return -1
}

// trim takes a CR off a line's end, and says whether there is nothing but white space.
func (c *lineCutter) trim(line []byte) (text []byte, blank bool) {
	if !c.wide() {
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		return line, isBlank(line)
	}
	if n := len(line); n >= 2 && n%2 == 0 && c.unit(line[n-2:]) == '\r' {
		line = line[:n-2]
	}
	for at := 0; at < len(line); at += 2 {
		if u := c.unit(line[at:]); u != ' ' && (u < '\t' || u > '\r') {
			return line, false
		}
	}
	return line, true
}

// rawBlocks are blocks of bytes before they are decoded.
var rawBlocks = sync.Pool{New: func() any { return &event.Block{} }}

// decoded fills b with what cut cuts, as UTF-8.
func (c *lineCutter) decoded(b *event.Block, cut func(*event.Block) bool) (more bool) {
	if c.charset == nil {
		return cut(b)
	}
	raw := rawBlocks.Get().(*event.Block)
	if size := cap(b.Data); cap(raw.Data) < size || cap(raw.Data) > 2*size {
		raw.Data = make([]byte, 0, size)
	}
	more = cut(raw)
	b.Data, b.Lines, b.Mended = b.Data[:0], b.Lines[:0], 0
	for i, l := range raw.Lines {
		start := len(b.Data)
		if l.Fault == faultUnreadable { // its text is ours
			b.Data = append(b.Data, raw.Line(i)...)
		} else if b.Data = c.appendText(b.Data, raw.Line(i)); bytes.Contains(b.Data[start:], mended) {
			b.Mended++
		}
		l.Start, l.End = uint32(start), uint32(len(b.Data))
		b.Lines = append(b.Lines, l)
	}
	rawBlocks.Put(raw)
	return more
}

var mended = []byte("\uFFFD")

// appendText appends bytes of the file as UTF-8; what is no text in the file's encoding is U+FFFD.
func (c *lineCutter) appendText(dst, raw []byte) []byte {
	if c.charset == nil {
		return append(dst, raw...)
	}
	if c.wide() {
		return c.appendUTF16(dst, raw)
	}
	if c.decoder == nil {
		c.decoder = c.charset.decode.NewDecoder()
	}
	if len(raw) == 0 {
		return dst
	}
	dst, _, _ = transform.Append(c.decoder, dst, raw) // decoders replace what they cannot read, and do not fail
	return dst
}

// appendUTF16 decodes units; a surrogate without its other half is U+FFFD, and so is half a unit.
func (c *lineCutter) appendUTF16(dst, raw []byte) []byte {
	for at := 0; at < len(raw); at += 2 {
		r := rune(c.unit(raw[at:]))
		if utf16.IsSurrogate(r) {
			if r = utf16.DecodeRune(r, rune(c.unit(raw[min(at+2, len(raw)):]))); r != utf8.RuneError {
				at += 2
			}
		}
		dst = utf8.AppendRune(dst, r) // -1 is no rune either
	}
	return dst
}
