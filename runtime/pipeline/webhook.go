package pipeline

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

Each request has a `+"`webhook-id`"+`, the result id, with `+"`.REVISION`"+` for a revision: the same however often it is tried, so that a receiver can tell. With `+"`signature`"+` it has
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
			service.NewStringListField("kinds").Description("The rows that are acted on: alert, row, late, error.").Default([]any{"alert"}),
			service.NewStringEnumField("delivery", "at_least_once", "at_most_once").Description("What may happen when nobody knows whether a request was heard: once more, or never again.").Default("at_least_once"),
			service.NewStringField("journal").Description("The file that remembers what was done and, with at_most_once, what was tried. `--fresh` moves it to PATH.old.").Optional().Example("./state/firewall.sent"),
			service.NewObjectField("limit",
				service.NewStringField("key").Description("Whom to count by, a text with fields.").Example("{row.source_ip}"),
				service.NewIntField("max").Description("How many actions, at most 10000."),
				service.NewStringField("per").Description("In any span of time this long, by the clock, from 1s to 30d."),
				service.NewStringEnumField("over", "error", "drop").Description("What becomes of one too many: an error row, or nothing; it is counted in the log.").Default("error"),
			).Description("Bounds actions by entity. A restart begins anew; beyond 100 000 keys at once all others are one.").Optional(),
			service.NewStringField("timeout").Description("How long to wait for an answer, from 1s to 10m.").Default("10s"),
			service.NewStringField("retry_for").Description("How long to try again before the row goes back to the state, at most 1h.").Default("10s"),
			service.NewIntField("max_in_flight").Description("Requests at the same time, at most 256; with 1 they are in the order of the rows.").Default(8),
			service.NewBoolField("dry_run").Description("Whether requests are only printed.").Default(false),
		).
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

func init() {
	err := service.RegisterBatchOutput("webhook", webhookSpec(),
		func(conf *service.ParsedConfig, res *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			out, err := newWebhook(conf, res)
			return out, service.BatchPolicy{}, 1, err
		})
	if err != nil {
		panic(err)
	}
}

// webhook is the output.
type webhook struct {
	conf  webhookConfig
	http  *http.Client
	link  *link
	log   *service.Logger
	sent  sent
	fresh bool
	print sync.Mutex
	over  atomic.Int64 // actions that the limit dropped
	quiet atomic.Int64 // until when the receiver wants to be left alone, in unix ms

	now   func() time.Time // a test's clock
	pause time.Duration    // the first between two tries
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
	l := linkOf(res)
	o := &webhook{conf: c, link: l, log: res.Logger(), fresh: l.run.Fresh, now: time.Now, pause: 200 * time.Millisecond,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
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

// Connect opens the journal.
func (o *webhook) Connect(context.Context) error {
	o.sent.close()
	if !o.conf.dryRun {
		o.sent.path = o.conf.journal
	}
	if err := o.sent.open(o.fresh, o.log); err != nil {
		return fmt.Errorf("webhook: journal: %w", err)
	}
	o.fresh = false
	return nil
}

// Close gives up connections and the journal.
func (o *webhook) Close(context.Context) error {
	o.http.CloseIdleConnections()
	o.sent.close()
	return nil
}

// WriteBatch acts on each row of the batch and says of each that failed what is the matter.
func (o *webhook) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	fates := make([]fate, len(batch))
	room := make(chan struct{}, o.conf.inFlight)
	var all sync.WaitGroup
	for i, msg := range batch {
		a, f := o.action(msg)
		if a != nil {
			f = o.admit(a)
		}
		if a == nil || a.back == nil {
			fates[i] = f
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			fates[i] = o.act(ctx, a)
			<-room
		})
	}
	all.Wait()
	return o.link.report(batch, fates)
}

// action is a request that is to be made.
type action struct {
	id, key string
	url     *url.URL
	header  http.Header
	body    []byte
	back    func() // gives back its part of the limit; nil: it is not to be done
}

// action makes the request of a row, or says why there is none.
func (o *webhook) action(msg *service.Message) (*action, fate) {
	if kind, _ := msg.MetaGet("kind"); !slices.Contains(o.conf.kinds, kind) {
		return nil, fate{}
	}
	a := &action{header: http.Header{}}
	if a.id, _ = msg.MetaGet("result_id"); a.id == "" {
		return nil, fate{refused, "the message has no result_id, which rows of `detect` have"}
	}
	if n, _ := msg.MetaGet("revision"); n != "" && n != "0" {
		a.id += "." + n
	}
	switch was := o.sent.of(a.id); {
	case was == done:
		return nil, fate{}
	case was == tried && o.conf.once:
		return nil, fate{refused, "it was tried before, nobody knows with what outcome, and at_most_once does not try again"}
	}
	payload, err := msg.AsBytes()
	if err == nil {
		err = o.fill(a, o.conf.fields.row(msg, payload), payload)
	}
	if err != nil {
		return nil, fate{refused, err.Error()}
	}
	return a, fate{}
}

// fill fills the templates.
func (o *webhook) fill(a *action, row hookRow, payload []byte) (err error) {
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
	a.key = string(o.conf.limitKey.Fill(nil, row))
	if o.conf.secretURL == (credential.Secret{}) {
		a.url, err = fillURL(&o.conf.url, row)
	}
	return err
}

