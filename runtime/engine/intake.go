package engine

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// Intake turns blocks of lines into items in the one recorded order. Blocks are decoded in parallel; the order is decided
// by one goroutine. Of bounded partitions the next row comes from the one with the lowest watermark, ties by name, however
// large the blocks are and whenever they arrive; live partitions follow one another as they came.
type intake struct {
	spec  *Spec
	graph *Graph
	now   func() time.Time
	parts map[string]*partition
	heap  []*partition // bounded ones that were announced and have not finished, by (low, name)
	fresh []*partition // announced, and it is not said yet: before any row
	live  []*decoded   // blocks of live partitions, in order of arrival
	work  chan *decoded
	pool  []*decoded
	projs map[string]*event.Projection // by members, format and header
	used  []*decoded                   // used up in this engine block: recycled after it
	await []func()                     // to call after the next commit
	idler idler
	begun int    // partitions that begin somewhere, to be committed
	halts []Halt // of partitions that stopped, to be said

	stats Stats
}

// Stats counts what came in.
type Stats struct {
	Events  int64 // lines taken, whatever became of them
	Errors  int64
	Late    int64 // rows too late for an operator, or before any
	Dropped int64 // on_missing: drop
	Skipped int64 // read again after a restart
	Bytes   int64
	Rows    int64 // rows of operators that leave
	Revised int64 // times that one of them was said anew, because of a late row

	Duplicates  int64 // wanted keys that stood twice in an object: the last counts
	InvalidUTF8 int64 // lines that were mended

	Resent   int64 // rows of the last run that were not acknowledged, sent again
	Sent     int64 // rows that outputs have acknowledged
	Alerts   int64 // alerts among them; with lanes, alerts that were said, since several lanes may have one
	Rejected int64 // times a row was rejected and sent again
	Refused  int64 // rows that an output would not take; error rows went instead
	Waiting  int64 // rows that wait for an output

	Counts // caps that operators hit, failures of plugins
}

// Counts are the caps that operators hit and the failures of plugins, in rows.
type Counts = operator.Counts

// partition is one source of rows: a file, a topic's partition, a connection.
type partition struct {
	name    string
	meta    map[string]string
	origin  []byte
	seed    [8]byte
	members []member
	forms   []form // how its lines may be read, in the order of members; empty: not known yet
	want    []event.Field
	header  []byte           // of formats that have one: the first line
	headed  string           // why there is none
	low     int64            // the watermark by which bounded partitions take turns
	next    int64            // position after the last line taken
	fault   int64            // one more than the position of a fault that takes no bytes, such as a file cut short: said once
	stored  map[string]int64 // watermark by stream, from the last run
	dirty   bool
	logged  uint64 // the epoch that has its newest record, or 0
	known   bool   // announced
	done    bool
	halted  bool // its records do not fit their stream: nothing more is taken of it in this run
	binary  bool // some of its forms read bytes, which must not be mended
	isLive  bool
	queue   []*decoded
	waiting int           // of live ones: blocks that wait
	heard   time.Duration // of live ones: when the last record was taken, by the intake's clock
	idle    []bool        // by member: its stream holds the partition to be idle
}

// member is a stream that a partition may feed, and the partition's index there.
type member struct{ stream, part int32 }

// form is how lines are read for the members from <= i < to.
type form struct {
	proj     *event.Projection // nil: its header cannot be used
	from, to int
}

// verdict is what a line turned out to be.
type verdict uint8

const (
	isRow verdict = iota
	isError
	isLate // has no place in event time: on_missing: late, or future
	isDropped
	isHeader
	isStop // its schema does not fit its stream: nothing of the partition is taken from here on
)

// decoded is a block whose lines were projected.
type decoded struct {
	part  *partition
	block *event.Block
	proj  *event.Projection // the first that fits batch
	batch *event.Batch
	lines []line
	at    int
	ready chan struct{}
}

type line struct {
	ts      int64
	id      event.ID // if named
	named   bool     // the stream tells its events apart otherwise than by their positions
	row     int32    // in the batch; -1: none
	member  int32    // index in the partition's members; -1: none
	verdict verdict
	reason  string
	detail  string
}

