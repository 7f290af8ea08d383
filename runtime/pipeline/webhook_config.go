package pipeline

import (
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// webhookConfig is the configuration of webhook, checked.
type webhookConfig struct {
	url       alert.Text
	secretURL credential.Secret // where the URL is, if it is a secret itself
	method    string
	headers   []hookHeader
	body      *template // nil: the payload
	plain     bool      // the body is text, not JSON
	auth      elasticAuth
	tls       credential.TLS
	signature credential.Secret
	acting
}

// acting is what outputs that act have in common.
type acting struct {
	fields     *hookFields // that its templates read
	kinds      []string
	once       bool
	journal    string
	limit      *actionLimit
	limitKey   alert.Text
	limitDrops bool
	timeout    time.Duration
	retryFor   time.Duration
	inFlight   int
	dryRun     bool
}

// hookHeader is a header of each request.
type hookHeader struct {
	name   string
	text   alert.Text
	secret credential.Secret
}

// The limits of webhook.
const (
	headerLimit    = 64
	actionsLimit   = 10_000
	retryForAction = 10 * time.Second
	timeoutAction  = 10 * time.Second
)

// decodeWebhook reads the mapping under an output's `webhook`.
func decodeWebhook(n *yaml.Node) (c webhookConfig, problems []match.Problem) {
	d := newDecoder()
	c.fields = &hookFields{}
	if m := d.mapping(n, "webhook"); m != nil {
		d.webhook(&c, m)
	}
	c.fields.done()
	return c, d.sorted()
}

func (d *decoder) webhook(c *webhookConfig, m *mapping) {
	d.hookURL(c, m)
	c.method = d.enum(m.get("method"), "method", http.MethodPost, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodGet)
	d.hookHeaders(c, m.get("headers"))
	if n := m.get("body"); n != nil {
		c.body = d.template(n, "body", c.fields, 0)
		c.plain = c.body.kind == yaml.ScalarNode && n.Tag == "!!str"
		if c.method == http.MethodGet {
			d.wrong(m.key("body"), "a GET has no body")
		}
	}
	if n := m.get("auth"); n != nil {
		d.hookAuth(&c.auth, n)
	}
	c.tls = d.tlsFiles(m.get("tls"))
	if n := m.get("signature"); n != nil {
		if s := d.mapping(n, "signature"); s != nil {
			var given bool
			if c.signature, given = d.secret(s, "secret"); !given {
				d.wrong(s.node, "signature needs secret_env or secret_file: where the secret is")
			}
			s.done()
		}
	}
	d.acting(&c.acting, m, 8)
	m.done()
}

// acting reads what outputs that act have in common.
func (d *decoder) acting(c *acting, m *mapping, inFlight int) {
	c.kinds = []string{"alert"}
	if n := m.get("kinds"); n != nil {
		c.kinds = nil
		d.list(n, "kinds", func(x *yaml.Node) {
			c.kinds = append(c.kinds, d.enum(x, "kinds", "", "alert", "row", "late", "error"))
		})
	}
	d.hookDelivery(c, m)
	if n := m.get("limit"); n != nil {
		d.hookLimit(c, n)
	}
	c.timeout = d.within(m.get("timeout"), "timeout", timeoutAction, timeoutLeast, timeoutMost)
	c.retryFor = d.within(m.get("retry_for"), "retry_for", retryForAction, 0, retryForMost)
	c.inFlight = d.int(m.get("max_in_flight"), "max_in_flight", inFlight, 1, inFlightMost)
	c.dryRun = d.bool(m.get("dry_run"), "dry_run")
}

// hookURL reads `url`, or where it is.
func (d *decoder) hookURL(c *webhookConfig, m *mapping) {
	n, env, file := m.get("url"), m.get("url_env"), m.get("url_file")
	given := 0
	for _, x := range []*yaml.Node{n, env, file} {
		if x != nil {
			given++
		}
	}
	if c.secretURL = (credential.Secret{Env: d.text(env, "url_env"), File: d.text(file, "url_file")}); given != 1 {
		d.wrong(m.node, "webhook needs url, or url_env or url_file if it is a secret: one of them")
	}
	if n == nil || d.text(n, "url") == "" {
		return
	}
	if strings.Contains(n.Value, "@") && !strings.Contains(n.Value, "{@") {
		d.wrong(n, "url: a user or password must not stand in a URL; use `auth`")
		return
	}
	c.url = d.holes(n, "url", c.fields)
	sample, err := url.Parse(hole.ReplaceAllString(n.Value, "x"))
	whole, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(n.Value, "https://"), "http://"), "/")
	switch {
	case err != nil || sample.Hostname() == "" || sample.Scheme != "http" && sample.Scheme != "https":
		d.wrong(n, "url must be a URL such as https://example.com/hook, not %s", shown(n))
	case strings.ContainsAny(whole, "{}"):
		d.wrong(n, "url: the host must not come from a row: write it out")
	}
}

