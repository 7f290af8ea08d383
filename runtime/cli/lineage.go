package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

// lineage tells a collector of OpenLineage, or a file, that a pipeline has started, runs, and has ended. What cannot be told is a warning: the
// run does not depend on it.
type lineage struct {
	e     *env
	file  *os.File
	url   string
	texts chan string
	over  chan struct{}
	warns int
}

// lineageEvery is how often a run says that it runs; lineageWithin how long a collector may take, and the end may wait for it.
const (
	lineageEvery  = time.Minute
	lineageWithin = 10 * time.Second
)

// lineageTo opens a file, to which events are appended, or takes the address of a collector.
func (e *env) lineageTo(to string) (*lineage, error) {
	l := &lineage{e: e, texts: make(chan string, 64), over: make(chan struct{})}
	if u, err := url.Parse(to); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		if u.Host == "" {
			return nil, fmt.Errorf("--openlineage: %s names no host", u.Redacted())
		}
		l.url = to
	} else if strings.Contains(to, "://") {
		return nil, fmt.Errorf("--openlineage takes a file or an http(s) address, not %s", to)
	} else if l.file, err = os.OpenFile(to, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return nil, fmt.Errorf("--openlineage: %w", err)
	}
	go func() {
		defer close(l.over)
		for text := range l.texts {
			if err := l.send(text); err != nil {
				if l.warns++; l.warns == 1 { // the others fail alike
					e.say("warning: --openlineage: %v; the run goes on", err)
				}
			}
		}
	}()
	return l, nil
}

func (l *lineage) send(text string) error {
	if l.file != nil {
		_, err := l.file.WriteString(text)
		return err
	}
	ctx, done := context.WithTimeout(context.Background(), lineageWithin)
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader([]byte(text)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(res.Body, 200))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answers %s: %s", res.Status, bytes.TrimSpace(said))
	}
	return nil
}

// close waits for what is on its way.
func (l *lineage) close() {
	close(l.texts)
	select {
	case <-l.over:
		if l.file != nil {
			_ = l.file.Close()
		}
	case <-time.After(lineageWithin):
	}
}

// told is what is said of a pipeline's run; nil says nothing.
type told struct {
	to    *lineage
	graph *pipeline.Graph
	id    string
	last  time.Time
	ended bool
}

// start says that a pipeline starts; nil if it has no detect buffer, and so no lineage.
func (l *lineage) start(s *stream) *told {
	if l == nil || s.conf == nil {
		return nil
	}
	g, err := pipeline.NewGraph(s.conf, s.src)
	if err != nil {
		l.e.say("warning: --openlineage: %v", err)
		return nil
	}
	t := &told{to: l, graph: g, id: newUUID()}
	t.say("START", nil)
	return t
}

func (t *told) say(kind string, why error) {
	t.last = time.Now()
	select {
	case t.to.texts <- t.graph.RunEvent(kind, t.id, t.last, why):
	default: // the collector does not keep up
	}
}

// runs says now and then that it does.
func (t *told) runs() {
	if t != nil && !t.ended && time.Since(t.last) >= lineageEvery {
		t.say("RUNNING", nil)
	}
}

// end says how it ended, once: failed, stopped before its input ended, or complete.
func (t *told) end(why error, stopped bool) {
	switch {
	case t == nil || t.ended:
		return
	case why != nil:
		t.say("FAIL", why)
	case stopped:
		t.say("ABORT", nil)
	default:
		t.say("COMPLETE", nil)
	}
	t.ended = true
}

// newUUID is a random UUID (version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
