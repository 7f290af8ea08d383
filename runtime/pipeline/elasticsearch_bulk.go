package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/elastic"
	"github.com/seed-98920119/tocsin/runtime/event"
)

func elasticBulkSpec() *service.ConfigSpec {
	auth := []*service.ConfigField{service.NewStringField("username").Description("The user of a password.").Optional()}
	auth = append(auth, secretFields("password", "the password")...)
	auth = append(auth, secretFields("api_key", "the API key, as Elasticsearch encodes it")...)
	auth = append(auth, secretFields("token", "a bearer token")...)
	return service.NewConfigSpec().
		Categories("Services").
		Summary("Writes rows to Elasticsearch (8 or newer) or OpenSearch (2 or newer), each once under its result id.").
		Description(`A document is the row's payload, with the event's time as `+"`@timestamp`"+` unless it has one. Its id is the result id and its version, which the
index compares, the row's revision + 1: a row that is sent again changes nothing, a newer revision takes the place of an older one, whatever the order in
which they arrive. A payload that is no JSON object stands as text in the member `+"`raw`"+`.

A data stream takes documents only once. There a revision is a document of its own, `+"`ID.1`, `ID.2`"+` and so on.

What finds the cluster busy (429, 5xx, no answer) is tried again, alone, with pauses that double up to 10s; after `+"`retry_for`"+` it goes back to the
state and is sent again from there, as long as it takes. A row that will never be taken, since it does not fit the mapping, is too long or its index has no
possible name, does not hold the others: in its place an error row (`+"`kind: error`, reason `rejected`"+`) is sent, with the server's reason as `+"`detail`"+` and the
row as text in `+"`raw`"+`. Give error rows an index or output of their own, as `+"`index: tocsin-${! @kind }`"+` does: what does not fit may not fit again. An
index that is closed, read-only, missing or forbidden holds up only its own rows, which become error rows after `+"`detect`'s `retries`"+` while others pass.

It stops with the reason if the cluster does not let us in at the start, or is too old. Hosts are asked in turn, and one that does not answer is passed over
for 5s; nodes are not looked for.`).
		Fields(
			service.NewStringListField("urls").
				Description("The hosts, at most 64. A path is kept.").
				Example([]any{"https://es-1:9200", "https://es-2:9200"}),
			service.NewInterpolatedStringField("index").
				Description("The index or data stream, which metadata (`${! @operator }`) and columns (`${! json(\"country\") }`) may have a part in.").
				Example("tocsin-${! @kind }"),
			service.NewBoolField("data_stream").
				Description("Whether `index` names data streams: documents are created and never replaced.").
				Default(false),
			service.NewStringField("timestamp").
				Description("The member that gets the event's time if the row has none of that name; empty: none does.").
				Default("@timestamp"),
			service.NewBoolField("metadata").
				Description("Whether documents have a member `_tocsin` with the row's metadata, as the lines of `file_rows` have.").
				Default(false),
			service.NewObjectField("auth", auth...).
				Description("Who we are: a user with a password, an API key, or a token. A secret never stands in a pipeline: it is named, by a variable of the environment or a file.").
				Optional().Advanced(),
			tlsField(),
			service.NewStringEnumField("compression", "gzip", "none").
				Description("How requests are compressed.").
				Default("gzip"),
			service.NewStringField("request_max").
				Description("The longest request before compression, from 1KiB to 90MiB; a row that is longer goes alone.").
				Default("5MiB"),
			service.NewStringField("timeout").
				Description("How long to wait for an answer, from 1s to 10m.").
				Default("30s"),
			service.NewStringField("retry_for").
				Description("How long to try again before rows go back to the state, at most 1h.").
				Default("30s"),
			service.NewIntField("max_in_flight").
				Description("Batches that are written at the same time, at most 256.").
				Default(4),
		).
		Example("Rows, alerts and errors to an index each", "Needs Elasticsearch or OpenSearch, such as `servers/opensearch.sh up` starts.", `input:
  file_lines:
    paths: [pipelines/data/logins.jsonl]
buffer:
  detect:
    name: elasticsearch_bulk
    state: ./state/elasticsearch_bulk
    streams:
      logins: { time: { field: login_time } }
    operators:
      failures: { filter: { from: logins, where: { status: failure } } }
output:
  elasticsearch_bulk:
    urls: ["${ELASTICSEARCH:http://127.0.0.1:19200}"]
    index: tocsin-${! @kind }
`).
		Example("A data stream, over TLS with an API key", "", "output:\n  elasticsearch_bulk:\n    urls: [https://es-1.example.com:9200, https://es-2.example.com:9200]\n"+
			"    index: logs-tocsin.${! @kind }-default\n    data_stream: true\n    metadata: true\n    auth: { api_key_env: ELASTIC_API_KEY }\n    tls: { ca_file: /etc/tocsin/ca.pem }\n")
}

func init() { registerRows("elasticsearch_bulk", elasticBulkSpec(), newElasticBulk) }

// elasticBulk is the output.
type elasticBulk struct {
	conf   elasticConfig
	client *elastic.Client
	link   *link
}

func newElasticBulk(conf *service.ParsedConfig, res *service.Resources) (*elasticBulk, error) {
	c, err := decodeParsed(conf, "elasticsearch_bulk", decodeElasticBulk)
	if err != nil {
		return nil, err
	}
	client, err := c.client(res.Logger().Warnf)
	if err != nil {
		return nil, err
	}
	return &elasticBulk{conf: c, client: client, link: linkOf(res)}, nil
}

