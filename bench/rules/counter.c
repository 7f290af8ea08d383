// What state costs: a count by key, with a state_get and a state_put a row.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o counter.wasm counter.c
#include "tocsin.h"

TOCSIN_MANIFEST("counter.json")
TOCSIN_NO_CONFIG

TOCSIN_IMPORT("state_get") int64_t state_get(uint32_t row, uint32_t slot, void *dst, uint32_t cap);
TOCSIN_IMPORT("state_put") int32_t state_put(uint32_t row, uint32_t slot, const void *src, uint32_t len);

TOCSIN_DETECT(batch) {
	for (uint32_t row = 0; row < batch->rows; row++) {
		uint64_t n = 0;
		state_get(row, 0, &n, sizeof n);
		n++;
		if (state_put(row, 0, &n, sizeof n) == 0 && n % 1000 == 0) TOCSIN_HIT(batch, row, 1, 0);
	}
	return TOCSIN_OK;
}
