package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Output says where to write.
type Output struct {
	Cluster
	Topic       string
	Compression string        // none, gzip, snappy, lz4 or zstd
	Timeout     time.Duration // until a row that no broker has acknowledged counts as rejected
}

// Row is a record to write. Partitions follow from the key as every Kafka client computes them.
type Row struct {
	Key, Value []byte
	Headers    []Header
}

// Header is a header of a record.
type Header struct {
	Name  string
	Value []byte
}

// Writer writes rows as records of one topic.
type Writer struct {
	out    Output
	client *kgo.Client
}

// linger lets the rows of one Write gather; flushing ends it.
const linger = 20 * time.Millisecond

var codecs = map[string]func() kgo.CompressionCodec{"none": kgo.NoCompression, "gzip": kgo.GzipCompression, "snappy": kgo.SnappyCompression,
	"lz4": kgo.Lz4Compression, "zstd": kgo.ZstdCompression}

// Codecs are what Output.Compression may be.
var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// OpenWriter connects and looks whether the topic is there. Every error may go away, but for *Stop.
//
// The producer is idempotent and waits for all replicas in sync. A row whose time is up is given back although a broker may have it:
// whoever writes it again writes it twice, under the same id.
func OpenWriter(ctx context.Context, out Output) (*Writer, error) {
	client, h, err := out.connect(ctx, kgo.DefaultProduceTopicAlways(), kgo.DefaultProduceTopic(out.Topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(codecs[out.Compression]()), kgo.ProducerLinger(linger), kgo.RecordDeliveryTimeout(out.Timeout),
		kgo.AllowIdempotentProduceCancellation(), kgo.MaxBufferedRecords(1<<20))
	if err != nil {
		return nil, err
	}
	asking, done := context.WithTimeout(ctx, patience)
	defer done()
	if err := hasTopic(asking, client, out.Topic); err != nil {
		client.Close()
		if last := h.lastError(); last != nil {
			err = last
		}
		return nil, err
	}
	return &Writer{out: out, client: client}, nil
}

// Write writes the rows, in order, and waits until each was acknowledged or has failed. errs has an error a row, nil for those that are
// written; err is one of them, nil if there is none.
func (w *Writer) Write(ctx context.Context, rows []Row) (errs []error, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.out.Timeout)
	defer cancel()
	records := make([]kgo.Record, len(rows))
	errs = make([]error, len(rows))
	var wait sync.WaitGroup
	wait.Add(len(rows))
	for i := range rows {
		rec := &records[i]
		rec.Key, rec.Value = rows[i].Key, rows[i].Value
		if rec.Value == nil {
			rec.Value = []byte{} // nil would be a tombstone
		}
		for _, h := range rows[i].Headers {
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		w.client.Produce(ctx, rec, func(_ *kgo.Record, err error) {
			errs[i] = w.explain(err)
			wait.Done()
		})
	}
	_ = w.client.Flush(ctx) // whatever becomes of it, each record says what became of it
	wait.Wait()
	for _, e := range errs {
		if e != nil {
			return errs, e
		}
	}
	return errs, nil
}

// explain says what to do about a rejected row.
func (w *Writer) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("topic %s: a row is larger than the broker's message.max.bytes, or 1 MB: %w", w.out.Topic, err)
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return fmt.Errorf("topic %s does not exist any more; create it: %w", w.out.Topic, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("topic %s: the user needs WRITE on it: %w", w.out.Topic, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrRecordTimeout):
		return fmt.Errorf("topic %s: no broker has acknowledged a row within %s: %w", w.out.Topic, w.out.Timeout, err)
	}
	return fmt.Errorf("topic %s: %w", w.out.Topic, err)
}

// Close gives up the connections; rows that were not acknowledged have failed.
func (w *Writer) Close() { w.client.Close() }
