package operator

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// FirstSeen says the rows that bring a key a value which it has not had before, or not within History: a row is new if
// its time is at least History after the newest time of the same key and value among the rows that came before it, or if
// there is none. Rows are taken in the order in which they arrive, late or not.
//
// A value is remembered until the watermark is History past its newest time, and past the watermark at its last row. Then
// it is as if it had never been: a row that is on time is new in either case, so forgetting shows only to late rows, and
// because the last row counts by its arrival too, late rows of one value are new once and not each. The end of the input
// forgets nothing. Without History a value is remembered for ever.
//
// During the warm-up (In.Silent) it learns and says nothing. A row without one of its key or value fields, or with null
// there, is not looked at. The engine's key is key and value together, so that the state of a key is one value.
//
// Its rows are those of its sources, where they are: their columns are its columns.
//
// With Once it drops rows that come again: the engine's key is the row's id, and the rows are passed on under the ids they have.
type FirstSeen struct {
	Ident   Ident
	Keys    []event.Field // whose value it is; none: everybody's
	Values  []event.Field // at least one; together they are the value
	History int64         // ms, at least 1; 0: for ever
	WarmUp  int64         // ms after the operator's first row; 0: none
	Once    bool          // without Keys and Values

	terms []event.Field // keys, then values; set by Init
}

// SeenState is one value of one key.
type SeenState struct {
	newest int64 // without History not kept
	until  int64 // the watermark that forgets it
	known  bool
}

// Init completes a FirstSeen whose exported fields are set.
func (o *FirstSeen) Init() { o.terms = slices.Concat(o.Keys, o.Values) }

// Terms are the fields by which the engine tells states apart: key, then value.
func (o *FirstSeen) Terms() []event.Field { return o.terms }

// Logic returns the functions of one shard.
func (o *FirstSeen) Logic() Logic[SeenState] { return o }

// Row implements Logic.
func (o *FirstSeen) Row(c *Context, s *SeenState, in *In) {
	w := in.W
	if w == PosInf {
		w = NegInf // the end proves nothing about what comes after it
	}
	if s.until <= w {
		*s = SeenState{}
	}
	switch fresh := !s.known || o.History > 0 && in.TS-s.newest >= o.History; {
	case fresh && o.Once:
		c.Out = append(c.Out, in.Passed(in.Name))
	case fresh && !in.Silent:
		c.Pass(in, o.id(in))
	case !fresh && o.Once:
		c.Counts.Repeated++
	}
	if o.History == 0 {
		*s = SeenState{until: PosInf, known: true}
		return
	}
	if !s.known {
		*s = SeenState{newest: in.TS, until: NegInf, known: true}
	}
	s.newest, s.until = max(s.newest, in.TS), max(s.until, max(in.TS, w)+o.History)
}

// id is made of key, value and row.
func (o *FirstSeen) id(in *In) event.ID {
	value := in.Key
	for range o.Keys {
		_, value, _ = event.ReadKey(value)
	}
	id := in.Name.ID()
	return o.Ident.ID(in.Key[:len(in.Key)-len(value)], value, id[:])
}

// Fire implements Logic: it only forgets.
func (o *FirstSeen) Fire(_ *Context, s *SeenState, _ int64) { *s = SeenState{} }

// Next implements Logic.
func (o *FirstSeen) Next(s *SeenState) int64 {
	if !s.known {
		return Never
	}
	return s.until
}

// Flushes implements Logic.
func (o *FirstSeen) Flushes() bool { return false }

// Whole implements Whole.
func (o *FirstSeen) Whole() {}

// Clear implements Logic.
func (o *FirstSeen) Clear(s *SeenState) { *s = SeenState{} }

// Save implements Logic. A record is the newest time, and by how much the value is remembered longer than History after
// it; without History, that the value was there.
func (o *FirstSeen) Save(dst []byte, s *SeenState, _ bool) []byte {
	if o.History == 0 {
		return append(dst, 1)
	}
	dst = binary.AppendVarint(dst, s.newest)
	return binary.AppendUvarint(dst, uint64(s.until-s.newest-o.History))
}

// Load implements Logic.
func (o *FirstSeen) Load(s *SeenState, rec []byte) error {
	r := event.Reader{B: rec}
	*s = SeenState{until: PosInf, known: true}
	if o.History == 0 {
		r.Bad = r.Byte() != 1
	} else {
		s.newest = r.Int()
		longer := int64(r.Uint())
		s.until = s.newest + o.History + longer
		r.Bad = r.Bad || longer < 0 || s.until < s.newest+longer || s.newest+longer < s.newest || s.until >= PosInf
	}
	if !r.Done() {
		*s = SeenState{}
		return errors.New("first_seen state is damaged")
	}
	return nil
}
