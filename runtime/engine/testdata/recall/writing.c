// recall.c as a map.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O2 -Wall -Wextra -msimd128 -I../../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o writing.wasm writing.c
#define RECALL_MANIFEST "writing.json"
#define RECALL_MAP
#include "recall.c"
