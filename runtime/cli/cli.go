// Package cli is the command line: run, lint, draft, graph, state, outbox, elasticsearch and plugin are Tocsin's own; create, list, streams and test are Benthos's.
//
// Exit status: 0 done, 1 failed, 2 wrong usage or configuration. Alerts and rows go to standard output, everything said
// about the run to standard error.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"   // stdin, file, http and the like
	_ "github.com/redpanda-data/benthos/v4/public/components/pure" // switch, broker, mapping and the like
	"github.com/redpanda-data/benthos/v4/public/service"
)

// Version is the version of this binary; a release sets it when linking.
var Version = ""

// Exit statuses.
const (
	done   = 0
	failed = 1
	wrong  = 2
)

const help = `Tocsin is a detection runtime for security event streams: one YAML file reads logs, works out
windows and joins in event time, effectively once, and writes alerts.

Usage:
  tocsin <command> [arguments]

Commands:
  run [--fresh] PIPELINE     run a pipeline until its input ends, or until Ctrl-C; goes on where it was
  lint [--online] PIPELINE...
                             check pipelines: every fault with file, line, column and what to do
  draft LOG...               a first pipeline for logs that nobody has described
  graph PIPELINE             the pipeline as a drawing (Mermaid, DOT) or as data, with where columns come from
  state PIPELINE             what the pipeline's state holds, also while it runs: positions, watermarks, keys, their sizes and ages
  state backup PIPELINE FILE, state restore PIPELINE FILE
                             the whole state to one file, also while the pipeline runs, and back
  elasticsearch templates PIPELINE
                             index templates for what it writes to Elasticsearch or OpenSearch, to print or to install
  outbox PIPELINE            what waits for outputs, by lane: rows, bytes, ages, errors
  outbox retry PIPELINE, outbox drop --reason TEXT PIPELINE
                             sends it now, or takes it out
  plugin inspect MODULE...   what a rule in WebAssembly is, what it may do, what a row costs
  plugin test MODULE...      run the cases that stand beside it
  plugin pack ... MODULE     give a module its manifest
  list, create, test, streams
                             Benthos's: list components, draft a pipeline, test mappings, run many pipelines

  tocsin --version           the version
  tocsin help COMMAND        more about a command

Try it:
  tocsin run pipelines/quickstart.yaml

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.
`

// env is where a command reads and writes.
type env struct {
	out, err io.Writer
	log      slog.Handler // of run --log json: what is said goes there; nil: as text to err
}

// say says something to whoever watches; what begins with the program's name is why it fails.
func (e *env) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if e.log == nil {
		fmt.Fprintln(e.err, text)
		return
	}
	level := slog.LevelInfo
	if strings.HasPrefix(text, "tocsin") {
		level = slog.LevelError
	}
	slog.New(e.log).Log(context.Background(), level, text)
}

// command is one of Tocsin's own.
type command struct {
	name, help string
	run        func(e *env, args []string) int
}

var commands = []command{
	{"run", runHelp, (*env).run},
	{"lint", lintHelp, (*env).lint},
	{"draft", draftHelp, (*env).draft},
	{"graph", graphHelp, (*env).graph},
	{"state", stateHelp, (*env).state},
	{"outbox", outboxHelp, (*env).outbox},
	{"elasticsearch", elasticHelp, (*env).elastic},
	{"plugin", pluginHelp, (*env).plugin},
}

// benthosCommands are those of Benthos that have a meaning here.
var benthosCommands = []string{"list", "create", "test", "streams", "blobl", "template", "dry-run"}

// named finds a command of our own.
func named(name string) *command {
	if i := slices.IndexFunc(commands, func(c command) bool { return c.name == name }); i >= 0 {
		return &commands[i]
	}
	return nil
}

// Main runs a command line, without the program's name, and returns the exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	e := &env{out: stdout, err: stderr}
	name := "help"
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	c := named(name)
	switch {
	case c != nil:
		return c.run(e, args)
	case slices.Contains(benthosCommands, name):
		return e.benthos(append([]string{name}, args...))
	}
	switch name {
	case "version", "--version", "-v":
		fmt.Fprintln(stdout, "tocsin "+version())
		return done
	case "help", "--help", "-h":
		return e.help(args)
	}
	e.say("tocsin: there is no command %q%s; see `tocsin help`", name, nearest(name))
	return wrong
}

func (e *env) help(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(e.out, help)
		return done
	}
	if c := named(args[0]); c != nil {
		fmt.Fprint(e.out, c.help)
		return done
	}
	return e.benthos([]string{args[0], "--help"})
}

// benthos hands a command to Benthos, under our name.
func (e *env) benthos(args []string) int {
	code, err := service.RunCLIToCode(context.Background(), service.CLIOptSetArgs(append([]string{"tocsin"}, args...)...),
		service.CLIOptSetBinaryName("tocsin"), service.CLIOptSetProductName("Tocsin"), service.CLIOptSetVersion(version(), ""))
	if err != nil {
		e.say("tocsin: %v", err)
		code = max(code, failed)
	}
	return code
}

func version() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "0.1.0-dev"
}

// nearest suggests the command that was perhaps meant.
func nearest(name string) string {
	known := append([]string{"help"}, benthosCommands...)
	for i := range commands {
		known = append(known, commands[i].name)
	}
	for _, c := range known {
		if strings.HasPrefix(c, name) || strings.HasPrefix(name, c) || sameLetters(c, name) {
			return fmt.Sprintf("; did you mean %q?", c)
		}
	}
	return ""
}

func sameLetters(a, b string) bool {
	x, y := []byte(a), []byte(b)
	slices.Sort(x)
	slices.Sort(y)
	return string(x) == string(y)
}
