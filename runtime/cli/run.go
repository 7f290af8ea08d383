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

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const runHelp = `Usage: tocsin run [--fresh] [--quiet] [--top] [--log text|json] [--http ADDRESS] [--openlineage FILE|URL] [--cpuprofile FILE] [--memprofile FILE] PIPELINE ...

Checks the pipeline as lint does, runs it until its input ends, and says what it did. A run that is stopped or killed goes
on where it was, and says nothing twice. Several pipelines run beside each other in one process, each with its own state; if
one fails for good, the others are stopped, and the status is 1.

  --fresh            start over: drops the state, and moves files of rows to PATH.old
  --quiet            no progress and no summary
  --top              the summary names the ten operators and plugins that cost most
  --log json         what is said, a JSON object a line: time, level, msg, and of components pipeline and label
  --http ADDRESS     answers /stats, /metrics, /ready and /live there, such as 127.0.0.1:9464 (or http: in the pipeline)
  --openlineage TO   says that runs start, run and end, with their lineage, as events of OpenLineage: to a file, a line each, or
                     to a collector, such as https://HOST/api/v1/lineage
  --cpuprofile FILE  write a CPU profile, for go tool pprof
  --memprofile FILE  write a heap profile at the end
`

// stopWithin is how long a signal waits for outputs and the last commit.
const stopWithin = 20 * time.Second

// endsWithin is how many seconds a stream has to end by itself after something failed for good, and then again to be stopped.
const endsWithin = 3

// needs is what flags with a value take.
var needs = map[string]string{"--http": "an address, such as 127.0.0.1:9464", "--log": "text or json", "--openlineage": "a file, or the address of a collector", "--cpuprofile": "a file", "--memprofile": "a file"}

type runFlags struct {
	fresh, quiet, top bool
	cpu, mem, http    string
	lineage           string
	json              bool
	paths             []string
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
		case "--cpuprofile", "--memprofile", "--http", "--log", "--openlineage":
			if !has {
				if i++; i == len(args) {
					return f, fmt.Errorf("%s needs %s", a, needs[a])
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
			f.paths = append(f.paths, args[i])
		}
	}
	if len(f.paths) == 0 {
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
	case "--openlineage":
		f.lineage = value
	case "--log":
		if f.json = value == "json"; !f.json && value != "text" {
			return fmt.Errorf("--log must be text or json, not %s", value)
		}
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
	if f.json {
		e.log = slog.NewJSONHandler(e.err, nil)
	}
	all, ok := e.prepare(f)
	if !ok {
		return wrong
	}
	stop, err := profile(f)
	if err != nil {
		e.say("tocsin run: %v", err)
		return failed
	}
	defer stop()
	log.SetFlags(0)
	log.SetOutput(&libraryLog{e})
	limitMemory(all)
	silent, err := e.monitor(f, all)
	if err != nil {
		e.say("tocsin run: %v", err)
		return failed
	}
	defer silent()
	var to *lineage
	if f.lineage != "" {
		if to, err = e.lineageTo(f.lineage); err != nil {
			e.say("tocsin run: %v", err)
			return failed
		}
		defer to.close()
	}
	return e.together(f, all, to)
}

// prepare reads the pipelines and checks each as lint does, and that they do not stand in each other's way.
func (e *env) prepare(f runFlags) (all []*stream, ok bool) {
	ok = true
	for _, path := range f.paths {
		src, read := e.read(path)
		if !read {
			return nil, false
		}
		conf, findings := pipeline.Check(path, src)
		for _, x := range findings {
			e.say("%s", x)
		}
		if ok = ok && len(findings) == 0; ok {
			e.warned(path, conf)
			all = append(all, newStream(e, path, src, conf, f.fresh))
		}
	}
	if err := apart(all); ok && err != nil {
		e.say("tocsin run: %v", err)
		return nil, false
	}
	return all, ok
}

// apart says which pipelines cannot run beside each other.
func apart(all []*stream) error {
	names, states := map[string]string{}, map[string]string{}
	for _, s := range all {
		if other, twice := names[s.name]; twice {
			return fmt.Errorf("%s and %s are both called %s; give one another name", other, s.path, s.name)
		}
		if names[s.name] = s.path; s.conf == nil {
			continue
		}
		dir, _ := filepath.Abs(s.conf.State)
		if other, twice := states[dir]; twice {
			return fmt.Errorf("%s and %s keep their state in one folder, %s; give each its own", other, s.path, dir)
		}
		states[dir] = s.path
	}
	return nil
}

// monitor answers over HTTP from before the state is read, if somebody wants to know.
func (e *env) monitor(f runFlags, all []*stream) (stop func(), err error) {
	address := f.http
	var runs []*pipeline.Monitor
	for _, s := range all {
		runs = append(runs, pipeline.NewMonitor(s.name, s.run, s.conf != nil))
		if address == "" && s.conf != nil {
			address = s.conf.HTTP
		}
	}
	if address == "" {
		return func() {}, nil
	}
	at, stop, err := pipeline.Serve(address, runs...)
	if err == nil && !f.quiet {
		e.say("figures at http://%s/stats and /metrics", at)
	}
	return stop, err
}

// limitMemory has the garbage collector keep to what the pipelines may take, since it would otherwise let the heap double.
func limitMemory(all []*stream) {
	total := int64(0)
	for _, s := range all {
		if s.conf == nil {
			continue
		}
		keys := s.conf.Memory
		if keys == 0 {
			keys = engine.MemoryDefault
		}
		total += keys + keys/2
		for _, t := range s.conf.Tables {
			total += 2 * t.Table().Bytes() // the new one is made beside the old one
		}
	}
	if total > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(total + 256<<20)
	}
}

