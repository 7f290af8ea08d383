package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// PluginCase is one line of the cases of a plugin: a row, or rows with their times, and what the plugin says about them; of an aggregate
// rows and their value.
type PluginCase struct {
	Name   string          `json:"name"`
	Config json.RawMessage `json:"config"` // {} if left out
	Row    json.RawMessage `json:"row"`    // an event, with the manifest's paths
	Rows   []CaseRow       `json:"rows"`   // instead of it
	Delay  string          `json:"delay"`  // what the watermark stays behind the rows; 0s if left out
	Until  string          `json:"until"`  // where the watermark goes behind the last row: a time, or "end", the end of the input
	Hits   []PluginHit     `json:"hits"`   // by row, then by rule, then those of timers; none if left out

	Pass   bool                                  `json:"pass"`   // of a filter
	Writes map[string]json.RawMessage            `json:"writes"` // of a map, by column; null if left out
	Result json.RawMessage                       `json:"result"` // of an aggregate, of Rows without times
	Tables map[string]map[string]json.RawMessage `json:"tables"` // that are granted: rows by the manifest's name and by key

	line  int
	delay int64 // ms
	until int64 // ms
}

// CaseRow is an event and when it happened; of a filter or map also what the plugin says of it.
type CaseRow struct {
	Time   string                     `json:"time"` // RFC 3339
	Row    json.RawMessage            `json:"row"`
	Pass   bool                       `json:"pass"`
	Writes map[string]json.RawMessage `json:"writes"`
	ts     int64
}

// PluginHit is a hit as cases write it. An empty severity is the manifest's. Of a case with rows it says where: At is the index of the
// row, Time when the timer was due.
type PluginHit struct {
	Rule     uint32          `json:"rule"`
	At       *int            `json:"at,omitempty"`
	Time     string          `json:"time,omitempty"`
	Severity string          `json:"severity,omitempty"`
	Note     json.RawMessage `json:"note,omitempty"`
}

// CaseReport is what became of a plugin's cases.
type CaseReport struct {
	Cases, Ways int
	Failures    []string // each with file and line
}

// casesMax is the largest file of cases, bytes.
const casesMax = 16 << 20

// CheckPlugin runs the cases of a module: those in the file, or in cases.jsonl beside it. Every case runs one row a call, seven
// rows a call, all rows a call, and with a fresh instance for each call: a plugin whose answers depend on that does not keep the
// contract. Cases with rows, and all of a plugin that remembers, run alone, on their own clock (cases_rows.go).
func CheckPlugin(module, cases string) (report CaseReport, err error) {
	if cases == "" {
		cases = filepath.Join(filepath.Dir(module), "cases.jsonl")
	}
	code, err := readModule(module)
	if err != nil {
		return report, err
	}
	host, err := modules()
	if err != nil {
		return report, err
	}
	m, err := host.Load(code, wasm.Options{})
	if err != nil {
		return report, err
	}
	defer m.Close()
	all, err := readCases(cases, m.Manifest.Role())
	if err != nil {
		return report, err
	}
	report.Cases = len(all)
	trials := &trials{module: module}
	for from := 0; from < len(all); { // neighbours with one configuration and the same tables go together
		to := from + 1
		if m.Manifest.Keyed || m.Manifest.Role() != abi.RoleAggregate && all[from].Rows != nil {
			if err := report.trial(trials, m.Manifest, cases, &all[from]); err != nil {
				return report, err
			}
			from = to
			continue
		}
		for to < len(all) && bytes.Equal(all[to].Config, all[from].Config) && (all[to].Rows == nil || m.Manifest.Role() == abi.RoleAggregate) && reflect.DeepEqual(all[to].Tables, all[from].Tables) {
			to++
		}
		if err := report.run(m, cases, all[from:to]); err != nil {
			return report, err
		}
		from = to
	}
	return report, nil
}

func readCases(path string, role abi.Role) (all []PluginCase, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) > casesMax {
		return nil, fmt.Errorf("%s has %d bytes; at most %d", path, len(b), casesMax)
	}
	for i, line := range bytes.Split(b, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		c := PluginCase{line: i + 1, Config: json.RawMessage("{}")}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil {
			return nil, fmt.Errorf("%s:%d: %w; a case is %s on one line", path, i+1, err, caseForms[role])
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s:%d: more than one case on a line", path, i+1)
		}
		err := c.suits(role)
		if err == nil {
			err = c.check(role)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w; a case is %s", path, i+1, err, caseForms[role])
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no cases", path)
	}
	return all, nil
}

