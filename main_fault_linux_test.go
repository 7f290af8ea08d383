package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-98920119/tocsin/runtime/cli"
)

var faults = flag.Int("faults", 1, "of the tests of failing disks: rounds of every kind of fault")

// The kinds of failing disks: which system calls fail, and how. Badger writes through mmap, which no filter reaches; what it maps
// it has to create, size and sync.
var faultKinds = map[string]struct {
	errno syscall.Errno
	calls []uint32
}{
	"a failing sync":      {syscall.EIO, []uint32{unix.SYS_MSYNC, unix.SYS_FSYNC, unix.SYS_FDATASYNC}},
	"a failing msync":     {syscall.EIO, []uint32{unix.SYS_MSYNC}},
	"a failing fsync":     {syscall.EIO, []uint32{unix.SYS_FSYNC, unix.SYS_FDATASYNC}},
	"a disk without room": {syscall.ENOSPC, []uint32{unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_MKDIRAT}},
	"a disk turned read-only": {syscall.EROFS, []uint32{unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2,
		unix.SYS_MKDIRAT, unix.SYS_MSYNC}},
}

const faultLines = 60_000

const (
	faultEnv = "TOCSIN_TEST_FAULT" // kind, then after how many microseconds
	diskEnv  = "TOCSIN_TEST_DISK"  // a folder to mount small disks on, inside a namespace
)

// TestMain turns the test's binary into tocsin on a disk that begins to fail while it runs.
func TestMain(m *testing.M) {
	kind, after, ok := strings.Cut(os.Getenv(faultEnv), ",")
	if !ok {
		os.Exit(m.Run())
	}
	us, err := strconv.Atoi(after)
	if err != nil {
		panic(err)
	}
	go func() {
		time.Sleep(time.Duration(us) * time.Microsecond)
		if err := failCalls(faultKinds[kind].errno, faultKinds[kind].calls); err != nil {
			fmt.Fprintln(os.Stderr, "no filter:", err)
			os.Exit(77)
		}
	}()
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}

// failCalls makes system calls of all threads fail from now on. Writes to standard files and of 8 bytes, by which Go wakes its
// threads, go on.
func failCalls(errno syscall.Errno, calls []uint32) error {
	runtime.LockOSThread()
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	jump := func(op uint16, k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: uint8(yes), Jf: uint8(no), K: k}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	// struct seccomp_data: number at 0, arguments of 8 bytes from 16 on
	prog := []unix.SockFilter{load(0)}
	for i, nr := range calls {
		prog = append(prog, jump(unix.BPF_JEQ, nr, len(calls)-i, 0))
	}
	prog = append(prog, answer(unix.SECCOMP_RET_ALLOW),
		jump(unix.BPF_JEQ, unix.SYS_WRITE, 0, 4),
		load(16), jump(unix.BPF_JGT, 2, 0, 3),
		load(32), jump(unix.BPF_JEQ, 8, 1, 0),
		answer(unix.SECCOMP_RET_ERRNO|uint32(errno)),
		answer(unix.SECCOMP_RET_ALLOW))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p))); e != 0 {
		return e
	}
	return nil
}

// A disk that begins to fail at a random moment ends the run with status 1 and a next step, or does not matter; the next run, on a
// good disk, comes to the rows of an undisturbed one.
func TestFailingDisk(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	x := newTrial(t, "testdata/everything.yaml", faultLines)
	n := 0
	for round := range *faults {
		for kind := range faultKinds {
			n++
			what := fmt.Sprintf("round %d, %s", round, kind)
			pipeline, rows := moved(t, x.pipeline, mkdir(t, x.dir, fmt.Sprint("fault", n)), x.change...)
			after := x.r.Int64N(x.took.Microseconds())
			cmd := exec.Command(self, "run", "--quiet", pipeline)
			cmd.Env = append(os.Environ(), fmt.Sprint(faultEnv, "=", kind, ",", after))
			said, status := endedOrWaits(t, cmd, "file_rows")
			switch {
			case status == 77:
				t.Skip("this machine lets no process filter its system calls: ", said)
			case strings.Contains(said, "SIGQUIT"):
				t.Fatalf("%s after %d us: it hangs\n%s", what, after, said)
			case status > 0:
				refused(t, what, said, status)
			}
			t.Logf("%s after %d us: status %d %s", what, after, status, ending(said))
			if _, errs, status := x.run("run", "--quiet", pipeline); status != 0 {
				t.Fatalf("%s, and then: status %d, %s", what, status, errs)
			}
			x.same(rows, what)
		}
	}
}

// waited runs a command, kills it after a time, and returns what it said and its status, -1 if it was killed.
func waited(t *testing.T, cmd *exec.Cmd, most time.Duration) (said string, status int) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(most, func() { _ = cmd.Process.Kill() }).Stop()
	_ = cmd.Wait()
	return errs.String(), cmd.ProcessState.ExitCode()
}

