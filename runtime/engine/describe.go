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

// Describe reads a state that no runner uses. The store must be closed afterwards, not run.
func Describe(store *state.Store) (out StateReport, err error) {
	sizes := map[uint32]map[string]int{}
	in := newIntake(&Spec{}, nil, nil)
	got, err := store.Recover(state.Visitor{
		Record: func(space uint32, key, rec []byte) error {
			if space == partitionSpace {
				return in.load(string(key), rec)
			}
			if sizes[space] == nil {
				sizes[space] = map[string]int{}
			}
			if rec == nil {
				delete(sizes[space], string(key))
			} else {
				sizes[space][string(key)] += len(rec)
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
	streams, operators, _, err := readHeader(got.Header)
	if err != nil {
		return out, fmt.Errorf("state %s: %w", store.Dir(), err)
	}
	out.Epoch = got.Epoch
	for _, s := range streams {
		out.Streams = append(out.Streams, KeptStream{s.name, s.w})
	}
	for _, s := range operators {
		out.Operators = append(out.Operators, kept(s, sizes[s.space]))
	}
	for name, p := range in.parts {
		out.Sources = append(out.Sources, KeptSource{name, p.next})
	}
	slices.SortFunc(out.Sources, func(a, b KeptSource) int { return cmp.Compare(a.Partition, b.Partition) })
	return out, nil
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
