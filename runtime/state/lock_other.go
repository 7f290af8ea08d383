//go:build !unix

package state

import (
	"errors"
	"net"
	"os"
	"path/filepath"
)

// lockFile does nothing where there is no flock: Badger's own lock then says that the state is in use.
func lockFile(*os.File) error { return nil }

func diskFree(string) (uint64, error) { return 0, errors.ErrUnsupported }

func socketPath(dir string) (path string, free func(), err error) {
	return filepath.Join(dir, socketName), func() {}, nil
}

func listenPrivate(path string) (net.Listener, error) { return net.Listen("unix", path) }
