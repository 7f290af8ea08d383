package alert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// sample is an alert as Template.Append writes it, over a row of entities: type, role and value of each.
func sample(t *testing.T, attack []string, events string, entities ...[3]string) []byte {
	t.Helper()
	var row table
	for i, e := range entities {
		row.names, row.cells = append(row.names, fmt.Sprint("field", i)), append(row.cells, str(e[2]))
	}
	title, err := ParseText("A title with \"quotes\" & <marks>", row.resolve)
	if err != nil {
		t.Fatal(err)
	}
	a := Template{Rule: Rule{"rule/1", "a rule", "tocsin.rule", "1.2.0"}, Title: title, Description: title, Severity: "high", RiskScore: 70, Attack: attack,
		References: []string{"https://example.com/a"}, Innocent: []string{"backups"}, Columns: row.columns()}
	for i, e := range entities {
		a.Entities = append(a.Entities, Entity{Field: a.Columns[i], Type: e[0], Role: e[1]})
	}
	return a.Append(nil, Facts{ID: event.ID{1, 2, 3}, TS: 1_772_000_000_123, First: 1_772_000_000_000, Last: 1_772_000_000_100, Note: []byte(`{"why":[1.50,"<"]}`), Events: []byte(events)}, row)
}

// riskSample is an alert about the risk of an entity, to which three others led; it is one of many that were held.
func riskSample(t *testing.T, kind, value string) []byte {
	t.Helper()
	id := event.ID{7}
	row := table{[]string{"entity_type", "entity", "score", "contributions"}, []event.Value{str(kind), str(value), num("132.67"),
		{Kind: event.Array, Text: fmt.Appendf(nil, `[{"id":"%s","rule":"r","title":"t","score":30,"time":"2026-02-25T06:13:20.000Z"}]`, id)}}}
	title, err := ParseText("{entity} has {score}", row.resolve)
	if err != nil {
		t.Fatal(err)
	}
	a := Template{Rule: Rule{"at_risk", "at_risk", "pipeline", "1"}, Title: title, Severity: "high", RiskScore: -1, Attack: []string{"T1078"}, Columns: row.columns()}
	a.Entities = []Entity{{Field: a.Columns[1], Risk: &EntityRisk{Type: a.Columns[0].Field, Score: a.Columns[2].Field}}}
	return a.Append(nil, Facts{ID: event.ID{1, 2, 3}, TS: 1_772_000_000_123, First: 1_772_000_000_000, Last: 1_772_000_000_200, Attack: []string{"T1110", "T1078"}, Score: 100, Count: 5, Suppressed: 4, Truncated: true}, row)
}

// either is sample or, of one time in four, riskSample.
func either(t *testing.T, r *rand.Rand) []byte {
	if r.IntN(4) == 0 {
		x := randomEntities(r)
		if len(x) > 0 {
			return riskSample(t, x[0][0], x[0][2])
		}
	}
	attacks := [][]string{nil, {"T1110.001", "T1078"}, {"T9999"}, {"T9999.001", "T0801", "T1398"}}
	return sample(t, attacks[r.IntN(4)], []string{"", `{"a":1}`}[r.IntN(2)], randomEntities(r)...)
}

// doc makes a document of an alert's payload, and reads it with numbers as they are written.
func doc(t *testing.T, payload []byte, revision int, format func(a *Alert) ([]byte, error)) (map[string]any, string) {
	t.Helper()
	a, err := Read(payload, revision)
	if err != nil {
		t.Fatalf("%v: %s", err, payload)
	}
	text, err := format(a)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return m, string(text)
}

func ocsf(version string) func(a *Alert) ([]byte, error) {
	return func(a *Alert) ([]byte, error) { return a.OCSF(version) }
}

// at follows a path of names and places through a document; nil if there is nothing.
func at(v any, path string) any {
	for _, name := range strings.Split(path, ".") {
		name, index, list := strings.Cut(strings.TrimSuffix(name, "]"), "[")
		m, _ := v.(map[string]any)
		if v = m[name]; list {
			l, _ := v.([]any)
			i, err := strconv.Atoi(index)
			if v = nil; err == nil && i < len(l) {
				v = l[i]
			}
		}
	}
	return v
}

