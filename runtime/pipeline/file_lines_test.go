package pipeline

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// openLines connects a file_lines in front of a detect buffer that starts at the positions.
func openLines(t testing.TB, conf string, positions map[string]Position) *fileLines {
	t.Helper()
	parsed, err := fileLinesSpec().ParseYAML(conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := newFileLines(parsed, service.MockResources())
	if err != nil {
		t.Fatal(err)
	}
	in.link.detect = true
	in.link.opened(positions, nil)
	if err := in.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return in
}

// nextBlock reads one block; nil at the end.
func nextBlock(t testing.TB, in *fileLines) *event.Block {
	t.Helper()
	ctx, done := context.WithTimeout(context.Background(), 20*time.Second)
	defer done()
	batch, ack, err := in.ReadBatch(ctx)
	if errors.Is(err, service.ErrEndOfInput) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := ack(ctx, nil); err != nil || len(batch) != 1 {
		t.Fatalf("%d messages, %v", len(batch), err)
	}
	v, err := batch[0].AsStructured()
	if err != nil {
		t.Fatal(err)
	}
	return v.(*event.Block)
}

// readPart is everything that was read of one partition.
type readPart struct {
	lines []cutLine
	marks []event.Mark
	pos   Position
	path  string
}

// readLines reads to the end and checks the order of marks.
func readLines(t testing.TB, in *fileLines) map[string]*readPart {
	t.Helper()
	parts, announced := map[string]*readPart{}, []string{}
	for b := nextBlock(t, in); b != nil; b = nextBlock(t, in) {
		p := parts[b.Partition]
		if p == nil {
			p = &readPart{path: b.Meta["path"], pos: Position{Origin: b.Origin}}
			parts[b.Partition] = p
			announced = append(announced, b.Partition)
			if b.Mark != event.Announce || b.Live {
				t.Errorf("%s begins with %v", b.Partition, b.Mark)
			}
		}
		if b.Mark != event.NoMark {
			p.marks = append(p.marks, b.Mark)
		}
		for i, l := range b.Lines {
			p.lines = append(p.lines, cutLine{l.Off, l.Next, string(b.Line(i)), l.Fault})
			p.pos.Offset = l.Next
		}
		b.Release()
	}
	for name, p := range parts {
		if !slices.Equal(p.marks, []event.Mark{event.Announce, event.Finished}) {
			t.Errorf("%s: marks %v", name, p.marks)
		}
	}
	if !slices.IsSorted(announced) {
		t.Errorf("announced in the order %v", announced)
	}
	return parts
}

func positionsOf(parts map[string]*readPart) map[string]Position {
	positions := map[string]Position{}
	for name, p := range parts {
		positions[name] = p.pos
	}
	return positions
}

func textsOf(p *readPart) string {
	if p == nil {
		return "(no such partition)"
	}
	var s []string
	for _, l := range p.lines {
		if l.fault != "" {
			l.text = "!" + l.fault
		}
		s = append(s, l.text)
	}
	return strings.Join(s, " ")
}

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func gz(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

func zst(text string) string {
	w, _ := zstd.NewWriter(nil)
	return string(w.EncodeAll([]byte(text), nil))
}

// bzipped1 is 40 lines that TestFileLinesTruncated writes, bzipped2 "1\n2\n" and bzipped3 "3\n", as bzip2 -1 compresses them: there is
// nothing in Go that does.
var (
	bzipped1 = unbase64("QlpoMTFBWSZTWcAxnGkAAPZZAAAQQAB/4D8lMAE5ra0NRgmmJqCMNU/RPTUnqT9U0AJTFRPTaQU9Rp7F5qJyJqRSRORtSJyJppyHoZy6aq0a1OdgtUdI7Ri3Rwgu3m8SWXLt3e6l3F7u9zd+VJzJIjWY0pJGS2054AZgXMg5XEdZ+cThAXh0bN7zefiCrWsPCxjnOxvy3lmLLhO2ENQvSoNZ3sjDBCl9NVxet8iYJIpVrSPFLvl03vUIpQiXQ6GdChcC6pRuO+emXWJ6fFB8bI8mJ6Tyl4C4DF3LooIzx/AGB21HnWq7rWNn71v53njo4+Citw82+gUfwFH0Cj4XckU4UJDAMZxp")
	bzipped2 = unbase64("QlpoMTFBWSZTWUuVC7sAAAFIAAAQMAAgADDMDHqCcXckU4UJBLlQu7A=")
	bzipped3 = unbase64("QlpoMTFBWSZTWZLbv7IAAADIAAAQCAAgACEAgrF3JFOFCQktu/sg")
)

func unbase64(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestFileLines(t *testing.T) {
	t.Chdir(t.TempDir())
	os.Mkdir("logs", 0o755)
	put(t, "logs/b.jsonl", "b1\nb2")
	put(t, "logs/a.jsonl", "a1\r\n\na2\n")
	put(t, "logs/c.gz", gz("c1\nc2\n"))
	put(t, "logs/d", zst("d1\nd2\n"))
	put(t, "logs/e", gz("e1\n")+gz("e2\n"))
	put(t, "logs/empty", "")
	put(t, "logs/f", bzipped2+bzipped3)
	put(t, "logs/g", "BZh1 begins a text\n")
	os.Mkdir("logs/sub", 0o755)
	parts := readLines(t, openLines(t, "paths: [./logs/*, logs/a.jsonl]", nil))
	for name, want := range map[string]string{
		"logs/a.jsonl#0": "a1 a2", "logs/b.jsonl#0": "b1 b2", "logs/c.gz#0": "c1 c2", "logs/d#0": "d1 d2", "logs/e#0": "e1 e2",
		"logs/f#0": "1 2 3", "logs/g#0": "BZh1 begins a text",
		"logs/empty#0": "", "logs/sub#0": "!unreadable",
	} {
		if got := textsOf(parts[name]); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if len(parts) != 9 || parts["logs/a.jsonl#0"].path != "logs/a.jsonl" {
		t.Errorf("partitions: %v", parts)
	}
	if text := parts["logs/sub#0"].lines[0].text; !strings.Contains(text, "a directory") {
		t.Errorf("fault says %q", text)
	}
}

// A second run finds nothing new; lines that are appended come, and only they, whatever the compression.
func TestFileLinesGoesOn(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "plain", "1\n2\n")
	put(t, "x.gz", gz("1\n2\n"))
	put(t, "x.zst", zst("1\n2\n"))
	put(t, "x.bz2", bzipped2)
	conf := "paths: [plain, x.*]"
	first := readLines(t, openLines(t, conf, nil))
	for name, p := range readLines(t, openLines(t, conf, positionsOf(first))) {
		if len(p.lines) != 0 {
			t.Errorf("%s again: %v", name, p.lines)
		}
	}
	for path, more := range map[string]string{"plain": "3\n", "x.gz": gz("3\n"), "x.zst": zst("3\n"), "x.bz2": bzipped3} {
		f, _ := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		f.WriteString(more)
		f.Close()
	}
	third := readLines(t, openLines(t, conf, positionsOf(first)))
	for name, p := range third {
		if want := []cutLine{{4, 6, "3", ""}}; !slices.Equal(p.lines, want) {
			t.Errorf("%s: got %v", name, p.lines)
		}
	}
	if len(third) != 4 {
		t.Errorf("partitions: %v", third)
	}
}

func TestFileLinesRotation(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "log", "1\n2\n")
	first := readLines(t, openLines(t, "paths: [log*]", nil))
	os.Rename("log", "log.1")
	f, _ := os.OpenFile("log.1", os.O_APPEND|os.O_WRONLY, 0)
	f.WriteString("3\n")
	f.Close()
	put(t, "log", "new\n")
	second := readLines(t, openLines(t, "paths: [log*]", positionsOf(first)))
	if a, b := textsOf(second["log#0"]), textsOf(second["log#1"]); a != "3" || b != "new" {
		t.Errorf("log#0 %q, log#1 %q", a, b)
	}
	if second["log#0"].path != "log" {
		t.Errorf("the stream would change: path is now %q", second["log#0"].path)
	}
}

// Each prefix of a compressed file gives a prefix of its lines and exactly one fault; with the file complete, reading
// goes on behind them.
func TestFileLinesTruncated(t *testing.T) {
	t.Chdir(t.TempDir())
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "line %d %x\n", i, i*i*7919)
	}
	all := splitNaively(text.String(), 1<<20)
	for file, whole := range map[string]string{"x.gz": gz(text.String()), "x.zst": zst(text.String()), "x.bz2": bzipped1} {
		for n := range len(whole) {
			put(t, file, whole[:n])
			parts := readLines(t, openLines(t, "paths: ["+file+"]", nil))
			p := parts[file+"#0"]
			lines := p.lines[:len(p.lines)-1]
			last := p.lines[len(p.lines)-1]
			if len(lines) > len(all) || !slices.Equal(lines, all[:len(lines)]) {
				t.Fatalf("%s cut at %d: not a prefix: %v", file, n, lines)
			}
			if last.fault != faultTruncated || last.off != last.next {
				t.Fatalf("%s cut at %d: last is %v", file, n, last)
			}
			f, _ := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			f.WriteString(whole[n:])
			f.Close()
			rest := readLines(t, openLines(t, "paths: ["+file+"]", positionsOf(parts)))
			if n > 0 && !slices.Equal(append(lines, rest[file+"#0"].lines...), all) {
				t.Fatalf("%s cut at %d: completed, the rest is %v", file, n, rest[file+"#0"].lines)
			}
		}
	}
}