var hole = regexp.MustCompile(`\{[^{}]*\}`)

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")

func (d *decoder) hookHeaders(c *webhookConfig, n *yaml.Node) {
	if n == nil {
		return
	}
	m := d.mapping(n, "headers")
	if m == nil {
		return
	}
	if len(m.entries) > headerLimit {
		d.wrong(n, "headers are at most %d", headerLimit)
	}
	for _, e := range m.entries {
		h := hookHeader{name: textproto.CanonicalMIMEHeaderKey(e.key.Value)}
		switch {
		case !headerName.MatchString(e.key.Value):
			d.wrong(e.key, "%q is no name of a header", e.key.Value)
		case strings.HasPrefix(h.name, "Webhook-") || h.name == "Host" || h.name == "Content-Length" || h.name == "Transfer-Encoding":
			d.wrong(e.key, "header %s is set by the output itself", h.name)
		case h.name == "Authorization":
			d.wrong(e.key, "a secret must not stand in a pipeline; use `auth`")
		case e.value.Kind == yaml.MappingNode:
			h.secret = d.headerSecret(e)
		default:
			h.text = d.holes(e.value, "header "+h.name, c.fields)
		}
		c.headers = append(c.headers, h)
	}
}

// headerSecret reads { env: NAME } or { file: PATH }.
func (d *decoder) headerSecret(e *entry) credential.Secret {
	m := d.mapping(e.value, "header "+e.key.Value)
	s := credential.Secret{Env: d.text(m.get("env"), "env"), File: d.text(m.get("file"), "file")}
	if (s.Env == "") == (s.File == "") {
		d.wrong(e.value, "a header is a text, { env: NAME } or { file: PATH }")
	}
	m.done()
	return s
}

func (d *decoder) hookAuth(a *elasticAuth, n *yaml.Node) {
	d.elasticAuth(a, n)
	if a.kind == "api_key" {
		d.wrong(n, "auth: an API key is a header of its own here: headers: { X-Api-Key: { env: NAME } }")
	}
}

func (d *decoder) hookDelivery(c *acting, m *mapping) {
	n := m.get("delivery")
	c.once = d.enum(n, "delivery", "at_least_once", "at_least_once", "at_most_once") == "at_most_once"
	j := m.get("journal")
	if c.journal = d.text(j, "journal"); c.once && j == nil {
		d.wrong(n, "at_most_once needs journal: a file that remembers what was tried, such as ./state/NAME.sent")
	}
}

func (d *decoder) hookLimit(c *acting, n *yaml.Node) {
	m := d.mapping(n, "limit")
	if m == nil {
		return
	}
	c.limit = &actionLimit{most: 1, per: time.Minute}
	if k := m.need("key", "whom to count by, such as \"{row.source_ip}\""); k != nil {
		c.limitKey = d.holes(k, "key", c.fields)
	}
	c.limit.most = d.int(m.need("max", "how many actions of a key"), "max", 1, 1, actionsLimit)
	c.limit.per = d.within(m.need("per", "in which span, such as 10m"), "per", time.Minute, time.Second, 30*day)
	c.limitDrops = d.enum(m.get("over"), "over", "error", "error", "drop") == "drop"
	m.done()
}
