package bigquery

import (
	"fmt"
	"strings"
)

// nameMax is the longest name of a column, in characters.
const nameMax = 300

// reserved are what no name of a column may begin with, in any case.
var reserved = []string{"_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_SEQUENCE_NUMBER", "_CHANGE_TYPE", "_CHANGE_TIMESTAMP"}

// Name is the column that a member of rows is written to. All but letters, digits and underscores become underscores; what then begins with a digit
// or a reserved prefix, is empty, or is one of our own columns, gets row_ in front.
func Name(member string, own []Column) string {
	name := strings.Map(func(r rune) rune {
		if r|0x20 >= 'a' && r|0x20 <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, member)
	if name == "" || name[0] >= '0' && name[0] <= '9' || isReserved(name) || indexOf(own, name) >= 0 {
		return "row_" + name
	}
	return name
}

func isReserved(name string) bool {
	for _, prefix := range reserved {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return true
		}
	}
	return false
}

// NameFault says why rows with these members cannot be written to a table: two of them have one column, which BigQuery tells apart without case, or
// a name is too long. It is empty for those that can.
func NameFault(members []string, own []Column) string {
	taken := map[string]string{}
	for _, m := range members {
		name := Name(m, own)
		folded := strings.ToLower(name)
		other, twice := taken[folded]
		switch {
		case len(name) > nameMax:
			return fmt.Sprintf("the column %s... has %d characters; BigQuery takes %d", m[:40], len(name), nameMax)
		case twice:
			return fmt.Sprintf("the columns %s and %s would both be %s in BigQuery", other, m, name)
		}
		taken[folded] = m
	}
	return ""
}

// indexOf is the place of a column, which BigQuery finds without case; -1 if there is none.
func indexOf(columns []Column, name string) int {
	for i := range columns {
		if strings.EqualFold(columns[i].Name, name) {
			return i
		}
	}
	return -1
}
