// A filter: rows whose number is above the one of the configuration pass.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o above.wasm above.c
#include "tocsin.h"

TOCSIN_MANIFEST("above.json")

static int64_t least;

TOCSIN_INIT(config) {
	least = tocsin_config_int(config, "least", 0);
	return TOCSIN_OK;
}

TOCSIN_FILTER(batch) {
	const int64_t *numbers = (const int64_t *)tocsin_values(batch, 0);
	tocsin_filter_begin(batch);
	for (uint32_t row = 0; row < batch->rows; row++)
		if (!tocsin_is_null(batch, 0, row) && numbers[row] > least) tocsin_pass(batch, row);
	return TOCSIN_OK;
}
