package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const stateHelp = `Usage: tocsin state [--top N] [--operator NAME] [--key TEXT] [--json] PIPELINE
       tocsin state backup PIPELINE FILE
       tocsin state restore [--force] PIPELINE FILE

Says what the state of a pipeline holds, as of its last commit: how far each source was read, the watermarks, the rows that no output
has acknowledged, and of each operator the keys, their bytes, the oldest event time in them, and the N largest keys (default 5). The
pipeline may run meanwhile: then its process makes a copy, which lies in a temporary folder (TMPDIR) until it is read.

  --top N          keys an operator
  --operator NAME  only this one
  --key TEXT       only keys that contain the text
  --json           one JSON object

backup writes all of it to one file, also while the pipeline runs; a backup that is there is replaced. restore puts it into the
pipeline's state folder, and the next run goes on from there: what was read and said after the backup is read again, and said again
under the same ids.

  --force          there is a state already: move it into a folder old.1, old.2, ... beside the new one
`

// state says what a pipeline's state holds.
func (e *env) state(args []string) int {
	if len(args) > 0 && (args[0] == "backup" || args[0] == "restore") {
		return e.stateFile(args[0], args[1:])
	}
	f := e.flags("tocsin state")
	var v stateView
	f.IntVar(&v.top, "top", 5, "")
	f.StringVar(&v.operator, "operator", "", "")
	f.StringVar(&v.key, "key", "", "")
	f.BoolVar(&v.json, "json", false, "")
	if err := f.Parse(args); err != nil || f.NArg() != 1 || v.top < 0 {
		e.say("tocsin state: which pipeline? see `tocsin help state`")
		return wrong
	}
	conf, ok := e.checked(f.Arg(0))
	if !ok {
		return wrong
	}
	report, folder, err := pipeline.DescribeState(conf)
	if err != nil {
		e.say("tocsin state: %v", err)
		return failed
	}
	if err := v.choose(&report); err != nil {
		e.say("tocsin state: %v", err)
		return wrong
	}
	if v.json {
		return e.describeJSON(report, folder)
	}
	e.describe(report, folder)
	return done
}

// checked reads a pipeline and checks it as lint does.
func (e *env) checked(path string) (*pipeline.Config, bool) {
	src, ok := e.read(path)
	if !ok {
		return nil, false
	}
	conf, findings := pipeline.Check(path, src)
	for _, x := range findings {
		e.say("%s", x)
	}
	if len(findings) == 0 && conf == nil {
		e.say("tocsin: %s has no `detect` buffer, and so no state", path)
	}
	return conf, len(findings) == 0 && conf != nil
}

// stateFile backs a state up or restores it.
func (e *env) stateFile(verb string, args []string) int {
	f := e.flags("tocsin state " + verb)
	force := new(bool)
	if verb == "restore" {
		force = f.Bool("force", false, "")
	}
	if err := f.Parse(args); err != nil || f.NArg() != 2 {
		e.say("tocsin state %s: which pipeline, and which file? see `tocsin help state`", verb)
		return wrong
	}
	conf, ok := e.checked(f.Arg(0))
	if !ok {
		return wrong
	}
	show := slowly{e: e, on: isTerminal(e.err), next: time.Now().Add(time.Second)}
	if verb == "backup" {
		info, err := pipeline.BackupState(conf, f.Arg(1), func(n int64) { show.say("%s bytes written", count(n)) })
		show.clear()
		if err != nil {
			e.say("tocsin state backup: %v", err)
			return failed
		}
		e.say("%s keys, %s bytes, as of epoch %s, in %s", count(int64(info.Keys)), count(int64(info.Bytes)), count(int64(info.Epoch)), f.Arg(1))
		return done
	}
	out, err := pipeline.RestoreState(conf, f.Arg(1), *force, func(n, all uint64) { show.say("%s of %s bytes restored", count(int64(n)), count(int64(all))) })
	show.clear()
	if err != nil {
		e.say("tocsin state restore: %v", err)
		return failed
	}
	e.say("%s keys, %s bytes, as of epoch %s, taken %s; the next run goes on from there", count(int64(out.Keys)), count(int64(out.Bytes)), count(int64(out.Epoch)), out.Taken.Format(time.RFC3339))
	if out.Aside != "" {
		e.say("  what was there is in %s", out.Aside)
	}
	return done
}

