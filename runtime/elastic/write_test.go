package elastic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/elastic/double"
	"github.com/seed-98920119/tocsin/runtime/retry"
)

// client is a client of some servers that does not wait long.
func client(t *testing.T, change func(c *Config), urls ...string) *Client {
	t.Helper()
	conf := Config{Timeout: 5 * time.Second, RequestMax: 1 << 20, Patience: time.Minute}
	for _, u := range urls {
		at, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		conf.Hosts = append(conf.Hosts, at)
	}
	if change != nil {
		change(&conf)
	}
	c := NewClient(conf)
	c.pause = retry.Pauses{Least: time.Millisecond, Most: 5 * time.Millisecond}
	t.Cleanup(c.Close)
	return c
}

func server(t *testing.T) *double.Server {
	t.Helper()
	s := double.New()
	t.Cleanup(s.Close)
	return s
}

// Storms of 429, parts that fail, resets, answers that are lost after everything was done, answers that are none: in the end each
// document is there, written once, in its newest version.
func TestEachDocumentOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 20 {
		s := server(t)
		faults := rand.New(rand.NewPCG(r.Uint64(), 1)) // used under the double's lock
		s.Fault = func(int) (f double.Fault) {
			switch faults.IntN(8) {
			case 0:
				f.Status = []int{429, 500, 502, 503}[faults.IntN(4)]
			case 1:
				f.Reset = true
			case 2:
				f.Lost = true
			case 3:
				f.Item = func(int) int { return []int{0, 0, 429, 503}[faults.IntN(4)] }
			case 4:
				f.Say = func() string { return []string{"", "<html>", `{"items":[]}`, `{"items":[{}]}`}[faults.IntN(4)] }
			}
			return f
		}
		c := client(t, func(c *Config) { c.RequestMax, c.Gzip = 300+r.IntN(5000), round%2 == 0 }, s.URL)
		want := map[string]map[string]double.Stored{"rows-a": {}, "rows-b": {}}
		var docs []Doc
		for i := range 1 + r.IntN(200) {
			d := Doc{Index: []string{"rows-a", "rows-b"}[r.IntN(2)], ID: fmt.Sprint("id", i), Version: r.Int64N(3), Source: fmt.Appendf(nil, `{"i":%d}`, i)}
			want[d.Index][d.ID] = double.Stored{Version: max(d.Version, 1), Source: string(d.Source)}
			docs = append(docs, d)
		}
		for again := range 3 { // a replay changes nothing
			for i, f := range c.Write(t.Context(), docs) {
				if f.Verdict != Done {
					t.Fatalf("seed %d: %s the %d. time: %+v", seed, docs[i].ID, again, f)
				}
			}
		}
		for index := range want {
			if wrong := s.Once(index, want[index]); len(wrong) > 0 {
				t.Fatalf("seed %d: %s", seed, strings.Join(wrong, "\n"))
			}
		}
		all, zipped := s.Requests()
		if (zipped > 0) != (round%2 == 0) || all < 3 {
			t.Errorf("%d requests, %d compressed", all, zipped)
		}
	}
}

// A newer version replaces an older one, whatever the order in which they come, and an older one is no failure.
func TestVersions(t *testing.T) {
	s := server(t)
	c := client(t, nil, s.URL)
	for _, v := range []int64{2, 1, 3, 3} {
		if f := c.Write(t.Context(), []Doc{{Index: "a", ID: "x", Version: v, Source: fmt.Appendf(nil, `{"v":%d}`, v)}}); f[0].Verdict != Done {
			t.Errorf("%d: %+v", v, f)
		}
	}
	if d := s.Docs("a")["x"]; d.Version != 3 || d.Source != `{"v":3}` || d.Writes != 2 {
		t.Errorf("%+v", d)
	}
}

