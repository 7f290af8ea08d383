package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// fake is a cluster of brokers within the test, and a client of it.
type fake struct {
	*kfake.Cluster
	t      testing.TB
	client *kgo.Client
	adm    *kadm.Client
	in     Input
	log    logged
}

// logged is what the reader says.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.text, format+"\n", args...)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newFake(t testing.TB, partitions int32, topics []string, opts ...kfake.Opt) *fake {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3), kfake.SeedTopics(partitions, topics...)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	f := &fake{Cluster: c, t: t, client: client, adm: kadm.NewClient(client)}
	f.in = Input{Cluster: Cluster{Seeds: c.ListenAddrs(), Log: Log{Warn: f.log.say, Info: f.log.say}}, Topics: topics, Start: Earliest, Lost: "stop", RecordMax: 1 << 20}
	return f
}

// put produces records and waits for them.
func (f *fake) put(recs ...*kgo.Record) {
	f.t.Helper()
	if err := f.client.ProduceSync(f.t.Context(), recs...).FirstErr(); err != nil {
		f.t.Fatal(err)
	}
}

func record(topic string, num int32, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: num, Value: []byte(value)}
}

func (f *fake) open(positions map[string]Position) *Reader {
	f.t.Helper()
	r, err := Open(f.t.Context(), f.in, positions)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(r.Close)
	return r
}

// refused is the error of an Open that must be told to stop.
func (f *fake) refused(positions map[string]Position) string {
	f.t.Helper()
	r, err := Open(f.t.Context(), f.in, positions)
	if err == nil {
		r.Close()
		f.t.Fatal("it opens")
	}
	var stop *Stop
	if !errors.As(err, &stop) {
		f.t.Fatalf("not a Stop: %v", err)
	}
	return err.Error()
}

func next(t testing.TB, r *Reader) (*event.Block, error) {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), 30*time.Second)
	defer done()
	b, err := r.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("nothing comes")
	}
	return b, err
}

// got is what was read of a partition.
type got struct {
	lines    []string // offset and text
	at       int64
	origin   []byte
	finished bool
}

// readAll reads to the end of a bounded input, or until a live one has given n lines, and checks what must hold of any reading.
func readAll(t testing.TB, r *Reader, n int) map[string]*got {
	t.Helper()
	parts := map[string]*got{}
	lines := 0
	for n < 0 || lines < n {
		b, err := next(t, r)
		if errors.Is(err, io.EOF) && n < 0 {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := parts[b.Partition]
		switch {
		case b.Mark == event.Announce:
			if p != nil {
				t.Fatalf("%s is announced twice", b.Partition)
			}
			parts[b.Partition] = &got{origin: b.Origin}
			continue
		case p == nil:
			t.Fatalf("%s was not announced", b.Partition)
		case p.finished:
			t.Fatalf("%s goes on after its end", b.Partition)
		case b.Live == r.in.UntilEnd:
			t.Fatalf("%s: live %v", b.Partition, b.Live)
		}
		p.finished = b.Mark == event.Finished
		for i, l := range b.Lines {
			if l.Off < p.at || l.Next != l.Off+1 {
				t.Fatalf("%s: offset %d after %d, next %d", b.Partition, l.Off, p.at, l.Next)
			}
			p.at = l.Next
			p.lines = append(p.lines, fmt.Sprint(l.Off, " ", string(b.Line(i)), l.Fault))
			lines++
		}
		if b.Meta["topic"]+"/"+b.Meta["partition"] != strings.Split(b.Partition, "#")[0] {
			t.Fatalf("%s has the metadata %v", b.Partition, b.Meta)
		}
		b.Release()
	}
	return parts
}

func positionsOf(parts map[string]*got) map[string]Position {
	out := map[string]Position{}
	for name, p := range parts {
		out[name] = Position{p.at, p.origin}
	}
	return out
}

// filled produces random records and returns what must be read, by partition.
func (f *fake) filled(r *rand.Rand, topics []string, partitions, n int) map[string][]string {
	want := map[string][]string{}
	var recs []*kgo.Record
	for i := range n {
		topic, num := topics[r.IntN(len(topics))], r.Int32N(int32(partitions))
		name := partName(topic, num, 0)
		value := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, i, strings.Repeat("x", r.IntN(300)))
		want[name] = append(want[name], fmt.Sprint(len(want[name]), " ", value))
		recs = append(recs, record(topic, num, value))
		if r.IntN(50) == 0 {
			f.put(recs...)
			recs = nil
		}
	}
	f.put(recs...)
	return want
}

