package double

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// stream is a write stream.
type stream struct {
	table     *table
	standard  bool // the default stream
	next      int64
	finalized bool
}

// writer is the Storage Write API.
type writer struct {
	storagepb.UnimplementedBigQueryWriteServer
	*Server
}

// named says whether the header by which front ends find their way is there.
func named(ctx context.Context, key, value string) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	return slices.Contains(md.Get("x-goog-request-params"), key+"="+url.QueryEscape(value))
}

// full is a table's name of its resource name.
func full(resource string) string {
	p := strings.Split(resource, "/")
	if len(p) < 6 {
		return ""
	}
	return p[1] + "." + p[3] + "." + p[5]
}

// failing answers calls that go wrong; ok says that the call is to be done all the same.
func failing(f Fault, name string) (ok bool, err error) {
	switch {
	case f.Code != 0:
		return false, status.Error(codes.Code(f.Code), "so ordered")
	case f.Reset:
		return false, status.Error(codes.Unavailable, "reset")
	case f.Lost:
		return true, status.Error(codes.Unavailable, "lost")
	}
	return true, nil
}

func (w *writer) CreateWriteStream(ctx context.Context, r *storagepb.CreateWriteStreamRequest) (*storagepb.WriteStream, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ok, err := failing(w.fault("create"), r.Parent)
	if !ok {
		return nil, err
	}
	t := w.tables[full(r.Parent)]
	switch {
	case !named(ctx, "parent", r.Parent):
		return nil, status.Error(codes.InvalidArgument, "x-goog-request-params")
	case t == nil || t.now() == nil:
		return nil, status.Error(codes.NotFound, "Requested entity was not found")
	case r.WriteStream.GetType() != storagepb.WriteStream_COMMITTED:
		return nil, status.Error(codes.InvalidArgument, "type")
	}
	w.made++
	name := fmt.Sprintf("%s/streams/s%d", r.Parent, w.made)
	w.streams[name] = &stream{table: t}
	return &storagepb.WriteStream{Name: name, Type: storagepb.WriteStream_COMMITTED}, err
}

func (w *writer) FinalizeWriteStream(ctx context.Context, r *storagepb.FinalizeWriteStreamRequest) (*storagepb.FinalizeWriteStreamResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.fault("finalize")
	ok, err := failing(f, r.Name)
	if !ok {
		return nil, err
	}
	if f.Expire {
		delete(w.streams, r.Name)
	}
	x := w.streams[r.Name]
	switch {
	case !named(ctx, "name", r.Name):
		return nil, status.Error(codes.InvalidArgument, "x-goog-request-params")
	case x == nil:
		return nil, status.Error(codes.NotFound, "Requested entity was not found")
	}
	x.finalized = true
	return &storagepb.FinalizeWriteStreamResponse{RowCount: x.next}, err
}

// connection is what the first request of a connection says.
type connection struct {
	name string
	rows protoreflect.MessageDescriptor
}

func (w *writer) AppendRows(calls storagepb.BigQueryWrite_AppendRowsServer) error {
	var c connection
	for {
		r, err := calls.Recv()
		if err != nil {
			return nil
		}
		if c.name == "" {
			if err = c.begin(calls.Context(), r); err != nil {
				return err
			}
		}
		a, err := w.append(&c, r)
		if err == nil {
			err = calls.Send(a)
		}
		if err != nil {
			return err
		}
	}
}

func (c *connection) begin(ctx context.Context, r *storagepb.AppendRowsRequest) error {
	d := r.GetProtoRows().GetWriterSchema().GetProtoDescriptor()
	if r.WriteStream == "" || d == nil || !named(ctx, "write_stream", r.WriteStream) {
		return status.Error(codes.InvalidArgument, "the first request needs write_stream, writer_schema and x-goog-request-params")
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("row.proto"), Syntax: proto.String("proto2"), MessageType: []*descriptorpb.DescriptorProto{d}}, nil)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	c.name, c.rows = r.WriteStream, file.Messages().Get(0)
	return nil
}

// no is an answer that is an error, with the API's own code.
func no(code codes.Code, own storagepb.StorageError_StorageErrorCode, message string) *storagepb.AppendRowsResponse {
	s, err := status.New(code, message).WithDetails(&storagepb.StorageError{Code: own, ErrorMessage: message})
	if err != nil {
		panic(err)
	}
	return &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{Error: (*spb.Status)(s.Proto())}}
}

func (w *writer) append(c *connection, r *storagepb.AppendRowsRequest) (*storagepb.AppendRowsResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.fault("append")
	if f.Stays && f.Code != 0 {
		return no(codes.Code(f.Code), 0, "so ordered"), nil
	}
	ok, broken := failing(f, c.name)
	if !ok {
		return nil, broken
	}
	x := w.streams[c.name]
	if strings.HasSuffix(c.name, "/streams/_default") && x == nil {
		if t := w.tables[full(c.name)]; t != nil {
			x = &stream{table: t, standard: true}
			w.streams[c.name] = x
		}
	}
	if f.Expire {
		delete(w.streams, c.name)
		x = nil
	}
	if x != nil && f.Gone && !x.standard {
		x.finalized = true
	}
	a := w.rows(c, x, r, f)
	return a, broken
}