func TestFileLinesCorrupt(t *testing.T) {
	t.Chdir(t.TempDir())
	broken := []byte(gz("a\nb\n"))
	broken[len(broken)-6] ^= 1 // the checksum
	put(t, "sum.gz", string(broken))
	put(t, "no.gz", "this is not gzip\n")
	put(t, "tail.gz", gz("a\n")+"garbage behind it")
	put(t, "no.zst", "nor is this zstd\n")
	put(t, "no.bz2", "nor is this bzip2\n")
	put(t, "tail.bz2", bzipped2+"garbage")
	parts := readLines(t, openLines(t, "paths: ['*']", nil))
	for name, want := range map[string]string{
		"sum.gz#0": "a b !corrupt", "no.gz#0": "!corrupt", "tail.gz#0": "a !corrupt", "no.zst#0": "!corrupt",
		"no.bz2#0": "!corrupt", "tail.bz2#0": "1 2 !corrupt",
	} {
		if got := textsOf(parts[name]); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestFileLinesUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads everything")
	}
	t.Chdir(t.TempDir())
	put(t, "secret", "x\n")
	os.Chmod("secret", 0)
	parts := readLines(t, openLines(t, "paths: [secret]", nil))
	if got := textsOf(parts["secret#0"]); got != "!unreadable" {
		t.Errorf("got %q", got)
	}
}

