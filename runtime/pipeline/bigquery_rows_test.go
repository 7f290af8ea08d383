package pipeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/bigquery"
	"github.com/seed-98920119/tocsin/runtime/bigquery/double"
	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

func bigqueryOf(yaml string) (*bigqueryRows, error) {
	conf, err := bigqueryRowsSpec().ParseYAML(yaml, nil)
	if err != nil {
		return nil, err
	}
	return newBigqueryRows(conf, service.MockResources())
}

// newBigquery is an output to a double, for rows of two operators.
func newBigquery(t *testing.T, s *double.Server, yaml string) *bigqueryRows {
	t.Helper()
	out, err := bigqueryOf("project: proj-a\ndataset: d\nendpoint: " + s.URL + "\ngrpc_endpoint: " + s.Storage + "\n" + yaml)
	if err != nil {
		t.Fatal(err)
	}
	out.link.detect = true
	out.link.shapes = map[string]*rowShape{
		"attempts": {"tocsin.p", "attempts", []rowColumn{{"source.ip", "ip"}, {"window_start", "timestamp"}, {"n", "int"}, {"avg", "float"}, {"seen", "bool"}, {"names", ""}, {"kind", "string"}}},
		"events":   documentShape,
	}
	t.Cleanup(func() { out.Close(t.Context()) })
	return out
}

func newDouble(t *testing.T) *double.Server {
	t.Helper()
	s := double.New()
	t.Cleanup(s.Close)
	return s
}

// What stands in the table of rows of all kinds, by every way of writing.
func TestBigqueryRows(t *testing.T) {
	for _, write := range []string{"write: storage", "write: insert_all", "write: exactly_once\noffsets: " + filepath.Join(t.TempDir(), "offsets")} {
		s := newDouble(t)
		out := newBigquery(t, s, "table: 't_${! @kind }'\ncreate: true\ncluster_by: [source.ip, operator]\npartition: hour\n"+write)
		if err := out.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		batch := service.MessageBatch{
			rowMessage(`{"source.ip":"10.0.0.1","window_start":"2026-03-02T08:00:00.000Z","n":5,"avg":0.5,"seen":true,"names":["a","b"],"kind":"x"}`,
				"result_id", "A", "kind", "row", "operator", "attempts", "revision", "2", "event_time_ms", "1772438419999", "lane", "main"),
			rowMessage(`{"any":1}`, "result_id", "B", "kind", "row", "operator", "events", "revision", "0", "event_time_ms", "1772438419999"),
			rowMessage(`{"id":"C","title":"T","severity":"high","risk_score":70,"count":1,"row":{"a":1},"events":[]}`, "result_id", "C", "kind", "alert", "operator", "attempts"),
			rowMessage("no\nJSON", "result_id", "D", "kind", "late", "stream", "s", "reason", "late", "late_by_ms", "7", "event_time_ms", "0", "position", "f@5"),
		}
		if err := out.WriteBatch(t.Context(), batch); err != nil {
			t.Fatal(write, err)
		}
		for table, want := range map[string]string{
			"t_row": `map[avg:0.5 event_time:1772438419999000 kind:row lane:main n:5 names:["a","b"] operator:attempts result_id:A revision:2 row_kind:x seen:true source_ip:10.0.0.1 window_start:1772438400000000]` +
				` map[event_time:1772438419999000 kind:row operator:events payload:{"any":1} result_id:B revision:0]`,
			"t_alert": `map[count:1 events:[] id:C kind:alert operator:attempts result_id:C revision:0 risk_score:70 row:{"a":1} severity:high title:T]`,
			"t_late":  "map[kind:late late_by_ms:7 payload:no\nJSON position:f@5 reason:late result_id:D revision:0 stream:s]",
		} {
			if got := strings.Trim(fmt.Sprint(s.Rows("proj-a.d."+table)), "[]"); got != strings.Trim(want, "[]") {
				t.Errorf("%s: %s:\n got %s\nwant %s", write, table, got, want)
			}
		}
		columns, partition, clustering := s.Columns("proj-a.d.t_row")
		if !slices.Equal(columns, []string{"result_id STRING REQUIRED", "revision INTEGER REQUIRED", "operator STRING", "kind STRING", "event_time TIMESTAMP", "lane STRING", "stream STRING", "reason STRING",
			"late_by_ms INTEGER", "position STRING", "payload STRING", "source_ip STRING", "window_start TIMESTAMP", "n INTEGER", "avg FLOAT", "seen BOOLEAN", "names STRING", "row_kind STRING"}) ||
			partition != "HOUR event_time" || !slices.Equal(clustering, []string{"source_ip", "operator"}) {
			t.Errorf("%v, %s, %v", columns, partition, clustering)
		}
	}
}

