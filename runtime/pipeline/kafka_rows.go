package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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
or a lost answer a row may be there twice, under the same result id.

With `+"`encoding: avro`"+` or `+"`json_schema`"+` a value begins with the id of its schema, as Confluent's serializers write it. The schemas follow from the
operators: a column may be null, and is a long, double, boolean, string or timestamp-millis as far as its type is known, else any of these;
what has parts is the text of its JSON. Alerts have the schema `+"`tocsin.Alert`"+`; events that are passed on as they are, late and error rows have
`+"`tocsin.Document`"+`, which is the text of their JSON. A row that is not what its schema says is refused, and an error row goes instead. While the
registry does not answer, rows wait in the state.`).
		Fields(clusterFields()...).
		Fields(
			service.NewStringField("topic").
				Description("The topic; it must be there.").
				Example("alerts"),
			service.NewStringField("key").
				Description("The column whose text is the record's key, so that rows with the same one stay in order; rows without it have the result id, as all have by default.").
				Optional().Example("source_ip"),
			service.NewStringEnumField("compression", kafka.Codecs...).
				Description("How batches are compressed.").
				Default("snappy"),
			service.NewStringField("timeout").
				Description("How long to wait for an acknowledgement before a row counts as rejected, from 1s to 10m.").
				Default("30s"),
			service.NewIntField("max_in_flight").
				Description("Batches that wait for their acknowledgement at the same time, at most 256. With 1 rows are written in their order.").
				Default(1),
			service.NewStringEnumField("encoding", "json", event.KindAvro, event.KindJSONSchema).
				Description("How values are written.").
				Default("json"),
			service.NewObjectField("schema_registry", append(registryFields(),
				service.NewStringEnumField("subject", "topic", "record", "topic_record").
					Description("Under which name a schema is registered: `TOPIC-value`, the full name of the record, or `TOPIC-RECORD`. Rows of several operators, or alerts and rows, have several schemas: they need the last two.").
					Default("topic"),
				service.NewBoolField("register").
					Description("Whether to register schemas that are not there. Otherwise somebody else must have.").
					Default(true))...).
				Description("The registry, with Confluent's API, of `encoding` avro and json_schema.").
				Optional(),
		).
		Example("Failed logins of a log to a topic", "Needs a broker with the topic: `servers/kafka.sh up` starts one, `servers/kafka.sh topic failures` makes it.", `input:
  file_lines:
    paths: [pipelines/data/logins.jsonl]
buffer:
  detect:
    name: kafka_rows
    state: ./state/kafka_rows
    streams:
      logins: { time: { field: login_time } }
    operators:
      failures: { filter: { from: logins, where: { status: failure } } }
output:
  kafka_rows:
    seed_brokers: ["${KAFKA:127.0.0.1:19092}"]
    topic: failures
    key: source_ip
