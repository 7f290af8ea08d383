package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// How much is fetched and kept ahead: an answer of a broker, of which one may wait in the client, and what was polled.
const (
	fetchMax  = 8 << 20
	aheadMax  = 16 << 20
	fetchWait = 500 * time.Millisecond
)

// Reader reads the partitions of an Input into blocks. One goroutine polls the client and puts records into the queues of their
// partitions; Next makes a block of a queue, as far as the receiver's credit goes. A live reader stops polling while much waits. A
// bounded one may not, since the receiver may wait for just the partition that has nothing: then those that have enough are paused.
type Reader struct {
	in      Input
	client  *kgo.Client
	adm     *kadm.Client
	health  *health
	schemas *registry // nil: none
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	blocks  sync.Pool
	wake    chan struct{} // for Next
	room    chan struct{} // for poll

	mu    sync.Mutex
	parts map[string]map[int32]*part
	ready []*part        // whose queues are not empty, by arrival
	say   []*event.Block // marks, before anything else
	ahead int            // bytes in queues
	open  int            // partitions that have not ended
	err   error          // why reading stopped

	publish *publisher // nil: no group
	every   time.Duration
}

// Open finds out where to begin and starts reading. The error is a *Stop if trying again will not help.
func Open(ctx context.Context, in Input, positions map[string]Position) (*Reader, error) {
	var schemas *registry
	if in.Registry != nil {
		var err error
		if schemas, err = in.Registry.open(); err != nil {
			return nil, err
		}
	}
	client, h, err := in.connect(ctx, kgo.FetchMaxBytes(fetchMax), kgo.FetchMaxWait(fetchWait), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return nil, err
	}
	r := &Reader{in: in, client: client, schemas: schemas, adm: kadm.NewClient(client), health: h, parts: map[string]map[int32]*part{},
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), every: watchEvery}
	r.blocks.New = r.newBlock
	asking, done := context.WithTimeout(ctx, patience)
	defer done()
	parts, err := in.plan(asking, r.adm, positions)
	if err != nil {
		client.Close()
		return nil, err
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if in.Group != "" {
		r.publish = newPublisher(in.Group, r.adm, in.Log)
		r.work.Go(func() { r.publish.run(r.ctx) })
	}
	r.add(parts)
	if !in.UntilEnd {
		// An empty block lets announcements be taken, and with them where a partition without records begins.
		r.say = append(r.say, parts[0].mark(event.NoMark, true))
		r.work.Go(r.watch)
	}
	r.work.Go(r.poll)
	return r, nil
}

// add announces partitions and begins to fetch them.
func (r *Reader) add(parts []*part) {
	from := map[string]map[int32]kgo.Offset{}
	r.mu.Lock()
	for _, p := range parts {
		if r.parts[p.topic] == nil {
			r.parts[p.topic] = map[int32]*part{}
		}
		r.parts[p.topic][p.num] = p
		p.credit = aheadLive
		r.say = append(r.say, p.mark(event.Announce, !r.in.UntilEnd))
		r.open++
		if r.in.UntilEnd {
			p.credit = aheadBounded
			if p.over = p.next >= p.end; p.over {
				r.list(p)
				continue
			}
		}
		if from[p.topic] == nil {
			from[p.topic] = map[int32]kgo.Offset{}
		}
		from[p.topic][p.num] = kgo.NoResetOffset().At(p.next)
		if r.publish != nil {
			r.publish.note(p.topic, p.num, p.next)
		}
	}
	r.mu.Unlock()
	if len(from) > 0 {
		r.client.AddConsumePartitions(from)
	}
	signal(r.wake)
}