// client makes the client of a cluster. It reads the secrets and certificates once, to find what is wrong with them.
func (c *elasticConfig) client(warn func(format string, args ...any)) (*elastic.Client, error) {
	tls, err := c.tls.Config()
	if err != nil {
		return nil, fmt.Errorf("elasticsearch_bulk: %w", err)
	}
	to := elastic.Config{Hosts: c.hosts, TLS: tls, Gzip: c.gzip, Timeout: c.timeout, RequestMax: c.requestMax, Patience: c.retryFor,
		Warn: func(format string, args ...any) { warn("elasticsearch_bulk: "+format, args...) }}
	if c.auth.kind != "" {
		if _, err := c.auth.header(); err != nil {
			return nil, fmt.Errorf("elasticsearch_bulk: auth: %w", err)
		}
		to.Authorization = c.auth.header
	}
	return elastic.NewClient(to), nil
}

// Connect asks who is there. Benthos says what is wrong and tries again what may pass; rows wait in the state meanwhile.
func (o *elasticBulk) Connect(ctx context.Context) error {
	err := o.client.Probe(ctx)
	var stop *elastic.Stop
	if errors.As(err, &stop) {
		o.link.run.fail(fmt.Errorf("elasticsearch_bulk: %w", err))
	}
	return err
}

// WriteBatch writes the batch, or says of each message that it could not write what is the matter.
func (o *elasticBulk) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	docs, at, unfit := o.docs(batch)
	fates := make([]fate, len(batch))
	for k, f := range o.client.Write(ctx, docs) {
		fates[at[k]] = fate{verdict(f.Verdict), f.Why}
	}
	for i, why := range unfit {
		fates[i] = fate{refused, why}
	}
	return o.link.report(batch, fates)
}

// docs are the documents of a batch, with the index of each one's message; unfit are those of which none can be made, and why.
func (o *elasticBulk) docs(batch service.MessageBatch) (docs []elastic.Doc, at []int, unfit map[int]string) {
	var b bytes.Buffer
	var ends []int
	unfit = map[int]string{}
	for i, msg := range batch {
		d, why := o.doc(batch, i)
		if why == "" {
			why = o.source(&b, msg)
		}
		if why != "" {
			unfit[i] = why
			continue
		}
		docs, at, ends = append(docs, d), append(at, i), append(ends, b.Len())
	}
	from := 0
	for k, end := range ends {
		docs[k].Source = b.Bytes()[from:end:end]
		from = end
	}
	return docs, at, unfit
}

// doc is a document without its source.
func (o *elasticBulk) doc(batch service.MessageBatch, i int) (d elastic.Doc, why string) {
	var static bool
	if d.Index, static = o.conf.index.Static(); !static {
		var err error
		if d.Index, err = batch.TryInterpolatedString(i, o.conf.index); err != nil {
			return d, "index: " + oneLine(err)
		}
		if fault := indexFault(d.Index); fault != "" {
			return d, fmt.Sprintf("index %q: %s", d.Index, fault)
		}
	}
	if d.ID, _ = batch[i].MetaGet("result_id"); d.ID == "" {
		return d, "the message has no result_id, which rows of `detect` have"
	}
	text, _ := batch[i].MetaGet("revision")
	revision, _ := strconv.ParseInt(text, 10, 64) // none is 0
	switch {
	case !o.conf.stream:
		d.Version = revision + 1
	case revision > 0:
		d.ID += "." + text
	}
	return d, ""
}

// source appends a message's document.
func (o *elasticBulk) source(b *bytes.Buffer, msg *service.Message) (why string) {
	payload, err := msg.AsBytes()
	if err != nil {
		return oneLine(err)
	}
	appendOpen(b, payload)
	if t, ok := o.time(msg); ok && !hasMember(payload, o.conf.timestamp) {
		b.Write(appendText(b.AvailableBuffer(), o.conf.timestamp))
		b.WriteString(`:"`)
		b.Write(event.AppendTime(b.AvailableBuffer(), t))
		b.WriteString(`",`)
	}
	if o.conf.metadata {
		b.WriteString(`"_tocsin":`)
		b.Write(appendMeta(b.AvailableBuffer(), msg.MetaGet))
		b.WriteByte(',')
	}
	if end := b.Bytes(); end[len(end)-1] == ',' {
		b.Truncate(b.Len() - 1)
	}
	b.WriteByte('}')
	return ""
}

// time is the event's time in ms. A line that was no event has none; a data stream wants one, and gets that of writing.
func (o *elasticBulk) time(msg *service.Message) (ms int64, ok bool) {
	text, _ := msg.MetaGet("event_time_ms")
	ms, err := strconv.ParseInt(text, 10, 64)
	if o.conf.stream && (err != nil || ms == 0) {
		return time.Now().UnixMilli(), true
	}
	return ms, err == nil && ms != 0 && o.conf.timestamp != ""
}

// hasMember says whether an object has a member of a name.
func hasMember(object []byte, name string) (has bool) {
	if !bytes.Contains(object, []byte(name)) {
		return false
	}
	event.Members(object, func(member, _ []byte) { has = has || string(member) == name })
	return has
}

func (o *elasticBulk) pace() (service.BatchPolicy, int) {
	return service.BatchPolicy{}, o.conf.inFlight
}

// Close gives up the connections.
func (o *elasticBulk) Close(context.Context) error {
	o.client.Close()
	return nil
}
