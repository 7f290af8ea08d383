// Package elastic writes documents to Elasticsearch and OpenSearch with _bulk. Each has an id of its own and, unless it is only created,
// a version, so that a document which is written again, after a lost answer say, is there once. Write says what became of each.
//
// It knows neither rows nor pipelines. Read Client.Write first.
package elastic

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/seed-98920119/tocsin/runtime/retry"
)

// Config says how to reach a cluster and how hard to try.
type Config struct {
	Hosts         []*url.URL             // asked in turn; without user and password
	TLS           *tls.Config            // of https hosts; nil: the system's authorities
	Authorization func() (string, error) // the header of each request, asked for each; nil: none
	Gzip          bool                   // compress requests
	Timeout       time.Duration          // of a request
	RequestMax    int                    // bytes of a request before it is compressed; a document that is longer goes alone
	Patience      time.Duration          // how long Write tries again what found the cluster busy
	Warn          func(format string, args ...any)
}

// Client writes to one cluster. Its methods may be called from several goroutines.
type Client struct {
	conf  Config
	http  *http.Client
	turn  atomic.Uint32
	hosts []host
	zips  sync.Pool
	pause retry.Pauses
	busy  retry.Seldom // of a cluster that is busy
}

// host is a node with when it last gave no answer, in unix ms.
type host struct {
	url  *url.URL
	dead atomic.Int64
}

// Waits: between tries; how long a host without answer is passed over.
const (
	pauseMin = 100 * time.Millisecond
	pauseMax = 10 * time.Second
	deadFor  = 5 * time.Second
)

// answerMax is the longest answer that is read, in bytes.
const answerMax = 64 << 20

