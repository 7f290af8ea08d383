package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// The processor `detect`: stateless plugins over ordinary messages, anywhere in a Benthos pipeline.

func init() {
	spec := service.NewConfigSpec().Summary("Judges messages by plugins: detection rules as WebAssembly modules, in a sandbox.").
		Description("With `on_hit: annotate` messages stay as they are; those that rules hit get the metadata `detect_rules`, `detect_severity` and `detect_count`. "+
			"With `on_hit: alert` a message is replaced by its alerts, none if no rule hits. A message that is no JSON object, or that a plugin fails on, is an error that `catch` sees.").
		Fields(
			service.NewAnyListField("plugins").Description("The modules that judge each message, each as the operator [plugin](../pipelines.md#operators) has it: module, config, fields, where, rules, limits, on_failure, digest. "+
				"One that remembers, or has a limit of CPU, must be an operator of the buffer `detect`.").
				Example([]any{map[string]any{"module": "plugins/encoded_powershell/encoded_powershell.wasm"}}),
			service.NewStringEnumField("on_hit", "annotate", "alert").Description("What becomes of a message that rules hit.").Default("annotate"),
			service.NewAnyField("time").Description("When an event happened, as in [streams](../pipelines.md#time). `on_hit: alert` needs it.").
				Optional().Example(map[string]any{"field": "time"}),
			service.NewStringField("name").Description("A name that ids of alerts are made of; `detect` without it.").Optional(),
		).
		Example("Encoded PowerShell commands", runs, `input:
  file_lines:
    paths: [pipelines/data/processes.jsonl]
pipeline:
  processors:
    - detect:
        plugins:
          - module: plugins/encoded_powershell/encoded_powershell.wasm
            fields: { process.command_line: CommandLine, process.executable: Image, host.name: Computer, user.name: User }
        on_hit: alert
        time: { field: UtcTime }
output:
  file_rows: { path: ./out/commands.jsonl }
`)
	err := service.RegisterBatchProcessor("detect", spec, func(conf *service.ParsedConfig, mgr *service.Resources) (service.BatchProcessor, error) {
		return newProcessor(conf, mgr)
	})
	if err != nil {
		panic(err)
	}
}

// processorConfig is a processor `detect`, checked and compiled.
type processorConfig struct {
	spec  *engine.Spec
	alert bool // on_hit: alert
}

// decodeProcessor reads the mapping under a processor's `detect`.
func decodeProcessor(n *yaml.Node) (*processorConfig, []match.Problem) {
	d := newDecoder()
	c := &processorConfig{spec: d.conf.Spec}
	d.conf.Spec.Name, d.stateless = "detect", true
	if m := d.mapping(n, "detect"); m != nil {
		d.processor(c, m)
	}
	return c, d.sorted()
}

func (d *decoder) processor(c *processorConfig, m *mapping) {
	c.alert = d.enum(m.get("on_hit"), "on_hit", "annotate", "annotate", "alert") == "alert"
	events := &source{name: "events", key: m.node, stream: &engine.Stream{Name: "events"}, events: true}
	d.nodes[events.name] = events
	if n := m.get("time"); n != nil {
		d.time(events, n)
	} else if c.alert {
		d.wrong(m.node, "on_hit: alert needs time: { field: ... }, the field that says when an event happened")
	}
	if name := m.get("name"); name != nil {
		d.conf.Spec.Name = d.name(name, "name")
	}
	plugins := m.need("plugins", "a list of { module: ... }")
	m.done()
	d.list(plugins, "plugins", func(n *yaml.Node) {
		o := &source{name: "plugin" + strconv.Itoa(len(d.ops)), key: n, kind: "plugin", from: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: events.name}}}
		o.op = &engine.Operator{Name: o.name}
		if p := d.mapping(n, "a plugin"); p != nil {
			d.ops = append(d.ops, o)
			if p.get("reload") != nil {
				d.wrong(p.key("reload"), "reload is for plugins of the buffer detect; this processor keeps its modules until it ends")
			}
			d.pluginBody(o, p)
			if o.op.Plugin.CPU > 0 {
				d.wrong(peek(n, "limits"), "limits.cpu is for plugins of the buffer detect: messages are judged when they come, or not at all")
			}
			if o.op.Plugin != nil && o.op.Plugin.Module != nil { // ids stay when the list is put in another order
				if o.op.Name = o.op.Plugin.Module.Manifest.Name; o.op.Plugin.Module.Manifest.Keyed {
					d.wrong(p.key("module"), "%s remembers, which needs rows in order and a state: make it an operator of the buffer detect", o.op.Name)
				}
				for again := 2; slices.ContainsFunc(d.ops, func(x *source) bool { return x != o && x.op.Name == o.op.Name }); again++ {
					o.op.Name = fmt.Sprintf("%s-%d", o.op.Plugin.Module.Manifest.Name, again)
				}
				o.op.Plugin.Ident.Operator = o.op.Name
			}
		}
	})
	d.conf.Spec.Streams = append(d.conf.Spec.Streams, *events.stream)
	d.finish()
}

// processor judges batches, one after the other: as a resource it may be called from several pipelines.
type processor struct {
	conf  *processorConfig
	mu    sync.Mutex
	judge *engine.Judge
}

func newProcessor(conf *service.ParsedConfig, mgr *service.Resources) (*processor, error) {
	c, err := decodeParsed(conf, "detect", decodeProcessor)
	if err != nil {
		return nil, err
	}
	logPlugins(c.spec, mgr.Logger())
	return &processor{conf: c, judge: engine.NewJudge(c.spec)}, nil
}

// ProcessBatch judges a batch.
func (p *processor) ProcessBatch(_ context.Context, batch service.MessageBatch) ([]service.MessageBatch, error) {
	lines := make([][]byte, len(batch))
	for i, m := range batch {
		line, err := m.AsBytes()
		if err != nil {
			return nil, err
		}
		lines[i] = line
	}
	p.mu.Lock()
	said, err := p.judge.Judge(lines)
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var out service.MessageBatch
	for i, m := range batch {
		s := &said[i]
		switch {
		case s.Fault != "":
			bad := m.Copy() // a message may be another output's, too
			bad.SetError(errors.New("detect: " + s.Fault + ": " + s.Detail))
			out = append(out, bad)
		case p.conf.alert:
			out = append(out, alerts(m, s)...)
		default:
			out = append(out, annotated(m, s))
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return []service.MessageBatch{out}, nil
}

func annotated(m *service.Message, s *engine.Said) *service.Message {
	if len(s.Hits) == 0 {
		return m
	}
	m = m.Copy()
	rules, worst := s.Rules()
	m.MetaSetMut("detect_rules", strings.Join(rules, ","))
	m.MetaSetMut("detect_severity", worst)
	m.MetaSetMut("detect_count", strconv.Itoa(len(s.Hits)))
	return m
}

func alerts(m *service.Message, s *engine.Said) (out service.MessageBatch) {
	for _, h := range s.Hits {
		a := m.Copy()
		a.SetBytes(h.Alert)
		a.MetaSetMut("kind", "alert")
		a.MetaSetMut("result_id", h.ID.String())
		a.MetaSetMut("event_time_ms", strconv.FormatInt(h.TS, 10))
		out = append(out, a)
	}
	return out
}

// Close gives back the plugins' instances.
func (p *processor) Close(context.Context) error {
	p.judge.Close()
	return nil
}