`).
		Example("Alerts to a topic", "", "output:\n  kafka_rows:\n    seed_brokers: [localhost:9092]\n    topic: alerts\n").
		Example("Rows as Avro", "", "output:\n  kafka_rows:\n    seed_brokers: [localhost:9092]\n    topic: attempts\n    encoding: avro\n    schema_registry: { url: \"http://localhost:8081\", subject: topic_record }\n")
}

func init() { registerRows("kafka_rows", kafkaRowsSpec(), newKafkaRows) }

// kafkaRowsConfig is the configuration, checked.
type kafkaRowsConfig struct {
	out      kafka.Output
	key      string // column; empty: the result id
	inFlight int
	encoding string          // json, avro or json_schema
	registry *kafka.Registry // of the last two
	subject  string          // topic, record or topic_record
	register bool
}

// kafkaRows is the output.
type kafkaRows struct {
	conf     kafkaRowsConfig
	link     *link
	writer   *kafka.Writer
	subjects *kafka.Subjects // nil: values are plain JSON
	pause    pause
}

func newKafkaRows(conf *service.ParsedConfig, res *service.Resources) (*kafkaRows, error) {
	c, err := decodeParsed(conf, "kafka_rows", decodeKafkaRows)
	if err != nil {
		return nil, err
	}
	c.out.Log = kafka.Log{Warn: res.Logger().Warnf, Info: res.Logger().Infof}
	if c.registry != nil {
		c.registry.Log = c.out.Log
	}
	return &kafkaRows{conf: c, link: linkOf(res)}, nil
}

// Connect finds the topic. Benthos says what is wrong and tries again what may pass; rows wait in the state meanwhile.
func (o *kafkaRows) Connect(ctx context.Context) (err error) {
	if err = o.open(ctx); err == nil {
		return nil
	}
	var stop *kafka.Stop
	if errors.As(err, &stop) {
		o.link.run.fail(fmt.Errorf("kafka_rows: %w", err))
	}
	o.pause.wait(ctx)
	return err
}

// WriteBatch writes the batch and waits for the brokers.
func (o *kafkaRows) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	rows, at := make([]kafka.Row, 0, len(batch)), make([]int, 0, len(batch))
	unfit := make([]fate, len(batch))
	for i, msg := range batch {
		row, err := o.row(msg)
		if err == nil {
			row.Value, err = o.encode(ctx, msg, row.Value)
		}
		var no *misfit
		switch {
		case errors.As(err, &no):
			unfit[i] = fate{refused, no.Error()}
		case err != nil:
			return err
		default:
			rows, at = append(rows, row), append(at, i)
		}
	}
	errs, err := o.writer.Write(ctx, rows)
	if len(rows) < len(batch) {
		for k, e := range errs {
			if e != nil {
				unfit[at[k]] = fate{busy, e.Error()}
			}
		}
		return o.link.report(batch, unfit)
	}
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

func (o *kafkaRows) pace() (service.BatchPolicy, int) { return service.BatchPolicy{}, o.conf.inFlight }

// Close gives up the connections.
func (o *kafkaRows) Close(context.Context) error {
	if o.writer != nil {
		o.writer.Close()
		o.writer = nil
	}
	return nil
}

// open finds the topic, and looks whether schemas that are known beforehand are taken.
func (o *kafkaRows) open(ctx context.Context) (err error) {
	if o.conf.registry != nil && o.subjects == nil {
		if o.subjects, err = kafka.OpenSubjects(*o.conf.registry, o.conf.register); err != nil {
			return err
		}
	}
	if o.subjects != nil {
		why, err := o.conf.compatible(ctx, o.subjects, o.link.shapes)
		switch {
		case err != nil:
			return err
		case why != "":
			return &kafka.Stop{Err: errors.New(why)}
		}
	}
	o.writer, err = kafka.OpenWriter(ctx, o.conf.out)
	return err
}

// compatible says why the registry would not take the schema of an operator's rows. With one subject for all nobody knows beforehand
// which rows come here, unless there is one operator alone.
func (c *kafkaRowsConfig) compatible(ctx context.Context, to *kafka.Subjects, shapes map[string]*rowShape) (why string, err error) {
	if c.subject == "topic" && len(shapes) != 1 {
		return "", nil
	}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		s := shapes[name]
		if why, err = to.Check(ctx, c.subjectOf(s), c.encoding, c.schemaOf(s)); why != "" || err != nil {
			return why, err
		}
	}
	return "", nil
}

func (c *kafkaRowsConfig) subjectOf(s *rowShape) string {
	switch c.subject {
	case "record":
		return s.fullName()
	case "topic_record":
		return c.out.Topic + "-" + s.fullName()
	}
	return c.out.Topic + "-value"
}

func (c *kafkaRowsConfig) schemaOf(s *rowShape) string {
	if c.encoding == event.KindAvro {
		return s.avro()
	}
	return s.json()
}

// misfit is a row that is not what its schema says.
type misfit struct{ error }

// encode makes a record of a row's payload.
func (o *kafkaRows) encode(ctx context.Context, msg *service.Message, payload []byte) ([]byte, error) {
	if o.subjects == nil {
		return payload, nil
	}
	shape := documentShape
	kind, _ := msg.MetaGet("kind")
	name, _ := msg.MetaGet("operator")
	if s := o.link.shapes[name]; kind == "alert" {
		shape = alertShape
	} else if kind == "row" && s != nil {
		shape = s
	}
	subject := o.conf.subjectOf(shape)
	id, err := o.subjects.ID(ctx, subject, shape.fullName(), o.conf.encoding, o.conf.schemaOf(shape))
	if err != nil {
		var stop *kafka.Stop
		if errors.As(err, &stop) {
			o.link.run.fail(fmt.Errorf("kafka_rows: %w", err))
		}
		return nil, err
	}
	out := kafka.AppendHeader(nil, id)
	if o.conf.encoding == event.KindJSONSchema {
		return append(out, payload...), nil
	}
	if out, err = shape.appendAvro(out, payload); err != nil {
		return nil, &misfit{err}
	}
	return out, nil
}
