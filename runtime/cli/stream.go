package cli

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

// stream is a pipeline of this process.
type stream struct {
	e      *env
	path   string
	name   string // of its detect buffer, or of its file
	src    []byte
	conf   *pipeline.Config // nil: it has no detect buffer
	run    *pipeline.Run
	stream *service.Stream
	err    error // that it ended with
	over   bool
	told   *told // by --openlineage
	fails  int   // seconds since it failed for good and has not ended
}

func newStream(e *env, path string, src []byte, conf *pipeline.Config, fresh bool) *stream {
	s := &stream{e: e, path: path, src: src, conf: conf, run: pipeline.NewRun(conf), name: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))}
	if conf != nil {
		s.name = conf.Spec.Name
	}
	s.run.Fresh = fresh
	s.run.Abort = func(err error) {
		e.say("tocsin run: %v", err)
		os.Exit(failed)
	}
	return s
}

// build makes the stream, whose components are made when it runs.
func (s *stream) build() (err error) {
	b := service.NewStreamBuilder()
	b.SetSchema(service.GlobalEnvironment().FullConfigSchema(version(), ""))
	if s.e.log != nil {
		b.SetLogger(slog.New(s.e.log).With("pipeline", s.name))
	} else {
		b.SetLogger(slog.New(&terminalLog{w: s.e.err, detects: s.conf != nil}))
	}
	if err = b.SetYAML(string(s.src)); err != nil {
		return err
	}
	if !pipeline.WantsServer(s.src) {
		if err = b.SetFields("http.enabled", false); err != nil {
			return err
		}
	}
	if s.stream, err = b.Build(); err == nil {
		s.run.Attach(s.stream)
	}
	return err
}

// failure is why it ended that should not have.
func (s *stream) failure() error {
	if err := s.run.Failure(); err != nil {
		return err
	}
	return s.err
}

// failing is called every second: something may not end by itself after a failure, such as an output that nobody answers.
func (s *stream) failing() {
	if s.over || s.run.Failure() == nil {
		return
	}
	if s.fails++; s.fails == endsWithin {
		s.run.Stop()
		go func() { _ = s.stop(endsWithin * time.Second) }()
	}
}

// stop has the stream end within a time, also one that is about to start: nothing stops it before it has.
func (s *stream) stop(within time.Duration) error {
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		err := s.stream.StopWithin(max(time.Until(end), time.Second))
		if err == nil || !strings.Contains(err.Error(), "has not been run yet") || time.Now().After(end) {
			return err
		}
	}
}

// before names it in messages, if there are others.
func (s *stream) before(of int) string {
	if of == 1 {
		return ""
	}
	return s.name + ": "
}

// sum is what all have done so far.
func sum(all []*stream) (t engine.Stats) {
	for _, s := range all {
		x := s.run.Stats()
		t.Events, t.Alerts, t.Waiting = t.Events+x.Events, t.Alerts+x.Alerts, t.Waiting+x.Waiting
	}
	return t
}
