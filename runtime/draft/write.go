package draft

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Write writes a pipeline of this name over logs, a stream and, where there is something to count, an operator each.
func Write(name string, logs []*Log) string {
	var b strings.Builder
	names := streamNames(logs)
	var paths []string
	for _, l := range logs {
		paths = append(paths, l.Paths...)
	}
	fmt.Fprintf(&b, "# A first draft, guessed from the beginnings of these files: change what you like, and ask `tocsin lint` about it.\ninput:\n  file_lines:\n    paths: [%s]\n    # follow: true     # go on as the files grow, until you stop it\n\n", strings.Join(quoted(paths), ", "))
	fmt.Fprintf(&b, "buffer:\n  detect:\n    name: %s\n    state: ./state/%s\n    streams:\n", name, name)
	for i, l := range logs {
		l.writeStream(&b, names[i])
	}
	b.WriteString("    operators:\n")
	for i, l := range logs {
		l.writeRule(&b, names[i])
	}
	fmt.Fprintf(&b, "\noutput:\n  broker:\n    pattern: fan_out_sequential_fail_fast\n    outputs:\n      - file_rows: { path: ./out/%s.jsonl }   # every row, alert, late and unreadable line\n      - console: {}   # alerts, for people\n", name)
	return b.String()
}

func (l *Log) writeStream(b *strings.Builder, name string) {
	var fields []string
	for _, f := range l.Fields[:min(len(l.Fields), 12)] {
		if f.Path != "raw" {
			fields = append(fields, fmt.Sprintf("%s (%s)", quote(f.Path), strconv.Quote(short(f.Example))))
		}
	}
	fmt.Fprintf(b, "      # %s\n      %s:\n        match: { path: [%s] }\n", strings.Join(fields, ", "), name, strings.Join(quoted(l.Paths), ", "))
	if l.Format != "" {
		fmt.Fprintf(b, "        format: %s\n", l.Format)
	}
	at := l.Time
	if at == "" {
		at = "timestamp"
	}
	if at = "field: " + quote(at); l.TimeFormat != "" {
		at += ", format: " + strconv.Quote(l.TimeFormat)
	}
	switch {
	case l.Zoneless:
		fmt.Fprintf(b, "        time: { %s, zone: UTC }   # it does not say where it is from: UTC, or Europe/Berlin?\n", at)
	case l.Timeless:
		b.WriteString("        time: { field: _time, on_missing: arrival }   # no field of it is a time: lines count from when they are read\n")
	case l.Time != "":
		fmt.Fprintf(b, "        time: { %s }\n", at)
	}
	delay := (time.Duration(min(l.Disorder, 300_000))*time.Millisecond + 2*time.Second - 1).Truncate(time.Second)
	fmt.Fprintf(b, "        watermark: { delay: %s }   # by how much lines may be out of order; in these it is %s\n", delay, time.Duration(l.Disorder)*time.Millisecond)
}

func (l *Log) writeRule(b *strings.Builder, name string) {
	r := l.Rule
	fmt.Fprintf(b, "      %s_of_%s:\n        window:\n          from: %s\n", r.What, name, name)
	if r.Where != "" {
		fmt.Fprintf(b, "          where: %s\n", r.Where)
	}
	aggregate, title := "n: count", "{n} "+r.What
	b.WriteString("          tumbling: 1m\n")
	if r.Key != "" {
		fmt.Fprintf(b, "          key: %s\n", quote(r.Key))
		title += " of {" + r.Key + "}"
	}
	title += " in a minute"
	if r.Other != "" {
		aggregate += ", others: { count_distinct: " + quote(r.Other) + " }"
		title += ", with {others} different " + r.Other
	}
	fmt.Fprintf(b, "          aggregate: { %s }\n", aggregate)
	fmt.Fprintf(b, "          having: { n|gte: %d }   # the most that these lines have; what is too many with you?\n", r.Least)
	fmt.Fprintf(b, "        alert: { title: %s, severity: medium }\n", strconv.Quote(title))
}

// streamNames are names of streams, after the files, each once.
func streamNames(logs []*Log) (names []string) {
	seen := map[string]int{}
	for _, l := range logs {
		name := Name(Stem(l.Paths[0]))
		if seen[name]++; seen[name] > 1 {
			name += "_" + strconv.Itoa(seen[name])
		}
		names = append(names, name)
	}
	return names
}

// Name makes a name for streams and pipelines of a text: lower case, digits and underscores.
func Name(text string) string {
	name := strings.Trim(notName.ReplaceAllString(strings.ToLower(text), "_"), "_")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "log_" + name
	}
	return name
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// Stem is a log's name without what tells its files apart: numbers and dates of rotation, endings.
func Stem(path string) string {
	name := filepath.Base(path)
	if i := rotated.FindStringIndex(name); i != nil && i[0] > 0 {
		name = name[:i[0]]
	}
	return name
}

var rotated = regexp.MustCompile(`(\.|[-_]\d).*$`)

// Group puts the files of one log together: those of a folder with one stem, in order.
func Group(paths []string) (groups [][]string) {
	by := map[string][]string{}
	for _, p := range paths {
		at := filepath.Join(filepath.Dir(p), Stem(p))
		by[at] = append(by[at], p)
	}
	for _, at := range slices.Sorted(maps.Keys(by)) {
		groups = append(groups, by[at])
	}
	return groups
}

// bare are texts that YAML takes for themselves.
var bare = regexp.MustCompile(`^[\pL_./][\pL\pN_./-]*$`)

func quote(text string) string {
	switch strings.ToLower(text) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		return strconv.Quote(text)
	}
	if bare.MatchString(text) {
		return text
	}
	return strconv.Quote(text)
}

func quoted(list []string) (out []string) {
	for _, s := range list {
		out = append(out, quote(s))
	}
	return out
}

func short(text string) string {
	if r := []rune(text); len(r) > 40 {
		return string(r[:40]) + "..."
	}
	return text
}
