// Package double is a stand-in for Elasticsearch and OpenSearch in tests: _bulk with ids, external versions, create, data streams and
// mappings that come of the first document, index templates that are only kept, strict about the form of requests, and with faults to order. It counts what is written, so
// that a test can tell a document that is there once from one that was written twice.
package double

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"sync"
)

// Server is the double; its fields may be set before the first request.
type Server struct {
	*httptest.Server
	Version       string                  // what GET / says; default 8.19.0
	Distribution  string                  // likewise; of OpenSearch: opensearch
	Authorization string                  // the header that requests need; empty: any
	RequestMax    int                     // bytes of a request; longer ones are 413
	Streams       map[string]bool         // names that are data streams
	Closed        map[string]bool         // indexes that take nothing
	Fault         func(request int) Fault // what goes wrong with a request to _bulk, by its number

	Templates map[string]string // index templates by name, as they were put
	Mappings  map[string]string // what GET .../_mapping says of an index

	mu       sync.Mutex
	indexes  map[string]map[string]Stored
	kinds    map[string]string // mappings: index and field to kind
	requests int
	zipped   int
}

// Stored is a document as an index has it.
type Stored struct {
	Version int64
	Source  string
	Writes  int // how often it was written, not how often somebody tried
}

// Fault is what goes wrong with a request.
type Fault struct {
	Status int               // answered instead of doing anything
	Reset  bool              // the connection is closed before anything is done
	Lost   bool              // everything is done, then the connection is closed
	Item   func(i int) int   // a status for one document, answered instead of writing it; 0: none
	Say    func() (s string) // the answer's body instead of the right one
}

// New starts a double.
func New() *Server {
	s := &Server{Version: "8.19.0", indexes: map[string]map[string]Stored{}, kinds: map[string]string{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Docs are the documents of an index by id.
func (s *Server) Docs(index string) map[string]Stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]Stored{}
	for id, d := range s.indexes[index] {
		out[id] = d
	}
	return out
}

// Indexes are the names of what was written to.
func (s *Server) Indexes() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.indexes {
		names = append(names, name)
	}
	return names
}

// Requests says how many requests to _bulk there were, and how many of them were compressed.
func (s *Server) Requests() (all, zipped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.zipped
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case s.Authorization != "" && r.Header.Get("Authorization") != s.Authorization:
		refuse(w, 401, "security_exception", "unable to authenticate")
	case r.Method == http.MethodGet && r.URL.Path == "/":
		fmt.Fprintf(w, `{"version":{"number":%q,"distribution":%q}}`, s.Version, s.Distribution)
	case r.Method == http.MethodPost && r.URL.Path == "/_bulk":
		s.bulk(w, r)
	case strings.HasPrefix(r.URL.Path, "/_index_template/"):
		s.template(w, r, strings.TrimPrefix(r.URL.Path, "/_index_template/"))
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/_mapping"):
		s.mapping(w, strings.TrimSuffix(r.URL.Path[1:], "/_mapping"))
	default:
		refuse(w, 405, "illegal", "only GET /, POST /_bulk, _index_template and _mapping are here")
	}
}

