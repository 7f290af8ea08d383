package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// The limits of file_lines.
const (
	lineLimit    = 64 << 20 // of max_line
	pathLimit    = 16_384
	openLimit    = 256 // plain files open at once
	blocksAhead  = 2   // blocks of a file that the receiver has not released
	aheadLimit   = 32 << 20
	blockSizeMin = 2 << 10
	blockSizeMax = 128 << 10
	followBlock  = 16 << 10
)

func fileLinesSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Local").
		Summary("Reads files line by line, each file once, and ends, or follows them as they grow. In front of a `detect` buffer it goes on where the state says.").
		Description(`Files are read side by side; the buffer takes the next line from the file whose watermark is lowest, so results do
not depend on how fast each file is read. A file keeps its place when it is renamed; it is read from the start when it was
truncated or replaced. CRLF and blank lines are understood, a byte order mark is skipped, and a last line without newline is
a line. What cannot be read becomes a row of the error output: a line longer than max_line, the damaged rest of a compressed
file, a file without read permission.

With `+"`multiline`"+` neighbouring lines make one record, with the newlines between them; blank lines behind its last one are left out. The
last record waits for the next one, or for the file's end. Which records there are is a matter of the bytes alone, but for `+"`flush_after`"+`: a
writer that pauses for longer in the middle of a record makes two of it.

With `+"`follow`"+` files are read as they grow. A last line without newline waits for it. A file that is renamed is read on under the new
name, or, if no path matches that, until it no longer grows; one that was truncated or replaced begins anew. What is written and truncated
again between two looks is not seen; paths should match what logs are renamed to, and not copies or compressed copies of what was read.

Without a `+"`detect`"+` buffer each line becomes a message with the metadata `+"`path` and `position`"+` (the file's first path and generation, and the
offset of its first byte); one with a fault, such as a line longer than max_line, is flagged as failed, for `+"`catch`"+`. With `+"`positions`"+` a start
goes on behind what outputs have acknowledged; without it every start reads every file.`).
		Fields(
			service.NewStringListField("paths").
				Description("Paths or globs (`*`, `?`, `[a-z]`), relative to the working directory. Without `follow` something must match; at most 16384 files are read.").
				Example([]any{"logs/*.jsonl", "archive/*.jsonl.gz"}),
			service.NewStringField("max_line").
				Description("The longest line, at most 64MiB. A longer one is an error row with its first 1024 bytes.").
				Default("1MiB").Example("256KiB"),
			service.NewStringEnumField("compression", "auto", "none", "gzip", "zstd", "bzip2").
				Description("`auto` looks at the first bytes of each file, then at its extension.").
				Default("auto"),
			service.NewBoolField("follow").
				Description("Go on reading as files grow, and find new ones. Without it the input ends with the last file.").
				Default(false),
			service.NewStringField("start").
				Description("`beginning`; `end`: what is there at the first start of all is skipped, later files are read from the beginning; or a time such as `2026-03-02T08:00:00Z`: files that have not changed since, and of which nothing was read, are skipped, all others are read from the beginning. A file does not know the times of its lines: to skip lines, use a condition on the event's time.").
				Default("beginning"),
			service.NewStringEnumField("on_finished", "keep", "delete", "move").
				Description("What becomes of a file that was read whole, once that is committed. With `follow` those are compressed files, and files that no longer have the name under which they were found and have not grown for `quiet_after`.").
				Default("keep"),
			service.NewStringField("positions").
				Description("Without a `detect` buffer: the file that keeps how far each file was read. It is replaced at most once a second and at the end, with what outputs have acknowledged up to there: after a crash the lines of the last second may come again, after a stop none.").
				Default("").Example("./state/collect.json"),
			service.NewStringField("move_to").
				Description("The folder for `on_finished: move`, on the same file system.").
				Default("").Advanced(),
			service.NewDurationField("poll_interval").
				Description("How often `follow` looks for new lines and files, from 10ms to 1m.").
				Default("250ms").Advanced(),
			service.NewDurationField("quiet_after").
				Description("How long a renamed or deleted file, or a compressed one, must not have grown to be complete, from 0s to 24h.").
				Default("10s").Advanced(),
			service.NewStringField("encoding").
				Description("The encoding of the files: `utf-8`; `utf-16`, whose order of bytes is that of the byte order mark, little-endian without one; `utf-16le`, `utf-16be`; or a name of the WHATWG's list whose lines stand by themselves, such as `latin1` (which means windows-1252 there), `windows-1251`, `gbk`, `shift_jis` or `euc-kr`. Lines become UTF-8; what cannot be read of them becomes U+FFFD and is counted.").
				Default("utf-8").Example("windows-1252"),
			service.NewObjectField("multiline",
				service.NewStringField("start").
					Description("A regular expression (RE2): a line that it matches begins a record.").
					Optional().Example(`^\d{4}-\d\d-\d\d `),
				service.NewStringField("continued").
					Description("A regular expression: a line that it matches goes on with the record before it. Instead of `start`.").
					Optional().Example(`^\s`),
				service.NewIntField("max_lines").
					Description("The most lines of a record, 500 if nothing else is said, from 2 to 10000; what follows is the next record. `max_line` is the most bytes.").
					Optional(),
				service.NewStringField("flush_after").
					Description("With `follow`: after how long without new lines the last record counts as whole, from 10ms to 24h, 5s if nothing else is said.").
					Optional(),
			).Description("Records of several lines, such as stack traces.").Optional(),
		).
		Example("Failed logins of a log", runs, `input:
  file_lines:
    paths: [pipelines/data/logins.jsonl]
buffer:
  detect:
    name: file_lines
    state: ./state/file_lines
    streams:
      logins: { time: { field: login_time } }
    operators:
      failures: { filter: { from: logins, where: { status: failure } } }
output:
  console: { rows: true }
`).
		Example("Logs are collected without a `detect` buffer, each line once", runs+" With `follow: true` it would go on.", `input:
  file_lines:
    paths: [pipelines/data/*.log]
    positions: ./state/collect.json
output:
  file_rows: { path: ./out/collected.jsonl }
`).
		Example("Two logs, one of them rotated and compressed", "", "input:\n  file_lines:\n    paths: [logs/auth.jsonl, logs/web.jsonl*]\n").
		Example("Stack traces, in the encoding of an old server", "", `input:
  file_lines:
    paths: [logs/server.log]
    follow: true
    encoding: windows-1252
    multiline: { start: '^\d{4}-\d\d-\d\d ', flush_after: 2s }
`)
}

