package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// Space 0 of the state holds the partitions, by name; each operator has a space of its own, kept in the header under the
// operator's name, with the fingerprint of what shapes its state.
const partitionSpace = 0

// spaces is where operators keep their state.
type spaces struct {
	of    []uint32 // of the Spec's operators
	next  uint32
	force bool      // consolidate at once: something was dropped
	gone  []goneKey // keys of dropped operators, to be deleted with the first epoch
	kept  []saved   // operators that the pipeline no longer has
	old   []saved   // streams that it no longer has
}

type goneKey struct {
	space uint32
	key   []byte
}

// saved is what the header says of a stream or operator.
type saved struct {
	name, fingerprint string
	space             uint32 // 0: a stream
	w                 int64
	began             int64 // of an operator: the time of its first row, or -inf
}

// recover reads the state and makes graph and intake what they were at the last epoch.
func (r *Runner) recover() error {
	type rec struct {
		space    uint32
		key, rec []byte
	}
	var pending []rec // the header comes last, and says whose they are
	var rows []*Out
	got, err := r.store.Recover(state.Visitor{
		Record: func(space uint32, key, b []byte) error {
			pending = append(pending, rec{space, slices.Clone(key), clone(b)})
			return nil
		},
		Row: func(seq uint64, b []byte) error {
			o, err := readOut(seq, b)
			rows = append(rows, o)
			return err
		},
	})
	if err != nil {
		return err
	}
	r.box.next, r.box.cursor = got.Next, got.Cursor
	for _, seq := range got.Beyond {
		r.box.mark(seq)
	}
	r.box.add(rows)
	r.stats.Resent = int64(len(rows))
	r.intake.stats.Resent = r.stats.Resent
	marks, err := r.adopt(got)
	if err != nil {
		return err
	}
	for _, x := range pending {
		if err := r.restore(x.space, x.key, x.rec); err != nil {
			return fmt.Errorf("state %s: %w; restore the folder, or start over with --fresh", r.store.Dir(), err)
		}
	}
	r.graph.Resume(marks)
	return nil
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

func (r *Runner) restore(space uint32, key, rec []byte) error {
	if space == partitionSpace {
		return r.intake.load(string(key), rec)
	}
	if op := slices.Index(r.spaces.of, space); op >= 0 {
		return r.graph.Load(op, key, rec)
	}
	if !slices.ContainsFunc(r.spaces.kept, func(s saved) bool { return s.space == space }) {
		r.spaces.gone = append(r.spaces.gone, goneKey{space, key})
		r.spaces.force = true
	}
	return nil
}

// adopt matches what the header knows with the pipeline: operators that are the same go on, new ones start empty at the
// watermark that their inputs have, changed and removed ones refuse unless the pipeline says what to do.
func (r *Runner) adopt(got state.Recovered) (m Marks, err error) {
	streams, operators, next, err := readHeader(got.Header)
	if err != nil {
		return m, fmt.Errorf("state %s: %w; restore the folder, or start over with --fresh", r.store.Dir(), err)
	}
	sp := &r.spaces
	sp.next = max(next, 1)
	for i := range r.spec.Streams {
		s := find(&streams, r.spec.Streams[i].Name)
		m.Streams = append(m.Streams, s.w)
	}
	sp.old = streams
	for i := range r.spec.Operators {
		o := &r.spec.Operators[i]
		s := find(&operators, o.Name)
		if s.space != 0 && s.fingerprint != o.Fingerprint {
			if !o.OnReset {
				return m, fmt.Errorf("state %s: operator %s has changed: %s; put it back, give the operator another name, or set `on_incompatible_state: reset` in it to drop what it kept",
					r.store.Dir(), o.Name, difference(s.fingerprint, o.Fingerprint))
			}
			r.opt.Warn("operator %s has changed and starts empty", o.Name)
			s = saved{w: s.w, began: operator.NegInf}
		}
		if s.space == 0 {
			s.space = sp.next
			sp.next++
		}
		sp.of = append(sp.of, s.space)
		m.Operators = append(m.Operators, s.w)
		m.Began = append(m.Began, s.began)
	}
	for _, s := range operators {
		switch r.opt.Removed {
		case "keep":
			sp.kept = append(sp.kept, s)
		case "drop":
			r.opt.Warn("operator %s is gone and what it kept is dropped", s.name)
		default:
			return m, fmt.Errorf("state %s: it holds operator %s, which the pipeline does not have; put it back, or set `on_removed: keep` or `on_removed: drop` in detect", r.store.Dir(), s.name)
		}
	}
	return m, nil
}

// find takes a name out of a list; an unknown one is at -inf.
func find(list *[]saved, name string) saved {
	for i, s := range *list {
		if s.name == name {
			*list = slices.Delete(*list, i, i+1)
			return s
		}
	}
	return saved{w: operator.NegInf, began: operator.NegInf}
}

// difference says which lines of two fingerprints differ.
func difference(was, is string) string {
	a, b := strings.Split(was, "\n"), strings.Split(is, "\n")
	var said []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			said = append(said, "it was "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			said = append(said, "it is now "+line)
		}
	}
	if len(said) == 0 {
		return "its parts are in another order"
	}
	return strings.Join(said, ", ")
}

