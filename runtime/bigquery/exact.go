package bigquery

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Exactly once goes like this. Rows go to a stream of our own, of type COMMITTED, each request at the offset behind the last one. Before a request
// leaves, the store has on disk which stream, which offset and which rows (store.go); when it is answered, the store has that too.
//
// A lost answer: the same request goes again at the same offset. The stream takes it, or says that it has that offset already; both mean that the rows
// are there once.
//
// A crash, or an answer that never comes: nobody knows whether the last request landed, and the rows that come back may be cut into other batches, so
// that the same request cannot be made again. The stream is finalized: from then on it takes nothing, also nothing that is still on its way, and says
// how many rows it has. That is the offset of the last request, or it is behind its rows: a request is taken whole or not at all. So the rows are known
// to be there or not, and a new stream begins. If the stream is gone (they are kept for some days, and go with their table) the table is asked which of the rows
// it has.
//
// Rows that come again although they are there are known by the store, and are not sent.

// exact writes a part to a stream of our own.
func (w *writing) exact(s *schema, p part) {
	if p, o, open := w.stream(s, p); open {
		w.unwritten(s, p, o)
	}
}

// streamsMost is how many new streams a part may ask for before it waits.
const streamsMost = 3

// stream sends a part until all is settled that offsets and single rows decide; open says that more is to be done with what is left.
func (w *writing) stream(s *schema, p part) (left part, o outcome, open bool) {
	w.t.exact.Lock()
	defer w.t.exact.Unlock()
	key := w.t.to.String()
	for ended := 0; ; {
		if err := w.ready(key); err != nil {
			w.all(p.rows, verdictOf(err, w.conf.Create), w.t.explain(err, w.conf.Create))
			return p, o, false
		}
		if p = w.unsaid(p); len(p.rows) == 0 {
			return p, o, false
		}
		if err := w.store.try(key, w.ids(p)); err != nil {
			return p, outcome{unclear, "the store: " + err.Error(), nil}, true
		}
		o = w.repeat(s, p, w.store.position(key))
		if err := w.settle(key, o); err != nil {
			return p, outcome{unclear, "the store: " + err.Error(), nil}, true
		}
		switch {
		case o.effect == taken || o.effect == present:
			w.all(p.rows, Done, "")
			return p, o, false
		case o.effect == wrongRows:
			p = w.without(p, o)
		case (o.effect == gone || o.effect == beyond) && ended < streamsMost: // ready finds out about the old one
			ended++
			w.busy.Warn("%s: a new stream, because of the old one: %s", key, o.why)
		default:
			return p, o, true
		}
	}
}

// settle notes what came of a request, unless nobody knows.
func (w *writing) settle(key string, o outcome) error {
	switch o.effect {
	case taken, present:
		return w.store.settle(key, all)
	case gone, beyond, unclear:
		return nil
	}
	return w.store.settle(key, nothing)
}

// repeat sends a part at its offset until it is known what came of it, or patience ends. After a try of which nobody knows, only what is said of the
// offset counts.
func (w *writing) repeat(s *schema, p part, at position) (o outcome) {
	blind := false
	for tries := w.pause.Until(w.until); ; tries.Wait(w.ctx) {
		o = w.ask(s, p, at.stream, at.next)
		settled := o.effect == taken || o.effect == present || o.effect == beyond || o.effect == gone
		if settled || !blind && o.effect != unclear {
			return o
		}
		blind, o.effect = true, unclear
		if !tries.More(w.ctx) {
			return o
		}
		w.busy.Warn("%d rows to %s wait: %s", len(p.rows), w.t.to, o.why)
	}
}

func (w *writing) ids(p part) []string {
	ids := make([]string, len(p.rows))
	for k, i := range p.rows {
		ids[k] = w.rows[i].ID
	}
	return ids
}

// unsaid is a part without the rows that are in the table already.
func (w *writing) unsaid(p part) part {
	said := map[int]bool{}
	for k, i := range p.rows {
		if w.store.has(w.rows[i].ID) {
			said[k] = true
			w.fates[i] = Fate{}
		}
	}
	if len(said) == 0 {
		return p
	}
	return p.without(said)
}

