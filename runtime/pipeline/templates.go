package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/elastic"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// TemplateOptions say how index templates are written.
type TemplateOptions struct {
	Output     string // the label of an output, or its number from 1 on; empty: all
	OpenSearch bool   // for OpenSearch, which calls some types otherwise
	Replicas   int    // copies of each shard; -1: none on a single node, one elsewhere
	Dynamic    bool   // index fields that nobody has declared as well
	Priority   int    // of the least special pattern
}

// ElasticOutput is an output `elasticsearch_bulk` and the index templates of what it writes.
type ElasticOutput struct {
	Name      string // its label, or its number
	Line      int    // of its key in the file
	Templates []elastic.Template
	Notes     []string // what is perhaps not meant
	conf      elasticConfig
}

// Client reaches the output's cluster, as the output itself does.
func (o *ElasticOutput) Client(warn func(format string, args ...any)) (*elastic.Client, error) {
	return o.conf.client(warn)
}

// leaving is what leaves the detect buffer: rows, alerts, late or error rows of an operator, with the columns that they have. The operator is
// empty where the metadata has none.
type leaving struct {
	kind, operator string
	columns        map[string]string // to its type, one of fieldTypes, json, or empty for any single value
}

// leaving lists what leaves.
func (d *decoder) leaving() (list []leaving) {
	events := map[string]string{}
	for _, s := range d.nodes {
		maps.Copy(events, d.eventFields(s)) // whatever comes too late
	}
	for _, o := range d.ops {
		if o.op.Leaves {
			columns := maps.Clone(o.types)
			if columns == nil {
				columns = map[string]string{}
			}
			if slices.ContainsFunc(o.op.Names, func(c alert.Column) bool { return c.Name == event.Whole }) {
				for path, typ := range d.eventFields(o) {
					if _, ok := columns[path]; !ok {
						columns[path] = typ
					}
				}
			}
			for _, c := range o.op.Names {
				if typ := o.types[c.Name]; c.Name != event.Whole {
					columns[c.Name] = typ
				}
			}
			for _, mark := range []string{"truncated", "approximate"} {
				if _, ok := columns[mark]; ok {
					columns[mark] = "bool"
				}
			}
			list = append(list, leaving{"row", o.name, columns})
			if o.op.Alert != nil || o.op.Plugin.Detects() {
				list = append(list, leaving{"alert", o.name, columns})
			}
		}
		list = append(list, leaving{"late", o.name, events}, leaving{"error", o.name, nil})
		if o.op.Plugin != nil {
			list = append(list, leaving{"alert", o.name, healthTypes})
		}
		if w := o.op.Window; w != nil {
			for _, a := range w.Aggregates {
				if a.Func == operator.Opaque {
					list = append(list, leaving{"alert", o.name + "." + d.conf.Spec.Fields.Path(a.Name), healthTypes})
				}
			}
		}
	}
	return append(list, leaving{"late", "", events}, leaving{"error", "", nil})
}

// eventFields are the fields of events that a source passes on or is: those that have a type, and those that somebody reads.
func (d *decoder) eventFields(s *source) map[string]string {
	fields := map[string]string{}
	for _, in := range d.inputs(s) {
		if in.whole {
			maps.Copy(fields, d.eventFields(in))
		}
	}
	for _, f := range d.reads[s.name] {
		if path := d.conf.Spec.Fields.Path(f); s.stream != nil && path != event.Whole {
			fields[path] = ""
		}
	}
	maps.Copy(fields, s.types)
	return fields
}

// Templates are the index templates for the outputs `elasticsearch_bulk` of a pipeline file that Check found no fault in, and whose Config it gave.
func Templates(conf *Config, src []byte, o TemplateOptions) ([]ElasticOutput, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(src, &root); err != nil || len(root.Content) == 0 {
		return nil, fmt.Errorf("no pipeline: %v", err)
	}
	top := substituted(root.Content[0])
	w := &templater{TemplateOptions: o}
	var processors []string
	if n := peek(top, "pipeline"); n != nil {
		processors = processorNames(peek(n, "processors"))
	}
	if n := peek(top, "output"); n != nil {
		w.walk(n, conf.leaves, processors, 0)
	}
	if len(w.outputs) == 0 {
		return nil, fmt.Errorf("it has no output elasticsearch_bulk")
	}
	if o.Output == "" {
		return w.outputs, nil
	}
	var names []string
	for i, x := range w.outputs {
		if names = append(names, x.Name); x.Name == o.Output || fmt.Sprint(i+1) == o.Output {
			return w.outputs[i : i+1], nil
		}
	}
	return nil, fmt.Errorf("it has no output elasticsearch_bulk with the label %q%s", o.Output, suggest(o.Output, names))
}

