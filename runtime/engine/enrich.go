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
	memoryless
	spec  *Enrich
	table *table.Table // for the block
	out   *event.Batch
	rows  []operator.In
	said  []operator.Result
	asks  []event.Value // a value a row
	find  table.Finder
	namer *operator.Namer
	cells []event.Value
	known []event.Value // of the table's row
}

func (k *enriched) reset() {
	k.rows, k.said = k.rows[:0], k.said[:0]
	k.out.Reset()
}

func (k *enriched) push(in *operator.In) { k.rows = append(k.rows, *in) }

func (k *enriched) run([]step, int64) error {
	passed := k.spec.Columns[:len(k.spec.Columns)-len(k.spec.From)]
	k.asks = k.asks[:0]
	for i := range k.rows {
		k.asks = append(k.asks, k.rows[i].Value(k.spec.On))
	}
	for i, row := range k.find.Find(k.table, k.asks) {
		in := &k.rows[i]
		k.cells = k.cells[:0]
		for _, f := range passed {
			v := in.Value(f)
			if f == k.spec.Whole {
				if b := in.Batch.Event(in.Row); b != nil {
					v = event.Value{Kind: event.Object, Text: b}
				}
			}
			k.cells = append(k.cells, v)
		}
		k.add(row)
		k.out.AppendRow(k.cells...)
		r := in.Passed(k.namer.ID(in.ID[:]))
		r.Batch, r.Row = k.out, int32(k.out.Rows-1)
		k.said = append(k.said, r)
	}
	return nil
}

// add appends the table's columns.
func (k *enriched) add(row table.Row) {
	k.known = k.known[:0]
	switch {
	case !row.Known():
	case slices.Contains(k.spec.From, 0):
		k.known = k.table.Cells(k.known, row)
	default:
		k.known = k.table.Others(k.known, row)
	}
	for _, c := range k.spec.From {
		if c < len(k.known) {
			k.cells = append(k.cells, k.known[c])
		} else {
			k.cells = append(k.cells, event.Value{})
		}
	}
}

func (k *enriched) results() []operator.Result  { return k.said }
func (k *enriched) counts() (c operator.Counts) { return c }
func (k *enriched) close()                      {}
