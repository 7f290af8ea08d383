package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const elasticHelp = `Usage: tocsin elasticsearch templates [flags] PIPELINE

Index templates for what a pipeline writes with elasticsearch_bulk: the types of columns, so that addresses can be searched as addresses and times
be drawn over time. They follow from the operators and from the types in the streams' fields; a column without one is a keyword.

  --print          show them as one JSON object, by name (default)
  --install        put them, with the output's own url, auth and tls, and say what has changed
  --only NAME      of --print: this one alone, as curl -X PUT HOST/_index_template/NAME -d @- takes it
  --output NAME    the output with this label, or the first, second, ... one by its number (default: all)
  --server NAME    of --print: elasticsearch (default) or opensearch, which has other names for some types; --install asks
  --replicas N     copies of each shard (default: none on a single node, one elsewhere: auto_expand_replicas 0-1)
  --dynamic        index fields that neither operators nor fields declare as well, texts as keywords (default: they are kept and
                   cannot be searched, so that no event can make a mapping grow)
  --priority N     of the templates (default 300), upwards from it for patterns that are more special
  --force          of --install: replace templates of the same names that are not of tocsin

A value that is not of its field's type is kept in the document and cannot be searched by that field (ignore_malformed). A template is for indexes that
are made after it; --install names those that are there already with other types.
`

// elastic is about clusters that a pipeline writes to.
func (e *env) elastic(args []string) int {
	if len(args) == 0 || args[0] != "templates" {
		e.say("tocsin elasticsearch: which of its commands? there is templates; see `tocsin help elasticsearch`")
		return wrong
	}
	f := e.flags("tocsin elasticsearch templates")
	var o pipeline.TemplateOptions
	show, install, force := f.Bool("print", false, ""), f.Bool("install", false, ""), f.Bool("force", false, "")
	only, server := f.String("only", "", ""), f.String("server", "", "")
	f.StringVar(&o.Output, "output", "", "")
	f.IntVar(&o.Replicas, "replicas", -1, "")
	f.BoolVar(&o.Dynamic, "dynamic", false, "")
	f.IntVar(&o.Priority, "priority", 300, "")
	var paths []string
	for rest := args[1:]; ; rest = f.Args()[1:] { // flags may stand behind the pipeline
		if err := f.Parse(rest); err != nil {
			e.say("tocsin elasticsearch templates: %v; see `tocsin help elasticsearch`", err)
			return wrong
		}
		if f.NArg() == 0 {
			break
		}
		paths = append(paths, f.Arg(0))
	}
	fault := ""
	switch {
	case len(paths) != 1:
		fault = "which pipeline?"
	case *show && *install:
		fault = "--print or --install?"
	case *install && (*only != "" || *server != ""):
		fault = "--only and --server go with --print"
	case *force && !*install:
		fault = "--force goes with --install"
	case *server != "" && *server != "elasticsearch" && *server != "opensearch":
		fault = "--server must be elasticsearch or opensearch, not " + *server
	case o.Replicas < -1 || o.Replicas > 100:
		fault = "--replicas must be from 0 to 100"
	case o.Priority < 1 || o.Priority > 1_000_000:
		fault = "--priority must be from 1 to 1000000"
	}
	if fault != "" {
		e.say("tocsin elasticsearch templates: %s; see `tocsin help elasticsearch`", fault)
		return wrong
	}
	src, ok := e.read(paths[0])
	if !ok {
		return wrong
	}
	conf, ok := e.checked(paths[0])
	if !ok {
		return wrong
	}
	if *install {
		return e.installTemplates(conf, paths[0], src, o, *force)
	}
	o.OpenSearch = *server == "opensearch"
	return e.printTemplates(conf, paths[0], src, o, *only)
}

// printTemplates shows templates on standard output, and what is perhaps not meant beside it.
func (e *env) printTemplates(conf *pipeline.Config, path string, src []byte, o pipeline.TemplateOptions, only string) int {
	outputs, err := pipeline.Templates(conf, src, o)
	if err != nil {
		e.say("tocsin elasticsearch templates: %s: %v", path, err)
		return wrong
	}
	all, names := map[string]any{}, []string{}
	for i := range outputs {
		e.templateNotes(path, &outputs[i])
		for _, t := range outputs[i].Templates {
			all[t.Name] = t.Body
			names = append(names, t.Name)
		}
	}
	var shown any = all
	if only != "" {
		if shown = all[only]; shown == nil {
			slices.Sort(names)
			e.say("tocsin elasticsearch templates: there is no template %s; there are %s", only, strings.Join(names, ", "))
			return wrong
		}
	}
	text, err := json.MarshalIndent(shown, "", "  ")
	if err != nil {
		e.say("tocsin elasticsearch templates: %v", err)
		return failed
	}
	fmt.Fprintf(e.out, "%s\n", text)
	return done
}

func (e *env) templateNotes(path string, out *pipeline.ElasticOutput) {
	for _, n := range out.Notes {
		e.say("%s:%d: warning: %s", path, out.Line, n)
	}
}

// installTemplates puts the templates of each output onto its cluster.
func (e *env) installTemplates(conf *pipeline.Config, path string, src []byte, o pipeline.TemplateOptions, force bool) int {
	outputs, err := pipeline.Templates(conf, src, o)
	if err != nil {
		e.say("tocsin elasticsearch templates: %s: %v", path, err)
		return wrong
	}
	status := done
	for i := range outputs {
		o.Output = outputs[i].Name
		if err := e.installOutput(conf, path, src, o, force); err != nil {
			e.say("tocsin elasticsearch templates: output %s: %v", o.Output, err)
			status = failed
		}
	}
	return status
}

func (e *env) installOutput(conf *pipeline.Config, path string, src []byte, o pipeline.TemplateOptions, force bool) error {
	outputs, err := pipeline.Templates(conf, src, o)
	if err != nil {
		return err
	}
	client, err := outputs[0].Client(e.say)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.Background()
	distribution, err := client.Distribution(ctx)
	if err != nil {
		return err
	}
	if o.OpenSearch = distribution != ""; o.OpenSearch {
		if outputs, err = pipeline.Templates(conf, src, o); err != nil {
			return err
		}
	}
	e.templateNotes(path, &outputs[0])
	var all error
	for _, t := range outputs[0].Templates {
		in, err := client.Install(ctx, t, force)
		if in.Was != "" {
			e.say("%s: %s", in.Name, in.Was)
			for _, c := range in.Changes {
				e.say("  %s", c)
			}
			for _, x := range in.Older {
				e.say("  index %s; the template is for indexes that are made from now on: roll a data stream over, delete or reindex an index", x)
			}
		}
		all = errors.Join(all, err)
	}
	return all
}
