package engine

import (
	"encoding/json"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/table"
)

// tableUse is a shard's place for the table that it uses in a block.
type tableUse struct {
	source *table.Source
	at     **table.Table
}

// uses notes the places of a shard.
func (g *Graph) uses(s shard) {
	switch s := s.(type) {
	case *enriched:
		g.used = append(g.used, tableUse{s.spec.Table, &s.table})
	case *plugged, *mapped, *remembering:
		g.grants(callerOf(s))
	}
}

func (g *Graph) grants(p *caller) {
	for i, t := range p.spec.Tables {
		if t != nil {
			g.used = append(g.used, tableUse{t, &p.asks.tables[i]})
		}
	}
}

// tables lets the block see of each table the newest one, and the same in all operators and shards.
func (g *Graph) tables() {
	for _, u := range g.used {
		t := g.newest[u.source]
		if t == nil {
			t = u.source.Table()
			g.newest[u.source] = t
		}
		*u.at = t
	}
	clear(g.newest)
}

// granted are the tables that a plugin may look up, on one shard.
type granted struct {
	tables []*table.Table // by the manifest's; nil: not granted
	find   table.Finder
	one    [1]event.Value
	row    []byte
}

// lookup is the wasm.Lookup. A text that no key is may be a number or a bool that reads so.
func (a *granted) lookup(i int, key []byte) ([]byte, abi.Code) {
	t := a.tables[i]
	if t == nil {
		return nil, abi.Denied
	}
	a.one[0] = event.Value{Kind: event.String, Text: key}
	row := a.find.Find(t, a.one[:])[0]
	if k := scalar(key); !row.Known() && k != event.String {
		a.one[0].Kind = k
		row = a.find.Find(t, a.one[:])[0]
	}
	if !row.Known() {
		return nil, abi.NotFound
	}
	a.row = t.AppendJSON(a.row[:0], row)
	return a.row, abi.OK
}

// scalar is the kind that a text has in JSON, String for what is none there.
func scalar(text []byte) event.Kind {
	switch {
	case len(text) == 0 || len(text) > 64:
	case string(text) == "true" || string(text) == "false":
		return event.Bool
	case (text[0] == '-' || text[0] >= '0' && text[0] <= '9') && text[len(text)-1] >= '0' && json.Valid(text):
		return event.Number
	}
	return event.String
}
