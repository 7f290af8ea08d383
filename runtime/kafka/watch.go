package kafka

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// watchEvery is how often the topics are looked at; tests are in a hurry.
var watchEvery = 5 * time.Second

// How often a topic must not be there to be gone, and how often partitions that may have records nobody could read are kept active.
const (
	missingMax = 3
	beatEvery  = time.Second
)

// watch looks for partitions that were added and topics that were deleted or made anew, and keeps partitions from becoming idle while a
// broker does not answer.
func (r *Reader) watch() {
	look, beat := time.NewTicker(r.every), time.NewTicker(min(beatEvery, r.every))
	defer look.Stop()
	defer beat.Stop()
	missing := map[string]int{}
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-beat.C:
			r.beat()
		case <-look.C:
			if err := r.look(missing); err != nil {
				r.stop(err)
				return
			}
		}
	}
}

// beat hands over an empty block of each partition while a broker is away, or of those that wait for schemas: a partition that cannot
// be read is not silent.
func (r *Reader) beat() {
	away := r.health.troubled()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.say) > 0 {
		return // the receiver is behind anyway
	}
	for _, parts := range r.parts {
		for _, p := range parts {
			if away || p.asking {
				r.say = append(r.say, p.mark(event.NoMark, true))
			}
		}
	}
	signal(r.wake)
}

// look compares the topics with what is read of them; missing counts how often one was not there. Only a *Stop is an error: whatever
// else is wrong with the cluster will pass.
func (r *Reader) look(missing map[string]int) error {
	ctx, done := context.WithTimeout(r.ctx, patience)
	defer done()
	topics, err := r.adm.ListTopics(ctx, r.in.Topics...)
	if err != nil {
		return nil
	}
	if err := r.in.gone(topics, missing); err != nil {
		return err
	}
	for _, name := range r.in.Topics {
		if t, ok := topics[name]; ok && t.Err == nil {
			if err := r.compare(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// gone says which topic was not there too often; missing counts how often each was not.
func (in Input) gone(topics kadm.TopicDetails, missing map[string]int) error {
	for _, name := range in.Topics {
		if t, ok := topics[name]; ok && !errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
			missing[name] = 0
		} else if missing[name]++; missing[name] >= missingMax {
			return stopf("topic %s was deleted; correct `topics`, or make it anew: %s", name, in.lostSteps())
		}
	}
	return nil
}

// compare stops at a topic that was made anew, and adds partitions that are new: from their first record, whatever `start` says, for
// nobody has read any of it.
func (r *Reader) compare(ctx context.Context, t kadm.TopicDetail) error {
	var added []int32
	r.mu.Lock()
	parts := r.parts[t.Topic]
	for _, num := range t.Partitions.Numbers() {
		p := parts[num]
		if p == nil && r.in.Share.takes(num) {
			added = append(added, num)
		}
		if p != nil && p.id != t.ID && p.id != (kadm.TopicID{}) && t.ID != (kadm.TopicID{}) {
			r.mu.Unlock()
			return stopf("topic %s was deleted and made anew while it was read; %s", t.Topic, lostSteps)
		}
	}
	r.mu.Unlock()
	if len(added) == 0 {
		return nil
	}
	slices.Sort(added)
	fresh, err := r.in.locate(ctx, r.adm, kadm.TopicDetails{t.Topic: t}, map[string][]int32{t.Topic: added}, Earliest, nil)
	if err != nil {
		r.in.Log.warn("kafka_records: topic %s has partitions that are new, %v, and cannot be read yet: %v", t.Topic, added, err)
		return nil
	}
	r.in.Log.info("kafka_records: topic %s has new partitions: %v", t.Topic, added)
	r.add(fresh)
	return nil
}
