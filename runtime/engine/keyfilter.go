package engine

import "hash/maphash"

// keyFilter says of most keys that a page does not have that it does not have them: a Bloom filter (CACM 1970) of 10 bits a key with 7
// probes errs about once in 120. It is made anew in each process. Nil says nothing.
type keyFilter []uint64

const (
	filterBits   = 10
	filterProbes = 7
)

var filterSeed = maphash.MakeSeed()

func newKeyFilter(keys int) keyFilter {
	if keys == 0 {
		return nil
	}
	return make(keyFilter, (keys*filterBits+63)/64)
}

func (f keyFilter) add(key []byte) {
	h, step, n := f.probes(key)
	for range filterProbes {
		at := reduce(h, n)
		f[at/64] |= 1 << (at % 64)
		h += step
	}
}

// lacks says whether the key is surely not there.
func (f keyFilter) lacks(key []byte) bool {
	if f == nil {
		return false
	}
	h, step, n := f.probes(key)
	for range filterProbes {
		if at := reduce(h, n); f[at/64]>>(at%64)&1 == 0 {
			return true
		}
		h += step
	}
	return false
}

// probes are an arithmetic sequence of one hash (Kirsch and Mitzenmacher, 2006).
func (f keyFilter) probes(key []byte) (h, step, n uint32) {
	x := maphash.Bytes(filterSeed, key)
	return uint32(x), uint32(x>>32) | 1, uint32(len(f) * 64)
}

// reduce maps a hash to 0..n-1.
func reduce(h, n uint32) uint32 { return uint32(uint64(h) * uint64(n) >> 32) }
