package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/bigquery"
	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/event"
)

func bigqueryRowsSpec() *service.ConfigSpec {
	auth := secretFields("credentials", "the key of a service account, as Google gives it: JSON")
	return service.NewConfigSpec().
		Categories("Services", "GCP").
		Summary("Writes rows to tables of BigQuery, by the Storage Write API or by insertAll, with the result id as identity.").
		Description(`A row has its columns, and in all tables: `+"`result_id`, `revision`, `operator`, `kind`, `event_time`, `lane`, `stream`, `reason`, `late_by_ms`, `position`"+` as far
as it has them, and `+"`payload`"+`, which is the text of rows whose columns nobody knows: late and error rows, events that are passed on as they are, and with
`+"`document: true`"+` all rows (what the processors ocsf and ecs make, for instance).

`+"`write`"+` says how. `+"`storage`"+`: the default stream of the Storage Write API; a row whose answer was lost is there twice. `+"`exactly_once`"+`: streams of our own with offsets; each row is
there once, also after a crash. What is under way stands in the file `+"`offsets`"+` before it leaves; a lost answer is asked for again at the same offset, and after a crash the
stream is ended, which says whether its last request was taken. One request to a table is under way at a time, so give it larger ones with `+"`batching`"+`. The file is
as much a part of the state as `+"`detect`'s `state`"+` is: back them up and remove them together. `+"`insert_all`"+`: the older API with insert ids, by which BigQuery drops most repeats for about a
minute; no row of its own account is sent twice.

BigQuery replaces no rows here: a revision is a row of its own, and a view shows the newest, as `+"`pipelines/article/bigquery/newest.sql`"+` does:
`+"`QUALIFY ROW_NUMBER() OVER (PARTITION BY result_id ORDER BY revision DESC) = 1`"+`. It also hides what `+"`storage`"+` has twice.

With `+"`create: true`"+` datasets and tables that are not there are made, and get more columns when rows have them; never is a column changed or removed. A column is INTEGER, FLOAT,
BOOLEAN, TIMESTAMP or STRING as its type is known from the streams' `+"`fields`"+` and the operators, JSON if it has parts, and else STRING with the text of its value. A column's name has letters, digits and
underscores: all else becomes an underscore, and a name that begins with a digit or with what BigQuery keeps for itself, or is one of the columns above, gets `+"`row_`"+` in front. Lint finds
two columns that would be one. A table of your own needs `+"`result_id STRING`"+` and `+"`revision INTEGER`"+`, and each column that rows have; its types count, and of the columns above it may leave out any other.

What finds BigQuery busy (429, 5xx, rateLimitExceeded, quotaExceeded, no answer) is tried again, with pauses that double up to 10s; after `+"`retry_for`"+` it goes back to the state and is sent
again from there, as long as it takes. So is what meets a table or column so new that a part of BigQuery does not know it. A row that will never be taken, since a value does not fit its column, the table lacks one, or it is too long, does not
hold the others: in its place an error row (`+"`kind: error`, reason `rejected`"+`) is sent, with BigQuery's reason as `+"`detail`"+`. A table that is missing or not for us holds
up only its own rows, which become error rows after `+"`detect`'s `retries`"+` while others pass. It stops with the reason if there are no credentials, or at the start the table is
not there and may not be made.`).
		Fields(
			service.NewInterpolatedStringField("project").Description("The project.").Example("my-project"),
			service.NewInterpolatedStringField("dataset").Description("The dataset.").Example("tocsin"),
			service.NewInterpolatedStringField("table").
				Description("The table, which metadata (`${! @operator }`) and columns (`${! json(\"country\") }`) may have a part in, as in `project` and `dataset`.").
				Example("${! @kind }_${! @operator.or(\"none\") }"),
			service.NewStringEnumField("write", "storage", "exactly_once", "insert_all").
				Description("How rows are written.").
				Default("storage"),
			service.NewStringField("offsets").
				Description("With `write: exactly_once`: the file that remembers streams, offsets and rows. `--fresh` moves it to PATH.old.").
				Optional().Example("./state/bigquery.offsets"),
			service.NewBoolField("create").
				Description("Whether datasets, tables and columns are made that are not there.").
				Default(false),
			service.NewStringField("location").
				Description("Where datasets that are made lie, such as EU.").
				Optional(),
			service.NewStringEnumField("partition", "day", "hour", "month", "none").
				Description("The partitions, by event_time, of tables that are made.").
				Default("day"),
			service.NewStringListField("cluster_by").
				Description("The columns, at most 4, by which tables that are made are clustered, as far as they have them.").
				Example([]any{"source_ip"}).Optional(),
			service.NewBoolField("document").
				Description("Whether all rows stand as the text of their JSON in the column payload.").
				Default(false),
			service.NewObjectField("auth", auth...).
				Description("Who we are; without it the application default credentials. A secret never stands in a pipeline: it is named, by a variable of the environment or a file.").
				Optional().Advanced(),
			service.NewStringField("endpoint").
				Description("The REST API's URL. With http://, as emulators have, no credentials are sent and gRPC goes without TLS.").
				Default(bigqueryEndpoint).Advanced(),
			service.NewStringField("grpc_endpoint").
				Description("The Storage API's host:port.").
				Default(bigqueryStorage).Advanced(),
			service.NewStringField("request_max").
				Description("The longest request, from 1KiB to 9MiB; a row that is longer goes alone.").
				Default("5MiB"),
			service.NewIntField("rows_max").
				Description("The most rows of a request, at most 50000.").
				Default(bigqueryRowsUsual),
			service.NewStringField("timeout").
				Description("How long to wait for an answer, from 1s to 10m.").
				Default("30s"),
			service.NewStringField("retry_for").
				Description("How long to try again before rows go back to the state, at most 1h.").
				Default("30s"),
			service.NewIntField("max_in_flight").
				Description("Batches that are written at the same time, at most 256.").
				Default(4),
			service.NewObjectField("batching",
				service.NewIntField("count").Description("The rows of a batch, from 1 to 4096; 2000 where it is not said.").Optional(),
				service.NewStringField("period").Description("How long a batch waits for more of them, from 1ms to 10s; 200ms where it is not said.").Optional()).
				Description("Gathers rows into larger batches; without it one has at most 256.").
				Optional(),
		).
		Example("Rows, alerts and errors to a table each, which are made", "", `
input:
  file_lines: { paths: [pipelines/data/logins.jsonl] }
buffer:
  detect:
    name: to_bigquery
    state: ./state/to_bigquery
    streams:
      logins: { fields: { source_ip: ip, username: string }, time: { field: login_time }, watermark: { strict: true } }
    operators:
      login_attempts:
        window: { from: logins, tumbling: 20s, key: source_ip, aggregate: { attempts: count, users: { count_distinct: username } } }
output:
  bigquery_rows:
    project: my-project
    dataset: tocsin
    table: ${! @operator.or("lines") }_${! @kind }
    create: true
    cluster_by: [source_ip]
`).
		Example("Each row exactly once, with a service account's key", "", "output:\n  bigquery_rows:\n    project: my-project\n    dataset: tocsin\n    table: alerts\n    write: exactly_once\n    offsets: ./state/alerts.offsets\n"+
			"    auth: { credentials_file: /etc/tocsin/bigquery.json }\n    batching: { count: 2000, period: 200ms }\n").
		Example("An emulator, which may know neither offsets nor insert ids", "", "output:\n  bigquery_rows:\n    project: tocsin\n    dataset: tocsin\n    table: rows\n    create: true\n"+
			"    endpoint: http://localhost:9050\n    grpc_endpoint: localhost:9060\n")
}

