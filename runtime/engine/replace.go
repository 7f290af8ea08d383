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

// replacement is a plugin that is ready to take the place of the one that an operator has.
type replacement struct {
	op      int
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

// Replace lets a plugin take the place of the one that the operator has, from the next block on, and returns the position after which it
// judges. next is the operator as it will be; it may differ in Plugin and Where alone. If it cannot be started, or does not
// fit, the old one stays. One at a time; the old module may be closed afterwards.
func (r *Runner) Replace(ctx context.Context, next *Operator) (at int64, pause time.Duration, err error) {
	r.replacing.Lock()
	defer r.replacing.Unlock()
	x, err := r.graph.replacement(next)
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
func (g *Graph) replacement(next *Operator) (*replacement, error) {
	i := slices.IndexFunc(g.ops, func(n *node) bool { return n.spec.Name == next.Name })
	if i < 0 || g.ops[i].spec.Plugin == nil || next.Plugin == nil {
		return nil, fmt.Errorf("there is no plugin %s in this run", next.Name)
	}
	n := g.ops[i]
	if err := n.fits(next); err != nil {
		return nil, err
	}
	x := &replacement{op: i, spec: next.Plugin, where: next.Where, done: make(chan swapped, 1), indices: map[int]indexed{}}
	for range n.shards {
		p := next.Plugin.start()
		x.plugins, x.batches = append(x.plugins, p), append(x.batches, event.NewBatch(g.spec.Fields, next.columns()))
		if err := p.Start(); err != nil {
			for _, p := range x.plugins {
				p.Close()
			}
			return nil, fmt.Errorf("it does not start: %w", err)
		}
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
func (n *node) fits(next *Operator) error {
	was := n.spec
	switch {
	case !slices.Equal(was.Inputs, next.Inputs):
		return errors.New("it has other sources; a restart takes them")
	case !slices.EqualFunc(was.Names, next.Names, func(a, b alert.Column) bool { return a.Name == b.Name && a.Field == b.Field }):
		return errors.New("its rows would have other columns; a restart takes them")
	case !slices.Equal(was.Plugin.Module.Manifest.Roles, next.Plugin.Module.Manifest.Roles):
		return errors.New("it has another role; a restart takes it")
	case was.Plugin.MaxKeys != next.Plugin.MaxKeys:
		return errors.New("it has another max_keys; a restart takes it")
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
	n.spec.Plugin, n.spec.Where = x.spec, x.where
	n.admits = n.spec.admits()
	if n.keyer != nil {
		n.keyer = wasm.NewKeyer(x.spec.Module.Manifest, x.spec.Fields)
	}
	n.off, n.budget, n.generation = false, newBudget(x.spec), n.generation+1
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
func (r *Runner) Refuse(op, plugin, digest string, why error) {
	r.mu.Lock()
	r.refused = append(r.refused, refusal{op, plugin, digest, why})
	r.mu.Unlock()
	signal(r.wake)
}

// refusal is a replacement that was refused.
type refusal struct {
	op, plugin, digest string
	why                error
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
		n.refused++
		what := x.digest + " " + x.why.Error()
		if what == n.lastRefused { // as before
			continue
		}
		n.lastRefused = what
		ts := n.stored
		if ts == operator.NegInf {
			ts = r.opt.Now().UnixMilli()
		}
		r.outs = append(r.outs, r.graph.notice(healthReload, "A plugin could not be replaced", x.op, r.graph.p, ts, fmt.Sprintf("Plugin %s of operator %s could not be replaced", x.plugin, x.op),
			"The one that ran before goes on.", []string{x.plugin, x.digest, "reload", x.why.Error()}, []byte(what)))
		r.moved++
	}
}

// Admits says why the plugin of operator i of next, which was compiled over a copy of this pipeline's fields, cannot take the place of the
// one that runs: what it reads must be projected already, and nobody else may change with it.
func (s *Spec) Admits(next *Spec, i int) error {
	if s.Name != next.Name {
		return errors.New("the pipeline has another name, and with it all results other ids; a restart takes it")
	}
	o := &next.Operators[i]
	if was, is := s.operator(o.Name), o.Plugin; was != nil && was.Plugin.role() != is.role() {
		return fmt.Errorf("its module has the role %s, and had %s; a restart takes it", is.role(), was.Plugin.role())
	} else if was != nil && is.maps() && !slices.Equal(was.Plugin.Columns, is.Columns) {
		return errors.New("its module writes other columns; a restart takes them")
	}
	for _, f := range o.touches() {
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

// touches are the fields that an operator with a plugin reads or makes.
func (o *Operator) touches() []event.Field {
	p := o.Plugin
	all := slices.Concat(p.Fields, p.Columns, p.When.Fields(), o.Where.Fields())
	for _, r := range p.Rules {
		all = append(all, r.Except.Fields()...)
	}
	return all
}
