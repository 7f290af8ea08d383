package pipeline

import (
	"regexp"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// multiline is how lines make records: a stack trace belongs to the line before it.
type multiline struct {
	pattern    *regexp.Regexp
	continued  bool          // the pattern is that of lines which go on, not of those which begin
	linesMax   int           // lines a record
	flushAfter time.Duration // of a file that is followed: how long a record waits for more
}

// The limits of multiline.
const (
	recordLinesMax = 10_000
	patternBytes   = 16 << 10
)

// decodeMultiline reads the mapping under `multiline`.
func decodeMultiline(n *yaml.Node) (*multiline, []match.Problem) {
	d := newDecoder()
	m := d.mapping(n, "multiline")
	if m == nil {
		return nil, d.sorted()
	}
	start, continued := m.get("start"), m.get("continued")
	c := &multiline{continued: continued != nil}
	switch {
	case start == nil && continued == nil:
		d.wrong(n, `multiline needs start: or continued:, a regular expression, such as start: "^\\d" or continued: "^\\s"`)
	case start != nil && continued != nil:
		d.wrong(continued, "start and continued say the same in two ways; keep one")
	case start != nil:
		c.pattern = d.pattern(start, "start")
	default:
		c.pattern = d.pattern(continued, "continued")
	}
	c.linesMax = d.int(m.get("max_lines"), "max_lines", 500, 2, recordLinesMax)
	c.flushAfter = d.within(m.get("flush_after"), "flush_after", 5*time.Second, 10*time.Millisecond, 24*time.Hour)
	m.done()
	return c, d.sorted()
}

func (d *decoder) pattern(n *yaml.Node, what string) *regexp.Regexp {
	text := d.text(n, what)
	if len(text) > patternBytes {
		d.wrong(n, "%s is a pattern of %d bytes, the limit is %d", what, len(text), patternBytes)
		return nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		d.wrong(n, "%s: %v", what, err)
	}
	return re
}

// goesOn says whether a line belongs to the record before it.
func (c *lineCutter) goesOn(line []byte) bool {
	if c.charset != nil {
		c.scratch = c.appendText(c.scratch[:0], line)
		line = c.scratch
	}
	return c.multi.pattern.Match(line) == c.multi.continued
}

// cutRecords appends the whole records in b.Data and returns where the rest begins: with the last record, as long as its end is not
// known. A record is a line, and the lines behind it that go on, up to linesMax of them and lineMax bytes; lines with a fault stand by
// themselves. So a record begins behind the end of another, whichever line that is, and reading may go on at each.
func (c *lineCutter) cutRecords(b *event.Block, final bool) (used int) {
	b.Lines, c.open = b.Lines[:0], false
	lines, at := 0, 0 // lines: of the last record, if it may go on
	for at < len(b.Data) {
		end, next := c.newline(b.Data, at, c.off)
		if end < 0 {
			if !final {
				break
			}
			end, next = len(b.Data), len(b.Data)
		}
		was := len(b.Lines)
		if c.add(b, at, end, next); len(b.Lines) == was {
			at = next
			continue
		}
		if line := b.Lines[was]; lines > 0 && line.Fault == "" && int(line.End-b.Lines[was-1].Start) <= c.lineMax && c.goesOn(b.Line(was)) {
			b.Lines[was-1].End, b.Lines[was-1].Next = line.End, line.Next
			b.Lines = b.Lines[:was]
			lines++
		} else if was >= c.linesMax && !final {
			b.Lines = b.Lines[:was]
			return at
		} else if lines = 1; line.Fault != "" {
			lines = 0
		}
		if lines == c.multi.linesMax {
			lines = 0
		}
		at = next
	}
	if lines == 0 || final || c.flush {
		return at
	}
	last := len(b.Lines) - 1
	start := int(b.Lines[last].Start)
	if len(b.Data)-start > c.lineMax+lineEnd { // whatever the line is that has begun, it is too much
		return at
	}
	b.Lines, c.open = b.Lines[:last], true
	return start
}