// All rows stand as their JSON if that is asked for; a table that has no place for it loses none.
func TestBigqueryDocuments(t *testing.T) {
	s := newDouble(t)
	s.AddTable("proj-a.d.t", "result_id STRING", "revision INTEGER", "payload STRING")
	s.AddTable("proj-a.d.u", "result_id STRING", "revision INTEGER")
	msg := rowMessage(`{"n":5}`, "result_id", "A", "kind", "row", "operator", "attempts")
	if err := newBigquery(t, s, "table: t\ndocument: true").WriteBatch(t.Context(), service.MessageBatch{msg}); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(s.Rows("proj-a.d.t")); got != `[map[payload:{"n":5} result_id:A revision:0]]` {
		t.Error(got)
	}
	if err := newBigquery(t, s, "table: u\ndocument: true").WriteBatch(t.Context(), service.MessageBatch{msg}); err == nil || !strings.Contains(err.Error(), "the table has no column payload for rows whose columns are not known") {
		t.Error(err)
	}
}

// A message without a table or an id is refused, alone.
func TestBigqueryUnfit(t *testing.T) {
	s := newDouble(t)
	out := newBigquery(t, s, "table: '${! json(\"x\") }'\ncreate: true")
	err := out.WriteBatch(t.Context(), service.MessageBatch{
		rowMessage(`{"x":"fine"}`, "result_id", "A", "kind", "late"),
		rowMessage(`{"x":"a.b"}`, "result_id", "B", "kind", "late"),
		rowMessage(`{"x":"fine"}`, "kind", "late"),
		rowMessage(`{"x":"fine"}`, "result_id", "with space", "kind", "late")})
	var failed *service.BatchError
	if !errors.As(err, &failed) || failed.IndexedErrors() != 3 {
		t.Fatal(err)
	}
	want := []string{"no result_id", `table "a.b": names of tables have letters`, "no result_id"}
	fates := make([]fate, 3)
	out.rows(service.MessageBatch{rowMessage(`{"x":"a"}`), rowMessage(`{"x":"a.b"}`, "result_id", "B"), rowMessage(`{"x":"fine"}`)}, fates)
	for i, text := range want {
		if fates[i].verdict != refused || !strings.Contains(fates[i].why, text) {
			t.Errorf("%d: %+v", i, fates[i])
		}
	}
	if got := len(s.Rows("proj-a.d.fine")); got != 1 {
		t.Errorf("%d rows", got)
	}
}

// What Benthos parses is what the decoder reads from the file, with and without what may be left out.
func TestBigqueryConfig(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "not/there")
	out, err := bigqueryOf("project: proj-a\ndataset: d\ntable: t\n")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close(t.Context())
	c := out.conf
	if to, ok := c.static(); !ok || to != (bigquery.Destination{Project: "proj-a", Dataset: "d", Table: "t"}) {
		t.Errorf("%v %v", to, ok)
	}
	if c.to.Endpoint.String() != bigqueryEndpoint || c.to.Storage != bigqueryStorage || c.to.Method != bigquery.Append || c.to.Create || c.to.Partition != "DAY" || c.to.Cluster != nil || c.document ||
		c.auth != (credential.Secret{}) || c.to.RequestMax != 5<<20 || c.to.RowsMax != 10_000 || c.to.Timeout != 30*time.Second || c.to.Patience != 30*time.Second || c.inFlight != 4 || c.batching.Count != 0 {
		t.Errorf("%+v", c)
	}
	store := filepath.Join(t.TempDir(), "a", "store")
	out, err = bigqueryOf("project: example.com:proj-a\ndataset: d\ntable: '${! @kind }'\nwrite: exactly_once\noffsets: " + store + "\ncreate: true\nlocation: EU\npartition: none\ncluster_by: [a.b, c]\ndocument: true\n" +
		"endpoint: http://127.0.0.1:9050\ngrpc_endpoint: 127.0.0.1:9060\nrequest_max: 1MiB\nrows_max: 5\ntimeout: 5s\nretry_for: 0s\nmax_in_flight: 2\nbatching: { count: 5 }\n")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close(t.Context())
	c = out.conf
	if _, ok := c.static(); ok || c.to.Method != bigquery.Exact || c.to.Store != store || !c.to.Create || c.to.Location != "EU" || c.to.Partition != "" || !slices.Equal(c.to.Cluster, []string{"a_b", "c"}) || !c.document ||
		c.to.Endpoint.Host != "127.0.0.1:9050" || c.to.Storage != "127.0.0.1:9060" || c.to.RequestMax != 1<<20 || c.to.RowsMax != 5 || c.to.Timeout != 5*time.Second || c.to.Patience != 0 || c.inFlight != 2 || c.batching.Count != 5 || c.batching.Period != "200ms" {
		t.Errorf("%+v", c)
	}
	if _, err := bigqueryOf("project: proj-a\ndataset: d\ntable: t\nwrite: exactly_once\noffsets: " + store); err == nil || !strings.Contains(err.Error(), "another output or process writes this file") {
		t.Error(err)
	}
}

