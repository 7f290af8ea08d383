package pipeline

import (
	"errors"
	"path/filepath"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// DescribeState says what the state of a pipeline holds, also while a process uses it, and makes none.
func DescribeState(c *Config) (report engine.StateReport, folder string, err error) {
	if folder, err = filepath.Abs(c.State); err != nil {
		return report, c.State, err
	}
	store, err := state.Look(state.Options{Dir: folder, Pipeline: c.Spec.Name})
	if err != nil {
		return report, folder, err
	}
	report, err = engine.Describe(c.Spec, store)
	return report, folder, errors.Join(err, store.Close())
}

// BackupState writes the state of a pipeline to a file, also while a process uses it; progress is told the bytes written.
func BackupState(c *Config, file string, progress func(bytes int64)) (state.BackupInfo, error) {
	return state.Backup(state.Options{Dir: c.State, Pipeline: c.Spec.Name}, file, progress)
}

// RestoreState makes a backup the state of a pipeline that does not run; with force, a state that is there is moved aside.
func RestoreState(c *Config, file string, force bool, progress func(done, all uint64)) (state.Restored, error) {
	return state.Restore(state.Options{Dir: c.State, Pipeline: c.Spec.Name}, file, force, progress)
}
