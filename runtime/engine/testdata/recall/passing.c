// recall.c as a filter.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O2 -Wall -Wextra -msimd128 -I../../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o passing.wasm passing.c
#define RECALL_MANIFEST "passing.json"
#define RECALL_FILTER
#include "recall.c"