func compare(t testing.TB, parts map[string]*got, want map[string][]string) {
	t.Helper()
	for name, lines := range want {
		if parts[name] == nil || !slices.Equal(parts[name].lines, lines) {
			t.Errorf("%s: %d lines, want %d", name, len(parts[name].lines), len(lines))
		}
	}
	for name := range parts {
		if want[name] == nil && len(parts[name].lines) > 0 {
			t.Errorf("%s: %d lines, want none", name, len(parts[name].lines))
		}
	}
}

func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// A bounded input reads every record of every partition, in order, and ends; stopped anywhere, it goes on there.
func TestReadsToTheEnd(t *testing.T) {
	r := seeded(t)
	topics := []string{"logins", "ids"}
	f := newFake(t, 3, topics)
	want := f.filled(r, topics, 3, 3000)
	f.in.UntilEnd = true
	reader := f.open(nil)
	f.put(record("logins", 0, "behind the end")) // must not be read
	parts := readAll(t, reader, -1)
	compare(t, parts, want)
	if len(parts) != 6 {
		t.Errorf("%d partitions", len(parts))
	}
	for name, p := range parts {
		if !p.finished {
			t.Errorf("%s has no end", name)
		}
	}
	for range 5 { // again from random positions
		at, rest := map[string]Position{}, map[string][]string{}
		for name, lines := range want {
			if n := r.IntN(len(lines) + 1); n > 0 {
				at[name] = Position{int64(n), parts[name].origin}
			}
			rest[name] = lines[at[name].Offset:]
		}
		rest["logins/0"] = append(slices.Clone(rest["logins/0"]), fmt.Sprint(len(want["logins/0"]), " behind the end"))
		compare(t, readAll(t, f.open(at), -1), rest)
	}
}

// Leaders that move, answers that are errors and connections that are cut do not lose, repeat or reorder a record.
func TestReadsThroughFaults(t *testing.T) {
	r := seeded(t)
	var cut cutter
	f := newFake(t, 3, []string{"logins"}, kfake.ListenFn(cut.listen))
	want := f.filled(r, []string{"logins"}, 3, 4000)
	f.in.UntilEnd = true
	for _, e := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.RequestTimedOut, kerr.LeaderNotAvailable} {
		if kerr.IsRetriable(e) {
			f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: e, Count: 3})
		}
	}
	reader := f.open(nil)
	stop := make(chan bool)
	var work sync.WaitGroup
	work.Go(func() {
		for range 8 { // more would only make the client wait longer between its tries
			f.ShufflePartitionLeaders()
			cut.all()
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(r.IntN(60)) * time.Millisecond):
			}
		}
	})
	parts := readAll(t, reader, -1)
	close(stop)
	work.Wait()
	compare(t, parts, want)
	if cut.count() == 0 {
		t.Error("no connection was cut")
	}
}

// cutter closes connections that brokers have accepted.
type cutter struct {
	mu    sync.Mutex
	conns []net.Conn
	cuts  int
}

type cutting struct {
	net.Listener
	c *cutter
}

func (c *cutter) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return &cutting{l, c}, err
}

func (l *cutting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.c.mu.Lock()
		l.c.conns = append(l.c.conns, conn)
		l.c.mu.Unlock()
	}
	return conn, err
}

func (c *cutter) all() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
		c.cuts++
	}
	c.conns = nil
}

func (c *cutter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts
}

// A live input begins where `start` says, and a partition that was added is read from its first record.
func TestStart(t *testing.T) {
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	old := func(f *fake) {
		for i := range 5 {
			rec := record("logins", 0, "old "+strconv.Itoa(i))
			rec.Timestamp = begin.Add(time.Duration(i) * time.Minute)
			f.put(rec)
		}
	}
	for _, c := range []struct {
		start Start
		want  string
	}{{Earliest, "0 old 0"}, {Latest, "5 new"}, {Start(begin.Add(150 * time.Second).UnixMilli()), "3 old 3"}} {
		f := newFake(t, 1, []string{"logins"})
		old(f)
		f.in.Start = c.start
		reader := f.open(nil)
		f.put(record("logins", 0, "new"))
		parts := readAll(t, reader, 1)
		if first := parts["logins/0"].lines[0]; first != c.want {
			t.Errorf("start %d: the first is %q, want %q", c.start, first, c.want)
		}
	}
}

