package alert

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// OCSFVersions are the versions of the Open Cybersecurity Schema Framework that OCSF writes, oldest first.
var OCSFVersions = []string{"1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0", "1.6.0", "1.7.0", "1.8.0"}

// object is a JSON object under construction; it is written with its members sorted, so the same alert has the same bytes.
type object = map[string]any

// OCSF makes a Detection Finding (class 2004) of an alert, in a version of OCSFVersions. Times are ms since 1970. A revision
// is an Update of the finding with the same uid. The version of the product is not said: an alert is the same from whatever
// build.
func (a *Alert) OCSF(version string) ([]byte, error) {
	activity, name := 1, "Create"
	if a.revision > 0 {
		activity, name = 2, "Update"
	}
	doc := object{
		"activity_id": activity, "activity_name": name, "category_uid": 2, "category_name": "Findings", "class_uid": 2004, "class_name": "Detection Finding",
		"type_uid": 200400 + activity, "type_name": "Detection Finding: " + name, "time": a.at, "start_time": a.first, "end_time": a.last,
		"severity_id": a.severity, "severity": strings.ToUpper(a.Severity[:1]) + a.Severity[1:], "risk_score": a.RiskScore,
		"message": a.Title, "count": a.Count, "finding_info": a.findingInfo(),
		"metadata": object{"version": version, "uid": fmt.Sprintf("%s.%d", a.ID, a.revision), "product": object{"name": "Tocsin", "vendor_name": "Tocsin"}},
	}
	if v := slices.Index(OCSFVersions, version); v >= slices.Index(OCSFVersions, "1.4.0") {
		doc["is_alert"] = true
	}
	a.artifacts(doc, version)
	if raw := a.rawEvents(); raw != "" {
		doc["raw_data"] = raw
	}
	if rest := a.rest(); len(rest) > 0 {
		doc["unmapped"] = rest
	}
	return encode(doc)
}

// OCSFTypes are all fields that OCSF writes, in any of OCSFVersions, with the schema's types. Lists do not show in paths. What is below evidences.data, the
// row, and below unmapped the schema does not say.
func OCSFTypes() map[string]string {
	types := map[string]string{"evidences.data": "json_t", "evidences.src_endpoint.ip": "ip_t", "evidences.dst_endpoint.ip": "ip_t", "evidences.url.url_string": "url_t", "is_alert": "boolean_t", "unmapped": "object"}
	for typ, fields := range map[string]string{
		"integer_t": "activity_id category_uid class_uid count risk_score severity_id device.risk_score device.type_id evidences.actor.user.risk_score evidences.file.type_id evidences.user.risk_score " +
			"finding_info.analytic.type_id observables.type_id",
		"long_t":      "type_uid finding_info.related_events.type_uid",
		"timestamp_t": "time start_time end_time finding_info.created_time finding_info.first_seen_time finding_info.last_seen_time finding_info.modified_time",
		"hostname_t":  "device.hostname evidences.src_endpoint.hostname evidences.dst_endpoint.hostname",
		"username_t":  "evidences.actor.user.name evidences.user.name",
		"file_name_t": "evidences.file.name",
		"file_path_t": "evidences.file.path",
		"string_t": "activity_name category_name class_name message raw_data severity type_name device.type evidences.file.type finding_info.analytic.category finding_info.analytic.name finding_info.analytic.type " +
			"finding_info.analytic.uid finding_info.analytic.version finding_info.attacks.sub_technique.name finding_info.attacks.sub_technique.uid finding_info.attacks.tactic.name finding_info.attacks.tactic.uid " +
			"finding_info.attacks.technique.name finding_info.attacks.technique.uid finding_info.attacks.version finding_info.desc finding_info.related_events.uid finding_info.title finding_info.uid metadata.product.name " +
			"metadata.product.vendor_name metadata.uid metadata.version observables.name observables.type observables.value",
	} {
		for _, field := range strings.Fields(fields) {
			types[field] = typ
		}
	}
	return types
}

// findingInfo is what the finding is, and by which rule.
func (a *Alert) findingInfo() object {
	analytic := object{"uid": a.Rule.ID, "name": a.Rule.Name, "type_id": 1, "type": "Rule", "version": a.Rule.Version}
	if a.Rule.Source != "" {
		analytic["category"] = a.Rule.Source
	}
	info := object{"uid": a.ID, "title": a.Title, "created_time": a.at, "first_seen_time": a.first, "last_seen_time": a.last, "analytic": analytic}
	if a.Description != "" {
		info["desc"] = a.Description
	}
	var attacks []object
	for _, id := range a.Attack {
		attacks = append(attacks, ocsfAttacks(LookupTechnique(id))...)
	}
	if attacks != nil {
		info["attacks"] = attacks
	}
	if a.revision > 0 {
		info["modified_time"] = max(a.at, a.last) // of the event that was the reason, like all times
	}
	var led []object
	for _, id := range a.led() {
		led = append(led, object{"uid": id + ".0", "type_uid": 200401})
	}
	if led != nil {
		info["related_events"] = led
	}
	return info
}

// ocsfAttacks are a technique under each of its tactics, since an attack has one.
func ocsfAttacks(t Technique) (attacks []object) {
	named := func(id, name string) object {
		o := object{"uid": id}
		if name != "" {
			o["name"] = name
		}
		return o
	}
	for i := 0; i == 0 || i < len(t.Tactics); i++ {
		attack := object{"technique": named(t.ID, t.Name)}
		if t.Parent != "" {
			attack = object{"technique": named(t.Parent, t.ParentName), "sub_technique": named(t.ID, t.Name)}
		}
		if i < len(t.Tactics) {
			attack["tactic"], attack["version"] = named(t.Tactics[i].ID, t.Tactics[i].Name), AttackVersion
		}
		attacks = append(attacks, attack)
	}
	return attacks
}