// ocsfSchema is the extract of a version's own definition: object -> attribute -> what it is.
type ocsfSchema map[string]map[string]ocsfAttribute

type ocsfAttribute struct {
	typ, requirement string
	values           map[string]string // number -> caption
	names            []string          // of a constraint
}

func readOCSF(t *testing.T, version string) ocsfSchema {
	t.Helper()
	text, err := os.ReadFile("testdata/ocsf.tsv")
	if err != nil {
		t.Fatal(err)
	}
	schema := ocsfSchema{}
	for line := range strings.Lines(string(text)) {
		c := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if line[0] == '#' || c[5] != "all" && !slices.Contains(strings.Split(c[5], ","), version) {
			continue
		}
		x := ocsfAttribute{typ: c[2], requirement: c[3], values: map[string]string{}, names: strings.Split(c[4], ";")}
		for _, v := range x.names {
			number, caption, _ := strings.Cut(v, "=")
			x.values[number] = caption
		}
		if schema[c[0]] == nil {
			schema[c[0]] = map[string]ocsfAttribute{}
		}
		schema[c[0]][c[1]] = x
	}
	return schema
}

// check judges an object by the schema: only attributes that it has, all that are required, their types, numbers and captions.
func (s ocsfSchema) check(where, name string, m map[string]any) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, where+": "+fmt.Sprintf(format, args...)) }
	for attribute, x := range s[name] {
		_, there := m[attribute]
		switch {
		case x.typ == "constraint" && !slices.ContainsFunc(x.names, func(n string) bool { return m[n] != nil }):
			fault("none of %v", x.names)
		case x.requirement == "required" && !there:
			fault("no %s, which is required", attribute)
		}
	}
	for attribute, v := range m {
		x, known := s[name][attribute]
		if !known || x.typ == "constraint" {
			fault("no attribute %s in %s", attribute, name)
			continue
		}
		faults = append(faults, s.value(where+"."+attribute, x, v)...)
		if caption := x.values[fmt.Sprint(v)]; strings.HasSuffix(attribute, "_id") && x.values[""] == "" && len(x.values) > 1 {
			sibling := strings.TrimSuffix(attribute, "_id")
			if m[sibling+"_name"] != nil {
				sibling += "_name"
			}
			if caption == "" || m[sibling] != caption {
				fault("%s %v is %q, and not %v", attribute, v, caption, m[sibling])
			}
		}
	}
	return faults
}

func (s ocsfSchema) value(where string, x ocsfAttribute, v any) (faults []string) {
	if of, list := strings.CutSuffix(x.typ, "[]"); list {
		l, ok := v.([]any)
		if !ok || len(l) == 0 {
			return []string{where + " is no list, or an empty one"}
		}
		x.typ = of
		for i, e := range l {
			faults = append(faults, s.value(fmt.Sprintf("%s[%d]", where, i), x, e)...)
		}
		return faults
	}
	good := false
	switch x.typ {
	case "integer_t", "long_t", "timestamp_t":
		n, isNumber := v.(json.Number)
		_, err := n.Int64()
		good = isNumber && err == nil
	case "boolean_t":
		_, good = v.(bool)
	case "json_t":
		good = v != nil
	case "object":
		_, good = v.(map[string]any)
	case "ip_t":
		text, _ := v.(string)
		_, err := netip.ParseAddr(text)
		good = err == nil
	case "string_t", "hostname_t", "username_t", "url_t", "file_name_t", "file_path_t":
		text, isText := v.(string)
		good = isText && text != ""
	default:
		m, ok := v.(map[string]any)
		if !ok || s[x.typ] == nil {
			return []string{where + " is no " + x.typ}
		}
		return s.check(where, x.typ, m)
	}
	if !good {
		faults = append(faults, fmt.Sprintf("%s: %v is no %s", where, v, x.typ))
	}
	return faults
}

// observables judges types and paths: what an observable says must stand where it says.
func (s ocsfSchema) observables(m map[string]any) (faults []string) {
	list, _ := m["observables"].([]any)
	for _, o := range list {
		kind, caption := fmt.Sprint(at(o, "type_id")), at(o, "type")
		if known := kind == "99"; !known {
			for _, x := range s["observable"] {
				known = known || x.typ == "value" && x.values[kind] == caption
			}
			if !known {
				faults = append(faults, fmt.Sprintf("there is no observable type %s %v", kind, caption))
			}
		}
		if found := at(m, at(o, "name").(string)); found != at(o, "value") {
			faults = append(faults, fmt.Sprintf("%v is %v, and not %v", at(o, "name"), found, at(o, "value")))
		}
	}
	return faults
}

