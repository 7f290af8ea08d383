package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const outboxHelp = `Usage: tocsin outbox [--json] PIPELINE
       tocsin outbox retry [--lane NAME] [--http ADDRESS] PIPELINE
       tocsin outbox drop [--lane NAME] [--id ID] --reason TEXT PIPELINE

Says of each lane what waits in it, as of the last commit: rows, bytes, the oldest event time and how long ago that was, how often its
output has rejected rows, and the last error. Without ` + "`deliver`" + ` there is one lane, main. The pipeline may run meanwhile.

retry has rows that were rejected sent again now, not after their pause, and counts their tries anew. The pipeline runs and answers over
HTTP (` + "`http:`" + ` in detect, or --http); one that is stopped sends at once what waits when it starts.

drop takes rows out that no output will get any more: all of a lane, or those with a result id. The pipeline must be stopped. Each row is
first appended to ` + pipeline.DroppedFile + ` in the state's folder, with the reason, and the lane counts it.

  --json          one JSON object
  --lane NAME     this lane
  --id ID         rows with this result id
  --reason TEXT   why, for whoever reads the file later
  --http ADDRESS  where the running pipeline answers, such as 127.0.0.1:9464
`

// outbox says what waits for outputs, has it sent, or drops it.
func (e *env) outbox(args []string) int {
	if len(args) > 0 && (args[0] == "retry" || args[0] == "drop") {
		return e.outboxChange(args[0], args[1:])
	}
	f := e.flags("tocsin outbox")
	asJSON := f.Bool("json", false, "")
	if err := f.Parse(args); err != nil || f.NArg() != 1 {
		e.say("tocsin outbox: which pipeline? see `tocsin help outbox`")
		return wrong
	}
	conf, ok := e.checked(f.Arg(0))
	if !ok {
		return wrong
	}
	lanes, folder, running, err := pipeline.WaitingRows(conf)
	if err != nil {
		e.say("tocsin outbox: %v", err)
		return failed
	}
	if *asJSON {
		return e.outboxJSON(lanes, folder, running)
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(e.out, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	used := ""
	if running {
		used = ", in use by a running pipeline"
	}
	line("state", "%s%s", folder, used)
	for _, l := range lanes {
		gone := ""
		if l.Gone {
			gone = ", which the pipeline does not have"
		}
		line("lane", "%s%s: %s rows, %s bytes%s", l.Name, gone, count(l.Rows), count(l.Bytes), oldest(l.Oldest)+age(l.Oldest))
		if l.Rejected+l.Refused+l.Dropped > 0 {
			line("", "rejected %s times, %s rows became error rows, %s were dropped", count(l.Rejected), count(l.Refused), count(l.Dropped))
		}
		if l.LastError != "" {
			line("", "last error %s: %s", event.AppendTime(nil, l.LastAt), l.LastError)
		}
	}
	return done
}

// age is how long ago an event time was.
func age(t int64) string {
	if t == engine.NoTime {
		return ""
	}
	return fmt.Sprintf(" (%s ago)", time.Since(time.UnixMilli(t)).Round(time.Second))
}

func (e *env) outboxJSON(lanes []engine.WaitingLane, folder string, running bool) int {
	type object = map[string]any
	all := []object{}
	for _, l := range lanes {
		o := object{"lane": l.Name, "in_pipeline": !l.Gone, "rows": l.Rows, "bytes": l.Bytes, "oldest": nil, "rejected": l.Rejected, "refused": l.Refused, "dropped": l.Dropped,
			"last_error": l.LastError, "last_error_at": nil}
		if l.Oldest != engine.NoTime {
			o["oldest"] = string(event.AppendTime(nil, l.Oldest))
		}
		if l.LastAt != 0 {
			o["last_error_at"] = string(event.AppendTime(nil, l.LastAt))
		}
		all = append(all, o)
	}
	out := json.NewEncoder(e.out)
	out.SetIndent("", "  ")
	if err := out.Encode(object{"state": folder, "running": running, "lanes": all}); err != nil {
		e.say("tocsin outbox: %v", err)
		return failed
	}
	return done
}

func (e *env) outboxChange(verb string, args []string) int {
	f := e.flags("tocsin outbox " + verb)
	lane := f.String("lane", "", "")
	var id, reason, address string
	if verb == "drop" {
		f.StringVar(&id, "id", "", "")
		f.StringVar(&reason, "reason", "", "")
	} else {
		f.StringVar(&address, "http", "", "")
	}
	err := f.Parse(args)
	switch {
	case err != nil || f.NArg() != 1:
		e.say("tocsin outbox %s: which pipeline? see `tocsin help outbox`", verb)
		return wrong
	case verb == "drop" && *lane == "" && id == "":
		e.say("tocsin outbox drop: which rows? name a lane with --lane, or a result id with --id; see `tocsin help outbox`")
		return wrong
	case verb == "drop" && reason == "":
		e.say("tocsin outbox drop: why? give a --reason; it is kept beside the rows")
		return wrong
	}
	conf, ok := e.checked(f.Arg(0))
	if !ok {
		return wrong
	}
	if verb == "drop" {
		n, file, err := pipeline.DropRows(conf, *lane, id, reason)
		if err != nil {
			e.say("tocsin outbox drop: %v", err)
			return failed
		}
		e.say("%s rows dropped; they are in %s", count(int64(n)), file)
		return done
	}
	if address == "" {
		address = conf.HTTP
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n, err := pipeline.RetryRows(ctx, conf, address, *lane)
	if errors.Is(err, pipeline.ErrStopped) {
		e.say("%v", err)
		return done
	}
	if err != nil {
		e.say("tocsin outbox retry: %v", err)
		return failed
	}
	e.say("%s rejected rows are sent again now", count(int64(n)))
	return done
}
