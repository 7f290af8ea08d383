package pipeline

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// What `max_waiting` of a lane may be.
const (
	waitingLeast = 16 << 20
	waitingMost  = 1 << 40
)

// deliver reads the lanes, when all operators and their columns are known.
func (d *decoder) deliver(n *yaml.Node) {
	if n == nil {
		return
	}
	m := d.mapping(n, "deliver")
	if m == nil {
		return
	}
	switch {
	case len(m.entries) == 0:
		d.wrong(n, "deliver is empty; name a lane, such as siem: { where: { kind: alert } }, or leave deliver out")
	case len(m.entries) > engine.LanesMax:
		d.wrong(m.entries[engine.LanesMax].key, "deliver has %d lanes; at most %d may be", len(m.entries), engine.LanesMax)
	}
	spec := d.conf.Spec
	spec.LaneFields = &event.Fields{}
	for _, name := range engine.LaneMeta {
		spec.LaneFields.Add(name)
	}
	known := d.laneFields()
	for _, e := range m.entries {
		e.used = true
		d.name(e.key, "lane name")
		spec.Lanes = append(spec.Lanes, d.lane(e.key.Value, e.value, known))
	}
	d.laneOrigins(m)
	if len(spec.Lanes) > 0 && !slices.ContainsFunc(spec.Lanes, func(l engine.Lane) bool { return l.Where == nil }) {
		d.warn(m.key("deliver"), "every lane has a where: rows that none of them takes are counted and do not leave; a lane without where takes every row")
	}
}

// lane reads one: { where, max_in_flight, retries, block, max_waiting, was }.
func (d *decoder) lane(name string, n *yaml.Node, known *laneFields) (l engine.Lane) {
	l = engine.Lane{Name: name, Flying: 16, Waiting: engine.LaneWaiting}
	if n.Tag == "!!null" {
		return l
	}
	m := d.mapping(n, "lane "+name)
	if m == nil {
		return l
	}
	l.Where = d.condition(m.get("where"), known.field, known.typeOf)
	l.Flying = d.int(m.get("max_in_flight"), "max_in_flight", 16, 1, engine.LaneFlyingMax)
	l.Retries = d.int(m.get("retries"), "retries", d.conf.Retries, 1, 1_000_000)
	l.Block = d.bool(m.get("block"), "block")
	if size := d.size(m.get("max_waiting"), "max_waiting", waitingLeast, waitingMost); size > 0 {
		l.Waiting = size
	}
	if was := m.get("was"); was != nil {
		l.Was = d.name(was, "was")
	}
	m.done()
	return l
}

// laneOrigins refuses two lanes that take over the rows of one.
func (d *decoder) laneOrigins(m *mapping) {
	of := map[string]string{}
	for i, l := range d.conf.Spec.Lanes {
		n := peek(m.entries[i].value, "was")
		if l.Was == "" || n == nil {
			continue
		}
		switch other := of[l.Was]; {
		case other != "":
			d.wrong(n, "lane %s takes over the rows of %s already; leave was out in one of them", other, l.Was)
		case slices.ContainsFunc(d.conf.Spec.Lanes, func(x engine.Lane) bool { return x.Name == l.Was }):
			d.wrong(n, "lane %s is still there and keeps its rows; leave was out", l.Was)
		}
		of[l.Was] = l.Name
	}
}

// alertFields are the fields of an alert's payload at its top.
var alertFields = []string{"id", "rule", "title", "description", "severity", "risk_score", "time", "first_event_time", "last_event_time", "count", "suppressed", "entities", "attack", "references",
	"false_positives", "note", "row", "events", "truncated"}

// laneFields are the fields that rows which leave may have.
type laneFields struct {
	fields *event.Fields
	names  map[string]string // with their types; "": not known
	any    bool              // some rows are events, of which nobody knows the fields
}

// laneFields gathers what the condition of a lane may read: metadata, and what is in the payloads of alerts, rows, late and error rows.
func (d *decoder) laneFields() *laneFields {
	k := &laneFields{fields: d.conf.Spec.LaneFields, names: map[string]string{}}
	add := func(name, typ string) {
		if was, ok := k.names[name]; ok && was != typ {
			typ = ""
		}
		k.names[name] = typ
	}
	for _, o := range d.ops {
		if !o.op.Leaves {
			continue
		}
		k.any = k.any || o.events || o.whole
		for _, c := range o.cols {
			add(c, o.types[c])
		}
	}
	for _, reads := range d.reads { // late rows are events
		for _, f := range reads {
			add(d.conf.Spec.Fields.Path(f), "")
		}
	}
	for _, name := range alertFields {
		add(name, "")
	}
	for _, name := range []string{"error", "detail", "raw", "result_id"} {
		add(name, "")
	}
	for i, name := range engine.LaneMeta {
		k.names[name] = "string"
		if i >= 4 {
			k.names[name] = "int"
		}
	}
	return k
}

