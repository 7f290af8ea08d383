package abi

import (
	"regexp"
	"slices"
	"strconv"
	"time"
)

// State is what a plugin remembers of a key: slots, and how many timers wait at most.
type State struct {
	Version  int
	Migrates int    // the earliest version whose state the module brings up to date; 0: none
	Slots    []Slot // by ID
	Timers   int    // a key; 0: none
	Step     int64  // ms by which the watermark of a plugin with timers moves
	byNumber [slotsMax]int8
}

// Slot is one thing that is remembered of a key.
type Slot struct {
	ID      int
	Map     bool
	Max     int   // bytes of a value
	KeyMax  int   // bytes of a key of a map
	Entries int   // of a map
	TTL     int64 // ms of event time after a value was last written; 0: for ever
}

// Slot returns the place of a slot in Slots, or -1 if the manifest has none of that id.
func (s *State) Slot(id uint32) int {
	if id >= slotsMax {
		return -1
	}
	return int(s.byNumber[id]) - 1
}

// Want is a column that comes behind those of Reads.
type Want struct {
	Name  string
	Index uint32
}

// The columns that a manifest may want, and those of timers.
const (
	ColumnEventTime uint32 = 0xFFFFFF00
	ColumnWatermark uint32 = 0xFFFFFF01
	ColumnTimerAt   uint32 = 0xFFFFFF10
	ColumnTimerTag  uint32 = 0xFFFFFF11
	ColumnFrom      uint32 = 0xFFFFFF12
)

var wants = []Want{{"event_time", ColumnEventTime}, {"watermark", ColumnWatermark}}

// Bounds of what is remembered.
const (
	slotsMax    = 16
	slotMax     = 64 << 10
	keyMax      = 1024
	keyDefault  = 64
	entriesMax  = 10_000
	timersMax   = 1024
	stateMax    = 1024 // KiB a key
	keysByMax   = 16
	versionsMax = 1 << 30
	ttlMax      = 366 * 24 * time.Hour
	stepMax     = 24 * time.Hour
)

// DefaultStateKiB is what a key may hold where neither the manifest nor the pipeline says otherwise.
const DefaultStateKiB = 64

// memory reads key_by, state, timers and timer_step.
func (r *reader) memory(m *Manifest, n *node) {
	keys := n.filled("key_by")
	r.each(keys, "key_by", keysByMax, func(x *node) {
		path := r.text(x, "a path of key_by", 512)
		i := slices.IndexFunc(m.Reads, func(f Read) bool { return f.Path == path })
		switch {
		case i < 0:
			r.wrong(x.off, "key_by names %q, which is not in reads", path)
		case slices.Contains(m.KeyBy, i):
			r.wrong(x.off, "key_by names %q twice", path)
		}
		m.KeyBy = append(m.KeyBy, i)
	})
	s := &m.State
	state, timers, step := n.filled("state"), n.filled("timers"), n.filled("timer_step")
	if state != nil {
		r.state(s, state)
	}
	if timers != nil {
		s.Timers = int(r.int(timers, "timers", 1, timersMax))
		s.Step = 1000
	}
	if step != nil {
		if s.Step = r.duration(step, "timer_step", stepMax); timers == nil {
			r.wrong(step.off, "timer_step is for plugins with timers; say how many a key may have: \"timers\": 1")
		}
	}
	m.Keyed = keys != nil
	switch remembers := len(s.Slots) > 0 || s.Timers > 0; {
	case remembers && !m.Keyed:
		r.wrong(n.off, "state and timers need key_by: paths of reads, or [] for one key for all rows")
	case m.Keyed && !remembers && r.err == nil:
		r.wrong(keys.off, "key_by is for plugins with state or timers; this one has neither")
	}
}

// filled is get for what may be null, as if it were not there.
func (n *node) filled(name string) *node {
	if x := n.get(name); x != nil && x.value != nil {
		return x
	}
	return nil
}

