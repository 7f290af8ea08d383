// Package alert turns a row of an operator into an alert: one form for every kind of rule, the same bytes after any crash
// or replay. When it was detected is metadata of the message and never content.
//
// Read Template, then Append.
package alert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Severities are the severities an alert may have, mildest first.
var Severities = []string{"informational", "low", "medium", "high", "critical"}

// EntityTypes are the types an entity may have.
var EntityTypes = []string{"ip", "user", "host", "hash", "domain", "url", "email", "file", "process", "other"}

// Template is what an operator's `alert:` says, or a rule of a plugin's manifest; Title and Description may hold {field},
// filled from the row.
type Template struct {
	Rule        Rule
	Title       Text
	Description Text
	Severity    string
	RiskScore   int // 0 to 100; -1: the entity's score, which the row has
	Entities    []Entity
	Attack      []string // ATT&CK technique ids
	References  []string
	Innocent    []string // what may look like it and is not: false_positives
	Columns     []Column // the row's columns, in order
	Events      int      // how many events it shows at most; 0: those that the row has by itself
	Held        bool     // its alerts go through an operator that suppresses or groups them
}

// Rule says which rule an alert comes from.
type Rule struct {
	ID, Name string // the same for all alerts of the rule
	Source   string // pipeline, or the module's name
	Version  string
}

// Scores are the risk scores of severities where nobody says one.
var Scores = map[string]int{"informational": 5, "low": 25, "medium": 50, "high": 75, "critical": 95}

// Facts are what an alert says beside its template and row. Times are ms; First and Last are those of the first and last
// event behind it.
type Facts struct {
	ID              event.ID
	TS, First, Last int64
	Severity        string // "": the template's
	Note            []byte // JSON object, nil for none
	Events          []byte // raw events, JSON, a comma between two; nil for none
	Truncated       bool   // there were more
	Count           int64  // alerts that it stands for, itself among them; 0: one
	Suppressed      int64  // of them, those that were held back
	Attack          []string
	Score           int // of a template without one
}

// Column is a column of the row under the name it has in payloads.
type Column struct {
	Name   string
	Field  event.Field
	hidden *event.Hidden // of objects in it: what is called like other columns
}

// Entity is a field of the row that names somebody or something.
type Entity struct {
	Field Column
	Type  string
	Role  string
	Risk  *EntityRisk // of an alert about an entity's risk
}

// EntityRisk says where a row has the type of its entity, which is not the same for all rows, and the entity's score.
type EntityRisk struct{ Type, Score event.Field }

// Row gives the cells of a row.
type Row interface {
	Value(f event.Field) event.Value
}

// Text is a text with holes.
type Text struct {
	lits  []string // one more than holes
	holes []event.Field
}

// ParseText reads a text with {field} in it; `{{` is a brace. Each name is resolved once.
func ParseText(s string, resolve func(name string) (event.Field, error)) (Text, error) {
	var t Text
	var lit strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c:
			lit.WriteByte(c)
			i++
		case c == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 2 {
				return Text{}, fmt.Errorf("%q has a { without a field and a }; write {{ for a brace", s)
			}
			f, err := resolve(s[i+1 : i+end])
			if err != nil {
				return Text{}, err
			}
			t.lits, t.holes = append(t.lits, lit.String()), append(t.holes, f)
			lit.Reset()
			i += end
		default:
			lit.WriteByte(c)
		}
	}
	t.lits = append(t.lits, lit.String())
	return t, nil
}

// Constant is a text with the name of the field in each hole: what a rule is called, whatever its rows. A text that ParseText does
// not take stays as it is.
func Constant(s string) string {
	var names []string
	t, err := ParseText(s, func(name string) (event.Field, error) {
		names = append(names, name)
		return 0, nil
	})
	if err != nil {
		return s
	}
	var b strings.Builder
	for i, lit := range t.lits {
		if b.WriteString(lit); i < len(names) {
			b.WriteString(names[i])
		}
	}
	return b.String()
}

