package tocsin

//go:wasmimport tocsin_v1 log
//go:noescape
func logLine(level int32, text *byte, n uint32)

//go:wasmimport tocsin_v1 fail
//go:noescape
func failText(text *byte, n uint32)

//go:wasmimport tocsin_v1 now
//go:noescape
func now(row uint32) int64

//go:wasmimport tocsin_v1 random
//go:noescape
func random(row uint32, dst *byte, n uint32) int32

//go:wasmimport tocsin_v1 metric
//go:noescape
func metric(id uint32, delta int64)

//go:wasmimport tocsin_v1 lookup
//go:noescape
func lookup(table uint32, key *byte, n uint32, dst *byte, room uint32) int64

//go:wasmimport tocsin_v1 state_get
//go:noescape
func stateGet(row, slot uint32, dst *byte, room uint32) int64

//go:wasmimport tocsin_v1 state_put
//go:noescape
func statePut(row, slot uint32, value *byte, n uint32) int32

//go:wasmimport tocsin_v1 state_del
//go:noescape
func stateDel(row, slot uint32) int32

//go:wasmimport tocsin_v1 state_add
//go:noescape
func stateAdd(row, slot uint32, delta int64) int64

//go:wasmimport tocsin_v1 map_get
//go:noescape
func mapGet(row, slot uint32, key *byte, n uint32, dst *byte, room uint32) int64

//go:wasmimport tocsin_v1 map_put
//go:noescape
func mapPut(row, slot uint32, key *byte, n uint32, value *byte, size uint32) int32

//go:wasmimport tocsin_v1 map_del
//go:noescape
func mapDel(row, slot uint32, key *byte, n uint32) int32

//go:wasmimport tocsin_v1 map_count
//go:noescape
func mapCount(row, slot uint32) int64

//go:wasmimport tocsin_v1 map_next
//go:noescape
func mapNext(row, slot uint32, key *byte, n uint32, dst *byte, room uint32) int64

//go:wasmimport tocsin_v1 timer_set
//go:noescape
func timerSet(row uint32, tag, at int64) int32

//go:wasmimport tocsin_v1 timer_del
//go:noescape
func timerDel(row uint32, tag int64) int32
