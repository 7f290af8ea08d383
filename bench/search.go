package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// How long a record of Kafka takes until its alert can be found in a search index: Tocsin's part, and the index's, which shows what it has got at its next
// refresh.

// One of so many records raises an alert; the index is searched so often for those that were not seen.
const (
	alertOf     = 100
	searchEvery = 25 * time.Millisecond
)

const searchYAML = `
input: { kafka_records: { seed_brokers: ["BROKER"], topics: [bench-searchRUN], start: latest } }
buffer:
  detect:
    name: search
    state: DIR/state-search
    streams: { logins: { match: { topic: "*" }, time: { field: _timestamp, format: epoch_ms } } }
    operators:
      attacks:
        filter: { from: logins, where: { status: attack } }
        alert: { title: "attack {n}", severity: high }
    deliver:
      siem: { where: { kind: alert } }
      rest: {}
output:
  lanes:
    siem: { elasticsearch_bulk: { urls: [ "INDEX" ], index: bench-alertsRUN } }
    rest: { drop: {} }
`

// benchSearch measures it with a real broker and a real index, both beside what is measured.
func benchSearch() error {
	broker, kind, stop, err := aBroker()
	if err != nil {
		return err
	}
	defer stop()
	index, name, down, err := anIndex()
	if err != nil {
		return err
	}
	defer down()
	say("%s at %s, %s at %s", kind, broker, name, index)
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	binary := filepath.Join(*dir, "tocsin")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %s", out)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	id := strconv.FormatInt(time.Now().UnixMilli(), 36)
	best := searchRun{half: time.Hour, most: time.Hour}
	for i := range *runs {
		say("run %d of %d: %d records a second for %s, the index is refreshed every %s", i+1, *runs, latencyRate, *live, *refresh)
		ran, err := (&searchBench{client: client, broker: broker, index: index, run: fmt.Sprint("-", id, "-", i)}).measure(binary)
		switch {
		case errors.Is(err, errBusy):
			say("the machine was too busy to produce so many records a second: this run does not count")
		case err != nil:
			return err
		case ran.most < best.most:
			best = ran
		}
	}
	fmt.Printf("\n| %s -> detect -> %s | is, ms | must be |\n|---|---|---|\n", kind, name)
	if best.alerts == 0 {
		fmt.Println("| the rate was not reached | | |")
		return nil
	}
	fmt.Printf("| record produced to its alert found by a search, %d records/s, %d alerts, index refreshed every %s: half within | %.0f | |\n", latencyRate, best.alerts, *refresh, ms(best.half))
	fmt.Printf("| ... 99 of 100 within | %.0f | <= %d |\n", ms(best.most), (500*time.Millisecond + *refresh).Milliseconds())
	return nil
}

// anIndex finds a search index: TOCSIN_INDEX, else one of servers/opensearch.sh, which is stopped in the end.
func anIndex() (address, kind string, stop func(), err error) {
	if address = os.Getenv("TOCSIN_INDEX"); address != "" {
		return address, "the index of TOCSIN_INDEX", func() {}, nil
	}
	var said bytes.Buffer
	cmd := exec.Command("servers/opensearch.sh", "up")
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", "", nil, fmt.Errorf("servers/opensearch.sh up: %w: %s", err, said.Bytes())
	}
	return strings.TrimSpace(string(out)), "OpenSearch, one node", func() { _ = exec.Command("servers/opensearch.sh", "wipe").Run() }, nil
}

// searchRun is what was measured.
type searchRun struct {
	half, most time.Duration
	alerts     int
}

// searchBench is one run: a topic and an index of its own.
type searchBench struct {
	client        *kgo.Client
	broker, index string
	run           string

	mu   sync.Mutex
	sent []time.Time // of the records that raise an alert, before they were produced
}