func refuse(w http.ResponseWriter, status int, kind, reason string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"type":%q,"reason":%q},"status":%d}`, kind, reason, status)
}

func (s *Server) bulk(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	var f Fault
	if s.Fault != nil {
		f = s.Fault(s.requests)
	}
	if f.Reset {
		panic(http.ErrAbortHandler)
	}
	body, err := s.body(r)
	ops, bad := parse(body)
	switch {
	case f.Status != 0:
		refuse(w, f.Status, "es_rejected_execution_exception", "so ordered")
	case err != nil:
		refuse(w, 400, "io_exception", err.Error())
	case s.RequestMax > 0 && len(body) > s.RequestMax:
		w.WriteHeader(413)
	case bad != "":
		refuse(w, 400, "illegal_argument_exception", bad)
	case f.Lost:
		s.write(ops, f)
		panic(http.ErrAbortHandler)
	case f.Say != nil:
		s.write(ops, f)
		io.WriteString(w, f.Say())
	default:
		w.Write(s.write(ops, f))
	}
}

// template keeps an index template and gives it back as the servers do: settings in order, as texts, and some members of the server's own.
func (s *Server) template(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, there := s.Templates[name]
	switch {
	case r.Method == http.MethodGet && !there:
		refuse(w, 404, "resource_not_found_exception", "index template matching ["+name+"] not found")
	case r.Method == http.MethodGet:
		var body map[string]any
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			panic(err) // it was read when it was put
		}
		if template, ok := body["template"].(map[string]any); ok {
			template["settings"] = texts(template["settings"])
		}
		body["composed_of"] = []any{}
		if body["data_stream"] != nil {
			body["data_stream"] = map[string]any{"hidden": false, "allow_custom_routing": false}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"index_templates": []any{map[string]any{"name": name, "index_template": body}}})
	case r.Method == http.MethodPut:
		body, err := unzipped(r)
		var got struct {
			Patterns []string `json:"index_patterns"`
		}
		if r.Header.Get("Content-Type") != "application/json" || err != nil || json.Unmarshal(body, &got) != nil || len(got.Patterns) == 0 {
			refuse(w, 400, "parse_exception", "no index template")
			return
		}
		if s.Templates == nil {
			s.Templates = map[string]string{}
		}
		s.Templates[name] = string(body)
		io.WriteString(w, `{"acknowledged":true}`)
	default:
		refuse(w, 405, "illegal", r.Method)
	}
}

// texts makes the numbers and booleans of an object texts.
func texts(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprint(v)
	}
	out := map[string]any{}
	for name, x := range m {
		out[name] = texts(x)
	}
	return out
}

func (s *Server) mapping(w http.ResponseWriter, pattern string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]json.RawMessage{}
	for index, m := range s.Mappings {
		if ok, _ := path.Match(pattern, index); ok {
			found[index] = json.RawMessage(m)
		}
	}
	_ = json.NewEncoder(w).Encode(found)
}

func (s *Server) body(r *http.Request) ([]byte, error) {
	if got := r.Header.Get("Content-Type"); got != "application/x-ndjson" {
		return nil, fmt.Errorf("content type %q", got)
	}
	if r.Header.Get("Content-Encoding") == "gzip" {
		s.zipped++
	}
	return unzipped(r)
}

func unzipped(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(r.Body)
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// op is an action with its document.
type op struct {
	create  bool
	index   string
	id      string
	version int64
	source  []byte
}

// parse reads actions; bad says why there is one too many or too few.
func parse(body []byte) (ops []op, bad string) {
	if !bytes.HasSuffix(body, []byte("\n")) {
		return nil, "the bulk request must be terminated by a newline"
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		type meta struct {
			Index       string `json:"_index"`
			ID          string `json:"_id"`
			Version     int64
			VersionType string `json:"version_type"`
		}
		var action struct{ Index, Create *meta }
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&action); err != nil {
			return nil, "malformed action line: " + err.Error()
		}
		m := action.Index
		if m == nil {
			m = action.Create
		}
		if m == nil || m.ID == "" || (action.Create != nil) == (m.VersionType == "external") || (m.Version > 0) != (m.VersionType == "external") {
			return nil, "malformed action line: " + lines.Text()
		}
		o := op{create: action.Create != nil, index: m.Index, id: m.ID, version: m.Version}
		if !lines.Scan() {
			return nil, "a document is missing"
		}
		o.source = bytes.Clone(lines.Bytes())
		ops = append(ops, o)
	}
	return ops, ""
}

func (s *Server) write(ops []op, f Fault) []byte {
	var b bytes.Buffer
	failed := false
	for i, o := range ops {
		status, kind, reason := 0, "", ""
		if f.Item != nil {
			status, kind, reason = f.Item(i), "es_rejected_execution_exception", "so ordered"
		}
		if status == 0 {
			status, kind, reason = s.one(o)
		}
		verb := "index"
		if o.create {
			verb = "create"
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{%q:{"status":%d`, verb, status)
		if status >= 300 {
			failed = true
			fmt.Fprintf(&b, `,"error":{"type":%q,"reason":%q}`, kind, reason)
		}
		b.WriteString("}}")
	}
	return fmt.Appendf(nil, `{"errors":%t,"items":[%s]}`, failed, b.Bytes())
}

var indexName = regexp.MustCompile(`^[^-_+A-Z\\/*?"<>| ,#:][^A-Z\\/*?"<>| ,#:]*$`)

// one writes a document as the servers do.
func (s *Server) one(o op) (status int, kind, reason string) {
	switch {
	case !indexName.MatchString(o.index) || len(o.index) > 255:
		return 400, "invalid_index_name_exception", "invalid index name [" + o.index + "]"
	case s.Closed[o.index]:
		return 403, "cluster_block_exception", "index [" + o.index + "] blocked by: read-only"
	case s.Streams[o.index] && !o.create:
		return 400, "illegal_argument_exception", "only write ops with an op_type of create are allowed in data streams"
	}
	was, there := s.indexes[o.index][o.id]
	if there && (o.create || was.Version >= o.version) {
		return 409, "version_conflict_engine_exception", "current version is higher or equal"
	}
	if reason := s.fits(o); reason != "" {
		return 400, "mapper_parsing_exception", reason
	}
	if s.indexes[o.index] == nil {
		s.indexes[o.index] = map[string]Stored{}
	}
	s.indexes[o.index][o.id] = Stored{Version: max(o.version, 1), Source: string(o.source), Writes: was.Writes + 1}
	return 201, "", ""
}

// fits compares a document with the mappings, which the first document with a field makes.
func (s *Server) fits(o op) (reason string) {
	var doc map[string]any
	if err := json.Unmarshal(o.source, &doc); err != nil {
		return "failed to parse: " + err.Error()
	}
	if _, ok := doc["@timestamp"]; s.Streams[o.index] && !ok {
		return "data stream timestamp field [@timestamp] is missing"
	}
	for name, v := range doc {
		at, kind := o.index+"\x00"+name, kindOf(v)
		switch known := s.kinds[at]; {
		case kind == "":
		case known == "":
			s.kinds[at] = kind
		case known != kind && (known != "text" || kind == "object"):
			return fmt.Sprintf("failed to parse field [%s] of type [%s] in document with id '%s'", name, known, o.id)
		}
	}
	return ""
}

func kindOf(v any) string {
	switch v := v.(type) {
	case float64:
		return "number"
	case bool:
		return "boolean"
	case string:
		return "text"
	case map[string]any:
		return "object"
	case []any:
		for _, x := range v {
			if k := kindOf(x); k != "" {
				return k
			}
		}
	}
	return ""
}

// Once says what is wrong with an index that must hold just these documents, each written once: id to version and source.
func (s *Server) Once(index string, want map[string]Stored) (wrong []string) {
	got := s.Docs(index)
	for id, w := range want {
		switch g, ok := got[id]; {
		case !ok:
			wrong = append(wrong, "missing: "+id)
		case g.Writes != 1 || g.Version != w.Version || !strings.Contains(g.Source, w.Source):
			wrong = append(wrong, fmt.Sprintf("%s: %+v, want %+v", id, g, w))
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			wrong = append(wrong, "not wanted: "+id)
		}
	}
	return wrong
}