// Fields returns the fields that the text reads.
func (t *Text) Fields() []event.Field { return t.holes }

// Fill appends the text with its holes filled; a missing field reads "-".
func (t *Text) Fill(dst []byte, r Row) []byte {
	for i, lit := range t.lits {
		dst = append(dst, lit...)
		if i < len(t.holes) {
			if v := r.Value(t.holes[i]); v.Missing() {
				dst = append(dst, '-')
			} else {
				dst = append(dst, v.Text...)
			}
		}
	}
	return dst
}

// Guess returns the entities that columns with well-known names are: source_ip, username, host and the like.
func Guess(columns []Column) (found []Entity) {
	for _, c := range columns {
		name := strings.ToLower(c.Name[strings.LastIndexByte(c.Name, '.')+1:])
		role := ""
		switch {
		case strings.HasPrefix(name, "source") || strings.HasPrefix(name, "src"):
			role = "source"
		case strings.HasPrefix(name, "dest") || strings.HasPrefix(name, "dst"):
			role = "destination"
		}
		for _, k := range wellKnown {
			if slices.Contains(k.names, name) || slices.ContainsFunc(k.names, func(n string) bool { return strings.HasSuffix(name, "_"+n) }) {
				found = append(found, Entity{Field: c, Type: k.typ, Role: role})
				break
			}
		}
	}
	return found
}

var wellKnown = []struct {
	typ   string
	names []string
}{
	{"ip", []string{"ip", "address", "addr"}},
	{"user", []string{"user", "username", "account", "principal"}},
	{"host", []string{"host", "hostname", "computer"}},
	{"hash", []string{"hash", "md5", "sha1", "sha256"}},
	{"domain", []string{"domain"}},
}

// Fields are the fields of a row that its alert is made of.
func (t *Template) Fields() (list []event.Field) {
	list = slices.Concat(t.Title.holes, t.Description.holes)
	for _, c := range t.Columns {
		list = append(list, c.Field)
	}
	for _, e := range t.Entities {
		if list = append(list, e.Field.Field); e.Risk != nil {
			list = append(list, e.Risk.Type, e.Risk.Score)
		}
	}
	return list
}

// Score is the risk score, 0 to 100, of an alert with a severity of its own, or "" for the template's.
func (t *Template) Score(severity string) int {
	score := t.RiskScore
	if severity != "" {
		score += Scores[severity] - Scores[t.Severity]
	}
	return min(max(score, 0), 100)
}

// Append appends the alert's payload: a JSON object.
func (t *Template) Append(dst []byte, x Facts, r Row) []byte {
	str := func(key string, v string) {
		dst = append(append(dst, key...), event.Value{Kind: event.String, Text: []byte(v)}.AppendJSON(nil)...)
	}
	when := func(key string, ms int64) {
		dst = append(append(dst, key...), '"')
		dst = append(event.AppendTime(dst, ms), '"')
	}
	severity, score := t.Severity, x.Score
	if x.Severity != "" {
		severity = x.Severity
	}
	if t.RiskScore >= 0 {
		score = t.Score(severity)
	}
	str(`{"id":`, x.ID.String())
	str(`,"rule":{"id":`, t.Rule.ID)
	str(`,"name":`, t.Rule.Name)
	str(`,"source":`, t.Rule.Source)
	str(`,"version":`, t.Rule.Version)
	str(`},"title":`, string(t.Title.Fill(nil, r)))
	str(`,"description":`, string(t.Description.Fill(nil, r)))
	str(`,"severity":`, severity)
	dst = strconv.AppendInt(append(dst, `,"risk_score":`...), int64(score), 10)
	when(`,"time":`, x.TS)
	when(`,"first_event_time":`, x.First)
	when(`,"last_event_time":`, x.Last)
	dst = strconv.AppendInt(append(dst, `,"count":`...), max(x.Count, 1), 10)
	dst = strconv.AppendInt(append(dst, `,"suppressed":`...), x.Suppressed, 10)
	dst = append(dst, `,"entities":[`...)
	n := 0
	for i := range t.Entities {
		if v := r.Value(t.Entities[i].Field.Field); !v.Missing() {
			if n++; n > 1 {
				dst = append(dst, ',')
			}
			dst = t.Entities[i].append(dst, r, v)
		}
	}
	dst = appendStrings(append(dst, `],"attack":`...), United(t.Attack, x.Attack))
	dst = appendStrings(append(dst, `,"references":`...), t.References)
	dst = appendStrings(append(dst, `,"false_positives":`...), t.Innocent)
	dst = append(dst, `,"note":`...)
	if x.Note == nil {
		dst = append(dst, `null`...)
	}
	dst = append(append(dst, x.Note...), `,"row":`...)
	dst = AppendRow(dst, t.Columns, r)
	dst = append(append(append(dst, `,"events":[`...), x.Events...), ']')
	if x.Truncated {
		dst = append(dst, `,"truncated":true`...)
	}
	return append(dst, '}')
}

