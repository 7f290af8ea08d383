// Firewall stands for the API of a firewall: pipelines/article/act.yaml has it block addresses. It keeps its rules in memory, and blocks nothing.
//
//	FIREWALL_SECRET=... go run ./pipelines/article/firewall          on 127.0.0.1:18082
//	curl http://127.0.0.1:18082/rules                                what is blocked, and why
//
// A request to POST /rules is believed if its signature is right (HMAC-SHA256 over id, timestamp and body, in the form of standardwebhooks.com) and not
// older than five minutes. It is done once under its webhook-id, however often it comes.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	log.SetFlags(0)
	listen := flag.String("listen", "127.0.0.1:18082", "where it listens")
	never := flag.String("never", "127.0.0.0/8,::1/128", "networks that are never blocked, by commas")
	flag.Parse()
	f := &firewall{secret: []byte(os.Getenv("FIREWALL_SECRET")), rules: []rule{}, done: map[string][]byte{}}
	if flag.NArg() > 0 || len(f.secret) == 0 {
		log.Fatal("firewall: FIREWALL_SECRET must hold the secret that the pipeline signs with; see go run ./pipelines/article/firewall -help")
	}
	for _, text := range strings.Split(*never, ",") {
		net, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			log.Fatalf("firewall: -never: %v", err)
		}
		f.never = append(f.never, net)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalf("firewall: %v", err)
	}
	log.Printf("firewall: http://%s/rules", l.Addr())
	log.Fatal((&http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}).Serve(l))
}

// The limits of the stub.
const (
	bodyMax  = 64 << 10
	rulesMax = 10_000
	skewMost = 5 * time.Minute
)

// rule is an address that is blocked.
type rule struct {
	ID      string     `json:"id"`
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port,omitempty"` // 0: all
	Reason  string     `json:"reason"`
	At      time.Time  `json:"at"`
}

// firewall is the API.
type firewall struct {
	secret []byte
	never  []netip.Prefix

	mu    sync.Mutex
	rules []rule
	done  map[string][]byte // the bodies of requests by id
}

func (f *firewall) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/rules" {
		http.NotFound(w, r)
		return
	}
	switch r.Method {
	case http.MethodGet:
		f.mu.Lock()
		defer f.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(f.rules)
	case http.MethodPost:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if err := f.believed(r.Header, body); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		status, text := f.block(r.Header.Get("Webhook-Id"), body)
		w.WriteHeader(status)
		fmt.Fprintln(w, text)
	default:
		http.Error(w, "only GET and POST", http.StatusMethodNotAllowed)
	}
}

// believed checks who asks, and when.
func (f *firewall) believed(h http.Header, body []byte) error {
	id, stamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	at, err := strconv.ParseInt(stamp, 10, 64)
	if id == "" || err != nil {
		return errors.New("no webhook-id, or no webhook-timestamp")
	}
	if time.Since(time.Unix(at, 0)).Abs() > skewMost {
		return errors.New("webhook-timestamp is not of now")
	}
	mac := hmac.New(sha256.New, f.secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for _, got := range strings.Fields(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(got), want) {
			return nil
		}
	}
	return errors.New("webhook-signature is wrong")
}

// block adds a rule, once an id.
func (f *firewall) block(id string, body []byte) (status int, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if was, ok := f.done[id]; ok {
		if !bytes.Equal(was, body) {
			return http.StatusConflict, "this id was used for something else"
		}
		return http.StatusOK, "done before"
	}
	r := rule{ID: id, At: time.Now().UTC().Truncate(time.Second)}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	switch err := d.Decode(&r); {
	case err != nil:
		return http.StatusBadRequest, err.Error()
	case !r.Address.IsValid() || r.Reason == "" || r.ID != id:
		return http.StatusBadRequest, "a rule has an address and a reason"
	case len(f.rules) >= rulesMax:
		return http.StatusInsufficientStorage, "there are too many rules"
	}
	for _, net := range f.never {
		if net.Contains(r.Address) {
			return http.StatusUnprocessableEntity, r.Address.String() + " is never blocked"
		}
	}
	f.rules, f.done[id] = append(f.rules, r), body
	log.Printf("firewall: %s is blocked: %q", r.Address, r.Reason)
	return http.StatusCreated, "blocked"
}