// fault is a line that becomes a row of the error or late output without any operator.
type fault struct {
	item   int // index in the block's items
	kind   string
	stream string
	reason string
	detail string
	part   *partition
	off    int64
	ts     int64
	raw    []byte
}

func newIntake(spec *Spec, g *Graph, now func() time.Time) *intake {
	return &intake{spec: spec, graph: g, now: now, parts: map[string]*partition{}, work: make(chan *decoded, 1024), projs: map[string]*event.Projection{}}
}

// start lets workers decode blocks.
func (in *intake) start(workers int) {
	for range workers {
		go func() {
			for d := range in.work {
				in.decode(d)
				close(d.ready)
			}
		}()
	}
}

func (in *intake) close() { close(in.work) }

// partition finds or makes the partition that a block belongs to.
func (in *intake) partition(b *event.Block) *partition {
	p, ok := in.parts[b.Partition]
	if !ok {
		p = in.add(b.Partition)
	}
	if p.meta == nil {
		p.meta, p.isLive = b.Meta, b.Live
		in.route(p)
	}
	if b.Origin != nil && string(b.Origin) != string(p.origin) {
		p.origin, p.dirty = slices.Clone(b.Origin), true
	}
	return p
}

func (in *intake) add(name string) *partition {
	p := &partition{name: name, seed: event.PartitionSeed(name), low: operator.NegInf}
	in.parts[name] = p
	return p
}

// route finds the streams that may take the partition's events: up to the first without a condition on the content.
func (in *intake) route(p *partition) {
	for i := range in.spec.Streams {
		s := &in.spec.Streams[i]
		if !s.Takes(p.meta) {
			continue
		}
		w, ok := p.stored[s.Name]
		if !ok {
			w = operator.NegInf
		}
		part := in.graph.src[i].add(w)
		if ok { // it holds the stream's watermark from the start, not only once its own announcement is said
			in.graph.src[i].resume(part)
		}
		p.members, p.idle = append(p.members, member{int32(i), int32(part)}), append(p.idle, false)
		if p.want = append(p.want, s.Reads...); s.Where == nil {
			break
		}
	}
	slices.Sort(p.want)
	p.want = slices.Compact(p.want)
}

// form decides how a partition's lines are read, when the first of them have come.
func (in *intake) form(p *partition, b *event.Block) {
	for i := 0; i < len(p.members); {
		f, to := in.spec.Streams[p.members[i].stream].Format, i+1
		for to < len(p.members) && in.spec.Streams[p.members[to].stream].Format == f {
			to++
		}
		p.forms = append(p.forms, form{in.projection(p, b, f), i, to})
		p.binary = p.binary || f != nil && f.Binary()
		i = to
	}
}

// projection returns the one projection of the members' fields in a format; nil, with the reason in headed, if the header that it
// needs cannot be had.
func (in *intake) projection(p *partition, b *event.Block, f *event.Format) *event.Projection {
	key := fmt.Sprintf("%p %v", f, p.want)
	if f != nil && f.NeedsHeader() {
		if p.head(b); p.headed != "" {
			return nil
		}
		under, err := f.WithHeader(p.header)
		if err != nil {
			p.headed = err.Error()
			return nil
		}
		f = under
		key += string(p.header)
	}
	if in.projs[key] == nil && f == nil {
		in.projs[key] = event.NewProjection(in.spec.Fields, p.want)
	} else if in.projs[key] == nil {
		in.projs[key] = f.Projection(in.spec.Fields, p.want)
	}
	return in.projs[key]
}

// head takes the header from the partition's first line, which the epochs keep: a file is mostly not read from its start.
func (p *partition) head(b *event.Block) {
	switch {
	case p.header != nil:
	case p.next > 0:
		p.headed = "reading did not begin with the first line; name the fields in the pipeline"
	case b.Lines[0].Fault != "":
		p.headed = "the first line is " + b.Lines[0].Fault
	default:
		b.Mend(0)
		p.header, p.dirty = slices.Clone(b.Line(0)), true
	}
}

