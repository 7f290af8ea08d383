package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

var integration = flag.Bool("integration", false, "also with a real Kafka broker, which servers/kafka.sh starts")

// kafkaClient is a client of a broker in whose cluster the topics are made anew, with four partitions each.
func kafkaClient(t *testing.T, broker string, topics ...string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := kadm.NewClient(client).CreateTopics(t.Context(), 4, 1, nil, topics...); err != nil {
		t.Fatal(err)
	}
	return client
}

func fakeBroker(t *testing.T) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

// onKafka writes the example with its state in dir and its broker; a bounded one ends with the topic.
func onKafka(t *testing.T, dir, broker string, bounded bool) (pipeline string) {
	t.Helper()
	change := []string{"${KAFKA:127.0.0.1:19092}", broker}
	if bounded {
		change = append(change, "topics: [logins]", "topics: [logins]\n    until: end")
	}
	pipeline, _ = moved(t, "pipelines/kafka.yaml", dir, change...)
	return pipeline
}

// kafkaRow is a record of the rows' topic.
type kafkaRow struct {
	Kind     string
	IP       string `json:"source_ip"`
	Start    string `json:"window_start"`
	Attempts int    `json:"login_attempts"`
	Users    int
}

// kafkaRows reads the rows' topic, each result once. One that is there twice must be the same.
func kafkaRows(t *testing.T, client *kgo.Client, broker, topic string) (rows map[string]kafkaRow, twice int) {
	t.Helper()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	all := int64(0)
	ends.Each(func(o kadm.ListedOffset) { all += o.Offset })
	reader, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	rows, values := map[string]kafkaRow{}, map[string]string{}
	for n := int64(0); n < all; {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d rows can be read", n, all)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			headers := map[string]string{}
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			id := headers["result_id"]
			if id == "" || id != string(r.Key) || headers["event_time_ms"] == "" && headers["kind"] == "row" {
				t.Fatalf("key %q, headers %v", r.Key, headers)
			}
			if was, ok := values[id]; ok {
				if twice++; was != string(r.Value) {
					t.Fatalf("%s says\n%s\nand\n%s", id, was, r.Value)
				}
			}
			values[id] = string(r.Value)
			row := kafkaRow{Kind: headers["kind"]}
			if row.Kind == "row" {
				if err := json.Unmarshal(r.Value, &row); err != nil {
					t.Fatal(err)
				}
			}
			rows[id] = row
		})
	}
	return rows, twice
}

// counted works the rows out from the events alone; none is late, since `delay` is longer than their disorder.
type counted map[[2]string]map[string]int // address and window -> user -> attempts

func (c counted) add(ip, user string, at time.Time) {
	k := [2]string{ip, stamp(at.Truncate(20 * time.Second))}
	if c[k] == nil {
		c[k] = map[string]int{}
	}
	c[k][user]++
}

func (c counted) rows() (want []string) {
	for k, users := range c {
		n := 0
		for _, m := range users {
			n += m
		}
		if n >= 5 {
			want = append(want, fmt.Sprint(k[0], " ", k[1], " ", n, " ", len(users)))
		}
	}
	slices.Sort(want)
	return want
}

// compareKafka compares the rows of the topic with those that must be there.
func compareKafka(t *testing.T, rows map[string]kafkaRow, want []string, bad int) {
	t.Helper()
	var got []string
	kinds := map[string]int{}
	for _, r := range rows {
		if kinds[r.Kind]++; r.Kind == "row" {
			got = append(got, fmt.Sprint(r.IP, " ", r.Start, " ", r.Attempts, " ", r.Users))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("%d rows, want %d", len(got), len(want))
		for _, x := range got {
			if !slices.Contains(want, x) {
				t.Errorf("not wanted: %s", x)
			}
		}
		for _, x := range want {
			if !slices.Contains(got, x) {
				t.Errorf("missing: %s", x)
			}
		}
	}
	if !maps.Equal(kinds, map[string]int{"row": len(want), "error": bad}) {
		t.Errorf("%v, want %d errors", kinds, bad)
	}
}

// The example, from the log file over two topics: what comes out is what the log says.
func TestKafka(t *testing.T) { kafkaExample(t, fakeBroker(t)) }

func kafkaExample(t *testing.T, broker string) {
	client := kafkaClient(t, broker, "logins", "login_attempts")
	binary, dir := build(t), t.TempDir()
	fill := filepath.Join(dir, "fill.yaml")
	src, err := os.ReadFile("pipelines/to_kafka.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fill, bytes.ReplaceAll(src, []byte("${KAFKA:127.0.0.1:19092}"), []byte(broker)), 0o644); err != nil {
		t.Fatal(err)
	}
	pipeline := onKafka(t, dir, broker, true)
	for _, file := range []string{fill, pipeline, pipeline} { // the last finds nothing new
		if out, err := exec.Command(binary, "run", file).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	lines, bad := readLog(t, "pipelines/data/logins.jsonl")
	want := counted{}
	for _, l := range lines {
		want.add(l.SourceIP, l.Username, l.at)
	}
	rows, twice := kafkaRows(t, client, broker, "login_attempts")
	compareKafka(t, rows, want.rows(), bad)
	if twice > 0 {
		t.Errorf("%d rows are there twice", twice)
	}
	offsets, err := kadm.NewClient(client).FetchOffsets(t.Context(), "tocsin-kafka")
	if err != nil {
		t.Fatal(err)
	}
	read := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { read += o.At })
	if read != int64(len(lines)+bad) {
		t.Errorf("the group is at %d records, want %d", read, len(lines)+bad)
	}
}

// Kill -9 at random moments while records arrive: every result is there, none has changed.
func TestKilledOnKafka(t *testing.T) {
	broker := fakeBroker(t)
	kafkaKilled(t, broker, 20_000, (*kills+1)/2, func(*rand.Rand) {})
}

// realServer starts servers/NAME.sh on a port, and says its address and how to do more with it. Only `make integration` has such servers.
func realServer(t *testing.T, name, port string) (address string, server func(verb string) string) {
	t.Helper()
	if !*integration {
		t.Skip("needs real servers, hence a JDK and Maven: make integration")
	}
	t.Setenv(strings.ToUpper(name)+"_PORT", port)
	server = func(verb string) string {
		cmd := exec.Command("servers/"+name+".sh", verb)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("servers/%s.sh %s: %v\n%s", name, verb, err, said.String())
		}
		return strings.TrimSpace(string(out))
	}
	server("wipe")
	t.Cleanup(func() { server("wipe") })
	return server("up"), server
}

