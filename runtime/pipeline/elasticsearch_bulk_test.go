package pipeline

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/elastic/double"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

func newBulk(t *testing.T, yaml string) *elasticBulk {
	t.Helper()
	out, err := bulkOf(yaml)
	if err != nil {
		t.Fatal(err)
	}
	out.link.detect = true
	t.Cleanup(func() { out.Close(t.Context()) })
	return out
}

func bulkOf(yaml string) (*elasticBulk, error) {
	conf, err := elasticBulkSpec().ParseYAML(yaml, nil)
	if err != nil {
		return nil, err
	}
	return newElasticBulk(conf, service.MockResources())
}

// rowMessage is a row as the detect buffer sends it.
func rowMessage(payload string, meta ...string) *service.Message {
	msg := service.NewMessage([]byte(payload))
	for i := 0; i < len(meta); i += 2 {
		msg.MetaSetMut(meta[i], meta[i+1])
	}
	return msg
}

// The document of a row: its columns, its time, and what it is called.
func TestElasticDocuments(t *testing.T) {
	row := []string{"result_id", "ID", "kind", "row", "operator", "o", "revision", "2", "event_time_ms", "1772438419999"}
	const plain = "urls: [http://a]\nindex: tocsin-${! @kind }\n"
	for _, tc := range []struct{ name, conf, payload, want string }{
		{"a row", plain, `{"a":1}`, `tocsin-row ID 3 {"a":1,"@timestamp":"2026-03-02T08:00:19.999Z"}`},
		{"an empty row", plain, `{}`, `tocsin-row ID 3 {"@timestamp":"2026-03-02T08:00:19.999Z"}`},
		{"with a time", plain, `{"@timestamp":5}`, `tocsin-row ID 3 {"@timestamp":5}`},
		{"with its name elsewhere", plain, `{"a":{"@timestamp":5}}`, `tocsin-row ID 3 {"a":{"@timestamp":5},"@timestamp":"2026-03-02T08:00:19.999Z"}`},
		{"no time wanted", plain + `timestamp: ""`, `{"a":1}`, `tocsin-row ID 3 {"a":1}`},
		{"another name", plain + `timestamp: at`, `{"a":1}`, `tocsin-row ID 3 {"a":1,"at":"2026-03-02T08:00:19.999Z"}`},
		{"metadata", plain + `metadata: true`, `{}`,
			`tocsin-row ID 3 {"@timestamp":"2026-03-02T08:00:19.999Z","_tocsin":{"operator":"o","kind":"row","result_id":"ID","revision":2,"event_time_ms":1772438419999}}`},
		{"several lines", plain, "{\n\"a\": [1,\n 2]\n}\n", `tocsin-row ID 3 {"a":[1,2],"@timestamp":"2026-03-02T08:00:19.999Z"}`},
		{"no object", plain + `timestamp: ""`, "<1>syslog\n\xff", `tocsin-row ID 3 {"raw":"\u003c1\u003esyslog\n\ufffd"}`},
		{"a data stream", plain + `data_stream: true`, `{}`, `tocsin-row ID.2 0 {"@timestamp":"2026-03-02T08:00:19.999Z"}`},
		{"a column", "urls: [http://a]\nindex: 'x-${! json(\"a\") }'\ntimestamp: ''", `{"a":"b"}`, `x-b ID 3 {"a":"b"}`},
		{"a column that is no name", "urls: [http://a]\nindex: 'x-${! json(\"a\") }'", `{"a":"B/C"}`, `index "x-B/C": names of indexes have no capitals`},
		{"no such function", "urls: [http://a]\nindex: '${! json(\"a\").number() }'", `{"a":"b"}`, `index: `},
	} {
		out := newBulk(t, tc.conf)
		docs, at, unfit := out.docs(service.MessageBatch{rowMessage(`{"first":1}`, row...), rowMessage(tc.payload, row...), rowMessage(`{"last":1}`, row...)})
		got := unfit[1]
		for k, d := range docs {
			if at[k] == 1 {
				got = fmt.Sprintf("%s %s %d %s", d.Index, d.ID, d.Version, d.Source)
			}
		}
		if got != tc.want && !(strings.HasSuffix(tc.want, ": ") && strings.HasPrefix(got, tc.want)) {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
	out := newBulk(t, plain+"data_stream: true")
	if docs, _, _ := out.docs(service.MessageBatch{rowMessage(`{}`, "result_id", "ID", "kind", "error", "event_time_ms", "0")}); len(docs) != 1 || bytes.Contains(docs[0].Source, []byte("1970")) || docs[0].ID != "ID" {
		t.Errorf("a line without time: %+v", docs)
	}
	if _, _, unfit := out.docs(service.MessageBatch{rowMessage(`{}`, "kind", "row")}); !strings.Contains(unfit[0], "no result_id") {
		t.Errorf("not a row: %q", unfit[0])
	}
}

// What Benthos parses is what the decoder reads from the file, with and without what may be left out.
func TestElasticConfig(t *testing.T) {
	c := newBulk(t, "urls: [http://a:9200/x]\nindex: a\n").conf
	if len(c.hosts) != 1 || c.hosts[0].String() != "http://a:9200/x" || c.stream || c.timestamp != "@timestamp" || c.metadata || c.auth.kind != "" || c.tls != (credential.TLS{}) || !c.gzip ||
		c.requestMax != 5<<20 || c.timeout != 30*time.Second || c.retryFor != 30*time.Second || c.inFlight != 4 {
		t.Errorf("%+v", c)
	}
	t.Setenv("ELASTIC_PASSWORD", "geheim")
	c = newBulk(t, "urls: [http://a, http://b]\nindex: a\ndata_stream: true\nmetadata: true\nauth: { username: u, password_env: ELASTIC_PASSWORD }\n"+
		"tls: { server_name: s, skip_verify: true }\ncompression: none\nrequest_max: 1MiB\ntimeout: 5s\nretry_for: 0s\nmax_in_flight: 2\n").conf
	if len(c.hosts) != 2 || !c.stream || !c.metadata || c.auth != (elasticAuth{"basic", "u", credential.Secret{Env: "ELASTIC_PASSWORD"}}) || c.tls != (credential.TLS{ServerName: "s", SkipVerify: true}) || c.gzip ||
		c.requestMax != 1<<20 || c.timeout != 5*time.Second || c.retryFor != 0 || c.inFlight != 2 {
		t.Errorf("%+v", c)
	}
}

// Secrets come from where they are named, at each request, and are shown nowhere.
func TestElasticSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	put(t, file, "geheim\n")
	t.Setenv("SOME_SECRET", "geheim")
	for auth, want := range map[string]string{
		"{ username: u, password_env: SOME_SECRET }": "Basic " + base64.StdEncoding.EncodeToString([]byte("u:geheim")),
		"{ api_key_file: " + file + " }":             "ApiKey geheim",
		"{ token_env: SOME_SECRET }":                 "Bearer geheim",
	} {
		s := double.New()
		s.Authorization = want
		out := newBulk(t, "urls: ["+s.URL+"]\nindex: a\nretry_for: 0s\nauth: "+auth)
		if err := out.Connect(t.Context()); err != nil {
			t.Errorf("%s: %v", auth, err)
		}
		s.Authorization = "another"
		err := out.WriteBatch(t.Context(), service.MessageBatch{rowMessage(`{}`, "result_id", "x")})
		if err == nil || !strings.Contains(err.Error(), "HTTP 401") || strings.Contains(fmt.Sprintf("%v %+v", err, out.conf), "geheim") {
			t.Errorf("%s: %v", auth, err)
		}
		s.Close()
	}
	for auth, want := range map[string]string{
		"{ token_env: NOT_THERE }":  "elasticsearch_bulk: auth: the environment has no variable NOT_THERE",
		"{ token_file: not/there }": "elasticsearch_bulk: auth: open not/there",
		"{ token: geheim }":         "the token must not stand in a pipeline",
	} {
		if _, err := bulkOf("urls: [http://a]\nindex: a\nauth: " + auth); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", auth, err)
		}
	}
	for tls, want := range map[string]string{
		"{ ca_file: not/there }":                        "tls: ca_file: open not/there",
		"{ ca_file: " + file + " }":                     "holds no certificate in PEM",
		"{ cert_file: not/there, key_file: not/there }": "tls: cert_file and key_file: open not/there",
	} {
		if _, err := bulkOf("urls: [https://a]\nindex: a\ntls: " + tls); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", tls, err)
		}
	}
}