// randomEntities are entities of all types and roles, some of whose values do not suit them.
func randomEntities(r *rand.Rand) (list [][3]string) {
	values := []string{"10.0.0.1", "fe80::1%eth0", "2001:db8::7", "no address", "anna", `CORP\anna`, "web1.example.com", "https://example.com/?a=b", "/usr/bin/ssh", `C:\a b\c.exe -x`, "/", "é<&>\n", "a.txt", "7"}
	roles := []string{"", "source", "destination", "target", "attacker", "whatever"}
	for range r.IntN(7) {
		list = append(list, [3]string{EntityTypes[r.IntN(len(EntityTypes))], roles[r.IntN(len(roles))], values[r.IntN(len(values))]})
	}
	return list
}

func TestOCSFMeetsTheSchema(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	for _, version := range OCSFVersions {
		s := readOCSF(t, version)
		if len(s) < 15 || len(s["detection_finding"]) < 20 {
			t.Fatalf("%s: the extract has %d objects", version, len(s))
		}
		for range 300 {
			payload := either(t, r)
			m, text := doc(t, payload, r.IntN(2), ocsf(version))
			faults := append(s.check("finding", "detection_finding", m), s.observables(m)...)
			if at(m, "metadata.version") != version {
				faults = append(faults, "another version")
			}
			if len(faults) > 0 {
				t.Fatalf("seed %d, %s: %s\n%s\nof %s", seed, version, strings.Join(faults, "\n"), text, payload)
			}
		}
	}
}

// fields are the paths of an object's attributes with their types, without lists.
func (s ocsfSchema) fields(object, under string, into map[string]string) {
	for attribute, x := range s[object] {
		typ := strings.TrimSuffix(x.typ, "[]")
		switch {
		case typ == "constraint" || typ == "value":
		case s[typ] != nil:
			s.fields(typ, under+attribute+".", into)
		default:
			into[under+attribute] = typ
		}
	}
}

// leaves are the paths of an object's values, without lists, but for those below others that are known.
func leaves(v any, path string, known map[string]string, into map[string]bool) {
	m, _ := v.(map[string]any)
	list, isList := v.([]any)
	for _, e := range list {
		leaves(e, path, known, into)
	}
	if m == nil && !isList || known[path] != "" {
		into[path] = true
		return
	}
	for name, e := range m {
		leaves(e, strings.TrimPrefix(path+"."+name, "."), known, into)
	}
}

// The fields that are said to be written are those of the schema's extract, with their types, and each of them is written by some alert.
func TestOCSFTypes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	want, written := map[string]string{}, map[string]bool{}
	for _, version := range OCSFVersions {
		readOCSF(t, version).fields("detection_finding", "", want)
		for range 2000 {
			m, _ := doc(t, either(t, r), r.IntN(2), ocsf(version))
			leaves(m, "", OCSFTypes(), written)
		}
	}
	if got := OCSFTypes(); !maps.Equal(got, want) {
		for path := range want {
			if got[path] != want[path] {
				t.Errorf("%s is %q, want %q", path, got[path], want[path])
			}
		}
		t.Errorf("%d fields, want %d", len(got), len(want))
	}
	for path := range want {
		if !written[path] && path != "evidences.user.risk_score" { // the entity of a risk has no role, so a user is the actor
			t.Errorf("seed %d: %s is never written", seed, path)
		}
	}
	for path := range written {
		if want[path] == "" {
			t.Errorf("seed %d: %s is written, and not said", seed, path)
		}
	}
}