// The same with a real broker, which is stopped, killed and started meanwhile. `make integration` asks for it.
func TestIntegrationKafka(t *testing.T) {
	broker, server := realServer(t, "kafka", "19492")
	t.Run("example", func(t *testing.T) { kafkaExample(t, broker) })
	server("wipe")
	server("up")
	disturb := func(r *rand.Rand) {
		switch r.IntN(4) {
		case 0:
			server("stop")
		case 1:
			server("kill")
		default:
			return
		}
		time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
		server("up")
	}
	t.Run("killed", func(t *testing.T) { kafkaKilled(t, broker, 150_000, *kills, disturb) })
	t.Run("members", func(t *testing.T) { membersKilled(t, broker, 20_000, (*kills+1)/2, disturb) })
}

// kafkaKilled produces records while the pipeline runs, kills it at random moments and lets disturb do what it likes between; at the end
// it runs to the end of the topic, and the rows are compared.
func kafkaKilled(t *testing.T, broker string, events, kills int, disturb func(r *rand.Rand)) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	client := kafkaClient(t, broker, "logins", "login_attempts")
	binary, dir := build(t), t.TempDir()
	live, bounded := onKafka(t, mkdir(t, dir, "live"), broker, false), onKafka(t, mkdir(t, dir, "bounded"), broker, true)
	src, err := os.ReadFile(bounded)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bounded, bytes.ReplaceAll(src, []byte(filepath.Join(dir, "bounded", "state")), []byte(filepath.Join(dir, "live", "state"))), 0o644); err != nil {
		t.Fatal(err)
	}
	want, bad := counted{}, 0
	var producing sync.WaitGroup
	producing.Go(func() { want, bad = arriving(t, rand.New(rand.NewPCG(seed, 2)), client, events) })
	killedLive(t, r, binary, live, kills, 50, 1250, disturb)
	producing.Wait()
	if out, err := exec.Command(binary, "run", bounded).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rows, twice := kafkaRows(t, client, broker, "login_attempts")
	compareKafka(t, rows, want.rows(), bad)
	t.Logf("%d kills, %d results, %d of them there again", kills, len(rows), twice)
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

// arriving produces logins, up to 50 s out of order, some of them torn, and counts them.
func arriving(t *testing.T, r *rand.Rand, client *kgo.Client, events int) (want counted, bad int) {
	want = counted{}
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	for i := range events {
		at := start.Add(time.Duration(i)*10*time.Millisecond - time.Duration(r.IntN(50))*time.Second)
		ip, user := fmt.Sprintf("10.0.0.%d", r.IntN(250)), fmt.Sprint("u", r.IntN(9))
		value := fmt.Appendf(nil, `{"login_time":"%s","source_ip":"%s","username":"%s"}`, stamp(at), ip, user)
		if r.IntN(2000) == 0 {
			value = value[:30]
			bad++
		} else {
			want.add(ip, user, at)
		}
		client.Produce(context.Background(), &kgo.Record{Topic: "logins", Key: []byte(ip), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
		if i%500 == 499 {
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		}
	}
	if err := client.Flush(context.Background()); err != nil {
		t.Error(err)
	}
	return want, bad
}
