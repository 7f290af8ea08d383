package pipeline

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/table"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// modules is the process's host of modules. It keeps what it compiles in the user's cache folder; without one, or with one
// that cannot be trusted, every start compiles again.
var modules = sync.OnceValues(func() (*wasm.Host, error) {
	folder, err := os.UserCacheDir()
	if err == nil {
		h, err := wasm.NewHost(filepath.Join(folder, "tocsin", "modules"))
		if err == nil {
			return h, nil
		}
		cacheFault = err
	}
	return wasm.NewHost("")
})

// cacheFault is why compiled modules are not kept, once modules was called.
var cacheFault error

// readModule reads a module's file, at most what the gate lets through.
func readModule(path string) ([]byte, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(full); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", full)
	}
	f, err := os.Open(full)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, wasm.FileMax+1))
}

var limitsCeiling = struct{ memory, fuel, state int }{1024, 1_000_000_000_000, 1024}

// plugin reads an operator whose logic is a module.
func (d *decoder) plugin(s *source) {
	m := d.mapping(s.body.get("plugin"), "plugin")
	if m == nil {
		return
	}
	m.need("from", "the stream or operator, or a list of them, whose rows it judges")
	every := time.Duration(d.span(m.get("reload"), "reload", 0, time.Second)) * time.Millisecond
	d.conf.plugins = append(d.conf.plugins, pluginFile{pluginPlace{s.name, ""}, every})
	d.pluginBody(s, m)
}

// pluginBody reads everything of a plugin but where its rows come from.
func (d *decoder) pluginBody(s *source, m *mapping) {
	p := &engine.Plugin{Ident: operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name, Form: "detect/1"}, Rules: map[uint32]*engine.Rule{}}
	s.op.Plugin = p
	s.op.Where = d.condition(m.get("where"), d.fieldOf(s), d.typeOf(s))
	p.OnFailure = d.onFailure(m)
	limits := d.limits(p, m.get("limits"))
	path, digest, config, fields, rules := m.need("module", "the path of a .wasm file"), m.get("digest"), m.get("config"), m.get("fields"), m.get("rules")
	maxKeys := m.get("max_keys")
	p.MaxKeys = d.int(maxKeys, "max_keys", 0, 1, keysMost)
	all := dampers{m.get("suppress"), m.get("group"), d.int(m.get("events"), "events", 0, 1, eventsMax)}
	as, tables := m.get("as"), m.get("tables")
	m.done()
	if d.module(p, path, digest, limits); p.Module == nil {
		s.cols = nil
		s.passes = func(path string) (event.Field, error) { return d.conf.Spec.Fields.Add(path), nil } // one fault is enough
		return
	}
	if !p.Module.Manifest.Keyed && maxKeys != nil {
		d.wrong(m.key("max_keys"), "%s remembers nothing; leave max_keys out", p.Module.Manifest.Name)
	}
	d.pluginConfig(p, path, config)
	d.pluginTables(p, tables)
	if !d.pluginRole(s, p, m, path, fields, as) {
		return
	}
	s.cols = []string{"rule_id", "severity", "note"}
	s.types = maps.Clone(d.sharedTypes(s))
	s.typed("rule_id", "int")
	s.typed("severity", "string")
	s.typed("note", "json")
	var pass []event.Field
	resolve := d.fieldOf(s)
	s.passes = func(path string) (event.Field, error) {
		f, err := resolve(path)
		pass = append(pass, f)
		return f, err
	}
	names := d.pluginReads(s, p, path, fields)
	when, err := pluginWhen(p.Module.Manifest, p.Fields)
	if p.When = when; err != nil {
		d.wrong(path, "%s: %v", path.Value, err)
	}
	d.rules(s, p, rules, names, all)
	for i := range p.Module.Manifest.Rules {
		d.warnAttack(path, strconv.Itoa(int(p.Module.Manifest.Rules[i].ID)), p.Module.Manifest.Rules[i].Attack)
	}
	if p.Module.Manifest.Keyed {
		s.print = append(s.print, remembers(s, p, names)...)
	}
	s.init = func(spec *engine.Spec) { d.initPlugin(s, p, append(pass, p.Fields...)) }
}

