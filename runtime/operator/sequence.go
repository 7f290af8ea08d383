package operator

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Sequence finds rows of one key that follow one another within a span. A row waits until the watermark has passed its time;
// then rows run in event order: by time, then by input (in the order of the operator's list), then by the bytes of the event
// id, which for events are the partition's hash and the offset. Rows whose time the watermark has passed are late; under a strict
// watermark that is every second row of one time.
//
// A row that fits the first step opens a match, and each match takes the next row that fits its next step, so that one row
// may complete many. A step that is Missing says what must not come: between two steps it ends the matches that wait for the
// later one; at the end of the list the match is an absence, which is said at the deadline, the first row's time + Within,
// unless such a row came by then. A row of that time still counts.
//
// What one row does, in this order: it completes and moves matches, the furthest first; it ends those it forbids and did not
// move; if it fits Until, it ends all; if it fits the first step, it opens one. The time of a result is that of its last row, or
// the deadline.
//
// Columns: those of Outputs, and `truncated`, true while a cap may hide something: until what was dropped would have ended.
type Sequence struct {
	Ident      Ident
	By         []event.Field // the key; the same fields in every input
	Within     int64         // ms, inclusive
	Steps      []Step        // 2 to StepsMax, the first not Missing
	Until      *Step
	Outputs    []StepField
	MatchesMax int // open matches a key, and rows that wait a key; the oldest is dropped for a newer one

	journal[arrival] // rows that came since their keys were last saved

	Columns []event.Field // of its rows, set by Init
	stages  []stage       // by the number of rows that a match has; 0 is not used
	absence bool          // the last step is Missing
	filled  uint32        // the steps whose rows keep cells: those that are not Missing
	may     []uint32      // by input: what its rows can fit
	keeps   [][]event.Field
	cells   []event.Value
	rows    []*stepRow // scratch: of a match
	parts   [][]byte   // scratch: of an id
	places  map[*stepRow]uint64
	order   []int // scratch
	arena   []byte
}

// Step is one step: rows of an input that meet a condition, which is nil if all do.
type Step struct {
	Input   uint8
	Where   *match.Condition
	Missing bool
}

// StepField is a column: a field of the row of a step, which must not be Missing, under a name.
type StepField struct {
	Name  event.Field
	Step  int
	Field event.Field
	row   int // of the match's rows
	place int // in the row's kept cells
}

// StepsMax is the most steps a sequence may have.
const StepsMax = 16

// fitsUntil is the bit of Until beside those of the steps.
const fitsUntil = 1 << StepsMax

// stage says what a match that has some rows waits for: the step that moves it, and those that end it.
type stage struct{ moves, ends uint32 }

// SequenceState is a key: rows that wait, in event order, and open matches, oldest first. An older match is never behind a
// younger one, since a row moves all matches of a stage: the list is sorted by stage, too.
type SequenceState struct {
	waiting []*stepRow
	open    []chain
	capped  bool // a cap dropped something that could have mattered until cut
	cut     int64
	moved   bool // something fired since the last Save, at last what was due at fired
	fired   int64
	added   int32 // 1 + the place in the log of the last row since the last Save, 0 for none
}

// stepRow is a row, the steps it fits, and the cells that results may show.
type stepRow struct {
	ts, first, last int64
	id              event.ID
	input           uint8
	fits            uint32
	data            []byte
}

func (r *stepRow) compare(x *stepRow) int {
	return cmp.Or(cmp.Compare(r.ts, x.ts), cmp.Compare(r.input, x.input), bytes.Compare(r.id[:], x.id[:]))
}

// chain is an open match: the rows of its steps so far.
type chain struct {
	first *stepRow
	rest  []*stepRow
}

func (m *chain) stage() int { return 1 + len(m.rest) }

// arrival is a row that came, at which watermark, and the key's arrival before it, numbered like SequenceState.added.
type arrival struct {
	row  *stepRow
	w    int64
	prev int32
}

