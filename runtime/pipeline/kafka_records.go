package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/kafka"
)

func kafkaRecordsSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Services").
		Summary("Reads topics of Kafka: in front of a `detect` buffer, and goes on where the state says, or as a member of a consumer group.").
		Description(`A record's value is an event. Its key and all else that Kafka knows of it are fields besides: `+"`_key`, `_timestamp`"+` (epoch
milliseconds), `+"`_topic`, `_partition`, `_offset` and `_headers.NAME`"+`; they stand before what an event says of itself under these names.
Streams match on the metadata `+"`topic` and `partition`"+`. A record without value is an error row with reason `+"`tombstone`"+`, one longer than
`+"`max_record`"+` one with reason `+"`record_too_long`"+`. Records of transactions that were aborted are not seen.

Positions are kept in the state, with the results, and nowhere else; a consumer group is only told them, for tools that show lag. Partitions
are assigned by `+"`partitions`"+`, since a state on a disk cannot follow a group's rebalance: to spread a topic over several processes, give each
a share and a state of its own; what is grouped or joined must then be in partitions by the same key. Partitions that are added to a topic
are read from their first record.

While brokers do not answer it waits, says so, and keeps partitions from counting as idle. It stops with the reason for what does not pass by
itself: a topic that is not there, was deleted or made anew, an offset that was deleted before it was read, a password that is wrong.

With `+"`schema_registry`"+` records may begin with the id of their schema (a byte 0 and four bytes), as Confluent's serializers write them, for
streams whose `+"`format`"+` is avro, protobuf or json_schema. Each id is asked for once. While the registry does not answer, a partition whose next
records need a schema that is not known waits, and the others go on; an id that the registry does not have makes an error row, with reason
`+"`no_schema`"+`; a user that it does not let in stops the input.

Without a `+"`detect`"+` buffer it needs `+"`group`"+`, whose members share the partitions, however many processes there are. Each record becomes a message with the
metadata `+"`topic`, `partition`, `position`, `_offset`, `_timestamp`, `_key` and `_headers.NAME`"+`; a tombstone, or the beginning of a record that is too
long, is flagged as failed, for `+"`catch`"+`. The group's offsets are what outputs have acknowledged, in order, as of the last second: after a crash that
second's records come again, and others get its partitions once it was missed for 10s. A partition that goes to another member is waited for, up to 10s, until what is under way of it is acknowledged; what is not
by then is read by both. Nothing is committed that was not acknowledged.`).
		Fields(clusterFields()...).
		Fields(
			service.NewStringListField("topics").
				Description("The topics, by name, at most 256.").
				Example([]any{"logins", "firewall"}),
			service.NewAnyField("partitions").
				Description("Which partitions of every topic: `all`; a list such as `[0, 3]`; or a share, `1/4` being the first of four: partitions 0, 4, 8 and so on of each topic; of at most 1024.").
				Default("all").Example([]any{0, 3}).Example("1/4"),
			service.NewStringField("start").
				Description("Where to begin in topics that the state does not know: `earliest`, `latest`, or a time such as `2026-03-02T08:00:00Z`.").
				Default("earliest").Example("latest"),
			service.NewStringEnumField("until", "stopped", "end").
				Description("`end`: read up to where the partitions end at the start, in the order of watermarks whatever comes first, and end; for replays.").
				Default("stopped"),
			service.NewStringEnumField("on_lost", "stop", "earliest", "latest").
				Description("What to do at the start with a partition whose position is gone: the topic was made anew, or retention has deleted what was not read yet.").
				Default("stop"),
			service.NewStringField("consumer_group").
				Description("Whose offsets are set to the positions of the last commit, every few seconds. Nothing is read from them.").
				Optional().Example("tocsin-logins"),
			service.NewStringField("group").
				Description("Without a `detect` buffer: the consumer group that deals out the partitions and keeps their offsets. `start` is for topics of which it has none; `on_lost` also holds in mid-run.").
				Optional().Example("tocsin-collect"),
			service.NewStringField("max_record").
				Description("The longest value, at most 64MiB. Of a longer one the first 1024 bytes are in the error row.").
				Default("1MiB").Example("256KiB"),
			service.NewObjectField("schema_registry", registryFields()...).
				Description("The registry, with Confluent's API, of streams whose `format` is avro, protobuf or json_schema.").
				Optional(),
		).
		Example("Failed logins of a topic", "Needs a broker with the topic: `servers/kafka.sh up` starts one, `servers/kafka.sh topic logins` makes it, and `tocsin run pipelines/to_kafka.yaml` fills it.", `input:
  kafka_records:
    seed_brokers: ["${KAFKA:127.0.0.1:19092}"]
    topics: [logins]
buffer:
  detect:
    name: kafka_records
    state: ./state/kafka_records
    streams:
      logins: { match: { topic: logins }, time: { field: login_time } }
    operators:
      failures: { filter: { from: logins, where: { status: failure } } }
output:
  console: { rows: true }
`).
		Example("Records of a topic to a file, shared with all processes of the group", "Needs a broker with the topic, as above.", `input:
  kafka_records:
    seed_brokers: ["${KAFKA:127.0.0.1:19092}"]
    topics: [logins]
    group: to-file
output:
  switch:
    cases:
      - { check: errored(), output: { file_rows: { path: ./out/unreadable.jsonl } } }
      - { output: { file_rows: { path: ./out/logins.jsonl } } }
`).
		Example("Two topics", "", "input:\n  kafka_records:\n    seed_brokers: [localhost:9092]\n    topics: [logins, ids]\n").
		Example("A share of a topic, over TLS with a password", "", "input:\n  kafka_records:\n    seed_brokers: [kafka.example.com:9093]\n    topics: [logins]\n    partitions: 1/4\n"+
			"    consumer_group: tocsin-logins\n    tls: { enabled: true }\n    sasl: { mechanism: SCRAM-SHA-512, username: tocsin, password_env: KAFKA_PASSWORD }\n").
		Example("Records with schemas", "", "input:\n  kafka_records:\n    seed_brokers: [localhost:9092]\n    topics: [logins]\n    schema_registry: { url: \"http://localhost:8081\", username: tocsin, password_env: KAFKA_PASSWORD }\n")
}

