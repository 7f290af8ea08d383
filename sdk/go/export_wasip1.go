package tocsin

import "unsafe"

// arena is where the host writes batches: kept here so that the collector does not free it. Go's heap does not move.
var arena []byte

func base() uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(arena)))) }

//go:wasmexport tocsin_arena
func exportArena(n uint32) uint32 {
	if int(n) > len(arena) {
		arena = nil // the collector may have it before the larger one is there
		arena = make([]byte, n+15)
		arena = arena[-base()&15:]
	}
	return base()
}

//go:wasmexport tocsin_init
func exportInit(header, n uint32) int32 { return start(arena[header-base():][:n]) }

//go:wasmexport tocsin_process
func exportProcess(batch uint32) int32 { return judge(arena[batch-base():], registered.Process) }

//go:wasmexport tocsin_timer
func exportTimer(batch uint32) int32 { return judge(arena[batch-base():], registered.Timer) }

//go:wasmexport tocsin_migrate
func exportMigrate(batch uint32) int32 {
	if registered.Migrate == nil {
		return int32(Unsupported)
	}
	return judge(arena[batch-base():], func(b *Batch, _ *Hits) error { return registered.Migrate(b) })
}
