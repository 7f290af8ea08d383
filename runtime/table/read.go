package table

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Match says how keys are found.
type Match uint8

// MatchUnsaid is exact, but takes no key that looks like a network; MatchNetworks finds the longest prefix of an address.
const (
	MatchUnsaid Match = iota
	MatchExact
	MatchNetworks
)

// Spec says what a table is made of.
type Spec struct {
	Path    string // relative to the working directory
	Format  string // csv, jsonl or mmdb
	Key     string // a column; none in mmdb
	Match   Match
	Types   map[string]string // of columns: string, int, float, bool, timestamp or ip
	Columns []string          // the only ones that it has; nil: those of the file and of Types. Of mmdb paths in records
}

// What a file may have.
const (
	rowMax     = 1 << 20 // bytes a row
	columnsMax = 1000
	nameMax    = 512 // bytes of a column's name
)

// Fault is what is wrong with a file, and where; line and column count from 1, in bytes, and are 0 for the file as a whole.
type Fault struct {
	Path         string
	Line, Column int
	Text         string
}

func (f *Fault) Error() string {
	if f.Line == 0 {
		return f.Path + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.Path, f.Line, f.Column, f.Text)
}

func (b *builder) fault(line, column int, format string, args ...any) error {
	return &Fault{b.path, line, column, fmt.Sprintf(format, args...)}
}

// Read makes the table of a file. An error about the file is a *Fault.
func Read(spec Spec) (*Table, error) {
	file, err := open(spec.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := &builder{Table: &Table{columns: []string{spec.Key}}, path: spec.Path}
	if spec.Format == "mmdb" {
		b.columns, b.keyless = nil, true
	}
	if spec.Match == MatchNetworks || b.keyless {
		b.nets = &nets{}
	}
	b.columns = append(b.columns, slices.DeleteFunc(slices.Clone(spec.Columns), func(c string) bool { return c == spec.Key })...)
	in := &limited{from: file}
	r := reader{spec: &spec, b: b, in: in, buf: bufio.NewReaderSize(in, 64<<10)}
	if mark, _ := r.buf.Peek(3); string(mark) == "\ufeff" {
		_, _ = r.buf.Discard(3)
	}
	switch spec.Format {
	case "csv":
		err = r.csv()
	case "mmdb":
		err = r.mmdb(file)
	default:
		err = r.jsonl()
	}
	if err != nil {
		return nil, r.named(err)
	}
	r.declared()
	if err := b.index(); err != nil {
		return nil, err
	}
	for _, c := range b.columns {
		b.heads = append(b.heads, append(event.AppendJSONString(nil, []byte(c)), ':'))
	}
	return b.Table, nil
}

// open opens a file that can be read to its end.
func open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, &Fault{Path: path, Text: "it is no file with rows"}
	}
	var file *os.File
	if err == nil {
		file, err = os.Open(path)
	}
	if err != nil {
		var why *os.PathError
		if errors.As(err, &why) {
			err = why.Err
		}
		if abs, e := filepath.Abs(path); e == nil {
			return nil, &Fault{Path: path, Text: fmt.Sprintf("%v; tried %s", err, abs)}
		}
		return nil, &Fault{Path: path, Text: err.Error()}
	}
	return file, nil
}

// reader reads rows into a builder.
type reader struct {
	spec  *Spec
	b     *builder
	in    *limited
	buf   *bufio.Reader
	times *event.TimeFormat
	key   event.Value
	cells []event.Value
	long  []byte // a line that is longer than buf
}

// limited bounds what is read between two rows, so that a file without line ends does not fill the memory.
type limited struct {
	from io.Reader
	read int
}

var errLong = fmt.Errorf("the row is longer than %d bytes", rowMax)

func (l *limited) Read(p []byte) (int, error) {
	if l.read > rowMax {
		return 0, errLong
	}
	n, err := l.from.Read(p)
	l.read += n
	return n, err
}

// named makes an error of reading a Fault.
func (r *reader) named(err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return err
	}
	return &Fault{Path: r.spec.Path, Text: err.Error()}
}

// declared adds the columns that have a type, and no row.
func (r *reader) declared() {
	if r.spec.Columns != nil {
		return
	}
	var more []string
	for name := range r.spec.Types {
		if !slices.Contains(r.b.columns, name) {
			more = append(more, name)
		}
	}
	slices.Sort(more)
	r.b.columns = append(r.b.columns, more...)
}

