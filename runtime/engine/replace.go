package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// The module of a plugin, and what the pipeline says of it, can be replaced while it runs: between two blocks, so that every row is judged
// by one or the other and none by both. All that takes time happens beside the run: the new instances are made, and the index over the
// conditions of all readers, before; the old ones are closed after.

// Own is the place of an operator's own plugin, where those of a window have the places of their aggregates.
const Own = -1

// PluginAt is the plugin of the operator at a place, nil if there is none.
func (o *Operator) PluginAt(place int) *Plugin {
	switch {
	case place == Own:
		return o.Plugin
	case o.Window == nil || place >= len(o.Window.Aggregates):
		return nil
	}
	if x, ok := o.Window.Aggregates[place].Provider.(*Aggregator); ok {
		return x.Plugin
	}
	return nil
}

// swaps counts how often a plugin was replaced, and how often that could not be.
type swaps struct {
	done, refused int64
	last          string // that could not be, and why
}

// swap is those of a place.
func (n *node) swap(place int) *swaps {
	if n.swaps[place] == nil {
		if n.swaps == nil {
			n.swaps = map[int]*swaps{}
		}
		n.swaps[place] = &swaps{}
	}
	return n.swaps[place]
}

// replacement is a plugin that is ready to take the place of the one that an operator, or an aggregate of it, has.
type replacement struct {
	op      int
	place   int // Own, or an aggregate
	spec    *Plugin
	where   *match.Condition
	plugins []*wasm.Plugin // one a shard, started
	batches []*event.Batch
	indices map[int]indexed // of its sources
	done    chan swapped
}

// indexed is a new index and the readers that go by it.
type indexed struct {
	ix     *index
	picked []reader
	all    []reader
}

// swapped is how a replacement went: where it began to judge, and how long the run stood still for it.
type swapped struct {
	position int64
	pause    time.Duration
	old      []*wasm.Plugin
}

// errState is why a plugin that keeps something does not become one that keeps something else.
var errState = errors.New("the old one keeps a state that the new one does not read (state.version); on_incompatible_state: reset in the operator drops it, at a restart")

// errStates is the same of an aggregate.
var errStates = errors.New("its states would be others (aggregate.version, state_size, config, fields or conditions); on_incompatible_state: reset in the operator drops them, at a restart")

// Replace lets a plugin take the place of the one that the operator has, from the next block on, and returns the position after which it
// judges. next is the operator as it will be; it may differ in the plugin at that place (Own, or an aggregate) and Where alone. If it cannot be
// started, or does not fit, the old one stays. One at a time; the old module may be closed afterwards.
func (r *Runner) Replace(ctx context.Context, next *Operator, place int) (at int64, pause time.Duration, err error) {
	r.replacing.Lock()
	defer r.replacing.Unlock()
	x, err := r.graph.replacement(next, place)
	if err != nil {
		return 0, 0, err
	}
	give := func() {
		for _, p := range x.plugins {
			p.Close()
		}
	}
	select {
	case r.replaces <- x:
	case <-r.done:
		give()
		return 0, 0, errors.New("the run has ended")
	case <-ctx.Done():
		give()
		return 0, 0, ErrNoReport
	}
	signal(r.wake)
	select {
	case was := <-x.done:
		for _, p := range was.old {
			p.Close()
		}
		return was.position, was.pause, nil
	case <-r.done: // the graph has closed what it had
		select {
		case <-r.replaces:
			give()
		default:
		}
		return 0, 0, errors.New("the run has ended")
	}
}

// replacement makes ready what can be made beside the run. It reads of the graph only what a replacement alone changes.
func (g *Graph) replacement(next *Operator, place int) (*replacement, error) {
	i := slices.IndexFunc(g.ops, func(n *node) bool { return n.spec.Name == next.Name })
	if i < 0 || g.ops[i].spec.PluginAt(place) == nil || next.PluginAt(place) == nil {
		return nil, fmt.Errorf("there is no plugin %s in this run", next.Name)
	}
	n := g.ops[i]
	if err := n.fits(next, place); err != nil {
		return nil, err
	}
	x := &replacement{op: i, place: place, spec: next.PluginAt(place), where: next.Where, done: make(chan swapped, 1), indices: map[int]indexed{}}
	for range n.shards {
		p := x.spec.start()
		x.plugins, x.batches = append(x.plugins, p), append(x.batches, event.NewBatch(g.spec.Fields, next.columns()))
		if err := p.Start(); err != nil {
			for _, p := range x.plugins {
				p.Close()
			}
			return nil, fmt.Errorf("it does not start: %w", err)
		}
	}
	if place != Own {
		return x, nil
	}
	changed := *n.spec
	changed.Plugin, changed.Where = next.Plugin, next.Where
	readers := g.readers()
	for _, from := range n.spec.Inputs {
		x.indices[from] = newIndex(readers[from], indexFrom, len(n.shards), func(r reader) *match.Condition {
			if r.node == n {
				return changed.wants(r.input)
			}
			return r.node.spec.wants(r.input)
		})
	}
	return x, nil
}

