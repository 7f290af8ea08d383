package operator

import "github.com/seed-98920119/tocsin/runtime/event"

// Two flags in a byte.

func readBits(r *event.Reader) (a, b bool) {
	v := r.Byte()
	return v&1 != 0, v&2 != 0
}

func bits(a, b bool) (v byte) {
	if a {
		v |= 1
	}
	if b {
		v |= 2
	}
	return v
}
