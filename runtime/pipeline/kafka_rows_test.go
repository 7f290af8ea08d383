package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/kafka"
)

// rowsOut is an output with a registry, and a message of a kind.
func rowsOut(t *testing.T, encoding, subject string) (o *kafkaRows, registry *srfake.Registry, broker string) {
	t.Helper()
	registry = srfake.New()
	t.Cleanup(registry.Close)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "rows"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	o = &kafkaRows{link: &link{detect: true, shapes: map[string]*rowShape{
		"n":    {"tocsin.shop", "n", []rowColumn{{"ip", "ip"}, {"n", "int"}}},
		"some": documentShape,
	}}}
	o.conf = kafkaRowsConfig{encoding: encoding, subject: subject, register: true, registry: &kafka.Registry{URLs: []string{registry.URL()}},
		out: kafka.Output{Cluster: kafka.Cluster{Seeds: c.ListenAddrs()}, Topic: "rows", Compression: "none", Timeout: 10 * time.Second}}
	if err := o.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close(t.Context()) })
	return o, registry, c.ListenAddrs()[0]
}

func kindMessage(kind, operator, id, payload string) *service.Message {
	m := service.NewMessage([]byte(payload))
	m.MetaSetMut("kind", kind)
	m.MetaSetMut("operator", operator)
	m.MetaSetMut("result_id", id)
	return m
}

// Each kind of row has its schema; a row that does not fit is refused, and its company is written.
func TestRowsWithSchemas(t *testing.T) {
	o, registry, broker := rowsOut(t, event.KindAvro, "topic_record")
	ids := []event.ID{{1}, {2}, {3}, {4}, {5}}
	batch := service.MessageBatch{
		kindMessage("row", "n", ids[0].String(), `{"ip":"10.0.0.1","n":5}`),
		kindMessage("row", "n", ids[1].String(), `{"ip":"10.0.0.1","n":"five"}`),
		kindMessage("alert", "n", ids[2].String(), `{"id":"x","risk_score":70,"row":{"n":5}}`),
		kindMessage("late", "n", ids[3].String(), `{"any":"event"}`),
		kindMessage("row", "some", ids[4].String(), `{"any":[1]}`),
	}
	err := o.WriteBatch(t.Context(), batch)
	if err == nil || !strings.Contains(err.Error(), `1 of 5 rows not taken: column n is "five", and its schema says int`) {
		t.Fatal(err)
	}
	var account *engine.Account
	if err := o.link.accounted([]*engine.Out{{ID: ids[0]}, {ID: ids[1]}}, err); !errors.As(err, &account) || len(account.Of) != 1 || !account.Of[ids[1]].Refused {
		t.Errorf("told of the rows: %v", err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics("rows"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cl, err := sr.NewClient(sr.URLs(registry.URL()))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(got) < 4 {
		client.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
			s, err := cl.SchemaByID(t.Context(), int(binary.BigEndian.Uint32(r.Value[1:])))
			if err != nil {
				t.Fatal(err)
			}
			schema := event.NewSchema(-1, event.KindAvro, s.Schema, nil)
			got = append(got, schema.Name+" "+string(event.OfSchema(schema).Projection(&event.Fields{}, nil).Object(r.Value[5:])))
		})
	}
	want := []string{`tocsin.shop.n {"ip":"10.0.0.1","n":5}`, `tocsin.Alert {"id":"x","rule":null,"title":null,"description":null,"severity":null,"risk_score":70,"time":null,` +
		`"first_event_time":null,"last_event_time":null,"count":null,"suppressed":null,"entities":null,"attack":null,"references":null,"false_positives":null,"note":null,"row":"{\"n\":5}","events":null,"truncated":null}`,
		`tocsin.Document {"json":"{\"any\":\"event\"}"}`, `tocsin.Document {"json":"{\"any\":[1]}"}`}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	for _, subject := range []string{"rows-tocsin.shop.n", "rows-tocsin.Alert", "rows-tocsin.Document"} {
		if !registry.SubjectExists(subject) {
			t.Errorf("subject %s is not there", subject)
		}
	}
}

func TestRowsWithJSONSchema(t *testing.T) {
	o, registry, _ := rowsOut(t, event.KindJSONSchema, "record")
	value, err := o.encode(t.Context(), kindMessage("row", "n", "", ""), []byte(`{"n":"five"}`))
	if err != nil || len(value) < 5 || value[0] != 0 || string(value[5:]) != `{"n":"five"}` || !registry.SubjectExists("tocsin.shop.n") {
		t.Errorf("%q, %v", value, err)
	}
}

// Without register a schema must be there.
func TestRowsOfUnregisteredSchemas(t *testing.T) {
	o, _, _ := rowsOut(t, event.KindAvro, "record")
	o.conf.register = false
	o.subjects = nil
	err := o.open(t.Context())
	var stop *kafka.Stop
	if !errors.As(err, &stop) || !strings.Contains(err.Error(), "register it, or set `register: true`") {
		t.Errorf("%v", err)
	}
}
