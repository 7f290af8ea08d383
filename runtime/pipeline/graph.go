package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// Graph is a pipeline as a drawing: what its nodes are, what reads what, and where columns come from.
type Graph struct {
	Pipeline   string           `json:"pipeline"`
	Inputs     []GraphComponent `json:"inputs"`
	Streams    []GraphStream    `json:"streams"`
	Operators  []GraphOperator  `json:"operators"`
	Processors []string         `json:"processors"` // of the pipeline, between detect and the outputs
	Outputs    []GraphComponent `json:"outputs"`
}

// GraphComponent is an input or output of Benthos or of ours; those that only hold others (broker, switch) are not shown.
type GraphComponent struct {
	Kind       string   `json:"kind"`
	Label      string   `json:"label,omitempty"`
	At         []string `json:"at,omitempty"`         // paths or topics
	When       string   `json:"when,omitempty"`       // of a switch's case
	Processors []string `json:"processors,omitempty"` // its own
}

// GraphStream is a stream, and the inputs that may bring it events, by their places in Inputs.
type GraphStream struct {
	Name   string `json:"name"`
	Inputs []int  `json:"inputs"`
}

// GraphOperator is an operator: what it reads, by name, and its columns.
type GraphOperator struct {
	Name    string        `json:"name"`
	Kind    string        `json:"kind"`
	Reads   []string      `json:"reads"`
	Alerts  bool          `json:"alerts"`
	Held    []GraphHeld   `json:"held,omitempty"` // of its alerts, those that are suppressed or grouped
	Output  bool          `json:"output"`         // its rows go to the outputs
	Columns []GraphColumn `json:"columns"`
	Rows    []GraphField  `json:"rows"` // the fields that decide which rows there are
}

// GraphHeld says how alerts of an operator, or of a rule of a plugin, are held back or put together, and by which columns.
type GraphHeld struct {
	Rule string   `json:"rule,omitempty"`
	How  string   `json:"how"` // suppress or group
	Key  []string `json:"key"`
}

// GraphColumn is a column and the fields that its values are made of. The column "*" is every field of an event.
type GraphColumn struct {
	Name string       `json:"name"`
	From []GraphField `json:"from"`
}

// GraphField is a field of a stream's events, "*" for all.
type GraphField struct {
	Stream string `json:"stream"`
	Field  string `json:"field"`
}

// NewGraph makes the graph of a pipeline file that Check found no fault in, and whose Config it gave.
func NewGraph(conf *Config, src []byte) (*Graph, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(src, &root); err != nil || len(root.Content) == 0 {
		return nil, fmt.Errorf("no pipeline: %v", err)
	}
	top := substituted(root.Content[0])
	g := &Graph{Pipeline: conf.Spec.Name, Inputs: []GraphComponent{}, Processors: []string{}, Outputs: []GraphComponent{}}
	if n := peek(top, "input"); n != nil {
		g.Inputs = collect(g.Inputs, n, GraphComponent{}, 0)
	}
	if n := peek(top, "output"); n != nil {
		g.Outputs = collect(g.Outputs, n, GraphComponent{}, 0)
	}
	if n := peek(top, "pipeline"); n != nil {
		g.Processors = append(g.Processors, processorNames(peek(n, "processors"))...)
	}
	for i := range conf.Spec.Streams {
		g.Streams = append(g.Streams, g.stream(&conf.Spec.Streams[i]))
	}
	g.operators(conf.Spec)
	return g, nil
}

// nestedMax is how deep components may hold one another.
const nestedMax = 100

// collect finds the inputs or outputs at and below a node; outer is what those around it say of it.
func collect(list []GraphComponent, n *yaml.Node, outer GraphComponent, depth int) []GraphComponent {
	if n = resolve(n); n.Kind != yaml.MappingNode || depth > nestedMax {
		return list
	}
	outer.Processors = append(processorNames(peek(n, "processors")), outer.Processors...)
	if label := peek(n, "label"); label != nil {
		outer.Label = label.Value
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		kind, body := n.Content[i].Value, resolve(n.Content[i+1])
		if slices.Contains([]string{"label", "processors", "batching", "plugin"}, kind) {
			continue
		}
		inner, holds := held(kind, body)
		if !holds {
			outer.Kind, outer.At = kind, places(body)
			return append(list, outer)
		}
		for _, x := range inner {
			here := outer
			here.Label = ""
			if x.when != "" {
				here.When = strings.TrimPrefix(here.When+" and "+x.when, " and ")
			}
			list = collect(list, x.node, here, depth+1)
		}
	}
	return list
}

// inside is a component within another one.
type inside struct {
	node *yaml.Node
	when string
}

