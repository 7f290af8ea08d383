package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Cases of rows on a clock of their own: each row moves the watermark, and timers fire when it passes them. They run in the
// engine's graph, as an operator of a pipeline that has nothing else.

// caseTime is when the only row of a case happens that does not say it.
const caseTime = "2026-01-01T00:00:00Z"

// caseRowsMax is how many rows a case may have.
const caseRowsMax = 100_000

// caseEnd is the time behind the last row that means the end of the input.
const caseEnd = "end"

// check looks at what JSON alone does not say, and reads the times.
func (c *PluginCase) check(role abi.Role) (err error) {
	switch {
	case len(c.Row) == 0 && len(c.Rows) == 0 && role != abi.RoleAggregate:
		return errors.New("it has no row")
	case len(c.Row) > 0 && c.Rows != nil:
		return errors.New("it has row and rows; keep one")
	case len(c.Rows) > caseRowsMax:
		return fmt.Errorf("it has %d rows; at most %d", len(c.Rows), caseRowsMax)
	case (c.Rows == nil || role == abi.RoleAggregate) && (c.Delay != "" || c.Until != ""):
		return errors.New(`delay and until are for a case with rows: "rows": [{"time": "` + caseTime + `", "row": {...}}]`)
	}
	for i := range c.Rows {
		x := &c.Rows[i]
		if role == abi.RoleAggregate {
			if x.Time != "" {
				return fmt.Errorf("row %d has a time, which an aggregate does not see", i)
			}
		} else if x.ts, err = caseMillis(x.Time); err != nil {
			return fmt.Errorf("the time of row %d: %w", i, err)
		}
		if len(x.Row) == 0 {
			return fmt.Errorf("row %d has no row", i)
		}
	}
	if c.Delay != "" {
		d, err := time.ParseDuration(c.Delay)
		if err != nil || d < 0 || d > 366*24*time.Hour {
			return fmt.Errorf("delay is %q; it must be a time such as 10s, from 0s to 8784h", c.Delay)
		}
		c.delay = d.Milliseconds()
	}
	if c.until = operator.NegInf; c.Until != "" && c.Until != caseEnd {
		if c.until, err = caseMillis(c.Until); err != nil {
			return fmt.Errorf("until: %w, or end", err)
		}
	}
	return c.checkHits()
}

func (c *PluginCase) checkHits() error {
	for i, h := range c.Hits {
		switch {
		case c.Rows == nil && (h.At != nil || h.Time != ""):
			return fmt.Errorf("hit %d has at or time, which are for a case with rows", i)
		case c.Rows != nil && (h.At == nil) == (h.Time == ""):
			return fmt.Errorf("hit %d must say at, the index of its row from 0, or time, when its timer was due", i)
		case h.At != nil && (*h.At < 0 || *h.At >= len(c.Rows)):
			return fmt.Errorf("hit %d is at row %d of %d", i, *h.At, len(c.Rows))
		case h.Time != "":
			if _, err := caseMillis(h.Time); err != nil {
				return fmt.Errorf("the time of hit %d: %w", i, err)
			}
		}
	}
	return nil
}

func caseMillis(text string) (int64, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return 0, fmt.Errorf("%q is no time such as %s", text, caseTime)
	}
	return t.UnixMilli(), nil
}

// trials are pipelines of one plugin, by its configuration.
type trials struct {
	module string
	specs  map[string]*engine.Spec
}

// spec is the pipeline of a configuration.
func (t *trials) spec(config json.RawMessage) (*engine.Spec, error) {
	if s := t.specs[string(config)]; s != nil {
		return s, nil
	}
	type object = map[string]any
	text, err := json.Marshal(object{"name": "test", "state": "none",
		"streams":   object{"events": object{"time": object{"field": "time"}}},
		"operators": object{"plugin": object{"plugin": object{"from": "events", "module": t.module, "config": config}}}})
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	c, problems := DecodeDetect(doc.Content[0])
	if len(problems) > 0 {
		return nil, errors.New(problems[0].Text)
	}
	if t.specs == nil {
		t.specs = map[string]*engine.Spec{}
	}
	t.specs[string(config)] = c.Spec
	return c.Spec, nil
}

