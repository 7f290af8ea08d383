package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// sequenceStep is a step as it is written. Its alias is that of `as`, else the name of its source; a step that is missing has
// one only if it says so.
type sequenceStep struct {
	in    *source
	alias string
	step  operator.Step
}

// sequenceSources are the nodes that name the sources of a sequence, each source once: the order of its inputs.
func sequenceSources(n *yaml.Node) (from []*yaml.Node) {
	var parts []*yaml.Node
	if steps := peek(n, "steps"); steps != nil && steps.Kind == yaml.SequenceNode {
		parts = append(parts, steps.Content...)
	}
	if until := peek(n, "until"); until != nil {
		parts = append(parts, until)
	}
	for _, part := range parts {
		x := peek(part, "from")
		if x != nil && !slices.ContainsFunc(from, func(y *yaml.Node) bool { return x.Kind == yaml.ScalarNode && x.Value == y.Value }) {
			from = append(from, x)
		}
	}
	return from
}

func (d *decoder) sequence(s *source) {
	m := d.mapping(s.body.get("sequence"), "sequence")
	if m == nil {
		return
	}
	q := &operator.Sequence{Ident: operator.Ident{Pipeline: d.conf.Spec.Name, Operator: s.name, Form: "sequence/1"}}
	d.list(m.need("by", "the field that the rows share, or a list, such as source_ip"), "by", func(n *yaml.Node) {
		q.By = append(q.By, d.column(n, "by", d.fieldOf(s)))
		d.sameKeys(n, d.inputs(s))
	})
	q.Within = d.span(m.need("within", "the time from the first row to the last, such as 10m"), "within", 0, time.Millisecond)
	list, until, sel := m.need("steps", "a list of what follows on what, such as - { from: logins, where: { status: failure } }"), m.get("until"), m.get("select")
	q.MatchesMax = d.int(m.get("max_matches_per_key"), "max_matches_per_key", operator.CapDefault, 1, 1_000_000)
	m.done()
	if list == nil {
		return
	}
	steps, ok := d.sequenceSteps(s, list)
	if until != nil {
		if x := d.untilStep(s, until); x.in != nil {
			q.Until = &x.step
		}
	}
	if !ok {
		return
	}
	for _, x := range steps {
		q.Steps = append(q.Steps, x.step)
	}
	if q.Steps[len(steps)-1].Missing {
		q.Ident.Form = "absence/1"
	}
	d.stepSelects(s, q, sel, steps)
	s.op.Sequence = q
	s.print = append(s.print, d.sequencePrint(q, steps)...)
	s.init = func(spec *engine.Spec) {
		q.Init(spec.Fields)
		s.op.Names = d.columns(q.Columns)
		d.fillAlert(s)
	}
	d.alert(s)
}

// sameKeys checks that a field has types that may be equal in all sources.
func (d *decoder) sameKeys(n *yaml.Node, sources []*source) {
	for i, in := range sources {
		for _, other := range sources[:i] {
			if t, u := other.types[n.Value], in.types[n.Value]; !sameKey(t, u) {
				d.wrong(n, "%s has the type %s in %s and %s in %s: such keys are never equal", n.Value, t, other.name, u, in.name)
				return
			}
		}
	}
}

// sequenceSteps reads the steps, and says whether they are whole: whether what refers to them can be checked.
func (d *decoder) sequenceSteps(s *source, list *yaml.Node) (steps []sequenceStep, ok bool) {
	if list.Kind != yaml.SequenceNode {
		d.wrong(list, "steps must be a list, such as - { from: logins, where: { status: failure } }, not %s", shown(list))
		return nil, false
	}
	if n := len(list.Content); n < 2 || n > operator.StepsMax {
		d.wrong(list, "steps has %d; a sequence has 2 to %d steps", n, operator.StepsMax)
		return nil, false
	}
	ok = true
	var missing []*yaml.Node // where steps say it
	for i, n := range list.Content {
		x, said, known := d.step(s, n, i, steps)
		steps, ok = append(steps, x), ok && known
		if x.step.Missing {
			missing = append(missing, said)
		}
	}
	switch {
	case len(missing) == len(steps):
		d.wrong(list, "every step is missing; a sequence begins with a row that comes, and then says what does not")
		ok = false
	case steps[0].step.Missing:
		d.wrong(missing[0], "the first step must be a row that comes: the span begins with it; put a step before it")
		ok = false
	}
	return steps, ok
}

// step reads step i; before are those before it. It returns where `missing` stands, and whether the source is known.
func (d *decoder) step(s *source, n *yaml.Node, i int, before []sequenceStep) (x sequenceStep, missing *yaml.Node, known bool) {
	what := fmt.Sprintf("step %d", i+1)
	m := d.mapping(n, what)
	if m == nil {
		return x, nil, false
	}
	from, as := m.need("from", "the stream or operator whose row it is"), m.get("as")
	missing = m.get("missing")
	x.step.Missing = d.bool(missing, "missing")
	d.stepBody(s, &x, m, from)
	at := from
	if as != nil {
		x.alias, at = d.name(as, "as"), as
	} else if from != nil && !x.step.Missing {
		x.alias = from.Value
	}
	for k, other := range before {
		if x.alias != "" && other.alias == x.alias {
			d.wrong(at, "step %d is %s already; give this one a name of its own, such as as: %s_%d", k+1, x.alias, x.alias, i+1)
			return x, missing, false
		}
	}
	return x, missing, x.in != nil
}

