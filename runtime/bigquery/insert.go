package bigquery

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// inserted is the answer to insertAll.
type inserted struct {
	InsertErrors []struct {
		Index  int
		Errors []struct{ Reason, Location, Message string }
	}
}

// insert writes a part by insertAll. If BigQuery refuses some of its rows it takes none, and the others are sent again at once.
func (w *writing) insert(s *schema, p part) {
	for len(p.rows) > 0 {
		var a inserted
		if err := w.call(w.ctx, http.MethodPost, w.t.to.tablePath()+"/insertAll", nil, insertBody(p), &a); err != nil {
			w.failed(s, p, err)
			return
		}
		bad := w.refusedBy(s, p, &a)
		if len(bad) == 0 {
			w.landed(p)
			return
		}
		p = p.without(bad)
	}
}

func insertBody(p part) []byte {
	size := 32
	for _, b := range p.bytes {
		size += len(b) + 1
	}
	body := append(make([]byte, 0, size), `{"rows":[`...)
	for k, b := range p.bytes {
		if k > 0 {
			body = append(body, ',')
		}
		body = append(body, b...)
	}
	return append(body, ']', '}')
}

// refusedBy settles the rows of which the answer says that they are wrong, and gives their places.
func (w *writing) refusedBy(s *schema, p part, a *inserted) map[int]bool {
	bad := map[int]bool{}
	for _, e := range a.InsertErrors {
		if e.Index < 0 || e.Index >= len(p.rows) || len(e.Errors) == 0 || e.Errors[0].Reason == "stopped" { // nothing is wrong with it
			continue
		}
		bad[e.Index] = true
		x := e.Errors[0]
		f := Fate{Refused, short(strings.TrimSpace(fmt.Sprintf("%s %s: %s", x.Reason, x.Location, x.Message)))}
		if passes[x.Reason] || strings.Contains(x.Message, "no such field") && indexOf(s.plain(), x.Location) >= 0 { // it does not know the new column yet
			f.Verdict = Busy
		}
		w.fates[p.rows[e.Index]] = f
	}
	if len(a.InsertErrors) > 0 && len(bad) == 0 { // nobody knows why
		w.all(p.rows, Busy, "insertAll took no row, and says of none what is wrong")
		for k := range p.rows {
			bad[k] = true
		}
	}
	return bad
}

// failed settles a part whose request was not done. One that is refused as a whole is sent in halves, down to the row that is the reason.
func (w *writing) failed(s *schema, p part, err error) {
	var f *fault
	errors.As(err, &f)
	switch {
	case slices.Contains([]int{http.StatusBadRequest, http.StatusRequestEntityTooLarge}, f.status) && !passes[f.reason]:
		if len(p.rows) == 1 {
			w.fates[p.rows[0]] = Fate{Refused, f.Error()}
			return
		}
		a, b := p.halves()
		w.send(s, a)
		w.send(s, b)
	case f.status == http.StatusNotFound:
		w.lost(p, err)
	default:
		w.all(p.rows, verdictOf(err, w.conf.Create), w.t.explain(err, w.conf.Create))
	}
}

// lost settles a part whose table is not there: it may be so new that not all of BigQuery knows of it.
func (w *writing) lost(p part, err error) {
	v := Blocked
	if w.conf.Create || w.t.fresh() {
		v = Busy
	}
	w.t.stale()
	w.all(p.rows, v, w.t.explain(err, w.conf.Create))
}

// landed settles a part that is in the table.
func (w *writing) landed(p part) {
	for _, i := range p.rows {
		w.store.remember(w.rows[i].ID)
	}
	w.all(p.rows, Done, "")
}
