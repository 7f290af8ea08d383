package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (f *fake) join() *Member {
	f.t.Helper()
	m, err := OpenMember(f.t.Context(), f.in)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(m.Close)
	return m
}

// taken reads n records of a member and acknowledges them.
func taken(t testing.TB, m *Member, n int) (out []string) {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), 30*time.Second)
	defer done()
	for len(out) < n {
		recs, acked, err := m.Next(ctx)
		if err != nil {
			t.Fatalf("%v, after %v", err, out)
		}
		for _, r := range recs {
			out = append(out, fmt.Sprintf("%s/%d@%d %s%s", r.Topic, r.Partition, r.Offset, r.Value, r.Fault))
		}
		acked()
	}
	return out
}

// at is where the group begins in a partition.
func (f *fake) at(topic string, num int32) int64 {
	f.t.Helper()
	offsets, err := f.adm.FetchOffsetsForTopics(f.t.Context(), f.in.Member, topic)
	if errors.Is(err, kerr.GroupIDNotFound) { // nobody has joined it yet
		return -1
	}
	if err != nil {
		f.t.Fatal(err)
	}
	o, _ := offsets.Lookup(topic, num)
	return o.At
}

// crowd are members that come, go, and forget what was under way, and what all of them together have acknowledged.
type crowd struct {
	*fake
	mu    sync.Mutex
	acked map[string]map[int64]bool // by partition
	count int
	err   error
}

