package engine

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// Plugins that filter, map and aggregate, in the terms of the reference. The guests are those of abi/testdata/roles.

// refRoles is what a refOp says of them.
type refRoles struct {
	sifts bool // the filter is a plugin's
	maps  bool // a map: of key the length and the text, of v its double
	weigh int  // windows have a plugin's aggregate of v, and of which rows: one of these
}

const (
	weighNone = iota
	weighAll
	weighSome   // those with v of at least 0, natively
	weighPoison // all; the plugin fails on those below -1, which are error rows
)

var roleModules = sync.OnceValues(func() (all map[string]*wasm.Module, err error) {
	all = map[string]*wasm.Module{}
	if _, err := modules(); err != nil { // it makes the process's one host
		return nil, err
	}
	for _, name := range []string{"above", "length", "weighted"} {
		code, err := os.ReadFile("../../abi/testdata/roles/" + name + ".wasm")
		if err != nil {
			return nil, err
		}
		if all[name], err = moduleHost.Load(code, wasm.Options{}); err != nil {
			return nil, err
		}
	}
	return all, nil
})

// roleModule is a guest of abi/testdata/roles.
func roleModule(t testing.TB, name string) *wasm.Module {
	all, err := roleModules()
	if err != nil {
		t.Fatal(err)
	}
	return all[name]
}

// randomRole makes some of the operators that pass rows on plugins, and gives some windows an aggregate of one.
func randomRole(r *rand.Rand, o *refOp) {
	switch {
	case o.filter && r.IntN(2) == 0:
		if o.sifts = r.IntN(2) == 0; !o.sifts {
			o.filter, o.maps = false, true
		}
	case !o.passes() && !o.join && !o.judge && o.table == nil && o.seq == nil && r.IntN(2) == 0:
		o.weigh = 1 + r.IntN(3)
		if o.weigh == weighPoison && o.first {
			o.weigh = weighAll // a row would fail once a window, and open the breaker
		}
	}
}

// compileRole makes the engine's operator of a plugin that filters or maps.
func compileRole(t testing.TB, x *Operator, o refOp, f *event.Fields) {
	p := &Plugin{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: "map/1"}, Config: []byte("{}"), Fields: []event.Field{f.Add(o.key), f.Add("v")}}
	x.Plugin = p
	if o.recall != nil {
		defer recalls(t, p, o, f)
	}
	if o.maps {
		p.Module, p.Whole, p.Written = roleModule(t, "length"), f.Add(event.Whole), []int{0, 1, 2}
		f.Add("said")
		return
	}
	p.Module, p.Ident.Form, p.Fields = roleModule(t, "above"), "filter/1", p.Fields[:1]
	p.Config = fmt.Appendf(nil, `{"least":%d}`, o.having-1)
}

// finishMaps names the columns of rows of maps, which are all there are, once they are known.
func finishMaps(spec *Spec) {
	own := []event.Field{spec.Fields.Add("a"), spec.Fields.Add("s"), spec.Fields.Add("said")}
	for i := range spec.Operators {
		if p := spec.Operators[i].Plugin; p.maps() {
			for f := range event.Field(spec.Fields.Len()) {
				if !slices.Contains(own, f) {
					p.Columns = append(p.Columns, f)
				}
			}
			p.Columns = append(p.Columns, own...)
		}
	}
}

// weighs gives a window the plugin's aggregate.
func (o *refOp) weighs(t testing.TB, w *operator.Window, f *event.Fields) {
	if o.weigh == weighNone {
		return
	}
	a := operator.Aggregate{Name: f.Add("we"), Func: operator.Opaque}
	p := &Plugin{Ident: operator.Ident{Pipeline: caseName, Operator: o.name}, Module: roleModule(t, "weighted"), Config: []byte("{}"), Fields: []event.Field{f.Add("v")}}
	switch o.weigh {
	case weighSome:
		a.Where = condition(t, "{v|gte: 0}", f)
	case weighPoison:
		p.Config = []byte(`{"least":-1}`)
	}
	a.Provider = &Aggregator{Plugin: p}
	w.Aggregates = append(w.Aggregates, a)
}

// freshRoles lets plugins of a case have a fresh instance a call, or not: it says the same.
func freshRoles(r *rand.Rand, spec *Spec) {
	for i := range spec.Operators {
		for _, p := range spec.Operators[i].Plugins() {
			p.Fresh = r.IntN(3) == 0
		}
	}
}

