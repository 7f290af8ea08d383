package table

import (
	"encoding/csv"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// csv reads RFC 4180 with a header. An empty cell is absent.
func (r *reader) csv() error {
	_, typed := r.spec.Types[r.spec.Key]
	r.b.texts = !typed && r.b.nets == nil
	in := csv.NewReader(r.buf)
	in.ReuseRecord = true
	header, err := in.Read()
	if err == io.EOF {
		return r.b.fault(1, 1, "the file is empty; its first row names the columns")
	}
	if err != nil {
		return r.csvFault(in, err, 0, 0)
	}
	places, names, err := r.header(in, header)
	if err != nil {
		return err
	}
	for line := 1; ; {
		r.in.read = 0
		record, err := in.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return r.csvFault(in, err, len(record), line)
		}
		line, _ = in.FieldPos(0)
		r.cells = r.cells[:0]
		keyAt := 1
		for i, text := range record {
			if places[i] == -2 {
				continue
			}
			v := event.Value{}
			if text != "" {
				v = event.Value{Kind: event.String, Text: event.Mend([]byte(text))}
			}
			v, err := r.typed(names[i], v)
			if err != nil {
				line, at := in.FieldPos(i)
				return r.b.fault(line, at, "%v", err)
			}
			if places[i] == -1 {
				_, keyAt = in.FieldPos(i)
			}
			r.set(places[i], v)
		}
		if err := r.row(line, keyAt); err != nil {
			return err
		}
	}
}

// header returns the place of each column, and its name.
func (r *reader) header(in *csv.Reader, header []string) (places []int, names []string, err error) {
	for i, name := range header {
		name = string(event.Mend([]byte(strings.TrimSpace(name))))
		line, at := in.FieldPos(i)
		if slices.Contains(names, name) {
			return nil, nil, r.b.fault(line, at, "there is a column %q already", name)
		}
		place, err := r.column(name, line, at)
		if err != nil {
			return nil, nil, err
		}
		places, names = append(places, place), append(names, name)
	}
	wants := slices.Sorted(maps.Keys(r.spec.Types))
	for _, want := range slices.Concat([]string{r.spec.Key}, r.spec.Columns, wants) {
		if !slices.Contains(names, want) {
			return nil, nil, r.b.fault(1, 1, "there is no column %q; there is %s", want, strings.Join(names, ", "))
		}
	}
	return places, names, nil
}

// csvFault is an error of the reader in our words, where it has a place.
func (r *reader) csvFault(in *csv.Reader, err error, cells, line int) error {
	var at *csv.ParseError
	switch {
	case errors.Is(err, errLong):
		return r.b.fault(line+1, 1, "%v, or a quote is not closed", errLong)
	case !errors.As(err, &at):
		return err
	case errors.Is(at.Err, csv.ErrFieldCount):
		return r.b.fault(at.Line, 1, "the row has %d cells, and the header %d", cells, in.FieldsPerRecord)
	case errors.Is(at.Err, csv.ErrQuote):
		return r.b.fault(at.StartLine, 1, `a quote stands in the wrong place, or is not closed, in line %d at %d; a quote within quotes is written ""`, at.Line, at.Column)
	case errors.Is(at.Err, csv.ErrBareQuote):
		return r.b.fault(at.Line, at.Column, `a quote stands in a cell without quotes; write the cell in quotes, and the quote as ""`)
	}
	return r.b.fault(at.Line, at.Column, "%v", at.Err)
}
