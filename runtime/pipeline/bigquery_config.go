package pipeline

import (
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/bigquery"
	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Where BigQuery is, and the limits of requests to it: it takes 10 MB.
const (
	bigqueryEndpoint    = "https://bigquery.googleapis.com"
	bigqueryStorage     = "bigquerystorage.googleapis.com:443"
	bigqueryRequestMost = 9 << 20
	bigqueryRowsMost    = 50_000
	bigqueryRowsUsual   = 10_000
	clusterMost         = 4
	batchMost           = 4096 // the buffer lets no more rows be under way
	batchUsual          = 2000
)

// bigqueryConfig is the configuration of bigquery_rows, checked.
type bigqueryConfig struct {
	to                      bigquery.Config
	project, dataset, table *service.InterpolatedString
	document                bool
	auth                    credential.Secret
	inFlight                int
	batching                service.BatchPolicy
}

// bigqueryName is a part of a table's full name.
type bigqueryName struct {
	what  string
	expr  *service.InterpolatedString
	into  *string
	fault func(name string) string
}

func (c *bigqueryConfig) parts(to *bigquery.Destination) []bigqueryName {
	return []bigqueryName{{"project", c.project, &to.Project, projectFault}, {"dataset", c.dataset, &to.Dataset, datasetFault}, {"table", c.table, &to.Table, tableFault}}
}

// static is the table, if rows have no part in its name.
func (c *bigqueryConfig) static() (to bigquery.Destination, ok bool) {
	for _, p := range c.parts(&to) {
		if *p.into, ok = p.expr.Static(); !ok {
			return bigquery.Destination{}, false
		}
	}
	return to, true
}

// decodeBigqueryRows reads the mapping under an output's `bigquery_rows`.
func decodeBigqueryRows(n *yaml.Node) (c bigqueryConfig, problems []match.Problem) {
	d := newDecoder()
	if m := d.mapping(n, "bigquery_rows"); m != nil {
		d.bigqueryRows(&c, m)
	}
	return c, d.sorted()
}

func (d *decoder) bigqueryRows(c *bigqueryConfig, m *mapping) {
	c.project = d.bigqueryName(m.need("project", "the project's id, such as my-project"), "project", projectFault)
	c.dataset = d.bigqueryName(m.need("dataset", "the name of a dataset, such as tocsin"), "dataset", datasetFault)
	c.table = d.bigqueryName(m.need("table", "the name of a table, such as alerts or ${! @operator }"), "table", tableFault)
	d.bigqueryWrite(c, m)
	c.to.Create = d.bool(m.get("create"), "create")
	d.bigqueryTable(c, m)
	c.document = d.bool(m.get("document"), "document")
	d.bigqueryReach(c, m)
	c.to.RequestMax = requestUsual
	if n := m.get("request_max"); n != nil {
		c.to.RequestMax = int(d.size(n, "request_max", requestLeast, bigqueryRequestMost))
	}
	c.to.RowsMax = d.int(m.get("rows_max"), "rows_max", bigqueryRowsUsual, 1, bigqueryRowsMost)
	c.to.Timeout = d.within(m.get("timeout"), "timeout", timeoutUsual, timeoutLeast, timeoutMost)
	c.to.Patience = d.within(m.get("retry_for"), "retry_for", retryForUsual, 0, retryForMost)
	c.inFlight = d.int(m.get("max_in_flight"), "max_in_flight", 4, 1, inFlightMost)
	d.batching(&c.batching, m.get("batching"))
	m.done()
}

// batching reads how rows are gathered; none is without n.
func (d *decoder) batching(p *service.BatchPolicy, n *yaml.Node) {
	if n == nil {
		return
	}
	m := d.mapping(n, "batching")
	if m == nil {
		return
	}
	p.Count = d.int(m.get("count"), "count", batchUsual, 1, batchMost)
	p.Period = d.within(m.get("period"), "period", 200*time.Millisecond, time.Millisecond, 10*time.Second).String()
	m.done()
}

var bigqueryMethods = map[string]bigquery.Method{"storage": bigquery.Append, "exactly_once": bigquery.Exact, "insert_all": bigquery.Insert}

// bigqueryWrite reads how rows are written.
func (d *decoder) bigqueryWrite(c *bigqueryConfig, m *mapping) {
	n := m.get("write")
	c.to.Method = bigqueryMethods[d.enum(n, "write", "storage", slices.Sorted(maps.Keys(bigqueryMethods))...)]
	offsets := m.get("offsets")
	c.to.Store = d.text(offsets, "offsets")
	switch exact := c.to.Method == bigquery.Exact; {
	case exact && offsets == nil:
		d.wrong(n, "exactly_once needs offsets: a file for what must not be forgotten, such as ./state/bigquery.offsets")
	case !exact && offsets != nil:
		d.wrong(m.key("offsets"), "offsets belong to write: exactly_once; leave them out, or write so")
	}
}

// bigqueryTable reads what tables that are made are like.
func (d *decoder) bigqueryTable(c *bigqueryConfig, m *mapping) {
	location, partition, cluster := m.get("location"), m.get("partition"), m.get("cluster_by")
	c.to.Location = d.text(location, "location")
	if cluster != nil && cluster.Kind == yaml.SequenceNode && len(cluster.Content) == 0 { // as Benthos gives it where there is none
		cluster = nil
	}
	if c.to.Partition = strings.ToUpper(d.enum(partition, "partition", "day", "day", "hour", "month", "none")); c.to.Partition == "NONE" {
		c.to.Partition = ""
	}
	d.list(cluster, "cluster_by", func(x *yaml.Node) {
		name := bigquery.Name(d.text(x, "cluster_by"), nil)
		switch {
		case slices.ContainsFunc(c.to.Cluster, func(o string) bool { return strings.EqualFold(o, name) }):
			d.wrong(x, "%s is there twice in cluster_by; keep one", name)
		case len(c.to.Cluster) == clusterMost:
			d.wrong(x, "a table is clustered by at most %d columns", clusterMost)
		default:
			c.to.Cluster = append(c.to.Cluster, name)
		}
	})
	for name, n := range map[string]*yaml.Node{"location": location, "cluster_by": cluster} {
		if n != nil && !c.to.Create {
			d.wrong(m.key(name), "%s is of tables that this output makes; set create: true, or leave it out", name)
		}
	}
}

// bigqueryReach reads where BigQuery is and who we are.
func (d *decoder) bigqueryReach(c *bigqueryConfig, m *mapping) {
	c.to.Endpoint, _ = url.Parse(bigqueryEndpoint)
	if n := m.get("endpoint"); n != nil {
		if u := d.url(n, "endpoint"); u != nil {
			c.to.Endpoint = u
		}
	}
	c.to.Storage = bigqueryStorage
	if n := m.get("grpc_endpoint"); n != nil {
		c.to.Storage = d.hostPort(n, "grpc_endpoint")
	}
	n := m.get("auth")
	if n == nil {
		return
	}
	a := d.mapping(n, "auth")
	if a == nil {
		return
	}
	var given bool
	if c.auth, given = d.secret(a, "credentials"); !given {
		d.wrong(a.node, "auth needs credentials_env or credentials_file: where the key of a service account is")
	}
	if c.to.Endpoint.Scheme == "http" {
		d.wrong(m.key("auth"), "no credentials are sent over http://; leave auth out, or write https:// in endpoint")
	}
	a.done()
}

// hostPort reads an address.
func (d *decoder) hostPort(n *yaml.Node, what string) string {
	text := d.text(n, what)
	host, port, err := net.SplitHostPort(text)
	if p, perr := strconv.Atoi(port); text != "" && (err != nil || host == "" || perr != nil || p < 1 || p > 65535) {
		d.wrong(n, "%s must be host:port, such as localhost:9060, not %s", what, shown(n))
	}
	return text
}

// bigqueryName reads a part of a table's name, which rows may have a part in.
func (d *decoder) bigqueryName(n *yaml.Node, what string, fault func(name string) string) *service.InterpolatedString {
	if n == nil {
		return nil
	}
	text := d.text(n, what)
	if text == "" {
		return nil
	}
	expr, err := service.NewInterpolatedString(text)
	if err != nil {
		d.wrong(n, "%s: %s; a part of the row is written as ${! @kind } or ${! json(\"column\") }", what, oneLine(err))
		return nil
	}
	if name, static := expr.Static(); static {
		if f := fault(name); f != "" {
			d.wrong(n, "%s %q: %s", what, name, f)
		}
	}
	return expr
}

var (
	projectName = regexp.MustCompile(`^([a-z0-9.-]{1,200}:)?[a-z][a-z0-9-]{2,61}[a-z0-9]$`)
	datasetName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	tableName   = regexp.MustCompile(`^[\pL\pM\pN\p{Pc}\p{Pd} ]+$`)
)

func projectFault(name string) string {
	if !projectName.MatchString(name) {
		return "a project's id has small letters, digits and dashes, from 4 to 63"
	}
	return ""
}

func datasetFault(name string) string {
	if !datasetName.MatchString(name) || len(name) > 1024 {
		return "names of datasets have letters, digits and underscores, at most 1024"
	}
	return ""
}

func tableFault(name string) string {
	if !tableName.MatchString(name) || len(name) > 1024 {
		return "names of tables have letters, digits, underscores, dashes and spaces, at most 1024 bytes"
	}
	return ""
}

// bigqueryColumns finds operators whose rows cannot be rows of a table, if some output is bigquery_rows.
func (c *checker) bigqueryColumns(top *yaml.Node, conf *Config) {
	if conf == nil || !mentions(peek(top, "output"), "bigquery_rows") {
		return
	}
	operators := resolve(orNothing(peek(peek(peek(top, "buffer"), "detect"), "operators")))
	for i := range conf.Spec.Operators {
		o := &conf.Spec.Operators[i]
		if !o.Leaves {
			continue
		}
		var members []string
		for _, column := range o.Names {
			members = append(members, column.Name)
		}
		if fault := bigquery.NameFault(members, bigqueryOwn); fault != "" {
			c.at(entryKey(operators, o.Name), "bigquery_rows: %s; name one of them otherwise", fault)
		}
	}
}

// entryKey is the key of a mapping's entry, or the mapping.
func entryKey(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i]
		}
	}
	return n
}
