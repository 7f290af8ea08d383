//go:build !wasip1

package tocsin

import "math"

// On the machine at hand, for tests: a host without state, timers or tables, as the contract allows one to be.

func logLine(int32, *byte, uint32)                               {}
func failText(*byte, uint32)                                     {}
func now(uint32) int64                                           { return math.MinInt64 }
func random(uint32, *byte, uint32) int32                         { return int32(Unsupported) }
func metric(uint32, int64)                                       {}
func lookup(uint32, *byte, uint32, *byte, uint32) int64          { return int64(Unsupported) }
func stateGet(uint32, uint32, *byte, uint32) int64               { return int64(Unsupported) }
func statePut(uint32, uint32, *byte, uint32) int32               { return int32(Unsupported) }
func stateDel(uint32, uint32) int32                              { return int32(Unsupported) }
func stateAdd(uint32, uint32, int64) int64                       { return math.MinInt64 }
func mapGet(uint32, uint32, *byte, uint32, *byte, uint32) int64  { return int64(Unsupported) }
func mapPut(uint32, uint32, *byte, uint32, *byte, uint32) int32  { return int32(Unsupported) }
func mapDel(uint32, uint32, *byte, uint32) int32                 { return int32(Unsupported) }
func mapCount(uint32, uint32) int64                              { return int64(Unsupported) }
func mapNext(uint32, uint32, *byte, uint32, *byte, uint32) int64 { return int64(Unsupported) }
func timerSet(uint32, int64, int64) int32                        { return int32(Unsupported) }
func timerDel(uint32, int64) int32                               { return int32(Unsupported) }
