package engine

import (
	"path"
	"slices"
	"time"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Spec is a pipeline: streams and the operators over them, compiled and checked. Nodes are numbered: streams first, in
// their order, then operators, in topological order.
type Spec struct {
	Name      string
	Fields    *event.Fields
	Streams   []Stream
	Operators []Operator
	LateCount bool // `late: count`: late rows are counted and do not leave

	Lanes      []Lane        // by which rows leave; none: all by one, which waits in memory
	LaneFields *event.Fields // of the conditions of lanes
}

// Stream is one kind of event.
type Stream struct {
	Name   string
	Match  []Pattern        // all must match the partition's metadata
	Format *event.Format    // of its lines; nil: JSON
	Where  *match.Condition // on the content; nil takes everything
	Time   Time
	Delay  int64         // ms of disorder that the watermark allows
	Strict bool          // the watermark is ts - Delay + 1: of equal timestamps at a window's end only the first is on time
	Future int64         // max_future, ms; live partitions only
	Idle   time.Duration // a live partition without records for so long is idle; 0: never
	Least  int           // min_partitions: the watermark stays at -inf until so many were announced
	Follow Follow
	ID     Identity
	Reads  []event.Field
}

// Identity is by what events of a stream are told apart, wherever they come from; by their positions if none is set. An event that
// lacks the field has its position.
type Identity struct {
	Content bool // the line as it came, without space around it, or the record's bytes
	ByField bool
	Field   event.Field
	Within  int64 // ms: an event whose id has come before is dropped, by the operator Once; 0: it is not
}

// Once is the operator, without a name of its own in YAML, that drops what a stream brings again: between stream i and its readers.
func (s *Spec) Once(i int) Operator {
	x := &s.Streams[i]
	o := &operator.FirstSeen{Once: true, History: x.ID.Within}
	o.Init()
	return Operator{Name: x.Name + onceSuffix, Inputs: []int{i}, FirstSeen: o, OnReset: true}
}

const onceSuffix = "/id"

// Follow lets a stream whose partitions are all idle follow the wall clock (advance_when_idle): once they have been for After,
// in steps of Step, at most to now - Delay. After 0: never.
type Follow struct{ After, Step time.Duration }

// Pattern is a metadata key and what its value may be: globs as path.Match writes them, where * also crosses slashes.
type Pattern struct {
	Key   string
	Globs []string
}

// Time says when an event happened.
type Time struct {
	Field     event.Field
	Format    *event.TimeFormat
	OnMissing Missing
}

// Missing is what becomes of an event without a readable time.
type Missing uint8

// MissingError makes it an error row, MissingLate a late row, MissingDrop counts it, MissingArrival takes the clock.
const (
	MissingError Missing = iota
	MissingLate
	MissingDrop
	MissingArrival
)

// Operator is a node of the graph: exactly one of Window, Join, Sequence, Plugin, Filter, Enrich, FirstSeen, Risk
// and Suppress is set.
type Operator struct {
	Name      string
	Inputs    []int            // nodes
	Where     *match.Condition // on input rows
	Window    *operator.Window
	Join      *operator.Join
	Sequence  *operator.Sequence
	Plugin    *Plugin
	Filter    *Filter
	Enrich    *Enrich
	FirstSeen *operator.FirstSeen
	Risk      *operator.Risk
	RiskBy    *RiskBy            // of Risk
	Suppress  *operator.Suppress // of the alerts of its input; its name is that operator's, a slash and more
	Alert     *alert.Template
	Evidence  []event.Field  // columns with the events that its alerts show; they are no columns to others
	Leaves    bool           // its rows go to the outputs
	Names     []alert.Column // its columns under the names of payloads
	// Fingerprint is everything that shapes the state, one "what: value" a line. A change refuses to start, saying which.
	Fingerprint string
	OnReset     bool // on_incompatible_state: reset
}

// hold is what the operator's output watermark lags behind its own.
func (o *Operator) hold() int64 {
	if o.Join != nil {
		return max(o.Join.Upper, -o.Join.Lower, 0)
	}
	if o.Window != nil {
		return o.Window.Lateness
	}
	return 0
}

// keys returns the fields that make the key of a row of an input.
func (o *Operator) keys(input int) []event.Field {
	switch {
	case o.Join != nil:
		return o.Join.On[input]
	case o.Sequence != nil:
		return o.Sequence.By
	case o.FirstSeen != nil:
		return o.FirstSeen.Terms()
	case o.Suppress != nil:
		return o.Suppress.Keys
	case o.stateless() || o.Risk != nil || o.Plugin != nil: // keys of a plugin are made by its module's types
		return nil
	}
	return o.Window.Keys
}

// pace is the step in which the operator's watermark moves, ms; 0: as its inputs do.
func (o *Operator) pace() int64 {
	if o.Plugin != nil {
		return o.Plugin.Module.Manifest.State.Step
	}
	return 0
}

// maxKeys is how many keys may hold something at one time; 0: as many as come.
func (o *Operator) maxKeys() int {
	switch {
	case o.Window != nil:
		return o.Window.MaxKeys
	case o.Plugin != nil:
		return o.Plugin.MaxKeys
	}
	return 0
}

// Kind is what the operator is called in YAML.
func (o *Operator) Kind() string {
	switch {
	case o.Window != nil:
		return "window"
	case o.Join != nil:
		return "join"
	case o.Sequence != nil:
		return "sequence"
	case o.Plugin != nil:
		return "plugin"
	case o.once():
		return "id"
	case o.FirstSeen != nil:
		return "first_seen"
	case o.Enrich != nil:
		return "enrich"
	case o.Risk != nil:
		return "risk"
	case o.Suppress != nil:
		return "suppress"
	}
	return "filter"
}

// once says whether it drops events that come again.
func (o *Operator) once() bool { return o.FirstSeen != nil && o.FirstSeen.Once }

// Hidden says whether the operator is part of a stream or of an operator's alert, and has no name of its own.
func (o *Operator) Hidden() bool { return o.once() || o.Suppress != nil }

// stateless says whether rows do not see each other: any shard will do.
func (o *Operator) stateless() bool {
	return o.Plugin != nil && !o.Plugin.remembers() || o.Filter != nil || o.Enrich != nil
}

// passes says whether the operator's rows are those of its sources.
func (o *Operator) passes() bool { return o.Filter != nil || o.FirstSeen != nil || o.Plugin.filters() }

// skipsNull says whether a row that lacks a field of the key meets no other.
func (o *Operator) skipsNull() bool {
	return o.FirstSeen != nil || o.Sequence != nil || o.Join != nil && !o.Join.NullSafe
}

// lone says whether the operator says a row of an input alone if it lacks a field of the key.
func (o *Operator) lone(input uint8) bool { return o.Join != nil && o.Join.Lone(input) }

// columns are those of the operator's own batch; rows that are passed on stay where they are.
func (o *Operator) columns() []event.Field {
	switch {
	case o.passes():
		return nil
	case o.Join != nil:
		return o.Join.Columns
	case o.Sequence != nil:
		return o.Sequence.Columns
	case o.Plugin != nil:
		return o.Plugin.Columns
	case o.Enrich != nil:
		return o.Enrich.Columns
	case o.Risk != nil:
		return o.Risk.Columns
	case o.Suppress != nil:
		return o.Suppress.Fields
	}
	return o.Window.Columns
}

// Takes says whether a stream wants a partition with this metadata.
func (s *Stream) Takes(meta map[string]string) bool {
	for _, p := range s.Match {
		v, ok := meta[p.Key]
		if !ok || !slices.ContainsFunc(p.Globs, func(g string) bool { return Glob(g, v) }) {
			return false
		}
	}
	return true
}

// Glob matches text with a pattern: * is any run of characters, slashes too; ? is one; [..] as in path.Match.
func Glob(pattern, text string) bool {
	p, t := []rune(pattern), []rune(text)
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == t[j]):
			i++
			j++
		case i < len(p) && p[i] == '[' && class(p[i:], t[j]) > 0:
			i += class(p[i:], t[j])
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// class returns the length of the bracket expression at the start of p if it admits r, else 0.
func class(p []rune, r rune) int {
	end := slices.Index(p, ']')
	if end < 0 {
		return 0
	}
	if ok, _ := path.Match(string(p[:end+1]), string(r)); ok {
		return end + 1
	}
	return 0
}
