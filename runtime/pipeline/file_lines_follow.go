package pipeline

import (
	"bytes"
	"hash/maphash"
	"io"
	"os"
	"sync"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// followLimit is how many files may be followed at once; each is held open, so that one that is renamed or deleted can be read to
// its end.
const followLimit = 16_384

// fileKey is a file's identity for as long as it is open.
type fileKey struct {
	dev, ino uint64
	path     string // where the system has no inodes
}

func keyOf(path string, dev, ino uint64) fileKey {
	if ino != 0 {
		path = ""
	}
	return fileKey{dev, ino, path}
}

// watcher looks for files, again and again, and has each read by a goroutine of its own. It alone decides which partition a file
// is; readers say when they are done.
type watcher struct {
	in      *fileLines
	known   map[string]Position // by partition: where its last reader began, or ended
	reading map[fileKey]*tail
	over    map[fileKey]fileState // files that were read to their end
	warned  map[string]string
	first   bool // the first look of the first start

	mu    sync.Mutex
	ended []*tail
}

type fileState struct {
	size    int64
	changed time.Time
}

// follow starts looking for files. Those of the first look are announced before any row.
func (in *fileLines) follow(positions map[string]Position) {
	f := &watcher{in: in, known: map[string]Position{}, reading: map[fileKey]*tail{}, over: map[fileKey]fileState{}, warned: map[string]string{}}
	f.first = true
	for name, p := range positions {
		f.known[name] = p
		if _, ours := decodeOrigin(p.Origin); ours {
			f.first = false
		}
	}
	in.blockSize = followBlock // there may be thousands, most of which have a few lines at a time
	started := f.look()
	for _, t := range started {
		in.announce = append(in.announce, t.announcement())
	}
	f.first = false
	in.readers.Go(func() {
		for _, t := range started {
			f.start(t)
		}
		f.run()
	})
}

func (f *watcher) run() {
	ticks := time.NewTicker(f.in.conf.poll)
	defer ticks.Stop()
	for {
		select {
		case <-f.in.ctx.Done():
			return
		case <-ticks.C:
		}
		for _, t := range f.look() {
			if !t.send(t.announcement()) {
				return
			}
			f.start(t)
		}
	}
}

func (f *watcher) start(t *tail) {
	f.in.readers.Go(func() {
		t.read()
		f.mu.Lock()
		f.ended = append(f.ended, t)
		f.mu.Unlock()
	})
}

// settle takes back the files whose readers are done.
func (f *watcher) settle() {
	f.mu.Lock()
	ended := f.ended
	f.ended = nil
	f.mu.Unlock()
	for _, t := range ended {
		delete(f.reading, t.key)
		f.known[t.name] = Position{t.end, t.part.origin}
		if t.truncated {
			f.known[t.name] = Position{Offset: t.end} // whatever it looks like now, it is another generation
			continue
		}
		f.over[t.key] = t.last
	}
}

// look sees what has become of the files, and returns readers for those that nobody reads.
func (f *watcher) look() (started []*tail) {
	f.settle()
	paths, _, err := f.in.glob()
	if err != nil {
		f.warn("paths", err.Error())
		return nil
	}
	var fresh []string
	seen := map[fileKey]bool{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue // gone since; what it is otherwise, probing would say
		}
		dev, ino := fileID(info)
		key := keyOf(path, dev, ino)
		if seen[key] {
			continue // a hard link
		}
		seen[key] = true
		now := fileState{info.Size(), info.ModTime()}
		if t := f.reading[key]; t != nil {
			t.seen(path, now)
		} else if old, ok := f.over[key]; !ok || old.size != now.size || !old.changed.Equal(now.changed) {
			fresh = append(fresh, path)
		}
	}
	for key, t := range f.reading {
		if !seen[key] {
			t.seen("", fileState{})
		}
	}
	for key := range f.over {
		if !seen[key] {
			delete(f.over, key)
		}
	}
	return f.plan(fresh)
}

