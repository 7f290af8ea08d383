package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/redpanda-data/benthos/v4/public/service"
)

func fileRowsSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Local").
		Summary("Appends rows to a file of JSON lines, one write a batch, on disk before it is acknowledged.").
		Description(`Each line is the row's columns and a member `+"`_tocsin`"+` with the row's metadata: operator, kind, result_id, revision,
event_time_ms, lane, stream, reason, late_by_ms, position, as far as the row has them. A payload that is no JSON object, such as
the line behind an error row, stands as text in the member `+"`raw`"+`. Blocks of rows, from a lane with `+"`block: true`"+`, are such
lines already.

The file never holds half a line: a last line that was cut off by a crash is removed at the next start, and a batch that could not be
written whole, for instance on a full disk, is taken back and tried again. One process writes a file at a time. With `+"`--fresh`"+`
an existing file is first moved to PATH.old.`).
		Fields(
			service.NewStringField("path").
				Description("The file, relative to the working directory. Folders are made as needed.").
				Example("out/alerts.jsonl"),
			service.NewBoolField("sync").
				Description("Whether rows are on disk (fsync) before they count as delivered. Without it a power cut may lose them.").
				Default(true),
		).
		Example("Failed logins to a file", runs, `input:
  file_lines:
    paths: [pipelines/data/logins.jsonl]
buffer:
  detect:
    name: file_rows
    state: ./state/file_rows
    streams:
      logins: { time: { field: login_time } }
    operators:
      failures: { filter: { from: logins, where: { status: failure } } }
output:
  file_rows:
    path: ./out/failures.jsonl
`)
}

func init() {
	err := service.RegisterBatchOutput("file_rows", fileRowsSpec(),
		func(conf *service.ParsedConfig, res *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			out, err := newFileRows(conf, res)
			return out, service.BatchPolicy{}, 1, err
		})
	if err != nil {
		panic(err)
	}
}

// fileRows is the output. Benthos calls it from one goroutine.
type fileRows struct {
	path  string
	sync  bool
	fresh bool // move an old file away at the next open
	log   *service.Logger

	f     *os.File
	lines bytes.Buffer
	write func(f *os.File, p []byte) (int, error) // a test's full disk
}

func newFileRows(conf *service.ParsedConfig, res *service.Resources) (*fileRows, error) {
	out := &fileRows{log: res.Logger(), fresh: linkOf(res).run.Fresh, write: (*os.File).Write}
	var err error
	if out.path, err = conf.FieldString("path"); err != nil {
		return nil, err
	}
	if out.path == "" {
		return nil, errors.New("path: name a file")
	}
	out.sync, err = conf.FieldBool("sync")
	return out, err
}

// Connect opens the file.
func (o *fileRows) Connect(context.Context) error {
	o.close()
	if err := os.MkdirAll(filepath.Dir(o.path), 0o755); err != nil {
		return o.failed(err)
	}
	if err := o.open(); err != nil {
		return o.failed(err)
	}
	if err := o.heal(); err != nil {
		o.close()
		return o.failed(err)
	}
	return nil
}

// failed says which file, in full, an error is about.
func (o *fileRows) failed(err error) error {
	abs, absErr := filepath.Abs(o.path)
	if absErr != nil {
		abs = o.path
	}
	return fmt.Errorf("file_rows: %s: %w", abs, err)
}

// open opens and locks the file; one of an earlier run is moved away if that is asked for, once it is locked.
func (o *fileRows) open() (err error) {
	for {
		if o.f, err = os.OpenFile(o.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
			return err
		}
		if err = lockFile(o.f); err != nil {
			o.close()
			return fmt.Errorf("another output or process writes this file; give each its own path: %w", err)
		}
		info, err := o.f.Stat()
		if err != nil || !o.fresh || info.Size() == 0 {
			o.fresh = false
			return err
		}
		o.log.Infof("file_rows: starting over: %s is moved to %s.old", o.path, o.path)
		if err := os.Rename(o.path, o.path+".old"); err != nil {
			return err
		}
		o.fresh = false
		o.close()
	}
}

// heal cuts off a last line without newline: what a crash left of a write that nobody was told about.
func (o *fileRows) heal() error {
	info, err := o.f.Stat()
	if err != nil {
		return err
	}
	end, err := lastLineEnd(o.f, info.Size())
	if err != nil {
		return err
	}
	if end < info.Size() {
		o.log.Warnf("file_rows: %s ended in an incomplete line of %d bytes; it is cut off", o.path, info.Size()-end)
		if err := o.f.Truncate(end); err != nil {
			return err
		}
	}
	return o.flush(true)
}

