package bigquery

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var noDisk = Disk{Lock: func(*os.File) error { return nil }, SyncFolder: func(string) error { return nil }}

func opened(t *testing.T, path string, fresh bool) *store {
	t.Helper()
	s, err := openStore(path, fresh, noDisk)
	if err != nil {
		t.Fatal(err)
	}
	s.most = 20
	t.Cleanup(s.close)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What is open stays known however many generations pass, names with spaces and all; rows are forgotten after two of them.
func TestStoreTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "store")
	s := opened(t, path, false)
	must(t, s.begin("p.d.my table", "projects/p/tables/my table/streams/100%"))
	must(t, s.try("p.d.my table", []string{"a.0", "b.0"}))
	must(t, s.settle("p.d.my table", all))
	must(t, s.try("p.d.my table", []string{"c.0", "d.0"}))
	must(t, s.begin("p.d.u", "s2"))
	for i := range 50 {
		must(t, s.try("p.d.u", []string{fmt.Sprint("x", i), fmt.Sprint("y", i)}))
		must(t, s.settle("p.d.u", []func(string) bool{all, nothing}[i%2]))
	}
	for _, s := range []*store{s, opened(t, path, false)} {
		if got := s.position("p.d.my table"); got.stream != "projects/p/tables/my table/streams/100%" || got.next != 2 || !reflect.DeepEqual(got.pending, []string{"c.0", "d.0"}) {
			t.Errorf("%+v", got)
		}
		if got := s.position("p.d.u"); got.stream != "s2" || got.next != 50 || len(got.pending) > 0 {
			t.Errorf("%+v", got)
		}
		if s.has("a.0") || !s.has("x48") || s.has("x49") || !s.has("y30") {
			t.Error("it remembers other rows")
		}
	}
	s = opened(t, path, false)
	must(t, s.settle("p.d.my table", func(id string) bool { return id == "d.0" }))
	s = opened(t, path, false)
	if got := s.position("p.d.my table"); len(got.pending) > 0 || s.has("c.0") || !s.has("d.0") {
		t.Errorf("%+v", got)
	}
}

// A line that a crash cut off says nothing, and does not run into the next; a start over moves the file away.
func TestStoreTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := opened(t, path, false)
	must(t, s.begin("t", "s1"))
	must(t, s.try("t", []string{"a.0"}))
	s.close()
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(text, "done "...), 0o600))
	s = opened(t, path, false)
	if got := s.position("t"); len(got.pending) != 1 || s.has("a.0") {
		t.Errorf("%+v", got)
	}
	must(t, s.settle("t", all))
	if s = opened(t, path, false); !s.has("a.0") || s.position("t").next != 1 {
		t.Errorf("%+v", s.position("t"))
	}
	s.close()
	s = opened(t, path, true)
	if s.has("a.0") || s.position("t").stream != "" {
		t.Errorf("%+v", s.position("t"))
	}
	if old, err := os.ReadFile(path + ".old"); err != nil || !strings.Contains(string(old), "stream t s1") {
		t.Errorf("%v %s", err, old)
	}
}

// What cannot be written is not sent, and is said.
func TestStoreFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := server(t)
	c := client(t, s, Exact, func(c *Config) { c.Store, c.Patience = path, 0 })
	settle(t, c, rowsFrom(0, 2))
	c.store.f.Close()
	if f := c.Write(t.Context(), table1, rowsFrom(2, 3)); f[0].Verdict != Busy || !strings.Contains(f[0].Why, "the store: ") || len(s.Rows("p.d.t")) != 2 {
		t.Errorf("%+v, %d rows", f, len(s.Rows("p.d.t")))
	}
	if _, err := openStore(filepath.Join(path, "below"), false, noDisk); err == nil {
		t.Error("a file is no folder")
	}
}
