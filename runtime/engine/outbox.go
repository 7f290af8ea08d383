package engine

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Out is a row on its way to the outputs: the payload, a flat JSON object, and what its message says about it.
type Out struct {
	Seq      uint64
	Kind     string // row, alert, late, error
	Operator string
	Stream   string // late and error rows: where it came from
	Reason   string // late and error rows: why
	Position string // error rows: partition and offset
	ID       event.ID
	Revision int64
	TS       int64 // event time, ms; 0 if it has none
	LateBy   int64 // late rows: ms behind the watermark
	Payload  []byte
	Open     bool // other revisions may be on their way; not kept
	Lane     int  // of the Spec's, by which it leaves; not kept

	to uint32 // the lanes that take it, a bit each, until they have their copies
}

// append is the row's form in the outbox.
func (o *Out) append(dst []byte) []byte {
	for _, s := range []string{o.Kind, o.Operator, o.Stream, o.Reason, o.Position} {
		dst = event.AppendBytes(dst, []byte(s))
	}
	dst = append(dst, o.ID[:]...)
	dst = binary.AppendVarint(dst, o.Revision)
	dst = binary.AppendVarint(dst, o.TS)
	dst = binary.AppendVarint(dst, o.LateBy)
	return append(dst, o.Payload...)
}

func readOut(seq uint64, b []byte) (*Out, error) {
	r := event.Reader{B: b}
	o := &Out{Seq: seq}
	for _, s := range []*string{&o.Kind, &o.Operator, &o.Stream, &o.Reason, &o.Position} {
		*s = string(r.Bytes())
	}
	copy(o.ID[:], r.Take(16))
	o.Revision, o.TS, o.LateBy = r.Int(), r.Int(), r.Int()
	if r.Bad {
		return nil, errors.New("a row of the outbox is damaged")
	}
	o.Payload = slices.Clone(r.B)
	return o, nil
}

// revisionOf reads which row one of the outbox is, and which revision of it.
func revisionOf(b []byte) (id event.ID, revision int64, err error) {
	r := event.Reader{B: b}
	for range 5 {
		r.Bytes()
	}
	copy(id[:], r.Take(16))
	if revision = r.Int(); r.Bad {
		err = errors.New("a row of the outbox is damaged")
	}
	return id, revision, err
}

// place of a result among those of all operators in a block: by position, then operator; each operator's are in order.
type ref struct {
	p     int64
	node  int // -1: a fault; one beyond all: a notice
	index int
}

// leaving appends what of a block goes to the outputs, in the order of positions, which no block size changes.
func (g *Graph) leaving(outs []*Out, items []Item, faults []fault) []*Out {
	var refs []ref
	for i := range faults {
		refs = append(refs, ref{items[faults[i].item].P, -1, i})
	}
	for i, n := range g.ops {
		if n.passes() && !n.spec.Leaves {
			continue
		}
		for j := range n.results() {
			if r := &n.said[j]; r.Kind == operator.Late && !g.spec.LateCount || (r.Kind == operator.Data || r.Kind == operator.Revised) && n.spec.Leaves || r.Kind == operator.Failed {
				refs = append(refs, ref{r.P, i, j})
			}
		}
	}
	for i := range g.notices {
		refs = append(refs, ref{g.notices[i].p, len(g.ops), i})
	}
	slices.SortStableFunc(refs, func(a, b ref) int { return cmp.Or(cmp.Compare(a.p, b.p), cmp.Compare(a.node, b.node)) })
	for _, x := range refs {
		from := len(outs)
		switch {
		case x.node == len(g.ops):
			outs = append(outs, g.notices[x.index].out)
		case x.node < 0:
			outs = append(outs, g.faulty(&faults[x.index]))
			g.errors.add(faults[x.index].kind, faults[x.index].reason)
		case g.ops[x.node].said[x.index].Kind == operator.Late:
			outs = append(outs, g.late(g.ops[x.node], &g.ops[x.node].said[x.index]))
		case g.ops[x.node].said[x.index].Kind == operator.Failed:
			outs = append(outs, g.failed(g.ops[x.node], &g.ops[x.node].said[x.index]))
		default:
			outs = g.said(outs, g.ops[x.node].spec, &g.ops[x.node].said[x.index])
		}
		if x.node >= 0 && x.node < len(g.ops) {
			g.count(g.ops[x.node], &g.ops[x.node].said[x.index], len(outs)-from)
		}
	}
	return outs
}

// cells makes a result a row that alerts and payloads read.
type cells struct{ *operator.Result }

func (c cells) Value(f event.Field) event.Value { return c.Batch.Value(f, int(c.Row)) }

