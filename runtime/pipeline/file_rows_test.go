package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
)

func newRows(t *testing.T, path string) *fileRows {
	t.Helper()
	conf, err := fileRowsSpec().ParseYAML("path: "+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := newFileRows(conf, service.MockResources())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close(t.Context()) })
	return out
}

func openRows(t *testing.T, path string) *fileRows {
	t.Helper()
	out := newRows(t, path)
	if err := out.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

// rowsOf makes a batch of payloads without metadata.
func rowsOf(payloads ...string) (batch service.MessageBatch) {
	for _, p := range payloads {
		batch = append(batch, service.NewMessage([]byte(p)))
	}
	return batch
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
	}
}

func TestFileRowsLines(t *testing.T) {
	for _, tc := range []struct {
		name, payload string
		meta          map[string]string
		want          string
	}{
		{"a row", `{"a":1}`, map[string]string{"operator": "w", "kind": "row", "result_id": "x7", "revision": "2", "event_time_ms": "1700000000123"},
			`{"a":1,"_tocsin":{"operator":"w","kind":"row","result_id":"x7","revision":2,"event_time_ms":1700000000123}}`},
		{"a late row", `{}`, map[string]string{"lane": "l", "stream": "s", "reason": "late", "late_by_ms": "-5", "position": "p#0:17", "other": "no"},
			`{"_tocsin":{"lane":"l","stream":"s","reason":"late","late_by_ms":-5,"position":"p#0:17"}}`},
		{"several lines", " {\n \"a\": [1, 2]\n}\n", nil, `{"a":[1,2],"_tocsin":{}}`},
		{"numbers stay", `{"n":12345678901234567890.10}`, nil, `{"n":12345678901234567890.10,"_tocsin":{}}`},
		{"no object", `[1]`, nil, `{"raw":"[1]","_tocsin":{}}`},
		{"no json", `{"a":`, map[string]string{"kind": "error"}, `{"raw":"{\"a\":","_tocsin":{"kind":"error"}}`},
		{"two values", `{} {}`, nil, `{"raw":"{} {}","_tocsin":{}}`},
		{"empty", ``, nil, `{"raw":"","_tocsin":{}}`},
		{"bytes", "\xff\n\x1b", nil, "{\"raw\":\"\\ufffd\\n\\u001b\",\"_tocsin\":{}}"},
		{"no number", `{}`, map[string]string{"revision": "many", "stream": `a"b`}, `{"_tocsin":{"revision":"many","stream":"a\"b"}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.jsonl")
			batch := rowsOf(tc.payload)
			for k, v := range tc.meta {
				batch[0].MetaSetMut(k, v)
			}
			if err := openRows(t, path).WriteBatch(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, tc.want+"\n")
		})
	}
}

func TestFileRowsOneWriteABatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "some", "new", "folder", "out.jsonl")
	out, writes := openRows(t, path), 0
	out.write = func(f *os.File, p []byte) (int, error) { writes++; return f.Write(p) }
	for range 2 {
		if err := out.WriteBatch(t.Context(), rowsOf(`{"a":1}`, `{"a":2}`)); err != nil {
			t.Fatal(err)
		}
	}
	two := `{"a":1,"_tocsin":{}}` + "\n" + `{"a":2,"_tocsin":{}}` + "\n"
	wantFile(t, path, two+two)
	if writes != 2 {
		t.Errorf("%d writes", writes)
	}
}

func TestFileRowsTornTail(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	for before, want := range map[string]string{
		"": "", "{}\n": "{}\n", "{}\n{\"a": "{}\n", "{\"a": "", "{}\n" + long: "{}\n", long + "\n": long + "\n", long: "",
	} {
		path := filepath.Join(t.TempDir(), "out.jsonl")
		put(t, path, before)
		out := openRows(t, path)
		wantFile(t, path, want)
		if err := out.WriteBatch(t.Context(), rowsOf("{}")); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, want+"{\"_tocsin\":{}}\n")
	}
}

func TestFileRowsFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	put(t, path, "{}\n")
	out := openRows(t, path)
	out.write = func(f *os.File, p []byte) (int, error) {
		n, _ := f.Write(p[:len(p)/2])
		return n, syscall.ENOSPC
	}
	err := out.WriteBatch(t.Context(), rowsOf("{}", "{}"))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	wantFile(t, path, "{}\n")
	out.write = (*os.File).Write
	if err := out.WriteBatch(t.Context(), rowsOf("{}")); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "{}\n{\"_tocsin\":{}}\n")
}

func TestFileRowsFresh(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	put(t, path, "old\n")
	put(t, path+".old", "older\n")
	out := newRows(t, path)
	out.fresh = true
	if err := out.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := out.WriteBatch(t.Context(), rowsOf("{}")); err != nil {
		t.Fatal(err)
	}
	if err := out.Connect(t.Context()); err != nil { // again: it is ours now
		t.Fatal(err)
	}
	wantFile(t, path, "{\"_tocsin\":{}}\n")
	wantFile(t, path+".old", "old\n")
}

func TestFileRowsLock(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no locks here")
	}
	path := filepath.Join(t.TempDir(), "out.jsonl")
	first := openRows(t, path)
	second := newRows(t, path)
	if err := second.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "another output or process") || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	first.Close(t.Context())
	if err := second.Connect(t.Context()); err != nil {
		t.Errorf("after the first closed: %v", err)
	}
}

// A file that was rotated away is not written any more.
func TestFileRowsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	out := openRows(t, path)
	os.Rename(path, path+".1")
	if err := out.WriteBatch(t.Context(), rowsOf("{}")); !errors.Is(err, service.ErrNotConnected) {
		t.Errorf("got %v", err)
	}
	if err := out.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := out.WriteBatch(t.Context(), rowsOf("{}")); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "{\"_tocsin\":{}}\n")
	wantFile(t, path+".1", "")
}
