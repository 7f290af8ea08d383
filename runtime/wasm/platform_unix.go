//go:build unix

package wasm

import (
	"io/fs"
	"os"
	"syscall"
)

// reserve gets zeroed memory whose pages cost nothing until they are touched.
func reserve(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	return syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
}

func release(b []byte) {
	if b != nil {
		_ = syscall.Munmap(b)
	}
}

// owned says whether a file is this user's.
func owned(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Getuid()
}
