// Package bigquery writes rows to tables of BigQuery, by streaming inserts (tabledata.insertAll), by the default stream of the Storage Write
// API, or by streams of its own with offsets, which have each row exactly once. It makes and widens tables as rows ask for it. Write says
// what became of each row.
//
// It knows neither pipelines nor where rows come from. Read Client.Write first, then exact.go for the story of exactly once.
package bigquery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"

	"github.com/seed-98920119/tocsin/runtime/retry"
)

// Method is how rows are written.
type Method uint8

// Insert: tabledata.insertAll with insert ids, whose repeats BigQuery drops for about a minute. Append: the default stream, at least once.
// Exact: streams of our own, exactly once.
const (
	Append Method = iota
	Exact
	Insert
)

// Config says how to reach BigQuery, what tables look like and how hard to try.
type Config struct {
	Endpoint   *url.URL                                  // of the REST API, without /bigquery/v2
	Storage    string                                    // host:port of the Storage API
	Token      func(ctx context.Context) (string, error) // the bearer token of each request; nil: none, and the Storage API without TLS
	Method     Method                                    //
	Store      string                                    // of Exact: the file that remembers offsets
	Fresh      bool                                      // an old Store is moved to PATH.old
	Disk       Disk                                      // of Store
	Own        []Column                                  // the columns that every table has; the first two are a row's id and revision
	Whole      int                                       // which of Own is a row without columns: it is refused rather than lose that
	Create     bool                                      // make datasets, tables and columns that are not there
	Location   string                                    // of datasets that are made; empty: BigQuery's default
	Partition  string                                    // DAY, HOUR, MONTH: tables that are made have partitions by Time; empty: none
	Time       string                                    // the column of time
	Cluster    []string                                  // and are clustered by these columns, as far as they have them
	RequestMax int                                       // bytes of a request; a row that is longer goes alone
	RowsMax    int                                       // rows of a request
	Timeout    time.Duration                             // of a request
	Patience   time.Duration                             // how long Write tries again what found BigQuery busy
	Warn       func(format string, args ...any)          //
}

// Destination is a table.
type Destination struct{ Project, Dataset, Table string }

func (d Destination) String() string { return d.Project + "." + d.Dataset + "." + d.Table }

// Row is a row to be written.
type Row struct {
	ID     string   // what tells it from all others: its insert id, and what Exact remembers; at most 128 bytes
	Own    [][]byte // the values of Config.Own as JSON; nil: none
	Object []byte   // a JSON object with the others, by name; nil: none
	Shape  *Shape   // which columns such rows may have; nil: those of the table
}

// Shape are the columns of rows of one kind. Shapes are told apart by their address.
type Shape struct{ Columns []Column }

// Verdict is what became of a row.
type Verdict uint8

// Done: it is in the table. Busy: BigQuery could not take it. Blocked: its table cannot, for the time being. Refused: it will never be taken.
const (
	Done Verdict = iota
	Busy
	Blocked
	Refused
)

// Fate is what became of a row, and why.
type Fate struct {
	Verdict Verdict
	Why     string
}

// Client writes with one identity. Its methods may be called from several goroutines.
type Client struct {
	conf  Config
	http  *http.Client
	conn  *grpc.ClientConn
	write storagepb.BigQueryWriteClient
	store *store
	pause retry.Pauses
	busy  retry.Seldom // of BigQuery being busy

	mu     sync.Mutex
	tables map[Destination]*table
}

// Waits between tries.
const (
	pauseMin = 100 * time.Millisecond
	pauseMax = 10 * time.Second
)

// tablesMax is how many tables a client keeps at a time; the one that was longest unused is forgotten.
const tablesMax = 1000

