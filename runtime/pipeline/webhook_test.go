package pipeline

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// receiver is what a webhook talks to: it answers as it is told and keeps what it was asked.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(n int, w http.ResponseWriter, r *http.Request)
	asked  []asked
}

type asked struct {
	method, uri, body string
	header            http.Header
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	s := &receiver{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, asked{r.Method, r.RequestURI, string(body), r.Header})
		if s.answer != nil {
			s.answer(len(s.asked), w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// ids are the webhook-ids that it was asked with.
func (s *receiver) ids() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		ids = append(ids, a.header.Get("Webhook-Id"))
	}
	return ids
}

func hookOf(yaml string) (*webhook, error) {
	conf, err := webhookSpec().ParseYAML(yaml, nil)
	if err != nil {
		return nil, err
	}
	return newWebhook(conf, service.MockResources())
}

func newHook(t *testing.T, yaml string) *webhook {
	t.Helper()
	o, err := hookOf(yaml)
	if err != nil {
		t.Fatal(err)
	}
	o.link.detect, o.pause = true, time.Millisecond
	if err := o.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close(context.Background()) })
	return o
}

// alertMessage is an alert with an id.
func alertMessage(id, payload string) *service.Message {
	return rowMessage(payload, "result_id", id, "kind", "alert", "operator", "o", "revision", "0")
}

// verdictOf writes one alert and gives what the buffer is told of it.
func verdictOf(t *testing.T, o *webhook, msg *service.Message) string {
	t.Helper()
	row := &engine.Out{ID: event.ID{1}}
	msg = msg.Copy()
	msg.MetaSetMut("result_id", row.ID.String())
	err := o.WriteBatch(t.Context(), service.MessageBatch{msg})
	var a *engine.Account
	switch v := (engine.Verdict{}); {
	case err == nil:
		return "delivered"
	case !errors.As(o.link.accounted([]*engine.Out{row}, err), &a):
		return "no account"
	case len(a.Of) == 0:
		return "busy: " + err.Error()
	default:
		if v = a.Of[row.ID]; v.Refused {
			return "refused: " + v.Why
		}
		return "blocked: " + v.Why
	}
}

