// A rule that looks at nothing: what a call costs the host.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o idle.wasm idle.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")
TOCSIN_NO_CONFIG

TOCSIN_DETECT(batch) {
	(void)batch;
	return TOCSIN_OK;
}
