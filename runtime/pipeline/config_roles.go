package pipeline

import (
	"fmt"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// pluginRole reads the rest of a plugin that does not detect: a filter or a map. It says whether the module detects.
func (d *decoder) pluginRole(s *source, p *engine.Plugin, m *mapping, path, fields, as *yaml.Node) bool {
	role := p.Module.Manifest.Role()
	if as != nil && role != abi.RoleMap {
		d.wrong(m.key("as"), "as names the columns of a map, and %s has the role %s; leave it out", p.Module.Manifest.Name, role)
	}
	if n := m.get("rules"); n != nil && role != abi.RoleDetect {
		d.wrong(m.key("rules"), "%s has the role %s and no rules; leave them out", p.Module.Manifest.Name, role)
	}
	for _, what := range []string{"suppress", "group", "events"} {
		if m.get(what) != nil && role != abi.RoleDetect {
			d.wrong(m.key(what), "%s is about alerts, and %s has the role %s; put it into alert, beside plugin", what, p.Module.Manifest.Name, role)
		}
	}
	switch {
	case role == abi.RoleDetect:
		if s.body != nil && s.body.get("alert") != nil {
			d.wrong(s.body.key("alert"), "the rows of a plugin are alerts already, as its rules say; `rules` changes them")
		}
		return true
	case role == abi.RoleAggregate:
		d.wrong(path, "%s is an aggregate; it belongs into a window: aggregate: { %s: { plugin: %s } }", path.Value, p.Module.Manifest.Writes[0].Path, path.Value)
	case d.stateless:
		d.wrong(path, "%s has the role %s; the processor detect takes plugins that detect", path.Value, role)
	default:
		d.passing(s, p, path, fields, as)
		return false
	}
	s.passes = func(path string) (event.Field, error) { return d.conf.Spec.Fields.Add(path), nil } // one fault is enough
	return false
}

// passing reads a plugin whose rows are those of its sources: all that pass, or all with columns besides.
func (d *decoder) passing(s *source, p *engine.Plugin, path, fields, as *yaml.Node) {
	d.passOn(s)
	man := p.Module.Manifest
	s.adds = man.Role() == abi.RoleMap
	var read []event.Field
	if pass := s.passes; s.adds {
		s.events = false
		s.passes = func(path string) (event.Field, error) {
			f, err := pass(path)
			if err == nil {
				read = append(read, f)
			}
			return f, err
		}
	}
	names := d.pluginReads(s, p, path, fields)
	when, err := pluginWhen(man, p.Fields)
	if p.When = when; err != nil {
		d.wrong(path, "%s: %v", path.Value, err)
	}
	p.Ident.Form = string(man.Role()) + "/1"
	var of []string
	for _, r := range man.Reads {
		of = append(of, names[r.Path])
	}
	s.print = append(s.print, fmt.Sprintf("plugin of %s: %s of %s where %s", s.name, man.Name, strings.Join(of, ", "), s.op.Where.String()))
	if man.Keyed {
		s.memory = remembers(s, p, names)
	}
	if !s.adds {
		d.alert(s)
		s.init = func(*engine.Spec) { d.initPassed(s, p.Fields) }
		return
	}
	own, from := d.addColumns(s, added{writtenNames(man), func(c string) string { return writtenType(man, c) }, "module", ""}, as)
	p.Written = from
	d.alert(s)
	s.init = func(*engine.Spec) {
		p.Whole = d.conf.Spec.Fields.Add(event.Whole)
		p.Columns = d.initAdded(s, p.Fields, read, own)
	}
}

func writtenNames(m *abi.Manifest) (names []string) {
	for _, w := range m.Writes {
		names = append(names, w.Path)
	}
	return names
}

// writtenType is the type of fields of a column that a module writes.
func writtenType(m *abi.Manifest, column string) string {
	for _, w := range m.Writes {
		if w.Path == column {
			return map[abi.Type]string{abi.Bool: "bool", abi.I32: "int", abi.I64: "int", abi.U32: "int", abi.U64: "int", abi.F64: "float",
				abi.UTF8: "string", abi.TimestampMS: "timestamp", abi.IP: "ip"}[w.Type]
		}
	}
	return ""
}

// pluginAggregate reads an aggregate of a window that is a plugin's, and returns the type of its column.
func (d *decoder) pluginAggregate(s *source, a *operator.Aggregate, m *mapping, path *yaml.Node, column string) string {
	p := &engine.Plugin{Ident: operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name + "." + column}}
	digest, config, fields, limits := m.get("digest"), m.get("config"), m.get("fields"), d.limits(p, m.get("limits"))
	p.OnFailure = d.onFailure(m)
	every := time.Duration(d.span(m.get("reload"), "reload", 0, time.Second)) * time.Millisecond
	d.conf.plugins = append(d.conf.plugins, pluginFile{pluginPlace{s.name, column}, every})
	if p.CPU > 0 {
		d.wrong(m.key("limits"), "limits: { cpu } is for a plugin that is an operator; of an aggregate fuel_per_call bounds each call: leave cpu out")
	}
	a.Where = d.condition(m.get("where"), d.fieldOf(s), d.typeOf(s))
	m.done()
	if path.Kind != yaml.ScalarNode {
		d.wrong(path, "plugin must be the path of a .wasm file, not %s; config, fields and limits stand beside it", shown(path))
		return ""
	}
	if d.module(p, path, digest, limits); p.Module == nil {
		return ""
	}
	man := p.Module.Manifest
	if man.Role() != abi.RoleAggregate {
		d.wrong(path, "%s has the role %s; the aggregate of a window must be a module with the role aggregate", path.Value, man.Role())
		return ""
	}
	d.pluginConfig(p, path, config)
	d.pluginReads(s, p, path, fields)
	when, err := pluginWhen(man, p.Fields)
	if err != nil {
		d.wrong(path, "%s: %v", path.Value, err)
	}
	a.Where = match.All(a.Where, when)
	a.Func, a.Provider = operator.Opaque, &engine.Aggregator{Plugin: p}
	return writtenType(man, man.Writes[0].Path)
}

// opaquePrint is the fingerprint of an aggregate of a plugin: what its states are made of, and whether another build reads them.
func (d *decoder) opaquePrint(a *operator.Aggregate) string {
	p := a.Provider.(*engine.Aggregator)
	var of []string
	for _, f := range p.Plugin.Fields {
		of = append(of, d.conf.Spec.Fields.Path(f))
	}
	man := p.Module.Manifest
	return fmt.Sprintf("aggregate %s: plugin %s, states of version %d with %d bytes, config %s, of %s where %s", d.conf.Spec.Fields.Path(a.Name), man.Name,
		man.Aggregate.Version, man.Aggregate.StateSize, p.Config, strings.Join(of, ", "), a.Where.String())
}
