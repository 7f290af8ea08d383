package bigquery

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// keyFile is a service account's key whose tokens a server of ours gives.
func keyFile(t *testing.T, tokens string) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "a@b", "private_key_id": "1", "token_uri": tokens,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A token is asked for once while it lasts, the key is read anew for each, and requests carry it; what is wrong is said without a secret.
func TestTokens(t *testing.T) {
	lasts, asked := 3600, 0
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if body, _ := io.ReadAll(r.Body); !strings.Contains(string(body), "assertion=") {
			t.Errorf("%s", body)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"geheim%d","token_type":"Bearer","expires_in":%d}`, asked, lasts)
	}))
	defer tokens.Close()
	key, read := keyFile(t, tokens.URL), 0
	token := Tokens(func() ([]byte, error) { read++; return key, nil })
	s := server(t)
	s.Authorization = "Bearer geheim1"
	c := client(t, s, Insert, func(c *Config) { c.Token = token })
	if err := c.Probe(t.Context(), table1); err != nil {
		t.Fatal(err)
	}
	settle(t, c, rowsFrom(0, 2))
	if asked != 1 || read != 1 {
		t.Errorf("asked %d times, read %d times", asked, read)
	}
	lasts = 30
	short := Tokens(func() ([]byte, error) { read++; return key, nil })
	for range 2 {
		if _, err := short(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 3 || read != 3 {
		t.Errorf("asked %d times, read %d times", asked, read)
	}
}

func TestNoTokens(t *testing.T) {
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(400)
		io.WriteString(w, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`)
	}))
	defer refuses.Close()
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "not/there")
	for name, tc := range map[string]struct {
		read  func() ([]byte, error)
		want  string
		stops bool
	}{
		"revoked":   {func() ([]byte, error) { return keyFile(t, refuses.URL), nil }, "no token: HTTP 400 invalid_grant: Invalid JWT Signature.; correct `auth`", true},
		"unread":    {func() ([]byte, error) { return nil, errors.New("open x: no such file") }, "open x", false},
		"not a key": {func() ([]byte, error) { return []byte("geheim"), nil }, "are not the JSON of a service account's key", true},
		"another":   {func() ([]byte, error) { return []byte(`{"type":"external_account","x":"geheim"}`), nil }, "are not the JSON of a service account's key", true},
		"no key": {func() ([]byte, error) {
			return []byte(`{"type":"service_account","private_key":"geheim","token_uri":"http://127.0.0.1:1"}`), nil
		}, "", false},
		"default": {nil, "no application default credentials", true},
	} {
		_, err := Tokens(tc.read)(context.Background())
		var stop *Stop
		if err == nil || !strings.Contains(err.Error(), tc.want) || errors.As(err, &stop) != tc.stops || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without TLS no token is sent to the Storage API.
func TestBearer(t *testing.T) {
	if b := bearer(func(context.Context) (string, error) { return "x", nil }); !b.RequireTransportSecurity() {
		t.Error("a token may go in the clear")
	}
	if got := len(dialOptions(Config{})); got != 3 {
		t.Errorf("%d options", got)
	}
}
