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
	"github.com/twmb/franz-go/pkg/kmsg"
)

// How often a member tells the group what is acknowledged, how long that may take, and how long it waits for acknowledgements of
// partitions that it must give up.
const (
	commitEvery = time.Second
	commitMax   = 5 * time.Second
	drainMax    = 10 * time.Second
	missedAfter = 10 * time.Second // a member that says nothing any more; brokers take no less than 6s unless they are told to
	dealMax     = 20 * time.Second // how long members have for giving partitions up: drainMax, commitMax and some
)

// lookEvery is how soon a member sees partitions that are new; tests are in a hurry.
var lookEvery = 10 * time.Second

// Member reads topics as a member of a consumer group, which deals the partitions out: for pipelines without state. The group's offset of
// a partition is behind the last record of which all before it, and it itself, are acknowledged; it follows within a second, and before a
// partition goes to another member. What is not acknowledged when a partition must be given up is read by the next member as well.
//
// A record's bytes belong to whoever gets it.
type Member struct {
	in     Input
	client *kgo.Client
	adm    *kadm.Client
	health *health
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	wake   chan struct{} // for Next
	room   chan struct{} // for poll
	acked  chan struct{} // for revoked

	mu      sync.Mutex
	parts   map[string]map[int32]*held
	ready   []*held // whose queues are not empty
	ahead   int     // bytes in queues
	err     error   // why reading stopped
	closing bool    // nobody acknowledges any more
}

// held is a partition from its assignment to its revocation.
type held struct {
	topic  string
	num    int32
	queue  []*kgo.Record // polled, not handed over
	size   int           // bytes of queue
	next   int64         // of the next record that may come
	high   int64         // where the partition ended at the last fetch; 0: not known
	listed bool          // in Member.ready

	out  []*lent         // handed over and not acknowledged in order
	done kgo.EpochOffset // of the first record that is not acknowledged
	told int64           // what of that the group knows
}

// lent are the records of a batch that was handed over.
type lent struct {
	next  kgo.EpochOffset
	acked bool
}

// Record is a record as a member hands it over.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte // nil: none
	Value     []byte
	Timestamp int64 // epoch milliseconds
	Headers   []Header
	Fault     string // tombstone, or record_too_long: Value is cut
}

// OpenMember joins the group in.Member. The error is a *Stop if trying again will not help.
func OpenMember(ctx context.Context, in Input) (*Member, error) {
	m := &Member{in: in, parts: map[string]map[int32]*held{}, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), acked: make(chan struct{}, 1)}
	lost := kgo.NoResetOffset()
	switch in.Lost {
	case "earliest":
		lost = kgo.NewOffset().AtStart()
	case "latest":
		lost = kgo.NewOffset().AtEnd()
	}
	client, h, err := in.connect(ctx, kgo.FetchMaxBytes(fetchMax), kgo.FetchMaxWait(fetchWait), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumerGroup(in.Member), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(lost),
		kgo.SessionTimeout(missedAfter), kgo.RebalanceTimeout(dealMax), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.MetadataMaxAge(lookEvery), kgo.AdjustFetchOffsetsFn(m.begin),
		kgo.OnPartitionsAssigned(m.assigned), kgo.OnPartitionsRevoked(m.revoked), kgo.OnPartitionsLost(m.lost))
	if err != nil {
		return nil, err
	}
	m.client, m.adm, m.health = client, kadm.NewClient(client), h
	asking, done := context.WithTimeout(ctx, patience)
	defer done()
	if _, err := in.look(asking, m.adm); err != nil {
		client.CloseAllowingRebalance()
		return nil, err
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	client.AddConsumeTopics(in.Topics...) // joins the group; before this nothing calls back
	m.work.Go(m.poll)
	m.work.Go(m.tell)
	return m, nil
}

