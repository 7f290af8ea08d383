package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// positionsEvery is how often positions are written while they change.
const positionsEvery = time.Second

// positionsMax bounds the file of positions, bytes.
const positionsMax = 256 << 20

// positionsVersion is the form of that file.
const positionsVersion = 1

// positionsFile is how far each file was read, for pipelines without a detect buffer: up to what outputs have acknowledged, in order.
type positionsFile struct {
	path string
	lock *os.File
	log  *service.Logger
	stop chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex
	parts   map[string]*handed
	changed bool
	after   []func() // to call once what is acknowledged is on disk
	fault   string   // why the last write failed
}

// handed is what of one partition was handed over and is not acknowledged in order.
type handed struct {
	at    Position
	queue []*handout
}

// handout is a block that was handed over.
type handout struct {
	next  Position
	after func()
	acked bool
}

type storedPositions struct {
	Version int              `json:"version"`
	Files   []storedPosition `json:"files"`
}

type storedPosition struct {
	File   string `json:"file"` // the partition: first path and generation
	Offset int64  `json:"offset"`
	Origin []byte `json:"origin"`
}

// openPositions locks and reads the file, which need not be there yet. With fresh an old one is moved away.
func openPositions(path string, fresh bool, log *service.Logger) (*positionsFile, error) {
	p := &positionsFile{path: path, log: log, stop: make(chan struct{}), parts: map[string]*handed{}}
	if err := p.open(fresh); err != nil {
		if p.lock != nil {
			p.lock.Close()
		}
		abs, _ := filepath.Abs(path)
		return nil, fmt.Errorf("file_lines: positions: %s: %w", abs, err)
	}
	p.done.Go(p.run)
	return p, nil
}

func (p *positionsFile) open(fresh bool) (err error) {
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	if p.lock, err = os.OpenFile(p.path+".lock", os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return err
	}
	if err := lockFile(p.lock); err != nil {
		return fmt.Errorf("another input or process keeps its positions here; give each its own file: %w", err)
	}
	if fresh {
		if err := os.Rename(p.path, p.path+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return p.read()
}

func (p *positionsFile) read() error {
	info, err := os.Stat(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && info.Size() > positionsMax {
		err = fmt.Errorf("it has %d bytes, the limit is %d", info.Size(), positionsMax)
	}
	if err != nil {
		return err
	}
	text, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	var s storedPositions
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("it is damaged (%w); without it everything is read again: move it away if that is right", err)
	}
	if s.Version != positionsVersion {
		return fmt.Errorf("it has version %d, this program knows %d", s.Version, positionsVersion)
	}
	for _, f := range s.Files {
		if f.Offset < 0 || p.parts[f.File] != nil || !strings.Contains(f.File, "#") {
			return fmt.Errorf("it is damaged (file %q); without it everything is read again: move it away if that is right", f.File)
		}
		p.parts[f.File] = &handed{at: Position{f.Offset, f.Origin}}
	}
	return nil
}

// positions are where reading goes on.
func (p *positionsFile) positions() map[string]Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := map[string]Position{}
	for name, h := range p.parts {
		at[name] = h.at
	}
	return at
}

// hand notes that a block is handed over. The function that it returns is called when it is acknowledged.
func (p *positionsFile) hand(b *event.Block) (acked func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.parts[b.Partition]
	if h == nil {
		h = &handed{}
		if p.parts[b.Partition] = h; b.Mark == event.Announce {
			h.at.Offset = b.From // another start must not begin elsewhere
		}
	}
	o := &handout{next: Position{h.at.Offset, b.Origin}, after: b.Committed}
	if n := len(h.queue); n > 0 {
		o.next.Offset = h.queue[n-1].next.Offset
	}
	if n := len(b.Lines); n > 0 {
		o.next.Offset = b.Lines[n-1].Next
	}
	h.queue = append(h.queue, o)
	return func() { p.acked(h, o) }
}

func (p *positionsFile) acked(h *handed, o *handout) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o.acked = true
	for len(h.queue) > 0 && h.queue[0].acked {
		first := h.queue[0]
		h.queue[0] = nil
		h.queue, h.at, p.changed = h.queue[1:], first.next, true
		if first.after != nil {
			p.after = append(p.after, first.after)
		}
	}
}

