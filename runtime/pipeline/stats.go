package pipeline

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/kafka"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// The JSON of /stats. Names end in their unit; `_ns` is time by the clock.

type statsDoc struct {
	Pipeline  string           `json:"pipeline"`
	Time      string           `json:"time"`
	Ready     bool             `json:"ready"`
	Records   int64            `json:"records"`
	Bytes     int64            `json:"bytes"`
	Rows      int64            `json:"rows"`
	Alerts    int64            `json:"alerts"`
	Late      int64            `json:"late"`
	Errors    map[string]int64 `json:"errors"`
	Engine    engineDoc        `json:"engine"`
	Streams   []streamDoc      `json:"streams"`
	Stopped   []haltDoc        `json:"stopped,omitempty"`
	Operators []operatorDoc    `json:"operators"`
	Commits   commitsDoc       `json:"commits"`
	State     stateDoc         `json:"state"`
	Outbox    outboxDoc        `json:"outbox"`
	Lanes     []laneDoc        `json:"lanes,omitempty"`
	Untaken   int64            `json:"untaken_rows,omitempty"`
	Kafka     []lagDoc         `json:"kafka,omitempty"`
	Top       []Cost           `json:"top"`
}

type engineDoc struct {
	Position int64 `json:"position"`
	Blocks   int64 `json:"blocks"`
	Busy     int64 `json:"busy_ns"`
	Search   int64 `json:"search_ns"`
}

type streamDoc struct {
	Name       string `json:"name"`
	Status     string `json:"status"`
	Records    int64  `json:"records"`
	Duplicates int64  `json:"duplicates,omitempty"` // dropped, since their ids had come before
	Partitions int    `json:"partitions"`
	Watermark  string `json:"watermark,omitempty"`
	DelayMS    *int64 `json:"delay_ms,omitempty"`
}

// haltDoc is a partition of which nothing more is taken.
type haltDoc struct {
	Partition string `json:"partition"`
	Position  int64  `json:"position"`
	Reason    string `json:"reason"`
}

type operatorDoc struct {
	Name   string     `json:"name"`
	Kind   string     `json:"kind"`
	Seen   int64      `json:"source_rows"`
	Taken  int64      `json:"taken_rows"`
	Out    int64      `json:"rows"`
	Alerts int64      `json:"alerts"`
	Late   int64      `json:"late"`
	Keys   int        `json:"keys"`
	Busy   int64      `json:"busy_ns"`
	Plugin *pluginDoc `json:"plugin,omitempty"`
}

type pluginDoc struct {
	Name       string           `json:"name"`
	Version    string           `json:"version"`
	Digest     string           `json:"digest"`
	Calls      int64            `json:"calls"`
	Rows       int64            `json:"rows"`
	Hits       int64            `json:"hits"`
	Fuel       int64            `json:"fuel"`
	Busy       int64            `json:"busy_ns"`
	Failures   map[string]int64 `json:"failures"`
	Poisoned   int64            `json:"poisoned_rows"`
	Unjudged   int64            `json:"unjudged_rows"`
	Skipped    int64            `json:"skipped_rows"`
	Instances  int64            `json:"instances"`
	MemoryPeak int64            `json:"memory_peak_bytes"`
	State      int64            `json:"state_bytes"`
	Breaker    breakerDoc       `json:"breaker"`
	Replaced   int64            `json:"replacements"`
	Refused    int64            `json:"refused_replacements"`
	Rules      []ruleDoc        `json:"rules"`
}

type breakerDoc struct {
	State    string `json:"state"` // closed, half-open, open (for blocks) or held (until a time)
	Reason   string `json:"reason,omitempty"`
	Openings int64  `json:"openings"`
	Blocks   int    `json:"blocks_to_wait,omitempty"`
	Until    string `json:"until,omitempty"`
}

type ruleDoc struct {
	Rule string `json:"rule"`
	Hits int64  `json:"hits"`
}

type commitsDoc struct {
	Count   int64            `json:"count"`
	TotalNS int64            `json:"total_ns"`
	Within  map[string]int64 `json:"within"` // how many took at most so long
}

type stateDoc struct {
	Hot    int64 `json:"hot_bytes"`
	Packed int64 `json:"packed_bytes"`
	Known  int64 `json:"known_bytes"`
	Stored int64 `json:"stored_bytes"`
}