// The check itself finds what is wrong.
func TestOCSFCheckFindsFaults(t *testing.T) {
	s := readOCSF(t, "1.4.0")
	payload := sample(t, []string{"T1078"}, `{"a":1}`, [3]string{"ip", "source", "10.0.0.1"}, [3]string{"file", "", "/a/b"})
	for what, spoil := range map[string]func(m map[string]any){
		"required":     func(m map[string]any) { delete(m, "severity_id") },
		"caption":      func(m map[string]any) { m["severity"] = "Low" },
		"number":       func(m map[string]any) { m["class_uid"] = "2004" },
		"no attribute": func(m map[string]any) { m["verdict"] = "bad" },
		"nested":       func(m map[string]any) { delete(m["metadata"].(map[string]any), "product") },
		"constraint": func(m map[string]any) {
			at(m, "finding_info.attacks[0]").(map[string]any)["technique"] = map[string]any{}
		},
		"address": func(m map[string]any) { at(m, "evidences[0].src_endpoint").(map[string]any)["ip"] = "x" },
		"path":    func(m map[string]any) { at(m, "observables[0]").(map[string]any)["name"] = "nowhere" },
		"type":    func(m map[string]any) { at(m, "observables[0]").(map[string]any)["type_id"] = json.Number("3") },
	} {
		m, _ := doc(t, payload, 0, ocsf("1.4.0"))
		if faults := append(s.check("finding", "detection_finding", m), s.observables(m)...); len(faults) > 0 {
			t.Fatal(faults)
		}
		spoil(m)
		if faults := append(s.check("finding", "detection_finding", m), s.observables(m)...); len(faults) == 0 {
			t.Errorf("%s is not found", what)
		}
	}
}

func TestOCSF(t *testing.T) {
	payload := sample(t, []string{"T1110.001", "T1078", "T9999"}, `{"a":1.50}`, [3]string{"ip", "source", "10.0.0.1"}, [3]string{"ip", "destination", "10.0.0.2"}, [3]string{"user", "", "anna"},
		[3]string{"user", "target", "root"}, [3]string{"host", "", "web1"}, [3]string{"ip", "source", "10.0.0.3"}, [3]string{"host", "source", "laptop"}, [3]string{"hash", "", "d41d"}, [3]string{"file", "", "/a/b.c"}, [3]string{"url", "", "http://x/"})
	m, text := doc(t, payload, 0, ocsf("1.4.0"))
	wants(t, m, map[string]string{
		"class_uid": "2004", "category_uid": "2", "type_uid": "200401", "activity_id": "1", "time": "1772000000123", "start_time": "1772000000000", "end_time": "1772000000100",
		"severity_id": "4", "severity": "High", "risk_score": "70", "count": "1", "is_alert": "true", "message": `A title with "quotes" & <marks>`,
		"finding_info.uid": event.ID{1, 2, 3}.String(), "finding_info.first_seen_time": "1772000000000", "finding_info.last_seen_time": "1772000000100",
		"finding_info.analytic.uid": "rule/1", "finding_info.analytic.version": "1.2.0", "metadata.product.name": "Tocsin", "metadata.uid": event.ID{1, 2, 3}.String() + ".0",
		"finding_info.attacks[0].technique.uid": "T1110", "finding_info.attacks[0].technique.name": "Brute Force", "finding_info.attacks[0].sub_technique.uid": "T1110.001",
		"finding_info.attacks[0].tactic.uid": "TA0006", "finding_info.attacks[0].tactic.name": "Credential Access", "finding_info.attacks[1].technique.uid": "T1078", "finding_info.attacks[1].sub_technique": "<nil>",
		"finding_info.attacks[4].tactic.name": "Initial Access", "finding_info.attacks[5].technique.uid": "T9999", "finding_info.attacks[5].tactic": "<nil>", "finding_info.attacks[6]": "<nil>",
		"evidences[0].src_endpoint.ip": "10.0.0.1", "evidences[0].src_endpoint.hostname": "laptop", "evidences[0].dst_endpoint.ip": "10.0.0.2", "evidences[0].actor.user.name": "anna", "evidences[0].user.name": "root",
		"evidences[0].file.name": "b.c", "evidences[0].file.path": "/a/b.c", "evidences[0].url.url_string": "http://x/", "evidences[0].data.field2": "anna", "device.hostname": "web1",
		"observables[0].name": "evidences[0].src_endpoint.ip", "observables[0].type_id": "2", "observables[5].name": "evidences[0].data.field5", "observables[5].value": "10.0.0.3",
		"observables[4].name": "device.hostname", "observables[7].type_id": "8", "observables[8].type_id": "99", "raw_data": `{"a":1.50}`, "unmapped.note.why[0]": "1.50", "unmapped.references[0]": "https://example.com/a", "unmapped.false_positives[0]": "backups",
	})
	if again, _ := Read(payload, 0); again != nil {
		if b, _ := again.OCSF("1.4.0"); string(b) != text {
			t.Errorf("other bytes the second time")
		}
	}
	m, _ = doc(t, payload, 2, ocsf("1.1.0"))
	wants(t, m, map[string]string{"type_uid": "200402", "activity_name": "Update", "type_name": "Detection Finding: Update", "is_alert": "<nil>", "evidences[0].user": "<nil>", "observables[3].name": "evidences[0].data.field3",
		"metadata.uid": event.ID{1, 2, 3}.String() + ".2", "finding_info.uid": event.ID{1, 2, 3}.String()})
}