// admit lets an action pass, within the limit, or says what becomes of its row instead. It is asked in the order of the rows.
func (o *webhook) admit(a *action) fate {
	if o.conf.dryRun {
		return o.show(a)
	}
	if o.conf.limit == nil {
		a.back = func() {}
		return fate{}
	}
	var ok bool
	if a.back, ok = o.conf.limit.take(a.key, o.now()); !ok {
		return o.tooMany(a)
	}
	return fate{}
}

// act makes a request as often as it takes, within what the configuration allows.
func (o *webhook) act(ctx context.Context, a *action) fate {
	f := o.try(ctx, a)
	if f.verdict != delivered {
		a.back()
	}
	return f
}

// tooMany is what becomes of an action beyond the limit.
func (o *webhook) tooMany(a *action) fate {
	l := o.conf.limit
	if !o.conf.limitDrops {
		return fate{refused, fmt.Sprintf("more than %d actions in %s for %q", l.most, l.per, a.key)}
	}
	if n := o.over.Add(1); n == 1 || n%1000 == 0 {
		o.log.Warnf("webhook: the limit of %d in %s has dropped %d actions so far", l.most, l.per, n)
	}
	return fate{}
}

// show prints what would be asked for. Secrets are not in it.
func (o *webhook) show(a *action) fate {
	at := "(a secret URL)"
	if a.url != nil {
		at = a.url.Redacted()
	}
	o.print.Lock()
	defer o.print.Unlock()
	_, err := fmt.Fprintf(consoleOut, "DRY RUN  %s %s  %s\n", o.conf.method, clean(at, len(at)), clean(string(a.body), len(a.body)))
	if err != nil {
		return fate{busy, err.Error()}
	}
	return fate{}
}

// Pauses between tries: the longest, and the longest that a receiver may ask for.
const (
	pauseOfActions = time.Minute
	retryAfterMost = time.Hour
)

// try asks until there is an answer that settles the matter.
func (o *webhook) try(ctx context.Context, a *action) fate {
	until := time.Now().Add(o.conf.retryFor)
	for pause := o.pause; ; pause = min(2*pause, pauseOfActions) {
		if quiet := time.UnixMilli(o.quiet.Load()); time.Now().Before(quiet) {
			if wait(ctx, min(time.Until(quiet), time.Until(until))); time.Now().Before(quiet) {
				return fate{busy, "the receiver wants to be left alone until " + quiet.UTC().Format(time.RFC3339)}
			}
		}
		r, f := o.once(ctx, a)
		if r.after > 0 {
			o.quiet.Store(time.Now().Add(min(r.after, retryAfterMost)).UnixMilli())
		}
		d := pause/2 + rand.N(pause/2+1)
		if f.verdict == delivered || f.verdict == refused || !r.passes() || time.Now().Add(d).After(until) || ctx.Err() != nil {
			return f
		}
		wait(ctx, d)
	}
}

// once asks once, and keeps the journal.
func (o *webhook) once(ctx context.Context, a *action) (r reply, f fate) {
	if o.conf.once {
		if err := o.sent.try(a.id); err != nil {
			return r, fate{blocked, "journal: " + err.Error()}
		}
	}
	r = o.ask(ctx, a)
	f = o.judge(r)
	var err error
	switch {
	case f.verdict == delivered:
		err = o.sent.end(a.id, done)
	case o.conf.once && f.verdict != refused:
		err = o.sent.end(a.id, untried)
	}
	if err != nil {
		o.log.Warnf("webhook: journal: %v", err)
	}
	return r, f
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// reply is what a receiver said, or why it said nothing.
type reply struct {
	status int
	after  time.Duration // Retry-After
	text   string
	err    error
}

// unheard says whether the request certainly was not done: there was no connection, or the receiver says that it would not.
func (r reply) unheard() bool {
	var op *net.OpError
	var unknown *tls.CertificateVerificationError
	if r.err != nil {
		return errors.As(r.err, &op) && op.Op == "dial" || errors.As(r.err, &unknown) || errors.Is(r.err, http.ErrSchemeMismatch) || errors.Is(r.err, errUnsent)
	}
	return slices.Contains([]int{401, 403, 404, 405, 429}, r.status)
}

// passes says whether the same request may soon be answered otherwise.
func (r reply) passes() bool {
	return r.err != nil || r.status >= 500 || slices.Contains([]int{408, 425, 429}, r.status)
}

// errUnsent is of requests that could not even be made.
var errUnsent = errors.New("not sent")

func (r reply) why() string {
	if r.err != nil {
		return r.err.Error()
	}
	return strings.TrimRight(fmt.Sprintf("HTTP %d: %s", r.status, r.text), ": ")
}

// judge says what a reply means for a row.
func (o *webhook) judge(r reply) fate {
	switch {
	case r.err == nil && r.status >= 200 && r.status < 300:
		return fate{}
	case r.status == http.StatusTooManyRequests:
		return fate{busy, r.why()}
	case o.conf.once && !r.unheard():
		return fate{refused, "it was tried, and at_most_once does not try again: " + r.why()}
	case r.unheard() || r.passes():
		return fate{blocked, r.why()}
	}
	return fate{refused, r.why()}
}

// ask makes the request once.
func (o *webhook) ask(ctx context.Context, a *action) (r reply) {
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
	r.status, r.text, r.after = res.StatusCode, clean(strings.Join(strings.Fields(string(text)), " "), 300), retryAfter(res.Header.Get("Retry-After"), o.now())
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