func (w *writer) rows(c *connection, x *stream, r *storagepb.AppendRowsRequest, f Fault) *storagepb.AppendRowsResponse {
	data := r.GetProtoRows().GetRows().GetSerializedRows()
	if w.Discard {
		x.next += int64(len(data))
		return &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_AppendResult_{AppendResult: &storagepb.AppendRowsResponse_AppendResult{}}}
	}
	switch {
	case x == nil:
		return no(codes.NotFound, storagepb.StorageError_STREAM_NOT_FOUND, "Requested entity was not found: "+c.name)
	case x.finalized:
		return no(codes.InvalidArgument, storagepb.StorageError_STREAM_FINALIZED, "Stream is finalized")
	case len(data) == 0 || proto.Size(r) > w.RequestMax:
		return no(codes.InvalidArgument, 0, "AppendRows request too large or empty")
	case x.standard && r.Offset != nil:
		return no(codes.InvalidArgument, 0, "the default stream has no offsets")
	case r.Offset != nil && r.Offset.Value < x.next:
		return no(codes.AlreadyExists, storagepb.StorageError_OFFSET_ALREADY_EXISTS, fmt.Sprintf("The offset is within stream, expected offset %d, received %d", x.next, r.Offset.Value))
	case r.Offset != nil && r.Offset.Value > x.next:
		return no(codes.OutOfRange, storagepb.StorageError_OFFSET_OUT_OF_RANGE, fmt.Sprintf("The offset is beyond stream, expected offset %d, received %d", x.next, r.Offset.Value))
	}
	columns := x.table.now()
	if columns == nil {
		return no(codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND, "Requested entity was not found")
	}
	for i := range c.rows.Fields().Len() {
		if columnOf(columns, c.rows.Fields().Get(i)) < 0 {
			return no(codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS, "Input schema has more fields than BigQuery schema, extra fields: '"+string(c.rows.Fields().Get(i).Name())+"'")
		}
	}
	var rows []Row
	var wrong []*storagepb.RowError
	for i, b := range data {
		row, bad := decode(c.rows, columns, b)
		if f.Row != nil && f.Row(i) {
			bad = "so ordered"
		}
		if bad != "" {
			wrong = append(wrong, &storagepb.RowError{Index: int64(i), Code: storagepb.RowError_FIELDS_ERROR, Message: bad})
		}
		rows = append(rows, row)
	}
	if len(wrong) > 0 {
		a := no(codes.InvalidArgument, 0, "Errors found while processing rows")
		a.RowErrors = wrong
		return a
	}
	at := x.next
	x.table.rows = append(x.table.rows, rows...)
	x.next += int64(len(rows))
	result := &storagepb.AppendRowsResponse_AppendResult{}
	if !x.standard {
		result.Offset = wrapperspb.Int64(at)
	}
	return &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_AppendResult_{AppendResult: result}, WriteStream: c.name}
}

func columnOf(columns []column, f protoreflect.FieldDescriptor) int {
	return slices.IndexFunc(columns, func(c column) bool { return strings.EqualFold(c.Name, string(f.Name())) })
}

// kindsOf are the kinds of fields that a type takes, the first of which must be used here.
var kindsOf = map[string]protoreflect.Kind{"STRING": protoreflect.StringKind, "JSON": protoreflect.StringKind, "NUMERIC": protoreflect.StringKind, "INTEGER": protoreflect.Int64Kind,
	"FLOAT": protoreflect.DoubleKind, "BOOLEAN": protoreflect.BoolKind, "TIMESTAMP": protoreflect.Int64Kind, "DATE": protoreflect.Int32Kind}

// decode reads a row, strictly.
func decode(d protoreflect.MessageDescriptor, columns []column, b []byte) (row Row, bad string) {
	m := dynamicpb.NewMessage(d)
	if err := proto.Unmarshal(b, m); err != nil || len(m.GetUnknown()) > 0 {
		return nil, fmt.Sprintf("not a row: %v", err)
	}
	row = Row{}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		c := columns[columnOf(columns, f)]
		switch {
		case f.Kind() != kindsOf[c.Type] || f.IsList() != (c.Mode == "REPEATED"):
			bad = "the field of " + c.Name + " is " + f.Kind().String()
		case f.IsList():
			list := []any{}
			for i := range v.List().Len() {
				list = append(list, plain(v.List().Get(i).Interface()))
			}
			row[c.Name] = list
		default:
			row[c.Name] = plain(v.Interface())
		}
		if c.Type == "JSON" && bad == "" {
			if _, err := valueOf(c, v.String()); err != nil {
				bad = err.Error()
			}
		}
		return bad == ""
	})
	for _, c := range columns {
		if c.Mode == "REQUIRED" && row[c.Name] == nil && bad == "" {
			bad = "Missing required field: " + c.Name
		}
	}
	return row, bad
}

func plain(v any) any {
	if n, ok := v.(int32); ok {
		return int64(n)
	}
	return v
}
