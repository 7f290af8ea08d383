// A detect plugin in Go: rows whose first field contains "-enc".
package main

import (
	"bytes"
	"unsafe"
)

type batch struct {
	magic                                                            uint32
	headerSize, flags                                                uint16
	totalLen, rows, cols, colsOff, colStride, outOff, outCap, outLen uint32
	_                                                                [4]uint32
	outRows, outFlags                                                uint32
}

type column struct {
	index                                                                 uint32
	kind, flags                                                           uint16
	nulls, validityOff, dataOff, dataLen, offsetsOff, childOff, elemWidth uint32
	_                                                                     [3]uint32
}

type hit struct {
	row, rule       uint32
	severity, flags uint16
	noteOff         uint32
}

var (
	arena  []byte // kept here, so that the collector does not free it; Go's heap does not move
	needle = []byte("-enc")
)

//go:wasmexport tocsin_arena
func tocsinArena(min uint32) uint32 {
	if int(min) > len(arena) {
		arena = make([]byte, min+min/2+16)
	}
	return (uint32(uintptr(unsafe.Pointer(unsafe.SliceData(arena)))) + 15) &^ 15
}

//go:wasmexport tocsin_init
func tocsinInit(off, n uint32) int32 { return 0 }

//go:wasmexport tocsin_process
func tocsinProcess(at uint32) int32 {
	base := unsafe.Pointer(uintptr(at))
	b := (*batch)(base)
	c := (*column)(unsafe.Add(base, b.colsOff))
	offs := unsafe.Slice((*uint32)(unsafe.Add(base, c.offsetsOff)), b.rows+1)
	data := unsafe.Slice((*byte)(unsafe.Add(base, c.dataOff)), c.dataLen)
	out := unsafe.Slice((*hit)(unsafe.Add(base, b.outOff)), b.outCap/uint32(unsafe.Sizeof(hit{})))
	n := 0
	for i := range int(b.rows) {
		if !bytes.Contains(data[offs[i]:offs[i+1]], needle) {
			continue
		}
		if n == len(out) {
			return -3
		}
		out[n] = hit{row: uint32(i), rule: 1}
		n++
	}
	b.outLen, b.outRows = uint32(n*int(unsafe.Sizeof(hit{}))), uint32(n)
	return 0
}

func main() {}
