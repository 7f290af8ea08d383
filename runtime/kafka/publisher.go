package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// publishEvery is how often a group's offsets follow, publishMax how long the last time may take.
const (
	publishEvery = 5 * time.Second
	publishMax   = 2 * time.Second
)

// publisher tells a consumer group's offsets to the cluster, for tools that show lag. Nothing is ever read from them.
type publisher struct {
	group string
	adm   *kadm.Client
	log   Log

	mu   sync.Mutex
	news kadm.Offsets
}

func newPublisher(group string, adm *kadm.Client, log Log) *publisher {
	return &publisher{group: group, adm: adm, log: log}
}

// note keeps an offset for the next time.
func (p *publisher) note(topic string, num int32, at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.news.AddOffset(topic, num, at, -1)
}

// run publishes now and then, and once more at the end.
func (p *publisher) run(ctx context.Context) {
	tick := time.NewTicker(publishEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.flush(ctx)
		case <-ctx.Done():
			last, done := context.WithTimeout(context.Background(), publishMax)
			defer done()
			p.flush(last)
			return
		}
	}
}

func (p *publisher) flush(ctx context.Context) {
	p.mu.Lock()
	news := p.news
	p.news = nil
	p.mu.Unlock()
	if len(news) == 0 {
		return
	}
	if err := p.adm.CommitAllOffsets(ctx, p.group, news); err != nil && ctx.Err() == nil {
		p.log.warn("kafka_records: the offsets of consumer group %s could not be published: %v; the state is not concerned", p.group, err)
	}
}