// Where a partition without records began counts after a restart: `latest` means the first start.
func TestLatestIsRemembered(t *testing.T) {
	f := newFake(t, 1, []string{"logins"})
	f.put(record("logins", 0, "before"))
	f.in.Start = Latest
	b, err := next(t, f.open(nil))
	if err != nil || b.Mark != event.Announce {
		t.Fatalf("%+v, %v", b, err)
	}
	f.put(record("logins", 0, "between"))
	parts := readAll(t, f.open(map[string]Position{"logins/0": {0, b.Origin}}), 1)
	if line := parts["logins/0"].lines[0]; line != "1 between" {
		t.Errorf("%q", line)
	}
}

func TestPartitionAdded(t *testing.T) {
	every := watchEvery
	watchEvery = 20 * time.Millisecond
	defer func() { watchEvery = every }()
	f := newFake(t, 1, []string{"logins"})
	f.in.Start = Latest
	reader := f.open(nil)
	if _, err := f.adm.CreatePartitions(t.Context(), 1, "logins"); err != nil {
		t.Fatal(err)
	}
	f.client.ForceMetadataRefresh()
	for f.client.ProduceSync(t.Context(), record("logins", 1, "in the new one")).FirstErr() != nil {
		time.Sleep(10 * time.Millisecond) // the producer does not know it yet
	}
	parts := readAll(t, reader, 1)
	if p := parts["logins/1"]; p == nil || len(p.lines) != 1 || p.lines[0] != "0 in the new one" {
		t.Errorf("%+v", parts)
	}
	// Added while nobody was there: still from the first record.
	origin := parts["logins/0"].origin
	parts = readAll(t, f.open(map[string]Position{"logins/0": {0, origin}}), 1)
	if p := parts["logins/1"]; p == nil || len(p.lines) != 1 {
		t.Errorf("%+v", parts)
	}
}

// Every share reads its partitions, all shares together everything.
func TestShares(t *testing.T) {
	r := seeded(t)
	f := newFake(t, 5, []string{"logins"})
	want := f.filled(r, []string{"logins"}, 5, 200)
	f.in.UntilEnd = true
	parts := map[string]*got{}
	for i := range 3 {
		f.in.Share = Share{I: i + 1, N: 3}
		for name, p := range readAll(t, f.open(nil), -1) {
			if parts[name] != nil {
				t.Errorf("%s is in two shares", name)
			}
			parts[name] = p
		}
	}
	compare(t, parts, want)
	f.in.Share = Share{List: []int32{4, 1}}
	if parts := readAll(t, f.open(nil), -1); len(parts) != 2 || parts["logins/1"] == nil || parts["logins/4"] == nil {
		t.Errorf("%v", parts)
	}
	f.in.Share = Share{List: []int32{7}}
	if said := f.refused(nil); said != "topic logins has no partition 7, only 0 to 4; correct `partitions`" {
		t.Error(said)
	}
	f.in.Share = Share{I: 9, N: 9}
	if said := f.refused(nil); !strings.Contains(said, "share 9/9") {
		t.Error(said)
	}
}

// What is no event is a line with its fault, in its place.
func TestFaultsOfRecords(t *testing.T) {
	f := newFake(t, 1, []string{"logins"})
	f.in.RecordMax, f.in.UntilEnd = 2000, true
	long := strings.Repeat("y", 2001)
	f.put(record("logins", 0, "a"), &kgo.Record{Topic: "logins", Key: []byte("k")}, record("logins", 0, long), record("logins", 0, long[1:]))
	want := []string{"0 a", "1 tombstone", "2 " + long[:1024] + "record_too_long", "3 " + long[1:]}
	if p := readAll(t, f.open(nil), -1)["logins/0"]; !slices.Equal(p.lines, want) {
		t.Errorf("%q", p.lines)
	}
}

