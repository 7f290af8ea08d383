package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// caseForms is what a case of each role looks like.
var caseForms = map[abi.Role]string{
	abi.RoleDetect:    `{"name": ..., "row": {...}, "hits": [{"rule": 1}]}`,
	abi.RoleFilter:    `{"name": ..., "row": {...}, "pass": true}`,
	abi.RoleMap:       `{"name": ..., "row": {...}, "writes": {"column": ...}}`,
	abi.RoleAggregate: `{"name": ..., "rows": [{"row": {...}}, ...], "result": ...}`,
}

// suits says what a case has that is another role's, or lacks.
func (c *PluginCase) suits(role abi.Role) error {
	switch {
	case role != abi.RoleDetect && c.Hits != nil, role != abi.RoleFilter && c.Pass, role != abi.RoleMap && c.Writes != nil,
		role != abi.RoleAggregate && c.Result != nil, role == abi.RoleAggregate && c.Row != nil:
		return fmt.Errorf("it says what a plugin of the role %s never says", role)
	case c.Rows != nil && (c.Pass || c.Writes != nil):
		return errors.New("pass and writes stand beside each of its rows")
	}
	for i, x := range c.Rows {
		if role != abi.RoleFilter && x.Pass || role != abi.RoleMap && x.Writes != nil {
			return fmt.Errorf("row %d says what a plugin of the role %s never says", i, role)
		}
	}
	return nil
}

// wants is what the plugin should say, as text that can be compared.
func (c *PluginCase) wants(m *abi.Manifest) string {
	switch m.Role() {
	case abi.RoleFilter:
		return passText(c.Pass)
	case abi.RoleMap:
		return writesText(m, c.Writes)
	case abi.RoleAggregate:
		return plainText(c.Result)
	}
	return hitsText(m, c.Hits)
}

func writesText(m *abi.Manifest, writes map[string]json.RawMessage) string {
	var texts []string
	for _, w := range m.Writes {
		texts = append(texts, w.Path+" "+plainText(writes[w.Path]))
	}
	for name := range writes {
		if !slices.ContainsFunc(m.Writes, func(w abi.Write) bool { return w.Path == name }) {
			texts = append(texts, name+", which it does not write")
		}
	}
	return strings.Join(texts, ", ")
}

func passText(pass bool) string {
	if pass {
		return "it passes"
	}
	return "it does not pass"
}

// plainText is a JSON value as text; equal numbers are the same.
func plainText(raw json.RawMessage) string {
	if f, err := strconv.ParseFloat(string(raw), 64); err == nil {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	if len(raw) == 0 {
		return "null"
	}
	return string(raw)
}

func cellText(v event.Value) string { return plainText(v.AppendJSON(nil)) }

// saidOf is what a plugin said of rows, as text.
func saidOf(p *wasm.Plugin, m *abi.Manifest, rows int, hits []abi.Hit) []string {
	out := make([]string, rows)
	said := make([][]PluginHit, rows)
	for i := range out {
		out[i] = (&PluginCase{}).wants(m)
	}
	for _, h := range hits {
		switch m.Role() {
		case abi.RoleFilter:
			out[h.Row] = passText(true)
		case abi.RoleMap:
			var texts []string
			for c, w := range m.Writes {
				texts = append(texts, w.Path+" "+cellText(p.Wrote(int(h.Rule), c)))
			}
			out[h.Row] = strings.Join(texts, ", ")
		default:
			said[h.Row] = append(said[h.Row], PluginHit{Rule: h.Rule, Severity: abi.Severities[h.Severity], Note: h.Note})
			out[h.Row] = hitsText(m, said[h.Row])
		}
	}
	return out
}

// runAggregate runs cases of an aggregate: all together, a state each, in calls of several sizes; and with the states of both halves
// of their rows merged.
func (r *CaseReport) runAggregate(m *wasm.Module, path string, cases []PluginCase) error {
	rows, fields, err := caseRows(m.Manifest.Reads, path, cases)
	if err != nil {
		return err
	}
	when, err := pluginWhen(m.Manifest, fields)
	if err != nil {
		return err
	}
	ways := []struct {
		size         int
		fresh, halve bool
		name         string
	}{{1, false, false, "one row a call"}, {7, false, false, "seven rows a call"}, {abi.RowsMax, false, false, "all rows a call"},
		{1, true, false, "a fresh instance a row"}, {abi.RowsMax, false, true, "two halves merged"}}
	r.Ways = len(ways)
	failed := map[int]bool{}
	for _, way := range ways {
		a := aggregateCases{m: m, got: make([]string, len(cases)), states: states(2*len(cases), m.Manifest.Aggregate.StateSize)}
		a.p = wasm.NewPlugin(m, cases[0].Config, fields, wasm.Identity{Pipeline: "test", Operator: m.Manifest.Name})
		a.p.Fresh = way.fresh
		at := 0
		for i, c := range cases {
			for k := range c.Rows {
				if group := 2 * i; when.Match(caseRow{rows[at]}) {
					if way.halve && k >= len(c.Rows)/2 {
						group++
					}
					a.rows, a.groups = append(a.rows, rows[at]), append(a.groups, uint32(group))
				}
				at++
			}
		}
		a.run(way.size, way.halve)
		a.p.Close()
		for i, c := range cases {
			if want := c.wants(m.Manifest); a.got[i] != want && !failed[i] {
				failed[i] = true
				r.Failures = append(r.Failures, fmt.Sprintf("%s:%d: %s: %s: %s; want %s", path, c.line, c.Name, way.name, a.got[i], want))
			}
		}
	}
	return nil
}

// states are so many of no rows.
func states(n, size int) (all [][]byte) {
	for range n {
		all = append(all, make([]byte, size))
	}
	return all
}

// aggregateCases is one way to run cases; each has two states, the second of which is used where its rows are halved.
type aggregateCases struct {
	m      *wasm.Module
	p      *wasm.Plugin
	states [][]byte
	rows   []wasm.Row
	groups []uint32
	got    []string
}

func (a *aggregateCases) run(size int, merge bool) {
	fail := func(i int, err error) {
		if a.got[i] == "" {
			a.got[i] = "it failed: " + err.Error()
		}
	}
	for at := 0; at < len(a.rows); at += size {
		to := min(at+size, len(a.rows))
		a.p.Update(a.states, a.groups[at:to], a.rows[at:to], func(row int, err error, _ bool) { fail(int(a.groups[at+row])/2, err) })
	}
	var first, second [][]byte
	for i := range a.got {
		first, second = append(first, a.states[2*i]), append(second, a.states[2*i+1])
	}
	if merge {
		a.p.Merge(first, second, func(i int, err error, _ bool) { fail(i, err) })
	}
	a.p.Finish(first, func(i int, v event.Value) {
		if a.got[i] == "" {
			a.got[i] = cellText(v)
		}
	}, func(i int, err error, _ bool) { fail(i, err) })
}