func (g *Graph) said(outs []*Out, o *Operator, r *operator.Result) []*Out {
	if o.Suppress == nil {
		outs = append(outs, &Out{Kind: "row", Operator: o.Name, ID: r.Name.ID(), Revision: r.Revision, TS: r.TS, Payload: o.payload(r), Open: r.Kind == operator.Revised})
	}
	return g.alerted(outs, o, r)
}

// payload is a row's columns; an event that was passed on is its own payload.
func (o *Operator) payload(r *operator.Result) []byte {
	if b := eventOf(r.Batch, r.Row); b != nil {
		return b
	}
	names := o.Names
	if o.Plugin != nil && r.Due != operator.NegInf {
		names = o.Plugin.timerNames(names)
	}
	return alert.AppendRow(nil, names, cells{r})
}

// eventOf is a row's event as JSON, a copy, nil if the row is derived.
func eventOf(b *event.Batch, row int32) []byte {
	return b.Event(row)
}

// failed is an input row that a plugin could not judge, or a row of a window of which it could not say a column.
func (g *Graph) failed(n *node, r *operator.Result) *Out {
	in := &Out{}
	if r.Own {
		in.Payload = n.spec.payload(r)
	} else {
		in = g.late(n, r)
	}
	id := r.Name.ID()
	o := &Out{Kind: "error", Operator: n.spec.Name, Stream: in.Stream, Reason: r.Reason, TS: r.TS,
		ID: g.id(n.spec.Name, "error", "1", id[:], []byte(r.Reason))}
	b := event.AppendJSONString([]byte(`{"error":`), []byte(r.Reason))
	b = event.AppendJSONString(append(b, `,"detail":`...), []byte(r.Why))
	b = event.AppendJSONString(append(b, `,"raw":`...), in.Payload[:min(len(in.Payload), rawMax)])
	o.Payload = append(b, '}')
	return o
}

// id is a result id: of the pipeline, the operator or stream, the kind, the form and the parts.
func (g *Graph) id(name, kind, form string, parts ...[]byte) event.ID {
	all := [][]byte{[]byte(g.spec.Name), []byte(name), []byte(kind), []byte(form)}
	return event.Hash(append(all, parts...)...)
}

// late is an input row that came too late for an operator: the event as it was, or the derived row's columns.
func (g *Graph) late(n *node, r *operator.Result) *Out {
	reason := cmp.Or(r.Reason, "late")
	id := r.Name.ID()
	o := &Out{Kind: "late", Operator: n.spec.Name, Reason: reason, ID: g.id(n.spec.Name, "late", "1", id[:], []byte(reason)), TS: r.TS, LateBy: r.LateBy}
	if x := n.spec.Inputs[r.Input]; x < len(g.src) {
		o.Stream, o.Payload = g.spec.Streams[x].Name, r.Batch.Event(r.Row)
		if o.Payload == nil { // a timer
			o.Payload = alert.AppendRow(nil, n.spec.Plugin.KeyNames, cells{r})
		}
	} else {
		by := g.ops[x-len(g.src)].spec
		if o.Stream, o.Payload = by.Name, by.payload(r); by.once() {
			o.Stream = g.spec.Streams[by.Inputs[0]].Name
		}
	}
	return o
}

// rawMax is how much of a line that is no event an error row shows, in bytes.
const rawMax = 4096

// faulty is a line that is no row: what could be read of it, why, and where it stands.
func (g *Graph) faulty(f *fault) *Out {
	pos := f.part.name + "@" + strconv.FormatInt(f.off, 10)
	o := &Out{Kind: f.kind, Stream: f.stream, Reason: f.reason, Position: pos, TS: f.ts,
		ID: g.id(f.stream, f.kind, "1", []byte(pos), []byte(f.reason))}
	if f.kind == "late" {
		o.Payload = slices.Clone(f.raw)
		return o
	}
	b := append([]byte(nil), `{"error":`...)
	b = event.AppendJSONString(b, []byte(f.reason))
	if f.detail != "" {
		b = event.AppendJSONString(append(b, `,"detail":`...), []byte(f.detail))
	}
	b = event.AppendJSONString(append(b, `,"source":`...), []byte(f.part.name))
	b = strconv.AppendInt(append(b, `,"offset":`...), f.off, 10)
	raw := f.raw[:min(len(f.raw), rawMax)]
	if f.part.binary { // text was mended, and a record of bytes says nothing as text
		b = base64.StdEncoding.AppendEncode(append(b, `,"raw_base64":"`...), raw)
		o.Payload = append(b, `"}`...)
		return o
	}
	b = event.AppendJSONString(append(b, `,"raw":`...), raw)
	o.Payload = append(b, '}')
	return o
}
