package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// rejection is an error of an output that knows nothing of its rows, or has a random account of them.
func rejection(r *rand.Rand, rows []*Out) error {
	if r.IntN(2) == 0 {
		return errors.New("no")
	}
	a := &Account{Err: errors.New("not all"), Of: map[event.ID]Verdict{}}
	for _, o := range rows {
		if n := r.IntN(3); n > 0 {
			a.Of[o.ID] = Verdict{Refused: n == 1, Why: "so"}
		}
	}
	return fmt.Errorf("an output: %w", a)
}

// Rows that an output refuses become error rows at once, those that it blames go alone, and all others go together.
func TestAccount(t *testing.T) {
	b := &outbox{retries: 3, pipeline: "p"}
	var rows []*Out
	for i := range 5 {
		rows = append(rows, &Out{Seq: uint64(i), Kind: "row", Operator: "o", ID: event.ID{byte(i)}, Revision: 2, TS: 7, Payload: []byte(`{"i":1}`)})
	}
	rows[4].Kind = "error"
	b.next = 5
	b.add(rows)
	now := time.Unix(0, 0)
	sent, _ := b.take(now)
	a := &Account{Err: errors.New("not all"), Of: map[event.ID]Verdict{{1}: {Refused: true, Why: "mapping"}, {3}: {Why: "closed"}, {4}: {Refused: true, Why: "mapping"}}}
	if said := b.reject(sent, fmt.Errorf("output: %w", a), now); said != "as an error row, 1 so far" {
		t.Errorf("said %q", said)
	}
	var got [][]*Out
	for b.flying < 5 {
		rows, wait := b.take(now)
		if now = now.Add(wait); rows != nil {
			got = append(got, rows)
		}
	}
	if len(got) != 4 || len(got[0]) != 1 || len(got[1]) != 1 || len(got[2]) != 1 || len(got[3]) != 2 {
		t.Fatalf("%v", got)
	}
	e := got[0][0]
	var p struct{ Error, Detail, Result_id, Raw string }
	if err := json.Unmarshal(e.Payload, &p); err != nil || p.Error != "rejected" || p.Detail != "mapping" || p.Raw != `{"i":1}` || p.Result_id != (event.ID{1}).String() {
		t.Errorf("%v: %s", err, e.Payload)
	}
	if e.Kind != "error" || e.Reason != "rejected" || e.Seq != 1 || e.Revision != 2 || e.TS != 7 || e.Operator != "o" || e.ID == (event.ID{1}) {
		t.Errorf("%+v", e)
	}
	if got[1][0].Seq != 3 || got[2][0].Seq != 4 || string(got[2][0].Payload) != `{"i":1}` || got[3][0].Seq != 0 || got[3][1].Seq != 2 {
		t.Errorf("%v", got)
	}
	for _, rows := range got {
		b.accept(rows)
	}
	if b.cursor != 5 || b.size != 0 || b.resting != 0 || len(b.tries) != 0 || !b.settled {
		t.Errorf("something is left: %+v", b)
	}
}

// A row that an output blames while it takes others becomes an error row after so many tries, with the last reason.
func TestWornOut(t *testing.T) {
	b := &outbox{retries: 3}
	now := time.Unix(0, 0)
	b.next = 1
	b.add([]*Out{{Kind: "row", ID: event.ID{9}, Payload: []byte("{}")}})
	for tries := 0; ; {
		b.accepted++
		rows, wait := b.take(now)
		if now = now.Add(wait); rows == nil {
			continue
		}
		if rows[0].Kind == "error" {
			if want := `{"error":"rejected","detail":"after 4 tries: no","result_id":"` + (event.ID{9}).String() + `","raw":"{}"}`; tries != 4 || string(rows[0].Payload) != want {
				t.Errorf("after %d tries: %s", tries, rows[0].Payload)
			}
			return
		}
		tries++
		b.reject(rows, errors.New("no"), now)
	}
}

// What a row may not take of memory as an error row is cut.
func TestRefusedForItsSize(t *testing.T) {
	b := &outbox{retries: 3, next: 1}
	o := &Out{Kind: "row", ID: event.ID{9}, Payload: make([]byte, refusedMax+1000)}
	b.add([]*Out{o})
	rows, _ := b.take(time.Time{})
	b.reject(rows, &Account{Err: errors.New("x"), Of: map[event.ID]Verdict{o.ID: {Refused: true}}}, time.Time{})
	rows, _ = b.take(time.Time{})
	var p struct{ Raw string }
	if err := json.Unmarshal(rows[0].Payload, &p); err != nil || len(p.Raw) != refusedMax {
		t.Errorf("%v, %d bytes", err, len(p.Raw))
	}
	b.accept(rows)
	if b.size != 0 {
		t.Errorf("%d bytes are left", b.size)
	}
}