// push takes a block from an input. Called from the engine's goroutine.
func (in *intake) push(b *event.Block) {
	p := in.partition(b)
	if !p.known && (p.isLive || b.Mark == event.Announce) {
		p.known = true
		in.fresh = append(in.fresh, p)
		if p.isLive {
			p.heard = in.idler.clock
			in.idler.live = append(in.idler.live, p)
		} else {
			in.rise(p)
		}
	}
	if b.Mark == event.Announce && b.From > p.next { // kept at once: another start must not begin elsewhere
		p.next, p.dirty = b.From, true
		in.begun++
	}
	d := &decoded{}
	if n := len(in.pool); n > 0 {
		d, in.pool = in.pool[n-1], in.pool[:n-1]
	}
	d.part, d.block, d.ready = p, b, make(chan struct{})
	switch {
	case p.halted:
		in.hold(d)
		return
	case b.Mark == event.Announce:
		in.used = append(in.used, d)
	case p.isLive:
		p.waiting++
		in.live = append(in.live, d)
	default:
		p.queue = append(p.queue, d)
	}
	if len(b.Lines) == 0 {
		close(d.ready)
		return
	}
	if p.forms == nil {
		in.form(p, b)
	}
	in.work <- d
}

// recycle gives back the blocks that were used up in the last engine block.
func (in *intake) recycle() {
	for _, d := range in.used {
		if d.block.Committed != nil && !d.part.halted {
			in.await = append(in.await, d.block.Committed)
		}
		d.block.Release()
		if d.batch != nil {
			d.batch.Reset()
		}
		d.part, d.block, d.lines, d.at = nil, nil, d.lines[:0], 0
		in.pool = append(in.pool, d)
	}
	in.used = in.used[:0]
}

// decode projects every line of a block. Runs beside the engine: it touches nothing but the block's own.
func (in *intake) decode(d *decoded) {
	p := d.part
	proj := p.projection()
	if d.batch == nil || proj != nil && d.proj != proj {
		if d.proj = proj; proj == nil {
			proj = event.NewProjection(in.spec.Fields, nil)
		}
		d.batch = proj.NewBatch()
	}
	d.batch.Source = d.block
	if len(p.forms) > 1 || len(p.forms) == 1 && proj != nil && !proj.JSON() {
		for _, f := range p.forms {
			d.batch.Forms = append(d.batch.Forms, f.proj)
		}
	}
	d.lines = d.lines[:0]
	for i := range d.block.Lines {
		d.lines = append(d.lines, in.judge(d, i))
	}
}

// projection is the first form's that has one; all of them have the same columns. Nil: no line will be a row.
func (p *partition) projection() *event.Projection {
	for _, f := range p.forms {
		if f.proj != nil {
			return f.proj
		}
	}
	return nil
}

// judge makes a line a row, or says why not.
func (in *intake) judge(d *decoded, i int) line {
	l := &d.block.Lines[i]
	out := line{row: -1, member: -1, verdict: isError}
	if l.Fault != "" {
		out.reason = l.Fault
		return out
	}
	p := d.part
	if len(p.members) == 0 {
		out.reason, out.detail = "no_stream", "no stream's `match` takes this source"
		return out
	}
	if !p.binary && d.block.Mend(i) {
		d.batch.InvalidUTF8++
	}
	if p.header != nil && string(d.block.Line(i)) == string(p.header) {
		out.verdict = isHeader
		return out
	}
	for n := range p.forms {
		if in.read(&out, d, n, i) {
			break
		}
	}
	return out
}

