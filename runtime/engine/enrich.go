package engine

import (
	"slices"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/table"
)

// Enrich passes on every row once, in arrival order, late or not, with what a table knows of one of its fields. Rows without an
// entry lack the table's columns. It keeps nothing: a row sees the table as it is when the row is looked at.
type Enrich struct {
	Ident operator.Ident
	Table *table.Source
	On    event.Field

	// Columns of its rows: of the input rows, the event itself if it is one (Whole), then those of the table, From saying which.
	Columns []event.Field
	Whole   event.Field
	From    []int
}

// own are the columns of the table.
func (e *Enrich) own() []event.Field { return e.Columns[len(e.Columns)-len(e.From):] }

// enriched is an enrichment on its share of the rows.
type enriched struct {
	passing // until run has copied them, the rows are where they came
	spec    *Enrich
	table   *table.Table // for the block
	out     *event.Batch
	asks    []event.Value // a value a row
	find    table.Finder
	known   []event.Value // of the table's row
}

func (k *enriched) reset() {
	k.passing.reset()
	k.out.Reset()
}

func (k *enriched) run([]step, int64) error {
	passed, keyed := len(k.spec.Columns)-len(k.spec.From), slices.Contains(k.spec.From, 0)
	for some := range slices.Chunk(k.rows, table.Group) { // a table's rows are read while they are in the fastest cache
		k.ask(some)
		for _, row := range k.find.Find(k.table, k.asks) {
			k.add(k.out.Cols[passed:], row, keyed)
		}
	}
	for i, f := range k.spec.Columns[:passed] {
		if f == k.spec.Whole {
			k.wholes(&k.out.Cols[i])
		} else {
			k.pass(&k.out.Cols[i], f)
		}
	}
	k.out.Rows = len(k.rows)
	for i := range k.rows {
		r := &k.rows[i]
		r.Batch, r.Row = k.out, int32(i)
	}
	return nil
}

// ask sets the values that are looked up.
func (k *enriched) ask(rows []Row) {
	k.asks = k.asks[:0]
	var of *event.Batch
	var c *event.Column
	for i := range rows {
		r := &rows[i]
		if r.Batch != of {
			of, c = r.Batch, r.Batch.Column(k.spec.On)
		}
		if c == nil {
			k.asks = append(k.asks, event.Value{})
		} else {
			k.asks = append(k.asks, c.Value(int(r.Row)))
		}
	}
}

// pass copies a column of the rows that came: rows that stand behind one another together.
func (k *enriched) pass(to *event.Column, f event.Field) {
	for i := 0; i < len(k.rows); {
		r, n := &k.rows[i], 1
		for i+n < len(k.rows) && k.rows[i+n].Batch == r.Batch && k.rows[i+n].Row == r.Row+int32(n) {
			n++
		}
		to.AppendRows(r.Batch.Column(f), int(r.Row), n)
		i += n
	}
}

// wholes copies the events that the rows are, or carry.
func (k *enriched) wholes(to *event.Column) {
	for i := range k.rows {
		r := &k.rows[i]
		v := r.Batch.Value(k.spec.Whole, int(r.Row))
		if b := r.Batch.Event(r.Row); b != nil {
			v = event.Value{Kind: event.Object, Text: b}
		}
		to.Append(v)
	}
}

// add appends the table's columns of a row; keyed says whether its key is among them.
func (k *enriched) add(to []event.Column, row table.Row, keyed bool) {
	k.known = k.known[:0]
	switch {
	case !row.Known():
	case keyed:
		k.known = k.table.Cells(k.known, row)
	default:
		k.known = k.table.Others(k.known, row)
	}
	for i, c := range k.spec.From {
		if c < len(k.known) {
			to[i].Append(k.known[c])
		} else {
			to[i].Append(event.Value{})
		}
	}
}
