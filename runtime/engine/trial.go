package engine

import (
	"bytes"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Trial gives rows to one plugin without a pipeline around it, on a clock of their own: how a plugin's cases are run. Spec is of one
// stream and one plugin; Shards, Rows (a block) and Fresh (an instance a call) must not show in what it says.
type Trial struct {
	Spec   *Spec
	Shards int
	Rows   int
	Fresh  bool
}

// TrialRow is an event, a JSON object, and its time, ms.
type TrialRow struct {
	TS   int64
	Line []byte
}

// TrialSaid is what the plugin said: of the row with this index, or, if Row is -1, of a timer that was due at Due. Fault is why it failed
// on the row or timer, empty for a hit, and for a row that a filter passes or a map gives columns: Wrote, JSON by the manifest's writes.
type TrialSaid struct {
	Row      int
	Due      int64
	Rule     uint32
	Severity string
	Note     []byte
	Wrote    [][]byte
	Fault    string
}

// Run gives the rows to the plugin in their order, each of which moves the watermark to its time less the stream's delay; then moves
// the watermark to a time (-inf: it stays), and lets the input end or not. A row that is no JSON is an error.
func (t *Trial) Run(rows []TrialRow, until int64, ends bool) (said []TrialSaid, err error) {
	t.Spec.Operators[0].Plugin.Fresh = t.Fresh
	g := NewGraph(t.Spec, t.Shards)
	defer g.Close()
	g.src[0].add(operator.NegInf)
	items, err := t.items(rows, until, ends)
	for at := 0; at < len(items) && err == nil; at += t.Rows {
		if err = g.Block(items[at:min(at+t.Rows, len(items))]); err == nil {
			said = t.said(said, g.ops[0])
		}
	}
	return said, err
}

// items are the rows, and the marks behind them.
func (t *Trial) items(rows []TrialRow, until int64, ends bool) (items []Item, err error) {
	proj := event.NewProjection(t.Spec.Fields, t.Spec.Streams[0].Reads)
	b, block := proj.NewBatch(), &event.Block{}
	b.Source = block
	for i, r := range rows {
		line := event.Mend(bytes.TrimSpace(r.Line))
		if err := proj.Append(b, line); err != nil {
			return nil, err
		}
		from := uint32(len(block.Data))
		block.Data = append(block.Data, line...)
		block.Lines = append(block.Lines, event.Line{Start: from, End: uint32(len(block.Data))})
		b.Line = append(b.Line, int32(i))
		items = append(items, Item{Row: Row{TS: r.TS, Name: operator.Named(event.EventID([8]byte{}, int64(i))), Batch: b, Row: int32(i)}})
	}
	if until > operator.NegInf {
		items = append(items, Item{Mark: event.Idle}, Item{Mark: event.Clock, Row: Row{TS: until}})
	}
	if ends {
		items = append(items, Item{Mark: event.Finished})
	}
	return items, nil
}

// said appends what the plugin said in a block. Positions count from 1, and the rows come first.
func (t *Trial) said(out []TrialSaid, n *node) []TrialSaid {
	p := n.spec.Plugin
	for i := range n.said {
		r := &n.said[i]
		s := TrialSaid{Row: int(r.P) - 1, Due: r.Due}
		if r.Due != operator.NegInf {
			s.Row = -1
		}
		row := cells{r}
		if r.Kind == operator.Failed {
			s.Fault = r.Why
		} else if p.maps() {
			s.Wrote = p.wrote(row)
		} else if p.Detects() {
			id, _ := row.Value(p.RuleID).Int()
			s.Rule, s.Severity = uint32(id), string(row.Value(p.Severity).Text)
			if v := row.Value(p.Note); v.Kind == event.Object {
				s.Note = bytes.Clone(v.Text)
			}
		}
		out = append(out, s)
	}
	return out
}

// wrote is what a map wrote into a row, as JSON, by the manifest's writes.
func (p *Plugin) wrote(row cells) [][]byte {
	out := make([][]byte, len(p.Module.Manifest.Writes))
	for i, f := range p.written() {
		out[p.Written[i]] = row.Value(f).AppendJSON(nil)
	}
	return out
}
