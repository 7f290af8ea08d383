package pipeline

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/table"
)

// known is a table: what is known beforehand, or, with stream, what a stream has said.
type known struct {
	source *table.Source // nil if it could not be read, which was said
	spec   table.Spec

	stream  *yaml.Node // its name; nil for a file
	key     *yaml.Node
	columns []string // the key's first
	ttl     int64    // ms, 0: for ever
	deleted *yaml.Node
}

var tableFormats = map[string]string{".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".mmdb": "mmdb"}

// tables reads `tables`, and the files that they name.
func (d *decoder) tables(n *yaml.Node) {
	if n == nil {
		return
	}
	m := d.mapping(n, "tables")
	if m == nil {
		return
	}
	if len(m.entries) == 0 {
		d.wrong(n, "tables is empty; name at least one, or leave it out")
	}
	d.known = map[string]*known{}
	for _, e := range m.entries {
		e.used = true
		name := d.name(e.key, "table name")
		k := &known{}
		d.known[name] = k
		if b := d.mapping(e.value, "table "+name); b != nil {
			d.table(name, k, b)
		}
	}
}

func (d *decoder) table(name string, k *known, m *mapping) {
	faults := len(d.problems)
	file := m.get("file")
	if k.stream = m.get("stream"); k.stream != nil {
		if file != nil {
			d.wrong(m.key("stream"), "a table is read from a file or kept from a stream; name one of them")
		}
		d.tableStream(k, m)
		return
	}
	if file == nil {
		m.need("file", "a CSV file with a header, a file of JSON objects, one a line, or a MaxMind DB; or stream: a stream or operator whose rows it keeps")
	}
	s := &k.spec
	s.Path = d.text(file, "file")
	format := m.get("format")
	s.Format = d.enum(format, "format", tableFormats[strings.ToLower(filepath.Ext(s.Path))], "csv", "jsonl", "mmdb")
	if s.Path != "" && s.Format == "" {
		d.wrong(file, "%s may be anything; write format: csv, format: jsonl or format: mmdb", s.Path)
	}
	if s.Format == "mmdb" {
		d.tableMMDB(s, m)
	} else {
		s.Key = d.text(m.need("key", "the column that rows are found by"), "key")
		d.tableMatch(s, m.get("match"))
		if n := m.get("fields"); n != nil {
			d.tableFields(s, n)
		}
	}
	every := time.Duration(d.span(m.get("reload"), "reload", 0, time.Second)) * time.Millisecond
	m.done()
	if len(d.problems) > faults {
		return
	}
	if k.source = d.running.table(name); k.source != nil {
		return
	}
	var err error
	if k.source, err = table.NewSource(name, *s); err != nil {
		d.wrong(file, "%v", err)
		return
	}
	k.source.Every = every
	d.conf.Tables = append(d.conf.Tables, k.source)
}

// tableStream reads what a table keeps of a stream or operator: { stream, key, fields, ttl, deleted }.
func (d *decoder) tableStream(k *known, m *mapping) {
	d.text(k.stream, "stream")
	k.key = m.need("key", "the field that rows are found by")
	key := d.text(k.key, "key")
	k.columns = []string{key}
	d.list(m.need("fields", "which of its fields are columns, such as [team, manager]"), "fields", func(n *yaml.Node) {
		switch c := d.text(n, "a field"); {
		case c == "" || c == key: // the key is one in any case
		case slices.Contains(k.columns, c):
			d.wrong(n, "%s is there twice in fields; keep one", c)
		case len(k.columns) > tableFieldsMost:
			d.wrong(n, "fields has more than %d fields; leave out what nobody reads", tableFieldsMost)
		default:
			k.columns = append(k.columns, c)
		}
	})
	k.ttl = d.span(m.get("ttl"), "ttl", 0, time.Millisecond)
	k.deleted = m.get("deleted")
	m.done()
}

// tableMMDB reads what a MaxMind DB needs besides: the fields of its networks, as a list, or with their types.
func (d *decoder) tableMMDB(s *table.Spec, m *mapping) {
	s.Match = table.MatchNetworks
	for _, name := range []string{"key", "match"} {
		if m.get(name) != nil {
			d.wrong(m.key(name), "a MaxMind DB finds addresses in networks, and has no columns to choose from; leave %s out", name)
		}
	}
	n := m.need("fields", "which fields of its networks are columns, such as [country.iso_code, city.names.en]")
	if n == nil {
		return
	}
	add := func(n *yaml.Node, path string) {
		switch {
		case path == "":
		case slices.Contains(s.Columns, path):
			d.wrong(n, "%s is there twice in fields; keep one", path)
		case len(s.Columns) == tableFieldsMost:
			d.wrong(n, "fields has more than %d fields; leave out what nobody reads", tableFieldsMost)
		default:
			s.Columns = append(s.Columns, path)
		}
	}
	if n.Kind != yaml.MappingNode {
		d.list(n, "fields", func(x *yaml.Node) { add(x, d.text(x, "a field")) })
		return
	}
	d.tableFields(s, n)
	for _, e := range d.mapping(n, "fields").entries {
		add(e.key, e.key.Value)
	}
}

// tableFieldsMost is how many fields of a MaxMind DB or of a stream may be columns.
const tableFieldsMost = 100

// tableMatch says how keys are found: a column that is called cidr holds networks.
func (d *decoder) tableMatch(s *table.Spec, n *yaml.Node) {
	switch d.enum(n, "match", "", "exact", "cidr") {
	case "exact":
		s.Match = table.MatchExact
	case "cidr":
		s.Match = table.MatchNetworks
	default:
		if s.Key == "cidr" {
			s.Match = table.MatchNetworks
		}
	}
}

func (d *decoder) tableFields(s *table.Spec, n *yaml.Node) {
	m := d.mapping(n, "fields")
	if m == nil {
		return
	}
	s.Types = map[string]string{}
	for _, e := range m.entries {
		s.Types[e.key.Value] = d.enum(e.value, "the type of "+e.key.Value, "", fieldTypes...)
		if e.key.Value == s.Key && s.Match == table.MatchNetworks {
			d.wrong(e.key, "%s holds networks, and has no other type; leave it out", s.Key)
		}
	}
}
