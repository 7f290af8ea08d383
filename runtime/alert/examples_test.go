package alert

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// The documents that the examples are expected to write meet the schemas, too.
func TestExamplesMeetTheSchemas(t *testing.T) {
	documents := func(path string) (list []map[string]any) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var m map[string]any
			d := json.NewDecoder(strings.NewReader(line))
			d.UseNumber()
			if err := d.Decode(&m); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			delete(m, "_tocsin") // which file_rows adds
			list = append(list, m)
		}
		return list
	}
	fields := ecsFields(t)
	for _, name := range []string{"risk", "workstations"} {
		findings, others := documents("../../testdata/"+name+".ocsf.jsonl"), documents("../../testdata/"+name+".ecs.jsonl")
		if len(findings) < 20 || len(findings) != len(others) {
			t.Errorf("%s: %d findings, %d documents", name, len(findings), len(others))
		}
		for _, m := range findings {
			version, _ := at(m, "metadata.version").(string)
			s := readOCSF(t, version)
			for _, fault := range append(s.check("finding", "detection_finding", m), s.observables(m)...) {
				t.Errorf("%s: %s: %s", name, at(m, "finding_info.uid"), fault)
			}
		}
		for _, m := range others {
			for _, fault := range checkECS(fields, "", m, map[string]bool{}) {
				t.Errorf("%s: %s: %s", name, at(m, "event.id"), fault)
			}
		}
	}
}
