package engine

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Operators whose rows are those of their sources, in the terms of the reference.

func (o *refOp) passes() bool { return o.filter }

// randomPassing makes one operator in four one that passes rows on.
func randomPassing(r *rand.Rand, o refOp) refOp {
	if r.IntN(4) > 0 {
		return o
	}
	p := refOp{name: o.name, filter: true, inputs: o.inputs, key: []string{"v", "v", "n", "a", "s", "k"}[r.IntN(6)], having: r.Int64N(3)}
	return p
}

// compilePassing makes the engine's operator of it.
func compilePassing(t testing.TB, x *Operator, o refOp, f *event.Fields) {
	x.Filter = &Filter{Ident: operator.Ident{Pipeline: caseName, Operator: o.name, Form: "filter/1"}}
	x.Where = condition(t, fmt.Sprintf("{%s|gte: %d}", o.key, o.having), f)
}

// columnsShown are the columns of a result: of a row that was passed on any.
func columnsShown(spec *Spec, op int) (cols []event.Field) {
	if o := &spec.Operators[op]; o.Filter == nil {
		return o.columns()
	}
	for i := range spec.Fields.Len() {
		cols = append(cols, event.Field(i))
	}
	return cols
}

// admit is the filter: numbers, also those in texts, that reach the threshold.
func (n *refNode) admit(pipeline string, p int64, r refRow) []refRow {
	c := r.cells[n.key]
	f, err := strconv.ParseFloat(c.text, 64)
	if c.kind != event.Number && c.kind != event.String || err != nil || f < float64(n.having) {
		return nil
	}
	return []refRow{{p: p, ts: r.ts, cells: r.cells, id: event.Hash([]byte(pipeline), []byte(n.name), []byte("row"), []byte("filter/1"), r.id[:])}}
}
