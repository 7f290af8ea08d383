package pipeline

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

// headSize is how many bytes of a file's beginning are kept as a hash: inodes are used again, beginnings of logs are not.
const headSize = 1024

// fileOrigin is what file_lines keeps with a position to know the file again. The offset beside it counts uncompressed
// bytes; size is that of the file as it lies on disk.
type fileOrigin struct {
	dev, ino uint64 // 0: the system has none
	kind     compression
	size     int64
	headLen  int // bytes at the file's start, at most headSize
	head     uint64
}

// originMark begins every origin of file_lines; its last byte is the version.
const originMark = "fl\x01"

// encode returns the origin as bytes: the mark, then varints, then eight bytes of hash.
func (o fileOrigin) encode() []byte {
	b := []byte(originMark)
	for _, v := range []uint64{o.dev, o.ino, uint64(o.kind), uint64(o.size), uint64(o.headLen)} {
		b = binary.AppendUvarint(b, v)
	}
	return binary.BigEndian.AppendUint64(b, o.head)
}

// decodeOrigin reads what encode wrote; false for anything else, such as another input's or a later version's.
func decodeOrigin(b []byte) (fileOrigin, bool) {
	rest, ok := strings.CutPrefix(string(b), originMark)
	if !ok {
		return fileOrigin{}, false
	}
	b = []byte(rest)
	var v [5]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(b); n <= 0 {
			return fileOrigin{}, false
		}
		b = b[n:]
	}
	if len(b) != 8 || v[2] > uint64(bzipped) || int64(v[3]) < 0 || v[4] > headSize {
		return fileOrigin{}, false
	}
	return fileOrigin{v[0], v[1], compression(v[2]), int64(v[3]), int(v[4]), binary.BigEndian.Uint64(b)}, true
}

// fileProbe is a file as it is now.
type fileProbe struct {
	dev, ino uint64
	kind     compression
	size     int64
	changed  time.Time
	head     []byte // its beginning, at most headSize bytes
	err      error  // why it cannot be read
}

// origin returns what is to be kept with the file's position.
func (p *fileProbe) origin() fileOrigin {
	return fileOrigin{p.dev, p.ino, p.kind, p.size, len(p.head), hashHead(p.head)}
}

func hashHead(head []byte) uint64 {
	h := fnv.New64a()
	h.Write(head)
	return h.Sum64()
}

// continues tells whether the file is the one that was read up to offset when o was kept. The device is left out: its
// number may change when a machine starts again.
func (p *fileProbe) continues(o fileOrigin, offset int64) bool {
	switch {
	case p.err != nil:
		return false
	case o.ino == 0 && o.headLen == 0 && offset == 0:
		return true // it could not be read, or was empty
	case p.ino != o.ino || p.kind != o.kind || len(p.head) < o.headLen:
		return false
	case p.kind == plain && p.size < offset, p.kind != plain && p.size < o.size:
		return false // it was truncated
	}
	return hashHead(p.head[:o.headLen]) == o.head
}

// filePartition is a file to read, under the name that it keeps for as long as it exists.
type filePartition struct {
	first  string // the path at which it was first seen
	gen    int
	path   string // where it is now
	offset int64  // where reading goes on, in uncompressed bytes
	origin []byte
	probe  *fileProbe
}

// name is the partition's identity.
func (p *filePartition) name() string { return p.first + "#" + strconv.Itoa(p.gen) }

// knownFile is a position of an earlier run.
type knownFile struct {
	filePartition
	was     fileOrigin
	ours    bool // was could be read
	claimed bool
}

// knownFiles are the stored positions, to be looked up by path and by inode.
type knownFiles struct {
	newest  map[string]*knownFile   // the highest generation of a path
	byInode map[uint64][]*knownFile // by path, newest generation first
}

// readKnown takes stored positions and their names apart.
func readKnown(positions map[string]Position) knownFiles {
	var all []*knownFile
	for name, pos := range positions {
		at := strings.LastIndexByte(name, '#')
		gen, err := strconv.Atoi(name[at+1:])
		if at < 0 || err != nil || gen < 0 {
			continue // another input's
		}
		k := &knownFile{filePartition: filePartition{first: name[:at], gen: gen, offset: pos.Offset, origin: pos.Origin}}
		k.was, k.ours = decodeOrigin(pos.Origin)
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *knownFile) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.gen, a.gen))
	})
	known := knownFiles{map[string]*knownFile{}, map[uint64][]*knownFile{}}
	for _, k := range all {
		if known.newest[k.first] == nil {
			known.newest[k.first] = k
		}
		if k.ours {
			known.byInode[k.was.ino] = append(known.byInode[k.was.ino], k)
		}
	}
	return known
}

// planPartitions decides, for each path, which partition its file is and where reading goes on. The order of the rules:
// the newest generation of the path, if it is still that file; a file known under another name, if it was renamed; else
// a new generation, read from the start. What is known and not found is left alone.
func planPartitions(paths []string, positions map[string]Position, look func(path string) *fileProbe) []*filePartition {
	known, plan := readKnown(positions), make([]*filePartition, len(paths))
	probes := make([]*fileProbe, len(paths))
	for i, path := range paths {
		probes[i] = look(path)
		if k := known.newest[path]; k != nil && k.ours && probes[i].continues(k.was, k.offset) {
			plan[i] = k.claim(path, probes[i])
		}
	}
	for i, path := range paths {
		if plan[i] != nil {
			continue
		}
		if k := known.renamed(probes[i], look); k != nil {
			plan[i] = k.claim(path, probes[i])
			continue
		}
		plan[i] = startPartition(known.newest[path], path, probes[i])
	}
	slices.SortFunc(plan, func(a, b *filePartition) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.gen, b.gen))
	})
	return plan
}

// claim continues a known partition.
func (k *knownFile) claim(path string, probe *fileProbe) *filePartition {
	k.claimed = true
	return &filePartition{k.first, k.gen, path, k.offset, probe.origin().encode(), probe}
}

// startPartition starts a partition. A file that cannot be looked at is taken for the one that was there before: nothing
// of it will be read in this run.
func startPartition(before *knownFile, path string, probe *fileProbe) *filePartition {
	p := &filePartition{first: path, path: path, origin: probe.origin().encode(), probe: probe}
	switch {
	case before != nil && probe.err != nil && !before.claimed:
		p.gen, p.offset, p.origin = before.gen, before.offset, before.origin
		before.claimed = true
	case before != nil:
		p.gen = before.gen + 1
	}
	return p
}

// renamed returns the known partition whose file now has another name. A file that still has its first name as well is a
// hard link, and an empty one has nothing to know it by.
func (known knownFiles) renamed(probe *fileProbe, look func(string) *fileProbe) *knownFile {
	if probe.err != nil || probe.ino == 0 {
		return nil
	}
	for _, k := range known.byInode[probe.ino] {
		if k.claimed || k.was.headLen == 0 || k.was.dev != probe.dev || !probe.continues(k.was, k.offset) {
			continue
		}
		if old := look(k.first); old.err != nil || old.ino != probe.ino || k != known.newest[k.first] {
			return k
		}
	}
	return nil
}
