package pipeline

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/kafka"
)

// recordMessages are ordinary messages, one a record, for pipelines without a detect buffer: the group keeps how far they were acknowledged.
type recordMessages struct{ member *kafka.Member }

// Connect does nothing: the input is connected.
func (m *recordMessages) Connect(context.Context) error { return nil }

// ReadBatch returns records of one partition.
func (m *recordMessages) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	records, acked, err := m.member.Next(ctx)
	if err != nil {
		return nil, nil, err
	}
	batch := make(service.MessageBatch, len(records))
	for i := range records {
		batch[i] = recordMessage(&records[i])
	}
	return batch, func(_ context.Context, err error) error {
		if err == nil {
			acked()
		}
		return nil
	}, nil
}

// Close does nothing: the input closes itself.
func (m *recordMessages) Close(context.Context) error { return nil }

// recordMessage is a record as a message. What Kafka knows of it has the names that it has in front of a detect buffer.
func recordMessage(r *kafka.Record) *service.Message {
	m := service.NewMessage(r.Value)
	partition, offset := strconv.Itoa(int(r.Partition)), strconv.FormatInt(r.Offset, 10)
	m.MetaSetMut("topic", r.Topic)
	m.MetaSetMut("partition", partition)
	m.MetaSetMut("position", r.Topic+"/"+partition+"@"+offset)
	m.MetaSetMut("_offset", offset)
	m.MetaSetMut("_timestamp", strconv.FormatInt(r.Timestamp, 10))
	if r.Key != nil {
		m.MetaSetMut("_key", string(r.Key))
	}
	for _, h := range r.Headers {
		m.MetaSetMut("_headers."+h.Name, string(h.Value))
	}
	if r.Fault != "" {
		m.SetError(fmt.Errorf("kafka_records: %s", r.Fault))
	}
	return m
}
