package engine

import (
	"fmt"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// Aggregator is a plugin as an aggregate function of a window: of Plugin it is the parts that every role has.
type Aggregator struct{ *Plugin }

// Plugins are those of an operator: its own, or of a window's aggregates.
func (o *Operator) Plugins() (all []*Plugin) {
	if o.Plugin != nil {
		all = append(all, o.Plugin)
	}
	if o.Window != nil {
		for _, a := range o.Window.Aggregates {
			if x, ok := a.Provider.(*Aggregator); ok {
				all = append(all, x.Plugin)
			}
		}
	}
	return all
}

// Fields implements operator.Provider.
func (a *Aggregator) Fields() []event.Field { return a.Plugin.Fields }

// StateSize implements operator.Provider.
func (a *Aggregator) StateSize() int { return a.Module.Manifest.Aggregate.StateSize }

// Open implements operator.Provider. The first instance comes with the first call.
func (a *Aggregator) Open() operator.Function {
	return &aggregator{spec: a, plugin: a.start()}
}

// aggregator is an Aggregator at work.
type aggregator struct {
	spec     *Aggregator
	plugin   *wasm.Plugin
	why      error // the breaker was open last
	openings int64
	past     wasm.Counts // of plugins that this one took the place of
	rows     []wasm.Row
	off      error       // why the breaker is open, if rows or states came meanwhile
	trip     *trip       // the first of them since it opened; of a state at no position
	newest   int64       // the latest time of a row
	before   wasm.Counts // as of the last block
}

// unplaced is the position of a state that was not merged or finished: it is asked for at the end of a block.
const unplaced = -1

// failure turns a call's fault into what an error row says.
func (k *aggregator) failure(err error, off bool, p int64) operator.Failure {
	f := operator.Failure{Reason: "plugin_failed", Why: failureText(k.spec.Module, err)}
	if off {
		if k.off = err; k.why == nil && k.trip == nil {
			k.trip = &trip{p, k.newest, err}
		}
		if f.Reason = "plugin_off"; k.spec.OnFailure == FailureSkip {
			f.Reason = ""
		}
	}
	return f
}

// Update implements operator.Function.
func (k *aggregator) Update(states [][]byte, groups []uint32, rows []*operator.In, failed func(row int, f operator.Failure)) {
	k.rows = k.rows[:0]
	for _, in := range rows {
		k.rows = append(k.rows, wasm.Row{Batch: in.Batch, Row: in.Row, ID: in.Name.ID(), TS: in.TS, W: in.W})
		k.newest = max(k.newest, in.TS)
	}
	k.plugin.Update(states, groups, k.rows, func(row int, err error, off bool) { failed(row, k.failure(err, off, rows[row].P)) })
}

// Merge implements operator.Function.
func (k *aggregator) Merge(dst, src [][]byte, failed func(pair int, f operator.Failure)) {
	k.plugin.Merge(dst, src, func(pair int, err error, off bool) { failed(pair, k.failure(err, off, unplaced)) })
}

// Finish implements operator.Function.
func (k *aggregator) Finish(states [][]byte, value func(i int, v event.Value), failed func(i int, f operator.Failure)) {
	k.plugin.Finish(states, value, func(i int, err error, off bool) { failed(i, k.failure(err, off, unplaced)) })
}

// Settle implements operator.Function.
func (k *aggregator) Settle(c *operator.Counts) error {
	k.plugin.Settle()
	now, was := k.plugin.Counts, k.before
	c.Poisoned += now.Poisoned - was.Poisoned
	c.Unjudged += now.Unjudged - was.Unjudged
	c.Incomplete += now.Skipped - was.Skipped
	off := k.off
	k.before, k.off = now, nil
	if off != nil && k.why == nil {
		k.openings++
	}
	if off != nil || k.plugin.State() == wasm.Closed {
		k.why = off
	}
	if off != nil && k.spec.OnFailure == FailureStop {
		return fmt.Errorf("the plugin %s failed too often, last with %w; on_failure: alert or skip would go on without it", k.spec.Module.Manifest, off)
	}
	return nil
}

// replace lets another plugin work on the states, between two blocks, and returns the one that did.
func (k *aggregator) replace(p *wasm.Plugin) (was *wasm.Plugin) {
	was = k.plugin
	k.past.Add(&was.Counts)
	k.plugin, k.before, k.off, k.why, k.trip = p, wasm.Counts{}, nil, nil, nil
	return was
}

// functional is a window's logic: its functions by aggregate, nil of those that are the engine's own.
type functional interface {
	Functions() []operator.Function
	Renew(aggregate int)
}

// functionsOf is the logic of a window's shard, nil of others.
func functionsOf(s shard) functional {
	if x, ok := s.(interface{ functions() functional }); ok {
		return x.functions()
	}
	return nil
}

// aggregated are the plugins of a window's aggregates, by their places: of each those of all shards.
func (n *node) aggregated() map[int][]*aggregator {
	if !n.opaque {
		return nil
	}
	all := map[int][]*aggregator{}
	for _, s := range n.shards {
		for i, f := range functionsOf(s).Functions() {
			if k, ok := f.(*aggregator); ok {
				all[i] = append(all[i], k)
			}
		}
	}
	return all
}

// Close implements operator.Function.
func (k *aggregator) Close() { k.plugin.Close() }