// save writes everything that changed since the last epoch.
func (r *Runner) save(e *state.Epoch, c *state.Consolidation) {
	for _, g := range r.spaces.gone {
		e.Drop(g.space, g.key)
		if c != nil {
			c.Drop(g.space, g.key)
		}
	}
	r.spaces.gone, r.spaces.force = nil, false
	for name, p := range r.intake.parts {
		if !p.dirty && c == nil {
			continue
		}
		rec := r.intake.record(nil, p)
		if p.dirty {
			e.Put(partitionSpace, []byte(name), rec)
			p.dirty = false
		}
		if c != nil {
			c.Put(partitionSpace, []byte(name), rec)
		}
	}
	r.graph.Save(r.spaces.of, e, c)
	e.Header = r.header(e.Header)
}

// headerVersion 2 added began; headers of version 1 are read.
const headerVersion = 2

// header is what an epoch keeps beside keys: names, spaces, fingerprints, watermarks.
func (r *Runner) header(dst []byte) []byte {
	m := r.graph.Marks()
	var streams, operators []saved
	for i := range r.spec.Streams {
		streams = append(streams, saved{name: r.spec.Streams[i].Name, w: m.Streams[i]})
	}
	for i := range r.spec.Operators {
		o := &r.spec.Operators[i]
		operators = append(operators, saved{o.Name, o.Fingerprint, r.spaces.of[i], m.Operators[i], m.Began[i]})
	}
	dst = binary.AppendUvarint(append(dst, headerVersion), uint64(r.spaces.next))
	for _, list := range [][]saved{append(streams, r.spaces.old...), append(operators, r.spaces.kept...)} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for _, s := range list {
			dst = event.AppendBytes(event.AppendBytes(dst, []byte(s.name)), []byte(s.fingerprint))
			dst = binary.AppendVarint(binary.AppendUvarint(dst, uint64(s.space)), s.w)
			dst = binary.AppendVarint(dst, s.began)
		}
	}
	return dst
}

func readHeader(b []byte) (streams, operators []saved, next uint32, err error) {
	if len(b) == 0 {
		return nil, nil, 0, nil
	}
	r := event.Reader{B: b}
	v := r.Byte()
	if v == 0 || v > headerVersion {
		return nil, nil, 0, fmt.Errorf("its header has version %d, this binary reads %d", v, headerVersion)
	}
	next = uint32(r.Uint())
	for _, list := range []*[]saved{&streams, &operators} {
		for n := r.Uint(); n > 0 && !r.Bad; n-- {
			s := saved{name: string(r.Bytes()), fingerprint: string(r.Bytes())}
			s.space, s.w, s.began = uint32(r.Uint()), r.Int(), operator.NegInf
			if v > 1 {
				s.began = r.Int()
			}
			*list = append(*list, s)
		}
	}
	if !r.Done() {
		return nil, nil, 0, errors.New("its header is damaged")
	}
	return streams, operators, next, nil
}

// Position is how far a partition was read at the last epoch, and what its input keeps to know it again.
type Position struct {
	Offset int64
	Origin []byte
}

// Positions returns where the inputs go on, by partition. Call it before the first Push.
func (r *Runner) Positions() map[string]Position {
	at := map[string]Position{}
	for name, p := range r.intake.parts {
		at[name] = Position{p.next, p.origin}
	}
	return at
}
