package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// Registry says how to reach a schema registry with Confluent's API.
type Registry struct {
	URLs  []string           // asked in turn
	TLS   *credential.TLS    // files for https; nil: the system's
	User  string             // with Secret as the password; empty: Secret, if there is one, is a bearer token
	Login *credential.Secret // nil: nobody asks who we are
	Log   Log
}

// The limits of what a registry may answer, and how it is asked again.
const (
	registryAnswerMax = 8 << 20
	registryPatience  = 10 * time.Second
	referencesMax     = 256
	knownMax          = 10_000
	retryLongest      = 30 * time.Second
	afterLongest      = 2 * time.Minute // of a Retry-After
	unknownFor        = time.Minute     // until an id that was not there is asked for again
)

// retryFirst is the first pause, which then doubles; tests are in a hurry.
var retryFirst = 250 * time.Millisecond

// registry finds schemas by their ids and keeps them for ever: an id never means another schema.
type registry struct {
	Registry
	client *sr.Client
	health *health
	after  atomic.Int64 // until when the registry wants to be left alone, in epoch milliseconds

	known atomic.Pointer[map[uint32]answer]
	one   sync.Mutex // of those who ask, and add to known
}

// answer is a schema, or why there is none.
type answer struct {
	schema *event.Schema
	err    error
	at     time.Time
}

// holds says whether an answer need not be asked for again.
func (a answer) holds(now time.Time) bool { return a.err == nil || now.Sub(a.at) < unknownFor }