// Next returns records of one partition, and what is to be called once all of them are safe, at most 4096 or 128 KiB unless one is longer.
// The error is io.EOF after Close, a *Stop if reading cannot go on.
func (m *Member) Next(ctx context.Context) (records []Record, acked func(), err error) {
	for {
		p, recs, out, err := m.pick()
		switch {
		case err != nil:
			return nil, nil, err
		case p != nil:
			return handed(recs, m.in.RecordMax), func() { m.ack(p, out) }, nil
		}
		select {
		case <-m.wake:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-m.ctx.Done():
			return nil, nil, io.EOF
		}
	}
}

// pick takes the records of the next batch.
func (m *Member) pick() (*held, []*kgo.Record, *lent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, nil, nil, m.err
	}
	for len(m.ready) > 0 {
		p := m.ready[0]
		m.ready = m.ready[1:]
		if p.listed = false; len(p.queue) == 0 { // it was revoked
			continue
		}
		recs := ahead(p.queue)
		p.queue = p.queue[len(recs):]
		for _, r := range recs {
			p.size -= recordSize(r)
			m.ahead -= recordSize(r)
		}
		last := recs[len(recs)-1]
		out := &lent{next: kgo.EpochOffset{Epoch: last.LeaderEpoch, Offset: last.Offset + 1}}
		p.out = append(p.out, out)
		m.list(p)
		signal(m.room)
		return p, recs, out, nil
	}
	return nil, nil, nil, nil
}

// list puts a partition into the queue of those that have something to hand over.
func (m *Member) list(p *held) {
	if !p.listed && len(p.queue) > 0 {
		p.listed = true
		m.ready = append(m.ready, p)
		signal(m.wake)
	}
}

// ack moves the offset of a partition behind what is acknowledged in order. Of one that was given up nobody asks any more.
func (m *Member) ack(p *held, out *lent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out.acked = true
	for len(p.out) > 0 && p.out[0].acked {
		p.done = p.out[0].next
		p.out = p.out[1:]
	}
	signal(m.acked)
}

// handed are records as others see them.
func handed(recs []*kgo.Record, valueMax int) []Record {
	out := make([]Record, len(recs))
	for i, r := range recs {
		x := Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Timestamp: r.Timestamp.UnixMilli()}
		x.Value, x.Fault = valueOf(r, valueMax)
		for _, h := range r.Headers {
			x.Headers = append(x.Headers, Header{h.Key, h.Value})
		}
		out[i] = x
	}
	return out
}

// poll takes what the client has fetched. The group may deal partitions out anew at any time but while that is being put into queues, or
// a partition could be given up, come back, and have older records behind newer ones.
func (m *Member) poll() {
	for m.await() {
		fetches := m.client.PollFetches(m.ctx)
		if m.ctx.Err() == nil && !fetches.IsClientClosed() {
			fetches.EachPartition(m.take)
		}
		m.client.AllowRebalance()
	}
}

// await waits until there is room for more records; false: no more are wanted.
func (m *Member) await() bool {
	for {
		m.mu.Lock()
		full, over := m.ahead >= aheadMax, m.err != nil
		m.mu.Unlock()
		if over || m.ctx.Err() != nil {
			return false
		}
		if !full {
			return true
		}
		select {
		case <-m.room:
		case <-m.ctx.Done():
		}
	}
}

// take puts what was fetched of a partition into its queue.
func (m *Member) take(f kgo.FetchTopicPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.parts[f.Topic][f.Partition]
	at := int64(-1)
	if p != nil {
		at = p.next
	}
	if f.Err != nil {
		m.stopped(m.fault(f, at))
	}
	if p == nil {
		return
	}
	p.high = max(p.high, f.HighWatermark)
	for _, r := range f.Records {
		p.next = r.Offset + 1
		p.queue, p.size, m.ahead = append(p.queue, r), p.size+recordSize(r), m.ahead+recordSize(r)
	}
	m.list(p)
}

// fault says what a fetch's error stops.
func (m *Member) fault(f kgo.FetchTopicPartition, at int64) error {
	var session *kgo.ErrGroupSession
	if errors.As(f.Err, &session) {
		return m.groupFault(session.Err)
	}
	return m.in.fault(m.health, f, at)
}

