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
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/table"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// pluginPlace is where a plugin is: in an operator, or in an aggregate of one.
type pluginPlace struct{ operator, aggregate string }

func (p pluginPlace) String() string {
	if p.aggregate == "" {
		return p.operator
	}
	return p.operator + "." + p.aggregate
}

func (p pluginPlace) compare(q pluginPlace) int { return strings.Compare(p.String(), q.String()) }

// of is where the engine has it, and what it is there; nil if it is not.
func (p pluginPlace) of(spec *engine.Spec) (op *engine.Operator, place int, plugin *engine.Plugin) {
	i := slices.IndexFunc(spec.Operators, func(o engine.Operator) bool { return o.Name == p.operator })
	if i < 0 {
		return nil, 0, nil
	}
	op = &spec.Operators[i]
	if p.aggregate == "" {
		return op, engine.Own, op.Plugin
	}
	if op.Window == nil {
		return op, 0, nil
	}
	place = slices.IndexFunc(op.Window.Aggregates, func(a operator.Aggregate) bool { return spec.Fields.Path(a.Name) == p.aggregate })
	if place < 0 {
		return op, 0, nil
	}
	return op, place, op.PluginAt(place)
}

// node is its body in a buffer, nil if it is not there.
func (p pluginPlace) node(detect *yaml.Node) *yaml.Node {
	path := []string{"operators", p.operator, "plugin"}
	if p.aggregate != "" {
		path = []string{"operators", p.operator, "window", "aggregate", p.aggregate}
	}
	for _, key := range path {
		if detect = peek(detect, key); detect == nil {
			return nil
		}
	}
	return detect
}

// pluginFile is a plugin whose module comes from a file.
type pluginFile struct {
	pluginPlace
	every time.Duration // how often to see whether the file has changed; 0: on SIGHUP alone
}

// replacesWithin is how long a run may take until it comes to an end of a block.
const replacesWithin = 5 * time.Minute

// reloader replaces plugins of a run whose module has changed, or what the pipeline's file says of them. The buffer is decoded anew over a
// copy of the fields, so that everything is checked as at the start, and fields have the same numbers.
type reloader struct {
	conf    *Config // as it runs: plugins in its Spec are those of the graph
	log     *service.Logger
	replace func(ctx context.Context, next *engine.Operator, place int) (int64, time.Duration, error)
	refuse  func(op string, place int, plugin, digest string, why error)

	mu     sync.Mutex
	node   *yaml.Node             // that was adopted last
	bodies map[pluginPlace]string // of each plugin
	rest   string                 // what is not said of plugins
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
	tried := r.asRead(f.pluginPlace)
	was := tried
	for {
		select {
		case <-tick.C:
		case <-over:
			return
		}
		node, path := r.adopted(f.pluginPlace)
		is, err := os.Stat(path)
		if err == nil && !sameFile(is, tried) && sameFile(is, was) {
			tried = is
			r.again(node)
		}
		was = is
	}
}

// asRead is the file of a plugin's module if it is the one that runs, nil if it has changed since it was read.
func (r *reloader) asRead(at pluginPlace) os.FileInfo {
	_, path := r.adopted(at)
	is, _ := os.Stat(path)
	code, err := readModule(path)
	r.mu.Lock()
	p := r.running(at)
	r.mu.Unlock()
	if err != nil || p == nil || sha256.Sum256(code) != p.Module.Digest {
		return nil
	}
	return is
}

// adopted is what was adopted last, and the path of a plugin's module in it.
func (r *reloader) adopted(at pluginPlace) (node *yaml.Node, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.node, modulePath(r.node, at)
}

// modulePath is the file of a plugin's module.
func modulePath(detect *yaml.Node, at pluginPlace) string {
	key := "module"
	if at.aggregate != "" {
		key = "plugin"
	}
	if n := at.node(detect); n != nil {
		if n = peek(n, key); n != nil {
			return n.Value
		}
	}
	return ""
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
	for _, at := range slices.SortedFunc(maps.Keys(bodies), pluginPlace.compare) {
		body := bodies[at]
		o, place, is := at.of(next.Spec)
		was := r.running(at)
		if o == nil || is == nil || was != nil && was.Module == is.Module && bytes.Equal(was.Config, is.Config) && body == r.bodies[at] {
			continue
		}
		if err := r.swap(next.Spec, o, place, was); err != nil {
			r.refused(at, is.Module.Manifest.String(), is.Module.Digest[:], err)
			r.unload(is.Module)
			continue
		}
		r.bodies[at] = body
	}
	r.node = node
}

