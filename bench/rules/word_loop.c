// The rule of the benchmark with a loop over bytes that compares four of them at each.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o word_loop.wasm word_loop.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")
TOCSIN_NO_CONFIG

typedef uint32_t word __attribute__((aligned(1), may_alias));

static int contains(tocsin_str s, tocsin_str needle) {
	for (uint32_t i = 0; i + needle.len <= s.len; i++) {
		if (*(const word *)(s.at + i) != *(const word *)needle.at) continue;
		if (tocsin_equal((tocsin_str){s.at + i, needle.len}, needle)) return 1;
	}
	return 0;
}

TOCSIN_DETECT(batch) {
	tocsin_text command = tocsin_text_column(batch, 0), user = tocsin_text_column(batch, 1);
	for (uint32_t row = 0; row < batch->rows; row++)
		if (contains(tocsin_text_at(command, row), tocsin_literal("-enc")) || contains(tocsin_text_at(user, row), tocsin_literal("user999")))
			TOCSIN_HIT(batch, row, 1, 0);
	return TOCSIN_OK;
}
