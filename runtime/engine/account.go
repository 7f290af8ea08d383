package engine

import (
	"fmt"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Account is an error of an output that knows what became of each row of a batch. The rows that Of does not name found the output
// busy, or were only in company: they are sent again together. Those that it names go again one at a time, or never.
type Account struct {
	Err error
	Of  map[event.ID]Verdict
}

// Verdict is what an output says of a row that it did not take.
type Verdict struct {
	Refused bool // it will never take it: an error row goes instead
	Why     string
}

func (a *Account) Error() string { return a.Err.Error() }
func (a *Account) Unwrap() error { return a.Err }

func (a *Account) of(o *Out) (v Verdict, named bool) {
	if a == nil {
		return v, false
	}
	v, named = a.Of[o.ID]
	return v, named
}

// refusedMax is how much of a row its error row holds, in bytes: it may have been refused for its size.
const refusedMax = 256 << 10

// refuse has an error row go in the place of one that an output will not take, and says so of the first and then of every
// thousandth. Its id is another, since an output may hold an earlier revision of the row, and of each lane another, since more than one may
// refuse it.
func (b *outbox) refuse(o *Out, why string, now time.Time) (said string) {
	parts := [][]byte{[]byte(b.pipeline), []byte(o.Operator), []byte("error"), []byte("1"), o.ID[:], []byte("rejected")}
	p := event.AppendJSONString([]byte(`{"error":"rejected","detail":`), []byte(why))
	if b.aside != nil {
		parts = append(parts, []byte(b.name))
		p = event.AppendJSONString(append(p, `,"lane":`...), []byte(b.name))
	}
	e := &Out{Seq: o.Seq, Kind: "error", Operator: o.Operator, Stream: o.Stream, Reason: "rejected", Position: o.Position,
		Revision: o.Revision, TS: o.TS, ID: event.Hash(parts...)}
	p = event.AppendJSONString(append(p, `,"result_id":`...), []byte(o.ID.String()))
	p = event.AppendJSONString(append(p, `,"raw":`...), o.Payload[:min(len(o.Payload), refusedMax)])
	e.Payload = append(p, '}')
	if o.Open {
		delete(b.open, o.ID)
	}
	delete(b.tries, o.Seq)
	if b.aside == nil || b.aside(e, o.Open) {
		b.size += len(e.Payload) - len(o.Payload)
		b.rest(now, e)
	} else {
		b.size -= len(o.Payload) + 200
		b.mark(o.Seq)
		b.changed = true
	}
	if b.refused++; b.refused%1000 == 1 {
		said = fmt.Sprintf("as an error row, %d so far", b.refused)
	}
	return said
}