// A file that is replaced between planning and reading is not taken for the old one.
func TestFileLinesReplaced(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "log", "old\n")
	part := planPartitions([]string{"log"}, nil, func(p string) *fileProbe { return probeFile(p, "auto") })[0]
	put(t, "new", "new\n")
	os.Rename("new", "log")
	src := newFileSource(t.Context(), part, make(chan struct{}, 1))
	defer src.close()
	if _, err := src.Read(make([]byte, 10)); err != errReplaced {
		t.Errorf("got %v", err)
	}
	if fault, _ := src.fault(errReplaced); fault != faultUnreadable {
		t.Errorf("fault %s", fault)
	}
}

func TestFileLinesZstdWindow(t *testing.T) {
	t.Chdir(t.TempDir())
	frame := func(window byte) string { return "\x28\xb5\x2f\xfd\x00" + string([]byte{window}) + "\x11\x00\x00a\n" }
	put(t, "x.zst", frame(17<<3)) // 128 MiB
	put(t, "y.zst", frame(16<<3)) // 64 MiB
	parts := readLines(t, openLines(t, "paths: ['*']", nil))
	if x, y := textsOf(parts["x.zst#0"]), textsOf(parts["y.zst#0"]); x != "!unreadable" || y != "a" {
		t.Errorf("128 MiB %q, 64 MiB %q", x, y)
	}
}

