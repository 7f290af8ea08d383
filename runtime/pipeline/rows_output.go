package pipeline

import (
	"context"
	"errors"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

// rowsOutput is an output of ours that takes rows, a message each. pace says how its batches are gathered and how many of them may be under way.
type rowsOutput interface {
	service.BatchOutput
	pace() (gathered service.BatchPolicy, inFlight int)
}

// registerRows registers such an output. What comes to it in blocks is taken apart before.
func registerRows[T rowsOutput](name string, spec *service.ConfigSpec, open func(conf *service.ParsedConfig, res *service.Resources) (T, error)) {
	rowOutputs = append(rowOutputs, name)
	err := service.RegisterBatchOutput(name, spec, func(conf *service.ParsedConfig, res *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
		out, err := open(conf, res)
		if err != nil {
			return nil, service.BatchPolicy{}, 0, err
		}
		gathered, inFlight := out.pace()
		return &apart{out, name}, gathered, inFlight, nil
	})
	if err != nil {
		panic(err)
	}
}

// rowOutputs are the outputs that registerRows has registered.
var rowOutputs []string

// apart gives an output the rows of blocks as the messages that they would have been.
type apart struct {
	service.BatchOutput
	name string
}

// WriteBatch has the error of a block be that of its rows, of which the detect buffer may know more.
func (o *apart) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	rows, of, err := takenApart(batch)
	if err != nil {
		return errors.New(o.name + ": " + err.Error())
	}
	if of == nil {
		return o.BatchOutput.WriteBatch(ctx, batch)
	}
	places := rows.Index()
	err = o.BatchOutput.WriteBatch(ctx, rows)
	var some *service.BatchError
	if !errors.As(err, &some) {
		return err
	}
	failed := service.NewBatchError(batch, errors.New(some.Error()))
	some.WalkMessagesIndexedBy(places, func(i int, _ *service.Message, err error) bool {
		if err != nil && i >= 0 {
			failed = failed.Failed(of[i], err)
		}
		return true
	})
	return failed
}

// takenApart are the messages of a batch, of its blocks the rows, each with the place in the batch that it is of; no places if there are no blocks.
func takenApart(batch service.MessageBatch) (rows service.MessageBatch, of []int, err error) {
	for i, m := range batch {
		if kind, _ := m.MetaGet("kind"); kind != blockKind {
			if rows = append(rows, m); of != nil {
				of = append(of, i)
			}
			continue
		}
		b, ok := m.Context().Value(blockKey{}).(*rowBlock)
		lines, err := m.AsBytes()
		if err != nil || !ok || !b.wrote(lines) {
			return nil, nil, errors.New("a processor has changed a block of rows, and rows cannot be read from it; leave out the processor, or `block: true` of the lane")
		}
		for k := len(of); k < len(rows); k++ {
			of = append(of, k)
		}
		for _, o := range b.rows {
			rows, of = append(rows, message(o, b.lane)), append(of, i)
		}
	}
	return rows, of, nil
}

// rowBlock is what a block was made of. It goes with the block's message, in its context.
type rowBlock struct {
	lane  string
	rows  []*engine.Out
	lines []byte
}

type blockKey struct{}

// wrote says whether a message's bytes are still those of the block.
func (b *rowBlock) wrote(lines []byte) bool {
	return len(lines) == len(b.lines) && (len(lines) == 0 || &lines[0] == &b.lines[0])
}
