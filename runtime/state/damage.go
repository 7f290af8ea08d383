package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// intact reads the files of a database before Badger does, and says what is damaged. Badger leaves out a table whose index is
// damaged, deletes tables that its manifest no longer names, does not look at the checksums of blocks, and panics on lengths
// that are garbage. Half a record at the end of the newest log is no damage: it was being written when the process was killed.
func intact(folder string) error {
	files, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	byKind := map[string][]string{}
	for _, f := range files {
		kind := filepath.Ext(f.Name())
		byKind[kind] = append(byKind[kind], f.Name())
	}
	oldest := uint64(math.MaxUint64)
	for _, kind := range []string{".mem", ".vlog"} {
		lo, err := tidyLogs(folder, byKind[kind])
		if err != nil {
			return err
		}
		oldest = min(oldest, lo)
	}
	return tables(folder, byKind[".sst"], len(byKind[".mem"]) > 0, oldest)
}

// tables checks the tables that the manifest names, and that it names those it should: the first version in the logs is oldest.
func tables(folder string, found []string, logs bool, oldest uint64) error {
	path := filepath.Join(folder, badger.ManifestFilename)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && len(found) == 0 && !logs {
		return nil
	}
	m, err := readManifest(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	there := map[uint64]string{}
	for _, name := range found {
		if id, ok := table.ParseFileID(name); ok {
			there[id] = filepath.Join(folder, name)
		}
	}
	mended, flushes := m.without(there)
	newest := uint64(0)
	for id := range m.live() {
		if there[id] == "" {
			return fmt.Errorf("%s is not there", table.NewFilename(id, folder))
		}
		last, err := wholeTable(there[id])
		if err != nil {
			return fmt.Errorf("%s: %w", there[id], err)
		}
		newest = max(newest, last)
	}
	if mended {
		// Nothing is lost if the logs go on where the tables end.
		if flushes && oldest > newest+1 {
			return fmt.Errorf("%s names tables that are not there", path)
		}
		return m.write(path)
	}
	for id, path := range there {
		if m.named[id] {
			continue
		}
		// Being made when the process was killed: what is in it is still in a log or in other tables.
		if last, err := wholeTable(path); err == nil && last > newest && last < oldest {
			return fmt.Errorf("%s has lost its end, which named %s", badger.ManifestFilename, path)
		}
	}
	return nil
}

// manifest is Badger's list of tables: the changes of it, one after the other.
type manifest struct {
	head  []byte // magic and version
	sets  []changeSet
	named map[uint64]bool // every table that was ever created
}

type changeSet struct {
	raw     []byte // as it stands in the file, with length and checksum
	created []uint64
	deleted []uint64
}

func readManifest(path string) (m manifest, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	if _, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(filepath.Dir(path))); err != nil {
		return m, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	m.named = map[uint64]bool{}
	m.head = data[:8] // it was read before
	for data = data[8:]; len(data) >= 8; {
		n := int64(binary.BigEndian.Uint32(data)) + 8
		if n > int64(len(data)) {
			break // half a record: the process was killed
		}
		set := changeSet{raw: data[:n]}
		var pbSet pb.ManifestChangeSet
		if err := proto.Unmarshal(data[8:n], &pbSet); err != nil {
			return m, err
		}
		for _, c := range pbSet.Changes {
			if c.Op == pb.ManifestChange_DELETE {
				set.deleted = append(set.deleted, c.Id)
			} else {
				set.created = append(set.created, c.Id)
				m.named[c.Id] = true
			}
		}
		m.sets = append(m.sets, set)
		data = data[n:]
	}
	return m, nil
}

// live are the tables that there should be.
func (m *manifest) live() map[uint64]bool {
	live := map[uint64]bool{}
	for _, set := range m.sets {
		for _, id := range set.created {
			live[id] = true
		}
		for _, id := range set.deleted {
			delete(live, id)
		}
	}
	return live
}

// without takes changes back that create tables which are not there. Badger writes a change and syncs it; if that fails, it removes
// the new tables, and what they were made of stays: other tables, or, of a flush, the log.
func (m *manifest) without(there map[uint64]string) (mended, flushes bool) {
	live := m.live()
	m.sets = slices.DeleteFunc(m.sets, func(set changeSet) bool {
		gone := slices.ContainsFunc(set.created, func(id uint64) bool { return live[id] && there[id] == "" })
		mended = mended || gone
		flushes = flushes || gone && len(set.deleted) == 0
		return gone
	})
	return mended, flushes
}

func (m *manifest) write(path string) error {
	data := bytes.Clone(m.head)
	for _, set := range m.sets {
		data = append(data, set.raw...)
	}
	f, err := os.Create(path + ".mended")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

var (
	errTable = errors.New("the table is damaged")
	errLog   = errors.New("the log is damaged")
)

// wholeTable checks index and blocks of a table, and returns the newest version in it.
func wholeTable(path string) (newest uint64, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	index, sum, ok := cutSum(data)
	if !ok || len(index) < 4 {
		return 0, errTable
	}
	n := uint64(binary.BigEndian.Uint32(index[len(index)-4:]))
	if index = index[:len(index)-4]; n > uint64(len(index)) {
		return 0, errTable
	}
	blocks := index[:uint64(len(index))-n]
	if index = index[len(blocks):]; len(index) == 0 || y.VerifyChecksum(index, sum) != nil {
		return 0, errTable
	}
	x := fb.GetRootAsTableIndex(index, 0)
	for i := range x.OffsetsLength() {
		var at fb.BlockOffset
		x.Offsets(&at, i)
		end := uint64(at.Offset()) + uint64(at.Len())
		if end > uint64(len(blocks)) {
			return 0, errTable
		}
		block, sum, ok := cutSum(blocks[at.Offset():end])
		if !ok || y.VerifyChecksum(block, sum) != nil {
			return 0, errTable
		}
	}
	return x.MaxVersion(), nil
}

// cutSum takes what ends in a checksum and its length apart.
func cutSum(b []byte) (rest []byte, sum *pb.Checksum, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(b[len(b)-4:]))
	if b = b[:len(b)-4]; n > uint64(len(b)) {
		return nil, nil, false
	}
	sum = &pb.Checksum{}
	at := uint64(len(b)) - n
	return b[:at], sum, proto.Unmarshal(b[at:], sum) == nil
}

// Logs begin with logHeader bytes; then comes a record after the other, and zeros. A record is meta, user meta, lengths of key and
// value, expiry (varints), key, value, CRC-32C; a transaction ends with one that has the bit logFin.
const (
	logHeader = 20
	logTxn    = 1 << 6
	logFin    = 1 << 7
)

// tidyLogs checks logs, and cuts off what the newest that holds anything ends in. It returns the first version in them.
func tidyLogs(folder string, names []string) (oldest uint64, err error) {
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	newest := true
	oldest = math.MaxUint64
	for _, name := range slices.Backward(names) {
		path := filepath.Join(folder, name)
		l, err := readLog(path)
		if err != nil {
			return 0, err
		}
		oldest = min(oldest, l.first)
		switch {
		case l.clean:
		case !newest:
			return 0, fmt.Errorf("%s: %w", path, errLog)
		default:
			if err := os.Truncate(path, int64(l.end)); err != nil {
				return 0, err
			}
		}
		newest = newest && l.end <= logHeader
	}
	return oldest, nil
}

// logEnd is where the whole transactions of a log end, whether nothing but zeros follows, and the first version.
type logEnd struct {
	end   int
	clean bool
	first uint64
}

// readLog reads as much of a log as is used: logs are made larger than that.
func readLog(path string) (logEnd, error) {
	f, err := os.Open(path)
	if err != nil {
		return logEnd{}, err
	}
	defer f.Close()
	for size := int64(1 << 16); ; size *= 4 {
		data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
		if err != nil {
			return logEnd{}, err
		}
		if l := records(data); l.clean || int64(len(data)) < size {
			return l, nil
		}
	}
}

func records(data []byte) logEnd {
	l := logEnd{end: min(logHeader, len(data)), first: math.MaxUint64}
	version, open := uint64(0), false
	for at := l.end; ; {
		meta, key, value, n := logRecord(data[at:])
		if n == 0 { // zeros, or the end of the file
			l.clean = !open
			return l
		}
		at += n
		switch ts := y.ParseTs(key); {
		case n < 0 || meta&logTxn == 0 && meta&logFin == 0 && open:
			return l
		case meta&logFin != 0 && meta&logTxn == 0:
			if !open || strconv.FormatUint(version, 10) != string(value) {
				return l
			}
			open = false
		case meta&logTxn != 0:
			if open && ts != version {
				return l
			}
			version, open = ts, true
			l.first = min(l.first, ts)
		}
		if !open {
			l.end = at
		}
	}
}

// logRecord reads a record and its length, 0 if none begins here, -1 if it is half a record or garbage.
func logRecord(b []byte) (meta byte, key, value []byte, n int) {
	if len(bytes.TrimLeft(b[:min(len(b), 5)], "\x00")) == 0 {
		return 0, nil, nil, 0
	}
	if len(b) < 5 {
		return 0, nil, nil, -1
	}
	at := 2
	var lens [3]uint64
	for i := range lens {
		v, n := binary.Uvarint(b[at:])
		if n <= 0 {
			return 0, nil, nil, -1
		}
		lens[i], at = v, at+n
	}
	klen, vlen := lens[0], lens[1]
	if klen == 0 || klen > math.MaxUint16 || vlen > uint64(len(b)) || uint64(at)+klen+vlen+crc32.Size > uint64(len(b)) {
		return 0, nil, nil, -1
	}
	end := at + int(klen+vlen)
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return 0, nil, nil, -1
	}
	return b[0], b[at : at+int(klen)], b[at+int(klen) : end], end + crc32.Size
}
