package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// template is a tree of texts with {field} in them, as the body of a request has it. What fills them comes from events, hence from
// strangers, and stays what it is: a text within a JSON text, one value.
type template struct {
	text    alert.Text
	alone   bool // the text is one field and nothing else: its value keeps its type
	literal []byte
	names   []string    // of a mapping's members
	kids    []*template // members or elements
	kind    yaml.Kind
}

// hookFields are the fields that the templates of a webhook read: paths of the payload, and `@name` of the metadata.
type hookFields struct {
	fields event.Fields
	reads  []event.Field
	proj   *event.Projection
}

func (h *hookFields) resolve(name string) (event.Field, error) {
	if strings.TrimSpace(name) != name || name == "@" {
		return 0, fmt.Errorf("{%s} names no field", name)
	}
	f := h.fields.Add(name)
	if name[0] != '@' && !slices.Contains(h.reads, f) {
		h.reads = append(h.reads, f)
	}
	return f, nil
}

// done is called when all templates are read.
func (h *hookFields) done() { h.proj = event.NewProjection(&h.fields, h.reads) }

// hookRow gives the cells of a message.
type hookRow struct {
	hook  *hookFields
	batch *event.Batch // nil: the payload is no object
	msg   *service.Message
}

func (h *hookFields) row(msg *service.Message, payload []byte) hookRow {
	b := h.proj.NewBatch()
	if h.proj.Append(b, payload) != nil {
		b = nil
	}
	return hookRow{h, b, msg}
}

// Value is a cell of the payload, or a text of the metadata.
func (r hookRow) Value(f event.Field) event.Value {
	if name, ok := strings.CutPrefix(r.hook.fields.Path(f), "@"); ok {
		if text, ok := r.msg.MetaGet(name); ok {
			return event.Value{Kind: event.String, Text: []byte(text)}
		}
		return event.Value{}
	}
	if r.batch == nil {
		return event.Value{}
	}
	return r.batch.Value(f, 0)
}

// template reads a node of a body.
func (d *decoder) template(n *yaml.Node, what string, h *hookFields, depth int) *template {
	n = resolve(n)
	t := &template{kind: n.Kind}
	switch {
	case depth > 32:
		d.wrong(n, "%s is deeper than 32 levels", what)
	case n.Kind == yaml.MappingNode:
		m := d.mapping(n, what)
		for _, e := range m.entries {
			t.names, t.kids = append(t.names, e.key.Value), append(t.kids, d.template(e.value, what, h, depth+1))
		}
	case n.Kind == yaml.SequenceNode:
		for _, x := range n.Content {
			t.kids = append(t.kids, d.template(x, what, h, depth+1))
		}
	case n.Tag == "!!str":
		t.text = d.holes(n, what, h)
		t.alone = len(t.text.Fields()) == 1 && strings.HasPrefix(n.Value, "{") && strings.IndexByte(n.Value, '}') == len(n.Value)-1
	default:
		var v any
		if n.Decode(&v) == nil {
			t.literal, _ = json.Marshal(v)
		}
		if t.literal == nil {
			d.wrong(n, "%s: JSON has no such value: %s", what, shown(n))
		}
	}
	return t
}

// holes reads a text with {field} in it.
func (d *decoder) holes(n *yaml.Node, what string, h *hookFields) alert.Text {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		d.wrong(n, "%s must be a text, not %s", what, shown(n))
		return alert.Text{}
	}
	t, err := alert.ParseText(n.Value, h.resolve)
	if err != nil {
		d.wrong(n, "%s: %v", what, err)
	}
	return t
}

// append appends the template filled, as JSON.
func (t *template) append(b []byte, r hookRow) []byte {
	switch {
	case t.kind == yaml.MappingNode:
		b = append(b, '{')
		for i, kid := range t.kids {
			if i > 0 {
				b = append(b, ',')
			}
			b = kid.append(append(appendText(b, t.names[i]), ':'), r)
		}
		return append(b, '}')
	case t.kind == yaml.SequenceNode:
		b = append(b, '[')
		for i, kid := range t.kids {
			if i > 0 {
				b = append(b, ',')
			}
			b = kid.append(b, r)
		}
		return append(b, ']')
	case t.literal != nil:
		return append(b, t.literal...)
	case t.alone:
		return r.Value(t.text.Fields()[0]).AppendJSON(b)
	}
	return event.AppendJSONString(b, t.text.Fill(nil, r))
}

// urlRow gives cells as parts of a URL, where they cannot become another path, another parameter or another host.
type urlRow struct {
	hookRow
	fault *error
}

func (r urlRow) Value(f event.Field) event.Value {
	v := r.hookRow.Value(f)
	switch text := string(v.Text); {
	case v.Missing() || text == "":
		*r.fault = fmt.Errorf("the URL needs {%s}, which the row does not have", r.hook.fields.Path(f))
	case text == "." || text == "..":
		*r.fault = fmt.Errorf("{%s} is %q, which a URL takes for a folder", r.hook.fields.Path(f), text)
	default:
		v.Text = []byte(strings.ReplaceAll(url.QueryEscape(text), "+", "%20"))
	}
	return v
}

// fillURL fills the template of a URL.
func fillURL(t *alert.Text, r hookRow) (*url.URL, error) {
	var fault error
	text := t.Fill(nil, urlRow{r, &fault})
	if fault != nil {
		return nil, fault
	}
	u, err := url.Parse(string(text))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("what `url` gives is no URL of http or https") // it may be a secret
	}
	return u, nil
}

// headerText is a text as a header may have it.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
