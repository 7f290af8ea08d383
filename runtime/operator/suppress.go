package operator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sort"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Suppress decides which alerts of an operator leave: its rows are alerts, and it says some of them, as Revised results under the
// ids of the rows that they began with.
//
// With For it holds back: the first alert of a key leaves at once and begins a period; others whose times are less than For from
// its own, before or after, are held. The period is over when the watermark has reached the first alert's time + For, and if
// something was held one revision then says how much. An alert beyond the period begins another one, also while the first is not
// over yet.
//
// With Gap it groups: the first alert of a key leaves at once, and each further one that is within Gap of the group's times, and
// leaves it shorter than Span, revises it: at once, or at most every Every of event time. A group is over when the watermark has
// passed what could still come on time. Groups do not merge, since each has been said: an alert that fits two joins the one that
// began later.
//
// In both, an alert that is more severe than what was said revises at once. What came late counts from the watermark that it was
// judged by, as in FirstSeen, so that a flood of late alerts is no flood of results. An alert without any field of the key stands
// for nobody and is said by itself, and so is one after the end of the input.
type Suppress struct {
	Keys   []event.Field
	For    int64 // ms; 0: it groups
	Gap    int64 // ms, at least 1
	Span   int64 // ms, at least Gap
	Every  int64 // ms; 0: at once
	Events int   // how many events an alert keeps, at most

	Fields []event.Field // what an alert is made of, and so the columns of its revisions, by path; set by Init
}

// Gathered is what an alert says of the others that it stands for.
type Gathered struct {
	Count, Suppressed int64 // alerts, itself among them; of these the ones that were held back
	Level             uint8 // the highest
	Events            []byte
	Truncated         bool // there were more events
}

// AlertReader reads of an alert what the operator that raised it knows: how severe it is, and the events behind it, JSON
// each, one call of add an event.
type AlertReader struct {
	Level  func(in *In) uint8
	Events func(in *In, add func(event []byte)) // one that is no object was too long
}

// EventsBytes is how many bytes of events an alert has at most.
const EventsBytes = 256 << 10

// AlertState is a key: its periods or groups that are not over, by the time of their first alert.
type AlertState struct{ open []episode }

// episode is a period or a group.
type episode struct {
	id          event.ID // of the row that it began with
	ts          int64    // of that row
	lo, hi      int64    // the earliest and the latest time of its alerts
	first, last int64    // of events behind them
	ends        int64    // of a group: the watermark at which Span is over
	due         int64    // the watermark that ends it
	quiet       int64    // of a group: until then what comes waits
	count, said int64    // alerts; those that the newest revision counts
	revision    int64
	level       uint8
	cut         bool
	events      []byte // JSON, a comma between two
	kept        int    // how many
	data        []byte // cells of the first row
}

// Init completes a Suppress whose exported fields are set; reads are the fields that its alerts are made of.
func (o *Suppress) Init(fields *event.Fields, reads []event.Field) {
	o.Fields = sortedByPath(fields, slices.Clone(reads))
}

// suppress is a Suppress at work.
type suppress struct {
	*Suppress
	read  AlertReader
	arena []byte
	cells []event.Value
}

// Logic returns the functions of one shard.
func (o *Suppress) Logic(read AlertReader) Logic[AlertState] {
	return &suppress{Suppress: o, read: read}
}

// Row implements Logic.
func (o *suppress) Row(c *Context, s *AlertState, in *In) {
	if in.Lone || in.W >= PosInf {
		e := o.begin(in)
		o.sayRow(c, &e, in)
		return
	}
	if e := o.find(s, in.TS); e != nil {
		o.join(c, e, in)
		return
	}
	e := o.begin(in)
	e.data, o.arena = packCells(o.arena, o.Fields, in)
	i := sort.Search(len(s.open), func(i int) bool { return s.open[i].ts > e.ts })
	s.open = slices.Insert(s.open, i, e)
	o.sayRow(c, &s.open[i], in)
}

