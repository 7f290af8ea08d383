package kafka

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// health knows whether brokers answer, and passes on what the client says of them, each thing at most every quiet.
type health struct {
	mu      sync.Mutex
	log     Log
	last    error     // the last failed connection or request, until one succeeds
	trouble time.Time // when that was
	said    map[string]time.Time
}

// quiet is how long the same thing is not said again; trouble counts for recent.
const (
	quiet   = 30 * time.Second
	recent  = 10 * time.Second
	saidMax = 256
)

// OnBrokerConnect notes a connection.
func (h *health) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	h.note(err)
}

// OnBrokerE2E notes a request.
func (h *health) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e kgo.BrokerE2E) { h.note(e.Err()) }

func (h *health) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.last, h.trouble = err, time.Now()
		return
	}
	h.last = nil
}

// lastError is why the last connection or request failed, if none has succeeded since.
func (h *health) lastError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// troubled says whether a broker did not answer a short time ago: records may be there that could not be read.
func (h *health) troubled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.trouble.IsZero() && time.Since(h.trouble) < recent
}

// Level makes the client say warnings and errors.
func (h *health) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log passes on what the client says, with its pairs of names and values.
func (h *health) Log(_ kgo.LogLevel, msg string, pairs ...any) {
	var b strings.Builder
	b.WriteString(msg)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(&b, ", %v: %v", pairs[i], pairs[i+1])
	}
	if h.first(msg) {
		h.mu.Lock()
		log := h.log
		h.mu.Unlock()
		log.warn("kafka: %s", b.String())
	}
}

// listen says from now on what the client says.
func (h *health) listen(log Log) {
	h.mu.Lock()
	h.log, h.said = log, nil
	h.mu.Unlock()
}

// first says whether something was not said for a while.
func (h *health) first(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.said) >= saidMax {
		h.said = nil
	}
	if h.said == nil {
		h.said = map[string]time.Time{}
	}
	if at, ok := h.said[what]; ok && time.Since(at) < quiet {
		return false
	}
	h.said[what] = time.Now()
	return true
}