// remembers names the fields of the key of a plugin that remembers, and returns what shapes its state: what its module says of it, but
// not the module itself, nor its configuration, so that a rule may be mended and goes on where it was.
func remembers(s *source, p *engine.Plugin, names map[string]string) []string {
	m := p.Module.Manifest
	for _, i := range m.KeyBy {
		p.KeyNames = append(p.KeyNames, alert.Column{Name: names[m.Reads[i].Path], Field: p.Fields[i]})
	}
	lines := []string{"plugin: " + m.Name, "state version: " + strconv.Itoa(m.State.Version), "where: " + s.op.Where.String()}
	for _, i := range m.KeyBy {
		lines = append(lines, fmt.Sprintf("key_by: %s as %s", names[m.Reads[i].Path], m.Reads[i].Type))
	}
	for _, x := range m.State.Slots {
		lines = append(lines, fmt.Sprintf("slot %d: map %v", x.ID, x.Map))
	}
	if m.State.Timers > 0 {
		lines = append(lines, fmt.Sprintf("timer_step: %dms", m.State.Step))
	}
	return lines
}

func (d *decoder) onFailure(m *mapping) engine.Failure {
	return map[string]engine.Failure{"alert": engine.FailureAlert, "stop": engine.FailureStop, "skip": engine.FailureSkip}[d.enum(
		m.get("on_failure"), "on_failure", "alert", "alert", "stop", "skip")]
}

func (d *decoder) limits(p *engine.Plugin, n *yaml.Node) (l wasm.Limits) {
	if n == nil {
		return l
	}
	if m := d.mapping(n, "limits"); m != nil {
		l.MemoryMiB = d.int(m.get("memory_mib"), "memory_mib", 0, 1, limitsCeiling.memory)
		l.FuelPerCall = int64(d.int(m.get("fuel_per_call"), "fuel_per_call", 0, 1, limitsCeiling.fuel))
		l.StateKiB = d.int(m.get("state_kib"), "state_kib", 0, 1, limitsCeiling.state)
		d.budget(p, m)
		m.done()
	}
	return l
}

// module loads the module, once its digest is the one that was asked for.
func (d *decoder) module(p *engine.Plugin, n, digest *yaml.Node, limits wasm.Limits) {
	path := d.text(n, "module")
	if path == "" {
		return
	}
	code, err := readModule(path)
	if err != nil {
		d.wrong(n, "%v; paths are relative to the working directory", err)
		return
	}
	m, err := wasm.Inspect(code)
	if err != nil {
		d.wrong(n, "%s: %v", path, err)
		return
	}
	if is := "sha256:" + hex.EncodeToString(m.Digest[:]); digest != nil && d.text(digest, "digest") != is {
		d.wrong(digest, "%s has the digest %s; it is not the module that was asked for", path, is)
		return
	}
	if same := d.running.loaded(m.Digest, limits); same != nil {
		p.Module = same
		return
	}
	host, err := modules()
	if err == nil {
		m, err = host.Load(code, wasm.Options{Ceiling: limits})
	}
	if err != nil {
		d.wrong(n, "%s: %v", path, err)
		return
	}
	p.Module = m
}

// pluginConfig checks the configuration against the module's schema and starts the module with it, once.
func (d *decoder) pluginConfig(p *engine.Plugin, path, n *yaml.Node) {
	p.Config = []byte("{}")
	at := path
	if n != nil {
		at = n
		var v any
		err := n.Decode(&v)
		if err == nil {
			p.Config, err = json.Marshal(v)
		}
		if err != nil {
			d.wrong(n, "config cannot be written as JSON: %v", err)
			return
		}
	}
	problems := p.Module.CheckConfig(p.Config)
	for _, x := range problems {
		d.wrong(find(at, x.Path), "%s", strings.TrimPrefix("config."+strings.Join(x.Path, ".")+": "+x.Text, "config.: "))
	}
	if len(problems) > 0 {
		return
	}
	if err := p.Module.Check(p.Config); err != nil {
		d.wrong(at, "%s does not start: %v", path.Value, err)
	}
}

