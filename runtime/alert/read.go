package alert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Alert is an alert's payload, read again: what Template.Append wrote.
type Alert struct {
	ID              string
	Rule            Rule
	Title           string
	Description     string
	Severity        string // one of Severities
	RiskScore       int    `json:"risk_score"`
	Time            time.Time
	First           time.Time `json:"first_event_time"`
	Last            time.Time `json:"last_event_time"`
	Count           int64
	Suppressed      int64
	Entities        []Named
	Attack          []string
	References      []string
	FalsePositives  []string        `json:"false_positives"`
	Note            json.RawMessage // null for none
	Row             json.RawMessage
	Events          []json.RawMessage
	Truncated       bool
	revision        int
	severity        int // its place in Severities, from 1
	first, last, at int64
}

// Named is somebody or something that an alert names.
type Named struct {
	Type, Field, Role string
	Value             json.RawMessage
	Risk              *float64 `json:"risk_score"` // its own, of an alert about an entity's risk
}

// Read reads the payload of an alert, of which it is said for the revision-th time after the first. An error says what is
// missing: a payload that a processor has changed is no alert any more.
func Read(payload []byte, revision int) (*Alert, error) {
	a := &Alert{revision: revision}
	if err := json.Unmarshal(payload, a); err != nil {
		return nil, fmt.Errorf("the payload is no alert: %w", err)
	}
	a.severity = slices.Index(Severities, a.Severity) + 1
	switch {
	case a.ID == "":
		return nil, errors.New("the payload is no alert: it has no id")
	case a.Rule.ID == "":
		return nil, errors.New("the payload is no alert: it has no rule with an id")
	case a.severity == 0:
		return nil, fmt.Errorf("the payload is no alert: it has the severity %q, which is none of %s", a.Severity, strings.Join(Severities, ", "))
	case a.Time.IsZero():
		return nil, errors.New("the payload is no alert: it has no time")
	}
	a.at, a.first, a.last = a.Time.UnixMilli(), a.Time.UnixMilli(), a.Time.UnixMilli()
	if !a.First.IsZero() {
		a.first = a.First.UnixMilli()
	}
	if !a.Last.IsZero() {
		a.last = a.Last.UnixMilli()
	}
	return a, nil
}

// text is the entity's value as a text: of a text its characters, else its JSON.
func (n *Named) text() string {
	var s string
	if json.Unmarshal(n.Value, &s) == nil {
		return s
	}
	return string(n.Value)
}

// side says on which side of a connection or an action the entity's role puts it: -1 where it comes from, 1 where it goes, 0 if
// the role does not say.
func (n *Named) side() int {
	switch strings.ToLower(n.Role) {
	case "source", "src", "client", "attacker":
		return -1
	case "destination", "dest", "dst", "server", "target", "victim":
		return 1
	}
	return 0
}

// led are the ids of the alerts that led to one about an entity's risk.
func (a *Alert) led() (ids []string) {
	var row struct{ Contributions []struct{ ID string } }
	if !slices.ContainsFunc(a.Entities, func(n Named) bool { return n.Risk != nil }) || json.Unmarshal(a.Row, &row) != nil {
		return nil
	}
	for _, c := range row.Contributions {
		if c.ID != "" {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// isIP says whether a text is an IP address: stores refuse a whole document for an address field that holds something else.
func isIP(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Zone() == ""
}

// baseName is the last part of a path as Unix or Windows writes them.
func baseName(path string) string { return path[strings.LastIndexAny(path, `/\`)+1:] }

// rawEvents are the events behind the alert as one text: the event, or a list of them; "" without any.
func (a *Alert) rawEvents() string {
	switch len(a.Events) {
	case 0:
		return ""
	case 1:
		return string(a.Events[0])
	}
	return "[" + string(bytes.Join(rawParts(a.Events), []byte(","))) + "]"
}

func rawParts(list []json.RawMessage) (out [][]byte) {
	for _, x := range list {
		out = append(out, x)
	}
	return out
}

// given is raw JSON, or nil if there is none.
func given(raw json.RawMessage) any {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return raw
}

// encode writes a document; what it was made of is JSON, so it cannot fail but for a bug.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
