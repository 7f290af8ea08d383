package engine

import (
	"bytes"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Judge runs plugins over events without a pipeline's order, time or state: what the processor `detect` does. It is a graph
// of one stream, whose events are known by their content: the same bytes give the same ids. For one goroutine.
type Judge struct {
	graph *Graph
	spec  *Spec
	proj  *event.Projection
	batch *event.Batch
	block event.Block
	items []Item
	at    []int // line of each item
}

// Said is what plugins said about one event.
type Said struct {
	Fault  string // why it is no event that can be judged, or why a plugin failed on it
	Detail string
	Hits   []JudgeHit
}

// JudgeHit is a hit of one rule.
type JudgeHit struct {
	Rule     string // module/rule
	Severity string
	ID       event.ID // of the alert
	TS       int64
	Alert    []byte
}

// NewJudge makes a judge of a Spec with one stream and plugins that read it.
func NewJudge(spec *Spec) *Judge {
	g := NewGraph(spec, 1)
	g.src[0].add(operator.NegInf)
	return &Judge{graph: g, spec: spec, proj: event.NewProjection(spec.Fields, spec.Streams[0].Reads)}
}

// Judge judges events, JSON objects, and says of each what it is. An error ends it: a plugin failed that must not
// (on_failure: stop).
func (j *Judge) Judge(lines [][]byte) ([]Said, error) {
	said := make([]Said, len(lines))
	j.batch = j.proj.NewBatch()
	j.block = event.Block{}
	j.batch.Source, j.items, j.at = &j.block, j.items[:0], j.at[:0]
	timed := j.spec.Streams[0].Time.Format != nil
	for i, line := range lines {
		id := event.Hash(line)
		line = event.Mend(line)
		if err := j.proj.Append(j.batch, line); err != nil {
			said[i].Fault, said[i].Detail = "bad_json", err.Error()
			continue
		}
		row := j.batch.Rows - 1
		from := uint32(len(j.block.Data))
		j.block.Data = append(j.block.Data, bytes.TrimSpace(line)...)
		j.block.Lines = append(j.block.Lines, event.Line{Start: from, End: uint32(len(j.block.Data))})
		j.batch.Line = append(j.batch.Line, int32(row))
		x := Item{Row: Row{Name: operator.Named(id), Batch: j.batch, Row: int32(row)}}
		if timed {
			ts, err := j.spec.Streams[0].Time.Format.Millis(j.batch.Value(j.spec.Streams[0].Time.Field, row))
			if err != nil {
				said[i].Fault, said[i].Detail = "bad_time", err.Error()
				continue
			}
			x.TS = ts
		}
		j.items, j.at = append(j.items, x), append(j.at, i)
	}
	base := j.graph.p
	if err := j.graph.Block(j.items); err != nil {
		return nil, err
	}
	for _, n := range j.graph.ops {
		for k := range n.results() {
			r := &n.said[k]
			j.add(&said[j.at[r.P-base-1]], n.spec, r)
		}
	}
	return said, nil
}

func (j *Judge) add(s *Said, o *Operator, r *operator.Result) {
	if r.Kind == operator.Failed {
		s.Fault, s.Detail = r.Reason, r.Why
		return
	}
	x := j.graph.facts(o, r)
	t := o.template(cells{r})
	o.shownEvents(&x, t.Events, r)
	s.Hits = append(s.Hits, JudgeHit{Rule: t.Rule.ID, Severity: x.Severity, ID: x.ID, TS: r.TS, Alert: t.Append(nil, x, cells{r})})
}

// Close gives back what the plugins hold.
func (j *Judge) Close() { j.graph.Close() }

// Rules joins the rules of hits, each once.
func (s *Said) Rules() (rules []string, worst string) {
	for _, h := range s.Hits {
		if !slices.Contains(rules, h.Rule) {
			rules = append(rules, h.Rule)
		}
		if slices.Index(alert.Severities, h.Severity) > slices.Index(alert.Severities, worst) {
			worst = h.Severity
		}
	}
	return rules, worst
}
