package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/kafka"
)

func kafkaRowsSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Services").
		Summary("Writes rows to a topic of Kafka, a record each, acknowledged when all replicas in sync have them.").
		Description(`The value is the row's payload; the headers are its metadata: result_id, operator, kind, revision, event_time_ms, lane,
stream, reason, late_by_ms, position, as far as the row has them. The key is the result id, so that a compacted topic keeps each result once, or a
column. The record's own time is that of writing, because retention goes by it.

A row is acknowledged after the brokers' acknowledgement. One that is rejected is sent again, by itself, as other outputs' rows are. After a crash
or a lost answer a row may be there twice, under the same result id.`).
		Fields(clusterFields()...).
		Fields(
			service.NewStringField("topic").
				Description("The topic; it must be there.").
				Example("alerts"),
			service.NewStringField("key").
				Description("The column whose text is the record's key, so that rows with the same one stay in order; rows without it have the result id, as all have by default.").
				Optional().Example("source_ip"),
			service.NewStringEnumField("compression", kafka.Codecs...).
				Description("Of batches.").
				Default("snappy"),
			service.NewStringField("timeout").
				Description("How long to wait for an acknowledgement before a row counts as rejected, at most 10m.").
				Default("30s"),
			service.NewIntField("max_in_flight").
				Description("Batches that wait for their acknowledgement at the same time. With 1 rows are written in their order.").
				Default(1),
		).
		Example("Alerts to a topic", "", "output:\n  kafka_rows:\n    seed_brokers: [localhost:9092]\n    topic: alerts\n")
}

func init() {
	err := service.RegisterBatchOutput("kafka_rows", kafkaRowsSpec(),
		func(conf *service.ParsedConfig, res *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			out, err := newKafkaRows(conf, res)
			if err != nil {
				return nil, service.BatchPolicy{}, 0, err
			}
			return out, service.BatchPolicy{}, out.conf.inFlight, nil
		})
	if err != nil {
		panic(err)
	}
}

// kafkaRowsConfig is the configuration, checked.
type kafkaRowsConfig struct {
	out      kafka.Output
	key      string // column; empty: the result id
	inFlight int
}

// kafkaRows is the output.
type kafkaRows struct {
	conf   kafkaRowsConfig
	writer *kafka.Writer
	pause  pause
}

func newKafkaRows(conf *service.ParsedConfig, res *service.Resources) (*kafkaRows, error) {
	c, err := decodeParsed(conf, "kafka_rows", decodeKafkaRows)
	if err != nil {
		return nil, err
	}
	c.out.Log = kafka.Log{Warn: res.Logger().Warnf, Info: res.Logger().Infof}
	return &kafkaRows{conf: c}, nil
}

// Connect finds the topic. Benthos says what is wrong and tries again what may pass; rows wait in the state meanwhile.
func (o *kafkaRows) Connect(ctx context.Context) (err error) {
	if o.writer, err = kafka.OpenWriter(ctx, o.conf.out); err == nil {
		return nil
	}
	var stop *kafka.Stop
	if errors.As(err, &stop) {
		fail(fmt.Errorf("kafka_rows: %w", err))
	}
	o.pause.wait(ctx)
	return err
}

// WriteBatch writes the batch and waits for the brokers.
func (o *kafkaRows) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	rows := make([]kafka.Row, len(batch))
	for i, msg := range batch {
		var err error
		if rows[i], err = o.row(msg); err != nil {
			return err
		}
	}
	errs, err := o.writer.Write(ctx, rows)
	if err == nil {
		return nil
	}
	failed := service.NewBatchError(batch, err)
	for i, e := range errs {
		if e != nil {
			failed = failed.Failed(i, e)
		}
	}
	return failed
}

// row makes a record of a message.
func (o *kafkaRows) row(msg *service.Message) (r kafka.Row, err error) {
	if r.Value, err = msg.AsBytes(); err != nil {
		return r, err
	}
	r.Headers = make([]kafka.Header, 0, len(rowMeta))
	for _, m := range rowMeta {
		if v, ok := msg.MetaGet(m.name); ok {
			r.Headers = append(r.Headers, kafka.Header{Name: m.name, Value: []byte(v)})
		}
	}
	if r.Key = o.column(r.Value); r.Key == nil {
		if id, ok := msg.MetaGet("result_id"); ok {
			r.Key = []byte(id)
		}
	}
	return r, nil
}

// column is the text of the key's column, nil if the row has none.
func (o *kafkaRows) column(payload []byte) (key []byte) {
	if o.conf.key == "" {
		return nil
	}
	event.Members(payload, func(name, value []byte) {
		switch {
		case string(name) != o.conf.key:
		case string(value) == "null":
			key = nil
		case value[0] == '"':
			key = event.AppendText([]byte{}, value[1:len(value)-1])
		default:
			key = append([]byte{}, value...)
		}
	})
	return key
}

// Close gives up the connections.
func (o *kafkaRows) Close(context.Context) error {
	if o.writer != nil {
		o.writer.Close()
		o.writer = nil
	}
	return nil
}
