package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (f *fake) writer(topic string, timeout time.Duration) *Writer {
	f.t.Helper()
	w, err := OpenWriter(f.t.Context(), Output{Cluster: f.in.Cluster, Topic: topic, Compression: "snappy", Timeout: timeout})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(w.Close)
	return w
}

// written reads every record of a topic.
func (f *fake) written(topic string) (recs []*kgo.Record) {
	f.t.Helper()
	ends, err := f.adm.ListEndOffsets(f.t.Context(), topic)
	if err != nil {
		f.t.Fatal(err)
	}
	all := int64(0)
	ends.Each(func(o kadm.ListedOffset) { all += o.Offset })
	client, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...), kgo.ConsumeTopics(topic))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	for int64(len(recs)) < all {
		recs = append(recs, client.PollFetches(f.t.Context()).Records()...)
	}
	return recs
}

func row(i int) Row {
	return Row{Key: fmt.Append(nil, "key", i), Value: fmt.Append(nil, i), Headers: []Header{{"result_id", fmt.Append(nil, i)}, {"kind", []byte("row")}}}
}

// Rows are written once and in order a partition, although leaders move and answers are lost.
func TestWrites(t *testing.T) {
	r := seeded(t)
	var cut cutter
	f := newFake(t, 3, []string{"rows"}, kfake.ListenFn(cut.listen))
	w := f.writer("rows", 30*time.Second)
	f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend, Count: 1})
	stop := make(chan bool)
	var work sync.WaitGroup
	work.Go(func() {
		for range 3 {
			select {
			case <-stop:
				return
			case <-time.After(30 * time.Millisecond):
				f.ShufflePartitionLeaders()
				cut.all()
			}
		}
	})
	n := 0
	for range 30 {
		var rows []Row
		for range 1 + r.IntN(50) {
			rows = append(rows, row(n))
			n++
		}
		if _, err := w.Write(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	work.Wait()
	last, seen := map[int32]int{}, map[string]bool{}
	for _, rec := range f.written("rows") {
		var i int
		if _, err := fmt.Sscan(string(rec.Value), &i); err != nil {
			t.Fatal(err)
		}
		want := row(i)
		if seen[string(rec.Value)] || string(rec.Key) != string(want.Key) || len(rec.Headers) != 2 || rec.Headers[0].Key != "result_id" || string(rec.Headers[0].Value) != fmt.Sprint(i) {
			t.Fatalf("row %d: %+v", i, rec)
		}
		if i < last[rec.Partition] {
			t.Errorf("partition %d: %d after %d", rec.Partition, i, last[rec.Partition])
		}
		seen[string(rec.Value)], last[rec.Partition] = true, i
	}
	if len(seen) != n {
		t.Errorf("%d rows, want %d", len(seen), n)
	}
}

// A row that a broker does not take fails alone, with what to do about it.
func TestRejects(t *testing.T) {
	f := newFake(t, 1, []string{"rows"})
	w := f.writer("rows", 5*time.Second)
	errs, err := w.Write(t.Context(), []Row{row(1), {Value: []byte(strings.Repeat("x", 3<<20))}, row(2)})
	if err == nil || errs[0] != nil || errs[2] != nil || !errors.Is(errs[1], kerr.MessageTooLarge) || !strings.Contains(err.Error(), "message.max.bytes") {
		t.Errorf("%v, %v", errs, err)
	}
	if n := len(f.written("rows")); n != 2 {
		t.Errorf("%d rows", n)
	}
	f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if _, err := w.Write(t.Context(), []Row{row(3)}); err == nil || !strings.Contains(err.Error(), "needs WRITE") {
		t.Errorf("%v", err)
	}
}

// A value of no bytes is not a tombstone.
func TestEmptyValue(t *testing.T) {
	f := newFake(t, 1, []string{"rows"})
	if _, err := f.writer("rows", time.Second).Write(t.Context(), []Row{{}}); err != nil {
		t.Fatal(err)
	}
	if recs := f.written("rows"); len(recs) != 1 || recs[0].Value == nil {
		t.Errorf("%+v", recs)
	}
}

// Without brokers a row is given back when its time is up, and written by a later try.
func TestTimeIsUp(t *testing.T) {
	var cut cutter
	f := newFake(t, 1, []string{"rows"}, kfake.ListenFn(cut.listen))
	w := f.writer("rows", time.Second)
	h := f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: -1})
	if _, err := w.Write(t.Context(), []Row{row(1)}); err == nil || !strings.Contains(err.Error(), "no broker has acknowledged a row within 1s") {
		t.Errorf("%v", err)
	}
	h.Remove()
	for range 20 {
		if _, err := w.Write(t.Context(), []Row{row(1)}); err == nil {
			break
		}
	}
	seen := map[string]bool{}
	for _, rec := range f.written("rows") {
		seen[string(rec.Value)] = true
	}
	if len(seen) != 1 {
		t.Errorf("%v", seen)
	}
}

func TestTopicMissing(t *testing.T) {
	f := newFake(t, 1, []string{"rows"})
	_, err := OpenWriter(context.Background(), Output{Cluster: f.in.Cluster, Topic: "other", Compression: "none", Timeout: time.Second})
	var stop *Stop
	if err == nil || errors.As(err, &stop) || err.Error() != "topic other does not exist; create it, or correct `topic`" {
		t.Errorf("%v", err)
	}
}
