// A rule that counts rows by key, in its third version: what the first and second kept in slot 0 is in slot 1 now, ten times as much.
// It cannot make anything of a count of 13. With MAP it is a map that writes the count.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O2 -Wall -Wextra -msimd128 -I../../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o moved.wasm moved.c
#include "tocsin.h"

#ifdef MAP
#define OF_MAP "_map"
#else
#define OF_MAP
#endif
#ifndef FIRST
TOCSIN_MANIFEST("moved" OF_MAP ".json")
enum { SLOT = 1, STEP = 10 };
#else
TOCSIN_MANIFEST("first" OF_MAP ".json")
enum { SLOT = 0, STEP = 1 };
#endif
TOCSIN_NO_CONFIG

TOCSIN_IMPORT("state_get") int64_t state_get(uint32_t row, uint32_t slot, void *dst, uint32_t cap);
TOCSIN_IMPORT("state_add") int64_t state_add(uint32_t row, uint32_t slot, int64_t delta);
TOCSIN_IMPORT("state_del") int32_t state_del(uint32_t row, uint32_t slot);

#ifdef MAP
TOCSIN_MAP(batch) {
	tocsin_columns_begin(batch, 1);
	uint32_t *rules = (uint32_t *)tocsin_column_begin(batch, 0, TOCSIN_U32);
	if (!rules) return tocsin_room(batch);
	for (uint32_t row = 0; row < batch->rows; row++) rules[row] = (uint32_t)(state_add(row, SLOT, STEP) - 1) % 300 + 1;
	return TOCSIN_OK;
}
#else
TOCSIN_DETECT(batch) {
	for (uint32_t row = 0; row < batch->rows; row++)
		TOCSIN_HIT(batch, row, (uint32_t)(state_add(row, SLOT, STEP) - 1) % 300 + 1, 0);
	return TOCSIN_OK;
}
#endif

#ifndef FIRST
TOCSIN_EXPORT("tocsin_migrate") int32_t tocsin_migrate(tocsin_batch *b) {
	const uint32_t *from = (const uint32_t *)tocsin_values(b, b->cols - 1);
	for (uint32_t row = 0; row < b->rows; row++) {
		int64_t n = 0;
		if (from[row] != 1 || state_get(row, 0, &n, 8) != 8 || n == 13) return TOCSIN_OWN;
		state_add(row, 1, 10 * n);
		state_del(row, 0);
	}
	return TOCSIN_OK;
}
#endif
