//go:build unix

package pipeline

import (
	"io/fs"
	"syscall"
)

// fileID returns the device and the inode of a file, which stay when it is renamed.
func fileID(info fs.FileInfo) (dev, ino uint64) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev), uint64(st.Ino)
	}
	return 0, 0
}
