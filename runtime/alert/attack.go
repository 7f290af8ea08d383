package alert

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed attack.tsv
var attackTable string

// AttackVersion is the version of MITRE ATT&CK that the table is of.
const AttackVersion = "18.1"

// Technique is a technique or sub-technique of MITRE ATT&CK; a sub-technique stands below the technique Parent, "" for none.
// Names and Tactics are empty for one that the table does not know.
type Technique struct {
	ID, Name           string
	Parent, ParentName string
	Tactics            []Tactic // in the order of ATT&CK's own definition
}

// Tactic is a tactic of MITRE ATT&CK.
type Tactic struct{ ID, Name string }

// attackLines are the lines of the table by id: name, and of a technique the ids of its tactics.
var attackLines = sync.OnceValue(func() map[string][]string {
	lines := map[string][]string{}
	for line := range strings.Lines(attackTable) {
		if cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); line[0] != '#' && len(cells) >= 2 {
			lines[cells[0]] = cells[1:]
		}
	}
	return lines
})

// LookupTechnique finds what is known of a technique by its id, T1110 or T1110.001.
func LookupTechnique(id string) Technique {
	lines := attackLines()
	name := func(id string) string {
		if l := lines[id]; l != nil {
			return l[0]
		}
		return ""
	}
	t := Technique{ID: id, Name: name(id)}
	if parent, _, sub := strings.Cut(id, "."); sub {
		t.Parent, t.ParentName = parent, name(parent)
	}
	l := lines[id]
	if l == nil {
		l = lines[t.Parent]
	}
	if len(l) == 2 {
		for _, tactic := range strings.Split(l[1], ",") {
			t.Tactics = append(t.Tactics, Tactic{tactic, name(tactic)})
		}
	}
	return t
}
