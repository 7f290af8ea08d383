package pipeline

import (
	"fmt"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// joinKind reads which rows are partners: exactly one of within (or bounds), window, as_of and ttl, which as_of may have too. It
// returns what ends a version, whose fields are not known yet.
func (d *decoder) joinKind(j *operator.Join, m *mapping) (deleted *yaml.Node) {
	window, ttl, asOf := m.get("window"), m.get("ttl"), d.bool(m.get("as_of"), "as_of")
	deleted = m.get("deleted")
	said := ""
	one := func(name string) bool {
		switch {
		case m.get(name) == nil:
			return false
		case said != "":
			d.wrong(m.key(name), "a join finds partners in one way, and this one by %s; make it an operator each", said)
			return false
		}
		said = name
		return true
	}
	if one("within") || one("bounds") {
		d.bounds(j, m)
	}
	if one("window") {
		j.Kind = operator.Windowed
		d.joinWindow(j, window)
	}
	if asOf && one("as_of") {
		j.Kind = operator.AsOf
		d.asOf(j, m)
	} else if deleted != nil {
		d.wrong(m.key("deleted"), "deleted says which right rows end a version, and goes with as_of: true; for other joins filter such rows out")
	}
	if j.TTL = d.span(ttl, "ttl", 0, time.Millisecond); j.Kind != operator.AsOf && one("ttl") {
		j.Kind, j.Lower, j.Upper = operator.Regular, -j.TTL, j.TTL
	}
	if said == "" {
		d.wrong(m.node, "join needs within: how far apart in time two rows may be, such as 1h; or bounds, window, as_of: true or ttl")
	}
	return deleted
}

// bounds reads within or bounds.
func (d *decoder) bounds(j *operator.Join, m *mapping) {
	within, bounds := m.get("within"), m.get("bounds")
	switch {
	case within != nil && bounds != nil:
		d.wrong(m.key("bounds"), "within and bounds say the same; keep one")
	case within != nil:
		j.Upper = d.span(within, "within", 0, 0)
		j.Lower = -j.Upper
	case bounds != nil:
		if b := d.mapping(bounds, "bounds"); b != nil {
			lower, upper := b.need("lower", "such as -5m: left.time >= right.time + lower"), b.need("upper", "such as 1h: left.time <= right.time + upper")
			j.Lower, j.Upper = d.span(lower, "lower", 0, -spanMax), d.span(upper, "upper", 0, -spanMax)
			b.done()
			if lower != nil && upper != nil && j.Lower > j.Upper {
				d.wrong(lower, "lower is above upper; swap them")
			}
		}
	}
}

// joinWindow reads the window that partners share.
func (d *decoder) joinWindow(j *operator.Join, n *yaml.Node) {
	j.Window = &operator.Window{Size: 1}
	m := d.mapping(n, "window")
	if m == nil {
		return
	}
	d.windowKind(j.Window, m)
	m.done()
	switch w := j.Window; {
	case w.Kind == operator.Session:
		d.wrong(m.key("session"), "a session ends with its rows, and a cap that dropped one would move the end; join by tumbling, hopping or cumulate windows, or within a time")
	case w.Kind == operator.Counting:
		d.wrong(m.key("count"), "a count window is so many rows of one source; join by tumbling, hopping or cumulate windows, or within a time")
	case w.Overlap() > operator.OverlapMax:
		d.wrong(m.key(w.Kind.String()), "each window says its pairs anew, and %d of them would have a row; at most %d may: let them begin, or grow, less often", w.Overlap(), operator.OverlapMax)
	}
}

// asOf checks that a left row takes one version at most.
func (d *decoder) asOf(j *operator.Join, m *mapping) {
	if j.Type > operator.LeftOuter {
		d.wrong(m.get("type"), "as_of gives each left row the version of its time, so it goes with type inner or left, not %s: no version is said alone", joinTypes[j.Type])
	}
	for _, name := range []string{"matches", "max_matches_per_row"} {
		if m.get(name) != nil && (name == "matches" || j.Matches == operator.AllMatches) { // else it was said
			d.wrong(m.key(name), "as_of gives a left row one version at most; leave %s out", name)
		}
	}
}

// joinDeleted reads which right rows end a version.
func (d *decoder) joinDeleted(j *operator.Join, n *yaml.Node, sides [2]*source) {
	j.Deleted = d.condition(n, func(path string) (event.Field, error) {
		side, f, err := d.pairField(path, sides)
		if err == nil && side == 0 {
			err = fmt.Errorf("deleted is about the rows of %s, which are versions; name fields of %s", sides[1].name, sides[1].name)
		}
		return f, err
	}, func(path string) string { return pairType(path, sides) })
}

// windowColumns are the bounds of the window that a row is of.
func (d *decoder) windowColumns(s *source, sel *yaml.Node, sides [2]*source) {
	for _, name := range []string{"window_start", "window_end"} {
		if sel == nil && (sides[0].name == name || sides[1].name == name) {
			d.wrong(s.body.key("join"), "the rows of %s would share a column with the windows' bounds; name columns in select", name)
		}
		s.cols = append(s.cols, name)
		s.typed(name, "timestamp")
	}
}

// joinKindPrint is the fingerprint of how partners are found.
func joinKindPrint(j *operator.Join) []string {
	switch j.Kind {
	case operator.Regular:
		return []string{"ttl: " + span(j.TTL)}
	case operator.Windowed:
		return []string{"window: " + strings.Join(kindPrint(j.Window), ", ")}
	case operator.AsOf:
		return []string{fmt.Sprintf("as_of: ttl %s, deleted %s", span(j.TTL), j.Deleted)}
	}
	return []string{fmt.Sprintf("bounds: %s to %s", span(j.Lower), span(j.Upper))}
}