// swap puts the plugin at a place of an operator of next in the place of the one that runs.
func (r *reloader) swap(next *engine.Spec, o *engine.Operator, place int, was *engine.Plugin) error {
	is := o.PluginAt(place)
	if was == nil {
		return errors.New("no plugin of that name runs; a restart takes it")
	}
	i := slices.IndexFunc(next.Operators, func(x engine.Operator) bool { return x.Name == o.Name })
	if err := r.conf.Spec.Admits(next, i, place); err != nil {
		return err
	}
	is.Log = was.Log
	for k, t := range is.Tables { // that run, and are read again
		if i := slices.IndexFunc(r.conf.Tables, func(x *table.Source) bool { return t != nil && x.Name == t.Name }); i >= 0 {
			is.Tables[k] = r.conf.Tables[i]
		}
	}
	ctx, done := context.WithTimeout(context.Background(), replacesWithin)
	defer done()
	at, pause, err := r.replace(ctx, o, place)
	if err != nil {
		return err
	}
	r.log.Infof("operator %s: the plugin %s (sha256:%x) judges from position %d on; the run stood still for %s", is.Ident.Operator, is.Module.Manifest, is.Module.Digest, at+1, pause)
	r.unload(was.Module)
	return nil
}

// running is the plugin that is at a place.
func (r *reloader) running(at pluginPlace) *engine.Plugin {
	_, _, p := at.of(r.conf.Spec)
	return p
}

// unload frees a module that no operator has.
func (r *reloader) unload(m *wasm.Module) {
	for i := range r.conf.Spec.Operators {
		if slices.ContainsFunc(r.conf.Spec.Operators[i].Plugins(), func(p *engine.Plugin) bool { return p.Module == m }) {
			return
		}
	}
	_ = m.Close()
}

func (r *reloader) refused(at pluginPlace, plugin string, digest []byte, why error) {
	r.log.Warnf("operator %s: the plugin stays as it was: %v", at, why)
	_, place, _ := at.of(r.conf.Spec)
	r.refuse(at.operator, place, plugin, "sha256:"+hex.EncodeToString(digest), why)
}

// problems says what is wrong with a pipeline that was read again, and of each the plugin that it is about.
func (r *reloader) problems(node *yaml.Node, problems []match.Problem) {
	why := map[pluginPlace]string{} // of plugins
	for _, p := range problems {
		text := p.Text
		if r.conf.file != "" {
			text = fmt.Sprintf("%s:%d:%d: %s", r.conf.file, p.Line, p.Column, p.Text)
		}
		at := pluginAt(node, p.Line)
		if r.running(at) == nil {
			r.log.Warnf("plugins stay as they were: %s", text)
			continue
		}
		if why[at] != "" {
			text = why[at] + "; " + text
		}
		why[at] = text
	}
	for _, at := range slices.SortedFunc(maps.Keys(why), pluginPlace.compare) {
		code, _ := readModule(modulePath(node, at))
		digest := sha256.Sum256(code)
		r.refused(at, r.running(at).Module.Manifest.String(), digest[:], errors.New(why[at]))
	}
}

// pluginAt is the plugin that a line belongs to: of its operator, or of an aggregate.
func pluginAt(detect *yaml.Node, line int) (at pluginPlace) {
	ops := peek(detect, "operators")
	for i := 0; ops != nil && i+1 < len(ops.Content); i += 2 {
		if line >= ops.Content[i].Line && line <= lastLine(ops.Content[i+1]) {
			at.operator = ops.Content[i].Value
			for _, x := range aggregatesOf(ops.Content[i+1]) {
				if line >= x.key.Line && line <= lastLine(x.value) {
					at.aggregate = x.key.Value
				}
			}
		}
	}
	return at
}

// aggregatesOf are the aggregates in an operator's body that are plugins.
func aggregatesOf(body *yaml.Node) (all []entry) {
	n := peek(body, "window")
	if n != nil {
		n = peek(n, "aggregate")
	}
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		if peek(n.Content[i+1], "plugin") != nil {
			all = append(all, entry{key: n.Content[i], value: n.Content[i+1]})
		}
	}
	return all
}

// pluginBodies are what a buffer says of each of its plugins, as text.
func pluginBodies(detect *yaml.Node) map[pluginPlace]string {
	out := map[pluginPlace]string{}
	ops := peek(detect, "operators")
	for i := 0; ops != nil && i+1 < len(ops.Content); i += 2 {
		name := ops.Content[i].Value
		if n := peek(ops.Content[i+1], "plugin"); n != nil {
			out[pluginPlace{name, ""}] = textOf(n)
		}
		for _, x := range aggregatesOf(ops.Content[i+1]) {
			out[pluginPlace{name, x.key.Value}] = textOf(x.value)
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
			} else if depth == 4 && i%2 == 1 && peek(x, "plugin") != nil { // an aggregate
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
		for _, p := range o.op.Plugins() {
			if p.Module != nil {
				modules = append(modules, p.Module)
			}
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
		for _, p := range c.Spec.Operators[i].Plugins() {
			if p.Module.Digest == digest && p.Module.Within(ceiling) {
				return p.Module
			}
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