// find is the node at a path, or the last one on the way.
func find(n *yaml.Node, path []string) *yaml.Node {
	for _, key := range path {
		n = resolve(n)
		next := peek(n, key)
		if i, err := strconv.Atoi(key); err == nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
			next = n.Content[i]
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

// pluginReads resolves what the module reads, by the names that `fields` gives; the names are those of the pipeline.
func (d *decoder) pluginReads(s *source, p *engine.Plugin, path, n *yaml.Node) (names map[string]string) {
	names = map[string]string{}
	at := map[string]*yaml.Node{}
	if n != nil {
		if m := d.mapping(n, "fields"); m != nil {
			var known []string
			for _, r := range p.Module.Manifest.Reads {
				known = append(known, r.Path)
				if x := m.get(r.Path); x != nil {
					names[r.Path], at[r.Path] = d.text(x, "the field for "+r.Path), x
				}
			}
			m.known = known
			m.done()
		}
	}
	for _, r := range p.Module.Manifest.Reads {
		mapped := names[r.Path]
		if mapped == "" {
			mapped = r.Path
		}
		names[r.Path] = mapped
		f, err := d.fieldOf(s)(mapped)
		switch {
		case err == nil:
		case at[r.Path] != nil:
			d.wrong(at[r.Path], "%v", err)
		case r.Required:
			d.wrong(path, "%s needs %s: %v; say which of your fields it is: fields: { %s: ... }", p.Module.Manifest.Name, r.Path, err, r.Path)
		}
		p.Fields = append(p.Fields, f)
		place := path
		if at[r.Path] != nil {
			place = at[r.Path]
		}
		for _, in := range d.inputs(s) {
			if t := in.types[mapped]; slices.Contains(never[t], r.Type) {
				d.wrong(place, "%s reads %s as %s; %s of %s is of the type %s, which never becomes one", p.Module.Manifest.Name, r.Path, r.Type, mapped, in.name, t)
			}
		}
	}
	return names
}

// never are the types of a module's fields that no value of a type of fields becomes (abi/README.md, Conversion).
var never = map[string][]abi.Type{
	"int":       {abi.Bool, abi.IP},
	"float":     {abi.Bool, abi.IP},
	"bool":      {abi.I32, abi.I64, abi.U32, abi.U64, abi.F64, abi.TimestampMS, abi.IP},
	"timestamp": {abi.Bool, abi.IP},
	"ip":        {abi.Bool, abi.I32, abi.I64, abi.U32, abi.U64, abi.F64, abi.TimestampMS},
}

// pluginTables grants tables: by the module's names, those of the pipeline.
func (d *decoder) pluginTables(p *engine.Plugin, n *yaml.Node) {
	names := p.Module.Manifest.Tables
	p.Tables = make([]*table.Source, len(names))
	if n == nil {
		return
	}
	m := d.mapping(n, "tables")
	if m == nil {
		return
	}
	if len(names) == 0 {
		d.wrong(n, "%s looks nothing up; leave tables out", p.Module.Manifest.Name)
		return
	}
	for i, name := range names {
		if x := m.get(name); x != nil {
			if k := d.tableOf(x); k != nil {
				if p.Tables[i] = k.source; k.stream != nil {
					d.wrong(x, "%s is kept from a stream, and plugins look up tables of files; enrich the rows before they come here", x.Value)
				}
			}
		}
	}
	m.done()
}

// dampers are what of an alert is worked out over time, as it is written.
type dampers struct {
	suppress, group *yaml.Node
	events          int
}

// rules makes the alert of each rule of the module, as the pipeline wants it; all is for those that say nothing of their own.
func (d *decoder) rules(s *source, p *engine.Plugin, n *yaml.Node, names map[string]string, all dampers) {
	man := p.Module.Manifest
	for i := range man.Rules {
		u := &man.Rules[i]
		p.Rules[u.ID] = &engine.Rule{Alert: d.ruleAlert(man, u, p, names)}
	}
	own := map[uint32]dampers{}
	defer func() {
		for i := range man.Rules {
			id := man.Rules[i].ID
			x, said := own[id]
			if !said {
				x = all
			}
			t := p.Rules[id].Alert
			t.Events = x.events
			d.dampens(s, x.suppress, x.group, t, strconv.Itoa(int(id)), func(path string) (event.Field, error) { return d.field(s, path) })
		}
	}()
	if n == nil {
		return
	}
	m := d.mapping(n, "rules")
	if m == nil {
		return
	}
	for i := range man.Rules {
		id := strconv.Itoa(int(man.Rules[i].ID))
		x := m.get(id)
		if x == nil {
			continue
		}
		if o := d.mapping(x, "rule "+id); o != nil {
			r := p.Rules[man.Rules[i].ID]
			damp := dampers{o.get("suppress"), o.get("group"), d.int(o.get("events"), "events", all.events, 1, eventsMax)}
			if damp.suppress == nil && damp.group == nil {
				damp.suppress, damp.group = all.suppress, all.group
			}
			own[man.Rules[i].ID] = damp
			if on := o.get("enabled"); on != nil {
				r.Off = !d.bool(on, "enabled")
			}
			r.Severity = d.enum(o.get("severity"), "severity", "", alert.Severities...)
			r.Except = d.condition(o.get("except"), d.fieldOf(s), d.typeOf(s))
			o.done()
		}
	}
	m.done()
}

func (d *decoder) ruleAlert(man *abi.Manifest, u *abi.Rule, p *engine.Plugin, names map[string]string) *alert.Template {
	column := func(path string) alert.Column {
		i := slices.IndexFunc(man.Reads, func(r abi.Read) bool { return r.Path == path })
		return alert.Column{Name: names[path], Field: p.Fields[i]}
	}
	text := func(s string) alert.Text {
		t, err := alert.ParseText(s, func(path string) (event.Field, error) { return column(path).Field, nil })
		if err != nil {
			t, _ = alert.ParseText(strings.NewReplacer("{", "{{", "}", "}}").Replace(s), nil)
		}
		return t
	}
	t := &alert.Template{
		Rule:  alert.Rule{ID: fmt.Sprintf("%s/%d", man.Name, u.ID), Name: alert.Constant(u.Title), Source: man.Name, Version: man.Version},
		Title: text(u.Title), Description: text(u.Description), Severity: u.Severity, RiskScore: u.RiskScore,
		Attack: u.Attack, References: u.References, Innocent: u.FalsePositives,
	}
	if t.RiskScore < 0 {
		t.RiskScore = alert.Scores[t.Severity]
	}
	for _, e := range u.Entities {
		t.Entities = append(t.Entities, alert.Entity{Field: column(e.Field), Type: e.Type, Role: e.Role})
	}
	return t
}

// initPlugin finds the columns of the plugin's rows: of operators all of theirs, of events the event itself and what somebody
// reads of it.
func (d *decoder) initPlugin(s *source, p *engine.Plugin, pass []event.Field) {
	fields := d.conf.Spec.Fields
	p.Whole = fields.Add(event.Whole)
	p.RuleID, p.Severity, p.Note = fields.Add("rule_id"), fields.Add("severity"), fields.Add("note")
	own := []event.Field{p.RuleID, p.Severity, p.Note}
	var row []event.Field
	add := func(list []event.Field, f event.Field) []event.Field {
		if slices.Contains(own, f) || slices.Contains(list, f) {
			return list
		}
		return append(list, f)
	}
	for _, in := range d.inputs(s) {
		if in.stream != nil {
			row = add(row, p.Whole)
			continue
		}
		for _, c := range in.op.Names {
			row = add(row, c.Field)
		}
	}
	p.Columns = slices.Clone(row)
	for _, f := range pass {
		p.Columns = add(p.Columns, f)
	}
	p.Columns = append(p.Columns, own...)
	s.op.Names = d.columns(append(row, own...))
	columns := s.op.Names
	if slices.Contains(row, p.Whole) { // the event itself is in the alert's events
		columns = d.columns(slices.DeleteFunc(slices.Clone(p.Columns), func(f event.Field) bool { return f == p.Whole }))
	}
	for _, r := range p.Rules {
		r.Alert.Columns = columns
	}
}
