// Package double is a stand-in for BigQuery in tests: datasets, tables, insertAll and a query over REST, the Storage Write API over gRPC. It is
// strict about the form of requests, names, types, insert ids and offsets, and has faults to order. It counts what is written, so that a test can
// tell a row that is there once from one that was written twice.
package double

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc"
)

// Server is the double; its fields may be set before the first request.
type Server struct {
	*httptest.Server        // of REST
	Storage          string // host:port of gRPC
	Authorization    string // the header that REST requests need; empty: any
	RequestMax       int    // bytes of a request; default 10 MB
	RowsMax          int    // rows of a request to insertAll; default 50 000
	Lag              int    // how many writes after a change of a table are judged by what it was before
	Discard          bool   // rows are counted, and not looked at
	Fault            func(c Call) Fault

	mu       sync.Mutex
	datasets map[string]bool
	tables   map[string]*table
	streams  map[string]*stream
	calls    map[string]int
	made     int // streams
	etags    int
	grpc     *grpc.Server
}

// Call is a request: its name, such as tables.get, insertAll, append or finalize, and how many of that name came before.
type Call struct {
	Name string
	N    int
}

// Fault is what goes wrong with a request.
type Fault struct {
	Status int              // REST: answered instead of doing anything
	Reason string           // its reason
	Code   uint32           // gRPC: answered instead of doing anything
	Stays  bool             // append: and the connection stays
	Reset  bool             // the connection is closed before anything is done
	Lost   bool             // everything is done, then the connection is closed
	Row    func(i int) bool // rows that are wrong
	Gone   bool             // the stream is finalized before anything is done
	Expire bool             // the stream is forgotten before anything is done
}

// table is a table with its rows.
type table struct {
	columns    []column
	before     []column // as it was before its last change
	lag        int      // writes that are judged by that
	absent     bool     // it was not there before
	etag       string
	partition  string
	clustering []string
	rows       []Row
	inserted   map[string]bool // insert ids
}

// column is a field of a schema.
type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Mode string `json:"mode,omitempty"`
}

// Row is a row as its table has it: int64, float64, bool, string, or a list of these, by column. Times are in us.
type Row map[string]any

// ID is what tells rows apart.
func (r Row) ID() string { return fmt.Sprintf("%v.%v", r["result_id"], r["revision"]) }

// New starts a double without datasets.
func New() *Server {
	s := &Server{RequestMax: 10 << 20, RowsMax: 50_000, datasets: map[string]bool{}, tables: map[string]*table{}, streams: map[string]*stream{}, calls: map[string]int{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s.Storage = l.Addr().String()
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	storagepb.RegisterBigQueryWriteServer(s.grpc, &writer{Server: s})
	go func() { _ = s.grpc.Serve(l) }()
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Close ends both servers.
func (s *Server) Close() {
	s.grpc.Stop()
	s.Server.Close()
}

// fault counts a call and says what goes wrong with it. s.mu is held.
func (s *Server) fault(name string) (f Fault) {
	n := s.calls[name]
	s.calls[name]++
	if s.Fault != nil {
		f = s.Fault(Call{name, n})
	}
	return f
}

// Calls says how many requests of a name there were.
func (s *Server) Calls(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}

// AddDataset makes a dataset: "project.dataset".
func (s *Server) AddDataset(name string) {
	s.mu.Lock()
	s.datasets[name] = true
	s.mu.Unlock()
}

// AddTable makes a table, "project.dataset.table", of columns such as "a STRING REQUIRED".
func (s *Server) AddTable(name string, columns ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &table{inserted: map[string]bool{}}
	for _, c := range columns {
		var x column
		_, _ = fmt.Sscan(c+" NULLABLE", &x.Name, &x.Type, &x.Mode)
		t.columns = append(t.columns, x)
	}
	s.changed(t)
	s.tables[name] = t
}

// Drop removes a table with its rows and streams.
func (s *Server) Drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, x := range s.streams {
		if x.table == s.tables[name] {
			delete(s.streams, id)
		}
	}
	delete(s.tables, name)
}

func (s *Server) changed(t *table) {
	s.etags++
	t.etag = fmt.Sprintf("etag-%d", s.etags)
}

// Tables are the names of all tables.
func (s *Server) Tables() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.tables {
		names = append(names, name)
	}
	return names
}

// Columns are a table's columns, such as "a STRING REQUIRED", and how it is partitioned and clustered.
func (s *Server) Columns(name string) (columns []string, partition string, clustering []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[name]
	if t == nil {
		return nil, "", nil
	}
	for _, c := range t.columns {
		text := c.Name + " " + c.Type
		if c.Mode != "" && c.Mode != "NULLABLE" {
			text += " " + c.Mode
		}
		columns = append(columns, text)
	}
	return columns, t.partition, t.clustering
}

// Rows are a table's rows in the order in which they came.
func (s *Server) Rows(name string) []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tables[name]; t != nil {
		return append([]Row(nil), t.rows...)
	}
	return nil
}

// Count is how many rows a table has that were not looked at.
func (s *Server) Count() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.streams {
		n += x.next
	}
	return n
}

// Streams says how many streams were made.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

// Once says what is wrong with a table that must have just the rows with these ids, each once.
func (s *Server) Once(name string, want map[string]bool) (wrong []string) {
	got := map[string]int{}
	for _, r := range s.Rows(name) {
		got[r.ID()]++
	}
	for id := range want {
		if got[id] != 1 {
			wrong = append(wrong, fmt.Sprintf("%s: %d times", id, got[id]))
		}
	}
	for id := range got {
		if !want[id] {
			wrong = append(wrong, "not wanted: "+id)
		}
	}
	return wrong
}

// now are the columns by which a write is judged, nil if its table does not seem to be there. Each such question brings the end of the lag nearer.
func (t *table) now() []column {
	if t.lag == 0 {
		return t.columns
	}
	t.lag--
	if t.absent {
		return nil
	}
	return t.before
}
