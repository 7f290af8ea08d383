// The rule of the benchmark with a loop over bytes, as somebody writes it who knows nothing of SIMD.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o byte_loop.wasm byte_loop.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")
TOCSIN_NO_CONFIG

static int contains(tocsin_str s, const char *needle, uint32_t len) {
	for (uint32_t i = 0; i + len <= s.len; i++) {
		if (s.at[i] != (uint8_t)needle[0]) continue;
		uint32_t k = 1;
		while (k < len && s.at[i + k] == (uint8_t)needle[k]) k++;
		if (k == len) return 1;
	}
	return 0;
}

TOCSIN_DETECT(batch) {
	tocsin_text command = tocsin_text_column(batch, 0), user = tocsin_text_column(batch, 1);
	for (uint32_t row = 0; row < batch->rows; row++)
		if (contains(tocsin_text_at(command, row), "-enc", 4) || contains(tocsin_text_at(user, row), "user999", 7))
			TOCSIN_HIT(batch, row, 1, 0);
	return TOCSIN_OK;
}
