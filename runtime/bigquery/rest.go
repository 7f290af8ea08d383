package bigquery

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// answerMax is the longest answer that is read, in bytes.
const answerMax = 64 << 20

// fault is what BigQuery answered instead of doing something; status 0: there was no answer.
type fault struct {
	status  int
	reason  string // BigQuery's word, such as rateLimitExceeded
	message string
}

func (f *fault) Error() string {
	switch {
	case f.status == 0:
		return f.message
	case f.reason == "":
		return strings.TrimSuffix(fmt.Sprintf("HTTP %d: %s", f.status, f.message), ": ")
	}
	return fmt.Sprintf("HTTP %d %s: %s", f.status, f.reason, f.message)
}

// denied says whether we may not do that, which another try does not change; 403 is quotas as well.
func (f *fault) denied() bool {
	return f.status == http.StatusForbidden && !passes[f.reason]
}

// passes are reasons that pass by themselves, whatever the status.
var passes = map[string]bool{"rateLimitExceeded": true, "quotaExceeded": true, "backendError": true, "internalError": true, "jobBackendError": true,
	"jobInternalError": true, "jobRateLimitExceeded": true, "tableUnavailable": true, "userRateLimitExceeded": true, "timeout": true}

// verdictOf says what an error means for the rows that it met.
func verdictOf(err error, create bool) Verdict {
	var f *fault
	switch {
	case !errors.As(err, &f):
		return Busy
	case passes[f.reason]:
		return Busy
	case f.denied(), f.status == http.StatusNotFound && !create, f.status == http.StatusBadRequest:
		return Blocked
	}
	return Busy
}

// short is the beginning of a text as one line of printable characters.
func short(s string) string {
	const most = 500
	s = strings.ToValidUTF8(s[:min(len(s), most)], "")
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
}

// call makes a request of the REST API and reads the answer into one; a *fault says what is wrong.
func (c *Client) call(ctx context.Context, method, path string, header http.Header, body []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, c.conf.Timeout)
	defer cancel()
	at := strings.TrimRight(c.conf.Endpoint.String(), "/") + "/bigquery/v2/" + path
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return &fault{message: err.Error()}
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "tocsin")
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.conf.Token != nil {
		token, err := c.conf.Token(ctx)
		if err != nil {
			return &fault{message: err.Error()}
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.http.Do(req)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(res.Body, answerMax))
		res.Body.Close()
	}
	switch {
	case err != nil:
		return c.silence(ctx, err)
	case res.StatusCode/100 != 2:
		return faultOf(res.StatusCode, text)
	case into != nil && json.Unmarshal(text, into) != nil:
		return &fault{message: c.conf.Endpoint.Host + ": not an answer of BigQuery: " + short(string(text))}
	}
	return nil
}

// silence says why there is no answer.
func (c *Client) silence(ctx context.Context, err error) error {
	var u *url.Error
	if errors.As(err, &u) { // the address is said already
		err = u.Err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", c.conf.Timeout)
	}
	return &fault{message: fmt.Sprintf("%s: %v", c.conf.Endpoint.Host, err)}
}

// faultOf reads an answer that is not 2xx.
func faultOf(status int, text []byte) *fault {
	var a struct {
		Error struct {
			Message, Status string
			Errors          []struct{ Reason, Message string }
		}
	}
	if json.Unmarshal(text, &a) != nil || a.Error.Message == "" && len(a.Error.Errors) == 0 {
		return &fault{status: status, message: short(string(text))}
	}
	f := &fault{status: status, reason: a.Error.Status, message: short(a.Error.Message)}
	if len(a.Error.Errors) > 0 {
		f.reason = cmp.Or(a.Error.Errors[0].Reason, f.reason)
		f.message = cmp.Or(f.message, short(a.Error.Errors[0].Message))
	}
	return f
}

// path is the path of a table, a dataset or a project.
func (d Destination) path(parts ...string) string {
	p := "projects/" + url.PathEscape(d.Project)
	for i, part := range parts {
		if i%2 == 1 {
			part = url.PathEscape(part)
		}
		p += "/" + part
	}
	return p
}

func (d Destination) tablePath() string { return d.path("datasets", d.Dataset, "tables", d.Table) }

// newly is how long BigQuery may not know yet, in some of its parts, what it was told of a table.
const newly = 10 * time.Minute