// column is the place of a column behind the key, -1 for the key and -2 for one that the table does not have.
func (r *reader) column(name string, line, at int) (int, error) {
	i := slices.Index(r.b.columns, name)
	if i >= 0 {
		return i - 1, nil
	}
	if r.spec.Columns != nil {
		return -2, nil
	}
	switch {
	case name == "" || len(name) > nameMax:
		return 0, r.b.fault(line, at, "a column's name has 1 to %d bytes, not %d", nameMax, len(name))
	case len(r.b.columns) == columnsMax:
		return 0, r.b.fault(line, at, "there are more than %d columns", columnsMax)
	}
	r.b.columns = append(r.b.columns, name)
	return len(r.b.columns) - 2, nil
}

// set notes a cell of the row that is being read.
func (r *reader) set(column int, v event.Value) {
	if column == -1 {
		r.key = v
		return
	}
	for len(r.cells) <= column {
		r.cells = append(r.cells, event.Value{})
	}
	r.cells[column] = v
}

// row adds the row that was read.
func (r *reader) row(line, keyAt int) error {
	v := r.key
	switch {
	case v.Missing() || len(v.Text) == 0:
		return r.b.fault(line, keyAt, "the row has no key: %s is empty", r.spec.Key)
	case v.Kind >= event.Object:
		return r.b.fault(line, keyAt, "the key %s is an %s; a key is a text, a number or a bool", r.spec.Key, v.Kind)
	}
	if r.b.nets != nil {
		return r.network(line, keyAt)
	}
	if r.spec.Match == MatchUnsaid && v.Kind == event.String && bytes.IndexByte(v.Text, '/') > 0 {
		if p, err := netip.ParsePrefix(string(v.Text)); err == nil {
			return r.b.fault(line, keyAt, "the key %s is a network: write match: cidr to find addresses in it, or match: exact if it is a text", p)
		}
	}
	return r.b.add(line, v, r.cells)
}

// network adds a row whose key is a network, or an address, which is a network of one.
func (r *reader) network(line, keyAt int) error {
	p, err := network(r.key)
	if err != nil {
		return r.b.fault(line, keyAt, "%v", err)
	}
	if err := r.b.add(line, r.key, r.cells); err != nil {
		return err
	}
	if p.Addr().Is6() {
		r.b.six++
	}
	return nil
}

// network reads a network as conditions do (`cidr`).
func network(v event.Value) (netip.Prefix, error) {
	text := string(v.Text)
	p, err := netip.ParsePrefix(text)
	if err != nil && !strings.Contains(text, "/") {
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err == nil && a.Zone() == "" {
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	switch {
	case v.Kind != event.String || err != nil || !p.IsValid():
		return p, fmt.Errorf("the key %s is not a network: write an address and the bits of its mask, such as 10.0.0.0/8 or 2001:db8::/32", brief(v.Text))
	case p != p.Masked():
		return p, fmt.Errorf("the key %s has bits behind its mask; the network is %s", text, p.Masked())
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p, nil
}

// typed makes a cell one of the column's type.
func (r *reader) typed(name string, v event.Value) (event.Value, error) {
	t := r.spec.Types[name]
	if t == "" || v.Missing() {
		return v, nil
	}
	ok := v.Kind == event.String
	switch t {
	case "string":
		if ok = v.Kind <= event.String; ok {
			v.Kind = event.String
		}
	case "int":
		_, ok = v.Int()
		v.Kind = event.Number
	case "float":
		_, ok = v.Float()
		v.Kind = event.Number
	case "bool":
		ok = (v.Kind == event.String || v.Kind == event.Bool) && (string(v.Text) == "true" || string(v.Text) == "false")
		v.Kind = event.Bool
	case "ip":
		a, err := netip.ParseAddr(string(v.Text))
		ok = ok && err == nil && a.Zone() == ""
	case "timestamp":
		if r.times == nil {
			r.times, _ = event.NewTimeFormat("", "") // RFC 3339
		}
		_, err := r.times.Millis(v)
		ok = ok && err == nil
	}
	if !ok {
		return v, fmt.Errorf("%s is of the type %s, and %s is none", name, t, brief(v.Text))
	}
	return v, nil
}
