package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/table"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// pluginFile is an operator whose module comes from a file.
type pluginFile struct {
	operator string
	every    time.Duration // how often to see whether the file has changed; 0: on SIGHUP alone
}

// replacesWithin is how long a run may take until it comes to an end of a block.
const replacesWithin = 5 * time.Minute

// reloader replaces plugins of a run whose module has changed, or what the pipeline's file says of them. The buffer is decoded anew over a
// copy of the fields, so that everything is checked as at the start, and fields have the same numbers.
type reloader struct {
	conf    *Config // as it runs: plugins in its Spec are those of the graph
	log     *service.Logger
	replace func(ctx context.Context, next *engine.Operator) (int64, time.Duration, error)
	refuse  func(op, plugin, digest string, why error)

	mu     sync.Mutex
	node   *yaml.Node        // that was adopted last
	bodies map[string]string // of each plugin
	rest   string            // what is not said of plugins
}

func newReloader(c *Config, run *engine.Runner, log *service.Logger) *reloader {
	return &reloader{conf: c, log: log, replace: run.Replace, refuse: run.Refuse, node: c.node, bodies: pluginBodies(c.node), rest: restOf(c.node)}
}

// watch replaces plugins on SIGHUP, and those with `reload` when their file has changed and stays so, until stop is called.
func (r *reloader) watch() (stop func()) {
	if len(r.conf.plugins) == 0 {
		return func() {}
	}
	hup, over := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hup:
				r.again(r.read())
			case <-over:
				return
			}
		}
	}()
	for _, f := range r.conf.plugins {
		if f.every > 0 {
			go r.look(f, over)
		}
	}
	return func() {
		signal.Stop(hup)
		close(over)
	}
}

// look tries a file that has changed once it has been as it is for an interval: it may be being written.
func (r *reloader) look(f pluginFile, over chan struct{}) {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	tried := r.asRead(f.operator)
	was := tried
	for {
		select {
		case <-tick.C:
		case <-over:
			return
		}
		node, path := r.adopted(f.operator)
		is, err := os.Stat(path)
		if err == nil && !sameFile(is, tried) && sameFile(is, was) {
			tried = is
			r.again(node)
		}
		was = is
	}
}

// asRead is the file of an operator's module if it is the one that runs, nil if it has changed since it was read.
func (r *reloader) asRead(op string) os.FileInfo {
	_, path := r.adopted(op)
	is, _ := os.Stat(path)
	code, err := readModule(path)
	r.mu.Lock()
	p := r.running(op)
	r.mu.Unlock()
	if err != nil || p == nil || sha256.Sum256(code) != p.Module.Digest {
		return nil
	}
	return is
}

// adopted is what was adopted last, and the path of an operator's module in it.
func (r *reloader) adopted(op string) (node *yaml.Node, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.node, modulePath(r.node, op)
}

// modulePath is the file of an operator's module.
func modulePath(detect *yaml.Node, op string) string {
	n := detect
	for _, key := range []string{"operators", op, "plugin", "module"} {
		if n = peek(n, key); n == nil {
			return ""
		}
	}
	return n.Value
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read reads the pipeline's file again; if that cannot be, only modules may have changed.
func (r *reloader) read() *yaml.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conf.file == "" {
		return r.node
	}
	n, err := detectNode(r.conf.file)
	if err != nil {
		r.log.Warnf("%s cannot be read again: %v; only modules are", r.conf.file, err)
		return r.node
	}
	if restOf(n) != r.rest {
		r.log.Warnf("%s has changed in more than its plugins; what else has changed waits for a restart", r.conf.file)
	}
	return n
}

func detectNode(file string) (*yaml.Node, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(src, &root); err != nil {
		return nil, err
	}
	if len(root.Content) == 1 {
		if b := peek(root.Content[0], "buffer"); b != nil {
			if n := peek(b, "detect"); n != nil {
				return substituted(n), nil
			}
		}
	}
	return nil, errors.New("it has no buffer detect")
}

// again replaces every plugin that is another under node than the one that runs.
func (r *reloader) again(node *yaml.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, modules, problems := decodeAgain(node, r.conf)
	if len(problems) > 0 {
		r.problems(node, problems)
		for _, m := range modules {
			r.unload(m)
		}
		return
	}
	bodies := pluginBodies(node)
	for i := range next.Spec.Operators {
		o := &next.Spec.Operators[i]
		if o.Plugin == nil {
			continue
		}
		was := r.running(o.Name)
		if was != nil && was.Module == o.Plugin.Module && bytes.Equal(was.Config, o.Plugin.Config) && bodies[o.Name] == r.bodies[o.Name] {
			continue
		}
		if err := r.swap(next.Spec, i, was); err != nil {
			r.refused(o.Name, o.Plugin.Module.Manifest.String(), o.Plugin.Module.Digest[:], err)
			r.unload(o.Plugin.Module)
			continue
		}
		r.bodies[o.Name] = bodies[o.Name]
	}
	r.node = node
}

