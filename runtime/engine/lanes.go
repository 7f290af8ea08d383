package engine

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// Lane is a way out for rows, with an outbox of its own: what its output does not take waits on disk, and no other lane for it.
type Lane struct {
	Name    string
	Was     string           // the lane of the state whose rows it takes over; "": none
	Where   *match.Condition // on rows, over Spec.LaneFields; nil takes every row
	Flying  int              // batches that its output may have and not acknowledge; 0: no bound but flyingMax
	Retries int              // of a row that its output rejects while it takes others; 0: Options.Retries
	Waiting int64            // bytes of rows that may wait before no more events are read; 0: LaneWaiting
	Block   bool             // a batch is one message
}

// LanesMax is how many lanes a pipeline may have, LaneFlyingMax the most batches that one may have on their way.
const (
	LanesMax      = 32
	LaneFlyingMax = 64
)

// LaneWaiting is how many bytes of rows may wait in a lane if nobody says.
const LaneWaiting = 4 << 30

// blockMax is how many bytes a lane's batch has, but for a row that is longer.
const blockMax = 1 << 20

// LaneMeta are the fields that a lane's condition reads of a row's metadata; all others are of its payload.
var LaneMeta = []string{"kind", "operator", "stream", "reason", "revision", "late_by_ms"}

// router says which lanes take a row. One goroutine uses it.
type router struct {
	lanes   []Lane
	meta    [6]event.Field // of LaneMeta
	payload *event.Projection
	batch   *event.Batch
	row     laneRow
}

// newRouter returns nil if there are no lanes.
func newRouter(spec *Spec) *router {
	if len(spec.Lanes) == 0 {
		return nil
	}
	x := &router{lanes: spec.Lanes}
	if spec.LaneFields == nil {
		return x
	}
	for i, name := range LaneMeta {
		x.meta[i] = spec.LaneFields.Add(name)
	}
	var reads []event.Field
	for _, l := range spec.Lanes {
		for _, f := range l.Where.Fields() {
			if !slices.Contains(x.meta[:], f) && !slices.Contains(reads, f) {
				reads = append(reads, f)
			}
		}
	}
	if len(reads) > 0 {
		x.payload = event.NewProjection(spec.LaneFields, reads)
		x.batch = x.payload.NewBatch()
	}
	return x
}

// laneRow is a row as conditions of lanes see it.
type laneRow struct {
	x     *router
	cells [6]event.Value // of LaneMeta
	read  bool           // the payload is in the router's batch
}

// Value returns a cell of the metadata, else of the payload.
func (r *laneRow) Value(f event.Field) event.Value {
	if i := slices.Index(r.x.meta[:], f); i >= 0 {
		return r.cells[i]
	}
	if !r.read {
		return event.Value{}
	}
	return r.x.batch.Value(f, 0)
}

// takes returns the lanes that take a row, a bit each. A payload that is no JSON object has no fields.
func (x *router) takes(o *Out) (lanes uint32) {
	r := &x.row
	*r = laneRow{x: x}
	for i, text := range []string{o.Kind, o.Operator, o.Stream, o.Reason} {
		if text != "" {
			r.cells[i] = event.Value{Kind: event.String, Text: []byte(text)}
		}
	}
	r.cells[4] = event.Value{Kind: event.Number, Text: strconv.AppendInt(nil, o.Revision, 10)}
	if o.Kind == "late" {
		r.cells[5] = event.Value{Kind: event.Number, Text: strconv.AppendInt(nil, o.LateBy, 10)}
	}
	if x.payload != nil {
		x.batch.Reset()
		r.read = x.payload.Append(x.batch, o.Payload) == nil
	}
	for i := range x.lanes {
		if x.lanes[i].Where.Match(r) {
			lanes |= 1 << i
		}
	}
	return lanes
}