// What a record has beside its value is read as columns, before what the value says of itself.
func TestBeside(t *testing.T) {
	f := newFake(t, 1, []string{"logins"})
	f.in.UntilEnd = true
	when := time.UnixMilli(1_772_438_400_123)
	f.put(&kgo.Record{Topic: "logins", Key: []byte("k\xff"), Value: []byte(`{"_key":"forged","_headers":{"gone":"forged","other":1},"_own":2}`), Timestamp: when,
		Headers: []kgo.RecordHeader{{Key: "a.b", Value: []byte("1")}, {Key: "twice", Value: []byte("1")}, {Key: "twice", Value: []byte("2")}, {Key: "null"}}},
		&kgo.Record{Topic: "logins", Value: []byte(`{}`), Timestamp: when.Add(time.Second)})
	reader := f.open(nil)
	var b *event.Block
	for b == nil || len(b.Lines) == 0 {
		var err error
		if b, err = next(t, reader); err != nil {
			t.Fatal(err)
		}
	}
	paths := []string{"_key", "_timestamp", "_topic", "_partition", "_offset", "_headers.a.b", "_headers.twice", "_headers.null", "_headers.gone", "_own", "_headers", "_headers.a"}
	fields := &event.Fields{}
	var cols []event.Field
	for _, p := range paths {
		cols = append(cols, fields.Add(p))
	}
	proj := event.NewProjection(fields, cols)
	batch := proj.NewBatch()
	for i := range b.Lines {
		if err := proj.Append(batch, b.Line(i)); err != nil {
			t.Fatal(err)
		}
		proj.Beside(batch, i, b.Beside)
	}
	shown := func(row int) (out []string) {
		for _, c := range cols {
			v := batch.Value(c, row)
			out = append(out, v.Kind.String()+" "+string(v.Text))
		}
		return out
	}
	want := [][]string{
		{"string k\uFFFD", "number 1772438400123", "string logins", "number 0", "number 0", "string 1", "string 2", "null ", "absent ", "number 2",
			`object {"gone":"forged","other":1}`, "absent "},
		{"null ", "number 1772438401123", "string logins", "number 0", "number 1", "absent ", "absent ", "absent ", "absent ", "absent ", "absent ", "absent "},
	}
	for row := range want {
		if got := shown(row); !slices.Equal(got, want[row]) {
			t.Errorf("row %d\n got %q\nwant %q", row, got, want[row])
		}
	}
}

// Records of aborted transactions are not seen, and a bounded input ends although the last offset is the mark of one.
func TestTransactions(t *testing.T) {
	f := newFake(t, 1, []string{"logins"})
	f.in.UntilEnd = true
	client, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...), kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("logins"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := client.ProduceSync(t.Context(), &kgo.Record{Value: []byte{'a' + byte(i)}}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := client.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	if p := readAll(t, f.open(nil), -1)["logins/0"]; !slices.Equal(p.lines, []string{"0 a"}) || !p.finished {
		t.Errorf("%+v", p)
	}
}

// A receiver that releases nothing is given no more than its credit, and one that waits for a single partition gets it.
func TestCredit(t *testing.T) {
	f := newFake(t, 2, []string{"logins"})
	value := strings.Repeat("z", 100_000)
	for i := range 400 { // 40 MB in partition 0, more than may wait
		f.put(record("logins", 0, value))
		if i%100 == 0 {
			f.put(record("logins", 1, "small"))
		}
	}
	f.in.UntilEnd = true
	reader := f.open(nil)
	held := 0
	small := 0
	for small < 4 {
		b, err := next(t, reader)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case b.Partition == "logins/1":
			small += len(b.Lines)
			b.Release()
		case len(b.Lines) > 0:
			held++ // and not released
		}
	}
	if held > aheadBounded {
		t.Errorf("%d blocks of a partition without a release", held)
	}
	reader.mu.Lock()
	ahead := reader.ahead
	reader.mu.Unlock()
	if ahead > aheadMax+2*fetchMax {
		t.Errorf("%d bytes wait", ahead)
	}
}

