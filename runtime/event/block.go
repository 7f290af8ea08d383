package event

// Mark is what a source says about a partition in band, in its place among the partition's rows.
type Mark uint8

// The marks. A partition is announced before its first row; Finished comes after its last.
const (
	NoMark Mark = iota
	Announce
	CaughtUp
	Idle
	Finished
	Revoked
	Clock // the wall clock moves an idle stream on; the engine's own, never an input's
)

// Line is one line of a block. Off is its position in its partition: the byte offset of its first byte in the
// uncompressed file, or the arrival number. Fault is empty, or the reason why the line is no event (`line_too_long`,
// `truncated`); its bytes are then what could be read of it, possibly none.
type Line struct {
	Off        int64
	Start, End uint32 // in Block.Data, without the newline
	Next       int64  // the position after this line: where reading goes on
	Fault      string
}

// Block is a run of lines of one partition, as an input read them, handed over whole. The receiver calls Release exactly
// once when it has taken every row; that is the input's credit to read on, and its memory may then be used again.
type Block struct {
	Partition string            // identity of the partition: for a file its first-seen path and generation
	Meta      map[string]string // metadata that streams match on: path, topic, ...; shared by all blocks of a partition
	Origin    []byte            // what the input keeps with the position to know its partition again; opaque
	Time      int64             // ms: about when its lines were written, for times without year; 0: now
	From      int64             // with Announce: where reading begins, if nothing of the partition was read before
	Live      bool              // false: bounded, read in the order of watermarks
	Data      []byte
	Lines     []Line
	Mended    int     // lines that its input decoded, and which had bytes that are no text
	Mark      Mark    // said before the lines, except Finished: after them
	Committed func()  // if set, called once the epoch that has all its rows is on disk
	Beside    Beside  // nil: the lines are all there is
	Schemas   Schemas // of lines that begin with the id of a schema; nil: none are known
	free      func(*Block)
}

// Beside gives what came with a line without being in it, such as a Kafka record's key: it appends the text of a path, taken
// apart, to dst. ok says that the path is one of its own, whether the line has it or not; only paths that begin with an underscore
// are asked for. Goroutines that decode call it, until Release.
type Beside func(line int, path []string, dst []byte) (kind Kind, text []byte, ok bool)

// OnRelease sets what Release does.
func (b *Block) OnRelease(free func(*Block)) { b.free = free }

// Release gives the block back to the input that made it.
func (b *Block) Release() {
	if b.free != nil {
		b.free(b)
	}
}

// Line returns the bytes of line i: a view, valid until Release.
func (b *Block) Line(i int) []byte { return b.Data[b.Lines[i].Start:b.Lines[i].End] }

// Mend replaces what is no UTF-8 in line i, and says whether there was any: what comes out is JSON, whoever reads it. The line
// stands at the end of Data then.
func (b *Block) Mend(i int) bool {
	line := b.Line(i)
	text := Mend(line)
	if len(text) == len(line) {
		return false
	}
	l := &b.Lines[i]
	l.Start = uint32(len(b.Data))
	b.Data = append(b.Data, text...)
	l.End = uint32(len(b.Data))
	return true
}
