// Repeated login attempts: windows of login counts, by address, that reach a threshold; severity by how far they exceed it.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o brute_force.wasm brute_force.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")

static int64_t threshold;

TOCSIN_INIT(config) {
	threshold = tocsin_config_int(config, "threshold", 5);
	return TOCSIN_OK;
}

TOCSIN_DETECT(batch) {
	const int64_t *attempts = (const int64_t *)tocsin_values(batch, 0);
	for (uint32_t row = 0; row < batch->rows; row++) {
		if (attempts[row] < threshold) continue;
		uint16_t severity = TOCSIN_MEDIUM;
		if (attempts[row] >= 4 * threshold) severity = TOCSIN_HIGH;
		if (attempts[row] >= 20 * threshold) severity = TOCSIN_CRITICAL;
		TOCSIN_HIT(batch, row, 1, severity);
	}
	return TOCSIN_OK;
}