// together runs pipelines until all have ended. One that fails stops the others: whoever starts the process anew finds each where it was,
// and none is missed that nobody sees.
func (e *env) together(f runFlags, all []*stream, to *lineage) (status int) {
	began := time.Now()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	kept, committed := "", "" // without a detect buffer there is no state
	if slices.ContainsFunc(all, func(s *stream) bool { return s.conf != nil }) {
		kept, committed = ": the state is kept, and the next start goes on here", "; what was committed is kept"
	}
	ended := make(chan *stream, len(all))
	left := 0
	for _, s := range all {
		if err := s.build(); err != nil {
			e.say("%s: %v", s.path, err)
			return failed
		}
	}
	for _, s := range all {
		s.told = to.start(s)
		go func() { s.err = s.stream.Run(context.Background()); ended <- s }()
		left++
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	show := progress{w: e.err, on: !f.quiet && e.log == nil && isTerminal(e.err)}
	defer show.clear()
	for left > 0 {
		select {
		case s := <-ended:
			left--
			s.told.end(s.failure(), s.run.Stopped())
			if s.over = true; s.failure() == nil {
				continue
			}
			show.clear()
			e.say("tocsin run: %s%v", s.before(len(all)), s.failure())
			if status = failed; left > 0 {
				e.stopAll(all)
			}
		case <-tick.C:
			show.say(sum(all))
			for _, s := range all {
				s.failing()
				s.told.runs()
			}
		case <-signals:
			show.clear()
			if slices.ContainsFunc(all, func(s *stream) bool { return !s.over && s.run.Stopped() }) {
				e.say("tocsin run: stopped at once%s", committed)
				for _, s := range all {
					s.told.end(s.failure(), true)
				}
				return failed
			}
			e.say("stopping%s (again: stop at once)", kept)
			e.stopAll(all)
		}
	}
	show.clear()
	if status == done && !f.quiet {
		for _, s := range all {
			e.summary(f, s, len(all), time.Since(began))
		}
	}
	return status
}

// stopAll has all pipelines that have not ended commit and end.
func (e *env) stopAll(all []*stream) {
	for _, s := range all {
		if s.over || s.run.Stop() {
			continue
		}
		go func() {
			if err := s.stop(stopWithin); err != nil {
				e.say("tocsin run: %s%v", s.before(len(all)), err)
			}
		}()
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

// summary says what a pipeline did, and how to go on.
func (e *env) summary(f runFlags, x *stream, of int, took time.Duration) {
	if x.conf == nil {
		return
	}
	if of > 1 {
		e.say("%s:", x.name)
	}
	s := x.run.Stats()
	dir, _ := filepath.Abs(x.conf.State)
	if s.Events == 0 && s.Sent == 0 && !x.run.Stopped() {
		e.say("nothing new: every event was read before, and nothing was said twice\n  state   %s\n  to start over, add --fresh", dir)
	} else {
		e.counts(s, dir, took)
		e.lanes(x.run.Report())
	}
	e.costs(x.run.Report(), f.top)
}

// lanes says what each lane has done, and what is left in it.
func (e *env) lanes(rep *engine.Report) {
	if rep == nil {
		return
	}
	for _, l := range rep.Lanes {
		left := ""
		if n := l.Rows + l.Flying; n > 0 {
			left = fmt.Sprintf(", %s wait", count(n))
		}
		if l.Rejected > 0 {
			left += fmt.Sprintf(", rejected %s times, last: %s", count(l.Rejected), l.LastError)
		}
		e.say("  lane    %s: %s rows%s", l.Name, count(l.Sent), left)
	}
	if rep.Untaken > 0 {
		e.say("  untaken %s rows that no lane takes: they did not leave", count(rep.Untaken))
	}
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
	if s.Repeated > 0 {
		e.say("  twice   %s events had come before, by their id, and were dropped", count(s.Repeated))
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
func (e *env) costs(rep *engine.Report, asked bool) {
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
