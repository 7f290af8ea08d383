package pipeline

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// The limits of outputs that write over HTTP.
const (
	urlLimit      = 64
	inFlightMost  = 256
	requestLeast  = 1 << 10
	requestMost   = 90 << 20 // servers take 100 MB by default
	requestUsual  = 5 << 20
	timeoutLeast  = time.Second
	timeoutMost   = 10 * time.Minute
	retryForMost  = time.Hour
	timeoutUsual  = 30 * time.Second
	retryForUsual = 30 * time.Second
)

// elasticConfig is the configuration of elasticsearch_bulk, checked.
type elasticConfig struct {
	hosts      []*url.URL
	index      *service.InterpolatedString
	stream     bool
	timestamp  string
	metadata   bool
	auth       elasticAuth
	tls        credential.TLS
	gzip       bool
	requestMax int
	timeout    time.Duration
	retryFor   time.Duration
	inFlight   int
}

// elasticAuth is who we are: by kind basic, api_key or token; empty: nobody.
type elasticAuth struct {
	kind, user string
	secret     credential.Secret
}

// header is the value of Authorization.
func (a elasticAuth) header() (string, error) {
	v, err := a.secret.Read()
	switch {
	case err != nil:
		return "", err
	case a.kind == "basic":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.user+":"+v)), nil
	case a.kind == "api_key":
		return "ApiKey " + v, nil
	}
	return "Bearer " + v, nil
}

// decodeElasticBulk reads the mapping under an output's `elasticsearch_bulk`.
func decodeElasticBulk(n *yaml.Node) (c elasticConfig, problems []match.Problem) {
	d := newDecoder()
	if m := d.mapping(n, "elasticsearch_bulk"); m != nil {
		d.elasticBulk(&c, m)
	}
	return c, d.sorted()
}

func (d *decoder) elasticBulk(c *elasticConfig, m *mapping) {
	d.list(m.need("urls", "a list of hosts, such as [https://localhost:9200]"), "urls", func(x *yaml.Node) {
		if u := d.url(x, "urls"); u != nil {
			if c.hosts = append(c.hosts, u); len(c.hosts) == urlLimit+1 {
				d.wrong(x, "urls are at most %d", urlLimit)
			}
		}
	})
	if n := m.need("index", "the name of an index or data stream, such as tocsin-${! @kind }"); n != nil {
		c.index = d.index(n)
	}
	c.stream = d.bool(m.get("data_stream"), "data_stream")
	d.timestamp(c, m.get("timestamp"))
	c.metadata = d.bool(m.get("metadata"), "metadata")
	if n := m.get("auth"); n != nil {
		d.elasticAuth(&c.auth, n)
	}
	c.tls = d.tlsFiles(m.get("tls"))
	c.gzip = d.enum(m.get("compression"), "compression", "gzip", "gzip", "none") == "gzip"
	c.requestMax = requestUsual
	if n := m.get("request_max"); n != nil {
		c.requestMax = int(d.size(n, "request_max", requestLeast, requestMost))
	}
	c.timeout = d.within(m.get("timeout"), "timeout", timeoutUsual, timeoutLeast, timeoutMost)
	c.retryFor = d.within(m.get("retry_for"), "retry_for", retryForUsual, 0, retryForMost)
	c.inFlight = d.int(m.get("max_in_flight"), "max_in_flight", 4, 1, inFlightMost)
	m.done()
}

// url reads a URL of http or https without what belongs elsewhere.
func (d *decoder) url(n *yaml.Node, what string) *url.URL {
	text := d.text(n, what)
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case strings.Contains(text, "@"): // never the URL itself
		d.wrong(n, "%s: a user or password must not stand in a URL; use `auth`", what)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		d.wrong(n, "%s must be a URL such as https://localhost:9200, not %s", what, shown(n))
	case u.RawQuery != "" || u.Fragment != "":
		d.wrong(n, "%s: a host's URL has no ? and no #", what)
	default:
		return u
	}
	return nil
}

// within reads a duration between two others.
func (d *decoder) within(n *yaml.Node, what string, otherwise, low, high time.Duration) time.Duration {
	faults := len(d.problems)
	v := time.Duration(d.span(n, what, otherwise, 0)) * time.Millisecond
	if len(d.problems) == faults && (v < low || v > high) {
		d.wrong(n, "%s must be from %s to %s, not %s", what, low, high, n.Value)
	}
	return v
}

var indexName = regexp.MustCompile(`^[^-_+A-Z\\/*?"<>| ,#:][^A-Z\\/*?"<>| ,#:]*$`)

// indexFault says what is wrong with the name of an index, as both servers see it.
func indexFault(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case name == "." || name == ".." || len(name) > 255:
		return "it is longer than 255 bytes, or dots alone"
	case name != strings.ToLower(name):
		return "names of indexes have no capitals"
	case !indexName.MatchString(name):
		return `names of indexes do not begin with -, _ or +, and have no spaces and none of \/*?"<>|,#:`
	}
	return ""
}

// index reads the name of an index, which rows may have a part in.
func (d *decoder) index(n *yaml.Node) *service.InterpolatedString {
	text := d.text(n, "index")
	if text == "" {
		return nil
	}
	expr, err := service.NewInterpolatedString(text)
	if err != nil {
		d.wrong(n, "index: %s; a part of the row is written as ${! @kind } or ${! json(\"column\") }", oneLine(err))
		return nil
	}
	if name, static := expr.Static(); static {
		if fault := indexFault(name); fault != "" {
			d.wrong(n, "index %q: %s", name, fault)
		}
	}
	return expr
}

// timestamp reads the member for the event's time; an empty text is none, which no data stream takes.
func (d *decoder) timestamp(c *elasticConfig, n *yaml.Node) {
	c.timestamp = "@timestamp"
	if n == nil {
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value == "" {
		c.timestamp = ""
	} else {
		c.timestamp = d.text(n, "timestamp")
	}
	if c.stream && c.timestamp != "@timestamp" {
		d.wrong(n, "documents of a data stream need @timestamp; leave timestamp out")
	}
}

func (d *decoder) elasticAuth(a *elasticAuth, n *yaml.Node) {
	m := d.mapping(n, "auth")
	if m == nil {
		return
	}
	var kinds []string
	user := m.get("username")
	a.user = d.text(user, "username")
	for _, k := range []struct{ kind, name string }{{"basic", "password"}, {"api_key", "api_key"}, {"token", "token"}} {
		if s, given := d.secret(m, k.name); given {
			a.kind, a.secret = k.kind, s
			kinds = append(kinds, k.name)
		}
	}
	switch {
	case len(kinds) > 1:
		d.wrong(m.node, "auth has %s; keep one", strings.Join(kinds, " and "))
	case len(kinds) == 0:
		d.wrong(m.node, "auth needs password_env, api_key_env or token_env, or one of them with _file: where the secret is")
	case (user != nil) != slices.Equal(kinds, []string{"password"}):
		d.wrong(m.node, "auth has username and password_env or password_file together; api_key and token say who we are by themselves")
	case strings.Contains(a.user, ":"):
		d.wrong(user, "username must not have a colon")
	}
	m.done()
}