func (c Registry) open() (*registry, error) {
	g := &registry{Registry: c, health: &health{}}
	g.known.Store(&map[uint32]answer{})
	if c.Login != nil {
		if _, err := c.Login.Read(); err != nil {
			return nil, &Stop{wrap("schema_registry", err)}
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	if c.TLS != nil {
		conf, err := c.TLS.Config()
		if err != nil {
			return nil, &Stop{wrap("schema_registry", err)}
		}
		t.TLSClientConfig = conf
	}
	client, err := sr.NewClient(sr.URLs(c.URLs...), sr.UserAgent("tocsin"), sr.PreReq(g.authorize),
		sr.HTTPClient(&http.Client{Timeout: registryPatience, Transport: &bounded{t, g}}))
	if err != nil {
		return nil, &Stop{wrap("schema_registry", err)}
	}
	g.client = client
	return g, nil
}

// authorize says who we are; the secret is read for each request, so it may be renewed.
func (g *registry) authorize(req *http.Request) error {
	if g.Login == nil {
		return nil
	}
	secret, err := g.Login.Read()
	if err != nil {
		return err
	}
	if g.User != "" {
		req.SetBasicAuth(g.User, secret)
	} else {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	return nil
}

// bounded cuts answers that are too long, and notes when a registry wants to be left alone.
type bounded struct {
	next http.RoundTripper
	g    *registry
}

func (b *bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		b.g.after.Store(time.Now().Add(min(time.Duration(s)*time.Second, afterLongest)).UnixMilli())
	}
	resp.Body = &cutBody{resp.Body, registryAnswerMax}
	return resp, nil
}

type cutBody struct {
	io.ReadCloser
	left int
}

func (c *cutBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.left -= n; c.left < 0 {
		return 0, fmt.Errorf("the answer is longer than %d MiB", registryAnswerMax>>20)
	}
	return n, err
}

// find is event.Schemas: it never waits.
func (g *registry) find(id uint32) (*event.Schema, error) {
	a, ok := (*g.known.Load())[id]
	if !ok {
		return nil, fmt.Errorf("schema %d was not asked for", id) // learn was called with it before
	}
	return a.schema, a.err
}

// missing are the ids of records that must be asked for before anybody reads them, without doubles.
func (g *registry) missing(values func(yield func([]byte) bool)) (ids []uint32) {
	known, now := *g.known.Load(), time.Time{}
	last, any := uint32(0), false
	for v := range values {
		if len(v) < 5 || v[0] != 0 {
			continue
		}
		id := uint32(v[1])<<24 | uint32(v[2])<<16 | uint32(v[3])<<8 | uint32(v[4])
		if any && id == last {
			continue
		}
		last, any = id, true
		a, ok := known[id]
		if ok && a.err != nil && now.IsZero() {
			now = time.Now()
		}
		if !(ok && a.holds(now)) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// learn asks for schemas until there is an answer for each: a schema, or that there is none. While the registry is away it waits,
// says so, and tries again; only a *Stop, or ctx, ends that.
func (g *registry) learn(ctx context.Context, ids []uint32) error {
	for _, id := range ids {
		for tries := 0; ; tries++ {
			err := g.once(ctx, id)
			if err == nil {
				break
			}
			if err := g.pause(ctx, tries, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// once asks for a schema, unless another partition has meanwhile.
func (g *registry) once(ctx context.Context, id uint32) error {
	g.one.Lock()
	defer g.one.Unlock()
	if a, ok := (*g.known.Load())[id]; ok && a.holds(time.Now()) {
		return nil
	}
	a, err := g.ask(ctx, id)
	if err == nil {
		g.note(id, a)
	}
	return err
}

// pause waits before a request is tried again; err is why, and what is returned if no retry mends it.
func (g *registry) pause(ctx context.Context, tries int, err error) error {
	var stop *Stop
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.As(err, &stop) {
		return err
	}
	wait := min(retryFirst<<min(tries, 12), retryLongest)
	wait = wait/2 + rand.N(wait/2+1) // so that many processes do not come together
	if until := time.UnixMilli(g.after.Load()); time.Until(until) > wait {
		wait = time.Until(until)
	}
	if g.health.first(err.Error()) {
		g.Log.warn("schema registry: %v; waiting, and trying again", err)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// note adds an answer to what is known.
func (g *registry) note(id uint32, a answer) {
	next := maps.Clone(*g.known.Load())
	if len(next) >= knownMax { // ids that mean nothing come without end; those that mean something may be asked for again
		maps.DeleteFunc(next, func(_ uint32, a answer) bool { return a.err != nil })
	}
	next[id] = a
	g.known.Store(&next)
}

// ask asks for one schema with all that it refers to. An error is one that may pass, or a *Stop.
func (g *registry) ask(ctx context.Context, id uint32) (answer, error) {
	s, err := g.client.SchemaByID(ctx, int(id))
	var refs []event.Reference
	if err == nil {
		refs, err = g.references(ctx, s.References)
	}
	if err != nil {
		if err = g.explain(fmt.Sprintf("schema %d", id), err); !isUnknown(err) {
			return answer{}, err
		}
		return answer{err: err, at: time.Now()}, nil
	}
	kind := map[sr.SchemaType]string{sr.TypeAvro: event.KindAvro, sr.TypeProtobuf: event.KindProtobuf, sr.TypeJSON: event.KindJSONSchema}[s.Type]
	return answer{schema: event.NewSchema(int(id), kind, s.Schema, refs)}, nil
}

// references fetches what a schema refers to, what others need before them.
func (g *registry) references(ctx context.Context, direct []sr.SchemaReference) (out []event.Reference, err error) {
	seen := map[string]bool{}
	var fetch func(refs []sr.SchemaReference) error
	fetch = func(refs []sr.SchemaReference) error {
		for _, r := range refs {
			if seen[r.Name] {
				continue
			}
			if seen[r.Name] = true; len(seen) > referencesMax {
				return &unknownSchema{fmt.Errorf("it refers to more than %d others", referencesMax)}
			}
			s, err := g.client.SchemaByVersion(ctx, r.Subject, r.Version)
			if err != nil {
				return err
			}
			if err := fetch(s.References); err != nil {
				return err
			}
			out = append(out, event.Reference{Name: r.Name, Text: s.Schema.Schema})
		}
		return nil
	}
	return out, fetch(direct)
}

// unknownSchema is an answer: there is no such schema.
type unknownSchema struct{ err error }

func (u *unknownSchema) Error() string { return u.err.Error() }
func (u *unknownSchema) Unwrap() error { return u.err }

func isUnknown(err error) bool {
	var u *unknownSchema
	return errors.As(err, &u)
}

// explain says what an answer of the registry means, and what to do.
func (g *registry) explain(what string, err error) error {
	var re *sr.ResponseError
	if !errors.As(err, &re) {
		return err
	}
	where := strings.Join(g.URLs, ", ")
	said := re.Message
	if said == "" || re.ErrorCode == 0 && len(re.Raw) > 0 {
		said = "HTTP status " + strconv.Itoa(re.StatusCode)
	}
	said = said[:min(len(said), 300)]
	switch {
	case re.StatusCode == http.StatusUnauthorized && g.Login == nil:
		return stopf("%s wants to know who we are: %s; set `username` and `password_env`, or `token_env`, in `schema_registry`", where, said)
	case re.StatusCode == http.StatusUnauthorized:
		return stopf("%s does not let us in: %s; correct who we are in `schema_registry`", where, said)
	case re.StatusCode == http.StatusForbidden:
		return stopf("%s does not give us %s: %s; let the user read schemas", where, what, said)
	case re.StatusCode == http.StatusNotFound && re.ErrorCode == 0:
		return stopf("%s has no Confluent API: %s; correct `url`, such as http://localhost:8081", where, said)
	case re.StatusCode == http.StatusRequestTimeout || re.StatusCode == http.StatusTooManyRequests || re.StatusCode >= 500 || re.StatusCode < 400:
		return fmt.Errorf("%s: %s: %s", where, what, said)
	}
	return &unknownSchema{fmt.Errorf("%s of %s: %s", what, where, said)}
}