// stepBody reads what steps and until share: the source, which was checked, and the condition on its rows.
func (d *decoder) stepBody(s *source, x *sequenceStep, m *mapping, from *yaml.Node) {
	where := m.get("where")
	m.done()
	if from == nil || from.Kind != yaml.ScalarNode || d.nodes[from.Value] == nil {
		return
	}
	x.in = d.nodes[from.Value]
	x.step.Input = uint8(slices.IndexFunc(s.from, func(n *yaml.Node) bool { return n.Value == from.Value }))
	x.step.Where = d.condition(where, func(path string) (event.Field, error) { return d.field(x.in, path) }, x.in.typeOf)
}

func (d *decoder) untilStep(s *source, n *yaml.Node) (x sequenceStep) {
	if m := d.mapping(n, "until"); m != nil {
		d.stepBody(s, &x, m, m.need("from", "the stream or operator whose row ends what is open"))
	}
	return x
}

// stepField takes alias.field apart: which step, and the field of its row. The alias of a stream's row alone is the whole row.
func (d *decoder) stepField(path string, steps []sequenceStep) (step int, f event.Field, err error) {
	alias, rest, dotted := strings.Cut(path, ".")
	var known []string
	for i, x := range steps {
		if !x.step.Missing {
			known = append(known, x.alias)
		}
		switch {
		case x.alias != alias:
		case x.step.Missing:
			return i, 0, fmt.Errorf("%s is missing: there is no row to take %q from", alias, path)
		case dotted:
			f, err = d.field(x.in, rest)
			return i, f, err
		case x.in.whole:
			return i, d.wholeOf(x.in), nil
		default:
			return i, 0, fmt.Errorf("%s is an operator's row: name one of its columns, %s.COLUMN%s", alias, alias, suggest("COLUMN", x.in.cols))
		}
	}
	return 0, 0, fmt.Errorf("%q must begin with the name of a step, as in %s.FIELD%s", path, known[0], suggest(alias, known))
}

// stepSelects reads new name -> alias.field; by default the rows of the steps under their aliases.
func (d *decoder) stepSelects(s *source, q *operator.Sequence, n *yaml.Node, steps []sequenceStep) {
	defer func() { s.cols = append(s.cols, "truncated") }()
	add := func(name string, step int, f event.Field) {
		q.Outputs = append(q.Outputs, operator.StepField{Name: d.conf.Spec.Fields.Add(name), Step: step, Field: f})
	}
	if n == nil {
		for i, x := range steps {
			if !x.step.Missing {
				d.wholeRows(s, x.in, x.alias, func(name string, f event.Field) { add(name, i, f) })
			}
		}
		return
	}
	m := d.mapping(n, "select")
	if m == nil {
		return
	}
	for _, e := range m.entries {
		d.addColumn(s, e.key)
		if path := d.text(e.value, e.key.Value); path != "" {
			step, f, err := d.stepField(path, steps)
			if err != nil {
				d.wrong(e.value, "%v", err)
			} else if _, rest, dotted := strings.Cut(path, "."); dotted {
				s.typed(e.key.Value, steps[step].in.types[rest])
			} else {
				s.typed(e.key.Value, "json") // a whole row
			}
			add(e.key.Value, step, f)
		}
	}
}

func (d *decoder) sequencePrint(q *operator.Sequence, steps []sequenceStep) []string {
	fields := d.conf.Spec.Fields
	paths := func(list []event.Field) string {
		var out []string
		for _, f := range list {
			out = append(out, fields.Path(f))
		}
		return strings.Join(out, ", ")
	}
	lines := []string{"by: " + paths(q.By), fmt.Sprintf("within: %s", time.Duration(q.Within)*time.Millisecond), fmt.Sprintf("max_matches_per_key: %d", q.MatchesMax)}
	kept := map[string][]string{}
	var inputs []string
	for i, x := range steps {
		comes := "from"
		if x.step.Missing {
			comes = "missing from"
		}
		lines = append(lines, fmt.Sprintf("step %d: %s %s where %s", i+1, comes, x.in.name, x.step.Where.String()))
		if !slices.Contains(inputs, x.in.name) {
			inputs = append(inputs, x.in.name)
		}
		for _, o := range q.Outputs {
			if o.Step == i {
				kept[x.in.name] = append(kept[x.in.name], fields.Path(o.Field))
			}
		}
	}
	if q.Until != nil {
		lines = append(lines, fmt.Sprintf("until: input %d where %s", q.Until.Input, q.Until.Where.String()))
	}
	for _, in := range inputs {
		slices.Sort(kept[in])
		lines = append(lines, "kept of "+in+": "+strings.Join(slices.Compact(kept[in]), ", "))
	}
	return lines
}
