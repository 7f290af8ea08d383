package tocsin

import "encoding/binary"

// Severity is how bad a hit is; 0 is what the manifest says.
type Severity uint16

// The severities.
const (
	Informational Severity = iota + 1
	Low
	Medium
	High
	Critical
)

const (
	hitSize = 16
	noteMax = 4096
)

// Hits is the answer: hits from the beginning of the output's space, notes behind them. Rows ascend, and within a row rules do.
//
// What does not fit is left out and noted; the host then calls again with more room, so a rule need not care.
type Hits struct {
	header []byte // of the batch
	out    []byte
	off    int // of the output's space, from the batch
	rows   int
	count  int
	notes  int // where notes begin
	end    int // and end
	more   int // bytes to ask for, 0 if all fitted
	note   Note
}

func (h *Hits) open(batch []byte, rows int) {
	off, n := u32(batch, 28), u32(batch, 32)
	*h = Hits{header: batch[:64], out: batch[off : off+n : off+n], off: off, rows: rows, notes: n, end: n}
}

// Add reports a row, with the severity that the manifest gives the rule.
func (h *Hits) Add(row int, rule uint32) { h.AddAs(row, rule, 0) }

// AddAs reports a row with a severity.
func (h *Hits) AddAs(row int, rule uint32, severity Severity) {
	h.note.close()
	if h.more > 0 || (h.count+1)*hitSize > h.notes && !h.shift() {
		h.want(hitSize)
		return
	}
	rec := h.out[h.count*hitSize:][:hitSize]
	le := binary.LittleEndian
	le.PutUint32(rec, uint32(row))
	le.PutUint32(rec[4:], rule)
	le.PutUint32(rec[8:], uint32(severity))
	le.PutUint32(rec[12:], 0)
	h.count++
}

// Note begins the note of the hit that was added last. It is complete when the next hit is added, or the call returns.
func (h *Hits) Note() *Note {
	h.note.close()
	h.note = Note{hits: h}
	if h.more > 0 || h.count == 0 {
		return &h.note
	}
	if h.end == h.notes { // the first note: one hit a row has room before it, or the hits that are there already
		h.notes = min(max(h.rows, h.count)*hitSize, len(h.out))
		h.end = h.notes
	}
	free := len(h.out) - h.end
	if free < 64 {
		h.want(noteMax)
		return &h.note
	}
	h.note.open(h.out[h.end+4:][:min(free-4, noteMax)])
	return &h.note
}

// noted ends a note of n bytes, or one that found no room.
func (h *Hits) noted(n int, fits bool) {
	if !fits && len(h.out)-h.end-4 < noteMax {
		h.want(noteMax)
		return
	}
	binary.LittleEndian.PutUint32(h.out[h.end:], uint32(n))
	binary.LittleEndian.PutUint32(h.out[h.count*hitSize-4:], uint32(h.off+h.end))
	h.end += 4 + n
}

// shift makes room for hits by moving the notes behind them towards the end.
func (h *Hits) shift() bool {
	by := (len(h.out) - h.end) / 2 &^ 15
	if h.end == h.notes || by == 0 {
		return false
	}
	copy(h.out[h.notes+by:], h.out[h.notes:h.end])
	for i := range h.count {
		rec := h.out[i*hitSize+12:]
		if note := binary.LittleEndian.Uint32(rec); note != 0 {
			binary.LittleEndian.PutUint32(rec, note+uint32(by))
		}
	}
	h.notes, h.end = h.notes+by, h.end+by
	return true
}

func (h *Hits) want(bytes int) { h.more = max(h.more, 2*len(h.out)+bytes) }

// finish writes what the answer is, once all is said.
func (h *Hits) finish() int32 {
	h.note.close()
	used, count, code := h.count*hitSize, h.count, int32(0)
	if h.end > h.notes {
		used = h.end
	}
	if h.more > 0 {
		used, count, code = h.more, 0, int32(TooSmall)
	}
	binary.LittleEndian.PutUint32(h.header[36:], uint32(used))
	binary.LittleEndian.PutUint32(h.header[56:], uint32(count))
	return code
}