// What alerts stand for, and an entity's own risk.
func TestFormatsOfRisk(t *testing.T) {
	for _, x := range []struct{ kind, place, ecs string }{{"user", "evidences[0].actor.user.risk_score", "user.risk.calculated_score"}, {"host", "device.risk_score", "host.risk.calculated_score"}, {"hash", "", ""}} {
		payload := riskSample(t, x.kind, "somebody")
		m, _ := doc(t, payload, 0, ocsf("1.8.0"))
		want := map[string]string{"activity_name": "Create", "count": "5", "risk_score": "100", "finding_info.modified_time": "<nil>", "finding_info.last_seen_time": "1772000000200", "unmapped.suppressed": "4", "unmapped.truncated": "true",
			"unmapped.entity_risk.score": "132.67", "unmapped.entity_risk.type": x.kind, "unmapped.entity_risk.value": "somebody", "finding_info.attacks[4].technique.uid": "T1110",
			"finding_info.related_events[0].uid": event.ID{7}.String() + ".0", "finding_info.related_events[0].type_uid": "200401", "finding_info.related_events[1]": "<nil>", "evidences[0].actor.user.risk_score": "<nil>", "device.risk_score": "<nil>"}
		if x.place != "" {
			want[x.place] = "133"
		}
		wants(t, m, want)
		m, _ = doc(t, payload, 1, ocsf("1.1.0"))
		wants(t, m, map[string]string{"activity_name": "Update", "finding_info.modified_time": "1772000000200", "evidences[0].actor.user.risk_score": "<nil>"})
		m, _ = doc(t, payload, 1, (*Alert).ECS)
		want = map[string]string{"event.risk_score": "100", "event.end": "2026-02-25T06:13:20.200Z", "tocsin.count": "5", "tocsin.suppressed": "4", "tocsin.truncated": "true", "tocsin.revision": "1", "tocsin.entity_risk.score": "132.67",
			"user.risk.calculated_score": "<nil>", "host.risk.calculated_score": "<nil>", "threat.technique.id": "[T1078 T1110]"}
		if x.ecs != "" {
			want[x.ecs] = "132.67"
		}
		wants(t, m, want)
	}
	m, _ := doc(t, sample(t, nil, ""), 2, ocsf("1.4.0"))
	wants(t, m, map[string]string{"finding_info.modified_time": "1772000000123", "finding_info.related_events": "<nil>", "unmapped.truncated": "<nil>"})
}

// An id that the table lacks is newer, or it is none; of each the nearest.
func TestCheckTechnique(t *testing.T) {
	for id, want := range map[string]string{"T1078": "0", "T1110.001": "0", "T0801": "0", "T1108": "1 T1008 Fallback Channels", "T1087.009": "2 T1087.001 Local Account", "T1110.999": "2 T1110 Brute Force", "T9999": "2", "T0999": "2",
		"T1500": "1 T1200 Hardware Additions", "T9999.001": "2", "T1500.001": "1 T1505.001 SQL Stored Procedures", "T1111.001": "2 T1111 Multi-Factor Authentication Interception"} {
		status, near := CheckTechnique(id)
		got := strings.TrimSpace(fmt.Sprint(status, " ", near.ID, " ", near.Name))
		if got != want {
			t.Errorf("%s: %s, not %s", id, got, want)
		}
	}
	for id, cells := range attackLines() {
		if status, near := CheckTechnique(id); id[:2] != "TA" && (status != KnownTechnique || near.ID != "") || cells[0] == "" {
			t.Errorf("%s: %v %v", id, status, near)
		}
	}
}