// lanes are the outboxes of a run, and how rows get into them.
type lanes struct {
	boxes  []*outbox
	router *router    // nil: one lane, without a condition
	turn   int        // whose turn it is to be asked for rows
	next   uint32     // the first number that no lane of the state ever had
	main   uint64     // one past the last row of the one lane, when there was only one
	asides []*Out     // under mu: error rows for other lanes than the one that rejected the row
	untook int64      // rows that no lane took
	cut    []keptLane // as the epoch that is being cut has them
	behind bool       // a lane wants rows that are beyond its fence
}

// take gives rows of the next lane that has some for its output, or says how long to wait.
func (x *lanes) take(now time.Time) (rows []*Out, wait time.Duration) {
	for range x.boxes {
		b := x.boxes[x.turn]
		x.turn = (x.turn + 1) % len(x.boxes)
		rows, w := b.take(now)
		if len(rows) > 0 {
			return rows, 0
		}
		if w > 0 && (wait == 0 || w < wait) {
			wait = w
		}
	}
	return nil, wait
}

// output names the lane's output in messages.
func (b *outbox) output() string {
	if b.name == "" {
		return "an output"
	}
	return "the output of lane " + b.name
}

// waits is how many of its rows are not delivered.
func (b *outbox) waits() int64 { return int64(b.next-b.cursor) - b.beyond.count() }

// laneBytes is how much of its rows a lane has in memory: all lanes together have what one has alone.
func laneBytes(lanes int) int { return min(outMax/lanes, 8<<20) }

// newBoxes makes the outboxes of a pipeline.
func (r *Runner) newBoxes() {
	r.router = newRouter(r.spec)
	if r.router == nil {
		r.boxes = []*outbox{{retries: r.opt.Retries, pipeline: r.spec.Name}}
		return
	}
	refusals := newRouter(r.spec) // called under mu, from anywhere
	for i := range r.spec.Lanes {
		l := &r.spec.Lanes[i]
		b := &outbox{lane: i, name: l.Name, retries: l.Retries, pipeline: r.spec.Name, credit: l.Flying, spills: true, memory: laneBytes(len(r.spec.Lanes)), most: l.Waiting, disk: disk{places: diskMax}}
		if b.retries == 0 {
			b.retries = r.opt.Retries
		}
		if b.most == 0 {
			b.most = LaneWaiting
		}
		if r.opt.laneBytes > 0 {
			b.memory = r.opt.laneBytes
		}
		if r.opt.laneEpochs > 0 {
			b.places = r.opt.laneEpochs
		}
		b.aside = func(e *Out, open bool) (mine bool) {
			to := refusals.takes(e)
			mine = to == 0 || to&(1<<b.lane) != 0
			if to &^= 1 << b.lane; to != 0 {
				other := *e
				other.Open, other.to = open, to
				r.asides = append(r.asides, &other)
			}
			return mine
		}
		r.boxes = append(r.boxes, b)
	}
}

// routed notes which lanes take rows, and counts those that none takes.
func (r *Runner) routed(rows []*Out) []*Out {
	if r.router == nil {
		return rows
	}
	kept := rows[:0]
	for _, o := range rows {
		if o.to = r.router.takes(o); o.to != 0 {
			kept = append(kept, o)
			continue
		}
		if r.untook++; r.untook == 1 {
			r.opt.Warn("no lane takes a row (kind %s, of %s): it is counted and does not leave; a lane without `where` takes every row", o.Kind, cmp.Or(o.Operator, o.Stream))
		}
	}
	clear(rows[len(kept):])
	return kept
}

