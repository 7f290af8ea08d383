package pipeline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// DescribeState says what the state of a pipeline holds. It refuses while a process uses the state, and makes none.
func DescribeState(c *Config) (report engine.StateReport, folder string, err error) {
	if folder, err = filepath.Abs(c.State); err != nil {
		return report, c.State, err
	}
	if _, err := os.Stat(filepath.Join(folder, "TOCSIN")); errors.Is(err, os.ErrNotExist) {
		return report, folder, fmt.Errorf("state %s: there is none; the pipeline has not run yet, or from another working directory", folder)
	}
	store, err := state.Open(state.Options{Dir: folder, Pipeline: c.Spec.Name})
	if err != nil {
		return report, folder, err
	}
	report, err = engine.Describe(store)
	return report, folder, errors.Join(err, store.Close())
}