// No file gets more than two blocks ahead, however many files there are and whatever their blocks wait for.
func TestFileLinesCredit(t *testing.T) {
	t.Chdir(t.TempDir())
	const files, lines = 300, 3000
	want := map[string]int{}
	for i := range files {
		var text strings.Builder
		for j := range lines {
			fmt.Fprintf(&text, "file %d line %d\n", i, j)
		}
		name, body := fmt.Sprintf("%03d", i), text.String()
		if i%10 == 0 {
			body = gz(body)
		}
		put(t, name, body)
		want[name+"#0"] = lines
	}
	in := openLines(t, "paths: ['*']", nil)
	held, got, finished := map[string][]*event.Block{}, map[string]int{}, 0
	for finished < files {
		// Hold everything until every file that goes on has two blocks here or is at its end.
		b := nextBlock(t, in)
		switch b.Mark {
		case event.Announce:
			continue
		case event.Finished:
			finished++
			continue
		}
		held[b.Partition] = append(held[b.Partition], b)
		got[b.Partition] += len(b.Lines)
		if len(held[b.Partition]) > blocksAhead {
			t.Fatalf("%s: three blocks", b.Partition)
		}
		if len(held) == files || finished > 0 {
			for name, blocks := range held {
				for _, b := range blocks {
					b.Release()
				}
				delete(held, name)
			}
		}
	}
	if nextBlock(t, in) != nil {
		t.Error("something came after the end")
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %d lines, want %d", name, got[name], n)
		}
	}
	if len(in.slots) != 0 {
		t.Errorf("%d files are still open", len(in.slots))
	}
}

// Close ends readers that wait for credit, for ReadBatch and in a long skip.
func TestFileLinesClose(t *testing.T) {
	t.Chdir(t.TempDir())
	for i := range 20 {
		put(t, fmt.Sprint(i), strings.Repeat("some line\n", 100_000))
	}
	before := runtime.NumGoroutine()
	in := openLines(t, "paths: ['*']", nil)
	for range 40 {
		nextBlock(t, in) // never released
	}
	ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	if err := in.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, before %d", runtime.NumGoroutine(), before)
}

func TestFileLinesNothingMatches(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	parsed, _ := fileLinesSpec().ParseYAML("paths: [nowhere/*.log]", nil)
	in, err := newFileLines(parsed, service.MockResources())
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Connect(t.Context()); !errors.Is(err, service.ErrEndOfInput) {
		t.Errorf("got %v", err)
	}
	if err := in.link.run.Failure(); err == nil || !strings.Contains(err.Error(), filepath.Join("nowhere", "*.log")) || !strings.Contains(err.Error(), dir) {
		t.Errorf("failure: %v", err)
	}
	in.Close(t.Context())
}

func TestFileLinesStateDidNotOpen(t *testing.T) {
	parsed, _ := fileLinesSpec().ParseYAML("paths: [x]", nil)
	in, _ := newFileLines(parsed, service.MockResources())
	in.link.detect = true
	in.link.opened(nil, errors.New("no state"))
	if err := in.Connect(t.Context()); !errors.Is(err, service.ErrEndOfInput) {
		t.Errorf("got %v", err)
	}
	if in.Close(t.Context()); in.link.run.Failure() != nil {
		t.Error("that is the buffer's failure to tell")
	}
}

