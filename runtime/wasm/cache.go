package wasm

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
)

// cacheMax bounds the bytes of kept machine code; the least recently used goes first.
const cacheMax = 512 << 20

// stagingAge is after how long a staging folder counts as left by a process that was killed.
const stagingAge = time.Hour

// cache keeps machine code between runs. What it holds is executed, so nothing is believed: the folder must be this user's,
// with mode 0700 and no link; each entry carries an HMAC under a key that never leaves the folder. wazero reads and writes a
// staging folder that is made new for each process, into which only entries that were verified are copied.
type cache struct {
	folder, staging string
	key             []byte
	wazero          wazero.CompilationCache
	inner           string // the compiler's folder in staging
	staged          string // file of the module being compiled, relative to staging
}

// openCache opens or makes the folder.
func openCache(folder string) (*cache, error) {
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm() != 0o700 || !owned(info) {
		return nil, fmt.Errorf("cache of compiled modules: %s must be a folder of this user with mode 0700, and no link (it is %s); remove it, and it is made again", folder, info.Mode())
	}
	c := &cache{folder: folder}
	if c.key, err = c.secret(); err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	c.sweep()
	if c.staging, err = os.MkdirTemp(folder, "staging-"); err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	if c.wazero, err = wazero.NewCompilationCacheWithDir(c.staging); err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	inner, err := filepath.Glob(filepath.Join(c.staging, "*"))
	if err != nil || len(inner) != 1 {
		return nil, fmt.Errorf("cache of compiled modules: %s should hold the compiler's folder alone", c.staging)
	}
	c.inner = inner[0]
	return c, nil
}

// secret reads the key, or makes it.
func (c *cache) secret() ([]byte, error) {
	path := filepath.Join(c.folder, "key")
	if b, err := readOwn(path); err == nil && len(b) == 32 {
		return b, nil
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)          // never fails
	return key, c.write(path, key) // a new key makes all entries strangers'
}

// write puts a file in its place at once, readable by this user alone.
func (c *cache) write(path string, parts ...[]byte) error {
	f, err := os.CreateTemp(c.folder, "new-")
	if err != nil {
		return err
	}
	for _, b := range parts {
		if err == nil {
			_, err = f.Write(b)
		}
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// readOwn reads a regular file of this user that no link leads to.
func readOwn(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !owned(info) {
		return nil, fmt.Errorf("%s is no file of this user", path)
	}
	return os.ReadFile(path)
}

// sweep removes staging folders that killed processes left, when they are old, and what is too much.
func (c *cache) sweep() {
	entries, err := os.ReadDir(c.folder)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		if e.IsDir() {
			if time.Since(info.ModTime()) > stagingAge { // a process that still runs makes its own again
				_ = os.RemoveAll(filepath.Join(c.folder, e.Name()))
			}
		} else if e.Name() != "key" {
			files, total = append(files, info), total+info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total <= cacheMax {
			return
		}
		if os.Remove(filepath.Join(c.folder, f.Name())) == nil {
			total -= f.Size()
		}
	}
}

func (c *cache) name(key [32]byte) string { return hex.EncodeToString(key[:]) + ".code" }

// mac is over the module's key, the name that the compiler gives the file, and its content.
func (c *cache) mac(key [32]byte, name, code []byte) []byte {
	h := hmac.New(sha256.New, c.key)
	h.Write(key[:])
	_ = binary.Write(h, binary.LittleEndian, uint64(len(name)))
	h.Write(name)
	h.Write(code)
	return h.Sum(nil)
}

// stage copies a module's entry to where the compiler looks, if there is a good one. Whatever is wrong with it, the module is
// compiled again.
func (c *cache) stage(key [32]byte) {
	c.staged = ""
	_ = os.MkdirAll(c.inner, 0o700) // keep has removed it
	path := filepath.Join(c.folder, c.name(key))
	b, err := readOwn(path)
	if err != nil || len(b) < sha256.Size+2 {
		return
	}
	mac, b := b[:sha256.Size], b[sha256.Size:]
	n := int(binary.LittleEndian.Uint16(b))
	if b = b[2:]; n > len(b) || !hmac.Equal(mac, c.mac(key, b[:n], b[n:])) {
		_ = os.Remove(path)
		return
	}
	file := filepath.Join(c.staging, string(b[:n]))
	// At once: half a file, left by a full disk, would be an error of the compiler, and not a module that it does not know.
	if filepath.Dir(file) == c.inner && c.write(file, b[n:]) == nil {
		c.staged = string(b[:n])
		_ = os.Chtimes(path, time.Time{}, time.Now())
	}
}

// keep makes an entry of what the compiler has just written, if it wrote, and empties the staging folder.
func (c *cache) keep(key [32]byte) {
	var found []string
	_ = filepath.WalkDir(c.staging, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			found = append(found, path)
		}
		return nil
	})
	for _, path := range found {
		name, err := filepath.Rel(c.staging, path)
		if err == nil && name != c.staged {
			if code, err := os.ReadFile(path); err == nil {
				c.add(key, []byte(name), code)
			}
		}
	}
	_ = os.RemoveAll(c.staging)
}

func (c *cache) add(key [32]byte, name, code []byte) {
	head := append(binary.LittleEndian.AppendUint16(c.mac(key, name, code), uint16(len(name))), name...)
	_ = c.write(filepath.Join(c.folder, c.name(key)), head, code) // without an entry the next start compiles again
}

func (c *cache) close() error { return os.RemoveAll(c.staging) }