// NewClient makes a client; it connects to nothing, but reads the store of Exact.
func NewClient(conf Config) (*Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	c := &Client{conf: conf, pause: retry.Pauses{Least: pauseMin, Most: pauseMax}, busy: retry.Seldom{To: conf.Warn}, tables: map[Destination]*table{}, http: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	var err error
	if conf.Method != Exact {
		conf.Store = ""
	}
	if c.store, err = openStore(conf.Store, conf.Fresh, conf.Disk); err != nil || conf.Method == Insert {
		return c, err
	}
	if c.conn, err = grpc.NewClient(conf.Storage, dialOptions(conf)...); err != nil {
		c.store.close()
		return nil, err
	}
	c.write = storagepb.NewBigQueryWriteClient(c.conn)
	return c, nil
}

// Close gives up connections and the store.
func (c *Client) Close() {
	c.mu.Lock()
	for _, t := range c.tables {
		t.hangUp()
	}
	clear(c.tables)
	c.mu.Unlock()
	c.http.CloseIdleConnections()
	if c.conn != nil {
		c.conn.Close()
	}
	c.store.close()
}

// Stop is an error that no retry mends.
type Stop struct{ Err error }

func (s *Stop) Error() string { return s.Err.Error() }
func (s *Stop) Unwrap() error { return s.Err }

// Probe looks whether a table is there, or its dataset if tables are made; with neither it looks whether there is a token. It returns a Stop
// where BigQuery does not let us in or nothing is there and nothing may be made.
func (c *Client) Probe(ctx context.Context, to Destination) error {
	if c.conf.Token != nil {
		if _, err := c.conf.Token(ctx); err != nil {
			return err
		}
	}
	if to == (Destination{}) {
		return nil
	}
	t := c.table(to)
	t.mu.Lock()
	defer t.mu.Unlock()
	var f *fault
	err := c.look(ctx, t)
	switch {
	case !errors.As(err, &f) || f.status == http.StatusNotFound && c.conf.Create:
		return nilOr(err, f != nil)
	case f.status == http.StatusUnauthorized, f.denied(), f.status == http.StatusNotFound:
		return &Stop{errors.New(t.explain(f, c.conf.Create))}
	}
	return err
}

func nilOr(err error, absent bool) error {
	if absent {
		return nil
	}
	return err
}

// Write writes rows to a table, in as many requests as their size asks for, and returns the fate of each. What found BigQuery busy is tried
// again, with pauses that double, until Patience is over or ctx is done.
func (c *Client) Write(ctx context.Context, to Destination, rows []Row) []Fate {
	w := &writing{Client: c, ctx: ctx, t: c.table(to), rows: rows, fates: make([]Fate, len(rows)), until: time.Now().Add(c.conf.Patience)}
	var left []int
	for i := range rows {
		if why := idFault(rows[i].ID); why != "" {
			w.fates[i] = Fate{Refused, why}
		} else if !c.store.has(rows[i].ID) { // it may come again in the company of one that failed
			left = append(left, i)
		}
	}
	for tries := c.pause.Until(w.until); len(left) > 0; tries.Wait(ctx) {
		w.round(left)
		left = slices.DeleteFunc(left, func(i int) bool { return w.fates[i].Verdict != Busy })
		if len(left) == 0 || !tries.More(ctx) {
			break
		}
		c.busy.Warn("%d of %d rows to %s wait: %s", len(left), len(rows), to, w.fates[left[0]].Why)
	}
	return w.fates
}

// idMax is the longest id that BigQuery takes, in bytes.
const idMax = 128

func idFault(id string) string {
	if id == "" || len(id) > idMax || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Sprintf("an id has 1 to %d bytes and no spaces", idMax)
	}
	return ""
}

// writing is a call of Write.
type writing struct {
	*Client
	ctx   context.Context
	t     *table
	rows  []Row
	fates []Fate
	until time.Time
}

// table is what is known of a table.
func (c *Client) table(to Destination) *table {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tables[to]
	if t == nil {
		if len(c.tables) == tablesMax {
			c.forget()
		}
		t = &table{to: to}
		c.tables[to] = t
	}
	t.used = time.Now()
	return t
}

// forget forgets the table that was longest unused. Whoever writes to it still ends in peace.
func (c *Client) forget() {
	var oldest *table
	for _, t := range c.tables {
		if oldest == nil || t.used.Before(oldest.used) {
			oldest = t
		}
	}
	delete(c.tables, oldest.to)
	go oldest.hangUp()
}

// part is encoded rows: which of the call they are, and their bytes.
type part struct {
	rows  []int
	bytes [][]byte
}

// round tries each row that is left once.
func (w *writing) round(left []int) {
	s, err := w.ensure(w.ctx, w.t, w.shapes(left))
	if err != nil {
		w.all(left, verdictOf(err, w.conf.Create), w.t.explain(err, w.conf.Create))
		return
	}
	var p part
	size := 0
	for _, i := range left {
		b, err := w.encode(s, &w.rows[i])
		if err != nil {
			w.fates[i] = Fate{Refused, err.Error()}
			continue
		}
		if len(p.rows) > 0 && (size+len(b)+rowOverhead > w.conf.RequestMax || len(p.rows) == w.conf.RowsMax) {
			w.send(s, p)
			p, size = part{}, 0
		}
		p.rows, p.bytes = append(p.rows, i), append(p.bytes, b)
		size += len(b) + rowOverhead
	}
	if len(p.rows) > 0 {
		w.send(s, p)
	}
}

// rowOverhead is what a row takes of a request beside its bytes, at most.
const rowOverhead = 16

func (w *writing) encode(s *schema, r *Row) ([]byte, error) {
	if w.conf.Method == Insert {
		return s.json(w.conf.Own, r)
	}
	return s.proto(w.conf.Own, r)
}

func (w *writing) send(s *schema, p part) {
	switch w.conf.Method {
	case Insert:
		w.insert(s, p)
	case Exact:
		w.exact(s, p)
	default:
		w.append(s, p)
	}
}

// shapes are those of some rows, each once.
func (w *writing) shapes(left []int) (out []*Shape) {
	for _, i := range left {
		if s := w.rows[i].Shape; s != nil && (len(out) == 0 || !slices.Contains(out, s)) {
			out = append(out, s)
		}
	}
	return out
}

func (w *writing) all(rows []int, v Verdict, why string) {
	for _, i := range rows {
		w.fates[i] = Fate{v, why}
	}
}

// without is a part without the rows that are settled, by their place in it.
func (p part) without(gone map[int]bool) (q part) {
	for k := range p.rows {
		if !gone[k] {
			q.rows, q.bytes = append(q.rows, p.rows[k]), append(q.bytes, p.bytes[k])
		}
	}
	return q
}

func (p part) halves() (a, b part) {
	n := len(p.rows) / 2
	return part{p.rows[:n], p.bytes[:n]}, part{p.rows[n:], p.bytes[n:]}
}
