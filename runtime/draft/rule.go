package draft

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Rule counts events by a field in windows of a minute.
type Rule struct {
	Key   string // "": no field says who did something more than once in a minute, and all are counted together
	Where string // a condition as YAML, "" for every event
	What  string // what it counts: failures, events
	Least int    // the highest count in the sample, which the rule therefore says
	Other string // another field, whose values are told apart; "" if there is none
}

// address finds an IPv4 address in a text.
const address = `\b(?P<address>\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})\b`

var addressIn = regexp.MustCompile(address)

// findAddress makes the first address in a syslog's messages, or in a text behind a time, a field, if many have one.
func (l *Log) findAddress(r *reading) {
	syslog := l.Format == "syslog"
	if !syslog && r.kind.name != timeAndText {
		return
	}
	n := 0
	for _, e := range r.events {
		if addressIn.MatchString(e.fields["message"].text) {
			n++
		}
	}
	if n*5 < len(r.events) {
		return
	}
	for _, e := range r.events {
		if a := addressIn.FindString(e.fields["message"].text); a != "" {
			e.fields["address"] = cell{event.String, a}
		}
	}
	if l.Fields = fieldsOf(r.events); syslog {
		l.Format = "{ syslog: { message: '" + address + "' } }"
	} else {
		l.Format = strings.Replace(l.Format, "(?P<message>.*)", "(?P<message>(?:.*?"+address+")?.*)", 1)
	}
}

// findRule picks the field that events are counted by, and which of them: failures, if the log has some that come together.
func (l *Log) findRule(events []line) {
	if only, where := l.failures(); only != nil {
		if l.Rule = l.best(events, only); l.Rule != nil {
			l.Rule.What, l.Rule.Where = "failures", where
			return
		}
	}
	if l.Rule = l.best(events, func(line) bool { return true }); l.Rule == nil {
		l.Rule = &Rule{Least: minutes(events, func(e line) string { return "all" })}
	}
	l.Rule.What = "events"
}

// best is the rule by the field that says most about who did what.
func (l *Log) best(events []line, only func(line) bool) *Rule {
	type choice struct {
		Field
		name, most int
	}
	var list []choice
	for _, f := range l.Fields {
		if name := actorName(f); name > 0 && f.Path != l.Time && len(f.Values) >= 2 && f.Lines*5 >= len(events) {
			if most := peak(events, f.Path, only); most >= 2 {
				list = append(list, choice{f, name, most})
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.SortStableFunc(list, func(a, b choice) int { return cmp.Or(cmp.Compare(b.name, a.name), cmp.Compare(b.Lines, a.Lines)) })
	rule := &Rule{Key: list[0].Path, Least: list[0].most}
	for _, c := range list[1:] {
		if c.name != list[0].name && c.name > 1 {
			rule.Other = c.Path
			break
		}
	}
	return rule
}

// actorName is how much a field sounds like who did something: an address, a person, a machine.
func actorName(f Field) int {
	name := strings.ToLower(f.Path)
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case f.Texts*2 < f.Lines || last == "raw" || last == "message":
		return 0
	case addressy(f) && !strings.Contains(name, "dst") && !strings.Contains(name, "dest") && !strings.Contains(name, "server"):
		return 5
	case addressy(f):
		return 3
	case strings.Contains(name, "user") && !strings.Contains(name, "agent") || strings.Contains(name, "account") || last == "login" || last == "email":
		return 4
	case strings.Contains(name, "host") || last == "computer" || strings.Contains(name, "device") || last == "machine":
		return 2
	case len(f.Values) <= 200 && f.Lines >= 4*len(f.Values):
		return 1 // something that repeats itself
	}
	return 0
}

// addressy says whether nearly all values are addresses.
func addressy(f Field) bool {
	n := 0
	for v := range f.Values {
		if m := addressIn.FindString(v); m == v || strings.Count(v, ":") > 2 && !strings.ContainsAny(v, " T/") {
			n++
		}
	}
	return n*10 >= len(f.Values)*9
}

// peak is the highest count of a value in a minute.
func peak(events []line, path string, only func(line) bool) int {
	return minutes(events, func(e line) string {
		if !only(e) {
			return ""
		}
		return e.fields[path].text
	})
}

// minutes is the highest count in a minute of events of one value; those without one do not count.
func minutes(events []line, of func(line) string) (most int) {
	type pane struct {
		value  string
		minute int64
	}
	counts := map[pane]int{}
	for _, e := range events {
		if v := of(e); v != "" {
			p := pane{v, e.at / 60_000}
			counts[p]++
			most = max(most, counts[p])
		}
	}
	return most
}

// failed are values that say that something was not to be, denied those in texts.
var (
	failed = regexp.MustCompile(`(?i)^(fail|failed|failure|error|denied|deny|reject|rejected|refused|block|blocked|drop|dropped|invalid|unauthorized|forbidden|locked|bad)$`)
	denied = []string{"failed", "failure", "invalid", "denied", "refused", "unauthorized", "error"}
)

// failures is which events say that something failed, and the condition for them; nil if none does.
func (l *Log) failures() (only func(line) bool, where string) {
	for _, f := range l.Fields {
		if len(f.Values) > 50 {
			continue
		}
		values := slices.Sorted(maps.Keys(f.Values))
		if values = slices.DeleteFunc(values, func(v string) bool { return !failed.MatchString(v) }); len(values) > 0 {
			return func(e line) bool { return slices.Contains(values, e.fields[f.Path].text) }, fmt.Sprintf("{ %s: [%s] }", quote(f.Path), strings.Join(quoted(values), ", "))
		}
	}
	if l.Format == "combined" {
		return func(e line) bool { return e.fields["status"].text >= "400" }, "{ status|gte: 400 }"
	}
	for _, f := range l.Fields {
		if f.Path != "message" && f.Path != "msg" {
			continue
		}
		var words []string
		for _, w := range denied {
			for v := range f.Values {
				if strings.Contains(strings.ToLower(v), w) {
					words = append(words, w)
					break
				}
			}
		}
		if len(words) == 0 {
			break
		}
		return func(e line) bool {
			text := strings.ToLower(e.fields[f.Path].text)
			return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
		}, fmt.Sprintf("{ %s|contains: [%s] }", f.Path, strings.Join(words, ", "))
	}
	return nil, ""
}
