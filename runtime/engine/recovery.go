package engine

import (
	"crypto/rand"
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
	of   []uint32 // of the Spec's operators
	next uint32
	seed [2]uint64
	gone []gonePage // pages of dropped operators, to be deleted with the first epoch
	kept []saved    // operators that the pipeline no longer has
	held []held     // their changes in the log
	old  []saved    // streams that it no longer has
}

type gonePage struct{ space, bucket uint32 }

// held is a record that this pipeline cannot make a page of. It is logged again before its epoch is forgotten.
type held struct {
	epoch    uint64
	space    uint32
	due      int64
	key, rec []byte
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
	var rows []*Out
	var marks Marks
	broken := func(err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%w; restore the folder, or start over with --fresh", err)
	}
	got, err := r.store.Recover(state.Visitor{
		Start: func(got state.Recovered) (err error) {
			if marks, err = r.adopt(got); err != nil {
				return err
			}
			r.graph.attach(r.spaces.seed, got.Epoch+1, r.spaces.of, r.store.Page)
			r.memory.share(r.graph, r.memory.budget/2, 1)
			return nil
		},
		Page: func(space, bucket uint32, epoch uint64, page []byte) error {
			return broken(r.adoptPage(space, bucket, epoch, page))
		},
		Record: func(epoch uint64, space uint32, key []byte, due int64, rec []byte) error {
			return broken(r.replay(epoch, space, key, due, rec))
		},
		Row: func(seq uint64, b []byte) error {
			o, err := readOut(seq, b)
			rows = append(rows, o)
			return broken(err)
		},
	})
	if err != nil {
		return err
	}
	r.epoch = got.Epoch + 1
	r.spec.reopen(rows)
	if err := r.resume(got, rows); err != nil {
		return err
	}
	r.stats.Resent += int64(len(rows))
	r.intake.stats.Resent = r.stats.Resent
	return r.graph.Resume(marks)
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

func (r *Runner) adoptPage(space, bucket uint32, epoch uint64, page []byte) error {
	if op := slices.Index(r.spaces.of, space); op >= 0 {
		return r.graph.adopt(op, bucket, epoch, page)
	}
	if !r.keeps(space) {
		r.spaces.gone = append(r.spaces.gone, gonePage{space, bucket})
	}
	return nil
}

func (r *Runner) keeps(space uint32) bool {
	return slices.ContainsFunc(r.spaces.kept, func(s saved) bool { return s.space == space })
}

func (r *Runner) replay(epoch uint64, space uint32, key []byte, due int64, rec []byte) error {
	if space == partitionSpace {
		return r.intake.load(string(key), epoch, rec)
	}
	if op := slices.Index(r.spaces.of, space); op >= 0 {
		return r.graph.replay(op, epoch, key, due, rec)
	}
	if r.keeps(space) {
		r.spaces.held = append(r.spaces.held, held{epoch, space, due, slices.Clone(key), clone(rec)})
	}
	return nil
}

// adopt matches what the header knows with the pipeline: operators that are the same go on, new ones start empty at the
// watermark that their inputs have, changed and removed ones refuse unless the pipeline says what to do.
func (r *Runner) adopt(got state.Recovered) (m Marks, err error) {
	head, err := readHeader(got.Header)
	if err != nil {
		return m, fmt.Errorf("%w; restore the folder, or start over with --fresh", err)
	}
	if err := r.adoptLanes(&head); err != nil {
		return m, err
	}
	sp := &r.spaces
	if sp.seed, sp.next = head.seed, max(head.next, 1); head.next == 0 {
		sp.seed = newSeed()
	}
	for i := range r.spec.Streams {
		s := find(&head.streams, r.spec.Streams[i].Name)
		m.Streams = append(m.Streams, s.w)
	}
	sp.old = head.streams
	for i := range r.spec.Operators {
		o := &r.spec.Operators[i]
		s := find(&head.operators, o.Name)
		if s.space != 0 && s.fingerprint != o.Fingerprint && !o.migrates(s.fingerprint) {
			if !o.OnReset && o.Suppress == nil {
				return m, fmt.Errorf("operator %s has changed: %s; put it back, give the operator another name, or set `on_incompatible_state: reset` in it to drop what it kept",
					o.Name, difference(s.fingerprint, o.Fingerprint))
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
	for _, s := range head.operators {
		part := strings.Contains(s.name, "/") // of a stream, or of an operator's alert, which may change freely
		switch {
		case strings.HasSuffix(s.name, onceSuffix):
			r.opt.Warn("what %s remembers is forgotten: the stream no longer drops events that come again", s.name)
		case part:
			r.opt.Warn("alerts that %s held are forgotten: it no longer suppresses or groups them", s.name)
		case r.opt.Removed == "keep":
			sp.kept = append(sp.kept, s)
		case r.opt.Removed == "drop":
			r.opt.Warn("operator %s is gone and what it kept is dropped", s.name)
		default:
			return m, fmt.Errorf("it holds operator %s, which the pipeline does not have; put it back, or set `on_removed: keep` or `on_removed: drop` in detect", s.name)
		}
	}
	return m, nil
}

// newSeed draws what only this state knows.
func newSeed() (seed [2]uint64) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return [2]uint64{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
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

// logEpochs is how many epochs stay in the log in any case, so that positions need not be logged again all the time.
const logEpochs = 64

// save logs everything that changed since the last epoch, and collects the pages that are due; what the log up to f.Through still
// has to tell is logged again.
func (r *Runner) save(e *state.Epoch, f *state.Flush) error {
	r.graph.save(r.spaces.of, e, r.epoch)
	if err := r.memory.balance(r.graph, r.spaces.of, r.epoch, e.Changes(), f); err != nil {
		return err
	}
	for _, g := range r.spaces.gone {
		f.Put(g.space, g.bucket, nil)
		f.End()
	}
	r.spaces.gone = nil
	f.Through = min(f.Through, max(r.epoch, logEpochs)-logEpochs)
	for name, p := range r.intake.parts {
		if p.dirty || p.logged > 0 && p.logged <= f.Through {
			e.Put(partitionSpace, []byte(name), operator.Never, r.intake.record(nil, p))
			p.dirty, p.logged = false, r.epoch
			r.note(name, p.next)
		}
	}
	if len(r.spaces.held) > 0 && r.spaces.held[0].epoch <= f.Through {
		for i := range r.spaces.held {
			x := &r.spaces.held[i]
			x.epoch = r.epoch
			if x.rec == nil {
				e.Drop(x.space, x.key)
			} else {
				e.Put(x.space, x.key, x.due, x.rec)
			}
		}
	}
	e.Header = r.header(e.Header)
	r.epoch++
	return nil
}

// note keeps a position of the epoch that is being cut for whoever wants to know what is on disk.
func (r *Runner) note(name string, next int64) {
	if r.opt.Committed == nil || next == 0 {
		return
	}
	if r.read == nil {
		r.read = map[string]int64{}
	}
	r.read[name] = next
}

// headerVersion is that of what an epoch keeps beside keys, headerLanes that of one with lanes, of which the one before had no fences.
const (
	headerVersion  = 3
	headerUnfenced = 4
	headerLanes    = 5
)

// header is what an epoch keeps beside keys: names, spaces, fingerprints, watermarks.
type header struct {
	seed               [2]uint64
	next               uint32 // the first space never used
	streams, operators []saved
	nextLane           uint32 // the first lane's number never used
	lanes              []keptLane
}

func (r *Runner) header(dst []byte) []byte {
	m := r.graph.Marks()
	h := header{seed: r.spaces.seed, next: r.spaces.next, nextLane: r.next, lanes: r.cut}
	for i := range r.spec.Streams {
		h.streams = append(h.streams, saved{name: r.spec.Streams[i].Name, w: m.Streams[i]})
	}
	for i := range r.spec.Operators {
		o := &r.spec.Operators[i]
		h.operators = append(h.operators, saved{o.Name, o.Fingerprint, r.spaces.of[i], m.Operators[i], m.Began[i]})
	}
	h.streams, h.operators = append(h.streams, r.spaces.old...), append(h.operators, r.spaces.kept...)
	return h.append(dst)
}

func (h *header) append(dst []byte) []byte {
	laned := len(h.lanes) > 0 || h.nextLane > 1 // numbers of lanes that are gone are not given again: pages of theirs may be left by a crash
	if dst = append(dst, headerVersion); laned {
		dst[len(dst)-1] = headerLanes
	}
	dst = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, h.seed[0]), h.seed[1])
	dst = binary.AppendUvarint(dst, uint64(h.next))
	for _, list := range [][]saved{h.streams, h.operators} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for _, s := range list {
			dst = event.AppendBytes(event.AppendBytes(dst, []byte(s.name)), []byte(s.fingerprint))
			dst = binary.AppendVarint(binary.AppendUvarint(dst, uint64(s.space)), s.w)
			dst = binary.AppendVarint(dst, s.began)
		}
	}
	if !laned {
		return dst
	}
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(h.nextLane)), uint64(len(h.lanes)))
	for i := range h.lanes {
		dst = h.lanes[i].append(dst)
	}
	return dst
}

func readHeader(b []byte) (h header, err error) {
	if len(b) == 0 {
		return h, nil
	}
	r := event.Reader{B: b}
	v := r.Byte()
	if v < headerVersion || v > headerLanes {
		return h, fmt.Errorf("its header has version %d, this binary reads %d to %d", v, headerVersion, headerLanes)
	}
	h.seed = [2]uint64{r.Uint64(), r.Uint64()}
	h.next = uint32(r.Uint())
	for _, list := range []*[]saved{&h.streams, &h.operators} {
		for n := r.Uint(); n > 0 && !r.Bad; n-- {
			s := saved{name: string(r.Bytes()), fingerprint: string(r.Bytes())}
			s.space, s.w, s.began = uint32(r.Uint()), r.Int(), r.Int()
			*list = append(*list, s)
		}
	}
	if v > headerVersion {
		h.nextLane = uint32(r.Uint())
		for n := r.Uint(); n > 0 && !r.Bad; n-- {
			h.lanes = append(h.lanes, readLane(&r, v > headerUnfenced))
		}
	}
	if !r.Done() {
		return header{}, errors.New("its header is damaged")
	}
	return h, nil
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
