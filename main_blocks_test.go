package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	bigquery "github.com/seed-98920119/tocsin/runtime/bigquery/double"
	elastic "github.com/seed-98920119/tocsin/runtime/elastic/double"
)

const blocksYAML = `
input: { file_lines: { paths: [pipelines/data/logins.jsonl, pipelines/data/ids.jsonl] } }
buffer:
  detect:
    name: blocks
    state: DIR/state
    streams:
      logins: { match: { path: "*logins*" }, time: { field: login_time }, watermark: { strict: true } }
      ids: { match: { path: "*ids*" }, time: { field: event_time }, watermark: { strict: true } }
    operators:
      login_attempts:
        window: { from: logins, tumbling: 20s, key: source_ip, aggregate: { login_attempts: count } }
      attacked_logins:
        join: { left: ids, right: logins, on: source_ip, within: 1h, select: { username: logins.username, source_ip: logins.source_ip } }
        alert: { title: "{username} logged in from {source_ip}, which attacks", severity: high }
    deliver:
      rows: {}
      index: { block: true }
      table: { block: true }
      topic: { block: true }
      hook: { block: true, where: { kind: [row, alert, error] } }
output:
  lanes:
    rows: { file_rows: { path: DIR/rows.jsonl } }
    index: { elasticsearch_bulk: { urls: [ "ELASTIC" ], index: "rows-${! @kind }", metadata: true } }
    table: { bigquery_rows: { project: proj-a, dataset: d, table: t, create: true, document: true, endpoint: "BIGQUERY", grpc_endpoint: "STORAGE", batching: { count: 3, period: 20ms } } }
    topic: { kafka_rows: { seed_brokers: [ "BROKER" ], topic: rows } }
    hook: { webhook: { url: "HOOK/{@kind}", kinds: [ row, alert, error ], retry_for: 0s } }
`

// blockHook is a receiver that refuses some rows for good, and now and then says that it has no time.
type blockHook struct {
	mu      sync.Mutex
	asked   int
	got     map[string]int // by id
	refused map[string]bool
}

func (h *blockHook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	id := r.Header.Get("Webhook-Id")
	switch h.asked++; {
	case h.asked%50 == 0:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/alert" && id[0]%4 == 0:
		h.refused[id] = true
		w.WriteHeader(http.StatusBadRequest)
	default:
		h.got[id]++
	}
}

// Outputs of ours that get rows in blocks write what they would have written of single rows: an index, a table, a topic and requests have each row of
// the lane that has no blocks, and its payload. Rows of a block that an output refuses become error rows, and the others of it arrive.
func TestBlocksToOutputs(t *testing.T) {
	index, table, hook := elastic.New(), bigquery.New(), &blockHook{got: map[string]int{}, refused: map[string]bool{}}
	defer index.Close()
	defer table.Close()
	receiver := httptest.NewServer(hook)
	defer receiver.Close()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "rows"))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	dir := t.TempDir()
	pipeline := filepath.Join(dir, "pipeline.yaml")
	text := strings.NewReplacer("DIR", dir, "ELASTIC", index.URL, "BIGQUERY", table.URL, "STORAGE", table.Storage, "BROKER", kafka.ListenAddrs()[0], "HOOK", receiver.URL).Replace(blocksYAML)
	if err := os.WriteFile(pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"lint", pipeline}, {"run", pipeline}} {
		if out, err := exec.Command(build(t), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	want := map[string]result{}
	payloads, rejected, acted := map[string]any{}, 0, 0
	for _, r := range results(t, filepath.Join(dir, "rows.jsonl")) {
		id := r.Tocsin.ResultID
		want[id], payloads[id] = r, withoutMeta(t, r.line)
		if r.Tocsin.Reason == "rejected" {
			rejected++
		}
		if r.Tocsin.Kind != "late" && !hook.refused[id] {
			if acted++; hook.got[id] == 0 {
				t.Errorf("the receiver lacks %s", r.line)
			}
		}
	}
	if len(want) < 500 || rejected == 0 || rejected != len(hook.refused) || len(hook.got) != acted {
		t.Fatalf("%d rows, %d of which were rejected, want %d; %d requests, want %d", len(want), rejected, len(hook.refused), len(hook.got), acted)
	}
	docs := 0
	for _, name := range index.Indexes() {
		for id, d := range index.Docs(name) {
			docs++
			r := want[id]
			if name != "rows-"+r.Tocsin.Kind || d.Version != 1 || d.Writes != 1 || !reflect.DeepEqual(withoutMeta(t, d.Source), payloads[id]) || !strings.Contains(d.Source, `"lane":"index"`) {
				t.Fatalf("%s in index %s: %s\nwant %s", id, name, d.Source, r.line)
			}
		}
	}
	cells := map[string]bool{}
	for _, row := range table.Rows("proj-a.d.t") {
		id := fmt.Sprint(row["result_id"])
		if cells[id] = true; row["lane"] != "table" || row["kind"] != want[id].Tocsin.Kind || !reflect.DeepEqual(withoutMeta(t, fmt.Sprint(row["payload"])), payloads[id]) {
			t.Fatalf("%v\nwant %s", row, want[id].line)
		}
	}
	records := topicRows(t, kafka.ListenAddrs()[0], len(want))
	for id, value := range records {
		if !reflect.DeepEqual(withoutMeta(t, value), payloads[id]) {
			t.Fatalf("%s: %s\nwant %s", id, value, want[id].line)
		}
	}
	if docs != len(want) || len(cells) != len(want) || len(records) != len(want) {
		t.Errorf("%d documents, %d rows of the table, %d records, want %d", docs, len(cells), len(records), len(want))
	}
}

// withoutMeta is what a row says, without what outputs add to it.
func withoutMeta(t *testing.T, line string) any {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	delete(m, "_tocsin")
	delete(m, "@timestamp")
	return m
}

// topicRows are the values of the topic's records by their keys, once there are so many.
func topicRows(t *testing.T, broker string, rows int) map[string]string {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics("rows"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	got := map[string]string{}
	for len(got) < rows && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got[string(r.Key)] = string(r.Value) })
	}
	return got
}
