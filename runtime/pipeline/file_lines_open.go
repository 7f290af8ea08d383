package pipeline

import (
	"bufio"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compression is how a file is compressed.
type compression uint8

const (
	plain compression = iota
	gzipped
	zstandard
	bzipped
)

// zstdMemory bounds the window that a zstd file may ask for.
const zstdMemory = 64 << 20

// errReplaced: the path is another file than the one that was planned. Its rest is found under its new name next time.
var errReplaced = errors.New("the file was replaced while it was read; run again to read the rest of it and the new one")

// probeFile looks at a file without blocking on anything that is not a regular file.
func probeFile(path, setting string) *fileProbe {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file (%s)", path, modeName(info.Mode()))
	}
	if err != nil {
		return &fileProbe{err: err}
	}
	head, err := readHead(path)
	if err != nil {
		return &fileProbe{err: err}
	}
	p := &fileProbe{size: info.Size(), changed: info.ModTime(), head: head, kind: kindOf(path, setting, head)}
	p.dev, p.ino = fileID(info)
	return p
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, headSize))
}

func modeName(m fs.FileMode) string {
	if m.IsDir() {
		return "a directory"
	}
	return m.Type().String()
}

// kindOf resolves the setting `compression`: auto believes the first bytes, then the extension.
func kindOf(path, setting string, head []byte) compression {
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case setting == "none":
		return plain
	case setting == "gzip":
		return gzipped
	case setting == "zstd":
		return zstandard
	case setting == "bzip2":
		return bzipped
	case strings.HasPrefix(string(head), "\x1f\x8b"):
		return gzipped
	case strings.HasPrefix(string(head), "\x28\xb5\x2f\xfd"):
		return zstandard
	case isBzip2(head):
		return bzipped
	case ext == ".gz":
		return gzipped
	case ext == ".bz2":
		return bzipped
	case ext == ".zst", ext == ".zstd":
		return zstandard
	}
	return plain
}

// isBzip2 looks at a file's beginning: "BZh" and a digit might begin a text, so the mark of the first block, or of an empty file's end,
// must follow.
func isBzip2(head []byte) bool {
	if len(head) < 10 || string(head[:3]) != "BZh" || head[3] < '1' || head[3] > '9' {
		return false
	}
	mark := string(head[4:10])
	return mark == "\x31\x41\x59\x26\x53\x59" || mark == "\x17\x72\x45\x38\x50\x90"
}

// fileSource yields a file's uncompressed bytes from an offset on. It opens the file at the first Read and again after a
// pause.
type fileSource struct {
	ctx   context.Context
	part  *filePartition
	slots chan struct{} // how many plain files may be open at once
	f     *os.File
	r     io.Reader
	zstd  *zstd.Decoder
	pos   int64  // plain: where reading goes on
	skip  int64  // compressed: bytes to read past first
	begin []byte // compressed: the first two of them
}

func newFileSource(ctx context.Context, part *filePartition, slots chan struct{}) *fileSource {
	s := &fileSource{ctx: ctx, part: part, slots: slots, pos: part.offset}
	if part.probe.kind != plain {
		s.skip = part.offset
	}
	return s
}

// Read implements io.Reader; it ends early when the context does.
func (s *fileSource) Read(p []byte) (int, error) {
	if err := s.ready(); err != nil {
		return 0, err
	}
	for s.ctx.Err() == nil {
		want := p
		if s.skip > 0 {
			want = p[:min(int64(len(p)), s.skip)]
		}
		n, err := s.r.Read(want)
		if room := 2 - len(s.begin); room > 0 && s.part.probe.kind != plain {
			s.begin = append(s.begin, want[:min(n, room)]...)
		}
		if s.skip == 0 {
			s.pos += int64(n)
			if n > 0 || err != nil {
				return n, err
			}
			continue
		}
		if s.skip -= int64(n); err == io.EOF && s.skip > 0 {
			err = io.ErrUnexpectedEOF // there was more before
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, s.ctx.Err()
}

func (s *fileSource) ready() error {
	if s.f != nil {
		return nil
	}
	if s.part.probe.err != nil {
		return s.part.probe.err
	}
	if s.part.probe.kind == plain {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	err := s.open()
	if err != nil && s.f == nil && s.part.probe.kind == plain {
		<-s.slots
	}
	return err
}

// open opens the file that was planned, no other one at its path.
func (s *fileSource) open() error {
	f, err := os.Open(s.part.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		if _, ino := fileID(info); ino != s.part.probe.ino {
			err = errReplaced
		}
	}
	if err == nil && s.part.probe.kind == plain {
		_, err = f.Seek(s.pos, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return err
	}
	s.f = f
	return s.decompress(info.Size())
}

// decompress sets the reader. An empty file is a compressed one that was cut off.
func (s *fileSource) decompress(size int64) (err error) {
	if s.part.probe.kind == plain {
		s.r = s.f
		return nil
	}
	if size == 0 {
		return io.ErrUnexpectedEOF
	}
	in := bufio.NewReaderSize(s.f, 16<<10)
	switch s.part.probe.kind {
	case gzipped:
		s.r, err = gzip.NewReader(in)
		return err
	case bzipped:
		s.r = bzip2.NewReader(in)
		return nil
	}
	s.zstd, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(zstdMemory))
	s.r = s.zstd
	return err
}

// head returns the first bytes of the uncompressed file.
func (s *fileSource) head() []byte {
	if s.part.probe.kind == plain {
		return s.part.probe.head
	}
	return s.begin
}

// pause closes a plain file until the next Read; a compressed one would have to be read again.
func (s *fileSource) pause() {
	if s.f != nil && s.part.probe.kind == plain {
		s.f.Close()
		s.f = nil
		<-s.slots
	}
}

// close closes whatever is open.
func (s *fileSource) close() {
	s.pause()
	if s.zstd != nil {
		s.zstd.Close()
	}
	if s.f != nil {
		s.f.Close()
	}
}

// fault names an error of Read in the words of event.Line.
func (s *fileSource) fault(err error) (fault, text string) {
	var path *fs.PathError
	switch {
	case s.part.probe.kind == plain, s.part.probe.err != nil, err == errReplaced, errors.As(err, &path):
		return faultUnreadable, err.Error()
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return faultUnreadable, fmt.Sprintf("%s: needs more than %d MiB to decompress", s.part.path, zstdMemory>>20)
	case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF:
		return faultTruncated, err.Error()
	}
	return faultCorrupt, err.Error()
}

// Head returns at most so many bytes of a file's beginning, uncompressed as file_lines does it, and when it was last changed. What
// cannot be read any further ends it.
func Head(path string, most int) (head []byte, changed time.Time, err error) {
	p := probeFile(path, "auto")
	if p.err != nil {
		return nil, changed, p.err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, changed, err
	}
	defer f.Close()
	var r io.Reader = f
	switch p.kind {
	case gzipped:
		r, err = gzip.NewReader(f)
	case zstandard:
		var d *zstd.Decoder
		if d, err = zstd.NewReader(f, zstd.WithDecoderMaxMemory(zstdMemory), zstd.WithDecoderConcurrency(1)); err == nil {
			defer d.Close()
		}
		r = d
	case bzipped:
		r = bzip2.NewReader(f)
	}
	if err != nil {
		return nil, changed, fmt.Errorf("%s: %w", path, err)
	}
	head, err = io.ReadAll(io.LimitReader(r, int64(most)))
	if len(head) > 0 {
		err = nil
	}
	return head, p.changed, err
}