func TestFileLinesConfig(t *testing.T) {
	for conf, want := range map[string]string{
		"paths: []":                               "at least one",
		"paths: ['[']":                            "no path or glob",
		"paths: ['']":                             "no path or glob",
		"paths: [x]\nmax_line: 65MiB":             "64MiB",
		"paths: [x]\nmax_line: 0":                 "64MiB",
		"paths: [x]\nmax_line: a lot":             "no size",
		"paths: [x]\nmax_line: ''":                "no size",
		"paths: [x]\ncompression: lzma":           "none of",
		"paths: [x]\nfollow: true":                "",
		"paths: [x]\non_finished: delete":         "",
		"paths: [x]\non_finished: move":           "need each other",
		"paths: [x]\nmove_to: y":                  "need each other",
		"paths: [x]\npositions: p.json":           "",
		"paths: [x]\non_finished: burn":           "none of keep, delete, move",
		"paths: [x]\nstart: middle":               "beginning, end or a time",
		"paths: [x]\nstart: 2026-01-01T00:00:00Z": "",
		"paths: [x]\nstart: 2026-01-01":           "a time such as",
		"paths: [x]\npoll_interval: 1ms":          "from 10ms to 1m0s",
		"paths: [x]\nquiet_after: x":              "from 0s to 24h0m0s",
		"paths: [x]\nstart: end\nfollow: true":    "",
		"paths: [x]\nencoding: latin1":            "",
		"paths: [x]\nencoding: latin2x":           "unknown",
		"paths: [x]\nencoding: iso-2022-jp":       "from line to line",
		"paths: [x]\nencoding: hz-gb-2312":        "cannot be read",
		"paths: [x]\nstart: end":                  "needs follow",
		"paths: [x]\nmax_line: 64MiB":             "",
		"paths: [x]\nmax_line: 4096":              "",
		"paths: [x]\nmax_line: 10 kB":             "",
		"paths: [x]\nencoding: UTF-8":             "",
		"paths: [x]\non_finished: keep":           "",
		"paths: [x, 'logs/*.gz']":                 "",
		"paths: [x]\nmax_line: 9999999MiB":        "64MiB",
	} {
		parsed, err := fileLinesSpec().ParseYAML(conf, nil)
		if err != nil {
			t.Fatal(err)
		}
		in, err := newFileLines(parsed, service.MockResources())
		if in != nil {
			in.Close(t.Context())
		}
		if got := fmt.Sprint(err); (err != nil) != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%q: %v, want %q", conf, err, want)
		}
	}
}

// Without a detect buffer behind, lines are ordinary messages.
func Example_fileLinesAsMessages() {
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	os.WriteFile(filepath.Join(dir, "logins.jsonl"), []byte("{\"user\":\"alice\"}\n\n{\"user\":\"bob\"}\n"), 0o644)

	b := service.NewStreamBuilder()
	b.SetLoggerYAML("level: none")
	b.AddInputYAML("file_lines: { paths: [" + dir + "/*.jsonl] }")
	var mu sync.Mutex
	b.AddConsumerFunc(func(_ context.Context, msg *service.Message) error {
		mu.Lock()
		defer mu.Unlock()
		line, _ := msg.AsBytes()
		path, _ := msg.MetaGet("path")
		fmt.Println(filepath.Base(path), string(line))
		return nil
	})
	stream, _ := b.Build()
	fmt.Println(stream.Run(context.Background()))
	// Output:
	// logins.jsonl {"user":"alice"}
	// logins.jsonl {"user":"bob"}
	// <nil>
}

// The lints that a user sees say what to write instead.
func TestFileLinesLint(t *testing.T) {
	b := service.NewStreamBuilder()
	for conf, want := range map[string]string{
		"file_lines: { paths: [x], follow: true }":                "",
		"file_lines: { paths: [x], start: 2026-03-02T08:00:00Z }": "",
		"file_lines: { paths: [x], compresion: gzip }":            "compresion",
		"file_lines: { paths: [x], start: beginning }":            "",
		"file_lines: { paths: [x], follow: false }":               "",
		"file_lines: { paths: [x], on_finished: burn }":           "burn",
	} {
		if err := b.SetYAML("input:\n  " + conf); (err != nil) != (want != "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %q", conf, err, want)
		}
	}
}

func BenchmarkFileLines(b *testing.B) {
	b.Chdir(b.TempDir())
	const lines = 1_000_000
	line := strings.Repeat("x", 219) + "\n"
	put(b, "plain", strings.Repeat(line, lines))
	b.ReportAllocs()
	for b.Loop() {
		in, n := openLines(b, "paths: [plain]", nil), 0
		for blk := nextBlock(b, in); blk != nil; blk = nextBlock(b, in) {
			n += len(blk.Lines)
			blk.Release()
		}
		if n != lines {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
}