// deal gives the rows of an epoch to their lanes, of each row's revisions that a lane takes the newest. Each lane has its own copy, since it
// numbers rows, and replaces revisions, by itself.
func (r *Runner) deal(e *state.Epoch) (to [][]*Out) {
	to = make([][]*Out, len(r.boxes))
	if r.router == nil {
		to[0] = newest(r.outs)
		r.mu.Lock()
		r.boxes[0].number(to[0])
		e.Cursor, e.Beyond = r.boxes[0].marks(e.Beyond)
		r.mu.Unlock()
		for _, o := range to[0] {
			r.row = o.append(r.row[:0])
			e.Send(o.Seq, r.row)
		}
		return to
	}
	r.mu.Lock()
	asides := r.asides
	r.asides = nil
	for _, o := range append(r.outs, asides...) {
		for left := o.to; left != 0; left &= left - 1 {
			i := bits.TrailingZeros32(left)
			mine := *o
			to[i] = append(to[i], &mine)
		}
	}
	r.cut = r.cut[:0]
	for i, b := range r.boxes {
		to[i] = newest(to[i])
		b.number(to[i])
		k := b.keep()
		k.fence = b.ahead()
		r.cut = append(r.cut, k)
		e.Lane(b.id).Cursor = k.cursor
	}
	r.mu.Unlock()
	e.Cursor = r.main
	for i, b := range r.boxes {
		l := e.Lane(b.id)
		for _, o := range to[i] {
			r.row = o.append(r.row[:0])
			l.Send(o.Seq, r.row)
		}
	}
	return to
}

// full says whether so many rows wait that no more events are read: of the only lane in memory, of others on disk.
func (r *Runner) full() bool {
	if r.router == nil {
		return r.boxes[0].size+r.outSize > outMax
	}
	for _, b := range r.boxes {
		if over := int64(b.size)+b.bytes > b.most; over != b.over {
			if b.over = over; over {
				r.opt.Warn("%d MiB of rows wait in lane %s: no more events are read until its output takes some", b.most>>20, b.name)
			}
		}
		if b.over {
			return true
		}
	}
	return r.outSize > outMax
}

// keptLane is what the header says of a lane.
type keptLane struct {
	name      string
	id        uint32
	next      uint64
	cursor    uint64
	fence     uint64 // rows from here on did not leave
	beyond    runs
	rejected  int64 // in all runs
	refused   int64
	dropped   int64  // by `tocsin outbox drop`
	lastError string // of its output
	lastAt    int64  // ms; 0: never
}

// waits is how many rows of it are not delivered.
func (k *keptLane) waits() int64 { return int64(k.next-k.cursor) - k.beyond.count() }

func (k *keptLane) append(dst []byte) []byte {
	dst = event.AppendBytes(dst, []byte(k.name))
	for _, n := range []uint64{uint64(k.id), k.next, k.cursor, k.next - k.fence, uint64(len(k.beyond))} {
		dst = binary.AppendUvarint(dst, n)
	}
	for at, i := k.cursor, 0; i < len(k.beyond); at, i = k.beyond[i].till, i+1 {
		x := k.beyond[i]
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, x.from-at), x.till-x.from)
	}
	for _, n := range []int64{k.rejected, k.refused, k.dropped, k.lastAt} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return event.AppendBytes(dst, []byte(k.lastError))
}

func readLane(r *event.Reader, fenced bool) (k keptLane) {
	k.name, k.id, k.next, k.cursor = string(r.Bytes()), uint32(r.Uint()), r.Uint(), r.Uint()
	if k.fence = k.next; fenced {
		k.fence -= r.Uint()
	}
	at := k.cursor
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		x := run{from: at + r.Uint()}
		x.till = x.from + r.Uint()
		r.Bad = r.Bad || x.from <= at || x.till <= x.from || x.till > k.next
		k.beyond, at = append(k.beyond, x), x.till
	}
	k.rejected, k.refused, k.dropped, k.lastAt = int64(r.Uint()), int64(r.Uint()), int64(r.Uint()), int64(r.Uint())
	k.lastError = string(r.Bytes())
	r.Bad = r.Bad || k.cursor > k.next || k.fence > k.next
	return k
}