// lastLineEnd returns the offset after the last newline before size, 0 if there is none.
func lastLineEnd(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		chunk := buf[:min(end, int64(len(buf)))]
		end -= int64(len(chunk))
		if _, err := f.ReadAt(chunk, end); err != nil && err != io.EOF {
			return 0, err
		}
		if i := bytes.LastIndexByte(chunk, '\n'); i >= 0 {
			return end + int64(i) + 1, nil
		}
	}
	return 0, nil
}

// flush waits until the file is on disk, and with folder its name in the folder as well.
func (o *fileRows) flush(folder bool) error {
	if !o.sync {
		return nil
	}
	if err := o.f.Sync(); err != nil || !folder {
		return err
	}
	return syncFolder(filepath.Dir(o.path))
}

// WriteBatch appends the batch or, with an error, nothing.
func (o *fileRows) WriteBatch(_ context.Context, batch service.MessageBatch) error {
	info, err := o.current()
	if err != nil {
		return service.ErrNotConnected
	}
	o.lines.Reset()
	for _, msg := range batch {
		if err := appendRow(&o.lines, msg); err != nil {
			return err
		}
	}
	if _, err = o.write(o.f, o.lines.Bytes()); err == nil {
		err = o.flush(false)
	}
	if err == nil {
		return nil
	}
	if cut := o.f.Truncate(info.Size()); cut != nil {
		o.close() // opening it again heals it
	}
	return o.failed(err)
}

// current returns the file's state if it is open and still the one at its path; somebody may have rotated it.
func (o *fileRows) current() (os.FileInfo, error) {
	if o.f == nil {
		return nil, os.ErrClosed
	}
	info, err := o.f.Stat()
	if err != nil {
		return nil, err
	}
	if there, err := os.Stat(o.path); err != nil || !os.SameFile(info, there) {
		return nil, os.ErrNotExist
	}
	return info, nil
}

func (o *fileRows) close() {
	if o.f != nil {
		o.f.Close()
		o.f = nil
	}
}

// Close closes the file and gives up its lock.
func (o *fileRows) Close(context.Context) error {
	o.close()
	return nil
}

// rowMeta is the metadata that goes into _tocsin, in this order.
var rowMeta = []struct {
	name   string
	number bool
}{
	{"operator", false}, {"kind", false}, {"result_id", false}, {"revision", true}, {"event_time_ms", true},
	{"lane", false}, {"stream", false}, {"reason", false}, {"late_by_ms", true}, {"position", false},
}

// appendRow appends a message as one line. A column that is called _tocsin itself is hidden by ours, which comes last.
func appendRow(dst *bytes.Buffer, msg *service.Message) error {
	payload, err := msg.AsBytes()
	if err != nil {
		return err
	}
	if kind, _ := msg.MetaGet("kind"); kind == blockKind { // rows of a lane, which are lines already
		dst.Write(payload)
		return nil
	}
	appendLine(dst, payload, msg.MetaGet)
	return nil
}

// appendLine appends a payload and metadata as one line.
func appendLine(dst *bytes.Buffer, payload []byte, meta func(name string) (string, bool)) {
	appendOpen(dst, payload)
	dst.WriteString(`"_tocsin":`)
	dst.Write(appendMeta(dst.AvailableBuffer(), meta))
	dst.WriteString("}\n")
}

// appendOpen appends a payload as an object on one line that another member may follow. One that is no object is the member raw.
func appendOpen(dst *bytes.Buffer, payload []byte) {
	start := dst.Len()
	if !bytes.HasPrefix(bytes.TrimLeft(payload, " \t\r\n"), []byte("{")) || json.Compact(dst, payload) != nil {
		dst.Truncate(start)
		dst.Write(append(appendText([]byte(`{"raw":`), string(payload)), '}'))
	}
	dst.Truncate(dst.Len() - 1) // its brace
	if dst.Len()-start > 1 {
		dst.WriteByte(',')
	}
}

func appendMeta(dst []byte, meta func(name string) (string, bool)) []byte {
	sep := byte('{')
	for _, m := range rowMeta {
		v, ok := meta(m.name)
		if !ok {
			continue
		}
		dst = append(appendText(append(dst, sep), m.name), ':')
		if n, err := strconv.ParseInt(v, 10, 64); m.number && err == nil {
			dst = strconv.AppendInt(dst, n, 10)
		} else {
			dst = appendText(dst, v)
		}
		sep = ','
	}
	if sep == '{' {
		dst = append(dst, sep)
	}
	return append(dst, '}')
}

// appendText appends a JSON string; bytes that are no UTF-8 become U+FFFD.
func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // cannot fail for a string
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