// NewClient makes a client; it connects to nothing.
func NewClient(conf Config) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = conf.TLS
	transport.ForceAttemptHTTP2 = true
	transport.MaxIdleConnsPerHost = 64
	c := &Client{conf: conf, pause: retry.Pauses{Least: pauseMin, Most: pauseMax}, busy: retry.Seldom{To: conf.Warn}, hosts: make([]host, len(conf.Hosts)), http: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	for i, u := range conf.Hosts {
		c.hosts[i].url = u
	}
	c.zips.New = func() any {
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // that level there is
		return w
	}
	return c
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Stop is an error that no retry mends.
type Stop struct{ Err error }

func (s *Stop) Error() string { return s.Err.Error() }
func (s *Stop) Unwrap() error { return s.Err }

// Probe asks a host who it is. It returns a Stop for a cluster that does not let us in or is too old; a host that may not tell, or knows
// no such question, is taken as it is.
func (c *Client) Probe(ctx context.Context) error {
	_, err := c.Distribution(ctx)
	return err
}

// Distribution is Probe that also says what the cluster is: "opensearch" or another distribution's name, or empty for Elasticsearch and
// for who may not tell.
func (c *Client) Distribution(ctx context.Context) (string, error) {
	a := c.do(ctx, http.MethodGet, "/", nil)
	switch {
	case a.err != nil:
		return "", explain(a)
	case a.status == http.StatusUnauthorized:
		return "", &Stop{fmt.Errorf("%s does not let us in: %s; correct `auth`", a.host, a.reason())}
	case a.status == http.StatusTooManyRequests || a.status >= 500:
		return "", fmt.Errorf("%s: %s", a.host, a.reason())
	case a.status != http.StatusOK:
		return "", nil
	}
	var who struct {
		Version struct{ Number, Distribution string }
	}
	if json.Unmarshal(a.body, &who) != nil || who.Version.Number == "" {
		return "", nil
	}
	name, least := "Elasticsearch", 8
	if who.Version.Distribution != "" {
		name, least = who.Version.Distribution, 2
	}
	major, _, _ := strings.Cut(who.Version.Number, ".")
	if n, err := strconv.Atoi(major); err == nil && n < least {
		return "", &Stop{fmt.Errorf("%s is %s %s; this output needs Elasticsearch 8 or OpenSearch 2 or newer", a.host, name, who.Version.Number)}
	}
	return who.Version.Distribution, nil
}

// explain says why a host did not answer, and what to do.
func explain(a answer) error {
	var unknown *tls.CertificateVerificationError
	switch {
	case errors.As(a.err, &unknown):
		return &Stop{fmt.Errorf("%s: %w; name the authority that signed it with `tls: { ca_file }`, or the name in it with `server_name`", a.host, a.err)}
	case errors.Is(a.err, http.ErrSchemeMismatch):
		return &Stop{fmt.Errorf("%s: %w; it speaks no TLS: write http:// in `urls`", a.host, a.err)}
	}
	return fmt.Errorf("%s: %w", a.host, a.err)
}

// answer is what a host said, or why it said nothing.
type answer struct {
	host   string
	status int
	body   []byte
	err    error
}

// reason is what an answer that is not 200 says, in a line.
func (a answer) reason() string {
	text := fmt.Sprintf("HTTP %d", a.status)
	var said struct{ Error json.RawMessage }
	var plain string
	var whole fault
	switch {
	case json.Unmarshal(a.body, &said) != nil || said.Error == nil:
		plain = string(a.body)
	case json.Unmarshal(said.Error, &whole) == nil:
		plain = whole.text()
	case json.Unmarshal(said.Error, &plain) != nil:
		plain = string(said.Error)
	}
	if plain = short(plain); plain != "" {
		text += ": " + plain
	}
	return text
}

// short is the beginning of a text as one line of printable characters.
func short(s string) string {
	const most = 500
	s = strings.ToValidUTF8(s[:min(len(s), most)], "")
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
}

// do asks the next host.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (a answer) {
	h := c.next()
	a.host = h.url.Host
	ctx, cancel := context.WithTimeout(ctx, c.conf.Timeout)
	defer cancel()
	req, err := c.request(ctx, method, h.url, path, body)
	if err != nil {
		a.err = err
		return a
	}
	res, err := c.http.Do(req)
	if err == nil {
		a.status = res.StatusCode
		a.body, err = io.ReadAll(io.LimitReader(res.Body, answerMax))
		res.Body.Close()
	}
	if h.dead.Store(0); err != nil {
		h.dead.Store(time.Now().UnixMilli())
		var u *url.Error
		if errors.As(err, &u) { // the host is said already
			err = u.Err
		}
		if ctx.Err() == context.DeadlineExceeded {
			err = fmt.Errorf("no answer within %s", c.conf.Timeout)
		}
	}
	a.err = err
	return a
}

// next is the host whose turn it is, without those that gave no answer a moment ago, as long as there are others.
func (c *Client) next() *host {
	now := time.Now().UnixMilli()
	for range c.hosts {
		h := &c.hosts[int(c.turn.Add(1)-1)%len(c.hosts)]
		if now-h.dead.Load() >= deadFor.Milliseconds() {
			return h
		}
	}
	return &c.hosts[int(c.turn.Add(1)-1)%len(c.hosts)]
}

func (c *Client) request(ctx context.Context, method string, base *url.URL, path string, body []byte) (*http.Request, error) {
	at, err := base.Parse(strings.TrimRight(base.Path, "/") + path)
	if err != nil {
		return nil, err
	}
	zipped := c.conf.Gzip && len(body) > 0
	if zipped {
		body = c.zip(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "tocsin")
	switch {
	case len(body) == 0:
	case strings.HasPrefix(path, "/_bulk"):
		req.Header.Set("Content-Type", "application/x-ndjson")
	default:
		req.Header.Set("Content-Type", "application/json")
	}
	if zipped {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if c.conf.Authorization != nil {
		value, err := c.conf.Authorization()
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", value)
	}
	return req, nil
}

// zip compresses into a buffer of its own: net/http may read it after the answer is there.
func (c *Client) zip(body []byte) []byte {
	var b bytes.Buffer
	w := c.zips.Get().(*gzip.Writer)
	defer c.zips.Put(w)
	w.Reset(&b)
	_, err := w.Write(body)
	if err = cmp.Or(err, w.Close()); err != nil {
		panic(err) // memory takes everything
	}
	return b.Bytes()
}
