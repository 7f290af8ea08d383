package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
)

// fakeFiles stands for a folder: path -> inode, size, beginning.
type fakeFiles map[string]*fileProbe

func (f fakeFiles) look(path string) *fileProbe {
	if p := f[path]; p != nil {
		return p
	}
	return &fileProbe{err: fs.ErrNotExist}
}

func fake(ino uint64, size int64, head string) *fileProbe {
	return &fileProbe{dev: 1, ino: ino, size: size, head: []byte(head)}
}

// planned shows a plan as name@path+offset.
func planned(plan []*filePartition) string {
	var s []string
	for _, p := range plan {
		s = append(s, fmt.Sprintf("%s@%s+%d", p.name(), p.path, p.offset))
	}
	return strings.Join(s, " ")
}

func TestPlanPartitions(t *testing.T) {
	a, b, c := fake(1, 100, "first"), fake(2, 50, "second"), fake(3, 10, "third")
	unreadable := &fileProbe{err: errors.New("permission denied")}
	type known map[string]struct {
		offset int64
		probe  *fileProbe
	}
	for _, tc := range []struct {
		name  string
		known known
		files fakeFiles
		want  string
	}{
		{"never seen", nil, fakeFiles{"log": a, "other": b}, "log#0@log+0 other#0@other+0"},
		{"goes on", known{"log#0": {60, a}}, fakeFiles{"log": fake(1, 200, "first line")}, "log#0@log+60"},
		{"truncated", known{"log#0": {60, a}}, fakeFiles{"log": fake(1, 10, "first")}, "log#1@log+0"},
		{"another inode", known{"log#3": {60, a}, "log#1": {9, c}}, fakeFiles{"log": b}, "log#4@log+0"},
		{"inode used again", known{"log#0": {60, a}}, fakeFiles{"log": fake(1, 500, "other")}, "log#1@log+0"},
		{"number, not text", known{"log#9": {1, a}, "log#10": {60, b}}, fakeFiles{"log": c}, "log#11@log+0"},
		{"rotated", known{"log#0": {60, a}}, fakeFiles{"log": b, "log.1": a}, "log#0@log.1+60 log#1@log+0"},
		{"rotated twice", known{"log#0": {60, a}, "log#1": {20, b}}, fakeFiles{"log": c, "log.1": b, "log.2": a},
			"log#0@log.2+60 log#1@log.1+20 log#2@log+0"},
		{"renamed away", known{"log#0": {60, a}}, fakeFiles{"log.1": a}, "log#0@log.1+60"},
		{"and back", known{"log#0": {60, a}, "log#1": {5, b}}, fakeFiles{"log": a}, "log#0@log+60"},
		{"hard link", known{"log#0": {60, a}}, fakeFiles{"log": a, "link": a}, "link#0@link+0 log#0@log+60"},
		{"two links, one gone", known{"log#0": {60, a}}, fakeFiles{"x": a, "y": a}, "log#0@x+60 y#0@y+0"},
		{"vanished", known{"log#0": {60, a}, "gone#0": {1, c}}, fakeFiles{"log": a}, "log#0@log+60"},
		{"unreadable, known", known{"log#2": {60, a}}, fakeFiles{"log": unreadable}, "log#2@log+60"},
		{"unreadable, then readable", known{"log#0": {0, unreadable}}, fakeFiles{"log": a}, "log#0@log+0"},
		{"empty ones are nobody", known{"log#0": {0, fake(1, 0, "")}}, fakeFiles{"x": fake(1, 5, "new")}, "x#0@x+0"},
		{"a # in the path", known{"a#b#0": {60, a}}, fakeFiles{"a#b": a}, "a#b#0@a#b+60"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			positions := map[string]Position{"topic/3": {7, []byte("kafka")}, "#x": {1, nil}, "": {}}
			for name, k := range tc.known {
				positions[name] = Position{k.offset, k.probe.origin().encode()}
			}
			paths := slices.Sorted(maps.Keys(tc.files))
			if got := planned(planPartitions(paths, positions, tc.files.look)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestPlanForeignOrigin(t *testing.T) {
	files := fakeFiles{"log": fake(1, 100, "first")}
	got := planned(planPartitions([]string{"log"}, map[string]Position{"log#4": {60, []byte("fl\x09what?")}}, files.look))
	if got != "log#5@log+0" {
		t.Errorf("a later version's origin: got %s", got)
	}
}

func TestPlanCompressed(t *testing.T) {
	was := fake(1, 100, "first")
	was.kind = gzipped
	positions := map[string]Position{"log#0": {5000, was.origin().encode()}}
	for _, tc := range []struct {
		probe *fileProbe
		want  string
	}{
		{was, "log#0@log+5000"},
		{&fileProbe{dev: 9, ino: 1, kind: gzipped, size: 200, head: []byte("first")}, "log#0@log+5000"},
		{&fileProbe{dev: 1, ino: 1, kind: gzipped, size: 99, head: []byte("first")}, "log#1@log+0"},
		{&fileProbe{dev: 1, ino: 1, kind: plain, size: 9999, head: []byte("first")}, "log#1@log+0"},
	} {
		got := planned(planPartitions([]string{"log"}, positions, fakeFiles{"log": tc.probe}.look))
		if got != tc.want {
			t.Errorf("%+v: got %s, want %s", tc.probe, got, tc.want)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add(fake(77, 1234, "head").origin().encode())
	f.Add([]byte(originMark))
	f.Add([]byte("fl\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, ok := decodeOrigin(b)
		if !ok {
			return
		}
		if again, ok := decodeOrigin(o.encode()); !ok || again != o {
			t.Fatalf("%x: %+v became %+v", b, o, again)
		}
	})
}