// groupFault says which errors of a group no retry mends; others are said, and the client tries again.
func (m *Member) groupFault(err error) error {
	switch {
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed):
		return stopf("group %s: %w; the user needs READ on the group and on the topics", m.in.Member, err)
	case errors.Is(err, kerr.InvalidGroupID), errors.Is(err, kerr.InconsistentGroupProtocol), errors.Is(err, kerr.GroupMaxSizeReached):
		return stopf("group %s: %w; give this pipeline a `group` of its own", m.in.Member, err)
	}
	if m.ctx.Err() == nil && m.health.first("group: "+err.Error()) {
		m.in.Log.warn("kafka_records: group %s: %v; trying again", m.in.Member, err)
	}
	return nil
}

// stopped ends reading for a reason, if there is one. The caller holds mu.
func (m *Member) stopped(err error) {
	if err == nil {
		return
	}
	if m.err == nil {
		m.err = err
	}
	signal(m.wake)
	signal(m.room)
}

// assigned begins partitions.
func (m *Member) assigned(_ context.Context, _ *kgo.Client, all map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for topic, nums := range all {
		if m.parts[topic] == nil {
			m.parts[topic] = map[int32]*held{}
		}
		for _, num := range nums {
			m.parts[topic][num] = &held{topic: topic, num: num, done: kgo.EpochOffset{Offset: -1}, told: -1}
		}
	}
}

// revoked gives partitions up: nothing of them is handed over any more, what is under way has some time, and what is acknowledged then is
// told to the group.
func (m *Member) revoked(ctx context.Context, _ *kgo.Client, all map[string][]int32) {
	m.mu.Lock()
	m.each(all, m.drop)
	m.mu.Unlock()
	m.drain(ctx, all)
	ctx, done := context.WithTimeout(ctx, commitMax)
	defer done()
	m.commit(ctx)
	m.forget(all)
}

// lost gives partitions up that others have already.
func (m *Member) lost(_ context.Context, _ *kgo.Client, all map[string][]int32) { m.forget(all) }

func (m *Member) forget(all map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.each(all, func(p *held) {
		m.drop(p)
		delete(m.parts[p.topic], p.num)
	})
}

// each calls f with those of the partitions that are held. The caller holds mu.
func (m *Member) each(all map[string][]int32, f func(p *held)) {
	for topic, nums := range all {
		for _, num := range nums {
			if p := m.parts[topic][num]; p != nil {
				f(p)
			}
		}
	}
}

// drop forgets what was polled and not handed over. The caller holds mu.
func (m *Member) drop(p *held) {
	m.ahead -= p.size
	p.queue, p.size = nil, 0
	signal(m.room)
}

// drain waits until everything that was handed over of some partitions is acknowledged, for a while.
func (m *Member) drain(ctx context.Context, all map[string][]int32) {
	late := time.NewTimer(drainMax)
	defer late.Stop()
	for {
		m.mu.Lock()
		left := 0
		m.each(all, func(p *held) { left += len(p.out) })
		closing := m.closing
		m.mu.Unlock()
		if left == 0 || closing {
			return
		}
		select {
		case <-m.acked:
		case <-ctx.Done():
			return
		case <-late.C:
			m.in.Log.warn("kafka_records: group %s takes partitions from us of which %d batches are not acknowledged: they will be read twice", m.in.Member, left)
			return
		}
	}
}

// tell commits what is acknowledged, every now and then, and looks whether the topics are still there.
func (m *Member) tell() {
	tick, look := time.NewTicker(commitEvery), time.NewTicker(watchEvery)
	defer tick.Stop()
	defer look.Stop()
	missing := map[string]int{}
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
			ctx, done := context.WithTimeout(m.ctx, commitMax)
			m.commit(ctx)
			done()
		case <-look.C:
			ctx, done := context.WithTimeout(m.ctx, patience)
			topics, err := m.adm.ListTopics(ctx, m.in.Topics...)
			done()
			if err == nil {
				m.mu.Lock()
				m.stopped(m.in.gone(topics, missing))
				m.mu.Unlock()
			}
		}
	}
}

