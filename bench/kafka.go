package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seed-98920119/tocsin/bench/gen"
)

// The topics of the benchmark have so many partitions; the latency is measured at so many records a second, for so long.
const (
	kafkaPartitions = 4
	latencyRate     = 5000
	latencySeconds  = 20
)

const kafkaYAML = `
input: { kafka_records: { seed_brokers: ["BROKER"], topics: [EMPTYbench-logins-ID], until: end } }
buffer:
  detect:
    name: kafka
    state: DIR/state-kafka
    streams: { logins: { match: { topic: "*" }, time: { field: login_time }, watermark: { delay: 1s } } }
    operators:
      suspicious_logins:
        window: { from: logins, tumbling: 20s, key: source_ip, aggregate: { login_attempts: count }, having: { login_attempts|gte: THRESHOLD } }
output: { kafka_rows: { seed_brokers: ["BROKER"], topic: bench-counts-ID } }
`

const latencyYAML = `
input: { kafka_records: { seed_brokers: ["BROKER"], topics: [bench-liveRUN], start: latest } }
buffer:
  detect:
    name: latency
    state: DIR/state-latency
    streams: { logins: { match: { topic: "*" }, time: { field: _timestamp, format: epoch_ms } } }
    operators: { all: { filter: { from: logins, where: { n|exists: true } } } }
output: { kafka_rows: { seed_brokers: ["BROKER"], topic: bench-rowsRUN } }
`

// benchKafka measures the way from a topic to a topic: what a record costs, and how long it takes.
func benchKafka() error {
	broker, kind, stop, err := aBroker()
	if err != nil {
		return err
	}
	defer stop()
	say("%s at %s", kind, broker)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	binary := filepath.Join(*dir, "tocsin")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %s", out)
	}
	id := strconv.FormatInt(time.Now().UnixMilli(), 36)
	drop, err := topics(client, "bench-logins-"+id, "empty-bench-logins-"+id, "bench-counts-"+id)
	if err != nil {
		return err
	}
	defer drop()
	say("producing %d logins, seed %d", *events, *seed)
	if err := produce(client, "bench-logins-"+id); err != nil {
		return err
	}
	r := pipelineRow(binary, "kafka", *events, "280MiB", strings.NewReplacer("BROKER", broker, "ID", id).Replace(kafkaYAML))
	for i := range *runs {
		say("run %d of %d: kafka", i+1, *runs)
		if err := r.measure(); err != nil {
			return err
		}
	}
	p50, p99 := time.Hour, time.Hour
	for i := range *runs {
		half, most, err := latency(client, binary, broker, fmt.Sprint("-", id, "-", i))
		if err != nil {
			return err
		}
		if most < p99 {
			p50, p99 = half, most
		}
	}
	fmt.Printf("\n| %s | | must be |\n|---|---|---|\n", kind)
	fmt.Printf("| topic -> 20 s windows by address -> topic, CPU ns a record | %.0f | <= 2500 |\n", float64(r.cpu.Nanoseconds())/float64(r.events))
	fmt.Printf("| ... records/s | %.0f | |\n| ... peak RSS MB | %.0f | <= 300 |\n", float64(r.events)/r.wall.Seconds(), float64(r.rss)/1024)
	fmt.Printf("| record produced to row out, %d/s: p50, ms | %.1f | |\n| ... p99, ms | %.1f | <= 150 |\n", latencyRate, ms(p50), ms(p99))
	avro, err := avroCost()
	if err != nil {
		return err
	}
	fmt.Printf("| Avro by the id of its schema -> columns, 4 fields of 8, CPU ns a record | %d | <= 400 |\n", avro.Nanoseconds())
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// aBroker finds a broker: TOCSIN_KAFKA, else one of servers/kafka.sh, which is stopped in the end, else kfake within this process.
func aBroker() (address, kind string, stop func(), err error) {
	if address = os.Getenv("TOCSIN_KAFKA"); address != "" {
		return address, "the broker of TOCSIN_KAFKA", func() {}, nil
	}
	if out, err := exec.Command("servers/kafka.sh", "up").Output(); err == nil {
		return strings.TrimSpace(string(out)), "Apache Kafka, one broker", func() { _ = exec.Command("servers/kafka.sh", "wipe").Run() }, nil
	}
	say("no real broker can be had (servers/kafka.sh up): kfake stands in, whose own time is not Kafka's")
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return "", "", nil, err
	}
	return c.ListenAddrs()[0], "kfake, NOT a real broker", c.Close, nil
}

