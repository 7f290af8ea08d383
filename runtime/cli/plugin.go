package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const pluginHelp = `Usage: tocsin plugin inspect [--config JSON] MODULE.wasm...

Says what a module is without running a pipeline: its manifest, what it imports, its digest, how near it comes to the caps of
the gate; then runs it in the sandbox on rows that are made up, and says what a row costs. Exit status 2 if the gate, the
manifest or the configuration is refused, 1 if the module fails.
`

func (e *env) plugin(args []string) int {
	if len(args) == 0 || args[0] != "inspect" {
		e.say("tocsin plugin: which of its commands? There is inspect; see `tocsin help plugin`")
		return wrong
	}
	config := "{}"
	args = args[1:]
	if len(args) > 1 && args[0] == "--config" {
		config, args = args[1], args[2:]
	}
	if len(args) == 0 {
		e.say("tocsin plugin inspect: which module? see `tocsin help plugin`")
		return wrong
	}
	status := done
	for i, path := range args {
		if i > 0 {
			fmt.Fprintln(e.out)
		}
		status = max(status, e.inspect(path, config))
	}
	return status
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
	line("digest", "sha256:%x", r.Digest)
	line("size", "%s bytes", count(int64(r.Size)))
	for _, f := range m.Reads {
		required := ""
		if f.Required {
			required = ", required"
		}
		line("reads", "%s (%s%s)", f.Path, f.Type, required)
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
	line("a row", "%.0f ns, %.0f units of fuel, %.1f bytes a row, on %s made-up rows in batches of %s (%s hits)", t.RowNS, t.RowFuel, t.RowBytes, count(int64(t.Rows)), count(int64(t.Batch)), count(t.Hits))
	return done
}
