package pipeline

import (
	"bytes"
	"errors"
	"io"
	"slices"

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

// lineCutter cuts what src yields into blocks of lines. Which lines there are, with their offsets and faults, depends on
// the bytes alone and never on the size of blocks or reads. Lines end with LF or CRLF, the last one may end with the
// file; blank ones and a byte order mark at offset 0 are skipped.
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
}

// errNoMore: there is nothing to read at the moment.
var errNoMore = errors.New("no more for now")

// next fills b, whose Data should have room, with the lines that come now; false: there are no more after these.
func (c *lineCutter) next(b *event.Block) (more bool) {
	size := cap(b.Data) // a longer tail, left by a long line, is used up before more is read
	b.Data, b.Lines = append(b.Data[:0], c.tail...), b.Lines[:0]
	c.tail = c.tail[:0]
	limit := max(c.lineMax, faultBytes) + 1 // with a CR
	for c.still = false; ; {
		c.fill(b, size)
		used := c.cut(b)
		switch {
		case len(b.Lines) == c.linesMax:
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
	if bom := "\xef\xbb\xbf"; c.off == 0 && len(b.Data) >= len(bom) && string(b.Data[:len(bom)]) == bom {
		b.Data = append(b.Data[:0], b.Data[len(bom):]...)
		c.off += int64(len(bom))
	}
}

// cut appends the whole lines in b.Data and returns where the rest begins.
func (c *lineCutter) cut(b *event.Block) (used int) {
	for len(b.Lines) < c.linesMax {
		n := bytes.IndexByte(b.Data[used:], '\n')
		if n < 0 {
			break
		}
		c.add(b, used, used+n, used+n+1)
		used += n + 1
	}
	return used
}

// add appends one line unless it is blank.
func (c *lineCutter) add(b *event.Block, start, end, next int) {
	if end > start && b.Data[end-1] == '\r' {
		end--
	}
	fault := ""
	if end-start > c.lineMax {
		fault, end = faultTooLong, min(end, start+faultBytes)
	} else if isBlank(b.Data[start:end]) {
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
		if used < len(b.Data) {
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
	b.Data = slices.Grow(b.Data[:faultBytes], 4<<10)
	scratch := b.Data[faultBytes:cap(b.Data)]
	for c.err == nil {
		var n int
		if n, c.err = c.src.Read(scratch); c.err == errNoMore {
			c.err = nil
			c.wait()
		}
		if i := bytes.IndexByte(scratch[:n], '\n'); i >= 0 {
			c.tail = append(c.tail, scratch[i+1:n]...)
			c.tooLong(b, next+int64(i)+1)
			return true
		}
		next += int64(n)
	}
	if c.err != io.EOF {
		return c.finish(b, 0)
	}
	c.tooLong(b, next)
	return false
}

func (c *lineCutter) tooLong(b *event.Block, next int64) {
	b.Lines = append(b.Lines, event.Line{Off: c.off, End: uint32(len(b.Data)), Next: next, Fault: faultTooLong})
	c.off = next
}
