package engine

import (
	"hash/maphash"
	"unsafe"
)

// keyTable finds the slots of keys in use, by open addressing with linear probing (Knuth, TAOCP 3, 6.4), and holds the bytes of
// the keys in chunks. Nothing in it points to a key, so that the garbage collector has nothing to follow however many there are:
// with a map of strings, half a million keys in use cost a third of all work.
//
// A chunk is never written twice: a view of a key stays what it was, also when the key is gone.
type keyTable struct {
	words  []uint64  // 0: free; else 32 bits of the key's hash, then one more than its slot
	n      int       // keys
	where  []keyName // by slot
	chunks [][]byte  // nil: its keys are gone
	held   []int32   // of each chunk the bytes of keys that are in use
	spare  []uint32  // chunks that are nil
	filled uint32    // the chunk that is being filled
	bytes  int64     // of all chunks
	live   int64     // of keys in use
}

// keyName says where a key is.
type keyName struct{ chunk, at, size uint32 }

const (
	tableLeast = 64       // words
	chunkBytes = 16 << 10 // a key of more than a quarter has a chunk of its own
)

var nameSeed = maphash.MakeSeed()

func nameHash(key []byte) uint32 { return uint32(maphash.Bytes(nameSeed, key) >> 32) }

// find returns the slot of a key that is in use.
func (t *keyTable) find(key []byte) (ref int32, ok bool) {
	if t.n == 0 {
		return 0, false
	}
	h, mask := nameHash(key), len(t.words)-1
	for i := t.home(h); t.words[i] != 0; i = (i + 1) & mask {
		if w := t.words[i]; uint32(w>>32) == h {
			if ref = int32(uint32(w)) - 1; string(t.key(ref)) == string(key) {
				return ref, true
			}
		}
	}
	return 0, false
}

// home is where a hash's word would be if no other were there.
func (t *keyTable) home(h uint32) int { return int(uint64(h) * uint64(len(t.words)) >> 32) }

// key is a view of the key of a slot in use.
func (t *keyTable) key(ref int32) []byte {
	n := t.where[ref]
	return t.chunks[n.chunk][n.at : n.at+n.size : n.at+n.size]
}

// text is the same as a string.
func (t *keyTable) text(ref int32) string {
	key := t.key(ref)
	return unsafe.String(unsafe.SliceData(key), len(key))
}

// add puts a key, which is copied and must not be there, into a slot.
func (t *keyTable) add(key []byte, ref int32) {
	if 4*t.n >= 3*len(t.words) {
		t.resize(max(tableLeast, 2*len(t.words)))
	}
	t.n++
	for int(ref) >= len(t.where) {
		t.where = append(t.where, keyName{})
	}
	t.where[ref] = t.store(key)
	t.place(uint64(nameHash(key))<<32 | uint64(ref+1))
}

func (t *keyTable) place(word uint64) {
	i, mask := t.home(uint32(word>>32)), len(t.words)-1
	for t.words[i] != 0 {
		i = (i + 1) & mask
	}
	t.words[i] = word
}

func (t *keyTable) resize(n int) {
	old := t.words
	t.words = make([]uint64, n)
	for _, w := range old {
		if w != 0 {
			t.place(w)
		}
	}
}

// store copies a key into a chunk.
func (t *keyTable) store(key []byte) keyName {
	c, n := t.filled, len(key)
	switch {
	case n > chunkBytes/4:
		c = t.chunk(n)
	case len(t.chunks) == 0 || cap(t.chunks[c])-len(t.chunks[c]) < n:
		c = t.chunk(chunkBytes)
		was := t.filled
		if t.filled = c; was != c {
			t.drop(was)
		}
	}
	at := len(t.chunks[c])
	t.chunks[c] = append(t.chunks[c], key...)
	t.held[c] += int32(n)
	t.live += int64(n)
	return keyName{c, uint32(at), uint32(n)}
}

// chunk makes one of so many bytes.
func (t *keyTable) chunk(size int) (c uint32) {
	t.bytes += int64(size)
	if n := len(t.spare); n > 0 {
		c, t.spare = t.spare[n-1], t.spare[:n-1]
		t.chunks[c] = make([]byte, 0, size)
		return c
	}
	t.chunks, t.held = append(t.chunks, make([]byte, 0, size)), append(t.held, 0)
	return uint32(len(t.chunks) - 1)
}

// drop gives a chunk up that has no key in use and is full.
func (t *keyTable) drop(c uint32) {
	if t.held[c] == 0 && c != t.filled && t.chunks[c] != nil {
		t.bytes -= int64(cap(t.chunks[c]))
		t.chunks[c] = nil
		t.spare = append(t.spare, c)
	}
}

// remove takes the key of a slot out. The words behind it move up, as far as that is not before their home.
func (t *keyTable) remove(ref int32) {
	h, mask := nameHash(t.key(ref)), len(t.words)-1
	i := t.home(h)
	for uint32(t.words[i]) != uint32(ref+1) {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; t.words[j] != 0; j = (j + 1) & mask {
		if home := t.home(uint32(t.words[j] >> 32)); (j-home)&mask >= (j-i)&mask {
			t.words[i] = t.words[j]
			i = j
		}
	}
	t.words[i] = 0
	t.n--
	name := t.where[ref]
	t.held[name.chunk] -= int32(name.size)
	t.live -= int64(name.size)
	t.drop(name.chunk)
}

// waste is how many bytes of chunks nobody needs.
func (t *keyTable) waste() int64 { return t.bytes - t.live }
