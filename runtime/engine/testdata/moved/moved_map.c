// moved.c as a map.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O2 -Wall -Wextra -msimd128 -I../../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o moved_map.wasm moved_map.c
#define MAP
#include "moved.c"