// templater finds the outputs, and what reaches them.
type templater struct {
	TemplateOptions
	outputs []ElasticOutput
}

// walk goes down from a component to the outputs in it; rows are what it is given.
func (w *templater) walk(n *yaml.Node, rows []leaving, processors []string, depth int) {
	if n = resolve(n); n.Kind != yaml.MappingNode || depth > nestedMax {
		return
	}
	processors = append(slices.Clone(processors), processorNames(peek(n, "processors"))...)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, body := n.Content[i], resolve(n.Content[i+1])
		if key.Value == "elasticsearch_bulk" {
			w.output(n, key, body, rows, processors)
			continue
		}
		if key.Value == "switch" {
			w.cases(peek(body, "cases"), rows, processors, depth)
			continue
		}
		inner, _ := held(key.Value, body)
		for _, x := range inner {
			w.walk(x.node, rows, processors, depth+1)
		}
	}
}

// cases gives each case of a switch what may reach it, as far as its check is about kinds and operators alone.
func (w *templater) cases(cases *yaml.Node, rows []leaving, processors []string, depth int) {
	if cases == nil || cases.Kind != yaml.SequenceNode {
		return
	}
	for _, x := range cases.Content {
		check, output, goes := peek(x, "check"), peek(x, "output"), peek(x, "continue")
		answer := func(r leaving) string {
			if check == nil || check.Value == "" {
				return "true"
			}
			text, _ := r.fill("${! " + check.Value + " }")
			return text
		}
		if output != nil {
			w.walk(output, slices.DeleteFunc(slices.Clone(rows), func(r leaving) bool { return answer(r) == "false" }), processors, depth+1)
		}
		if goes == nil || goes.Value != "true" {
			rows = slices.DeleteFunc(slices.Clone(rows), func(r leaving) bool { return answer(r) == "true" })
		}
	}
}

// rowWords are the words of an expression whose value follows from a row's kind and operator; with any other word nobody knows it before.
var (
	interpolated = regexp.MustCompile(`\$\{!((?:[^}"]|"(?:[^"\\]|\\.)*")*)\}`)
	quotedText   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	ofRow        = regexp.MustCompile(`@(?:kind|operator)\b|\b(?:meta|metadata)\("(?:kind|operator)"\)`)
	words        = regexp.MustCompile(`[A-Za-z_@][A-Za-z0-9_]*`)
	rowWords     = []string{"lowercase", "uppercase", "or", "replace_all", "replace", "trim", "slice", "string", "has_prefix", "has_suffix", "contains", "if", "else", "true", "false", "null"}
)

// fill fills the parts of a text that a row's kind and operator decide, and puts * for others; certain says that there are none of these.
func (r *leaving) fill(text string) (filled string, certain bool) {
	certain = true
	filled = interpolated.ReplaceAllStringFunc(text, func(part string) string {
		inner := interpolated.FindStringSubmatch(part)[1]
		rest := quotedText.ReplaceAllString(ofRow.ReplaceAllString(inner, " "), " ")
		if !slices.ContainsFunc(words.FindAllString(rest, -1), func(word string) bool { return !slices.Contains(rowWords, word) }) {
			msg := service.NewMessage([]byte("{}"))
			msg.MetaSet("kind", r.kind)
			if r.operator != "" {
				msg.MetaSet("operator", r.operator)
			}
			expr, err := service.NewInterpolatedString(part)
			if err == nil {
				if value, err := expr.TryString(msg); err == nil {
					return value
				}
			}
		}
		certain = false
		return "*"
	})
	return filled, certain
}

