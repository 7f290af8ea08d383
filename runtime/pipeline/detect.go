package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// runs is what a specification says of an example that needs nothing but the repository. A test runs those.
const runs = "Runs as it is, at the root of the repository."

func detectSpec() *service.ConfigSpec {
	return service.NewConfigSpec().Summary("Detects: windows and joins over streams of events, in event time, effectively once.").
		Description("What arrives is routed to `streams`, worked out by `operators`, and leaves, a message a row, once its epoch is on disk. "+
			"The buffer owns acknowledgement: inputs are acknowledged after the commit, and rows that outputs reject are sent again. "+
			"How streams, operators and tables are written is in [pipelines.md](../pipelines.md).").
		Fields(
			service.NewStringField("name").Description("A name of this pipeline alone: results have it in their ids."),
			service.NewStringField("state").Description("A folder of this pipeline alone, for what must not be forgotten.").Example("./state/logins"),
			service.NewAnyMapField("streams").Description("What arrives, by name: [how it is told, its format, its time](../pipelines.md#time)."),
			service.NewAnyMapField("operators").Description("What is worked out, by name: [windows, joins, sequences, plugins and others](../pipelines.md#operators)."),
			service.NewAnyField("tables").Description("A mapping of what is known, by name: [files, or what streams keep](../pipelines.md#tables).").Optional(),
			service.NewAnyField("deliver").Description("The lanes by which rows leave, by name: `{ where, max_in_flight, retries, block, max_waiting, was }`; see [Lanes](../pipelines.md#lanes). Without it there is one, `main`.").Optional(),
			service.NewAnyField("outputs").Description("A list of operators whose rows leave though others read them and they raise no alert.").Optional(),
			service.NewStringField("memory").Description("How much memory keys may take, from 16MiB to 1TiB; what is more is packed, and read from disk when it is needed.").Default("512MiB"),
			service.NewStringEnumField("late", "rows", "count").Description("Whether late events leave as rows, or are only counted.").Default("rows"),
			service.NewStringField("http").Description("Where figures are answered, [as a run has them](../watching.md): host and port.").Optional().Example("127.0.0.1:9464"),
			service.NewStringEnumField("on_removed", "keep", "drop").Description("What becomes of the state of operators that are gone; without it a start says so and stops.").Optional(),
			service.NewIntField("retries").Description("How often a row is sent again while outputs take others, before an error row goes instead, from 1 to 1000000.").Default(10),
			service.NewIntField("shards").Description("Over how many goroutines an operator's keys are spread, from 1 to 64; without it as many as there are processors, at most 8. Results do not depend on it.").Optional().Advanced(),
			service.NewIntField("block_rows").Description("The most rows that go through the operators at once, from 1 to 65536. Results do not depend on it.").Default(4096).Advanced(),
		).
		Example("Addresses that fail to log in", runs, `input:
  file_lines:
    paths: [pipelines/data/logins.jsonl]
buffer:
  detect:
    name: logins
    state: ./state/logins
    streams:
      logins: { time: { field: login_time }, watermark: { delay: 5s } }
    operators:
      failures:
        window: { from: logins, tumbling: 1m, key: source_ip, where: { status: failure }, aggregate: { n: count }, having: { n|gte: 5 } }
        alert: { title: "{n} failures from {source_ip}", severity: medium }
output:
  console: {}
`)
}

func init() {
	err := service.RegisterBatchBuffer("detect", detectSpec(), func(conf *service.ParsedConfig, mgr *service.Resources) (service.BatchBuffer, error) {
		return newDetect(conf, mgr)
	})
	if err != nil {
		panic(err)
	}
}

// foreignMax is how many bytes of messages from inputs of others may wait for the engine.
const foreignMax = 16 << 20

// detect is the buffer: it turns what inputs write into blocks for the engine, and what the engine says into messages.
type detect struct {
	conf *Config
	log  *service.Logger
	link *link

	store  *state.Store
	runner *engine.Runner
	static func() // tables are not read again from then on
	fixed  func() // nor plugins
	silent func() // nobody answers over HTTP from then on

	mu      sync.Mutex
	room    *sync.Cond // foreign messages wait for it
	waiting int        // bytes of foreign messages that the engine has not taken
	count   map[string]int64
	once    sync.Once
}

