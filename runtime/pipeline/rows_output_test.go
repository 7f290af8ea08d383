package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// someRows are rows of an operator, of which the payload says the number.
func someRows(from, till byte) (rows []*engine.Out) {
	for n := from; n < till; n++ {
		rows = append(rows, &engine.Out{Kind: "row", Operator: "o", ID: event.ID{n}, TS: 1000 * int64(n), Payload: fmt.Appendf(nil, `{"n": %d}`, n)})
	}
	return rows
}

// picky takes rows but for some, by their payloads.
type picky struct {
	got    []string
	refuse string
	err    error // instead of taking any
}

func (o *picky) Connect(context.Context) error { return nil }
func (o *picky) Close(context.Context) error   { return nil }

func (o *picky) WriteBatch(_ context.Context, batch service.MessageBatch) error {
	if o.err != nil {
		return o.err
	}
	var failed *service.BatchError
	for i, m := range batch {
		text, _ := m.AsBytes()
		lane, _ := m.MetaGet("lane")
		kind, _ := m.MetaGet("kind")
		if o.got = append(o.got, fmt.Sprintf("%s %s %s", lane, kind, text)); strings.Contains(o.refuse, string(text)) {
			if failed == nil {
				failed = service.NewBatchError(batch, errors.New("some"))
			}
			failed = failed.Failed(i, errors.New("not "+string(text)))
		}
	}
	if failed == nil {
		return nil
	}
	return failed
}

// An output gets the rows of blocks as they are without blocks, also beside rows, and an error is of the message that the row was in.
func TestApart(t *testing.T) {
	rows := someRows(0, 6)
	batch := func() service.MessageBatch {
		return service.MessageBatch{message(rows[0], "a"), block(rows[1:4], "b"), message(rows[4], "a"), block(rows[5:], "c")}
	}
	out := &picky{refuse: `{"n": 2}{"n": 4}`}
	err := (&apart{out, "picky"}).WriteBatch(context.Background(), batch())
	if want := []string{`a row {"n": 0}`, `b row {"n": 1}`, `b row {"n": 2}`, `b row {"n": 3}`, `a row {"n": 4}`, `c row {"n": 5}`}; !slices.Equal(out.got, want) {
		t.Errorf("got %q", out.got)
	}
	var some *service.BatchError
	if !errors.As(err, &some) || some.IndexedErrors() != 2 {
		t.Fatalf("%v", err)
	}
	b := batch()
	places := b.Index()
	err = (&apart{out, "picky"}).WriteBatch(context.Background(), b)
	failed := map[int]string{}
	if !errors.As(err, &some) {
		t.Fatalf("%v", err)
	}
	some.WalkMessagesIndexedBy(places, func(i int, _ *service.Message, err error) bool {
		if err != nil {
			failed[i] = err.Error()
		}
		return true
	})
	if len(failed) != 2 || failed[1] != `not {"n": 2}` || failed[2] != `not {"n": 4}` {
		t.Errorf("failed: %v", failed)
	}
	if err := (&apart{&picky{err: service.ErrNotConnected}, "picky"}).WriteBatch(context.Background(), batch()); !errors.Is(err, service.ErrNotConnected) {
		t.Error(err)
	}
}

// A block that somebody has changed is no longer those rows: it is not written, and the error says what to do.
func TestChangedBlock(t *testing.T) {
	m := block(someRows(0, 3), "b")
	copied := m.Copy()
	if _, of, err := takenApart(service.MessageBatch{m, copied}); err != nil || !slices.Equal(of, []int{0, 0, 0, 1, 1, 1}) {
		t.Errorf("%v %v", of, err)
	}
	text, _ := m.AsBytes()
	copied.SetBytes(text[:len(text)-1])
	lone := service.NewMessage(text)
	lone.MetaSetMut("kind", blockKind)
	for _, m := range []*service.Message{copied, lone} {
		err := (&apart{&picky{}, "picky"}).WriteBatch(context.Background(), service.MessageBatch{m})
		if err == nil || !strings.HasPrefix(err.Error(), "picky: a processor has changed a block of rows") {
			t.Error(err)
		}
	}
}