// Init completes a Sequence whose exported fields are set.
func (o *Sequence) Init(fields *event.Fields) {
	o.stages, o.may, o.keeps, o.filled, o.Columns = make([]stage, 1), nil, nil, 0, nil
	row := make([]int, len(o.Steps)) // step -> place among a match's rows
	for i := range o.Steps {
		o.allow(&o.Steps[i], 1<<i)
		last := &o.stages[len(o.stages)-1]
		if o.absence = o.Steps[i].Missing; o.absence {
			last.ends |= 1 << i
			continue
		}
		last.moves = 1 << i
		o.filled |= 1 << i
		row[i] = len(o.stages) - 1
		o.stages = append(o.stages, stage{})
	}
	if !o.absence { // a match with all rows is over
		o.stages = o.stages[:len(o.stages)-1]
	}
	if o.Until != nil {
		o.allow(o.Until, fitsUntil)
	}
	o.keep(fields)
	for i := range o.Outputs {
		x := &o.Outputs[i]
		x.row, x.place = row[x.Step], slices.Index(o.keeps[o.Steps[x.Step].Input], x.Field)
		o.Columns = append(o.Columns, x.Name)
	}
	o.Columns = append(o.Columns, fields.Add("truncated"))
}

func (o *Sequence) allow(s *Step, bit uint32) {
	for len(o.may) <= int(s.Input) {
		o.may = append(o.may, 0)
	}
	o.may[s.Input] |= bit
}

// keep finds the cells that rows of an input keep, by path: what is stored must not depend on how select is written.
func (o *Sequence) keep(fields *event.Fields) {
	o.keeps = make([][]event.Field, len(o.may))
	for _, x := range o.Outputs {
		in := o.Steps[x.Step].Input
		o.keeps[in] = append(o.keeps[in], x.Field)
	}
	for i := range o.keeps {
		o.keeps[i] = sortedByPath(fields, o.keeps[i])
	}
}

// Logic returns the functions of one shard.
func (o *Sequence) Logic() Logic[SequenceState] {
	c := *o
	c.cells, c.places = make([]event.Value, len(c.Columns)), map[*stepRow]uint64{}
	return &c
}

// Fits says which steps a row fits, for In.Fits. A row that fits none is not the operator's business.
func (o *Sequence) Fits(in *In) (fits uint32) {
	for i := range o.Steps {
		if s := &o.Steps[i]; s.Input == in.Input && s.Where.Match(in) {
			fits |= 1 << i
		}
	}
	if s := o.Until; s != nil && s.Input == in.Input && s.Where.Match(in) {
		fits |= fitsUntil
	}
	return fits
}

// Row implements Logic: the row waits.
func (o *Sequence) Row(c *Context, s *SequenceState, in *In) {
	if in.TS < in.W {
		c.TooLate(in)
		return
	}
	row := &stepRow{ts: in.TS, first: in.First, last: in.Last, id: in.Name.ID(), input: in.Input, fits: in.Fits}
	if in.Fits&o.filled != 0 {
		row.data, o.arena = packCells(o.arena, o.keeps[in.Input], in)
	}
	o.note(&s.added, arrival{row, in.W, s.added})
	if dropped := o.wait(s, row); dropped {
		c.Counts.RowsCapped++
	}
}

// wait puts a row in its place, after those that are equal, and drops the oldest if the key is full.
func (o *Sequence) wait(s *SequenceState, row *stepRow) (dropped bool) {
	i := sort.Search(len(s.waiting), func(i int) bool { return row.compare(s.waiting[i]) < 0 })
	if len(s.waiting) < o.MatchesMax {
		s.waiting = slices.Insert(s.waiting, i, row)
		return false
	}
	gone := row
	if i > 0 {
		gone = s.waiting[0]
		copy(s.waiting, s.waiting[1:i])
		s.waiting[i-1] = row
	}
	s.hide(gone.ts + o.Within)
	return true
}

func (s *SequenceState) hide(until int64) {
	if !s.capped || s.cut < until {
		s.capped, s.cut = true, until
	}
}

// Fire implements Logic: the rows of the moment before due run, then what ends with that moment ends.
func (o *Sequence) Fire(c *Context, s *SequenceState, due int64) {
	s.moved, s.fired = true, due
	o.end(c, s, due-1)
	n := 0
	for ; n < len(s.waiting) && s.waiting[n].ts < due; n++ {
		o.run(c, s, s.waiting[n])
	}
	clear(s.waiting[:n])
	s.waiting = s.waiting[n:]
	o.end(c, s, due)
}

// run is what one row does. C is nil when a state is loaded, whose results were said.
func (o *Sequence) run(c *Context, s *SequenceState, row *stepRow) {
	for i := len(o.stages) - 1; i > 0; i-- {
		switch st := o.stages[i]; {
		case row.fits&st.moves != 0:
			o.move(c, s, row, i)
		case row.fits&st.ends != 0:
			from, to := s.at(i)
			s.open = slices.Delete(s.open, from, to)
		}
	}
	if row.fits&fitsUntil != 0 {
		s.drop(len(s.open))
	}
	if row.fits&1 != 0 {
		o.begin(c, s, row)
	}
}

