package pipeline

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/credential"
)

func webhookSpec() *service.ConfigSpec {
	auth := []*service.ConfigField{service.NewStringField("username").Description("The user of a password.").Optional()}
	auth = append(auth, secretFields("password", "the password")...)
	auth = append(auth, secretFields("token", "a bearer token")...)
	urls := []*service.ConfigField{service.NewStringField("url").Description("The URL. What fills its fields is escaped; the host must stand there.").Optional().
		Example("https://firewall.example.com/ports/{row.port}")}
	urls = append(urls, secretFields("url", "the URL, if it is a secret, as those of chat services are; it has no fields then")...)
	return service.NewConfigSpec().
		Categories("Services").
		Summary("Acts: a request for each alert, to a chat, a ticket system, a firewall.").
		Description(`Texts of `+"`url`, `headers`, `body` and `limit.key`"+` may hold `+"`{field}`"+`, a path in the payload such as `+"`{title}` or `{row.source_ip}`"+`, and
`+"`{@name}`"+`, metadata such as `+"`{@result_id}`; `{{`"+` is a brace. A body that is a mapping or a list is sent as JSON, whatever fills it; a text that is one field alone
keeps the field's type. A body that is a text is sent as it is. Without `+"`body`"+` the payload is.

Each request has a `+"`webhook-id`"+`, the result id, with `+"`.REVISION`"+` for a revision: the same however often it is tried, so that a receiver can tell; one that knows another header
gets it as `+"`headers: { Idempotency-Key: \"{@result_id}\" }`"+`. With `+"`signature`"+` it has
`+"`webhook-timestamp`"+` and `+"`webhook-signature`"+` as well, HMAC-SHA256 over id, timestamp and body joined by dots, in the form of standardwebhooks.com.

What is answered 2xx is done. `+"`at_least_once`"+`: no answer, 408, 425, 429 and 5xx are tried again, with pauses that double or are as long as the receiver asks for, and after
`+"`retry_for`"+` the row goes back to the state and is sent again from there, alone; so is 401, 403, 404 or 405, after which others may still pass. A row that is answered anything
else, or that fails again and again while others pass, becomes an error row with the reason. Twice is what was not acknowledged when the process was
killed, up to some hundred rows; with a journal only what was under way.
`+"`at_most_once`"+`: what is tried is written to the journal first. What certainly was not done (no connection, 401, 403, 404, 405, 429) is tried again; all else becomes an error row that says
so, also after a crash.

Rows of other kinds than `+"`kinds`"+` are passed over: put an output beside it that keeps them, error rows above all.`).
		Fields(urls...).
		Fields(
			service.NewStringEnumField("method", "POST", "PUT", "PATCH", "DELETE", "GET").Description("The method of requests.").Default("POST"),
			service.NewAnyField("headers").Description("Headers, at most 64: texts, or `{ env: NAME }` or `{ file: PATH }` for those that are secrets.").Optional().
				Example(map[string]any{"X-Severity": "{severity}", "X-Api-Key": map[string]any{"env": "FIREWALL_KEY"}}),
			service.NewAnyField("body").Description("The body: a mapping or a list, sent as JSON, or a text.").Optional().
				Example(map[string]any{"text": "{title}", "risk": "{risk_score}"}),
			service.NewObjectField("auth", auth...).Description("Who we are: a user with a password, or a token.").Optional().Advanced(),
			tlsField(),
			service.NewObjectField("signature", secretFields("secret", "the secret that the receiver shares; after `whsec_` it is base64")...).
				Description("The secret that requests are signed with; without it they are not.").Optional(),
		).
		Fields(actingFields(8, "firewall", "a request")...).
		Example("Tells of an address that fails to log in", runs+" It prints the requests; without `dry_run` it makes them.", `input:
  file_lines:
    paths: [pipelines/data/logins.jsonl]
buffer:
  detect:
    name: webhook
    state: ./state/webhook
    streams:
      logins: { time: { field: login_time } }
    operators:
      failures:
        window: { from: logins, tumbling: 1m, key: source_ip, where: { status: failure }, aggregate: { n: count }, having: { n|gte: 5 } }
        alert: { title: "{n} failures from {source_ip}", severity: medium }
output:
  webhook:
    url: http://127.0.0.1:18080/hook
    body: { text: "{severity}: {title}" }
    dry_run: true
`).
		Example("A message to a chat for each alert, at most three an address in ten minutes", "", "output:\n  webhook:\n    url_env: CHAT_URL\n    body: { text: \"{severity}: {title}\" }\n"+
			"    limit: { key: \"{row.source_ip}\", max: 3, per: 10m, over: drop }\n").
		Example("A port is closed, once", "", "output:\n  webhook:\n    url: https://firewall.example.com/api/hosts/{row.host}/ports/{row.port}\n    method: DELETE\n    headers: { X-Api-Key: { env: FIREWALL_KEY } }\n"+
			"    delivery: at_most_once\n    journal: ./state/firewall.sent\n    signature: { secret_file: /etc/tocsin/firewall.secret }\n")
}

func init() { registerRows("webhook", webhookSpec(), newWebhook) }

// webhook is the output.
type webhook struct {
	conf webhookConfig
	http *http.Client
	*actor
}