// field resolves a path of a lane's condition.
func (k *laneFields) field(path string) (event.Field, error) {
	top := event.SplitPath(path)[0]
	_, whole := k.names[path]
	_, part := k.names[top]
	if !whole && !part && !k.any {
		return 0, fmt.Errorf("no row that leaves has a field %q%s", path, suggest(path, slices.Collect(maps.Keys(k.names))))
	}
	return k.fields.Add(path), nil
}

func (k *laneFields) typeOf(path string) string { return k.names[path] }

// laneCheck is how a text asks for a lane: meta("lane") == "siem", @lane == "siem".
var laneCheck = regexp.MustCompile(`(?:meta\("lane"\)|@lane|metadata\("lane"\))\s*[!=]=\s*"([^"]*)"`)

// lanes checks what is said of lanes outside detect: the output `lanes`, and texts that ask for one.
func (c *checker) lanes(n *yaml.Node, conf *Config) {
	if c.from > 0 && conf == nil {
		return
	}
	var names []string
	blocks := map[string]bool{}
	if conf != nil {
		for _, l := range conf.Spec.Lanes {
			names = append(names, l.Name)
			blocks[l.Name] = l.Block
		}
	}
	if len(names) == 0 && len(c.found) > 0 {
		return // nobody knows which lanes there are
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		c.laneUses(n.Content[i+1], strings.HasPrefix(n.Content[i].Value, "output"), conf != nil, names, blocks)
	}
}

// laneUses walks through what may name lanes; outputs says whether it is an output, or several.
func (c *checker) laneUses(n *yaml.Node, outputs, known bool, names []string, blocks map[string]bool) {
	if n.Kind == yaml.ScalarNode && known {
		c.asked(n, names)
	}
	for i, x := range n.Content {
		if c.detects(x) {
			continue
		}
		if outputs && n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "lanes" && x.Kind == yaml.MappingNode {
			c.outputsOf(n.Content[i-1], x, names, blocks)
		}
		c.laneUses(x, outputs, known, names, blocks)
	}
}

// asked finds lanes that a text names and the pipeline does not have.
func (c *checker) asked(n *yaml.Node, names []string) {
	for _, m := range laneCheck.FindAllStringSubmatch(n.Value, -1) {
		switch {
		case slices.Contains(names, m[1]) || len(names) == 0 && m[1] == "main":
		case len(names) == 0:
			c.at(n, "there is no lane %q: detect has no deliver, so that all rows have lane main", m[1])
		default:
			c.at(n, "there is no lane %q%s", m[1], suggest(m[1], names))
		}
	}
}

// rowProcessors are processors of ours that look at rows one by one, and see none in a block.
var rowProcessors = []string{"ocsf", "ecs", "detect", "parse"}

// blocksTo finds processors between a lane that has blocks of rows and its output that would not work on them.
func (c *checker) blocksTo(lane string, out *yaml.Node) {
	to := ""
	for i := 0; out.Kind == yaml.MappingNode && i+1 < len(out.Content); i += 2 {
		if name := out.Content[i].Value; slices.Contains(rowOutputs, name) {
			to = name
		}
	}
	list := peek(out, "processors")
	for i := 0; list != nil && i < len(list.Content); i++ {
		p := resolve(list.Content[i])
		if p.Kind != yaml.MappingNode || len(p.Content) == 0 {
			continue
		}
		switch name := p.Content[0].Value; {
		case to != "":
			c.at(p.Content[0], "lane %s has blocks of rows (block: true), which %s takes apart itself: a processor before it cannot change them; leave block out, or the processor", lane, to)
		case slices.Contains(rowProcessors, name):
			c.at(p.Content[0], "%s works on rows one by one, and lane %s has blocks of them (block: true); leave block out, or the processor", name, lane)
		}
	}
}

// outputsOf compares the output `lanes` with the lanes that there are.
func (c *checker) outputsOf(key, n *yaml.Node, names []string, blocks map[string]bool) {
	if len(names) == 0 {
		c.at(key, "the output lanes needs lanes: name them in deliver of the buffer detect")
		return
	}
	var there []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], resolve(n.Content[i+1])
		there = append(there, k.Value)
		if !slices.Contains(names, k.Value) {
			c.at(k, "there is no lane %q%s", k.Value, suggest(k.Value, names))
		}
		if blocks[k.Value] {
			c.blocksTo(k.Value, v)
		}
	}
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(there, name) })
	if len(missing) > 0 {
		c.at(key, "no output here is for %s; add it, or drop: {} to throw the rows away", strings.Join(missing, " and for "))
	}
}
