// The rule of the benchmark with the SDK's search.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o helper.wasm helper.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")
TOCSIN_NO_CONFIG

TOCSIN_DETECT(batch) {
	tocsin_text command = tocsin_text_column(batch, 0), user = tocsin_text_column(batch, 1);
	for (uint32_t row = 0; row < batch->rows; row++)
		if (tocsin_contains(tocsin_text_at(command, row), "-enc") || tocsin_contains(tocsin_text_at(user, row), "user999"))
			TOCSIN_HIT(batch, row, 1, 0);
	return TOCSIN_OK;
}
