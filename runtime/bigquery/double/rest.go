package double

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var routes = []struct {
	name, method string
	path         *regexp.Regexp
}{
	{"datasets.insert", "POST", regexp.MustCompile(`^/bigquery/v2/projects/([^/]+)/datasets$`)},
	{"tables.insert", "POST", regexp.MustCompile(`^/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables$`)},
	{"tables.get", "GET", regexp.MustCompile(`^/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)$`)},
	{"tables.patch", "PATCH", regexp.MustCompile(`^/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)$`)},
	{"insertAll", "POST", regexp.MustCompile(`^/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)/insertAll$`)},
	{"query", "POST", regexp.MustCompile(`^/bigquery/v2/projects/([^/]+)/queries$`)},
}

// failure is an answer that is an error.
type failure struct {
	status          int
	reason, message string
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	for _, x := range routes {
		if m := x.path.FindStringSubmatch(r.URL.Path); m != nil && r.Method == x.method {
			s.call(w, r, x.name, m[1:])
			return
		}
	}
	refuse(w, &failure{404, "notFound", "no such method: " + r.Method + " " + r.URL.Path})
}

func refuse(w http.ResponseWriter, f *failure) {
	w.WriteHeader(f.status)
	text, _ := json.Marshal(map[string]any{"error": map[string]any{"code": f.status, "message": f.message, "errors": []any{map[string]string{"reason": f.reason, "message": f.message}}}})
	w.Write(text)
}

func (s *Server) call(w http.ResponseWriter, r *http.Request, name string, at []string) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fault(name)
	switch {
	case err != nil || f.Reset:
		panic(http.ErrAbortHandler)
	case s.Authorization != "" && r.Header.Get("Authorization") != s.Authorization:
		refuse(w, &failure{401, "authError", "Invalid Credentials"})
		return
	case f.Status != 0:
		refuse(w, &failure{f.Status, f.Reason, "so ordered"})
		return
	case len(body) > 0 && r.Header.Get("Content-Type") != "application/json":
		refuse(w, &failure{400, "parseError", "content type"})
		return
	}
	answer, no := s.do(name, at, body, r.Header.Get("If-Match"), f)
	switch {
	case f.Lost:
		panic(http.ErrAbortHandler)
	case no != nil:
		refuse(w, no)
	default:
		text, _ := json.Marshal(answer)
		w.Write(text)
	}
}

func (s *Server) do(name string, at []string, body []byte, etag string, f Fault) (any, *failure) {
	full := strings.Join(at, ".")
	switch name {
	case "datasets.insert":
		return s.insertDataset(at[0], body)
	case "tables.insert":
		return s.insertTable(full, body)
	case "query":
		return s.query(body)
	}
	t := s.tables[full]
	if t == nil {
		return nil, &failure{404, "notFound", "Not found: Table " + full}
	}
	switch name {
	case "tables.get":
		return t.resource(), nil
	case "tables.patch":
		return s.patch(t, body, etag)
	}
	return s.insertAll(t, body, f)
}

func strict(body []byte, into any) *failure {
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return &failure{400, "parseError", err.Error()}
	}
	return nil
}

func (s *Server) insertDataset(project string, body []byte) (any, *failure) {
	var d struct {
		DatasetReference struct{ ProjectID, DatasetID string } `json:"datasetReference"`
		Location         string                                `json:"location"`
	}
	if no := strict(body, &d); no != nil {
		return nil, no
	}
	name := project + "." + d.DatasetReference.DatasetID
	if s.datasets[name] {
		return nil, &failure{409, "duplicate", "Already Exists: Dataset " + name}
	}
	s.datasets[name] = true
	return map[string]any{}, nil
}

// wanted is a table as a request describes it.
type wanted struct {
	TableReference *struct{ ProjectID, DatasetID, TableID string } `json:"tableReference"`
	Schema         struct {
		Fields []column `json:"fields"`
	} `json:"schema"`
	TimePartitioning *struct {
		Type  string `json:"type"`
		Field string `json:"field"`
	} `json:"timePartitioning"`
	Clustering *struct {
		Fields []string `json:"fields"`
	} `json:"clustering"`
}

func (t *table) resource() any {
	return map[string]any{"etag": t.etag, "schema": map[string]any{"fields": t.columns}}
}