// endedOrWaits runs a command until it ends, or says that it waits for an output, and is killed: status -1. If it does neither for
// minutes it hangs, and has to say where.
func endedOrWaits(t *testing.T, cmd *exec.Cmd, output string) (said string, status int) {
	t.Helper()
	errs := &sayings{}
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) }).Stop()
	over := make(chan struct{})
	go func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
				if strings.Contains(errs.String(), output) {
					time.Sleep(time.Second) // or ends all the same
					_ = cmd.Process.Kill()
					return
				}
			}
		}
	}()
	_ = cmd.Wait()
	close(over)
	return errs.String(), cmd.ProcessState.ExitCode()
}

// refused fails unless a run ended by itself, with a message for people.
func refused(t *testing.T, what, said string, status int) {
	t.Helper()
	for _, bad := range []string{"panic", "goroutine ", "SIGBUS", "fatal error"} {
		if strings.Contains(said, bad) {
			t.Fatalf("%s: it says %q\n%s", what, bad, said)
		}
	}
	step := slices.ContainsFunc([]string{"start again", "try again", "restore", "make room", "writable", "choose another"}, func(s string) bool { return strings.Contains(said, s) })
	if status != 1 || !strings.Contains(said, "tocsin run: ") || !step {
		t.Fatalf("%s: status %d, and no next step in\n%s", what, status, said)
	}
}

