package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

func (d *decoder) join(s *source) {
	m := d.mapping(s.body.get("join"), "join")
	if m == nil {
		return
	}
	j := &operator.Join{}
	left, right := m.need("left", "a stream or operator"), m.need("right", "a stream or operator")
	d.joinType(j, m)
	on, sel, where := m.need("on", "the field that both sides share, or { left: [...], right: [...] }"), m.get("select"), m.get("where")
	deleted := d.joinKind(j, m)
	j.Ident = operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name, Form: j.Kind.Form()}
	j.NullSafe = d.bool(m.get("null_safe"), "null_safe")
	j.RowsMax = d.int(m.get("max_rows_per_key"), "max_rows_per_key", operator.CapDefault, 1, 1_000_000)
	j.Policy = map[string]operator.Policy{"keep_newest": operator.KeepNewest, "keep_oldest": operator.KeepOldest, "stop": operator.Stop}[d.enum(
		m.get("policy"), "policy", "keep_newest", "keep_newest", "keep_oldest", "stop")]
	m.done()
	if left == nil || right == nil || d.nodes[left.Value] == nil || d.nodes[right.Value] == nil {
		return
	}
	if left.Value == right.Value {
		d.wrong(right, "left and right are both %s; a join needs two sources", left.Value)
		return
	}
	sides := [2]*source{d.nodes[left.Value], d.nodes[right.Value]}
	if sides[0] == s || sides[1] == s {
		return // a cycle, which was said
	}
	if on != nil {
		d.on(j, on, sides)
	}
	if j.Kind == operator.Windowed {
		d.windowColumns(s, sel, sides)
	}
	if j.Type == operator.Semi || j.Type == operator.Anti || j.Matches == operator.CountMatches {
		d.leftSelects(s, j, sel, sides)
	} else {
		d.selects(s, j, sel, sides, 2)
	}
	d.pairWhere(j, where, sides)
	d.joinDeleted(j, deleted, sides)
	s.op.Join = j
	s.print = append(s.print, d.joinPrint(j)...)
	s.init = func(spec *engine.Spec) {
		j.Init(spec.Fields)
		s.op.Names = d.columns(j.Columns)
		d.fillAlert(s)
	}
	d.alert(s)
}

var (
	joinTypes   = []string{"inner", "left", "right", "full", "semi", "anti"}
	joinMatches = []string{"all", "first", "count"}
)

// joinType reads type, matches and max_matches_per_row, which do not all go together.
func (d *decoder) joinType(j *operator.Join, m *mapping) {
	named := func(name string, values []string) int {
		return max(slices.Index(values, d.enum(m.get(name), name, values[0], values...)), 0)
	}
	j.Type, j.Matches = operator.JoinType(named("type", joinTypes)), operator.Matches(named("matches", joinMatches))
	j.MatchesMax = d.int(m.get("max_matches_per_row"), "max_matches_per_row", operator.CapDefault, 1, 1_000_000)
	matches, most := m.get("matches"), m.get("max_matches_per_row")
	alone := j.Type == operator.Semi || j.Type == operator.Anti
	switch {
	case matches != nil && alone:
		d.wrong(m.key("matches"), "type %s says a left row once at most, whatever it matches; leave matches out", joinTypes[j.Type])
	case j.Matches != operator.AllMatches && j.Type > operator.LeftOuter:
		d.wrong(m.key("matches"), "matches: %s is about left rows and goes with type inner or left, not %s", matches.Value, joinTypes[j.Type])
	}
	if most != nil && (alone || j.Matches != operator.AllMatches) {
		d.wrong(m.key("max_matches_per_row"), "max_matches_per_row bounds pairs, and here a left row comes out once; leave it out")
	}
}

// on reads the fields of the key: the same on both sides, or a list for each.
func (d *decoder) on(j *operator.Join, n *yaml.Node, sides [2]*source) {
	lists := [2]*yaml.Node{n, n}
	var types [2][]string
	if n.Kind == yaml.MappingNode {
		m := d.mapping(n, "on")
		lists = [2]*yaml.Node{m.need("left", "its fields"), m.need("right", "its fields")}
		m.done()
	}
	for side, list := range lists {
		d.list(list, "on", func(x *yaml.Node) {
			types[side] = append(types[side], sides[side].types[x.Value])
			j.On[side] = append(j.On[side], d.column(x, "on", func(path string) (event.Field, error) { return d.field(sides[side], path) }))
		})
	}
	if lists[0] != nil && lists[1] != nil && len(j.On[0]) != len(j.On[1]) {
		d.wrong(n, "on has %d fields on the left and %d on the right; they must be as many", len(j.On[0]), len(j.On[1]))
		return
	}
	for i := range j.On[0] {
		if t, u := types[0][i], types[1][i]; !sameKey(t, u) {
			d.wrong(n, "%s has the type %s in %s, and in %s it is %s of the type %s: such keys are never equal", d.conf.Spec.Fields.Path(j.On[0][i]), t, sides[0].name, sides[1].name, d.conf.Spec.Fields.Path(j.On[1][i]), u)
		}
	}
}

// sameKey says whether keys of two types may be equal: the text "1" is not the number 1, in keys.
func sameKey(a, b string) bool {
	text := func(t string) bool { return t == "string" }
	number := func(t string) bool { return t == "int" || t == "float" || t == "bool" }
	return match.Meet(a, b) && !(text(a) && number(b) || number(a) && text(b))
}