// begin makes an episode of its first alert.
func (o *suppress) begin(in *In) episode {
	e := episode{id: in.Name.ID(), ts: in.TS, lo: in.TS, hi: in.TS, first: in.First, last: in.Last, quiet: NegInf, level: o.read.Level(in)}
	from := max(in.TS, in.W)
	if e.due = from + o.For; o.For == 0 {
		e.ends, e.quiet = from+o.Span, from+o.Every
		e.due = min(e.ends, from+o.Gap+1)
	}
	o.take(&e, in)
	return e
}

// take counts an alert and keeps its events.
func (o *suppress) take(e *episode, in *In) {
	e.count++
	o.read.Events(in, func(x []byte) {
		if bytes.Contains(e.events, x) {
			return // alerts of joins share events
		}
		if x[0] != '{' || e.kept >= o.Events || len(e.events)+len(x) > EventsBytes {
			e.cut = true
			return
		}
		if e.kept++; e.kept > 1 {
			e.events = append(e.events, ',')
		}
		e.events = append(e.events, x...)
	})
}

// find returns the episode that an alert of this time belongs to, nil for none. Periods begin at least For apart, so only the two
// around the time may be meant.
func (o *suppress) find(s *AlertState, ts int64) *episode {
	if o.For == 0 {
		for i := len(s.open) - 1; i >= 0; i-- {
			if o.fits(&s.open[i], ts) {
				return &s.open[i]
			}
		}
		return nil
	}
	i := sort.Search(len(s.open), func(i int) bool { return s.open[i].ts > ts })
	switch {
	case i > 0 && ts-s.open[i-1].ts < o.For:
		return &s.open[i-1]
	case i < len(s.open) && s.open[i].ts-ts < o.For:
		return &s.open[i]
	}
	return nil
}

// fits says whether an alert of this time may join a group.
func (o *suppress) fits(e *episode, ts int64) bool {
	return ts >= e.lo-o.Gap && ts <= e.hi+o.Gap && max(e.hi, ts)-min(e.lo, ts) < o.Span
}

// join adds an alert to an episode.
func (o *suppress) join(c *Context, e *episode, in *In) {
	o.take(e, in)
	e.lo, e.hi, e.first, e.last = min(e.lo, in.TS), max(e.hi, in.TS), min(e.first, in.First), max(e.last, in.Last)
	level := o.read.Level(in)
	worse := level > e.level
	e.level = max(e.level, level)
	if now := max(in.TS, in.W); o.For == 0 {
		e.due = min(e.ends, max(e.due, now+o.Gap+1))
	}
	if worse || o.For == 0 && (o.Every == 0 || e.quiet <= in.W) {
		o.revise(c, e, max(in.TS, in.W))
	} else if o.For > 0 {
		c.Counts.Suppressed++
	}
}

// sayRow says an episode's first alert, where its row is.
func (o *suppress) sayRow(c *Context, e *episode, in *In) {
	e.said = e.count
	c.add(Result{TS: in.TS, First: in.First, Last: in.Last, Name: in.Name, Batch: in.Batch, Row: in.Row, Kind: Revised, Gathered: o.gathered(e)})
}

// revise says what has become of an episode, at a time of the watermark or of the alert that is the reason.
func (o *suppress) revise(c *Context, e *episode, now int64) {
	e.revision++
	if e.said = e.count; o.For == 0 {
		e.quiet = now + o.Every
	}
	o.cells = o.cells[:0]
	for r := (event.Reader{B: e.data}); len(r.B) > 0; {
		o.cells = append(o.cells, event.Value{Kind: event.Kind(r.Byte()), Text: r.Bytes()})
	}
	c.EmitAs(Revised, e.revision, e.ts, e.first, e.last, e.id, o.cells)
	c.Out[len(c.Out)-1].Gathered = o.gathered(e)
}