// mapping is the map: the row, and besides in a the length of key in bytes, in s the double of v, and in said key after its length.
func (n *refNode) mapping(pipeline string, p int64, r refRow) []refRow {
	out := n.written(pipeline, p, r)
	if n.unseen(r) {
		return []refRow{out}
	}
	if c := r.cells[n.key]; c.kind != event.Absent && c.kind != event.Null {
		out.cells["a"] = refCell{event.Number, strconv.Itoa(len(c.text))}
		out.cells["said"] = refCell{event.String, fmt.Sprintf("%d:%s", len(c.text), c.text)}
	}
	if v, err := strconv.Atoi(r.cells["v"].text); err == nil {
		out.cells["s"] = refCell{event.Number, strconv.Itoa(2 * v)}
	}
	return []refRow{out}
}

// written is a row of a map with nothing in its columns.
func (n *refNode) written(pipeline string, p int64, r refRow) refRow {
	null := refCell{event.Null, ""}
	out := refRow{p: p, ts: r.ts, cells: map[string]refCell{}, id: event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("map/1"), r.id[:])}
	for name, c := range r.cells {
		out.cells[name] = c
	}
	out.cells["a"], out.cells["s"], out.cells["said"] = null, null, null
	return out
}

// unseen says whether a row comes to a map that does not want to see it.
func (n *refOp) unseen(r refRow) bool {
	return n.maps && n.only != nil && n.only.inside && !n.only.takes(r)
}

// fails says whether a plugin's aggregate fails on a row that a window took.
func (n *refOp) fails(r refRow) bool {
	v, err := strconv.Atoi(r.cells["v"].text)
	return n.weigh == weighPoison && err == nil && v < -1
}

// weighed is what the plugin's aggregate says of rows in this order: of values v1 ... vn, in thousands, the sum of i * vi, and the
// last one. Rows without a value have a place all the same.
func (n *refNode) weighed(rows []refTaken) refCell {
	place, values, sum, last := 0, 0, 0, 0
	for _, t := range rows {
		v, err := strconv.Atoi(t.cells["v"].text)
		if n.fails(t.refRow) || n.weigh == weighSome && (err != nil || v < 0) {
			continue
		}
		if place++; err == nil {
			values, sum, last = values+1, sum+place*v, v
		}
	}
	if values == 0 {
		return refCell{event.Null, ""}
	}
	return refCell{event.Number, strconv.Itoa(1000*sum + last)}
}

// weighedOrder is the order in which a window's aggregates see its rows: as they arrive, but slices that windows share come one
// after the other, and sessions that became one as they began.
func (n *refNode) weighedOrder(o *refOpen) []refTaken {
	rows := slices.Clone(o.rows)
	switch {
	case n.kind == operator.Session:
		slices.SortStableFunc(rows, func(a, b refTaken) int {
			return cmp.Compare(slices.Index(o.order, a.arrival), slices.Index(o.order, b.arrival))
		})
	case (n.kind == operator.Hopping || n.kind == operator.Cumulate) && !n.first:
		slice := int64(0)
		for k := int64(1); k <= n.size; k++ { // the longest stretch that both are made of
			if n.size%k == 0 && n.slide%k == 0 {
				slice = k
			}
		}
		of := func(ts int64) int64 {
			at := (ts - n.offset) % slice
			return ts - (at+slice)%slice
		}
		slices.SortStableFunc(rows, func(a, b refTaken) int { return cmp.Compare(of(a.ts), of(b.ts)) })
	}
	return rows
}

// ordered notes in which order the session that has just got a row has its rows: those of the sessions that it is made of, by their
// start, and then that one.
func (n *refNode) ordered(mine *refOpen, before []*refOpen, t refTaken) {
	mine.order = nil
	before = slices.Clone(before)
	slices.SortStableFunc(before, func(a, b *refOpen) int { return cmp.Compare(a.start, b.start) })
	for _, was := range before {
		if was != mine && slices.ContainsFunc(mine.rows, func(x refTaken) bool { return x.arrival == was.rows[0].arrival }) {
			mine.order = append(mine.order, was.order...)
		}
	}
	mine.order = append(mine.order, t.arrival)
}
