//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package pipeline

import "os"

// lockFile does nothing where there are no such locks.
func lockFile(*os.File) error { return nil }

// syncFolder does nothing where folders cannot be synced.
func syncFolder(string) error { return nil }