func init() {
	err := service.RegisterBatchInput("file_lines", fileLinesSpec(),
		func(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
			return newFileLines(conf, res)
		})
	if err != nil {
		panic(err)
	}
}

// fileLinesConfig is the configuration, checked.
type fileLinesConfig struct {
	paths       []string
	lineMax     int // bytes
	compression string
	follow      bool
	fromEnd     bool
	since       time.Time // files that have not changed since are skipped
	onFinished  string
	keepIn      string // positions
	moveTo      string
	poll, quiet time.Duration
	charset     *charset   // nil: UTF-8
	multi       *multiline // nil: a line is a record
}

func parseFileLines(conf *service.ParsedConfig) (c fileLinesConfig, err error) {
	if c.paths, err = conf.FieldStringList("paths"); err != nil {
		return c, err
	}
	for _, glob := range c.paths {
		if _, err := filepath.Match(glob, ""); err != nil || glob == "" {
			return c, fmt.Errorf("paths: %q is no path or glob", glob)
		}
	}
	if len(c.paths) == 0 {
		return c, fmt.Errorf("paths: name at least one file")
	}
	if c.compression, err = conf.FieldString("compression"); err != nil {
		return c, err
	}
	if !slices.Contains([]string{"auto", "none", "gzip", "zstd", "bzip2"}, c.compression) {
		return c, fmt.Errorf("compression: %q is none of auto, none, gzip, zstd, bzip2", c.compression)
	}
	size, err := conf.FieldString("max_line")
	if err != nil {
		return c, err
	}
	if c.lineMax, err = parseLineMax(size); err != nil {
		return c, err
	}
	enc, err := conf.FieldString("encoding")
	if err != nil {
		return c, err
	}
	if c.charset, err = charsetOf(enc); err != nil {
		return c, err
	}
	if conf.Contains("multiline") {
		if c.multi, err = decodeParsed(conf.Namespace("multiline"), "multiline", decodeMultiline); err != nil {
			return c, err
		}
	}
	return c, c.parseFollow(conf)
}