// What comes from events stays a value, wherever it is put.
func TestWebhookTemplates(t *testing.T) {
	const payload = `{"title":"a \"b\"\n{x}","risk":70,"ip":"10.0.0.1","row":{"user":"a/b?c=d&e#f ü","n":[1,2]},"up":"..","empty":"","line":"x\r\nEvil: 1"}`
	for _, tc := range []struct{ name, conf, want string }{
		{"the payload", "", "POST /hook " + payload},
		{"a mapping", "body: { text: '{title}', risk: '{risk}', list: [1, true, null, '{row.n}', 'n={row.n}'], 'a\"b': { kind: '{@kind}', none: '{none}', some: 'x{none}' } }",
			`POST /hook {"a\"b":{"kind":"alert","none":null,"some":"x-"},"list":[1,true,null,[1,2],"n=[1,2]"],"risk":70,"text":"a \"b\"\n{x}"}`},
		{"a text", "body: '{ip} at {risk}, {{or}}'", "POST /hook 10.0.0.1 at 70, {or}"},
		{"a path", "url: URL/users/{row.user}?q={row.user}\nmethod: DELETE\nbody: ''", "DELETE /users/a%2Fb%3Fc%3Dd%26e%23f%20%C3%BC?q=a%2Fb%3Fc%3Dd%26e%23f%20%C3%BC "},
		{"no body", "method: GET", "GET /hook "},
		{"another folder", "url: URL/users/{up}", `refused: {up} is "..", which a URL takes for a folder`},
		{"a field that is not there", "url: URL/users/{none}", "refused: the URL needs {none}, which the row does not have"},
		{"an empty field", "url: URL/users/{empty}/x", "refused: the URL needs {empty}, which the row does not have"},
		{"a header", "headers: { x-line: '{line}' }\nbody: ''", "POST /hook "},
	} {
		s := newReceiver(t)
		if tc.name == "a text" {
			s.answer = func(_ int, _ http.ResponseWriter, r *http.Request) {
				if kind := r.Header.Get("Content-Type"); kind != "text/plain; charset=utf-8" {
					t.Errorf("a text is sent as %s", kind)
				}
			}
		}
		conf := strings.ReplaceAll(tc.conf, "URL", s.URL)
		if !strings.Contains(conf, "url:") {
			conf = "url: " + s.URL + "/hook\n" + conf
		}
		got := verdictOf(t, newHook(t, conf), alertMessage("", payload))
		if got == "delivered" {
			a := s.asked[0]
			got = a.method + " " + a.uri + " " + a.body
			if line := a.header.Get("X-Line"); tc.name == "a header" && (line != "x  Evil: 1" || a.header.Get("Evil") != "") {
				t.Errorf("header %q", line)
			}
		}
		if got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

// A request says who sends it and is signed, with secrets from where they are named, which nothing shows.
func TestWebhookSecrets(t *testing.T) {
	s := newReceiver(t)
	file := filepath.Join(t.TempDir(), "url")
	put(t, file, s.URL+"/geheim\n")
	t.Setenv("SOME_SECRET", "whsec_"+base64.StdEncoding.EncodeToString([]byte("geheim")))
	t.Setenv("TOKEN", "geheim")
	o := newHook(t, "url_file: "+file+"\nauth: { token_env: TOKEN }\nsignature: { secret_env: SOME_SECRET }\nheaders: { X-Key: { env: TOKEN }, X-Kind: '{@kind}' }\nretry_for: 0s\n")
	o.now = func() time.Time { return time.Unix(1_772_438_400, 0) }
	msg := alertMessage("ID", `{"a":1}`)
	msg.MetaSetMut("revision", "3")
	if err := o.WriteBatch(t.Context(), service.MessageBatch{msg}); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte("geheim"))
	mac.Write([]byte(`ID.3.1772438400.{"a":1}`))
	h := s.asked[0].header
	for name, want := range map[string]string{"Webhook-Id": "ID.3", "Webhook-Timestamp": "1772438400", "Webhook-Signature": "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
		"Authorization": "Bearer geheim", "X-Key": "geheim", "X-Kind": "alert", "Content-Type": "application/json", "User-Agent": "tocsin"} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	s.Close()
	if got := verdictOf(t, o, alertMessage("", "{}")); !strings.HasPrefix(got, "blocked: 127.0.0.1") || strings.Contains(got, "geheim") {
		t.Error(got)
	}
	put(t, file, "ftp://geheim\n")
	if got := verdictOf(t, o, alertMessage("", "{}")); !strings.Contains(got, "no URL of http") || strings.Contains(got, "geheim") {
		t.Error(got)
	}
	for conf, want := range map[string]string{
		"url_env: NOT_THERE": "webhook: the environment has no variable NOT_THERE",
		"url: http://a\nsignature: { secret_file: not/there }":    "webhook: open not/there",
		"url: http://a\nheaders: { X-Key: { env: NOT_THERE } }":   "NOT_THERE",
		"url: http://a\nauth: { username: u, password: geheim }":  "the password must not stand",
		"url: http://a\ntls: { ca_file: not/there }":              "webhook: tls: ca_file",
		"url: http://a\nheaders: { Authorization: Basic-geheim }": "a secret must not stand in a pipeline",
	} {
		if _, err := hookOf(conf); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

// What becomes of a row that is answered so, and how often it was tried.
func TestWebhookAnswers(t *testing.T) {
	status := func(codes ...int) func(n int, w http.ResponseWriter, r *http.Request) {
		return func(n int, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(codes[min(n, len(codes))-1])
			io.WriteString(w, " so \x1b it is ")
		}
	}
	reset := func(int, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, tc := range []struct {
		name   string
		answer func(n int, w http.ResponseWriter, r *http.Request)
		least  string // at_least_once
		tries  int    // 0: several
		most   string // at_most_once
		once   int
	}{
		{"done", status(204), "delivered", 1, "delivered", 1},
		{"500 and then done", status(500, 503, 200), "delivered", 3, "refused: it was tried, and at_most_once does not try again: HTTP 500", 1},
		{"429 and then done", status(429, 429, 200), "delivered", 3, "delivered", 3},
		{"always 500", status(500), `blocked: HTTP 500: so \x1b it is`, 0, "refused: it was tried", 1},
		{"always 429", status(429), "busy: 1 of 1 rows not taken: HTTP 429", 0, "busy: 1 of 1 rows not taken: HTTP 429", 0},
		{"not found", status(404), "blocked: HTTP 404", 1, "blocked: HTTP 404", 1},
		{"not let in", status(401), "blocked: HTTP 401", 1, "blocked: HTTP 401", 1},
		{"bad", status(400), "refused: HTTP 400", 1, "refused: it was tried", 1},
		{"elsewhere", status(302), "refused: HTTP 302", 1, "refused: it was tried", 1},
		{"reset", reset, "blocked: 127.0.0.1", 0, "refused: it was tried, and at_most_once does not try again: 127.0.0.1", 1},
	} {
		for _, once := range []bool{false, true} {
			s := newReceiver(t)
			s.answer = tc.answer
			conf, want, tries := "url: "+s.URL+"\nretry_for: 100ms\n", tc.least, tc.tries
			if once {
				conf, want, tries = conf+"delivery: at_most_once\njournal: "+filepath.Join(t.TempDir(), "x", "sent"), tc.most, tc.once
			}
			o := newHook(t, conf)
			if strings.Contains(tc.name, "then") {
				o.conf.retryFor = time.Minute
			}
			got := verdictOf(t, o, alertMessage("", "{}"))
			if n := len(s.ids()); !strings.HasPrefix(got, want) || tries > 0 && n != tries || tries == 0 && n < 2 {
				t.Errorf("%s, at most once: %v: %s after %d tries, want %s", tc.name, once, got, n, want)
			}
		}
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for _, more := range []string{"", "\ndelivery: at_most_once\njournal: " + filepath.Join(t.TempDir(), "sent")} {
		if got := verdictOf(t, newHook(t, "url: http://"+gone.Addr().String()+"\nretry_for: 20ms"+more), alertMessage("", "{}")); !strings.HasPrefix(got, "blocked: 127.0.0.1") {
			t.Errorf("nobody listens: %s", got)
		}
	}
}

// A receiver that asks for a pause gets it, from all rows.
func TestWebhookRetryAfter(t *testing.T) {
	s := newReceiver(t)
	s.answer = func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
		}
	}
	o := newHook(t, "url: "+s.URL+"\nretry_for: 50ms\n")
	for range 3 {
		if got := verdictOf(t, o, alertMessage("", "{}")); !strings.Contains(got, "the receiver wants to be left alone until") {
			t.Error(got)
		}
	}
	if n := len(s.ids()); n != 1 {
		t.Errorf("asked %d times", n)
	}
	o.quiet.Store(time.Now().Add(10 * time.Millisecond).UnixMilli())
	if got := verdictOf(t, o, alertMessage("", "{}")); got != "delivered" {
		t.Error(got)
	}
	now := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "x": 0, "-1": 0, "7": 7 * time.Second, "99999999": 24 * time.Hour,
		"Mon, 02 Mar 2026 08:01:00 GMT": time.Minute, "Mon, 02 Mar 2026 07:01:00 GMT": 0} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// Rows of other kinds are passed over; what was done is not done again with the company of a row that failed.
func TestWebhookAgain(t *testing.T) {
	s := newReceiver(t)
	bad := true
	s.answer = func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Webhook-Id") == "c" && bad {
			w.WriteHeader(500)
		}
	}
	o := newHook(t, "url: "+s.URL+"\nretry_for: 0s\nkinds: [alert, late]\n")
	batch := service.MessageBatch{alertMessage("a", "{}"), rowMessage("{}", "result_id", "b", "kind", "row"), alertMessage("c", "{}"), rowMessage("x", "result_id", "d", "kind", "late")}
	var failed *service.BatchError
	if err := o.WriteBatch(t.Context(), batch); !errors.As(err, &failed) || failed.IndexedErrors() != 1 {
		t.Errorf("%v", err)
	}
	s.mu.Lock()
	bad = false
	s.mu.Unlock()
	if err := o.WriteBatch(t.Context(), batch); err != nil {
		t.Error(err)
	}
	got := s.ids()
	if slices.Sort(got); !slices.Equal(got, []string{"a", "c", "c", "d"}) {
		t.Errorf("%v", got)
	}
}

// Whatever happens to requests and to the process, an action is heard at most once, and what is not known of is said.
func TestWebhookAtMostOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	heard := map[string]int{}
	s := newReceiver(t)
	answers := rand.New(rand.NewPCG(seed, 2)) // under the receiver's lock
	s.answer = func(_ int, w http.ResponseWriter, r *http.Request) {
		switch answers.IntN(6) {
		case 0: // not done
			w.WriteHeader([]int{401, 404, 429}[answers.IntN(3)])
			return
		case 1: // done, and nobody is told
			heard[r.Header.Get("Webhook-Id")]++
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(500)
		}
		heard[r.Header.Get("Webhook-Id")]++
	}
	journal := filepath.Join(t.TempDir(), "sent")
	fates := map[string]string{} // what the buffer took as settled
	todo := map[string]bool{}
	for i := range 300 {
		todo[fmt.Sprint("id", i)] = true
	}
	for starts := 0; len(todo) > 0; starts++ {
		o := newHook(t, "url: "+s.URL+"\nretry_for: 0s\ndelivery: at_most_once\njournal: "+journal)
		for range 1 + r.IntN(10) {
			var batch service.MessageBatch
			var ids []string
			for id := range todo {
				if ids = append(ids, id); len(ids) > 5 {
					break
				}
			}
			for _, id := range ids {
				batch = append(batch, alertMessage(id, "{}"))
			}
			err := o.WriteBatch(t.Context(), batch)
			lost := r.IntN(4) == 0 // the process is killed before the buffer has kept what it was told
			for _, id := range ids {
				if v := o.link.accounts[id]; !lost && (err == nil || v != nil && v.Refused) {
					fates[id] = "settled"
					if v != nil {
						fates[id] = v.Why
					}
					delete(todo, id)
				}
			}
			clear(o.link.accounts)
			if lost {
				break
			}
		}
		o.Close(t.Context())
		if starts > 5000 {
			t.Fatalf("seed %d: no end", seed)
		}
	}
	s.mu.Lock() // a handler whose connection was cut may still be at it
	defer s.mu.Unlock()
	unknown := 0
	for id, f := range fates {
		if heard[id] > 1 || heard[id] == 0 && f == "settled" {
			t.Errorf("seed %d: %s was heard %d times: %s", seed, id, heard[id], f)
		}
		if f != "settled" {
			unknown++
		}
	}
	if len(fates) != 300 || unknown == 0 || unknown > 250 {
		t.Errorf("seed %d: %d settled, of which nobody knows %d", seed, len(fates), unknown)
	}
}

