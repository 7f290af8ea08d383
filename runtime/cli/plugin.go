package cli

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const pluginHelp = `Usage: tocsin plugin COMMAND

  inspect [--config JSON] MODULE.wasm...
      Says what a module is without running a pipeline: its manifest, what it imports, its digest, how near it comes to the
      caps of the gate; then runs it in the sandbox on rows that are made up, and says what a row costs.

  test [--cases FILE] MODULE.wasm...
      Runs the module's cases, a JSON object a line, in FILE or cases.jsonl beside the module:
          {"name": "...", "config": {...}, "row": {...}, "hits": [{"rule": 1, "severity": "high", "note": {...}}]}
      one row a call, many rows a call, and with a fresh instance for each: answers must not depend on it.
      A plugin that remembers is given rows on a clock of their own, one case after the other, in blocks of several sizes, on
      one to four shards:
          {"name": "...", "rows": [{"time": "2026-01-01T00:00:00Z", "row": {...}}, ...], "delay": "10s", "until": "end",
           "hits": [{"rule": 1, "at": 0}, {"rule": 2, "time": "2026-01-01T00:15:00Z"}]}

  pack -o OUT.wasm --manifest FILE [--script FILE] MODULE.wasm
      Makes a plugin of a module whose toolchain cannot write custom sections: adds the manifest, turns a start function into
      the export _initialize, and puts a script into an interpreter that exports tocsin_script.

  new [--lang c|rust|go] [--sdk DIR] NAME
      Makes a folder for a rule: source, manifest, cases, and build.sh, which builds NAME/NAME.wasm. DIR is the folder sdk of Tocsin's
      sources; ./sdk unless said otherwise.

Exit status 2 if a command line, the gate, the manifest or the configuration is refused, 1 if the module or a case fails.
`

// plugin runs one of the commands for modules.
func (e *env) plugin(args []string) int {
	commands := map[string]func([]string) int{"inspect": e.pluginInspect, "test": e.pluginTest, "pack": e.pluginPack, "new": e.pluginNew}
	if len(args) == 0 || commands[args[0]] == nil {
		e.say("tocsin plugin: which of its commands? There are inspect, test, pack and new; see `tocsin help plugin`")
		return wrong
	}
	return commands[args[0]](args[1:])
}

// flags is a command's set of flags: errors are said by the caller.
func (e *env) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	return f
}

// parse reads flags and says what is wrong with them.
func (e *env) parse(f *flag.FlagSet, args []string, modules int) bool {
	err := f.Parse(args)
	if err == nil && (f.NArg() == 0 || modules > 0 && f.NArg() != modules) {
		err = errors.New("which module?")
	}
	if err != nil {
		e.say("%s: %v; see `tocsin help plugin`", f.Name(), err)
	}
	return err == nil
}

func (e *env) pluginInspect(args []string) int {
	f := e.flags("tocsin plugin inspect")
	config := f.String("config", "{}", "")
	if !e.parse(f, args, 0) {
		return wrong
	}
	status := done
	for i, path := range f.Args() {
		if i > 0 {
			fmt.Fprintln(e.out)
		}
		status = max(status, e.inspect(path, *config))
	}
	return status
}

func (e *env) pluginTest(args []string) int {
	f := e.flags("tocsin plugin test")
	cases := f.String("cases", "", "")
	if !e.parse(f, args, 0) {
		return wrong
	}
	status := done
	for _, path := range f.Args() {
		r, err := pipeline.CheckPlugin(path, *cases)
		if err != nil {
			e.say("%s: %v", path, err)
			status = wrong
			continue
		}
		for _, text := range r.Failures {
			fmt.Fprintln(e.out, text)
			status = max(status, failed)
		}
		fmt.Fprintf(e.out, "%s: %d of %d cases pass, in each of %d ways to call it\n", path, r.Cases-len(r.Failures), r.Cases, r.Ways)
	}
	return status
}

func (e *env) pluginPack(args []string) int {
	f := e.flags("tocsin plugin pack")
	out, manifest, script := f.String("o", "", ""), f.String("manifest", "", ""), f.String("script", "", "")
	if !e.parse(f, args, 1) {
		return wrong
	}
	if *out == "" || *manifest == "" {
		e.say("tocsin plugin pack: it needs -o OUT.wasm and --manifest FILE; see `tocsin help plugin`")
		return wrong
	}
	if err := pipeline.PackPlugin(*out, *manifest, *script, f.Arg(0)); err != nil {
		e.say("tocsin plugin pack: %v", err)
		return wrong
	}
	return done
}

func (e *env) inspect(path, config string) int {
	if !json.Valid([]byte(config)) {
		e.say("tocsin plugin inspect: --config is not JSON: %s", config)
		return wrong
	}
	r, err := pipeline.InspectPlugin(path)
	if err != nil {
		e.say("%s: %v", path, err)
		return wrong
	}
	m := r.Manifest
	line := func(name, format string, args ...any) {
		fmt.Fprintf(e.out, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("module", "%s %s (%s)", m.Name, m.Version, path)
	if m.Description != "" {
		line("", "%s", m.Description)
	}
	line("role", "%s", m.Role())
	line("digest", "sha256:%x", r.Digest)
	line("size", "%s bytes", count(int64(r.Size)))
	for _, f := range m.Reads {
		required := ""
		if f.Required {
			required = ", required"
		}
		line("reads", "%s (%s%s)", f.Path, f.Type, required)
	}
	for _, w := range m.Writes {
		line("writes", "%s (%s)", w.Path, w.Type)
	}
	if a := m.Aggregate; a != nil {
		line("state", "%s bytes, version %d", count(int64(a.StateSize)), a.Version)
	}
	for _, p := range m.Patterns {
		nocase := ""
		if p.NoCase {
			nocase = ", in any case"
		}
		line("pattern", "%d %s %s %q%s", p.ID, m.Reads[p.Field].Path, p.Op, p.Values, nocase)
	}
	if m.When != nil {
		line("when", "%s", m.When)
	}
	for _, name := range m.Tables {
		line("looks up", "%s", name)
	}
	for _, name := range m.Metrics {
		line("counts", "%s", name)
	}
	for _, u := range m.Rules {
		line("rule", "%d %s: %s", u.ID, u.Severity, strings.Join(append([]string{u.Title}, u.Attack...), "  "))
	}
	for _, x := range r.Imports {
		line("imports", "%s.%s", x.Module, x.Name)
	}
	if len(r.Imports) == 0 {
		line("imports", "nothing")
	}
	for _, c := range r.Caps {
		if c.Value > 0 {
			line("cap", "%-38s %12s of %s (%.1f %%)", c.Name, count(int64(c.Value)), count(int64(c.Max)), 100*float64(c.Value)/float64(c.Max))
		}
	}
	t, err := r.Try([]byte(config))
	if err != nil {
		e.say("%s: %v", path, err)
		return failed
	}
	line("limits", "%d MiB of memory, %s units of fuel a call", t.Limits.MemoryMiB, count(t.Limits.FuelPerCall))
	line("load", "%v; start %v", t.Load.Round(10_000), t.Start.Round(10_000))
	line("a row", "%.0f ns, %.0f units of fuel, %.1f bytes a row, on %s made-up rows in batches of %s (%s)", t.RowNS, t.RowFuel, t.RowBytes, count(int64(t.Rows)), count(int64(t.Batch)), t.Outcome(count(t.Hits)))
	return done
}
