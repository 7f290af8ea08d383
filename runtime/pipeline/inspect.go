package pipeline

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// PluginReport is what can be said of a module without a pipeline.
type PluginReport struct {
	*wasm.Module
	code []byte
}

// InspectPlugin takes a module's file through the gate and reads its manifest.
func InspectPlugin(path string) (*PluginReport, error) {
	code, err := readModule(path)
	if err != nil {
		return nil, err
	}
	m, err := wasm.Inspect(code)
	if err != nil {
		return nil, err
	}
	return &PluginReport{m, code}, nil
}

// PluginTrial is what a module did with rows that were made up.
type PluginTrial struct {
	Limits      wasm.Limits
	Load, Start time.Duration
	Rows, Batch int
	Hits        int64 // of a filter rows that pass, of a map all rows, of an aggregate values
	RowNS       float64
	RowFuel     float64
	RowBytes    float64
	role        abi.Role
}

// Outcome is what the module did with the rows; n is Hits as people read it.
func (t *PluginTrial) Outcome(n string) string {
	switch t.role {
	case abi.RoleFilter:
		return n + " pass"
	case abi.RoleMap:
		return n + " got columns"
	case abi.RoleAggregate:
		return "in " + n + " states, whose values it said"
	}
	return n + " hits"
}

// trialRows are the rows of a trial, trialStates the states of an aggregate in it.
const (
	trialRows   = 40_960
	trialStates = 1024
)

// Try loads the module, starts it with a configuration and gives it rows, each field some text or number of its type.
func (r *PluginReport) Try(config []byte) (t PluginTrial, err error) {
	if said := r.CheckConfig(config); len(said) > 0 {
		return t, fmt.Errorf("the configuration does not suit it: %s %v", said[0].Text, said[0].Path)
	}
	host, err := modules()
	if err != nil {
		return t, err
	}
	from := time.Now()
	m, err := host.Load(r.code, wasm.Options{})
	if err != nil {
		return t, err
	}
	defer m.Close()
	t.Load, t.Limits, from = time.Since(from), m.Limits, time.Now()
	if err := m.Check(config); err != nil {
		return t, err
	}
	t.Start = time.Since(from)
	rows, fields, size := madeUp(m.Manifest.Reads)
	p := wasm.NewPlugin(m, config, fields, wasm.Identity{Pipeline: "inspect", Operator: "inspect"})
	defer p.Close()
	if m.Manifest.Keyed {
		p.Remember(remembered{})
		keyed(rows, wasm.NewKeyer(m.Manifest, fields))
	}
	t.Rows, t.Batch, t.role = len(rows), abi.RowsMax, m.Manifest.Role()
	var hits []abi.Hit
	from = time.Now()
	if m.Manifest.Role() == abi.RoleAggregate {
		if t.Hits, err = tryAggregate(p, rows, m.Manifest.Aggregate.StateSize); err != nil {
			return t, err
		}
		n := float64(len(rows))
		t.RowNS, t.RowFuel, t.RowBytes = float64(time.Since(from).Nanoseconds())/n, float64(p.Counts.Fuel)/n, float64(size)/n
		return t, nil
	}
	for at := 0; at < len(rows); at += t.Batch {
		said, poison, judged, err := p.Detect(hits[:0], rows[at:at+t.Batch])
		if len(poison) > 0 {
			err = poison[0].Err
		}
		if err != nil || judged < t.Batch {
			return t, err
		}
		hits = said
	}
	n := float64(len(rows))
	t.RowNS, t.RowFuel, t.RowBytes = float64(time.Since(from).Nanoseconds())/n, float64(p.Counts.Fuel)/n, float64(size)/n
	t.Hits = p.Counts.Hits
	return t, nil
}

// remembered is what a plugin keeps during a trial.
type remembered map[string]*wasm.Memory

func (k remembered) Look(r *wasm.Row) *wasm.Memory { return k[string(r.Key)] }
func (k remembered) Open(r *wasm.Row) *wasm.Memory {
	if k[string(r.Key)] == nil {
		k[string(r.Key)] = &wasm.Memory{}
	}
	return k[string(r.Key)]
}
func (k remembered) Settle() {}

// keyed gives rows their keys, and a time each.
func keyed(rows []wasm.Row, keyer *wasm.Keyer) {
	for i := range rows {
		r := &rows[i]
		r.TS = 1_772_000_000_000 + int64(i)*100
		r.W, r.Seen = r.TS-1, r.TS-1
		r.Key, r.Keyed = keyer.Append(nil, func(f event.Field) event.Value { return r.Batch.Value(f, int(r.Row)) })
	}
}

// tryAggregate takes rows into states and asks for their values; it returns how many there are.
func tryAggregate(p *wasm.Plugin, rows []wasm.Row, size int) (n int64, err error) {
	all, groups := states(trialStates, size), make([]uint32, abi.RowsMax)
	for i := range groups {
		groups[i] = uint32(i % len(all))
	}
	failed := func(_ int, why error, _ bool) { err = why }
	for at := 0; at < len(rows); at += abi.RowsMax {
		p.Update(all, groups, rows[at:at+abi.RowsMax], failed)
	}
	p.Finish(all, func(int, event.Value) { n++ }, failed)
	return n, err
}

// madeUp makes rows for a trial: the same for the same fields.
func madeUp(reads []abi.Read) (rows []wasm.Row, fields []event.Field, size int) {
	var names event.Fields
	for _, f := range reads {
		fields = append(fields, names.Add(f.Path))
	}
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"powershell.exe", "/bin/sh", "-c", "curl", "https://example.com/a", "admin", "C:\\Windows\\System32\\cmd.exe", "--verbose", "日本", "10.0.0.7"}
	cells := make([]event.Value, len(reads))
	b := event.NewBatch(&names, fields)
	for i := range trialRows {
		for k, f := range reads {
			v := event.Value{Kind: event.String}
			switch f.Type {
			case abi.UTF8:
				for n := 1 + r.IntN(9); n > 0; n-- {
					v.Text = append(append(v.Text, words[r.IntN(len(words))]...), ' ')
				}
			case abi.IP:
				v.Text = fmt.Appendf(nil, "10.%d.%d.%d", r.IntN(256), r.IntN(256), r.IntN(256))
			case abi.TimestampMS:
				v.Text = event.AppendTime(nil, 1_772_000_000_000+int64(i)*100)
			case abi.Bool:
				v = event.Value{Kind: event.Bool, Text: strconv.AppendBool(nil, r.IntN(2) == 0)}
			default:
				v = event.Value{Kind: event.Number, Text: strconv.AppendInt(nil, r.Int64N(100), 10)}
			}
			cells[k] = v
			size += len(v.Text)
		}
		b.AppendRow(cells...)
		rows = append(rows, wasm.Row{Batch: b, Row: int32(i), ID: event.EventID([8]byte{}, int64(i))})
	}
	return rows, fields, size
}