func init() { registerRows("bigquery_rows", bigqueryRowsSpec(), newBigqueryRows) }

// bigqueryRows is the output.
type bigqueryRows struct {
	conf   bigqueryConfig
	client *bigquery.Client
	link   *link
	shapes func() map[string]*bigquery.Shape // of operators, by name
}

func newBigqueryRows(conf *service.ParsedConfig, res *service.Resources) (*bigqueryRows, error) {
	c, err := decodeParsed(conf, "bigquery_rows", decodeBigqueryRows)
	if err != nil {
		return nil, err
	}
	out := &bigqueryRows{conf: c, link: linkOf(res)}
	to := c.to
	to.Own, to.Whole, to.Time = bigqueryOwn, payloadColumn, "event_time"
	to.Fresh, to.Disk = out.link.run.Fresh, bigquery.Disk{Lock: lockFile, SyncFolder: syncFolder}
	to.Warn = func(format string, args ...any) { res.Logger().Warnf("bigquery_rows: "+format, args...) }
	if to.Endpoint.Scheme == "https" {
		var read func() ([]byte, error)
		if c.auth != (credential.Secret{}) {
			read = func() ([]byte, error) {
				text, err := c.auth.Read()
				return []byte(text), err
			}
			if _, err := read(); err != nil {
				return nil, fmt.Errorf("bigquery_rows: auth: %w", err)
			}
		}
		to.Token = bigquery.Tokens(read)
	}
	if out.client, err = bigquery.NewClient(to); err != nil {
		return nil, fmt.Errorf("bigquery_rows: %w", err)
	}
	out.shapes = sync.OnceValue(func() map[string]*bigquery.Shape { return bigqueryShapes(out.link.shapes) })
	return out, nil
}