// parseFollow reads what belongs to files that grow or are complete.
func (c *fileLinesConfig) parseFollow(conf *service.ParsedConfig) (err error) {
	if c.follow, err = conf.FieldBool("follow"); err != nil {
		return err
	}
	text := func(name string) (v string) {
		if err == nil {
			v, err = conf.FieldString(name)
		}
		return v
	}
	start, poll, quiet := text("start"), text("poll_interval"), text("quiet_after")
	c.keepIn = text("positions")
	if c.onFinished, c.moveTo = text("on_finished"), text("move_to"); err != nil {
		return err
	}
	if c.fromEnd, c.since, err = parseFileStart(start); err != nil {
		return err
	}
	switch {
	case c.fromEnd && !c.follow:
		return fmt.Errorf("start: end needs follow: true; there is nothing behind the end otherwise")
	case !slices.Contains([]string{"keep", "delete", "move"}, c.onFinished):
		return fmt.Errorf("on_finished: %q is none of keep, delete, move", c.onFinished)
	case (c.onFinished == "move") != (c.moveTo != ""):
		return fmt.Errorf("move_to and on_finished: move need each other")
	}
	if c.poll, err = parsePoll(poll); err == nil {
		c.quiet, err = parseQuiet(quiet)
	}
	return err
}

// parseFileStart reads beginning, end, or the time since which a file must have changed.
func parseFileStart(s string) (end bool, since time.Time, err error) {
	if s == "beginning" || s == "end" {
		return s == "end", since, nil
	}
	if since, err = time.Parse(time.RFC3339Nano, s); err != nil {
		err = fmt.Errorf("start must be beginning, end or a time such as 2026-03-02T08:00:00Z, not %q", s)
	}
	return false, since, err
}

func parsePoll(s string) (time.Duration, error) {
	return parseWait("poll_interval", s, 10*time.Millisecond, time.Minute)
}

func parseQuiet(s string) (time.Duration, error) {
	return parseWait("quiet_after", s, 0, 24*time.Hour)
}

func parseWait(name, s string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("%s must be a duration from %v to %v, not %q", name, least, most, s)
	}
	return d, nil
}

// parseLineMax reads max_line.
func parseLineMax(s string) (int, error) {
	n, err := parseSize("max_line", s, 1, lineLimit)
	return int(n), err
}

// fileLines is the input. Connect plans the partitions and starts a goroutine for each; ReadBatch first announces all of
// them, then passes on what they send, which includes their end.
type fileLines struct {
	conf fileLinesConfig
	link *link
	log  *service.Logger

	ctx       context.Context
	cancel    context.CancelFunc
	readers   sync.WaitGroup
	blocks    sync.Pool
	blockSize int
	slots     chan struct{} // plain files open at once
	many      bool          // more files than slots
	announce  []*event.Block
	out       chan *event.Block
	open      int                // partitions that have not finished
	messages  service.BatchInput // what hands over messages if no detect buffer is behind
	kept      *positionsFile     // of these; nil: they are not kept
}

func newFileLines(conf *service.ParsedConfig, res *service.Resources) (*fileLines, error) {
	c, err := parseFileLines(conf)
	if err != nil {
		return nil, err
	}
	in := &fileLines{conf: c, link: linkOf(res), log: res.Logger(), out: make(chan *event.Block), slots: make(chan struct{}, openLimit)}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	in.blocks.New = func() any { return &event.Block{Data: make([]byte, 0, in.blockSize)} }
	return in, nil
}

// Connect asks the state where to start. What makes it fail would not go away by itself: it ends the input, and the
// process with it.
func (in *fileLines) Connect(ctx context.Context) error {
	positions, err := in.link.start(ctx)
	if err != nil {
		return service.ErrEndOfInput // the buffer says why
	}
	if in.link.detect {
		err = in.conf.alone()
	} else {
		in.messages = service.AutoRetryNacksBatched(&lineMessages{in: in})
		positions, err = in.keep()
	}
	if err != nil {
		return in.failed(err)
	}
	if in.conf.follow {
		in.follow(positions)
		return nil
	}
	paths, err := in.match()
	if err != nil {
		return in.failed(err)
	}
	plan := planPartitions(paths, positions, func(path string) *fileProbe { return probeFile(path, in.conf.compression) })
	found := len(plan)
	plan = slices.DeleteFunc(plan, func(p *filePartition) bool { return in.skips(p, positions) })
	if skipped := found - len(plan); skipped > 0 {
		in.log.Infof("file_lines: %d files have not changed since %s and are skipped", skipped, in.conf.since.Format(time.RFC3339))
	}
	in.start(plan)
	return nil
}

func (in *fileLines) failed(err error) error {
	in.log.Error(err.Error())
	in.link.run.fail(err)
	return service.ErrEndOfInput
}

