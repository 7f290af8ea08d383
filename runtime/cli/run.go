package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const runHelp = `Usage: tocsin run [--fresh] [--quiet] [--top] [--http ADDRESS] [--cpuprofile FILE] [--memprofile FILE] PIPELINE

Checks the pipeline as lint does, runs it until its input ends, and says what it did. A run that is stopped or killed goes
on where it was, and says nothing twice.

  --fresh            start over: drops the state, and moves files of rows to PATH.old
  --quiet            no progress and no summary
  --top              the summary names the ten operators and plugins that cost most
  --http ADDRESS     answers /stats, /metrics, /ready and /live there, such as 127.0.0.1:9464 (or http: in the pipeline)
  --cpuprofile FILE  write a CPU profile, for go tool pprof
  --memprofile FILE  write a heap profile at the end
`

// stopWithin is how long a signal waits for outputs and the last commit.
const stopWithin = 20 * time.Second

// endsWithin is how many seconds a stream has to end by itself after something failed for good, and then again to be stopped.
const endsWithin = 3

type runFlags struct {
	fresh, quiet, top bool
	cpu, mem, http    string
	path              string
}

func parseRun(args []string) (f runFlags, err error) {
	for i := 0; i < len(args); i++ {
		a, value, has := strings.Cut(args[i], "=")
		switch a {
		case "--fresh", "-fresh":
			f.fresh = true
		case "--quiet", "-quiet":
			f.quiet = true
		case "--top", "-top":
			f.top = true
		case "--cpuprofile", "--memprofile", "--http":
			if !has {
				if i++; i == len(args) {
					return f, fmt.Errorf("%s needs %s", a, map[bool]string{true: "an address, such as 127.0.0.1:9464", false: "a file"}[a == "--http"])
				}
				value = args[i]
			}
			if err := f.set(a, value); err != nil {
				return f, err
			}
		default:
			if strings.HasPrefix(a, "-") {
				return f, fmt.Errorf("there is no flag %s", a)
			}
			if f.path != "" {
				return f, fmt.Errorf("one pipeline at a time: %s and %s", f.path, args[i])
			}
			f.path = args[i]
		}
	}
	if f.path == "" {
		return f, errors.New("which pipeline?")
	}
	return f, nil
}

// set takes a flag with a value.
func (f *runFlags) set(flag, value string) error {
	switch flag {
	case "--cpuprofile":
		f.cpu = value
	case "--memprofile":
		f.mem = value
	default:
		f.http = value
		return pipeline.Address(value)
	}
	return nil
}

func (e *env) run(args []string) int {
	f, err := parseRun(args)
	if err != nil {
		e.say("tocsin run: %v; see `tocsin help run`", err)
		return wrong
	}
	src, ok := e.read(f.path)
	if !ok {
		return wrong
	}
	conf, findings := pipeline.Check(f.path, src)
	if len(findings) > 0 {
		for _, x := range findings {
			e.say("%s", x)
		}
		return wrong
	}
	e.warned(f.path, conf)
	stop, err := profile(f)
	if err != nil {
		e.say("tocsin run: %v", err)
		return failed
	}
	defer stop()
	pipeline.Process.Fresh.Store(f.fresh)
	log.SetFlags(0)
	log.SetOutput(&libraryLog{e})
	pipeline.Process.Abort = func(err error) {
		e.say("tocsin run: %v", err)
		os.Exit(failed)
	}
	pipeline.Process.Own(conf)
	limitMemory(conf)
	silent, err := e.monitor(f, conf)
	if err != nil {
		e.say("tocsin run: %v", err)
		return failed
	}
	defer silent()
	return e.stream(f, conf, src)
}

// monitor answers over HTTP from before the state is read, if somebody wants to know.
func (e *env) monitor(f runFlags, conf *pipeline.Config) (stop func(), err error) {
	address := f.http
	if address == "" && conf != nil {
		address = conf.HTTP
	}
	if address == "" {
		return func() {}, nil
	}
	at, stop, err := pipeline.NewMonitor(conf != nil).Serve(address)
	if err == nil && !f.quiet {
		e.say("figures at http://%s/stats and /metrics", at)
	}
	return stop, err
}

