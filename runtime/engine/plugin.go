package engine

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/table"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// stretch is how many rows in a row go to one shard of an operator without state.
const stretch = 256

// Failure is what an open breaker means for the rows that come meanwhile.
type Failure uint8

// FailureAlert makes each an error row, FailureStop stops the pipeline, FailureSkip counts them.
const (
	FailureAlert Failure = iota
	FailureStop
	FailureSkip
)

// Plugin is an operator whose logic is a module: it detects, filters or maps, row by row (mapped.go has the last two).
type Plugin struct {
	Ident     operator.Ident
	Module    *wasm.Module
	Config    []byte           // JSON
	Fields    []event.Field    // of the manifest's reads
	When      *match.Condition // of the manifest: on the rows that it wants to see
	Rules     map[uint32]*Rule
	Tables    []*table.Source // by the manifest's tables; nil: not granted
	OnFailure Failure
	Log       func(level int, text string)
	Fresh     bool // a fresh instance a call: tests
	MaxKeys   int  // of a plugin that remembers: keys that hold something at one time; 0: as many as come
	KeyNames  []alert.Column
	CPU       float64       // the share of one core that it may take over CPUSpan; 0: any
	CPUSpan   time.Duration // of the clock

	// Columns of its rows: of the input rows, the event itself if it is one (Whole), then rule_id, severity and note.
	Columns                []event.Field
	Whole                  event.Field
	RuleID, Severity, Note event.Field

	// Of a map: behind the columns of the input rows those that it writes, Written saying which of the manifest's they are.
	Written []int
}

// Rule is one rule of the module as the pipeline wants it.
type Rule struct {
	Off      bool
	Severity string           // "": as the module says
	Except   *match.Condition // rows that are no hit after all
	Alert    *alert.Template
}

// severity is the severity of a hit.
func (r *Rule) severity(h abi.Hit) string {
	switch {
	case r.Severity != "":
		return r.Severity
	case h.Severity > 0:
		return abi.Severities[h.Severity]
	}
	return r.Alert.Severity
}

// plugged is a plugin that detects, on its share of the rows: what it says about a row depends on the row alone, on tables, and on what
// remembering keeps.
type plugged struct {
	memoryless
	caller
}

// caller is the part of a shard that calls a module, whatever its role.
type caller struct {
	spec   *Plugin
	plugin *wasm.Plugin
	out    *event.Batch
	total  operator.Counts
	ruled  map[uint32]int64 // hits by rule
	past   wasm.Counts      // of plugins that this one took the place of
	trip   *trip            // the block's first row that it did not judge
	asks   granted
	rows   []operator.In
	given  []wasm.Row
	hits   []abi.Hit
	said   []operator.Result
	cells  []event.Value
	timers bool // the rows that are judged are timers
}

// judging is a plugin's shard as remembering uses it: judge gives rows to the guest, or timers, and says what comes of them as the role
// has it. Rows after the end of the input are judged by seen.
type judging interface {
	shard
	judge(rows []operator.In, fired []wasm.Timer, seen int64) error
}

// callerOf is that part of a plugin's shard.
func callerOf(s shard) *caller {
	switch k := s.(type) {
	case *remembering:
		return k.call
	case *mapped:
		return &k.caller
	}
	return &s.(*plugged).caller
}

// off notes n rows, of which this is the first, that come while the plugin is switched off; an error stops the pipeline.
func (k *caller) off(first *operator.In, n int, why error) error {
	if k.trip == nil {
		k.trip = &trip{first.P, first.TS, why}
	}
	switch {
	case k.spec.OnFailure == FailureStop && why == errBudget:
		return fmt.Errorf("the plugin %s is switched off: %w; on_failure: alert or skip would go on without it", k.spec.Module.Manifest, why)
	case k.spec.OnFailure == FailureStop:
		return fmt.Errorf("the plugin %s failed too often, last with %w; on_failure: alert or skip would go on without it", k.spec.Module.Manifest, why)
	}
	k.total.Unjudged += int64(n)
	return nil
}

func (k *caller) counts() operator.Counts {
	c := k.total
	c.Incomplete = k.past.Skipped + k.plugin.Counts.Skipped
	c.Crowded, c.TooLate = k.past.Refused+k.plugin.Counts.Refused, k.past.Dropped+k.plugin.Counts.Dropped
	return c
}

func (k *caller) close()                     { k.plugin.Close() }
func (k *caller) push(in *operator.In)       { k.rows = append(k.rows, *in) }
func (k *caller) results() []operator.Result { return k.said }

func (k *caller) reset() {
	k.rows, k.said = k.rows[:0], k.said[:0]
	k.out.Reset()
	k.trip = nil
}

func newPlugged(spec *Plugin, out *event.Batch) *plugged {
	k := &plugged{}
	k.begin(spec, out)
	return k
}

// begin makes the plugin of a shard. The caller stays where it is.
func (k *caller) begin(spec *Plugin, out *event.Batch) {
	k.out, k.ruled = out, map[uint32]int64{}
	k.take(spec, spec.start())
}

// take has a plugin judge the rows, and lets it ask its tables.
func (k *caller) take(spec *Plugin, p *wasm.Plugin) {
	k.spec, k.plugin = spec, p
	k.asks.tables = make([]*table.Table, len(spec.Module.Manifest.Tables))
	p.Grant(k.asks.lookup)
}