// Connect looks whether we may write. Benthos says what is wrong and tries again what may pass; rows wait in the state meanwhile.
func (o *bigqueryRows) Connect(ctx context.Context) error {
	to, _ := o.conf.static()
	err := o.client.Probe(ctx, to)
	var stop *bigquery.Stop
	if errors.As(err, &stop) {
		o.link.run.fail(fmt.Errorf("bigquery_rows: %w", err))
	}
	return err
}

var bigqueryVerdicts = map[bigquery.Verdict]verdict{bigquery.Done: delivered, bigquery.Busy: busy, bigquery.Blocked: blocked, bigquery.Refused: refused}

// WriteBatch writes the batch, to several tables at the same time, or says of each message that it could not write what is the matter.
func (o *bigqueryRows) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	fates := make([]fate, len(batch))
	var all sync.WaitGroup
	for to, of := range o.rows(batch, fates) {
		all.Go(func() {
			for k, f := range o.client.Write(ctx, to, of.rows) {
				fates[of.at[k]] = fate{bigqueryVerdicts[f.Verdict], f.Why}
			}
		})
	}
	all.Wait()
	return o.link.report(batch, fates)
}

// bigqueryPart is the rows of a batch that go to one table, with the place of each one's message.
type bigqueryPart struct {
	rows []bigquery.Row
	at   []int
}

// rows are those of a batch by table; what has none is refused.
func (o *bigqueryRows) rows(batch service.MessageBatch, fates []fate) map[bigquery.Destination]*bigqueryPart {
	parts := map[bigquery.Destination]*bigqueryPart{}
	var last bigquery.Destination
	var part *bigqueryPart
	for i, msg := range batch {
		to, why := o.to(batch, i)
		var row bigquery.Row
		if why == "" {
			row, why = o.row(msg)
		}
		if why != "" {
			fates[i] = fate{refused, why}
			continue
		}
		if part == nil || to != last {
			if part = parts[to]; part == nil {
				part = &bigqueryPart{}
				parts[to] = part
			}
			last = to
		}
		part.rows, part.at = append(part.rows, row), append(part.at, i)
	}
	return parts
}

// to is the table of a message.
func (o *bigqueryRows) to(batch service.MessageBatch, i int) (to bigquery.Destination, why string) {
	if to, ok := o.conf.static(); ok {
		return to, ""
	}
	for _, p := range o.conf.parts(&to) {
		var err error
		if *p.into, err = batch.TryInterpolatedString(i, p.expr); err != nil {
			return to, p.what + ": " + oneLine(err)
		}
		if fault := p.fault(*p.into); fault != "" {
			return to, fmt.Sprintf("%s %q: %s", p.what, *p.into, fault)
		}
	}
	return to, ""
}

// row makes a row of a message.
func (o *bigqueryRows) row(msg *service.Message) (r bigquery.Row, why string) {
	payload, err := msg.AsBytes()
	if err != nil {
		return r, oneLine(err)
	}
	id, _ := msg.MetaGet("result_id")
	if id == "" {
		return r, "the message has no result_id, which rows of `detect` have"
	}
	text, _ := msg.MetaGet("revision")
	revision, _ := strconv.ParseInt(text, 10, 64) // none is 0
	r.ID = id + "." + strconv.FormatInt(revision, 10)
	if r.Shape = o.shape(msg); r.Shape != nil {
		r.Object, payload = payload, nil
	}
	r.Own = make([][]byte, len(bigqueryOwn))
	b := make([]byte, 0, bigqueryMetaUsual+len(payload)) // of all values, which keep their place if it grows
	for i, m := range bigqueryMeta {
		from := len(b)
		if m.name == "revision" {
			b = strconv.AppendInt(b, revision, 10)
		} else if v, ok := msg.MetaGet(m.name); ok {
			b = appendMetaValue(b, m.name, m.number, v)
		}
		r.Own[i] = b[from:len(b):len(b)]
	}
	if r.Shape == nil {
		r.Own[payloadColumn] = appendText(b[len(b):], string(payload))
	}
	return r, ""
}