// read reads line i of a block in form n, and says whether it is settled what becomes of it.
func (in *intake) read(out *line, d *decoded, n, i int) bool {
	f := &d.part.forms[n]
	if f.proj == nil {
		out.reason, out.detail = cmp.Or(out.reason, "no_header"), cmp.Or(out.detail, d.part.headed)
		return false
	}
	row := d.batch.Rows
	if d.part.binary && !f.proj.Binary() && !utf8.Valid(d.block.Line(i)) { // mending would spoil it for the others
		out.reason, out.detail = cmp.Or(out.reason, f.proj.Reason(nil)), cmp.Or(out.detail, "it is not UTF-8")
		return false
	}
	if err := f.proj.Append(d.batch, d.block.Line(i)); err != nil {
		if unfit(out, err) {
			return true
		}
		out.reason, out.detail = cmp.Or(out.reason, f.proj.Reason(err)), cmp.Or(out.detail, err.Error())
		return false
	}
	if d.block.Beside != nil {
		f.proj.Beside(d.batch, i, d.block.Beside)
	}
	m := in.pick(d.part.members[f.from:f.to], d.batch, row)
	if m < 0 && n+1 < len(d.part.forms) {
		d.batch.Undo()
		out.reason, out.detail = "no_stream", "no stream's `where` takes this event"
		return false
	}
	d.batch.Line, d.batch.Form = append(d.batch.Line, int32(i)), append(d.batch.Form, uint16(n))
	out.row = int32(row)
	if m < 0 {
		out.reason, out.detail = "no_stream", "no stream's `where` takes this event"
		return true
	}
	out.member = int32(f.from) + m
	if f.proj.Binary() && unfit(out, d.batch.Unfit) {
		return true
	}
	in.when(out, d, row)
	in.name(out, d, row, i)
	return true
}

// name works out the id of a row whose stream has another one than its position.
func (in *intake) name(out *line, d *decoded, row, i int) {
	s := &in.spec.Streams[d.part.members[out.member].stream]
	switch {
	case s.ID.Content: // a hash of a hash, since the text may be long
		h := sha256.Sum256(bytes.TrimSpace(d.block.Line(i)))
		out.id, out.named = event.Hash([]byte("content"), []byte(s.Name), h[:]), true
	case s.ID.ByField:
		if v := d.batch.Value(s.ID.Field, row); !v.Missing() {
			var scratch [64]byte
			out.id, out.named = event.Hash([]byte("field"), []byte(s.Name), event.AppendKey(scratch[:0], v)), true
		}
	}
}

// unfit says whether an error is that a schema does not fit the stream, which stops the partition here.
func unfit(out *line, err error) bool {
	var u *event.Unfit
	if !errors.As(err, &u) {
		return false
	}
	out.verdict, out.reason, out.detail = isStop, "", u.Error()
	return true
}

// pick returns the first member whose condition holds.
func (in *intake) pick(members []member, b *event.Batch, row int) int32 {
	for i, m := range members {
		if c := in.spec.Streams[m.stream].Where; c == nil || c.Match(batchRow{b, row}) {
			return int32(i)
		}
	}
	return -1
}

type batchRow struct {
	b *event.Batch
	i int
}

func (r batchRow) Value(f event.Field) event.Value { return r.b.Value(f, r.i) }

// when finds the row's time, or what becomes of it without one.
func (in *intake) when(out *line, d *decoded, row int) {
	s := &in.spec.Streams[d.part.members[out.member].stream]
	v := d.batch.Value(s.Time.Field, row)
	var err error
	if !v.Missing() {
		near := d.block.Time
		if near == 0 && s.Time.Format.NeedsYear() {
			near = in.now().UnixMilli()
		}
		if out.ts, err = s.Time.Format.Near(v, near); err == nil {
			out.verdict, out.reason, out.detail = isRow, "", ""
			if d.block.Live && s.Future > 0 && out.ts > in.now().UnixMilli()+s.Future {
				out.verdict, out.reason = isLate, "future"
			}
			return
		}
		out.reason, out.detail = "bad_time", err.Error()
	} else {
		out.reason, out.detail = "no_time", "field "+in.spec.Fields.Path(s.Time.Field)+" is missing"
	}
	switch s.Time.OnMissing {
	case MissingLate:
		out.verdict = isLate
	case MissingDrop:
		out.verdict = isDropped
	case MissingArrival:
		out.verdict, out.ts = isRow, in.now().UnixMilli()
	}
}

// draw appends up to about n items in order, and the faults among them. It stops early where it would have to wait for an
// input. Announcements wait for something to be drawn: until then all that the input announces at its start have come.
func (in *intake) draw(items []Item, faults []fault, n int) ([]Item, []fault) {
	items = in.idle(items)
	if in.head() == nil {
		return items, faults
	}
	for _, p := range in.fresh {
		items = p.say(event.Announce, items)
		p.heard = in.idler.clock
		clear(p.idle)
	}
	in.fresh = in.fresh[:0]
	for len(items) < n {
		d := in.head()
		if d == nil {
			break
		}
		p := d.part
		// A bounded partition stays the one to take while nobody has a lower watermark.
		for len(items) < n && d.at < len(d.lines) {
			if d.lines[d.at].verdict == isStop {
				in.halt(d)
				break
			}
			items, faults = in.take(d, items, faults)
			if !p.isLive && len(in.heap) > 1 && in.sink() {
				break
			}
		}
		if d.at >= len(d.lines) && !p.halted {
			items = in.finish(d, items)
		}
	}
	return items, faults
}

