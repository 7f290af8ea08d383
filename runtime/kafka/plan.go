package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// partitionLimit is how many partitions one input reads.
const partitionLimit = 4096

// Input says what to read.
type Input struct {
	Cluster
	Topics    []string
	Share     Share
	Start     Start     // of partitions without a position
	Lost      string    // what becomes of a partition whose position is gone: stop, earliest or latest
	UntilEnd  bool      // end where the partitions end now
	Group     string    // whose offsets are published; empty: nobody's
	Member    string    // the group that deals partitions out, of OpenMember; empty: Share says which, and positions are told to Open
	RecordMax int       // longest value, bytes
	Registry  *Registry // of records that begin with the id of a schema; nil: there are none
}

// Share is which partitions of every topic are read: those listed, or the I-th share of N, counted from 1; the zero Share is all.
// A share takes the same numbers of every topic, so that what is joined by a key of the same partitioning stays together.
type Share struct {
	List []int32
	I, N int
}

func (s Share) takes(num int32) bool {
	switch {
	case s.List != nil:
		return slices.Contains(s.List, num)
	case s.N > 0:
		return int(num)%s.N == s.I-1
	}
	return true
}

// Start is where a partition begins: Earliest, Latest, or the first record from an epoch millisecond on.
type Start int64

// Earliest is the oldest record there is, Latest the next one that comes.
const (
	Earliest Start = -2
	Latest   Start = -1
)

// Position is how far a partition was read, with what was kept to know it again.
type Position struct {
	Offset int64 // of the next record; 0 if none was read
	Origin []byte
}

// origin is what is kept with a position: the topic's id, which a topic that was deleted and made anew does not have, and
// where reading began, which counts until a record was taken.
type origin struct {
	topic kadm.TopicID // zero: brokers before 2.8 have none
	start int64
}

// originMark begins every origin; its last byte is the version.
const originMark = "kr\x01"

func (o origin) encode() []byte {
	return binary.AppendUvarint(append([]byte(originMark), o.topic[:]...), uint64(o.start))
}

// decodeOrigin reads what encode wrote; false for anything else, such as another input's.
func decodeOrigin(b []byte) (o origin, ok bool) {
	rest, ok := strings.CutPrefix(string(b), originMark)
	if !ok {
		return o, false
	}
	r := event.Reader{B: []byte(rest)}
	copy(o.topic[:], r.Take(uint64(len(o.topic))))
	start := r.Uint()
	o.start = int64(start)
	return o, r.Done() && o.start >= 0
}

// partName is the identity of a partition, "topic/3"; what came after a topic that was deleted or cut short is "topic/3#1".
func partName(topic string, num int32, gen int) string {
	name := topic + "/" + strconv.Itoa(int(num))
	if gen > 0 {
		name += "#" + strconv.Itoa(gen)
	}
	return name
}

// known is a position of an earlier run.
type known struct {
	origin
	gen    int
	offset int64 // where reading goes on
}

// newest finds the position of a partition's highest generation.
func newest(positions map[string]Position, topic string, num int32) (k known, ok bool) {
	base := partName(topic, num, 0)
	for name, pos := range positions {
		rest, is := strings.CutPrefix(name, base)
		if !is {
			continue
		}
		gen := 0
		if rest != "" {
			n, err := strconv.Atoi(strings.TrimPrefix(rest, "#"))
			if err != nil || rest[0] != '#' || n < 1 {
				continue // topic/30 is not topic/3
			}
			gen = n
		}
		if o, ours := decodeOrigin(pos.Origin); ours && (!ok || gen > k.gen) {
			k, ok = known{o, gen, max(pos.Offset, o.start)}, true
		}
	}
	return k, ok
}

// readBefore says whether another partition of the topic has a position.
func readBefore(positions map[string]Position, topic string) bool {
	for name, pos := range positions {
		if rest, is := strings.CutPrefix(name, topic+"/"); is && !strings.Contains(rest, "/") {
			if _, ours := decodeOrigin(pos.Origin); ours {
				return true
			}
		}
	}
	return false
}

// bounds are what a partition holds: from the first offset to before the end.
type bounds struct{ first, end, start int64 }

// place decides where reading a partition begins and under which name. lost says what to do if the position is not there any more.
func (in Input) place(topic string, num int32, id kadm.TopicID, b bounds, positions map[string]Position) (gen int, offset int64, err error) {
	k, ok := newest(positions, topic, num)
	if !ok {
		if readBefore(positions, topic) { // a partition that was added: nobody has read any of it
			return 0, b.first, nil
		}
		return 0, b.start, nil
	}
	var why string
	switch {
	case k.topic != id && k.topic != (kadm.TopicID{}) && id != (kadm.TopicID{}):
		why, gen = fmt.Sprintf("topic %s was deleted and made anew: the state's position, offset %d of partition %d, is of the old one", topic, k.offset, num), k.gen+1
	case k.offset < b.first:
		why, gen = fmt.Sprintf("topic %s, partition %d: offsets %d to %d were deleted before they were read (retention)", topic, num, k.offset, b.first-1), k.gen
	case k.offset > b.end:
		why, gen = fmt.Sprintf("topic %s, partition %d: it ends at offset %d, and was read up to %d: the cluster has lost records", topic, num, b.end, k.offset), k.gen+1
	default:
		return k.gen, k.offset, nil
	}
	switch in.Lost {
	case "earliest":
		in.Log.warn("kafka_records: %s; going on at offset %d, the earliest there is", why, b.first)
		return gen, b.first, nil
	case "latest":
		in.Log.warn("kafka_records: %s; going on at offset %d, the latest", why, b.end)
		return gen, b.end, nil
	}
	return 0, 0, stopf("%s; %s", why, in.lostSteps())
}