// plan makes readers for files that nobody reads.
func (f *watcher) plan(paths []string) (started []*tail) {
	if len(paths) == 0 {
		return nil
	}
	for _, part := range planPartitions(paths, f.known, func(path string) *fileProbe { return probeFile(path, f.in.conf.compression) }) {
		probe := part.probe
		if probe.err != nil {
			f.warn(part.path, probe.err.Error())
			continue
		}
		delete(f.warned, part.path)
		key := keyOf(part.path, probe.dev, probe.ino)
		age := time.Since(probe.changed)
		switch {
		case f.in.skips(part, f.known):
			f.over[key] = fileState{probe.size, probe.changed} // until it changes
			continue
		case f.reading[key] != nil: // renamed between two looks at it
			continue
		case probe.kind != plain && age < f.in.conf.quiet: // it may still be written
			continue
		case probe.kind == plain && part.path != part.first && part.offset == probe.size && age >= f.in.conf.quiet:
			f.over[key] = fileState{probe.size, probe.changed} // a renamed one of which nothing is left
			if f.in.conf.onFinished != "keep" {
				f.in.dispose(part.name(), part.path, probe) // the last run did not come to it
			}
			continue
		case len(f.reading) >= followLimit:
			f.warn("paths", "too many files are followed at once; the others wait")
			continue
		}
		t := &tail{fileReader: newFileReader(f.in, part), key: key, wake: make(chan struct{}, 1), path: part.path}
		if f.first && f.in.conf.fromEnd {
			t.begin()
		}
		f.known[part.name()] = Position{part.offset, part.origin}
		f.reading[key] = t
		started = append(started, t)
	}
	return started
}

// warn says what is wrong with a path once.
func (f *watcher) warn(path, text string) {
	if f.warned[path] != text {
		f.warned[path] = text
		f.in.log.Warnf("file_lines: %s", text)
	}
}

// tail reads one file as it grows.
type tail struct {
	*fileReader
	key   fileKey
	wake  chan struct{}
	file  *os.File
	pos   int64        // of the next Read
	sum   maphash.Hash // of what was read since the last look
	cut   *lineCutter
	begun []byte // what it had put aside before it read

	complete  bool // it ends where it ends now
	truncated bool
	looked    fileState // when its beginning was compared

	end   int64 // when done: the position of what was read
	whole bool
	last  fileState

	mu    sync.Mutex
	path  string    // where it is now; empty: no path has it
	moved time.Time // since when it is not where it was found, zero: it is
	state fileState // when it was last seen
}

// begin puts the position behind the last whole line.
func (t *tail) begin() {
	if t.part.probe.kind != plain {
		return
	}
	f, err := os.Open(t.part.path)
	if err != nil {
		return
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	cut := t.cutter(nil, nil, nil)
	cut.begin(&event.Block{Data: bytes.Clone(t.part.probe.head)})
	for end, n := t.part.probe.size, int64(0); end > 0; end -= n {
		n = (end-1)%int64(len(buf)) + 1 // from an even place on, so that no newline of UTF-16 is cut in two
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return
		}
		if i := cut.lastNewline(buf[:n], end-n); i >= 0 {
			t.part.offset = end - n + int64(i)
			return
		}
	}
}

func (t *tail) announcement() *event.Block {
	b := t.mark(event.Announce)
	b.From = t.part.offset
	return b
}