type outboxDoc struct {
	Rows     int64 `json:"rows"`
	Sent     int64 `json:"sent_rows"`
	Bytes    int64 `json:"bytes"`
	Rejected int64 `json:"rejected_rows"`
	Refused  int64 `json:"refused_rows"`
}

type laneDoc struct {
	Lane      string `json:"lane"`
	Rows      int64  `json:"rows"`
	Bytes     int64  `json:"bytes"`
	Flying    int64  `json:"sent_rows"` // and not acknowledged
	Sent      int64  `json:"acknowledged_rows"`
	Rejected  int64  `json:"rejected_rows"`
	Refused   int64  `json:"refused_rows"`
	LastError string `json:"last_error,omitempty"`
	LastAt    string `json:"last_error_at,omitempty"`
}

type lagDoc struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Records   int64  `json:"records"`
}

// stats answers /stats; with ?top it is the costliest rules as text.
// stats answers for the one run, that of ?pipeline=NAME, or all. ?top has the costs of rules as text.
func stats(w http.ResponseWriter, r *http.Request, runs []*Monitor) {
	asked := r.URL.Query()
	if name := asked.Get("pipeline"); name != "" {
		i := slices.IndexFunc(runs, func(m *Monitor) bool { return m.name == name })
		if i < 0 {
			http.Error(w, fmt.Sprintf("there is no pipeline %q", name), http.StatusNotFound)
			return
		}
		runs = runs[i : i+1]
	}
	docs := []*statsDoc{}
	var top []string
	for _, m := range runs {
		rep := m.report()
		if rep == nil {
			if m.detect || len(runs) == 1 {
				answer(w, fmt.Errorf("there are no figures of %s yet: %w", m.name, cmp.Or(m.ready(), errNoFigures)))
				return
			}
			continue
		}
		doc := statsOf(rep, m.lags(), m.now())
		doc.Ready = m.ready() == nil
		docs = append(docs, doc)
		if len(runs) > 1 {
			top = append(top, m.name)
		}
		top = append(top, Top(rep)...)
	}
	if asked.Has("top") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for _, line := range top {
			fmt.Fprintln(w, line)
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if len(runs) == 1 {
		_ = json.NewEncoder(w).Encode(docs[0])
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"pipelines": docs})
}

var errNoFigures = errors.New("only a pipeline with `detect` has some")

func statsOf(rep *engine.Report, lags []kafka.Lag, now time.Time) *statsDoc {
	s := &rep.Stats
	doc := &statsDoc{Pipeline: rep.Pipeline, Time: string(event.AppendTime(nil, rep.At.UnixMilli())), Records: s.Events, Bytes: s.Bytes, Rows: s.Rows, Alerts: s.Alerts, Late: s.Late,
		Errors: rep.Errors, Engine: engineDoc{rep.Position, rep.Blocks, rep.Busy.Nanoseconds(), rep.Searching.Nanoseconds()}, Commits: commitsOf(&rep.Commits),
		State: stateDoc(rep.Keys), Outbox: outboxDoc{rep.Outbox.Rows, rep.Outbox.Sent, rep.Outbox.Bytes, s.Rejected, s.Refused}, Top: Costs(rep)}
	for _, x := range rep.Streams {
		d := streamDoc{Name: x.Name, Status: x.Status, Records: x.Events, Duplicates: x.Repeated, Partitions: x.Partitions}
		if x.Watermark != operator.NegInf && x.Watermark != operator.PosInf {
			delay := now.UnixMilli() - x.Watermark
			d.Watermark, d.DelayMS = string(event.AppendTime(nil, x.Watermark)), &delay
		}
		doc.Streams = append(doc.Streams, d)
	}
	for _, h := range rep.Halts[:min(len(rep.Halts), seriesMax)] {
		doc.Stopped = append(doc.Stopped, haltDoc{h.Partition, h.Position, h.Why})
	}
	for i := range rep.Operators {
		o := &rep.Operators[i]
		doc.Operators = append(doc.Operators, operatorDoc{o.Name, o.Kind, o.Seen, o.Taken, o.Out, o.Alerts, o.Late, o.Keys, o.Time.Nanoseconds(), pluginOf(o.Plugin)})
	}
	doc.Untaken = rep.Untaken
	for _, l := range rep.Lanes {
		d := laneDoc{Lane: l.Name, Rows: l.Rows, Bytes: l.Bytes, Flying: l.Flying, Sent: l.Sent, Rejected: l.Rejected, Refused: l.Refused, LastError: l.LastError}
		if !l.LastAt.IsZero() {
			d.LastAt = string(event.AppendTime(nil, l.LastAt.UnixMilli()))
		}
		doc.Lanes = append(doc.Lanes, d)
	}
	for _, l := range lags {
		doc.Kafka = append(doc.Kafka, lagDoc(l))
	}
	return doc
}

