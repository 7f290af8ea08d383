package pipeline

import (
	"fmt"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/operator"
)

// windowKind reads which windows they are: exactly one kind, and what belongs to it.
func (d *decoder) windowKind(w *operator.Window, m *mapping) {
	found := 0
	for k := operator.Tumbling; k <= operator.Counting; k++ {
		n := m.get(k.String())
		if n == nil {
			continue
		}
		if found++; found > 1 {
			d.wrong(m.key(k.String()), "a window is of one kind, and this is %s already; make it an operator each", w.Kind)
			continue
		}
		w.Kind = k
		if k == operator.Tumbling {
			w.Size = d.span(n, "tumbling", 0, time.Millisecond)
		} else if p := d.mapping(n, k.String()); p != nil {
			d.windowShape(w, p)
			p.done()
		}
	}
	if found == 0 {
		d.wrong(m.node, "window needs its kind: tumbling with the length of a window, such as 20s, or hopping, cumulate, session or count")
	}
	offset := m.get("offset")
	if w.Offset = d.span(offset, "offset", 0, -spanMax); offset != nil && w.Kind >= operator.Session {
		d.wrong(m.key("offset"), "offset moves windows that begin at full hours and the like; a %s window begins with a row; leave it out", w.Kind)
	}
}

// windowLateness reads allowed_lateness, once the windows' kind and emit are known.
func (d *decoder) windowLateness(w *operator.Window, m *mapping) {
	n := m.get("allowed_lateness")
	w.Lateness = d.span(n, "allowed_lateness", 0, 0)
	if w.Lateness == 0 {
		return
	}
	apart, what := w.Slice(), "slices"
	if w.Kind == operator.Session {
		apart, what = w.Gap, "sessions"
	} else if w.First {
		apart, what = w.Slide, "windows"
	}
	if w.Kind == operator.Tumbling {
		apart, what = w.Size, "windows"
	}
	switch {
	case w.Kind == operator.Counting:
		d.wrong(m.key("allowed_lateness"), "allowed_lateness is for windows of time; no row is late for a count window; leave it out")
		w.Lateness = 0
	case apart <= 0: // which was said
	case w.Lateness/apart > operator.SlicesMax:
		d.wrong(n, "allowed_lateness %s would keep %d %s of a key, at most %d may be kept: allow less, or take longer ones", span(w.Lateness), w.Lateness/apart, what, operator.SlicesMax)
	case !w.First && min(w.Overlap(), w.Lateness/max(w.Slide, 1)) > operator.OverlapMax && w.Kind != operator.Session:
		d.wrong(n, "allowed_lateness %s lets a late row revise %d windows, at most %d may be: allow less, or let windows begin, or grow, less often", span(w.Lateness), min(w.Overlap(), w.Lateness/w.Slide), operator.OverlapMax)
	}
}

// windowShape reads the mapping of a kind.
func (d *decoder) windowShape(w *operator.Window, m *mapping) {
	switch w.Kind {
	case operator.Hopping, operator.Cumulate:
		name, hint := "slide", "how far apart windows begin, such as 1m"
		if w.Kind == operator.Cumulate {
			name, hint = "step", "by how much windows grow, such as 1m"
		}
		w.Size = d.span(m.need("size", "the length of a window, such as 10m"), "size", 0, time.Millisecond)
		n := m.need(name, hint)
		if w.Slide = d.span(n, name, 0, time.Millisecond); w.Size > 0 && w.Slide > 0 {
			d.windowSlide(w, n, span(w.Size), span(w.Slide))
		}
	case operator.Session:
		w.Gap = d.span(m.need("gap", "how long after its last row a session ends, such as 5m"), "gap", 0, time.Millisecond)
		n := m.get("max_duration")
		if w.MaxDuration = d.span(n, "max_duration", 0, time.Millisecond); w.MaxDuration > 0 && w.MaxDuration < w.Gap {
			d.wrong(n, "max_duration %s is shorter than gap %s, which the session of a single row lasts; make it longer", span(w.MaxDuration), span(w.Gap))
		}
	case operator.Counting:
		w.Size = int64(d.int(m.need("size", "how many rows a window is"), "size", 0, 1, 1_000_000))
		n := m.get("slide")
		w.Slide = int64(d.int(n, "slide", int(w.Size), 1, 1_000_000))
		w.Partial = d.bool(m.get("emit_partial"), "emit_partial")
		if n != nil && w.Size > 0 {
			d.windowSlide(w, n, fmt.Sprint(w.Size), fmt.Sprint(w.Slide))
		}
	}
}

// windowSlide checks that windows leave no row out and are of few enough slices.
func (d *decoder) windowSlide(w *operator.Window, at *yaml.Node, size, slide string) {
	switch n := w.Size / w.Slice(); {
	case w.Kind == operator.Cumulate && w.Size%w.Slide != 0:
		d.wrong(at, "step %s does not divide size %s, so no window would end with it; take one that does", slide, size)
	case w.Slide > w.Size:
		d.wrong(at, "slide %s is more than size %s, so rows between two windows would be in none; make it at most size", slide, size)
	case n > operator.SlicesMax:
		d.wrong(at, "size %s and %s have so little in common that a window would be made of %d slices, at most %d may be: take one that divides size, or a longer one", size, slide, n, operator.SlicesMax)
	}
}

func span(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

// kindPrint is the fingerprint of the windows' shape.
func kindPrint(w *operator.Window) []string {
	var lines []string
	switch w.Kind {
	case operator.Tumbling:
		lines = append(lines, "tumbling: "+span(w.Size))
	case operator.Hopping:
		lines = append(lines, fmt.Sprintf("hopping: %s every %s", span(w.Size), span(w.Slide)))
	case operator.Cumulate:
		lines = append(lines, fmt.Sprintf("cumulate: %s by %s", span(w.Size), span(w.Slide)))
	case operator.Session:
		lines = append(lines, fmt.Sprintf("session: gap %s, at most %s", span(w.Gap), span(w.MaxDuration)))
	case operator.Counting:
		lines = append(lines, fmt.Sprintf("count: %d every %d, partial %v", w.Size, w.Slide, w.Partial))
	}
	if w.Kind < operator.Session {
		lines = append(lines, "offset: "+span(w.Offset))
	}
	if w.Lateness > 0 {
		lines = append(lines, "allowed_lateness: "+span(w.Lateness))
	}
	return lines
}
