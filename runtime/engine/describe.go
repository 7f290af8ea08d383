package engine

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// StateReport is what a state holds, as of its last epoch. Watermarks are ms, operator.NegInf before any row.
type StateReport struct {
	Epoch     uint64
	Waiting   int // rows that no output has acknowledged
	Streams   []KeptStream
	Operators []KeptOperator
	Sources   []KeptSource
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
	Keys      []KeptKey
}

// KeptKey is a key and how many bytes of records it has.
type KeptKey struct {
	Key   []event.Value
	Bytes int
}

// KeptSource is how far a partition was read.
type KeptSource struct {
	Partition string
	Offset    int64
}

// space is what a place of the state holds: the sizes of its keys.
type space struct {
	cold  cold // knows which pages there are
	w     int64
	sizes map[string]int
}

// Describe reads a state that no runner uses. The store must be closed afterwards, not run.
func Describe(store *state.Store) (out StateReport, err error) {
	var head header
	in := newIntake(&Spec{}, nil, nil)
	spaces := map[uint32]*space{}
	got, err := store.Recover(state.Visitor{
		Start: func(got state.Recovered) (err error) {
			head, err = readHeader(got.Header)
			for _, s := range head.operators {
				x := &space{cold: newCold(), w: s.w, sizes: map[string]int{}}
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
				spaces[at].record(epoch, string(key), due, rec)
			}
			return nil
		},
		Row: func(uint64, []byte) error {
			out.Waiting++
			return nil
		},
	})
	if err != nil {
		return out, err
	}
	out.Epoch = got.Epoch
	for _, s := range head.streams {
		out.Streams = append(out.Streams, KeptStream{s.name, s.w})
	}
	for _, s := range head.operators {
		out.Operators = append(out.Operators, kept(s, spaces[s.space].sizes))
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
			s.sizes[string(p.key())] = len(rec)
		}
	}
	return nil
}

// record takes in a change of the log; due is Never of those that are added to what was there.
func (s *space) record(epoch uint64, key string, due int64, rec []byte) {
	if epoch <= s.cold.bucket(s.cold.in(hashKey(s.cold.seed, []byte(key)))).epoch {
		return
	}
	switch {
	case rec == nil || due <= s.w:
		delete(s.sizes, key)
	case due < operator.Never:
		s.sizes[key] = len(rec)
	default:
		s.sizes[key] += len(rec)
	}
}

func kept(s saved, sizes map[string]int) KeptOperator {
	o := KeptOperator{Name: s.name, Watermark: s.w}
	for key, n := range sizes {
		o.Bytes += int64(n + len(key))
		k := KeptKey{Bytes: n + len(key)}
		for rest := []byte(key); len(rest) > 0; {
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
