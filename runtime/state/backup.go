package state

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/s2"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// A backup is one file:
//
//	backupMagic
//	BackupInfo as JSON, a line
//	s2 stream of: length key length value, for every key of the database in order
//	              0, number of keys, SHA-256 of everything before, magic and info included
//
// It is what one read transaction of Badger sees. At the border of any two transactions the database is what a crash there would
// leave, so a backup restores as a crash does: to the last epoch that was committed when it was taken.
const backupMagic = "TOCSIN STATE BACKUP\n"

const backupFormat = 1

// What a damaged length can make a reader ask for, in bytes.
const (
	backupKeyMax   = 1 << 16
	backupValueMax = 64 << 20
	backupInfoMax  = 1 << 16
)

// BackupInfo says what a backup is of.
type BackupInfo struct {
	Backup   int       `json:"backup"` // format of the file
	Format   int       `json:"format"` // of the state
	Pipeline string    `json:"pipeline"`
	Epoch    uint64    `json:"epoch"` // the last one committed
	Taken    time.Time `json:"taken"`

	Keys  uint64 `json:"-"` // how many, and their bytes with their values; known when it was read whole
	Bytes uint64 `json:"-"`
}

// writeBackup writes a backup of the database. It may run beside commits.
func (s *Store) writeBackup(w io.Writer) error {
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	info := BackupInfo{Backup: backupFormat, Format: Format, Pipeline: s.opt.Pipeline, Epoch: newestEpoch(txn), Taken: time.Now().UTC().Truncate(time.Second)}
	head, err := json.Marshal(info)
	if err != nil {
		return err
	}
	sum := sha256.New()
	head = append(append([]byte(backupMagic), head...), '\n')
	if _, err := io.MultiWriter(w, sum).Write(head); err != nil {
		return err
	}
	packed := s2.NewWriter(w, s2.WriterConcurrency(1))
	if err := writePairs(txn, io.MultiWriter(packed, sum), packed, sum); err != nil {
		return err
	}
	return packed.Close()
}

// writePairs writes every key with its value to both, then the end to packed.
func writePairs(txn *badger.Txn, both, packed io.Writer, sum hash.Hash) error {
	it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 16})
	defer it.Close()
	out := bufio.NewWriterSize(both, 1<<16)
	var scratch []byte
	keys := uint64(0)
	for it.Rewind(); it.Valid(); it.Next() {
		err := it.Item().Value(func(v []byte) error {
			scratch = event.AppendBytes(scratch[:0], it.Item().Key())
			scratch = binary.AppendUvarint(scratch, uint64(len(v)))
			_, err := out.Write(scratch)
			if err == nil {
				_, err = out.Write(v)
			}
			return err
		})
		if err != nil {
			return err
		}
		keys++
	}
	if _, err := out.Write(binary.AppendUvarint([]byte{0}, keys)); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := packed.Write(sum.Sum(nil))
	return err
}

// newestEpoch is the last epoch that has a record.
func newestEpoch(txn *badger.Txn) (newest uint64) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("e")})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if k := it.Item().Key(); len(k) == 17 {
			newest = max(newest, be64(k[1:]))
		}
	}
	return newest
}

// What is wrong with a file that should be a backup, and with one that is on its way.
var (
	errNoBackup   = errors.New("it is no backup of a state")
	errTornBackup = errors.New("it is damaged or not whole; take another one")
	errCutOff     = errors.New("the process that uses the state has ended meanwhile, or cannot read it; try again")
)

// readBackup reads a backup to its end and gives every key with its value, views. What it gives is only good if it ends without an
// error.
func readBackup(r io.Reader, give func(key, value []byte) error) (info BackupInfo, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	sum := sha256.New()
	if info, err = readInfo(in, sum); err != nil {
		return info, err
	}
	d := backupReader{in: bufio.NewReaderSize(s2.NewReader(in), 1<<16), sum: sum}
	var key, value, last []byte
	for {
		if key = d.bytes(key, backupKeyMax); d.err == nil && len(key) == 0 {
			break
		}
		value = d.bytes(value, backupValueMax)
		switch {
		case d.err != nil:
			return info, errTornBackup
		case info.Keys > 0 && bytes.Compare(key, last) <= 0:
			return info, errTornBackup
		}
		if err := give(key, value); err != nil {
			return info, err
		}
		last = append(last[:0], key...)
		info.Keys++
		info.Bytes += uint64(len(key) + len(value))
	}
	keys := d.uint()
	want := sum.Sum(nil)
	got := make([]byte, len(want))
	if d.err != nil || keys != info.Keys {
		return info, errTornBackup
	}
	if _, err := io.ReadFull(d.in, got); err != nil || !bytes.Equal(got, want) {
		return info, errTornBackup
	}
	if _, err := d.in.ReadByte(); err != io.EOF {
		return info, errTornBackup
	}
	return info, nil
}