// The journal survives torn lines and turns, and --fresh moves it away.
func TestWebhookJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sent")
	put(t, path, "try a\ndone a\ntry b\nnonsense\n\ntry c\nnone c\ntry d\ndone")
	log := service.MockResources().Logger()
	s := &sent{path: path}
	if err := s.open(false, log); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]outcome{"a": done, "b": tried, "c": untried, "d": tried, "e": untried} {
		if got := s.of(id); got != want {
			t.Errorf("%s: %d, want %d", id, got, want)
		}
	}
	if err := (&sent{path: path}).open(false, log); err == nil || !strings.Contains(err.Error(), "another output or process") {
		t.Errorf("a second one: %v", err)
	}
	for i := range sentMax + 100 {
		if err := s.end(fmt.Sprint(i), done); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	if err := s.open(false, log); err != nil {
		t.Fatal(err)
	}
	if s.of("a") != done || s.of("0") != done || s.of(fmt.Sprint(sentMax+99)) != done || len(s.now) > 200 {
		t.Errorf("%d and %d actions", len(s.before), len(s.now))
	}
	s.close()
	if err := s.open(true, log); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if _, err := os.Stat(path + ".old"); err != nil || s.of("0") != untried || len(s.before) != 0 {
		t.Errorf("%v, %d actions", err, len(s.before))
	}
}