// Secrets come from where they are named, and are shown nowhere.
func TestBigquerySecrets(t *testing.T) {
	t.Setenv("SOME_KEY", `{"type":"geheim"}`)
	for auth, want := range map[string]string{
		"{ credentials_env: NOT_THERE }":  "bigquery_rows: auth: the environment has no variable NOT_THERE",
		"{ credentials_file: not/there }": "bigquery_rows: auth: open not/there",
		"{ credentials: geheim }":         "the credentials must not stand in a pipeline",
		"{ credentials_env: SOME_KEY }":   "the credentials are not the JSON of a service account's key",
	} {
		out, err := bigqueryOf("project: proj-a\ndataset: d\ntable: t\nauth: " + auth)
		if err == nil {
			err = out.Connect(t.Context())
			if out.link.run.Failure() == nil {
				t.Errorf("%s: it goes on", auth)
			}
			out.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", auth, err)
		}
	}
}

// A table that is not there and may not be made ends the run and does not wait.
func TestBigqueryStops(t *testing.T) {
	out := newBigquery(t, newDouble(t), "table: t")
	if err := out.Connect(t.Context()); err == nil || out.link.run.Failure() == nil || !strings.Contains(out.link.run.Failure().Error(), "bigquery_rows: proj-a.d.t: HTTP 404 notFound") {
		t.Errorf("%v, %v", err, out.link.run.Failure())
	}
}

// The buffer is told of each row of a rejected batch what became of it, and those that are there are not written again.
func TestBigqueryAccounts(t *testing.T) {
	for _, write := range []string{"storage", "insert_all"} {
		s := newDouble(t)
		s.AddTable("proj-a.d.fine", "result_id STRING", "revision INTEGER", "n INTEGER")
		out := newBigquery(t, s, "table: '${! json(\"to\") }'\nretry_for: 0s\nwrite: "+write)
		out.link.shapes["o"] = &rowShape{"", "", []rowColumn{{"to", ""}, {"n", "int"}}}
		var rows []*engine.Out
		var batch service.MessageBatch
		for i, payload := range []string{`{"to":"fine","n":1}`, `{"to":"fine","n":"one"}`, `{"to":"gone"}`} {
			row := &engine.Out{ID: event.ID{byte(i)}, Kind: "row", Operator: "o", Payload: []byte(payload)}
			rows, batch = append(rows, row), append(batch, message(row, mainLane))
		}
		s.AddTable("proj-a.d.fine", "result_id STRING", "revision INTEGER", "n INTEGER", "to STRING")
		for range 2 {
			err := out.WriteBatch(t.Context(), batch)
			var a *engine.Account
			if !errors.As(out.link.accounted(rows, err), &a) || len(a.Of) != 2 || !a.Of[rows[1].ID].Refused || a.Of[rows[2].ID].Refused ||
				!strings.Contains(a.Of[rows[1].ID].Why, `column n is INTEGER in the table, and "one" in the row`) || !strings.Contains(a.Of[rows[2].ID].Why, "set `create: true`") {
				t.Fatalf("%s: %v: %+v", write, err, a)
			}
		}
		if got := s.Rows("proj-a.d.fine"); len(got) != 1 {
			t.Errorf("%s: %v", write, got)
		}
	}
}