func (s *Server) insertTable(dataset string, body []byte) (any, *failure) {
	var w wanted
	if no := strict(body, &w); no != nil {
		return nil, no
	}
	name := dataset + "." + w.TableReference.TableID
	switch {
	case !s.datasets[dataset]:
		return nil, &failure{404, "notFound", "Not found: Dataset " + dataset}
	case s.tables[name] != nil:
		return nil, &failure{409, "duplicate", "Already Exists: Table " + name}
	}
	t := &table{columns: w.Schema.Fields, lag: s.Lag, absent: true, inserted: map[string]bool{}}
	if no := wrongColumns(t.columns); no != nil {
		return nil, no
	}
	kindOf := func(name string) string {
		for _, c := range t.columns {
			if c.Name == name {
				return c.Type
			}
		}
		return ""
	}
	if p := w.TimePartitioning; p != nil {
		if kindOf(p.Field) != "TIMESTAMP" || !slices.Contains([]string{"DAY", "HOUR", "MONTH", "YEAR"}, p.Type) {
			return nil, &failure{400, "invalid", "The field specified for partitioning cannot be found in the schema"}
		}
		t.partition = p.Type + " " + p.Field
	}
	if c := w.Clustering; c != nil {
		for _, f := range c.Fields {
			if k := kindOf(f); k == "" || k == "FLOAT" || k == "JSON" || len(c.Fields) > 4 {
				return nil, &failure{400, "invalid", "cannot cluster by " + f}
			}
		}
		t.clustering = c.Fields
	}
	s.changed(t)
	s.tables[name] = t
	return t.resource(), nil
}