// forget drops the position of a file that is deleted, or they would become more and more.
func (p *positionsFile) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.parts, name)
	p.changed = true
}

func (p *positionsFile) run() {
	ticks := time.NewTicker(positionsEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			if err := p.write(); err != nil && err.Error() != p.fault {
				p.fault = err.Error()
				p.log.Warnf("%v; after a crash more lines would be read again", err)
			}
		case <-p.stop:
			return
		}
	}
}

// write puts the positions on disk, if they have changed, and calls what waits for that.
func (p *positionsFile) write() error {
	p.mu.Lock()
	if !p.changed {
		p.mu.Unlock()
		return nil
	}
	s := storedPositions{Version: positionsVersion}
	for name, h := range p.parts {
		s.Files = append(s.Files, storedPosition{name, h.at.Offset, h.at.Origin})
	}
	after := p.after
	p.after, p.changed = nil, false
	p.mu.Unlock()

	slices.SortFunc(s.Files, func(a, b storedPosition) int { return strings.Compare(a.File, b.File) })
	text, err := json.MarshalIndent(s, "", " ")
	if err == nil {
		err = replaceFile(p.path, append(text, '\n'))
	}
	if err != nil {
		p.mu.Lock()
		p.after, p.changed = append(after, p.after...), true
		p.mu.Unlock()
		return fmt.Errorf("file_lines: positions: %w", err)
	}
	for _, f := range after {
		f()
	}
	return nil
}

// replaceFile puts a text where a file is, whole or not at all.
func replaceFile(path string, text []byte) (err error) {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// close writes what was acknowledged and gives the file up.
func (p *positionsFile) close() error {
	close(p.stop)
	p.done.Wait()
	return errors.Join(p.write(), p.write(), p.lock.Close()) // what the first one calls may change something
}

// lineMessages turns blocks into ordinary messages, one a line, for pipelines without a detect buffer.
type lineMessages struct{ in *fileLines }

// Connect does nothing: the input is connected.
func (m *lineMessages) Connect(context.Context) error { return nil }

// ReadBatch returns the lines of one block. The messages own their memory, for nobody knows how long they live.
func (m *lineMessages) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	for {
		b, err := m.in.next(ctx)
		if err != nil {
			return nil, nil, err
		}
		acked := func() {}
		if m.in.kept != nil {
			acked = m.in.kept.hand(b)
		}
		batch := m.batch(b)
		b.Release()
		if len(batch) > 0 {
			return batch, func(_ context.Context, err error) error {
				if err == nil {
					acked()
				}
				return nil
			}, nil
		}
		acked()
	}
}

func (m *lineMessages) batch(b *event.Block) (batch service.MessageBatch) {
	data := append([]byte(nil), b.Data...)
	for i, line := range b.Lines {
		position := b.Partition + "@" + strconv.FormatInt(line.Off, 10)
		if line.Fault != "" {
			m.in.log.Errorf("file_lines: %s, byte %d: %s: %.200q", b.Meta["path"], line.Off, line.Fault, b.Line(i))
		}
		if line.Fault == faultUnreadable {
			continue // its bytes are the error's text
		}
		msg := service.NewMessage(data[line.Start:line.End:line.End])
		msg.MetaSetMut("path", b.Meta["path"])
		msg.MetaSetMut("position", position)
		if line.Fault != "" {
			msg.SetError(lineError(line.Fault))
		}
		batch = append(batch, msg)
	}
	return batch
}

// lineError flags a message whose line is no whole line, as Benthos flags what failed processing.
type lineError string

func (e lineError) Error() string { return "file_lines: " + string(e) }

// Close does nothing: the input closes itself.
func (m *lineMessages) Close(context.Context) error { return nil }