// start makes the plugin of a shard.
func (p *Plugin) start() *wasm.Plugin {
	w := wasm.NewPlugin(p.Module, p.Config, p.Fields, wasm.Identity{Pipeline: p.Ident.Pipeline, Operator: p.Ident.Operator, Log: p.Log})
	w.Fresh = p.Fresh
	return w
}

func (k *plugged) run([]step, int64) error {
	k.plugin.Begin()
	defer k.plugin.End()
	return k.judge(k.rows, nil, operator.NegInf)
}

// judge implements judging.
func (k *plugged) judge(rows []operator.In, fired []wasm.Timer, seen int64) error {
	if why, off := k.plugin.Passes(len(rows)); off && len(rows) > 0 {
		k.timers = fired != nil
		return k.unjudged(rows, why)
	}
	k.given, k.timers = k.given[:0], fired != nil
	for i := range rows {
		k.give(&rows[i], seen)
	}
	var poison []wasm.Poison
	var judged int
	var why error
	if fired != nil {
		k.hits, poison, judged, why = k.plugin.Fire(k.hits[:0], k.given, fired)
	} else {
		k.hits, poison, judged, why = k.plugin.Judge(k.hits[:0], k.given)
	}
	hits := k.hits
	for i := range rows[:judged] {
		for len(hits) > 0 && int(hits[0].Row) == i {
			k.hit(&rows[i], hits[0])
			hits = hits[1:]
		}
		if len(poison) > 0 && poison[0].Row == i {
			k.total.Poisoned++
			k.fail(&rows[i], "plugin_failed", poison[0].Err)
			poison = poison[1:]
		}
	}
	if judged < len(rows) {
		return k.unjudged(rows[judged:], why)
	}
	return nil
}

// give takes a row to the guest. One after the end of the input is judged by seen.
func (k *caller) give(in *operator.In, seen int64) {
	w := in.W
	if w == operator.PosInf {
		w = seen
	}
	k.given = append(k.given, wasm.Row{Batch: in.Batch, Row: in.Row, Keyed: !in.Lone, ID: in.Name.ID(), TS: in.TS, W: in.W, Seen: w, Key: in.Key})
}

// unjudged are rows that came while the breaker was open.
func (k *plugged) unjudged(rows []operator.In, why error) error {
	if err := k.off(&rows[0], len(rows), why); err != nil {
		return err
	}
	if k.spec.OnFailure == FailureAlert {
		for i := range rows {
			k.fail(&rows[i], "plugin_off", why)
		}
	}
	return nil
}

// hit says the input row with rule_id, severity and note.
func (k *plugged) hit(in *operator.In, h abi.Hit) {
	r := k.spec.Rules[h.Rule]
	if r.Off || r.Except != nil && r.Except.Match(in) {
		return
	}
	k.ruled[h.Rule]++
	k.cells = k.cells[:0]
	for _, f := range k.spec.Columns {
		v := in.Value(f)
		switch f {
		case k.spec.RuleID:
			v = event.Value{Kind: event.Number, Text: strconv.AppendUint(nil, uint64(h.Rule), 10)}
		case k.spec.Severity:
			v = event.Value{Kind: event.String, Text: []byte(r.severity(h))}
		case k.spec.Note:
			if v = (event.Value{Kind: event.Null}); h.Note != nil {
				v = event.Value{Kind: event.Object, Text: h.Note}
			}
		case k.spec.Whole:
			if raw := eventOf(in.Batch, in.Row); raw != nil {
				v = event.Value{Kind: event.Object, Text: raw}
			}
		}
		k.cells = append(k.cells, v)
	}
	k.out.AppendRow(k.cells...)
	of := in.Name.ID()
	id := k.spec.Ident.ID(of[:], binary.BigEndian.AppendUint32(nil, h.Rule))
	k.add(in, operator.Result{Name: operator.Named(id), Batch: k.out, Row: int32(k.out.Rows - 1), Kind: operator.Data})
}

// fail says that the plugin failed on a row, or that nobody judged it.
func (k *caller) fail(in *operator.In, reason string, why error) {
	k.add(in, operator.Result{Name: in.Name, Batch: in.Batch, Row: in.Row, Kind: operator.Failed, Reason: reason, Why: failureText(k.spec.Module, why)})
}

func (k *caller) add(in *operator.In, r operator.Result) {
	r.P, r.Due, r.Idx, r.Input = in.P, operator.NegInf, in.Idx, in.Input
	r.TS, r.First, r.Last = in.TS, in.First, in.Last
	if k.timers {
		r.Due, r.By = in.TS, string(in.Key)
	}
	k.said = append(k.said, r)
}

// remembers says whether it keeps something of keys.
func (p *Plugin) remembers() bool { return p.Module.Manifest.Keyed }

// timerNames are the columns of a timer's row, which has no event: the fields of its key, then those of all rows.
func (p *Plugin) timerNames(all []alert.Column) []alert.Column {
	names := slices.Clone(p.KeyNames)
	for _, c := range all {
		if !slices.ContainsFunc(names, func(x alert.Column) bool { return x.Field == c.Field }) {
			names = append(names, c)
		}
	}
	return names
}
