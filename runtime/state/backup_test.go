package state

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func free(n uint64) func(string) (uint64, error) {
	return func(string) (uint64, error) { return n, nil }
}

// Backups that are taken by way of the socket while epochs are committed and consolidated hold one of them, whole, and restore as it.
func TestBackupsBesideCommits(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "state") // longer than the path of a socket may be
	s := open(t, dir)
	defer s.Close()
	recoverModel(t, s)
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, socketName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	type backup struct {
		file string
		info BackupInfo
		err  error
	}
	stop, taken := make(chan struct{}), make(chan []backup)
	go func() {
		var all []backup
		for n := 0; ; n++ {
			select {
			case <-stop:
				taken <- all
				return
			default:
			}
			b := backup{file: filepath.Join(t.TempDir(), "backup")}
			b.info, b.err = Backup(Options{Dir: dir, Pipeline: "p"}, b.file, nil)
			all = append(all, b)
		}
	}()
	h := newHistory(s, rand.New(rand.NewPCG(seed, 1)))
	for range 12 * pagesEvery {
		h.step(t, 20_000)
	}
	looked, err := Look(Options{Dir: dir, Pipeline: "p"})
	if err != nil || !looked.Running() {
		t.Fatal(err)
	}
	if n := h.is(t, looked, "looked at"); n != 12*pagesEvery {
		t.Errorf("looked at epoch %d", n)
	}
	copyOf := looked.opt.Dir
	if err := looked.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(copyOf); !errors.Is(err, os.ErrNotExist) {
		t.Error("the copy is left")
	}
	close(stop)
	all := <-taken
	different := map[uint64]bool{}
	for _, b := range all {
		if b.err != nil {
			t.Fatal(b.err)
		}
		to := filepath.Join(t.TempDir(), "state")
		if out, err := Restore(Options{Dir: to, Pipeline: "p"}, b.file, false, nil); err != nil || out.Epoch != b.info.Epoch || out.Keys != b.info.Keys {
			t.Fatalf("%v, %v of %v", err, out, b.info)
		}
		r := open(t, to)
		if n := h.is(t, r, "restored"); n != b.info.Epoch {
			t.Errorf("epoch %d, but it says %d", n, b.info.Epoch)
		}
		different[b.info.Epoch] = true
		r.Close()
	}
	if len(different) < 3 {
		t.Errorf("%d backups of %d epochs", len(all), len(different))
	}
}