// bigqueryMetaUsual is how many bytes the metadata of most rows takes.
const bigqueryMetaUsual = 160

func appendMetaValue(b []byte, name string, number bool, v string) []byte {
	switch {
	case name == "event_time_ms":
		return appendTimeValue(b, v)
	case number:
		return append(b, v...)
	}
	return appendText(b, v)
}

// appendTimeValue appends a time of metadata as a value; 0 is none.
func appendTimeValue(b []byte, text string) []byte {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms == 0 {
		return b
	}
	return append(event.AppendTime(append(b, '"'), ms), '"')
}

// shape is that of a message's row; nil: its payload stands as one text.
func (o *bigqueryRows) shape(msg *service.Message) *bigquery.Shape {
	kind, _ := msg.MetaGet("kind")
	switch {
	case o.conf.document:
		return nil
	case kind == "alert":
		return bigqueryAlert
	case kind == "row":
		name, _ := msg.MetaGet("operator")
		return o.shapes()[name]
	}
	return nil
}

func (o *bigqueryRows) pace() (service.BatchPolicy, int) { return o.conf.batching, o.conf.inFlight }

// Close gives up the connections and the file.
func (o *bigqueryRows) Close(context.Context) error {
	o.client.Close()
	return nil
}

// bigqueryMeta is the metadata that rows have as columns; revision and result_id first, which tell them apart.
var bigqueryMeta = []struct {
	name   string
	number bool
}{
	{"result_id", false}, {"revision", true}, {"operator", false}, {"kind", false}, {"event_time_ms", true},
	{"lane", false}, {"stream", false}, {"reason", false}, {"late_by_ms", true}, {"position", false},
}

// bigqueryOwn are the columns of bigqueryMeta, and of the payload of a row without columns.
var bigqueryOwn = append(bigqueryMetaColumns(), bigquery.Column{Name: "payload", Type: "STRING"})

var payloadColumn = len(bigqueryMeta)

func bigqueryMetaColumns() (out []bigquery.Column) {
	for i, m := range bigqueryMeta {
		c := bigquery.Column{Name: strings.TrimSuffix(m.name, "_time_ms"), Type: "STRING"}
		switch {
		case c.Name != m.name:
			c.Name, c.Type = c.Name+"_time", "TIMESTAMP"
		case m.number:
			c.Type = "INTEGER"
		}
		if i < 2 {
			c.Mode = "REQUIRED"
		}
		out = append(out, c)
	}
	return out
}

// bigqueryTypes are the types of columns; those that nobody knows are the text of their value.
var bigqueryTypes = map[string]string{"int": "INTEGER", "float": "FLOAT", "bool": "BOOLEAN", "timestamp": "TIMESTAMP", "json": "JSON"}

var bigqueryAlert = bigqueryShape(alertShape)

func bigqueryShape(s *rowShape) *bigquery.Shape {
	out := &bigquery.Shape{}
	for _, c := range s.columns {
		typ := bigqueryTypes[c.typ]
		if typ == "" {
			typ = "STRING"
		}
		out.Columns = append(out.Columns, bigquery.Column{Name: c.name, Type: typ})
	}
	return out
}

// bigqueryShapes are the shapes of operators whose columns are known and can be columns of one table.
func bigqueryShapes(of map[string]*rowShape) map[string]*bigquery.Shape {
	out := map[string]*bigquery.Shape{}
	for name, s := range of {
		if s.columns != nil && bigqueryFault(s) == "" {
			out[name] = bigqueryShape(s)
		}
	}
	return out
}

func bigqueryFault(s *rowShape) string {
	var members []string
	for _, c := range s.columns {
		members = append(members, c.name)
	}
	return bigquery.NameFault(members, bigqueryOwn)
}
