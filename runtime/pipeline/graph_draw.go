package pipeline

import (
	"fmt"
	"slices"
	"strings"
)

// drawn is a node or an edge of a drawing. Names of nodes are made up, so that no text of a pipeline can be mistaken for syntax.
type drawn struct {
	id, shape string // shape: input, stream, operator, alert, results or output
	lines     []string
}

type arrow struct{ from, to, text string }

// drawing lists nodes and edges: inputs, streams, operators, one node for the results with the processors on their way, outputs.
func (g *Graph) drawing() (nodes []drawn, arrows []arrow) {
	ids := map[string]string{}
	for i, x := range g.Inputs {
		nodes = append(nodes, drawn{fmt.Sprint("in", i), "input", x.lines()})
	}
	for i, x := range g.Streams {
		ids[x.Name] = fmt.Sprint("stream", i)
		nodes = append(nodes, drawn{ids[x.Name], "stream", []string{x.Name}})
		for _, in := range x.Inputs {
			arrows = append(arrows, arrow{fmt.Sprint("in", in), ids[x.Name], ""})
		}
	}
	for i, x := range g.Operators {
		ids[x.Name] = fmt.Sprint("op", i)
		shape := "operator"
		if x.Alerts {
			shape = "alert"
		}
		nodes = append(nodes, drawn{ids[x.Name], shape, []string{x.Name, x.Kind}})
		for side, name := range x.Reads {
			text := ""
			if x.Kind == "join" {
				text = []string{"left", "right"}[side]
			}
			arrows = append(arrows, arrow{ids[name], ids[x.Name], text})
		}
	}
	nodes = append(nodes, drawn{"results", "results", append([]string{"results"}, g.Processors...)})
	for _, x := range g.Operators {
		switch {
		case !x.Output:
		case x.Alerts:
			arrows = append(arrows, arrow{ids[x.Name], "results", "alerts"})
		default:
			arrows = append(arrows, arrow{ids[x.Name], "results", ""})
		}
	}
	for i, x := range g.Outputs {
		id := fmt.Sprint("out", i)
		nodes = append(nodes, drawn{id, "output", x.lines()})
		arrows = append(arrows, arrow{"results", id, x.When})
	}
	return nodes, arrows
}

func (c *GraphComponent) lines() []string {
	first := c.Kind
	if c.Label != "" {
		first = c.Label + ": " + c.Kind
	}
	lines := append([]string{first}, c.At...)
	if len(c.Processors) > 0 {
		lines = append(lines, "("+strings.Join(c.Processors, ", ")+")")
	}
	return lines
}

// mermaidShapes are the brackets around a node's text.
var mermaidShapes = map[string][2]string{"input": {"[/", "/]"}, "stream": {"([", "])"}, "operator": {"[", "]"}, "alert": {"{{", "}}"}, "results": {"((", "))"}, "output": {"[\\", "\\]"}}

// Mermaid writes the graph as a Mermaid flowchart.
func (g *Graph) Mermaid() string {
	var b strings.Builder
	nodes, arrows := g.drawing()
	b.WriteString("flowchart LR\n")
	for _, n := range nodes {
		shape := mermaidShapes[n.shape]
		var lines []string
		for _, l := range n.lines {
			lines = append(lines, mermaidText(l))
		}
		fmt.Fprintf(&b, "  %s%s\"%s\"%s\n", n.id, shape[0], strings.Join(lines, "<br/>"), shape[1])
	}
	for _, a := range arrows {
		text := ""
		if a.text != "" {
			text = "|\"" + mermaidText(a.text) + "\"|"
		}
		fmt.Fprintf(&b, "  %s -->%s %s\n", a.from, text, a.to)
	}
	return b.String()
}

// mermaidText writes what Mermaid, or Markdown and HTML in it, would take for syntax as character codes.
func mermaidText(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < ' ' || strings.ContainsRune("\"#&;<>`\\|", r) {
			fmt.Fprintf(&b, "#%d;", max(r, ' '))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// dotShapes are the shapes of Graphviz.
var dotShapes = map[string]string{"input": "parallelogram", "stream": "box, style=rounded", "operator": "box", "alert": "hexagon", "results": "circle", "output": "parallelogram"}

// DOT writes the graph for Graphviz.
func (g *Graph) DOT() string {
	var b strings.Builder
	nodes, arrows := g.drawing()
	fmt.Fprintf(&b, "digraph %s {\n  rankdir=LR;\n", dotText(g.Pipeline))
	for _, n := range nodes {
		fmt.Fprintf(&b, "  %s [shape=%s, label=%s];\n", n.id, dotShapes[n.shape], dotText(n.lines...))
	}
	for _, a := range arrows {
		text := ""
		if a.text != "" {
			text = " [label=" + dotText(a.text) + "]"
		}
		fmt.Fprintf(&b, "  %s -> %s%s;\n", a.from, a.to, text)
	}
	b.WriteString("}\n")
	return b.String()
}

// dotText is a quoted text of one or more lines.
func dotText(lines ...string) string {
	out := slices.Clone(lines)
	for i, l := range out {
		out[i] = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ", "\r", " ").Replace(l)
	}
	return `"` + strings.Join(out, `\n`) + `"`
}