func (o *suppress) gathered(e *episode) *Gathered {
	g := &Gathered{Count: e.count, Level: e.level, Events: e.events, Truncated: e.cut}
	if o.For > 0 {
		g.Suppressed = e.count - 1
	}
	return g
}

// Fire implements Logic.
func (o *suppress) Fire(c *Context, s *AlertState, due int64) {
	for i := range s.open {
		if e := &s.open[i]; o.next(e) <= due && e.count > e.said {
			o.revise(c, e, due)
		}
	}
	s.open = slices.DeleteFunc(s.open, func(e episode) bool { return e.due <= due })
}

// next is when something becomes of an episode by itself.
func (o *suppress) next(e *episode) int64 {
	if o.For == 0 && e.count > e.said {
		return min(e.due, e.quiet)
	}
	return e.due
}

// Next implements Logic.
func (o *suppress) Next(s *AlertState) int64 {
	due := int64(Never)
	for i := range s.open {
		due = min(due, o.next(&s.open[i]))
	}
	return due
}

// Flushes implements Logic: what was held is said at the end.
func (o *suppress) Flushes() bool { return true }

// Whole implements Whole.
func (o *suppress) Whole() {}

// Clear implements Logic.
func (o *suppress) Clear(s *AlertState) { *s = AlertState{open: s.open[:0]} }

// Oldest implements Dated.
func (o *suppress) Oldest(s *AlertState) int64 {
	t := int64(Never)
	for i := range s.open {
		t = min(t, s.open[i].lo)
	}
	return t
}

// Save implements Logic. A record is the whole state.
func (o *suppress) Save(dst []byte, s *AlertState, _ bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s.open)))
	for i := range s.open {
		e := &s.open[i]
		dst = binary.AppendVarint(append(dst, e.id[:]...), e.ts)
		for _, t := range []int64{e.lo, e.hi, e.first, e.last, e.ends, e.due} {
			dst = binary.AppendVarint(dst, t-e.ts)
		}
		if o.For == 0 {
			dst = binary.AppendVarint(dst, e.quiet-e.ts)
		}
		for _, n := range []int64{e.count, e.said, e.revision, int64(e.kept)} {
			dst = binary.AppendUvarint(dst, uint64(n))
		}
		dst = append(dst, e.level, bits(e.cut, false))
		dst = event.AppendBytes(event.AppendBytes(dst, e.events), e.data)
	}
	return dst
}

// Load implements Logic.
func (o *suppress) Load(s *AlertState, rec []byte) error {
	r := event.Reader{B: rec}
	*s = AlertState{open: s.open[:0]}
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		e := o.load(&r)
		if k := len(s.open); k > 0 && s.open[k-1].ts > e.ts {
			r.Bad = true
		}
		s.open = append(s.open, e)
	}
	if !r.Done() {
		*s = AlertState{}
		return errors.New("the state of suppressed alerts is damaged")
	}
	return nil
}

func (o *suppress) load(r *event.Reader) (e episode) {
	copy(e.id[:], r.Take(16))
	e.ts = r.Int()
	good := goodTime(e.ts)
	for _, t := range []*int64{&e.lo, &e.hi, &e.first, &e.last, &e.ends, &e.due} {
		*t = e.ts + r.Int()
		good = good && goodTime(*t)
	}
	if e.quiet = NegInf; o.For == 0 {
		e.quiet = e.ts + r.Int()
		good = good && goodTime(e.quiet)
	}
	e.count, e.said, e.revision, e.kept = int64(r.Uint()), int64(r.Uint()), int64(r.Uint()), int(r.Uint())
	e.level = r.Byte()
	e.cut, _ = readBits(r)
	e.events, e.data = slices.Clone(r.Bytes()), slices.Clone(r.Bytes())
	if !good || e.said < 1 || e.count < e.said || e.revision < 0 || e.kept < 0 || e.due <= NegInf || !goodCells(e.data, len(o.Fields)) {
		r.Bad = true
	}
	return e
}