// limitMemory has the garbage collector keep to what the pipeline may take, since it would otherwise let the heap double.
func limitMemory(conf *pipeline.Config) {
	if conf == nil || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	keys := conf.Memory
	if keys == 0 {
		keys = engine.MemoryDefault
	}
	var tables int64
	for _, t := range conf.Tables {
		tables += t.Table().Bytes()
	}
	debug.SetMemoryLimit(keys + keys/2 + 256<<20 + 2*tables) // the new one is made beside the old one
}

// stream builds and runs the pipeline, and says at the end what it did.
func (e *env) stream(f runFlags, conf *pipeline.Config, src []byte) int {
	b := service.NewStreamBuilder()
	b.SetSchema(service.GlobalEnvironment().FullConfigSchema(version(), ""))
	b.SetLogger(slog.New(&terminalLog{w: e.err, detects: conf != nil}))
	if err := b.SetYAML(string(src)); err != nil {
		e.say("%s: %v", f.path, err)
		return wrong
	}
	s, err := b.Build()
	if err != nil {
		e.say("%s: %v", f.path, err)
		return failed
	}
	began := time.Now()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	err = e.await(f, s, signals, ended)
	if cause := pipeline.Failure(); cause != nil {
		err = cause
	}
	if err != nil {
		e.say("tocsin run: %s", err)
		return failed
	}
	if !f.quiet && conf != nil {
		e.summary(conf, time.Since(began))
		e.costs(f.top)
	}
	return done
}

// await waits for the end, a signal, or the next moment to say how far it is.
func (e *env) await(f runFlags, s *service.Stream, signals chan os.Signal, ended chan error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	show := progress{w: e.err, on: !f.quiet && isTerminal(e.err)}
	failing := 0 // seconds
	for {
		select {
		case err := <-ended:
			show.clear()
			return err
		case <-tick.C:
			show.say(pipeline.Process.Stats())
			if pipeline.Failure() == nil {
				continue
			}
			if failing++; failing == endsWithin { // something does not end by itself, such as an output that nobody answers
				pipeline.Process.Stop()
				go func() { _ = s.StopWithin(endsWithin * time.Second) }()
			}
		case <-signals:
			show.clear()
			if pipeline.Process.Stop() {
				return errors.New("stopped at once; what was committed is kept")
			}
			e.say("stopping: the state is kept, and the next start goes on here (again: stop at once)")
			go func() {
				if err := s.StopWithin(stopWithin); err != nil {
					e.say("tocsin run: %v", err)
				}
			}()
		}
	}
}

// progress is one line on a terminal that is written over.
type progress struct {
	w     io.Writer
	on    bool
	drawn bool
	last  engine.Stats
}

