package cli

import (
	"context"

	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const lintHelp = `Usage: tocsin lint [--online] PIPELINE...

Checks pipelines without running them: unknown keys, wrong types, missing fields, unknown sources and columns, cycles,
durations, conditions. Each fault is a line "file:line:column: what is wrong; what to do". run checks the same first.
A warning is probably a mistake, and stops nothing.

  --online   also ask the schema registries that they name: do they let us in, do the newest schemas of the topics fit the streams, would
             they take the schemas of the rows
`

func (e *env) lint(args []string) int {
	online := len(args) > 0 && args[0] == "--online"
	if online {
		args = args[1:]
	}
	if len(args) == 0 {
		e.say("tocsin lint: which pipeline? see `tocsin help lint`")
		return wrong
	}
	status := done
	for _, path := range args {
		src, ok := e.read(path)
		if !ok {
			status = wrong
			continue
		}
		conf, findings := pipeline.Check(path, src)
		if online && len(findings) == 0 {
			findings = pipeline.CheckOnline(context.Background(), path, src, conf)
		}
		for _, f := range findings {
			e.say("%s", f)
			status = wrong
		}
		e.warned(path, conf)
		if len(findings) == 0 {
			e.say("%s: no fault found", path)
		}
	}
	return status
}

// warned says what of a pipeline is probably not meant, and stops nothing.
func (e *env) warned(path string, conf *pipeline.Config) {
	if conf == nil {
		return
	}
	for _, w := range conf.Warnings {
		e.say("%s:%d:%d: warning: %s", path, w.Line, w.Column, w.Text)
	}
}
