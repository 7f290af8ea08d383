package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// WaitingRows says what waits in the lanes of a pipeline's state, also while a process uses it.
func WaitingRows(c *Config) (lanes []engine.WaitingLane, folder string, running bool, err error) {
	if folder, err = filepath.Abs(c.State); err != nil {
		return nil, c.State, false, err
	}
	store, err := state.Look(state.Options{Dir: folder, Pipeline: c.Spec.Name})
	if err != nil {
		return nil, folder, false, err
	}
	lanes, err = engine.Waiting(c.Spec, store)
	return lanes, folder, store.Running(), errors.Join(err, store.Close())
}

// DroppedFile is the file, beside a state, that keeps the rows that DropRows has dropped, a line each.
const DroppedFile = "dropped.jsonl"

// DropRows drops rows that wait in the state of a pipeline that does not run: of a lane, or with a result id, or both. Each is appended to
// DroppedFile in the state's folder first, with the time and the reason. It returns how many there were, and the file.
func DropRows(c *Config, lane, id, reason string) (rows int, file string, err error) {
	store, err := state.Open(state.Options{Dir: c.State, Pipeline: c.Spec.Name})
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	file = filepath.Join(store.Dir(), DroppedFile)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, file, fmt.Errorf("what is dropped cannot be kept: %w", err)
	}
	defer f.Close()
	at := string(event.AppendTime(nil, time.Now().UnixMilli()))
	var line bytes.Buffer
	rows, err = engine.Drop(store, engine.Dropping{Lane: lane, ID: id,
		Record: func(lane string, o *engine.Out) error {
			line.Reset()
			line.WriteString(`{"dropped":` + strconv.Quote(at) + `,"reason":`)
			line.Write(appendText(nil, reason))
			line.WriteString(`,"row":`)
			appendLine(&line, o.Payload, metaOf(o, lane))
			line.Truncate(line.Len() - 1) // its newline
			line.WriteString("}\n")
			_, err := f.Write(line.Bytes())
			return err
		},
		Recorded: func() error { return errors.Join(f.Sync(), syncFolder(store.Dir())) },
	})
	return rows, file, err
}

// ErrStopped is RetryRows's error of a pipeline that does not run.
var ErrStopped = errors.New("the pipeline does not run: the next `tocsin run` sends at once what waits")

// RetryRows asks the running process of a pipeline, at its HTTP address, to send rejected rows again now; lane "" is every one.
func RetryRows(ctx context.Context, c *Config, address, lane string) (rows int, err error) {
	running, err := state.InUse(state.Options{Dir: c.State, Pipeline: c.Spec.Name})
	switch {
	case err != nil:
		return 0, err
	case !running:
		return 0, ErrStopped
	case address == "":
		return 0, errors.New("the pipeline runs and answers nobody: give it `http: 127.0.0.1:9464` in detect, or name the address with --http; or stop it, since its next start sends at once what waits")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+net.JoinHostPort(host, port)+"/outbox/retry?"+url.Values{"pipeline": {c.Spec.Name}, "lane": {lane}}.Encode(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("the running process does not answer: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<12))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	var said struct{ Rows int }
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	return said.Rows, err
}

// sendAgain answers POST /outbox/retry: rejected rows of a lane of a pipeline, or of all its lanes, are sent again now.
func sendAgain(w http.ResponseWriter, req *http.Request, runs []*Monitor) {
	name := req.URL.Query().Get("pipeline")
	i := slices.IndexFunc(runs, func(m *Monitor) bool { return m.name == name })
	if i < 0 {
		answer(w, fmt.Errorf("no pipeline %q answers here", name))
		return
	}
	r := runs[i].runner()
	if r == nil {
		answer(w, errors.New("no run: the state is being recovered, or the run has ended"))
		return
	}
	rows, err := r.Retry(req.URL.Query().Get("lane"))
	if err != nil {
		answer(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]int{"rows": rows})
}
