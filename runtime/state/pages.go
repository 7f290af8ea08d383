package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/s2"
)

// Flush collects pages as they are between two epochs. Pages of one group are written together, or not at all.
type Flush struct {
	// Through is the last epoch whose changes are all in pages: the log up to it goes.
	Through uint64

	pages  []page
	groups []int // where each ends
}

type page struct {
	space, bucket uint32
	data          []byte // nil: it goes
}

// Put sets a page in the group; nil removes it. Data is not copied, and must not change until the Flush is written.
func (f *Flush) Put(space, bucket uint32, data []byte) {
	f.pages = append(f.pages, page{space, bucket, data})
}

// End ends the group.
func (f *Flush) End() { f.groups = append(f.groups, len(f.pages)) }

// Pages is the number of pages collected.
func (f *Flush) Pages() int { return len(f.pages) }

// Reset empties the Flush.
func (f *Flush) Reset() {
	clear(f.pages)
	f.pages, f.groups, f.Through = f.pages[:0], f.groups[:0], 0
}

// Flush writes pages as of the last committed epoch, then forgets the log that they replace. Like Commit, it leaves the store
// unusable if it fails.
func (s *Store) Flush(f *Flush) error {
	if s.failed == nil {
		if err := s.flush(f); err != nil {
			s.failed = fmt.Errorf("state %s: pages: %w", s.opt.Dir, err)
		}
	}
	return s.failed
}

func (s *Store) flush(f *Flush) error {
	if err := s.room(); err != nil {
		return err
	}
	w := writer{s: s}
	from := 0
	for _, to := range f.groups {
		s.group(&w, f.pages[from:to])
		from = to
	}
	if f.Through <= s.through {
		return w.done()
	}
	w.flush() // all of them before the mark
	w.set([]byte("c"), put64(nil, f.Through))
	if err := w.done(); err != nil {
		return err
	}
	s.through = f.Through
	s.forget(&w)
	return w.done()
}

// group sets pages in one transaction. What is too long for one is cut into pieces, which come before: the head makes them count.
func (s *Store) group(w *writer, pages []page) {
	heads := make([]op, 0, len(pages))
	n := 0
	for _, p := range pages {
		at := pieces{p.space, p.bucket}
		old := s.long[at]
		delete(s.long, at)
		head := op{key: headKey(at)}
		if p.data != nil {
			s.packed = s2.Encode(s.packed[:cap(s.packed)], p.data)
			body, cut := s.packed, 0
			if len(body) > pageMax {
				body, s.packed = s.packed, nil // its pieces are not copied
			}
			for len(body) > pageMax {
				w.set(pieceKey(at, s.epoch, cut), body[:pageMax])
				body = body[pageMax:]
				cut++
			}
			if cut > 0 {
				s.long[at] = version{s.epoch, cut}
			}
			head.value = appendHead(make([]byte, 0, headLen+len(body)), s.epoch, cut, body)
		}
		heads = append(heads, head)
		n += len(head.key) + len(head.value) + 64
		for i := range old.pieces {
			if p.data == nil || old.epoch != s.epoch {
				heads = append(heads, op{key: pieceKey(at, old.epoch, i)})
			}
		}
	}
	if w.bytes+n > txnMax || len(w.ops)+len(heads) > rowsMax {
		w.flush()
	}
	w.ops, w.bytes = append(w.ops, heads...), w.bytes+n
}

// pieces names a page; version is where its pieces are, if it has some beside its head.
type pieces struct{ space, bucket uint32 }

type version struct {
	epoch  uint64
	pieces int
}

func headKey(at pieces) []byte {
	k := append(make([]byte, 0, 9), 'k')
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(k, at.space), at.bucket)
}

func pieceKey(at pieces, epoch uint64, n int) []byte {
	k := append(make([]byte, 0, 21), 'l')
	k = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(k, at.space), at.bucket)
	return binary.BigEndian.AppendUint32(put64(k, epoch), uint32(n))
}

// A head is the epoch that the page is as of, the number of pieces before it, a checksum of both and of what follows: the last
// piece.
const headLen = 16

func appendHead(dst []byte, epoch uint64, pieces int, body []byte) []byte {
	dst = binary.BigEndian.AppendUint32(put64(dst, epoch), uint32(pieces))
	sum := checksum(dst) ^ checksum(body)
	return append(binary.BigEndian.AppendUint32(dst, sum), body...)
}

var errPage = errors.New("a page of it is damaged; restore the folder, or start over with --fresh")

func readHead(b []byte) (v version, body []byte, err error) {
	if len(b) < headLen || checksum(b[:12])^checksum(b[headLen:]) != binary.BigEndian.Uint32(b[12:]) {
		return v, nil, errPage
	}
	return version{be64(b), int(binary.BigEndian.Uint32(b[8:]))}, b[headLen:], nil
}

// Page reads a page, or nil if there is none. It may be called while another goroutine commits, for pages that it does not
// write.
func (s *Store) Page(space, bucket uint32) (data []byte, err error) {
	at := pieces{space, bucket}
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(headKey(at))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			_, data, err = whole(txn, at, b)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("state %s: %w", s.opt.Dir, err)
	}
	return data, nil
}

// whole puts a page together.
func whole(txn *badger.Txn, at pieces, head []byte) (version, []byte, error) {
	v, body, err := readHead(head)
	if err != nil {
		return v, nil, err
	}
	if v.pieces > 0 {
		var all []byte
		for i := range v.pieces {
			p, err := get(txn, pieceKey(at, v.epoch, i))
			if err != nil {
				return v, nil, err
			}
			if len(p) == 0 {
				return v, nil, errPage
			}
			all = append(all, p...)
		}
		body = append(all, body...)
	}
	data, err := unpack(body)
	if err == nil && data == nil {
		data = []byte{}
	}
	return v, data, err
}

// forget deletes pages of the log and records that are not needed any more; a record stays while its outbox is not drained, and
// the last one always.
func (s *Store) forget(w *writer) {
	waiting := map[epochKey]bool{}
	for _, o := range s.pending {
		waiting[o.epochKey] = true
	}
	keep := s.stale[:0]
	for _, e := range s.stale {
		if e.epoch > s.through {
			keep = append(keep, e)
			continue
		}
		for i := range e.pages {
			w.del(pageKey('p', e.epochKey, i))
		}
		if e.pages = 0; waiting[e.epochKey] || e.epoch == s.epoch {
			keep = append(keep, e)
			continue
		}
		w.del(pageKey('e', e.epochKey, -1))
	}
	s.stale = keep
}