func pluginOf(p *engine.PluginReport) *pluginDoc {
	if p == nil {
		return nil
	}
	n := &p.Counts
	d := &pluginDoc{Name: p.Name, Version: p.Version, Digest: p.Digest, Calls: n.Calls, Rows: n.Rows, Hits: n.Hits, Fuel: n.Fuel, Busy: n.Time.Nanoseconds(), Failures: map[string]int64{},
		Poisoned: n.Poisoned, Unjudged: n.Unjudged, Skipped: n.Skipped, Instances: n.Instances, MemoryPeak: n.MemoryPeak, State: n.StateBytes}
	d.Breaker = breakerDoc{State: p.State.String(), Reason: p.Reason, Openings: p.Openings, Blocks: p.Wait}
	if !p.Until.IsZero() {
		d.Breaker.Until = string(event.AppendTime(nil, p.Until.UnixMilli()))
	}
	d.Replaced, d.Refused = p.Generation, p.Refused
	for i, fault := range wasm.FaultNames {
		if n.Faults[i] > 0 {
			d.Failures[string(fault)] = n.Faults[i]
		}
	}
	for _, r := range p.Rules {
		d.Rules = append(d.Rules, ruleDoc{r.Name, r.Hits})
	}
	return d
}

func commitsOf(h *engine.Histogram) commitsDoc {
	d := commitsDoc{h.Total(), h.Sum.Nanoseconds(), map[string]int64{}}
	sum := int64(0)
	for i, end := range engine.BucketsOf {
		sum += h.Counts[i]
		d.Within[end.String()] = sum
	}
	return d
}

// topMax is how many rules a summary names.
const topMax = 10

// Cost is what an operator's rules cost. Share is of the time that the engine was busy, all workers together: with several shards the
// shares of all may add up to more than one.
type Cost struct {
	Operator string  `json:"operator"`
	Plugin   string  `json:"plugin,omitempty"`
	RowNS    float64 `json:"ns_per_source_row"`
	Share    float64 `json:"share"`
	Rows     int64   `json:"source_rows"`
	Taken    int64   `json:"taken_rows"`
	Hits     int64   `json:"rows"`
	Failures int64   `json:"failures"`
}

// Costs are the costliest operators, at most topMax: of plugins the time of their calls, of others the engine's.
func Costs(rep *engine.Report) []Cost {
	all := []Cost{}
	for i := range rep.Operators {
		o := &rep.Operators[i]
		c, took := Cost{Operator: o.Name, Rows: o.Seen, Taken: o.Taken, Hits: o.Out}, o.Time
		if p := o.Plugin; p != nil {
			c.Plugin, c.Failures = p.Name, p.Counts.Failures
			took = max(took, p.Counts.Time)
		}
		if o.Seen == 0 {
			continue
		}
		c.RowNS, c.Share = float64(took.Nanoseconds())/float64(o.Seen), took.Seconds()/max(rep.Busy.Seconds(), 1e-9)
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b Cost) int { return compareFloat(b.Share, a.Share) })
	return all[:min(len(all), topMax)]
}

func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Top is Costs as lines of text, with a head; none if there is nothing to tell.
func Top(rep *engine.Report) (lines []string) {
	costs := Costs(rep)
	if len(costs) == 0 {
		return nil
	}
	wide := 8
	for _, c := range costs {
		wide = max(wide, min(len(c.Operator), 40))
	}
	lines = append(lines, fmt.Sprintf("%-*s %9s %7s %12s %12s %10s %9s", wide, "operator", "ns a row", "share", "rows seen", "let through", "rows", "failures"))
	for _, c := range costs {
		name := c.Operator
		if len(name) > wide {
			name = name[:wide-1] + "~"
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%-*s %9.0f %6.1f%% %12d %12d %10d %9d", wide, name, c.RowNS, 100*c.Share, c.Rows, c.Taken, c.Hits, c.Failures), " "))
	}
	return lines
}