// slowly is a line of progress, once a second, on a terminal.
type slowly struct {
	e     *env
	on    bool
	drawn bool
	next  time.Time
}

func (s *slowly) say(format string, args ...any) {
	if now := time.Now(); s.on && now.After(s.next) {
		fmt.Fprintf(s.e.err, "\r\x1b[K"+format, args...)
		s.drawn, s.next = true, now.Add(time.Second)
	}
}

func (s *slowly) clear() {
	if s.drawn {
		fmt.Fprint(s.e.err, "\r\x1b[K")
	}
}

// stateView is what of a state is shown.
type stateView struct {
	top           int
	operator, key string
	json          bool
}

// choose leaves out what is not asked for.
func (v *stateView) choose(r *engine.StateReport) error {
	if v.operator != "" {
		var names []string
		for _, o := range r.Operators {
			names = append(names, o.Name)
		}
		i := slices.Index(names, v.operator)
		if i < 0 {
			return fmt.Errorf("the state holds no operator %q; it holds %s", v.operator, strings.Join(names, ", "))
		}
		r.Operators = r.Operators[i : i+1]
	}
	for i := range r.Operators {
		o := &r.Operators[i]
		if v.key != "" {
			o.Keys = slices.DeleteFunc(o.Keys, func(k engine.KeptKey) bool { return !strings.Contains(keyText(k.Key), v.key) })
		}
		o.Count, o.Keys = len(o.Keys), o.Keys[:min(v.top, len(o.Keys))]
	}
	return nil
}

func (e *env) describe(r engine.StateReport, folder string) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(e.out, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	running := ""
	if r.Running {
		running = ", in use by a running pipeline"
	}
	line("state", "%s, epoch %s%s", folder, count(int64(r.Epoch)), running)
	for _, s := range r.Sources {
		line("source", "%s, read up to %s", s.Partition, count(s.Offset))
	}
	for _, s := range r.Streams {
		line("stream", "%s, watermark %s", s.Name, watermark(s.Watermark))
	}
	for _, o := range r.Operators {
		line("operator", "%s, watermark %s, %s keys, %s bytes%s", o.Name, watermark(o.Watermark), count(int64(o.Count)), count(o.Bytes), oldest(o.Oldest))
		for _, k := range o.Keys {
			line("", "%s bytes  %s%s", count(int64(k.Bytes)), keyText(k.Key), oldest(k.Oldest))
		}
	}
	line("waiting", "%s rows that no output has acknowledged, %s bytes", count(int64(r.Waiting)), count(r.WaitingBytes))
}

// describeJSON is the same as one object. Times are RFC 3339, null before any event.
func (e *env) describeJSON(r engine.StateReport, folder string) int {
	type object = map[string]any
	when := func(t int64, none bool) any {
		if none {
			return nil
		}
		return string(event.AppendTime(nil, t))
	}
	sources, streams, operators := []object{}, []object{}, []object{}
	for _, s := range r.Sources {
		sources = append(sources, object{"partition": s.Partition, "offset": s.Offset})
	}
	for _, s := range r.Streams {
		streams = append(streams, object{"name": s.Name, "watermark": when(s.Watermark, engine.BeforeAny(s.Watermark))})
	}
	for _, o := range r.Operators {
		keys := []object{}
		for _, k := range o.Keys {
			keys = append(keys, object{"key": json.RawMessage("[" + keyText(k.Key) + "]"), "bytes": k.Bytes, "oldest": when(k.Oldest, k.Oldest == engine.NoTime)})
		}
		operators = append(operators, object{"name": o.Name, "watermark": when(o.Watermark, engine.BeforeAny(o.Watermark)), "keys": o.Count,
			"bytes": o.Bytes, "oldest": when(o.Oldest, o.Oldest == engine.NoTime), "largest": keys})
	}
	out := json.NewEncoder(e.out)
	out.SetIndent("", "  ")
	err := out.Encode(object{"state": folder, "epoch": r.Epoch, "running": r.Running, "sources": sources, "streams": streams, "operators": operators,
		"waiting": object{"rows": r.Waiting, "bytes": r.WaitingBytes}})
	if err != nil {
		e.say("tocsin state: %v", err)
		return failed
	}
	return done
}

func oldest(t int64) string {
	if t == engine.NoTime {
		return ""
	}
	return ", oldest " + string(event.AppendTime(nil, t))
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