// adoptLanes matches the lanes of the state with those of the pipeline. Rows that wait in one that the pipeline no longer has would be
// lost without a word, so that refuses.
func (r *Runner) adoptLanes(head *header) error {
	r.next = max(head.nextLane, 1)
	left := slices.Clone(head.lanes)
	take := func(name string) (k keptLane, ok bool) {
		i := slices.IndexFunc(left, func(k keptLane) bool { return k.name == name })
		if i < 0 {
			return k, false
		}
		k = left[i]
		left = slices.Delete(left, i, i+1)
		return k, true
	}
	for i, b := range r.boxes {
		if r.router == nil {
			break
		}
		k, ok := take(b.name)
		if !ok && r.spec.Lanes[i].Was != "" {
			k, ok = take(r.spec.Lanes[i].Was)
		}
		if !ok {
			b.id = r.next
			r.next++
			continue
		}
		b.adopt(k)
	}
	for _, k := range left {
		if n := k.waits(); n > 0 {
			return fmt.Errorf("%s wait in lane %s, which the pipeline does not have; put it back, say `was: %s` in the lane that is to have them, or drop them with `tocsin outbox drop --lane %s --reason \"...\" PIPELINE`",
				rowsOf(int(n)), k.name, k.name, k.name)
		}
	}
	return nil
}

// adopt makes an outbox go on where a lane of the state was.
func (b *outbox) adopt(k keptLane) {
	b.id, b.next, b.cursor, b.from, b.fence = k.id, k.next, k.cursor, k.cursor, k.fence
	b.beyond, b.done = slices.Clone(k.beyond), k.beyond
	b.kept = k
}

// resume takes the rows that nobody has acknowledged. Those of the one lane go to the lanes that take them, if there are some now.
func (r *Runner) resume(got state.Recovered, rows []*Out) error {
	r.main = got.Next
	if r.router == nil {
		b := r.boxes[0]
		b.next, b.cursor = got.Next, got.Cursor
		for _, seq := range got.Beyond {
			b.mark(seq)
		}
		b.add(rows)
		return nil
	}
	r.outs = r.routed(rows)
	r.moved += len(rows)
	for _, b := range r.boxes {
		b.stored, b.last = r.store.Stored(b.id, b.places), got.Epoch
		b.epochs, b.bytes = r.store.Waiting(b.id)
		r.stats.Resent += b.kept.waits()
		if err := b.revisions(r.store); err != nil {
			return err
		}
	}
	return nil
}

// keep is what the header says of a lane. Under mu.
func (b *outbox) keep() keptLane {
	k := keptLane{name: b.name, id: b.id, next: b.next, dropped: b.kept.dropped, rejected: b.kept.rejected + b.rejected, refused: b.kept.refused + b.refused, lastError: b.lastError, lastAt: b.lastAt}
	if k.lastAt == 0 {
		k.lastError, k.lastAt = b.kept.lastError, b.kept.lastAt
	}
	k.cursor, k.beyond = b.cursor, slices.Clone(b.beyond)
	b.changed, b.settled = false, false
	return k
}

// run is numbers from one up to another, which is not among them; runs are some, in order, that do not touch.
type (
	run  struct{ from, till uint64 }
	runs []run
)

// add puts a number in that is not there.
func (x *runs) add(n uint64) {
	list := *x
	i, _ := slices.BinarySearchFunc(list, n, func(r run, n uint64) int { return cmp.Compare(r.from, n) })
	after, before := i < len(list) && list[i].from == n+1, i > 0 && list[i-1].till == n
	switch {
	case after && before:
		list[i-1].till = list[i].till
		list = slices.Delete(list, i, i+1)
	case after:
		list[i].from = n
	case before:
		list[i-1].till++
	default:
		list = slices.Insert(list, i, run{n, n + 1})
	}
	*x = list
}

func (x runs) has(n uint64) bool {
	i, there := slices.BinarySearchFunc(x, n, func(r run, n uint64) int { return cmp.Compare(r.from, n) })
	return there || i > 0 && n < x[i-1].till
}

// all says whether all numbers from one up to another are there.
func (x runs) all(from, till uint64) bool {
	i, there := slices.BinarySearchFunc(x, from, func(r run, n uint64) int { return cmp.Compare(r.from, n) })
	if !there {
		i--
	}
	return from >= till || i >= 0 && x[i].till >= till
}

func (x runs) count() (n int64) {
	for _, r := range x {
		n += int64(r.till - r.from)
	}
	return n
}

// lastErrorMax is how much of an output's error is kept, in bytes.
const lastErrorMax = 300

func cutText(text string, most int) string {
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " ..."
	}
	return text
}