// fits says why an operator cannot become another while it runs.
func (n *node) fits(next *Operator, place int) error {
	was := n.spec
	plugin, will := was.PluginAt(place), next.PluginAt(place)
	switch {
	case !slices.Equal(was.Inputs, next.Inputs):
		return errors.New("it has other sources; a restart takes them")
	case !slices.EqualFunc(was.Names, next.Names, func(a, b alert.Column) bool { return a.Name == b.Name && a.Field == b.Field }):
		return errors.New("its rows would have other columns; a restart takes them")
	case !slices.Equal(plugin.Module.Manifest.Roles, will.Module.Manifest.Roles):
		return errors.New("it has another role; a restart takes it")
	case plugin.MaxKeys != will.MaxKeys:
		return errors.New("it has another max_keys; a restart takes it")
	case place != Own && was.Fingerprint != next.Fingerprint:
		return errStates
	case was.Fingerprint != next.Fingerprint:
		return errState
	}
	return nil
}

// replace is called by the loop, between two blocks.
func (r *Runner) replace() {
	select {
	case x := <-r.replaces:
		x.done <- r.graph.replace(x)
	default:
	}
}

func (g *Graph) replace(x *replacement) (was swapped) {
	began := clock()
	n := g.ops[x.op]
	n.swap(x.place).done++
	if x.place != Own {
		n.spec.Window.Aggregates[x.place].Provider.(*Aggregator).Plugin = x.spec
		for i, k := range n.aggregated()[x.place] {
			was.old = append(was.old, k.replace(x.plugins[i]))
			functionsOf(n.shards[i]).Renew(x.place)
		}
		was.position, was.pause = g.p, clock()-began
		return was
	}
	n.spec.Plugin, n.spec.Where = x.spec, x.where
	n.admits = n.spec.admits()
	if n.keyer != nil {
		n.keyer = wasm.NewKeyer(x.spec.Module.Manifest, x.spec.Fields)
	}
	n.off, n.budget = false, newBudget(x.spec)
	for i, s := range n.shards {
		k := callerOf(s)
		was.old = append(was.old, k.plugin)
		k.past.Add(&k.plugin.Counts)
		k.take(x.spec, x.plugins[i])
		k.out, k.trip = x.batches[i], nil
		if m, ok := s.(*remembering); ok {
			m.logic.layout = &x.spec.Module.Manifest.State
			k.plugin.Remember(m)
		}
	}
	g.used = g.used[:0]
	for _, n := range g.ops {
		for _, s := range n.shards {
			g.uses(s)
		}
	}
	if n.budget != nil {
		n.budget.total = n.took()
	}
	for from, ix := range x.indices {
		g.useIndex(from, ix)
	}
	was.position, was.pause = g.p, clock()-began
	return was
}

// took is the time of all calls of an operator's plugins.
func (n *node) took() (total time.Duration) {
	for _, s := range n.shards {
		k := callerOf(s)
		total += k.past.Time + k.plugin.Counts.Time
	}
	return total
}

// Refuse notes that a plugin could not be replaced, and has an alert say so among the rows. The same
// module, by its digest, refused for the same reason again is counted only.
func (r *Runner) Refuse(op string, place int, plugin, digest string, why error) {
	r.mu.Lock()
	r.refused = append(r.refused, refusal{op, place, plugin, digest, why})
	r.mu.Unlock()
	signal(r.wake)
}

// refusal is a replacement that was refused.
type refusal struct {
	op             string
	place          int
	plugin, digest string
	why            error
}