// held are the components that one holds, and whether it is of the kinds that do nothing else.
func held(kind string, body *yaml.Node) (list []inside, holds bool) {
	add := func(n *yaml.Node, when string) {
		if n != nil {
			list = append(list, inside{n, when})
		}
	}
	each := func(n *yaml.Node) {
		if n = resolve(n); n.Kind == yaml.SequenceNode {
			for _, x := range n.Content {
				add(x, "")
			}
		}
	}
	switch kind {
	case "broker", "sequence":
		for _, key := range []string{"inputs", "outputs"} {
			if n := peek(body, key); n != nil {
				each(n)
			}
		}
	case "fallback":
		each(body)
	case "switch":
		if cases := peek(body, "cases"); cases != nil && cases.Kind == yaml.SequenceNode {
			for _, x := range cases.Content {
				when := ""
				if check := peek(x, "check"); check != nil {
					when = check.Value
				}
				add(peek(x, "output"), when)
			}
		}
	case "retry", "drop_on", "read_until", "cache":
		add(peek(body, "input"), "")
		add(peek(body, "output"), "")
	case "lanes":
		for i := 0; body.Kind == yaml.MappingNode && i+1 < len(body.Content); i += 2 {
			add(body.Content[i+1], fmt.Sprintf("@lane == %q", body.Content[i].Value))
		}
	case "reject_errored":
		add(body, "")
	default:
		return nil, false
	}
	return list, len(list) > 0
}

// places are the paths or topics of a component; addresses are not shown, since they may hold passwords.
func places(body *yaml.Node) (at []string) {
	for _, key := range []string{"paths", "path", "topics", "topic"} {
		switch n := peek(body, key); {
		case n == nil:
		case n.Kind == yaml.ScalarNode:
			at = append(at, n.Value)
		case n.Kind == yaml.SequenceNode:
			for _, x := range n.Content {
				at = append(at, resolve(x).Value)
			}
		}
	}
	return at
}

// processorNames are the kinds of processors of a list.
func processorNames(n *yaml.Node) (names []string) {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	for _, x := range n.Content {
		if x = resolve(x); x.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(x.Content); i += 2 {
				if key := x.Content[i].Value; key != "label" {
					names = append(names, key)
				}
			}
		}
	}
	return names
}

// stream finds the inputs that may bring a stream events: all, but for files whose paths it does not match.
func (g *Graph) stream(s *engine.Stream) GraphStream {
	out := GraphStream{Name: s.Name, Inputs: []int{}}
	byPath := !slices.ContainsFunc(s.Match, func(p engine.Pattern) bool { return p.Key != "path" })
	for i, in := range g.Inputs {
		certain := in.Kind == "file_lines" && byPath && !slices.ContainsFunc(in.At, func(p string) bool { return strings.ContainsAny(p, `*?[\`) })
		if !certain || slices.ContainsFunc(in.At, func(p string) bool { return s.Takes(map[string]string{"path": p}) }) {
			out.Inputs = append(out.Inputs, i)
		}
	}
	return out
}

// operators describes the operators, with the lineage of their columns.
func (g *Graph) operators(spec *engine.Spec) {
	names := []string{}
	for i := range spec.Streams {
		names = append(names, spec.Streams[i].Name)
	}
	lineage := engine.NewLineage(spec)
	field := func(f event.Field) string {
		if path := spec.Fields.Path(f); path != event.Whole {
			return path
		}
		return "*"
	}
	fields := func(origins []engine.Origin) []GraphField {
		list := []GraphField{}
		for _, o := range origins {
			list = append(list, GraphField{names[o.Stream], field(o.Field)})
		}
		slices.SortStableFunc(list, func(a, b GraphField) int { return strings.Compare(a.Stream+"\x00"+a.Field, b.Stream+"\x00"+b.Field) })
		return list
	}
	for i := range spec.Operators {
		o := &spec.Operators[i]
		if o.Hidden() && o.Suppress == nil {
			names = append(names, names[o.Inputs[0]])
			continue
		}
		if o.Suppress != nil {
			g.dampened(spec, o, field)
			continue
		}
		node := len(names)
		names = append(names, o.Name)
		out := GraphOperator{Name: o.Name, Kind: o.Kind(), Alerts: o.Alert != nil || o.Plugin.Detects(), Output: o.Leaves, Columns: []GraphColumn{}, Rows: fields(lineage.Rows(node))}
		for _, in := range o.Inputs {
			out.Reads = append(out.Reads, names[in])
		}
		for _, c := range o.Names {
			name := c.Name
			if name == event.Whole {
				name = "*"
			}
			out.Columns = append(out.Columns, GraphColumn{name, fields(lineage.Column(node, c.Field))})
		}
		g.Operators = append(g.Operators, out)
	}
}

// dampened notes at an operator what is behind its alerts.
func (g *Graph) dampened(spec *engine.Spec, o *engine.Operator, field func(f event.Field) string) {
	name, part, _ := strings.Cut(o.Name, "/")
	held := GraphHeld{How: "group", Key: []string{}}
	if o.Suppress.For > 0 {
		held.How = "suppress"
	}
	if spec.Operators[o.Inputs[0]-len(spec.Streams)].Plugin.Detects() {
		held.Rule = part
	}
	for _, f := range o.Suppress.Keys {
		held.Key = append(held.Key, field(f))
	}
	for i := range g.Operators {
		if g.Operators[i].Name == name {
			g.Operators[i].Held = append(g.Operators[i].Held, held)
		}
	}
}
