package wasm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loadCached loads a module with a host of its own, as after a start, and says whether machine code came from the cache.
func loadCached(t *testing.T, dir string, code []byte) (hit bool) {
	t.Helper()
	h, err := NewHost(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	m, err := h.Load(code, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check([]byte(do(0))); err != nil {
		t.Fatal(err)
	}
	return h.cache.staged != ""
}

// Nothing in the cache is believed: whatever became of an entry or the key, the module is compiled again and works.
func TestCache(t *testing.T) {
	code, dir := file(t, "testdata/hostile.wasm"), filepath.Join(t.TempDir(), "modules")
	if loadCached(t, dir, code) || !loadCached(t, dir, code) {
		t.Fatal("the second load does not come from the cache")
	}
	entries, _ := filepath.Glob(filepath.Join(dir, "*.code"))
	if len(entries) != 1 {
		t.Fatalf("entries %v", entries)
	}
	good := file(t, entries[0])
	other := filepath.Join(t.TempDir(), "other")
	for name, spoil := range map[string]func(){
		"a bit":     func() { write(t, entries[0], flip(good, len(good)-1)) },
		"the name":  func() { write(t, entries[0], flip(good, 40)) },
		"cut short": func() { write(t, entries[0], good[:len(good)/2]) },
		"empty":     func() { write(t, entries[0], nil) },
		"other key": func() { write(t, filepath.Join(dir, "key"), bytes.Repeat([]byte{1}, 32)) },
		"no key":    func() { os.Remove(filepath.Join(dir, "key")) },
		"short key": func() { write(t, filepath.Join(dir, "key"), []byte{1}) },
		"a link":    func() { write(t, other, good); os.Remove(entries[0]); os.Symlink(other, entries[0]) },
		"linked key": func() {
			write(t, other, make([]byte, 32))
			os.Remove(filepath.Join(dir, "key"))
			os.Symlink(other, filepath.Join(dir, "key"))
		},
		"renamed": func() { os.Rename(entries[0], filepath.Join(dir, strings.Repeat("0", 64)+".code")) },
	} {
		spoil()
		if loadCached(t, dir, code) {
			t.Errorf("%s: it was believed", name)
		}
		if !loadCached(t, dir, code) {
			t.Errorf("%s: it was not made again", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "staging-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A folder that others may write to, or that is elsewhere, is refused with what to do.
func TestCacheFolder(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "file")
	write(t, plain, nil)
	for _, path := range []string{open, link, plain} {
		if _, err := NewHost(path); err == nil || !strings.Contains(err.Error(), "mode 0700") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}