func init() {
	err := service.RegisterBatchInput("kafka_records", kafkaRecordsSpec(),
		func(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
			return newKafkaRecords(conf, res)
		})
	if err != nil {
		panic(err)
	}
}

// kafkaRecords is the input.
type kafkaRecords struct {
	conf   kafka.Input
	link   *link
	reader *kafka.Reader
	member *kafka.Member // instead, without a detect buffer
	pause  pause

	messages service.BatchInput // of the member
	once     sync.Once
}

func newKafkaRecords(conf *service.ParsedConfig, res *service.Resources) (*kafkaRecords, error) {
	c, err := decodeParsed(conf, "kafka_records", decodeKafkaRecords)
	if err != nil {
		return nil, err
	}
	c.Log = kafka.Log{Warn: res.Logger().Warnf, Info: res.Logger().Infof}
	if c.Registry != nil {
		c.Registry.Log = c.Log
	}
	return &kafkaRecords{conf: c, link: linkOf(res)}, nil
}

// What is wrong with positions that nobody keeps, or two.
var (
	errNoDetect = errors.New("needs a `detect` buffer behind it, which keeps its positions, or `group`, the consumer group that does")
	errTwice    = errors.New("has a `detect` buffer behind it, which keeps its positions: remove `group`; `consumer_group` is told them")
)

// Connect asks the state where to start. Benthos tries again what may pass.
func (in *kafkaRecords) Connect(ctx context.Context) error {
	at, err := in.link.start(ctx)
	if err != nil {
		return service.ErrEndOfInput // the buffer says why
	}
	switch {
	case in.link.detect && in.conf.Member != "":
		return in.fail(errTwice)
	case in.conf.Member != "":
		return in.join(ctx)
	case !in.link.detect:
		return in.fail(errNoDetect)
	}
	positions := make(map[string]kafka.Position, len(at))
	for name, p := range at {
		positions[name] = kafka.Position(p)
	}
	if in.reader, err = kafka.Open(ctx, in.conf, positions); err != nil {
		return in.later(ctx, err)
	}
	in.link.run.lags.add(in, in.reader.Lags)
	in.link.follows(follower{in.reader.Committed, in.close})
	return nil
}

// join becomes a member of the group.
func (in *kafkaRecords) join(ctx context.Context) (err error) {
	if in.link.run.Fresh {
		in.conf.Log.Warn("kafka_records: --fresh leaves the offsets of group %s as they are", in.conf.Member)
	}
	if in.member, err = kafka.OpenMember(ctx, in.conf); err != nil {
		return in.later(ctx, err)
	}
	in.messages = service.AutoRetryNacksBatched(&recordMessages{in.member})
	in.link.run.lags.add(in, in.member.Lags)
	return nil
}

// later is an error after which Benthos tries again in a while, or the end of the input.
func (in *kafkaRecords) later(ctx context.Context, err error) error {
	if err = in.fail(err); err != service.ErrEndOfInput {
		in.pause.wait(ctx)
	}
	return err
}

// fail ends the input, and the process with it, if an error will not pass.
func (in *kafkaRecords) fail(err error) error {
	var stop *kafka.Stop
	if errors.As(err, &stop) || errors.Is(err, errNoDetect) || errors.Is(err, errTwice) {
		in.link.run.fail(fmt.Errorf("kafka_records: %w", err))
		return service.ErrEndOfInput
	}
	return err
}

// ReadBatch hands over one block, or with no detect buffer behind messages.
func (in *kafkaRecords) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	if in.messages != nil {
		batch, ack, err := in.messages.ReadBatch(ctx)
		return batch, ack, in.ended(err)
	}
	b, err := in.reader.Next(ctx)
	if err = in.ended(err); err != nil {
		return nil, nil, err
	}
	msg := service.NewMessage(nil)
	msg.SetStructured(b)
	return service.MessageBatch{msg}, noAck, nil
}

// ended is what Benthos is told of an error of reading.
func (in *kafkaRecords) ended(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return service.ErrEndOfInput
	case err != nil:
		return in.fail(err)
	}
	return nil
}

// Close stops reading. The reader goes on publishing what is committed until the buffer has ended.
func (in *kafkaRecords) Close(context.Context) error {
	switch {
	case in.member != nil:
		in.once.Do(func() {
			in.link.run.lags.add(in, nil)
			in.member.Close()
		})
	case in.reader == nil:
	case in.conf.Group == "":
		in.close()
	default:
		in.reader.Stop()
	}
	return nil
}

func (in *kafkaRecords) close() {
	in.once.Do(func() {
		in.link.run.lags.add(in, nil)
		in.reader.Close()
	})
}
