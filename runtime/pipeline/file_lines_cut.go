package pipeline

import (
	"errors"
	"io"
	"slices"

	"golang.org/x/text/transform"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// The faults a line may have (event.Line.Fault).
const (
	faultTooLong    = "line_too_long" // longer than max_line; its bytes are the first 1024
	faultTruncated  = "truncated"     // a compressed file ends too early; its bytes are the part of a line before that
	faultCorrupt    = "corrupt"       // a compressed file is damaged; likewise
	faultUnreadable = "unreadable"    // the file cannot be read; its bytes are the error's text
)

const faultBytes = 1024

// lineEnd is how many bytes behind a line may not be known to be its end: CR in UTF-16, and half a unit.
const lineEnd = 3

// lineCutter cuts what src yields into blocks of lines. Which lines there are, with their offsets and faults, depends on
// the bytes alone and never on the size of blocks or reads. Lines end with LF or CRLF, the last one may end with the
// file; blank ones and a byte order mark at offset 0 are skipped. With multi, records of several lines take the place of lines.
type lineCutter struct {
	src      io.Reader
	off      int64 // of the first byte that is not cut yet
	lineMax  int   // longest line, bytes
	linesMax int   // lines a block
	tail     []byte
	err      error // how src ended
	fault    func(err error) (fault, text string)

	// Of a file that grows: src ends with errNoMore for now. wait, which is set then, waits until there may be more. still says that
	// src has said so since the last line.
	wait  func()
	still bool

	charset *charset      // nil: UTF-8
	head    func() []byte // the file's first bytes, if reading began behind them
	ordered bool          // big is known
	big     bool          // UTF-16
	decoder transform.Transformer
	scratch []byte

	multi *multiline // nil: each line by itself
	open  bool       // what is put aside begins with a record that has whole lines
	flush bool       // such a record is to end
}

// errNoMore: there is nothing to read at the moment.
var errNoMore = errors.New("no more for now")

// next fills b, whose Data should have room, with the lines that come now; false: there are no more after these.
func (c *lineCutter) next(b *event.Block) (more bool) {
	more = c.decoded(b, c.read)
	c.flush = false
	return more
}

// last fills b with the lines that were read and put aside, of a file that is gone; none: there are no more.
func (c *lineCutter) last(b *event.Block) {
	c.flush = true
	c.decoded(b, func(b *event.Block) bool {
		b.Data, b.Lines = append(b.Data[:0], c.tail...), b.Lines[:0]
		c.tail = c.tail[:0]
		return c.keep(b, c.cut(b))
	})
}

// read is next before decoding.
func (c *lineCutter) read(b *event.Block) (more bool) {
	size := cap(b.Data) // a longer tail, left by a long line, is used up before more is read
	b.Data, b.Lines = append(b.Data[:0], c.tail...), b.Lines[:0]
	c.tail = c.tail[:0]
	limit := max(c.lineMax, faultBytes) + lineEnd
	for c.still = false; ; {
		c.fill(b, size)
		used := c.cut(b)
		switch {
		case len(b.Lines) == c.linesMax:
			c.still = false // more lines may have been read
			return c.keep(b, used)
		case c.err != nil:
			return c.finish(b, used)
		case len(b.Lines) > 0:
			return c.keep(b, used)
		case used > 0: // nothing but blank lines
			c.off += int64(used)
			b.Data = append(b.Data[:0], b.Data[used:]...)
		case len(b.Data) > limit:
			return c.skip(b)
		case c.still:
			return c.keep(b, 0)
		default:
			b.Data = slices.Grow(b.Data, max(16, min(len(b.Data), limit+1-len(b.Data))))
			size = cap(b.Data)
		}
	}
}

// fill reads until b.Data has size bytes.
func (c *lineCutter) fill(b *event.Block, size int) {
	for c.err == nil && !c.still && len(b.Data) < size {
		var n int
		n, c.err = c.src.Read(b.Data[len(b.Data):size])
		b.Data = b.Data[:len(b.Data)+n]
		if c.err == errNoMore {
			c.err, c.still = nil, true
		}
	}
	c.begin(b)
}

// cut appends the whole lines in b.Data and returns where the rest begins.
func (c *lineCutter) cut(b *event.Block) (used int) {
	if c.multi != nil {
		return c.cutRecords(b, false)
	}
	for len(b.Lines) < c.linesMax {
		end, next := c.newline(b.Data, used, c.off)
		if end < 0 {
			break
		}
		c.add(b, used, end, next)
		used = next
	}
	return used
}

// add appends one line unless it is blank.
func (c *lineCutter) add(b *event.Block, start, end, next int) {
	text, blank := c.trim(b.Data[start:end])
	fault := ""
	if end = start + len(text); end-start > c.lineMax {
		fault, end = faultTooLong, min(end, start+faultBytes)
	} else if blank {
		return
	}
	b.Lines = append(b.Lines, event.Line{
		Off: c.off + int64(start), Start: uint32(start), End: uint32(end), Next: c.off + int64(next), Fault: fault,
	})
}

func isBlank(line []byte) bool {
	for _, ch := range line {
		if ch > ' ' || ch != ' ' && (ch < '\t' || ch > '\r') {
			return false
		}
	}
	return true
}

// keep puts what is left of b.Data aside for the next block.
func (c *lineCutter) keep(b *event.Block, used int) (more bool) {
	c.tail = append(c.tail, b.Data[used:]...)
	b.Data = b.Data[:used]
	c.off += int64(used)
	return true
}

// finish ends the file: with its last line, or with the reason why nothing more can be read. The latter leaves the
// position before itself, so that a file that is completed later goes on there.
func (c *lineCutter) finish(b *event.Block, used int) (more bool) {
	if c.err == io.EOF {
		switch {
		case c.multi != nil:
			c.cutRecords(b, true)
		case used < len(b.Data):
			c.add(b, used, len(b.Data), len(b.Data))
		}
		c.off += int64(len(b.Data))
		return false
	}
	c.off += int64(used)
	fault, text := c.fault(c.err)
	end := len(b.Data)
	switch {
	case fault == faultUnreadable:
		used, b.Data = end, append(b.Data, text...)
		end = len(b.Data)
	case end-used > c.lineMax:
		end = min(end, used+faultBytes)
	}
	b.Lines = append(b.Lines, event.Line{Off: c.off, Start: uint32(used), End: uint32(end), Next: c.off, Fault: fault})
	return false
}

// skip reads past a line that is too long; b.Data holds its beginning and nothing else.
func (c *lineCutter) skip(b *event.Block) (more bool) {
	next := c.off + int64(len(b.Data))
	last := b.Data[len(b.Data)-1]
	b.Data = slices.Grow(b.Data[:faultBytes], 4<<10)
	scratch := b.Data[faultBytes:cap(b.Data)]
	half := 0 // of a newline of two bytes the first may have been read
	if c.wide() && next%2 == 1 {
		scratch[0], half, next = last, 1, next-1
	}
	for c.err == nil {
		var n int
		if n, c.err = c.src.Read(scratch[half:]); c.err == errNoMore {
			c.err = nil
			c.wait()
		}
		n += half
		if end, after := c.newline(scratch[:n], 0, next); end >= 0 {
			c.tail = append(c.tail, scratch[after:n]...)
			c.tooLong(b, next+int64(after))
			return true
		}
		if half = 0; c.wide() && n%2 == 1 {
			scratch[0], half = scratch[n-1], 1
		}
		next += int64(n - half)
	}
	if c.err != io.EOF {
		return c.finish(b, 0)
	}
	c.tooLong(b, next+int64(half))
	return false
}

func (c *lineCutter) tooLong(b *event.Block, next int64) {
	b.Lines = append(b.Lines, event.Line{Off: c.off, End: uint32(len(b.Data)), Next: next, Fault: faultTooLong})
	c.off = next
}