// ending is the line in which a run says why it ended, if it does.
func ending(said string) string {
	_, s, _ := strings.Cut(said, "tocsin run: ")
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// Files of a killed state that are cut off or garbled at random: the next run comes to the rows of an undisturbed one, or refuses
// with a next step. Never a crash, never other rows.
func TestDamagedFiles(t *testing.T) {
	x := newTrial(t, "testdata/everything.yaml", faultLines)
	refusals, recoveries := 0, 0
	for round := range *faults {
		dir := mkdir(t, x.dir, fmt.Sprint("killed", round))
		pipeline, _ := moved(t, x.pipeline, dir, x.change...)
		cmd := exec.Command(x.binary, "run", "--quiet", pipeline)
		if said, status := waited(t, cmd, x.took/8+time.Duration(x.r.Int64N(int64(x.took/2)))); status != -1 {
			t.Fatalf("over before the kill: %s", said)
		}
		files, err := filepath.Glob(filepath.Join(dir, "state", "badger", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for i, file := range files {
			to := mkdir(t, x.dir, fmt.Sprint("damaged", round, "-", i))
			if out, err := exec.Command("cp", "-r", dir+"/.", to).CombinedOutput(); err != nil {
				t.Fatalf("%s", out)
			}
			pipeline, rows := moved(t, x.pipeline, to, x.change...)
			what := x.damage(filepath.Join(to, "state", "badger", filepath.Base(file)))
			_, said, status := x.run("run", "--quiet", pipeline)
			if status != 0 {
				refused(t, what, said, status)
				t.Logf("%s: %s", what, ending(said))
				refusals++
				continue
			}
			x.sameAgain(rows, what)
			recoveries++
		}
	}
	t.Logf("%d recovered, %d refused", recoveries, refusals)
}

// damage cuts a file off at a random place among its bytes that are not zero, or garbles some there, most often near the end.
func (x *trial) damage(path string) (what string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	defer f.Close()
	used, err := usedBytes(f)
	if err != nil {
		x.t.Fatal(err)
	}
	back := used
	if x.r.IntN(3) > 0 {
		back = min(used, 2000)
	}
	at := used - x.r.Int64N(back+1)
	if x.r.IntN(2) == 0 {
		if err := f.Truncate(at); err != nil {
			x.t.Fatal(err)
		}
		return fmt.Sprintf("%s cut off at %d of %d", filepath.Base(path), at, used)
	}
	b := make([]byte, 1+x.r.IntN(200))
	for i := range b {
		b[i] = byte(x.r.Uint32())
	}
	if _, err := f.WriteAt(b, at); err != nil {
		x.t.Fatal(err)
	}
	return fmt.Sprintf("%s garbled at %d of %d, %d bytes", filepath.Base(path), at, used, len(b))
}

// usedBytes is where the zeros begin that a file ends in.
func usedBytes(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<16)
	for end := info.Size(); end > 0; {
		chunk := buf[:min(end, int64(len(buf)))]
		end -= int64(len(chunk))
		if _, err := f.ReadAt(chunk, end); err != nil {
			return 0, err
		}
		if rest := bytes.TrimRight(chunk, "\x00"); len(rest) > 0 {
			return end + int64(len(rest)), nil
		}
	}
	return 0, nil
}

// A small disk of its own, in a namespace of its own: the test runs itself there.
func onSmallDisk(t *testing.T) (disk string) {
	t.Helper()
	disk = filepath.Join(t.TempDir(), "disk")
	if os.Getenv(diskEnv) != "" {
		if err := os.Mkdir(disk, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("none", disk, "tmpfs", 0, "size=420m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
		return disk
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^"+t.Name()+"$", "-test.v", fmt.Sprint("-faults=", *faults))
	cmd.Env = append(os.Environ(), diskEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Skip("this machine lets the test have no disk of its own: ", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

// A disk that another process fills while the pipeline runs: the run ends with status 1 and says to make room; so
// does the next; with room again it comes to the rows of an undisturbed run.
func TestFullDisk(t *testing.T) {
	disk := onSmallDisk(t)
	if disk == "" {
		return
	}
	x := newTrial(t, "testdata/everything.yaml", faultLines)
	for round := range 2 * *faults {
		what := fmt.Sprint("round ", round)
		change := append(slices.Clone(x.change), "./state/everything", filepath.Join(disk, fmt.Sprint("state", round)))
		dir := mkdir(t, x.dir, what)
		pipeline, rows := moved(t, x.pipeline, dir, change...)
		filler := filepath.Join(disk, "filler")
		after := time.Duration(x.r.Int64N(int64(x.took)))
		go func() {
			time.Sleep(after)
			fill(filler)
		}()
		said, status := waited(t, exec.Command(x.binary, "run", "--quiet", pipeline), 20*x.took)
		if status != 0 {
			refused(t, what, said, status)
		}
		t.Logf("%s: full after %s, status %d, %s", what, after, status, ending(said))
		fill(filler)
		for _, args := range [][]string{{"run", "--quiet", pipeline}, {"run", "--quiet", pipeline}} {
			if _, errs, status := x.run(args...); status != 1 || !strings.Contains(errs, "make room") {
				t.Fatalf("%s, on the full disk, %v: status %d, %s", what, args, status, errs)
			}
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if _, errs, status := x.run("run", "--quiet", pipeline); status != 0 {
			t.Fatalf("%s, with room again: %s", what, errs)
		}
		x.same(rows, what)
		if err := os.RemoveAll(filepath.Join(disk, fmt.Sprint("state", round))); err != nil {
			t.Fatal(err)
		}
	}
}

// fill writes a file until the disk is full, at most a GB a second, which is what a fast disk takes.
func fill(path string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
		time.Sleep(time.Millisecond)
	}
}

// A state on a disk that is mounted read-only: run says that it cannot write; state and backup read it.
func TestReadOnlyDisk(t *testing.T) {
	disk := onSmallDisk(t)
	if disk == "" {
		return
	}
	binary, dir := build(t), t.TempDir()
	pipeline, _ := moved(t, "pipelines/quickstart.yaml", dir, "./state/quickstart", filepath.Join(disk, "state"))
	if _, errs, status := command(binary, "run", "--quiet", pipeline); status != 0 {
		t.Fatal(errs)
	}
	before, _, _ := command(binary, "state", pipeline)
	if err := syscall.Mount("none", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, errs, status := command(binary, "run", "--quiet", pipeline)
	refused(t, "run", errs, status)
	if after, errs, status := command(binary, "state", pipeline); status != 0 || after != before {
		t.Errorf("state: status %d, %s\n%s\nwant\n%s", status, errs, after, before)
	}
	if _, errs, status := command(binary, "state", "backup", pipeline, filepath.Join(dir, "backup")); status != 0 {
		t.Errorf("backup: %s", errs)
	}
	if _, errs, status := command(binary, "state", "restore", "--force", pipeline, filepath.Join(dir, "backup")); status != 1 || !strings.Contains(errs, "writable") && !strings.Contains(errs, "read-only") {
		t.Errorf("restore: status %d, %s", status, errs)
	}
}

// Badger ends the process by itself when a file of its cannot be made: that too is a line, and a next step.
func TestLibraryEndsTheRun(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	pipeline, _ := quickstart(t, dir)
	if _, errs, status := command(binary, "run", "--quiet", pipeline); status != 0 {
		t.Fatal(errs)
	}
	discard := filepath.Join(dir, "state", "badger", "DISCARD")
	if err := errors.Join(os.Remove(discard), os.Mkdir(discard, 0o755)); err != nil {
		t.Fatal(err)
	}
	_, errs, status := command(binary, "run", "--quiet", pipeline)
	refused(t, "no DISCARD", errs, status)
	if n := strings.Count(errs, "\n"); n != 1 || !strings.Contains(errs, "DISCARD") {
		t.Errorf("%d lines:\n%s", n, errs)
	}
}