// seen tells the reader where its file is, and wakes it if there may be something to do.
func (t *tail) seen(path string, now fileState) {
	t.mu.Lock()
	t.path = path
	if path == t.part.first {
		t.moved = time.Time{}
	} else if t.moved.IsZero() {
		t.moved = time.Now()
	}
	same := now == t.state && t.moved.IsZero()
	t.state = now
	t.mu.Unlock()
	if same {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// read reads until the file is complete or becomes another one.
func (t *tail) read() {
	if t.part.probe.kind != plain {
		t.end, t.whole = t.run()
		t.last = fileState{t.part.probe.size, t.part.probe.changed}
		if info, err := os.Stat(t.part.path); err == nil && info.Size() == t.part.probe.size {
			t.last.changed = info.ModTime()
		}
		return
	}
	t.end, t.pos = t.part.offset, t.part.offset
	if !t.open() {
		t.send(t.mark(event.Idle))
		return
	}
	defer t.file.Close()
	t.cut = t.cutter(t, t.fault, func() []byte { return t.part.probe.head })
	quietSince := time.Now()
	t.cut.wait = func() {
		t.rest(0)
		t.changed()
		t.complete = t.isComplete(quietSince)
	}
	for more := true; more; {
		if t.changed(); t.truncated {
			t.cutOff()
			return
		}
		b := t.block()
		if b == nil {
			return
		}
		from := t.pos
		t.sum.Reset()
		t.begun = append(t.begun[:0], t.cut.tail...)
		if more = t.cut.next(b); t.pos > from && !t.stillItself(from) {
			b.Release()
			t.cut.tail, t.cut.off = append(t.cut.tail[:0], t.begun...), t.end
			t.cutOff()
			return
		}
		b.Time, b.Origin = t.looked.changed.UnixMilli(), t.part.origin
		if t.pos > from {
			quietSince = time.Now()
		}
		if len(b.Lines) == 0 {
			b.Release()
		} else if !t.send(b) {
			return
		}
		t.end = t.cut.off
		if more && t.cut.still {
			t.rest(t.patience(quietSince))
			t.complete = t.isComplete(quietSince)
			t.cut.flush = t.cut.open && t.patience(quietSince) <= 0
		}
	}
	t.whole = t.cut.err == io.EOF && !t.truncated
	t.last = fileState{t.pos, t.looked.changed}
	t.part.probe.size = t.pos
	t.mu.Lock()
	path := t.path
	t.mu.Unlock()
	t.part.path = path
	t.finish(t.whole && path != "")
}

// open opens the file that was planned, no other one at its path.
func (t *tail) open() bool {
	f, err := os.Open(t.part.path)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	if err == nil {
		if _, ino := fileID(info); ino == t.part.probe.ino {
			t.file = f
			return true
		}
	}
	f.Close()
	return false
}

// Read implements io.Reader: at the end of what there is, errNoMore, or io.EOF if the file is complete.
func (t *tail) Read(p []byte) (int, error) {
	if t.truncated {
		return 0, io.EOF
	}
	n, err := t.file.ReadAt(p, t.pos)
	t.pos += int64(n)
	t.sum.Write(p[:n])
	switch {
	case n > 0:
		return n, nil
	case err == io.EOF && t.in.ctx.Err() != nil:
		return 0, t.in.ctx.Err()
	case err == io.EOF && !t.complete:
		return 0, errNoMore
	}
	return n, err
}

func (t *tail) fault(err error) (fault, text string) { return faultUnreadable, err.Error() }

// rest waits until somebody has looked at the file again, or for so long.
func (t *tail) rest(most time.Duration) {
	var over <-chan time.Time
	if t.cut.open {
		timer := time.NewTimer(most)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-t.wake:
	case <-over:
	case <-t.in.ctx.Done():
	}
}

// patience is how long a record that may go on is still waited for, if nothing has come since then.
func (t *tail) patience(since time.Time) time.Duration {
	if !t.cut.open {
		return 0
	}
	return t.in.conf.multi.flushAfter - time.Since(since)
}

// changed looks whether the file is still the one that was read: not shorter, and with the same beginning. Its beginning is kept
// with the position, as far as it is there.
func (t *tail) changed() {
	info, err := t.file.Stat()
	if err != nil {
		return
	}
	now := fileState{info.Size(), info.ModTime()}
	if now == t.looked {
		return
	}
	t.looked = now
	if now.size < t.pos {
		t.truncated = true
		return
	}
	head := make([]byte, headSize)
	n, err := t.file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return
	}
	was, ok := decodeOrigin(t.part.origin)
	if head = head[:n]; ok && (n < was.headLen || hashHead(head[:was.headLen]) != was.head) {
		t.truncated = true
		return
	}
	t.part.probe.head, t.part.probe.size, t.part.probe.changed = head, now.size, now.changed
	if ok && n > was.headLen {
		t.part.origin = t.part.probe.origin().encode()
	}
}

// stillItself says whether what was read from there on was of the file as it was: between the look and the reading it may have been
// truncated and written anew. Then its beginning is another one; and if what was read stands there now, it is of the new lines,
// which the next generation reads.
func (t *tail) stillItself(from int64) bool {
	if t.changed(); !t.truncated {
		return true
	}
	var now maphash.Hash
	now.SetSeed(t.sum.Seed())
	n, err := io.Copy(&now, io.NewSectionReader(t.file, from, t.pos-from))
	return err != nil || n < t.pos-from || now.Sum64() != t.sum.Sum64()
}

// isComplete says whether the file will not grow any more: no path has it, or another than the one it was found at, and nothing
// came for a while.
func (t *tail) isComplete(since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved.IsZero() {
		return false
	}
	if t.moved.After(since) {
		since = t.moved
	}
	return time.Since(since) >= t.in.conf.quiet
}

// cutOff ends a partition whose file was truncated: with the lines that were read of it, and, of a line that had begun, with an error
// row that says what was read of it.
func (t *tail) cutOff() {
	for more := true; more; t.end = t.cut.off {
		b := t.block()
		if b == nil {
			return
		}
		b.Time, b.Origin = t.looked.changed.UnixMilli(), t.part.origin
		if t.cut.last(b); len(b.Lines) == 0 {
			b.Release()
			more = false
		} else if !t.send(b) {
			return
		}
	}
	if begun := bytes.TrimSpace(t.cut.appendText(nil, t.cut.tail)); len(begun) > 0 {
		b := t.block()
		if b == nil {
			return
		}
		b.Data = append(b.Data[:0], begun[:min(len(begun), faultBytes)]...)
		b.Lines = append(b.Lines[:0], event.Line{Off: t.end, Next: t.end, End: uint32(len(b.Data)), Fault: faultTruncated})
		if !t.send(b) {
			return
		}
	}
	t.send(t.mark(event.Idle))
}