// output makes the templates of one output.
func (w *templater) output(n, key, body *yaml.Node, rows []leaving, processors []string) {
	conf, _ := decodeElasticBulk(body)
	out := ElasticOutput{Name: fmt.Sprint(len(w.outputs) + 1), Line: key.Line, conf: conf}
	if label := peek(n, "label"); label != nil {
		out.Name = label.Value
	}
	text := peek(body, "index").Value
	found := map[string]*mapped{}
	for _, r := range rows {
		pattern, _ := r.fill(text)
		for strings.Contains(pattern, "**") {
			pattern = strings.ReplaceAll(pattern, "**", "*")
		}
		if strings.HasPrefix(pattern, "*") {
			out.note("index %q may be any index, so that no template can be made for it: let it begin with a text", text)
			continue
		}
		if fault := indexFault(strings.ReplaceAll(pattern, "*", "x")); fault != "" {
			out.note("index %q of rows of the kind %s: %s", pattern, r.kind, fault)
			continue
		}
		m := found[pattern]
		if m == nil {
			m = &mapped{fields: map[string]string{}, noted: map[string]bool{}, note: func(format string, args ...any) { out.note("index "+pattern+": "+format, args...) }}
			found[pattern] = m
		}
		m.take(&r, processors)
	}
	patterns := slices.SortedFunc(maps.Keys(found), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(strings.ReplaceAll(a, "*", "")), len(strings.ReplaceAll(b, "*", ""))), cmp.Compare(a, b))
	})
	for i, pattern := range patterns {
		out.Templates = append(out.Templates, elastic.Template{Name: templateName(pattern), Body: w.body(found[pattern], pattern, w.Priority+i, &conf)})
	}
	w.outputs = append(w.outputs, out)
}

func (o *ElasticOutput) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(o.Notes, text) {
		o.Notes = append(o.Notes, text)
	}
}

func templateName(pattern string) string {
	return "tocsin." + strings.ReplaceAll(pattern, "*", "any")
}

// body is a template as both servers take it.
func (w *templater) body(m *mapped, pattern string, priority int, c *elasticConfig) map[string]any {
	if c.timestamp != "" {
		m.add(c.timestamp, "timestamp")
	}
	if c.metadata {
		for _, x := range rowMeta {
			m.add("_tocsin."+x.name, "string")
			if x.number {
				m.fields["_tocsin."+x.name] = "int"
			}
		}
		m.fields["_tocsin.event_time_ms"] = "timestamp"
	}
	settings := map[string]any{"mapping": map[string]any{"ignore_malformed": true}}
	if w.Replicas < 0 {
		settings["auto_expand_replicas"] = "0-1"
	} else {
		settings["number_of_replicas"] = w.Replicas
	}
	mappings := map[string]any{"dynamic": w.Dynamic, "properties": m.properties(w.OpenSearch)}
	if w.Dynamic {
		mappings["dynamic_templates"] = []any{map[string]any{"texts": map[string]any{"match_mapping_type": "string", "mapping": keyword()}}}
	}
	body := map[string]any{"index_patterns": []any{pattern}, "priority": priority, "template": map[string]any{"settings": map[string]any{"index": settings}, "mappings": mappings},
		"_meta": map[string]any{"tocsin": map[string]any{"version": 1}}}
	if c.stream {
		body["data_stream"] = map[string]any{}
	}
	return body
}

// mapped are the fields of an index, by path: the types of columns, and those that only a document's form needs.
type mapped struct {
	fields map[string]string
	noted  map[string]bool // fields of which something was said
	note   func(format string, args ...any)
}

// take adds the fields of what leaves.
func (m *mapped) take(r *leaving, processors []string) {
	switch r.kind {
	case "alert":
		m.alert(r, processors)
	case "error":
		for name, typ := range map[string]string{"error": "string", "detail": "text", "source": "string", "offset": "int", "raw": "text", "raw_base64": "stored", "result_id": "string"} {
			m.add(name, typ)
		}
	case "late":
		m.columns("", r.columns)
		m.add("raw", "text")
	default:
		m.columns("", r.columns)
	}
}

func (m *mapped) columns(under string, columns map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		m.add(under+name, columns[name])
	}
}

// alertTypes are those of alerts.
var alertTypes = map[string]string{"id": "string", "rule.id": "string", "rule.name": "string", "rule.source": "string", "rule.version": "string", "title": "title", "description": "text",
	"severity": "string", "risk_score": "int", "time": "timestamp", "first_event_time": "timestamp", "last_event_time": "timestamp", "count": "int", "suppressed": "int",
	"entities.type": "string", "entities.field": "string", "entities.role": "string", "entities.value": "string", "entities.risk_score": "float", "attack": "string", "references": "string",
	"false_positives": "string", "note": "json", "events": "unseen", "truncated": "bool"}

// ocsfTypes are those of OCSF as ours, as far as they are no texts, and ocsfFields are fields that are searched in another way than their types say.
var (
	ocsfTypes = map[string]string{"integer_t": "int", "long_t": "int", "timestamp_t": "millis", "boolean_t": "bool", "ip_t": "ip", "object": "json", "string_t": "string", "hostname_t": "string", "username_t": "string",
		"url_t": "string", "file_name_t": "string", "file_path_t": "string"}
	ocsfFields = map[string]string{"message": "title", "finding_info.title": "title", "finding_info.desc": "text", "raw_data": "stored"}
)