// trial runs a case in every way: blocks of one row, of seven and of all, one shard to four, and fresh instances.
func (r *CaseReport) trial(t *trials, manifest *abi.Manifest, path string, c *PluginCase) error {
	spec, err := t.spec(c.Config)
	if err != nil {
		return fmt.Errorf("%s:%d: the configuration does not suit the module: %w", path, c.line, err)
	}
	rows := []engine.TrialRow{}
	for _, x := range c.Rows {
		rows = append(rows, engine.TrialRow{TS: x.ts, Line: x.Row})
	}
	if c.Rows == nil {
		ts, _ := caseMillis(caseTime)
		rows = append(rows, engine.TrialRow{TS: ts, Line: c.Row})
	}
	spec.Streams[0].Delay = c.delay
	var ways []engine.Trial
	for _, size := range []int{1, 7, len(rows) + 3} {
		for shards := 1; shards <= 4; shards++ {
			ways = append(ways, engine.Trial{Spec: spec, Shards: shards, Rows: size})
		}
		ways = append(ways, engine.Trial{Spec: spec, Shards: 2, Rows: size, Fresh: true})
	}
	r.Ways = max(r.Ways, len(ways))
	want := c.wanted(manifest)
	for _, way := range ways {
		said, err := way.Run(rows, c.until, c.Until == caseEnd)
		if err != nil {
			return fmt.Errorf("%s:%d: the rows: %w", path, c.line, err)
		}
		if got := c.shown(manifest, said); got != want {
			fresh := ""
			if way.Fresh {
				fresh = ", a fresh instance a call"
			}
			r.Failures = append(r.Failures, fmt.Sprintf("%s:%d: %s: %d rows a block, %d shards%s: %s; want %s", path, c.line, c.Name, way.Rows, way.Shards, fresh, got, want))
			return nil
		}
	}
	return nil
}

// wanted is what a case wants, as text that can be compared.
func (c *PluginCase) wanted(manifest *abi.Manifest) string {
	rows := c.Rows
	if c.Rows == nil {
		rows = []CaseRow{{Pass: c.Pass, Writes: c.Writes}}
	}
	var texts []string
	for i, x := range rows {
		switch {
		case manifest.Role() == abi.RoleMap:
			texts = append(texts, c.place(i, 0)+writesText(manifest, x.Writes))
		case x.Pass:
			texts = append(texts, c.place(i, 0)+passText(true))
		}
	}
	for _, h := range c.Hits {
		at, due := 0, int64(0)
		if h.At != nil {
			at = *h.At
		} else if h.Time != "" {
			at = -1
			due, _ = caseMillis(h.Time)
		}
		texts = append(texts, c.place(at, due)+h.text(manifest))
	}
	return joined(manifest, texts)
}

// shown is what the plugin said, likewise.
func (c *PluginCase) shown(manifest *abi.Manifest, said []engine.TrialSaid) string {
	var texts []string
	for _, s := range said {
		text := passText(true)
		switch {
		case s.Fault != "":
			text = "it failed: " + s.Fault
		case manifest.Role() == abi.RoleMap:
			writes := map[string]json.RawMessage{}
			for i, w := range manifest.Writes {
				writes[w.Path] = s.Wrote[i]
			}
			text = writesText(manifest, writes)
		case manifest.Role() == abi.RoleDetect:
			text = PluginHit{Rule: s.Rule, Severity: s.Severity, Note: s.Note}.text(manifest)
		}
		texts = append(texts, c.place(s.Row, s.Due)+text)
	}
	return joined(manifest, texts)
}

// place says which row, or which time, if there is more than one.
func (c *PluginCase) place(row int, due int64) string {
	switch {
	case row < 0:
		return "at " + time.UnixMilli(due).UTC().Format(time.RFC3339Nano) + " "
	case c.Rows == nil:
		return ""
	}
	return fmt.Sprintf("row %04d ", row)
}

// joined puts hits in one order: those of two keys, whose timers are due at once, have none.
func joined(m *abi.Manifest, texts []string) string {
	switch {
	case len(texts) > 0:
	case m.Role() == abi.RoleFilter:
		return "no row passes"
	default:
		return "no hit"
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}