// list puts a partition into the queue of those that have something to hand over.
func (r *Reader) list(p *part) {
	if !p.listed {
		p.listed = true
		r.ready = append(r.ready, p)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Next returns the next block: announcements first, then records as they come; io.EOF after the end of a bounded input, a *Stop if
// reading cannot go on.
func (r *Reader) Next(ctx context.Context) (*event.Block, error) {
	for {
		b, p, recs, err := r.pick()
		switch {
		case b != nil || err != nil:
			return b, err
		case p != nil:
			return r.block(p, recs), nil
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.ctx.Done():
			return nil, io.EOF
		}
	}
}

// pick returns a mark, or the records of the next block, or why there are none any more.
func (r *Reader) pick() (b *event.Block, p *part, recs []*kgo.Record, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return nil, nil, nil, r.err
	case len(r.say) > 0:
		b, r.say = r.say[0], r.say[1:]
		return b, nil, nil, nil
	case r.open == 0:
		return nil, nil, nil, io.EOF
	}
	for i, p := range r.ready {
		if len(p.queue) > 0 && (p.credit == 0 || p.asking || r.ask(p)) {
			continue
		}
		r.ready = append(r.ready[:i], r.ready[i+1:]...)
		p.listed = false
		if len(p.queue) == 0 { // its end, then
			p.done = true
			r.open--
			return p.mark(event.Finished, false), nil, nil, nil
		}
		p.credit--
		was := p.size
		recs = p.cut()
		r.ahead -= was - p.size
		if len(p.queue) > 0 || p.over {
			r.list(p)
		}
		signal(r.room)
		return nil, p, recs, nil
	}
	return nil, nil, nil, nil
}

// ask looks whether the schemas of a partition's next block are known; if not, it waits for them, and others go on.
func (r *Reader) ask(p *part) bool {
	if r.schemas == nil {
		return false
	}
	ids := r.schemas.missing(func(yield func([]byte) bool) {
		for _, rec := range ahead(p.queue) {
			if len(rec.Value) <= r.in.RecordMax && !yield(rec.Value) {
				return
			}
		}
	})
	if len(ids) == 0 {
		return false
	}
	p.asking = true
	r.work.Go(func() {
		err := r.schemas.learn(r.ctx, ids)
		r.mu.Lock()
		p.asking = false
		r.mu.Unlock()
		if err != nil && r.ctx.Err() == nil {
			r.stop(err)
		}
		signal(r.wake)
	})
	return true
}

func (r *Reader) newBlock() any {
	b := &block{}
	b.Data = make([]byte, 0, blockBytes)
	b.Beside = b.beside
	b.OnRelease(func(*event.Block) { r.release(b) })
	return b
}

func (r *Reader) block(p *part, recs []*kgo.Record) *event.Block {
	b := r.blocks.Get().(*block)
	b.fill(p, recs, !r.in.UntilEnd, r.in.RecordMax)
	if r.schemas != nil {
		b.Schemas = r.schemas.find
	}
	return &b.Block
}

// release takes a block back, and with it a credit. Memory that grew for a long record is let go.
func (r *Reader) release(b *block) {
	p := b.part
	b.part, b.records = nil, nil
	if cap(b.Data) > 2*blockBytes {
		b.Data = make([]byte, 0, blockBytes)
	}
	r.blocks.Put(b)
	r.mu.Lock()
	p.credit++
	r.mu.Unlock()
	signal(r.wake)
}

// poll takes what the client has fetched, until the reader is closed or has read everything.
func (r *Reader) poll() {
	for r.await() {
		fetches := r.client.PollFetches(r.ctx)
		if r.ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachPartition(r.take)
	}
}

// await waits until there is room for more records; false: no more are wanted.
func (r *Reader) await() bool {
	for {
		switch more, over := r.wants(); {
		case over:
			return false
		case more:
			return true
		}
		select {
		case <-r.room:
		case <-r.ctx.Done():
			return false
		}
	}
}

// wants says whether to poll. A bounded input is polled beyond its room while a partition has nothing, and pauses those with enough.
func (r *Reader) wants() (more, over bool) {
	pause, resume := map[string][]int32{}, map[string][]int32{}
	r.mu.Lock()
	over = r.in.UntilEnd
	full := r.ahead >= aheadMax
	more = !full
	enough := aheadMax / max(r.open, 1)
	for _, parts := range r.parts {
		for _, p := range parts {
			if !r.in.UntilEnd || p.over {
				continue
			}
			over = false
			more = more || len(p.queue) == 0
			if stop := full && p.size >= enough; stop != p.paused {
				p.paused = stop
				if stop {
					pause[p.topic] = append(pause[p.topic], p.num)
				} else {
					resume[p.topic] = append(resume[p.topic], p.num)
				}
			}
		}
	}
	over = over || r.err != nil
	r.mu.Unlock()
	if len(pause) > 0 {
		r.client.PauseFetchPartitions(pause)
	}
	if len(resume) > 0 {
		r.client.ResumeFetchPartitions(resume)
	}
	return more, over
}

// take puts what was fetched of a partition into its queue.
func (r *Reader) take(f kgo.FetchTopicPartition) {
	r.mu.Lock()
	p := r.parts[f.Topic][f.Partition]
	r.mu.Unlock()
	if f.Err != nil {
		r.fault(p, f)
	}
	if p == nil || len(f.Records) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.high = f.HighWatermark
	for _, rec := range f.Records {
		if r.in.UntilEnd && rec.Offset >= p.end || rec.Offset < p.next {
			continue
		}
		p.next = rec.Offset + 1
		if rec.Attrs.IsControl() { // of a transaction
			continue
		}
		n := recordSize(rec)
		p.queue, p.size, r.ahead = append(p.queue, rec), p.size+n, r.ahead+n
	}
	last := f.Records[len(f.Records)-1].Offset
	if r.in.UntilEnd && last >= p.end-1 && !p.over {
		p.over = true
		r.client.PauseFetchPartitions(map[string][]int32{p.topic: {p.num}})
	}
	if len(p.queue) > 0 || p.over && !p.done {
		r.list(p)
		signal(r.wake)
	}
}

// fault stops the reader for what no retry mends.
func (r *Reader) fault(p *part, f kgo.FetchTopicPartition) {
	at := int64(-1)
	if p != nil {
		r.mu.Lock()
		at = p.next
		r.mu.Unlock()
	}
	if err := r.in.fault(r.health, f, at); err != nil {
		r.stop(err)
	}
}

// fault says why the error of a fetch, at an offset, stops reading; nil: the client tries again, which is said.
func (in Input) fault(h *health, f kgo.FetchTopicPartition, at int64) error {
	err := f.Err
	where := fmt.Sprintf("topic %s, partition %d, offset %d", f.Topic, f.Partition, at)
	var loss *kgo.ErrDataLoss
	var large *kgo.ErrDecompressTooLarge
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed):
	case errors.Is(err, kerr.OffsetOutOfRange):
		return stopf("%s: the offset is not there any more: it was deleted before it was read (retention), or the cluster has lost records; %s", where, in.lostSteps())
	case errors.As(err, &loss):
		return stopf("%s: the cluster has lost records: %w; %s", where, err, in.lostSteps())
	case errors.Is(err, kerr.UnknownTopicID):
		return stopf("topic %s was deleted, and perhaps made anew; %s", f.Topic, in.lostSteps())
	case errors.As(err, &large):
		return stopf("%s: a batch grows to more than %d MiB when it is decompressed: %w", where, decompressMax>>20, err)
	case forbidden(err):
		return stopf("%s: %w", where, lookError(err))
	case kerr.IsRetriable(err), !isKafka(err):
		if h.first(where + err.Error()) {
			in.Log.warn("kafka_records: %s: %v; trying again", where, err)
		}
	default:
		return stopf("%s: %w", where, err)
	}
	return nil
}

// isKafka says whether a broker has answered with the error.
func isKafka(err error) bool {
	var ke *kerr.Error
	return errors.As(err, &ke)
}

func (r *Reader) stop(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	r.mu.Unlock()
	signal(r.wake)
	signal(r.room)
}

// Committed tells how far partitions are read for good, by name; the group's offsets follow.
func (r *Reader) Committed(at map[string]int64) {
	if r.publish == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, parts := range r.parts {
		for num, p := range parts {
			if next, ok := at[p.name]; ok {
				r.publish.note(topic, num, next)
			}
		}
	}
}

// Stop ends reading: Next returns io.EOF. The group's offsets are published until Close.
func (r *Reader) Stop() {
	r.mu.Lock()
	if r.err == nil {
		r.err = io.EOF
	}
	r.mu.Unlock()
	signal(r.wake)
	signal(r.room)
}

// Close publishes the last offsets and gives up the connections.
func (r *Reader) Close() {
	r.cancel()
	r.work.Wait()
	r.client.Close()
}