// ready sees to it that there is a stream of this process and that no request is open.
func (w *writing) ready(key string) error {
	at := w.store.position(key)
	if at.stream != "" && (at.pending != nil || !w.t.ours) {
		if err := w.resolve(key, at); err != nil {
			return err
		}
		at.stream = ""
	}
	if at.stream != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(named(w.ctx, "parent", w.t.to.resource()), w.conf.Timeout)
	defer cancel()
	made, err := w.write.CreateWriteStream(ctx, &storagepb.CreateWriteStreamRequest{Parent: w.t.to.resource(), WriteStream: &storagepb.WriteStream{Type: storagepb.WriteStream_COMMITTED}})
	if err != nil {
		return w.restFault(err)
	}
	w.t.ours = true
	return w.store.begin(key, made.Name)
}

// resolve ends a stream and finds out what of its last request is in the table.
func (w *writing) resolve(key string, at position) error {
	ctx, cancel := context.WithTimeout(named(w.ctx, "name", at.stream), w.conf.Timeout)
	defer cancel()
	end := at.next + int64(len(at.pending))
	a, err := w.write.FinalizeWriteStream(ctx, &storagepb.FinalizeWriteStreamRequest{Name: at.stream})
	switch code := status.Code(err); {
	case err == nil && a.RowCount == end:
		return w.store.settle(key, all)
	case err == nil && a.RowCount == at.next:
		return w.store.settle(key, nothing)
	case len(at.pending) == 0 && (err == nil || forgotten(code)):
		return w.store.settle(key, nothing)
	case err == nil || forgotten(code): // a stream that has other rows than ours counts for nothing
		return w.askTable(key, at)
	}
	return w.restFault(err)
}

// forgotten says whether a code means that there is no such stream, or that it ended in another way.
func forgotten(code codes.Code) bool {
	return code == codes.NotFound || code == codes.FailedPrecondition || code == codes.InvalidArgument
}

// restFault is an error of the Storage API as the REST API would have it.
func (w *writing) restFault(err error) error {
	f := &fault{message: short(status.Code(err).String() + ": " + status.Convert(err).Message())}
	switch status.Code(err) {
	case codes.NotFound:
		f.status = http.StatusNotFound
		w.t.stale()
	case codes.PermissionDenied:
		f.status = http.StatusForbidden
	}
	return f
}

// askTable finds out by a query which rows of the last request are in the table.
func (w *writing) askTable(key string, at position) error {
	id, revision := w.conf.Own[0].Name, w.conf.Own[1].Name
	name := fmt.Sprintf("CONCAT(%s, '.', CAST(%s AS STRING))", id, revision)
	values := make([]map[string]string, len(at.pending))
	for i, p := range at.pending {
		values[i] = map[string]string{"value": p}
	}
	body := map[string]any{"useLegacySql": false, "timeoutMs": w.conf.Timeout.Milliseconds(), "parameterMode": "NAMED",
		"query": fmt.Sprintf("SELECT DISTINCT %s FROM `%s` WHERE %s IN UNNEST(@ids)", name, w.t.to, name),
		"queryParameters": []any{map[string]any{"name": "ids",
			"parameterType":  map[string]any{"type": "ARRAY", "arrayType": map[string]string{"type": "STRING"}},
			"parameterValue": map[string]any{"arrayValues": values}}}}
	var a struct {
		JobComplete bool
		PageToken   string
		Rows        []struct{ F []struct{ V string } }
	}
	err := w.call(w.ctx, http.MethodPost, w.t.to.path("queries"), nil, marshalled(body), &a)
	var f *fault
	switch {
	case errors.As(err, &f) && f.status == http.StatusNotFound: // with its table all its rows are gone
		return w.store.settle(key, nothing)
	case err != nil:
		return err
	case !a.JobComplete || a.PageToken != "":
		return &fault{message: "the query for rows that may be there already has not ended"}
	}
	there := map[string]bool{}
	for _, r := range a.Rows {
		if len(r.F) == 1 {
			there[r.F[0].V] = true
		}
	}
	return w.store.settle(key, func(id string) bool { return there[id] })
}