func readInfo(in *bufio.Reader, sum hash.Hash) (info BackupInfo, err error) {
	head := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(in, head); err != nil || string(head) != backupMagic {
		return info, errNoBackup
	}
	for {
		b, err := in.ReadByte()
		if err != nil || len(head) > backupInfoMax {
			return info, errTornBackup
		}
		if head = append(head, b); b == '\n' {
			break
		}
	}
	sum.Write(head)
	if err := json.Unmarshal(head[len(backupMagic):], &info); err != nil {
		return info, errTornBackup
	}
	if info.Backup != backupFormat || info.Format != Format {
		return info, fmt.Errorf("it has format %d of a state of format %d, this binary reads format %d of format %d; use the binary that wrote it",
			info.Backup, info.Format, backupFormat, Format)
	}
	return info, nil
}

// backupReader reads lengths and bytes, and sums them up.
type backupReader struct {
	in  *bufio.Reader
	sum hash.Hash
	err error
}

// ReadByte is there for binary.ReadUvarint.
func (d *backupReader) ReadByte() (byte, error) {
	b, err := d.in.ReadByte()
	if err == nil {
		d.sum.Write([]byte{b})
	}
	return b, err
}

func (d *backupReader) uint() (v uint64) {
	if d.err == nil {
		v, d.err = binary.ReadUvarint(d)
	}
	return v
}

func (d *backupReader) bytes(dst []byte, most uint64) []byte {
	n := d.uint()
	if n > most {
		d.err = errTornBackup
	}
	if d.err != nil {
		return dst[:0]
	}
	if uint64(cap(dst)) < n {
		dst = make([]byte, n)
	}
	dst = dst[:n]
	_, d.err = io.ReadFull(d.in, dst)
	d.sum.Write(dst)
	return dst
}

// Backup writes the state of opt.Dir to a file, which replaces a backup that is there, also beside a process that uses the state.
// progress is told how many bytes of the file are written; nil: nobody.
func Backup(opt Options, file string, progress func(bytes int64)) (info BackupInfo, err error) {
	if err := replaceable(file); err != nil {
		return info, err
	}
	from, err := openCopy(&opt)
	if err != nil {
		return info, err
	}
	defer from.Close()
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".part-*")
	if err != nil {
		return info, fmt.Errorf("backup %s: %w", file, err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	info, err = readBackup(io.TeeReader(from, &counted{w: tmp, told: progress}), func([]byte, []byte) error { return nil })
	switch cause := from.failure(); {
	case cause != nil:
		err = cause
	case errors.Is(err, errNoBackup) || errors.Is(err, errTornBackup):
		err = errCutOff
	}
	if err == nil && info.Pipeline != opt.Pipeline {
		err = fmt.Errorf("the state belongs to pipeline %q, not %q", info.Pipeline, opt.Pipeline)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(file))
	}
	if err != nil {
		return info, fmt.Errorf("backup %s: %w", file, err)
	}
	return info, nil
}

// replaceable refuses to write over anything but a backup.
func replaceable(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("backup %s: %w", file, err)
	}
	defer f.Close()
	head := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != backupMagic {
		return fmt.Errorf("backup %s: there is something else than a backup; name another file", file)
	}
	return nil
}

// counted counts what is written.
type counted struct {
	w    io.Writer
	n    int64
	told func(int64)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.n += int64(n); c.told != nil {
		c.told(c.n)
	}
	return n, err
}

// syncFolder waits until the names in a folder are on disk.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