// member works until it is told to go: it acknowledges what it gets in any order, after a while; some of that never.
func (c *crowd) member(ctx context.Context, r *rand.Rand) error {
	m, err := OpenMember(context.Background(), c.in)
	if err != nil {
		return err
	}
	defer m.Close()
	var acks sync.WaitGroup
	defer func() {
		if r.IntN(2) == 0 {
			acks.Wait()
		}
	}()
	for {
		recs, acked, err := m.Next(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for i := range recs {
			if i > 0 && recs[i].Offset <= recs[i-1].Offset {
				return fmt.Errorf("offset %d behind %d", recs[i].Offset, recs[i-1].Offset)
			}
		}
		pause := time.Duration(r.IntN(20)) * time.Millisecond
		acks.Go(func() {
			time.Sleep(pause)
			c.ack(recs)
			acked()
		})
	}
}

func (c *crowd) ack(recs []Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range recs {
		name := partName(r.Topic, r.Partition, 0)
		if c.acked[name] == nil {
			c.acked[name] = map[int64]bool{}
		}
		if !c.acked[name][r.Offset] {
			c.acked[name][r.Offset] = true
			c.count++
		}
	}
}

// check compares the group's offsets with what was acknowledged: nothing before them may be missing.
func (c *crowd) check(topics []string) (told int64) {
	offsets, err := c.adm.FetchOffsetsForTopics(context.Background(), c.in.Member, topics...)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		c.t.Error(err)
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, parts := range offsets {
		for num, o := range parts {
			told += max(o.At, 0)
			for at := range max(o.At, 0) {
				if !c.acked[partName(topic, num, 0)][at] {
					c.t.Fatalf("%s/%d: the group is at %d, and offset %d was never acknowledged", topic, num, o.At, at)
				}
			}
		}
	}
	return told
}

// Members come and go while records arrive, and leave things undone: nothing is lost, and the group never believes what is not so.
func TestMembers(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	topics := []string{"logins", "ids"}
	f := newFake(t, 4, topics)
	f.in.Member = "crowd"
	c := &crowd{fake: f, acked: map[string]map[int64]bool{}}
	const all = 6000
	var work sync.WaitGroup
	producer := rand.New(rand.NewPCG(seed, 2))
	work.Go(func() { f.filled(producer, topics, 4, all) })
	for round := range 6 {
		ctx, stop := context.WithCancel(t.Context())
		var members sync.WaitGroup
		for i := range 1 + r.IntN(3) {
			own := rand.New(rand.NewPCG(seed, uint64(10+10*round+i)))
			ctx, leave := context.WithTimeout(ctx, time.Duration(100+r.IntN(1200))*time.Millisecond) // some leave while others stay
			members.Go(func() {
				defer leave()
				if err := c.member(ctx, own); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
		}
		c.check(topics)
		members.Wait()
		stop()
		c.check(topics)
	}
	work.Wait()
	ctx, stop := context.WithCancel(t.Context())
	var last sync.WaitGroup
	last.Go(func() {
		if err := c.member(ctx, rand.New(rand.NewPCG(seed, 3))); err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(time.Minute); c.check(topics) < all && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	last.Wait()
	if told := c.check(topics); c.count != all || told != all {
		t.Errorf("seed %d: %d of %d records are acknowledged, the group is at %d", seed, c.count, all, told)
	}
}

// What is under way when a partition goes to another member is waited for: the other one does not read it again.
func TestMemberDrains(t *testing.T) {
	f := newFake(t, 2, []string{"logins"})
	f.in.Member = "drains"
	f.put(record("logins", 0, "a"), record("logins", 1, "b"))
	first := f.join()
	var acks []func()
	seen := map[int32]bool{}
	for len(seen) < 2 {
		recs, acked, err := first.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen[recs[0].Partition], acks = true, append(acks, acked)
	}
	second := f.join()
	revoking := func() bool { // the first one has been asked to give one up: it is not held once that is over
		first.mu.Lock()
		defer first.mu.Unlock()
		return len(first.parts["logins"]) == 2
	}
	time.AfterFunc(500*time.Millisecond, func() {
		for _, acked := range acks {
			acked()
		}
	})
	for end := time.Now().Add(30 * time.Second); revoking() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if f.at("logins", 0)+f.at("logins", 1) < 1 {
		t.Error("what was acknowledged before the partition went is not committed")
	}
	f.put(record("logins", 0, "c"), record("logins", 1, "d"))
	got := append(taken(t, second, 1), taken(t, first, 1)...)
	for _, x := range got {
		if strings.HasSuffix(x, " a") || strings.HasSuffix(x, " b") {
			t.Errorf("%v is there again", got)
		}
	}
}

// Where a group begins is what `start` says, once for all partitions; partitions that are added are read from their first record.
func TestMemberStart(t *testing.T) {
	every := lookEvery
	lookEvery = 5 * time.Second // the least that the client does
	defer func() { lookEvery = every }()
	f := newFake(t, 1, []string{"logins"})
	f.put(record("logins", 0, "old"))
	f.in.Member, f.in.Start = "late", Latest
	m := f.join()
	for end := time.Now().Add(30 * time.Second); f.at("logins", 0) != 1 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	m.Close() // without a record
	f.put(record("logins", 0, "new"))
	m = f.join()
	if got := taken(t, m, 1); got[0] != "logins/0@1 new" {
		t.Errorf("%v", got)
	}
	if _, err := f.adm.CreatePartitions(t.Context(), 1, "logins"); err != nil {
		t.Fatal(err)
	}
	f.client.ForceMetadataRefresh()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err := f.client.ProduceSync(t.Context(), record("logins", 1, "first")).FirstErr(); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if got := taken(t, m, 1); got[0] != "logins/1@0 first" {
		t.Errorf("%v", got)
	}
	at := time.Now().Add(-time.Hour)
	early, late := record("ids", 0, "early"), record("ids", 0, "late")
	early.Timestamp, late.Timestamp = at, at.Add(time.Minute)
	g := newFake(t, 1, []string{"ids"})
	g.put(early, late)
	g.in.Member, g.in.Start = "timed", Start(at.Add(time.Second).UnixMilli())
	if got := taken(t, g.join(), 1); got[0] != "ids/0@1 late" {
		t.Errorf("%v", got)
	}
}

func TestMemberRecords(t *testing.T) {
	f := newFake(t, 1, []string{"logins"})
	f.in.Member, f.in.RecordMax = "faults", 2000
	none := record("logins", 0, "")
	none.Value, none.Key = nil, []byte("k")
	f.put(none, record("logins", 0, strings.Repeat("x", 2001)), record("logins", 0, ""))
	want := []string{"logins/0@0 tombstone", "logins/0@1 " + strings.Repeat("x", 1024) + "record_too_long", "logins/0@2 "}
	if got := taken(t, f.join(), 3); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%v", got)
	}
}

// What no retry mends stops a member, with the reason.
func TestMemberStops(t *testing.T) {
	every := watchEvery
	watchEvery = 20 * time.Millisecond
	defer func() { watchEvery = every }()
	stops := func(t *testing.T, m *Member, want string) {
		t.Helper()
		ctx, done := context.WithTimeout(t.Context(), time.Minute)
		defer done()
		for {
			_, acked, err := m.Next(ctx)
			var stop *Stop
			if errors.As(err, &stop) && strings.Contains(err.Error(), want) {
				return
			}
			if err != nil {
				t.Fatalf("%v, want %s", err, want)
			}
			acked()
		}
	}
	t.Run("no topic", func(t *testing.T) {
		f := newFake(t, 1, []string{"logins"})
		f.in.Member, f.in.Topics = "g", []string{"logns"}
		_, err := OpenMember(t.Context(), f.in)
		var stop *Stop
		if !errors.As(err, &stop) || !strings.Contains(err.Error(), "topic logns does not exist") {
			t.Errorf("%v", err)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		f := newFake(t, 1, []string{"logins"})
		f.in.Member = "g"
		f.put(record("logins", 0, "a"))
		m := f.join()
		taken(t, m, 1)
		if _, err := f.adm.DeleteTopics(t.Context(), "logins"); err != nil {
			t.Fatal(err)
		}
		stops(t, m, "topic logins was deleted")
	})
	t.Run("forbidden", func(t *testing.T) {
		f := newFake(t, 1, []string{"logins"})
		f.in.Member = "g"
		f.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
			f.KeepControl()
			answer := req.ResponseKind().(*kmsg.JoinGroupResponse)
			answer.ErrorCode = kerr.GroupAuthorizationFailed.Code
			return answer, nil, true
		})
		stops(t, f.join(), "the user needs READ on the group")
	})
	for _, lost := range []string{"stop", "earliest"} {
		t.Run("out of range, "+lost, func(t *testing.T) {
			f := newFake(t, 1, []string{"logins"})
			f.in.Member, f.in.Lost = "g", lost
			f.put(record("logins", 0, "a"), record("logins", 0, "b"), record("logins", 0, "c"))
			m := f.join()
			taken(t, m, 1)
			m.Close()
			f.put(record("logins", 0, "d"), record("logins", 0, "e"))
			var offsets kadm.Offsets
			offsets.AddOffset("logins", 0, 4, -1)
			if _, err := f.adm.DeleteRecords(t.Context(), offsets); err != nil {
				t.Fatal(err)
			}
			if m = f.join(); lost == "stop" {
				stops(t, m, "the offset is not there any more")
			} else if got := taken(t, m, 1); got[0] != "logins/0@4 e" {
				t.Errorf("%v", got)
			}
		})
	}
}