// lostSteps is what to do about records that are gone.
func (in Input) lostSteps() string {
	if in.Member != "" {
		return "to go on without what is gone set `on_lost: earliest` (all that is there) or `latest`"
	}
	return lostSteps
}

const lostSteps = "to go on without what is gone set `on_lost: earliest` (all that is there) or `latest`, or start over with --fresh"

// plan looks at the topics and says which partitions are read, and from where.
func (in Input) plan(ctx context.Context, adm *kadm.Client, positions map[string]Position) ([]*part, error) {
	topics, err := in.look(ctx, adm)
	if err != nil {
		return nil, err
	}
	chosen, err := in.choose(topics)
	if err != nil {
		return nil, err
	}
	return in.locate(ctx, adm, topics, chosen, in.Start, positions)
}

// look describes the topics. A cluster may take a moment to know a new topic everywhere, but one that it does not know has no rows.
func (in Input) look(ctx context.Context, adm *kadm.Client) (kadm.TopicDetails, error) {
	topics, err := adm.ListTopics(ctx, in.Topics...)
	if err != nil {
		return nil, lookError(err)
	}
	for _, name := range in.Topics {
		switch t, ok := topics[name]; {
		case !ok || errors.Is(t.Err, kerr.UnknownTopicOrPartition):
			return nil, stopf("topic %s does not exist; create it, or correct `topics`", name)
		case t.Err != nil:
			return nil, fmt.Errorf("topic %s: %w", name, lookError(t.Err))
		}
	}
	return topics, nil
}

// lookError tells what is forbidden from what may work later.
func lookError(err error) error {
	switch {
	case errors.Is(err, kerr.InvalidTopicException):
		return stopf("%w; correct `topics`", err)
	case forbidden(err):
		return stopf("%w; the user needs READ and DESCRIBE on the topics", err)
	}
	return err
}

func forbidden(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) || errors.Is(err, kerr.InvalidTopicException)
}

// choose takes the share of each topic's partitions.
func (in Input) choose(topics kadm.TopicDetails) (chosen map[string][]int32, err error) {
	chosen = map[string][]int32{}
	n := 0
	for _, name := range in.Topics {
		all := topics[name].Partitions
		for _, num := range in.Share.List {
			if _, ok := all[num]; !ok {
				return nil, stopf("topic %s has no partition %d, only 0 to %d; correct `partitions`", name, num, len(all)-1)
			}
		}
		for _, num := range all.Numbers() {
			if in.Share.takes(num) {
				chosen[name] = append(chosen[name], num)
				n++
			}
		}
	}
	switch {
	case n == 0:
		return nil, stopf("nothing to read: no topic has a partition in share %d/%d; take fewer shares", in.Share.I, in.Share.N)
	case n > partitionLimit:
		return nil, stopf("%d partitions, the limit is %d; read them in several shares: `partitions: 1/%d` and so on", n, partitionLimit, (n+partitionLimit-1)/partitionLimit)
	}
	return chosen, nil
}

// locate places the chosen partitions, in the order of their names.
func (in Input) locate(ctx context.Context, adm *kadm.Client, topics kadm.TopicDetails, chosen map[string][]int32, start Start, positions map[string]Position) ([]*part, error) {
	names := make([]string, 0, len(chosen))
	for name := range chosen {
		names = append(names, name)
	}
	first, err := adm.ListStartOffsets(ctx, names...)
	end, err2 := adm.ListCommittedOffsets(ctx, names...)
	in.Start = start
	begin, err3 := in.starts(ctx, adm, names)
	if err := errors.Join(err, err2, err3); err != nil {
		return nil, lookError(err)
	}
	var parts []*part
	slices.Sort(names)
	for _, name := range names {
		for _, num := range chosen[name] {
			var b bounds
			for _, x := range []struct {
				to   *int64
				list kadm.ListedOffsets
			}{{&b.first, first}, {&b.end, end}, {&b.start, begin}} {
				o, ok := x.list.Lookup(name, num)
				if !ok || o.Err != nil {
					return nil, fmt.Errorf("topic %s, partition %d: where it begins and ends is not known: %w", name, num, lookError(o.Err))
				}
				*x.to = o.Offset
			}
			gen, offset, err := in.place(name, num, topics[name].ID, b, positions)
			if err != nil {
				return nil, err
			}
			parts = append(parts, newPart(name, num, gen, topics[name].ID, offset, b.end))
		}
	}
	return parts, nil
}

// starts are where partitions without a position begin.
func (in Input) starts(ctx context.Context, adm *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
	switch {
	case in.Start == Latest:
		return adm.ListCommittedOffsets(ctx, topics...)
	case in.Start >= 0:
		return adm.ListOffsetsAfterMilli(ctx, int64(in.Start), topics...)
	}
	return adm.ListStartOffsets(ctx, topics...)
}

// hasTopic asks whether a topic is there and may be written to.
func hasTopic(ctx context.Context, client *kgo.Client, name string) error {
	topics, err := kadm.NewClient(client).ListTopics(ctx, name)
	if err == nil {
		err = topics[name].Err
	}
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("topic %s does not exist; create it, or correct `topic`", name)
	case errors.Is(err, kerr.InvalidTopicException):
		return stopf("topic %s: %w; correct `topic`", name, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("topic %s: %w; the user needs DESCRIBE and WRITE on it", name, err)
	}
	return err
}