func (b *searchBench) measure(binary string) (ran searchRun, err error) {
	drop, err := topics(b.client, "bench-search"+b.run)
	if err != nil {
		return ran, err
	}
	defer drop()
	settings := fmt.Sprintf(`{"settings":{"number_of_shards":1,"number_of_replicas":0,"refresh_interval":"%dms"}}`, refresh.Milliseconds())
	if _, err := b.ask(http.MethodPut, "", settings); err != nil {
		return ran, err
	}
	defer func() { _, _ = b.ask(http.MethodDelete, "", "") }()
	file := path("search.yaml")
	text := strings.NewReplacer("BROKER", b.broker, "INDEX", b.index, "DIR", *dir, "RUN", b.run).Replace(searchYAML)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return ran, err
	}
	cmd := exec.Command(binary, "run", "--fresh", "--quiet", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return ran, err
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}()
	time.Sleep(3 * time.Second) // the pipeline has found the end of its topic
	fed := make(chan error, 1)
	go func() { fed <- b.feed() }()
	took, err := b.look(fed)
	if err != nil {
		return ran, err
	}
	took = took[len(took)/5:] // the first fifth warms up
	slices.Sort(took)
	return searchRun{took[len(took)/2], took[len(took)*99/100], len(took)}, nil
}

// feed produces records evenly for *live, and notes when those that raise an alert were.
func (b *searchBench) feed() error {
	pad := strings.Repeat("x", 150)
	began, all := time.Now(), int(live.Seconds()*latencyRate)
	for i := range all {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / latencyRate)))
		status := "success"
		if i%alertOf == 0 {
			status = "attack"
			b.mu.Lock()
			b.sent = append(b.sent, time.Now())
			b.mu.Unlock()
		}
		value := fmt.Appendf(nil, `{"n":%d,"status":"%s","user_agent":"%s"}`, i/alertOf, status, pad)
		b.client.Produce(context.Background(), &kgo.Record{Topic: "bench-search" + b.run, Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				log.Print(err)
			}
		})
	}
	if time.Since(began) > *live*11/10 {
		return errBusy
	}
	return nil
}

// look searches the index until every alert was found, and returns how long each took, in their order.
func (b *searchBench) look(fed chan error) (took []time.Duration, err error) {
	var seen []bool
	first, over := 0, false // the first alert that was not seen; all are produced
	for patience := time.Now().Add(*live + time.Minute); ; time.Sleep(searchEvery) {
		select {
		case err := <-fed:
			if over = true; err != nil {
				return nil, err
			}
		default:
		}
		b.mu.Lock()
		sent := b.sent
		b.mu.Unlock()
		seen, took = append(seen, make([]bool, len(sent)-len(seen))...), append(took, make([]time.Duration, len(sent)-len(took))...)
		for first < len(seen) && seen[first] {
			first++
		}
		switch {
		case first == len(sent) && over:
			return took, nil
		case first == len(sent):
			continue
		case time.Now().After(patience):
			return nil, fmt.Errorf("alert %d of %d cannot be found", first, len(sent))
		}
		query := fmt.Sprintf(`{"size":10000,"_source":["title"],"query":{"range":{"@timestamp":{"gte":"%s"}}}}`, sent[first].Add(-time.Second).UTC().Format(time.RFC3339Nano))
		answer, err := b.ask(http.MethodPost, "/_search", query)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		for _, m := range attackTitle.FindAllSubmatch(answer, -1) {
			n, _ := strconv.Atoi(string(m[1]))
			if n < len(seen) && !seen[n] {
				seen[n], took[n] = true, now.Sub(sent[n])
			}
		}
	}
}

var attackTitle = regexp.MustCompile(`"title":"attack (\d+)"`)

// ask makes a request about the index.
func (b *searchBench) ask(method, path, body string) ([]byte, error) {
	req, err := http.NewRequest(method, b.index+"/bench-alerts"+b.run+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		var said struct{ Error json.RawMessage }
		_ = json.Unmarshal(answer, &said)
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, said.Error)
	}
	return answer, err
}