// at returns where the matches of a stage stand.
func (s *SequenceState) at(stage int) (from, to int) {
	from = sort.Search(len(s.open), func(i int) bool { return s.open[i].stage() <= stage })
	to = from + sort.Search(len(s.open)-from, func(i int) bool { return s.open[from+i].stage() < stage })
	return from, to
}

// move gives a row to the matches of a stage.
func (o *Sequence) move(c *Context, s *SequenceState, row *stepRow, stage int) {
	from, to := s.at(stage)
	if stage < len(o.stages)-1 {
		for i := from; i < to; i++ {
			s.open[i].rest = append(s.open[i].rest, row)
		}
		return
	}
	for i := from; i < to; i++ {
		o.say(c, s, row.ts, &s.open[i], row)
	}
	s.open = slices.Delete(s.open, from, to)
}

func (o *Sequence) begin(c *Context, s *SequenceState, row *stepRow) {
	if len(s.open) >= o.MatchesMax {
		s.hide(s.open[0].first.ts + o.Within)
		s.drop(1)
		if c != nil {
			c.Counts.MatchesCapped++
		}
	}
	s.open = append(s.open, chain{first: row})
}

// drop forgets the n oldest matches.
func (s *SequenceState) drop(n int) {
	clear(s.open[:n])
	s.open = s.open[n:]
}

// end forgets matches whose deadline is before t, and says those that are absences.
func (o *Sequence) end(c *Context, s *SequenceState, t int64) {
	n := 0
	for ; n < len(s.open) && s.open[n].first.ts+o.Within < t; n++ {
		if m := &s.open[n]; o.pending(m) {
			o.say(c, s, m.first.ts+o.Within, m, nil)
		}
	}
	s.drop(n)
	s.capped = s.capped && s.cut >= t
}

// pending says whether a match is an absence, if only nothing comes.
func (o *Sequence) pending(m *chain) bool { return o.absence && m.stage() == len(o.stages)-1 }

func (o *Sequence) say(c *Context, s *SequenceState, ts int64, m *chain, row *stepRow) {
	if c == nil {
		return
	}
	o.rows = append(append(o.rows[:0], m.first), m.rest...)
	if row != nil {
		o.rows = append(o.rows, row)
	}
	first, last := m.first.first, m.first.last
	for _, r := range o.rows {
		first, last = min(first, r.first), max(last, r.last)
	}
	for i := range o.Outputs {
		x := &o.Outputs[i]
		o.cells[i] = cellAt(o.rows[x.row].data, x.place)
	}
	o.cells[len(o.Outputs)] = event.Value{}
	if s.capped && s.cut >= ts {
		o.cells[len(o.Outputs)] = event.Value{Kind: event.Bool, Text: []byte("true")}
		c.Counts.Truncated++
	}
	c.Emit(ts, first, last, o.id(c, ts), o.cells)
}

// id is made of the ids of the rows; of an absence of the key, the first row's id and the due time.
func (o *Sequence) id(c *Context, ts int64) event.ID {
	if o.absence {
		return o.Ident.ID([]byte(c.By), o.rows[0].id[:], binary.BigEndian.AppendUint64(nil, uint64(ts+1)))
	}
	o.parts = o.parts[:0]
	for _, r := range o.rows {
		o.parts = append(o.parts, r.id[:])
	}
	return o.Ident.ID(o.parts...)
}

// Next implements Logic: the next moment that may say something, else the one at which nothing is left.
func (o *Sequence) Next(s *SequenceState) int64 {
	due := o.next(s)
	if due != Never {
		return due
	}
	if n := len(s.open); n > 0 {
		due = s.open[n-1].first.ts + o.Within + 1
	}
	if s.capped && (due == Never || due <= s.cut) {
		due = s.cut + 1
	}
	return due
}

func (o *Sequence) next(s *SequenceState) int64 {
	due := int64(Never)
	if len(s.waiting) > 0 {
		due = s.waiting[0].ts + 1
	}
	if len(s.open) > 0 && o.pending(&s.open[0]) {
		due = min(due, s.open[0].first.ts+o.Within+1)
	}
	return due
}

// Flushes implements Logic.
func (o *Sequence) Flushes() bool { return true }

// Spares implements Sparing: matches that wait for a row go on with what is appended later.
func (o *Sequence) Spares(s *SequenceState) bool { return o.next(s) == Never }

// Clear implements Logic.
func (o *Sequence) Clear(s *SequenceState) {
	o.noted(&s.added)
	*s = SequenceState{}
}
