package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/kafka"
)

var update = flag.Bool("update", false, "rewrite what tests compare with: testdata/graph")

// What Benthos parses is what the decoder reads from the file.
func TestKafkaConfig(t *testing.T) {
	const text = `
seed_brokers: [a:9092, "b:9093"]
topics: [logins, ids]
partitions: [0, 3]
start: 2026-03-02T08:00:00Z
until: end
on_lost: latest
consumer_group: g
max_record: 2KiB
tls: { enabled: true, ca_file: ca.pem, server_name: kafka }
sasl: { mechanism: SCRAM-SHA-512, username: u, password_env: KAFKA_PASSWORD }
`
	parsed, err := kafkaRecordsSpec().ParseYAML(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := newKafkaRecords(parsed, service.MockResources())
	if err != nil {
		t.Fatal(err)
	}
	got := in.conf
	got.Log = kafka.Log{}
	want := kafka.Input{Cluster: kafka.Cluster{Seeds: []string{"a:9092", "b:9093"}, TLS: &credential.TLS{CAFile: "ca.pem", ServerName: "kafka"},
		SASL: &kafka.SASL{Mechanism: "SCRAM-SHA-512", User: "u", Secret: credential.Secret{Env: "KAFKA_PASSWORD"}}},
		Topics: []string{"logins", "ids"}, Share: kafka.Share{List: []int32{0, 3}}, Start: kafka.Start(time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC).UnixMilli()),
		UntilEnd: true, Lost: "latest", Group: "g", RecordMax: 2048}
	if a, b := shownJSON(t, got), shownJSON(t, want); a != b {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	parsed, err = kafkaRecordsSpec().ParseYAML("seed_brokers: [a:9092]\ntopics: [logins]\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if in, err = newKafkaRecords(parsed, service.MockResources()); err != nil {
		t.Fatal(err)
	}
	if c := in.conf; c.TLS != nil || c.SASL != nil || c.Start != kafka.Earliest || c.UntilEnd || c.Lost != "stop" || c.Group != "" || c.RecordMax != 1<<20 || c.Share.N != 0 || c.Share.List != nil {
		t.Errorf("%+v", c)
	}
}

func shownJSON(t *testing.T, in kafka.Input) string {
	t.Helper()
	b, err := json.Marshal(struct {
		kafka.Input
		Log any
	}{Input: in})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The record of a row: metadata as headers, the result id or a column as key.
func TestKafkaRowsRecord(t *testing.T) {
	for _, c := range []struct{ key, payload, want string }{
		{"", `{"ip":"10.0.0.1"}`, "ID"},
		{"ip", `{"ip":"10.0.0.\u0031","n":7}`, "10.0.0.1"},
		{"n", `{"ip":"10.0.0.1","n":7}`, "7"},
		{"n", `{"n":null}`, "ID"},
		{"missing", `{"n":7}`, "ID"},
		{"n", `not json`, "ID"},
		{"n", `{"n":""}`, ""},
	} {
		o := &kafkaRows{conf: kafkaRowsConfig{key: c.key}}
		msg := service.NewMessage([]byte(c.payload))
		for _, kv := range [][2]string{{"result_id", "ID"}, {"operator", "o"}, {"kind", "row"}, {"revision", "0"}, {"event_time_ms", "5"}, {"of_benthos", "x"}} {
			msg.MetaSetMut(kv[0], kv[1])
		}
		r, err := o.row(msg)
		var headers []string
		for _, h := range r.Headers {
			headers = append(headers, h.Name+"="+string(h.Value))
		}
		if err != nil || string(r.Key) != c.want || r.Key == nil || string(r.Value) != c.payload || strings.Join(headers, " ") != "operator=o kind=row result_id=ID revision=0 event_time_ms=5" {
			t.Errorf("%+v: key %q, headers %v, %v", c, r.Key, headers, err)
		}
	}
}

// Without a detect buffer the input says that it needs one, and what no retry mends ends the process.
func TestKafkaWithoutDetect(t *testing.T) {
	parsed, err := kafkaRecordsSpec().ParseYAML("seed_brokers: [a:9092]\ntopics: [logins]\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := newKafkaRecords(parsed, service.MockResources())
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Connect(context.Background()); !errors.Is(err, service.ErrEndOfInput) || in.link.run.Failure() == nil || !strings.Contains(in.link.run.Failure().Error(), "needs a `detect` buffer") {
		t.Errorf("%v, %v", err, in.link.run.Failure())
	}
	if err := in.Close(context.Background()); err != nil {
		t.Error(err)
	}
}
