package bigquery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/descriptorpb"
)

// Column is a column by BigQuery's names: STRING, INTEGER, FLOAT, BOOLEAN, TIMESTAMP, JSON and so on; the mode is empty for one that may be null.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Mode string `json:"mode,omitempty"`
}

// table is what is known of a table, and the connection that its rows go by.
type table struct {
	to   Destination
	used time.Time // under Client.mu

	mu     sync.Mutex // one at a time asks about it, and changes it
	schema *schema
	etag   string
	raw    []json.RawMessage // its fields as BigQuery gave them: a change sends them back
	asked  time.Time         // when it was looked at last
	made   time.Time         // when we made it or knew that it was not there
	wide   time.Time         // when it got columns

	line sync.Mutex // of lane
	lane *lane

	exact sync.Mutex // one at a time appends to streams of our own
	ours  bool       // the stream in the store is of this process
}

// schema is a table's columns as rows are encoded by them. It does not change, but for what it remembers of names.
type schema struct {
	columns    []column
	own        []int // places of Config.Own; -1: the table has none
	whole      int   // place in Config.Own of what must not be lost
	required   []int
	fits       sync.Map                       // *Shape of which it has all columns
	members    atomic.Pointer[map[string]int] // places of members of rows
	descriptor *descriptorpb.DescriptorProto
}

// described is a table as the REST API gives it.
type described struct {
	Etag   string `json:"etag"`
	Schema struct {
		Fields []json.RawMessage `json:"fields"`
	} `json:"schema"`
}

// look asks for the table's columns. t.mu is held.
func (c *Client) look(ctx context.Context, t *table) error {
	var d described
	err := c.call(ctx, http.MethodGet, t.to.tablePath(), nil, nil, &d)
	var f *fault
	if errors.As(err, &f) && f.status == http.StatusNotFound {
		t.schema = nil
	}
	if err != nil {
		return err
	}
	return c.know(t, &d)
}

// know takes the columns that BigQuery has told.
func (c *Client) know(t *table, d *described) error {
	columns := make([]Column, len(d.Schema.Fields))
	for i, f := range d.Schema.Fields {
		if err := json.Unmarshal(f, &columns[i]); err != nil {
			return &fault{message: "not a column: " + short(string(f))}
		}
	}
	s := newSchema(columns, c.conf.Own, c.conf.Whole)
	for i := range 2 { // without them nobody can tell rows apart
		if s.own[i] < 0 {
			return &fault{status: http.StatusBadRequest, reason: "schema", message: fmt.Sprintf("the table has no column %s of type %s, which tells rows apart; add it, or write to another table", c.conf.Own[i].Name, c.conf.Own[i].Type)}
		}
	}
	t.schema, t.etag, t.raw, t.asked = s, d.Etag, d.Schema.Fields, time.Now()
	return nil
}

// lookAgain is how often a table is looked at again for columns that it has not; others may have added them.
const lookAgain = 30 * time.Second

// ensure gives the table's columns, and makes it and those that the shapes ask for, if that is allowed. Where several do so at once, the first
// wins and the others take what it made.
func (c *Client) ensure(ctx context.Context, t *table, shapes []*Shape) (*schema, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.schema == nil {
		if err := c.find(ctx, t, shapes); err != nil {
			return nil, err
		}
	}
	for try := 0; ; try++ {
		more := t.missing(shapes, c.conf.Own)
		if len(more) == 0 || !c.conf.Create && time.Since(t.asked) < lookAgain {
			return t.schema, nil
		}
		var err error
		if c.conf.Create {
			err = c.widen(ctx, t, more)
		}
		var f *fault
		if lost := errors.As(err, &f) && (f.status == http.StatusPreconditionFailed || f.status == http.StatusConflict); err != nil && (!lost || try == 5) {
			return nil, err
		}
		if err != nil || !c.conf.Create { // another was first, or may have done it
			if err := c.look(ctx, t); err != nil {
				return nil, err
			}
		}
	}
}

// find looks the table up, and makes it if it is not there.
func (c *Client) find(ctx context.Context, t *table, shapes []*Shape) error {
	err := c.look(ctx, t)
	var f *fault
	if !errors.As(err, &f) || f.status != http.StatusNotFound || !c.conf.Create {
		return err
	}
	t.made = time.Now()
	if err = c.create(ctx, t, shapes); errors.As(err, &f) && f.status == http.StatusNotFound {
		if err = c.createDataset(ctx, t.to); err == nil {
			err = c.create(ctx, t, shapes)
		}
	}
	if errors.As(err, &f) && f.status == http.StatusConflict { // another was first
		return c.look(ctx, t)
	}
	return err
}