// The limit against a count of what was let through in each span.
func TestWebhookLimit(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	l := &actionLimit{most: 3, per: 10 * time.Second}
	now := time.Unix(1_772_438_400, 0)
	let := map[string][]time.Time{}
	for range 5000 {
		now = now.Add(time.Duration(r.IntN(900)) * time.Millisecond)
		key, n := fmt.Sprint(r.IntN(5)), 0
		for _, t := range let[key] {
			if now.Sub(t) < 10*time.Second {
				n++
			}
		}
		back, ok := l.take(key, now)
		if ok != (n < 3) {
			t.Fatalf("seed %d: %d in the span, and the next one passes: %v", seed, n, ok)
		}
		switch {
		case ok && r.IntN(4) == 0:
			back()
		case ok:
			let[key] = append(let[key], now)
		}
	}
	for i := range limitKeys + 10 {
		l.take(fmt.Sprint("made up ", i), now)
	}
	if len(l.seen) > limitKeys+1 {
		t.Errorf("%d keys", len(l.seen))
	}
	if _, ok := l.take("one more", now); ok {
		t.Error("made-up keys are a way around the limit")
	}
	if _, ok := l.take("one more", now.Add(time.Minute)); !ok || len(l.seen) > 2 {
		t.Errorf("%d keys are kept after the span", len(l.seen))
	}
}

