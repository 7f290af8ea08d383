package table

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// mmdbMax is the largest database, in bytes: it is in memory while it is read.
const mmdbMax = 4 << 30

// mmdb reads a MaxMind DB. Its columns are paths of what it says of a network, those of Columns. Networks of which it says the same have
// one row. The file is not mapped: one that gets shorter would end the process.
func (r *reader) mmdb(file *os.File) error {
	data, err := io.ReadAll(io.NewSectionReader(file, 0, mmdbMax+1))
	if err != nil {
		return err
	}
	if len(data) > mmdbMax {
		return r.b.fault(0, 0, "the database has more than %d GiB", mmdbMax>>30)
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return r.b.fault(0, 0, "it is no MaxMind DB, or not all of one: %v", err)
	}
	m := mmdbRows{reader: r, refs: map[uintptr]uint32{}, found: make([]bool, len(r.spec.Columns)), names: map[string]bool{}}
	for _, path := range r.spec.Columns {
		m.paths = append(m.paths, strings.Split(path, "."))
	}
	return m.read(db)
}

// mmdbRows are the rows of a database on their way into a table.
type mmdbRows struct {
	*reader
	paths [][]string
	found []bool             // by path: some network has it
	names map[string]bool    // the paths that there are, some of them
	refs  map[uintptr]uint32 // ref + 1 by where a record stands
}

func (m *mmdbRows) read(db *maxminddb.Reader) error {
	b := m.b
	b.nets.four.short = true
	four, six := tiles{ranges: &b.nets.four}, tiles{ranges: &b.nets.six}
	most := 2*uint64(db.Metadata.NodeCount) + 2 // of a tree whose nodes have one way to them
	for net := range db.Networks(maxminddb.IncludeNetworksWithoutData()) {
		if net.Err() != nil {
			return b.fault(0, 0, "the database is damaged: %v", net.Err())
		}
		p := net.Prefix()
		if most--; most == 0 || !p.IsValid() {
			return b.fault(0, 0, "the database is damaged: its search tree does not end")
		}
		ref := uint32(0)
		if net.Found() {
			var err error
			if ref, err = m.record(net); err != nil {
				return b.fault(0, 0, "the network %s: %v", p, err)
			}
			b.rows++
		}
		x, is4 := prefixOf(p, 0)
		ok := true
		switch all := p.Addr().Is6() && p.Bits() <= 96 && p.Contains(ipv4InIPv6); {
		case is4:
			ok = four.add(x.first, x.last(), ref)
		case all: // the addresses of 4 bytes are in it as well
			ok = four.add(addr{}, addr{hi: ^uint64(0), lo: ^uint64(0)}, ref)
			fallthrough
		default:
			ok = ok && six.add(x.first, x.last(), ref)
		}
		if !ok {
			return b.fault(0, 0, "the database is damaged: the network %s is out of order", p)
		}
	}
	four.end()
	six.end()
	return m.missing()
}

// record is the ref + 1 of a network's row. The same record is read once.
func (m *mmdbRows) record(net maxminddb.Result) (uint32, error) {
	if ref := m.refs[net.Offset()]; ref > 0 {
		return ref, nil
	}
	var says any
	if err := net.Decode(&says); err != nil {
		return 0, err
	}
	if len(m.names) < columnsMax {
		m.name("", says)
	}
	m.cells = m.cells[:0]
	for i, path := range m.paths {
		v, err := mmdbCell(says, path)
		if err == nil {
			v, err = m.typed(m.spec.Columns[i], v)
		}
		if err != nil {
			return 0, err
		}
		m.found[i] = m.found[i] || !v.Missing()
		m.cells = append(m.cells, v)
	}
	if err := m.b.add(0, event.Value{}, m.cells); err != nil {
		return 0, err
	}
	m.b.rows--
	ref := m.b.ref + 1
	m.refs[net.Offset()] = ref
	return ref, nil
}

// mmdbCell is the value at a path, absent if there is none.
func mmdbCell(v any, path []string) (event.Value, error) {
	for _, name := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i, err := strconv.Atoi(name)
			if v = nil; err == nil && i >= 0 && i < len(x) {
				v = x[i]
			}
		default:
			v = nil
		}
	}
	if v == nil {
		return event.Value{}, nil
	}
	if s, ok := v.(string); ok {
		return event.Value{Kind: event.String, Text: event.Mend([]byte(s))}, nil
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return event.Value{}, fmt.Errorf("%s: %v", strings.Join(path, "."), err)
	}
	return cell(bytes.TrimSpace(text.Bytes())), nil
}

// name notes the paths of a record.
func (m *mmdbRows) name(path string, v any) {
	switch x := v.(type) {
	case map[string]any:
		for name, v := range x {
			m.name(strings.TrimPrefix(path+"."+name, "."), v)
		}
	case []any:
		for i, v := range x {
			m.name(strings.TrimPrefix(path+"."+strconv.Itoa(i), "."), v)
		}
	default:
		if path != "" && len(m.names) < columnsMax {
			m.names[path] = true
		}
	}
}

// missing complains about a field that no network has.
func (m *mmdbRows) missing() error {
	if len(m.refs) == 0 {
		return nil
	}
	for i, found := range m.found {
		if found {
			continue
		}
		var all []string
		for name := range m.names {
			all = append(all, name)
		}
		slices.Sort(all)
		more := ""
		if most := 30; len(all) > most {
			all, more = all[:most], ", ..."
		}
		return m.b.fault(0, 0, "no network has the field %q; there is %s%s", m.spec.Columns[i], strings.Join(all, ", "), more)
	}
	return nil
}