// append appends the entity, whose value in the row is v.
func (e *Entity) append(dst []byte, r Row, v event.Value) []byte {
	kind := []byte(e.Type)
	if e.Risk != nil {
		kind = r.Value(e.Risk.Type).Text
	}
	dst = event.AppendJSONString(append(dst, `{"type":`...), kind)
	dst = event.AppendJSONString(append(dst, `,"field":`...), []byte(e.Field.Name))
	if e.Role != "" {
		dst = event.AppendJSONString(append(dst, `,"role":`...), []byte(e.Role))
	}
	dst = v.AppendJSON(append(dst, `,"value":`...))
	if e.Risk != nil {
		dst = r.Value(e.Risk.Score).AppendJSON(append(dst, `,"risk_score":`...))
	}
	return append(dst, '}')
}

// United are the techniques of both lists, each once, in their order.
func United(a, b []string) []string {
	if len(b) == 0 {
		return a
	}
	all := slices.Clone(a)
	for _, id := range b {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

// Own makes columns the only ones of their names: whoever reads `a.b` must find the column of that name, and not a member b of an object a
// that comes from a log, whether the row has the column or not.
func Own(columns []Column) []Column {
	columns = slices.Clone(columns)
	for i := range columns {
		c := &columns[i]
		var within []string
		for _, o := range columns {
			switch {
			case o.Name == c.Name:
			case c.Name == "":
				within = append(within, o.Name)
			case event.Within(o.Name, c.Name):
				within = append(within, o.Name[len(c.Name)+1:])
			}
		}
		if c.hidden = nil; within != nil {
			c.hidden = event.NewHidden(within)
		}
	}
	return columns
}

// AppendRow appends a row's columns as a flat JSON object; columns that the row does not have are left out. Of a column
// without a name, which holds an event, the members become columns. Columns are those of Own.
func AppendRow(dst []byte, columns []Column, r Row) []byte {
	dst = append(dst, '{')
	n := 0
	for _, c := range columns {
		v := r.Value(c.Field)
		if v.Kind == event.Absent {
			continue
		}
		if c.hidden != nil && v.Kind >= event.Object {
			v.Text = c.hidden.Without(v.Text)
		}
		if c.Name == "" {
			dst = appendMembers(dst, v.Text, &n)
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		dst = event.AppendJSONString(dst, []byte(c.Name))
		dst = v.AppendJSON(append(dst, ':'))
	}
	return append(dst, '}')
}

// appendMembers appends the members of a JSON object.
func appendMembers(dst, object []byte, n *int) []byte {
	event.Members(object, func(name, value []byte) {
		if *n++; *n > 1 {
			dst = append(dst, ',')
		}
		dst = append(append(event.AppendJSONString(dst, name), ':'), value...)
	})
	return dst
}

func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendJSONString(dst, []byte(s))
	}
	return append(dst, ']')
}