func wants(t *testing.T, m map[string]any, want map[string]string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got := fmt.Sprint(at(m, path)); got != want[path] {
			t.Errorf("%s: %s, not %s", path, got, want[path])
		}
	}
}

// ecsFields is the extract of the schema: field -> type, whether it is a list, what is allowed.
func ecsFields(t *testing.T) map[string][3]string {
	t.Helper()
	text, err := os.ReadFile("testdata/ecs.tsv")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string][3]string{}
	for line := range strings.Lines(string(text)) {
		if c := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); line[0] != '#' {
			fields[c[0]] = [3]string(c[1:])
		}
	}
	return fields
}

// checkECS judges every field of a document that does not stand under tocsin; seen collects their names.
func checkECS(fields map[string][3]string, prefix string, m map[string]any, seen map[string]bool) (faults []string) {
	for name, v := range m {
		field := prefix + name
		x, known := fields[field]
		if inner, ok := v.(map[string]any); ok {
			if field != "tocsin" {
				faults = append(faults, checkECS(fields, field+".", inner, seen)...)
			}
			continue
		}
		if !known {
			faults = append(faults, "there is no field "+field)
			continue
		}
		seen[field] = true
		list, isList := v.([]any)
		if isList != (x[1] == "array") || isList && len(list) == 0 {
			faults = append(faults, fmt.Sprintf("%s: %v; the schema says %q", field, v, x[1]))
		}
		if !isList {
			list = []any{v}
		}
		for _, e := range list {
			good := true
			text, isText := e.(string)
			number, isNumber := e.(json.Number)
			switch x[0] {
			case "date":
				_, err := time.Parse(time.RFC3339, text)
				good = err == nil
			case "ip":
				_, err := netip.ParseAddr(text)
				good = err == nil && !strings.Contains(text, "%")
			case "long":
				_, err := number.Int64()
				good = isNumber && err == nil
			case "float":
				good = isNumber
			default:
				good = isText && text != ""
			}
			if !good || x[2] != "" && !slices.Contains(strings.Split(x[2], ";"), text) {
				faults = append(faults, fmt.Sprintf("%s: %v is no %s of %s", field, e, x[0], x[2]))
			}
		}
	}
	return faults
}

func TestECSMeetsTheSchema(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	fields, seen := ecsFields(t), map[string]bool{}
	for range 2000 {
		payload := either(t, r)
		m, text := doc(t, payload, r.IntN(2), (*Alert).ECS)
		faults := checkECS(fields, "", m, seen)
		if at(m, "event.kind") != "alert" || at(m, "ecs.version") != ECSVersion {
			faults = append(faults, "no alert, or another version")
		}
		if len(faults) > 0 {
			t.Fatalf("seed %d: %s\n%s\nof %s", seed, strings.Join(faults, "\n"), text, payload)
		}
	}
	for field := range fields {
		if !seen[field] {
			t.Errorf("seed %d: %s was never written", seed, field)
		}
	}
	for what, m := range map[string]map[string]any{"field": {"evnt": "x"}, "type": {"event": map[string]any{"severity": "high"}}, "list": {"related": map[string]any{"ip": "10.0.0.1"}},
		"value": {"event": map[string]any{"kind": "alarm"}}, "address": {"source": map[string]any{"ip": "x"}}} {
		if len(checkECS(fields, "", m, seen)) == 0 {
			t.Errorf("a wrong %s is not found", what)
		}
	}
}