// refusals makes alerts of what was refused.
func (r *Runner) refusals() {
	r.mu.Lock()
	list := r.refused
	r.refused = nil
	r.mu.Unlock()
	for _, x := range list {
		i := slices.IndexFunc(r.graph.ops, func(n *node) bool { return n.spec.Name == x.op })
		if i < 0 {
			continue
		}
		n := r.graph.ops[i]
		s := n.swap(x.place)
		s.refused++
		what := x.digest + " " + x.why.Error()
		if what == s.last { // as before
			continue
		}
		s.last = what
		id := []byte(what)
		if x.place != Own { // two aggregates may have one module
			id = append(id, " "+n.spec.pluginName(x.place)...)
		}
		ts := n.stored
		if ts == operator.NegInf {
			ts = r.opt.Now().UnixMilli()
		}
		r.outs = append(r.outs, r.graph.notice(healthReload, "A plugin could not be replaced", x.op, r.graph.p, ts, fmt.Sprintf("Plugin %s of operator %s could not be replaced", x.plugin, n.spec.pluginName(x.place)),
			"The one that ran before goes on.", []string{x.plugin, x.digest, "reload", x.why.Error()}, id))
		r.moved++
	}
}

// pluginName is what the plugin at a place is called: as its operator, or as the aggregate in it.
func (o *Operator) pluginName(place int) string {
	if p := o.PluginAt(place); place != Own && p != nil {
		return p.Ident.Operator
	}
	return o.Name
}

// Admits says why the plugin at a place of operator i of next, which was compiled over a copy of this pipeline's fields, cannot take the place of the
// one that runs: what it reads must be projected already, and nobody else may change with it.
func (s *Spec) Admits(next *Spec, i, place int) error {
	if s.Name != next.Name {
		return errors.New("the pipeline has another name, and with it all results other ids; a restart takes it")
	}
	o := &next.Operators[i]
	if was, is := s.operator(o.Name), o.Plugin; place != Own {
	} else if was != nil && was.Plugin.role() != is.role() {
		return fmt.Errorf("its module has the role %s, and had %s; a restart takes it", is.role(), was.Plugin.role())
	} else if was != nil && is.maps() && !slices.Equal(was.Plugin.Columns, is.Columns) {
		return errors.New("its module writes other columns; a restart takes them")
	}
	for _, f := range o.touches(place) {
		if int(f) >= s.Fields.Len() {
			return fmt.Errorf("it reads %s, which nothing in this run reads; a restart takes it", next.Fields.Path(f))
		}
	}
	for k := range next.Streams {
		if k >= len(s.Streams) || next.Streams[k].Name != s.Streams[k].Name {
			return errors.New("the pipeline has other streams; a restart takes them")
		}
		for _, f := range next.Streams[k].Reads {
			if !slices.Contains(s.Streams[k].Reads, f) {
				return fmt.Errorf("it reads %s of %s, which nothing in this run reads; a restart takes it", next.Fields.Path(f), s.Streams[k].Name)
			}
		}
	}
	if len(next.Operators) != len(s.Operators) {
		return errors.New("the pipeline has other operators, or alerts that are held back otherwise; a restart takes them")
	}
	for k := range next.Operators {
		is := &next.Operators[k]
		j := slices.IndexFunc(s.Operators, func(x Operator) bool { return x.Name == is.Name })
		if j != k {
			return errors.New("the pipeline has other operators; a restart takes them")
		}
		switch was := &s.Operators[j]; {
		case k == i:
		case !slices.Equal(was.columns(), is.columns()):
			return fmt.Errorf("operator %s would have other columns; a restart takes them", is.Name)
		case is.Suppress != nil && !reflect.DeepEqual(was.Suppress, is.Suppress) && slices.Equal(is.Inputs, []int{len(next.Streams) + i}):
			return errors.New("its alerts would be held back otherwise (suppress, group); a restart takes that")
		}
	}
	return nil
}

// operator is the one of a name, nil if there is none.
func (s *Spec) operator(name string) *Operator {
	for i := range s.Operators {
		if s.Operators[i].Name == name {
			return &s.Operators[i]
		}
	}
	return nil
}

// touches are the fields that the plugin at a place reads or makes.
func (o *Operator) touches(place int) []event.Field {
	p := o.PluginAt(place)
	all := slices.Concat(p.Fields, p.Columns, p.When.Fields(), o.Where.Fields())
	for _, r := range p.Rules {
		all = append(all, r.Except.Fields()...)
	}
	return all
}