// What a document is refused for is said of it alone, and the others are written.
func TestRefused(t *testing.T) {
	s := server(t)
	s.Closed, s.Streams, s.RequestMax = map[string]bool{"closed": true}, map[string]bool{"stream": true}, 1000
	c := client(t, nil, s.URL)
	long := `{"text":"` + strings.Repeat("x", 1000) + `"}`
	for _, tc := range []struct {
		name string
		doc  Doc
		want Verdict
		why  string
	}{
		{"fine", Doc{Index: "a", ID: "1", Version: 1, Source: []byte(`{"n":1}`)}, Done, ""},
		{"mapping", Doc{Index: "a", ID: "2", Version: 1, Source: []byte(`{"n":"one"}`)}, Refused, "400 mapper_parsing_exception: failed to parse field [n] of type [number]"},
		{"name", Doc{Index: "A", ID: "3", Version: 1, Source: []byte(`{}`)}, Refused, "400 invalid_index_name_exception"},
		{"too long", Doc{Index: "a", ID: "4", Version: 1, Source: []byte(long)}, Refused, "HTTP 413"},
		{"read only", Doc{Index: "closed", ID: "5", Version: 1, Source: []byte(`{}`)}, Blocked, "403 cluster_block_exception: index [closed] blocked"},
		{"not created", Doc{Index: "stream", ID: "6", Version: 1, Source: []byte(`{"@timestamp":1}`)}, Refused, "400 illegal_argument_exception: only write ops with an op_type of create"},
		{"created", Doc{Index: "stream", ID: "7", Source: []byte(`{"@timestamp":1}`)}, Done, ""},
		{"an id with quotes", Doc{Index: "a", ID: `"8"` + "\n\u00fc", Source: []byte(`{}`)}, Done, ""},
		{"no document", Doc{Index: "a", ID: "9", Source: []byte(`5`)}, Refused, "mapper_parsing"},
	} {
		docs := []Doc{{Index: "a", ID: tc.name + "before", Version: 1, Source: []byte(`{"n":5}`)}, tc.doc, {Index: "a", ID: tc.name + "behind", Version: 1, Source: []byte(`{"n":5}`)}}
		f := c.Write(t.Context(), docs)
		if f[1].Verdict != tc.want || !strings.Contains(f[1].Why, tc.why) || f[0].Verdict != Done || f[2].Verdict != Done {
			t.Errorf("%s: %+v", tc.name, f)
		}
		if _, ok := s.Docs(tc.doc.Index)[tc.doc.ID]; ok != (tc.want == Done) {
			t.Errorf("%s: is there: %v", tc.name, ok)
		}
	}
}

// Patience ends, and so does the context.
func TestBusy(t *testing.T) {
	s := server(t)
	s.Fault = func(int) double.Fault { return double.Fault{Status: 429} }
	var said []string
	patience := func(d time.Duration) func(c *Config) {
		return func(c *Config) {
			c.Patience = d
			c.Warn = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
		}
	}
	docs := []Doc{{Index: "a", ID: "1", Source: []byte(`{}`)}}
	if f := client(t, patience(20*time.Millisecond), s.URL).Write(t.Context(), docs); f[0].Verdict != Busy || !strings.Contains(f[0].Why, "HTTP 429: es_rejected_execution_exception: so ordered") {
		t.Errorf("%+v", f)
	}
	if n, _ := s.Requests(); n < 2 || len(said) != 1 || !strings.Contains(said[0], "1 of 1 documents wait: 127.0.0.1") {
		t.Errorf("%d requests, said %q", n, said)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	if f := client(t, patience(time.Hour), s.URL).Write(ctx, docs); f[0].Verdict != Busy {
		t.Errorf("%+v", f)
	}
}

// A host that does not answer is passed over; requests go to the others in turn.
func TestHosts(t *testing.T) {
	a, b := server(t), server(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	c := client(t, nil, a.URL, "http://"+dead.Addr().String(), b.URL)
	for i := range 40 {
		if f := c.Write(t.Context(), []Doc{{Index: "a", ID: fmt.Sprint(i), Source: []byte(`{}`)}}); f[0].Verdict != Done {
			t.Fatalf("%+v", f)
		}
	}
	x, _ := a.Requests()
	y, _ := b.Requests()
	if x+y != 40 || x < 15 || y < 15 {
		t.Errorf("%d and %d requests", x, y)
	}
}

// A server that never answers is given up after the timeout.
func TestSilence(t *testing.T) {
	block := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block }))
	defer s.Close()
	defer close(block)
	c := client(t, func(c *Config) { c.Timeout, c.Patience = 20*time.Millisecond, 0 }, s.URL)
	if f := c.Write(t.Context(), []Doc{{Index: "a", ID: "1", Source: []byte(`{}`)}}); f[0].Verdict != Busy || !strings.Contains(f[0].Why, "no answer within 20ms") {
		t.Errorf("%+v", f)
	}
}

// What the answer of a proxy or of a server says is one short line.
func TestReasons(t *testing.T) {
	for body, want := range map[string]string{
		``:                              "HTTP 502",
		"<html>\n<b>Bad\x1b[1m Gateway": "HTTP 502: <html> <b>Bad [1m Gateway",
		`{"error":"text"}`:              "HTTP 502: text",
		`{"error":{"type":"t","reason":"r","caused_by":{"reason":"c"}}}`: "HTTP 502: t: r (c)",
		`{"error":[1]}`:               "HTTP 502: [1]",
		strings.Repeat("\u00fc", 400): "HTTP 502: " + strings.Repeat("\u00fc", 250),
	} {
		if got := (answer{status: 502, body: []byte(body)}).reason(); got != want {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
	}
}

// Any answer settles every document or says why it is none.
func FuzzSettle(f *testing.F) {
	f.Add([]byte(`{"errors":false,"items":[{"index":{"status":201}},{"create":{"status":409,"error":{"type":"x"}}}]}`))
	f.Add([]byte(`{"items":[{"index":null},{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		fates := make([]Fate, 2)
		if why := settle(body, []int{0, 1}, fates); why == "" {
			for _, x := range fates {
				if (x.Verdict == Done) != (x.Why == "") {
					t.Errorf("%+v", x)
				}
			}
		}
	})
}
