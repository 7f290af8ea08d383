// Package wasm runs modules of strangers: it lets a module through the gate, makes it ask for fuel, compiles it, and calls it
// with batches of rows.
//
// The promises. Whatever the module: the process lives, a call ends within its fuel and a second, its memory stays within
// its limit, the garbage collector never waits long for it, and a failed call leaves nothing behind. wazero alone promises
// none of these: some modules of 14 bytes exhaust the memory when they are decoded, a loop-free module runs for ever past
// any deadline, and a busy guest stops the world.
//
// The way of a module: reader.go and opcode.go (bytes), gate.go (what is let through), imports.go (what may be imported),
// rewrite.go and fuel.go (fuel), host.go and cache.go (compiling), instance.go and guest.go (a call and the host functions). The way
// of a row: rows.go (columns in the guest's memory), detect.go (hits, failures, the breaker).
//
// Costs: the gate and the rewriter 20 MB/s; a call 80 ns; a row about 3 ns a column and its bytes; fuel a few
// percent of the guest's own time. Nothing is allocated a row that has no hit.
package wasm
