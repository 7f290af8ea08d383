// Command reference writes a page for each component that Tocsin adds to Benthos, from the component's own specification, so that no
// page can be stale. `go generate ./docs/reference` writes them; a test compares.
//
// It imports our components and none of Benthos's: what is registered here is ours.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	_ "github.com/seed-98920119/tocsin/runtime/pipeline"
)

//go:generate go run . .

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write puts the pages into a folder, and removes those of components that are gone.
func write(dir string) error {
	pages, err := pages()
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if pages[filepath.Base(path)] == nil {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// component is a specification, as Benthos gives it in JSON.
type component struct {
	Name, Type, Summary, Description string
	Config                           field
	Examples                         []struct{ Title, Summary, Config string }
}

// field is one of its fields. Kind says whether it is one value, a list or a map of them.
type field struct {
	Name, Type, Kind, Description string
	Optional                      bool            `json:"is_optional"`
	Default                       json.RawMessage // nil: none
	Options                       []string
	Annotated                     [][2]string `json:"annotated_options"`
	Children                      []field
}

// kinds are the types of components, in the order in which a pipeline has them.
var kinds = []string{"input", "buffer", "processor", "scanner", "output"}

// components are all that are registered, by type and name.
func components() (out []component, err error) {
	visit := func(_ string, view *service.ConfigView) {
		var c component
		text, e := view.FormatJSON()
		if e == nil {
			e = json.Unmarshal(text, &c)
		}
		if err == nil {
			err = e
		}
		out = append(out, c)
	}
	env := service.GlobalEnvironment()
	for _, walk := range []func(func(string, *service.ConfigView)){env.WalkInputs, env.WalkBuffers, env.WalkProcessors, env.WalkScanners, env.WalkOutputs,
		env.WalkCaches, env.WalkRateLimits, env.WalkMetrics, env.WalkTracers} {
		walk(visit)
	}
	slices.SortStableFunc(out, func(a, b component) int {
		if a.Type != b.Type {
			return slices.Index(kinds, a.Type) - slices.Index(kinds, b.Type)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out, err
}

// pages are all pages by the name of their file.
func pages() (map[string][]byte, error) {
	all, err := components()
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	var index bytes.Buffer
	index.WriteString(head + "# Reference\n\nThe components that Tocsin adds to [Benthos](https://docs.redpanda.com/redpanda-connect/components/about/), " +
		"each with all of its fields and examples. How pipelines are\nwritten is in [pipelines.md](../pipelines.md).\n\n| | | |\n|---|---|---|\n")
	for i, c := range all {
		name := c.Name
		if slices.ContainsFunc(all[:i], func(x component) bool { return x.Name == name }) {
			name = c.Type + "_" + name
		}
		fmt.Fprintf(&index, "| %s | [%s](%s.md) | %s |\n", c.Type, c.Name, name, c.Summary)
		out[name+".md"] = c.page()
	}
	out["README.md"] = index.Bytes()
	return out, nil
}

const head = "<!-- Written by `go generate ./docs/reference`. -->\n"

func (c component) page() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s# %s\n\n%s of type `%s`. %s\n", head, c.Name, strings.ToUpper(c.Type[:1])+c.Type[1:], c.Name, c.Summary)
	if c.Description != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(c.Description))
	}
	b.WriteString("\n## Fields\n\n")
	if len(c.Config.Children) == 0 {
		b.WriteString("It has none.\n")
	} else {
		b.WriteString("| field | type | default | |\n|---|---|---|---|\n")
		rows(&b, "", c.Config.Children)
	}
	b.WriteString("\n## Examples\n")
	for _, e := range c.Examples {
		fmt.Fprintf(&b, "\n%s.", e.Title)
		if e.Summary != "" {
			fmt.Fprintf(&b, " %s", strings.TrimSpace(e.Summary))
		}
		fmt.Fprintf(&b, "\n\n```yaml\n%s\n```\n", strings.TrimSpace(e.Config))
	}
	return b.Bytes()
}

// rows writes the fields, and behind each those that it has itself.
func rows(b *bytes.Buffer, in string, fields []field) {
	for _, f := range fields {
		text := strings.ReplaceAll(strings.TrimSpace(f.Description), "\n", " ")
		if options := f.options(); len(options) > 0 {
			text += " One of `" + strings.Join(options, "`, `") + "`."
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", in, f.Name, f.is(), f.otherwise(), strings.ReplaceAll(text, "|", "\\|"))
		rows(b, in+f.Name+".", f.Children)
	}
}

// options are the values that a field may have, if they are few.
func (f field) options() []string {
	all := slices.Clone(f.Options)
	for _, o := range f.Annotated {
		all = append(all, o[0])
	}
	return all
}

// is says what the value is.
func (f field) is() string {
	name := map[string]string{"unknown": "any", "object": "mapping"}[f.Type]
	if name == "" {
		name = f.Type
	}
	switch f.Kind {
	case "array":
		return "list of " + name
	case "map":
		return "mapping of names to " + name
	}
	return name
}

// otherwise is the value that a field has if nothing is said.
func (f field) otherwise() string {
	switch {
	case f.Default != nil && string(f.Default) != `""`:
		return "`" + strings.Trim(string(f.Default), `"`) + "`"
	case f.Default != nil || f.Optional || f.Type == "object" && !slices.ContainsFunc(f.Children, field.needed):
		return ""
	}
	return "needed"
}

func (f field) needed() bool { return f.otherwise() == "needed" }