// run runs cases of one configuration in every way.
func (r *CaseReport) run(m *wasm.Module, path string, cases []PluginCase) error {
	config := cases[0].Config
	if said := m.CheckConfig(config); len(said) > 0 {
		return fmt.Errorf("%s:%d: the configuration does not suit the module: %s %v", path, cases[0].line, said[0].Text, said[0].Path)
	}
	if m.Manifest.Role() == abi.RoleAggregate {
		return r.runAggregate(m, path, cases)
	}
	rows, fields, err := caseRows(m.Manifest.Reads, path, cases)
	if err != nil {
		return err
	}
	when, err := pluginWhen(m.Manifest, fields)
	if err != nil {
		return err
	}
	lookup, err := caseTables(m.Manifest.Tables, path, &cases[0])
	if err != nil {
		return err
	}
	ways := []struct {
		size  int
		fresh bool
		name  string
	}{{1, false, "one row a call"}, {7, false, "seven rows a call"}, {abi.RowsMax, false, "all rows a call"}, {1, true, "a fresh instance a row"}}
	r.Ways = max(r.Ways, len(ways))
	failed := map[int]bool{}
	for _, way := range ways {
		p := wasm.NewPlugin(m, config, fields, wasm.Identity{Pipeline: "test", Operator: m.Manifest.Name, Lookup: lookup})
		p.Fresh = way.fresh
		got, err := answers(p, m, when, rows, way.size)
		p.Close()
		if err != nil {
			return err
		}
		for i, c := range cases {
			if want := c.wants(m.Manifest); got[i] != want && !failed[i] {
				failed[i] = true
				r.Failures = append(r.Failures, fmt.Sprintf("%s:%d: %s: %s: %s; want %s", path, c.line, c.Name, way.name, got[i], want))
			}
		}
	}
	return nil
}

// caseTables are the tables of a case.
func caseTables(names []string, path string, c *PluginCase) (wasm.Lookup, error) {
	tables := make([]map[string]json.RawMessage, len(names))
	for name, rows := range c.Tables {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fmt.Errorf("%s:%d: the manifest has no table %q%s", path, c.line, name, suggest(name, names))
		}
		tables[i] = rows
	}
	return func(i int, key []byte) ([]byte, abi.Code) {
		if tables[i] == nil {
			return nil, abi.Denied
		}
		if row, ok := tables[i][string(key)]; ok {
			return row, abi.OK
		}
		return nil, abi.NotFound
	}, nil
}

// caseRows are the rows of cases, decoded as events are.
func caseRows(reads []abi.Read, path string, cases []PluginCase) (rows []wasm.Row, fields []event.Field, err error) {
	var texts []json.RawMessage
	var lines []int
	for _, c := range cases {
		if len(c.Row) > 0 {
			texts, lines = append(texts, c.Row), append(lines, c.line)
		}
		for _, x := range c.Rows {
			texts, lines = append(texts, x.Row), append(lines, c.line)
		}
	}
	var names event.Fields
	for _, f := range reads {
		fields = append(fields, names.Add(f.Path))
	}
	p := event.NewProjection(&names, fields)
	b := p.NewBatch()
	for i, text := range texts {
		if err := p.Append(b, text); err != nil {
			return nil, nil, fmt.Errorf("%s:%d: the row: %w", path, lines[i], err)
		}
		rows = append(rows, wasm.Row{Batch: b, Row: int32(i), ID: event.EventID([8]byte{}, int64(i))})
	}
	return rows, fields, nil
}

// caseRow is a row that a condition reads.
type caseRow struct{ wasm.Row }

func (r caseRow) Value(f event.Field) event.Value { return r.Batch.Value(f, int(r.Row.Row)) }

// answers is what a plugin says of each row, as text.
func answers(p *wasm.Plugin, m *wasm.Module, when *match.Condition, rows []wasm.Row, size int) ([]string, error) {
	out := make([]string, len(rows))
	var at []int // of the rows that the module wants to see
	for i := range rows {
		if out[i] = (&PluginCase{}).wants(m.Manifest); when.Match(caseRow{rows[i]}) {
			at = append(at, i)
		}
	}
	for ; len(at) > 0; at = at[min(size, len(at)):] {
		var part []wasm.Row
		for _, i := range at[:min(size, len(at))] {
			part = append(part, rows[i])
		}
		hits, poison, judged, err := p.Detect(nil, part)
		if judged < len(part) {
			return nil, fmt.Errorf("it was switched off: %w", err)
		}
		for i, text := range saidOf(p, m.Manifest, len(part), hits) {
			out[at[i]] = text
		}
		for _, x := range poison {
			out[at[x.Row]] = "it failed: " + x.Err.Error()
		}
	}
	return out, nil
}

// hitsText is hits as text that can be compared.
func hitsText(manifest *abi.Manifest, hits []PluginHit) string {
	if len(hits) == 0 {
		return "no hit"
	}
	hits = slices.Clone(hits)
	slices.SortFunc(hits, func(a, b PluginHit) int { return int(a.Rule) - int(b.Rule) })
	var texts []string
	for _, h := range hits {
		texts = append(texts, h.text(manifest))
	}
	return strings.Join(texts, ", ")
}

// text is a hit as text that can be compared.
func (h PluginHit) text(manifest *abi.Manifest) string {
	if rule := manifest.Rule(h.Rule); h.Severity == "" && rule != nil {
		h.Severity = rule.Severity
	}
	text := fmt.Sprintf("rule %d %s", h.Rule, h.Severity)
	var note bytes.Buffer
	if len(h.Note) > 0 && json.Compact(&note, h.Note) == nil {
		text += " " + note.String()
	}
	return text
}

// PackPlugin writes a plugin made of a module that its toolchain gave no manifest: see wasm.Pack. script may be empty.
func PackPlugin(out, manifest, script, module string) error {
	code, err := readModule(module)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	var rule []byte
	if script != "" {
		if rule, err = os.ReadFile(script); err != nil {
			return err
		}
	}
	packed, err := wasm.Pack(code, text, rule)
	if err != nil {
		return fmt.Errorf("%s: %w", module, err)
	}
	return os.WriteFile(out, packed, 0o644)
}
