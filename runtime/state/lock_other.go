//go:build !unix

package state

import (
	"errors"
	"os"
)

// lockFile does nothing where there is no flock: Badger's own lock then says that the state is in use.
func lockFile(*os.File) error { return nil }

func diskFree(string) (uint64, error) { return 0, errors.ErrUnsupported }