// head is the decoded block that the next item comes from, its opening mark said; nil: it is not there yet.
func (in *intake) head() *decoded {
	var d *decoded
	switch {
	case len(in.live) > 0:
		d = in.live[0]
	case len(in.heap) > 0 && len(in.heap[0].queue) > 0:
		d = in.heap[0].queue[0]
	default:
		return nil
	}
	<-d.ready
	return d
}

// take makes an item of the next line.
func (in *intake) take(d *decoded, items []Item, faults []fault) ([]Item, []fault) {
	p, l, src := d.part, &d.lines[d.at], &d.block.Lines[d.at]
	d.at++
	if src.Off < p.next && !p.isLive || src.Next == src.Off && p.fault == src.Off+1 {
		in.stats.Skipped++
		return items, faults
	}
	if src.Next == src.Off {
		p.fault = src.Off + 1
	}
	p.next, p.dirty, p.heard = max(p.next, src.Next), true, in.idler.clock
	in.stats.Bytes += int64(src.End - src.Start)
	if l.verdict == isHeader {
		return append(items, Item{Stream: -1}), faults
	}
	in.stats.Events++
	if l.verdict == isRow {
		m := p.members[l.member]
		p.idle[l.member] = false
		if !l.named {
			l.id = event.EventID(p.seed, src.Off)
		}
		items = append(items, Item{Stream: m.stream, Part: m.part, Row: Row{TS: l.ts, Name: operator.Named(l.id), Batch: d.batch, Row: l.row}})
		p.low = max(p.low, in.graph.src[m.stream].after(l.ts))
		return items, faults
	}
	items = append(items, Item{Stream: -1})
	f := fault{item: len(items) - 1, kind: "error", reason: l.reason, detail: l.detail, part: p, off: src.Off, ts: l.ts, raw: d.block.Line(d.at - 1)}
	if l.member >= 0 {
		f.stream = in.spec.Streams[p.members[l.member].stream].Name
	}
	switch l.verdict {
	case isDropped:
		in.stats.Dropped++
		return items, faults
	case isLate:
		in.stats.Late++
		f.kind, f.raw = "late", d.batch.Event(l.row)
	default:
		in.stats.Errors++
	}
	return items, append(faults, f)
}

// halt stops a partition before a row that does not fit its stream. Its position, and the watermark that it holds, stay as they are.
func (in *intake) halt(d *decoded) {
	p, l := d.part, &d.lines[d.at]
	p.halted = true
	in.halts = append(in.halts, Halt{p.name, d.block.Lines[d.at].Off, l.detail})
	if p.isLive {
		in.live = slices.DeleteFunc(slices.Clone(in.live), func(x *decoded) bool { return x.part == p })
		return
	}
	in.leave(p)
	for _, x := range p.queue {
		<-x.ready
		in.used = append(in.used, x)
	}
	p.queue = nil
}

// hold takes a block of a partition that has stopped: a live input gets no credit for it and reads no further, a bounded one must
// come to its end.
func (in *intake) hold(d *decoded) {
	close(d.ready)
	if p := d.part; !p.isLive || len(d.block.Lines) == 0 {
		in.used = append(in.used, d)
	}
}

// finish takes a block that is used up off its queue and says its mark.
func (in *intake) finish(d *decoded, items []Item) []Item {
	p := d.part
	in.used = append(in.used, d)
	if d.batch != nil {
		in.stats.Duplicates += int64(d.batch.Duplicates)
		in.stats.InvalidUTF8 += int64(d.batch.InvalidUTF8 + d.block.Mended)
	}
	if p.isLive {
		if len(d.block.Lines) == 0 { // more may be there than could be read
			p.heard = in.idler.clock
		}
		in.live = in.live[1:]
		p.waiting--
	} else {
		p.queue = slices.Delete(p.queue, 0, 1)
	}
	if d.block.Mark == event.Finished && !p.done {
		p.done = true
		if !p.isLive {
			in.leave(p)
		}
	}
	return p.say(d.block.Mark, items)
}