// One too many is an error row or nothing, and what failed does not count.
func TestWebhookOverTheLimit(t *testing.T) {
	s := newReceiver(t)
	for _, over := range []string{"error", "drop"} {
		o := newHook(t, "url: "+s.URL+"\nretry_for: 0s\nlimit: { key: '{ip}', max: 1, per: 1h, over: "+over+" }")
		s.answer = func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
		verdictOf(t, o, alertMessage("", `{"ip":"x"}`))
		s.answer = nil
		before := len(s.ids())
		var batch service.MessageBatch
		for i := range 4 {
			batch = append(batch, alertMessage(fmt.Sprint(over, i), `{"ip":"x"}`))
		}
		err := o.WriteBatch(t.Context(), append(batch, alertMessage(over, `{"ip":"y"}`)))
		if n := len(s.ids()) - before; n != 2 || !slices.Contains(s.ids(), over+"0") {
			t.Errorf("%s: %d requests: %v", over, n, s.ids())
		}
		if v := o.link.accounts["error3"]; (over == "drop") != (err == nil) || over == "error" && (v == nil || !v.Refused || v.Why != `more than 1 actions in 1h0m0s for "x"`) || o.over.Load() != map[string]int64{"error": 0, "drop": 3}[over] {
			t.Errorf("%s: %v, %+v", over, err, v)
		}
	}
}

// A dry run prints what would be asked for and asks for nothing.
func TestWebhookDryRun(t *testing.T) {
	var b bytes.Buffer
	old := consoleOut
	consoleOut = &b
	defer func() { consoleOut = old }()
	s := newReceiver(t)
	journal := filepath.Join(t.TempDir(), "sent")
	t.Setenv("URL", s.URL+"/geheim")
	for _, conf := range []string{"url: " + s.URL + "/{ip}", "url_env: URL"} {
		o := newHook(t, conf+"\nmethod: PUT\nbody: { text: '{title}' }\ndry_run: true\ndelivery: at_most_once\njournal: "+journal)
		if got := verdictOf(t, o, alertMessage("", `{"ip":"x","title":"a\u001b[2J"}`)); got != "delivered" {
			t.Error(got)
		}
	}
	want := "DRY RUN  PUT " + s.URL + "/x  {\"text\":\"a\\u001b[2J\"}\nDRY RUN  PUT (a secret URL)  {\"text\":\"a\\u001b[2J\"}\n"
	if _, err := os.Stat(journal); err == nil || b.String() != want || len(s.ids()) > 0 {
		t.Errorf("%v, %d requests, printed %q", err, len(s.ids()), b.String())
	}
}

// What Benthos parses is what the decoder reads from the file.
func TestWebhookConfig(t *testing.T) {
	c := newHook(t, "url: http://a\n").conf
	if c.method != "POST" || c.body != nil || !slices.Equal(c.kinds, []string{"alert"}) || c.once || c.limit != nil || c.timeout != 10*time.Second || c.retryFor != 10*time.Second ||
		c.inFlight != 8 || c.dryRun || c.auth.kind != "" || c.signature != (credential.Secret{}) || c.tls != (credential.TLS{}) || len(c.headers) != 0 {
		t.Errorf("%+v", c)
	}
	c = newHook(t, "url: http://a\nlimit: { key: 'x{a}', max: 7, per: 2h, over: drop }\nkinds: [row, error]\nmax_in_flight: 1\nretry_for: 1m\ntimeout: 2s\n").conf
	if c.limit.most != 7 || c.limit.per != 2*time.Hour || !c.limitDrops || !slices.Equal(c.kinds, []string{"row", "error"}) || c.inFlight != 1 || c.retryFor != time.Minute || c.timeout != 2*time.Second {
		t.Errorf("%+v", c)
	}
}

// Whatever a row holds, a body that is a mapping is JSON of the mapping's shape.
func FuzzWebhookBody(f *testing.F) {
	f.Add(`{"a":"\"}, {\"b\": 1"}`, `{a}`)
	f.Add("{\"a\":{\"b\":[1,\"\xff\"]}}", `x{a.b}y{@kind}`)
	f.Fuzz(func(t *testing.T, payload, text string) {
		conf, err := json.Marshal(map[string]any{"url": "http://a", "body": map[string]any{"x": text, "y": []any{text}}})
		if err != nil {
			t.Skip()
		}
		o, err := hookOf(string(conf))
		if err != nil {
			t.Skip()
		}
		a, fate := o.action(alertMessage("ID", payload))
		if a == nil {
			t.Fatalf("%+v", fate)
		}
		var body struct {
			X any
			Y []any
		}
		d := json.NewDecoder(bytes.NewReader(a.body))
		d.DisallowUnknownFields()
		if err := d.Decode(&body); err != nil || len(body.Y) != 1 || fmt.Sprint(body.X) != fmt.Sprint(body.Y[0]) || d.More() {
			t.Fatalf("%v: %s", err, a.body)
		}
	})
}