// commit tells the group what is acknowledged of the partitions that are held.
func (m *Member) commit(ctx context.Context) {
	at := map[string]map[int32]kgo.EpochOffset{}
	m.mu.Lock()
	for topic, parts := range m.parts {
		for num, p := range parts {
			if p.done.Offset <= p.told {
				continue
			}
			if at[topic] == nil {
				at[topic] = map[int32]kgo.EpochOffset{}
			}
			at[topic][num] = p.done
		}
	}
	m.mu.Unlock()
	if len(at) == 0 {
		return
	}
	if err := m.commitAt(ctx, at); err != nil {
		m.mu.Lock()
		m.stopped(m.groupFault(fmt.Errorf("offsets could not be committed: %w", err)))
		m.mu.Unlock()
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for topic, parts := range at {
		for num, o := range parts {
			if p := m.parts[topic][num]; p != nil {
				p.told = max(p.told, o.Offset)
			}
		}
	}
}

// commitAt commits offsets as this member; nil if all of them are taken.
func (m *Member) commitAt(ctx context.Context, at map[string]map[int32]kgo.EpochOffset) (err error) {
	m.client.CommitOffsetsSync(ctx, at, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, e error) {
		if err = e; err != nil {
			return
		}
		for _, t := range answer.Topics {
			for _, p := range t.Partitions {
				if e := kerr.ErrorForCode(p.ErrorCode); e != nil {
					err = fmt.Errorf("topic %s, partition %d: %w", t.Topic, p.Partition, e)
				}
			}
		}
	})
	return err
}

// begin says where to begin in partitions of which the group has no offset: the client's default is the first record. With another `start`
// the first member that looks commits where all partitions of a topic begin, so that a restart begins there as well; a partition that has no
// offset after that was added later, and nobody has read any of it.
func (m *Member) begin(ctx context.Context, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	if m.in.Start == Earliest {
		return at, nil
	}
	var topics []string
	for topic, parts := range at {
		for _, o := range parts {
			if o.EpochOffset().Offset < 0 {
				topics = append(topics, topic)
				break
			}
		}
	}
	if len(topics) == 0 {
		return at, nil
	}
	known, err := m.adm.FetchOffsetsForTopics(ctx, m.in.Member, topics...)
	if err != nil {
		return nil, err
	}
	starts, err := m.in.starts(ctx, m.adm, topics)
	if err != nil {
		return nil, err
	}
	first := map[string]map[int32]kgo.EpochOffset{}
	for _, topic := range topics {
		if anyCommitted(known[topic]) {
			for num, o := range at[topic] {
				if k, ok := known.Lookup(topic, num); ok && k.At >= 0 && o.EpochOffset().Offset < 0 { // another member was faster
					at[topic][num] = kgo.NewOffset().At(k.At)
				}
			}
			continue
		}
		first[topic] = map[int32]kgo.EpochOffset{}
		for num, s := range starts[topic] {
			if s.Err != nil {
				return nil, s.Err
			}
			first[topic][num] = kgo.EpochOffset{Epoch: -1, Offset: s.Offset}
			if _, ours := at[topic][num]; ours {
				at[topic][num] = kgo.NewOffset().At(s.Offset)
			}
		}
	}
	if len(first) == 0 {
		return at, nil
	}
	return at, m.commitAt(ctx, first)
}

func anyCommitted(parts map[int32]kadm.OffsetResponse) bool {
	for _, o := range parts {
		if o.At >= 0 {
			return true
		}
	}
	return false
}

// Lags are those of the partitions that this member has.
func (m *Member) Lags() (out []Lag) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for topic, parts := range m.parts {
		for num, p := range parts {
			if p.high > 0 {
				out = append(out, Lag{topic, num, max(p.high-p.next, 0) + int64(len(p.queue))})
			}
		}
	}
	return out
}

// Close commits what is acknowledged, leaves the group and gives up the connections; what is acknowledged later is read again.
func (m *Member) Close() {
	m.mu.Lock()
	m.closing = true
	m.mu.Unlock()
	signal(m.acked)
	m.cancel()
	m.work.Wait()
	m.client.CloseAllowingRebalance()
}