func (r *reader) state(s *State, n *node) {
	if !r.object(n, "state") {
		return
	}
	s.Version = int(r.int(r.need(n, "version", "a number that rises when what is kept changes its meaning"), "version", 1, versionsMax))
	if x := n.get("migrates_from"); x != nil {
		if s.Migrates = int(r.int(x, "migrates_from", 1, versionsMax)); s.Migrates >= s.Version {
			r.wrong(x.off, "migrates_from is the earliest version before %d that the module brings up to date; it is %d", s.Version, s.Migrates)
		}
	}
	r.each(r.need(n, "slots", `such as [{"id":0,"kind":"value","max":64,"ttl":"1h"}]`), "slots", slotsMax, func(x *node) { r.slot(s, x) })
	r.done(n, "state")
	slices.SortFunc(s.Slots, func(a, b Slot) int { return a.ID - b.ID })
	for i, x := range s.Slots {
		s.byNumber[x.ID] = int8(i + 1)
	}
}

func (r *reader) slot(s *State, n *node) {
	if !r.object(n, "a slot") {
		return
	}
	x := Slot{ID: int(r.int(r.need(n, "id", "a number from 0 to 15"), "id", 0, slotsMax-1))}
	if slices.ContainsFunc(s.Slots, func(o Slot) bool { return o.ID == x.ID }) {
		r.wrong(n.off, "slot %d is there twice", x.ID)
	}
	if kind := r.need(n, "kind", "value or map"); kind != nil {
		switch name := r.text(kind, "kind", 16); name {
		case "value":
		case "map":
			x.Map, x.KeyMax = true, keyDefault
		default:
			r.wrong(kind.off, "kind must be value or map; it is %q", name)
		}
	}
	x.Max = int(r.int(r.need(n, "max", "the longest value, in bytes"), "max", 1, slotMax))
	for _, y := range []struct {
		name string
		most int
		to   *int
	}{{"key_max", keyMax, &x.KeyMax}, {"entries", entriesMax, &x.Entries}} {
		at := n.get(y.name)
		switch {
		case at != nil && !x.Map:
			r.wrong(at.off, "%s is for maps", y.name)
		case at != nil:
			*y.to = int(r.int(at, y.name, 1, int64(y.most)))
		case x.Map && *y.to == 0:
			r.wrong(n.off, "%s is missing: the most keys that the map may have", y.name)
		}
	}
	if at := n.get("ttl"); at != nil {
		x.TTL = r.duration(at, "ttl", ttlMax)
	}
	r.done(n, "a slot")
	s.Slots = append(s.Slots, x)
}

// want reads the columns that come behind those of reads.
func (r *reader) want(m *Manifest, n *node) {
	r.each(n, "wants", len(wants), func(x *node) {
		name := r.text(x, "a column of wants", 32)
		i := slices.IndexFunc(wants, func(w Want) bool { return w.Name == name })
		switch {
		case i < 0:
			r.wrong(x.off, "wants may name event_time and watermark; it names %q", name)
		case slices.Contains(m.Wants, wants[i]):
			r.wrong(x.off, "%s is wanted twice", name)
		default:
			m.Wants = append(m.Wants, wants[i])
		}
	})
}

var durationForm = regexp.MustCompile(`^(\d{1,9})(ms|s|m|h|d)$`)

// duration reads a span of time such as 90s, in ms, from 1 ms up.
func (r *reader) duration(n *node, what string, most time.Duration) int64 {
	units := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	if m := durationForm.FindStringSubmatch(r.text(n, what, 32)); m != nil {
		count, _ := strconv.ParseInt(m[1], 10, 64)
		if d := count * units[m[2]].Milliseconds(); d > 0 && d <= most.Milliseconds() {
			return d
		}
	}
	r.wrong(n.off, "%s must be a time from 1ms to %dd, such as 90s, 30m or 1h", what, most/(24*time.Hour))
	return 1
}
