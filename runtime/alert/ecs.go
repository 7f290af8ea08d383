package alert

import (
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// ECSVersion is the version of the Elastic Common Schema that ECS writes.
const ECSVersion = "9.4.0"

// ECS makes a document of the Elastic Common Schema of an alert. What the schema has no field for, the row among it, stands under
// tocsin. Event.severity is 1 (informational) to 5 (critical).
func (a *Alert) ECS() ([]byte, error) {
	when := func(ms int64) string { return string(event.AppendTime(nil, ms)) }
	doc := ecsDoc{
		"@timestamp": when(a.at), "message": a.Title, "ecs": object{"version": ECSVersion}, "observer": object{"vendor": "Tocsin", "product": "Tocsin"},
		"event": object{"kind": "alert", "category": []string{"intrusion_detection"}, "type": []string{"info"}, "id": a.ID, "code": a.Rule.ID,
			"start": when(a.first), "end": when(a.last), "severity": a.severity, "risk_score": a.RiskScore, "module": "tocsin", "dataset": "tocsin.alert", "provider": a.Rule.Source},
		"rule": object{"id": a.Rule.ID, "name": a.Rule.Name, "version": a.Rule.Version, "ruleset": a.Rule.Source},
	}
	doc.text("event.reason", a.Description)
	doc.text("event.original", a.rawEvents())
	if len(a.References) > 0 {
		doc.text("rule.reference", a.References[0])
	}
	own := a.rest()
	own["severity"], own["count"], own["revision"] = a.Severity, a.Count, a.revision
	if row := given(a.Row); row != nil {
		own["row"] = row
	}
	doc["tocsin"] = own
	doc.threat(a.Attack)
	for i := range a.Entities {
		doc.entity(&a.Entities[i])
	}
	return encode(doc)
}

// ecsDoc is a document whose fields are set by their dotted names.
type ecsDoc object

// object is the object at a path, which is made if need be, and the name of the last member.
func (d ecsDoc) object(field string) (object, string) {
	at := object(d)
	for {
		name, rest, more := strings.Cut(field, ".")
		if !more {
			return at, name
		}
		next, ok := at[name].(object)
		if !ok {
			next = object{}
			at[name] = next
		}
		at, field = next, rest
	}
}

// text sets a field that nothing has set before.
func (d ecsDoc) text(field, value string) {
	if value == "" {
		return
	}
	if at, name := d.object(field); at[name] == nil {
		at[name] = value
	}
}

// add adds a value to a field that is a list, once.
func (d ecsDoc) add(field, value string) {
	if value == "" {
		return
	}
	at, name := d.object(field)
	list, _ := at[name].([]string)
	if !slices.Contains(list, value) {
		at[name] = append(list, value)
	}
}

// threat lists techniques and their tactics; the names of a list stand beside its ids only while all are known, since it is their
// places that tell which name belongs to which id.
func (d ecsDoc) threat(ids []string) {
	if len(ids) == 0 {
		return
	}
	d.text("threat.framework", "MITRE ATT&CK")
	lists := map[string][]Tactic{}
	put := func(field, id, name string) {
		if !slices.ContainsFunc(lists[field], func(x Tactic) bool { return x.ID == id }) {
			lists[field] = append(lists[field], Tactic{id, name})
		}
	}
	for _, id := range ids {
		t := LookupTechnique(id)
		if t.Parent != "" {
			put("threat.technique", t.Parent, t.ParentName)
			put("threat.technique.subtechnique", t.ID, t.Name)
		} else {
			put("threat.technique", t.ID, t.Name)
		}
		for _, x := range t.Tactics {
			put("threat.tactic", x.ID, x.Name)
		}
	}
	for field, list := range lists {
		var ids, names []string
		for _, x := range list {
			ids, names = append(ids, x.ID), append(names, x.Name)
		}
		at, _ := d.object(field + ".id")
		if at["id"] = ids; !slices.Contains(names, "") {
			at["name"] = names
		}
	}
}

// entity sets the fields that an entity's type and role ask for, the first entity of each, and related.* of all.
func (d ecsDoc) entity(n *Named) {
	value := n.text()
	end := []string{"source", "", "destination"}[n.side()+1]
	if at := map[string]string{"user": "user", "host": "host"}[n.Type]; at != "" && end == "" && n.Risk != nil {
		risk, name := d.object(at + ".risk.calculated_score")
		risk[name] = *n.Risk
	}
	switch n.Type {
	case "ip":
		d.ip(end, value)
	case "user":
		if end == "destination" {
			d.text("user.target.name", value)
		} else {
			d.text("user.name", value)
		}
		d.add("related.user", value)
	case "host", "domain":
		switch {
		case end != "":
			d.end(end, value, "domain")
		case n.Type == "host":
			d.text("host.name", value)
		}
		d.add("related.hosts", value)
	case "hash":
		d.add("related.hash", value)
	case "email":
		switch end {
		case "source":
			d.add("email.from.address", value)
		case "destination":
			d.add("email.to.address", value)
		default:
			d.text("user.email", value)
		}
		d.add("related.user", value)
	case "url":
		d.text("url.original", value)
	case "file":
		d.path("file.name", "file.path", value)
	case "process":
		d.process(value)
	}
}

// ip sets an address; a text that is none is only the side's address, which may be any text.
func (d ecsDoc) ip(end, value string) {
	if isIP(value) {
		d.add("related.ip", value)
	}
	switch {
	case end == "":
	case isIP(value):
		d.end(end, value, "ip")
	default:
		d.text(end+".address", value)
	}
}

// end sets the address of a side of a connection, and the field of its kind.
func (d ecsDoc) end(end, value, kind string) {
	d.text(end+".address", value)
	d.text(end+"."+kind, value)
}

// path sets a file's name, and its path if the value is one.
func (d ecsDoc) path(name, full, value string) {
	if base := baseName(value); base != value {
		d.text(full, value)
		d.text(name, base)
	} else {
		d.text(name, value)
	}
}

// process sets a process by a command line, a path or a name: a value with spaces may be either of the first two, and is taken for
// a command line.
func (d ecsDoc) process(value string) {
	if strings.Contains(value, " ") {
		d.text("process.command_line", value)
		return
	}
	d.path("process.name", "process.executable", value)
}