func newDetect(conf *service.ParsedConfig, mgr *service.Resources) (*detect, error) {
	l := linkOf(mgr)
	c, err := detectConfig(l.run, conf)
	if err != nil {
		return nil, err
	}
	l.detect, l.shapes = true, c.shapes
	for _, lane := range c.Spec.Lanes {
		l.lanes = append(l.lanes, lane.Name)
	}
	b := &detect{conf: c, log: mgr.Logger(), link: l, count: map[string]int64{}}
	b.room = sync.NewCond(&b.mu)
	logPlugins(c.Spec, b.log)
	if err := b.open(); err != nil {
		l.opened(nil, err)
		l.run.fail(err)
		return nil, err
	}
	b.static, b.fixed = reload(c.Tables, b.log), newReloader(c, b.runner, b.log).watch()
	positions := map[string]Position{}
	for name, p := range b.runner.Positions() {
		positions[name] = Position(p)
		b.count[name] = p.Offset
	}
	l.opened(positions, nil)
	l.run.attach(b)
	b.silent = serveHTTP(l.run, c, b.log)
	return b, nil
}

// logPlugins lets plugins write to the log.
func logPlugins(spec *engine.Spec, log *service.Logger) {
	levels := []func(format string, args ...any){log.Debugf, log.Infof, log.Warnf, log.Errorf}
	for i := range spec.Operators {
		o := &spec.Operators[i]
		for _, p := range o.Plugins() {
			p.Log = func(level int, text string) { levels[min(max(level, 0), 3)]("plugin %s: %s", p.Ident.Operator, text) }
		}
	}
	if cacheFault != nil {
		log.Warnf("modules are compiled at every start: %v", cacheFault)
	}
}

// detectConfig takes the configuration that the command line has checked against the file, with its order and places; in
// another distribution it is made again from the parsed values.
func detectConfig(run *Run, conf *service.ParsedConfig) (*Config, error) {
	if c := run.config.Swap(nil); c != nil {
		return c, nil
	}
	return decodeParsed(conf, "detect", DecodeDetect)
}

// decodeParsed decodes a component's configuration from the values that Benthos parsed: problems have no places there.
func decodeParsed[T any](conf *service.ParsedConfig, what string, decode func(n *yaml.Node) (T, []match.Problem)) (out T, err error) {
	v, err := conf.FieldAny()
	if err != nil {
		return out, err
	}
	text, err := yaml.Marshal(v)
	if err != nil {
		return out, err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil {
		return out, err
	}
	if len(n.Content) == 0 {
		return out, fmt.Errorf("%s: it is empty", what)
	}
	out, problems := decode(n.Content[0])
	var all []string
	for _, p := range problems {
		all = append(all, p.Text)
	}
	if len(all) > 0 {
		return out, fmt.Errorf("%s: %s", what, strings.Join(all, "; "))
	}
	return out, nil
}

func (b *detect) open() (err error) {
	b.store, err = state.Open(state.Options{Dir: b.conf.State, Pipeline: b.conf.Spec.Name, Fresh: b.link.run.Fresh, Full: b.link.run.abort})
	if err != nil {
		return err
	}
	b.runner, err = engine.Start(b.conf.Spec, b.store, engine.Options{Shards: b.conf.Shards, BlockRows: b.conf.BlockRows,
		Retries: b.conf.Retries, Memory: b.conf.Memory, Removed: b.conf.Removed, Warn: b.log.Warnf, Committed: b.link.say})
	if err != nil {
		b.store.Close()
		return err
	}
	if err := b.store.Serve(); err != nil {
		b.log.Warnf("`tocsin state` cannot be used while this runs: %v", err)
	}
	return nil
}

// WriteBatch takes blocks of our own inputs as they are; messages of other inputs become blocks, a partition at a time, and
// are acknowledged after the commit.
func (b *detect) WriteBatch(ctx context.Context, batch service.MessageBatch, ack service.AckFunc) error {
	var foreign []*service.Message
	for _, m := range batch {
		if v, err := m.AsStructured(); err == nil {
			if block, ok := v.(*event.Block); ok {
				b.runner.Push(block)
				continue
			}
		}
		foreign = append(foreign, m)
	}
	if len(foreign) == 0 {
		return ack(ctx, nil)
	}
	return b.foreign(ctx, foreign, ack)
}

func (b *detect) foreign(ctx context.Context, batch []*service.Message, ack service.AckFunc) error {
	var order []string
	blocks := map[string]*event.Block{}
	size := 0
	for _, m := range batch {
		raw, err := m.AsBytes()
		if err != nil {
			return err
		}
		name, meta := partitionOf(m)
		block := blocks[name]
		if block == nil {
			block = &event.Block{Partition: name, Meta: meta, Live: true}
			blocks[name] = block
			order = append(order, name)
		}
		size += len(raw)
		from := uint32(len(block.Data))
		block.Data = append(block.Data, raw...)
		n := b.count[name]
		b.count[name]++
		block.Lines = append(block.Lines, event.Line{Off: n, Next: n + 1, Start: from, End: uint32(len(block.Data))})
	}
	if err := b.reserve(ctx, size); err != nil {
		return err
	}
	left := len(order)
	for _, name := range order {
		block := blocks[name]
		n := len(block.Data)
		block.OnRelease(func(*event.Block) { b.release(n) })
		block.Committed = func() { // from the engine's goroutine alone
			if left--; left == 0 {
				if err := ack(context.Background(), nil); err != nil {
					b.log.Warnf("an input did not take its acknowledgement: %v", err)
				}
			}
		}
		b.runner.Push(block)
	}
	return nil
}

// partitionOf names the partition of a message of an input that is not ours: its metadata source, else path, else one.
func partitionOf(m *service.Message) (name string, meta map[string]string) {
	meta = map[string]string{}
	_ = m.MetaWalk(func(k, v string) error {
		meta[k] = v
		return nil
	})
	if name = meta["source"]; name == "" {
		name = meta["path"]
	}
	if name == "" {
		name = "input"
	}
	return name, meta
}

// reserve waits for room for n bytes.
func (b *detect) reserve(ctx context.Context, n int) error {
	stop := context.AfterFunc(ctx, b.room.Broadcast)
	defer stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.waiting > 0 && b.waiting+n > foreignMax {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.room.Wait()
	}
	b.waiting += n
	return nil
}

func (b *detect) release(n int) {
	b.mu.Lock()
	b.waiting -= n
	b.mu.Unlock()
	b.room.Broadcast()
}

// ReadBatch gives rows whose epoch is on disk.
func (b *detect) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	rows, err := b.runner.Next(ctx)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil, service.ErrEndOfBuffer
	case err != nil && ctx.Err() == nil:
		b.link.run.fail(err)
		return nil, nil, service.ErrEndOfBuffer
	case err != nil:
		return nil, nil, err
	}
	return b.messages(rows), func(_ context.Context, err error) error {
		b.runner.Settle(rows, b.link.accounted(rows, err))
		return nil
	}, nil
}