// alone says what is wrong with positions in front of a detect buffer.
func (c *fileLinesConfig) alone() error {
	if c.keepIn == "" {
		return nil
	}
	return errors.New("file_lines: " + positionsTwice)
}

const positionsTwice = "positions are in the state of the detect buffer; remove `positions`"

// keep opens the positions of a pipeline without a detect buffer.
func (in *fileLines) keep() (map[string]Position, error) {
	if in.conf.keepIn == "" {
		if in.conf.onFinished != "keep" {
			return nil, fmt.Errorf("file_lines: on_finished: %s needs `positions`, or a detect buffer behind, which say when lines are safe", in.conf.onFinished)
		}
		return nil, nil
	}
	kept, err := openPositions(in.conf.keepIn, in.link.run.Fresh, in.log)
	if err != nil {
		return nil, err
	}
	in.kept = kept
	return kept.positions(), nil
}

// skips says whether a file is older than `start` wants, and nothing of it was read before.
func (in *fileLines) skips(p *filePartition, positions map[string]Position) bool {
	_, known := positions[p.name()]
	return !known && p.probe.err == nil && p.probe.changed.Before(in.conf.since)
}

// match resolves the globs; that nothing is there is an error.
func (in *fileLines) match() ([]string, error) {
	found, tried, err := in.glob()
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, fmt.Errorf("file_lines: nothing to read: no file matches %s; correct paths, or start in the folder that they are relative to",
			strings.Join(tried, ", "))
	case len(found) > pathLimit:
		return nil, fmt.Errorf("file_lines: paths match %d files, the limit is %d; read them in several runs", len(found), pathLimit)
	case len(tried) > 0:
		in.log.Warnf("file_lines: no file matches %s", strings.Join(tried, ", "))
	}
	return found, nil
}

// glob returns what the globs match, sorted, each path once, and the absolute form of those that match nothing.
func (in *fileLines) glob() (paths, tried []string, err error) {
	found := map[string]bool{}
	for _, glob := range in.conf.paths {
		names, err := filepath.Glob(glob)
		if err != nil {
			return nil, nil, fmt.Errorf("file_lines: paths: %q: %w", glob, err)
		}
		if _, err := os.Lstat(glob); err == nil {
			names = append(names, glob) // a name with [ in it
		}
		for _, name := range names {
			found[filepath.ToSlash(filepath.Clean(name))] = true
		}
		if abs, err := filepath.Abs(glob); len(names) == 0 && err == nil {
			tried = append(tried, abs)
		}
	}
	return slices.Sorted(maps.Keys(found)), tried, nil
}

// start announces the partitions and starts reading them.
func (in *fileLines) start(plan []*filePartition) {
	in.blockSize = min(max(aheadLimit/(blocksAhead*max(len(plan), 1)), blockSizeMin), blockSizeMax)
	in.many, in.open = len(plan) > cap(in.slots), len(plan)
	for _, part := range plan {
		r := newFileReader(in, part)
		in.announce = append(in.announce, r.mark(event.Announce))
		in.readers.Go(func() { r.run() })
	}
}

// ReadBatch hands over one block, or with no detect buffer behind the messages of one.
func (in *fileLines) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	if in.messages != nil {
		return in.messages.ReadBatch(ctx)
	}
	b, err := in.next(ctx)
	if err != nil {
		return nil, nil, err
	}
	msg := service.NewMessage(nil)
	msg.SetStructured(b)
	return service.MessageBatch{msg}, noAck, nil
}

func noAck(context.Context, error) error { return nil }

// next returns the next block, ErrEndOfInput after the end of the last partition.
func (in *fileLines) next(ctx context.Context) (*event.Block, error) {
	if len(in.announce) > 0 {
		b := in.announce[0]
		in.announce = in.announce[1:]
		return b, nil
	}
	if in.open == 0 && !in.conf.follow {
		return nil, service.ErrEndOfInput
	}
	select {
	case b := <-in.out:
		if b.Mark == event.Finished {
			in.open--
		}
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-in.ctx.Done():
		return nil, service.ErrEndOfInput
	}
}

// Close stops the readers and waits for them.
func (in *fileLines) Close(ctx context.Context) error {
	in.cancel()
	done := make(chan struct{})
	go func() {
		in.readers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if in.kept == nil {
		return nil
	}
	err := in.kept.close()
	if in.kept = nil; err != nil {
		in.link.run.fail(err)
	}
	return err
}