// pairField takes source.field apart: which side, and the field there. The source alone is its whole row.
func (d *decoder) pairField(path string, sides [2]*source) (side uint8, f event.Field, err error) {
	for i, s := range sides {
		rest, ok := strings.CutPrefix(path, s.name)
		switch {
		case !ok:
		case rest == "" && s.whole:
			return uint8(i), d.wholeOf(s), nil
		case rest == "":
			return uint8(i), 0, fmt.Errorf("%s is an operator: name one of its columns, %s.COLUMN%s", s.name, s.name, suggest("", s.cols))
		case rest[0] == '.':
			f, err = d.field(s, rest[1:])
			return uint8(i), f, err
		}
	}
	return 0, 0, fmt.Errorf("%q must begin with a source: %s.FIELD or %s.FIELD", path, sides[0].name, sides[1].name)
}

// leftSelects reads select where left rows come out alone, perhaps with their number of partners.
func (d *decoder) leftSelects(s *source, j *operator.Join, n *yaml.Node, sides [2]*source) {
	if j.Matches == operator.CountMatches {
		if n == nil && sides[0].name == "matches" {
			d.wrong(s.body.key("join"), "the rows of matches would share a column with their number, matches; name columns in select")
		}
		s.cols = append(s.cols, "matches")
		s.typed("matches", "int")
	}
	d.selects(s, j, n, sides, 1)
}

// selects reads new name -> source.field, of the first so many sides; by default their rows under the names of their sources.
func (d *decoder) selects(s *source, j *operator.Join, n *yaml.Node, sides [2]*source, shown uint8) {
	add := func(name string, side uint8, f event.Field) {
		j.Outputs = append(j.Outputs, operator.Output{Name: d.conf.Spec.Fields.Add(name), Side: side, Field: f})
	}
	if n == nil {
		for i, x := range sides[:shown] {
			d.wholeRows(s, x, x.name, func(name string, f event.Field) { add(name, uint8(i), f) })
		}
		s.cols = append(s.cols, "truncated")
		return
	}
	m := d.mapping(n, "select")
	if m == nil {
		return
	}
	for _, e := range m.entries {
		d.addColumn(s, e.key)
		if path := d.text(e.value, e.key.Value); path != "" {
			side, f, err := d.pairField(path, sides)
			switch {
			case err != nil:
				d.wrong(e.value, "%v", err)
			case side >= shown:
				d.wrong(e.value, "rows of %s come out alone here; name fields of %s", sides[0].name, sides[0].name)
			}
			s.typed(e.key.Value, pairType(path, sides))
			add(e.key.Value, side, f)
		}
	}
	s.cols = append(s.cols, "truncated")
}

// pairType is the type of source.field, if it is known.
func pairType(path string, sides [2]*source) string {
	for _, s := range sides {
		if path == s.name { // its whole row
			return "json"
		}
		if rest, ok := strings.CutPrefix(path, s.name+"."); ok {
			return s.types[rest]
		}
	}
	return ""
}

// wholeRows shows the rows of a source as columns of s, under an alias: the event, if some are events, and each column of operators;
// a row has what it is.
func (d *decoder) wholeRows(s, in *source, alias string, add func(name string, f event.Field)) {
	show := func(name string, f event.Field) {
		add(name, f)
		s.cols = append(s.cols, name)
	}
	if in.whole {
		show(alias, d.wholeOf(in))
		s.typed(alias, "json")
		for path, t := range in.types { // of the event's fields, which are no columns
			s.typed(alias+"."+path, t)
		}
	}
	for _, c := range in.cols {
		f, _ := d.field(in, c)
		show(alias+"."+c, f)
		s.typed(alias+"."+c, in.types[c])
	}
}

func (d *decoder) pairWhere(j *operator.Join, n *yaml.Node, sides [2]*source) {
	j.Where = d.condition(n, func(path string) (event.Field, error) {
		side, f, err := d.pairField(path, sides)
		name := d.conf.Spec.Fields.Add(path)
		if !slices.ContainsFunc(j.Pair, func(o operator.Output) bool { return o.Name == name }) {
			j.Pair = append(j.Pair, operator.Output{Name: name, Side: side, Field: f})
		}
		return name, err
	}, func(path string) string { return pairType(path, sides) })
}

func (d *decoder) joinPrint(j *operator.Join) []string {
	paths := func(fields []event.Field) string {
		var out []string
		for _, f := range fields {
			out = append(out, d.conf.Spec.Fields.Path(f))
		}
		slices.Sort(out)
		return strings.Join(slices.Compact(out), ", ")
	}
	var keeps [2][]event.Field
	for _, o := range append(slices.Clone(j.Outputs), j.Pair...) {
		keeps[o.Side] = append(keeps[o.Side], o.Field)
	}
	lines := append(joinKindPrint(j), "on: "+paths(j.On[0])+" = "+paths(j.On[1]), fmt.Sprintf("null_safe: %v", j.NullSafe),
		fmt.Sprintf("caps: %d rows, %d matches, policy %d", j.RowsMax, j.MatchesMax, j.Policy), "where: "+j.Where.String())
	if j.Type != operator.Inner {
		lines = append(lines, "type: "+joinTypes[j.Type])
	}
	if j.Matches != operator.AllMatches {
		lines = append(lines, "matches: "+joinMatches[j.Matches])
	}
	for side, name := range []string{"left", "right"} {
		lines = append(lines, "kept of the "+name+": "+paths(keeps[side]))
	}
	return lines
}