// messages are rows of a lane for its output: a message each, or one block.
func (b *detect) messages(rows []*engine.Out) (batch service.MessageBatch) {
	lane, asBlock := mainLane, false
	if lanes := b.conf.Spec.Lanes; len(lanes) > 0 {
		lane, asBlock = lanes[rows[0].Lane].Name, lanes[rows[0].Lane].Block
	}
	if asBlock {
		return service.MessageBatch{block(rows, lane)}
	}
	for _, o := range rows {
		batch = append(batch, message(o, lane))
	}
	return batch
}

// mainLane is the metadata `lane` of a pipeline without lanes.
const mainLane = "main"

// message is a row as outputs see it.
func message(o *engine.Out, lane string) *service.Message {
	m := service.NewMessage(o.Payload)
	meta := metaOf(o, lane)
	for i := range rowMeta {
		if v, ok := meta(rowMeta[i].name); ok {
			m.MetaSetMut(rowMeta[i].name, v)
		}
	}
	return m
}

// metaOf is the metadata of a row, by the names of rowMeta.
func metaOf(o *engine.Out, lane string) func(name string) (v string, ok bool) {
	return func(name string) (v string, ok bool) {
		switch name {
		case "kind":
			v = o.Kind
		case "operator":
			v = o.Operator
		case "result_id":
			v = o.ID.String()
		case "revision":
			v = strconv.FormatInt(o.Revision, 10)
		case "event_time_ms":
			v = strconv.FormatInt(o.TS, 10)
		case "lane":
			v = lane
		case "stream":
			v = o.Stream
		case "reason":
			v = o.Reason
		case "position":
			v = o.Position
		case "late_by_ms":
			if o.Kind == "late" {
				v = strconv.FormatInt(o.LateBy, 10)
			}
		}
		return v, v != ""
	}
}

// EndOfInput is called for the end of the input and for a signal alike; only the command line knows which. An input that
// failed has not ended: the state is kept.
func (b *detect) EndOfInput() {
	b.runner.End(b.link.run.exhausted())
}

// Close commits what was done and gives the state back.
func (b *detect) Close(context.Context) error {
	var err error
	b.once.Do(func() {
		b.static()
		b.fixed()
		b.silent()
		if err = b.runner.Close(); err != nil {
			b.link.run.fail(err)
		}
		b.link.end()
		err = errors.Join(err, b.store.Close())
		b.link.run.closed(b)
	})
	return err
}
