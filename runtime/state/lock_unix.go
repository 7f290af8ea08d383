//go:build unix

package state

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

func lockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

func diskFree(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}

// socketMax is how long the path of a socket may be everywhere.
const socketMax = 100

// socketPath is the path of the socket in dir, by way of an open folder where it would be too long; free closes that.
func socketPath(dir string) (path string, free func(), err error) {
	path = filepath.Join(dir, socketName)
	if len(path) <= socketMax || runtime.GOOS != "linux" {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), socketName), func() { f.Close() }, nil
}

// listenPrivate makes a socket that nobody else may connect to, from its first moment on where the system lets it.
func listenPrivate(path string) (net.Listener, error) {
	conf := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	return conf.Listen(context.Background(), "unix", path)
}
