package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// StateReport is what a state holds, as of its last epoch. Watermarks and times are ms; watermarks are operator.NegInf before any row.
type StateReport struct {
	Epoch        uint64
	Running      bool  // another process uses it
	Waiting      int   // rows that no output has acknowledged, in all lanes
	WaitingBytes int64 // of them
	Streams      []KeptStream
	Operators    []KeptOperator
	Sources      []KeptSource
}

// KeptStream is the watermark of a stream.
type KeptStream struct {
	Name      string
	Watermark int64
}

// KeptOperator is what an operator keeps, the largest keys first.
type KeptOperator struct {
	Name      string
	Watermark int64
	Bytes     int64
	Oldest    int64 // the earliest event time in its records, ms; NoTime if there is none, or the operator has changed
	Count     int   // keys, of which Keys may show some
	Keys      []KeptKey
}

// KeptKey is a key, how many bytes of records it has, and the earliest event time in them.
type KeptKey struct {
	Key    []event.Value
	Bytes  int
	Oldest int64
}

// NoTime stands for no event time.
const NoTime = operator.Never

// KeptSource is how far a partition was read.
type KeptSource struct {
	Partition string
	Offset    int64
}

// space is what a place of the state holds.
type space struct {
	cold cold // knows which pages there are
	w    int64
	keys map[string]dated
	read func(rec []byte) (oldest int64, err error) // nil: nobody knows how old its records are
}

// dated is what is known of a key's records so far.
type dated struct {
	bytes  int
	oldest int64
}

// Describe reads a state that no runner uses, of the pipeline of spec. The store must be closed afterwards, not run.
func Describe(spec *Spec, store *state.Store) (out StateReport, err error) {
	var head header
	in := newIntake(&Spec{}, nil, nil)
	spaces := map[uint32]*space{}
	got, err := store.Recover(state.Visitor{
		Start: func(got state.Recovered) (err error) {
			head, err = readHeader(got.Header)
			for _, s := range head.operators {
				x := &space{cold: newCold(), w: s.w, keys: map[string]dated{}, read: readerOf(spec, s)}
				x.cold.seed, x.cold.allow = head.seed, 0
				spaces[s.space] = x
			}
			return err
		},
		Page: func(at, bucket uint32, epoch uint64, page []byte) error {
			if spaces[at] == nil {
				return nil
			}
			return spaces[at].page(bucket, epoch, page)
		},
		Record: func(epoch uint64, at uint32, key []byte, due int64, rec []byte) error {
			if at == partitionSpace {
				return in.load(string(key), epoch, rec)
			}
			if spaces[at] != nil {
				return spaces[at].record(epoch, string(key), due, rec)
			}
			return nil
		},
		Row: func(_ uint64, row []byte) error {
			out.Waiting++
			out.WaitingBytes += int64(len(row))
			return nil
		},
	})
	if err != nil {
		return out, err
	}
	out.Epoch, out.Running = got.Epoch, store.Running()
	for i := range head.lanes {
		_, bytes := store.Waiting(head.lanes[i].id)
		out.Waiting, out.WaitingBytes = out.Waiting+int(head.lanes[i].waits()), out.WaitingBytes+bytes
	}
	for _, s := range head.streams {
		out.Streams = append(out.Streams, KeptStream{s.name, s.w})
	}
	for _, s := range head.operators {
		out.Operators = append(out.Operators, kept(s, spaces[s.space].keys))
	}
	for name, p := range in.parts {
		out.Sources = append(out.Sources, KeptSource{name, p.next})
	}
	slices.SortFunc(out.Sources, func(a, b KeptSource) int { return cmp.Compare(a.Partition, b.Partition) })
	return out, nil
}

// page takes in a page: of keys whose records are whole those that came due are over.
func (s *space) page(bucket uint32, epoch uint64, page []byte) error {
	if err := s.cold.adopt(bucket, epoch, page); err != nil || bucket&indexMax == indexMax {
		return err
	}
	h, recs, _ := readPage(page)
	for len(recs) > 0 {
		var p packed
		p, recs = pull(recs)
		if due, rec := p.open(h.base); !h.whole || due > s.w {
			if err := s.take(string(p.key()), dated{oldest: NoTime}, rec); err != nil {
				return err
			}
		}
	}
	return nil
}

