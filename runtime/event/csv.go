package event

import (
	"bytes"
	"fmt"
	"strings"
)

// columnsMax is how many columns a CSV line may have.
const columnsMax = 4096

// csvReader reads a line of comma separated values as RFC 4180 writes them, one record a line: quotes may only enclose a whole
// value, and a quote within it stands twice. Other than there, a value cannot go on in the next line.
type csvReader struct {
	comma   byte
	columns []string // nil until the header is known
}

// CSV is the format of comma separated values. Without columns their names are those of a header (WithHeader). The comma is an
// ASCII character other than quote, CR and LF.
func CSV(columns []string, comma byte) (*Format, error) {
	if comma == '"' || comma == '\r' || comma == '\n' || comma >= 0x80 || comma == 0 {
		return nil, fmt.Errorf("delimiter %q must be one ASCII character, and no quote", comma)
	}
	if err := checkColumns(columns); err != nil {
		return nil, err
	}
	return newFormat("csv", &csvReader{comma, columns}), nil
}

func checkColumns(columns []string) error {
	if len(columns) > columnsMax {
		return fmt.Errorf("%d columns, the limit is %d", len(columns), columnsMax)
	}
	seen := map[string]bool{}
	for i, c := range columns {
		switch {
		case c == "":
			return fmt.Errorf("column %d has no name", i+1)
		case seen[c]:
			return fmt.Errorf("column %q is there twice", c)
		}
		seen[c] = true
	}
	return nil
}

// NeedsHeader says whether the names of the fields stand in the first line.
func (f *Format) NeedsHeader() bool {
	r, ok := f.read.(*csvReader)
	return ok && r.columns == nil
}

// WithHeader returns the format of the lines under a header.
func (f *Format) WithHeader(line []byte) (*Format, error) {
	r := f.read.(*csvReader)
	fields := []string{}
	var t taker
	t.reset(&textual{format: f}, nil, false)
	if err := r.split(&t, ended(line), columnsMax, &fields); err != nil {
		return nil, err
	}
	for i, c := range fields {
		fields[i] = strings.TrimSpace(c)
	}
	if err := checkColumns(fields); err != nil {
		return nil, err
	}
	out := *f
	out.read = &csvReader{r.comma, fields}
	return &out, nil
}

func (r *csvReader) names() []string { return r.columns }

func (r *csvReader) read(t *taker, line []byte) error {
	if bytes.IndexByte(line, '"') >= 0 {
		return r.split(t, line, len(r.columns), nil)
	}
	i, from := 0, 0
	for ; i <= t.upto; i++ { // what is behind the last that is wanted is only counted
		end := bytes.IndexByte(line[from:], r.comma)
		if end < 0 {
			t.putIf(i, line[from:])
			return r.counted(i+1, len(line))
		}
		t.putIf(i, line[from:from+end])
		from += end + 1
	}
	return r.counted(i+1+bytes.Count(line[from:], []byte{r.comma}), len(line))
}

func (t *taker) putIf(i int, text []byte) {
	if t.all || len(t.slots[i]) > 0 {
		t.put(i, String, text)
	}
}

func (r *csvReader) counted(n, at int) error {
	if n != len(r.columns) {
		return bad(at, fmt.Sprintf("%d values for %d columns", n, len(r.columns)))
	}
	return nil
}

// split reads a line with quotes: into the taker, or into a list, at most n values.
func (r *csvReader) split(t *taker, line []byte, n int, list *[]string) error {
	count := 0
	for i := 0; ; {
		text, end, err := r.value(t, line, i)
		if err != nil {
			return err
		}
		if count++; list != nil && count <= n {
			*list = append(*list, string(text))
		} else if list == nil && count <= n {
			t.putIf(count-1, text)
		}
		if end == len(line) {
			break
		}
		i = end + 1
	}
	if list != nil {
		if count > n {
			return bad(len(line), fmt.Sprintf("%d columns, the limit is %d", count, n))
		}
		return nil
	}
	return r.counted(count, len(line))
}

// value reads the value at i and returns where it ends: at a comma or the line's end.
func (r *csvReader) value(t *taker, line []byte, i int) (text []byte, end int, err error) {
	if i == len(line) || line[i] != '"' {
		end = len(line)
		if n := bytes.IndexByte(line[i:], r.comma); n >= 0 {
			end = i + n
		}
		if q := bytes.IndexByte(line[i:end], '"'); q >= 0 {
			return nil, 0, bad(i+q, "a quote within a value that does not begin with one")
		}
		return line[i:end], end, nil
	}
	from, doubled := i+1, false
	for i = from; ; i++ {
		n := bytes.IndexByte(line[i:], '"')
		if n < 0 {
			return nil, 0, bad(len(line), "a quoted value does not end in this line; one line is one record")
		}
		if i += n; i+1 < len(line) && line[i+1] == '"' {
			doubled = true
			i++
			continue
		}
		break
	}
	if i+1 < len(line) && line[i+1] != r.comma {
		return nil, 0, bad(i+1, "a delimiter must come behind a quoted value")
	}
	text = line[from:i]
	if doubled {
		text = bytes.ReplaceAll(text, []byte(`""`), []byte(`"`))
	}
	return text, i + 1, nil
}