func newWebhook(conf *service.ParsedConfig, res *service.Resources) (*webhook, error) {
	c, err := decodeParsed(conf, "webhook", decodeWebhook)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if transport.TLSClientConfig, err = c.tls.Config(); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	transport.ForceAttemptHTTP2, transport.MaxIdleConnsPerHost = true, c.inFlight
	o := &webhook{conf: c, http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	o.actor = newActor("webhook", &o.conf.acting, res, actorFuncs{o.fill, func(ctx context.Context, a *action) reply { return o.ask(ctx, a) }, o.shown})
	for _, s := range o.secrets() {
		if _, err := s.Read(); err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
	}
	return o, nil
}

// secrets are those that the configuration names.
func (o *webhook) secrets() []credential.Secret {
	all := []credential.Secret{o.conf.secretURL, o.conf.signature, o.conf.auth.secret}
	for _, h := range o.conf.headers {
		all = append(all, h.secret)
	}
	return slices.DeleteFunc(all, func(s credential.Secret) bool { return s == credential.Secret{} })
}

// Close gives up connections and the journal.
func (o *webhook) Close(context.Context) error {
	o.http.CloseIdleConnections()
	o.sent.close()
	return nil
}

// fill fills the templates.
func (o *webhook) fill(a *action, row hookRow, payload []byte) (err error) {
	a.header = http.Header{}
	kind := "application/json"
	switch b := o.conf.body; {
	case o.conf.method == http.MethodGet:
	case b == nil:
		a.body = payload
	case o.conf.plain:
		a.body, kind = b.text.Fill(nil, row), "text/plain; charset=utf-8"
	default:
		a.body = b.append(nil, row)
	}
	if a.body != nil {
		a.header.Set("Content-Type", kind)
	}
	for _, h := range o.conf.headers {
		if h.secret == (credential.Secret{}) {
			a.header.Set(h.name, headerText(string(h.text.Fill(nil, row))))
		}
	}
	if o.conf.secretURL == (credential.Secret{}) {
		a.url, err = fillURL(&o.conf.url, row)
	}
	return err
}

// shown is what would be asked for. Secrets are not in it.
func (o *webhook) shown(a *action) string {
	at := "(a secret URL)"
	if a.url != nil {
		at = a.url.Redacted()
	}
	return fmt.Sprintf("%s %s  %s", o.conf.method, clean(at, len(at)), clean(string(a.body), len(a.body)))
}

// httpReply is what a receiver said, or why it said nothing.
type httpReply struct {
	status int
	wait   time.Duration // Retry-After
	text   string
	err    error
}

func (r httpReply) done() bool           { return r.err == nil && r.status >= 200 && r.status < 300 }
func (r httpReply) full() bool           { return r.status == http.StatusTooManyRequests }
func (r httpReply) after() time.Duration { return r.wait }

// unheard says whether the request certainly was not done: there was no connection, or the receiver says that it would not.
func (r httpReply) unheard() bool {
	if r.err != nil {
		return undialed(r.err) || errors.Is(r.err, http.ErrSchemeMismatch) || errors.Is(r.err, errUnsent)
	}
	return slices.Contains([]int{401, 403, 404, 405, 429}, r.status)
}

// passes says whether the same request may soon be answered otherwise.
func (r httpReply) passes() bool {
	return r.err != nil || r.status >= 500 || slices.Contains([]int{408, 425, 429}, r.status)
}

// errUnsent is of requests that could not even be made.
var errUnsent = errors.New("not sent")

func (r httpReply) why() string {
	if r.err != nil {
		return r.err.Error()
	}
	return strings.TrimRight(fmt.Sprintf("HTTP %d: %s", r.status, r.text), ": ")
}

// ask makes the request once.
func (o *webhook) ask(ctx context.Context, a *action) (r httpReply) {
	ctx, cancel := context.WithTimeout(ctx, o.conf.timeout)
	defer cancel()
	req, err := o.request(ctx, a)
	if err != nil {
		r.err = fmt.Errorf("%w: %w", errUnsent, err)
		return r
	}
	res, err := o.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // its URL may be a secret
			err = u.Err
		}
		r.err = fmt.Errorf("%s: %w", req.URL.Host, err)
		return r
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
	r.status, r.text, r.wait = res.StatusCode, clean(strings.Join(strings.Fields(string(text)), " "), 300), retryAfter(res.Header.Get("Retry-After"), o.now())
	return r
}

// retryAfter reads seconds or a date.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return time.Duration(min(n, 86_400)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// request is the action with what belongs to this try: secrets as they are now, time, signature.
func (o *webhook) request(ctx context.Context, a *action) (*http.Request, error) {
	at := a.url
	if at == nil {
		text, err := o.conf.secretURL.Read()
		if err != nil {
			return nil, err
		}
		if at, err = url.Parse(text); err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
			return nil, errors.New("what url_env or url_file holds is no URL of http or https")
		}
	}
	req, err := http.NewRequestWithContext(ctx, o.conf.method, at.String(), bytes.NewReader(a.body))
	if err != nil {
		return nil, errors.New("the URL is none")
	}
	req.Header = a.header.Clone()
	req.Header.Set("User-Agent", "tocsin")
	req.Header.Set("Webhook-Id", a.id)
	for _, h := range o.conf.headers {
		if h.secret == (credential.Secret{}) {
			continue
		}
		v, err := h.secret.Read()
		if err != nil {
			return nil, err
		}
		req.Header.Set(h.name, v)
	}
	if o.conf.auth.kind != "" {
		v, err := o.conf.auth.header()
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", v)
	}
	return req, o.sign(req, a)
}

// sign adds the signature, if there is one.
func (o *webhook) sign(req *http.Request, a *action) error {
	if o.conf.signature == (credential.Secret{}) {
		return nil
	}
	text, err := o.conf.signature.Read()
	if err != nil {
		return err
	}
	key := []byte(text)
	if coded, ok := strings.CutPrefix(text, "whsec_"); ok {
		if key, err = base64.StdEncoding.DecodeString(coded); err != nil {
			return errors.New("signature: what follows whsec_ is no base64")
		}
	}
	stamp := strconv.FormatInt(o.now().Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(a.id + "." + stamp + "."))
	mac.Write(a.body)
	req.Header.Set("Webhook-Timestamp", stamp)
	req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return nil
}
