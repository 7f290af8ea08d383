package cli

import (
	"fmt"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const stateHelp = `Usage: tocsin state [--top N] PIPELINE

Says what the state of a pipeline that does not run holds, as of its last commit: how far each source was read, the watermarks,
and of each operator the keys, their bytes, and the N largest keys (default 5).
`

// state says what a pipeline's state holds.
func (e *env) state(args []string) int {
	f := e.flags("tocsin state")
	top := f.Int("top", 5, "")
	if err := f.Parse(args); err != nil || f.NArg() != 1 || *top < 0 {
		e.say("tocsin state: which pipeline? see `tocsin help state`")
		return wrong
	}
	src, ok := e.read(f.Arg(0))
	if !ok {
		return wrong
	}
	conf, findings := pipeline.Check(f.Arg(0), src)
	for _, x := range findings {
		e.say("%s", x)
	}
	if len(findings) > 0 {
		return wrong
	}
	report, folder, err := pipeline.DescribeState(conf)
	if err != nil {
		e.say("tocsin state: %v", err)
		return failed
	}
	e.describe(report, folder, *top)
	return done
}

func (e *env) describe(r engine.StateReport, folder string, top int) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(e.out, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("state", "%s, epoch %s", folder, count(int64(r.Epoch)))
	for _, s := range r.Sources {
		line("source", "%s, read up to %s", s.Partition, count(s.Offset))
	}
	for _, s := range r.Streams {
		line("stream", "%s, watermark %s", s.Name, watermark(s.Watermark))
	}
	for _, o := range r.Operators {
		line("operator", "%s, watermark %s, %s keys, %s bytes", o.Name, watermark(o.Watermark), count(int64(len(o.Keys))), count(o.Bytes))
		for _, k := range o.Keys[:min(top, len(o.Keys))] {
			line("", "%s bytes  %s", count(int64(k.Bytes)), keyText(k.Key))
		}
	}
	line("waiting", "%s rows that no output has acknowledged", count(int64(r.Waiting)))
}

func watermark(w int64) string {
	if engine.BeforeAny(w) {
		return "-"
	}
	return string(event.AppendTime(nil, w))
}

// keyText is a key's values as JSON, so that a number is not mistaken for a text.
func keyText(key []event.Value) string {
	var parts []string
	for _, v := range key {
		if v.Missing() {
			parts = append(parts, "null")
			continue
		}
		parts = append(parts, string(v.AppendJSON(nil)))
	}
	return strings.Join(parts, ", ")
}
