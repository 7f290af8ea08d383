package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const graphHelp = `Usage: tocsin graph [--format mermaid|dot|json|openlineage] PIPELINE

Shows a pipeline without running it: inputs, streams, operators, outputs, and what reads what.

  mermaid   a flowchart that Markdown viewers draw (default)
  dot       for Graphviz: tocsin graph --format dot PIPELINE | dot -Tsvg > pipeline.svg
  json      the same as data, and for every column of every operator the fields of events that its values are made of
            (columns), and the fields that decide which rows there are (rows); "*" is the whole event
  openlineage  the same as a JobEvent of OpenLineage 2-0-2, on one line: pipe it to the /api/v1/lineage of whoever collects such events
`

// graph shows a pipeline as a drawing or as data.
func (e *env) graph(args []string) int {
	f := e.flags("tocsin graph")
	format := f.String("format", "mermaid", "")
	if err := f.Parse(args); err != nil || f.NArg() != 1 {
		e.say("tocsin graph: which pipeline? see `tocsin help graph`")
		return wrong
	}
	write := map[string]func(g *pipeline.Graph) string{"mermaid": (*pipeline.Graph).Mermaid, "dot": (*pipeline.Graph).DOT, "json": func(g *pipeline.Graph) string {
		text, _ := json.MarshalIndent(g, "", "  ") // texts and numbers alone
		return string(text) + "\n"
	}, "openlineage": func(g *pipeline.Graph) string { return g.OpenLineage(time.Now()) }}[*format]
	if write == nil {
		e.say("tocsin graph: --format must be mermaid, dot, json or openlineage, not %s", *format)
		return wrong
	}
	src, ok := e.read(f.Arg(0))
	if !ok {
		return wrong
	}
	conf, findings := pipeline.Check(f.Arg(0), src)
	for _, x := range findings {
		e.say("%s", x)
	}
	if len(findings) > 0 {
		return wrong
	}
	if conf == nil {
		e.say("tocsin graph: %s has no buffer `detect`: there are no streams and operators to show", f.Arg(0))
		return wrong
	}
	g, err := pipeline.NewGraph(conf, src)
	if err != nil {
		e.say("tocsin graph: %v", err)
		return failed
	}
	fmt.Fprint(e.out, write(g))
	return done
}
