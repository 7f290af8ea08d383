package state

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// socketName is where a process that uses a state says what it holds: a backup to everybody who connects, and nothing else. The file
// has mode 0600.
const socketName = "socket"

// answerMax is how long one write of an answer may take.
const answerMax = 30 * time.Second

// Serve lets others read the state while this process uses it, until Close. Answers are read transactions: commits do not wait for
// them. One asker is answered at a time.
func (s *Store) Serve() error {
	path := filepath.Join(s.opt.Dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of a run that was killed: the state is locked by us
		return err
	}
	short, free, err := socketPath(s.opt.Dir)
	if err != nil {
		return err
	}
	defer free()
	l, err := listenPrivate(short)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its path is not the one we know
	s.server = &server{store: s, listener: l, path: path}
	s.server.done.Add(1)
	go s.server.loop()
	return nil
}

type server struct {
	store    *Store
	listener net.Listener
	path     string
	done     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conn   net.Conn // being answered
}

func (x *server) loop() {
	defer x.done.Done()
	for {
		c, err := x.listener.Accept()
		if err != nil {
			x.mu.Lock()
			over := x.closed
			x.mu.Unlock()
			if over {
				return
			}
			time.Sleep(answerMax / 100) // out of files, say
			continue
		}
		if !x.current(c) {
			c.Close()
			return
		}
		_ = x.store.writeBackup(patient{c}) // the asker sees that it is not whole
		c.Close()
	}
}

func (x *server) current(c net.Conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conn = c
	return !x.closed
}

// close breaks an answer off and waits until nothing reads the database.
func (x *server) close() {
	x.mu.Lock()
	x.closed = true
	if x.conn != nil {
		x.conn.Close()
	}
	x.mu.Unlock()
	x.listener.Close()
	x.done.Wait()
	os.Remove(x.path)
}

// patient is a connection whose reader may take its time, but not for ever.
type patient struct{ net.Conn }

func (p patient) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(answerMax)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(2 * answerMax)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// ask connects to the process that uses the state in dir.
func ask(dir string) (io.ReadCloser, error) {
	short, free, err := socketPath(dir)
	if err == nil {
		defer free()
		var c net.Conn
		if c, err = net.Dial("unix", short); err == nil {
			return patient{c}, nil
		}
	}
	return nil, fmt.Errorf("is in use by another process, which does not answer (%w); try again, or stop that process", err)
}