// The topic's id and the bounds of a partition decide where reading goes on, and under which name.
func TestPlace(t *testing.T) {
	old, now := kadm.TopicID{1}, kadm.TopicID{2}
	at := func(name string, offset int64, id kadm.TopicID, start int64) map[string]Position {
		return map[string]Position{name: {offset, origin{id, start}.encode()}, "logins/30": {99, origin{id, 0}.encode()}, "logins/3#x": {98, origin{id, 0}.encode()},
			"log#0": {7, []byte("fl\x01")}, "logins/3#9": {7, []byte("another input's")}}
	}
	b := bounds{first: 10, end: 50, start: 10}
	for _, c := range []struct {
		name, lost string
		positions  map[string]Position
		want       string
	}{
		{"never read", "stop", nil, "logins/3 10"},
		{"goes on", "stop", at("logins/3", 20, now, 0), "logins/3 20"},
		{"at the end", "stop", at("logins/3", 50, now, 0), "logins/3 50"},
		{"nothing was taken", "stop", at("logins/3", 0, now, 42), "logins/3 42"},
		{"broker without ids", "stop", at("logins/3", 20, kadm.TopicID{}, 0), "logins/3 20"},
		{"a later generation", "stop", at("logins/3#2", 20, now, 0), "logins/3#2 20"},
		{"made anew", "stop", at("logins/3", 20, old, 0), "topic logins was deleted and made anew: the state's position, offset 20 of partition 3, is of the old one; " + lostSteps},
		{"made anew, earliest", "earliest", at("logins/3", 20, old, 0), "logins/3#1 10"},
		{"made anew again, latest", "latest", at("logins/3#1", 20, old, 0), "logins/3#2 50"},
		{"deleted unread", "stop", at("logins/3", 4, now, 0), "topic logins, partition 3: offsets 4 to 9 were deleted before they were read (retention); " + lostSteps},
		{"deleted unread, earliest", "earliest", at("logins/3", 4, now, 0), "logins/3 10"},
		{"cut short", "stop", at("logins/3", 60, now, 0), "topic logins, partition 3: it ends at offset 50, and was read up to 60: the cluster has lost records; " + lostSteps},
		{"cut short, earliest", "earliest", at("logins/3", 60, now, 0), "logins/3#1 10"},
	} {
		gen, offset, err := Input{Lost: c.lost}.place("logins", 3, now, b, c.positions)
		got := fmt.Sprint(partName("logins", 3, gen), " ", offset)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add(origin{kadm.TopicID{1, 2}, 77}.encode())
	f.Add([]byte(originMark))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, ok := decodeOrigin(b)
		if again, ok2 := decodeOrigin(o.encode()); ok && (!ok2 || again != o) {
			t.Fatalf("%x: %+v became %+v", b, o, again)
		}
	})
}

// What no retry mends stops the reader, with the reason and the next step.
func TestStops(t *testing.T) {
	every := watchEvery
	watchEvery = 20 * time.Millisecond
	defer func() { watchEvery = every }()
	ends := func(t *testing.T, r *Reader) string {
		t.Helper()
		for {
			b, err := next(t, r)
			var stop *Stop
			if errors.As(err, &stop) {
				return err.Error()
			}
			if err != nil {
				t.Fatal(err)
			}
			b.Release()
		}
	}
	says := func(t *testing.T, said string, want ...string) {
		t.Helper()
		for _, w := range append(want, lostSteps) {
			if !strings.Contains(said, w) {
				t.Errorf("%q does not say %q", said, w)
			}
		}
	}
	t.Run("deleted", func(t *testing.T) {
		f := newFake(t, 1, []string{"logins"})
		f.put(record("logins", 0, "a"))
		r := f.open(nil)
		readAll(t, r, 1)
		if _, err := f.adm.DeleteTopics(t.Context(), "logins"); err != nil {
			t.Fatal(err)
		}
		says(t, ends(t, r), "topic logins was deleted")
	})
	t.Run("made anew", func(t *testing.T) {
		f := newFake(t, 1, []string{"logins"})
		f.put(record("logins", 0, "a"))
		r := f.open(nil)
		parts := readAll(t, r, 1)
		if _, err := f.adm.DeleteTopics(t.Context(), "logins"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.adm.CreateTopics(t.Context(), 1, 1, nil, "logins"); err != nil {
			t.Fatal(err)
		}
		says(t, ends(t, r), "topic logins was deleted and")
		says(t, f.refused(positionsOf(parts)), "deleted and made anew")
		f.in.Lost, f.in.UntilEnd = "earliest", true
		f.client.PurgeTopicsFromClient("logins")
		f.put(record("logins", 0, "b"))
		again := readAll(t, f.open(positionsOf(parts)), -1)
		if p := again["logins/0#1"]; p == nil || !slices.Equal(p.lines, []string{"0 b"}) {
			t.Errorf("%+v", again)
		}
	})
	t.Run("out of range", func(t *testing.T) {
		f := newFake(t, 1, []string{"logins"})
		f.put(record("logins", 0, "a"), record("logins", 0, "b"), record("logins", 0, "c"))
		origin := origin{start: 0}.encode()
		var offsets kadm.Offsets
		offsets.AddOffset("logins", 0, 2, -1)
		if _, err := f.adm.DeleteRecords(t.Context(), offsets); err != nil {
			t.Fatal(err)
		}
		says(t, f.refused(map[string]Position{"logins/0": {1, origin}}), "offsets 1 to 1 were deleted before they were read")
		f.in.Lost, f.in.UntilEnd = "earliest", true
		if p := readAll(t, f.open(map[string]Position{"logins/0": {1, origin}}), -1)["logins/0"]; !slices.Equal(p.lines, []string{"2 c"}) {
			t.Errorf("%+v", p)
		}
	})
	t.Run("out of range while it reads", func(t *testing.T) {
		f := newFake(t, 1, []string{"logins"})
		f.put(record("logins", 0, "a"))
		r := f.open(nil)
		readAll(t, r, 1)
		f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 1})
		says(t, ends(t, r), "topic logins, partition 0, offset 1: the offset is not there any more")
	})
}