func (p *progress) say(s engine.Stats) {
	if !p.on || s.Events == 0 {
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s events, %s/s, %s alerts", count(s.Events), count(s.Events-p.last.Events), count(s.Alerts))
	if s.Waiting > 0 {
		fmt.Fprintf(p.w, ", %s rows wait for an output", count(s.Waiting))
	}
	p.drawn, p.last = true, s
}

func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// summary says what the run did, and how to go on.
func (e *env) summary(conf *pipeline.Config, took time.Duration) {
	s := pipeline.Process.Stats()
	dir, _ := filepath.Abs(conf.State)
	if s.Events == 0 && s.Sent == 0 && !pipeline.Process.Stopped() {
		e.say("nothing new: every event was read before, and nothing was said twice\n  state   %s\n  to start over, add --fresh", dir)
		return
	}
	e.counts(s, dir, took)
}

func (e *env) counts(s engine.Stats, dir string, took time.Duration) {
	e.say("%s events, %s rows, %s alerts, %s late, %s errors", count(s.Events), count(s.Rows), count(s.Alerts), count(s.Late), count(s.Errors))
	if s.Resent > 0 {
		e.say("  again   %s rows of the last run had not been acknowledged and were sent again, under the same ids", count(s.Resent))
	}
	if s.Refused > 0 {
		e.say("  refused %s rows, which an output would not take; error rows with the reason went instead", count(s.Refused))
	}
	if s.Dropped > 0 {
		e.say("  dropped %s events without a time (on_missing: drop)", count(s.Dropped))
	}
	if s.Revised > 0 {
		e.say("  revised %s times a row was said anew, under its id, because of late rows", count(s.Revised))
	}
	if n := s.Truncated + s.Estimated; n > 0 {
		e.say("  marked  %s rows from which a limit left something out (truncated), %s with an aggregate that is an estimate (approximate)", count(s.Truncated), count(s.Estimated))
	}
	if s.Suppressed > 0 {
		e.say("  held    %s alerts of which others had told already (suppress)", count(s.Suppressed))
	}
	if n := s.RowsCapped + s.MatchesCapped; n > 0 {
		e.say("  capped  %s rows hit a cap of their operator and are marked truncated", count(n))
	}
	if s.Crowded > 0 {
		e.say("  full    %s rows, or writes of plugins, were of new keys when there were max_keys already, and were refused", count(s.Crowded))
	}
	if s.TooLate > 0 {
		e.say("  %s timers were set by plugins after the end of the input, and will not fire", count(s.TooLate))
	}
	if s.Incomplete > 0 {
		e.say("  %s rows lack a field that a plugin requires: it did not see them", count(s.Incomplete))
	}
	if n := s.Poisoned + s.Unjudged; n > 0 {
		e.say("  plugins failed on %s rows, and %s came while one was off after too many failures; nobody has judged them", count(s.Poisoned), count(s.Unjudged))
	}
	if n := s.InvalidUTF8 + s.Duplicates; n > 0 {
		e.say("  mended  %s lines that were not UTF-8, %s keys that stood twice (the last counts)", count(s.InvalidUTF8), count(s.Duplicates))
	}
	e.say("  took    %.2fs, %s events/s\n  state   %s", took.Seconds(), count(int64(float64(s.Events)/max(took.Seconds(), 1e-9))), dir)
}

// costs names the rules that cost most: if asked to, or if there are plugins.
func (e *env) costs(asked bool) {
	rep := pipeline.Process.Report()
	if rep == nil || rep.Stats.Events == 0 || !asked && !slices.ContainsFunc(rep.Operators, func(o engine.OperatorReport) bool { return o.Plugin != nil }) {
		return
	}
	for _, line := range pipeline.Top(rep) {
		e.say("  %s", line)
	}
}

// count writes a number with spaces between thousands.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

func profile(f runFlags) (stop func(), err error) {
	stop = func() {}
	if f.cpu != "" {
		w, err := os.Create(f.cpu)
		if err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(w); err != nil {
			return nil, err
		}
		stop = func() { pprof.StopCPUProfile(); w.Close() }
	}
	if f.mem == "" {
		return stop, nil
	}
	cpu := stop
	return func() {
		cpu()
		if w, err := os.Create(f.mem); err == nil {
			_ = pprof.WriteHeapProfile(w)
			w.Close()
		}
	}, nil
}

// read reads a pipeline; if it cannot, it says so with the path that it tried.
func (e *env) read(path string) ([]byte, bool) {
	src, err := os.ReadFile(path)
	if err != nil {
		abs, _ := filepath.Abs(path)
		e.say("tocsin: pipeline %s: %v", abs, errors.Unwrap(err))
		return nil, false
	}
	return src, true
}

// libraryLog is Go's own log. Our libraries write to it when they are about to end the process (Badger, when a file of its cannot be
// made): a line of that is enough, and what to do.
type libraryLog struct{ e *env }

func (l *libraryLog) Write(p []byte) (int, error) {
	line, _, _ := strings.Cut(strings.TrimSpace(string(p)), "\n")
	l.e.say("tocsin run: %s; if the run ends here, see to the disk of its state, then start again: nothing committed is lost", line)
	return len(p), nil
}

// terminalLog is the log of Benthos and of our components for people: warnings and errors, a line each.
type terminalLog struct {
	w       io.Writer
	detects bool // there is a detect buffer, which says what outputs reject, and less often
}

func (l *terminalLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (l *terminalLog) Handle(_ context.Context, r slog.Record) error {
	if l.detects && strings.HasPrefix(r.Message, "Failed to send message to ") {
		return nil
	}
	_, err := fmt.Fprintf(l.w, "%s: %s\n", strings.ToLower(r.Level.String()), strings.TrimSpace(r.Message))
	return err
}

func (l *terminalLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *terminalLog) WithGroup(string) slog.Handler      { return l }