func (c *Client) createDataset(ctx context.Context, to Destination) error {
	body := map[string]any{"datasetReference": map[string]string{"projectId": to.Project, "datasetId": to.Dataset}}
	if c.conf.Location != "" {
		body["location"] = c.conf.Location
	}
	err := c.call(ctx, http.MethodPost, to.path("datasets"), nil, marshalled(body), nil)
	var f *fault
	if errors.As(err, &f) && f.status == http.StatusConflict {
		return nil
	}
	return err
}

// create makes the table.
func (c *Client) create(ctx context.Context, t *table, shapes []*Shape) error {
	columns := slices.Clone(c.conf.Own)
	for _, s := range shapes {
		columns = append(columns, absent(s, columns, c.conf.Own)...)
	}
	body := map[string]any{
		"tableReference": map[string]string{"projectId": t.to.Project, "datasetId": t.to.Dataset, "tableId": t.to.Table},
		"schema":         map[string]any{"fields": columns},
	}
	if c.conf.Partition != "" {
		body["timePartitioning"] = map[string]string{"type": c.conf.Partition, "field": c.conf.Time}
	}
	if fields := clustering(c.conf.Cluster, columns); len(fields) > 0 {
		body["clustering"] = map[string]any{"fields": fields}
	}
	var d described
	if err := c.call(ctx, http.MethodPost, t.to.path("datasets", t.to.Dataset, "tables"), nil, marshalled(body), &d); err != nil {
		return err
	}
	return c.know(t, &d)
}

// unclustered are types that BigQuery clusters by not.
var unclustered = []string{"FLOAT", "FLOAT64", "JSON", "RECORD", "STRUCT", "BYTES", "TIME"}

// clustering is the columns that a table can be clustered by.
func clustering(by []string, columns []Column) (fields []string) {
	for _, name := range by {
		if i := indexOf(columns, name); i >= 0 && !slices.Contains(unclustered, columns[i].Type) && columns[i].Mode != "REPEATED" {
			fields = append(fields, columns[i].Name)
		}
	}
	return fields
}

// widen adds columns, unless somebody has changed the table since we looked.
func (c *Client) widen(ctx context.Context, t *table, more []Column) error {
	fields := slices.Clone(t.raw)
	for _, m := range more {
		fields = append(fields, marshalled(m))
	}
	var d described
	err := c.call(ctx, http.MethodPatch, t.to.tablePath(), http.Header{"If-Match": {t.etag}}, marshalled(map[string]any{"schema": map[string]any{"fields": fields}}), &d)
	if err != nil {
		return err
	}
	t.wide = time.Now()
	return c.know(t, &d)
}

// missing are the columns of shapes that the table has not.
func (t *table) missing(shapes []*Shape, own []Column) (more []Column) {
	for _, s := range shapes {
		if _, ok := t.schema.fits.Load(s); ok {
			continue
		}
		have := append(t.schema.plain(), more...)
		if add := absent(s, have, own); len(add) > 0 {
			more = append(more, add...)
		} else {
			t.schema.fits.Store(s, true)
		}
	}
	return more
}

// absent are the columns of a shape that are not among others, under the names that the table gives them.
func absent(s *Shape, among, own []Column) (more []Column) {
	for _, c := range s.Columns {
		c.Name = Name(c.Name, own)
		if indexOf(among, c.Name) < 0 && indexOf(more, c.Name) < 0 {
			more = append(more, c)
		}
	}
	return more
}

func (s *schema) plain() []Column {
	out := make([]Column, len(s.columns))
	for i := range s.columns {
		out[i] = s.columns[i].Column
	}
	return out
}

// stale has the table looked at again, since it is not what we think it is.
func (t *table) stale() {
	t.mu.Lock()
	t.schema = nil
	t.mu.Unlock()
	t.hangUp()
}

// fresh says whether the table was made or widened a short while ago, so that a part of BigQuery may not know of it.
func (t *table) fresh() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.made) < newly || time.Since(t.wide) < newly
}

// explain says what is wrong with the table, and what to do.
func (t *table) explain(err error, create bool) string {
	var f *fault
	if !errors.As(err, &f) {
		return fmt.Sprintf("%s: %v", t.to, err)
	}
	switch {
	case f.status == http.StatusNotFound && !create:
		return fmt.Sprintf("%s: %v; make the table and its dataset, or set `create: true`", t.to, err)
	case f.status == http.StatusNotFound:
		return fmt.Sprintf("%s: %v; is the project right?", t.to, err)
	case f.status == http.StatusUnauthorized:
		return fmt.Sprintf("%s: %v; correct `auth`", t.to, err)
	case f.denied():
		return fmt.Sprintf("%s: %v; the account needs the role roles/bigquery.dataEditor on the dataset", t.to, err)
	}
	return fmt.Sprintf("%s: %v", t.to, err)
}

func marshalled(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of texts always can be
	}
	return b
}
