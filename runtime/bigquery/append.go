package bigquery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// bearer sends the token with each call.
type bearer func(ctx context.Context) (string, error)

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b(ctx)
	return map[string]string{"authorization": "Bearer " + token}, err
}

func (bearer) RequireTransportSecurity() bool { return true }

func dialOptions(conf Config) []grpc.DialOption {
	agent := grpc.WithUserAgent("tocsin")
	again := grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: pauseMin, Multiplier: 2, Jitter: 0.2, MaxDelay: pauseMax}, MinConnectTimeout: pauseMax})
	if conf.Token == nil {
		return []grpc.DialOption{agent, again, grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	return []grpc.DialOption{agent, again, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})), grpc.WithPerRPCCredentials(bearer(conf.Token))}
}

// named says, in the header by which Google's front ends find their way, which stream or table a call is about.
func named(ctx context.Context, key, value string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-goog-request-params", key+"="+url.QueryEscape(value))
}

// lane is a connection of AppendRows: requests go out and are answered in the same order.
type lane struct {
	schema *schema
	stream string
	calls  storagepb.BigQueryWrite_AppendRowsClient
	cancel context.CancelFunc

	sending sync.Mutex // one at a time sends, and queues up in that order
	begun   bool       // the first request, which says what the rows are, is out

	mu      sync.Mutex
	waiting []chan reply
	over    error
}

// reply is what came of a request: an answer, or none.
type reply struct {
	answer *storagepb.AppendRowsResponse
	err    error
}

// defaultStream is the name of the stream that every table has, behind the table's.
const defaultStream = "/streams/_default"

// laneOf is the lane of a stream; one of other columns or another stream is given up.
func (c *Client) laneOf(t *table, s *schema, stream string) (*lane, error) {
	t.line.Lock()
	defer t.line.Unlock()
	if l := t.lane; l != nil && l.schema == s && l.stream == stream && l.alive() {
		return l, nil
	}
	if t.lane != nil {
		t.lane.retire()
	}
	if c.conf.Token == nil && strings.HasSuffix(stream, defaultStream) { // an emulator makes it when it is asked about it, not before
		ctx, cancel := context.WithTimeout(named(context.Background(), "name", stream), c.conf.Timeout)
		_, err := c.write.GetWriteStream(ctx, &storagepb.GetWriteStreamRequest{Name: stream})
		cancel()
		if err != nil && status.Code(err) != codes.Unimplemented {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	calls, err := c.write.AppendRows(named(ctx, "write_stream", stream))
	if err != nil {
		cancel()
		return nil, err
	}
	t.lane = &lane{schema: s, stream: stream, calls: calls, cancel: cancel}
	go t.lane.listen()
	return t.lane, nil
}

func (t *table) hangUp() {
	t.line.Lock()
	defer t.line.Unlock()
	if t.lane != nil {
		t.lane.retire()
		t.lane = nil
	}
}

func (l *lane) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over == nil
}

// retire lets a lane answer what is under way, and then ends it.
func (l *lane) retire() {
	l.sending.Lock()
	defer l.sending.Unlock()
	_ = l.calls.CloseSend()
	l.mu.Lock()
	idle := len(l.waiting) == 0
	if l.over == nil {
		l.over = errors.New("the connection was given up")
	}
	l.mu.Unlock()
	if idle {
		l.cancel()
	}
}

// listen hands out answers until the lane ends.
func (l *lane) listen() {
	defer l.cancel()
	for {
		answer, err := l.calls.Recv()
		if err != nil {
			l.end(err)
			return
		}
		l.mu.Lock()
		if len(l.waiting) > 0 {
			l.waiting[0] <- reply{answer: answer}
			l.waiting = l.waiting[1:]
		}
		done := l.over != nil && len(l.waiting) == 0
		l.mu.Unlock()
		if done {
			return
		}
	}
}

func (l *lane) end(err error) {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over == nil {
		l.over = err
	}
	for _, w := range l.waiting {
		w <- reply{err: err}
	}
	l.waiting = nil
}

// ask sends a request and waits for its answer. One that does not come in time ends the lane, since answers have no other name than their place.
func (l *lane) ask(ctx context.Context, req *storagepb.AppendRowsRequest, timeout time.Duration) reply {
	w := make(chan reply, 1)
	l.sending.Lock()
	stop := time.AfterFunc(timeout, func() { l.end(fmt.Errorf("no answer within %s", timeout)) })
	defer stop.Stop()
	if !l.queue(w) {
		l.sending.Unlock()
		return reply{err: l.over}
	}
	if !l.begun {
		l.begun = true
		req.WriteStream, req.TraceId = l.stream, "tocsin"
		req.GetProtoRows().WriterSchema = &storagepb.ProtoSchema{ProtoDescriptor: l.schema.descriptor}
	}
	_ = l.calls.Send(req) // what goes wrong comes by Recv
	l.sending.Unlock()
	select {
	case r := <-w:
		return r
	case <-ctx.Done():
		l.end(ctx.Err())
		return <-w
	}
}

// queue says whether an answer may be waited for.
func (l *lane) queue(w chan reply) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over != nil {
		return false
	}
	l.waiting = append(l.waiting, w)
	return true
}

// effect is what a request did, as far as writers tell it apart.
type effect uint8

