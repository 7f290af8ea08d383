package kafka

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// The limits of a block.
const (
	blockBytes = 128 << 10
	blockLines = 4096
)

// Blocks of a partition that the receiver has not released. Bounded partitions wait for one another; live ones are taken as they come.
const (
	aheadBounded = 2
	aheadLive    = 4
)

// part is a partition that is read. All but what never changes is under Reader.mu.
type part struct {
	topic  string
	num    int32
	name   string
	id     kadm.TopicID
	start  int64
	end    int64 // bounded: reading stops before it
	meta   map[string]string
	origin []byte

	next   int64         // of the next record that may come
	high   int64         // where the partition ended at the last fetch; 0: not known
	queue  []*kgo.Record // polled, not handed over
	size   int           // bytes of queue
	credit int
	listed bool // in Reader.ready
	paused bool // the client does not fetch it
	asking bool // its next block waits for schemas
	over   bool // bounded: everything before end was polled
	done   bool // and its end handed over
}

func newPart(topic string, num int32, gen int, id kadm.TopicID, start, end int64) *part {
	return &part{topic: topic, num: num, name: partName(topic, num, gen), id: id, start: start, end: end, next: start,
		meta:   map[string]string{"topic": topic, "partition": strconv.Itoa(int(num))},
		origin: origin{id, start}.encode()}
}

// mark is a block without lines.
func (p *part) mark(m event.Mark, live bool) *event.Block {
	return &event.Block{Partition: p.name, Meta: p.meta, Origin: p.origin, Live: live, Mark: m}
}

// recordSize is what a record counts for in memory.
func recordSize(r *kgo.Record) int { return len(r.Key) + len(r.Value) + 200 }

// ahead are the records of the next block of a queue.
func ahead(queue []*kgo.Record) []*kgo.Record {
	n, bytes := 0, 0
	for n < len(queue) && n < blockLines && (n == 0 || bytes+len(queue[n].Value) <= blockBytes) {
		bytes += len(queue[n].Value)
		n++
	}
	return queue[:n:n]
}

// cut takes them off the queue.
func (p *part) cut() []*kgo.Record {
	recs := ahead(p.queue)
	for _, r := range recs {
		p.size -= recordSize(r)
	}
	p.queue = p.queue[len(recs):]
	return recs
}

// block is a block and the records that it was made of, whose keys and headers are read until it is released.
type block struct {
	event.Block
	records []*kgo.Record
	part    *part
}

// The faults that a record may have (event.Line.Fault).
const (
	faultTooLong   = "record_too_long" // longer than max_record; its bytes are the first 1024
	faultTombstone = "tombstone"       // no value: a compacted topic says that its key is gone
)

const faultBytes = 1024

// fill makes a line of each record's value.
func (b *block) fill(p *part, recs []*kgo.Record, live bool, valueMax int) {
	b.part, b.records = p, recs
	b.Partition, b.Meta, b.Origin, b.Live, b.Mark = p.name, p.meta, p.origin, live, event.NoMark
	b.Data, b.Lines = b.Data[:0], b.Lines[:0]
	for _, r := range recs {
		value, fault := valueOf(r, valueMax)
		from := uint32(len(b.Data))
		b.Data = append(b.Data, value...)
		b.Lines = append(b.Lines, event.Line{Off: r.Offset, Next: r.Offset + 1, Start: from, End: uint32(len(b.Data)), Fault: fault})
	}
}

// valueOf is a record's value, and what is wrong with it.
func valueOf(r *kgo.Record, max int) (value []byte, fault string) {
	switch {
	case r.Value == nil:
		return nil, faultTombstone
	case len(r.Value) > max:
		return r.Value[:min(len(r.Value), faultBytes)], faultTooLong
	}
	return r.Value, ""
}

// beside gives what of a record is not its value (event.Beside): _key, _timestamp in epoch milliseconds, _topic, _partition, _offset,
// and _headers.NAME, of headers with one name the last.
func (b *block) beside(line int, path []string, dst []byte) (event.Kind, []byte, bool) {
	r := b.records[line]
	if path[0] == "_headers" && len(path) > 1 {
		return header(r, path[1:], dst)
	}
	if len(path) > 1 {
		return event.Absent, dst, false
	}
	switch path[0] {
	case "_key":
		if r.Key == nil {
			return event.Null, dst, true
		}
		return event.String, append(dst, r.Key...), true
	case "_timestamp":
		return event.Number, strconv.AppendInt(dst, r.Timestamp.UnixMilli(), 10), true
	case "_topic":
		return event.String, append(dst, r.Topic...), true
	case "_partition":
		return event.Number, strconv.AppendInt(dst, int64(r.Partition), 10), true
	case "_offset":
		return event.Number, strconv.AppendInt(dst, r.Offset, 10), true
	}
	return event.Absent, dst, false
}

func header(r *kgo.Record, path []string, dst []byte) (event.Kind, []byte, bool) {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		h := &r.Headers[i]
		if !named(h.Key, path) {
			continue
		}
		if h.Value == nil {
			return event.Null, dst, true
		}
		return event.String, append(dst, h.Value...), true
	}
	return event.Absent, dst, true
}

// named says whether a header's name, which may have dots, is the rest of a path.
func named(name string, path []string) bool {
	for i, part := range path {
		if i > 0 {
			if name == "" || name[0] != '.' {
				return false
			}
			name = name[1:]
		}
		if len(name) < len(part) || name[:len(part)] != part {
			return false
		}
		name = name[len(part):]
	}
	return name == ""
}