// What is forbidden or not there stops at the start.
func TestRefuses(t *testing.T) {
	f := newFake(t, 1, []string{"logins"})
	f.in.Topics = []string{"logins", "missing"}
	if said := f.refused(nil); said != "topic missing does not exist; create it, or correct `topics`" {
		t.Error(said)
	}
	f.in.Topics = []string{"logins"}
	f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "logins", Err: kerr.TopicAuthorizationFailed, Count: -1})
	if said := f.refused(nil); !strings.Contains(said, "needs READ and DESCRIBE") {
		t.Error(said)
	}
}

// A cluster that is away is no reason to stop.
func TestAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	in := Input{Cluster: Cluster{Seeds: []string{l.Addr().String()}}, Topics: []string{"logins"}}
	_, err = Open(t.Context(), in, nil)
	var stop *Stop
	if err == nil || errors.As(err, &stop) || !strings.Contains(err.Error(), "no broker answers") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
}

// While no broker answers, partitions are kept active by empty blocks.
func TestBeats(t *testing.T) {
	every := watchEvery
	watchEvery = 10 * time.Millisecond
	defer func() { watchEvery = every }()
	f := newFake(t, 2, []string{"logins"})
	r := f.open(nil)
	for range 3 { // two announcements and the empty block of the start
		if _, err := next(t, r); err != nil {
			t.Fatal(err)
		}
	}
	ctx, done := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer done()
	if b, err := r.Next(ctx); err == nil {
		t.Fatalf("%+v, although all is well", b)
	}
	r.health.note(io.ErrUnexpectedEOF)
	seen := map[string]bool{}
	for len(seen) < 2 {
		b, err := next(t, r)
		if err != nil || b.Mark != event.NoMark || len(b.Lines) > 0 || !b.Live {
			t.Fatalf("%+v, %v", b, err)
		}
		seen[b.Partition] = true
	}
}

// A group's offsets are those that were committed, and nothing else moves them.
func TestPublishes(t *testing.T) {
	f := newFake(t, 2, []string{"logins"})
	f.in.Group = "lag"
	f.put(record("logins", 0, "a"), record("logins", 0, "b"), record("logins", 1, "c"))
	r := f.open(nil)
	readAll(t, r, 3)
	r.Committed(map[string]int64{"logins/0": 1})
	r.Stop()
	r.Close()
	offsets, err := f.adm.FetchOffsets(t.Context(), "lag")
	if err != nil {
		t.Fatal(err)
	}
	zero, _ := offsets.Lookup("logins", 0)
	one, _ := offsets.Lookup("logins", 1)
	if zero.At != 1 || one.At != 0 {
		t.Errorf("published %d and %d, want 1 and 0", zero.At, one.At)
	}
}

func TestCutsBlocks(t *testing.T) {
	p := &part{}
	for range 3*blockLines + 5 {
		p.queue = append(p.queue, &kgo.Record{Value: bytes.Repeat([]byte("v"), 10)})
		p.size += recordSize(p.queue[0])
	}
	var sizes []int
	for len(p.queue) > 0 {
		sizes = append(sizes, len(p.cut()))
	}
	if !slices.Equal(sizes, []int{blockLines, blockLines, blockLines, 5}) || p.size != 0 {
		t.Errorf("%v, %d bytes left", sizes, p.size)
	}
}