var (
	columnName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,299}$`)
	reservedPrefix = regexp.MustCompile(`(?i)^(_table_|_file_|_partition|_row_timestamp|__root__|_colidentifier|_change_)`)
	columnTypes    = []string{"STRING", "INTEGER", "FLOAT", "BOOLEAN", "TIMESTAMP", "JSON", "DATE", "NUMERIC"}
)

func wrongColumns(columns []column) *failure {
	seen := map[string]bool{}
	for _, c := range columns {
		if !columnName.MatchString(c.Name) || reservedPrefix.MatchString(c.Name) || seen[strings.ToLower(c.Name)] || !slices.Contains(columnTypes, c.Type) {
			return &failure{400, "invalid", "Invalid field " + c.Name + " " + c.Type}
		}
		seen[strings.ToLower(c.Name)] = true
	}
	return nil
}

func (s *Server) patch(t *table, body []byte, etag string) (any, *failure) {
	if etag != "" && etag != t.etag {
		return nil, &failure{412, "conditionNotMet", "Precondition Failed"}
	}
	var w wanted
	if no := strict(body, &w); no != nil {
		return nil, no
	}
	if no := wrongColumns(w.Schema.Fields); no != nil {
		return nil, no
	}
	for i, c := range w.Schema.Fields {
		if i < len(t.columns) && c != t.columns[i] || i >= len(t.columns) && c.Mode == "REQUIRED" {
			return nil, &failure{400, "invalid", "Provided Schema does not match Table"}
		}
	}
	if len(w.Schema.Fields) < len(t.columns) {
		return nil, &failure{400, "invalid", "Provided Schema does not match Table: a field is missing"}
	}
	t.before, t.lag, t.absent = t.columns, s.Lag, false
	t.columns = w.Schema.Fields
	s.changed(t)
	return t.resource(), nil
}

// insertError is what is wrong with a row.
type insertError struct {
	Index  int            `json:"index"`
	Errors []insertDetail `json:"errors"`
}

type insertDetail struct {
	Reason   string `json:"reason"`
	Location string `json:"location"`
	Message  string `json:"message"`
}

func (s *Server) insertAll(t *table, body []byte, f Fault) (any, *failure) {
	var in struct {
		Rows []struct {
			InsertID string                     `json:"insertId"`
			JSON     map[string]json.RawMessage `json:"json"`
		} `json:"rows"`
	}
	columns := t.now()
	switch no := strict(body, &in); {
	case len(body) > s.RequestMax:
		return nil, &failure{413, "uploadTooLarge", "Request size is too large"}
	case no != nil:
		return nil, no
	case len(in.Rows) == 0 || len(in.Rows) > s.RowsMax:
		return nil, &failure{400, "invalid", fmt.Sprintf("%d rows", len(in.Rows))}
	case columns == nil:
		return nil, &failure{404, "notFound", "Not found: Table"}
	}
	rows, wrong := make([]Row, len(in.Rows)), map[int]insertDetail{}
	for i, x := range in.Rows {
		var bad *insertDetail
		if rows[i], bad = rowOf(columns, x.JSON); bad != nil {
			wrong[i] = *bad
		} else if x.InsertID == "" || len(x.InsertID) > 128 {
			return nil, &failure{400, "invalid", "insertId"}
		} else if f.Row != nil && f.Row(i) {
			wrong[i] = insertDetail{"invalid", "", "so ordered"}
		}
	}
	if len(wrong) == 0 {
		for i, x := range in.Rows {
			if !t.inserted[x.InsertID] {
				t.inserted[x.InsertID] = true
				t.rows = append(t.rows, rows[i])
			}
		}
		return map[string]any{}, nil
	}
	var all []insertError
	for i := range in.Rows {
		d, ok := wrong[i]
		if !ok {
			d = insertDetail{Reason: "stopped"}
		}
		all = append(all, insertError{i, []insertDetail{d}})
	}
	return map[string]any{"insertErrors": all}, nil
}

// rowOf reads a row of insertAll, strictly.
func rowOf(columns []column, members map[string]json.RawMessage) (Row, *insertDetail) {
	row := Row{}
	for name, raw := range members {
		i := slices.IndexFunc(columns, func(c column) bool { return strings.EqualFold(c.Name, name) })
		if i < 0 {
			return nil, &insertDetail{"invalid", name, "no such field: " + name + "."}
		}
		v, err := insertValue(columns[i], raw)
		if err != nil {
			return nil, &insertDetail{"invalid", name, err.Error()}
		}
		row[columns[i].Name] = v
	}
	for _, c := range columns {
		if c.Mode == "REQUIRED" && row[c.Name] == nil {
			return nil, &insertDetail{"invalid", c.Name, "Missing required field: " + c.Name + "."}
		}
	}
	return row, nil
}

func insertValue(c column, raw json.RawMessage) (any, error) {
	if c.Mode == "REPEATED" {
		var parts []json.RawMessage
		if err := json.Unmarshal(raw, &parts); err != nil {
			return nil, fmt.Errorf("Field %s: array expected", c.Name)
		}
		list := []any{}
		for _, p := range parts {
			v, err := insertValue(column{c.Name, c.Type, ""}, p)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	text := string(raw)
	var s string
	if json.Unmarshal(raw, &s) == nil {
		text = s
	}
	return valueOf(c, text)
}

// valueOf reads a value's text by the type of its column.
func valueOf(c column, text string) (v any, err error) {
	switch c.Type {
	case "INTEGER":
		v, err = strconv.ParseInt(text, 10, 64)
	case "FLOAT":
		v, err = strconv.ParseFloat(text, 64)
	case "BOOLEAN":
		v, err = strconv.ParseBool(text)
	case "TIMESTAMP":
		var t time.Time
		t, err = time.Parse(time.RFC3339Nano, text)
		v = t.UnixMicro()
	case "DATE":
		var t time.Time
		t, err = time.Parse(time.DateOnly, text)
		v = t.Unix() / 86400
	case "JSON":
		v = text
		if !json.Valid([]byte(text)) {
			err = fmt.Errorf("invalid JSON")
		}
	default:
		v = text
	}
	if err != nil {
		return nil, fmt.Errorf("Cannot convert value of %s to %s: %s", c.Name, strings.ToLower(c.Type), base64.StdEncoding.EncodeToString([]byte(text)))
	}
	return v, nil
}

var idsQuery = regexp.MustCompile("^SELECT DISTINCT CONCAT\\(result_id, '\\.', CAST\\(revision AS STRING\\)\\) FROM `([^`]+)` WHERE CONCAT\\(result_id, '\\.', CAST\\(revision AS STRING\\)\\) IN UNNEST\\(@ids\\)$")

// query knows one query: which of some rows are in a table.
func (s *Server) query(body []byte) (any, *failure) {
	var q struct {
		Query           string `json:"query"`
		UseLegacySQL    *bool  `json:"useLegacySql"`
		TimeoutMs       int    `json:"timeoutMs"`
		ParameterMode   string `json:"parameterMode"`
		QueryParameters []struct {
			Name          string `json:"name"`
			ParameterType struct {
				Type      string                `json:"type"`
				ArrayType struct{ Type string } `json:"arrayType"`
			} `json:"parameterType"`
			ParameterValue struct {
				ArrayValues []struct{ Value string } `json:"arrayValues"`
			} `json:"parameterValue"`
		} `json:"queryParameters"`
	}
	if no := strict(body, &q); no != nil {
		return nil, no
	}
	m := idsQuery.FindStringSubmatch(q.Query)
	if m == nil || q.UseLegacySQL == nil || *q.UseLegacySQL || len(q.QueryParameters) != 1 || q.QueryParameters[0].Name != "ids" || q.QueryParameters[0].ParameterType.ArrayType.Type != "STRING" {
		return nil, &failure{400, "invalidQuery", "not a query that is known here: " + q.Query}
	}
	t := s.tables[m[1]]
	if t == nil {
		return nil, &failure{404, "notFound", "Not found: Table " + m[1]}
	}
	var rows []any
	for _, p := range q.QueryParameters[0].ParameterValue.ArrayValues {
		if slices.ContainsFunc(t.rows, func(r Row) bool { return r.ID() == p.Value }) {
			rows = append(rows, map[string]any{"f": []any{map[string]string{"v": p.Value}}})
		}
	}
	return map[string]any{"jobComplete": true, "rows": rows}, nil
}
