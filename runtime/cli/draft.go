package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-98920119/tocsin/runtime/draft"
	"github.com/seed-98920119/tocsin/runtime/pipeline"
)

const draftHelp = `Usage: tocsin draft [--out FILE] LOG ...

Looks at the beginnings of log files, compressed or not, and writes a first pipeline over them: how their lines are written (JSON, CEF,
LEEF, access logs, syslog, CSV, logfmt, or a time and a text), where the time stands, and a rule that counts by address, person or machine.
What was guessed stands in comments. The pipeline is one that passes lint; run it, and change it.

  --out FILE   write it there, where nothing is yet, instead of printing it

  tocsin draft --out mine.yaml /var/log/auth.log && tocsin run mine.yaml
`

// What is looked at of a log.
const (
	draftBytes = 4 << 20
	draftLines = 20_000
)

// draft writes a pipeline for logs.
func (e *env) draft(args []string) int {
	f := e.flags("tocsin draft")
	out := f.String("out", "", "")
	if err := f.Parse(args); err != nil || f.NArg() == 0 {
		e.say("tocsin draft: which logs? see `tocsin help draft`")
		return wrong
	}
	var logs []*draft.Log
	for _, paths := range draft.Group(f.Args()) {
		l, err := e.look(paths)
		if err != nil {
			e.say("tocsin draft: %v", err)
			return failed
		}
		logs = append(logs, l)
	}
	name := pipelineName(*out, logs)
	text := draft.Write(name, logs)
	_, findings := pipeline.Check(name+".yaml", []byte(text))
	for _, x := range findings { // a fault of draft: the pipeline is worth something still
		e.say("%s", x)
	}
	if *out == "" {
		fmt.Fprint(e.out, text)
		return done
	}
	w, err := os.OpenFile(*out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = w.WriteString(text)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		e.say("tocsin draft: %v", err)
		return failed
	}
	e.say("%s is written: tocsin run %s", *out, *out)
	return done
}

// look looks at the first of a log's files and says what it is.
func (e *env) look(paths []string) (*draft.Log, error) {
	head, changed, err := pipeline.Head(paths[0], draftBytes)
	if err != nil {
		return nil, err
	}
	lines := bytes.Split(head, []byte("\n"))
	if len(head) == draftBytes {
		lines = lines[:len(lines)-1] // which is cut off
	}
	l, err := draft.Look(draft.Sample{Paths: paths, Lines: lines[:min(len(lines), draftLines)], Changed: changed})
	if err != nil {
		return nil, err
	}
	format, at := l.Format, l.Time
	if format == "" {
		format = "json"
	}
	switch {
	case l.Timeless:
		at = "none, lines count from when they are read"
	case at == "":
		at = "timestamp"
	}
	e.say("%s: %s; %d of %d lines; time: %s; %d fields", paths[0], format, l.Read, l.Lines, at, len(l.Fields))
	return l, nil
}

// pipelineName is a name after the file that is written, or the first log.
func pipelineName(out string, logs []*draft.Log) string {
	if out == "" {
		return draft.Name(draft.Stem(logs[0].Paths[0]))
	}
	return draft.Name(strings.TrimSuffix(filepath.Base(out), filepath.Ext(out)))
}
