package pipeline

import (
	"io"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// fileReader reads one file into blocks. Its credit is blocksAhead blocks; a block's Release gives one back.
type fileReader struct {
	in     *fileLines
	part   *filePartition
	name   string
	meta   map[string]string
	credit chan struct{}
	live   bool // follow
}

func newFileReader(in *fileLines, part *filePartition) *fileReader {
	r := &fileReader{in: in, part: part, name: part.name(), credit: make(chan struct{}, blocksAhead), live: in.conf.follow}
	// The first path, not today's: a file that was renamed stays in its stream.
	r.meta = map[string]string{"path": part.first}
	for range blocksAhead {
		r.credit <- struct{}{}
	}
	return r
}

// run reads the file to its end and says so. It returns the position of the end, and whether the file is read whole.
func (r *fileReader) run() (end int64, whole bool) {
	src := newFileSource(r.in.ctx, r.part, r.in.slots)
	defer src.close()
	cut := r.cutter(src, src.fault, src.head)
	for more := true; more; {
		b := r.block()
		if b == nil {
			return cut.off, false
		}
		if more = cut.next(b); r.in.many {
			src.pause()
		}
		if len(b.Lines) == 0 {
			b.Release()
		} else if !r.send(b) {
			return cut.off, false
		}
	}
	src.close()
	return cut.off, r.finish(cut.err == io.EOF)
}

// cutter returns what cuts the file from its position on.
func (r *fileReader) cutter(src io.Reader, fault func(err error) (fault, text string), head func() []byte) *lineCutter {
	c := r.in.conf
	return &lineCutter{src: src, off: r.part.offset, lineMax: c.lineMax, linesMax: r.in.blockSize / 32, fault: fault,
		charset: c.charset, head: head, multi: c.multi}
}

// finish says that the file has ended. One that was read whole is disposed of when that is committed.
func (r *fileReader) finish(whole bool) bool {
	b := r.mark(event.Finished)
	if r.live {
		b.Mark = event.Idle // more files may come: a stream all of whose partitions are finished has ended
	}
	if whole && r.in.conf.onFinished != "keep" {
		path, probe := r.part.path, r.part.probe
		b.Committed = func() { r.in.dispose(r.name, path, probe) }
	}
	return r.send(b) && whole
}

// mark returns a block without lines.
func (r *fileReader) mark(m event.Mark) *event.Block {
	return &event.Block{Partition: r.name, Meta: r.meta, Origin: r.part.origin, Mark: m, Live: r.live}
}

// block waits for credit; nil when the input is closed.
func (r *fileReader) block() *event.Block {
	select {
	case <-r.credit:
	case <-r.in.ctx.Done():
		return nil
	}
	b := r.in.blocks.Get().(*event.Block)
	b.Partition, b.Meta, b.Origin, b.Mark = r.name, r.meta, r.part.origin, event.NoMark
	b.Time, b.Live, b.Mended = r.part.probe.changed.UnixMilli(), r.live, 0
	b.OnRelease(r.release)
	return b
}

// release takes a block back. Memory that grew for a long line is let go.
func (r *fileReader) release(b *event.Block) {
	if cap(b.Data) > 2*r.in.blockSize {
		b.Data = make([]byte, 0, r.in.blockSize)
	}
	b.Meta, b.Origin = nil, nil
	r.in.blocks.Put(b)
	select {
	case r.credit <- struct{}{}:
	default:
	}
}

// send hands a block to ReadBatch; false when the input is closed.
func (r *fileReader) send(b *event.Block) bool {
	if r.in.ctx.Err() != nil {
		return false // what was read may end with the cancellation
	}
	select {
	case r.in.out <- b:
		return true
	case <-r.in.ctx.Done():
		return false
	}
}