func TestECS(t *testing.T) {
	payload := sample(t, []string{"T1110.001", "T1078"}, `{"a":1}`, [3]string{"ip", "source", "10.0.0.1"}, [3]string{"ip", "destination", "not an address"}, [3]string{"ip", "", "10.0.0.9"}, [3]string{"user", "", "anna"},
		[3]string{"user", "target", "root"}, [3]string{"host", "", "web1"}, [3]string{"ip", "src", "10.0.0.3"}, [3]string{"host", "source", "laptop"}, [3]string{"hash", "", "d41d"}, [3]string{"process", "", "/bin/sh"},
		[3]string{"file", "", `C:\a\b.c`}, [3]string{"email", "source", "a@x"}, [3]string{"url", "", "http://x/"})
	m, _ := doc(t, payload, 3, (*Alert).ECS)
	wants(t, m, map[string]string{
		"@timestamp": "2026-02-25T06:13:20.123Z", "event.kind": "alert", "event.id": event.ID{1, 2, 3}.String(), "event.risk_score": "70", "event.severity": "4", "event.start": "2026-02-25T06:13:20.000Z",
		"event.end": "2026-02-25T06:13:20.100Z", "event.original": `{"a":1}`, "rule.id": "rule/1", "rule.name": "a rule", "rule.version": "1.2.0", "rule.reference": "https://example.com/a",
		"threat.framework": "MITRE ATT&CK", "threat.technique.id": "[T1110 T1078]", "threat.technique.name": "[Brute Force Valid Accounts]", "threat.technique.subtechnique.id": "[T1110.001]", "threat.tactic.id": "[TA0006 TA0005 TA0003 TA0004 TA0001]",
		"source.ip": "10.0.0.1", "source.address": "10.0.0.1", "source.domain": "laptop", "destination.ip": "<nil>", "destination.address": "not an address", "user.name": "anna", "user.target.name": "root", "host.name": "web1",
		"related.ip": "[10.0.0.1 10.0.0.9 10.0.0.3]", "related.user": "[anna root a@x]", "related.hosts": "[web1 laptop]", "related.hash": "[d41d]", "process.executable": "/bin/sh", "process.name": "sh",
		"file.path": `C:\a\b.c`, "file.name": "b.c", "email.from.address": "[a@x]", "url.original": "http://x/", "tocsin.row.field3": "anna", "tocsin.revision": "3", "tocsin.severity": "high", "tocsin.note.why[0]": "1.50",
	})
	m, _ = doc(t, sample(t, []string{"T1110", "T9999"}, ""), 0, (*Alert).ECS)
	wants(t, m, map[string]string{"threat.technique.id": "[T1110 T9999]", "threat.technique.name": "<nil>", "threat.tactic.name": "[Credential Access]", "related": "<nil>", "event.original": "<nil>"})
}

// What is no alert is refused, with what is missing.
func TestRead(t *testing.T) {
	for payload, want := range map[string]string{
		`no json`: "invalid character", `[]`: "cannot unmarshal", `{}`: "no id", `{"id":"x"}`: "no rule", `{"id":"x","rule":{"id":"r"},"severity":"bad"}`: `severity "bad"`,
		`{"id":"x","rule":{"id":"r"},"severity":"low"}`: "no time", `{"id":"x","rule":{"id":"r"},"severity":"low","time":"yesterday"}`: "yesterday",
		`{"class_uid":2004,"finding_info":{"uid":"x"}}`: "no id",
	} {
		if _, err := Read([]byte(payload), 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", payload, err, want)
		}
	}
	a, err := Read([]byte(`{"id":"x","rule":{"id":"r"},"severity":"low","time":"2026-01-01T00:00:01Z","events":[{"a":1},{"a":2}],"entities":[{"type":"user","value":1001}]}`), 0)
	if err != nil || a.first != a.at || a.rawEvents() != `[{"a":1},{"a":2}]` || a.Entities[0].text() != "1001" {
		t.Errorf("%+v, %v", a, err)
	}
}

// The table has each technique with a name and tactics that it knows too.
func TestAttackTable(t *testing.T) {
	n := 0
	for id, cells := range attackLines() {
		if id[:2] == "TA" {
			continue
		}
		n++
		x := LookupTechnique(id)
		if cells[0] == "" || x.Name != cells[0] || len(x.Tactics) == 0 || (x.Parent != "") != strings.Contains(id, ".") || x.Parent != "" && x.ParentName == "" {
			t.Errorf("%s: %+v", id, x)
		}
		for _, tactic := range x.Tactics {
			if tactic.Name == "" {
				t.Errorf("%s: tactic %s has no name", id, tactic.ID)
			}
		}
	}
	if n < 800 {
		t.Errorf("%d techniques", n)
	}
	if x := LookupTechnique("T1078.999"); x.Name != "" || x.ParentName != "Valid Accounts" || len(x.Tactics) != 4 {
		t.Errorf("%+v", x)
	}
}
