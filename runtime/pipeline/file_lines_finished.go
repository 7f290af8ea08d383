package pipeline

import (
	"fmt"
	"os"
	"path/filepath"
)

// dispose deletes or moves the file of a partition all of whose lines are on disk, unless it has become another one or has grown. What
// cannot be done is said and left as it is.
func (in *fileLines) dispose(name, path string, probe *fileProbe) {
	info, err := os.Stat(path)
	if err != nil {
		return // somebody else has done it
	}
	if _, ino := fileID(info); ino != probe.ino || info.Size() != probe.size {
		in.log.Infof("file_lines: %s has changed since it was read and stays", path)
		return
	}
	if in.conf.onFinished == "delete" {
		if err = os.Remove(path); err == nil && in.kept != nil {
			in.kept.forget(name)
		}
	} else {
		err = moveFile(path, in.conf.moveTo)
	}
	if err != nil {
		in.log.Warnf("file_lines: on_finished: %s: %v", in.conf.onFinished, err)
	}
}

// moveFile renames a file into a folder, under a name that is not taken there.
func moveFile(path, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	to := filepath.Join(folder, filepath.Base(path))
	for n := 1; ; n++ {
		err := os.Link(path, to) // unlike a rename it replaces nothing
		switch {
		case err == nil:
			return os.Remove(path)
		case !os.IsExist(err):
			return err
		case n > 10_000:
			return fmt.Errorf("%s: too many files of this name", to)
		}
		to = filepath.Join(folder, fmt.Sprintf("%s.%d", filepath.Base(path), n))
	}
}