// topics makes the topics, whose names nobody had before, since a client may go on with one that was deleted. drop deletes them.
func topics(client *kgo.Client, names ...string) (drop func(), err error) {
	ctx, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	adm := kadm.NewClient(client)
	rs, err := adm.CreateTopics(ctx, kafkaPartitions, 1, nil, names...)
	if err == nil {
		err = rs.Error()
	}
	return func() {
		if _, err := adm.DeleteTopics(context.Background(), names...); err != nil {
			log.Print(err)
		}
	}, err
}

// produce writes the logins, one partition after the other in turn.
func produce(client *kgo.Client, topic string) error {
	from, to := io.Pipe()
	go func() { to.CloseWithError(gen.Logins{Seed: *seed, Events: *events}.Write(to)) }()
	data, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var failed error
	for line := range bytes.Lines(data) {
		client.Produce(context.Background(), &kgo.Record{Topic: topic, Value: bytes.TrimSuffix(line, []byte("\n"))}, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}

// latency runs a pipeline that passes every record on, and times each from before it is produced until its row is read.
func latency(client *kgo.Client, binary, broker, run string) (p50, p99 time.Duration, err error) {
	drop, err := topics(client, "bench-live"+run, "bench-rows"+run)
	if err != nil {
		return 0, 0, err
	}
	defer drop()
	file := path("latency.yaml")
	text := strings.NewReplacer("BROKER", broker, "DIR", *dir, "RUN", run).Replace(latencyYAML)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return 0, 0, err
	}
	cmd := exec.Command(binary, "run", "--fresh", "--quiet", file)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GOMEMLIMIT=280MiB")
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}()
	rows, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics("bench-rows"+run), kgo.FetchMaxWait(time.Second))
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	time.Sleep(3 * time.Second) // the pipeline has found the end of its topic
	say("%d records a second for %d s", latencyRate, latencySeconds)
	all := latencyRate * latencySeconds
	sent := make([]time.Time, all)
	go paced(client, "bench-live"+run, sent)
	took := make([]time.Duration, 0, all)
	seen := make([]bool, all)
	ctx, done := context.WithTimeout(context.Background(), (latencySeconds+120)*time.Second)
	defer done()
	for len(took) < all {
		fetches := rows.PollFetches(ctx)
		if ctx.Err() != nil {
			return 0, 0, fmt.Errorf("%d rows of %d came in time; the first that is missing is %d", len(took), all, slices.Index(seen, false))
		}
		now := time.Now()
		fetches.EachRecord(func(r *kgo.Record) {
			_, rest, _ := bytes.Cut(r.Value, []byte(`"n":`))
			n, err := strconv.Atoi(string(rest[:bytes.IndexByte(rest, ',')]))
			if err != nil || n >= all || seen[n] {
				return
			}
			seen[n] = true
			took = append(took, now.Sub(sent[n]))
		})
	}
	if span := sent[all-1].Sub(sent[0]); span > latencySeconds*time.Second*11/10 {
		say("the machine was too busy to produce so many records a second: it took %s; this run does not count", span.Round(time.Second))
		return time.Hour, time.Hour, nil
	}
	took = took[latencyRate:] // connections and caches are cold in the first second
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], nil
}

// paced produces one record for each place of sent, evenly, and notes when.
func paced(client *kgo.Client, topic string, sent []time.Time) {
	pad := strings.Repeat("x", 180)
	began := time.Now()
	for i := range sent {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / latencyRate)))
		sent[i] = time.Now()
		value := fmt.Appendf(nil, `{"n":%d,"user_agent":"%s"}`, i, pad)
		client.Produce(context.Background(), &kgo.Record{Topic: topic, Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				log.Print(err)
			}
		})
	}
}
