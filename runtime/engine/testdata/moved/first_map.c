// moved.c as a map, in its first version.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O2 -Wall -Wextra -msimd128 -I../../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o first_map.wasm first_map.c
#define MAP
#define FIRST
#include "moved.c"