// swap puts the plugin of operator i of next in the place of the one that runs.
func (r *reloader) swap(next *engine.Spec, i int, was *engine.Plugin) error {
	o := &next.Operators[i]
	if was == nil {
		return errors.New("no plugin of that name runs; a restart takes it")
	}
	if err := r.conf.Spec.Admits(next, i); err != nil {
		return err
	}
	o.Plugin.Log = was.Log
	for k, t := range o.Plugin.Tables { // that run, and are read again
		if i := slices.IndexFunc(r.conf.Tables, func(x *table.Source) bool { return t != nil && x.Name == t.Name }); i >= 0 {
			o.Plugin.Tables[k] = r.conf.Tables[i]
		}
	}
	ctx, done := context.WithTimeout(context.Background(), replacesWithin)
	defer done()
	at, pause, err := r.replace(ctx, o)
	if err != nil {
		return err
	}
	r.log.Infof("operator %s: the plugin %s (sha256:%x) judges from position %d on; the run stood still for %s", o.Name, o.Plugin.Module.Manifest, o.Plugin.Module.Digest, at+1, pause)
	r.unload(was.Module)
	return nil
}

// running is the plugin that an operator has.
func (r *reloader) running(name string) *engine.Plugin {
	for i := range r.conf.Spec.Operators {
		if o := &r.conf.Spec.Operators[i]; o.Name == name {
			return o.Plugin
		}
	}
	return nil
}

// unload frees a module that no operator has.
func (r *reloader) unload(m *wasm.Module) {
	for i := range r.conf.Spec.Operators {
		if p := r.conf.Spec.Operators[i].Plugin; p != nil && p.Module == m {
			return
		}
	}
	_ = m.Close()
}

func (r *reloader) refused(op, plugin string, digest []byte, why error) {
	r.log.Warnf("operator %s: the plugin stays as it was: %v", op, why)
	r.refuse(op, plugin, "sha256:"+hex.EncodeToString(digest), why)
}

// problems says what is wrong with a pipeline that was read again, and of each the plugin that it is about.
func (r *reloader) problems(node *yaml.Node, problems []match.Problem) {
	why := map[string]string{} // of plugins
	for _, p := range problems {
		text := p.Text
		if r.conf.file != "" {
			text = fmt.Sprintf("%s:%d:%d: %s", r.conf.file, p.Line, p.Column, p.Text)
		}
		op := operatorAt(node, p.Line)
		if r.running(op) == nil {
			r.log.Warnf("plugins stay as they were: %s", text)
			continue
		}
		if why[op] != "" {
			text = why[op] + "; " + text
		}
		why[op] = text
	}
	for _, op := range slices.Sorted(maps.Keys(why)) {
		code, _ := readModule(modulePath(node, op))
		digest := sha256.Sum256(code)
		r.refused(op, r.running(op).Module.Manifest.String(), digest[:], errors.New(why[op]))
	}
}

// operatorAt is the operator that a line belongs to.
func operatorAt(detect *yaml.Node, line int) string {
	ops := peek(detect, "operators")
	for i := 0; ops != nil && i+1 < len(ops.Content); i += 2 {
		if line >= ops.Content[i].Line && line <= lastLine(ops.Content[i+1]) {
			return ops.Content[i].Value
		}
	}
	return ""
}

// pluginBodies are what a buffer says of each of its plugins, as text.
func pluginBodies(detect *yaml.Node) map[string]string {
	out := map[string]string{}
	ops := peek(detect, "operators")
	for i := 0; ops != nil && i+1 < len(ops.Content); i += 2 {
		if n := peek(ops.Content[i+1], "plugin"); n != nil {
			out[ops.Content[i].Value] = textOf(n)
		}
	}
	return out
}

// restOf is what a buffer says of everything else.
func restOf(detect *yaml.Node) string {
	var without func(n *yaml.Node, depth int) *yaml.Node
	without = func(n *yaml.Node, depth int) *yaml.Node {
		n = resolve(n)
		out := *n
		out.Content = nil
		for i, x := range n.Content {
			if depth == 2 && n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "plugin" {
				x = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
			} else if i%2 == 1 || n.Kind != yaml.MappingNode {
				x = without(x, depth+1)
			}
			out.Content = append(out.Content, x)
		}
		return &out
	}
	return textOf(without(detect, 0))
}

// textOf is a node as YAML, however it was written.
func textOf(n *yaml.Node) string {
	var v any
	if n.Decode(&v) != nil {
		return ""
	}
	b, _ := yaml.Marshal(v)
	return string(b)
}

// decodeAgain decodes a buffer beside one that runs: fields keep their numbers, and modules and tables that are there already are used.
func decodeAgain(n *yaml.Node, running *Config) (c *Config, modules []*wasm.Module, problems []match.Problem) {
	d := newDecoder()
	d.conf.Spec.Fields = running.Spec.Fields.Clone()
	d.running = running
	d.detect(n)
	for _, o := range d.ops {
		if p := o.op.Plugin; p != nil && p.Module != nil {
			modules = append(modules, p.Module)
		}
	}
	return d.conf, modules, d.sorted()
}

// loaded is a module that a running buffer has, under the same limits; nil if there is none.
func (c *Config) loaded(digest [32]byte, ceiling wasm.Limits) *wasm.Module {
	if c == nil {
		return nil
	}
	for i := range c.Spec.Operators {
		if p := c.Spec.Operators[i].Plugin; p != nil && p.Module.Digest == digest && p.Module.Within(ceiling) {
			return p.Module
		}
	}
	return nil
}

// table is the source of a table that a running buffer has; nil if there is none.
func (c *Config) table(name string) *table.Source {
	if c == nil {
		return nil
	}
	for _, t := range c.Tables {
		if t.Name == name {
			return t
		}
	}
	return nil
}