// record takes in a change of the log; due is Never of those that are added to what was there.
func (s *space) record(epoch uint64, key string, due int64, rec []byte) error {
	if epoch <= s.cold.bucket(s.cold.in(hashKey(s.cold.seed, []byte(key)))).epoch {
		return nil
	}
	was, there := s.keys[key]
	switch {
	case rec == nil || due <= s.w:
		delete(s.keys, key)
		return nil
	case due < operator.Never || !there:
		was = dated{oldest: NoTime}
	}
	return s.take(key, was, rec)
}

// take adds a record to what is known of a key.
func (s *space) take(key string, x dated, rec []byte) error {
	x.bytes += len(rec)
	if s.read != nil {
		oldest, err := s.read(rec)
		if err != nil {
			return err
		}
		x.oldest = min(x.oldest, oldest)
	}
	s.keys[key] = x
	return nil
}

// readerOf returns what dates the records of an operator, if the pipeline still has it as it was.
func readerOf(spec *Spec, s saved) func(rec []byte) (int64, error) {
	i := slices.IndexFunc(spec.Operators, func(o Operator) bool { return o.Name == s.name })
	if i < 0 || spec.Operators[i].Fingerprint != s.fingerprint {
		return nil
	}
	switch o := &spec.Operators[i]; {
	case o.Join != nil && o.Join.Kind == operator.Windowed:
		return dates(o.Join.Windows())
	case o.Join != nil && o.Join.Kind == operator.AsOf:
		return dates(o.Join.Versions())
	case o.Join != nil:
		return dates(o.Join.Logic())
	case o.Sequence != nil:
		return dates(o.Sequence.Logic())
	case o.FirstSeen != nil:
		return dates(o.FirstSeen.Logic())
	case o.Risk != nil:
		return dates(o.Risk.Logic(nil))
	case o.Suppress != nil:
		return dates(o.Suppress.Logic(operator.AlertReader{}))
	case o.Window == nil:
		return nil
	case o.Window.Kind == operator.Session:
		return dates(o.Window.Sessions())
	case o.Window.Kind == operator.Counting:
		return dates(o.Window.Counts())
	default:
		return dates(o.Window.Logic())
	}
}

// dates says how old a record is; each is read by itself, so that a state need not fit into memory to be described.
func dates[S any](op operator.Logic[S]) func(rec []byte) (int64, error) {
	old, ok := op.(operator.Dated[S])
	if !ok {
		return nil
	}
	return func(rec []byte) (int64, error) {
		var s S
		if err := op.Load(&s, rec); err != nil {
			return 0, err
		}
		return old.Oldest(&s), nil
	}
}

func kept(s saved, keys map[string]dated) KeptOperator {
	o := KeptOperator{Name: s.name, Watermark: s.w, Oldest: NoTime, Count: len(keys)}
	for key, x := range keys {
		k := KeptKey{Bytes: x.bytes + len(key), Oldest: x.oldest}
		o.Bytes += int64(k.Bytes)
		o.Oldest = min(o.Oldest, x.oldest)
		rest := []byte(key)
		if id := (event.ID{}); strings.HasSuffix(s.name, onceSuffix) && copy(id[:], rest) == len(rest) {
			k.Key, rest = append(k.Key, event.Value{Kind: event.String, Text: []byte(id.String())}), nil
		}
		for len(rest) > 0 {
			v, more, err := event.ReadKey(rest)
			if err != nil {
				k.Key = append(k.Key, event.Value{Kind: event.String, Text: fmt.Appendf(nil, "%x", rest)})
				break
			}
			k.Key, rest = append(k.Key, event.Value{Kind: v.Kind, Text: slices.Clone(v.Text)}), more
		}
		o.Keys = append(o.Keys, k)
	}
	slices.SortFunc(o.Keys, func(a, b KeptKey) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), slices.CompareFunc(a.Key, b.Key, func(x, y event.Value) int { return cmp.Compare(string(x.Text), string(y.Text)) }))
	})
	return o
}

// BeforeAny says that a watermark has not moved yet.
func BeforeAny(w int64) bool { return w == operator.NegInf }
