package elastic

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Who may write, and to what, is found at the start.
func TestProbe(t *testing.T) {
	for _, tc := range []struct {
		name, version, distribution, auth string
		want                              string
		stops                             bool
	}{
		{"elasticsearch", "8.0.0", "", "", "", false},
		{"the next one", "9.1.0", "", "", "", false},
		{"opensearch", "2.19.6", "opensearch", "", "", false},
		{"one that says it is older", "7.10.2", "opensearch", "", "", false},
		{"too old", "7.17.1", "", "", "is Elasticsearch 7.17.1; this output needs Elasticsearch 8", true},
		{"also too old", "1.3.0", "opensearch", "", "is opensearch 1.3.0", true},
		{"no version", "", "", "", "", false},
		{"wrong password", "8.0.0", "", "Basic other", "HTTP 401: security_exception: unable to authenticate; correct `auth`", true},
	} {
		s := server(t)
		s.Version, s.Distribution, s.Authorization = tc.version, tc.distribution, tc.auth
		c := client(t, func(c *Config) { c.Authorization = func() (string, error) { return "Basic secret", nil } }, s.URL)
		err := c.Probe(t.Context())
		var stop *Stop
		switch {
		case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)), errors.As(err, &stop) != tc.stops:
			t.Errorf("%s: %v", tc.name, err)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: a secret is shown: %v", tc.name, err)
		}
	}
}

// A node that is starting, or does not know the question, is no reason to stop.
func TestProbeStatus(t *testing.T) {
	for status, want := range map[int]string{405: "", 403: "", 404: "", 503: "HTTP 503", 429: "HTTP 429"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		err := client(t, nil, s.URL).Probe(t.Context())
		var stop *Stop
		if (err == nil) != (want == "") || err != nil && (!strings.HasSuffix(err.Error(), want) || errors.As(err, &stop)) {
			t.Errorf("%d: %v", status, err)
		}
		s.Close()
	}
}

// TLS that does not fit is said with what to do, and fits with the authority.
func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(405) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	err := client(t, nil, s.URL).Probe(t.Context())
	var stop *Stop
	if err == nil || !strings.Contains(err.Error(), "unknown authority") || !strings.Contains(err.Error(), "ca_file") || !errors.As(err, &stop) {
		t.Errorf("an unknown authority: %v", err)
	}
	with := func(c *Config) {
		c.TLS = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	}
	if err := client(t, with, s.URL).Probe(t.Context()); err != nil {
		t.Error(err)
	}
	named := func(c *Config) { with(c); c.TLS.ServerName = "other" }
	if err := client(t, named, s.URL).Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "server_name") {
		t.Errorf("another name: %v", err)
	}
	plain := server(t)
	if err := client(t, nil, strings.Replace(plain.URL, "http:", "https:", 1)).Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "it speaks no TLS") {
		t.Errorf("no TLS: %v", err)
	}
}

// A path in a host's URL stays, and no redirect is followed with our header.
func TestPaths(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(302)
	}))
	defer s.Close()
	c := client(t, func(c *Config) { c.Patience = 0 }, s.URL+"/search/")
	if f := c.Write(t.Context(), []Doc{{Index: "a", ID: "1", Source: []byte(`{}`)}}); f[0].Verdict != Busy || !strings.Contains(f[0].Why, "HTTP 302") {
		t.Errorf("%+v", f)
	}
	if len(asked) != 1 || asked[0] != "/search/_bulk" {
		t.Errorf("%v", asked)
	}
}
