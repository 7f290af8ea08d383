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

// TechniqueStatus is what the table knows of a technique's id.
type TechniqueStatus uint8

// A technique is known; it is none, never was or was retired; or its number is beyond those of the table, which newer ones are.
const (
	KnownTechnique TechniqueStatus = iota
	NoTechnique
	NewTechnique
)

// CheckTechnique says what the table knows of a technique, by a well-formed id, and of one that it does not know the nearest that it
// does: the one that differs in one place, the lowest of several, of a sub-technique only another one of its technique; or else
// that technique; or none.
func CheckTechnique(id string) (status TechniqueStatus, near Technique) {
	lines := attackLines()
	if len(lines[id]) == 2 {
		return KnownTechnique, near
	}
	parent, _, sub := strings.Cut(id, ".")
	best, status := 2, NewTechnique
	for known, cells := range lines {
		if len(cells) != 2 {
			continue
		}
		of, _, isSub := strings.Cut(known, ".")
		if sub && isSub && of == parent && known > id || (!sub || lines[parent] == nil) && known[:2] == id[:min(2, len(id))] && of > parent {
			status = NoTechnique // ids go up within a matrix, and within a technique
		}
		if sub && lines[parent] != nil && of != parent {
			continue
		}
		if n := differs(known, id); n < best || n == best && n < 2 && known < near.ID {
			best, near = n, Technique{ID: known, Name: cells[0]}
		}
	}
	if cells := lines[parent]; sub && near.ID == "" && len(cells) == 2 {
		near = Technique{ID: parent, Name: cells[0]}
	}
	return status, near
}

// differs counts the places at which two ids of one length differ; ids of other lengths are far from one another.
func differs(a, b string) (n int) {
	if len(a) != len(b) {
		return len(a) + len(b)
	}
	for i := range len(a) {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}