// healthTypes are the columns of alerts about plugins.
var healthTypes = map[string]string{"operator": "string", "plugin": "string", "version": "string", "reason": "string", "detail": "string", "position": "int"}

// alert adds the fields of an alert, in the form that the processors give it.
func (m *mapped) alert(r *leaving, processors []string) {
	row := "row."
	switch {
	case slices.Contains(processors, "ocsf"):
		for field, typ := range alert.OCSFTypes() {
			if typ = cmp.Or(ocsfFields[field], ocsfTypes[typ]); field != "evidences.data" {
				m.add(field, typ)
			}
		}
		row = "evidences.data."
	case slices.Contains(processors, "ecs"):
		for field, typ := range alert.ECSTypes() {
			m.add(field, "="+typ)
		}
		row = "tocsin.row."
		for name, typ := range map[string]string{"severity": "string", "count": "int", "suppressed": "int", "revision": "int", "truncated": "bool", "note": "json", "references": "string",
			"false_positives": "string", "entity_risk.type": "string", "entity_risk.value": "string", "entity_risk.score": "float"} {
			m.add("tocsin."+name, typ)
		}
	default:
		m.columns("", alertTypes)
	}
	m.columns(row, r.columns)
}

// add adds a field; one that is there with another type gets one that takes both.
func (m *mapped) add(path, typ string) {
	was, there := m.fields[path]
	taken, how := "string", "a keyword, which takes both"
	if was == "json" || typ == "json" || was == "unseen" {
		taken, how = "unseen", "kept, and not indexed"
	}
	switch {
	case !there || was == typ:
		m.fields[path] = typ
		return
	case strings.HasPrefix(was, "="): // the schema's own type
		return
	case was == "int" && typ == "float" || was == "float" && typ == "int":
		m.fields[path] = "float"
		return
	case was != "" && typ != "" && !m.noted[path]:
		m.noted[path] = true
		m.note("%s is %s in some rows and %s in others: it is %s; rename one of them", path, was, typ, how)
	}
	m.fields[path] = taken
}

func keyword() map[string]any { return map[string]any{"type": "keyword", "ignore_above": 1024} }

// property is a field as a mapping has it.
func property(typ string, open bool) map[string]any {
	if known, ok := strings.CutPrefix(typ, "="); ok { // as ECS names it
		switch {
		case known == "match_only_text" && open:
			known = "text"
		case known == "keyword" || known == "wildcard" && open:
			return keyword()
		}
		return map[string]any{"type": known}
	}
	switch typ {
	case "int":
		return map[string]any{"type": "long"}
	case "float":
		return map[string]any{"type": "double"}
	case "bool":
		return map[string]any{"type": "boolean"}
	case "timestamp":
		return map[string]any{"type": "date"}
	case "millis":
		return map[string]any{"type": "date", "format": "epoch_millis"}
	case "ip":
		return map[string]any{"type": "ip"}
	case "title":
		return map[string]any{"type": "text", "fields": map[string]any{"keyword": keyword()}}
	case "text":
		return map[string]any{"type": "text"}
	case "stored":
		return map[string]any{"type": "keyword", "index": false, "doc_values": false}
	case "unseen":
		return map[string]any{"type": "object", "enabled": false}
	case "json":
		if open {
			return map[string]any{"type": "flat_object"}
		}
		return map[string]any{"type": "flattened", "ignore_above": 1024}
	}
	return keyword()
}

// properties are the fields as a tree, since a dot in a name is a level. A field that is also above others is one of them or the other.
func (m *mapped) properties(open bool) map[string]any {
	root := map[string]any{}
	for _, path := range slices.Sorted(maps.Keys(m.fields)) { // what is above others comes before them
		typ, at := m.fields[path], root
		parts := strings.Split(path, ".")
		for i, part := range parts {
			node, _ := at[part].(map[string]any)
			if i == len(parts)-1 {
				if node == nil {
					at[part] = property(typ, open)
				}
				break
			}
			if node != nil && node["properties"] == nil {
				if above := strings.Join(parts[:i+1], "."); m.fields[above] != "json" {
					m.note("%s and %s cannot both be fields of one index: the latter is left out; rename one of them", above, path)
					break
				}
				node = nil // its known parts are worth more
			}
			if node == nil {
				node = map[string]any{"properties": map[string]any{}}
				at[part] = node
			}
			at = node["properties"].(map[string]any)
		}
	}
	return root
}
