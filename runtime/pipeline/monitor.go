package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/kafka"
)

// How long the loop may take to answer a request, and how long it may not have turned before the process counts as stuck.
const (
	answersWithin = 2 * time.Second
	turnsWithin   = time.Minute
)

// Monitor says over HTTP how a run is: /stats (JSON), /metrics (Prometheus), /ready and /live; POST /outbox/retry has rejected rows
// sent again. It says names of the pipeline, its
// operators, rules and topics, and numbers; never rows or secrets. There is no authentication: it is meant for a loopback address,
// or for behind a proxy.
type Monitor struct {
	name   string
	runner func() *engine.Runner // nil: there is none yet, or none any more
	fails  func() error          // why the run has failed for good
	lags   func() []kafka.Lag
	detect bool // a runner is expected
	now    func() time.Time

	mu   sync.Mutex
	last *engine.Report
}

// NewMonitor watches a run under the name of its pipeline; detect says whether that has a buffer `detect`.
func NewMonitor(name string, r *Run, detect bool) *Monitor {
	return &Monitor{name: name, runner: r.runner, fails: r.Failure, lags: r.lags.all, detect: detect, now: time.Now}
}

// Serve answers for runs at an address, host:port, until stop is called. The error says that it cannot be listened at; at is the
// address with the port that was chosen for 0.
func Serve(address string, runs ...*Monitor) (at string, stop func(), err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("http: %w; choose another address", err)
	}
	s := &http.Server{Handler: Handler(runs...), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() { _ = s.Serve(l) }()
	return l.Addr().String(), func() { _ = s.Close() }, nil
}

// serveHTTP answers at the address that the configuration names, if the command line has not done so before.
func serveHTTP(r *Run, c *Config, log *service.Logger) (stop func()) {
	if c.HTTP == "" || r.owns {
		return func() {}
	}
	_, stop, err := Serve(c.HTTP, NewMonitor(c.Spec.Name, r, true))
	if err != nil {
		log.Errorf("%v", err)
		return func() {}
	}
	return stop
}

// Address reads host:port. An empty host is every one of the machine's.
func Address(text string) error {
	_, port, err := net.SplitHostPort(text)
	if n, e := strconv.Atoi(port); err != nil || e != nil || n < 0 || n > 65535 {
		return fmt.Errorf("http must be host:port, such as 127.0.0.1:9464, not %q", text)
	}
	return nil
}

// address reads where to listen; "" if it is not there.
func (d *decoder) address(n *yaml.Node, what string) string {
	text := d.text(n, what)
	if text == "" {
		return ""
	}
	if err := Address(text); err != nil {
		d.wrong(n, "%v", err)
		return ""
	}
	return text
}

// Handler answers requests about runs. Each series of Prometheus has the label `pipeline`, but for those of the process.
func Handler(runs ...*Monitor) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, m := range runs {
		prometheus.WrapRegistererWith(prometheus.Labels{"pipeline": m.name}, reg).MustRegister(m)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) { stats(w, r, runs) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { answer(w, each(runs, (*Monitor).ready)) })
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { answer(w, each(runs, (*Monitor).live)) })
	mux.HandleFunc("POST /outbox/retry", func(w http.ResponseWriter, r *http.Request) { sendAgain(w, r, runs) })
	return mux
}

// each asks all runs; what is wrong with one of several says with which.
func each(runs []*Monitor, ask func(m *Monitor) error) error {
	var all []error
	for _, m := range runs {
		err := ask(m)
		if err != nil && len(runs) > 1 {
			err = fmt.Errorf("%s: %w", m.name, err)
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// answer says that all is well, or why not.
func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

// ready says why the pipeline takes no events, or not all of them: it has not recovered its state yet, it has failed, it stops, its input has
// ended, or partitions have stopped.
func (m *Monitor) ready() error {
	if m.fails() != nil {
		return errors.New("the run has failed; its log says why")
	}
	r := m.runner()
	switch {
	case r != nil && r.Taking() != nil:
		return errors.New("the input has ended, or the run is being stopped")
	case r == nil && m.detect:
		return errors.New("no run: the state is being recovered, or the run has ended")
	case r == nil:
		return nil
	}
	if all := r.Halts(); len(all) > 0 {
		return fmt.Errorf("partitions that have stopped: %d; %w", len(all), all[0])
	}
	return nil
}

// live says why the process should be started anew: the engine's loop does not turn. One that has nothing to do turns all the same.
func (m *Monitor) live() error {
	r := m.runner()
	if r == nil {
		return nil
	}
	if still := m.now().Sub(r.Turned()); still > turnsWithin {
		return fmt.Errorf("the engine has not gone on for %s", still.Round(time.Second))
	}
	return nil
}

// report is how the run is now, or, if it does not answer in time or has ended, how it was when it last said; nil before that.
func (m *Monitor) report() *engine.Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runner(); r != nil {
		ctx, done := context.WithTimeout(context.Background(), answersWithin)
		defer done()
		if rep, err := r.Report(ctx); err == nil {
			m.last = rep
		}
	}
	return m.last
}

// lagging are the inputs that know how much they have not read yet.
type lagging struct {
	mu sync.Mutex
	of map[any]func() []kafka.Lag
}

// add lets an input say its lags from now on; nil: no longer.
func (l *lagging) add(who any, ask func() []kafka.Lag) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[any]func() []kafka.Lag{}
	}
	if l.of[who] = ask; ask == nil {
		delete(l.of, who)
	}
}

func (l *lagging) all() (out []kafka.Lag) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ask := range l.of {
		out = append(out, ask()...)
	}
	slices.SortFunc(out, func(a, b kafka.Lag) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}
