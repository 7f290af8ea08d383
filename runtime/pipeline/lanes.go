package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

func lanesSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Utility").
		Summary("Gives the rows of each lane of `deliver` to an output of its own; none waits for another.").
		Description("The keys are the lanes that the buffer `detect` names in `deliver`. Benthos's `switch` routes on the metadata `lane` as well, but one "+
			"output that takes nothing, or is not connected yet, holds all others there.").
		Field(service.NewOutputMapField("")).
		Example("Alerts to one file, everything to another. "+runs, "", `
input:
  file_lines: { paths: [ pipelines/data/logins.jsonl ] }
buffer:
  detect:
    name: lanes_example
    state: ./state/lanes_example
    streams: { logins: { time: { field: login_time } } }
    operators:
      attempts:
        window: { from: logins, tumbling: 20s, key: source_ip, aggregate: { n: count }, having: { n|gte: 5 } }
        alert: { title: "{n} logins from {source_ip}" }
    deliver:
      siem: { where: { kind: alert } }
      lake: {}
output:
  lanes:
    siem: { file_rows: { path: out/alerts.jsonl } }
    lake: { file_rows: { path: out/rows.jsonl } }
`)
}

func init() {
	err := service.RegisterBatchOutput("lanes", lanesSpec(),
		func(conf *service.ParsedConfig, _ *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			outputs, err := conf.FieldOutputMap()
			return &lanesOutput{outputs: outputs}, service.BatchPolicy{}, max(len(outputs)*engine.LaneFlyingMax, 1), err
		})
	if err != nil {
		panic(err)
	}
}

// lanesOutput is the output. Benthos calls it from as many goroutines as the lanes may have batches on their way, so that no call waits
// for one of another lane.
type lanesOutput struct {
	outputs map[string]*service.OwnedOutput
	once    sync.Once
}

// Connect starts the outputs, also those that may never get a row.
func (o *lanesOutput) Connect(context.Context) error { return o.start() }

func (o *lanesOutput) start() (err error) {
	o.once.Do(func() {
		for _, out := range o.outputs {
			err = errors.Join(err, out.Prime())
		}
	})
	return err
}

// WriteBatch waits until the lane's output has taken the batch, or has not. A batch of several lanes, which a processor has made, has the
// fate of all of them.
func (o *lanesOutput) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	of := map[string]service.MessageBatch{}
	var order []string
	for _, m := range batch {
		lane, _ := m.MetaGet("lane")
		if of[lane] == nil {
			order = append(order, lane)
		}
		of[lane] = append(of[lane], m)
	}
	if len(order) == 1 {
		return o.write(ctx, order[0], batch)
	}
	fates := make([]error, len(order))
	var wait sync.WaitGroup
	for i, lane := range order {
		wait.Go(func() {
			if err := o.write(ctx, lane, of[lane]); err != nil {
				fates[i] = fmt.Errorf("lane %s: %w", lane, errors.New(err.Error()))
			}
		})
	}
	wait.Wait()
	return errors.Join(fates...)
}

func (o *lanesOutput) write(ctx context.Context, lane string, batch service.MessageBatch) error {
	out := o.outputs[lane]
	if out == nil {
		return fmt.Errorf("lanes: there is no output for lane %q", lane)
	}
	return out.WriteBatch(ctx, batch)
}

// Close ends the outputs. One that was never started would not end.
func (o *lanesOutput) Close(ctx context.Context) error {
	err := o.start()
	for _, out := range o.outputs {
		err = errors.Join(err, out.Close(ctx))
	}
	return err
}

// blockKind is the metadata `kind` of a message that is many rows: lines as file_rows writes them, and the rows themselves for other outputs of ours.
const blockKind = "block"

// block makes one message of rows.
func block(rows []*engine.Out, lane string) *service.Message {
	size := 0
	for _, o := range rows {
		size += len(o.Payload) + 256
	}
	var lines bytes.Buffer
	lines.Grow(size)
	for _, o := range rows {
		appendLine(&lines, o.Payload, metaOf(o, lane))
	}
	m := service.NewMessage(lines.Bytes())
	m = m.WithContext(context.WithValue(m.Context(), blockKey{}, &rowBlock{lane, rows, lines.Bytes()}))
	m.MetaSetMut("kind", blockKind)
	m.MetaSetMut("lane", lane)
	m.MetaSetMut("rows", strconv.Itoa(len(rows)))
	m.MetaSetMut("result_id", rows[0].ID.String())
	m.MetaSetMut("event_time_ms", strconv.FormatInt(rows[0].TS, 10))
	return m
}