// artifacts puts the row and who is named by it into the finding: evidences hold the row and the parties, by role; observables
// list all entities, each with the path where its value stands. The first entity of a place takes it.
func (a *Alert) artifacts(doc object, version string) {
	data := given(a.Row)
	if data == nil {
		data = object{}
	}
	evidence := object{"data": data}
	var observables []object
	for i := range a.Entities {
		n := &a.Entities[i]
		kind, caption := observableType(n, version)
		at := ""
		if path := ocsfPlace(n, version); path != nil && setPath(doc, evidence, path, n.text()) {
			n.setRisk(doc, evidence, path[0], version)
			if at = strings.Join(path, "."); path[0] != "device" {
				at = "evidences[0]." + at
			}
		} else {
			at = "evidences[0].data." + n.Field
		}
		observables = append(observables, object{"name": at, "type_id": kind, "type": caption, "value": n.text()})
	}
	doc["evidences"] = []object{evidence}
	if observables != nil {
		doc["observables"] = observables
	}
}

// setRisk gives a user or a device its own risk score, where the version has a place for it.
func (n *Named) setRisk(doc, evidence object, place, version string) {
	at, ok := doc["device"].(object)
	switch {
	case place == "actor":
		actor, _ := evidence["actor"].(object)
		at, ok = actor["user"].(object)
		ok = ok && version != "1.1.0"
	case place == "user":
		at, ok = evidence["user"].(object)
	case place != "device":
		ok = false
	}
	if ok && n.Risk != nil {
		at["risk_score"] = int64(math.Round(*n.Risk))
	}
}

// setPath sets a member of the finding, for a device, or of its evidence, unless there is one. Objects that must have more
// members get them.
func setPath(doc, evidence object, path []string, value string) bool {
	at := evidence
	if path[0] == "device" {
		at = doc
	}
	if _, taken := at[path[0]]; taken && path[0] != "src_endpoint" && path[0] != "dst_endpoint" {
		return false
	}
	for _, name := range path[:len(path)-1] {
		next, ok := at[name].(object)
		if !ok {
			next = object{}
			at[name] = next
		}
		at = next
	}
	last := path[len(path)-1]
	if _, taken := at[last]; taken {
		return false
	}
	at[last] = value
	switch path[0] {
	case "device":
		at["type_id"], at["type"] = 0, "Unknown"
	case "file":
		at["type_id"], at["type"], at["name"] = 0, "Unknown", baseName(value)
	}
	return true
}

// ocsfPlace is where an entity's value stands in an evidence, or for a device in the finding; nil if it has no place of its own.
func ocsfPlace(n *Named, version string) []string {
	since13 := slices.Index(OCSFVersions, version) >= slices.Index(OCSFVersions, "1.3.0")
	end := []string{"src_endpoint", "", "dst_endpoint"}[n.side()+1]
	value := n.text()
	switch {
	case value == "":
	case n.Type == "ip" && isIP(value) && end != "":
		return []string{end, "ip"}
	case (n.Type == "host" || n.Type == "domain") && end != "":
		return []string{end, "hostname"}
	case n.Type == "host":
		return []string{"device", "hostname"}
	case n.Type == "user" && n.side() <= 0:
		return []string{"actor", "user", "name"}
	case n.Type == "user" && since13:
		return []string{"user", "name"}
	case n.Type == "url" && since13:
		return []string{"url", "url_string"}
	case n.Type == "file" && baseName(value) != "":
		return []string{"file", "path"}
	}
	return nil
}

// observableType is the number and name of an entity's type; Other with the type's own name where the schema has none.
func observableType(n *Named, version string) (int, string) {
	value := n.text()
	path := strings.ContainsAny(value, `/\`)
	switch {
	case n.Type == "ip" && isIP(value):
		return 2, "IP Address"
	case n.Type == "host" || n.Type == "domain":
		return 1, "Hostname"
	case n.Type == "user":
		return 4, "User Name"
	case n.Type == "email":
		return 5, "Email Address"
	case n.Type == "url":
		return 6, "URL String"
	case n.Type == "hash":
		return 8, "Hash"
	case n.Type == "file" && !path:
		return 7, "File Name"
	case n.Type == "file" && slices.Index(OCSFVersions, version) >= slices.Index(OCSFVersions, "1.5.0"):
		return 45, "File Path"
	case n.Type == "process" && !path && !strings.Contains(value, " "):
		return 9, "Process Name"
	}
	return 99, n.Type
}

// rest is what of an alert neither schema has a place for.
func (a *Alert) rest() object {
	rest := object{}
	if v := given(a.Note); v != nil {
		rest["note"] = v
	}
	if len(a.FalsePositives) > 0 {
		rest["false_positives"] = a.FalsePositives
	}
	if len(a.References) > 0 {
		rest["references"] = a.References
	}
	if a.Suppressed > 0 {
		rest["suppressed"] = a.Suppressed
	}
	if a.Truncated {
		rest["truncated"] = true
	}
	for i := range a.Entities {
		if n := &a.Entities[i]; n.Risk != nil {
			rest["entity_risk"] = object{"type": n.Type, "value": n.text(), "score": *n.Risk}
		}
	}
	return rest
}