// A wrong password, or a cluster that is too old, ends the run and does not wait.
func TestElasticStops(t *testing.T) {
	s := double.New()
	defer s.Close()
	s.Version = "7.17.0"
	out := newBulk(t, "urls: ["+s.URL+"]\nindex: a\n")
	if err := out.Connect(t.Context()); err == nil || out.link.run.Failure() == nil || !strings.Contains(out.link.run.Failure().Error(), "elasticsearch_bulk: "+s.Listener.Addr().String()+" is Elasticsearch 7.17.0") {
		t.Errorf("%v, %v", err, out.link.run.Failure())
	}
}

// The buffer is told of each row of a rejected batch what became of it, and forgets it when the batch is back.
func TestElasticAccounts(t *testing.T) {
	s := double.New()
	defer s.Close()
	s.Closed = map[string]bool{"closed": true}
	s.Fault = func(int) double.Fault {
		return double.Fault{Item: func(i int) int { return []int{0, 0, 0, 429}[i] }}
	}
	out := newBulk(t, "urls: ["+s.URL+"]\nindex: '${! @operator }'\nretry_for: 0s\n")
	var rows []*engine.Out
	var batch service.MessageBatch
	for i, o := range []struct{ index, payload string }{{"fine", `{"n":1}`}, {"fine", `{"n":"one"}`}, {"closed", `{}`}, {"fine", `{}`}} {
		row := &engine.Out{ID: event.ID{byte(i)}, Operator: o.index, Payload: []byte(o.payload)}
		rows, batch = append(rows, row), append(batch, message(row, mainLane))
	}
	err := out.WriteBatch(t.Context(), batch)
	var failed *service.BatchError
	if !errors.As(err, &failed) || failed.IndexedErrors() != 3 || !strings.HasPrefix(err.Error(), "3 of 4 rows not taken: 400 mapper_parsing_exception") {
		t.Errorf("%v", err)
	}
	var a *engine.Account
	if !errors.As(out.link.accounted(rows, err), &a) || len(a.Of) != 2 || !a.Of[rows[1].ID].Refused || a.Of[rows[2].ID].Refused ||
		!strings.Contains(a.Of[rows[1].ID].Why, "failed to parse field [n]") || !strings.Contains(a.Of[rows[2].ID].Why, "read-only") {
		t.Errorf("%+v", a)
	}
	if other := errors.New("x"); out.link.accounted(rows, other) != other || len(out.link.accounts) != 0 {
		t.Error("the account is still there")
	}
	if _ = out.WriteBatch(t.Context(), batch); out.link.accounted(rows, nil) != nil || len(out.link.accounts) != 0 {
		t.Error("somebody else took the batch, and the account is still there")
	}
}
