package elastic

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Doc is a document to be written.
type Doc struct {
	Index   string
	ID      string
	Version int64  // external: written unless the index has the same or a newer one; 0: created unless the id is there
	Source  []byte // a JSON object on one line
}

// Verdict is what became of a document.
type Verdict uint8

// Done: it is in the index, or a newer version is. Busy: the cluster could not take it. Blocked: its index cannot, for the time being.
// Refused: it will never be taken.
const (
	Done Verdict = iota
	Busy
	Blocked
	Refused
)

// Fate is what became of a document, and why.
type Fate struct {
	Verdict Verdict
	Why     string
}

// Write writes documents, in as many requests as their size asks for, and returns the fate of each. What found the cluster busy is tried
// again, with pauses that double, until Patience is over or ctx is done.
func (c *Client) Write(ctx context.Context, docs []Doc) []Fate {
	fates := make([]Fate, len(docs))
	left := make([]int, len(docs))
	for i := range left {
		left[i] = i
	}
	tries := c.pause.Until(time.Now().Add(c.conf.Patience))
	for {
		c.round(ctx, docs, left, fates)
		left = slices.DeleteFunc(left, func(i int) bool { return fates[i].Verdict != Busy })
		if len(left) == 0 || !tries.More(ctx) {
			return fates
		}
		c.busy.Warn("%d of %d documents wait: %s", len(left), len(docs), fates[left[0]].Why)
		tries.Wait(ctx)
	}
}

// round tries each document that is left once.
func (c *Client) round(ctx context.Context, docs []Doc, left []int, fates []Fate) {
	for len(left) > 0 {
		n, size := 0, 0
		for n < len(left) && (n == 0 || size+docs[left[n]].size() <= c.conf.RequestMax) {
			size += docs[left[n]].size()
			n++
		}
		c.send(ctx, docs, left[:n], size, fates)
		left = left[n:]
	}
}

// path asks for what is read of the answer, and no more.
const path = "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"

// send makes one request. A request that is refused as a whole is sent in halves, down to the document that is the reason.
func (c *Client) send(ctx context.Context, docs []Doc, part []int, size int, fates []Fate) {
	body := make([]byte, 0, size)
	for _, i := range part {
		body = docs[i].append(body)
	}
	a := c.do(ctx, http.MethodPost, path, body)
	switch {
	case a.err != nil:
		all(part, fates, Busy, explain(a).Error())
	case a.status == http.StatusOK:
		if why := settle(a.body, part, fates); why != "" {
			all(part, fates, Busy, a.host+": "+why)
		}
	case !refuses(a.status):
		all(part, fates, Busy, a.host+": "+a.reason())
	case len(part) == 1:
		fates[part[0]] = Fate{Refused, a.reason()}
	default:
		half := len(part) / 2
		c.send(ctx, docs, part[:half], size, fates)
		c.send(ctx, docs, part[half:], size, fates)
	}
}

// refuses says whether a whole request's status is about what is in it.
func refuses(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity
}

func all(part []int, fates []Fate, v Verdict, why string) {
	for _, i := range part {
		fates[i] = Fate{v, why}
	}
}

// item is what the answer says of a document.
type item struct {
	Index, Create *struct {
		Status int
		Error  fault
	}
}

// fault is an error as both servers write it.
type fault struct {
	Type, Reason string
	CausedBy     struct{ Reason string } `json:"caused_by"`
}

func (f fault) text() string {
	text := f.Type
	if f.Reason != "" {
		text += ": " + f.Reason
	}
	if f.CausedBy.Reason != "" {
		text += " (" + f.CausedBy.Reason + ")"
	}
	return text
}

// settle reads an answer, or says why it is none.
func settle(body []byte, part []int, fates []Fate) (why string) {
	var a struct{ Items []item }
	if err := json.Unmarshal(body, &a); err != nil {
		return "not an answer to _bulk: " + err.Error()
	}
	if len(a.Items) != len(part) {
		return fmt.Sprintf("%d answers to %d documents", len(a.Items), len(part))
	}
	for k, i := range part {
		it := a.Items[k].Index
		if it == nil {
			it = a.Items[k].Create
		}
		if it == nil {
			return "an answer without a status"
		}
		fates[i] = judge(it.Status, it.Error)
	}
	return ""
}

// judge says what a document's status means. 409 is Done: the index has this version, or a newer one.
func judge(status int, f fault) Fate {
	why := func() string { return fmt.Sprintf("%d %s", status, short(f.text())) }
	switch {
	case status >= 200 && status < 300, status == http.StatusConflict:
		return Fate{}
	case status == http.StatusTooManyRequests, status >= 500:
		return Fate{Busy, why()}
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound, f.Type == "index_closed_exception":
		return Fate{Blocked, why()}
	}
	return Fate{Refused, why()}
}

// overhead is what a document takes of a request beside its index, id and source, at most.
const overhead = 100

func (d *Doc) size() int { return overhead + len(d.Index) + len(d.ID) + len(d.Source) }

// append writes the document's two lines.
func (d *Doc) append(b []byte) []byte {
	op := `{"create":{"_index":`
	if d.Version > 0 {
		op = `{"index":{"_index":`
	}
	b = append(appendText(append(b, op...), d.Index), `,"_id":`...)
	b = appendText(b, d.ID)
	if d.Version > 0 {
		b = append(strconv.AppendInt(append(b, `,"version":`...), d.Version, 10), `,"version_type":"external"`...)
	}
	b = append(append(b, '}', '}', '\n'), d.Source...)
	return append(b, '\n')
}

// appendText appends a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // cannot fail for a string
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