// say appends a mark on the partition: one position, however many streams it may feed.
func (p *partition) say(m event.Mark, items []Item) []Item {
	if m == event.NoMark {
		return items
	}
	for i, x := range p.members {
		items = append(items, Item{Stream: x.stream, Part: x.part, Mark: m, Same: i > 0})
	}
	return items
}

// The heap of bounded partitions by (low, name). Only the top changes, and only upward.

func turn(a, b *partition) int { return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(a.name, b.name)) }

// rise adds a partition.
func (in *intake) rise(p *partition) {
	in.heap = append(in.heap, p)
	h := in.heap
	for i := len(h) - 1; i > 0 && turn(h[i], h[(i-1)/2]) < 0; i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

// sink puts the top where it belongs and says whether another one took its place.
func (in *intake) sink() bool {
	h := in.heap
	for i, c := 0, 1; c < len(h); i, c = c, 2*c+1 {
		if c+1 < len(h) && turn(h[c+1], h[c]) < 0 {
			c++
		}
		if turn(h[i], h[c]) <= 0 {
			return i > 0
		}
		h[i], h[c] = h[c], h[i]
	}
	return true
}

// leave removes a partition that has finished: the top, since it had its turn.
func (in *intake) leave(p *partition) {
	i, n := slices.Index(in.heap, p), len(in.heap)-1
	if i != 0 {
		return // finished in the block of its last rows: it leaves when its turn comes
	}
	in.heap[0], in.heap[n] = in.heap[n], nil
	if in.heap = in.heap[:n]; n > 1 {
		in.sink()
	}
}

// record is what an epoch keeps of a partition: where to go on, its watermarks, and how its input knows it again.
func (in *intake) record(dst []byte, p *partition) []byte {
	dst = binary.AppendVarint(dst, p.next)
	dst = binary.AppendVarint(dst, p.low)
	dst = binary.AppendVarint(dst, p.fault)
	dst = event.AppendBytes(dst, p.origin)
	marks := maps.Clone(p.stored)
	if marks == nil {
		marks = map[string]int64{}
	}
	for _, m := range p.members {
		marks[in.spec.Streams[m.stream].Name] = in.graph.src[m.stream].parts[m.part].w
	}
	dst = binary.AppendUvarint(dst, uint64(len(marks)))
	for _, name := range slices.Sorted(maps.Keys(marks)) {
		dst = event.AppendBytes(dst, []byte(name))
		dst = binary.AppendVarint(dst, marks[name])
	}
	if p.header != nil {
		dst = event.AppendBytes(dst, p.header)
	}
	return dst
}

// load takes back what record wrote.
func (in *intake) load(name string, epoch uint64, rec []byte) error {
	r := event.Reader{B: rec}
	p := in.add(name)
	p.logged = epoch
	p.next, p.low, p.fault, p.origin = r.Int(), r.Int(), r.Int(), slices.Clone(r.Bytes())
	p.stored = map[string]int64{}
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		stream := string(r.Bytes())
		p.stored[stream] = r.Int()
	}
	if len(r.B) > 0 {
		p.header = slices.Clone(r.Bytes())
	}
	if r.Bad || len(r.B) > 0 {
		return fmt.Errorf("the position of %s is damaged", name)
	}
	return nil
}

// finished says whether every partition that was announced has finished and nothing waits.
func (in *intake) finished() bool {
	return len(in.heap) == 0 && len(in.live) == 0 && len(in.fresh) == 0
}

// endLive says that the live partitions have ended.
func (in *intake) endLive() (blocks []*event.Block) {
	for _, name := range slices.Sorted(maps.Keys(in.parts)) {
		if p := in.parts[name]; p.isLive && p.known && !p.done && !p.halted {
			blocks = append(blocks, &event.Block{Partition: name, Meta: p.meta, Live: true, Mark: event.Finished})
		}
	}
	return blocks
}
