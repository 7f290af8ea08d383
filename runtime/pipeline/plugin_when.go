package pipeline

import (
	"errors"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// pluginWhen makes a condition of a manifest's patterns and `when`; fields are those of its reads. nil lets every row through.
func pluginWhen(m *abi.Manifest, fields []event.Field) (*match.Condition, error) {
	if m.When == nil {
		return nil, nil
	}
	patterns := map[int]*match.Condition{}
	for _, p := range m.Patterns {
		c, err := pluginPattern(p, fields[p.Field])
		if err != nil {
			return nil, fmt.Errorf("pattern %d of %s: %w", p.ID, m, err)
		}
		patterns[p.ID] = c
	}
	return choice(*m.When, patterns), nil
}

func choice(w abi.When, patterns map[int]*match.Condition) *match.Condition {
	of := func(list []abi.When) (all []*match.Condition) {
		for _, x := range list {
			all = append(all, choice(x, patterns))
		}
		return all
	}
	switch {
	case len(w.Any) > 0:
		return match.Any(of(w.Any)...)
	case len(w.All) > 0:
		return match.All(of(w.All)...)
	}
	return patterns[w.Pattern]
}

// pluginPattern writes a pattern as a pipeline would: `field|contains|cased: [...]`. Wildcards are characters like others.
func pluginPattern(p abi.Pattern, field event.Field) (*match.Condition, error) {
	key, escape := "field", strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`)
	if p.Op == "cidr" || p.Op == "re" {
		escape = strings.NewReplacer()
	}
	if p.Op != "equals" {
		key += "|" + p.Op
	}
	switch {
	case p.Op == "re" && p.NoCase:
		key += "|i"
	case p.Op != "re" && p.Op != "cidr" && !p.NoCase:
		key += "|cased"
	}
	text := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
	values := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for _, v := range p.Values {
		values.Content = append(values.Content, text(escape.Replace(v)))
	}
	c, problems := match.Compile(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{text(key), values}},
		func(string) (event.Field, error) { return field, nil })
	if len(problems) > 0 {
		return nil, errors.New(problems[0].Text)
	}
	return c, nil
}