const (
	taken      effect = iota // it is in the stream
	present                  // it was there already
	beyond                   // the stream is shorter than its offset
	gone                     // the stream takes no more, or is not there
	wrongRows                // rows are wrong; none was taken
	newer                    // the stream does not know a column yet
	invalid                  // the request is refused as a whole
	noTable                  // the table is not there
	notAllowed               // we may not write to it
	rejected                 // BigQuery was busy, and took nothing
	unclear                  // nobody knows
)

// outcome is what came of a request.
type outcome struct {
	effect
	why  string
	rows []*storagepb.RowError
}

// storageEffects are those of the API's own codes.
var storageEffects = map[storagepb.StorageError_StorageErrorCode]effect{
	storagepb.StorageError_TABLE_NOT_FOUND:              noTable,
	storagepb.StorageError_STREAM_NOT_FOUND:             gone,
	storagepb.StorageError_STREAM_FINALIZED:             gone,
	storagepb.StorageError_STREAM_ALREADY_COMMITTED:     gone,
	storagepb.StorageError_INVALID_STREAM_STATE:         gone,
	storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS: newer,
	storagepb.StorageError_OFFSET_ALREADY_EXISTS:        present,
	storagepb.StorageError_OFFSET_OUT_OF_RANGE:          beyond,
}

var codeEffects = map[codes.Code]effect{codes.AlreadyExists: present, codes.OutOfRange: beyond, codes.InvalidArgument: invalid, codes.NotFound: noTable,
	codes.PermissionDenied: notAllowed, codes.Unauthenticated: rejected, codes.ResourceExhausted: rejected}

// outcomeOf reads a reply.
func outcomeOf(r reply) outcome {
	var s *status.Status
	switch {
	case r.err != nil:
		s = status.Convert(r.err)
	case r.answer.GetError() != nil || len(r.answer.GetRowErrors()) > 0:
		s = status.FromProto((*spb.Status)(r.answer.GetError()))
	default:
		return outcome{}
	}
	o := outcome{why: short(s.Code().String() + ": " + s.Message()), rows: r.answer.GetRowErrors()}
	if len(o.rows) > 0 {
		o.effect = wrongRows
		return o
	}
	for _, d := range s.Details() {
		if e, ok := d.(*storagepb.StorageError); ok {
			if known, ok := storageEffects[e.Code]; ok {
				o.effect = known
				return o
			}
		}
	}
	var known bool
	if o.effect, known = codeEffects[s.Code()]; !known || r.err != nil && o.effect == rejected { // of a connection that ends nobody knows what it still did
		o.effect = unclear
	}
	return o
}

// resource is the table's name in the Storage API.
func (d Destination) resource() string {
	return "projects/" + d.Project + "/datasets/" + d.Dataset + "/tables/" + d.Table
}

// request is a part as a request.
func request(p part) *storagepb.AppendRowsRequest {
	rows := &storagepb.AppendRowsRequest_ProtoData{Rows: &storagepb.ProtoRows{SerializedRows: p.bytes}}
	return &storagepb.AppendRowsRequest{Rows: &storagepb.AppendRowsRequest_ProtoRows{ProtoRows: rows}}
}

// ask sends a part to a stream, at an offset unless that is negative.
func (w *writing) ask(s *schema, p part, stream string, offset int64) outcome {
	l, err := w.laneOf(w.t, s, stream)
	if err != nil {
		return outcome{effect: unclear, why: short(err.Error())}
	}
	req := request(p)
	if offset >= 0 {
		req.Offset = wrapperspb.Int64(offset)
	}
	return outcomeOf(l.ask(w.ctx, req, w.conf.Timeout))
}

// append writes a part to the table's default stream.
func (w *writing) append(s *schema, p part) {
	for len(p.rows) > 0 {
		o := w.ask(s, p, w.t.to.resource()+defaultStream, -1)
		switch o.effect {
		case taken:
			w.landed(p)
			return
		case wrongRows:
			p = w.without(p, o)
		default:
			w.unwritten(s, p, o)
			return
		}
	}
}

// without settles the rows that are wrong, and gives the others.
func (w *writing) without(p part, o outcome) part {
	bad := map[int]bool{}
	for _, e := range o.rows {
		if k := int(e.Index); k >= 0 && k < len(p.rows) {
			bad[k] = true
			w.fates[p.rows[k]] = Fate{Refused, short(strings.TrimPrefix(e.Code.String(), "ROW_ERROR_CODE_UNSPECIFIED") + " " + e.Message)}
		}
	}
	if len(bad) == 0 { // nobody knows why
		w.all(p.rows, Busy, o.why)
		return part{}
	}
	return p.without(bad)
}

// unwritten settles a part of which nothing is in the table, or nobody knows.
func (w *writing) unwritten(s *schema, p part, o outcome) {
	why := fmt.Sprintf("%s: %s", w.t.to, o.why)
	switch {
	case o.effect == invalid && len(p.rows) > 1:
		a, b := p.halves()
		w.send(s, a)
		w.send(s, b)
	case o.effect == invalid:
		w.all(p.rows, Refused, why)
	case o.effect == noTable:
		w.lost(p, &fault{status: http.StatusNotFound, message: o.why})
	case o.effect == notAllowed:
		w.all(p.rows, Blocked, w.t.explain(&fault{status: http.StatusForbidden, message: o.why}, w.conf.Create))
	case o.effect == newer && !w.t.fresh(): // somebody took a column away
		w.t.stale()
		w.all(p.rows, Busy, why)
	default:
		w.all(p.rows, Busy, why)
	}
}
