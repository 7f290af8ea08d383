package engine

import "github.com/seed-98920119/tocsin/runtime/event"

// Rows that may be revised (operator.Revised): an output gets their revisions one after the other, and only the newest of those
// that it has not taken yet. So a newer one takes the place of an older one that waits, and one that is in flight is awaited.

// pending is what is undelivered of one such row.
type pending struct {
	row    *Out // waits to be sent, or is in flight
	flying bool
	next   *Out // waits for the one in flight
}

// newest leaves of each row's revisions the last, in the place of the first.
func newest(outs []*Out) []*Out {
	var at map[event.ID]int
	kept := outs[:0]
	for _, o := range outs {
		if o.Open {
			if i, ok := at[o.ID]; ok {
				kept[i] = o
				continue
			}
			if at == nil {
				at = map[event.ID]int{}
			}
			at[o.ID] = len(kept)
		}
		kept = append(kept, o)
	}
	return kept
}

// joins puts a revision where an older one waits, and says whether it did.
func (b *outbox) joins(o *Out) bool {
	if !o.Open {
		return false
	}
	p := b.open[o.ID]
	switch {
	case p == nil:
		if b.open == nil {
			b.open = map[event.ID]*pending{}
		}
		b.open[o.ID] = &pending{row: o}
		return false
	case !p.flying:
		b.forget(p.row)
		*p.row = *o // which is in a queue
	case p.next == nil:
		p.next = o
	default:
		b.forget(p.next)
		p.next = o
	}
	return true
}

// forget takes a row, for which a newer one goes, as delivered.
func (b *outbox) forget(o *Out) {
	b.size -= len(o.Payload) + 200
	delete(b.tries, o.Seq)
	b.mark(o.Seq)
	b.changed = true
}

// leaves notes that a row is in flight.
func (b *outbox) leaves(o *Out) {
	if o.Open {
		b.open[o.ID].flying = true
	}
}

// landed notes that a row was delivered; a newer revision may be sent then.
func (b *outbox) landed(o *Out) {
	if !o.Open {
		return
	}
	p := b.open[o.ID]
	if p.next == nil {
		delete(b.open, o.ID)
		return
	}
	p.row, p.next, p.flying = p.next, nil, false
	b.rows = append(b.rows, p.row)
}

// returned notes that a row was rejected, and returns what is to be sent instead: a newer revision, if there is one.
func (b *outbox) returned(o *Out) *Out {
	if !o.Open {
		return o
	}
	p := b.open[o.ID]
	p.flying = false
	if p.next != nil {
		b.forget(o)
		p.row, p.next = p.next, nil
	}
	return p.row
}

// reopen says which recovered rows may be revised: those of operators that revise rows, alerts that are suppressed or grouped, and
// whatever was revised before.
func (s *Spec) reopen(rows []*Out) {
	revises, held := map[string]bool{}, map[string]bool{}
	for i := range s.Operators {
		o := &s.Operators[i]
		revises[o.Name] = o.Window != nil && o.Window.Revises()
		if o.Suppress != nil && o.Inputs[0] >= len(s.Streams) {
			held[s.raises(o.Inputs[0]).Name] = true
		}
	}
	revised := map[event.ID]bool{}
	for _, o := range rows {
		if o.Revision > 0 {
			revised[o.ID] = true
		}
	}
	for _, o := range rows {
		o.Open = revised[o.ID] || revises[o.Operator] && (o.Kind == "row" || o.Kind == "alert") || held[o.Operator] && o.Kind == "alert"
	}
}
