package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// finding is what the test reads of an OCSF document.
type finding struct {
	Class       int   `json:"class_uid"`
	Type        int   `json:"type_uid"`
	SeverityID  int   `json:"severity_id"`
	Start       int64 `json:"start_time"`
	End         int64 `json:"end_time"`
	RiskScore   int   `json:"risk_score"`
	FindingInfo struct {
		UID     string
		Title   string
		Attacks []struct {
			Technique, Tactic struct{ UID string }
			Sub               struct{ UID string } `json:"sub_technique"`
		}
	} `json:"finding_info"`
	Metadata    struct{ Version string }
	Observables []struct {
		Type  int `json:"type_id"`
		Value string
	}
}

// document is what the test reads of an ECS document.
type document struct {
	Event struct {
		Kind, ID, Start, End string
		RiskScore            int `json:"risk_score"`
	}
	Message             string
	Rule                struct{ ID, Reference string }
	Source, Destination struct{ IP string }
	User                struct{ Target struct{ Name string } }
	Related             struct{ IP, User []string }
	Threat              struct {
		Technique struct {
			ID           []string
			Subtechnique struct{ ID []string }
		}
	}
}

// The alerts of pipelines/siem.yaml, worked out from the logs alone, are in both forms, under the ids that the plain ones have; all else
// is the same in the three files.
func TestSiem(t *testing.T) {
	logins, _ := readLog(t, "pipelines/data/logins.jsonl")
	ids, _ := readLog(t, "pipelines/data/ids.jsonl")
	var want []string
	for _, a := range ids {
		for _, l := range logins {
			if a.SourceIP == l.SourceIP && a.at.Sub(l.at).Abs() <= time.Hour { // both logs are of the same ten minutes
				first, last := min(a.at.UnixMilli(), l.at.UnixMilli()), max(a.at.UnixMilli(), l.at.UnixMilli())
				want = append(want, fmt.Sprint(l.Username, " from ", l.SourceIP, " ", stamp(time.UnixMilli(first)), " ", stamp(time.UnixMilli(last))))
			}
		}
	}
	dir := t.TempDir()
	ocsf, ecs := filepath.Join(dir, "ocsf.jsonl"), filepath.Join(dir, "ecs.jsonl")
	pipeline, rows := moved(t, "pipelines/siem.yaml", dir, "./out/siem.ocsf.jsonl", ocsf, "./out/siem.ecs.jsonl", ecs)
	if out, err := exec.Command(build(t), "run", pipeline).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	plain := results(t, rows)
	findings, documents := results(t, ocsf), results(t, ecs)
	if len(plain) != len(findings) || len(plain) != len(documents) {
		t.Fatalf("%d lines, %d findings, %d documents", len(plain), len(findings), len(documents))
	}
	var got, gotECS []string
	for i, r := range plain {
		if r.Tocsin.Kind != "alert" {
			if findings[i].line != r.line || documents[i].line != r.line {
				t.Errorf("changed: %s", r.line)
			}
			continue
		}
		var f finding
		var d document
		if err := json.Unmarshal([]byte(findings[i].line), &f); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(documents[i].line), &d); err != nil {
			t.Fatal(err)
		}
		ip, user := f.Observables[0].Value, f.Observables[2].Value
		got = append(got, fmt.Sprint(user, " from ", ip, " ", stamp(time.UnixMilli(f.Start)), " ", stamp(time.UnixMilli(f.End))))
		gotECS = append(gotECS, fmt.Sprint(d.User.Target.Name, " from ", d.Source.IP, " ", d.Event.Start, " ", d.Event.End))
		if f.Class != 2004 || f.Type != 200401 || f.SeverityID != 4 || f.RiskScore != 70 || f.Metadata.Version != "1.4.0" || f.FindingInfo.UID != r.Tocsin.ResultID || f.FindingInfo.Title != r.Title ||
			len(f.FindingInfo.Attacks) != 5 || f.FindingInfo.Attacks[4].Sub.UID != "T1110.001" || f.FindingInfo.Attacks[4].Tactic.UID != "TA0006" || findings[i].Tocsin != r.Tocsin {
			t.Errorf("%s\nof %s", findings[i].line, r.line)
		}
		if d.Event.Kind != "alert" || d.Event.ID != r.Tocsin.ResultID || d.Event.RiskScore != 70 || d.Message != r.Title || d.Rule.ID != "attacked_logins" || d.Destination.IP != f.Observables[1].Value ||
			!slices.Equal(d.Related.IP, []string{d.Source.IP, d.Destination.IP}) || !slices.Equal(d.Related.User, []string{user}) || strings.Join(d.Threat.Technique.ID, " ") != "T1078 T1110" || documents[i].Tocsin != r.Tocsin {
			t.Errorf("%s\nof %s", documents[i].line, r.line)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	slices.Sort(gotECS)
	if len(want) < 10 || !slices.Equal(got, want) || !slices.Equal(gotECS, want) {
		t.Errorf("got\n%s\nand\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(gotECS, "\n"), strings.Join(want, "\n"))
	}
}