// Whoever asks and then does not read holds up neither commits nor Close.
func TestHungAsker(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	recoverModel(t, s)
	h := newHistory(s, rand.New(rand.NewPCG(1, 1)))
	for range 20 {
		h.step(t, 400_000) // more than a socket takes
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	short, done, err := socketPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	c, err := net.Dial("unix", short)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		h.step(t, 400_000)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	h.is(t, s, "reopened")
}

// A restore that fails half way leaves what was there; one that is killed leaves a folder that no run takes for a state.
func TestRestoreFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	recoverModel(t, s)
	h := newHistory(s, rand.New(rand.NewPCG(1, 1)))
	for range 10 {
		h.step(t, 400_000)
	}
	s.Close()
	file := filepath.Join(t.TempDir(), "backup")
	if _, err := Backup(Options{Dir: dir, Pipeline: "p"}, file, nil); err != nil {
		t.Fatal(err)
	}
	looks := 0
	filling := func(string) (uint64, error) {
		if looks++; looks > 3 {
			return FreeMin - 1, nil
		}
		return 1 << 40, nil
	}
	_, err := Restore(Options{Dir: dir, Pipeline: "p", Free: filling}, file, true, nil)
	if err == nil || !strings.Contains(err.Error(), "make room") {
		t.Fatalf("on a disk that fills: %v", err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	looks = 0
	if _, err := Restore(Options{Dir: empty, Pipeline: "p", Free: filling}, file, false, nil); err == nil {
		t.Fatal("on a disk that fills: no error")
	}
	for _, d := range []string{dir, empty} {
		s := open(t, d)
		if n := h.is(t, s, "after it failed"); d == dir && n != 10 || d == empty && n != 0 {
			t.Errorf("%s: epoch %d", d, n)
		}
		s.Close()
	}
	if old, _ := filepath.Glob(filepath.Join(dir, "old*")); len(old) > 0 {
		t.Errorf("%v is left", old)
	}
	if _, err := Restore(Options{Dir: dir, Pipeline: "p", Free: free(FreeMin)}, file, true, nil); err == nil || !strings.Contains(err.Error(), "make room first") {
		t.Errorf("without room: %v", err)
	}
	os.WriteFile(filepath.Join(dir, markerName), []byte(`{"restoring":true}`), 0o644)
	if _, err := Open(Options{Dir: dir, Pipeline: "p"}); err == nil || !strings.Contains(err.Error(), "restore that was interrupted") {
		t.Errorf("half restored: %v", err)
	}
	if out, err := Restore(Options{Dir: dir, Pipeline: "p"}, file, true, nil); err != nil || out.Aside != "" {
		t.Errorf("again: %v, %v", out, err)
	}
	s = open(t, dir)
	defer s.Close()
	if n := h.is(t, s, "restored again"); n != 10 {
		t.Errorf("epoch %d", n)
	}
	if _, err := Restore(Options{Dir: dir, Pipeline: "p"}, file, true, nil); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("in use: %v", err)
	}
	photos := filepath.Dir(file)
	if _, err := Restore(Options{Dir: photos, Pipeline: "p"}, file, true, nil); err == nil || !strings.Contains(err.Error(), "is no Tocsin state") {
		t.Errorf("among other files: %v", err)
	}
}

// A database whose disk is full is left as it is, not closed: closing would write.
func TestCloseOnFullDisk(t *testing.T) {
	left := uint64(1 << 40)
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(Options{Dir: dir, Pipeline: "p", Free: func(string) (uint64, error) { return left, nil }})
	if err != nil {
		t.Fatal(err)
	}
	recoverModel(t, s)
	h := newHistory(s, rand.New(rand.NewPCG(1, 1)))
	h.step(t, 1000)
	db := s.db
	left = closeMin - 1
	s.Close()
	if db.IsClosed() {
		t.Error("it was closed")
	}
	db.Close()
	s = open(t, dir)
	defer s.Close()
	h.is(t, s, "reopened")
}

// While the state is open its disk is looked at, and whoever must end the process is told once.
func TestFullIsTold(t *testing.T) {
	told := make(chan error, 8)
	s, err := Open(Options{Dir: filepath.Join(t.TempDir(), "state"), Pipeline: "p", Free: free(FreeMin), Full: func(err error) { told <- err }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || len(told) > 0 {
		t.Errorf("with room: %v, %d", err, len(told))
	}
	left := make(chan uint64, 1000)
	s, err = Open(Options{Dir: filepath.Join(t.TempDir(), "state"), Pipeline: "p", Full: func(err error) { told <- err }, Free: func(string) (uint64, error) {
		select {
		case n := <-left:
			return n, nil
		default:
			return FreeMin, nil
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	left <- fullMin - 1
	if err := <-told; !strings.Contains(err.Error(), "make room") {
		t.Error(err)
	}
}

// A backup is any bytes: they end in an error, or in what was written.
func FuzzBackup(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "state")
	s, err := Open(Options{Dir: dir, Pipeline: "p"})
	if err != nil {
		f.Fatal(err)
	}
	var whole bytes.Buffer
	if err := errors.Join(s.writeBackup(&whole), s.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := readBackup(bytes.NewReader(b), func(key, value []byte) error {
			if len(key) == 0 {
				t.Error("an empty key")
			}
			return nil
		})
		if err == nil && info.Pipeline == "" && info.Keys > 0 && !bytes.HasPrefix(b, []byte(backupMagic)) {
			t.Error("what is no backup is read as one")
		}
	})
}

// Logs and tables are any bytes, too.
func FuzzFiles(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(make([]byte, logHeader), logTxn, 0, 12, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l := records(b); l.end > len(b) {
			t.Errorf("it ends at %d of %d", l.end, len(b))
		}
		path := filepath.Join(t.TempDir(), "table")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := wholeTable(path); err == nil {
			t.Error("no table is that")
		}
	})
}
