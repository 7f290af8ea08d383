//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package pipeline

import (
	"os"
	"syscall"
)

// lockFile takes the only lock on a file; closing the file gives it up.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
